"""Whether a model's own loss wants its maps on the scale of the codec's target.

The loss is taken as a function of the maps alone: the codec's target is given to it with other values at the
peaks, then with others in the background, and the values at which the loss is lowest are measured. Nothing is
trained, and nothing needs to be known of the loss's code.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from workbench.core import Batch, Codec, Outputs, PoseModel
from workbench.core.capabilities import Groups, HasObjective
from workbench.training.trainer import batch_target

if TYPE_CHECKING:
    from torch import Tensor

SCALED = "own loss wants maps on another scale than its codec"
# A height of peaks within this factor of the codec's makes no difference to steps or scores worth a word.
FACTOR = 2.0
# The same of the background's value, as a share of the codec's peaks.
RAISED = 0.25
# The least share of the loss that the scaled target explains; that of a Gaussian twice as wide is .64.
EXPLAINED = 0.6
# A distance rises alike above and below the values that it wants; a loss over logits or probabilities
# does not.
ALIKE = 1.5
# Along rows and columns, cells: as far as a peak of usual width has a slope.
SHIFTS = tuple((step, axis) for step in (-5, -4, -3, -2, 2, 3, 4, 5) for axis in (-1, -2))
# Share of what a target explains that it has to gain by a shift for the shift to be believed.
NEARER = 0.1
# Share of a step from the codec's own value, and the number of its doublings: to a factor of some 10,000.
FIRST_STEP, DOUBLINGS = 0.1, 17
# Of golden sections; 30 narrow an interval to a millionth.
SECTIONS = 30
ROUNDS = 3
# Relative error of a loss in single precision.
ROUNDING = 2e-6


def target_scale_text(model: PoseModel, outputs: Outputs, batch: Batch) -> str:
    """How the maps that a model's own loss wants differ in scale from its codec's target; "" where not.

    Args:
        model: its view for training, with the network as it is; unchanged.
        outputs: of the network for the batch; the loss is given its maps replaced and all else as it is.
        batch: with samples that have ground truth.
    """
    codec = model.codec
    if not isinstance(model, HasObjective) or codec is None or codec.normalized or isinstance(model, Groups):
        return ""
    if outputs.tokens or batch.extra.get("people"):
        return ""
    try:
        loss = _Loss(_twin(model), codec, outputs, batch)
        return _text(codec, found) if (found := _wanted(loss)) else ""
    except Exception:  # noqa: BLE001 - the user's own loss may refuse such maps: nothing is said then
        return ""


def _text(codec: Codec, found: tuple[float, float]) -> str:
    height = _height(codec)
    low, high = (value * height for value in found)
    low = 0.0 if abs(low) < 0.01 * abs(high) else low
    return (
        f"the model's own loss is lowest for maps of {high:.3g} at the keypoints and {low:.3g} far from "
        f"them, where the target of its codec is {height:g} and 0: look for a factor or an offset of the "
        "target, or of the output, in the loss"
    )


def _height(codec: Codec) -> float:
    """Of the target's peaks on the centre of a cell."""
    return 255.0 if codec.decoder == "megvii" and not codec.udp else 1.0


def _twin(model: PoseModel) -> PoseModel:
    """A copy with the same tensors: a loss that counts its calls or keeps averages does not notice."""
    parts = itertools.chain(model.module.parameters(), model.module.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in parts})


class _Loss:
    """A model's own loss as a function of its maps; the heights of the codec's peaks are 1."""

    def __init__(self, model: Any, codec: Codec, outputs: Outputs, batch: Batch) -> None:
        # On the CPU: an assertion in a loss on a GPU would end the whole process's use of it.
        self._outputs = outputs.detach()
        self._batch = dataclasses.replace(batch, pixels=batch.pixels.detach().cpu())
        self._model, self._height = model, _height(codec)
        made = batch_target(batch, codec, "cpu")
        given = (self._outputs.heatmaps,) if made.heatmaps is not None else self._outputs.simcc or ()
        target = (made.heatmaps,) if made.heatmaps is not None else made.simcc or ()
        pairs = zip(given, target, strict=True)
        if not target or any(a is None or b is None or a.shape != b.shape for a, b in pairs):
            raise ValueError("maps and target differ in shape")
        self.target: list[Tensor] = [one / self._height for one in target if one is not None]
        self.given: list[Tensor] = [one for one in given if one is not None]
        labelled = (made.weights > 0).reshape(*made.weights.shape, *[1] * (self.target[0].ndim - 2))
        self.labelled = labelled
        axes = tuple(range(2, self.target[0].ndim))
        # Peaks at the edge, or between cells, are those of their map's highest cell.
        self.peaks = [labelled & (one >= one.amax(axes, keepdim=True)) & (one > 0.5) for one in self.target]
        self.background = [one < 0.01 for one in self.target]

    def outputs(self, maps: Sequence[Tensor]) -> Outputs:
        """The network's outputs with other maps, given in heights of the codec's peaks."""
        maps = [one * self._height for one in maps]
        if self._outputs.heatmaps is not None:
            return dataclasses.replace(self._outputs, heatmaps=maps[0])
        return dataclasses.replace(self._outputs, simcc=tuple(maps))

    def of(self, maps: Sequence[Tensor]) -> Tensor:
        """The loss of these maps, a scalar."""
        import torch

        parts = self._model.objective(self.outputs(maps), self._batch)
        return torch.stack([part.double().sum() for part in parts.values()]).sum()

    def value(self, maps: Sequence[Tensor]) -> float:
        """As `of`, as a number."""
        import torch

        with torch.no_grad():
            return float(self.of(maps))

    def scaled(self, low: float, high: float) -> list[Tensor]:
        """The codec's target with another background and other peaks."""
        return [low + (high - low) * one for one in self.target]

    def of_background(self, low: float, high: float) -> Callable[[float], float]:
        """The loss of `scaled` as a function of the value in the background alone."""
        maps = self.scaled(low, high)
        return lambda value: self.value(
            [one.masked_fill(cells, value) for one, cells in zip(maps, self.background, strict=True)]
        )

    def of_peaks(self, low: float, high: float) -> Callable[[float], float]:
        """The loss of `scaled` as a function of the height of the highest cells alone."""
        maps = self.scaled(low, high)
        return lambda value: self.value(
            [
                one.where(~cells, other)
                for one, cells, other in zip(maps, self.peaks, self.scaled(low, value), strict=True)
            ]
        )


def _wanted(loss: _Loss) -> tuple[float, float] | None:
    """The values (background, peaks) that the loss wants, if they are another scale; None otherwise."""
    low: float | None = 0.0
    high: float | None = 1.0
    start = loss.value(loss.target)
    # Of a loss over a softmax, maps have no scale; a loss that draws random numbers cannot be measured so.
    moved = (loss.value(loss.target), loss.value([one + 1 for one in loss.target]))
    if any(abs(one - start) <= ROUNDING * abs(start) for one in moved[1:]) or moved[0] != start:
        return None
    if all(float((one.flatten(2).sum(-1) - 1).abs().max()) < 1e-3 for one in loss.given):
        return None  # the network's maps sum to 1: its own softmax states the scale
    for number in range(ROUNDS):
        step = FIRST_STEP * abs(high - low)
        low, high = (
            lowest(loss.of_background(low, high), low, step, number > 0),
            lowest(loss.of_peaks(low, high), high, step, number > 0),
        )
        if low is None or high is None or (low, high) == (0.0, 1.0):
            return None
    if high <= low or not (
        _other(low, high) and _is_distance(loss, low, high) and _explains(loss, low, high)
    ):
        return None
    return low, high


def _other(low: float, high: float) -> bool:
    return not 1 / FACTOR <= high - low <= FACTOR or abs(low) > RAISED * max(1.0, high - low)


def _is_distance(loss: _Loss, low: float, high: float) -> bool:
    """Whether the loss rises alike when the values that differ from the codec's are moved up and down."""
    by = (high - low) / 2
    for of, at, codecs in ((loss.of_background, low, 0.0), (loss.of_peaks, high, 1.0)):
        if abs(at - codecs) <= RAISED * by:
            continue
        value = of(low, high)
        up, down = value(at + by) - value(at), value(at - by) - value(at)
        if min(up, down) <= 0 or max(up, down) > ALIKE * min(up, down):
            return False
    return True


def _explains(loss: _Loss, low: float, high: float) -> bool:
    """Whether the scaled target is most of what the loss wants, and not the same peaks elsewhere."""
    import torch

    flat = loss.value(loss.scaled(low, low))
    by = high - low
    size = lowest(lambda by: loss.value(loss.scaled(low, low + by)), by, FIRST_STEP * by, refine=True)
    if not size:
        return False
    fitted = loss.value(loss.scaled(low, low + size))
    maps = [one.requires_grad_() for one in loss.scaled(low, low + size)]
    # What the loss wants where nothing is labelled is another question.
    slopes = [one * loss.labelled for one in torch.autograd.grad(loss.of(maps), maps)]
    steepest = max(float(one.abs().max()) for one in slopes)
    plain = [one.detach() for one in maps]
    unit = abs(size) / steepest if steepest else 0.0

    def further(by: float) -> float:
        return loss.value([one - by * unit * slope for one, slope in zip(plain, slopes, strict=True)])

    at = lowest(further, 0.0, FIRST_STEP / 5)
    if at is None or flat - fitted < EXPLAINED * (flat - min(further(at), fitted)):
        return False
    # Lower peaks than the codec's may be the slope of a peak that lies elsewhere.
    moved = [loss.value([one.roll(step, axis) for one in plain]) for step, axis in SHIFTS] if by < 1 else []
    return not moved or min(moved) > fitted - NEARER * (flat - fitted)


def lowest(of: Callable[[float], float], at: float, step: float, refine: bool = False) -> float | None:
    """Where a function of one number with one valley is lowest; None where it has no lowest place.

    Args:
        of: the function; values that differ by its rounding count as equal.
        at: a number to start from; returned where the function is no lower a step away on either side.
        step: the first step, above 0; doubled until the function rises again.
        refine: look within one step of `at`, too.

    Example:
        >>> round(lowest(lambda x: (x - 255) ** 2, 1.0, 0.1), 3)
        255.0
        >>> lowest(lambda x: -x, 0.0, 0.1) is None
        True
    """
    here, below, above = of(at), of(at - step), of(at + step)
    less = ROUNDING * max(abs(here), abs(below), abs(above))
    if min(below, above) >= here - less:
        return _narrowed(of, at - step, at + step) if refine else at
    sign = -1 if below < above else 1
    before, middle, value = at, at + sign * step, min(below, above)
    for doubling in range(1, DOUBLINGS):
        beyond = at + sign * step * 2**doubling
        new = of(beyond)
        if new > value + ROUNDING * abs(value):
            return _narrowed(of, min(before, beyond), max(before, beyond))
        before, middle, value = middle, beyond, new
    return None


def _narrowed(of: Callable[[float], float], low: float, high: float) -> float:
    """The lowest place between two numbers, by golden section."""
    ratio = (5**0.5 - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = of(a), of(b)
    for _ in range(SECTIONS):
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - ratio * (high - low)
            at_a = of(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + ratio * (high - low)
            at_b = of(b)
    return (low + high) / 2
