"""Family text fusion: an RTMPose whose features are conditioned by sentences, and whose vectors are refined.

``custom_imports = dict(imports=["workbench.models.text_fusion.register"])`` registers the modules with mmpose
under the names of the published code, so that its configs and checkpoints open too. Every defect of that
code is an option here, and the two paths through the network, that of training and that of inference, are
values: see Path.

Source: a-kitaev/Equistera-Trainer@23117ce tools/: names, shapes and order of operations; none of its code.
"""

from __future__ import annotations

from workbench.models.text_fusion.family import Path, TextFusion

__all__ = ["Path", "TextFusion"]
