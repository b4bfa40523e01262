"""Names of a model's keypoints where its file gives none, and names of places in a network to record."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench.core import NotAvailable, PoseModel, Skeleton
from workbench.core.errors import ReadingNote
from workbench.core.report import counted
from workbench.core.wrapping import Wrapper

if TYPE_CHECKING:
    from torch import nn


NUMBERED = "they are numbered"
"""End of the note of a model whose keypoints nobody names."""


def numbered(skeleton: Skeleton) -> bool:
    """Whether the keypoints are called ``keypoint 0``, ``keypoint 1`` ..., because no file names them."""
    return all(name == f"keypoint {k}" for k, name in enumerate(skeleton.keypoints))


def with_skeleton(model: PoseModel, skeleton: Skeleton, note: str) -> PoseModel:
    """The model with other names for its keypoints, or other limbs, mirror pairs and sigmas of them.

    Args:
        model: whose keypoints are known by the order of its channels alone.
        skeleton: with as many keypoints.
        note: who states it, for the model's note.

    Raises:
        ValueError: another number of keypoints.
        NotAvailable: the model names its keypoints itself.
    """
    if len(model.skeleton) != len(skeleton):
        raise ValueError(
            f"skeleton {skeleton.name} has {counted(len(skeleton), 'keypoint')}, the model gives "
            f"{len(model.skeleton)}"
        )
    fields = {field.name for field in dataclasses.fields(model)} if dataclasses.is_dataclass(model) else set()
    made: Any = model
    if "skeleton" in fields:
        noted = {"note": _noted(made.note, note)} if "note" in fields else {}
        return dataclasses.replace(made, skeleton=skeleton, **noted)
    if isinstance(model, Wrapper):
        inner = with_skeleton(model.model, skeleton, note)
        if "model" in fields:
            return dataclasses.replace(made, model=inner)
        made = copy.copy(model)
        made.model = inner
        return made
    if "top_down" in fields:
        return dataclasses.replace(made, top_down=with_skeleton(made.top_down, skeleton, note))
    if "facts" in fields:
        facts = dataclasses.replace(made.facts, skeleton=skeleton, note=_noted(made.facts.note, note))
        return dataclasses.replace(made, facts=facts)
    raise NotAvailable(f"--skeleton: {type(model).__name__} names its keypoints itself")


def _noted(before: str, note: str) -> str:
    """What was assumed before, but for the numbers that names take the place of; then the names."""
    return "; ".join([*(part for part in before.split("; ") if part and not part.endswith(NUMBERED)), note])


def named_as(model: PoseModel, skeleton: Skeleton, name: str) -> PoseModel:
    """The model with what a data set states and it does not: names of the keypoints, mirror pairs.

    Names count where the model's own are numbers. A `ReadingNote` says where both have pairs that differ.

    Args:
        model: any.
        skeleton: of the data set.
        name: of the data set.
    """
    own = model.skeleton
    if not len(skeleton) or len(own) != len(skeleton):
        return model
    if numbered(own):
        return (
            model if numbered(skeleton) else with_skeleton(model, skeleton, called(skeleton, f"as in {name}"))
        )
    if own.mirror == skeleton.mirror or not skeleton.mirror or own.keypoints != skeleton.keypoints:
        return model
    if own.mirror:
        warnings.warn(_other_pairs(own, skeleton, name), ReadingNote, stacklevel=2)
        return model
    try:
        return with_skeleton(
            model, dataclasses.replace(own, mirror=skeleton.mirror), f"mirror pairs are those of {name}"
        )
    except NotAvailable:  # an adapter's: it states its pairs itself, or cannot be flipped
        return model


def called(skeleton: Skeleton, because: str) -> str:
    """The note of a model whose keypoints got names.

    Args:
        skeleton: of the names.
        because: who states them.
    """
    return f"keypoints are called {skeleton.name}, {because}"


def _other_pairs(own: Skeleton, other: Skeleton, name: str) -> str:
    k = next(k for k, (a, b) in enumerate(zip(own.mirror, other.mirror, strict=True)) if a != b)
    names = own.keypoints
    return (
        f"mirror pairs: the model exchanges {_partner(names, own, k)}, {name} {_partner(names, other, k)}; "
        "the flip test exchanges those of the model"
    )


def _partner(names: Sequence[str], skeleton: Skeleton, k: int) -> str:
    """Keypoint k and what a flip exchanges it with."""
    partner = skeleton.mirror[k]
    return f"{names[k]} with no other" if partner == k else f"{names[k]} with {names[partner]}"


# Taps.


# Deeper parts (a convolution of a block of a stage) are too many to choose from, and still reachable by path.
DEPTH = 3

# Alias -> the paths it stands for, first that exists. ResNets and HRNets call their stages layers.
_ALIASES: dict[str, tuple[str, ...]] = {
    "stem": ("backbone.stem", "backbone.patch_embed", "backbone.conv1"),
    **{
        f"stage{i}": (f"backbone.stage{i}", f"backbone.layer{i}", f"backbone.stages.{i - 1}")
        for i in range(1, 5)
    },
    "head.final": ("head.final_layer", "head.final_layers", "keypoint_head.final_layer"),
    "head.x": ("head.cls_x", "head.mlp_head_x"),
    "head.y": ("head.cls_y", "head.mlp_head_y"),
}

# Parts of a network that no forward pass goes through.
_IDLE = ("data_preprocessor", "loss_module", "loss")


def taps_of(module: nn.Module) -> dict[str, str]:
    """Public names for the parts of a network, in the network's own order.

    Parts that are nested deeper than DEPTH get no name.

    Returns:
        name -> module path: every part under its own path, then short names (``stem``, ``stage1``,
        ``head.final`` ...) where the network has what they stand for.
    """
    paths = [
        path
        for path, _ in module.named_modules()
        if path and path.count(".") < DEPTH and not set(path.split(".")) & set(_IDLE)
    ]
    known = set(paths)
    short = {
        alias: next(path for path in meant if path in known)
        for alias, meant in _ALIASES.items()
        if alias not in known and known.intersection(meant)
    }
    return {**short, **{path: path for path in paths}}
