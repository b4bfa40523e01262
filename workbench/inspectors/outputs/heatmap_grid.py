"""What does each keypoint's heatmap look like, and is its peak in the right place?

One panel per keypoint on the network's crop: cross = the map's maximum, ring = the annotation. A second
bright spot is a second candidate (see Peaks); a dark map means that the keypoint was not detected. The maps
of a bottom-up model show all people of the image: the ring is the annotation nearest to the maximum.
A SimCC model has no heatmaps; it predicts x and y independently. Its panels show the product of both
softmaxes, which is the heatmap that they imply.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np

from workbench.core import Skeleton
from workbench.core.capabilities import Groups
from workbench.core.inspector import INSTANCE, Inspector, Needs, Range
from workbench.core.report import PICTURE, Report, rows
from workbench.decoding.map_statistics import softmax
from workbench.figures import SEQUENTIAL, keypoint_colours
from workbench.figures.panels import (
    add_crop,
    add_map,
    add_marks,
    cell_pitch,
    crop_of,
    in_input,
    panel_figure,
    visible_truth,
)

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from plotly.graph_objects import Figure

    from workbench.core import Run


# Cells per side of a SimCC model's map: 17 panels show no more, and 512 x 512 bins each would be 18 MB.
CELLS = 64


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        instance: which sample of the run; the first when empty.
        scale: shared: one colour scale for all maps; each: every map from its lowest to its highest value;
            automatic: shared for heatmaps, each for SimCC, whose softmax values are lower in wider maps.
        crop: draw the network's crop below the maps.
        marks: draw the cross and the ring.
        columns: panels side by side.
        beta: for SimCC models: factor before the softmax; 10 in mmpose's loss.
    """

    instance: Annotated[str, INSTANCE] = ""
    scale: Literal["automatic", "shared", "each"] = "automatic"
    crop: bool = True
    marks: bool = True
    columns: Annotated[int, Range(2, 9, 1)] = 6
    beta: Annotated[float, Range(1, 100, 1)] = 10.0


@dataclass(frozen=True, eq=False)
class HeatmapGrid(Report):
    """The heatmaps of one sample.

    Attributes:
        key: the sample's name.
        peaks: (x, y) of each map's maximum, input pixels; nan where a map is the same everywhere.
        values: at the maximum; of a SimCC model the lower of both raw maxima.
        truth: annotation in input pixels; nan where there is none.
        errors: distance of the maximum from the annotation, input pixels; nan where one of them is absent.
        pitch: input pixels per cell, (x, y).
        origin: input pixel of cell (0, 0), (x, y).
        unit: what the maps hold.
        maps: as the network left them, or the share of a SimCC model's mass per cell.
    """

    key: str
    skeleton: Skeleton
    peaks: Float[np.ndarray, "K 2"]
    values: Float[np.ndarray, " K"]
    truth: Float[np.ndarray, "K 2"]
    errors: Float[np.ndarray, " K"]
    pitch: tuple[float, float]
    origin: tuple[float, float]
    unit: str
    scale: str
    columns: int
    maps: Float[np.ndarray, "K h w"] = field(metadata=PICTURE)
    crop: UInt8[np.ndarray, "H W 3"] = field(metadata=PICTURE)
    show_crop: bool = True
    show_marks: bool = True

    def summary(self) -> str:
        names, flat = self.skeleton.keypoints, np.isnan(self.peaks[:, 0])
        if flat.all():
            return f"every map has one value everywhere, {self.values.min():.2f}, and so no peak"
        low = int(np.where(flat, np.inf, self.values).argmin())
        high = int(np.where(flat, -np.inf, self.values).argmax())
        text = (
            f"{names[low]} has the lowest peak, {self.values[low]:.2f}; the highest is {names[high]} with"
            f" {self.values[high]:.2f}"
        )
        if low == high:
            text = f"the peak of {names[low]} is {self.values[low]:.2f}"
        if flat.any():
            which = ", ".join(name for name, no_peak in zip(names, flat, strict=True) if no_peak)
            text += f"; no peak, as the map has one value everywhere: {which}"
        if np.isfinite(self.errors).any():
            far = int(np.nan_to_num(self.errors, nan=-1).argmax())
            text += f"; {names[far]} peaks furthest from its annotation, {self.errors[far]:.1f} input px away"
        return text

    def plot(self) -> Figure:
        H, W = self.crop.shape[:2]
        low, high = min(0.0, float(self.maps.min())), float(self.maps.max())
        bar = {
            "colorscale": SEQUENTIAL,
            "cmin": low,
            "cmax": high,
            "colorbar": {"title": {"text": self.unit}},
        }
        names = self.skeleton.keypoints
        colours = keypoint_colours(self.skeleton)
        heads = [f"{name}\n{value:.2f}" for name, value in zip(names, self.values, strict=True)]
        shared = self.scale == "shared"
        figure = panel_figure(self.summary(), heads, (H, W), self.columns, colours, bar if shared else None)
        figure.update_layout(coloraxis_showscale=shared)
        for k, name in enumerate(names):
            span = (low, high) if shared else (float(self.maps[k].min()), float(self.maps[k].max()))
            if self.show_crop:
                add_crop(figure, k, self.crop)
            add_map(figure, k, self.maps[k], self.pitch, span, name=name, origin=self.origin, unit=self.unit,
                    transparent=self.show_crop)  # fmt: skip
            if self.show_marks:
                add_marks(figure, k, self.peaks[k], self.truth[k])
        return figure

    def table(self) -> list[dict[str, Any]]:
        return rows(
            keypoint=self.skeleton.keypoints,
            peak=self.values,
            x_input=self.peaks[:, 0],
            y_input=self.peaks[:, 1],
            error_input_px=self.errors,
        )


def compute(run: Run, params: Params) -> HeatmapGrid:
    """Find each heatmap's maximum."""
    n = INSTANCE.index(run, params.instance)
    implied = run.outputs.heatmaps is None and run.outputs.simcc is not None
    seen = _implied(run, n, params.beta) if implied else _given(run, n)
    truth = _nearest_truth(run, n, seen.peaks)
    return HeatmapGrid(
        key=INSTANCE.of(run)[n],
        skeleton=run.model.skeleton,
        peaks=seen.peaks,
        values=seen.values,
        truth=truth,
        errors=np.linalg.norm(seen.peaks - truth, axis=1),
        pitch=seen.pitch,
        origin=seen.origin,
        unit=seen.unit,
        scale=("each" if implied else "shared") if params.scale == "automatic" else params.scale,
        columns=params.columns,
        maps=seen.maps,
        crop=crop_of(run, n),
        show_crop=params.crop,
        show_marks=params.marks,
    )


def _nearest_truth(run: Run, n: int, peaks: Float[np.ndarray, "K 2"]) -> Float[np.ndarray, "K 2"]:
    """The sample's annotation; where the model finds all people, that of the person nearest to each peak."""
    own = in_input(run, n, visible_truth(run, n))
    if not isinstance(run.model, Groups):
        return own
    others = [o.truth for o in run.samples[n].others if o.truth is not None and len(o.truth) == len(own)]
    every = [own]
    for truth in others:
        labelled = np.asarray(truth)[:, 2:] > 0
        every.append(in_input(run, n, np.where(labelled, np.asarray(truth, float)[:, :2], np.nan)))
    far = np.linalg.norm(np.stack(every) - peaks, axis=-1)
    nearest = np.nan_to_num(far, nan=np.inf).argmin(0)
    return np.stack(every)[nearest, np.arange(len(own))]


class _Seen(NamedTuple):
    """Maps of one sample and where they lie; fields as in HeatmapGrid."""

    maps: Float[np.ndarray, "K h w"]
    peaks: Float[np.ndarray, "K 2"]
    values: Float[np.ndarray, " K"]
    pitch: tuple[float, float]
    origin: tuple[float, float]
    unit: str


def _given(run: Run, n: int) -> _Seen:
    maps = run.heatmaps[n]
    K, h, w = maps.shape
    pitch = cell_pitch(run, (h, w))
    y, x = np.divmod(maps.reshape(K, -1).argmax(1), w)
    # Bottom-up models place a peak in the middle of its cell, others at index times pitch.
    origin = (pitch[0] / 2, pitch[1] / 2) if isinstance(run.model, Groups) else (0.0, 0.0)
    peaks = np.stack([x, y], 1) * np.array(pitch) + np.array(origin)
    peaks[np.ptp(maps.reshape(K, -1), axis=1) == 0] = np.nan
    return _Seen(maps, peaks, maps.reshape(K, -1).max(1), pitch, origin, "heat")


def _implied(run: Run, n: int, beta: float) -> _Seen:
    logits = [v[n] for v in run.simcc]
    ratio = run.codec.split_ratio
    factors = [math.ceil(v.shape[1] / CELLS) for v in logits]
    along_x, along_y = (_gathered(softmax(v, beta), f) for v, f in zip(logits, factors, strict=True))
    maps = (along_y[:, :, None] * along_x[:, None, :]).astype(np.float32)
    peaks = np.stack([v.argmax(1) for v in logits], 1) / ratio
    peaks[np.any([np.ptp(v, axis=1) == 0 for v in logits], axis=0)] = np.nan
    pitch = (factors[0] / ratio, factors[1] / ratio)
    # A cell of f bins is centred between its first and its last bin.
    origin = ((factors[0] - 1) / 2 / ratio, (factors[1] - 1) / 2 / ratio)
    return _Seen(maps, peaks, np.minimum(*(v.max(1) for v in logits)), pitch, origin, "share per cell")


def _gathered(shares: Float[np.ndarray, "K bins"], factor: int) -> Float[np.ndarray, "K cells"]:
    """Mass of each `factor` neighbouring bins together; the last cell may hold fewer."""
    return np.add.reduceat(shares, np.arange(0, shares.shape[1], factor), axis=1)


INSPECTOR = Inspector("Heatmaps", Params, compute, needs=Needs(outputs=("heatmaps", "simcc")), order=20)
