"""Plotly figures of the workbench: colours, layout, images, skeletons, sprites, panels and bars.

Data in figures are numpy float32 or uint8, never Python lists: lists need 10 to 50 times the time and the
bytes. plotly is imported when a figure is made, not before.
"""

from workbench.figures.colours import (
    DIVERGING,
    FINDING_COLOUR,
    KEYPOINT_COLOURS,
    QUIET_COLOUR,
    RUN_COLOURS,
    SEQUENTIAL,
    SIDE_COLOURS,
    SIDE_SYMBOLS,
    TRUTH_COLOUR,
    keypoint_colour,
    keypoint_colours,
    rgba,
    side_of,
)
from workbench.figures.drawing import (
    draw_skeleton,
    image_data_uri,
    image_figure,
    image_layer,
    palette,
    quantised,
    sprite,
)
from workbench.figures.layout import LAYOUT, as_title, new_figure

__all__ = [
    "DIVERGING",
    "FINDING_COLOUR",
    "KEYPOINT_COLOURS",
    "LAYOUT",
    "QUIET_COLOUR",
    "RUN_COLOURS",
    "SEQUENTIAL",
    "SIDE_COLOURS",
    "SIDE_SYMBOLS",
    "TRUTH_COLOUR",
    "as_title",
    "draw_skeleton",
    "image_data_uri",
    "image_figure",
    "image_layer",
    "keypoint_colour",
    "keypoint_colours",
    "new_figure",
    "palette",
    "quantised",
    "rgba",
    "side_of",
    "sprite",
]
