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


def _closing(words: list[str], *numbers: int) -> subprocess.CompletedProcess[str]:
    """`workbench words` started by a shell with these of its three streams closed."""
    closed = " ".join(f"{number}>&-" if number else "<&-" for number in numbers)
    call = [sys.executable, "-m", "workbench", *words]
    shell = ["sh", "-c", f'"$@" {closed}', "sh", *call]
    return subprocess.run(shell, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(sys.platform == "win32", reason="closing a stream needs a POSIX shell")
@pytest.mark.parametrize("numbers", [(1,), (0, 1)], ids=str)
def test_a_closed_standard_output_is_said_before_anything_is_computed(numbers: tuple[int, ...]) -> None:
    done = _closing(["open", "--demo"], *numbers)
    assert done.returncode == 2
    assert done.stderr == "workbench: the standard output is closed; expected one that takes the answer\n"


@pytest.mark.skipif(sys.platform == "win32", reason="closing a stream needs a POSIX shell")
def test_closed_input_and_error_streams_change_no_answer_and_no_file(tmp_path: Path) -> None:
    written = []
    for numbers in ((), (2,), (0, 2)):
        out = tmp_path / f"{len(written)}.html"
        done = _closing(["curves", "--demo", "--json", "--out", str(out)], *numbers)
        written.append((done.returncode, done.stdout.replace(str(out), ""), done.stderr, out.read_bytes()))
    assert written[0][0] == 0
    assert written[1] == written[2]
    assert written[0][:2] + written[0][3:] == written[1][:2] + written[1][3:]
    assert written[1][2] == ""
