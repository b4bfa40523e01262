"""What other files show about a checkpoint: exchanged averages, and a head that moved too little.

Averages. An average (EMA) lags behind: the raw weights are farther from any earlier state of the same
training, in nearly every tensor. The names in the file state which set is the average; the numbers test it.
There are healthy exceptions: weights that return (after a burst, by weight decay, in a sweep with a large
learning rate) can look exchanged from their start, and an average over many epochs from the epoch before. So
two earlier states have to agree; with a single one, or none, AP has to confirm it.

Movement. A head that learns ten times too slowly stays near its start while the backbone moves as far as in
the base run. Measured from three files: the start, this run's checkpoint, the base run's of the same epoch.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.config_reader import read_config
from workbench.checkpoints.difference import compare_checkpoints
from workbench.checkpoints.state_dicts import is_statistic
from workbench.checkpoints.tensors import read_tensor
from workbench.core.finding import Finding
from workbench.core.report import Report, counted, plain, rows
from workbench.evaluation import evaluate, paired_bootstrap, predict
from workbench.figures import FINDING_COLOUR, RUN_COLOURS
from workbench.figures.bars import Bars, bars_figure
from workbench.inspectors.conditioning.findings import EXCHANGED, HEAD_BEHIND

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.checkpoints import Checkpoint
    from workbench.checkpoints.tensors import TensorInfo
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation import Interval
    from workbench.models import LoadedModel


# Share of the tensors that have to agree; without an exchange about as many show the opposite.
AGREE = 0.8
# Sets nearer than this (share of their length) are equal: a schedule that ended at 0 leaves no difference.
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
        states: how many earlier states there are.
        gain: AP of the set called averaged minus that of the set called raw; None if not measured.
    """

    text: str
    apart: float
    tensors: int
    larger: float
    farther: float
    earlier: str
    statistics: float
    states: int = 2
    gain: Interval | None = None

    @property
    def differ(self) -> bool:
        """Whether there are two sets at all: a schedule that ended at 0 leaves no difference."""
        return self.apart >= SAME and self.tensors > 0

    @property
    def exchanged(self) -> bool:
        """Whether the numbers contradict the names.

        The lag behind two earlier states decides, unless AP shows the opposite. With a single state, or with
        the lengths alone, AP has to confirm it: healthy weights that return look the same.
        """
        if not self.differ:
            return False
        worse = self.gain is not None and self.gain.high < 0
        better = self.gain is not None and self.gain.low > 0
        if np.isnan(self.farther):
            return self.larger >= AGREE and worse
        if self.states < 2:
            return self.farther >= AGREE and worse
        return self.farther >= AGREE and not better

    @property
    def undecided(self) -> str:
        """Why a suspicion cannot be decided, and what would; "" where there is none."""
        better = self.gain is not None and self.gain.low > 0
        suspect = self.differ and not self.exchanged and self.states < 2 and not better
        if not suspect or not (self.farther >= AGREE or (np.isnan(self.farther) and self.larger >= AGREE)):
            return ""
        measured = "" if self.gain is None else f" (AP of the averaged set {self.gain} against the raw one)"
        return (
            "averaged and raw weights: whether they are exchanged cannot be decided from "
            f"{self.earlier or 'this file alone'}{measured}; keep another earlier epoch beside the "
            f"checkpoint, or measure AP of both sets{' on more images' if measured else ''}"
        )

    def facts(self) -> dict[str, Any]:
        """The facts under the names of the command line."""
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
        evidence = (
            f"{self.text}, but of {counted(self.tensors, 'tensor')} {100 * self.larger:.0f} % are longer in "
            "the set called averaged"
        )
        if self.earlier:
            evidence += (
                f" and {100 * self.farther:.0f} % are farther from {self.earlier}; an average lags behind"
            )
        if np.isfinite(self.statistics):
            evidence += (
                f"; {100 * self.statistics:.0f} % of the running statistics (batch norm) are the same in both"
            )
        if self.gain is not None:
            evidence += f"; the set called averaged has {self.gain} AP against the one called raw"
        return Finding(
            EXCHANGED,
            evidence,
            "use the other set, and look at what exchanges them when the checkpoint "
            "is written: mmengine's EMAHook puts the average under state_dict",
            refuted_by="another earlier epoch from which the set called averaged is nearer",
        )


def averaged_and_raw(checkpoint: Checkpoint, earlier: Sequence[Checkpoint] = ()) -> AveragedAndRaw | None:
    """What the numbers show about the two sets of weights; None if the file does not hold both.

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
    farther: list[list[bool]] = [[] for _ in states]
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
        for found, (_, before) in zip(farther, states, strict=True):
            if name in before and before[name].shape == mean[name].shape:
                start = _numbers(before[name])
                found.append(bool(np.linalg.norm(a - start) > np.linalg.norm(b - start)))
    shares = [
        (name, float(np.mean(found))) for found, (name, _) in zip(farther, states, strict=True) if found
    ]
    return AveragedAndRaw(
        text=averages.text,
        apart=float(np.sqrt(moved / size)) if size else 0.0,
        tensors=len(longer),
        larger=float(np.mean(longer)) if longer else 0.0,
        farther=min((share for _, share in shares), default=float("nan")),
        earlier=" and from ".join(name for name, _ in shares),
        statistics=float(np.mean(equal)) if equal else float("nan"),
        states=len(shares),
    )


def gain_of_average(loaded: LoadedModel, pose_set: PoseSet, indices: Sequence[int]) -> Interval:
    """AP with the weights called averaged minus AP with those called raw, on the same instances.

    Args:
        loaded: of a file with both.
        pose_set: annotated.
        indices: instances of it.
    """
    assert loaded.checkpoint is not None  # the caller has looked into it
    # A copy: the network may be in use.
    copied = dataclasses.replace(loaded, model=copy.deepcopy(loaded.model))
    found = []
    for ema in (False, True):
        with holding(copied, ema):
            predictions = predict(copied.model, pose_set, indices=indices)
        found.append(evaluate(pose_set, predictions, indices=indices).ap)
    return paired_bootstrap(found[0], found[1], resamples=500, seed=0)


@contextmanager
def holding(loaded: LoadedModel, ema: bool) -> Iterator[None]:
    """The model with one of its file's two sets of weights while the block runs."""
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


# Movement from a common start.

# Below a third of the base run's movement, and of the backbone's ratio. On the built-in runs, where a text
# neck and a refiner were added, the head's ratio is 1.0 (its modules: .81 to 1.15).
BEHIND = 1 / 3


@dataclass(frozen=True, eq=False)
class Progress(Report):
    """How far each module moved from the start, as a share of what the base run's moved.

    Attributes:
        base: name of the base run's checkpoint.
        start: name of the start.
        modules: two levels deep, those that both runs moved.
        ratios: this run's movement over the base run's.
    """

    base: str
    start: str
    modules: tuple[str, ...]
    ratios: Float[np.ndarray, " M"]

    def of(self, part: str) -> float:
        """Median ratio of the modules of a part; nan where none of them moved in the base run."""
        inside = [r for m, r in zip(self.modules, self.ratios, strict=True) if m.partition(".")[0] == part]
        return float(np.median(inside)) if inside else float("nan")

    @property
    def parts(self) -> tuple[str, ...]:
        """First words of the modules' names."""
        return tuple(dict.fromkeys(module.partition(".")[0] for module in self.modules))

    @property
    def behind(self) -> tuple[str, ...]:
        """Parts behind the backbone that moved far less than in the base run, and than the backbone did."""
        others = self.of("backbone")
        reference = 1.0 if np.isnan(others) else min(1.0, others)
        return tuple(p for p in self.parts if p != "backbone" and self.of(p) < BEHIND * reference)

    def summary(self) -> str:
        ratios = ", ".join(f"{part} {self.of(part):.2g}" for part in self.parts)
        return f"Movement of the weights from {self.start}, as a share of that of {self.base}: {ratios}"

    def to_findings(self) -> tuple[Finding, ...]:
        return tuple(filter(None, [self.finding()]))

    def finding(self) -> Finding | None:
        """What is wrong; None where nothing is."""
        if not self.behind:
            return None
        part = self.behind[0]
        others = self.of("backbone")
        beside = "" if np.isnan(others) else f", the backbone {others:.2g}"
        return Finding(
            HEAD_BEHIND,
            f"from the same start ({self.start}) the {part} moved {self.of(part):.2g} times as far "
            f"as in {self.base}{beside} (medians over their modules)",
            f"look at the learning rate of the {part} (lr_mult, paramwise_cfg, its parameter group): about "
            f"{1 / max(self.of(part), 1e-3):.0f} times as much would go as far",
        )

    def plot(self) -> Figure:
        late = set(self.behind)
        inks = [FINDING_COLOUR if m.partition(".")[0] in late else RUN_COLOURS[0] for m in self.modules]
        return bars_figure(
            self.summary(), self.modules, [Bars("moved / moved in the base run", self.ratios, inks)]
        )

    def table(self) -> list[dict[str, Any]]:
        return rows(module=self.modules, ratio=self.ratios)


def progress(start: Checkpoint, own: Checkpoint, base: Checkpoint) -> Progress:
    """Movement from the start, module by module, against the base run's.

    Args:
        start: of both.
        own: of the run that is looked at.
        base: of the base run, after as many epochs.

    Raises:
        ValueError: the files hold no module in common that the base run moved.
    """
    here, there = compare_checkpoints(start, own), compare_checkpoints(start, base)
    known = {t.name for t in here.tensors} & {t.name for t in there.tensors}
    # Norms of the start cancel only where both compare the same tensors of a module.
    whole = {
        module
        for module in here.modules.keys() & there.modules.keys()
        if all(t.name in known for report in (here, there) for t in report.tensors if t.module == module)
    }
    found = {
        module: here.modules[module] / moved
        for module, moved in there.modules.items()
        if module in whole and moved > 0 and np.isfinite(moved) and np.isfinite(here.modules[module])
    }
    if not found:
        raise ValueError(
            f"{base.path}: expected modules that moved from {start.path.name} and are {own.path.name}'s too, "
            "found none; name the start of both runs with --start"
        )
    return Progress(there.b, start.path.name, tuple(found), np.array(list(found.values())))


# Both, from the files of the runs.


@dataclass(frozen=True, eq=False)
class OtherFiles:
    """What other files show about a checkpoint.

    Attributes:
        progress: movement from the common start against the base run; None where a file is missing.
        averages: averaged and raw weights; None if the file does not hold both.
        missing: question -> why it could not be answered.
    """

    progress: Progress | None = None
    averages: AveragedAndRaw | None = None
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def findings(self) -> list[Finding]:
        """Defects that the files show."""
        found = [report.finding() for report in (self.progress, self.averages) if report is not None]
        return [finding for finding in found if finding is not None]


def read_other_files(
    own: Checkpoint | None, epochs: Sequence[Path] = (), base: Sequence[Path] = (), start: Path | None = None
) -> OtherFiles:
    """Compare a checkpoint with the other files of its run, and of the base run.

    Args:
        own: the checkpoint in question; None without a file.
        epochs: of its run, in their order.
        base: epochs of the base run, in their order; none without one.
        start: of both runs; by default the file that the config inside `own` loads.

    Raises:
        FileNotFoundError: no such start.
    """
    if own is None:
        return OtherFiles()
    if start is not None and not start.is_file():
        raise FileNotFoundError(f"--start: no file {start}")
    named = start or _loaded_first(own)
    found = _averages(own, epochs, named)
    if not base:
        return found
    if named is None:
        why = (
            "how far the head moved: the common start of both runs is not at hand (load_from of the config "
            f"is {_load_from(own) or 'not set'}); name it with --start FILE"
        )
        return dataclasses.replace(found, missing={**found.missing, "head": why})
    try:
        moved = progress(open_checkpoint(named), own, _as_old(own, base))
    except (ValueError, OSError) as error:
        return dataclasses.replace(
            found, missing={**found.missing, "head": f"how far the head moved: {error}"}
        )
    return dataclasses.replace(found, progress=moved)


def _averages(own: Checkpoint, epochs: Sequence[Path], named: Path | None) -> OtherFiles:
    """The two sets of weights of a file, seen from two earlier epochs, or from the start and one."""
    if not own.averages.averaged or not own.averages.raw:
        return OtherFiles()
    place = own.path.resolve()
    before = [path for path in epochs if path.resolve() != place]
    try:
        earlier = _earlier(own, before)
        if len(earlier) < 2 and named is not None:
            earlier = [open_checkpoint(named), *earlier]
        return OtherFiles(averages=averaged_and_raw(own, earlier))
    except (ValueError, OSError) as error:
        return OtherFiles(missing={"averages": f"averaged and raw weights: {error}"})


def measured(found: OtherFiles, loaded: LoadedModel, pose_set: PoseSet, indices: Sequence[int]) -> OtherFiles:
    """The same with what averaged and raw weights give on a data set, where the file has both."""
    if found.averages is None or not found.averages.differ:
        return found
    gain = gain_of_average(loaded, pose_set, indices)
    return dataclasses.replace(found, averages=dataclasses.replace(found.averages, gain=gain))


def _earlier(own: Checkpoint, others: Sequence[Path]) -> list[Checkpoint]:
    """The first and the last of the run's checkpoints that are older than this one."""
    if own.epoch is None:
        return []
    opened = [open_checkpoint(path) for path in others]
    older = [one for one in opened if one.epoch is not None and one.epoch < own.epoch]
    return older if len(older) < 2 else [older[0], older[-1]]


def _as_old(own: Checkpoint, base: Sequence[Path]) -> Checkpoint:
    """The base run's checkpoint of the same epoch, else its last."""
    last = open_checkpoint(base[-1])
    if own.epoch is None or last.epoch == own.epoch:
        return last
    opened = (open_checkpoint(path) for path in base[:-1])
    return next((checkpoint for checkpoint in opened if checkpoint.epoch == own.epoch), last)


def _load_from(own: Checkpoint) -> str:
    """The file that training started from, as the config inside the checkpoint says; "" for none."""
    if own.config_text is None:
        return ""
    try:
        return str(read_config(own.config_text).get("load_from") or "")
    except ValueError:
        return ""  # a config that is not read says nothing; opening the model has its own way


def _loaded_first(own: Checkpoint) -> Path | None:
    """That file, below the checkpoint's folder; None where it is not there."""
    named = Path(_load_from(own))
    if not named.name or named.is_absolute() or ".." in named.parts:
        return None
    folder = own.path.resolve().parent
    found = (folder / named).resolve()
    return found if found.is_file() and found.is_relative_to(folder) else None
