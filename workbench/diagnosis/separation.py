"""Separation of causes: which changes undo something, each alone and all together, on how many instances.

Changes are searched on a sample. At level evaluate those that promise something are measured again on as many
instances as two evaluations allow (`input_budget`); at level forward on some more where the sample leaves
something open.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from workbench.core import NotAvailable
from workbench.diagnosis.constant_outputs import check_varying
from workbench.diagnosis.evidence import (
    FIRST,
    GLANCE,
    LEAST_AP,
    LEVEL,
    LOST,
    MOST_STORED,
    NEEDS_FORWARD,
    NOTHING_TO_LOSE,
    STRAY,
    Change,
    Evidence,
    Gain,
    Measured,
    acting,
    gain,
)  # fmt: skip
from workbench.diagnosis.input_budget import (
    LEAST_FLIPPED,
    OF_FLIP_TEST,
    SPENT_INPUTS,
    left_of_inputs,
    left_to_search,
)
from workbench.diagnosis.people_evidence import PeopleEvidence

if TYPE_CHECKING:
    from workbench.diagnosis.case import Case

Value = TypeVar("Value")

# Two causes explain the same where the second gives at least this share of the first one's gain.
ALIKE = 0.85
# Level of the interval of the difference between two gains that holds 0 where they are not distinguished.
SAME_LEVEL = 0.95
# A last resort is not named where another change, though not certain, gives this share of it.
NEARLY = 0.5
MOST_CAUSES = 5
# Of the second look, on more instances, at the few changes that the first one left: all of them together.
SECOND_LEVEL = 0.95
# Times the sample's instances are looked at where these leave open whether a change undoes something.
MORE = 4
# Images of a bottom-up model where the first few leave something open.
MORE_IMAGES = 60


@dataclass(frozen=True, eq=False)
class Separated:
    """Which changes undo something, and how much each gives.

    Attributes:
        evidence: on which it was measured.
        base: without any change.
        chosen: the changes that undo something, in the order of their gain.
        alone: gain of every change that was measured, alone.
        last: gain of each chosen change when all other chosen ones are made already.
        together: gain of all chosen changes; None where none was chosen.
        alike: for a chosen change the others that explain the same.
        failed: changes that could not be measured, and why.
        undecided: changes that gave something on top of the chosen ones, though it may be chance.
    """

    evidence: Evidence
    base: Measured
    chosen: tuple[Change, ...]
    alone: Mapping[Change, Gain]
    last: Mapping[Change, Gain]
    together: Gain | None
    alike: Mapping[Change, tuple[Change, ...]]
    failed: Mapping[Change, str]
    undecided: tuple[Change, ...] = ()

    @property
    def promising(self) -> tuple[Change, ...]:
        """What more instances have to decide: the chosen changes, what explains the same, what is open."""
        return tuple(dict.fromkeys([*self.chosen, *chain(*self.alike.values()), *self.undecided]))


def nothing_chosen(evidence: Evidence) -> Separated:
    """The separation of no changes."""
    return Separated(evidence, evidence.measure(), (), {}, {}, None, {}, {})


class Separation:
    """The search for the changes that undo something, the one that gives most first.

    Args:
        evidence: of the poses.
        changes: all that are tried.
        stepped: called before every measurement; what it raises ends the search.
        looks: a change is measured on a few instances first, and on all where these leave it open.
        left: how many inputs the network may still be given.
    """

    def __init__(
        self,
        evidence: Evidence,
        changes: Sequence[Change],
        stepped: Callable[[], None] = lambda: None,
        looks: bool = True,
        left: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self.evidence, self.changes, self.stepped = evidence, tuple(changes), stepped
        self.left = left
        # Where inputs are counted, looks at a few instances save some of a small sample as well.
        self.looks = looks and len(evidence.indices) > (GLANCE if left() < math.inf else 2 * GLANCE)
        # Few changes are asked again, so chance has fewer tries: each of them its share of the level.
        self.again = not looks
        self.level = LEVEL if looks else min(1 - (1 - SECOND_LEVEL) / max(len(self.changes), 1), LEVEL)
        self.alone: dict[Change, Gain] = {}
        self.lost: set[Change] = set()
        self.waiting: set[Change] = set()
        self.untried: set[Change] = set()
        self.failed: dict[Change, str] = {}
        self.alike: dict[Change, tuple[Change, ...]] = {}

    def result(self) -> Separated:
        """Each change alone; then the best on top of those chosen before, until none adds anything."""
        base = self.evidence.measure()
        chosen: list[Change] = []
        gains: list[tuple[Change, Gain]] = []
        while len(chosen) < MOST_CAUSES:
            gains = self._gains(chosen)
            able = {i: g for i, (c, g) in enumerate(gains) if self._is_certain(c, g)}
            able = {i: g for i, g in able.items() if not gains[i][0].last_resort} or _last_resorts(
                able, gains
            )
            if not able:
                break
            best = max(able, key=lambda i: (gains[i][0].shown, _size(gains[i][0], able[i])))
            change, found = gains[best]
            rivals = [
                c
                for c, g in gains
                if c.cause != change.cause
                and self._is_certain(c, g)
                and (
                    _size(c, g) >= ALIKE * _size(change, found) or self._overlaps(chosen, change, c, found, g)
                )
            ]
            chosen.append(change)
            self.alike[change] = self._adding_nothing(chosen, rivals)
        chosen, last = self._needed(chosen)
        together = None
        if chosen:
            undone = self.evidence.measure(chosen)
            chosen = chosen if undone.mean_oks >= STRAY else []
            together = gain(base, undone, with_ap=True) if chosen else None
        for change in self.untried.difference(self.alone, chosen):
            self.failed.setdefault(change, SPENT_INPUTS)
        chosen.sort(key=lambda change: -_size(change, self.alone.get(change, last[change])))
        alone = {c: gain(base, self.evidence.measure([c]), with_ap=True, level=self.level) for c in chosen}
        return Separated(
            self.evidence, base, tuple(chosen), {**self.alone, **alone}, last, together, self.alike,
            self.failed, tuple(c for c, g in gains if g.open(c) and c not in chosen),
        )  # fmt: skip

    def _is_certain(self, change: Change, found: Gain) -> bool:
        if change in self.waiting:
            return False  # a few instances prove nothing
        return found.certain(change) or (self.again and found.by_ap(change))

    def _gains(self, chosen: Sequence[Change]) -> list[tuple[Change, Gain]]:
        """The gain of every change on top of the chosen ones.

        On all instances only where a few leave it open, and where it is not behind another change on the same
        instances: that one is chosen first, and what is left is measured on top of it.
        """
        taken = {change.cause for change in chosen}
        found: dict[Change, Gain] = {}
        waiting = []
        self.waiting.clear()
        for change in self.changes:
            # What spoiled a run that can be read is no cause of it, whatever else is undone.
            if change.cause in taken or change in self.failed or change in self.lost:
                continue
            if not self._may_look(chosen, change, found):
                self.untried.add(change)
                continue
            if (looked := self._tried(change, lambda c=change: self._looked(chosen, c))) is None:
                continue
            self.untried.discard(change)
            found[change], decided = looked
            waiting += [] if decided else [change]
        open_ones = set(waiting)
        free = {change for change in waiting if self._is_free(chosen, change)}
        for change in sorted(waiting, key=lambda one: (one not in free, -found[one].oks)):
            leading = [c for c, g in found.items() if c not in open_ones and _leads(c, g)]
            best = max(leading, key=lambda one: found[one].oks, default=None)
            if self._may_wait(chosen, change, best):
                self.waiting.add(change)
                continue
            looked = self._tried(change, lambda c=change, b=best: self._looked_again(chosen, c, b))
            if looked is None:
                open_ones.discard(change)
                del found[change]
                continue
            found[change], decided = looked
            if decided:
                open_ones.discard(change)
        if not chosen:
            self.alone.update(found)
        return list(found.items())

    def _tried(self, change: Change, measured: Callable[[], Value]) -> Value | None:
        """What is measured; None where the change cannot be made, with the reason in `failed`."""
        self.stepped()
        try:
            return measured()
        except (ValueError, LookupError, RuntimeError) as error:
            self.failed[change] = str(error)
            return None

    def _looked(self, chosen: Sequence[Change], change: Change) -> tuple[Gain, bool]:
        """The gain on a few instances, and whether that decides; of what needs no pass on all of them."""
        if change.stage not in NEEDS_FORWARD or not self.looks:
            return self._gain(chosen, change), True
        evidence = self.evidence
        found = self._on(chosen, change, evidence.first)
        poor = evidence.measure(chosen).mean_oks < NOTHING_TO_LOSE
        worse = found.high < 0 and found.oks < -change.least  # on each of the few instances
        if worse or found.oks < (change.least / 2 if poor else 0.0 if chosen else LOST):
            self.lost |= set() if poor else {change}
            return found, True
        return found, False

    def _looked_again(
        self, chosen: Sequence[Change], change: Change, best: Change | None
    ) -> tuple[Gain, bool]:
        """The gain on some more instances, and on all where these leave it open; False where it waits.

        Args:
            chosen: on top of which it is measured.
            change: that is measured.
            best: another change that undoes something; one that is behind it waits until it is chosen.
        """
        evidence = self.evidence
        found = self._on(chosen, change, evidence.glance)
        poor = evidence.measure(chosen).mean_oks < NOTHING_TO_LOSE
        if self._hopeless(change, found, poor):
            return found, True
        if best is not None and self._is_behind(chosen, change, best, evidence.glance):
            return found, False
        rest = len(evidence.indices) - len(evidence.glance)
        # Where it counts so far it may take what the flip test would: that is not made if it is chosen.
        spare = self._spare([change] if found.oks >= change.least else chosen)
        if not self._is_free(chosen, change) and spare < rest:
            self.waiting.add(change)
            return found, False
        return self._gain(chosen, change, best), True

    def _spare(self, chosen: Sequence[Change]) -> float:
        """Inputs that may still be given; where something is undone, no flip test is made later."""
        return self.left() + (OF_FLIP_TEST if chosen else 0)

    def _may_look(self, chosen: Sequence[Change], change: Change, found: Mapping[Change, Gain]) -> bool:
        """Whether there are inputs for a first look: what gave something in every instance is decided first.

        Args:
            chosen: on top of which it would be measured.
            change: that would be looked at.
            found: by first looks at others.
        """
        if change.stage not in NEEDS_FORWARD or self._is_free(chosen, change):
            return True
        few = FIRST if self.looks or isinstance(self.evidence, PeopleEvidence) else len(self.evidence.indices)
        gained = [c for c, g in found.items() if g.low > 0 and g.oks >= c.least and c.stage in NEEDS_FORWARD]
        is_open = self.looks and not all(self._is_free(chosen, one) for one in gained)
        rest = len(self.evidence.indices) - FIRST if is_open else 0
        flipped = 0 if chosen else LEAST_FLIPPED
        return self.left() + OF_FLIP_TEST - flipped >= few + rest

    def _is_free(self, chosen: Sequence[Change], change: Change) -> bool:
        """Whether measuring it on the sample takes no inputs."""
        made = change.is_stored and not acting(chosen)
        return made or self.evidence.is_measured([*chosen, change])

    def _may_wait(self, chosen: Sequence[Change], change: Change, best: Change | None) -> bool:
        """Whether another change is chosen first: one that gives far more, or the inputs run short.

        Args:
            chosen: on top of which it would be measured.
            change: that may wait.
            best: another change that undoes something.
        """
        if change.shown or self._is_free(chosen, change):
            return False
        again = sum(one.stage in NEEDS_FORWARD and one not in self.lost for one in self.changes)
        if self._spare(chosen) < GLANCE + (FIRST * again if best is not None else 0):
            return True
        if best is None:
            return False
        # In none of the few instances it gives half of what the other one gives, or it is behind in each.
        part, few = NEARLY * self._on(chosen, best, self.evidence.first).oks, self.evidence.first
        found = self._on(chosen, change, few)
        return found.high < part or (found.oks < part and self._is_behind(chosen, change, best, few))

    def _on(self, chosen: Sequence[Change], change: Change, rows: tuple[int, ...]) -> Gain:
        measure = self.evidence.measure
        return gain(measure(chosen, rows), measure([*chosen, change], rows), looked=True)

    def _hopeless(self, change: Change, found: Gain, poor: bool) -> bool:
        self.lost |= {change} if found.high < change.least and not poor else set()
        return found.oks < 0 or found.high < change.least

    def _is_behind(
        self, chosen: Sequence[Change], change: Change, best: Change, rows: tuple[int, ...]
    ) -> bool:
        """Whether a change gives less than another one on the same instances, beyond chance."""
        measure = self.evidence.measure
        with_best = measure([*chosen, best], rows)
        return gain(with_best, measure([*chosen, change], rows), looked=True).high < 0

    def _overlaps(
        self, chosen: Sequence[Change], change: Change, rival: Change, found: Gain, other: Gain
    ) -> bool:
        """Whether the difference between the gains of two causes may be chance.

        What the files show of a cause distinguishes it, and what makes up for other causes is no rival.
        """
        of_scores = "scores" in (change.stage, rival.stage)
        if change.shown or rival.last_resort or of_scores or other.oks < NEARLY * found.oks:
            return False
        if not self.evidence.is_measured([*chosen, rival]):
            return False  # a part of the instances showed that it gives less
        with_it, with_rival = (self.evidence.measure([*chosen, one]) for one in (change, rival))
        return not gain(with_rival, with_it, level=SAME_LEVEL).low > 0

    def _gain(self, chosen: Sequence[Change], change: Change, best: Change | None = None) -> Gain:
        """The gain on all instances, or on half of them where that decides.

        Args:
            chosen: on top of which it is measured.
            change: that is measured.
            best: another change that undoes something; one that is behind it waits until it is chosen.
        """
        evidence = self.evidence
        if change.stage in NEEDS_FORWARD and self.looks:
            half = self._on(chosen, change, evidence.half)
            poor = evidence.measure(chosen).mean_oks < NOTHING_TO_LOSE
            if self._hopeless(change, half, poor):
                return half
            if best is not None and self._is_behind(chosen, change, best, evidence.half):
                return half
        before, after = evidence.measure(chosen), evidence.measure([*chosen, change])
        least = change.needs_ap or max(change.least, LEAST_AP)
        promising = after.figures["AP"] - before.figures["AP"] >= least
        needed = change.needs_ap > 0 or change.stage == "scores" or self.again
        return gain(before, after, with_ap=promising and needed, level=self.level)

    def _adding_nothing(self, chosen: Sequence[Change], rivals: Sequence[Change]) -> tuple[Change, ...]:
        """Of other causes that gave as much, those that give nothing once this one is undone."""
        same: dict[str, Change] = {}
        for rival in rivals:
            if not self._is_certain(rival, self._gain(chosen, rival)):
                same.setdefault(rival.cause, rival)
        return tuple(same.values())

    def _needed(self, chosen: Sequence[Change]) -> tuple[list[Change], dict[Change, Gain]]:
        """The chosen changes without those that the others made needless; what each adds as the last."""
        held = list(chosen)
        last: dict[Change, Gain] = {}
        for change in list(held):
            others = [c for c in held if c is not change]
            added = gain(
                self.evidence.measure(others),
                self.evidence.measure([*others, change]),
                with_ap=True,
                level=self.level,
            )
            if others and not self._is_certain(change, added):
                held.remove(change)
            else:
                last[change] = added
        return held, last


def _last_resorts(able: dict[int, Gain], gains: Sequence[tuple[Change, Gain]]) -> dict[int, Gain]:
    """Those of them beside which no other change comes near: else more instances have to decide."""
    most = max((_size(c, g) for c, g in gains if not c.last_resort and c.stage != "scores"), default=0.0)
    return {i: g for i, g in able.items() if most < NEARLY * g.oks}


def _leads(change: Change, found: Gain) -> bool:
    """Whether others may wait for this change: it undoes something, measured in OKS, and no last resort."""
    return change.stage != "scores" and not change.last_resort and found.certain(change)


def _size(change: Change, found: Gain) -> float:
    return found.AP if change.stage == "scores" else found.oks


def separated(case: Case, changes: Sequence[Change]) -> Separated:
    """Which of the changes undo something in a case, all tried at once.

    Args:
        case: with poses and annotations.
        changes: all that are tried.
    """
    sample = case.tried_on()
    looks = not isinstance(sample, PeopleEvidence)
    found = Separation(sample, changes, case.step, looks, lambda: left_to_search(case)).result()
    promising = found.promising
    if isinstance(sample, PeopleEvidence):
        # More images decide what the first few leave open.
        count = min(MORE_IMAGES, left_of_inputs(case) / (1 + len(acting(promising))))
        if found.chosen or not found.undecided or count <= len(sample.image_ids):
            return found
        more = case.people(int(count))
        if len(more.image_ids) <= len(sample.image_ids):
            return found
        return Separation(more, promising, case.step, looks=False).result()
    if case.measured() is not sample:
        longer, promising = asked_again(case, found)
    else:
        longer = _more(case) if found.undecided else sample
        promising = promising if len(longer.indices) > len(sample.indices) else ()
    if not promising:
        return found
    again = Separation(longer, promising, case.step, looks=False).result()
    return dataclasses.replace(
        again, alone={**found.alone, **again.alone}, failed={**found.failed, **again.failed}
    )


def asked_again(case: Case, found: Separated) -> tuple[Evidence, tuple[Change, ...]]:
    """The evidence with which promising changes are measured again, and those of them that are.

    Of as many instances as the cost allows; where it does not allow all open ones, those that gave most.

    Args:
        case: at level evaluate, the whole set evaluated.
        found: by the search.
    """
    sample, whole = case.evidence(), case.measured()
    given = {change: found.alone[change].oks if change in found.alone else 0.0 for change in found.undecided}
    open_ones = sorted(given, key=lambda change: -given[change])
    again = [*(change for change in found.promising if change not in given), *open_ones]
    # What would count if it is no chance comes before the flip test, which takes what is left then.
    counts = not found.chosen and any(given[change] >= change.least for change in open_ones)
    left = left_to_search(case) + (OF_FLIP_TEST if counts else 0)
    count, size = 0, len(sample.indices)
    while again:
        passes = max(sample.passes_of(again), sum(change.inputs for change in acting(again)))
        missing = sum(size - sample.seen_with(change) for change in acting(again))
        more = max(left - missing, 0) // passes if passes else len(whole.indices)
        # Whole batches, so that outputs are used again.
        count = size + int(more) // sample.batch_size * sample.batch_size
        if count > size:
            break
        last = again.pop()
        if last not in given:
            return sample, ()
        if counts and not again:
            return _on_part(case, last, left)
    longer = whole if count >= len(whole.indices) else _of_first(case, min(count, MOST_STORED))
    return longer, tuple(again)


def _on_part(case: Case, change: Change, left: float) -> tuple[Evidence, tuple[Change, ...]]:
    """The sample, or the part of it, on which a change can still be measured; () where none is larger."""
    sample = case.evidence()
    for rows in (sample.indices, sample.half, sample.glance):
        if 0 < len(rows) - sample.seen_with(change) <= left:
            part = Evidence(case.pose_set(), rows, sample.model, stepped=case.step, within=sample)
            return part, (change,)
    return sample, ()


def _more(case: Case) -> Evidence:
    """Evidence of more instances, for what the sample leaves open; the sample where there are none."""
    sample = case.evidence()
    count = min(MORE * len(sample.indices), MOST_STORED)
    every = len(case.pose_set().labelled)
    if sample.model is None or case.options.budget is not None or len(sample.indices) >= every:
        return sample
    return _of_first(case, count)


def _of_first(case: Case, count: int) -> Evidence:
    """Evidence of so many instances, the sample's among them, whose outputs are used."""
    sample = case.evidence()
    order = case.in_order()[:count]
    return Evidence(case.pose_set(), order, sample.model, stepped=case.step, within=sample)


def varying(case: Case, changes: Sequence[Change]) -> tuple[list[Change], dict[str, str]]:
    """The changes that can undo something, and why those of other causes cannot, by cause.

    Outputs that are the same for every image are mended by what makes them vary, and by no other reading.

    Args:
        case: with poses.
        changes: all that could be tried.
    """
    if case.evidence().model is None:
        return list(changes), {}
    try:
        check_varying(case)
    except NotAvailable as error:
        why, kept = str(error), []
    else:
        return list(changes), {}
    for change in changes:
        try:
            check_varying(case, acting([change]))
        except NotAvailable:
            continue
        except (ValueError, LookupError, RuntimeError):
            pass  # it cannot be made: the separation says so
        kept.append(change)
    causes = {change.cause for change in kept}
    return kept, {change.cause: why for change in changes if change.cause not in causes}
