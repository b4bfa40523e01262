"""Checks of sequence models: growth of their own errors, use of the support, and their own training log.

Error growth: in use the model reads its own predictions, each with a small error. A model trained on the
ground truth alone has not learned to correct it: the prediction after an inaccurate token is less accurate
still, and a long sequence, another image or one missed keypoint is enough to lose the rest. An overfitted
image hides that, because its predictions lie on the ground truth; so it is measured with noise.

Leak: a step of teacher forcing may read the tokens before it and no other. Where it reads its own true token,
or later ones, the loss falls without anything learned, and in use these tokens do not exist. So the tokens
from one step on are moved, and the answers up to that step compared: none may move.

Support: one image can be memorised without it: the loss falls, PCK is 1, and the model is of no use on any
other. So the support's points are moved and the predictions compared.

Log: a model with LogsItself gives what its training code would have written. The same quantities are computed
here, and rows where the two differ are reported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Batch, DecodeOptions, Outputs, PoseModel, Prediction, Sample
from workbench.core.capabilities import LogsItself, RollsOut
from workbench.core.pck import BoxLength
from workbench.training import measures
from workbench.training.measures import evaluated
from workbench.training.sequences import TaughtSequence

if TYPE_CHECKING:
    from jaxtyping import Float

# Share of the input: a few pixels, an error that PCK still counts as right.
NOISE = 0.02

# Above 1 an error grows. The noise is drawn a few times only, so the figure is accurate to about 10 %.
GROWS = 1.2

DRAWS = 8


def error_gain(model: Any, batch: Batch) -> float:
    """Mean displacement of predictions, relative to that of the tokens read before them.

    Args:
        model: a TaughtSequence.
        batch: with the ground-truth tokens in ``extra["given"]``, [N, K, 2].

    Returns:
        nan for any other model, or where nothing is read before a prediction.
    """
    import torch

    given = batch.extra.get("given")
    if given is None or not isinstance(model, TaughtSequence):
        return float("nan")
    inner = model.model
    random = torch.Generator().manual_seed(0)
    answers = evaluated(inner, batch).tokens.get("coordinates")
    if answers is None:
        return float("nan")
    moved, noises = [], []
    for _ in range(DRAWS):
        noise = NOISE * torch.randn(given.shape, generator=random).to(given.device)
        noisy = dataclasses.replace(batch, extra={**batch.extra, "given": given + noise})
        off = (evaluated(inner, noisy).tokens["coordinates"] - answers).norm(dim=-1).cpu().numpy()
        # A keypoint that is not annotated is neither read nor compared.
        known = given.isfinite().all(-1).cpu().numpy()
        moved.append(off[:, 1:][known[:, 1:]])
        noises.append(noise.norm(dim=-1).cpu().numpy()[:, :-1][known[:, :-1]])
    far, by = np.concatenate(moved), np.concatenate(noises)
    return float(far.mean() / by.mean()) if len(far) and len(by) else float("nan")


def growth_text(gain: float) -> str:
    """The growth as a sentence; "" where errors do not grow.

    Args:
        gain: of `error_gain`.
    """
    if not gain > GROWS:
        return ""
    return (
        f"errors grow: tokens displaced by {NOISE:.0%} of the input displace the predictions after them "
        f"{gain:.1f} times as far"
    )


# Steps from which on true tokens are moved; and the movement of an answer, over that of the tokens that it
# must not read, from which on it reads them. Both passes have one shape: what is not read moves nothing.
LOOKS, LEAKS = 8, 1e-3
LEAK_NAME = "answers leak into teacher forcing"


def answer_leak(answers: Callable[[Batch], Float[np.ndarray, "N K 2"]], batch: Batch) -> float:
    """How far a teacher-forced answer moves over how far the tokens of its own and later steps were moved.

    Args:
        answers: of one teacher-forced pass in evaluation mode, as tokens.
        batch: with the ground-truth tokens in ``extra["given"]``, [N, K, 2].

    Returns:
        The largest of all steps, a mean over samples; 0 where no answer reads what it has to predict, nan
        where nothing can be moved.
    """
    import torch

    given = batch.extra["given"]
    known = given.isfinite().all(-1).cpu().numpy()
    plain, K = answers(batch), given.shape[1]
    noise = NOISE * torch.randn(given.shape, generator=torch.Generator().manual_seed(0)).to(given)
    far = noise.norm(dim=-1).cpu().numpy()
    found = []
    for step in np.unique(np.linspace(0, K - 1, min(K, LOOKS)).round().astype(int)):
        rows = np.flatnonzero(known[:, step])
        moved = given.clone()
        moved[:, step:] += noise[:, step:]
        off = answers(dataclasses.replace(batch, extra={**batch.extra, "given": moved})) - plain
        off = np.linalg.norm(off, axis=-1)[rows, : step + 1]
        if len(rows) and np.isfinite(off).any():
            found.append(np.nan_to_num(off).mean(0).max() / far[rows, step].mean())
    return float(max(found)) if found else float("nan")


def answer_order(answers: Callable[[Batch], Float[np.ndarray, "N K 2"]], batch: Batch) -> list[int] | None:
    """The place of each step's answer, by the true tokens that it reads; one pass per step.

    Answers that were rolled or exchanged behind the network read tokens that a leak would read as well. They
    differ in this: put in another order, each of them reads exactly the tokens before its step.

    Args:
        answers: of one teacher-forced pass in evaluation mode, as tokens.
        batch: with the ground-truth tokens in ``extra["given"]``, [N, K, 2].

    Returns:
        Place k is that of the answer of step k; None where no order does this, or theirs does.
    """
    import torch

    given = batch.extra["given"]
    known = given.isfinite().all(-1).cpu().numpy()
    plain, K = answers(batch), given.shape[1]
    noise = NOISE * torch.randn(given.shape, generator=torch.Generator().manual_seed(0)).to(given)
    far = noise.norm(dim=-1).cpu().numpy()
    last = np.full(K, -1)
    seen = np.flatnonzero(known.any(0))
    for token in seen:
        rows = np.flatnonzero(known[:, token])
        moved = given.clone()
        moved[:, token] += noise[:, token]
        off = answers(dataclasses.replace(batch, extra={**batch.extra, "given": moved})) - plain
        off = np.nan_to_num(np.linalg.norm(off, axis=-1)[rows]).mean(0)
        last[off >= LEAKS * far[rows, token].mean()] = token
    order = np.argsort(last, kind="stable")
    wanted = [max((t for t in seen if t < step), default=-1) for step in range(K)]
    is_own = np.array_equal(order, np.arange(K))
    return None if is_own or list(last[order]) != wanted else [int(place) for place in order]


def leak_text(leak: float) -> str:
    """The leak as a sentence; "" where no answer reads what it has to predict.

    Args:
        leak: of `answer_leak`.
    """
    if not leak >= LEAKS:
        return ""
    return (
        "teacher forcing gives the answer away: with the true tokens of its own and later steps displaced, "
        f"an answer moves {leak:.2g} times as far, and in use these tokens do not exist"
    )


def leak_of(model: Any, batch: Batch) -> float:
    """`answer_leak` of a sequence model that is trained; nan for any other model.

    Args:
        model: a TaughtSequence, or a sequence model with an objective of its own.
        batch: of its samples.
    """
    inner: PoseModel = model.model if isinstance(model, TaughtSequence) else model
    if batch.extra.get("given") is None or not isinstance(inner, RollsOut):
        return float("nan")
    if "coordinates" not in evaluated(inner, batch).tokens:
        return float("nan")

    def answers(changed: Batch) -> Float[np.ndarray, "N K 2"]:
        return evaluated(inner, changed).tokens["coordinates"].cpu().numpy()

    return answer_leak(answers, batch)


# float32 sums in another order move predictions by about 1e-6 of the box.
NOTHING = 1e-5


def support_moves(model: Any, batch: Batch) -> float:
    """Largest displacement of a prediction by another support, as a share of the box's longer side.

    Args:
        model: its view for training, free-running in evaluation mode.
        batch: with the support's points in ``extra["support"]``, (x, y) in 0..1.

    Returns:
        nan where the batch has no support.
    """
    support = batch.extra.get("support")
    if support is None:
        return float("nan")
    # Mirrored in both axes: every point moves but one in the very centre, and none leaves the crop.
    other = dataclasses.replace(batch, extra={**batch.extra, "support": 1 - support})
    one, two = (model.decode(evaluated(model, b), b, DecodeOptions()) for b in (batch, other))
    far = [0.0]
    for a, b, sample in zip(one, two, batch.samples, strict=True):
        x0, y0, x1, y1 = sample.box
        moved = np.linalg.norm(a.keypoints - b.keypoints, axis=1) / max(x1 - x0, y1 - y0)
        far += [float(v) for v in moved if np.isfinite(v)]
    return max(far)


def is_unread(model: Any, batch: Batch) -> bool:
    """Whether there is a support and no prediction depends on it.

    Args:
        model: its view for training.
        batch: of its samples.
    """
    return support_moves(model, batch) < NOTHING


# MP-100's threshold, which such logs use: a fifth of the box's longer side. Some code uses another length; a
# log that is right for one of them at every step is right.
THRESHOLD = 0.2
OTHER_LENGTHS: tuple[BoxLength, ...] = ("diagonal", "root of area")

# Rounding and the order of a mean; a factor of five and another coordinate frame are far above.
SLACK = 1e-3


@dataclass(frozen=True)
class Complaint:
    """Log and measurement where they differ most.

    Attributes:
        column: of the log.
        step: of the row.
        logged: value of the log.
        measured: the right value.
    """

    column: str
    step: int
    logged: float
    measured: float

    def text(self) -> str:
        """The difference as a sentence."""
        return (
            f"its own log says {self.column} {self.logged:.3g} at step {self.step}, "
            f"where {self.measured:.3g} was measured"
        )


def own_log(
    model: Any, outputs: Outputs, predictions: Sequence[Prediction], batch: Batch
) -> dict[str, float]:
    """``logged/NAME`` and ``measured/NAME`` for the columns of a sequence model's own log.

    Args:
        model: with LogsItself; {} for any other.
        outputs: free-running, detached.
        predictions: decoded from them.
        batch: with the ground-truth tokens in ``extra["given"]``.
    """
    if not isinstance(model, LogsItself):
        return {}
    error = (outputs.tokens["coordinates"] - batch.extra["given"].cpu()).abs()
    right = {"loss_coordinates": error.nanmean().item(), "pck": _pck(predictions, batch)}
    logged = {name: float(value) for name, value in model.logged(outputs, batch).items() if name in right}
    found = {f"logged/{name}": value for name, value in logged.items()}
    found |= {f"measured/{name}": right[name] for name in logged}
    if "pck" in logged:
        found |= {f"measured/pck/{length}": _pck(predictions, batch, length) for length in OTHER_LENGTHS}
    return found


def _pck(predictions: Sequence[Prediction], batch: Batch, length: BoxLength = "longer side") -> float:
    """Mean over images of the share of right keypoints, relative to one length of the box."""
    each = zip(predictions, _evaluated_samples(batch), strict=True)
    return float(np.mean([measures.pck([p], [s], THRESHOLD, length) for p, s in each]))


def _evaluated_samples(batch: Batch) -> Sequence[Sample]:
    """The samples; as in MP-100, keypoints that the support does not show do not count."""
    shown = batch.extra.get("support_visible")
    if shown is None:
        return batch.samples
    truths = [np.array(sample.truth, float) for sample in batch.samples]
    for truth, counted in zip(truths, shown.any(1).cpu().numpy(), strict=True):
        truth[~counted, 2] = 0
    return [dataclasses.replace(s, truth=t) for s, t in zip(batch.samples, truths, strict=True)]


def complaints(rows: Sequence[dict[str, Any]]) -> list[Complaint]:
    """For each column of the log that is wrong somewhere, the row where it differs most.

    Args:
        rows: of the session; those without columns of a log are skipped.
    """
    found: dict[str, Complaint] = {}
    explained = any(_explains(rows, length) for length in OTHER_LENGTHS)
    for row in rows:
        for key, logged in row.items():
            kind, _, column = key.partition("/")
            if kind != "logged" or logged is None or (column == "pck" and explained):
                continue
            one = Complaint(column, row["step"], logged, row[f"measured/{column}"])
            off = abs(one.logged - one.measured)
            if not _agree(one.logged, one.measured) and off > _off(found.get(column)):
                found[column] = one
    return list(found.values())


def _explains(rows: Sequence[dict[str, Any]], length: str) -> bool:
    """Whether a log's PCK is right for this length of the box in every row that has it."""
    logged = [row for row in rows if row.get("logged/pck") is not None]
    return bool(logged) and all(
        _agree(row["logged/pck"], row.get(f"measured/pck/{length}", np.nan)) for row in logged
    )


def _agree(logged: float, measured: float) -> bool:
    return abs(logged - measured) <= SLACK * max(1.0, abs(measured))


def _off(complaint: Complaint | None) -> float:
    return abs(complaint.logged - complaint.measured) if complaint else 0.0
