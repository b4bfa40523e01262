"""Cause: one thing that can be wrong with a run, what it needs, what its test costs, and the test.

A cause is a class with a name, a group and a test, and one line in the tuple ``CAUSES`` of its module. Other
packages add theirs by the entry point ``workbench.causes``, each a Cause or a sequence of them.

    class Tied(Cause):
        name, group, level, needs = "all scores alike", "output", "forward", ("poses",)

        def test(self, case):
            scores = case.evidence().measure().predictions.score
            if np.ptp(scores) > 0:
                return RuledOut(f"scores range from {scores.min():.2f} to {scores.max():.2f}")
            return self.found("every pose has the same score", fix="...")
"""

from __future__ import annotations

import functools
import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from workbench.core.errors import USER_ERRORS
from workbench.core.finding import Effect, Finding, Measurement
from workbench.core.report import counted, ends_text, signed_text
from workbench.diagnosis.candidates import Candidates
from workbench.diagnosis.evidence import NEEDS_FORWARD, Change, Gain, Stage, gain
from workbench.evaluation.bootstrap import no_interval_text

if TYPE_CHECKING:
    from workbench.diagnosis.case import Case
    from workbench.diagnosis.separation import Separated

Level = Literal["files", "forward", "evaluate", "train"]
LEVELS: tuple[Level, ...] = ("files", "forward", "evaluate", "train")
SPENT = "the budget was spent before; give more with --budget"
# How the note begins of annotations that cannot be used.
UNUSED = "the data set was not used: "
Group = Literal[
    "file", "input", "output", "labels", "evaluation", "grouping", "sequence", "conditioning", "training"
]

MODULES: tuple[str, ...] = (
    "workbench.diagnosis.loading_causes",
    "workbench.diagnosis.weight_causes",
    "workbench.diagnosis.norm_statistics",
    "workbench.diagnosis.replaced_weights",
    "workbench.diagnosis.config_causes",
    "workbench.diagnosis.lint_causes",
    "workbench.diagnosis.label_causes",
    "workbench.diagnosis.mirror_causes",
    "workbench.diagnosis.set_causes",
    "workbench.diagnosis.annotated_box_causes",
    "workbench.diagnosis.input_causes",
    "workbench.diagnosis.image_file_causes",
    "workbench.diagnosis.annotated_sizes",
    "workbench.diagnosis.constant_outputs",
    "workbench.diagnosis.placing_causes",
    "workbench.diagnosis.decoder_causes",
    "workbench.diagnosis.score_causes",
    "workbench.diagnosis.keypoint_causes",
    "workbench.diagnosis.offset_causes",
    "workbench.diagnosis.evaluation_causes",
    "workbench.diagnosis.claim_causes",
    "workbench.diagnosis.image_id_causes",
    "workbench.diagnosis.result_causes",
    "workbench.diagnosis.box_causes",
    "workbench.diagnosis.lab_causes",
    "workbench.diagnosis.training_causes",
    "workbench.diagnosis.rate_causes",
    "workbench.diagnosis.precision_causes",
    "workbench.diagnosis.text_causes",
    "workbench.diagnosis.package_causes",
    "workbench.diagnosis.codec_causes",
    "workbench.diagnosis.training_code",
    "workbench.diagnosis.overfit_causes",
)
"""Modules with a tuple ``CAUSES``."""

ENTRY_POINT = "workbench.causes"


@dataclass(frozen=True)
class RuledOut:
    """A cause that was tested and is not there.

    Attributes:
        evidence: what was seen, one sentence with its numbers.
    """

    evidence: str


@dataclass(frozen=True)
class LeftOpen(RuledOut):
    """A cause whose undoing gave something that may be chance: not shown, and not excluded."""


@dataclass(frozen=True)
class NotTestable:
    """A cause that could not be tested.

    Attributes:
        needs: what is missing, one sentence.
    """

    needs: str


SHOWN_BY_POSES: tuple[Group, ...] = ("input", "output", "labels", "evaluation")
"""Groups whose findings are asked again once a proved cause is undone."""

GIVEN_BACK = "weights that gave AP back"
"""What a case remembers: changes of weights that were proved outside of the separation."""

Answer = RuledOut | NotTestable | Candidates | Finding | Sequence[Finding]


class Cause(ABC):
    """One thing that can be wrong.

    Attributes:
        name: of the cause, as a finding has it.
        group: of causes.
        level: what its test costs.
        needs: what it reads, in words, for people: ``checkpoint``, ``model``, ``data``, ``log``, ``claim``.
        refuted_by: which observation would refute it.
        symptom_of: causes that explain it: beside one of them it is named after it, however large its effect.
    """

    name: ClassVar[str]
    group: ClassVar[Group]
    level: ClassVar[Level] = "files"
    needs: ClassVar[tuple[str, ...]] = ()
    refuted_by: ClassVar[str] = ""
    symptom_of: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def test(self, case: Case) -> Answer:
        """Find it, or rule it out.

        Args:
            case: what was given, and the evidence that all causes share. It raises NotAvailable where
                something is missing; the cause is then not testable.
        """

    def vanishes_with(self, case: Case, finding: Finding) -> str:
        """The proved cause without which a finding of this one would not be made; "" where it stays.

        Args:
            case: after all tests.
            finding: that `test` gave.
        """
        del finding
        apart = case.peek("separated")
        if (
            apart is None
            or self.level != "forward"
            or self.group not in SHOWN_BY_POSES
            or "claim" in self.needs
        ):
            return ""
        for change in apart.chosen:
            if change.cause == self.name:
                continue
            try:
                if isinstance(self.test(case.mended(change)), RuledOut):
                    return change.cause
            except (*USER_ERRORS, RuntimeError):
                continue  # nothing can be told with this change made
        return ""

    def waits_for(self, finding: Finding, others: Sequence[Finding]) -> str:
        """What has to be undone before a finding of this cause means anything; "" for nothing.

        Args:
            finding: that `test` gave.
            others: findings of other causes that poses tell.
        """
        del finding, others
        return ""

    def found(self, evidence: str, **more: Any) -> Finding:
        """A finding of this cause.

        Args:
            evidence: one sentence with its numbers.
            more: other fields of Finding.
        """
        return Finding(self.name, evidence, **{"refuted_by": self.refuted_by, **more})


class Undone(Cause):
    """A cause that is proved by undoing it: poses are measured with the change and without.

    A subclass declares the changes that would undo it; the separation of all of them decides.

    Attributes:
        of_people: its changes are also tried in the people that a bottom-up model finds.
    """

    of_people: ClassVar[bool] = False
    level: ClassVar[Level] = "forward"
    needs: ClassVar[tuple[str, ...]] = ("poses", "data")

    @abstractmethod
    def changes(self, case: Case) -> Iterable[Change]:
        """What would undo it, in the ways in which it can be there.

        Raises:
            NotAvailable: this case has nothing that could be changed so.
        """

    def change(self, name: str, stage: Stage, of: Callable[[Any], Any], **more: Any) -> Change:
        """A change that undoes this cause; arguments as the fields of Change."""
        return Change(self.name, name, stage, of, **more)

    def vanishes_with(self, case: Case, finding: Finding) -> str:
        """All changes are separated together: it can vanish alone with weights that another test proved.

        What would need another forward pass with these weights is not measured.
        """
        del finding
        apart = case.peek("separated")
        own = next((c for c in apart.chosen if c.cause == self.name), None) if apart is not None else None
        if own is None or own.stage in NEEDS_FORWARD:
            return ""
        measure = case.tried_on().measure
        for weights in case.peek(GIVEN_BACK) or ():
            left = gain(measure([weights]), measure([weights, own]))
            if not (left.oks >= own.least and left.low > 0):
                return weights.cause
        return ""

    def test(self, case: Case) -> Answer:
        own, apart = case.changes_of(self), case.separated()
        if not own:
            return NotTestable(case.no_changes_of(self) or "what was given offers no alternative to try")
        hit = next((change for change in apart.chosen if change.cause == self.name), None)
        if hit is not None:
            found = self.proved(case, hit, apart)
            loaded = case.peek("loaded")
            if found.confidence == "proved" or loaded is None or loaded.load is None or loaded.load.complete:
                return found
            return RuledOut(f"{found.evidence}; part of the weights never arrived, which explains as much")
        measured = [(change, apart.alone[change]) for change in own if change in apart.alone]
        if not measured:
            return NotTestable(next((apart.failed[c] for c in own if c in apart.failed), "nothing measured"))
        change, best = max(measured, key=lambda pair: _given(*pair))
        rival = next((c for c, same in apart.alike.items() for s in same if s.cause == self.name), None)
        if rival is not None:
            return RuledOut(
                f"{change.name} gives {_gain_text(change, best)}, but nothing once '{rival.cause}' is undone"
            )
        if best.oks > 0 and best.low > 0 and apart.chosen:
            found = apart.chosen[0].cause
            return RuledOut(
                f"{change.name} gives {_gain_text(change, best)}, less than undoing '{found}' does"
            )
        undoing = f"undoing it ({change.name}) gives {_gain_text(change, best)}"
        if (best.open(change) or best.too_few()) and not apart.chosen:
            return LeftOpen(
                f"{undoing}; {counted(best.instances, 'instance leaves', 'instances leave')} it open, more "
                "would decide it"
            )
        return RuledOut(f"{undoing}: no gain that counts")

    def proved(self, case: Case, change: Change, apart: Separated) -> Finding:
        """The finding, with what undoing the cause gave."""
        alone, protocol = apart.alone[change], apart.evidence.protocol()
        found = apart.last[change] if alone.AP != alone.AP or _given(change, alone) <= 0 else alone
        evidence = f"{self.seen(case, change)}; with {change.name} {_both(apart, found)}"
        raised = found.AP > 0 and found.AP_low > 0
        if found.AP > 0 and not math.isfinite(found.AP_low):
            evidence += f": {no_interval_text(found.images)}, so this may be chance; measure on more"
        elif not raised:
            evidence += (
                f" {ends_text(found.AP_low, found.AP_high)}: OKS rises, AP does not beyond chance: "
                "this does not account for the lost AP"
            )
        if len(apart.chosen) > 1:
            with_others = apart.last[change]
            evidence += f"; on top of the other changes it gives {_gain_text(change, with_others)}"
        same = [other.cause for other in apart.alike.get(change, ())]
        if same:
            evidence += f"; not told apart from {', '.join(same)}, which explains the same figures"
            evidence += self._telling_apart(case, same)
        return self.found(
            evidence,
            fix=change.fix,
            numbers=(
                Measurement("mean OKS as it is", apart.base.mean_oks, protocol=protocol),
                Measurement("mean OKS with the cause undone", apart.base.mean_oks + found.oks),
                Measurement("instances", found.instances),
            ),
            effect=Effect("AP", found.AP, found.AP_low, found.AP_high, protocol),
            severity="error",
            confidence="proved" if raised and not same else "likely",
        )

    def _telling_apart(self, case: Case, others: Sequence[str]) -> str:
        """Which measurement would refute this cause, and which the others that explain the same."""
        refuting = {cause.name: cause.refuted_by for cause in (self, *case.causes) if cause.refuted_by}
        parts = [f"'{name}' by {refuting[name]}" for name in (self.name, *others) if name in refuting]
        return f"; what tells them apart: refuted is {', '.join(parts)}" if len(parts) > 1 else ""

    def seen(self, case: Case, change: Change) -> str:
        """What stands in the files about it; the cause's own words by default."""
        return f"measured by undoing it on {counted(len(case.separated().evidence.indices), 'instance')}"


def _given(change: Change, found: Gain) -> float:
    return found.AP if change.stage == "scores" else found.oks


def _gain_text(change: Change, found: Gain) -> str:
    if change.stage == "scores":
        return Effect("AP", found.AP, found.AP_low, found.AP_high).text()
    return found.text()


def _both(apart: Separated, found: Gain) -> str:
    ap = apart.base.figures["AP"]
    return (
        f"mean OKS goes from {apart.base.mean_oks:.3f} by {signed_text(found.oks)}, AP from {ap:.3f} by "
        f"{signed_text(found.AP)}"
    )


@functools.cache
def all_causes() -> tuple[Cause, ...]:
    """Every cause, those of the workbench first, then those of other packages."""
    from importlib.metadata import entry_points

    found: list[Cause] = []
    for module in MODULES:
        found += importlib.import_module(module).CAUSES
    for entry in entry_points(group=ENTRY_POINT):
        loaded = entry.load()
        found += loaded if isinstance(loaded, (list, tuple)) else [loaded]
    return tuple(found)
