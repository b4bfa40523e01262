"""Which log is it? One registered reader per format; files, folders and pasted texts become Curves."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from workbench.checkpoints.checkpoint_files import CHECKPOINT_ENDINGS
from workbench.core import NotAvailable
from workbench.core.files import belongs, files_in, require_file
from workbench.curves.csv_table import is_csv, read_csv
from workbench.curves.flags import with_flags
from workbench.curves.json_lines import is_json_lines, read_json_lines
from workbench.curves.pasted import begins_with_epoch, read_pasted
from workbench.curves.source import Source
from workbench.curves.table import Curves, Log, curves_of, rows_by_run
from workbench.curves.tensorboard import is_tensorboard, read_tensorboard
from workbench.curves.text_log import is_text_log, read_text_log
from workbench.curves.wandb_run import is_wandb, read_wandb

_HEAD = 65_536


@dataclass(frozen=True)
class LogFormat:
    """One format of training logs.

    Attributes:
        name: for people.
        is_it: called with the first bytes and the name of the file.
        read: the rows of one file.
    """

    name: str
    is_it: Callable[[bytes, str], bool]
    read: Callable[[Source], Log]


FORMATS: tuple[LogFormat, ...] = (
    LogFormat("TensorBoard events", is_tensorboard, read_tensorboard),
    LogFormat("W&B offline run", is_wandb, read_wandb),
    LogFormat("JSON lines", is_json_lines, read_json_lines),
    LogFormat("printed log", is_text_log, read_text_log),
    LogFormat("CSV", is_csv, read_csv),
)
"""In the order in which they are tried; what none of them knows is read as a text with tables."""

TEXT = "text"


def read_curves(path: Path, title: str = "") -> Curves:
    """The curves of one run: of a log file, or of a run's folder with the logs of all its starts.

    Args:
        path: a log, or a folder with logs as a trainer leaves them.
        title: of the run; by default the folder's name, or the file's.

    Raises:
        FileNotFoundError: no such file or folder.
        NotAvailable: no log in the folder, or none that can be read without a package that is absent.
        ValueError: the file is no log, is damaged, or holds several runs.
    """
    runs = read_runs(path, title)
    if len(runs) != 1:
        names = ", ".join(run.title for run in runs)
        raise ValueError(
            f"{path.name}: expected one run, got {len(runs)} ({names}); read_runs gives them all"
        )
    return runs[0]


def read_runs(path: Path, title: str = "") -> tuple[Curves, ...]:
    """The runs of a log, a run's folder or a text; see `read_curves`."""
    path = Path(path)
    if path.is_dir():
        files, others = _logs_and_others(path)
        if not files:
            raise NotAvailable(
                f"{path}: no log in this folder; expected scalars.json, *.log.json, *.log, "
                "events.out.tfevents.*, *.wandb, metrics.csv, results.csv, *log*.csv, *.jsonl, log.json, "
                "history.json, trainer_state.json, or a *log*.txt with figures by epoch, there or below "
                "(links out of it are not followed)"
            )
        runs = read_logs(files, title or path.resolve().name)
        if not others:
            return runs
        shown = ", ".join(str(other.relative_to(path.resolve())) for other in others[:5])
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        note = f"the newest run of this folder; name the log of another run to read it: {shown}{more}"
        return tuple(replace(run, notes=(note, *run.notes)) for run in runs)
    require_file(path, f"{path}: no such log")
    if path.suffix.lower() in CHECKPOINT_ENDINGS:
        raise NotAvailable(
            f"{path.name} is a checkpoint: its log has no steps; name the log beside it, or its folder"
        )
    return read_logs((path,), title or _title_of(path))


def read_text(text: str, title: str = "pasted", piped: bool = False) -> tuple[Curves, ...]:
    """The runs of a pasted text: lines of a log, a CSV, a table, or sentences with figures.

    Args:
        text: what was pasted.
        title: of the run.
        piped: it came through a pipe: where its last line has no end, its last number may be cut off.

    Raises:
        ValueError: no figures are found in it.
    """
    head = text[:_HEAD].lstrip().encode("utf-8", errors="replace")
    return _read([Source(Path(title), text, piped)], [head], title)


def read_logs(files: Sequence[Path], title: str) -> tuple[Curves, ...]:
    """The runs of some files: all starts of one run in their order, or one text.

    Raises:
        ValueError: a file is no log, or they are of different formats.
    """
    heads = [_head_of(file) for file in files]
    if not any(head.strip() for head in heads):
        raise ValueError(f"{files[-1].name}: the log is empty")
    filled = [(Source(file), head) for file, head in zip(files, heads, strict=True) if head.strip()]
    return _read([source for source, _ in filled], [head for _, head in filled], title)


def _head_of(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(_HEAD)


def _read(sources: Sequence[Source], heads: Sequence[bytes], title: str) -> tuple[Curves, ...]:
    formats = [_format_of(source, head) for source, head in zip(sources, heads, strict=True)]
    if len({None if one is None else one.name for one in formats}) > 1:
        names = ", ".join(TEXT if one is None else one.name for one in formats)
        raise ValueError(
            f"{sources[-1].name}: logs of different formats in one run ({names}): name one of them"
        )
    files = _names_of(sources)
    chosen = formats[0]
    if chosen is None:
        if b"\0" in heads[0]:
            raise ValueError(f"{files[0]}: no log of a known format ({', '.join(f.name for f in FORMATS)})")
        logs = [
            replace(log, rows=rows, title=run or log.title)
            for log in read_pasted(sources[0])
            for run, rows in ({"": log.rows} if log.stated else rows_by_run(log.rows)).items()
        ]
        runs = [curves_of(log, title, TEXT, files) for log in logs]
        titled = [replace(run, title=f"{title}: {run.title}") if len(runs) > 1 else run for run in runs]
        return tuple(with_flags(run) for run in titled)
    logs = [chosen.read(source) for source in sources]
    rows = logs[0].rows
    for start, log in enumerate(logs[1:], 1):
        rows.extend(log.rows, start)
    if not rows.names:
        raise NotAvailable(f"{files[-1]}: no figures in this log")
    several = len(files) > 1
    notes_of_runs = [
        f"{file}: {note}" if several else note
        for file, log in zip(files, logs, strict=True)
        for note in log.notes
    ]
    notes = tuple(dict.fromkeys(notes_of_runs))
    return tuple(
        with_flags(curves_of(Log(own, notes), f"{title}: {run}" if run else title, chosen.name, files))
        for run, own in rows_by_run(rows).items()
    )


def _names_of(sources: Sequence[Source]) -> tuple[str, ...]:
    """The files' names; with their folders below the common one where all starts use one name."""
    names = [source.name for source in sources]
    if len({*names}) == len(names):
        return tuple(names)
    paths = [source.path.absolute() for source in sources]
    top = os.path.commonpath([path.parent for path in paths])
    return tuple(path.relative_to(top).as_posix() for path in paths)


def _format_of(source: Source, head: bytes) -> LogFormat | None:
    return next((one for one in FORMATS if one.is_it(head, source.name)), None)


def _title_of(path: Path) -> str:
    """The run's folder for a log of a fixed name, else the file's own name."""
    generic = {"scalars.json", "metrics.csv", "results.csv", "log.jsonl", "log.csv", "log.json",
               "history.json", "trainer_state.json"}  # fmt: skip
    folder = path.resolve().parent
    if path.name not in generic and not path.name.startswith("events.out.tfevents"):
        return path.name.split(".")[0] or path.name
    while folder.name in ("vis_data", "logs", "tensorboard") or folder.name.startswith("version_"):
        folder = folder.parent
    return folder.name or path.name


# Which files of a folder are the logs of its run?


def logs_of(folder: Path) -> tuple[Path, ...]:
    """Logs of mmengine and mmcv beside a run's checkpoints, in the order of their starts; empty without one.

    Where a start left JSON lines its printed text, which says the same, is left out.
    """
    found: list[Path] = []
    starts = sorted(p for p in folder.iterdir() if p.is_dir() and p.name != "vis_data")
    for start in (folder, *starts):
        files = _own_files(folder, start, "vis_data/*.json")
        # mmengine writes everything into scalars.json and repeats the training rows in a dated file.
        whole = [path for path in files if path.name == "scalars.json"] or files
        found += whole or _of_starts(folder, start)
    return tuple(found)


def _of_starts(run: Path, folder: Path) -> list[Path]:
    """The dated logs of mmcv, which writes those of all starts into one folder; all in one format."""
    lines = sorted({path.resolve(): path for path in _own_files(run, folder, "*.log.json")}.values())
    return lines or [p for p in sorted(_own_files(run, folder, "*.log")) if is_text_log(_head_of(p), p.name)]


def _own_files(run: Path, folder: Path, pattern: str) -> list[Path]:
    """Files of a folder of a run; a link that leads out of the run is not followed."""
    top = run.resolve()
    return [path for path in files_in(folder, pattern) if belongs(path, top)]


# Of other trainers, and of mmengine's without the folders around it; the first kind that is there.
_OTHERS = (
    "scalars.json", "metrics.csv", "results.csv", "*log*.csv", "*.jsonl", "events.out.tfevents.*", "*.wandb",
    "trainer_state.json", "history.json", "*log.json", "log.txt", "*.log", "*log*.txt",
)  # fmt: skip
# What lies in a run's folder under these names need not be its log.
_ANY_TEXT = (".txt", ".log")
_BELOW = ("", "*/", "*/*/")


def run_logs(folder: Path) -> tuple[Path, ...]:
    """The logs of a run's folder, of whichever trainer, in the order of their starts; empty without one."""
    return _logs_and_others(folder)[0]


def _logs_and_others(folder: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The logs of a folder's run, and those of other runs in it."""
    found = logs_of(folder)
    if found:
        return found, ()
    for pattern in _OTHERS:
        for below in _BELOW:
            # Each file once: wandb links its latest run beside the others.
            unique = {p.resolve(): p for p in _own_files(folder, folder, below + pattern) if _may_log(p)}
            files = tuple(sorted(unique.values(), key=_by_number))
            if pattern.endswith(_ANY_TEXT):  # DETR's log.txt, console output that a script wrote
                files = tuple(path for path in files if _counts_epochs(_head_of(path)))
            if pattern == "*.wandb":  # each start of a resumed run has a folder, with a file of the same name
                files = tuple(path for path in files if path.name == files[-1].name)
            if files and pattern.endswith(".csv"):
                # Several runs' CSV files are several runs: the newest one is this folder's.
                return files[-1:], tuple(path.resolve() for path in files[:-1])
            if files and pattern.endswith(".json") and pattern != "scalars.json":
                return files[-1:], ()  # one document holds the whole training, as of the last checkpoint
            if files:
                return files, ()
    return (), ()


def _counts_epochs(head: bytes) -> bool:
    """Whether a text is JSON lines, or has lines that begin with an epoch and state figures."""
    lines = head.decode("utf-8", errors="replace").splitlines()
    return is_json_lines(head, "") or sum(begins_with_epoch(line) for line in lines[:2000]) > 1


def _may_log(path: Path) -> bool:
    """Whether a file may be a log; of one JSON document, whose name tells little, its begin decides."""
    if path.suffix != ".json" or path.name == "scalars.json":
        return True
    head = _head_of(path)
    return any(mark in head for mark in (b'"epoch"', b'"step"', b'"iter', b'loss"'))


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Order of numbered folders: version_9 before version_10."""
    parts = re.split(r"(\d{1,18})", str(path))
    return [(int(part), "") if part.isdecimal() and part.isascii() else (-1, part) for part in parts]
