"""The front page: epochs side by side on the same samples."""
