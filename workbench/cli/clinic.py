"""workbench clinic: what is wrong with a network that reads text, by evidence, and what does it cost?"""

from __future__ import annotations

from typing import Annotated

import typer

from workbench.cli.answer import Answer
from workbench.cli.conditioned import Limit, Samples, Text
from workbench.cli.options import Config, Data, Demo, Device, File, Images, Out

Measure = Annotated[
    bool, typer.Option("--measure/--no-measure", help="Measure on the data set what each defect costs.")
]


def command(
    file: File = None,
    config: Config = None,
    text: Text = None,
    data: Data = None,
    images: Images = None,
    samples: Samples = 8,
    limit: Limit = None,
    measure: Measure = True,
    device: Device = "cpu",
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Name the defects with their evidence, what costs most first."""
    from workbench.cli.conditioned import DEMO_LIMIT, demo_file, keep, looked, opened
    from workbench.cli.evaluate import Progress
    from workbench.conditioning.ablation import predicted
    from workbench.conditioning.clinic import clinic
    from workbench.conditioning.samples import several, spread
    from workbench.data.opening import open_data

    if demo:
        file, limit = file or demo_file(), limit or DEMO_LIMIT
    loaded = opened(file, text, config=config, device=device)
    pose_set = open_data(data or "scenes-val", images)
    run = looked(loaded, several(pose_set, samples))
    found = None
    if measure:
        progress = Progress(f"every way through {loaded.title}")
        chosen = spread(pose_set, limit)
        found = predicted(loaded.model, pose_set, chosen, title=loaded.title, progress=progress)
    report = clinic(run, found, pose_set)
    facts = report.to_json()
    lines = [report.summary()]
    for finding in report.findings:
        lines += ["", f"* {finding.name}", f"  {finding.evidence}", f"  -> {finding.advice}"]
    lines += ["", *(part.summary() for part in (report.film, report.scores) if part is not None)]
    if report.ranking is not None and report.ablation is not None:
        lines += [report.ranking.summary(), report.ablation.summary()]
    lines += [f"{question}: {why}" for question, why in report.missing.items()]
    return Answer(facts, "\n".join(lines + keep(report, facts, out)))
