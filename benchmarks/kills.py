"""Kill verbs at random moments and see what is left: `python -m benchmarks.kills --count 100`.

Every trial starts a verb in a folder of its own, sends SIGKILL after a random share of the time that it
takes, looks at every file that is left, runs the same command again to its end, and compares the result
with that of a run that nobody killed. SIGINT and SIGTERM are sent in the same way: they must end the
verb with one sentence and the exit codes 130 and 143.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# What a killed process may leave, until the next run of the same command removes it.
LEFTOVERS = ("*.part*", "*.half", "building-*", ".scenes-*")


@dataclass(frozen=True)
class Verb:
    """One command and the fields of its JSON that must not depend on having been killed.

    Attributes:
        name: of the verb.
        words: its options; "@" stands for the trial's folder.
        changing: fields of the JSON that may differ: times, paths, what was resumed.
    """

    name: str
    words: tuple[str, ...]
    changing: tuple[str, ...] = ()


VERBS = (
    Verb(
        "overfit",
        ("--demo", "--steps", "40", "--no-bisect", "--out", "@/run"),
        ("steps_per_second", "snapshots", "command"),
    ),
    Verb("evaluate", ("--demo", "--out", "@/kept.json"), ("written", "command")),
    Verb("compare", ("--demo", "--resamples", "50", "--out", "@/kept"), ("resumed",)),
    Verb(
        "experiment",
        ("no-fusion", "--demo", "--steps", "12", "--most", "24", "--folder", "@/kept"),
        ("resumed",),
    ),
    Verb(
        "sweep",
        ("--demo", "--limit", "40", "--ablations", "flip", "--batch-size", "2", "--out", "@/kept"),
        ("seconds", "resumed", "out"),
    ),
)
# What was asked for, written before any work is done.
RECORDS = ("attempt.json", "sweep.json")


@dataclass
class Tally:
    """What was seen over all trials of one verb.

    Attributes:
        verb: its name.
        kills: trials that were killed before the verb ended.
        ended: trials in which it ended before the signal.
        kept: trials in which a finished step or epoch had been written before the kill.
        failures: one sentence for each thing that was not as promised.
    """

    verb: str
    kills: int = 0
    ended: int = 0
    kept: int = 0
    failures: list[str] = field(default_factory=list)


def trial(verb: Verb, moment: float, reference: dict[str, Any], rows: list[Any], tally: Tally) -> None:
    """Kill one run after `moment` seconds, look at what it left, and run it again to its end."""
    folder = Path(tempfile.mkdtemp(prefix="workbench-kill-"))
    try:
        process = start(verb, folder)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=moment)
        if process.poll() is None:
            process.kill()
            tally.kills += 1
        else:
            tally.ended += 1
        process.communicate()
        whole = whole_files(folder, tally)
        tally.kept += bool(whole)
        again = start(verb, folder)
        printed, errors = again.communicate()
        if again.returncode != 0:
            tally.failures.append(f"the second run ended with {again.returncode}: {errors.strip()[-200:]}")
            return
        different = differing(json.loads(printed), reference, verb.changing)
        if different:
            tally.failures.append(f"after a kill at {moment:.2f} s: {', '.join(different)} differ")
        if rows and read_rows(folder) != rows:
            tally.failures.append(f"after a kill at {moment:.2f} s: the rows of the steps differ")
        left = [p.name for pattern in ("*.half",) for p in folder.rglob(pattern)]
        if left:
            tally.failures.append(f"left after the second run: {', '.join(left)}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start(verb: Verb, folder: Path, before: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    """Run a verb with its answer as JSON on stdout; `before` runs in the new process."""
    words = [word.replace("@", str(folder)) for word in verb.words]
    command = [sys.executable, "-m", "workbench", verb.name, *words, "--json"]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before
    )


def whole_files(folder: Path, tally: Tally) -> list[str]:
    """Names of the finished files; a file under its final name that cannot be read is a failure."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from workbench.evaluation.sweeps.blocks import from_bytes
    from workbench.training.run_folder import read_snapshot

    names = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if any(path.match(pattern) for pattern in LEFTOVERS) or path.name == ".lock":
            continue
        try:
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix == ".parquet":
                pq.read_table(path)
            elif path.suffix == ".npz":
                from_bytes(path.read_bytes())
            elif path.suffix == ".pth":
                read_snapshot(path)
        except (ValueError, pa.ArrowInvalid) as reason:
            tally.failures.append(f"{path.name} is half-written: {reason}")
        else:
            names.append(path.name)
    return [name for name in names if name not in RECORDS]


def read_rows(folder: Path) -> list[Any]:
    """The losses of all steps that a training run wrote; [] for other verbs."""
    import importlib

    rows = next(iter(folder.rglob("rows")), None)
    if rows is None:
        return []
    found = importlib.import_module("workbench.training.run_folder").read_rows(rows)
    return [(row["step"], row["loss"]) for row in found]


def differing(found: dict[str, Any], reference: dict[str, Any], changing: Sequence[str]) -> list[str]:
    """The fields of two answers that are not equal to the last bit."""
    names = (found.keys() | reference.keys()) - set(changing)
    return sorted(name for name in names if found.get(name) != reference.get(name))


def interrupted(verb: Verb, number: signal.Signals, moment: float) -> str | None:
    """What is wrong with the way a verb ends on a signal; None when nothing is."""
    folder = Path(tempfile.mkdtemp(prefix="workbench-kill-"))
    try:
        process = start(verb, folder)
        time.sleep(moment)
        if process.poll() is not None:
            process.communicate()
            return None
        process.send_signal(number)
        try:
            printed, errors = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return f"{verb.name}: did not end within 20 s of {number.name} at {moment:.2f} s"
        expected = 128 + number
        last = (errors.strip().splitlines() or [""])[-1]
        if process.returncode != expected or "Traceback" in errors or printed:
            return f"{verb.name}: {number.name} at {moment:.2f} s ended with {process.returncode}: {last}"
        if not last.startswith("workbench: "):
            return f"{verb.name}: {number.name} at {moment:.2f} s ended without a sentence: {last!r}"
        return None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def full_disk(verb: Verb) -> str | None:
    """What is wrong with the way a verb ends when no file may grow beyond 2 kB; None when nothing is."""
    folder = Path(tempfile.mkdtemp(prefix="workbench-kill-"))

    def limit() -> None:
        # As on a full disk, the write fails in the system call; the signal would end the process instead.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))

    try:
        process = start(verb, folder, limit)
        printed, errors = process.communicate()
        last = (errors.strip().splitlines() or [""])[-1]
        left = sorted(p.name for p in folder.rglob("*") if p.is_file() and p.name not in (".lock", *RECORDS))
        if process.returncode != 2 or "Traceback" in errors or printed:
            return f"{verb.name}: a full disk ended it with {process.returncode}: {last}"
        return f"{verb.name}: a full disk left {', '.join(left)}" if left else None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_only(verb: Verb) -> str | None:
    """What is wrong with the way a verb ends where nobody may write, root included; None when nothing is."""
    process = start(verb, Path("/sys"))
    printed, errors = process.communicate()
    last = (errors.strip().splitlines() or [""])[-1]
    if process.returncode != 2 or "Traceback" in errors or printed or "/sys" not in last:
        return f"{verb.name}: a read-only folder ended it with {process.returncode}: {last}"
    return None


def two_at_once(verb: Verb, reference: dict[str, Any]) -> str | None:
    """What is wrong when two processes write into one folder; None when one refuses or both end well."""
    folder = Path(tempfile.mkdtemp(prefix="workbench-kill-"))
    try:
        both = [start(verb, folder) for _ in range(2)]
        answers = [(*process.communicate(), process.returncode) for process in both]
        done = [json.loads(printed) for printed, _, code in answers if code == 0]
        for _, errors, code in answers:
            if code not in (0, 2) or "Traceback" in errors:
                return f"{verb.name}: of two processes one ended with {code}: {errors.strip()[-200:]}"
        if not done:
            return f"{verb.name}: of two processes on one folder none finished"
        for answer in done:
            if different := differing(answer, reference, verb.changing):
                return f"{verb.name}: two processes on one folder: {', '.join(different)} differ"
        tally = Tally(verb.name)
        whole_files(folder, tally)
        return "; ".join(tally.failures) or None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(
    count: int, seed: int, *, kills_alone: bool = False, verbs: Sequence[Verb] = VERBS
) -> tuple[list[Tally], list[str], int]:
    """`count` kills, verbs in turn; before them, unless `kills_alone`, all else that may befall a verb.

    That are a full disk, a read-only folder, two processes on one folder, SIGINT and SIGTERM.
    """
    random_numbers = random.Random(seed)
    tallies, complaints, others = [Tally(verb.name) for verb in verbs], [], 0
    references = []
    for verb in verbs:
        folder = Path(tempfile.mkdtemp(prefix="workbench-kill-"))
        started = time.monotonic()
        printed, errors = start(verb, folder).communicate()
        if not printed:
            raise RuntimeError(f"{verb.name} gave no answer: {errors.strip()[-300:]}")
        references.append((json.loads(printed), read_rows(folder), time.monotonic() - started))
        shutil.rmtree(folder)
    for verb, (reference, _, lasts) in zip(verbs, references, strict=True):
        if kills_alone:
            break
        found = [full_disk(verb), read_only(verb), two_at_once(verb, reference)]
        for number in (signal.SIGINT, signal.SIGTERM):
            for _ in range(max(1, count // 10 // len(verbs))):
                # Not before Python itself is there: until then no program can answer with a sentence.
                found.append(interrupted(verb, number, random_numbers.uniform(1.0, lasts)))
        others += len(found)
        complaints += [one for one in found if one]
    try:
        for number in range(count):
            which = number % len(verbs)
            reference, rows, lasts = references[which]
            trial(verbs[which], random_numbers.uniform(0.05, lasts), reference, rows, tallies[which])
    except KeyboardInterrupt:  # what was measured till then is told
        print("stopped early", file=sys.stderr)
    return tallies, complaints, others


def as_line(tally: Tally) -> str:
    """One row of a Markdown table."""
    return f"| {tally.verb} | {tally.kills} | {tally.ended} | {tally.kept} | {len(tally.failures)} |"


def main(argv: list[str] | None = None) -> int:
    """Print a table; 1 when anything was not as promised."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills-alone", action="store_true", help="no full disks and the like")
    parser.add_argument("--verbs", nargs="+", choices=[verb.name for verb in VERBS], help="these alone")
    options = parser.parse_args(argv)
    verbs = [verb for verb in VERBS if not options.verbs or verb.name in options.verbs]
    print("| verb | killed | ended before | finished work kept | failures |\n| --- | --- | --- | --- | --- |")
    tallies, complaints, others = measure(
        options.count, options.seed, kills_alone=options.kills_alone, verbs=verbs
    )
    for tally in tallies:
        print(as_line(tally))
    failures = [f"{tally.verb}: {one}" for tally in tallies for one in tally.failures] + complaints
    kinds = "full disks, read-only folders, pairs of processes, SIGINT and SIGTERM"
    print(f"\n{others} {kinds}: {len(complaints)} not as promised")
    for one in failures:
        print(f"- {one}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
