"""Small text fusion networks: a healthy one, and the same with one defect switched on."""

from __future__ import annotations

import functools

import torch

from tests.models.text_fusion_net import config
from workbench.core import Codec
from workbench.core.run import run
from workbench.data import builtin

HEALTHY_NECK = {"mlp": "linear", "text_from": "each", "gate_value": 0.5}
HEALTHY_REFINER = {"softmax": "none", "mask": "all"}
HEALTHY_HEAD = {"use_refiner_in_training": True, "use_refiner_in_predict": True}
IMAGES = 2


def healthy_options():
    """Of the neck, refiner and head of a network with nothing wrong in it."""
    return {
        "neck": dict(HEALTHY_NECK), "refiner": dict(HEALTHY_REFINER), "head": dict(HEALTHY_HEAD),
        "fuse_in_predict": True,
    }  # fmt: skip


def network(taught=True, text=None, **options):
    """A model of the family.

    Args:
        taught: text layers and refiner have moved from where they started, as a short training moves them:
            along the few sentences there are.
        text: vectors; the drawn animals' by default.
        options: as tests.models.text_fusion_net.config.
    """
    from workbench.models.mmpose.model import build
    from workbench.models.text_fusion import TextFusion
    from workbench.models.top_down import TopDown
    from workbench.skeletons import AP10K_17
    from workbench.text.vectors import builtin_text

    torch.manual_seed(0)
    module = build(config(**options)).eval()
    text = text or builtin_text()
    if taught:
        teach(module, text)
    codec = Codec(
        "simcc", (64, 64), (128, 128), sigma=(2.83, 2.83), split_ratio=2.0, decoder="simcc"
    )  # fmt: skip
    return TextFusion(TopDown(module, AP10K_17, codec), text)


def teach(module, text):
    """Move text layers along the sentences, and every normalisation layer of the refiner a little."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        weight = module.neck.global_mlp[0].weight
        if not weight.any():
            sentences = torch.from_numpy(text.subject_vectors[:3])
            weight += 0.2 * torch.randn(len(weight), len(sentences), generator=generator) @ sentences
        if module.head.refiner is not None:
            for layer in module.head.refiner.modules():
                if isinstance(layer, torch.nn.LayerNorm):
                    layer.weight += 0.01 * torch.randn(layer.weight.shape, generator=generator)


def healthy(**changes):
    """The healthy network with some options changed: ``neck={"init": "random"}``."""
    options = healthy_options()
    for part, change in changes.items():
        options[part] = {**options[part], **change} if isinstance(change, dict) else change
    return options


@functools.cache
def scenes(count=IMAGES):
    """Samples of different species."""
    found = builtin("scenes-val")
    by_species = {found.instances[i].category_id: i for i in reversed(found.labelled)}
    return tuple(found.samples(list(by_species.values())[:count]))


def looked(model, count=IMAGES):
    """A run over scenes of different species."""
    return run(model, scenes(count), title="small net")
