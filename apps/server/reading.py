"""Files are read in a process of its own first, with limits: a bad one ends that process alone.

What a checkpoint or a config beside it makes of the reader (no end, no memory left, a crash of an extension
module) must not take the server with it. Only a file that was read there within its limits is read here.
"""

from __future__ import annotations

import contextlib
import functools
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from workbench.core.files import files_in
from workbench.core.job import LruCache, version_of
from workbench.core.processes import limit, own_imports

PROCESSOR_SECONDS = 10
"""Processor time for one file; one of 1 GB takes a tenth of a second, as its tensors stay on disk."""

WALL_SECONDS = 60.0
"""Time for one file in all, for a disk that does not answer or a machine with much else to do."""

MEMORY_BYTES = 2 << 30
"""Memory of the reading process."""

COMMAND = (sys.executable, "-m", "apps.server.reading")

# A folder with more Python files is a project, not a run.
_CONFIGS = 20


def checked(path: Path) -> None:
    """Read a checkpoint, and the configs beside it, in the other process.

    What a file does wrong within the limits is for the reader here to say.

    Raises:
        ValueError: reading takes too long or too much memory, or ends in an error that no reader foresees.
    """
    beside = files_in(path.parent, "*.py")[:_CONFIGS]
    key = tuple(version_of(one) for one in (path, *beside))
    if reason := _reasons().get(key, functools.partial(_reader().reason, path)):
        raise ValueError(f"{path.name}: {reason}")


@functools.cache
def _reasons() -> LruCache[str]:
    return LruCache(2000)


@functools.cache
def _reader() -> _Reader:
    return _Reader()


class _Reader:
    """The other process, started when it is needed, and again when a file ended it.

    Args:
        command: what is started; reads paths as JSON lines and answers each with a line.
        seconds: wall time for one file.
    """

    def __init__(self, command: Sequence[str] = COMMAND, seconds: float = WALL_SECONDS) -> None:
        self._command, self._seconds = list(command), seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()

    def reason(self, path: Path) -> str:
        """Why a file cannot be read; "" when it can, or when the reader here will say why."""
        with self._lock:
            process = self._started()
            if process.stdin is None:
                raise OSError("the reading process has no input")
            try:
                process.stdin.write(json.dumps(str(path.resolve())) + "\n")
                process.stdin.flush()
                line = self._lines.get(timeout=self._seconds)
            except queue.Empty:
                self._end(process)
                return f"reading it takes longer than {self._seconds:.0f} s; it is left out"
            except BrokenPipeError:
                line = None
            if line is not None:
                return str(json.loads(line))
            self._end(process)
            return (
                f"reading it takes more than {PROCESSOR_SECONDS} s of processor time or more than "
                f"{MEMORY_BYTES >> 30} GB of memory, or crashes the reader; it is left out"
            )

    def _started(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True, **own_imports(),
        )  # fmt: skip
        lines: queue.Queue[str | None] = queue.Queue()
        self._lines = lines
        threading.Thread(target=_pumped, args=(self._process, lines), daemon=True).start()
        return self._process

    def _end(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.wait(10)
        self._process = None


def _pumped(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    for line in process.stdout or ():
        lines.put(line)
    lines.put(None)


def _read(path: Path) -> None:
    """Whatever the server asks of a file before it builds a model."""
    from workbench.checkpoints import open_checkpoint
    from workbench.checkpoints.config_reader import read_config

    mistakes = (ValueError, LookupError, OSError)
    for config in files_in(path.parent, "*.py")[:_CONFIGS]:
        with contextlib.suppress(*mistakes):
            read_config(config)
    with contextlib.suppress(*mistakes):
        checkpoint = open_checkpoint(path)
        for read_when_asked in ("identity", "meta", "metrics", "epoch"):
            getattr(checkpoint, read_when_asked)
        if checkpoint.config_text:
            read_config(checkpoint.config_text)


def main() -> None:
    """Read the files that stdin names, one a line; tell for each why not, or "" on stdout."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever a library prints is no answer
    for line in sys.stdin:
        limit(PROCESSOR_SECONDS, MEMORY_BYTES)
        reason = _outcome(Path(json.loads(line)))
        print(json.dumps(reason), file=answers, flush=True)


def _outcome(path: Path) -> str:
    from workbench.cli import sentence

    # A future keeps whatever is raised, MemoryError and RecursionError among them.
    with ThreadPoolExecutor(1) as pool:
        error = pool.submit(_read, path).exception()
    return "" if error is None else f"it cannot be read ({type(error).__name__}: {sentence(error)})"


if __name__ == "__main__":
    main()
