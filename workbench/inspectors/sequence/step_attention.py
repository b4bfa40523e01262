"""Where does each step look, in the image and in the support?

A step that finds its keypoint looks at it, and reads of the support the point that stands for it. One that
looks at the keypoint before it, or at the same place whatever the step, answers from the tokens and not from
the image.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from workbench.core import NotAvailable, Run, Skeleton
from workbench.core.report import INSTANCE, PICTURE, Choice, Inspector, Range, Report, rows
from workbench.decoding.map_statistics import entropy
from workbench.figures.panels import crop_of
from workbench.inspectors.sequence import rollout
from workbench.inspectors.sequence.rollout import PckRule

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from plotly.graph_objects import Figure

FIRST = "the first steps"


def steps(run: Run) -> list[str]:
    """The steps that can be drawn alone, after the wish for the first ones side by side."""
    return [FIRST, *run.model.skeleton.keypoints]


STEP = Choice(steps)


@dataclass(frozen=True)
class Params:
    """Knobs.

    Attributes:
        instance: which sample of the run; the first when empty.
        mode: read the truth before each step, or its own answers.
        step: the keypoint whose step is drawn, over image and support; or the first steps over the image.
        steps: how many of the first steps to draw.
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
        over_image: of every step, rows of cells.
        over_support: of every step over the support's keypoints; nan where there is none.
        crop: the input.
        bits: entropy over the image.
        away: from the brightest cell to the truth, shares of the box's longer side.
        own: share of the support attention that lies on the step's own keypoint.
        truth: input pixels; nan where not annotated.
        answers: input pixels.
        drawn: steps to draw.
        chosen: the step drawn alone; -1 for the first ones.
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
        text = f"{near:.0%} of the steps look within 20 % of their keypoint"
        text += f"; {self.bits.mean():.1f} of {most:.1f} bits"
        if np.isfinite(self.own).any():
            text += f"; {np.nanmean(self.own):.0%} of the support attention lies on the step's own keypoint"
        return text

    def _of_one(self) -> str:
        k, names = self.chosen, self.skeleton.keypoints
        far = self.away[k]
        where = f"looks {far:.0%} of the box away from it" if np.isfinite(far) else "is not annotated here"
        most = np.log2(self.over_image[k].size)
        text = f"Step {k}, {names[k]}, {where} ({self.bits[k]:.1f} of {most:.1f} bits)"
        if not np.isfinite(self.over_support[k]).any():
            return text
        top = int(np.nanargmax(self.over_support[k]))
        read = f"{names[top]} most, {self.over_support[k, top]:.0%}"
        own = "its own point" if top == k else f"its own point has {self.own[k]:.0%}"
        return f"{text}; of the support it reads {read} ({own})"

    def plot(self) -> Figure:
        from workbench.inspectors.sequence.step_attention import first_steps, one_step

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
    model = rollout.sequence(run)
    n, chosen = INSTANCE.index(run, params.instance), STEP.index(run, params.step) - 1
    outputs = rollout.free(run) if params.mode == "free" else rollout.forced(run)
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
    """The support's points as tokens, mean over the shots that show them; nan where there is none."""
    K = len(run.model.skeleton)
    if "support" not in run.batch.extra:
        return np.full((K, 2), np.nan)
    points = run.batch.extra["support"][n].cpu().numpy().astype(float).reshape(-1, K, 2)
    known = np.isfinite(points)
    total = np.where(known, points, 0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)


INSPECTOR = Inspector(
    "Step attention",
    "Where does each step look, in the image and in the support?",
    Params,
    compute,
    needs_truth=True,
    sequence=True,
)
