"""Sentences as vectors: descriptions of keypoints and species, the encoders that read them, what they say.

Nothing is downloaded, and nothing is needed to run the demo: the vectors of the built-in descriptions lie
here.
"""

from __future__ import annotations

from workbench.text.vectors import TextVectors

__all__ = ["TextVectors"]
