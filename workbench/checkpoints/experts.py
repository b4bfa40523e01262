"""ViTPose+ as a plain ViTPose: which data set's expert is meant, and how do its rows join the others?"""

from __future__ import annotations

import re
from collections.abc import Mapping

from workbench.checkpoints.remap import Piece, Pieces, Shape

_EXPERT = re.compile(r"(.*)\.mlp\.experts\.(\d+)\.(?:weight|bias)$")
_LAST = ("final_layer.weight", "head.conv.weight")
# Expert -> data set and its keypoints. Source: ViTPose@c050ed2, configs of ViTPose+.
VITPOSE_PLUS = {
    0: ("COCO", 17), 1: ("AIC", 14), 2: ("MPII", 16), 3: ("AP-10K", 17), 4: ("APT-36K", 17),
    5: ("COCO-WholeBody", 133),
}  # fmt: skip


def joined_experts(
    pieces: Pieces, model: Mapping[str, Shape], expert: int | None = None
) -> tuple[str, Pieces] | None:
    """ViTPose+ as a plain ViTPose: in each block the rows of one data set's expert behind those of fc2.

    Source: ViTPose@c050ed2 mmpose/models/backbones/vit_moe.py, cat(fc2(x), experts[i](x)); the heads of the
    other data sets are associate_keypoint_heads.

    Args:
        pieces: the file as it is.
        model: names and shapes of the model's tensors; its number of keypoints tells the data set.
        expert: of the data set that is meant.

    Returns:
        the rule's text and the pieces after it; None where there are no experts, or none that fit.

    Raises:
        ValueError: no such expert.
    """
    numbers = {int(mark[2]) for name in pieces if (mark := _EXPERT.match(name))}
    if not numbers and expert is not None:
        raise ValueError(f"expert {expert}: the file has no experts, so it is no ViTPose+")
    if not numbers:
        return None
    alike: list[int] = []
    if expert is None:
        heads = [shape[0] for name, shape in model.items() if name.endswith(_LAST) and len(shape) == 4]
        alike = [n for n in sorted(numbers) if VITPOSE_PLUS.get(n, ("", 0))[1] in heads]
        if not alike:
            return None
        expert = alike[0]
    if expert not in numbers:
        raise ValueError(f"expert {expert}: the file has the experts {', '.join(map(str, sorted(numbers)))}")
    found: Pieces = {}
    for name, piece in pieces.items():
        part = re.match(r"(.*\.mlp\.)fc2\.(weight|bias)$", name)
        other = pieces.get(f"{part[1]}experts.{expert}.{part[2]}") if part else None
        if other is not None:
            shape = (piece.shape[0] + other.shape[0], *piece.shape[1:])
            found[name] = Piece((*piece.sources, *other.sources), "stack", shape)
        elif not _EXPERT.match(name):
            found[name] = piece
    found = _head_of(found, expert)
    others = [f"{VITPOSE_PLUS[n][0]} (expert={n})" for n in alike[1:]]
    text = f"ViTPose+: rows of experts.{expert} ({VITPOSE_PLUS[expert][0]}) behind those of fc2 in each block"
    return text + (f"; as many keypoints have {' and '.join(others)}" if others else ""), found


def _head_of(pieces: Pieces, expert: int) -> Pieces:
    """With the head of that data set as the only one: the first is keypoint_head, the others associated."""
    wanted = f"associate_keypoint_heads.{expert - 1}."
    mark = re.compile(r"^(.*?)associate_keypoint_heads\.\d+\.")
    heads = {told[0] for name in pieces if (told := mark.match(name))}
    chosen = next((head for head in heads if head.endswith(wanted)), None)
    found = {name: piece for name, piece in pieces.items() if not mark.match(name)}
    if chosen is None:
        return found
    before = chosen.removesuffix(wanted)
    found = {name: piece for name, piece in found.items() if not name.startswith(f"{before}keypoint_head.")}
    own = {name: piece for name, piece in pieces.items() if name.startswith(chosen)}
    return {**found, **{f"{before}keypoint_head.{name[len(chosen) :]}": piece for name, piece in own.items()}}
