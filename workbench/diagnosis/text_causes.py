"""Causes in texts: an error message, and statements about a recipe."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from workbench.core import NotAvailable
from workbench.core.command_line import command_line
from workbench.core.errors import available
from workbench.core.finding import Measurement
from workbench.core.report import counted
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut
from workbench.diagnosis.texts import explained, source_text

if TYPE_CHECKING:
    from workbench.recipes.claims import ClaimsReport, Judgement

# Wrong statements that are named in the evidence; `workbench audit --claims` lists all.
NAMED_STATEMENTS = 4
# Statements of which a text must have so many wrong before it is called unreliable.
WRONG_SHARE = 0.1
# Statements about the head without which the published weights cannot be loaded.
HEAD_KEYS = (
    "head.norm", "head.conv_bias", "head.deconv_channels", "head.conv_channels", "head.deconv_kernels",
)  # fmt: skip


class ErrorMessage(Cause):
    """The error message that was given is explained, and what it names is looked up in the files."""

    name, group, needs = "error message", "file", ("an error message",)
    refuted_by = "the same error after this change"

    def test(self, case: Case) -> Answer:
        if not case.given.errors:
            raise NotAvailable("no error message was given; paste it as a target, or name the file with it")
        found, unknown = [], []
        for error in case.given.errors:
            known = explained(error.message)
            if known is None:
                unknown.append(error.message)
                continue
            place = f" (raised in {error.place})" if error.place else ""
            seen = _in_checkpoint(error.message, case)
            evidence = f"{error.message}{place}: {known.cause.rstrip('.')}"
            found.append(
                self.found(
                    f"{evidence}; {seen}" if seen else evidence,
                    fix=known.do,
                    where=error.source,
                    confidence="measured" if seen else "likely",
                )
            )
            found[-1] = dataclasses.replace(found[-1], cause=known.name)
        if not found:
            raise NotAvailable(f"this message is not known: {unknown[0]}")
        case.notes += [f"error message not known: {text}" for text in unknown]
        return found


def _in_checkpoint(message: str, case: Case) -> str:
    """What the checkpoint's tensors say of the layer that an error names; "" without one."""
    from workbench.doctor.examination import linear_of

    wanted = linear_of(message)
    try:
        checkpoint = case.checkpoint()
    except NotAvailable:
        return ""
    if wanted is None:
        return ""
    width, out = wanted
    named = [name for name, info in checkpoint.tensors.items() if tuple(info.shape) == (out, width)]
    if not named:
        return f"no layer of {checkpoint.path.name} takes {counted(width, 'feature')} and gives {out}"
    first = ", ".join(named[:2]) + (f" and {len(named) - 2} more" if len(named) > 2 else "")
    return (
        f"in {checkpoint.path.name} this layer is {first}, [{out}, {width}], so the file is whole and the "
        "code in front of the layer differs"
    )


# Statements.


def judged(case: Case) -> ClaimsReport:
    """The statements of the given texts, judged against the recipe that they are about.

    Raises:
        NotAvailable: no text makes statements about a known recipe.
    """
    from workbench.recipes.claims import judge_claims
    from workbench.recipes.claims_markdown import read_claims

    def judge() -> ClaimsReport:
        if not case.given.statements:
            raise NotAvailable("no text with statements about a published recipe was given")
        path = case.given.statements[0]
        claims, named = read_claims(path)
        return judge_claims(claims, named, path.name)

    return case.once("statements", judge)


class Statements(Cause):
    """A text about a published recipe says what the published files deny."""

    name, group, needs = "statements that the published files deny", "training", ("a text about a recipe",)
    refuted_by = "the named source files with the stated value in them"

    def test(self, case: Case) -> Answer:
        report = judged(case)
        wrong = [one for one in report.judgements if one.verdict == "wrong"]
        checked = len(wrong) + report.count("right")
        share = len(wrong) / checked if checked else 0.0
        counts = (
            f"{report.title}: {report.count('right')} statements right, {len(wrong)} wrong, "
            f"{report.count('not checked')} not checked, against {report.recipe}"
        )
        if not wrong or share < WRONG_SHARE:
            return RuledOut(counts)
        first = "; ".join(_denied(one) for one in _weightiest(wrong)[:NAMED_STATEMENTS])
        listing = command_line(["workbench", "audit", "--claims", case.given.statements[0]])
        return self.found(
            f"{counts}; {first}",
            fix=f"do not follow the text where it is wrong: `{listing}` lists every statement with "
            "its line, the published value and the source",
            numbers=(
                Measurement("statements right", report.count("right")),
                Measurement("statements wrong", len(wrong), expected=0),
            ),
            where=report.title,
        )


def _weightiest(wrong: Sequence[Judgement]) -> list[Judgement]:
    """Wrong statements, those about what the network computes and can reach first, one for each key."""
    order = ("published", "codec", "optimizer", "schedule", "train", "metric", "backbone")
    once = {one.claim.key: one for one in reversed(wrong)}
    place = {part: i for i, part in enumerate(order)}
    return sorted(once.values(), key=lambda one: place.get(one.claim.key.partition(".")[0], len(order)))


def _denied(one: Judgement) -> str:
    from workbench.recipes.comparison import shown

    return f"line {one.claim.line}: {one.claim.key} {shown(one.claim.value)}, published {shown(one.expected)}"


class HeadOfRecipe(Cause):
    """A head written so that the published weights do not fit into it."""

    name, group, needs = "head cannot load the published weights", "file", ("code of the head",)
    refuted_by = "a strict load of the published file into this head"

    def test(self, case: Case) -> Answer:
        judgements = list(_about_head(case))
        if not judgements:
            raise NotAvailable("no code of a head of a known recipe was given")
        wrong = [one for one in judgements if one.verdict == "wrong"]
        if not wrong:
            right = ", ".join(one.claim.key for one in judgements)
            return RuledOut(f"{right} are those of the published weights")
        from workbench.recipes.comparison import shown

        parts = [
            f"line {one.claim.line} has {one.claim.key} {shown(one.claim.value)}, the published file "
            f"{shown(one.expected)}: {one.why.rstrip('.')}"
            for one in wrong
        ]
        diff = [f"-{line}\n+{other}" for one in wrong for line, other in _rewritten(one)]
        fix = "write the head as the published file has it, then load strictly"
        return self.found("; ".join(parts), fix=fix, diff="\n".join(diff), confidence="measured")


def _about_head(case: Case) -> Iterator[Judgement]:
    """Judgements of what texts and code say of a head, one for each key."""
    from workbench.recipes.claims import judge_claims
    from workbench.recipes.claims_markdown import code_claims

    found: list[Judgement] = []
    recipe = recipe_name(case)
    with contextlib.suppress(NotAvailable):
        found += judged(case).judgements
    for path in case.given.code if recipe else ():
        claims = code_claims(source_text(path), recipe)
        found += judge_claims(claims, recipe, path.name).judgements
    seen: set[str] = set()
    # A wrong statement about the head comes before a right one on the same matter elsewhere in the text.
    for one in sorted(found, key=lambda one: one.verdict != "wrong"):
        if one.claim.key in HEAD_KEYS and one.claim.key not in seen and one.verdict != "not checked":
            seen.add(one.claim.key)
            yield one


def _rewritten(one: Judgement) -> list[tuple[str, str]]:
    """The code line of a wrong statement, before and after."""
    line, new = one.claim.text, ""
    if one.claim.key == "head.norm":
        new = line.replace(str(one.claim.value), str(one.expected))
    elif one.claim.key == "head.conv_bias":
        new = line.replace(f"bias={one.claim.value}", f"bias={one.expected}")
    return [(line, new)] if new and new != line else []


def stated_recipe(case: Case) -> str:
    """The recipe that a given text is about; "" for none."""
    return available(lambda: judged(case).recipe, "")


def recipe_name(case: Case) -> str:
    """The recipe that texts, or else the config, are about; "" for none."""
    from workbench.recipes.comparison import nearest_recipe
    from workbench.recipes.values import decisions_of

    if stated := stated_recipe(case):
        return stated
    try:
        return nearest_recipe(decisions_of(case.config())).name
    except (NotAvailable, ValueError):
        return ""


CAUSES: Sequence[Cause] = (ErrorMessage(), Statements(), HeadOfRecipe())
