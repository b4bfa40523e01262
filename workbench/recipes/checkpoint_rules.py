"""Whether a checkpoint is of the model that a config describes: shapes of tensors against the config."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from workbench.recipes.comparison import AuditFinding, finding, shown
from workbench.recipes.values import Decisions

Shapes = Mapping[str, tuple[int, ...]]
_KINDS_OF_HEADS = ("HeatmapHead", "RTMCCHead", "SimCCHead")
_BLOCK = re.compile(r"(?:^|\.)(?:layers|blocks|encoder\.layer)\.(\d+)\.(?:attn|attention|norm1|ln1)")


def checkpoint_findings(decisions: Decisions, shapes: Shapes, file: str) -> Iterator[AuditFinding]:
    """Where the tensors of a checkpoint deny what the config says of the model.

    Args:
        decisions: of the config.
        shapes: name of a tensor -> shape.
        file: name of the checkpoint.
    """
    for field, found, tensor in _told(shapes):
        said = decisions.values.get(field)
        if said is None or _same(said.value, found):
            continue
        if field == "head.type" and said.value not in _KINDS_OF_HEADS:
            continue  # a head of one's own, with layers of these names
        yield finding(
            "error",
            said.key,
            said.value,
            found,
            cause="a checkpoint of another model than the config",
            evidence=f"{said.key} is {shown(said.value)}, {file} has {shown(found)} ({tensor})",
            why="the weights do not fit this config: a strict load fails, a loose one leaves parts at random",
            source=f"{file}: {tensor} {list(shapes.get(tensor, ()))}",
            fix=f"use the config that {file} was trained with, or a checkpoint of this config",
            field=f"checkpoint.{field}",
        )


def _same(mine: Any, theirs: Any) -> bool:
    a, b = (list(v) if isinstance(v, (list, tuple)) else v for v in (mine, theirs))
    return a == b or (a in (None, "none", []) and b in (None, []))


def _told(shapes: Shapes) -> Iterator[tuple[str, Any, str]]:
    """Field, value and tensor for whatever the tensors tell."""
    final = _first(shapes, (".final_layer.weight",))
    if final:
        yield "head.out_channels", shapes[final][0], final
    embedding = _first(shapes, ("pos_embed", "position_embeddings"))
    if embedding and len(shapes[embedding]) == 3:
        yield "backbone.embed_dim", shapes[embedding][2], embedding
    blocks = {int(found[1]): name for name in shapes if (found := _BLOCK.search(name))}
    if blocks:
        yield "backbone.layers", max(blocks) + 1, blocks[max(blocks)]
    deconvolutions = [
        name
        for name in shapes
        if re.search(r"head\.deconv_layers\.\d+\.weight$", name) and len(shapes[name]) == 4
    ]
    if deconvolutions:
        deconvolutions.sort(key=lambda name: int(name.split(".")[-2]))
        yield "head.deconv_channels", [shapes[name][1] for name in deconvolutions], deconvolutions[0]
        yield "head.in_channels", shapes[deconvolutions[0]][0], deconvolutions[0]
    branch = _first(shapes, ("stage4.0.branches.0.0.conv1.weight",))
    if branch:
        widths = [shapes[branch][0] * 2**n for n in range(4)]
        yield "backbone.widths", widths, branch
    axis = _first(shapes, ("head.cls_x.weight",))
    if axis:
        yield "head.type", "RTMCCHead", axis
    elif deconvolutions:
        yield "head.type", "HeatmapHead", deconvolutions[0]


def _first(shapes: Shapes, endings: Sequence[str]) -> str:
    return next((name for name in shapes if name.endswith(tuple(endings))), "")
