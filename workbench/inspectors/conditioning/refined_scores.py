"""What does the refiner do to the scores of certain keypoints when a single keypoint is uncertain?

The raw vectors (or maps) of each image are edited before they enter the refiner: first every peak is raised
to 1, so that no keypoint is uncertain; then the peak of one keypoint is lowered below the refiner's
threshold. What changes for the other keypoints between the two is caused by the refiner. Its effect on the
unedited samples is shown beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core import NotAvailable, Skeleton
from workbench.core.capabilities import Conditioned
from workbench.core.conditioning import bypassed
from workbench.core.inspector import KEYPOINT, LEAST_CERTAIN, Inspector, Needs, keypoint_of
from workbench.core.report import Report, rows
from workbench.core.statistics import finite_medians
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS, keypoint_colours
from workbench.figures.bars import Bars, bars_figure
from workbench.inspectors.conditioning.passes import along, conditioning_of, median_found, moved, one_pass

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure
    from torch import Tensor

    from workbench.core import Run
    from workbench.core.conditioning import Refiner

# A score that the refiner changes by less than this share is unchanged.
UNTOUCHED = 0.05
# Peaks of 1 that leave below this carry no ranking: a softmax makes 1 / bins of them.
FLAT = 0.1


@dataclass(frozen=True)
class Params:
    """Controls.

    Attributes:
        keypoint: which one is made uncertain.
    """

    keypoint: Annotated[str, KEYPOINT] = LEAST_CERTAIN


@dataclass(frozen=True, eq=False)
class RefinedScores(Report):
    """Scores before and after the refiner.

    Attributes:
        skeleton: the keypoints.
        raw: scores before the refiner, of the samples as they are.
        refined: scores after the refiner.
        moved: how far the refiner moves each keypoint, shares of the box.
        threshold: a peak below it makes a keypoint uncertain.
        uncertain: 1 for the keypoints that are uncertain in the samples as they are, else 0.
        doubted: index of the keypoint that was made uncertain.
        all_sure: median score of the other keypoints with every peak at 1.
        one_doubted: the same with that keypoint below the threshold.
        at_inference: the predict pass uses the refiner.
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
        """Whether certain keypoints lose their score because another is uncertain, or in any case."""
        return self.one_doubted < (1 - UNTOUCHED) * self.all_sure or self.flattens_always

    @property
    def flattens_always(self) -> bool:
        """Whether scores of 1 fall to nearly nothing even when no keypoint is uncertain."""
        return self.all_sure < FLAT

    def summary(self) -> str:
        name = self.skeleton.keypoints[self.doubted]
        if self.flattens_always:
            text = f"The refiner flattens all scores: peaks of 1 leave it as {self.all_sure:.3g}"
        elif self.flattens:
            text = (
                f"One uncertain keypoint is enough to flatten all scores: with {name} below "
                f"{self.threshold:g} the scores of the others fall from {self.all_sure:.3g} to "
                f"{self.one_doubted:.3g}"
            )
        else:
            text = (
                f"The refiner leaves certain keypoints unchanged: with {name} below {self.threshold:g} the "
                f"others keep {self.one_doubted:.3g} of {self.all_sure:.3g}"
            )
        text += (
            f"; in these samples {100 * self.uncertain.mean():.0f} % of the keypoints are uncertain, and the "
            f"median score goes from {np.median(self.raw):.3g} to {np.median(self.refined):.3g}"
        )
        return text if self.at_inference else f"{text} (the predict pass does not use the refiner)"

    def plot(self) -> Figure:
        names = list(self.skeleton.keypoints)
        dots = len(self.raw) > 1
        inks = [FINDING_COLOUR if self.flattens else RUN_COLOURS[0]] * len(names)
        # Softmax makes scores some hundred times smaller: a logarithmic axis shows both.
        raw, refined = (np.where(s > 0, s, np.nan) for s in (self.raw, self.refined))
        both = np.concatenate([raw, refined])
        both = both[np.isfinite(both)]
        low, high = (np.log10(both.min()), np.log10(both.max())) if both.size else (-3, 0)
        if high - low < 1:  # a range below a decade may hold no labelled value
            low, high = np.floor(low), np.ceil(high)
        span = (float(low) - 0.15, float(high) + 0.15)
        columns = [
            Bars("raw score (log)", finite_medians(raw), list(keypoint_colours(self.skeleton)), log=True,
                 span=span, dots=raw if dots else None),
            Bars("score after the refiner (log)", finite_medians(refined), inks, log=True, span=span,
                 dots=refined if dots else None),
            Bars("moved by the refiner (% of the box)", 100 * median_found(self.moved), QUIET_COLOUR,
                 dots=100 * self.moved if dots else None),
        ]  # fmt: skip
        return bars_figure(self.summary(), names, columns)

    def table(self) -> list[dict[str, Any]]:
        return rows(
            keypoint=self.skeleton.keypoints,
            raw=np.median(self.raw, 0),
            refined=np.median(self.refined, 0),
            uncertain=self.uncertain.mean(0),
            moved=median_found(self.moved),
        )


def compute(run: Run, params: Params) -> RefinedScores:
    """Run six passes: training, inference, without refiner, with it, no keypoint uncertain, one uncertain.

    Raises:
        NotAvailable: the model declares no refiner.
    """
    record = conditioning_of(run.model, needed=False)
    refiner = record.refiner
    if refiner is None:
        raise NotAvailable("refiner: this model declares no refiner behind its head")
    model: Any = run.model
    taps = (*refiner.raw, *refiner.refined)
    forward = refiner.forward or (lambda batch: model.predict_pass(batch).outputs)
    k = keypoint_of(run, 0, params.keypoint)
    peaks = np.ones(len(model.skeleton))
    raw = along(run, forward, refiner.raw, bypassed(refiner.raw, refiner.refined))
    refined = along(run, forward, taps)
    certain = along(run, forward, replace=_lifted(refiner.raw, peaks))
    peaks[k] = refiner.threshold / 2
    doubted = along(run, forward, replace=_lifted(refiner.raw, peaks))
    others = np.arange(len(peaks)) != k
    lower = np.min([raw.activation(tap).flatten(2).amax(-1).numpy() for tap in refiner.raw], axis=0)
    return RefinedScores(
        skeleton=model.skeleton,
        raw=raw.scores,
        refined=refined.scores,
        moved=moved(raw, refined),
        threshold=refiner.threshold,
        uncertain=(lower < refiner.threshold).astype(float),
        doubted=k,
        all_sure=float(np.median(certain.scores[:, others])),
        one_doubted=float(np.median(doubted.scores[:, others])),
        at_inference=refiner.layers in one_pass(run, "predict", (refiner.layers,)).parts,
        touched=(_touched(one_pass(run, "training", taps).run, refiner), _touched(refined, refiner)),
    )


def _touched(run: Run, refiner: Refiner) -> float:
    """Share of keypoints whose vectors leave the refiner changed; 0 where the pass does not reach it."""
    if not all(tap in run.activations for tap in (*refiner.raw, *refiner.refined)):
        return 0.0
    changed = [
        (run.activation(a) != run.activation(b)).flatten(2).any(-1)
        for a, b in zip(refiner.raw, refiner.refined, strict=True)
    ]
    found = changed[0]
    for more in changed[1:]:
        found = found | more
    return float(found.float().mean())


def _lifted(taps: tuple[str, ...], peaks: Float[np.ndarray, " K"]) -> dict[str, Callable[[Tensor], Tensor]]:
    """Edits that shift raw vectors until every peak has the height asked for; their shape stays."""

    def lift(vectors: Tensor) -> Tensor:
        import torch

        wanted = torch.as_tensor(peaks.copy(), dtype=vectors.dtype, device=vectors.device)
        shape = (1, -1, *[1] * (vectors.ndim - 2))
        highest = vectors.flatten(2).amax(-1).reshape(*vectors.shape[:2], *shape[2:])
        return vectors - highest + wanted.reshape(shape)

    return dict.fromkeys(taps, lift)


INSPECTOR = Inspector("Refiner", Params, compute, needs=Needs(capability=Conditioned), order=40)
