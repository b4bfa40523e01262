"""Where the predictions of a trained network lie, if not at the keypoints that it was to learn.

A network that fits a wrong target puts its predictions at other places with a rule: all of them shifted,
scaled, mirrored, with x and y exchanged, or each at another keypoint. Nothing is trained to see it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Batch, DecodeOptions, Outputs, PoseModel
from workbench.core.capabilities import Groups, HasObjective
from workbench.core.geometry import apply, inverse
from workbench.core.report import counted, pair_text
from workbench.training.checks import NEAR, SHIFTED
from workbench.training.measures import evaluated, finite
from workbench.training.plan import Plan, PlannedModel
from workbench.training.trainer import batch_target
from workbench.training.verdict import Evidence, Expectation

if TYPE_CHECKING:
    from torch import Tensor

# A line along each axis has four unknowns, and fits three points or four by chance.
FEWEST = 6
# Spread of a shift that PCK allows, as a share of it, so that no scatter counts as a shift.
STEADY = 0.5
# A shift or a line has to leave at most this share of the distances.
CLOSER = 0.5
# The factor of a line along an axis that counts as 1, or as -1.
SAME = 0.1
# Predictions in one place are no line: a line through them would have any factor.
SPREAD = 0.1
# Values that differ by less than this share of the largest count as equal.
EQUAL = 1e-5

ELSEWHERE, EMPTY = "predictions follow another target", "output without position"


@dataclass(frozen=True)
class Placed:
    """Predictions for one sample, and where they should be.

    Attributes:
        read: [K, 2] predictions, input pixels; nan where none.
        truth: [K, 2] where they should be, input pixels; nan where not labelled.
        side: longer side of the box, input pixels.
        cell: input pixels between two cells of the output; 0 where it has none, then no shift is told that
            the verdict allows.
        mirror: index of each keypoint's partner; () where none is known.
        names: of the keypoints.
    """

    read: np.ndarray
    truth: np.ndarray
    side: float
    cell: float = 0.0
    mirror: Sequence[int] = ()
    names: Sequence[str] = ()

    @property
    def known(self) -> np.ndarray:
        """Indices of the keypoints that are labelled and predicted."""
        return np.flatnonzero(np.isfinite(self.read).all(1) & np.isfinite(self.truth).all(1))

    def near(self, places: np.ndarray) -> np.ndarray:
        """Which of some places, [n, 2] for `known`, count as right."""
        return np.linalg.norm(places - self.truth[self.known], axis=1) < NEAR * self.side

    def explains(self, places: np.ndarray) -> bool:
        """Whether so many of some places, [n, 2] for `known`, are right that the image counts as learned."""
        labelled = int(np.isfinite(self.truth).all(1).sum())
        return int(self.near(places).sum()) >= Expectation().pck * labelled


def placement_text(placed: Placed) -> str:
    """By which rule predictions lie elsewhere than they should; "" where they are right or follow no rule."""
    known = placed.known
    if len(known) < FEWEST:
        return ""
    p, t = placed.read[known], placed.truth[known]
    if placed.explains(p):
        return _small_shift(p - t, placed.cell)
    middle = np.median(p - t, 0)
    if _closer(p - middle, p, t) and placed.explains(p - middle):
        return _shift_text(middle, placed.cell)
    return _order_text(placed) or _exchange_text(placed)


def _closer(fitted: np.ndarray, read: np.ndarray, truth: np.ndarray) -> bool:
    """Whether a rule is most of the distances: it may bring the one keypoint that training still lacks."""
    return bool(np.linalg.norm(fitted - truth) <= CLOSER * np.linalg.norm(read - truth))


def _small_shift(off: np.ndarray, cell: float) -> str:
    mean, scatter = off.mean(0), off.std(0)
    along = (np.abs(mean) > max(SHIFTED * cell, 0.5)) & (scatter < STEADY * np.abs(mean))
    return _shift_text(np.where(along, mean, 0.0), cell) if cell and along.any() else ""


def _shift_text(by: np.ndarray, cell: float) -> str:
    cells = f", where a cell is {cell:.2g}" if cell else ""
    return (
        f"the predictions lie {pair_text(*by)} input pixels (x, y) from where they should, all "
        f"alike{cells}: look at offset, stride and transform where the target is made"
    )


def _exchange_text(placed: Placed) -> str:
    """Predictions along lines through the truth, perhaps with x and y exchanged; "" where they are not."""
    p, t = placed.read[placed.known], placed.truth[placed.known]
    if placed.explains(p[:, ::-1]):
        return "the predictions are right once x and y are exchanged: look at their order in the target"
    for words, given in (("", p), (", and x and y are exchanged", p[:, ::-1])):
        if (np.ptp(given, axis=0) < SPREAD * np.ptp(t, axis=0)).any():
            continue
        lines = [np.polyfit(given[:, axis], t[:, axis], 1) for axis in (0, 1)]
        factors = np.array([1 / line[0] for line in lines])
        # Predictions that lie closer together about the same middle have been trained too little.
        shrunk = ((factors > 0) & (factors < 1)).all()
        if shrunk and np.linalg.norm(given.mean(0) - t.mean(0)) < NEAR * placed.side:
            continue
        fitted = np.stack([np.polyval(lines[axis], given[:, axis]) for axis in (0, 1)], 1)
        if _closer(fitted, p, t) and placed.explains(fitted):
            return _line_text(factors, [-line[1] / line[0] for line in lines], words)
    return ""


def _line_text(factors: np.ndarray, offsets: Sequence[float], words: str) -> str:
    mirrored, kept = np.abs(factors + 1) < SAME, np.abs(factors - 1) < SAME
    if mirrored[0] and kept[1]:
        kind, look = "mirrored left to right", "an image or a target that is mirrored without the other"
    elif mirrored[1] and kept[0]:
        kind, look = "upside down", "an axis that points the other way"
    elif mirrored.all():
        kind, look = "turned by 180 degrees", "an image or a target that is turned without the other"
    else:
        kind, look = "on another scale", "stride, input size and the transform where the target is made"
    formula = ", ".join(
        f"{axis} = {factor:.2f} {axis} {'-' if offset < -0.5 else '+'} {abs(offset):.0f}"
        for axis, factor, offset in zip("xy", factors, offsets, strict=True)
    )
    return f"the predictions are {kind}{words} ({formula} in input pixels): look for {look}"


def _order_text(placed: Placed) -> str:
    """Predictions that lie at other keypoints, as a sentence; "" where they do not."""
    from scipy.optimize import linear_sum_assignment

    known, near = placed.known, NEAR * placed.side
    p, t = placed.read[known], placed.truth[known]
    cost = np.minimum(np.linalg.norm(p[:, None] - t[None], axis=2), 2 * near)
    # Of two keypoints in one place each keeps its own.
    cost[np.diag_indices(len(cost))] -= 0.5 * near
    _, at = linear_sum_assignment(cost)
    moved = placed.near(p - (t[at] - t)) & (at != np.arange(len(at)))
    if not placed.explains(p - (t[at] - t)) or not moved.any():
        return ""
    pairs = [(int(known[k]), int(known[at[k]])) for k in np.flatnonzero(moved)]
    listed = ", ".join(f"{placed.names[k]} at {placed.names[other]}" for k, other in pairs[:3])
    listed += " ..." if pairs[3:] else ""
    if len(placed.mirror) and all(placed.mirror[k] == other for k, other in pairs):
        return (
            f"left and right are exchanged: {len(pairs)} of {len(p)} predictions lie at the keypoint of the "
            f"other side ({listed}): look at the order of the keypoints and at the flip"
        )
    return (
        f"{len(pairs)} of {len(p)} predictions lie at another keypoint ({listed}): look at the order of the "
        "keypoints in the target and in the output"
    )


def heap_text(placed: Placed) -> str:
    """Predictions that all lie in one place, as a sentence; "" where they do not."""
    p, t = placed.read[placed.known], placed.truth[placed.known]
    if len(p) < FEWEST or (np.ptp(p, axis=0) >= SPREAD * np.ptp(t, axis=0)).any():
        return ""
    x, y = np.median(p, 0)
    return (
        f"all keypoints are predicted in one place, about {pair_text(x, y, '.0f')} in input pixels (x, y): "
        "too few steps, a saturated output, or coordinates of another unit where the target is made"
    )


def map_text(maps: Tensor, labelled: np.ndarray) -> str:
    """How heatmaps or SimCC vectors of labelled keypoints hold no position at all; "" where most do.

    Args:
        maps: [N, K, ...], finite.
        labelled: [N, K], keypoints inside the input.
    """
    values = maps.detach().cpu().flatten(2).float().numpy()[labelled]
    if not len(values):
        return ""
    size, spans = np.abs(values).max(), np.ptp(values, axis=1)
    flat = spans <= EQUAL * size
    if flat.mean() > 1 - Expectation().pck:
        of = counted(len(flat), "labelled keypoint has", "labelled keypoints have")
        return (
            f"the maps of {int(flat.sum())} of {of} the same value in every cell, so no position can be "
            "read: look for a pooling over the image, a last activation that is always 0, or saturation"
        )
    if len(values) > 1 and np.ptp(values, axis=0).max() <= EQUAL * spans.max():
        return "the maps of all labelled keypoints are equal: look for one channel that is used for all"
    return ""


def placements(model: PoseModel, batch: Batch, plan: Plan) -> Iterator[Evidence]:
    """By which rule a trained model's predictions lie elsewhere than its target should have put them.

    What the decoder itself does to perfect targets is left out: before_training tells it.

    Args:
        model: with the weights of the attempt.
        batch: of its samples, with ground truth.
        plan: of the attempt.

    Yields:
        what was seen; nothing for models that find people.
    """
    if isinstance(model, Groups) or batch.extra.get("people"):
        return
    planned = PlannedModel(model, plan)
    # After training the network may be on a GPU.
    device = next((p.device for p in planned.module.parameters()), None)
    batch = dataclasses.replace(batch, pixels=batch.pixels.to(device))
    outputs = evaluated(planned, batch)
    if not finite(outputs):
        return
    maps = [t for t in (outputs.heatmaps, *(outputs.simcc or ())) if t is not None]
    wanted = _wanted(planned, batch)
    labelled = np.stack([np.isfinite(one).all(1) for one in wanted])
    # Remarks: what made the output so, such as too high a learning rate, is another question.
    if text := next((text for one in maps if (text := map_text(one, labelled))), ""):
        yield Evidence(text, remark=True, name=EMPTY)
        return
    # Where the user's own code makes the target, no switch of the bisection can remove what is wrong in it.
    decides = isinstance(model, HasObjective) and plan.codec is None and plan.changes() is None
    placed = _placed(planned, outputs, batch, wanted)
    texts = [placement_text(one) for one in placed]
    if texts and all(texts):
        yield Evidence(texts[0], decides=decides, name=ELSEWHERE)
    elif maps and not _right(placed) and _right(_placed(planned, _negated(outputs), batch, wanted)):
        text = "the predictions are right once the maps are negated: look at the sign of target and loss"
        yield Evidence(text, decides=decides, name=ELSEWHERE)
    elif text := next((text for one in placed if (text := heap_text(one))), ""):
        yield Evidence(text, remark=True, name=EMPTY)
    elif maps and not _right(placed) and (text := _loss_text(planned, outputs, batch)):
        yield Evidence(text, remark=True, name="worth checking")


def _right(placed: Sequence[Placed]) -> bool:
    return all(one.explains(one.read[one.known]) for one in placed)


def _negated(outputs: Outputs) -> Outputs:
    return dataclasses.replace(
        outputs,
        heatmaps=None if outputs.heatmaps is None else -outputs.heatmaps,
        simcc=None if outputs.simcc is None else tuple(-one for one in outputs.simcc),
    )


def _loss_text(planned: Any, outputs: Outputs, batch: Batch) -> str:
    """Whether a loss of the model's own is lower for what it predicts than for perfect targets."""
    codec = planned.codec
    if not isinstance(planned, HasObjective) or codec is None or codec.normalized or outputs.tokens:
        return ""
    perfect = batch_target(batch, codec, str(batch.pixels.device)).as_outputs()
    try:
        now, best = (
            float(sum(part.sum() for part in planned.objective(one, batch).values()))
            for one in (outputs, perfect)
        )
    except Exception:  # noqa: BLE001 - the user's own loss may need more than maps: nothing is said then
        return ""
    if not now < best:
        return ""
    return (
        f"the model's own loss is {best:.3g} for perfect targets of its codec and {now:.3g}, less, for what "
        "it predicts: right for a loss over logits, else it learns another target than its codec decodes"
    )


def _placed(planned: Any, outputs: Outputs, batch: Batch, wanted: Sequence[np.ndarray]) -> list[Placed]:
    codec, skeleton = planned.codec, planned.skeleton
    predictions = planned.decode(outputs, batch, DecodeOptions())
    cell = 0.0 if codec is None else codec.input_size[0] / codec.output_size[0]
    found = []
    for affine, sample, prediction, should in zip(
        batch.to_image, batch.samples, predictions, wanted, strict=True
    ):
        back = inverse(affine)
        read = apply(back, np.asarray(prediction.keypoints, float)[:, :2])
        x0, y0, x1, y1 = sample.box
        side = max(x1 - x0, y1 - y0) / abs(np.linalg.det(affine[:, :2])) ** 0.5
        found.append(Placed(read, apply(back, should), side, cell, skeleton.mirror or (), skeleton.keypoints))
    return found


def _wanted(planned: Any, batch: Batch) -> list[np.ndarray]:
    """[K, 2] where the predictions should be, image pixels; nan where not labelled or outside the input."""
    H, W = batch.pixels.shape[-2:]
    found = []
    for affine, sample in zip(batch.to_image, batch.samples, strict=True):
        truth = np.array(sample.truth, float)
        inside = apply(inverse(affine), truth[:, :2])
        shown = (truth[:, 2] > 0) & (inside >= 0).all(1) & (inside < (W, H)).all(1)
        found.append(np.where(shown[:, None], truth[:, :2], np.nan))
    if planned.codec is None:
        return found
    target = batch_target(batch, planned.codec, "cpu")
    perfect = planned.decode(target.as_outputs().detach(), batch, DecodeOptions())
    return [
        np.where(np.isfinite(truth), np.asarray(p.keypoints, float)[:, :2], np.nan)
        for truth, p in zip(found, perfect, strict=True)
    ]
