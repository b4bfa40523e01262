"""HigherHRNet: all people of an image at once, told apart by their tags."""

from __future__ import annotations

from workbench.models.higherhrnet.model import load, new_higherhrnet, write
from workbench.models.higherhrnet.network import W32, W48, Architecture, HigherHRNet

__all__ = ["W32", "W48", "Architecture", "HigherHRNet", "load", "new_higherhrnet", "write"]
