"""A network that returns something of its own, beside a file that lies beside the checkpoint.

`call` turns what the network returns into Outputs; `mean`, `std` and `bgr` say which pixels it was trained
on; `checkpoint.path` is the file that was opened, so that `labels.txt` beside it can be read.
"""

import torch
from torch import nn

from workbench.checkpoints.loading import load_state
from workbench.core import Codec, Outputs, Skeleton
from workbench.models import TopDown


class Net(nn.Module):
    """Gives a dict: logits of heatmaps under the name that its author chose."""

    def __init__(self, keypoints):
        super().__init__()
        self.conv = nn.Conv2d(3, keypoints, 3, 4, 1)

    def forward(self, pixels):
        return {"logits": self.conv(pixels), "loss": None}


def load(checkpoint, device):
    if checkpoint is None:  # `workbench overfit --adapter` without a file starts afresh
        names, report = ["first", "second"], None
    else:
        names = (checkpoint.path.parent / "labels.txt").read_text().split()
    net = Net(len(names)).to(device)
    if checkpoint is not None:
        report = load_state(net, checkpoint)  # applies the renaming where --remap asks for it
    model = TopDown(
        module=net,
        skeleton=Skeleton("labelled", tuple(names)),
        codec=Codec("heatmap", input_size=(64, 64), output_size=(16, 16), sigma=(2, 2), decoder="quarter"),
        mean=(0, 0, 0),  # trained on 0..1, not on ImageNet's statistics
        std=(255, 255, 255),
        bgr=True,  # read with cv2 and never turned round
        call=lambda pixels: Outputs(heatmaps=torch.sigmoid(net(pixels)["logits"])),
        device=device,
    )
    return model, report
