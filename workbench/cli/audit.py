"""`workbench audit CONFIG`: a training config against a recipe; `--claims`: statements about a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from workbench.cli.options import Demo, Out, argument, option
from workbench.cli.output import REPORT_ENDINGS, Answer, check_file, written
from workbench.core.errors import NotAvailable

if TYPE_CHECKING:
    from workbench.recipes.audit import AuditReport
    from workbench.recipes.claims import ClaimsReport

ConfigArgument = Annotated[
    Path | None,
    argument(
        "A config (.py of mmpose, .yaml, .json, .toml) or a checkpoint with its config inside; never run."
    ),
]
Against = Annotated[
    str | None, option("--against", "A reference recipe, see --list; the nearest by default.")
]
Devices = Annotated[
    int | None, option("--devices", "Number of devices in training; the recipe's by default.", min=1)
]
OfConfig = Annotated[Path | None, option("--checkpoint", "A checkpoint to compare with this config.")]
Claims = Annotated[
    Path | None,
    option(
        "--claims",
        "Judge statements instead: TOML with [[claim]] key and value, lines `key = value`, or Markdown; "
        "--claims --demo judges built-in ones.",
    ),
]
List = Annotated[bool, option("--list", "Name the reference recipes with their sources.")]


def command(
    config: ConfigArgument = None,
    against: Against = None,
    devices: Devices = None,
    checkpoint: OfConfig = None,
    claims: Claims = None,
    listing: List = False,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """What differs from the recipe and matters, and what contradicts itself, with sources and fixes.

    --out writes the findings as .json, .csv or .html. Example:
    `workbench audit sapiens_config.py --against sapiens-1b-coco`.
    """
    if listing:
        return _listed()
    check_file(out, *REPORT_ENDINGS)
    if claims is not None and config is not None:
        raise ValueError("expected a config or --claims, got both")
    if claims is not None:
        claims = _claims_file(claims, demo)
        judged = _judged(claims, against)
        own = _own_configs(claims, judged.recipe) if claims is not None else []
        report, text = judged, "\n\n".join([claims_text(judged), *map(as_text, own)])
        facts = {**judged.to_json(), "own_configs": [one.to_json() for one in own]}
    else:
        report = _audited(config, against, devices, checkpoint, demo)
        text, facts = as_text(report), report.to_json()
    return written(Answer(facts, text), out, report)


def _claims_file(claims: Path, demo: bool) -> Path | None:
    """The file of statements; None for the built-in ones, which `--claims --demo` asks for."""
    # --claims takes a value, so the parser hands it the option that follows as one.
    if claims == Path("--demo"):
        return None
    if demo:
        raise ValueError(f"expected --claims FILE or --claims --demo, got --demo with {claims}")
    return claims


def _judged(path: Path | None, against: str | None) -> ClaimsReport:
    """The statements of a file, judged; of None the built-in ones."""
    from workbench.recipes.claims import judge_claims
    from workbench.recipes.claims_markdown import claims_of, read_claims
    from workbench.recipes.demo import CLAIMS, CLAIMS_TITLE
    from workbench.recipes.recipe import recipe_names

    title = CLAIMS_TITLE if path is None else path.name
    claims, named = claims_of(CLAIMS, title) if path is None else read_claims(path)
    if not (against or named):
        names = ", ".join(recipe_names())
        raise ValueError(f"{title} names no recipe; expected --against one of {names}")
    return judge_claims(claims, against or named, title)


def _own_configs(path: Path, name: str) -> list[AuditReport]:
    """The audits of the configs that a Markdown text calls its author's own."""
    from workbench.recipes.audit import audit
    from workbench.recipes.claims_markdown import content_of, own_configs
    from workbench.recipes.reading import read_text

    found = []
    for line, text in own_configs(content_of(path)) if path.suffix.lower() in (".md", ".markdown") else ():
        title = f"config at line {line} of {path.name}"
        try:
            read = read_text(text, f"{title}.yaml")
            found.append(audit(read.values, name, title=title, notes=read.notes))
        except (ValueError, NotAvailable):
            continue  # a fragment that is no config: nothing can be said of it
    return found


# Statements that no rule recognises and that are shown one by one.
_MOST_UNKNOWN = 10


def claims_text(report: ClaimsReport) -> str:
    """The summary, then the wrong statements with both values, the right ones, and what was not checked."""
    from workbench.recipes.comparison import shown

    lines = [report.summary(), ""]
    for one in report.judgements:
        if one.verdict == "wrong":
            lines += [
                f"wrong  {one.claim.place}{one.claim.key}: {shown(one.claim.value)}; "
                f"upstream: {shown(one.expected)}",
                f"       why     {one.why}",
                f"       source  {one.source}",
            ]
    for one in report.judgements:
        if one.verdict == "right":
            said = f"{one.claim.key}: {shown(one.claim.value)}"
            lines.append(f"right  {one.claim.place}{said} ({one.source})")
    unknown = [one for one in report.judgements if one.verdict == "not checked"]
    lines += [
        f"not checked  {one.claim.place}{one.claim.text[:90]} ({one.why})" for one in unknown[:_MOST_UNKNOWN]
    ]
    if len(unknown) > _MOST_UNKNOWN:
        lines.append(f"not checked  {len(unknown) - _MOST_UNKNOWN} more statements (--json lists them)")
    return "\n".join(lines)


def _audited(
    config: Path | None, against: str | None, devices: int | None, checkpoint: Path | None, demo: bool
) -> AuditReport:
    from workbench.checkpoints import open_checkpoint
    from workbench.recipes.audit import audit
    from workbench.recipes.reading import read, read_text

    if config is None and not demo:
        raise ValueError("expected a config: workbench audit CONFIG, or --demo for the built-in one")
    if config is None:
        from workbench.recipes.demo import CONFIG, TITLE

        found = read_text(CONFIG, TITLE)
    else:
        found = read(config, without_config=against is not None)
    return audit(
        found.values,
        against,
        title=found.title,
        devices=devices,
        notes=found.notes,
        checkpoint=open_checkpoint(checkpoint) if checkpoint is not None else found.checkpoint,
    )


def _listed() -> Answer:
    from workbench.recipes.recipe import recipe, recipe_names

    found = [recipe(name) for name in recipe_names()]
    facts = [
        {"name": one.name, "title": one.title, "sources": [source.text() for source in one.sources]}
        for one in found
    ]
    width = max(len(one.name) for one in found)
    lines = [f"{one.name:{width}}  {one.title}\n{'':{width}}  {one.sources[0].text()}" for one in found]
    return Answer({"recipes": facts}, "\n".join(lines))


def as_text(report: AuditReport) -> str:
    """The summary, then each finding with both values, its reason, its source and its fix."""
    from workbench.recipes.comparison import shown

    lines = [report.summary(), ""]
    if report.recipe:
        lines += [f"recipe    {report.recipe}: {report.why_recipe}"]
    else:
        lines += [f"recipe    none: {report.why_recipe}"]
    lines += [f"note      {note}" for note in report.notes]
    for one in report.findings:
        lines += [
            "",
            f"{one.severity:8}  {one.key}: {shown(one.found)}, expected {shown(one.expected)}",
            f"          {one.evidence}",
            f"          why     {one.why}",
            f"          fix     {one.fix}",
            f"          source  {one.source}",
        ]
        if one.assumption:
            lines.append(f"          only if {one.assumption}")
    if report.silent:
        lines += ["", f"not in the config, so not checked: {', '.join(report.silent)}"]
    return "\n".join(lines)
