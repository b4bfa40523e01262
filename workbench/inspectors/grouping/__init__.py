"""Grouping lab: what do the tags contain, and how do they group detections into people?

Each inspector of this room answers one question about a bottom-up model with associative embedding.
"""
