"""Inspection tools for pose-estimation models: open, load, run, look, evaluate, compare."""

__version__ = "0.1.0"
