"""A tiny ViTPose with random weights, written where it is asked for: what the verbs' --demo works on."""

from __future__ import annotations

from pathlib import Path

import torch

from workbench.checkpoints import open_checkpoint
from workbench.models.vitpose.network import CLASSIC, Architecture, HeadShape, ViTPose
from workbench.skeletons import SKELETONS

TINY = Architecture(width=128, layers=3, heads=2, hidden=256, image=(128, 96))


def random_vitpose(
    architecture: Architecture = TINY, head: HeadShape | None = None, seed: int = 0
) -> ViTPose:
    """A network whose weights are random and large enough for every part to matter.

    Args:
        architecture: of the backbone.
        head: of the head; ViTPose's classic decoder for 17 keypoints by default.
        seed: of the weights.
    """
    network = ViTPose(architecture, head or HeadShape(17, CLASSIC)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(noise.abs() + 0.5)
            elif tensor.ndim > 1:
                tensor.copy_(noise * tensor[0].numel() ** -0.5)
            else:
                tensor.copy_(noise * 0.1 + name.endswith("weight"))  # of norms, around 1
    return network


def write_demo(folder: Path, naming: str = "mmpose-1", seed: int = 0, name: str = "") -> Path:
    """A file with such a network.

    Args:
        folder: where it is written.
        naming: of NAMINGS.
        seed: of the weights.
        name: of the file; ``tiny-vitpose.pth`` or, for Hugging Face's naming, ``model.safetensors``.
    """
    from workbench.models.vitpose.export import convert
    from workbench.models.vitpose.model import new_vitpose, write

    first = folder / ("tiny-vitpose.pth" if naming == "mmpose-1" else "tiny-vitpose-mmpose-1.pth")
    write(new_vitpose(random_vitpose(seed=seed), SKELETONS["coco-17"]), first, 1)
    if naming == "mmpose-1":
        return first.rename(folder / name) if name else first
    out = folder / (name or ("model.safetensors" if naming == "hf" else "tiny-vitpose.pth"))
    convert(open_checkpoint(first), naming, out, check=False)
    first.unlink()
    return out


def write_forgetful_port(folder: Path, name: str = "port.pth", seed: int = 0) -> Path:
    """The same network under mmpose 1.x names, without what ViTPose 0.x adds to all positions.

    ViTPose 0.x has a position for a class token and adds it to those of all patches; a port that merely cuts
    it off differs from the first layer on.

    Args:
        folder: where it is written.
        name: of the file.
        seed: of the weights.
    """
    from workbench.models.vitpose.model import new_vitpose, write

    network = random_vitpose(seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    width = network.backbone.architecture.width
    with torch.no_grad():
        network.backbone.pos_embed.sub_(torch.randn(1, 1, width, generator=generator) * 0.1)
    write(new_vitpose(network, SKELETONS["coco-17"]), folder / name, 1)
    return folder / name
