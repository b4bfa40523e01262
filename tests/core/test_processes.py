"""Python processes that are started from this one."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PROGRAM = """
import sys
sys.path[:] = [path for path in sys.path if path]
from multiprocessing import get_context
from workbench.core.processes import import_nothing_from_the_current_folder, own_imports
import_nothing_from_the_current_folder(SAFE)
if __name__ == "__main__":
    with get_context("spawn").Pool(1) as pool:  # it starts a tracker of its resources, too
        print(pool.apply(own_imports)["env"]["PYTHONPATH"].split(":")[0])
"""


@pytest.mark.parametrize("safe_path", sorted({False, sys.version_info >= (3, 11)}))
def test_workers_import_nothing_from_the_current_folder(tmp_path, safe_path):
    """Before Python 3.11, which knows no PYTHONSAFEPATH, and since."""
    for name in ("multiprocessing", "pickle", "json", "workbench"):
        (tmp_path / f"{name}.py").write_text("open('RAN', 'a').write(__name__)\nraise ImportError\n")
    program = tmp_path / "elsewhere" / "program.py"
    program.parent.mkdir()
    program.write_text(PROGRAM.replace("SAFE", str(safe_path)))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={**environment, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{program.parent}\n"), done.stderr
    assert not (tmp_path / "RAN").exists()
