"""A plotly Figure whose texts cannot contain links, markup or control characters.

plotly renders a part of HTML, including links, in every text; names of keypoints, categories, files and data
sets come from whoever made the file.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from plotly.graph_objects import Figure

from workbench.core.plain_text import printable

# The markup that the library's own figures use.
_TAG = re.compile(r"<(?!/?(?:b|i|br|sup|sub|extra)>|br/>|/span>|span style=\"color:#?[\w(),.% ]{1,40}\">)")

# Properties without text: pictures, colours, arrays as base64.
_NO_TEXT = ("source", "bdata", "colorscale", "color", "dtype", "shape")


class SafeFigure(Figure):
    """plotly's Figure; every text of its output has passed `safe_text`."""

    def to_dict(self) -> dict[str, Any]:
        """The figure as plain data."""
        return _safe(super().to_dict())


def safe_text(text: str) -> str:
    """A text as plotly may show it: only the markup of the library's own figures is left."""
    if text.isprintable() and "<" not in text:
        return text
    return _TAG.sub("&lt;", printable(text))


def _safe(value: Any) -> Any:
    if isinstance(value, str):
        return safe_text(value)
    if isinstance(value, dict):
        return {key: one if key in _NO_TEXT else _safe(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_safe(one) for one in value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "OU":
        safe = np.empty(value.shape, object)
        for place, one in np.ndenumerate(value):
            safe[place] = _safe(one)
        return safe
    return value
