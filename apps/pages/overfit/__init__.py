"""Overfit sessions behind the app: what was asked for, the attempts that run, and how they are drawn."""
