"""Ctrl-C and SIGTERM end every verb with one sentence and the code that shells expect."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

# A verb that is pressed while another thread works, as a training loop does.
PRESSED = """
import os, signal, sys, threading
from workbench import cli
from workbench.cli import output

def verb() -> output.Answer:
    "Waits."
    threading.Thread(target=threading.Event().wait, args=(60,), daemon=True).start()
    try:
        os.kill(os.getpid(), signal.{name})
        threading.Event().wait(60)
    except KeyboardInterrupt as pressed:
        {then}

module = type(sys)("workbench.cli.data")
module.command = verb
sys.modules["workbench.cli.data"] = module
sys.argv = ["workbench", "data"]
cli.entry()
"""


def ended(name, then):
    code = PRESSED.format(name=name, then=then)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_a_verb_with_one_sentence(name, code):
    done = ended(name, "raise")
    said = {"SIGINT": "Ctrl-C", "SIGTERM": "SIGTERM"}[name]
    assert (done.returncode, done.stderr.split("\n"), done.stdout) == (
        code,
        [f"workbench: stopped by {said}", ""],
        "",
    )


def test_a_handler_that_a_library_sets_past_python_is_taken_back():
    """Ray's core sets one in the thread of the job; faulthandler's would leave the verb running."""
    work = (
        "import faulthandler, time; faulthandler.register(signal.SIGTERM, chain=False);"
        "time.sleep(1); os.kill(os.getpid(), signal.SIGTERM);"
        "[job.checkpoint() or time.sleep(0.05) for _ in range(200)]"
    )
    body = f"output.in_job('work', lambda job: exec({work!r}, {{**globals(), 'job': job}}))"
    pressed = "os.kill(os.getpid(), signal.SIGTERM)\n"
    code = PRESSED.format(name="SIGTERM", then="raise").replace(pressed, body + "\n", 1)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 143
    assert done.stderr.splitlines()[-1] == "workbench: stopped by SIGTERM"


def test_what_a_verb_kept_is_told():
    done = ended("SIGINT", "raise KeyboardInterrupt('two steps are kept in runs/a')")
    assert done.returncode == 130
    assert done.stderr == "workbench: stopped by Ctrl-C; two steps are kept in runs/a\n"


def test_code_that_turns_the_interruption_into_an_error_of_its_own_changes_nothing():
    done = ended("SIGTERM", "raise ImportError('half a module')")
    assert (done.returncode, done.stderr) == (143, "workbench: stopped by SIGTERM\n")


def test_a_second_signal_ends_it_at_once():
    done = ended("SIGINT", "os.kill(os.getpid(), signal.SIGINT); threading.Event().wait(60)")
    assert done.returncode == 130


# A program in TorchScript that loops within one call: Python's handlers do not run meanwhile.
ENDLESS = """
import torch
code = "def f(n: int):\\n  while n >= 0:\\n    n = 0\\n  return n\\n"
program = torch.jit.CompilationUnit(code)
threading.Timer(0.5, os.kill, (os.getpid(), signal.{name})).start()
threading.Timer(1, os.kill, (os.getpid(), signal.{name})).start()
program.f(0)
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_second_signal_ends_a_program_that_never_returns_to_python(name, code):
    pressed = f"os.kill(os.getpid(), signal.{name})\n"
    body = f"exec({ENDLESS.format(name=name)!r}, dict(globals()))\n"
    source = PRESSED.format(name=name, then="raise").replace(pressed, body, 1)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr


def test_signals_to_forked_processes_do_not_end_the_one_that_forked_them():
    pressed = "os.kill(os.getpid(), signal.SIGTERM)\n"
    forked = (
        "import time\n"
        "        for _ in range(2):\n"
        "            pid = os.fork()\n"
        "            if not pid:\n"
        "                time.sleep(60)\n"
        "            time.sleep(0.3)\n"
        "            os.kill(pid, signal.SIGTERM)\n"
        "            os.waitpid(pid, 0)\n"
        "        time.sleep(1)\n"
        "        return output.Answer({}, 'the answer')\n"
    )
    code = PRESSED.format(name="SIGTERM", then="os._exit(9)").replace(pressed, forked, 1)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "the answer\n"), done.stderr


# A signal that arrives while Python ends: exit functions run, then modules are cleared.
AT_THE_END = """
import atexit, os, signal, sys
from workbench import cli
from workbench.cli import output

def send():
    os.kill(os.getpid(), signal.{name})
    for _ in range(1000):  # Python looks for signals at each turn
        pass

class Late:
    def __init__(self):
        self.send = os.kill, os.getpid(), range(1000)
    def __del__(self):
        kill, own, turns = self.send
        kill(own, {number})
        for _ in turns:
            pass

def verb() -> output.Answer:
    "Answers."
    return output.Answer({{}}, "the answer")

if {early}:
    atexit.register(send)
else:
    sys.modules["late"] = type(sys)("late")
    sys.modules["late"].kept = Late()
module = type(sys)("workbench.cli.data")
module.command = verb
sys.modules["workbench.cli.data"] = module
sys.argv = ["workbench", "data"]
cli.entry()
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("early", [True, False])
def test_a_signal_while_python_ends_does_not_undo_the_answer(name, early):
    code = AT_THE_END.format(name=name, number=int(getattr(signal, name)), early=early)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the answer\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("words", [("overfit", "--demo"), ("rollout", "--demo", "--bisect", "4000")])
def test_a_training_verb_is_ended_by_a_signal_whenever_it_comes(words, tmp_path):
    for wait in (0.5, 3, 6, 9, 12):
        verb = subprocess.Popen(
            [sys.executable, "-m", "workbench", *words],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        try:
            _, err = verb.communicate(timeout=wait)
            assert verb.returncode in (0, 1), err  # it was faster
        except subprocess.TimeoutExpired:
            verb.send_signal(signal.SIGINT)
            _, err = verb.communicate(timeout=60)
            assert verb.returncode == 130, err
            assert err.rstrip().splitlines()[-1].startswith("workbench: stopped by Ctrl-C")
