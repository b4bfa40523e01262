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
