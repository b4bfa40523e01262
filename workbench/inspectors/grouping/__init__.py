"""The associative-embedding lab: what do tags say, and how do they make people of detections?

Each inspector of this room is one question to a network that finds everybody in an image at once.
"""
