"""`workbench port A B`: two implementations of one network, and where they part; 1 if they do."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from workbench.cli.options import Assume, Box, Demo, Device, Image, ImageOptions, Out, argument, option
from workbench.cli.output import REPORT_ENDINGS, Answer, as_columns, check_file, written
from workbench.core.report import counted

if TYPE_CHECKING:
    from workbench.cli.report_output import Subject
    from workbench.evaluation.port import PortReport
    from workbench.models import LoadedModel

First = Annotated[
    Path | None, argument("The reference: a checkpoint, a folder of a model in parts, or an adapter (.py).")
]
Second = Annotated[Path | None, argument("The port: a checkpoint, folder, or adapter (.py).")]
Map = Annotated[
    Path | None,
    option(
        "--map",
        "TOML or JSON file that gives each tap of A its tap of B; by default taps are paired by name.",
    ),
]
Tolerance = Annotated[float, option("--tolerance", "Relative difference above which two places differ.")]
OwnInput = Annotated[
    bool,
    option(
        "--own-input", "Prepare B's input in B's own way instead of A's, for example if it expects 0..255."
    ),
]
Text = str | None
OwnFile = Path | None


def command(
    a: First = None,
    b: Second = None,
    mapping: Map = None,
    config_a: Annotated[
        OwnFile, option("--config-a", "mmpose config of A; it is run as your own code.")
    ] = None,
    config_b: Annotated[
        OwnFile, option("--config-b", "mmpose config of B; it is run as your own code.")
    ] = None,
    adapter_a: Annotated[OwnFile, option("--adapter-a", "Your own code for A's file.")] = None,
    adapter_b: Annotated[OwnFile, option("--adapter-b", "Your own code for B's file.")] = None,
    family_a: Annotated[Text, option("--family-a", "Open A as this family.")] = None,
    family_b: Annotated[Text, option("--family-b", "Open B as this family: transformers ...")] = None,
    assume: Assume = None,
    image: Image = None,
    box: Box = None,
    tolerance: Tolerance = 1e-5,
    own_input: OwnInput = False,
    device: Device = "cpu",
    *,
    pictures: ImageOptions,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """The first tap at which two implementations part, by how much, and the taps before it that agree."""
    from workbench.cli.report_output import Subject
    from workbench.models.families import common_names

    check_file(out, *REPORT_ENDINGS)
    looked_at = Subject(image=image, box=box, pictures=pictures)
    chosen: dict[str, Any] = {"mapping": mapping, "tolerance": tolerance, "own_input": own_input}
    if demo:
        own = {
            "--config-a": config_a, "--config-b": config_b, "--family-a": family_a, "--family-b": family_b,
            "--assume": assume,
        }  # fmt: skip
        if given := ", ".join(name for name, value in own.items() if value):
            raise ValueError(f"--demo brings its own input; leave {given} out")
        with tempfile.TemporaryDirectory(prefix="workbench-port-") as folder:
            files = common_names()[0].demo(Path(folder))
            first, second = (replace(_opened(file), title=file.stem) for file in files)
            # The demo is meant to differ: no finding that a script should stop at.
            return replace(_answered(first, second, looked_at, chosen, out), exit_code=0)
    if a is None or b is None:
        raise ValueError("two models are needed: workbench port A B, or --demo for two tiny ones that part")
    models = (
        _opened(a, config=config_a, adapter=adapter_a, family=family_a, assume=assume or (), device=device),
        _opened(b, config=config_b, adapter=adapter_b, family=family_b, assume=assume or (), device=device),
    )
    return _answered(*models, looked_at, chosen, out)


def _opened(file: Path, **options: Any) -> LoadedModel:
    """A model with all of its weights; a Python file is an adapter that brings them itself."""
    from workbench.models import open_model

    if file.suffix == ".py" and options.get("adapter") is None:
        return open_model(None, **{**options, "adapter": file, "assume": ()})
    return open_model(file, remap=True, **options)


def _answered(
    a: LoadedModel, b: LoadedModel, looked_at: Subject, chosen: dict[str, Any],
    out: Path | None,
) -> Answer:  # fmt: skip
    from workbench.cli.report_output import samples_of
    from workbench.evaluation.port import compare_port, read_map

    samples, notes, _ = samples_of(looked_at, a)
    mapping = chosen["mapping"]
    report = compare_port(
        a.model,
        b.model,
        samples,
        None if mapping is None else read_map(mapping),
        titles=_titles(a, b),
        tolerance=chosen["tolerance"],
        own_input=chosen["own_input"],
    )
    notes += [f"{loaded.title}: {loaded.note}" for loaded in (a, b) if loaded.note]
    facts = {**report.to_json(), "notes": notes, "model": " | ".join(_titles(a, b))}
    lines = [as_text(report), *(f"note: {note}" for note in notes)]
    return written(Answer(facts, "\n".join(lines), int(report.first_difference is not None)), out, report)


def _titles(a: LoadedModel, b: LoadedModel) -> tuple[str, str]:
    if a.title != b.title:
        return a.title, b.title
    return f"{a.title} ({a.family}, A)", f"{b.title} ({b.family}, B)"


def as_text(report: PortReport) -> str:
    """The summary and the places in the order of computation."""
    lines = [report.summary(), "", *as_columns(report.table())]
    if report.unpaired:
        lines.append(
            f"{counted(report.unpaired, 'module')} of A have no counterpart by name in B (--map pairs them)"
        )
    return "\n".join(lines)
