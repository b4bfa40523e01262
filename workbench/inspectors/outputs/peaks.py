"""How certain is each keypoint, and does its map have a second peak?

Entropy measures in bits how widely a map is spread: each further bit doubles the number of equally likely
cells. The second mode is the highest peak at another place. Near 100 % of the first, the two places are
equally likely (often the keypoint of the other side), and averaging such keypoints over a flip or over time
gives a place between both. Rows are ordered from the least certain keypoint down: by the second mode where
it reaches half of the first, else by entropy. The maps of a bottom-up model show all people of the image:
another person's keypoint is a mode as well, and rows are ordered by entropy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from workbench.core import NotAvailable, Skeleton
from workbench.core.capabilities import Groups
from workbench.core.inspector import Inspector, Needs, Range
from workbench.core.report import Report, counted, rows
from workbench.core.statistics import finite_medians
from workbench.decoding.map_statistics import entropy, second_mode, softmax, width
from workbench.figures import keypoint_colours
from workbench.figures.bars import Bars, bars_figure
from workbench.figures.panels import cell_pitch

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from plotly.graph_objects import Figure

    from workbench.core import Run


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        radius: a second mode lies further than this from the first, input pixels.
        mass: for heatmaps: their positive values as they are, or the softmax of beta times them.
        beta: factor before the softmax (SimCC always, heatmaps when asked for); 10 in mmpose's SimCC loss.
    """

    radius: Annotated[float, Range(1, 64, 1)] = 20.0
    mass: Literal["positive values", "softmax"] = "positive values"
    beta: Annotated[float, Range(1, 100, 1)] = 10.0


@dataclass(frozen=True, eq=False)
class Peaks(Report):
    """Certainty of every keypoint of every sample; nan where a map has no mass or no second mode.

    Attributes:
        kind: ``heatmap`` or ``simcc``.
        bits: entropy; for SimCC the sum of both axes.
        most_bits: of a map that is the same everywhere.
        widths: standard deviation of the peak per axis, input pixels.
        ratios: height of the second mode over the first, 0 to 1; 0 where there is none.
        distances: from the first mode to the second, input pixels.
        of_people: the maps show all people of the image, so that a second mode may be another person's.
    """

    skeleton: Skeleton
    kind: str
    bits: Float[np.ndarray, "N K"]
    most_bits: float
    widths: Float[np.ndarray, "N K"]
    ratios: Float[np.ndarray, "N K"]
    distances: Float[np.ndarray, "N K"]
    of_people: bool = False

    def order(self) -> Int[np.ndarray, " K"]:
        """Keypoints from the least certain on.

        By the second mode where one reaches half of the first, because two places to choose from are worse
        than one blurred place; by entropy otherwise.
        """
        ratios, bits = finite_medians(self.ratios), np.nan_to_num(finite_medians(self.bits), nan=-1)
        undecided = np.where((ratios >= 0.5) & (not self.of_people), ratios, 0)
        return np.lexsort((-bits, -undecided))

    def summary(self) -> str:
        bits = finite_medians(self.bits)
        if not np.isfinite(bits).any():
            return "No heatmap has a positive value, so no certainty can be measured"
        k = int(self.order()[0])
        over = f" (median of {counted(len(self.bits), 'sample')})" if len(self.bits) > 1 else ""
        text = (
            f"{self.skeleton.keypoints[k]} is the least certain: entropy {bits[k]:.1f} of"
            f" {self.most_bits:.1f} bits{over}"
        )
        ratio, distance = finite_medians(self.ratios)[k], finite_medians(self.distances)[k]
        if not np.isfinite(distance):
            return f"{text}, no second mode"
        text += f", second mode at {100 * ratio:.0f} % of the first, {distance:.0f} input px away"
        return f"{text} (maps of all people: it may be another person's)" if self.of_people else text

    def plot(self) -> Figure:
        order = self.order()
        names = [self.skeleton.keypoints[k] for k in order]
        colours = [keypoint_colours(self.skeleton)[k] for k in order]
        away = finite_medians(self.distances)[order]
        notes = [f"{d:.0f} input px away" if np.isfinite(d) else "no second mode" for d in away]
        columns = [
            Bars(f"entropy (of {self.most_bits:.1f} bits)", finite_medians(self.bits)[order], colours,
                 dots=self.bits[:, order], span=(0, self.most_bits)),
            Bars("second mode (% of the first)", 100 * finite_medians(self.ratios)[order], colours,
                 dots=100 * self.ratios[:, order], notes=notes, span=(0, 105)),
            Bars("width of the peak (input px)", finite_medians(self.widths)[order], colours,
                 dots=self.widths[:, order]),
        ]  # fmt: skip
        return bars_figure(self.summary(), names, columns)

    def table(self) -> list[dict[str, Any]]:
        return rows(
            keypoint=self.skeleton.keypoints,
            entropy_bits=finite_medians(self.bits),
            second_mode=finite_medians(self.ratios),
            second_mode_distance_input_px=finite_medians(self.distances),
            width_input_px=finite_medians(self.widths),
        )


def compute(run: Run, params: Params) -> Peaks:
    """Measure every map of the run."""
    if run.outputs.heatmaps is not None:
        kind, (measured, cells) = "heatmap", _of_heatmaps(run, params)
    elif run.outputs.simcc is not None:
        kind, (measured, cells) = "simcc", _of_simcc(run, params)
    else:
        raise NotAvailable("peaks: this model gives neither heatmaps nor SimCC vectors")
    bits, widths, ratios, distances = np.moveaxis(measured, -1, 0)
    people = isinstance(run.model, Groups)
    return Peaks(run.model.skeleton, kind, bits, float(np.log2(cells)), widths, ratios, distances, people)


def _of_heatmaps(run: Run, params: Params) -> tuple[Float[np.ndarray, "N K 4"], int]:
    maps = run.heatmaps
    N, K, h, w = maps.shape
    pitch = np.array(cell_pitch(run, (h, w))[::-1])  # (y, x), as indices go
    if params.mass == "softmax":
        maps = softmax(maps.reshape(N, K, -1), params.beta).reshape(maps.shape)
    found = [[_measures(m, params.radius, pitch) for m in sample] for sample in maps]
    return np.array(found), h * w


def _of_simcc(run: Run, params: Params) -> tuple[Float[np.ndarray, "N K 4"], int]:
    pitch = np.array([1 / run.codec.split_ratio])
    along = [softmax(v, params.beta) for v in run.simcc]
    per_axis = [
        np.array([[_measures(v, params.radius, pitch) for v in sample] for sample in axis]) for axis in along
    ]
    x, y = per_axis
    # A point's second place is the better second place of its two axes, the other axis staying.
    better = np.where((x[..., 2] >= y[..., 2])[..., None], x, y)
    widths = np.sqrt((x[..., 1] ** 2 + y[..., 1] ** 2) / 2)
    joint = np.stack([x[..., 0] + y[..., 0], widths, better[..., 2], better[..., 3]], -1)
    return joint, along[0].shape[-1] * along[1].shape[-1]


def _measures(
    values: Float[np.ndarray, "*s"], radius: float, pitch: Float[np.ndarray, " axes"]
) -> tuple[float, float, float, float]:
    """Bits, width, second mode's ratio and distance of one map; pitch in input pixels per cell."""
    mean_pitch = float(pitch.mean())
    first = np.unravel_index(int(values.argmax()), values.shape)
    top = float(values[first])
    place, height = second_mode(values, radius / mean_pitch)
    if place is None or top <= 0:
        return entropy(values), width(values, radius / mean_pitch) * mean_pitch, 0.0, float("nan")
    distance = float(np.linalg.norm((np.array(place) - np.array(first)) * pitch))
    ratio = max(height, 0.0) / top
    return entropy(values), width(values, radius / mean_pitch) * mean_pitch, ratio, distance


INSPECTOR = Inspector("Peaks", Params, compute, needs=Needs(outputs=("heatmaps", "simcc")), order=40)
