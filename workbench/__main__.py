"""`python -m workbench` is the command line."""

import os  # imported by Python's start; pathlib is not, and would be looked for in the current folder
import sys

# Python puts the current folder first, which may be one that somebody else filled; what lies there is data.
_current, _own = os.path.realpath(os.curdir), os.path.realpath(__file__)
if os.path.realpath(sys.path[0]) == _current and os.path.commonpath([_current, _own]) != _current:
    del sys.path[0]

from workbench.cli import entry  # noqa: E402

if __name__ == "__main__":
    entry()
