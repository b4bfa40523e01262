"""Statements about a recipe, judged right or wrong against the upstream files, each with its source."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workbench.core.report import Report, plain
from workbench.recipes.comparison import equal, is_turned, shown
from workbench.recipes.recipe import Recipe, fields, read_toml, recipe, recipe_names
from workbench.recipes.values import as_number

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Verdict = Literal["right", "wrong", "not checked"]

VERDICT_COLOURS: Mapping[Verdict, str] = {"right": "#2e8b57", "wrong": "#c0392b", "not checked": "#8a93a0"}
"""Colours of verdicts in figures; readable on light and dark."""


@dataclass(frozen=True)
class Claim:
    """A statement about how something is upstream.

    Attributes:
        text: as it stands in the file, one line.
        key: name of a field, or of a statement in statements.toml; "" where neither is recognised.
        value: that is claimed.
        line: in the file, from 1; 0 where that is not known.
        recipe: that it is about; "" for the one that all are judged against.
    """

    text: str
    key: str = ""
    value: Any = None
    line: int = 0
    recipe: str = ""

    @property
    def place(self) -> str:
        """Where it stands, to begin a sentence with: "line 3, ", or nothing."""
        return f"line {self.line}, " if self.line else ""


@dataclass(frozen=True)
class Judgement:
    """What became of a claim.

    Attributes:
        verdict: right, wrong, or not checked.
        claim: that was judged.
        expected: the value upstream; None where it is not known.
        why: of the verdict, one sentence.
        source: of the expected value.
    """

    verdict: Verdict
    claim: Claim
    expected: Any = None
    why: str = ""
    source: str = ""


@dataclass(frozen=True, eq=False)
class ClaimsReport(Report):
    """Statements of a file, judged.

    Attributes:
        title: of the file.
        recipe: that most are judged against.
        judgements: in the order of the file.
    """

    title: str
    recipe: str
    judgements: tuple[Judgement, ...]

    def count(self, verdict: Verdict) -> int:
        """Number of claims with a verdict."""
        return sum(one.verdict == verdict for one in self.judgements)

    def summary(self) -> str:
        """How many are right, wrong and not checked, and the first wrong one."""
        wrong = [one for one in self.judgements if one.verdict == "wrong"]
        said = (
            f"{self.title}: of {len(self.judgements)} statements {self.count('right')} right, {len(wrong)} "
            f"wrong, {self.count('not checked')} not checked, against {self.recipe or 'no recipe'}"
        )
        if not wrong:
            return said
        first = wrong[0]
        return (
            f"{said}; first {first.claim.key}: {shown(first.claim.value)}, upstream {shown(first.expected)}"
        )

    def plot(self) -> Figure:
        """Verdicts by part of the recipe."""
        from workbench.figures import new_figure

        figure = new_figure(f"{self.count('wrong')} of {len(self.judgements)} statements are wrong")
        where = [(one.claim.key.split(".")[0] or "not recognised", one.verdict) for one in self.judgements]
        parts = list(dict.fromkeys(part for part, _ in where))
        for verdict in ("right", "wrong", "not checked"):
            counts = [where.count((part, verdict)) for part in parts]
            figure.add_bar(x=parts, y=counts, name=verdict, marker_color=VERDICT_COLOURS[verdict])
        return figure.update_layout(
            barmode="stack", xaxis_title="about", yaxis_title="statements", height=340
        )

    def table(self) -> list[dict[str, Any]]:
        """One row for each claim."""
        return [
            {
                "verdict": one.verdict,
                "line": one.claim.line,
                "key": one.claim.key,
                "claimed": shown(one.claim.value),
                "upstream": shown(one.expected),
                "why": one.why,
                "source": one.source,
                "text": one.claim.text,
            }
            for one in self.judgements
        ]

    def to_json(self) -> dict[str, Any]:
        """The claims with verdict, both values and source."""
        return {
            "summary": self.summary(),
            "file": self.title,
            "recipe": self.recipe,
            "right": self.count("right"),
            "wrong": self.count("wrong"),
            "not_checked": self.count("not checked"),
            "claims": [
                {
                    "verdict": one.verdict,
                    "line": one.claim.line,
                    "key": one.claim.key,
                    "claimed": plain(one.claim.value),
                    "expected": plain(one.expected),
                    "why": one.why,
                    "source": one.source,
                    "text": one.claim.text,
                    "recipe": one.claim.recipe or self.recipe,
                }
                for one in self.judgements
            ],
        }


def judge_claims(claims: Sequence[Claim], against: str, title: str = "the statements") -> ClaimsReport:
    """Judge statements about a recipe.

    Args:
        claims: as `read_claims` gives them, or made by hand.
        against: name of the recipe that those without one are about.
        title: for the report.

    Raises:
        KeyError: no such recipe; the message names the nearest.

    Example:
        >>> claims = [Claim("", "codec.sigma", 2), Claim("", "optimizer.lr", 5e-4)]
        >>> [(one.verdict, one.expected) for one in judge_claims(claims, "sapiens-1b-coco").judgements]
        [('wrong', 6), ('right', 0.0005)]
    """
    reference = recipe(against)
    return ClaimsReport(title, reference.name, tuple(_judged(claim, reference) for claim in claims))


def _judged(claim: Claim, reference: Recipe) -> Judgement:
    about = recipe(claim.recipe) if claim.recipe else reference
    statement = statement_by_key().get(claim.key)
    if claim.key in fields():
        return _by_field(claim, about)
    if claim.key == "source.path":
        return _by_path(claim)
    if statement is not None:
        return _by_statement(claim, statement, about)
    why = "no rule recognises this statement" if not claim.key else "no field or statement of this name"
    return Judgement("not checked", claim, why=why)


# Field -> the field and the value that it is an option of.
_PART_OF = {
    "schedule.eta_min": ("schedule.decay", "CosineAnnealingLR"),
    "schedule.milestones": ("schedule.decay", "MultiStepLR"),
    "schedule.gamma": ("schedule.decay", "MultiStepLR"),
    "ema.momentum": ("ema.type", "ExpMomentumEMA"),
}


def _by_field(claim: Claim, about: Recipe) -> Judgement:
    expected, field = about.get(claim.key), fields()[claim.key]
    kind = _PART_OF.get(claim.key)
    if expected is None and kind and about.get(kind[0]) not in (None, kind[1]):
        why = f"{claim.key} belongs to {kind[1]}; {about.name} uses {about.get(kind[0])}"
        return Judgement("wrong", claim, "none", why, about.source_of(kind[0]))
    if expected is None:
        why = f"{about.name} does not decide {claim.key}"
        return Judgement("not checked", claim, why=why, source=about.source_of(claim.key))
    right = equal(claim.key, as_number(claim.value), expected)
    why = field.why
    if not right and field.compare == "size" and is_turned(claim.value, expected):
        why = f"width and height are exchanged. {why}"
    source = about.source_of(claim.key)
    if expected == "none":
        why = f"the recipe sets none. {why}"
    return Judgement("right" if right else "wrong", claim, expected, why, source)


def _by_path(claim: Claim) -> Judgement:
    for name in recipe_names():
        for source in recipe(name).sources:
            if source.path == claim.value:
                why = f"the file is there; it is a source of {name}"
                return Judgement("right", claim, source.path, why, source.text())
    return Judgement("not checked", claim, why="no recipe has this file as its source")


def _by_statement(claim: Claim, statement: Mapping[str, Any], about: Recipe) -> Judgement:
    source = statement.get("source", "")
    source = about.sources[0].text() if source == "recipe" else source
    why = statement.get("why", "")
    if "equals" in statement:
        right = str(claim.value) == statement["equals"]
        return Judgement("right" if right else "wrong", claim, statement["equals"], why, source)
    if statement.get("most"):
        return _by_published(claim, about, why)
    return Judgement(statement["verdict"], claim, statement.get("expected"), why, source)


def _by_published(claim: Claim, about: Recipe, why: str) -> Judgement:
    family = about.name.split("-")[0]
    best = max(
        (recipe(name) for name in recipe_names() if name.startswith(family)),
        key=lambda one: (one.published or {}).get("AP", 0.0),
    )
    most = 100 * (best.published or {}).get("AP", 0.0)
    value = claim.value[-1] if isinstance(claim.value, (list, tuple)) and claim.value else claim.value
    high = as_number(value)
    if not isinstance(high, (int, float)):
        return Judgement("not checked", claim, why="no number")
    said = f"at most {most:.1f} ({best.name})"
    if high > most + 0.05:
        return Judgement("wrong", claim, said, why, best.published_source)
    return Judgement(
        "not checked", claim, said, "a forecast that no published figure denies", best.published_source
    )


# -- recognising


# A statement's line is cut beyond this.
_LINE = 500


def field_named(key: str) -> str:
    """The field that a key is about: its own name, or a place in a config."""
    if key in fields() or key in statement_by_key():
        return key
    for name, field in fields().items():
        if any(key in paths for paths in field.paths.values()) or key in field.words:
            return name
    return key


@functools.cache
def statements() -> tuple[Mapping[str, Any], ...]:
    """The entries of statements.toml, their patterns compiled."""
    entries = read_toml(Path(__file__).with_name("statements.toml"))["statement"]
    return tuple({**one, "compiled": re.compile(one["pattern"], re.IGNORECASE)} for one in entries)


@functools.cache
def statement_by_key() -> Mapping[str, Mapping[str, Any]]:
    """Statements that are judged by themselves, by key."""
    return {one["key"]: one for one in statements() if "field" not in one}


def recognised(line: str, number: int, about: str = "") -> list[Claim]:
    """The claims that statements.toml recognises in one line.

    Args:
        line: without line breaks.
        number: of the line.
        about: recipe that the text is about.
    """
    from workbench.recipes.values import warmup_words

    found = []
    for statement in statements():
        match = statement["compiled"].search(line[:_LINE])
        if match is None or not about.startswith(statement.get("about", "")):
            continue
        groups = {k: v for k, v in match.groupdict().items() if v is not None}
        value: Any = next((as_number(v) for k, v in groups.items() if k.startswith("value")), match[0])
        if "true" in groups:
            value = True
        low = next((as_number(v) for k, v in groups.items() if k.startswith("low")), None)
        if low is not None:
            value = (low, value)
        if "equals" in statement:
            value = groups.get("value", match[0])
        if statement.get("unit"):
            value = warmup_words(value, statement["unit"])
        found.append(Claim(line.strip()[:200], statement["key"], value, number, about))
    return found


def without_repetition(claims: Sequence[Claim]) -> list[Claim]:
    """Each claim once: a text often says the same thing in several places."""
    unique: dict[tuple[str, str, str], Claim] = {}
    for claim in claims:
        # 1 and 1.0 are the same; a float has no room for a number of more bits.
        small = type(claim.value) is int and claim.value.bit_length() <= 1000
        value = float(claim.value) if small else claim.value
        key = (claim.key, str(value), claim.recipe)
        if not claim.key:
            key = ("", claim.text, "")
        unique.setdefault(key, claim)
    return list(unique.values())
