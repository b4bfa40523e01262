"""Reference recipes with their sources, and the audit of a config against them."""
