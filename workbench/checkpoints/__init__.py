"""Checkpoints: open any file without running it, identify the network, load it, compare two.

Opening needs Python and numpy only; torch is imported when tensors are read.
"""

from workbench.checkpoints.checkpoint import Checkpoint
from workbench.checkpoints.opening import open_checkpoint
from workbench.checkpoints.tensors import TensorInfo

__all__ = ["Checkpoint", "TensorInfo", "open_checkpoint"]
