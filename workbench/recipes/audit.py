"""The audit of a config: differences from a reference recipe, and what contradicts itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core import NotAvailable
from workbench.core.finding import ranked
from workbench.core.report import Report, counted, plain
from workbench.recipes.comparison import (
    WEIGHTS,
    AuditFinding,
    Choice,
    Rule,
    Subject,
    compared,
    decided,
    differences,
    nearest_recipe,
    other_data,
    shown,
    weights,
)
from workbench.recipes.key_rules import KEY_RULES
from workbench.recipes.model_rules import MODEL_RULES, check_network, checkpoint_findings
from workbench.recipes.pipeline_rules import PIPELINE_RULES
from workbench.recipes.recipe import DIALECTS, Recipe, fields, recipe, recipe_names
from workbench.recipes.schedule_rules import SCHEDULE_RULES
from workbench.recipes.training_rules import TRAINING_RULES
from workbench.recipes.value_rules import VALUE_RULES
from workbench.recipes.values import Decisions, decisions_of, devices_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.checkpoints import Checkpoint

SEVERITY_COLOURS = {"error": "#c0392b", "warning": "#d98a00", "remark": "#8a93a0"}
"""Colours of severities in figures; readable on light and dark."""

RULES: tuple[Rule, ...] = (
    *PIPELINE_RULES, *MODEL_RULES, *SCHEDULE_RULES, *TRAINING_RULES, *VALUE_RULES, *KEY_RULES,
)  # fmt: skip
"""What is looked for without a difference from a recipe."""


@dataclass(frozen=True, eq=False)
class AuditReport(Report):
    """What an audit found.

    Attributes:
        title: of the config.
        recipe: that it was compared with; "" for none.
        why_recipe: why this one.
        findings: the most severe first.
        score: 100 less the share of what was checked that is wrong, weighted by severity; nan without a
            recipe, and where the config decides fewer than half of its fields.
        checked: number of fields that config and recipe both decide; without a recipe, of the config's.
        silent: fields of the recipe that the config does not decide, so that they were not checked.
        notes: what the reader should know: base files that are absent, another data set.
    """

    title: str
    recipe: str
    why_recipe: str
    findings: tuple[AuditFinding, ...]
    score: float
    checked: int
    silent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """The outcome in one sentence, with the most severe finding."""
        against = f"against {self.recipe}" if self.recipe else "without a recipe"
        if not self.findings:
            return f"{self.title} {against}: nothing found; {self.scored()}"
        counts = {kind: sum(one.severity == kind for one in self.findings) for kind in WEIGHTS}
        said = ", ".join(f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in counts.items() if n)
        first = self.findings[0]
        return (
            f"{self.title} {against}: {said}, {self.scored()}; first {first.key}: "
            f"{shown(first.found)}, expected {shown(first.expected)}: {first.fix}"
        )

    def scored(self) -> str:
        """The score with what it is of, or why there is none, in a few words."""
        if not self.recipe:
            return f"no score: {self.checked} fields were read and there is no reference to compare them with"
        among = f"{self.checked} of the recipe's {self.checked + len(self.silent)} fields"
        if math.isnan(self.score):
            return f"no score: the config decides {among}"
        return f"score {self.score:.0f} of 100 over {among}"

    def plot(self) -> Figure:
        """Findings by severity and part of the config."""
        from workbench.figures import new_figure

        count = counted(len(self.findings), "finding")
        figure = new_figure(f"Audit: {count}, {self.scored()}")
        parts = list(dict.fromkeys((one.field or one.key).split(".")[0] for one in self.findings))
        for severity in WEIGHTS:
            counts = [
                sum(
                    one.severity == severity and (one.field or one.key).split(".")[0] == part
                    for one in self.findings
                )
                for part in parts
            ]
            figure.add_bar(x=parts, y=counts, name=severity, marker_color=SEVERITY_COLOURS[severity])
        figure.update_yaxes(title="findings", dtick=1)
        return figure.update_layout(barmode="stack", xaxis_title="part of the config", height=300)

    def table(self) -> list[dict[str, Any]]:
        """One row for each finding."""
        return [
            {
                "severity": one.severity,
                "key": one.key,
                "found": shown(one.found),
                "expected": shown(one.expected),
                "why": one.why,
                "source": one.source,
                "fix": one.fix,
            }
            for one in self.findings
        ]

    def to_findings(self) -> tuple[AuditFinding, ...]:
        return self.findings

    def to_json(self) -> dict[str, Any]:
        """Findings with both values, source and fix, and the score."""
        keys = ("severity", "key", "found", "expected", "why", "source", "fix", "cause", "evidence",
                "assumption", "field")  # fmt: skip
        return {
            "summary": self.summary(),
            "config": self.title,
            "recipe": self.recipe,
            "why_recipe": self.why_recipe,
            "score": self.score,
            "checked": self.checked,
            "findings": [{key: plain(getattr(one, key)) for key in keys} for one in self.findings],
            "not_checked": list(self.silent),
            "notes": list(self.notes),
        }


def audit(
    config: Mapping[str, Any],
    against: str | None = None,
    *,
    title: str = "the config",
    devices: int | None = None,
    notes: Sequence[str] = (),
    checkpoint: Checkpoint | None = None,
) -> AuditReport:
    """Compare a config with a reference recipe, and look for what contradicts itself.

    Args:
        config: its content, as `workbench.recipes.reading.read` or `read_config` gives it. It is not run.
        against: name of a recipe; None takes the nearest.
        title: of the config, for the report.
        devices: number of devices that train together; None for as many as the config names,
            else as the recipe was written for.
        notes: added to those of the report.
        checkpoint: an opened checkpoint that is said to be of this config; it is compared with it.

    Raises:
        KeyError: no such recipe; the message names the nearest.
        NotAvailable: no recipe is named, none is near, and no rule has anything to look at.
        ValueError: the checkpoint is of another network than the config's.

    Example:
        >>> config = {"optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 5e-4, "weight_decay": 0.05}}}
        >>> found = audit(config, "sapiens-1b-coco").findings
        >>> [(one.key, one.found, one.expected) for one in found][:1]
        [('optim_wrapper.optimizer.weight_decay', 0.05, 0.1)]
    """
    decisions = decisions_of(config)
    choice = Choice(recipe(against).name, "you named it") if against else nearest_recipe(decisions)
    reference = recipe(choice.name) if choice.name else None
    if reference is None and len(decisions.values) < 2:
        known = ", ".join(recipe_names())
        there = [str(key)[:40] for key in config][:6]
        got = f"only {', '.join(there)}, of which nothing can be compared" if there else "nothing"
        raise NotAvailable(
            f"{title}: expected a training config (model with its backbone and head, optim_wrapper, "
            f"train_dataloader ...), got {got}; name a recipe to compare with, --against: {known}"
        )
    shapes = {name: info.shape for name, info in checkpoint.tensors.items()} if checkpoint else {}
    if checkpoint is not None:
        check_network(decisions, shapes, checkpoint.path.name)
    devices = devices or devices_of(decisions) or (reference.devices if reference else 8)
    subject = Subject(decisions, reference, devices, tuple(shapes))
    found = list(differences(decisions, reference)) if reference else []
    for rule in RULES:
        found += rule(subject)
    if checkpoint is not None:
        found += checkpoint_findings(decisions, reference, shapes, checkpoint.path.name)
    findings = tuple(one for one in ranked(_once(found)) if isinstance(one, AuditFinding))
    checked = compared(decisions, reference) if reference else decided(decisions)
    all_notes = [*notes, *_notes(decisions, reference)]
    silent = _silent(decisions, reference)
    score = math.nan if reference is None or len(checked) < len(silent) else _score(findings, checked)
    return AuditReport(
        title, choice.name, choice.why, findings, score, len(checked), silent, tuple(all_notes)
    )


def _once(found: Sequence[AuditFinding]) -> list[AuditFinding]:
    """Findings without those that a rule repeats: one key has one finding, the most severe.

    Of two that ask for the same value the later one, a rule's, says more than that a recipe has it.
    """
    order = list(WEIGHTS)
    worst: dict[str, AuditFinding] = {}
    for one in found:
        name = one.field or one.key
        before = worst.get(name)
        worse = 1 if before is None else order.index(before.severity) - order.index(one.severity)
        same = before is not None and one.expected is not None and one.expected == before.expected
        if worse > 0 or (worse == 0 and same):
            worst[name] = one
    return list(worst.values())


def _score(findings: Sequence[AuditFinding], checked: Sequence[Any]) -> float:
    """100 for no finding; each takes its weight from the sum of what was checked."""
    named = {one.field for one in findings}
    whole = sum(WEIGHTS[field.severity] for field in checked if field.name not in named) + weights(findings)
    return round(100 * (1 - weights(findings) / whole), 1) if whole else 100.0


def _silent(decisions: Decisions, reference: Recipe | None) -> tuple[str, ...]:
    if reference is None:
        return ()
    return tuple(
        name
        for name, field in fields().items()
        if field.severity != "fact" and name in reference.values and name not in decisions.values
    )


def _notes(decisions: Decisions, reference: Recipe | None) -> list[str]:
    notes = [f"read as {DIALECTS[decisions.dialect]}"]
    if reference is None:
        notes.append("no reference recipe is near: only what contradicts itself was looked for")
        return notes
    if other_data(decisions, reference):
        notes.append(
            "the config names other data than the recipe: its keypoints and annotation files are not compared"
        )
    notes += [f"{reference.name}: {note}" for note in reference.notes]
    return notes
