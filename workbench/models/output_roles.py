"""Which outputs of a finished program are heatmaps, which SimCC vectors? Told by names, shapes and the user.

A shape alone proves little: keypoints as coordinates have four axes as well, and SimCC's two vectors are
equally long where the input is square. What stays open is refused with the shapes, and the user may say it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from workbench.core import NotAvailable, Outputs, nearest
from workbench.models.opening import StatedFacts as Said

Shape = tuple[int, ...]
# Cells of a heatmap are at most this many input pixels wide (stride of the deepest stage).
_STRIDE = 32
# No pose network has more keypoints; more channels are features.
_MOST_KEYPOINTS = 1000
_X, _Y = (
    re.compile(rf"(?:^|[^a-z]|simcc)(?:{axis})(?:$|[^a-z])", re.IGNORECASE)
    for axis in ("x|w|width|horizontal", "y|h|height|vertical")
)
_MAPS = re.compile(r"heat_?maps?|hm", re.IGNORECASE)


@dataclass(frozen=True)
class OutputRoles:
    """Where heatmaps or SimCC vectors stand among a program's outputs.

    Attributes:
        kind: as Codec.kind.
        places: numbers of the outputs: of the heatmaps, or of SimCC's x and y.
        last: heatmaps are [N, h, w, K].
        assumed: what neither names nor shapes prove, for people.
    """

    kind: Literal["heatmap", "simcc"]
    places: tuple[int, ...]
    last: bool = False
    assumed: tuple[str, ...] = ()

    def outputs(self, given: Sequence[Any]) -> Outputs:
        """The program's outputs, numpy arrays or tensors, by what they are."""
        if self.kind == "simcc":
            x, y = (given[place] for place in self.places)
            return Outputs(simcc=(x, y))
        maps = given[self.places[0]]
        # swapaxes is the one name that numpy and torch share: N h w K -> N K w h -> N K h w.
        return Outputs(heatmaps=maps.swapaxes(1, 3).swapaxes(2, 3) if self.last else maps)

    def size(self, shapes: Sequence[Shape]) -> tuple[int, tuple[int, int]]:
        """Keypoints, and (h, w) of heatmaps or (bins_y, bins_x)."""
        if self.kind == "simcc":
            x, y = (shapes[place] for place in self.places)
            return x[1], (y[2], x[2])
        shape = shapes[self.places[0]]
        return (shape[3], (shape[1], shape[2])) if self.last else (shape[1], (shape[2], shape[3]))


def roles_of(
    names: Sequence[str],
    shapes: Sequence[Shape],
    input_size: tuple[int, int],
    told: Said | None = None,
    input_last: bool = False,
    map_size: tuple[int, int] | None = None,
) -> OutputRoles:
    """The roles of a program's outputs.

    Args:
        names: of the outputs; "" where the program has none.
        shapes: of what it gave for one image.
        input_size: (height, width), pixels.
        told: what the user says.
        input_last: its input is [N, H, W, C], as TensorFlow and Keras have it.
        map_size: (h, w) of its heatmaps as a config states it.

    Raises:
        NotAvailable: neither maps nor SimCC, or it stays open which; the message lists names and shapes.
        ValueError: the user names an output that is not there, or of other axes.
    """
    told = told or Said()
    if told.outputs:
        return _as_told(told, names, shapes, input_size, input_last, map_size)
    maps = [n for n, shape in enumerate(shapes) if len(shape) == 4]
    vectors = [n for n, shape in enumerate(shapes) if len(shape) == 3]
    named = [n for n in maps if _MAPS.search(names[n])]
    if len(maps) > 1 and len(named) == 1:
        maps, vectors = named, []
    if len(maps) == 1 and not vectors:
        fits = _layouts(shapes[maps[0]], input_size, map_size)
        if told.layout:
            return OutputRoles("heatmap", (maps[0],), told.layout == "channels-last")
        if len(fits) == 1:
            return OutputRoles("heatmap", (maps[0],), fits[0])
        if len(fits) == 2:
            word = "channels-last" if input_last else "channels-first"
            why = f"heatmaps {list(shapes[maps[0]])} taken for {word}, as the input is (--assume layout=...)"
            return OutputRoles("heatmap", (maps[0],), input_last, (why,))
    if len(vectors) == 2 and not maps and (found := _simcc(vectors, names, shapes, input_size)) is not None:
        return found
    raise NotAvailable(
        f"keypoints: the file gives {_listed(names, shapes)} for an input of {input_size[1]}x{input_size[0]} "
        "(width x height); expected one output [N, K, h, w] or [N, h, w, K] of heatmaps whose cells cover "
        "the input evenly, or two [N, K, bins] of SimCC with equally many bins per pixel; say which is which "
        "with --output heatmaps=NAME or --output simcc_x=NAME,simcc_y=NAME, or write an --adapter "
        "(for coordinates and other formats)"
    )


def _layouts(shape: Shape, input_size: tuple[int, int], map_size: tuple[int, int] | None) -> list[bool]:
    """Whether channels may stand first (False) and last (True), in this order."""
    _, a, b, c = shape
    options = {False: (a, (b, c)), True: (c, (a, b))}
    if map_size is not None and (exact := [last for last, (_, size) in options.items() if size == map_size]):
        return exact
    return [
        last
        for last, (keypoints, size) in options.items()
        if 0 < keypoints <= _MOST_KEYPOINTS and _covers(size, input_size)
    ]


def _covers(cells: tuple[int, int], pixels: tuple[int, int]) -> bool:
    """One stride leads from the pixels to the cells, along both axes, rounded the same way."""
    (h, w), (H, W) = cells, pixels
    strides = range(1, _STRIDE + 1)
    halved = any((H // s, W // s) == (h, w) or (-(-H // s), -(-W // s)) == (h, w) for s in strides)
    return min(h, w) > 1 and (halved or (h, w) == (2 * H, 2 * W))


def _simcc(
    vectors: Sequence[int], names: Sequence[str], shapes: Sequence[Shape], input_size: tuple[int, int]
) -> OutputRoles | None:
    """Two vectors per keypoint, by their names as far as their lengths allow; None where they are none."""
    first, second = vectors
    H, W = input_size
    (_, keypoints, a), (_, others, b) = shapes[first], shapes[second]
    # Equally many bins per pixel along both axes, up to rounding, and at least one in two pixels.
    as_given = abs(a * H - b * W) <= max(H, W) and 2 * a >= W
    swapped = abs(b * H - a * W) <= max(H, W) and 2 * b >= W
    if keypoints != others or not (as_given or swapped):
        return None
    by_name = _by_name(names[first], names[second])
    if by_name is None and as_given and swapped:
        one, other = names[first] or str(first), names[second] or str(second)
        raise NotAvailable(
            f"keypoints: {one} {shapes[first]} and {other} {shapes[second]} are two SimCC vectors of equal "
            "length for a square input, and their names do not tell which is x; say it: --output "
            f"simcc_x={one},simcc_y={other}, or the other way round"
        )
    in_order = as_given if by_name is None else by_name
    if not (as_given if in_order else swapped):
        return None  # the names say one order and the lengths the other
    return OutputRoles("simcc", (first, second) if in_order else (second, first))


def _by_name(first: str, second: str) -> bool | None:
    """True where the first is x and the second y by their names, False the other way round."""
    x = bool(_X.search(first)), bool(_X.search(second))
    y = bool(_Y.search(first)), bool(_Y.search(second))
    return {((True, False), (False, True)): True, ((False, True), (True, False)): False}.get((x, y))


def _as_told(
    told: Said,
    names: Sequence[str],
    shapes: Sequence[Shape],
    input_size: tuple[int, int],
    input_last: bool,
    map_size: tuple[int, int] | None,
) -> OutputRoles:
    places = {role: _place(name, names, shapes) for role, name in told.outputs.items()}
    for role, place in places.items():
        axes, want = (4, "[N, K, h, w] or [N, h, w, K]") if role == "heatmaps" else (3, "[N, K, bins]")
        if len(shapes[place]) != axes:
            raise ValueError(f"--output {role}: expected {want}, {_listed([names[place]], [shapes[place]])}")
    if "heatmaps" in places:
        fits = _layouts(shapes[places["heatmaps"]], input_size, map_size)
        last = told.layout == "channels-last" if told.layout else fits[0] if len(fits) == 1 else input_last
        return OutputRoles("heatmap", (places["heatmaps"],), last)
    x, y = (shapes[places[role]] for role in ("simcc_x", "simcc_y"))
    H, W = input_size
    if x[1] != y[1] or x[2] * H != y[2] * W:
        raise ValueError(
            f"--output: simcc_x has {x[1]} keypoints and {x[2]} bins over {W} pixels, simcc_y {y[1]} and "
            f"{y[2]} over {H}: expected as many keypoints, and equally many bins per pixel"
        )
    return OutputRoles("simcc", (places["simcc_x"], places["simcc_y"]))


def _place(name: str, names: Sequence[str], shapes: Sequence[Shape]) -> int:
    """The number of the output that the user means: by its name, or by its number from 0."""
    if name in names:
        return list(names).index(name)
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    near = nearest(name, [n for n in names if n]) if any(names) else "none, so give its number from 0"
    raise ValueError(f"--output: no output {name!r} among {_listed(names, shapes)}; nearest names: {near}")


def _listed(names: Sequence[str], shapes: Sequence[Shape]) -> str:
    told = [f"{name} {tuple(s)}".strip() for name, s in zip(names, shapes, strict=True)]
    return ", ".join(told) or "nothing"


def named(returned: Any) -> tuple[list[str], list[Any]]:
    """Names and tensors of what a program gave: a dict by its keys, a tensor or several without names.

    Raises:
        NotAvailable: something else is among them.
    """
    if isinstance(returned, Mapping):
        names, values = [str(key) for key in returned], list(returned.values())
    else:
        values = list(returned) if isinstance(returned, (tuple, list)) else [returned]
        names = [""] * len(values)
    if odd := [type(v).__name__ for v in values if not hasattr(v, "ndim")]:
        raise NotAvailable(f"keypoints: the program gives {', '.join(odd)}, expected tensors alone")
    return names, values
