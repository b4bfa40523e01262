"""What is said where the standard output takes no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no file that is always full")
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["open", "--demo", "--json"]], ids=" ".join)
def test_a_full_standard_output_is_one_sentence_and_no_traceback(words: list[str]) -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "workbench", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "workbench: the answer could not be written to the standard output: No space left on device; "
        "free some space, or send it elsewhere"
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
