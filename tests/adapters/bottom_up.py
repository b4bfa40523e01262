"""A network of one's own that finds all people of an image: heatmaps and one tag for each keypoint.

`BottomUp` does what lies around it: resizing, flip test, aggregation, grouping. With it `workbench group`,
`ablate`, `oracle`, `evaluate` and the app's Grouping page work as for HigherHRNet.
"""

import torch
from torch import nn

from workbench.checkpoints.loading import load_state
from workbench.core import Outputs
from workbench.models.bottom_up import BottomUp
from workbench.skeletons import SKELETONS


class Net(nn.Module):
    """Fine heatmaps at 1/2 of the input; coarse heatmaps and tags at 1/4."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.fine = nn.Conv2d(8, 17, 1)
        self.down = nn.Conv2d(8, 8, 3, 2, 1)
        self.coarse = nn.Conv2d(8, 34, 1)

    def forward(self, pixels):
        fine = self.stem(pixels).relu()
        heatmaps, tags = self.coarse(self.down(fine).relu()).split(17, 1)
        return Outputs(heatmaps=self.fine(fine), coarse=heatmaps, tags=tags)


def load(checkpoint, device):
    """The protocol of adapters: a model, and what of the file went into it."""
    torch.manual_seed(0)
    net = Net().eval()
    report = None if checkpoint is None else load_state(net, checkpoint)
    return BottomUp(net.to(device), SKELETONS["coco-17"], tags=17, input_size=64), report
