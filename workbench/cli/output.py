"""What a verb returns, writes and reports: Answer, files of --out, the progress bar."""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from workbench.core.command_line import command_line

if TYPE_CHECKING:
    from workbench.core.job import Job


@dataclass(frozen=True)
class Answer:
    """The outcome of one verb.

    Attributes:
        facts: what `--json` prints, as plain data (see workbench.core.report.plain). Long columns of numbers
            may be arrays: `--json` makes lists of them, and nobody else needs any.
        text: what a person reads otherwise.
        exit_code: 0; 1 for a finding that a script should stop at (a refused load, a failed check); 2 for a
            mistake of the user's that a table explains.
    """

    facts: Mapping[str, Any]
    text: str
    exit_code: int = 0


# Notes of one kind, such as one for each picture of a 12-bit camera, that are shown one by one.
_MOST_NOTES = 5


@contextlib.contextmanager
def reading_notes() -> Iterator[list[str]]:
    """Collect what readers say about their files, each sentence once; in one thread."""
    from workbench.core.errors import ReadingNote

    notes: dict[str, None] = {}
    found: list[str] = []
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def keep_notes(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, ReadingNote):
                notes[str(message)] = None
            else:
                shown(message, category, *rest, **more)

        warnings.filterwarnings("always", category=ReadingNote)
        warnings.showwarning = keep_notes
        try:
            yield found
        finally:
            found += notes


def with_notes(answer: Answer, notes: list[str]) -> Answer:
    """The answer with what is to be said about the files that were read, under ``notes`` and in words."""
    notes = [note for note in notes if note not in answer.text]  # `data` and `score` say it as a finding
    if not notes:
        return answer
    more = len(notes) - _MOST_NOTES
    shown = notes[:_MOST_NOTES] + ([f"{more} more notes on files that were read"] if more > 0 else [])
    given = answer.facts.get("notes", [])
    facts = answer.facts
    if isinstance(given, (list, tuple)):
        facts = {**facts, "notes": [*given, *shown]}
    return replace(answer, facts=facts, text="\n".join([answer.text, *(f"note: {note}" for note in shown)]))


# Can what --out asks for be written? Asked first, because the answer may take hours to find.

REPORT_ENDINGS = (".html", ".json", ".csv")
"""Of the files that a report can be written to."""


def check_file(out: Path | None, *endings: str) -> None:
    """Refuse a file of another kind, or in a folder that is not there.

    Args:
        out: what was asked for; None asks for nothing.
        endings: such as ``.html``; any when none is given.

    Raises:
        ValueError: another ending, or nothing can be written beside it.
        FileNotFoundError: no such folder.
        IsADirectoryError: it is a folder.
    """
    if out is None:
        return
    if endings and out.suffix.lower() not in endings:
        raise ValueError(f"--out: expected a name ending in {' or '.join(endings)}, got {out.name}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"--out: no such folder {out.parent}")
    if out.is_dir():
        raise IsADirectoryError(f"--out: expected the name of a file, but {out} is a folder")
    if not out.exists() or out.is_file():  # a pipe or /dev/stdout is written directly
        _try_writing(out)


def check_room(out: Path, option: str = "--out") -> None:
    """Refuse a file whose folder cannot be made, or where nothing can be written into it.

    What is made on the way is removed again: a verb that is refused later leaves nothing, and what writes the
    file makes its folder.

    Args:
        out: the file.
        option: that named it.

    Raises:
        IsADirectoryError: it is a folder itself.
        ValueError: nothing can be written beside it.
    """
    if out.is_dir():
        raise IsADirectoryError(f"{option}: expected the name of a file, but {out} is a folder")
    absent = [folder for folder in (out.parent, *out.parent.parents) if not folder.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _try_writing(out, option)
    except OSError as reason:
        raise ValueError(f"{option}: nothing can be written into {out.parent} ({reason.strerror})") from None
    finally:
        for folder in absent:
            with contextlib.suppress(OSError):  # not made, or another process writes into it by now
                folder.rmdir()


def _try_writing(out: Path, option: str = "--out") -> None:
    """Write one block beside the file: finds a read-only folder and a full disk before hours of work."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=out.parent, buffering=0) as file:
            file.write(b"\0" * 4096)
    except OSError as reason:
        raise ValueError(f"{option}: nothing can be written into {out.parent} ({reason.strerror})") from None


def write_report(report: Any, facts: Mapping[str, Any], out: Path) -> None:
    """Write a report to a file whose ending says as what: .html (all of it), .json (the facts), .csv.

    Args:
        report: a Report.
        facts: what `--json` prints.
        out: checked with `check_file` before.
    """
    from workbench.core.files import csv_text, write_text
    from workbench.core.plain_text import escaped
    from workbench.figures.document import html_document, report_parts

    if out.suffix.lower() == ".json":
        write_text(out, as_text(facts) + "\n")
    elif out.suffix.lower() == ".csv":
        write_text(out, csv_text(report.table()))
    else:
        whose = [str(facts[name]) for name in ("model", "title", "checkpoint") if facts.get(name)][:1]
        samples = facts.get("samples")
        of = [f"<p>{escaped(', '.join(samples))}</p>"] if isinstance(samples, list) and samples else []
        title = ": ".join([facts.get("inspector", type(report).__name__), *whose])
        write_text(out, html_document(title, [*of, *report_parts(report)]))


def written(answer: Answer, out: Path | None, report: Any = None, key: str = "written") -> Answer:
    """The answer, with the file that --out asks for in its facts and its text.

    Args:
        answer: of a verb.
        out: the file; None asks for nothing.
        report: is written to the file first; None where the verb has written it.
        key: of the file's name among the facts.
    """
    if out is None:
        return answer
    if report is not None:
        write_report(report, answer.facts, out)
    return replace(answer, facts={**answer.facts, key: str(out)}, text=f"{answer.text}\nwritten: {out}")


# Rounded it is below .1: axes, sides, units or ids that do not fit leave less of a trained model's AP.
_LOW_AP = 0.095


def with_next_steps(
    answer: Answer, targets: Sequence[Path | str | None], data: str | None, images: Path | None
) -> Answer:
    """The answer; below an AP near 0 the commands that test why, under ``next`` and in words.

    Args:
        answer: of a verb, with its AP among the facts where there is one.
        targets: files and options of `diagnose`; None is left out.
        data: the set as the user named it.
        images: folder of its images.
    """
    ap = answer.facts.get("AP")
    if ap is None or not ap < _LOW_AP:
        return answer
    files = [one for one in targets if one is not None]
    there = ["--images", images] if images is not None else []
    lines = [
        command_line(["workbench", *words, *there])
        for words in (["diagnose", *files, "--data", data], ["data", "lint", Path(str(data))])
    ]
    text = (
        f"next: nothing here says why AP is {ap:.3f}. `{lines[0]}` tests exchanged axes and sides, mirrored "
        f"or normalised coordinates, ids of images and more; `{lines[1]}` checks the annotations"
    )
    return replace(answer, facts={**answer.facts, "next": lines}, text=f"{answer.text}\n\n{text}")


def as_text(facts: Any) -> str:
    """Facts as JSON text; nan becomes null, because JSON has no nan."""
    from workbench.core.plain_text import json_text
    from workbench.core.report import plain

    return json_text(plain(facts))


def as_columns(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table as lines of text: numbers to the right, four digits each, a dash where there is none."""
    if not table:
        return []

    def cell_text(value: Any) -> str:
        if value is None:
            return "-"
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    names = list(table[0])
    cells = [names, *([cell_text(row[name]) for name in names] for row in table)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(names))]
    left = [isinstance(table[0][name], str) for name in names]
    lines = []
    for row in cells:
        padded = [c.ljust(w) if words else c.rjust(w) for c, w, words in zip(row, widths, left, strict=True)]
        lines.append("  ".join(padded).rstrip())
    return lines


class Progress:
    """A progress bar on stderr; where stderr is no terminal, a line now and then instead.

    Args:
        what: is done: ``predicting with epoch_20``; may be changed while it runs.
    """

    PAUSE = 5.0  # seconds between two lines of a log

    def __init__(self, what: str) -> None:
        self.what = what
        self._started = self._last_line = time.monotonic()
        self._bar: Any = None
        self._unfinished_line = False

    def __call__(self, done: int, total: int) -> None:
        """Show how far it is, the rate and the remaining time."""
        from workbench.core.plain_text import printable

        what = printable(self.what)  # names of folders and files are in it
        if sys.stderr.isatty():
            if self._bar is None:
                from tqdm import tqdm

                # The rate is the mean since the work began, as in a log; the bar begins at the first look.
                self._bar = tqdm(total=total, desc=what, file=sys.stderr, dynamic_ncols=True, smoothing=0)
                self._bar.start_t -= time.monotonic() - self._started
                self._bar.last_print_t = self._bar.start_t
            self._bar.total = total
            self._bar.set_description(what, refresh=False)
            self._bar.update(done - self._bar.n)
            if done >= total:
                self._bar.close()
                self._bar = None
            return
        now = time.monotonic()
        # A log that told how far it is also tells that it is done, however soon after.
        last = done >= total and self._unfinished_line
        if last or now - self._last_line >= self.PAUSE:
            from tqdm import tqdm

            self._last_line, self._unfinished_line = now, done < total
            line = tqdm.format_meter(done, total, now - self._started, ncols=0, prefix=what)
            typer.echo(line, err=True)


# Long work of a verb: a job, as on pages and in notebooks.

# A stopped job has so many seconds to end: it finishes its batch or step, and writes it.
LAST_SECONDS = 15.0
# Between two looks at how far a job is.
LOOK_SECONDS = 0.2

Result = TypeVar("Result")


def in_job(title: str, work: Callable[[Job], Result], kept: str = "") -> Result:
    """The result of long work in a job, with a progress bar; Ctrl-C and SIGTERM cancel the job.

    Args:
        title: of the job and of the bar.
        work: called with the job, in another thread; what it raises is raised here.
        kept: what a stopped call leaves, and how to go on from there; "" for nothing.

    Raises:
        KeyboardInterrupt: the verb was stopped; the work has ended before, or was given up soon after.
    """
    from workbench.cli import signals
    from workbench.core.job import JobManager

    jobs, results, bar = JobManager(), [], Progress(title)
    try:
        job = jobs.start(title, title, lambda job: results.append(work(job)))
        while not job.wait(LOOK_SECONDS):
            signals.renew()
            if job.total:
                bar.what = f"{title}, {job.step}" if job.step else title
                bar(min(job.done, job.total - 1), job.total)
    except KeyboardInterrupt:
        jobs.close()
        jobs.wait(LAST_SECONDS)
        raise KeyboardInterrupt(*([kept] if kept else [])) from None
    if job.problem is not None:
        raise job.problem
    if job.total:
        bar.what = title  # what was done last is not what is done
        bar(job.total, job.total)
    return results[0]


def run_in_job(
    title: str, function: Callable[..., Result], /, *arguments: Any, kept: str = "", **options: Any
) -> Result:
    """The result of a function that takes `progress` and `cancelled`, called in a job: see `in_job`."""
    return in_job(
        title,
        lambda job: function(*arguments, progress=job.progress, cancelled=job.cancelled, **options),
        kept,
    )


def say(line: str) -> None:
    """Print a line on stderr, above a progress bar where there is one."""
    from tqdm import tqdm

    from workbench.core.plain_text import printable_lines

    tqdm.write(printable_lines(line), file=sys.stderr)
