"""A command that is shown or copied holds names that others chose: each stays one word of it."""

import ast
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from workbench.core.command_line import command_line, words_of

REPOSITORY = Path(__file__).parents[2]

HOSTILE = [
    "$(touch ran)", "`touch ran`", "a; touch ran", "'; touch ran; '", '"; touch ran; "', "a\ntouch ran\n",
    "\\", "\x03\ntouch ran\n", "\x1b[201~\ntouch ran\n", "\u202egnp.exe", "\x9b31m", "{a,b}", "~root", "!!",
    "*", "", "a\tb", "$'touch ran'", " $'x' ", "#", "a=b", "not UTF-8 \udcff \U0001f600", "\udce9\udca9",
    "ein Löwe.pth", "\\x41", "\u2028touch ran", "&& touch ran", "> ran", "$HOME",
]  # fmt: skip


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_shell_reads_each_name_as_one_word_and_runs_nothing_of_it(tmp_path):
    line = command_line(["workbench", *HOSTILE])
    assert line.isprintable(), "a terminal obeys what is not, also when it is pasted"
    script = f"workbench() {{ printf '%s\\0' \"$@\"; }}\n{line}\n"
    answer = subprocess.run(
        ["bash", "-i"], input=script.encode(), capture_output=True, cwd=tmp_path, timeout=20,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "HISTFILE": ""},
    )  # fmt: skip
    words = answer.stdout.split(b"\0")[:-1]
    assert [word.decode("utf-8", "surrogateescape") for word in words] == HOSTILE
    assert list(tmp_path.iterdir()) == []


def test_the_words_of_a_line_are_read_back():
    assert words_of(command_line(["workbench", *HOSTILE])) == ["workbench", *HOSTILE]
    plain = ["workbench", "open", "my runs/epoch_1.pth", "--assume", "std=255"]
    assert command_line(plain) == shlex.join(plain)


def test_a_file_that_is_named_as_an_option_is_a_path_of_the_line():
    words = ["workbench", "open", Path("--config=mine.py"), "--data", Path("-a/b.json"), Path("/-x")]
    assert command_line(words) == "workbench open ./--config=mine.py --data ./-a/b.json /-x"


def _made_by_hand(file):
    """Lines of a file that quote for a shell, or write a command around a value."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "shlex":
            yield node.lineno
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(p.value) if isinstance(p, ast.Constant) else "\0" for p in node.values)
            for part in text.split("workbench ")[1:]:
                command = part.partition("`")[0].partition(" (")[0]
                if "\0" in command and command[:1].islower() and " -" in command:
                    yield node.lineno


def test_every_command_is_written_by_one_function():
    found = {
        f"{file.relative_to(REPOSITORY)}:{line}"
        for folder in ("workbench", "apps")
        for file in (REPOSITORY / folder).rglob("*.py")
        if file.name != "command_line.py"
        for line in _made_by_hand(file)
    }
    assert found == set(), "write them with workbench.core.command_line"
