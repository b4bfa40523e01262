"""Widgets for notebooks; the library itself knows no user interface."""
