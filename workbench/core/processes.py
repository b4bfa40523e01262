"""Python processes beside this one."""

from __future__ import annotations

import os
import sys
from typing import Any


def own_imports() -> dict[str, Any]:
    """Arguments of `subprocess` for a Python process that imports what this one can, and nothing else.

    `python -c` and `python -m` look for every module in the current folder first, which may be one that
    somebody else filled: a `json.py` beside a checkpoint would run.
    """
    paths = os.pathsep.join(map(os.path.abspath, sys.path))
    return {"cwd": sys.prefix, "env": {**os.environ, "PYTHONPATH": paths}}


def import_nothing_from_the_current_folder(safe_path: bool = sys.version_info >= (3, 11)) -> None:
    """Of Python processes that multiprocessing and other libraries start from here.

    Args:
        safe_path: Python reads PYTHONSAFEPATH. Before 3.11 workers are started with -I, without the current
            folder; they take the paths of this process before they import anything of its.
    """
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    if not safe_path:
        from multiprocessing import util

        flags = util._args_from_interpreter_flags  # type: ignore[attr-defined]
        util._args_from_interpreter_flags = lambda: [*flags(), "-I"]  # type: ignore[attr-defined]


def reserve_standard_streams() -> bool:
    """Keep the numbers 0, 1 and 2 where the caller closed them, as in `workbench open a.pth 2>&-`.

    A file that is opened later would get such a number, and what a C library prints would be written into it.
    What would go to a closed standard error is dropped.

    Returns:
        Whether there is a standard output to write an answer to.
    """
    can_answer = sys.stdout is not None
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        setattr(sys, name, os.fdopen(number, mode, closefd=False))  # for as long as the process
    return can_answer


def limit(seconds: int, memory: int) -> None:
    """Bound what this process takes from now on; on Windows nothing is.

    Args:
        seconds: of processor time.
        memory: bytes of data in all, what it has already among them.
    """
    try:
        import resource
    except ImportError:
        return
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    for kind, most in ((resource.RLIMIT_CPU, int(used) + seconds + 1), (resource.RLIMIT_DATA, memory)):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most, hard))
