"""Does the file's name, or the config inside it, say what its tensors deny?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from workbench.checkpoints.config_reader import read_config

if TYPE_CHECKING:
    from workbench.checkpoints.checkpoint import Checkpoint
    from workbench.checkpoints.identity import Identity


def contradictions(checkpoint: Checkpoint, found: Identity) -> tuple[str, ...]:
    """Sentences, none when all agrees or nothing is claimed."""
    said = [*_by_name(checkpoint.path.name.lower(), found)]
    if checkpoint.config_text:
        try:
            config = read_config(checkpoint.config_text)
        except ValueError:
            return tuple(said)  # a config that needs to be run makes no claim that can be read
        said += _by_config(config, found)
    return tuple(said)


def _by_name(name: str, found: Identity) -> Iterator[str]:
    width = re.search(r"(?<![a-z\d])w(18|32|40|48)(?!\d)", name)
    if (
        width
        and "width" in found.facts
        and found.variant.startswith("w")
        and int(width[1]) != found.facts["width"]
    ):
        yield f"the file name says w{width[1]}, the tensors say w{found.facts['width']}"
    size = re.search(r"rtmpose[-_](tiny|[tsmlx])(?![a-z])", name)
    if (
        size
        and found.family.startswith("RTM")
        and found.variant[:1] in "tsmlx"
        and size[1][0] != found.variant[:1]
    ):
        yield f"the file name says RTMPose-{size[1]}, the tensors say {found.variant}"
    vit = re.search(r"vit(?:pose)?\+?[-_](s|b|l|h|small|base|large|huge)(?![a-z])", name)
    if vit and found.family.startswith("ViTPose") and vit[1][0].upper() != found.variant[:1]:
        yield f"the file name says ViTPose-{vit[1][0].upper()}, the tensors say {found.variant}"
    pixels = re.search(r"(?<!\d)(\d{3,4})x(\d{3,4})(?!\d)", name)
    if pixels and found.input_size and (int(pixels[1]), int(pixels[2])) != found.input_size:
        # mmpose names files height x width.
        height, width_ = found.input_size
        if (int(pixels[2]), int(pixels[1])) != found.input_size:
            yield f"the file name says {pixels[0]}, the tensors say {height}x{width_} (h x w)"
    for word, family in (
        ("higher_hrnet", "HigherHRNet"),
        ("higherhrnet", "HigherHRNet"),
        ("sapiens", "Sapiens"),
        ("rtmo-", "RTMO"),
    ):
        if word in name and not found.family.startswith(family):
            yield f"the file name says {family}, the tensors say {found.family}"
            return


def _by_config(config: Mapping[str, Any], found: Identity) -> Iterator[str]:
    model = config.get("model")
    head = model.get("head") if isinstance(model, Mapping) else None
    if not isinstance(head, Mapping) or not isinstance(model, Mapping):
        return
    claimed = head.get("out_channels")
    if (
        isinstance(claimed, int)
        and found.keypoints is not None
        and claimed not in (found.keypoints, 2 * found.keypoints)
    ):
        yield f"the config in the file says {claimed} keypoints, the tensors say {found.keypoints}"
    size = head.get("input_size")
    if (
        isinstance(size, (list, tuple))
        and len(size) == 2
        and found.input_size
        and tuple(size) != found.input_size[::-1]
    ):
        height, width = found.input_size
        yield (
            f"the config in the file says input {size[0]}x{size[1]} (w x h), the tensors say {width}x{height}"
        )
    backbone = model.get("backbone")
    widen = backbone.get("widen_factor") if isinstance(backbone, Mapping) else None
    stem = found.facts.get("stem channels")
    if isinstance(widen, (int, float)) and isinstance(stem, int) and round(64 * widen) != stem:
        yield f"the config in the file says widen_factor {widen}, the tensors have {stem / 64:g}"
