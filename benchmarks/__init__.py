"""Speed and memory, measured against a named peer in the same run: `make bench` writes results.md."""
