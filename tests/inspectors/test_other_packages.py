"""An inspector of another package is found in the command line and in the app with nothing else changed.

tests/test_contributing.py runs one from the command line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOY = Path(__file__).parent.parent / "toy_package"
ROOT = TOY.parent.parent


def python(*arguments: str) -> str:
    """Output of Python with the toy package on its path."""
    path = os.pathsep.join([str(TOY), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_line_lists_it_with_its_question():
    listed = json.loads(python("-m", "workbench", "look", "--json"))
    assert listed["brightness"] == "How bright is the input of each sample?"
    assert list(listed)[-1] == "brightness"


@pytest.mark.long
def test_the_app_has_a_page_for_it():
    code = "from apps.pages.inspectors import pages; print([page.path for page in pages()])"
    assert "look-brightness" in python("-c", code)


def test_without_the_package_it_is_not_there():
    from workbench.inspectors import ALL

    assert "brightness" not in ALL


@pytest.mark.long
def test_a_diagnosis_tests_its_cause():
    code = (
        "from workbench.checkpoints.demo import demo_checkpoints; from workbench.diagnosis import diagnose; "
        "print(diagnose(demo_checkpoints()[-1], level='files').ruled_out['no epoch is stated'])"
    )
    assert python("-c", code).strip() == "the file is of epoch 40"
