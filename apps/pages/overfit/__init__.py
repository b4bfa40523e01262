"""Overfit sessions behind the app: what was wished for, the attempts that run, and how they are drawn."""
