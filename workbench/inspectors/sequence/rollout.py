"""Teacher-forced passes, rollouts and PCK of a run: what all inspectors of sequence models share.

Tokens are (x, y) in 0..1 of the input, where 0 and 1 are the centres of the outermost pixels; nan where
unknown. Step t predicts keypoint t and reads the tokens before t.

PCK as in MP-100, in original pixels. Source: Pose-for-Everything and PoseAnything: strictly closer than .2
of the box's longer side; keypoints visible in the query and in the support count; mean over images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

# As in workbench.core.capabilities: before Python 3.12 the isinstance of typing evaluates properties.
from typing_extensions import Protocol, runtime_checkable

from workbench.core import Batch, DecodeOptions, NotAvailable, Outputs, PoseModel, Run, geometry
from workbench.core.capabilities import RollsOut
from workbench.core.inspector import Range
from workbench.core.pck import BOX_LENGTHS, BoxLength, box_lengths, distances, pck_by_image
from workbench.core.report import counted
from workbench.core.run import evaluating

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from workbench.core import Run


@runtime_checkable
class SequenceModel(PoseModel, RollsOut, Protocol):
    """A PoseModel that predicts keypoints one after the other (autoregressive).

    `forward(batch)` is teacher-forced: it reads ``batch.extra["given"]``, [N, K, 2], where `prepare` puts the
    true tokens. `rollout` is free-running. Data of a support example have names in ``batch.extra`` that begin
    with ``support``; its points are ``support``, [N, shots, K, 2].

    The lab reads the keypoints from `decode`, and these tokens of the outputs where present: ``coordinates``
    [N, K, 2], ``types`` [N, L, Y] (logits; names from NamesTokens), ``attention_image`` [N, L, h, w] and
    ``attention_support`` [N, L, K]. Further capabilities that it uses are NamesTokens, TakesSupport and
    LogsItself of workbench.core.capabilities.
    """


def sequence_model(run: Run) -> SequenceModel:
    """The model of a run, which can be rolled out.

    Raises:
        NotAvailable: it predicts all keypoints at once.
        ValueError: no keypoint is visible, so that no error can be measured.
    """
    model = run.model
    if not isinstance(model, RollsOut):
        raise NotAvailable("rollout: this model finds all keypoints at once; expected a sequence model")
    if not (run.truth[..., 2] > 0).any():
        raise ValueError("rollout: no keypoint is visible in these samples, so no error can be measured")
    return model


@contextmanager
def _evaluating(run: Run) -> Iterator[None]:
    """The model in evaluation mode, without gradients."""
    import torch

    with torch.no_grad(), evaluating(run.model.module):
        yield


def true_tokens(run: Run) -> Float[np.ndarray, "N K 2"]:
    """The ground truth as tokens; nan where not annotated."""
    truth = run.truth
    points = np.where(truth[..., 2:] > 0, truth[..., :2], np.nan)
    return tokens_of(run.batch, points)


def tokens_of(batch: Batch, points: Float[np.ndarray, "N K 2"]) -> Float[np.ndarray, "N K 2"]:
    """Points in image pixels as tokens."""
    maps = [geometry.inverse(affine) for affine in batch.to_image]
    return np.stack([geometry.apply(m, p) for m, p in zip(maps, points, strict=True)]) / _span(batch)


def image_points(batch: Batch, tokens: Float[np.ndarray, "N K 2"]) -> Float[np.ndarray, "N K 2"]:
    """Tokens as points in image pixels."""
    pairs = zip(batch.to_image, tokens * _span(batch), strict=True)
    return np.stack([geometry.apply(affine, p) for affine, p in pairs])


def true_coordinates(batch: Batch) -> Float[np.ndarray, "N K 2"]:
    """The true tokens that teacher forcing reads, of models whose tokens are coordinates.

    Raises:
        NotAvailable: they are something else, such as bins, which cannot be moved by part of a box.
    """
    given = batch.extra["given"]
    if given.ndim != 3 or given.shape[-1] != 2 or not given.is_floating_point():
        raise NotAvailable(
            f"coordinates: the true tokens (batch.extra['given']) are {given.dtype} of shape "
            f"{tuple(given.shape)}; expected (x, y) as floats, one pair per keypoint"
        )
    return given.cpu().numpy().astype(float)


def with_extra(batch: Batch, **extra: Any) -> Batch:
    """The batch with other entries of `extra`; arrays become tensors of the same type as the old entries."""
    import torch

    def like(name: str, value: Any) -> Any:
        old = batch.extra.get(name)
        made = torch.as_tensor(value)
        return made.to(old.dtype) if isinstance(old, torch.Tensor) else made.float()

    changed = {name: like(name, value) for name, value in extra.items()}
    return dataclasses.replace(batch, extra={**batch.extra, **changed})


def repeated(run: Run, times: int) -> Run:
    """The run with its batch repeated `times` times, to run many variants in one pass."""
    import torch

    batch = run.batch
    N = len(batch)
    extra = {
        name: torch.cat([value] * times) if isinstance(value, torch.Tensor) and value.shape[0] == N else value
        for name, value in batch.extra.items()
    }
    batch = Batch(
        torch.cat([batch.pixels] * times),
        np.concatenate([batch.to_image] * times),
        batch.samples * times,
        extra,
    )
    return dataclasses.replace(run, batch=batch, samples=run.samples * times)


def teacher_forced(run: Run, batch: Batch | None = None) -> Outputs:
    """Outputs of one teacher-forced pass over the run's batch, or another one."""
    with _evaluating(run):
        return sequence_model(run).forward(batch or run.batch).detach()


def free_running(run: Run, batch: Batch | None = None, given: int = 0) -> Outputs:
    """Outputs of one rollout in which the first `given` tokens are true."""
    with _evaluating(run):
        return sequence_model(run).rollout(batch or run.batch, given).detach()


def points_of(run: Run, outputs: Outputs) -> Float[np.ndarray, "N K 2"]:
    """Keypoints of outputs, (x, y) in image pixels."""
    found = run.model.decode(outputs, run.batch, DecodeOptions())
    return np.stack([p.keypoints for p in found])


def _span(batch: Batch) -> Float[np.ndarray, " 2"]:
    H, W = batch.pixels.shape[-2:]
    return np.array([W - 1, H - 1], float)


Normaliser = BoxLength
NORMALISERS = BOX_LENGTHS


@dataclass(frozen=True)
class PckRule:
    """Rule of PCK: when a keypoint counts as correct.

    Attributes:
        threshold: share of the normaliser; strictly closer is correct.
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
        """Distance to the ground truth, shares of the normaliser; nan: not counted, inf: no answer."""
        truth = np.array(run.truth, float)
        truth[~counted_keypoints(run), 2] = 0
        return distances(points, truth, self.sizes(run))

    def pck(self, errors: Float[np.ndarray, "N K"]) -> float:
        """Mean over samples of the share of counted keypoints that are correct; nan where none counts."""
        shares = pck_by_image(np.asarray(errors, float), self.threshold)
        known = shares[~np.isnan(shares)]
        return float(known.mean()) if len(known) else float("nan")


@dataclass(frozen=True)
class PckParams:
    """Parameters of an inspector that counts PCK.

    Attributes:
        threshold: PCK threshold, a share of the normaliser; .2 in MP-100.
        normaliser: what distances are divided by.
    """

    threshold: Annotated[float, Range(0.01, 0.5, 0.01)] = 0.2
    normaliser: Normaliser = "longer side"

    @property
    def rule(self) -> PckRule:
        """The rule of these parameters."""
        return PckRule(self.threshold, self.normaliser)


def explaining_rule(run: Run, points: Float[np.ndarray, "N K 2"], figure: float) -> PckRule | None:
    """The rule under which the PCK of these points equals a logged figure; None where no known rule does.

    Args:
        run: with ground truth.
        points: (x, y) in image pixels.
        figure: PCK from a log.
    """
    for normaliser in NORMALISERS:
        rule = PckRule(normaliser=normaliser)
        if abs(rule.pck(rule.errors(run, points)) - figure) < 1e-6:
            return rule
    return None


EXPOSURE_BIAS = 0.1
"""Difference of teacher-forced and free-running PCK above which a model has exposure bias."""

AMPLIFIED, GROWS = 0.9, 1.5
"""How far an answer moves over how far the tokens before it were moved: from the first on errors do not fade,
from the second on they grow, whatever PCK says of a model that finds little to begin with."""

NOT_LEARNED = 0.5
"""Teacher-forced PCK below which a model has not learned the keypoints."""

COPIES = 0.75
"""Share of the error of repeating the true token before, above which a model does hardly more than that: the
suite's trained models have at most .58 on what they learned, those of a few steps .86 and more."""

NOTHING_COUNTS = "no keypoint is visible in both the image and its support, so no PCK can be measured"


def counted_keypoints(run: Run) -> Bool[np.ndarray, "N K"]:
    """Keypoints visible in the query, and in the support where the model has one."""
    visible = run.truth[..., 2] > 0
    support = run.batch.extra.get("support_visible")
    return visible if support is None else visible & support.any(1).cpu().numpy()


def granularity(run: Run) -> str:
    """The possible values of PCK: ``k/9``; with more images, ``k/9 to k/17, mean of 4``."""
    counts = [int(c) for c in counted_keypoints(run).sum(1) if c]
    if not counts:
        return "no keypoint counts"
    low, high = min(counts), max(counts)
    steps = f"k/{low}" if low == high else f"k/{low} to k/{high}"
    return steps if len(counts) == 1 else f"{steps}, mean of {counted(len(counts), 'image')}"


# Relative change of every input number: a dozen times the last digit of a float32.
CHANGE = 1e-6
# Number of random changes; the largest movement is reported.
DRAWS = 4
# Movement, share of the box's longer side, above which an answer depends on rounding: ten thousand times the
# change. Correct models stay thousands of times below.
MATTERS = 0.01


def moved_by_rounding(
    run: Run, points: Float[np.ndarray, "N K 2"], given: int = 0
) -> Float[np.ndarray, "N K"]:
    """The largest movement of each free-running answer when the input changes by CHANGE.

    Args:
        run: of a sequence model.
        points: its free-running answers, image pixels.
        given: how many of the first tokens are true.

    Returns:
        Shares of the box's longer side; inf where an answer exists in one pass and not in the other.
    """
    import torch

    many = repeated(run, DRAWS)
    generator = torch.Generator().manual_seed(0)

    def changed(values: Tensor) -> Tensor:
        signs = (
            torch.randint(2, values.shape, generator=generator, dtype=torch.int8).to(values.device) * 2 - 1
        )
        return values * (1 + CHANGE * signs.to(values.dtype))

    extra = {
        name: changed(value)
        if name.startswith("support") and isinstance(value, torch.Tensor) and value.is_floating_point()
        else value
        for name, value in many.batch.extra.items()
    }
    batch = dataclasses.replace(many.batch, pixels=changed(many.batch.pixels), extra=extra)
    many = dataclasses.replace(many, batch=batch)
    again = points_of(many, free_running(many, given=given)).reshape(DRAWS, *points.shape)
    distance = np.linalg.norm(again - points, axis=-1) / PckRule().sizes(run)[:, None]
    missing, absent = np.isnan(again).any(-1), np.isnan(points).any(-1)
    distance = np.where(missing & absent, 0.0, np.where(missing ^ absent, np.inf, distance))
    return np.asarray(distance.max(0))
