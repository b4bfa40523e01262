"""workbench clinic: what is wrong with a conditioned network, by evidence, and what does it cost?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from workbench.cli.conditioned import ConditionedOptions, Limit, Samples
from workbench.cli.options import Demo, Files, Out, Sigmas, judged_set, option
from workbench.cli.output import REPORT_ENDINGS, Answer, check_file, in_job, written
from workbench.core.files import write_text

if TYPE_CHECKING:
    from workbench.inspectors.conditioning.clinic import Clinic
    from workbench.inspectors.conditioning.training_log import Trends
    from workbench.inspectors.conditioning.weights import OtherFiles
    from workbench.models import LoadedModel

Measure = Annotated[bool, option("--measure/--no-measure", "Measure on the data set what each defect costs.")]
Against = Annotated[
    Path | None,
    option(
        "--against",
        "The folder of a run without the condition: its AP and AR, and how far its parts moved from the "
        "common start, are shown beside this one's.",
    ),
]
Start = Annotated[
    Path | None,
    option("--start", "The checkpoint that both runs started from; the config's load_from by default."),
]


def command(
    files: Files = None,
    *,
    options: ConditionedOptions,
    against: Against = None,
    start: Start = None,
    samples: Samples = 8,
    limit: Limit = None,
    sigmas: Sigmas = None,
    measure: Measure = True,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Name the defects of a conditioned network with their evidence, what costs most first."""
    from workbench.cli.conditioned import BASE, DEMO_LIMIT, STARTED_FROM, demo_file, newest
    from workbench.inspectors.conditioning.clinic import document, examine
    from workbench.inspectors.conditioning.passes import spread

    check_file(out, *REPORT_ENDINGS)
    if demo:
        from workbench.checkpoints.demo import demo_checkpoints, demo_run

        start = start or (demo_checkpoints(STARTED_FROM)[-1] if against is None else None)
        against = against or demo_run(BASE)
        files, limit = [demo_file()], limit or DEMO_LIMIT
    file = newest(files)
    curves = _curves(file, against)
    loaded = options.open(file)
    pose_set = judged_set(options.pose_set(), loaded.model.skeleton, sigmas)
    files_beside = _other_files(loaded, file, against, start)
    report = in_job(
        f"all paths through {loaded.title}",
        lambda job: examine(
            loaded, pose_set, spread(pose_set, limit) if measure else None, samples=samples, curves=curves,
            files=files_beside, progress=job.progress, cancelled=job.cancelled, stepped=job.checkpoint,
        ),
    )  # fmt: skip
    answer = Answer(report.to_json(), "\n".join(_lines(report)))
    if out is None or out.suffix.lower() != ".html":
        return written(answer, out, report)
    write_text(out, document(report))
    return written(answer, out)


def _other_files(
    loaded: LoadedModel, file: Path | list[Path] | None, against: Path | None, start: Path | None
) -> OtherFiles:
    """What the other checkpoints of the run, those of the base run and the start show."""
    from workbench.cli.conditioned import run_epochs
    from workbench.inspectors.conditioning.weights import read_other_files

    first = file[0] if isinstance(file, list) else file
    return read_other_files(
        loaded.checkpoint,
        () if first is None else run_epochs(first),
        () if against is None else run_epochs(against),
        start,
    )


def _curves(file: Path | list[Path] | None, against: Path | None) -> Trends | None:
    """The log beside the checkpoint, and that of the other run; None where there is none beside it.

    Raises:
        NotAvailable: there is no log in the folder that was named.
    """
    from workbench.cli.conditioned import run_epochs
    from workbench.core import NotAvailable
    from workbench.inspectors.conditioning.training_log import Trends, curve_of, logs_of

    first = file[0] if isinstance(file, list) else file
    folder = None
    if first is not None and first.exists():
        folder = first.resolve() if first.is_dir() else first.resolve().parent
    if folder is None or not logs_of(folder):
        # A base run without a log can still be compared by its weights.
        if against is not None and folder is not None and not run_epochs(against):
            raise NotAvailable(
                f"--against: no log beside {first}, so there is no curve to set beside {against}"
            )
        return None
    try:
        own = curve_of(folder)
    except NotAvailable:
        # A log of training alone, without validation.
        if against is None:
            return None
        raise
    beside = () if against is None else (curve_of(against if against.is_dir() else against.resolve().parent),)
    return Trends((own, *beside))


def _lines(report: Clinic) -> list[str]:
    lines = [report.summary()]
    for finding in report.findings:
        cost = f": without it {finding.effect.text()}" if finding.effect is not None else ""
        given = f" (only if {finding.assumption})" if finding.assumption else ""
        lines += ["", f"* {finding.cause}{given}{cost}", f"  {finding.evidence}", f"  -> {finding.fix}"]
    for title, part in report.evidence:
        lines += ["", title, f"  {part.summary()}"]
    questions: dict[str, list[str]] = {}
    for question, reason in report.missing.items():
        questions.setdefault(reason, []).append(question)
    absent = [f"not measured ({', '.join(asked)}): {reason}" for reason, asked in questions.items()]
    lines += ["", *absent] if absent else []
    if report.ablation is not None:
        lines += ["", f"protocol: {report.ablation.reference.protocol.text()}"]
    return lines
