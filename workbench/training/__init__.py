"""One training loop for every family: start, pause, step, resume, look at it while it runs."""
