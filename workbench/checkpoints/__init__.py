"""Open any checkpoint without running it, tell what it is, load it with a gate, compare two.

`workbench.checkpoints` needs Python and numpy to look inside, torch only to read tensors.
"""

from workbench.checkpoints.checkpoint import Checkpoint
from workbench.checkpoints.opening import open_checkpoint
from workbench.checkpoints.tensors import TensorInfo

__all__ = ["Checkpoint", "TensorInfo", "open_checkpoint"]
