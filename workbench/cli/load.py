"""`workbench load FILE`: how much of a checkpoint a model takes; 1 when that is not all of the model.

2 where the checkpoint is another model's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workbench.cli.options import Demo, Files, ModelOptions, model_files
from workbench.cli.output import Answer

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.checkpoints.loading import LoadReport
    from workbench.models import LoadedModel


def command(files: Files = None, *, model: ModelOptions, demo: Demo = False) -> Answer:
    """Fraction of parameters loaded, missing, unexpected, other shapes, and a renaming that would help."""
    file = model_files(files)
    if demo:
        from workbench.checkpoints.demo import demo_checkpoints

        file = demo_checkpoints()[-1]
    if file is None and model.adapter is None:
        raise ValueError("no checkpoint: name a file, or try the built-in one with --demo")
    # Whether the model is complete is judged below: this verb shows what a refused file lacks.
    loaded = model.open(file, allow_partial=True)
    if loaded.load is None:
        return Answer(
            _whole(loaded), f"{loaded.title}: the file is the model ({loaded.family}); nothing to load into"
        )
    report = loaded.load
    code = 0 if report.complete or model.allow_partial else 2 if report.another else 1
    what, expected, naming = _identity(file)
    facts = {
        "title": loaded.title,
        "family": loaded.family,
        "expected": expected,
        "naming": naming,
        **report.to_json(),
    }
    lines = [f"  {'; '.join(part for part in (what, expected) if part)}"] if expected or naming else []
    lines += [report.another] if report.another else []
    return Answer(facts, "\n".join([as_text(report), *lines]), code)


def _identity(file: Path | list[Path] | None) -> tuple[str, str, str]:
    """What the file is, what its weights should reach, and whose names they have; "" where not known."""
    from workbench.checkpoints import open_checkpoint

    if file is None:
        return "", "", ""
    identity = open_checkpoint(file).identity
    return str(identity), identity.expected, identity.naming


def _whole(loaded: LoadedModel) -> dict[str, Any]:
    return {
        "title": loaded.title,
        "family": loaded.family,
        "loaded_fraction": 1.0,
        "missing": [],
        "unexpected": [],
        "mismatched": [],
        "remap": [],
        "summary": "the file is the model",
    }


def as_text(report: LoadReport) -> str:
    """The summary, then what does not fit, then how it could."""
    lines = [f"{report.file}: {replace(report, another='').summary()}"]  # which ends the text
    for row in report.table()[:30]:
        shapes = f"  file {row['file']}, model {row['model']}" if row["model"] else ""
        lines.append(f"  {row['finding']:<12}{row['tensor']}{shapes}")
    rest = len(report.table()) - 30
    lines += [f"  ... and {rest} more (--json lists all)"] if rest > 0 else []
    if report.counters:
        lines.append(
            f"  {len(report.counters)} counters of batch normalisation missing, which changes nothing"
        )
    lines += [
        f"  {'renamed' if report.applied else 'proposed'}: {rule.text}  (+{rule.fixes})"
        for rule in report.remap
    ]
    if report.ema:
        lines.append(f"  from the {report.ema}")
    return "\n".join(lines)
