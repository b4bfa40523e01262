"""What does the rollout lab ask of a model? A forward pass with given tokens, and a rollout.

Tokens are (x, y) in 0..1 of the input, where 0 and 1 are the centres of the outermost pixels; nan where
nothing is known. Step t finds keypoint t and reads the tokens before t.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import Protocol, runtime_checkable

from workbench.core import Batch, DecodeOptions, NotAvailable, Outputs, PoseModel, Run, geometry
from workbench.core.capabilities import RollsOut
from workbench.core.pck import BOX_LENGTHS, BoxLength, box_lengths, distances, pck_by_image
from workbench.core.run import evaluating

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from workbench.core import Run


@runtime_checkable
class SequenceModel(PoseModel, RollsOut, Protocol):
    """A PoseModel that finds keypoints one after the other.

    `forward(batch)` is teacher-forced: it reads ``batch.extra["given"]``, [N, K, 2]; `prepare` puts the true
    tokens there. What a support example tells stands in ``batch.extra`` under names that begin with
    ``support``; the points themselves under ``support``, [N, shots, K, 2].

    `rollout(batch, forced)` is free-running after the first `forced` tokens, which are read from
    ``batch.extra["given"]``. Of its outputs the lab reads what `decode` makes of them and, if present,
    the tokens ``coordinates`` [N, K, 2], ``types`` [N, L, Y] (logits), ``attention_image`` [N, L, h, w] and
    ``attention_support`` [N, L, K]. Of its capabilities it uses NamesTokens, TakesSupport and LogsItself.
    """


def sequence(run: Run) -> Any:
    """The run's model, which can be rolled out.

    Raises:
        NotAvailable: it cannot.
        ValueError: there is no visible keypoint to compare with.
    """
    if not isinstance(run.model, RollsOut):
        raise NotAvailable("rollout: this model finds all keypoints at once; expected a sequence model")
    if not (run.truth[..., 2] > 0).any():
        raise ValueError("rollout: no keypoint is visible in these samples, so no error can be measured")
    return run.model


@contextmanager
def at_rest(run: Run) -> Iterator[None]:
    """The model in evaluation mode, without gradients."""
    import torch

    with torch.no_grad(), evaluating(run.model.module):
        yield


def true_tokens(run: Run) -> Float[np.ndarray, "N K 2"]:
    """The truth as tokens; nan where nothing is annotated."""
    truth = run.truth
    points = np.where(truth[..., 2:] > 0, truth[..., :2], np.nan)
    return tokens_of(run.batch, points)


def tokens_of(batch: Batch, points: Float[np.ndarray, "N K 2"]) -> Float[np.ndarray, "N K 2"]:
    """Image pixels as tokens."""
    maps = [geometry.inverse(affine) for affine in batch.to_image]
    return np.stack([geometry.apply(m, p) for m, p in zip(maps, points, strict=True)]) / _span(batch)


def places_of(batch: Batch, tokens: Float[np.ndarray, "N K 2"]) -> Float[np.ndarray, "N K 2"]:
    """Tokens as image pixels."""
    pairs = zip(batch.to_image, tokens * _span(batch), strict=True)
    return np.stack([geometry.apply(affine, p) for affine, p in pairs])


def with_extra(batch: Batch, **extra: Any) -> Batch:
    """The batch with other given tokens or another support; arrays become tensors like those replaced."""
    import torch

    def like(name: str, value: Any) -> Any:
        old = batch.extra.get(name)
        made = torch.as_tensor(value)
        return made.to(old.dtype) if isinstance(old, torch.Tensor) else made.float()

    changed = {name: like(name, value) for name, value in extra.items()}
    return dataclasses.replace(batch, extra={**batch.extra, **changed})


def repeated(run: Run, times: int) -> Run:
    """The run with its batch repeated, the whole batch after itself: many questions, one pass."""
    import torch

    batch = run.batch
    N = len(batch)
    extra = {
        name: torch.cat([value] * times) if hasattr(value, "shape") and value.shape[0] == N else value
        for name, value in batch.extra.items()
    }
    batch = Batch(
        torch.cat([batch.pixels] * times),
        np.concatenate([batch.to_image] * times),
        batch.samples * times,
        extra,
    )
    return dataclasses.replace(run, batch=batch, samples=run.samples * times)


def forced(run: Run, batch: Batch | None = None) -> Outputs:
    """One teacher-forced pass."""
    with at_rest(run):
        return sequence(run).forward(batch or run.batch).detach()


def free(run: Run, batch: Batch | None = None, given: int = 0) -> Outputs:
    """One rollout that is given the first tokens."""
    with at_rest(run):
        return sequence(run).rollout(batch or run.batch, given).detach()


def points_of(run: Run, outputs: Outputs) -> Float[np.ndarray, "N K 2"]:
    """Keypoints of outputs in image pixels."""
    found = run.model.decode(outputs, run.batch, DecodeOptions())
    return np.stack([p.keypoints for p in found])


def _span(batch: Batch) -> Float[np.ndarray, " 2"]:
    H, W = batch.pixels.shape[-2:]
    return np.array([W - 1, H - 1], float)


# Which keypoints are right? PCK as MP-100 has it, in original pixels, its rule always shown.


Normaliser = BoxLength
NORMALISERS = BOX_LENGTHS


@dataclass(frozen=True)
class PckRule:
    """When is a keypoint right?

    Attributes:
        threshold: share of the normaliser; strictly closer is right.
        normaliser: the box's longer side (MP-100), its diagonal (some CAPE code), or the root of its area.
    """

    threshold: float = 0.2
    normaliser: Normaliser = "longer side"

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise ValueError(f"PCK: expected a threshold above 0, got {self.threshold}")
        if self.normaliser not in NORMALISERS:
            raise ValueError(f"PCK: expected longer side, diagonal or root of area, got {self.normaliser!r}")

    def text(self) -> str:
        """The rule in words."""
        return f"PCK@{self.threshold:g} of the box's {self.normaliser}, original pixels"

    def sizes(self, run: Run) -> Float[np.ndarray, " N"]:
        """The normaliser of every sample, image pixels."""
        return box_lengths([sample.box for sample in run.samples], self.normaliser)

    def errors(self, run: Run, points: Float[np.ndarray, "N K 2"]) -> Float[np.ndarray, "N K"]:
        """Distance to the truth in shares of the normaliser; nan where not counted, inf where no answer."""
        truth = np.array(run.truth, float)
        truth[~counted(run), 2] = 0
        return distances(points, truth, self.sizes(run))

    def pck(self, errors: Float[np.ndarray, "N K"]) -> float:
        """Mean over samples of the share of counted keypoints that are right; nan where none counts."""
        shares = pck_by_image(np.asarray(errors, float), self.threshold)
        known = shares[~np.isnan(shares)]
        return float(known.mean()) if len(known) else float("nan")


def explaining_rule(run: Run, points: Float[np.ndarray, "N K 2"], figure: float) -> PckRule | None:
    """The rule by which a figure is the PCK of these points; None where no known one gives it.

    Args:
        run: with truth.
        points: in image pixels.
        figure: what a log says.
    """
    for normaliser in NORMALISERS:
        rule = PckRule(normaliser=normaliser)
        if abs(rule.pck(rule.errors(run, points)) - figure) < 1e-6:
            return rule
    return None


NOTHING_COUNTS = "no keypoint is visible in both the image and its support, so no PCK can be measured"


def counted(run: Run) -> Bool[np.ndarray, "N K"]:
    """Keypoints visible in the query, and in the support where the model has one."""
    visible = run.truth[..., 2] > 0
    support = run.batch.extra.get("support_visible")
    return visible if support is None else visible & support.any(1).cpu().numpy()


def granularity(run: Run) -> str:
    """Which values PCK can take at all: ``k/9``; with more images, ``k/9 to k/17, mean of 4``."""
    counts = [int(c) for c in counted(run).sum(1) if c]
    if not counts:
        return "nothing counts"
    low, high = min(counts), max(counts)
    steps = f"k/{low}" if low == high else f"k/{low} to k/{high}"
    return steps if len(counts) == 1 else f"{steps}, mean of {len(counts)} images"
