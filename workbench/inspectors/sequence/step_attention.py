"""Where does each step attend, in the image and in the support?

A correct step attends to its keypoint in the image and to the corresponding point of the support. A step
that attends to the previous keypoint, or always to the same position, answers from the tokens and not from
the image.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from workbench.core import NotAvailable, Run, Skeleton
from workbench.core.capabilities import RollsOut
from workbench.core.inspector import INSTANCE, Choice, Inspector, Needs, Range
from workbench.core.report import PICTURE, Report, rows
from workbench.decoding.map_statistics import entropy
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, keypoint_colours
from workbench.figures.colours import SEQUENTIAL
from workbench.figures.panels import add_crop, add_map, add_marks, axes_of, crop_of, panel_figure
from workbench.inspectors.sequence import rollout
from workbench.inspectors.sequence.rollout import PckRule

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from plotly.graph_objects import Figure


FIRST = "the first steps"


def steps(run: Run) -> list[str]:
    """The choices of `step`: the first steps side by side, or one step."""
    return [FIRST, *run.model.skeleton.keypoints]


STEP = Choice(steps)


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        instance: which sample of the run; the first when empty.
        mode: free-running or teacher-forced.
        step: the keypoint whose step is drawn, over image and support; or the first steps over the image.
        steps: number of first steps to draw.
    """

    instance: Annotated[str, INSTANCE] = ""
    mode: Literal["free", "forced"] = "free"
    step: Annotated[str, STEP] = ""
    steps: Annotated[int, Range(1, 68, 1)] = 12


@dataclass(frozen=True, eq=False)
class StepAttention(Report):
    """Attention of the last decoder layer.

    Attributes:
        skeleton: names of the steps.
        over_image: of every step over the cells of the image.
        over_support: of every step over the support's keypoints; nan where there is none.
        crop: the input.
        bits: entropy over the image.
        away: distance from the strongest cell to the ground truth, shares of the box's longer side.
        own: share of the support attention on the step's own keypoint.
        truth: input pixels; nan where not annotated.
        answers: input pixels.
        drawn: number of steps to draw.
        chosen: index of the step drawn alone; -1 for the first ones.
        support: the support's keypoints in pixels of its own input, mean over shots; nan where unknown.
        same_picture: the sample is its own support.
    """

    skeleton: Skeleton
    over_image: Float[np.ndarray, "K h w"] = field(metadata=PICTURE)
    over_support: Float[np.ndarray, "K K"]
    crop: UInt8[np.ndarray, "H W 3"] = field(metadata=PICTURE)
    bits: Float[np.ndarray, " K"]
    away: Float[np.ndarray, " K"]
    own: Float[np.ndarray, " K"]
    truth: Float[np.ndarray, "K 2"]
    answers: Float[np.ndarray, "K 2"]
    drawn: int
    chosen: int
    support: Float[np.ndarray, "K 2"]
    same_picture: bool

    def summary(self) -> str:
        return self._of_all() if self.chosen < 0 else self._of_one()

    def _of_all(self) -> str:
        most = np.log2(self.over_image[0].size)
        near = np.nanmean(self.away < 0.2) if np.isfinite(self.away).any() else np.nan
        text = f"{near:.0%} of the steps attend to the image within 20 % of the box from their keypoint"
        text += f"; mean entropy {self.bits.mean():.1f} of {most:.1f} bits"
        if np.isfinite(self.own).any():
            text += f"; {np.nanmean(self.own):.0%} of the support attention is on the step's own keypoint"
        return text

    def _of_one(self) -> str:
        k, names = self.chosen, self.skeleton.keypoints
        far = self.away[k]
        where = f"attends {far:.0%} of the box away from it" if np.isfinite(far) else "is not annotated here"
        most = np.log2(self.over_image[k].size)
        text = f"Step {k}, {names[k]}, {where} (entropy {self.bits[k]:.1f} of {most:.1f} bits)"
        if not np.isfinite(self.over_support[k]).any():
            return text
        top = int(np.nanargmax(self.over_support[k]))
        most_read = f"{names[top]}, {self.over_support[k, top]:.0%}"
        own = "its own point" if top == k else f"its own point gets {self.own[k]:.0%}"
        return f"{text}; most support attention is on {most_read} ({own})"

    def plot(self) -> Figure:
        return first_steps(self) if self.chosen < 0 else one_step(self)

    def table(self) -> list[dict[str, Any]]:
        if self.chosen < 0 or not np.isfinite(self.over_support).any():
            return rows(
                step=range(len(self.skeleton)), keypoint=self.skeleton.keypoints, entropy_bits=self.bits,
                away_from_truth=self.away, on_own_support=self.own,
            )  # fmt: skip
        return rows(
            support_point=self.skeleton.keypoints,
            attention=self.over_support[self.chosen],
            own=[k == self.chosen for k in range(len(self.skeleton))],
        )


def compute(run: Run, params: Params) -> StepAttention:
    """Attention of one pass.

    Raises:
        NotAvailable: the model's outputs hold no attention.
    """
    model = rollout.sequence_model(run)
    n, chosen = INSTANCE.index(run, params.instance), STEP.index(run, params.step) - 1
    outputs = rollout.free_running(run) if params.mode == "free" else rollout.teacher_forced(run)
    if "attention_image" not in outputs.tokens:
        raise NotAvailable("attention: the outputs of this model contain none (tokens['attention_image'])")
    K = len(model.skeleton)
    maps = outputs.tokens["attention_image"][n, :K].numpy()
    support = outputs.tokens.get("attention_support")
    over = np.full((K, K), np.nan) if support is None else support[n, :K].numpy()
    H, W = run.batch.pixels.shape[-2:]
    span = np.array([W - 1, H - 1])
    h, w = maps.shape[1:]
    peaks = np.stack(np.unravel_index(maps.reshape(K, -1).argmax(1), (h, w))[::-1], -1)
    centres = (peaks + 0.5) * (W / w, H / h) - 0.5
    truth = rollout.true_tokens(run)[n]
    scale = np.linalg.norm(run.batch.to_image[n][:, 0])
    side = PckRule().sizes(run)[n]
    shown = _support_points(run, n)
    return StepAttention(
        skeleton=model.skeleton,
        over_image=maps,
        over_support=over,
        crop=crop_of(run, n),
        bits=np.array([entropy(m) for m in maps]),
        away=np.linalg.norm(centres - truth * span, axis=-1) * scale / side,
        own=np.diagonal(over).copy(),
        truth=truth * span,
        answers=rollout.tokens_of(run.batch, rollout.points_of(run, outputs))[n] * span,
        drawn=params.steps,
        chosen=chosen,
        support=shown * span,
        same_picture=bool(np.isfinite(shown).any()) and np.allclose(shown, truth, atol=1e-4, equal_nan=True),
    )


def _support_points(run: Run, n: int) -> Float[np.ndarray, "K 2"]:
    """The support's points as tokens, mean over the shots with the keypoint; nan where there is none."""
    K = len(run.model.skeleton)
    if "support" not in run.batch.extra:
        return np.full((K, 2), np.nan)
    points = run.batch.extra["support"][n].cpu().numpy().astype(float).reshape(-1, K, 2)
    known = np.isfinite(points)
    total = np.where(known, points, 0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)


INSPECTOR = Inspector(
    "Step attention", Params, compute, needs=Needs(capability=RollsOut, truth=True), order=60
)


# Screen pixels of the mark of a support point with all the attention; the area is proportional to the share.
LARGEST = 46.0


def first_steps(report: StepAttention) -> Figure:
    """One panel per step, over the image, colours on one scale."""
    shown = range(min(report.drawn, len(report.skeleton)))
    names = [f"{k} {report.skeleton.keypoints[k]}" for k in shown]
    top = float(report.over_image[: len(names)].max())
    colours = [keypoint_colours(report.skeleton)[k] for k in shown]
    figure = panel_figure(report.summary(), names, report.crop.shape[:2], 6, colours, _scale(top))
    for k in shown:
        _over_image(figure, k, report, k, top)
    return figure


def one_step(report: StepAttention) -> Figure:
    """The step over the image, and over the support's points: larger marks get more attention."""
    k = report.chosen
    top = float(report.over_image[k].max())
    name = f"{k} {report.skeleton.keypoints[k]}"
    reads_support = np.isfinite(report.over_support[k]).any() and np.isfinite(report.support).any()
    names = [f"{name}, over the image", "over the support"] if reads_support else [f"{name}, over the image"]
    figure = panel_figure(report.summary(), names, report.crop.shape[:2], 2, bar=_scale(top))
    # Two panels of a square crop would fill the page; this height suffices for a map of few cells.
    figure.update_layout(height=400)
    _over_image(figure, 0, report, k, top)
    if reads_support:
        _over_support(figure, 1, report)
    return figure


def _over_image(figure: Figure, panel: int, report: StepAttention, k: int, top: float) -> None:
    H, W = report.crop.shape[:2]
    h, w = report.over_image.shape[1:]
    pitch = (W / w, H / h)
    add_crop(figure, panel, report.crop)
    origin = (pitch[0] / 2 - 0.5, pitch[1] / 2 - 0.5)
    add_map(figure, panel, report.over_image[k], pitch, (0, top), name=report.skeleton.keypoints[k],
            origin=origin, unit="attention", transparent=True)  # fmt: skip
    add_marks(figure, panel, report.answers[k], report.truth[k], "answer")


def _over_support(figure: Figure, panel: int, report: StepAttention) -> None:

    axes = {"xaxis": f"x{axes_of(panel)}", "yaxis": f"y{axes_of(panel)}"}
    if report.same_picture:
        add_crop(figure, panel, report.crop)
    shares, names = report.over_support[report.chosen], report.skeleton.keypoints
    for a, b in report.skeleton.limbs:
        ends = report.support[[a, b]].astype(np.float32)
        figure.add_scatter(x=ends[:, 0], y=ends[:, 1], mode="lines", hoverinfo="skip",
                           line={"color": QUIET_COLOUR, "width": 1.5}, **axes)  # fmt: skip
    sizes = 5 + LARGEST * np.sqrt(np.nan_to_num(shares)).astype(np.float32)
    rings = [FINDING_COLOUR if k == report.chosen else "#ffffff" for k in range(len(names))]
    figure.add_scatter(
        x=report.support[:, 0].astype(np.float32), y=report.support[:, 1].astype(np.float32),
        mode="markers", customdata=shares.astype(np.float32), text=list(names),
        marker={"size": sizes, "color": list(keypoint_colours(report.skeleton)), "opacity": 0.85,
                "line": {"color": rings, "width": np.where(shares >= 0, 2, 0).astype(np.float32)}},
        hovertemplate="%{text}<br>%{customdata:.1%} of the support attention<extra></extra>", **axes,
    )  # fmt: skip


def _scale(top: float) -> dict[str, Any]:
    return {
        "colorscale": [list(c) for c in SEQUENTIAL], "cmin": 0, "cmax": top,
        "colorbar": {"title": {"text": "attention"}},
    }  # fmt: skip
