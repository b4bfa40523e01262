"""Colours, which mean the same in every figure, table and canvas of the workbench.

Left keypoints are cool, right ones warm, those on the midline grey, so that swapped sides are visible at
once. The palette was searched for the largest smallest CIELAB distance between any two colours, for normal
sight and for three kinds of colour blindness; a test repeats the measurement. Symbols show the sides as
well, for print and for readers who see no hue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from workbench.core import Skeleton

Side = Literal["left", "right", "middle"]

# Neighbours in each tuple differ in lightness, because neighbours in a skeleton often lie side by side.
LEFT: tuple[str, ...] = (
    "#3da0f6", "#8c4ea3", "#2be5f5", "#6a4de7", "#88aaea", "#7d48bc", "#757dfc", "#9f71b1",
)  # fmt: skip
RIGHT: tuple[str, ...] = (
    "#c98b18", "#e15b5f", "#ebd232", "#af4c32", "#f98f81", "#9e5704", "#e5b269", "#a0913c",
)  # fmt: skip
MIDDLE: tuple[str, ...] = ("#a9b1ba", "#6f696f", "#d8d0c6", "#959087")

KEYPOINT_COLOURS: tuple[str, ...] = tuple(c for pair in zip(LEFT, RIGHT, strict=True) for c in pair) + MIDDLE
"""All keypoint colours in the order used where a skeleton names no sides."""

SIDE_COLOURS: dict[str, str] = {"left": "#3d8fdc", "right": "#d9772b", "middle": "#8b929c"}
"""Colours of limbs, by side."""

SIDE_SYMBOLS: dict[str, str] = {"left": "circle", "right": "diamond", "middle": "square"}
"""Marker symbols of keypoints, by side."""

RUN_COLOURS: tuple[str, ...] = ("#3d8fdc", "#d9772b", "#12a594", "#a15fc9")
"""Colours of compared runs or epochs, A to D."""

TRUTH_COLOUR = "#12a594"
"""Annotations, where they are drawn as one thing beside predictions."""

FINDING_COLOUR = "#e5484d"
"""The element that the title of a figure refers to."""

QUIET_COLOUR = "#8b929c"
"""Elements for comparison only; readable on white and on near black."""

SEQUENTIAL: tuple[tuple[float, str], ...] = (
    (0.0, "#1b1040"), (0.2, "#472a7a"), (0.4, "#2f6c9e"), (0.6, "#21a585"), (0.8, "#9bd93c"),
    (1.0, "#fdf3a7"),
)  # fmt: skip
"""Heatmaps and other amounts from low to high: lightness grows evenly, hue helps."""

DIVERGING: tuple[tuple[float, str], ...] = (
    (0.0, "#1553b7"), (0.25, "#6fa3e8"), (0.5, "#dfe2e6"), (0.75, "#ef9a63"), (1.0, "#b23a0e"),
)  # fmt: skip
"""Signed amounts, centred on zero: blue below, orange above."""

# Names as data sets write them: left_eye, L_F_Paw, LeftEye, eye_left, "left eye".
# lf, lh ...: fore and hind, as horse data sets name fetlocks and hooves.
_SIDES: dict[str, Side] = dict.fromkeys(("left", "l", "lf", "lh"), "left")
_SIDES |= dict.fromkeys(("right", "r", "rf", "rh"), "right")


def side_of(keypoint: str) -> Side:
    """The side that a keypoint's name claims; ``middle`` when it claims none."""
    words = keypoint.replace("-", "_").replace(" ", "_").replace(".", "_").split("_")
    for word in (words[0], words[-1]):
        if word.lower() in _SIDES:
            return _SIDES[word.lower()]
    lowered = keypoint.lower()
    return "left" if lowered.startswith("left") else "right" if lowered.startswith("right") else "middle"


def keypoint_colours(skeleton: Skeleton) -> tuple[str, ...]:
    """One colour per keypoint: cool on the left, warm on the right, grey on the midline.

    A skeleton that names no sides takes KEYPOINT_COLOURS in turn. Colours repeat after eight keypoints
    on one side; symbols and hover text still differ.
    """
    sides = [side_of(name) for name in skeleton.keypoints]
    if set(sides) <= {"middle"}:
        return tuple(KEYPOINT_COLOURS[k % len(KEYPOINT_COLOURS)] for k in range(len(sides)))
    palettes = {"left": LEFT, "right": RIGHT, "middle": MIDDLE}
    return tuple(palettes[side][sides[:k].count(side) % len(palettes[side])] for k, side in enumerate(sides))


def keypoint_colour(k: int, skeleton: Skeleton | None = None) -> str:
    """The colour of keypoint `k`: of this skeleton, or by number alone where none is known."""
    if skeleton is not None:
        return keypoint_colours(skeleton)[k]
    return KEYPOINT_COLOURS[k % len(KEYPOINT_COLOURS)]


def rgba(colour: str, alpha: float) -> str:
    """A ``#rrggbb`` colour as CSS with an opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"
