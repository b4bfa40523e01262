"""State of the Conditioning page: run and epoch, data set, number of instances, a run to compare with."""

from __future__ import annotations

import dataclasses
import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apps.pages.able_runs import TEXT, runs_of
from apps.pages.subject import epoch_name, epoch_named
from workbench.inspectors.conditioning.training_log import logs_of

if TYPE_CHECKING:
    from apps.server.context import Context
    from apps.server.folders import RunFolder

ADDRESS = ("run", "epoch", "data", "limit", "against", "epochs")
"""Names in the page's address; ``epochs`` is the list of other pages, whose last is the one to look at."""

BAR = ("run", "epoch", "data", "limit", "against")
"""Names of the controls' values."""

NONE = "none"
# Enough for an interval, done in half a minute on a small network.
DEFAULT_LIMIT = 64
ALL = 0
LIMITS = [("32", 32), ("64", 64), ("128", 128), ("all", ALL)]


@dataclass(frozen=True)
class ClinicState:
    """One state of the page.

    Attributes:
        run: a run's id.
        epoch: its index in the run.
        data: id of a set.
        limit: instances for AP, spread over the set; 0 for all.
        against: id of the run whose curves stand beside; "" for none.
    """

    run: str
    epoch: int
    data: str
    limit: int = DEFAULT_LIMIT
    against: str = ""

    def text(self) -> str:
        """The state as JSON, to be held by the page."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def of_text(cls, text: str) -> ClinicState:
        """Back from `text`."""
        return cls(**json.loads(text))


def conditioned_runs(context: Context) -> list[RunFolder]:
    """The runs whose checkpoints read text, told from their tensors."""
    return runs_of(context, TEXT)


def state_of(context: Context, *values: Any) -> ClinicState:
    """The state for control values (run, epoch, data, limit, against); what is missing takes its default.

    Raises:
        KeyError: no such run, epoch or data set.
        ValueError: a value that cannot be.
    """
    run, epoch, data, limit, against = values
    registry = context.registry
    folder = registry.run(run) if run else _default_run(context)
    index = folder.epochs[-1].index if epoch in (None, "") else int(epoch)
    registry.epoch(folder.id, index)
    data = data or registry.default_data(folder.id, index)
    if not data:
        raise ValueError("choose a data set: none that is served has the keypoints of this model")
    registry.sets.skeleton(data)
    count = DEFAULT_LIMIT if limit in (None, "") else int(limit)
    if count < 0:
        raise ValueError(f"instances: expected 1 or more, or 0 for all, got {count}")
    if against is None:
        against = _beside(context, folder)
    elif against in ("", NONE):
        against = ""
    else:
        registry.run(against)
    return ClinicState(folder.id, index, data, count, against)


def from_address(context: Context, words: list[Any]) -> list[Any]:
    """Control values for the words of the address, which are in the order of ADDRESS."""
    run, epoch, data, limit, against, epochs = words
    epoch = epoch or (epochs or "").rpartition(",")[2]
    folder = context.registry.run(run) if run else _default_run(context)
    index = epoch_named(folder, epoch) if epoch and run else None
    return [folder.id, index, data, limit, against]


def address_of(context: Context, state: ClinicState) -> dict[str, Any]:
    """Name -> word of the page's address; None leaves a name out."""
    return {
        "run": state.run,
        "epoch": epoch_name(context.registry.epoch(state.run, state.epoch)),
        "epochs": None,
        "data": state.data,
        "limit": None if state.limit == DEFAULT_LIMIT else state.limit,
        "against": state.against or NONE,
    }


def _default_run(context: Context) -> RunFolder:
    """The first run that reads text, else the first of all."""
    return next(iter(conditioned_runs(context)), context.registry.default_run())


def _beside(context: Context, run: RunFolder) -> str:
    """Of the runs with curves and without text the one whose name is nearest to this one's; "" for none."""
    reads = {other.id for other in conditioned_runs(context)}
    others = [
        r for r in context.registry.runs() if r.id not in reads and r.id != run.id and logs_of(r.folder)
    ]

    def shared(other: RunFolder) -> int:
        pairs = zip(other.folder.name, run.folder.name, strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    best = max(others, key=shared, default=None)
    return best.id if best is not None and (shared(best) or len(others) == 1) else ""
