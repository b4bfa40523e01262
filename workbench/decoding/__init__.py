"""Decoding: from network outputs to keypoints, and from keypoints to training targets.

`decode` reads heatmaps and SimCC vectors; `grouping` makes people from heatmaps and tag maps (associative
embedding); `targets` encodes keypoints as the network was trained towards them.
"""

from workbench.decoding.decoders import DECODERS, KEYPOINT_SCORES, Decoder, decode, decoders_for

__all__ = ["DECODERS", "KEYPOINT_SCORES", "Decoder", "decode", "decoders_for"]
