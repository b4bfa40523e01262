"""Drawing of images, map sprites, skeletons and people. Axes are image pixels, (x, y)."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.figures.colours import SIDE_COLOURS, SIDE_SYMBOLS, keypoint_colours, side_of
from workbench.figures.layout import new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, Float, UInt8
    from plotly.graph_objects import Figure, Scatter

    from workbench.core import Skeleton


# Sufficient for a photograph behind keypoints; keeps a figure of a 4000 px image under 300 kB.
PHOTO_SIDE = 1024


def sprite(
    maps: Float[np.ndarray, "M h w"],
    columns: int = 1,
    span: tuple[float, float] | None = None,
    colours: Sequence[tuple[float, str]] = (),
    transparent: bool = False,
) -> tuple[bytes, float, float]:
    """Many maps as one PNG, and the values of its darkest and brightest step.

    Cell value = low + step / 255 * (high - low), step being the grey level or the palette index; map m
    is in row m // columns, column m % columns. nan is drawn as low.

    Args:
        maps: any scale.
        columns: maps side by side; 1 makes a strip that a canvas cuts without knowing M.
        span: (low, high) when several sprites share a scale; the finite extremes of the maps otherwise.
        colours: a colour scale such as SEQUENTIAL; grey when empty. A palette costs no further bytes.
        transparent: with `colours`, low steps fade out so that an image below shows through.

    Raises:
        ValueError: no map, or maps of other than three axes.
    """
    from PIL import Image

    maps = np.asarray(maps, np.float32)
    if maps.ndim != 3 or not maps.size:
        raise ValueError(f"sprite: expected maps of shape (M, h, w), got {maps.shape}")
    steps, low, high = quantised(maps, span)
    M, h, w = steps.shape
    rows = math.ceil(M / columns)
    sheet = np.zeros((rows * columns, h, w), np.uint8)
    sheet[:M] = steps
    sheet = sheet.reshape(rows, columns, h, w).swapaxes(1, 2).reshape(rows * h, columns * w)
    image = Image.fromarray(sheet)
    extra = {}
    if colours:
        image = image.convert("P")  # keeps the steps as indices
        image.putpalette(palette(colours).tobytes())
        if transparent:
            extra["transparency"] = _fade().tobytes()
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True, **extra)
    return file.getvalue(), low, high


def quantised(
    maps: Float[np.ndarray, "*s"], span: tuple[float, float] | None = None
) -> tuple[UInt8[np.ndarray, "*s"], float, float]:
    """Values as 8-bit steps, and the values of steps 0 and 255."""
    finite = maps[np.isfinite(maps)]
    low, high = span or ((float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0))
    width = high - low if high > low else 1.0
    steps = np.nan_to_num((np.asarray(maps, np.float32) - low) / width, nan=0.0).clip(0, 1) * 255
    return steps.round().astype(np.uint8), low, high


def palette(colours: Sequence[tuple[float, str]]) -> UInt8[np.ndarray, "256 3"]:
    """A colour scale at 256 even steps, red green blue."""
    places = [place for place, _ in colours]
    channels = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for _, c in colours], float)
    steps = np.linspace(0, 1, 256)
    return np.stack([np.interp(steps, places, c) for c in channels.T], 1).round().astype(np.uint8)


def _fade() -> UInt8[np.ndarray, "256"]:
    # Full opacity from a third of the range on, so that second modes stay visible, which are what a reader
    # looks for; below, the image shows through.
    return (np.linspace(0, 3, 256).clip(0, 1) * 230).astype(np.uint8)


def image_data_uri(
    image: UInt8[np.ndarray, "H W 3"] | bytes, side: int = PHOTO_SIDE, quality: int = 85
) -> str:
    """An image as a ``data:`` address for figures and pages.

    Args:
        image: RGB pixels, sent as JPEG no larger than `side`; or the bytes of a PNG, sent as they are.
        side: longest side in pixels; larger images are reduced, their coordinates in figures are not.
        quality: of the JPEG, 1 to 95.
    """
    if isinstance(image, bytes):
        return "data:image/png;base64," + base64.b64encode(image).decode()
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((side, side))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


# Images and skeletons: limbs coloured by side, one colour per keypoint.


def image_layer(
    source: str, extent: tuple[float, float, float, float], axes: str = "", **more: Any
) -> dict[str, Any]:
    """A plotly layout image that spans an extent.

    Args:
        source: a ``data:`` address.
        extent: (x0, y0, x1, y1) of its outer edges in axis units; half a pixel beyond pixel centres.
        axes: suffix of the subplot's axes: ``""``, ``"2"`` ...
        more: further layout image properties.
    """
    x0, y0, x1, y1 = (float(v) for v in extent)
    place = {"xref": f"x{axes}", "yref": f"y{axes}", "x": x0, "y": y0, "sizex": x1 - x0, "sizey": y1 - y0}
    return {"source": source, **place, "xanchor": "left", "yanchor": "top", "sizing": "stretch",
            "layer": "below", **more}  # fmt: skip


def image_figure(image: UInt8[np.ndarray, "H W 3"], title: str, height: int = 560) -> Figure:
    """A figure whose axes are the pixels of an image, drawn below: x right, y down, same scale."""
    H, W = image.shape[:2]
    figure = new_figure(title, x="x (image px)", y="y (image px)", height=height, dragmode="pan")
    figure.update_xaxes(range=[-0.5, W - 0.5], showgrid=False, constrain="domain")
    figure.update_yaxes(range=[H - 0.5, -0.5], showgrid=False, scaleanchor="x", constrain="domain")
    figure.add_layout_image(image_layer(image_data_uri(image), (-0.5, -0.5, W - 0.5, H - 0.5)))
    return figure


def draw_skeleton(
    keypoints: Float[np.ndarray, "K 2"],
    skeleton: Skeleton,
    *,
    scores: Float[np.ndarray, " K"] | None = None,
    drawn: Bool[np.ndarray, " K"] | None = None,
    name: str = "prediction",
    hollow: bool = False,
    size: float = 9,
    notes: tuple[str, ...] = (),
) -> list[Scatter]:
    """Traces of one instance: its limbs by side, then its keypoints with hover text.

    Args:
        keypoints: (x, y) in the figure's axis units; nan is not drawn.
        skeleton: names, limbs and, by their names, sides.
        scores: shown on hover.
        drawn: False hides a keypoint and its limbs (below a threshold, invisible).
        name: legend and hover: whose keypoints these are.
        hollow: rings and dotted limbs, as annotations are drawn beside predictions.
        size: of markers, screen pixels.
        notes: a further hover line per keypoint.

    Raises:
        ValueError: another number of keypoints than the skeleton has.
    """
    import plotly.graph_objects as go

    points = np.array(keypoints, np.float32)
    if points.shape != (len(skeleton), 2):
        raise ValueError(f"{name}: expected keypoints of shape ({len(skeleton)}, 2), got {points.shape}")
    if drawn is not None:
        points[~np.asarray(drawn, bool)] = np.nan
    sides = [side_of(keypoint) for keypoint in skeleton.keypoints]
    traces = []
    for side, colour in SIDE_COLOURS.items():
        line = _limbs(points, [(a, b) for a, b in skeleton.limbs if _limb_side(sides, a, b) == side])
        if np.isfinite(line).any():
            style = {"color": colour, "width": 2, "dash": "dot" if hollow else "solid"}
            traces.append(
                go.Scatter(x=line[:, 0], y=line[:, 1], mode="lines", line=style, hoverinfo="skip",
                           legendgroup=name, showlegend=False, name=f"{name}, {side} limbs")
            )  # fmt: skip
    symbols = [SIDE_SYMBOLS[side] + ("-open" if hollow else "") for side in sides]
    marker: dict[str, Any] = {"symbol": symbols, "size": size, "color": keypoint_colours(skeleton)}
    # A dark rim keeps light colours visible on light images, and the other way round.
    marker["line"] = {
        "width": 2 if hollow else 1,
        "color": marker["color"] if hollow else "rgba(20,22,28,.8)",
    }
    values = np.full(len(points), np.nan) if scores is None else np.asarray(scores, float)
    text = [
        f"<b>{keypoint}</b>"
        + (f"<br>score {value:.3f}" if np.isfinite(value) else "")
        + (f"<br>{notes[k]}" if notes else "")
        for k, (keypoint, value) in enumerate(zip(skeleton.keypoints, values, strict=True))
    ]
    hover = "%{text}<br>x %{x:.1f}, y %{y:.1f}<extra>" + name + "</extra>"
    traces.append(
        go.Scatter(x=points[:, 0], y=points[:, 1], mode="markers", marker=marker, text=text, name=name,
                   hovertemplate=hover, legendgroup=name)
    )  # fmt: skip
    return traces


def draw_arrows(
    starts: Float[np.ndarray, "A 2"], ends: Float[np.ndarray, "A 2"], ink: str, width: float, name: str
) -> list[Any]:
    """Shafts as one broken line and tips as markers: plotly has no arrows."""
    import plotly.graph_objects as go

    gap = np.full_like(starts, np.nan)
    line = np.stack([starts, ends, gap], 1).reshape(-1, 2).astype(np.float32)
    tips = ends.astype(np.float32)
    lengths = np.linalg.norm(ends - starts, axis=1).astype(np.float32)
    return [
        go.Scatter(x=line[:, 0], y=line[:, 1], mode="lines", line={"color": ink, "width": width}, name=name,
                   legendgroup=name, showlegend=False, hoverinfo="skip"),
        go.Scatter(x=tips[:, 0], y=tips[:, 1], mode="markers", marker={"size": 2 + 2 * width, "color": ink},
                   name=name, legendgroup=name, customdata=lengths,
                   hovertemplate="ends at x %{x:.1f}, y %{y:.1f}<br>%{customdata:.1f} input px long"),
    ]  # fmt: skip


def _limb_side(sides: list[Any], a: int, b: int) -> str:
    """A limb belongs to a side when either end does; one that crosses from side to side to neither."""
    ends = {sides[a], sides[b]} - {"middle"}
    return ends.pop() if len(ends) == 1 else "middle"


def _limbs(points: Float[np.ndarray, "K 2"], limbs: list[tuple[int, int]]) -> Float[np.ndarray, "n 2"]:
    """Segments as one line, broken by nan; a limb with a missing end is left out."""
    gap = np.full(2, np.nan, np.float32)
    lines = [np.stack([points[a], points[b], gap]) for a, b in limbs if np.isfinite(points[[a, b]]).all()]
    return np.concatenate(lines) if lines else np.zeros((0, 2), np.float32)


# Several people in one image: one colour and one number each.


# Neighbours differ in hue and in lightness; all are readable on white and on near black.
PERSON_COLOURS: tuple[str, ...] = (
    "#3d8fdc", "#d9772b", "#12a594", "#a15fc9", "#b8960c", "#e5484d", "#5ab0c9", "#7f8f2a", "#c95d9a",
    "#8d7bea",
)  # fmt: skip


def person_colour(person: int) -> str:
    """The colour of person `person`, counted from 0; colours repeat after ten, numbers do not."""
    return PERSON_COLOURS[person % len(PERSON_COLOURS)]


# Size of a number, shares of the picture's height (some 450 screen pixels): two digits of 15 px.
_NUMBER = (0.062, 0.045)
# Positions that are tried for a number, in multiples of its size, starting above the highest keypoint.
_TRIED = tuple(
    (across, down)
    for ring in range(6)
    for across, down in ((0, -ring), (-ring, 0), (ring, 0), (-ring, -ring), (ring, -ring), (0, ring))
)


def number_places(
    people: Sequence[Float[np.ndarray, "K 2"]], image: tuple[int, int]
) -> list[tuple[float, float]]:
    """Centres of the people's numbers: no two overlap, and none covers a keypoint if possible.

    Each is placed above the highest keypoint of its person, or beside it where that place is taken.

    Args:
        people: keypoints, (x, y) in image pixels; everybody has one at least.
        image: (height, width) of the picture.
    """
    room = np.array([_NUMBER[0] * image[0], _NUMBER[1] * image[0]])
    every = np.concatenate([np.zeros((0, 2)), *people])
    taken: list[np.ndarray] = []
    for points in people:
        top = points[int(np.where(np.isfinite(points[:, 0]), points[:, 1], np.inf).argmin())]
        first = top - (0, 0.8 * room[1])
        tried = [
            np.clip(first + np.array(step) * room, room / 2, np.array(image[::-1]) - room / 2)
            for step in _TRIED
        ]
        free = [at for at in tried if all((np.abs(at - other) >= 0.99 * room).any() for other in taken)]
        clear = [at for at in free if not (np.abs(every - at) < 0.5 * room).all(-1).any()]
        taken.append((clear or free or tried)[0])
    return [(float(x), float(y)) for x, y in taken]


def draw_person(
    keypoints: Float[np.ndarray, "K 2"],
    skeleton: Skeleton,
    person: int,
    *,
    name: str = "",
    notes: tuple[str, ...] = (),
    hollow: Float[np.ndarray, " K"] | None = None,
    number_at: tuple[float, float] | None = None,
) -> list[Scatter]:
    """Traces of one person in one colour: limbs, keypoints with hover text, the number at the highest one.

    Args:
        keypoints: (x, y) in the figure's axis units; nan is not drawn.
        skeleton: names and limbs.
        person: counted from 0; decides the colour.
        name: in the legend; ``person 1`` ... by default.
        notes: a further hover line per keypoint.
        hollow: true where a keypoint is drawn as a ring; limbs to it are dashed.
        number_at: centre of the number; above the highest keypoint by default.
    """
    import plotly.graph_objects as go

    points = np.asarray(keypoints, np.float32)
    ink, name = person_colour(person), name or f"person {person + 1}"
    rings = np.zeros(len(points), bool) if hollow is None else np.asarray(hollow, bool)
    detected = [(a, b) for a, b in skeleton.limbs if not (rings[a] or rings[b])]
    filled_in = [(a, b) for a, b in skeleton.limbs if rings[a] or rings[b]]
    marker: dict[str, Any] = {
        "size": 8,
        "color": ink,
        "symbol": ["circle-open" if ring else "circle" for ring in rings],
        "line": {"width": 1.5, "color": ["rgba(20,22,28,.8)" if not ring else ink for ring in rings]},
    }
    text = [f"<b>{k}</b>{f'<br>{notes[i]}' if notes else ''}" for i, k in enumerate(skeleton.keypoints)]
    hover = "%{text}<br>x %{x:.1f}, y %{y:.1f}<extra>" + name + "</extra>"
    group = {"legendgroup": name}
    line = _limbs(points, detected)
    traces = [
        go.Scatter(x=line[:, 0], y=line[:, 1], mode="lines", line={"color": ink, "width": 2.5}, **group,
                   hoverinfo="skip", showlegend=False, name=f"{name}, limbs"),
        go.Scatter(x=points[:, 0], y=points[:, 1], mode="markers", marker=marker, text=text, name=name,
                   hovertemplate=hover, **group),
    ]  # fmt: skip
    dashed = _limbs(points, filled_in)
    if len(dashed):
        traces.append(
            go.Scatter(x=dashed[:, 0], y=dashed[:, 1], mode="lines", **group, hoverinfo="skip",
                       showlegend=False, line={"color": ink, "width": 1.5, "dash": "dot"},
                       name=f"{name}, limbs filled in")
        )  # fmt: skip
    return traces + _number_trace(points, person, name, number_at)


def _number_trace(
    points: Float[np.ndarray, "K 2"], person: int, name: str, number_at: tuple[float, float] | None
) -> list[Scatter]:
    """The number of a person, at a position or above the highest keypoint; [] without keypoints."""
    import plotly.graph_objects as go

    known = np.isfinite(points[:, 0])
    if number_at is None and not known.any():
        return []
    at = number_at
    if at is None:
        at = points[int(np.where(known, points[:, 1], np.inf).argmin())]
    across, down = (np.array([value], np.float32) for value in at)
    anchor = "middle center" if number_at is not None else "top center"
    return [
        go.Scatter(x=across, y=down, mode="text", text=[f"<b>{person + 1}</b>"], hoverinfo="skip",
                   name=f"{name}, number", textposition=anchor, showlegend=False,
                   textfont={"color": person_colour(person), "size": 15}, legendgroup=name)
    ]  # fmt: skip
