"""The Grouping page: one stored output, grouped anew by other rules."""
