"""What should the output have been, what is it, and what is the difference?

Target, prediction and residual (prediction minus target) of one keypoint on one scale, as the loss compares
them: heatmaps as they are, SimCC vectors after the softmax that mmpose's loss applies to both. In the
residual orange is too high and blue too low: a blue and an orange spot side by side are a displaced peak, a
blue spot alone is a missed keypoint, an orange spot alone a false detection.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core import NotAvailable, Skeleton
from workbench.core.inspector import INSTANCE, Inspector, Needs, Range, keypoint_choice
from workbench.core.report import PICTURE, Report, rows
from workbench.decoding.map_statistics import softmax
from workbench.decoding.targets import target
from workbench.figures import DIVERGING, RUN_COLOURS, SEQUENTIAL, TRUTH_COLOUR, new_figure, rgba
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

LARGEST = "largest residual"
AREA = rgba(RUN_COLOURS[1], 0.3)
KEYPOINT = keypoint_choice(LARGEST)


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        instance: which sample of the run; the first when empty.
        keypoint: keypoint whose maps are drawn; the one with the largest residual unless named.
        beta: factor before the softmax of SimCC logits and labels; 10 in mmpose's loss.
    """

    instance: Annotated[str, INSTANCE] = ""
    keypoint: Annotated[str, KEYPOINT] = LARGEST
    beta: Annotated[float, Range(1, 100, 1)] = 10.0


@dataclass(frozen=True, eq=False)
class TargetResidual(Report):
    """Target against prediction of one sample; nan for keypoints without annotation in the crop.

    Attributes:
        key: the sample's name.
        kind: ``heatmap`` or ``simcc``.
        k: the keypoint drawn.
        residuals: root mean square of prediction - target, per keypoint.
        wanted: height of the target's peak (SimCC: of the lower of both axes).
        found: the prediction at the place of the target's peak.
        elsewhere: the prediction's own maximum.
        astray: distance of that maximum from the target's, input pixels; nan where the prediction is the same
            everywhere and has no maximum.
        pitch: input pixels per cell or bin, (x, y).
        targets: of the drawn keypoint: one map, or the vectors along x and y.
        predictions: the same of the prediction.
        places: annotation and predicted maximum of the drawn keypoint, input pixels; nan as in astray.
    """

    key: str
    skeleton: Skeleton
    kind: str
    k: int
    residuals: Float[np.ndarray, " K"]
    wanted: Float[np.ndarray, " K"]
    found: Float[np.ndarray, " K"]
    elsewhere: Float[np.ndarray, " K"]
    astray: Float[np.ndarray, " K"]
    pitch: tuple[float, float]
    places: Float[np.ndarray, "2 2"]
    targets: tuple[Float[np.ndarray, "*s"], ...] = field(metadata=PICTURE)
    predictions: tuple[Float[np.ndarray, "*s"], ...] = field(metadata=PICTURE)
    crop: UInt8[np.ndarray, "H W 3"] = field(metadata=PICTURE)

    def summary(self) -> str:
        k = self.k
        name = self.skeleton.keypoints[k]
        if not np.isfinite(self.residuals[k]):
            return f"{name} has no annotation inside the network's crop, so there is no target for it"
        found, wanted, top = (f"{round(v[k], 3):g}" for v in (self.found, self.wanted, self.elsewhere))
        if not np.isfinite(self.astray[k]):
            axes = "" if self.kind == "heatmap" else " along x or y"
            return (
                f"{name}: the prediction has one value everywhere{axes}, {top}, and so no maximum; the "
                f"target's is {wanted}"
            )
        return (
            f"{name}: the prediction is {found} where the target has its maximum, {wanted}; the prediction "
            f"has its own maximum, {top}, {self.astray[k]:.1f} input px from there"
        )

    def plot(self) -> Figure:
        return self._maps() if self.kind == "heatmap" else self._curves()

    def _maps(self) -> Figure:
        (wanted,), (given,) = self.targets, self.predictions
        residual = given - wanted
        low, high = float(min(wanted.min(), given.min())), float(max(wanted.max(), given.max()))
        most = float(np.abs(residual).max()) or 1.0
        bar = {"colorscale": DIVERGING, "cmin": -most, "cmax": most,
               "colorbar": {"title": {"text": "residual"}}}  # fmt: skip
        names = [f"target, up to {wanted.max():.2g}", f"prediction, up to {given.max():.2g}",
                 "residual: prediction - target"]  # fmt: skip
        H, W = self.crop.shape[:2]
        figure = panel_figure(self.summary(), names, (H, W), 3, bar=bar)
        shown = ((wanted, (low, high), SEQUENTIAL), (given, (low, high), SEQUENTIAL),
                 (residual, (-most, most), DIVERGING))  # fmt: skip
        for i, (values, span, colours) in enumerate(shown):
            if i < 2:
                add_crop(figure, i, self.crop)
            add_map(figure, i, values, self.pitch, span, name=names[i].partition(",")[0], unit="heat",
                    colours=colours, transparent=i < 2)  # fmt: skip
            add_marks(figure, i, self.places[1], self.places[0], "predicted maximum")
        return figure

    def _curves(self) -> Figure:
        figure = new_figure(self.summary(), height=560, hovermode="x unified")
        # The residual lies below as an area, so that it hides neither curve.
        styles = (
            ("residual", {"color": RUN_COLOURS[1], "width": 0.8}, {"fill": "tozeroy", "fillcolor": AREA}),
            ("target", {"color": TRUTH_COLOUR, "width": 1.6, "dash": "dot"}, {}),
            ("prediction", {"color": RUN_COLOURS[0], "width": 1.6}, {}),
        )
        for axis, (wanted, given) in enumerate(zip(self.targets, self.predictions, strict=True)):
            suffix = "" if axis == 0 else "2"
            pixels = np.arange(len(wanted), dtype=np.float32) * self.pitch[axis]
            for (name, line, area), curve in zip(styles, (given - wanted, wanted, given), strict=True):
                figure.add_scatter(
                    x=pixels, y=np.asarray(curve, np.float32), mode="lines", name=name,
                    legendgroup=name, showlegend=axis == 0, xaxis=f"x{suffix}", yaxis=f"y{suffix}",
                    line=line, hovertemplate="%{y:.4g}", **area,
                )  # fmt: skip
            figure.update_layout(
                {
                    f"xaxis{suffix}": {"title": {"text": f"{'xy'[axis]} (input px)"}, "anchor": f"y{suffix}"},
                    f"yaxis{suffix}": {"title": {"text": "share per bin"}, "anchor": f"x{suffix}",
                                       "domain": [0.58 - 0.58 * axis, 1 - 0.58 * axis], "zeroline": True},
                }
            )  # fmt: skip
        return figure

    def table(self) -> list[dict[str, Any]]:
        return rows(
            keypoint=self.skeleton.keypoints,
            rms_residual=self.residuals,
            target_peak=self.wanted,
            prediction_there=self.found,
            prediction_maximum=self.elsewhere,
            maximum_off_input_px=self.astray,
        )


def compute(run: Run, params: Params) -> TargetResidual:
    """Encode the annotation as the codec does, and compare."""
    n, codec = INSTANCE.index(run, params.instance), run.codec
    # run.truth refuses, with the reason, runs without annotation or with another number of keypoints.
    visible = run.truth[n : n + 1, :, 2] > 0
    points = in_input(run, n, visible_truth(run, n))
    wanted = target(codec, points[None], visible.astype(float))
    labelled = np.asarray(wanted["weights"][0]) > 0
    if codec.kind == "heatmap":
        pairs = [(wanted["heatmaps"][0], run.heatmaps[n])]
        pitch = cell_pitch(run, (int(codec.output_size[0]), int(codec.output_size[1])))
    else:
        pairs = [
            (softmax(t[0], params.beta), softmax(v[n], params.beta))
            for t, v in zip(wanted["simcc"], run.simcc, strict=True)
        ]
        pitch = (1 / codec.split_ratio, 1 / codec.split_ratio)
    for t, v in pairs:
        if t.shape != v.shape:
            raise NotAvailable(f"target: the codec makes {t.shape}, the model gives {v.shape}")
    measured = np.array([_compare([(t[i], v[i]) for t, v in pairs], pitch) for i in range(len(labelled))])
    measured[~labelled] = np.nan
    residuals = measured[:, 0]
    k = KEYPOINT.index(run, params.keypoint) - 1
    if k < 0:
        k = int(np.nan_to_num(residuals, nan=-1).argmax())
    return TargetResidual(
        key=INSTANCE.of(run)[n],
        skeleton=run.model.skeleton,
        kind=codec.kind,
        k=k,
        residuals=residuals,
        wanted=measured[:, 1],
        found=measured[:, 2],
        elsewhere=measured[:, 3],
        astray=measured[:, 4],
        pitch=pitch,
        places=np.stack([points[k], _maximum([v[k] for _, v in pairs], pitch)]),
        targets=tuple(t[k] for t, _ in pairs),
        predictions=tuple(v[k] for _, v in pairs),
        crop=crop_of(run, n),
    )


def _maximum(values: list[np.ndarray], pitch: tuple[float, float]) -> Float[np.ndarray, " 2"]:
    """(x, y) of the maximum in input pixels, of one map or of the vectors along x and y; nan without one."""
    if any(np.ptp(v) == 0 for v in values):
        return np.full(2, np.nan)
    if len(values) == 2:
        return np.array([v.argmax() for v in values]) * pitch
    y, x = np.unravel_index(int(values[0].argmax()), values[0].shape)
    return np.array([x, y]) * pitch


def _compare(pairs: list[tuple[np.ndarray, np.ndarray]], pitch: tuple[float, float]) -> tuple[float, ...]:
    """RMS residual, target's peak, prediction there, prediction's maximum, distance of the two."""
    squares = np.concatenate([((v - t) ** 2).ravel() for t, v in pairs])
    there = min(float(v.flat[t.argmax()]) for t, v in pairs)
    away = _maximum([v for _, v in pairs], pitch) - _maximum([t for t, _ in pairs], pitch)
    peaks = min(float(t.max()) for t, _ in pairs), min(float(v.max()) for _, v in pairs)
    return float(np.sqrt(squares.mean())), peaks[0], there, peaks[1], float(np.linalg.norm(away))


INSPECTOR = Inspector("Target and residual", Params, compute, needs=Needs(codec=True, truth=True), order=60)
