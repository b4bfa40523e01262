"""A network whose outputs no decoder of the workbench reads: `read` makes keypoints of them.

MoveNet gives four maps and is read from the centre outwards; it wants raw RGB in 0..255, hence `mean` and
`std`. Without a codec `input_size` must be said.
"""

from workbench.checkpoints.loading import load_state
from workbench.models import TopDown
from workbench.models.movenet.network import MoveNet, read
from workbench.skeletons import SKELETONS


def load(checkpoint, device):
    """The protocol of adapters: a model, and what of the file went into it."""
    net = MoveNet().eval()
    report = load_state(net, checkpoint)
    model = TopDown(
        net.to(device), SKELETONS["coco-17"], codec=None, mean=(0, 0, 0), std=(1, 1, 1), read=read,
        input_size=(192, 192), device=device,
    )  # fmt: skip
    return model, report
