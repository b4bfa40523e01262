"""What does the refiner do to the scores of keypoints that were sure, when a single one is not?

The raw vectors of each image are edited on their way into the refiner: first every peak is raised to 1, so
that no keypoint is uncertain; then one keypoint's is lowered below the refiner's threshold. Whatever happens
to the others between the two is the refiner's doing. What the samples themselves look like stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core import NotAvailable, Skeleton
from workbench.core.capabilities import Conditioned, TakesText
from workbench.core.inspector import KEYPOINT, LEAST_CERTAIN, Inspector, keypoint_of
from workbench.core.needs import Needs
from workbench.core.report import Report, rows
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS, keypoint_colours
from workbench.figures.bars import Bars, bars_figure
from workbench.inspectors.conditioning.passes import conditioned, moved, passed, refiner_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure
    from torch import Tensor

    from workbench.core import Run

# A score that the refiner leaves within this share of what it was is untouched.
UNTOUCHED = 0.05
# Peaks of 1 that leave below this rank nothing: 1 / bins is what a softmax makes of them.
FLAT = 0.1


VECTORS = ("raw.x", "raw.y", "refined.x", "refined.y")


@dataclass(frozen=True)
class Params:
    """Knobs.

    Attributes:
        keypoint: the one that is made uncertain.
    """

    keypoint: Annotated[str, KEYPOINT] = LEAST_CERTAIN


@dataclass(frozen=True, eq=False)
class RefinedScores(Report):
    """Scores before and after the refiner.

    Attributes:
        skeleton: the keypoints.
        raw: scores that enter, of the samples as they are.
        refined: scores that leave.
        moved: how far the refiner moves each keypoint, shares of the box.
        threshold: below it a keypoint is uncertain.
        uncertain: who is, of the samples as they are.
        doubted: index of the keypoint that was made uncertain.
        all_sure: median score of the others with every peak at 1.
        one_doubted: the same with that keypoint below the threshold.
        at_inference: the way of inference goes through the refiner.
        touched: share of keypoints whose vectors the refiner changes, (in training, at inference).
    """

    skeleton: Skeleton
    raw: Float[np.ndarray, "N K"]
    refined: Float[np.ndarray, "N K"]
    moved: Float[np.ndarray, "N K"]
    threshold: float
    uncertain: Float[np.ndarray, "N K"]
    doubted: int
    all_sure: float
    one_doubted: float
    at_inference: bool
    touched: tuple[float, float]

    @property
    def flattens(self) -> bool:
        """Keypoints that were sure lose their score because another is not, or in any case."""
        return self.one_doubted < (1 - UNTOUCHED) * self.all_sure or self.flattens_always

    @property
    def flattens_always(self) -> bool:
        """Scores of 1 are brought down to nearly nothing even when no keypoint is uncertain."""
        return self.all_sure < FLAT

    def summary(self) -> str:
        name = self.skeleton.keypoints[self.doubted]
        if self.flattens_always:
            text = f"Whoever is uncertain: scores of 1 leave the refiner as {self.all_sure:.3g}"
        elif self.flattens:
            text = (
                f"One uncertain keypoint is enough: with {name} below {self.threshold:g} the scores of the "
                f"others fall from {self.all_sure:.3g} to {self.one_doubted:.3g}"
            )
        else:
            text = (
                f"The refiner leaves sure keypoints alone: with {name} below {self.threshold:g} the "
                f"others keep {self.one_doubted:.3g} of {self.all_sure:.3g}"
            )
        text += (
            f"; as the samples are, {100 * self.uncertain.mean():.0f} % of keypoints are uncertain, the "
            f"median score goes from {np.median(self.raw):.3g} to {np.median(self.refined):.3g}"
        )
        return text if self.at_inference else f"{text} (inference leaves the refiner out)"

    def plot(self) -> Figure:
        names = list(self.skeleton.keypoints)
        dots = len(self.raw) > 1
        inks = [FINDING_COLOUR if self.flattens else RUN_COLOURS[0]] * len(names)
        # Softmax makes scores some hundred times smaller: on one logarithmic axis both are seen.
        raw, refined = (np.where(s > 0, s, np.nan) for s in (self.raw, self.refined))
        held = np.concatenate([raw, refined])
        held = held[np.isfinite(held)]
        low, high = (np.log10(held.min()), np.log10(held.max())) if held.size else (-3, 0)
        span = (float(low) - 0.15, float(high) + 0.15)
        columns = [
            Bars("raw score (log)", _median(raw), list(keypoint_colours(self.skeleton)), log=True, span=span,
                 dots=raw if dots else None),
            Bars("score behind the refiner (log)", _median(refined), inks, log=True, span=span,
                 dots=refined if dots else None),
            Bars("moved by the refiner (% of the box)", 100 * np.median(self.moved, 0), QUIET_COLOUR,
                 dots=100 * self.moved if dots else None),
        ]  # fmt: skip
        return bars_figure(self.summary(), names, columns)

    def table(self) -> list[dict[str, Any]]:
        return rows(
            keypoint=self.skeleton.keypoints,
            raw=np.median(self.raw, 0),
            refined=np.median(self.refined, 0),
            uncertain=self.uncertain.mean(0),
            moved=np.median(self.moved, 0),
        )


def _median(scores: Float[np.ndarray, "N K"]) -> Float[np.ndarray, " K"]:
    """Of each keypoint's positive scores; nan where it has none."""
    return np.array([np.median(s[np.isfinite(s)]) if np.isfinite(s).any() else np.nan for s in scores.T])


def compute(run: Run, params: Params) -> RefinedScores:
    """Five passes: raw, refined as in training and as at inference, nobody uncertain, one keypoint uncertain.

    Raises:
        NotAvailable: the model has no refiner.
    """
    from workbench.models.text_fusion import Path

    model = conditioned(run.model)
    refiner = refiner_of(model)
    if refiner is None:
        raise NotAvailable("refiner: this model gives its vectors to none")
    fuse = model.inference.fuse
    behind = Path(fuse=fuse, refine="inference")
    k = _chosen(run, params.keypoint)
    threshold = float(refiner.confidence_threshold)
    peaks = np.ones(len(model.skeleton))
    raw = passed(run, Path(fuse=fuse), VECTORS)
    refined = passed(run, behind, VECTORS)
    taught = passed(run, model.training, VECTORS) if model.training.refine else raw
    nobody = passed(run, behind, replace=_lifted(peaks))
    peaks[k] = threshold / 2
    one = passed(run, behind, replace=_lifted(peaks))
    others = np.arange(len(peaks)) != k
    lower = np.minimum(*(raw.activation(f"raw.{axis}").amax(-1).numpy() for axis in "xy"))
    return RefinedScores(
        skeleton=model.skeleton,
        raw=raw.scores,
        refined=refined.scores,
        moved=moved(raw, refined),
        threshold=threshold,
        uncertain=(lower < threshold).astype(float),
        doubted=k,
        all_sure=float(np.median(nobody.scores[:, others])),
        one_doubted=float(np.median(one.scores[:, others])),
        at_inference=bool(model.inference.refine),
        touched=(_touched(taught), _touched(refined)),
    )


def _touched(run: Run) -> float:
    """Share of keypoints whose vectors leave the head otherwise than they entered the refiner."""
    changed = [(run.activation(f"raw.{axis}") != run.activation(f"refined.{axis}")).any(-1) for axis in "xy"]
    return float((changed[0] | changed[1]).float().mean())


def _chosen(run: Run, keypoint: str) -> int:
    """The keypoint that is doubted: the first sample's least certain, or the one named."""
    return keypoint_of(run, 0, keypoint)


def _lifted(peaks: Float[np.ndarray, " K"]) -> dict[str, Callable[[Tensor], Tensor]]:
    """Raw vectors moved up or down until every peak has the height asked for; their shape stays."""

    def lift(vectors: Tensor) -> Tensor:
        import torch

        wanted = torch.as_tensor(peaks, dtype=vectors.dtype, device=vectors.device)
        return vectors - vectors.amax(-1, keepdim=True) + wanted[None, :, None]

    return {"raw.x": lift, "raw.y": lift}


INSPECTOR = Inspector(
    "Refiner",
    "What does the refiner do to the scores of keypoints that were sure, when a single one is not?",
    Params,
    compute,
    needs=Needs(capability=(Conditioned, TakesText)),
    order=40,
)
