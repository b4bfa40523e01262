"""Pages of the app: the page engine and one module for each page."""
