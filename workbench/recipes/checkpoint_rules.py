"""Whether a checkpoint is of the model that a config or a recipe describes, by its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from workbench.recipes.comparison import AuditFinding, equal, finding, shown
from workbench.recipes.fields import fields
from workbench.recipes.recipe import Recipe
from workbench.recipes.values import Decisions

Shapes = Mapping[str, tuple[int, ...]]
_KINDS_OF_HEADS = ("HeatmapHead", "RTMCCHead", "SimCCHead")
_BLOCK = re.compile(
    r"(?:^|\.)(?:layers|blocks|encoder\.layer)\.(\d+)\.(?:attn|attention|norm1|ln1|layernorm)"
)
# Names of heads: mmpose 1.x, mmpose 0.x, and what people call their own.
_HEAD = re.compile(r"(?:^|\.)(?:head|keypoint_head|decoder)\.")


def checkpoint_findings(
    decisions: Decisions, reference: Recipe | None, shapes: Shapes, file: str
) -> Iterator[AuditFinding]:
    """Where the tensors of a checkpoint deny what the config says of the model, or the recipe.

    Args:
        decisions: of the config.
        reference: the recipe; asked where the config says nothing. None without one.
        shapes: name of a tensor -> shape.
        file: name of the checkpoint.
    """
    for field, found, tensor in _told(shapes):
        said = decisions.values.get(field)
        if said is not None and not _same(field, said.value, found):
            if field == "head.type" and said.value not in _KINDS_OF_HEADS:
                continue  # a head of one's own, with layers of these names
            yield finding(
                "error",
                said.key,
                said.value,
                found,
                cause="a checkpoint of another model than the config",
                evidence=f"{said.key} is {shown(said.value)}, {file} has {shown(found)} ({tensor})",
                why="the weights do not fit this config: a strict load fails, a loose one leaves parts at "
                "random",
                source=f"{file}: {tensor} {list(shapes.get(tensor, ()))}",
                fix=f"use the config that {file} was trained with, or a checkpoint of this config",
                field=f"checkpoint.{field}",
            )
        expected = reference.get(field) if reference is not None and said is None else None
        if reference is not None and expected is not None and not _same(field, expected, found):
            yield finding(
                "error",
                tensor,
                found,
                expected,
                cause="weights of another model than the recipe",
                evidence=f"{file} has {field} {shown(found)} ({tensor}), {reference.name} has "
                f"{shown(expected)}",
                why=fields()[field].why,
                source=reference.source_of(field),
                fix=f"build the model with {field} {shown(expected)}: the published weights then fit",
                field=f"checkpoint.{field}",
            )


def _same(field: str, mine: Any, theirs: Any) -> bool:
    empty = (None, "none", [], ())
    return (mine in empty and theirs in empty) or equal(field, mine, theirs)


def _told(shapes: Shapes) -> Iterator[tuple[str, Any, str]]:
    """Field, value and tensor for whatever the tensors tell."""
    embedding = _first(shapes, ("pos_embed", "position_embeddings"))
    if embedding and len(shapes[embedding]) == 3:
        yield "backbone.embed_dim", shapes[embedding][2], embedding
    blocks = {int(found[1]): name for name in shapes if (found := _BLOCK.search(name))}
    if blocks:
        yield "backbone.layers", max(blocks) + 1, blocks[max(blocks)]
    branch = _first(shapes, ("stage4.0.branches.0.0.conv1.weight",))
    if branch:
        yield "backbone.widths", [shapes[branch][0] * 2**n for n in range(4)], branch
    axis = _first(shapes, ("head.cls_x.weight",))
    if axis:
        yield "head.type", "RTMCCHead", axis
    yield from _head(shapes, with_type=not axis)


def _head(shapes: Shapes, with_type: bool) -> Iterator[tuple[str, Any, str]]:
    """A head of heatmaps: deconvolutions, 1x1 convolutions behind them, norms and the last layer."""
    names = [name for name in shapes if _HEAD.search(name)]
    layers = sorted(
        (name for name in names if name.endswith(".weight") and len(shapes[name]) == 4), key=_place
    )
    deconvolutions = [name for name in layers if shapes[name][2:] == (4, 4)]
    final = _first(shapes, (".final_layer.weight",)) or (layers[-1] if layers and deconvolutions else "")
    if final:
        yield "head.out_channels", shapes[final][0], final
    if not deconvolutions:
        return
    first = deconvolutions[0]
    if with_type and ".deconv_layers." in first:
        yield "head.type", "HeatmapHead", first
    yield "head.deconv_channels", [shapes[name][1] for name in deconvolutions], first
    yield "head.in_channels", shapes[first][0], first
    convolutions = [name for name in layers if shapes[name][2:] == (1, 1) and name != final]
    yield "head.conv_channels", [shapes[name][0] for name in convolutions], (convolutions or [final])[0]
    statistics = next((name for name in names if name.endswith(".running_mean")), "")
    yield "head.norm", "BatchNorm2d" if statistics else "InstanceNorm2d", statistics or first
    if convolutions:
        name = convolutions[0]
        yield "head.conv_bias", name.removesuffix("weight") + "bias" in shapes, name


def _place(name: str) -> tuple[int, list[int]]:
    """Where a layer stands in its head: deconvolutions, convolutions, the last layer; then by number."""
    kinds = ("deconv_layers", "conv_layers", "final_layer")
    kind = next((n for n, word in enumerate(kinds) if word in name), 0)
    return kind, [int(part) for part in name.split(".") if part.isdigit()]


def _first(shapes: Shapes, endings: Sequence[str]) -> str:
    return next((name for name in shapes if name.endswith(tuple(endings))), "")
