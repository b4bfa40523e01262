"""State of the Rollout page: run, early and late epoch, sample, support, keypoint, and the rule of PCK."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apps.pages.able_runs import SEQUENCE, runs_of
from apps.pages.subject import Subject, epoch_name, epoch_named, sample_name, sample_named, subject_of
from workbench.inspectors.sequence.rollout import PckRule

if TYPE_CHECKING:
    from apps.server.context import Context
    from apps.server.folders import RunFolder

# As `workbench rollout --demo` has it; before its sister runs, and not before a user's own.
DEMO = "cape-demo-defects"

ADDRESS = ("run", "epochs", "epoch", "data", "sample", "support", "keypoint", "threshold", "normaliser")
"""Names in the page's address; ``epochs`` as Compare writes them, ``epoch`` when a link names one alone."""

VALUES = ("run", "epoch_a", "epoch_b", "data", "sample", "support", "keypoint", "threshold", "normaliser")
"""Names of the controls' values for HTTP clients."""

NORMALISERS = ("longer side", "diagonal", "root of area")
DEFAULT_THRESHOLD = 0.2


@dataclass(frozen=True)
class RolloutState:
    """One state of the page.

    Attributes:
        run: a run's id.
        epochs: indices of A and B in it; one number when they are the same.
        data: id of a set.
        sample: index of the query in it.
        support: index of the support example in it; None makes the query its own.
        keypoint: whose token is moved and whose step is drawn; the first annotated one when empty.
        threshold: of PCK.
        normaliser: of PCK.
    """

    run: str
    epochs: tuple[int, ...]
    data: str
    sample: int
    support: int | None = None
    keypoint: str = ""
    threshold: float = DEFAULT_THRESHOLD
    normaliser: str = NORMALISERS[0]

    @property
    def rule(self) -> PckRule:
        """The rule of PCK; raises ValueError for an impossible one."""
        return PckRule(self.threshold, self.normaliser)  # type: ignore[arg-type] - PckRule refuses others

    def subject(self, epoch: int) -> Subject:
        """What an inspector's page would look at."""
        return Subject(self.run, epoch, self.data, self.sample)

    def text(self) -> str:
        """The state as JSON, to be held by the page."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def of_text(cls, text: str) -> RolloutState:
        """Back from `text`."""
        values = json.loads(text)
        return cls(**{**values, "epochs": tuple(values["epochs"])})


def state_of(context: Context, *values: Any) -> RolloutState:
    """The state for control values in the order of `VALUES`; what is missing takes its default.

    Raises:
        KeyError: no such run, epoch, data set or sample.
        ValueError: a value that cannot be.
    """
    run, a, b, data, sample, support, keypoint, threshold, normaliser = values
    run = run or default_run(context)
    last = context.registry.run(run).epochs[-1].index
    late = subject_of(context, run, last if b in (None, "") else b, data, sample, None, None, *[None] * 4)
    early = 0 if a in (None, "") else subject_of(context, run, a, data, sample, None, None, *[None] * 4).epoch
    state = RolloutState(
        run=late.run,
        epochs=tuple(dict.fromkeys((early, late.epoch))),
        data=late.data,
        sample=late.sample,
        support=None if support in (None, "") else int(support),
        keypoint=str(keypoint or ""),
        threshold=DEFAULT_THRESHOLD if threshold in (None, "") else float(threshold),
        normaliser=str(normaliser or NORMALISERS[0]),
    )
    if not state.data:
        raise ValueError("choose a data set: none that is served has the keypoints of this model")
    _ = state.rule
    count = len(context.registry.sets.get(state.data))
    for index in (state.sample, state.support):
        if index is not None and not 0 <= index < count:
            raise KeyError(f"{state.data} has samples 0 to {count - 1}, not {index}")
    return state


def sequence_runs(context: Context) -> list[RunFolder]:
    """The served runs of sequence models."""
    return runs_of(context, SEQUENCE)


def default_run(context: Context) -> str:
    """The run to show when none is named: the first sequence model, else the first of all."""
    if found := sequence_runs(context):
        beside = [run for run in found if run.folder == found[0].folder.with_name(DEMO)]
        return (beside or found)[0].id
    return context.registry.default_run().id


def from_address(context: Context, words: list[Any]) -> list[Any]:
    """Control values for the words of the address, which are in the order of ADDRESS."""
    run, epochs, epoch, data, sample, support, keypoint, threshold, normaliser = words
    folder = context.registry.run(run or default_run(context))
    named = [epoch_named(folder, word) for word in (epochs or "").split(",") if word]
    if not named and epoch:
        named = [epoch_named(folder, epoch)]
    # One epoch that is named alone is the late one: what came before it is what it is compared with.
    a, b = (named[0], named[-1]) if len(named) > 1 else (None, named[0] if named else None)
    pose_set = context.registry.sets.get(data) if data else None
    query, helper = (sample_named(pose_set, w) if pose_set and w else None for w in (sample, support))
    return [folder.id, a, b, data, query, helper, keypoint, threshold, normaliser]


def address_of(context: Context, state: RolloutState) -> dict[str, Any]:
    """Name -> word of the page's address; None leaves a name out."""
    run, pose_set = context.registry.run(state.run), context.registry.sets.get(state.data)
    names = [epoch_name(run.epochs[i]) for i in state.epochs]
    plain = RolloutState(state.run, state.epochs, state.data, state.sample)
    return {
        "run": state.run,
        "epochs": ",".join(names),
        # The rail carries this one along: the other pages then open the late epoch.
        "epoch": names[-1],
        "data": state.data,
        "sample": sample_name(pose_set, state.sample),
        "support": None if state.support is None else sample_name(pose_set, state.support),
        "keypoint": state.keypoint or None,
        "threshold": None if state.threshold == plain.threshold else state.threshold,
        "normaliser": None if state.normaliser == plain.normaliser else state.normaliser,
    }
