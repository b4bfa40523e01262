"""What the Rollout page is asked: a run, an early and a late epoch, a sample, a keypoint, the rule of PCK."""

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

# As `workbench rollout --demo` has it; before its sister runs, and not before a user's own.
DEMO = "cape-demo-defects"

ADDRESS = ("run", "epochs", "epoch", "data", "sample", "support", "keypoint", "threshold", "normaliser")
"""Names in the page's address; ``epochs`` as Compare writes them, ``epoch`` when a link names one alone."""


@dataclass(frozen=True)
class Wish:
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
    threshold: float = 0.2
    normaliser: str = "longer side"

    @property
    def rule(self) -> PckRule:
        """The rule; refused when it is none."""
        return PckRule(self.threshold, self.normaliser)  # type: ignore[arg-type] - PckRule refuses others

    def subject(self, epoch: int) -> Subject:
        """What an inspector's page would look at."""
        return Subject(self.run, epoch, self.data, self.sample)

    def text(self) -> str:
        """The wish as JSON, to lie in the page."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def of_text(cls, text: str) -> Wish:
        """Back from `text`."""
        told = json.loads(text)
        return cls(**{**told, "epochs": tuple(told["epochs"])})


def wish_of(context: Context, *values: Any) -> Wish:
    """The wish of widget values in the order of the page; what is missing takes its default.

    Raises:
        KeyError: no such run, epoch, data set or sample.
        ValueError: a value that cannot be.
    """
    run, a, b, data, sample, support, keypoint, threshold, normaliser = values
    run = run or default_run(context)
    last = context.registry.run(run).epochs[-1].index
    late = subject_of(context, run, last if b in (None, "") else b, data, sample, None, None, *[None] * 4)
    early = 0 if a in (None, "") else subject_of(context, run, a, data, sample, None, None, *[None] * 4).epoch
    wish = Wish(
        run=late.run,
        epochs=tuple(dict.fromkeys((early, late.epoch))),
        data=late.data,
        sample=late.sample,
        support=None if support in (None, "") else int(support),
        keypoint=str(keypoint or ""),
        threshold=0.2 if threshold in (None, "") else float(threshold),
        normaliser=str(normaliser or "longer side"),
    )
    if not wish.data:
        raise ValueError("choose a data set: none that is served has the keypoints of this model")
    _ = wish.rule
    count = len(context.registry.sets.get(wish.data))
    for index in (wish.sample, wish.support):
        if index is not None and not 0 <= index < count:
            raise KeyError(f"{wish.data} has samples 0 to {count - 1}, not {index}")
    return wish


def default_run(context: Context) -> str:
    """The run to show when none is named: the first sequence model, else the first of all."""
    if found := runs_of(context, SEQUENCE):
        beside = [run for run in found if run.folder == found[0].folder.with_name(DEMO)]
        return (beside or found)[0].id
    return context.registry.default_run().id


def from_address(context: Context, words: list[Any]) -> list[Any]:
    """Widget values for the address's words, in the order of ADDRESS."""
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


def address_of(context: Context, wish: Wish) -> str:
    """The wish as JSON, name -> word; null leaves the name out."""
    run, pose_set = context.registry.run(wish.run), context.registry.sets.get(wish.data)
    names = [epoch_name(run.epochs[i]) for i in wish.epochs]
    plain = Wish(wish.run, wish.epochs, wish.data, wish.sample)
    return json.dumps(
        {
            "run": wish.run,
            "epochs": ",".join(names),
            # The rail carries this one along: the other pages then open the late epoch.
            "epoch": names[-1],
            "data": wish.data,
            "sample": sample_name(pose_set, wish.sample),
            "support": None if wish.support is None else sample_name(pose_set, wish.support),
            "keypoint": wish.keypoint or None,
            "threshold": None if wish.threshold == plain.threshold else wish.threshold,
            "normaliser": None if wish.normaliser == plain.normaliser else wish.normaliser,
        }
    )
