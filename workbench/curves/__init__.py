"""Training logs of any trainer as one table: one reader per format, and what the curves say."""
