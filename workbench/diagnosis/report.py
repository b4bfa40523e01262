"""Diagnosis: the answer to why a run is worse than it should be, as a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.finding import Finding
from workbench.core.report import Report, plain

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.diagnosis.commands import Command

NOTHING = "No cause found"
# Causes that are named in the three sentences; the list has all.
NAMED = 3


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
        figures: of the run as it is: AP, AR, mean OKS; {} where there was nothing to measure.
        protocol: by which rules they were measured.
        together: AP that comes back with every proved cause undone, and its interval; () with fewer than two.
        notes: about targets that were of no use, and files that contradict each other.
        worth_adding: what would allow more tests, the most useful first.
        level: the most costly kind of test that was made.
        seconds: that it took.
        repeat: the call that repeats it, as Python.
        subject: what the checkpoint is by its tensors; "" without one.
        commands: that show more of what is named here.
    """

    title: str
    given: str
    findings: tuple[Finding, ...]
    groups: Mapping[str, str]
    ruled_out: Mapping[str, str]
    not_testable: Mapping[str, str]
    figures: Mapping[str, float] = field(default_factory=dict)
    protocol: str = ""
    together: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    worth_adding: tuple[str, ...] = ()
    level: str = "evaluate"
    seconds: float = 0.0
    repeat: Mapping[str, Any] = field(default_factory=dict)
    subject: str = ""
    commands: tuple[Command, ...] = ()

    def sentences(self) -> tuple[str, str, str]:
        """The answer: what is wrong, how it is known, what to do next."""
        if not self.findings:
            return self._nothing()
        first, *others = self.findings
        if first.effect is not None:
            what = f"{first.cause} costs {first.effect.measure} {first.effect.delta:.3f}"
            if np.isfinite(first.effect.low + first.effect.high):
                what += f" (95 % interval {first.effect.low:.3f} to {first.effect.high:.3f})"
        elif first.confidence in ("likely", "possible"):
            what = f"the likeliest cause is: {first.cause}; nothing has proved it yet"
        else:
            what = f"found: {first.cause}; what it costs was not measured"
        what = _capital(f"{self._as_it_is()}{what}")
        beside = [_brief(finding) for finding in others[: NAMED - 1] if finding.severity != "remark"]
        if beside:
            what += f"; beside it {' and '.join(beside)}"
            left = len([f for f in others if f.severity != "remark"]) - len(beside)
            what += f", and {left} more" if left > 0 else ""
        if self.together:
            what += f"; all undone together give back {self.together[0]:+.3f}"
        return f"{what}.", f"{_capital(first.evidence).rstrip('.')}.", self._next(first)

    def _nothing(self) -> tuple[str, str, str]:
        tested = len(self.ruled_out)
        if not tested:
            first = f"{NOTHING}, because nothing could be tested with {self.given}"
        else:
            said = NOTHING.lower() if self._as_it_is() else NOTHING
            first = f"{self._as_it_is()}{said}; {tested} were tested and ruled out"
        some = ", ".join(list(self.ruled_out)[:6])
        second = (
            f"Ruled out: {some}{' and others' if tested > 6 else ''}" if tested else "Nothing was ruled out"
        )
        third = self.worth_adding[0] if self.worth_adding else "Train longer, or compare with --against RUN"
        return f"{first}.", f"{second}.", f"Next: {third}."

    def _as_it_is(self) -> str:
        if "AP" not in self.figures or not np.isfinite(self.figures["AP"]):
            return ""
        return f"AP is {self.figures['AP']:.3f}; "

    def _next(self, first: Finding) -> str:
        text = f"Do: {first.fix.rstrip('.')}" if first.fix else "Do: look at the evidence"
        if first.refuted_by:
            text += f"; it would be refuted by {first.refuted_by.rstrip('.')}"
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
                "findings": [self._facts(finding) for finding in self.findings],
                "together": self.together,
                "ruled_out": [{"cause": c, "evidence": e} for c, e in self.ruled_out.items()],
                "not_testable": [{"cause": c, "needs": n} for c, n in self.not_testable.items()],
                "notes": self.notes,
                "worth_adding": self.worth_adding,
                "commands": [{"shows": one.shows, "command": one.line} for one in self.commands],
                "level": self.level,
                "seconds": round(self.seconds, 2),
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
        title = self.sentences()[0]
        figure = new_figure(
            title, x="AP given back by undoing the cause", height=140 + 34 * max(len(shown), 2)
        )
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
                hovertemplate="%{y}: AP %{x:+.3f}<extra></extra>", showlegend=False,
            )
        )  # fmt: skip
        return figure

    def text(self) -> str:
        """For the command line: three sentences, the findings, what was ruled out and what was not tested."""
        lines = ["\n".join(self.sentences()), *([f"What it is: {self.subject}."] if self.subject else []), ""]
        for rank, finding in enumerate(self.findings, 1):
            effect = f": {finding.effect.text()} given back" if finding.effect is not None else ""
            kind = f"{self.groups.get(finding.cause, '')}, {finding.severity}, {finding.confidence}"
            lines += [f"{rank}. {finding.cause} ({kind}){effect}", f"   {finding.evidence}"]
            lines += [f"   only if {finding.assumption}"] if finding.assumption else []
            lines += [f"   -> {line}" for line in finding.fix.splitlines()]
            lines += [f"      {line}" for line in finding.diff.splitlines()]
            lines += [f"   refuted by: {finding.refuted_by}"] if finding.refuted_by else []
        if self.ruled_out:
            lines += ["", "ruled out:"]
            lines += [f"  {cause}: {evidence}" for cause, evidence in self.ruled_out.items()]
        if self.not_testable:
            lines += ["", "could not be tested:"]
            lines += [
                f"  {', '.join(causes)}: {why}" for why, causes in _by_reason(self.not_testable).items()
            ]
        lines += ["", *(f"note: {note}" for note in self.notes)]
        lines += [f"worth adding: {text}" for text in self.worth_adding]
        if self.commands:
            width = max(len(one.shows) for one in self.commands)
            lines += ["", "to see more:", *(f"  {one.shows:{width}}  {one.line}" for one in self.commands)]
        told = f"{self.seconds:.1f} s, level {self.level}, with {self.given}"
        return "\n".join([*lines, *([f"protocol: {self.protocol}"] if self.protocol else []), told])


def _by_reason(not_testable: Mapping[str, str]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for cause, why in not_testable.items():
        reasons.setdefault(why, []).append(cause)
    return reasons


def _brief(finding: Finding) -> str:
    return finding.cause if finding.effect is None else f"{finding.cause} ({finding.effect.text()})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def is_proved(finding: Finding) -> bool:
    """Whether undoing the cause gave something back, by an interval above 0."""
    effect = finding.effect
    return effect is not None and effect.delta > 0 and effect.low > 0


def by_proof(
    findings: Sequence[Finding], symptom_of: Mapping[str, Sequence[str]] | None = None
) -> list[Finding]:
    """Proved effects first, the largest first; then broken invariants; then circumstantial evidence.

    Args:
        findings: in any order.
        symptom_of: cause -> causes that explain it; it comes right after the first of them that is found.
    """
    severity = ("error", "warning", "remark")
    confidence = ("proved", "measured", "likely", "possible")

    def key(finding: Finding) -> tuple[Any, ...]:
        effect = finding.effect.delta if is_proved(finding) and finding.effect else 0.0
        circumstantial = finding.confidence in ("likely", "possible")
        remark = finding.severity == "remark"
        return (
            remark,
            not is_proved(finding),
            circumstantial,
            -effect,
            severity.index(finding.severity),
            confidence.index(finding.confidence),
        )

    order = sorted(findings, key=key)
    for finding in list(order):
        explained = (symptom_of or {}).get(finding.cause, ())
        at = next((i for i, other in enumerate(order) if other.cause in explained), None)
        if at is not None and order.index(finding) < at and severity_of(order[at]) <= severity_of(finding):
            order.remove(finding)
            order.insert(at, finding)
    return order


def severity_of(finding: Finding) -> int:
    """0 for an error, 1 for a warning, 2 for a remark."""
    return ("error", "warning", "remark").index(finding.severity)
