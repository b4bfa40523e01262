"""workbench diagnose: why is a run worse than it should be? The cause, by evidence."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from workbench.cli.options import (
    Adapter,
    Assume,
    Config,
    Data,
    Demo,
    Device,
    Expert,
    Family,
    ImageOptions,
    Images,
    Output,
    Sigmas,
    SkeletonName,
    argument,
    assumed,
    numbers_of,
    option,
)
from workbench.cli.output import Answer, as_text, check_file, in_job
from workbench.core.files import write_text

if TYPE_CHECKING:
    from workbench.core.job import Job
    from workbench.diagnosis import Diagnosis
    from workbench.diagnosis.cause import Cause
    from workbench.diagnosis.diagnosing import Answered

Targets = Annotated[
    list[Path] | None,
    argument(
        "Any of, or several together: a run's folder, a checkpoint, a log, a config, a COCO result file, "
        "annotations, an error message in quotes or in a text file, Python code, a text about a recipe, an "
        "image, a video. Nothing in them is run."
    ),
]
Against = Annotated[
    Path | None, option("--against", "A better run or checkpoint, or the one that training started from.")
]
Claim = Annotated[
    list[str] | None, option("--claim", "A figure that you expect or have seen: AP=.698; may be repeated.")
]
Budget = Annotated[
    str | None, option("--budget", "Time that the tests may take: 90s, 10m, 1h; no limit by default.")
]
Level = Annotated[
    Literal["files", "forward", "evaluate", "train"] | None,
    option(
        "--level",
        "The most expensive kind of test: files, forward (a few forward passes), evaluate (default; forward "
        "with --demo), train (short trainings).",
    ),
]

ENDINGS = (".html", ".json", ".ipynb")
Document = Annotated[
    Path | None,
    option(
        "--out",
        "Write the report (.html, and a notebook beside it), the notebook (.ipynb) or the facts (.json).",
    ),
]
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def command(
    targets: Targets = None,
    against: Against = None,
    data: Data = None,
    images: Images = None,
    config: Config = None,
    adapter: Adapter = None,
    claim: Claim = None,
    budget: Budget = None,
    level: Level = None,
    family: Family = None,
    output: Output = None,
    assume: Assume = None,
    expert: Expert = None,
    skeleton: SkeletonName = None,
    sigmas: Sigmas = None,
    device: Device = "cpu",
    *,
    pictures: ImageOptions,
    out: Document = None,
    demo: Demo = False,
) -> Answer:
    """Test every cause that can be tested with what is given; rank what is found by its proof."""
    check_file(out, *ENDINGS)
    claims, seconds = claims_of(claim), seconds_of(budget)
    files = list(targets or ())
    if demo:
        from workbench.checkpoints.demo import demo_data, demo_run

        files, against, data = [demo_run(DEMO)], against or demo_run(BASE), data or demo_data(DEMO)
    from workbench.diagnosis import diagnose
    from workbench.diagnosis.case import SAMPLE

    report = in_job(
        "testing causes",
        lambda job: diagnose(
            files,
            against=against,
            data=data,
            images=images,
            bits=pictures.reading.bits,
            as_stored=pictures.as_stored,
            config=config,
            adapter=adapter,
            claim=claims,
            budget=seconds,
            level=level or ("forward" if demo else "evaluate"),
            sample=DEMO_SAMPLE if demo else SAMPLE,
            family=family,
            output=tuple(output or ()),
            assume=tuple(assumed(assume, expert)),
            skeleton=skeleton,
            sigmas=tuple(() if sigmas is None else numbers_of(sigmas)),
            device=device,
            progress=job.progress,
            testing=functools.partial(_say_cause, job),
            cancelled=job.cancelled,
        ),
    )
    facts = report.to_json()
    lines = [report.text(), *written(report, facts, out)]
    return Answer(facts, "\n".join(lines))


def _say_cause(job: Job, cause: Cause, _: Answered) -> None:
    """Have the progress bar name the cause that is tested: one may take minutes."""
    job.step = f"now: {cause.name}"


DEMO, BASE = "rtmpose-text-fusion", "rtmpose-text-base"
# Instances of the demo: enough to show how it works, few enough for half a minute.
DEMO_SAMPLE = 24


def written(report: Diagnosis, facts: dict[str, Any], out: Path | None) -> list[str]:
    """Write the report, and beside a page the notebook that repeats it; the lines that say so."""
    if out is None:
        return []
    from workbench.diagnosis.document import document, notebook

    files = [out]
    if out.suffix.lower() == ".json":
        write_text(out, as_text(facts) + "\n")
    elif out.suffix.lower() == ".ipynb":
        write_text(out, notebook(report))
    else:
        write_text(out, document(report))
        files.append(write_text(out.with_suffix(".ipynb"), notebook(report), follow=False))
    facts["written"] = [str(path) for path in files]
    return ["", f"written: {', '.join(map(str, files))}"]


def claims_of(words: Sequence[str] | None) -> dict[str, float]:
    """Figures by name; percentages as fractions.

    Raises:
        ValueError: a word is no NAME=VALUE with a figure.
    """
    found = {}
    for word in words or ():
        name, sign, value = word.partition("=")
        try:
            number = float(value.rstrip("%"))
        except ValueError:
            number = -1.0
        if not sign or not 0 <= number <= 100:
            raise ValueError(f"--claim: expected NAME=VALUE such as AP=.698, got {word!r}")
        found[name.strip()] = number / 100 if number > 1 or value.endswith("%") else number
    return found


def seconds_of(text: str | None) -> float | None:
    """A time in seconds from text such as ``10m``.

    Raises:
        ValueError: it is no time.
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d{1,6}(?:\.\d{1,3})?)\s*([smh]?)\s*", text)
    if found is None or float(found[1]) <= 0:
        raise ValueError(f"--budget: expected a time such as 90s, 10m or 1h, got {text!r}")
    return float(found[1]) * _SECONDS[found[2]]
