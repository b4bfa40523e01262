"""Diagnosis: the answer to why a run is worse than it should be, as a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.finding import WITH_FLIP_TEST, Finding
from workbench.core.report import Report, counted, plain, signed_text
from workbench.diagnosis.candidates import EXPLAINED_BY, Candidates

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.diagnosis.commands import Command

# Where no sigmas are known, causes are compared by OKS with this one: the mean of COCO's is .067.
ASSUMED_SIGMA = 0.07
ASSUMED_SIGMAS = "sigma .07 for every keypoint"
NOTHING = "No cause was found"
# Causes that are named in the three sentences; the list has all.
NAMED = 3
NAMED_RULED_OUT = 6
# Causes of one reason in the list of what could not be tested, on the command line.
NAMED_UNTESTED = 5


@dataclass(frozen=True)
class Diagnosis(Report):
    """What is wrong with a run, ranked by how well it is proved.

    Attributes:
        title: of what was examined.
        given: what there was to test with, in a few words.
        findings: proved effects first, the largest first; then broken invariants; then circumstantial ones.
        groups: cause -> its group.
        ruled_out: cause -> what was seen.
        not_testable: cause -> what is missing.
        candidates: causes that explain one symptom and that what was given does not distinguish; none of
            them is proved.
        figures: of the run as it is: AP, AR, mean OKS; {} where there was nothing to measure.
        protocol: by which rules they were measured.
        sample: number of instances that they were measured on, and of those annotated; () without figures.
        together: AP that comes back with every proved cause undone, and its interval; () with fewer than two.
        notes: about targets that were of no use, and files that contradict each other.
        worth_adding: what would allow more tests, the most useful first.
        level: the most costly kind of test that was made.
        seconds: that it took.
        cost: crops or images that the network was given, and how many one evaluation of the set gives to it;
            () where there was no model or no data set.
        repeat: the call that repeats it, as Python.
        subject: what the checkpoint is by its tensors; "" without one.
        commands: that show more of what is named here.
        experiment: the fix of the first finding as ``config`` (path) and ``edits`` (key path -> value); {}
            where it is no change of a config.
    """

    title: str
    given: str
    findings: tuple[Finding, ...]
    groups: Mapping[str, str]
    ruled_out: Mapping[str, str]
    not_testable: Mapping[str, str]
    figures: Mapping[str, float] = field(default_factory=dict)
    protocol: str = ""
    sample: tuple[int, ...] = ()
    together: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    worth_adding: tuple[str, ...] = ()
    level: str = "evaluate"
    seconds: float = 0.0
    cost: tuple[int, ...] = ()
    repeat: Mapping[str, Any] = field(default_factory=dict)
    subject: str = ""
    commands: tuple[Command, ...] = ()
    experiment: Mapping[str, Any] = field(default_factory=dict)
    candidates: tuple[Candidates, ...] = ()

    def sentences(self) -> tuple[str, str, str]:
        """The answer: what is wrong, how it is known, what to do next."""
        wrong = [finding for finding in self.findings if finding.severity != "remark"]
        if not wrong:
            return self._nothing()
        first, *others = wrong
        # A finding that was not undone comes before a proved one only where it explains that one.
        # What costs the flip test alone is nothing that an error explains.
        explained = bool(others) and is_proved(others[0]) and not _is_aside(others[0])
        symptom = others[0] if explained and first.effect is None else None
        if symptom is not None:
            others = others[1:]
        what = f"{self._as_it_is()}{_main_cause(first, symptom)}"
        if others:
            beside = [_brief(finding) for finding in others[: NAMED - 1]]
            left = len(others) - len(beside)
            what += f"; also found: {', '.join(beside)}{f' and {left} more' if left else ''}"
        found = {finding.cause for finding in wrong}
        if alike := [g for g in self.candidates if not found.intersection(c.cause for c in g.causes)]:
            # What was found first is a symptom: its possible causes are the answer.
            names = [one.cause for one in alike[0].causes]
            what += f"; possible causes, which what was given does not distinguish: {', '.join(names)}"
        if self.together:
            gain, low, high = self.together
            interval = f" (95 % interval {low:.3f} to {high:.3f})" if np.isfinite(low + high) else ""
            what += f"; undoing all proved causes together raises AP by {gain:.3f}{interval}"
        return f"{_capital(what)}.", f"Evidence: {first.evidence.rstrip('.')}.", self._next(first)

    def _nothing(self) -> tuple[str, str, str]:
        tested, untested = len(self.ruled_out), len(self.not_testable)
        if self.candidates:
            return self._of_candidates(self.candidates[0])
        if not tested and not self.findings:
            useless = self.given == "nothing" and self.notes
            why = f": {self.notes[0]}" if useless else f" with {self.given}"
            first = f"{NOTHING}, because nothing could be tested{why}"
        else:
            first = (
                f"{_capital(self._as_it_is())}{NOTHING.lower() if self._as_it_is() else NOTHING}: "
                f"{_count(tested, 'possible cause was', 'possible causes were')} tested and ruled out, "
                f"{untested} could not be tested"
            )
        named = list(self.ruled_out)[:NAMED_RULED_OUT]
        rest = tested - len(named)
        second = f"Ruled out: {', '.join(named)}{f' and {rest} more' if rest else ''}"
        if self.findings:
            remarks = "; ".join(finding.evidence.rstrip(".") for finding in self.findings[:1])
            second = f"Worth a look, though it is no fault in itself: {remarks}"
        elif not tested:
            second = "Nothing was ruled out"
        add = self.worth_adding[0] if self.worth_adding else ""
        third = f"To test more, add {add}" if add else "To go on, compare with a better run (--against RUN)"
        return f"{first}.", f"{second}.", f"{third}."

    def _of_candidates(self, first: Candidates) -> tuple[str, str, str]:
        """No cause is proved, and several explain what was seen."""
        what = f"{self._as_it_is()}no cause is proved; what was given does not distinguish these"
        names = ", ".join(one.cause for one in first.causes)
        tells = f"{first.causes[0].cause}: {first.causes[0].measurement}"
        return (
            f"{_capital(what)}: {names}.",
            f"Evidence: {first.symptom.rstrip('.')}.",
            f"What to do: distinguish them, first {tells.rstrip('.')}.",
        )

    def _cost_text(self) -> str:
        if not self.cost or not self.cost[0]:
            return ""
        given, size = self.cost
        return f", {given} network inputs ({given / size:.1f} evaluations of {size})"

    def _as_it_is(self) -> str:
        """The figure of the run, as the beginning of a sentence; "" where nothing was measured."""
        if "AP" not in self.figures or not np.isfinite(self.figures["AP"]):
            return ""
        count, every = self.sample or (0, 0)
        of = counted(every, "annotated instance")
        on = f" on {count} of {of} (level {self.level})" if count < every else ""
        # The tests, and with them the figure, are of the model with all of its weights.
        renamed = any(f.cause == "weights only partly loaded" and f.effect is not None for f in self.findings)
        run = "the run, once its weights are renamed," if renamed else "the run"
        # Other verbs refuse an AP without sigmas: this one compares, and is no figure of the data set.
        sigmas = f" ({ASSUMED_SIGMAS}: none are known)" if ASSUMED_SIGMAS in self.protocol else ""
        return f"{run} reaches AP {self.figures['AP']:.3f}{sigmas}{on}; "

    def _next(self, first: Finding) -> str:
        text = (
            f"What to do: {_small(first.fix.rstrip('.'))}"
            if first.fix
            else "What to do: look at the evidence"
        )
        if first.refuted_by:
            text += f"; this answer would be refuted by {first.refuted_by.rstrip('.')}"
        return f"{text}."

    def summary(self) -> str:
        return " ".join(self.sentences())

    def table(self) -> list[dict[str, Any]]:
        return [
            {
                "rank": rank,
                "cause": finding.cause,
                "group": self.groups.get(finding.cause, ""),
                "severity": finding.severity,
                "confidence": finding.confidence,
                "effect": "" if finding.effect is None else finding.effect.text(),
                "evidence": finding.evidence,
                "fix": finding.fix,
            }
            for rank, finding in enumerate(self.findings, 1)
        ]

    def to_findings(self) -> tuple[Finding, ...]:
        return self.findings

    def to_json(self) -> dict[str, Any]:
        """The facts under the names of the command line."""
        return plain(
            {
                "summary": self.summary(),
                "sentences": self.sentences(),
                "title": self.title,
                "subject": self.subject,
                "given": self.given,
                "figures": dict(self.figures),
                "protocol": self.protocol,
                "sample": list(self.sample),
                "findings": [self._facts(finding) for finding in self.findings],
                "together": self.together,
                "ruled_out": [{"cause": c, "evidence": e} for c, e in self.ruled_out.items()],
                "not_testable": [{"cause": c, "needs": n} for c, n in self.not_testable.items()],
                "candidates": self.candidates,
                "notes": self.notes,
                "worth_adding": self.worth_adding,
                "commands": [{"shows": one.shows, "command": one.line} for one in self.commands],
                "level": self.level,
                "seconds": round(self.seconds, 2),
                "network_inputs": self.cost[0] if self.cost else 0,
                "inputs_of_one_evaluation": self.cost[1] if self.cost else 0,
            }
        )

    def _facts(self, finding: Finding) -> dict[str, Any]:
        effect = finding.effect
        return {
            "cause": finding.cause,
            "group": self.groups.get(finding.cause, ""),
            "severity": finding.severity,
            "confidence": finding.confidence,
            "evidence": finding.evidence,
            "numbers": finding.numbers,
            "effect": None
            if effect is None
            else {
                "metric": effect.measure,
                "value": effect.delta,
                "low": effect.low,
                "high": effect.high,
                "protocol": effect.protocol,
            },
            "fix": finding.fix,
            "diff": finding.diff,
            "refuted_by": finding.refuted_by,
            "where": finding.where,
            "assumption": finding.assumption,
        }

    def plot(self) -> Figure:
        """What undoing each proved cause gives back, with intervals."""
        import plotly.graph_objects as go

        from workbench.figures import FINDING_COLOUR, new_figure

        shown = [f for f in self.findings if f.effect is not None][::-1]
        measures = list(dict.fromkeys(f.effect.measure for f in shown if f.effect)) or ["AP"]
        axis = f"change of {', '.join(measures)} by undoing the cause"
        figure = new_figure(self.sentences()[0], x=axis, height=140 + 34 * max(len(shown), 2))
        if not shown:
            return figure.add_annotation(
                text="no cause has a measured effect",
                showarrow=False,
                x=0.5,
                y=0.5,
                xref="paper",
                yref="paper",
            )
        delta = np.array([f.effect.delta for f in shown if f.effect], np.float32)
        ends = np.array([(f.effect.low, f.effect.high) for f in shown if f.effect], np.float32)
        above, below = np.nan_to_num(ends[:, 1] - delta), np.nan_to_num(delta - ends[:, 0])
        figure.add_trace(
            go.Bar(
                x=delta, y=[f.cause for f in shown], orientation="h", marker={"color": FINDING_COLOUR},
                error_x={"type": "data", "symmetric": False, "array": above, "arrayminus": below},
                customdata=[f.effect.measure for f in shown if f.effect],
                hovertext=[signed_text(d) for d in delta.tolist()], showlegend=False,
                hovertemplate="%{y}: %{customdata} %{hovertext}<extra></extra>",
            )
        )  # fmt: skip
        return figure

    def text(self) -> str:
        """For the command line: three sentences, the findings, what was ruled out and what was not tested."""
        lines = ["\n".join(self.sentences()), *([f"What it is: {self.subject}."] if self.subject else []), ""]
        for rank, finding in enumerate(self.findings, 1):
            effect = f": undoing it gives {finding.effect.text()}" if finding.effect is not None else ""
            kind = f"{self.groups.get(finding.cause, '')}, {finding.severity}, {finding.confidence}"
            lines += [f"{rank}. {finding.cause} ({kind}){effect}", f"   {finding.evidence}"]
            lines += [f"   only if {finding.assumption}"] if finding.assumption else []
            lines += [f"   -> {line}" for line in finding.fix.splitlines()]
            lines += [f"      {line}" for line in finding.diff.splitlines()]
            lines += [f"   would be refuted by: {finding.refuted_by}"] if finding.refuted_by else []
        for group in self.candidates:
            lines += ["", f"not distinguished by what was given: {group.symptom}"]
            lines += [
                f"  {one.cause}{f' ({one.evidence})' if one.evidence else ''}: {one.measurement}"
                for one in group.causes
            ]
        if self.ruled_out:
            lines += ["", "ruled out:"]
            lines += [f"  {cause}: {evidence}" for cause, evidence in self.ruled_out.items()]
        if self.not_testable:
            lines += ["", "could not be tested:"]
            lines += [f"  {_some_of(causes)}: {why}" for why, causes in _by_reason(self.not_testable).items()]
            shortened = max(map(len, _by_reason(self.not_testable).values())) > NAMED_UNTESTED
            lines += ["  (--json and the page name every one)"] if shortened else []
        lines += ["", *(f"note: {note}" for note in self.notes)]
        lines += [f"worth adding: {text}" for text in self.worth_adding]
        if self.commands:
            width = max(len(one.shows) for one in self.commands)
            lines += ["", "to see more:", *(f"  {one.shows:{width}}  {one.line}" for one in self.commands)]
        cost = f"{self.seconds:.1f} s{self._cost_text()}, level {self.level}, with {self.given}"
        return "\n".join([*lines, *([f"protocol: {self.protocol}"] if self.protocol else []), cost])


def _some_of(causes: Sequence[str]) -> str:
    """The first causes of a list, and how many more there are: a terminal shows no list of forty names."""
    if len(causes) <= NAMED_UNTESTED:
        return ", ".join(causes)
    return f"{', '.join(causes[: NAMED_UNTESTED - 1])} and {len(causes) - NAMED_UNTESTED + 1} more"


def _by_reason(not_testable: Mapping[str, str]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for cause, why in not_testable.items():
        reasons.setdefault(why, []).append(cause)
    return reasons


def _main_cause(first: Finding, symptom: Finding | None) -> str:
    """The first finding as a clause; `symptom` is what it explains and what undoing that gives back."""
    effect, name = first.effect, _named(first)
    if symptom is not None:
        return f"the main cause is: {name}; it explains what was proved: {_brief(symptom)}"
    if effect is not None and _is_aside(first):
        return f"no cause of this figure was found; in the flip test, which it does not use: {_brief(first)}"
    if effect is not None and first.confidence in ("likely", "possible") and not is_proved(first):
        return (
            f"the most likely cause is: {name}; it is not proved: undoing it changes "
            f"{effect.measure} by {effect.text().removeprefix(effect.measure).strip()}"
        )
    if effect is not None:
        low, high = effect.low, effect.high
        interval = f" (95 % interval {low:.3f} to {high:.3f})" if np.isfinite(low + high) else ""
        gain = f"undoing it raises {effect.measure} by {effect.delta:.3f}{interval}"
        if effect.delta <= 0:
            gain = f"undoing it changes {effect.measure} by {signed_text(effect.delta)}{interval}"
        return f"the main cause is: {name}; {gain}"
    if first.confidence in ("likely", "possible"):
        return f"the most likely cause is: {name}; it is not proved"
    return f"the main finding is: {name}; what it costs was not measured"


def _named(finding: Finding) -> str:
    """The cause, with the condition under which it is one where that was not looked at."""
    return f"{finding.cause} (only if {finding.assumption})" if finding.assumption else finding.cause


def _brief(finding: Finding) -> str:
    name = _named(finding)
    return name if finding.effect is None else f"{name} ({finding.effect.text()})"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _small(text: str) -> str:
    """The text with a small first letter, unless its first word is a name such as OKS."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _is_aside(finding: Finding) -> bool:
    """Whether the effect is one of the flip test, without which the run's figure is measured."""
    return finding.effect is not None and finding.effect.measure.endswith(WITH_FLIP_TEST)


def is_proved(finding: Finding) -> bool:
    """Whether undoing the cause gave something back, by an interval above 0."""
    effect = finding.effect
    return effect is not None and effect.delta > 0 and effect.low > 0


def by_proof(
    findings: Sequence[Finding], symptom_of: Mapping[str, Sequence[str]] | None = None
) -> list[Finding]:
    """Proved effects first, the largest first; then broken invariants; then circumstantial evidence.

    What costs the flip test alone stands behind the errors: the run's figure is without that test.

    Args:
        findings: in any order.
        symptom_of: cause -> causes that explain it; the first of them that is found comes right before it.
    """
    severity = ("error", "warning", "remark")
    confidence = ("proved", "measured", "likely", "possible")

    def key(finding: Finding) -> tuple[Any, ...]:
        effect = finding.effect.delta if is_proved(finding) and finding.effect else 0.0
        circumstantial = finding.confidence in ("likely", "possible")
        remark = finding.severity == "remark"
        is_error = finding.severity == "error" and not circumstantial
        return (
            remark,
            2 if _is_aside(finding) else 0 if is_proved(finding) else 1 if is_error else 3,
            circumstantial,
            -effect,
            severity.index(finding.severity),
            confidence.index(finding.confidence),
            finding.cause in EXPLAINED_BY,  # a symptom behind causes that are known as well
        )

    order = sorted(findings, key=key)
    for finding in list(order):
        explained = (symptom_of or {}).get(finding.cause, ())
        at = next((i for i, other in enumerate(order) if other.cause in explained), None)
        if at is not None and order.index(finding) < at and severity_of(order[at]) <= severity_of(finding):
            # What the symptom costs is what its cause costs, so the cause takes its place.
            explanation = order.pop(at)
            order.insert(order.index(finding), explanation)
    return order


def joined(alike: Sequence[Finding]) -> Finding:
    """Findings of one cause as one: the best proved, with what the others show behind its own evidence."""
    first, *others = by_proof(alike)
    shown = "; ".join(dict.fromkeys(one.evidence for one in (first, *others)))
    numbers = tuple(number for one in (first, *others) for number in one.numbers)
    return dataclasses.replace(first, evidence=shown, numbers=numbers)


def severity_of(finding: Finding) -> int:
    """0 for an error, 1 for a warning, 2 for a remark."""
    return ("error", "warning", "remark").index(finding.severity)
