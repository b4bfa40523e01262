"""Panels: many maps of one network input side by side, in input pixels, zoomed together.

Each panel shows its map as a small PNG; an invisible layer of at most 64x64 values answers the pointer.
Also the crop that the network was given, and conversions between image pixels, input pixels and cells.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.geometry import apply, inverse
from workbench.figures.colours import SEQUENTIAL
from workbench.figures.drawing import image_data_uri, image_layer, sprite
from workbench.figures.layout import as_title, new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float, UInt8
    from plotly.graph_objects import Figure

    from workbench.core import Run


def input_size(run: Run) -> tuple[int, int]:
    """(height, width) of the network's input in this run, pixels."""
    height, width = run.batch.pixels.shape[-2:]
    return int(height), int(width)


def crop_of(run: Run, n: int) -> UInt8[np.ndarray, "H W 3"]:
    """The part of sample n's image that the network was given, in its colours before normalising."""
    import cv2

    H, W = input_size(run)
    image = np.ascontiguousarray(run.samples[n].image)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, np.asarray(run.batch.to_image[n], float), (W, H), flags=flags))


def in_input(run: Run, n: int, points: Float[np.ndarray, "K 2"]) -> Float[np.ndarray, "K 2"]:
    """Image pixels of sample n as pixels of its crop; nan stays nan."""
    return apply(inverse(np.asarray(run.batch.to_image[n], float)), points)


def cell_pitch(run: Run, cells: tuple[int, int]) -> tuple[float, float]:
    """Input pixels from one cell's centre to the next, (x, y); cell (0, 0) lies on pixel (0, 0).

    Plain models: input size / cells, as mmpose decodes. UDP models: the outermost centres coincide,
    (input size - 1) / (cells - 1).

    Args:
        run: its codec, if any, says whether the model is a UDP one.
        cells: (h, w) of the maps.
    """
    H, W = input_size(run)
    h, w = cells
    if run.model.codec is not None and run.model.codec.udp:
        return (W - 1) / max(w - 1, 1), (H - 1) / max(h - 1, 1)
    return W / w, H / h


def visible_truth(run: Run, n: int) -> Float[np.ndarray, "K 2"]:
    """Annotated (x, y) of sample n in image pixels, nan where not labelled or not annotated at all."""
    truth = run.samples[n].truth
    points = np.full((len(run.model.skeleton), 2), np.nan)
    if truth is not None and len(truth) == len(points):
        labelled = np.asarray(truth)[:, 2] > 0
        points[labelled] = np.asarray(truth, float)[labelled, :2]
    return points


# Cells per side of the hover layer: finer ones cannot be pointed at, and cost bytes.
HOVER_SIDE = 64
# Pixels per side of a drawn map: the size of a panel on the screen.
DRAWN_SIDE = 192
# Width for which the height is computed; wider pages have margins at the sides.
PLANNED_WIDTH = 1000
# Pixels that panels have on a page 1024 px wide, beside the parameters and a colour bar.
NARROWEST_FIGURE = 470
# Of a panel's name: width of a character per pixel of type size, and the smallest type.
CHARACTER, SMALLEST = 0.56, 7.0


def axes_of(panel: int) -> str:
    """Suffix of a panel's axes: ``""``, ``"2"``, ``"3"`` ..."""
    return "" if panel == 0 else str(panel + 1)


def panel_figure(
    title: str,
    names: Sequence[str],
    size: tuple[int, int],
    columns: int,
    colours: Sequence[str] = (),
    bar: dict[str, Any] | None = None,
) -> Figure:
    """A figure of one panel per name, all with the same axes in input pixels.

    Args:
        title: the finding.
        names: above each panel, as many lines as it has.
        size: (height, width) of the input, pixels.
        columns: panels side by side.
        colours: of the names.
        bar: plotly ``coloraxis`` properties (colorscale, cmin, cmax, colorbar); none draws no bar.
    """
    H, W = size
    columns = min(columns, len(names))
    rows = math.ceil(len(names) / columns)
    heads = [[as_title(line) for line in name.split("\n")] for name in names]
    # The longest line fits its panel on the narrowest page; a dot takes two characters.
    longest = max(len(line) for name in names for line in name.split("\n")) + 2 * bool(colours)
    type_size = min(12.0, max(SMALLEST, NARROWEST_FIGURE / columns / longest / CHARACTER))
    # Screen pixels for a panel's name: a line, and air.
    head = 6 + 16 * max(map(len, heads))
    panel_height = PLANNED_WIDTH / columns * H / W + head
    height = round(rows * panel_height + 110)
    figure = new_figure(title, height=height, dragmode="zoom", showlegend=False, hovermode="closest")
    # As new_figure has it, without the legend's row.
    top = 20 * (as_title(title).count("<br>") + 1) + 20
    figure.update_layout(margin={"l": 12, "r": 84 if bar else 12, "b": 12, "t": top})
    gap, heading = 0.006, head / panel_height / rows
    layout: dict[str, Any] = {}
    for i in range(len(names)):
        row, column = divmod(i, columns)
        high = 1 - row / rows
        suffix = axes_of(i)
        layout[f"xaxis{suffix}"] = {
            "domain": [column / columns + gap, (column + 1) / columns - gap],
            "range": [-0.5, W - 0.5], "anchor": f"y{suffix}", "visible": False, "constrain": "domain",
        } | ({"matches": "x"} if i else {})  # fmt: skip
        layout[f"yaxis{suffix}"] = {
            "domain": [high - 1 / rows + gap, high - heading], "range": [H - 0.5, -0.5],
            "anchor": f"x{suffix}", "visible": False, "constrain": "domain",
        } | ({"matches": "y"} if i else {"scaleanchor": "x"})  # fmt: skip
        dot = f'<span style="color:{colours[i]}">\u25cf</span> ' if colours else ""
        place = {"x": (column + 0.5) / columns, "y": high - heading, "xref": "paper", "yref": "paper"}
        figure.add_annotation(
            text=dot + "<br>".join(heads[i]), **place, xanchor="center", yanchor="bottom", showarrow=False,
            font={"size": type_size},
        )  # fmt: skip
    figure.update_layout(layout)
    if bar:
        figure.update_layout(
            coloraxis={"colorbar": {"thickness": 12, "outlinewidth": 0, "x": 1.01, "len": 0.9}}
        )
        figure.update_layout(coloraxis=bar)
    return figure


def add_crop(figure: Figure, panel: int, crop: UInt8[np.ndarray, "H W 3"], quality: int = 60) -> None:
    """Put the crop below a panel's map: small, because it is repeated; grey, because colours are heat."""
    H, W = crop.shape[:2]
    # Rec. 601 luma, dimmed towards middle grey so that the map stays the brightest thing in the panel.
    grey = (crop.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)) * 0.6 + 40
    source = image_data_uri(np.repeat(grey.astype(np.uint8)[..., None], 3, 2), side=160, quality=quality)
    figure.add_layout_image(image_layer(source, (-0.5, -0.5, W - 0.5, H - 0.5), axes_of(panel)))


def add_map(
    figure: Figure,
    panel: int,
    values: Float[np.ndarray, "h w"],
    pitch: tuple[float, float],
    span: tuple[float, float],
    *,
    name: str,
    origin: tuple[float, float] = (0.0, 0.0),
    unit: str = "value",
    colours: Sequence[tuple[float, str]] = SEQUENTIAL,
    transparent: bool = False,
) -> None:
    """Draw a map in a panel of a figure under construction.

    Args:
        figure: from panel_figure; the map is added to it.
        panel: its number.
        values: a map of cells.
        pitch: input pixels per cell, (x, y).
        span: values of the first and the last colour.
        name: on hover.
        origin: input pixel (x, y) on which cell (0, 0) is centred.
        unit: what the values are, on hover.
        colours: colour scale.
        transparent: low values let the crop below show through.
    """
    h, w = values.shape
    # Browsers smooth small images when they enlarge them; cells drawn several pixels wide keep their edges.
    whole = math.ceil(DRAWN_SIDE / max(h, w))
    cells = np.asarray(values, np.float32).repeat(whole, 0).repeat(whole, 1)
    png, *_ = sprite(cells[None], span=span, colours=colours, transparent=transparent)
    dx, dy = pitch
    # The thousandth of a pixel: plotly.js drops an image that lies exactly where another one does.
    left, top = origin
    extent = (left - dx / 2 - 1e-3, top - dy / 2, left + (w - 0.5) * dx, top + (h - 0.5) * dy)
    figure.add_layout_image(image_layer(image_data_uri(png), extent, axes_of(panel)))
    step = math.ceil(max(h, w) / HOVER_SIDE)
    hover = f"{unit} %{{z:.4g}}<br>x %{{x:.1f}}, y %{{y:.1f}} input px<extra>{as_title(name)}</extra>"
    figure.add_heatmap(
        z=strongest(values, step), opacity=0, coloraxis="coloraxis", name=name,
        x0=left + (step - 1) / 2 * dx, dx=step * dx, y0=top + (step - 1) / 2 * dy, dy=step * dy,
        xaxis=f"x{axes_of(panel)}", yaxis=f"y{axes_of(panel)}",
        hovertemplate=hover,
    )  # fmt: skip


def add_marks(
    figure: Figure,
    panel: int,
    peak: Float[np.ndarray, " 2"],
    truth: Float[np.ndarray, " 2"],
    peak_name: str = "maximum",
) -> None:
    """Mark a cross and a ring in a panel of a figure under construction; nan is not marked.

    Args:
        figure: from panel_figure; the marks are added to it.
        panel: its number.
        peak: (x, y) of the cross, input pixels.
        truth: (x, y) of the ring, input pixels.
        peak_name: what the cross is, on hover.
    """
    # Each mark twice, wide and dark below narrow and white: seen on every colour of every scale.
    places = np.array([truth, truth, peak, peak], np.float32)
    symbols = ["circle-open", "circle-open", "x-thin", "x-thin"]
    inks = ["#14161c", "#ffffff"] * 2
    line = {"width": np.array([3.5, 1.2, 3.5, 1.2], np.float32), "color": inks}
    figure.add_scatter(
        x=places[:, 0], y=places[:, 1], mode="markers",
        marker={"symbol": symbols, "size": 8, "color": inks, "line": line},
        text=["annotation", "annotation", peak_name, peak_name],
        xaxis=f"x{axes_of(panel)}", yaxis=f"y{axes_of(panel)}",
        hovertemplate="%{text}<br>x %{x:.1f}, y %{y:.1f} input px<extra></extra>",
    )  # fmt: skip


def strongest(values: Float[np.ndarray, "h w"], step: int) -> Float[np.ndarray, "a b"]:
    """The value farthest from zero of each block of `step` x `step` cells, so that no peak is lost."""
    if step == 1:
        return np.asarray(values, np.float32)
    h, w = values.shape
    padded = np.full((math.ceil(h / step) * step, math.ceil(w / step) * step), np.nan, np.float32)
    padded[:h, :w] = values
    blocks = padded.reshape(len(padded) // step, step, -1, step).swapaxes(1, 2)
    blocks = blocks.reshape(*blocks.shape[:2], -1)
    best = np.nan_to_num(np.abs(blocks), nan=-1).argmax(-1)
    return np.take_along_axis(blocks, best[..., None], -1)[..., 0]
