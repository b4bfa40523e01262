"""Why is a run worse than it should be? Causes, each with a test; findings, ranked by their evidence."""
