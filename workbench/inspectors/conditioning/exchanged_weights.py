"""Are the averaged (EMA) weights of a file the averaged ones, or are raw and averaged exchanged?

An average lags behind: from any earlier state of the same training the raw weights have gone farther, in
nearly every tensor. A training whose weights return (after a burst, by weight decay) looks the other way
round from its start, and an average over many epochs looks so from the epoch before; so both have to agree
where both are at hand. The names in the file say which set is which; the numbers say whether that is so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.checkpoints.state_dicts import is_statistic
from workbench.checkpoints.tensors import read_tensor
from workbench.core.report import plain
from workbench.evaluation import evaluate, paired_bootstrap, predict
from workbench.inspectors.conditioning.findings import EXCHANGED, Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.checkpoints import Checkpoint
    from workbench.checkpoints.tensors import TensorInfo
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation import Interval
    from workbench.models import LoadedModel

# Share of the tensors that have to agree; without an exchange about as many say the opposite.
AGREE = 0.8
# Sets nearer than this (share of their length) are one: a schedule that ended at 0 leaves no difference.
SAME = 1e-4


@dataclass(frozen=True)
class AveragedAndRaw:
    """The two sets of weights of a file, against an earlier state of the training.

    Attributes:
        text: which is which, as the names in the file say.
        apart: distance between the sets, share of their length.
        tensors: that are in both sets and differ.
        larger: share of them that are longer in the set called averaged.
        farther: share of them in which the set called averaged is farther from the earlier state, the smaller
            one of two states; nan without any.
        earlier: names of the earlier states; "" without any.
        statistics: share of the running statistics that are equal in both sets; nan where there are none.
        gain: AP of the set called averaged minus that of the set called raw; None where nobody measured it.
    """

    text: str
    apart: float
    tensors: int
    larger: float
    farther: float
    earlier: str
    statistics: float
    gain: Interval | None = None

    @property
    def differ(self) -> bool:
        """Whether there are two sets at all: a schedule that ended at 0 leaves no difference."""
        return self.apart >= SAME and self.tensors > 0

    @property
    def exchanged(self) -> bool:
        """Whether the numbers contradict the names.

        The lag behind an earlier state decides. Without one the lengths have to be confirmed by AP.
        """
        if not self.differ:
            return False
        worse = self.gain is not None and self.gain.high < 0
        better = self.gain is not None and self.gain.low > 0
        if np.isnan(self.farther):
            return self.larger >= AGREE and worse
        return self.farther >= AGREE and not better

    def facts(self) -> dict[str, Any]:
        """As the command line tells it."""
        gain = self.gain
        return plain(
            {
                "text": self.text,
                "apart": self.apart,
                "tensors": self.tensors,
                "longer_in_averaged": self.larger,
                "farther_in_averaged": self.farther,
                "earlier": self.earlier or None,
                "gain": None if gain is None else gain.delta,
                "low": None if gain is None else gain.low,
                "high": None if gain is None else gain.high,
            }
        )

    def finding(self) -> Finding | None:
        """What is wrong; None where names and numbers agree."""
        if not self.exchanged:
            return None
        told = (
            f"{self.text}; yet of {self.tensors} tensors {100 * self.larger:.0f} % are longer in the set "
            "called averaged"
        )
        if self.earlier:
            told += f" and {100 * self.farther:.0f} % are farther from {self.earlier}; an average lags behind"
        if np.isfinite(self.statistics):
            told += (
                f"; {100 * self.statistics:.0f} % of the running statistics (batch norm) are the same in both"
            )
        if self.gain is not None:
            told += f"; the set called averaged has {self.gain} AP against the one called raw"
        return Finding(
            EXCHANGED,
            told,
            "use the other set, and look at what exchanges them when the checkpoint "
            "is written: mmengine's EMAHook puts the average under state_dict",
        )


def averaged_and_raw(checkpoint: Checkpoint, earlier: Sequence[Checkpoint] = ()) -> AveragedAndRaw | None:
    """What the numbers say about the two sets of weights; None where the file has not both.

    Args:
        checkpoint: opened.
        earlier: earlier states of the same training: its first and its last before this one, or its start.

    Raises:
        ValueError: a tensor cannot be read.
    """
    averages = checkpoint.averages
    if not averages.averaged or not averages.raw:
        return None
    mean, raw = (_plain(part, checkpoint.prefix) for part in (averages.averaged, averages.raw))
    states = [(one.path.name, _plain(one.tensors, one.prefix)) for one in earlier]
    longer, equal = [], []
    farther: dict[str, list[bool]] = {name: [] for name, _ in states}
    moved = size = 0.0
    for name in mean.keys() & raw.keys():
        if mean[name].shape != raw[name].shape or not mean[name].is_floating:
            continue
        a, b = _numbers(mean[name]), _numbers(raw[name])
        if is_statistic(name):
            equal.append(np.array_equal(a, b))
            continue
        if not (np.isfinite(a).all() and np.isfinite(b).all()) or np.array_equal(a, b):
            continue
        moved, size = moved + float(((a - b) ** 2).sum()), size + float((b**2).sum())
        longer.append(np.linalg.norm(a) > np.linalg.norm(b))
        for state, before in states:
            if name in before and before[name].shape == mean[name].shape:
                start = _numbers(before[name])
                farther[state].append(bool(np.linalg.norm(a - start) > np.linalg.norm(b - start)))
    shares = {state: float(np.mean(found)) for state, found in farther.items() if found}
    return AveragedAndRaw(
        text=averages.text,
        apart=float(np.sqrt(moved / size)) if size else 0.0,
        tensors=len(longer),
        larger=float(np.mean(longer)) if longer else 0.0,
        farther=min(shares.values(), default=float("nan")),
        earlier=" and from ".join(shares),
        statistics=float(np.mean(equal)) if equal else float("nan"),
    )


def gain_of_average(loaded: LoadedModel, pose_set: PoseSet, indices: Sequence[int]) -> Interval:
    """AP with the weights called averaged minus AP with those called raw, on the same instances.

    Args:
        loaded: of a file with both.
        pose_set: annotated.
        indices: instances of it.
    """
    assert loaded.checkpoint is not None  # the caller has looked into it
    found = []
    for ema in (False, True):
        with holding(loaded, ema):
            predictions = predict(loaded.model, pose_set, indices=indices)
        found.append(evaluate(pose_set, predictions, indices=indices).ap)
    return paired_bootstrap(found[0], found[1], resamples=500, seed=0)


@contextmanager
def holding(loaded: LoadedModel, ema: bool) -> Iterator[None]:
    """The model with one of its file's two sets of weights; then with what it had."""
    from workbench.checkpoints.loading import load_state

    module = loaded.model.module
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    load_state(module, loaded.checkpoint, ema=ema)
    try:
        yield
    finally:
        module.load_state_dict(before)


def _plain(infos: Mapping[str, TensorInfo], prefix: str) -> dict[str, TensorInfo]:
    return {name.removeprefix(prefix): info for name, info in infos.items()}


def _numbers(info: TensorInfo) -> Any:
    return read_tensor(info).double().numpy()
