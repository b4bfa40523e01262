"""Category-agnostic pose, autoregressive: an image, a support example, and keypoints one after the other.

A compact re-implementation of the family of nkkrnkl/category-agnostic-pose-estimation (Raster2Seq's decoder
with a geometric support encoder): small enough to learn an image in a minute on a CPU.
"""

from __future__ import annotations

from workbench.models.cape.model import Cape, load, new_cape, write
from workbench.models.cape.network import CapeNetwork, Defects, Size

__all__ = ["Cape", "CapeNetwork", "Defects", "Size", "load", "new_cape", "write"]
