"""Where does each step look, in the image and in the support?

A step that finds its keypoint looks at it. One that looks at the keypoint before it, or at the same place
whatever the step, answers from the tokens and not from the image.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from workbench.decoding.modes import entropy
from workbench.figures import keypoint_colours
from workbench.figures.colours import SEQUENTIAL
from workbench.figures.crops import crop_of
from workbench.figures.panels import add_crop, add_map, add_marks, panel_figure
from workbench.records import NotAvailable, Run, Skeleton
from workbench.report import INSTANCE, PICTURE, Inspector, Range, Report, rows
from workbench.rollout import sequence
from workbench.rollout.pck import PckRule

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Params:
    """Knobs.

    Attributes:
        instance: which sample of the run; the first when empty.
        mode: read the truth before each step, or its own answers.
        steps: how many steps to draw.
    """

    instance: Annotated[str, INSTANCE] = ""
    mode: Literal["free", "forced"] = "free"
    steps: Annotated[int, Range(1, 68, 1)] = 12


@dataclass(frozen=True, eq=False)
class StepAttention(Report):
    """Attention of the last decoder layer.

    Attributes:
        skeleton: names of the steps.
        over_image: of every step, rows of cells.
        over_support: of every step over the support's keypoints; nan where there is none.
        crop: the input.
        bits: entropy over the image.
        away: from the brightest cell to the truth, shares of the box's longer side.
        own: share of the support attention that lies on the step's own keypoint.
        truth: input pixels; nan where not annotated.
        answers: input pixels.
        drawn: steps to draw.
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

    def summary(self) -> str:
        most = np.log2(self.over_image[0].size)
        near = np.nanmean(self.away < 0.2) if np.isfinite(self.away).any() else np.nan
        text = f"{near:.0%} of the steps look within 20 % of their keypoint"
        text += f"; {self.bits.mean():.1f} of {most:.1f} bits"
        if np.isfinite(self.own).any():
            text += f"; {np.nanmean(self.own):.0%} of the support attention lies on the step's own keypoint"
        return text

    def plot(self) -> Figure:
        H, W = self.crop.shape[:2]
        h, w = self.over_image.shape[1:]
        shown = range(min(self.drawn, len(self.skeleton)))
        names = [f"{k} {self.skeleton.keypoints[k]}" for k in shown]
        top = float(self.over_image[: len(names)].max())
        figure = panel_figure(
            self.summary(), names, (H, W), 6, [keypoint_colours(self.skeleton)[k] for k in shown],
            {"colorscale": [list(c) for c in SEQUENTIAL], "cmin": 0, "cmax": top,
             "colorbar": {"title": {"text": "attention"}}},
        )  # fmt: skip
        pitch = (W / w, H / h)
        for k in shown:
            add_crop(figure, k, self.crop)
            origin = (pitch[0] / 2 - 0.5, pitch[1] / 2 - 0.5)
            add_map(figure, k, self.over_image[k], pitch, (0, top), name=names[k], origin=origin,
                    unit="attention", transparent=True)  # fmt: skip
            add_marks(figure, k, self.answers[k], self.truth[k], "answer")
        return figure

    def table(self) -> list[dict[str, Any]]:
        return rows(
            step=range(len(self.skeleton)), keypoint=self.skeleton.keypoints, entropy_bits=self.bits,
            away_from_truth=self.away, on_own_support=self.own,
        )  # fmt: skip


def compute(run: Run, params: Params) -> StepAttention:
    """Attention of one pass.

    Raises:
        NotAvailable: the model's outputs hold no attention.
    """
    model = sequence.sequence(run)
    n = INSTANCE.index(run, params.instance)
    outputs = sequence.free(run) if params.mode == "free" else sequence.forced(run)
    if "attention_image" not in outputs.tokens:
        raise NotAvailable("attention: this model's outputs hold none (tokens['attention_image'])")
    K = len(model.skeleton)
    maps = outputs.tokens["attention_image"][n, :K].numpy()
    support = outputs.tokens.get("attention_support")
    over = np.full((K, K), np.nan) if support is None else support[n, :K].numpy()
    H, W = run.batch.pixels.shape[-2:]
    span = np.array([W - 1, H - 1])
    h, w = maps.shape[1:]
    peaks = np.stack(np.unravel_index(maps.reshape(K, -1).argmax(1), (h, w))[::-1], -1)
    centres = (peaks + 0.5) * (W / w, H / h) - 0.5
    truth = sequence.true_tokens(run)[n] * span
    scale = np.linalg.norm(run.batch.to_image[n][:, 0])
    side = PckRule().sizes(run)[n]
    return StepAttention(
        skeleton=model.skeleton,
        over_image=maps,
        over_support=over,
        crop=crop_of(run, n),
        bits=np.array([entropy(m) for m in maps]),
        away=np.linalg.norm(centres - truth, axis=-1) * scale / side,
        own=np.diagonal(over).copy(),
        truth=truth,
        answers=sequence.tokens_of(run.batch, sequence.points_of(run, outputs))[n] * span,
        drawn=params.steps,
    )


INSPECTOR = Inspector(
    "Step attention",
    "Where does each step look, in the image and in the support?",
    Params,
    compute,
    needs_truth=True,
)
