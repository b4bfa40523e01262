"""What do the two SimCC vectors of a keypoint look like, and which score follows from them?

Raw logits on the left, their softmax on the right; the x axis above the y axis. mmpose scores a keypoint
by the smaller of the two raw maxima, rtmlib by their mean: raw logits, so that scores above 1 are normal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core import Skeleton
from workbench.core.inspector import INSTANCE, KEYPOINT, LEAST_CERTAIN, Inspector, Needs, Range, keypoint_of
from workbench.core.report import Report, rows
from workbench.decoding.map_statistics import entropy, second_mode, softmax
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, TRUTH_COLOUR, keypoint_colour, new_figure
from workbench.figures.panels import in_input, visible_truth

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.core import Run


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        instance: which sample of the run; the first when empty.
        keypoint: keypoint whose curves are drawn; the one with the lowest score unless named.
        beta: factor before the softmax: 10 in mmpose's loss, 150 in its visibility option.
        times_sigma: multiply beta by the codec's sigma, as mmpose's visibility option does.
        radius: a second mode lies further than this from the first, input pixels.
    """

    instance: Annotated[str, INSTANCE] = ""
    keypoint: Annotated[str, KEYPOINT] = LEAST_CERTAIN
    beta: Annotated[float, Range(1, 200, 1)] = 10.0
    times_sigma: bool = False
    radius: Annotated[float, Range(1, 64, 1)] = 10.0


@dataclass(frozen=True, eq=False)
class SimCCCurves(Report):
    """The SimCC vectors of one sample; per-axis arrays are (x, y) in their first axis.

    Attributes:
        key: the sample's name.
        k: the keypoint drawn.
        logits: of the drawn keypoint, along x and along y.
        shares: softmax of beta times the logits.
        factor: the beta that was applied, sigma included.
        pitch: input pixels per bin.
        tops: raw maximum of every keypoint.
        places: of the maximum, input pixels.
        seconds: place of the second mode of the softmax, input pixels; nan where there is none.
        ratios: second mode over the first, of the softmax; 0 where there is none.
        bits: entropy of the softmax.
        truth: annotation, input pixels; nan where there is none.
    """

    key: str
    skeleton: Skeleton
    k: int
    logits: tuple[Float[np.ndarray, " bins_x"], Float[np.ndarray, " bins_y"]]
    shares: tuple[Float[np.ndarray, " bins_x"], Float[np.ndarray, " bins_y"]]
    factor: float
    pitch: float
    tops: Float[np.ndarray, "2 K"]
    places: Float[np.ndarray, "2 K"]
    seconds: Float[np.ndarray, "2 K"]
    ratios: Float[np.ndarray, "2 K"]
    bits: Float[np.ndarray, "2 K"]
    truth: Float[np.ndarray, "2 K"]

    def summary(self) -> str:
        k, low, mean = self.k, self.tops[:, self.k].min(), self.tops[:, self.k].mean()
        text = (
            f"{self.skeleton.keypoints[k]}: score {low:.2f} as the smaller maximum of both axes (mmpose),"
            f" {mean:.2f} as their mean (rtmlib)"
        )
        axis = int(self.ratios[:, k].argmax())
        if not np.isfinite(self._second(axis)):
            return f"{text}; neither axis has a clear second mode"
        percent = 100 * self.ratios[axis, k]
        away = abs(self.seconds[axis, k] - self.places[axis, k])
        return (
            f"{text}; along {'xy'[axis]} a second mode reaches {percent:.0f} % of the first,"
            f" {away:.0f} input px away"
        )

    def plot(self) -> Figure:
        figure = new_figure(self.summary(), height=560, hovermode="closest")
        for axis in (0, 1):
            for column, curve in enumerate((self.logits[axis], self.shares[axis])):
                self._draw(figure, axis, column, np.asarray(curve, np.float32))
        return figure

    def _draw(self, figure: Figure, axis: int, column: int, curve: Float[np.ndarray, " bins"]) -> None:
        name = "xy"[axis]
        number = 2 * axis + column + 1
        suffix = "" if number == 1 else str(number)
        pixels = np.arange(len(curve), dtype=np.float32) * self.pitch
        axes = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
        what = ("logit", f"softmax({self.factor:g} x logit)")[column]
        low, high = float(min(curve.min(), 0)), float(curve.max()) * 1.08
        colour = keypoint_colour(self.k, self.skeleton)
        figure.add_scatter(x=pixels, y=curve, mode="lines", line={"color": colour, "width": 1.6}, name=name,
                           showlegend=False,
                           hovertemplate=f"{name} %{{x:.1f}} px<br>{what} %{{y:.4g}}<extra></extra>", **axes,
        )  # fmt: skip
        marks = (
            ("maximum", self.places[axis, self.k], FINDING_COLOUR, "solid"),
            ("second mode", self._second(axis), QUIET_COLOUR, "dash"),
            ("annotation", self.truth[axis, self.k], TRUTH_COLOUR, "dot"),
        )
        for label, place, ink, dash in marks:
            if np.isfinite(place):
                line = {"color": ink, "width": 1.5, "dash": dash}
                figure.add_scatter(
                    x=np.array([place, place], np.float32), y=np.array([low, high], np.float32),
                    mode="lines", line=line, name=label, legendgroup=label,
                    # A second mode may be one of y alone: the first line of its kind stands in the legend.
                    showlegend=next(figure.select_traces({"legendgroup": label}), None) is None,
                    hovertemplate=f"{label}<br>{name} %{{x:.1f}} input px<extra></extra>", **axes,
                )  # fmt: skip
        figure.update_layout(
            {
                f"xaxis{suffix}": {"title": {"text": f"{name} (input px)"}, "anchor": f"y{suffix}",
                                   "domain": [0.56 * column, 0.44 + 0.56 * column]},
                f"yaxis{suffix}": {"title": {"text": what}, "anchor": f"x{suffix}",
                                   "domain": [0.58 - 0.58 * axis, 1 - 0.58 * axis]},
            }
        )  # fmt: skip

    def _second(self, axis: int) -> float:
        """Place of a second mode worth a line: every noisy floor has some bump of a hundredth."""
        return self.seconds[axis, self.k] if self.ratios[axis, self.k] >= 0.05 else float("nan")

    def table(self) -> list[dict[str, Any]]:
        return rows(
            keypoint=self.skeleton.keypoints,
            score_min=self.tops.min(0),
            score_mean=self.tops.mean(0),
            x_input=self.places[0],
            y_input=self.places[1],
            second_x_ratio=self.ratios[0],
            second_y_ratio=self.ratios[1],
            entropy_x_bits=self.bits[0],
            entropy_y_bits=self.bits[1],
        )


def compute(run: Run, params: Params) -> SimCCCurves:
    """Read maxima, second modes and entropy off both vectors of every keypoint."""
    vectors, codec = run.simcc, run.codec
    n = INSTANCE.index(run, params.instance)
    k = keypoint_of(run, n, params.keypoint)
    pitch = 1 / codec.split_ratio
    factors = [params.beta * (codec.sigma[0] if params.times_sigma else 1.0)] * 2
    logits = [v[n] for v in vectors]
    shares = [softmax(v, factor) for v, factor in zip(logits, factors, strict=True)]
    tops = np.array([v.max(1) for v in logits])
    places = np.array([v.argmax(1) for v in logits]) * pitch
    modes = [[second_mode(v, params.radius / pitch) for v in axis] for axis in shares]
    seconds = np.array([[np.nan if at is None else at[0] * pitch for at, _ in axis] for axis in modes])
    heights = np.array([[height for _, height in axis] for axis in modes])
    return SimCCCurves(
        key=INSTANCE.of(run)[n],
        skeleton=run.model.skeleton,
        k=k,
        logits=(logits[0][k], logits[1][k]),
        shares=(shares[0][k], shares[1][k]),
        factor=factors[0],
        pitch=pitch,
        tops=tops,
        places=places,
        seconds=seconds,
        ratios=np.nan_to_num(heights / np.array([v.max(1) for v in shares]), nan=0.0),
        bits=np.array([[entropy(v) for v in axis] for axis in shares]),
        truth=in_input(run, n, visible_truth(run, n)).T,
    )


INSPECTOR = Inspector("SimCC curves", Params, compute, needs=Needs(outputs=("simcc",)), order=30)
