"""What every verb of the command line promises: help, --json, --demo, one-line errors, exit codes."""

from __future__ import annotations

import functools
import importlib
import json
import subprocess
import sys

import pytest

from workbench import cli
from workbench.cli import VERBS, answering, as_text
from workbench.cli.output import Answer
from workbench.cli.usage import check_words

# `app` serves until it is stopped; tests/apps drives it. Others answer by a second word; of those in PARTS,
# `--demo` alone chooses one.
ANSWERING = [(verb,) for verb in VERBS if verb not in {"app", "look", "ablate", "experiment", "probe"}]
PARTS = [("look",), ("ablate", "--limit", "1"), ("probe", "--limit", "1")]
ANSWERING += [("ablate", "grouping", "--limit", "1")]
ANSWERING += [("ablate", "faults", "--limit", "1")]
ANSWERING += [("probe", "flip", "--limit", "1")]
ANSWERING += [("data", "lint"), ("data", "augment", "--samples", "1", "--draws", "2")]
ANSWERING += [("experiment", "both-ways", "--most", "4")]
# Demos that take seconds: by default with less of the data or of the work, in CI as they are too.
LESS = {
    "diagnose": ("--level", "files"),
    "clinic": ("--limit", "6", "--samples", "2"),
    "codec": ("--input", "64x48"),
    "overfit": ("--steps", "20"),
    "film": ("--samples", "2"),
    "decode": ("--limit", "2", "--resamples", "20"),
    "compare": ("--resamples", "20"),
    "report": ("--resamples", "20", "--most", "2"),
    "distill": ("--epochs", "1"),
}
# Rollout has no smaller demo; tests of its own run it by default.
IN_CI = {*LESS, "rollout"}
DEMOS = [pytest.param(one, marks=pytest.mark.long if one[0] in IN_CI else ()) for one in ANSWERING + PARTS]
DEMOS += [(verb, *options) for verb, options in LESS.items()]
# `diagnose` and `port` rename by themselves, `overfit` reads no weights.
RENAMING = {"diagnose", "port", "overfit"}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_in_one_line_and_a_module(verb):
    module = importlib.import_module(f"workbench.cli.{verb}")
    assert hasattr(module, "command") or hasattr(module, "SUBVERBS")
    assert len(VERBS[verb]) <= 60


@pytest.mark.parametrize("words", ANSWERING, ids=" ".join)
def test_every_verb_takes_json_and_demo(workbench, words):
    code, out, _ = workbench(*words, "--help")
    assert code == 0
    assert "--json" in out
    assert "--demo" in out
    # What refuses a file whose names differ says --remap.
    assert "--adapter" not in out or "--remap" in out or words[0] in RENAMING


@pytest.mark.parametrize("words", DEMOS, ids=" ".join)
def test_every_verb_answers_its_demo_with_json_alone_on_stdout_and_in_words(workbench, words, monkeypatch):
    # Run once: demos take seconds, and words and facts are two fields of one answer.
    answers = []

    def listening(verb):
        @functools.wraps(verb)
        def call(**options):
            answers.append(verb(**options))
            return answers[-1]

        return answering(call)

    monkeypatch.setattr(cli, "answering", listening)
    code, out, err = workbench(*words, "--demo", "--json")
    assert code == 0, err
    assert json.loads(out)
    assert "Traceback" not in err
    (answer,) = answers
    assert answer.text.strip()
    assert not answer.text.lstrip().startswith("{")
    assert ("the demo is that of" in err) == (words in PARTS)


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"codec", "doctor"}))  # these two take no input
def test_the_demo_and_an_input_of_one_s_own_are_refused_together(workbench, verb):
    """One of the two would be ignored, and its figures taken for those of the other."""
    parts = {"experiment": ("both-ways",), "look": ("peaks",), "ablate": ("grouping",), "probe": ("flip",)}
    for part in [("lint",), ("augment",), ()] if verb == "data" else [parts.get(verb, ())]:
        code, out, err = workbench(verb, *part, "mine.pth", "--demo")
        assert (code, out) == (2, "")
        assert err == "workbench: --demo brings its own input; leave mine.pth out\n"


@pytest.mark.parametrize("words", [("load", "--adapter"), ("port", "--adapter-b"), ("film", "--adapter")])
def test_the_demo_and_an_adapter_are_refused_together(workbench, words):
    verb, option = words
    code, out, err = workbench(verb, "--demo", option, "mine.py")
    assert (code, out) == (2, "")
    assert err == f"workbench: --demo brings its own input; leave {option} out\n"


@pytest.mark.parametrize("option", ["--config", "--family"])
@pytest.mark.parametrize(
    "words", [("evaluate",), ("history",), ("sweep",), ("look", "peaks"), ("port",), ("app",)]
)
def test_an_adapter_beside_a_config_or_a_family_is_refused(workbench, tmp_path, words, option):
    """The adapter builds the model: the other one would be ignored."""
    (tmp_path / "own.py").write_text("raise ValueError('it was run')")
    side = "-a" if words == ("port",) else ""
    files = [tmp_path] if words == ("app",) else [tmp_path / "own.py"] * 2 if side else []
    other = tmp_path / "own.py" if option == "--config" else "hrnet"
    given = (f"--adapter{side}", tmp_path / "own.py", f"{option}{side}", other)
    code, out, err = workbench(*words, *files, *given)
    assert (code, out) == (2, "")
    assert err == f"workbench: --adapter builds the model itself; leave it or {option} out\n"


def test_without_json_the_words_are_what_is_printed(workbench):
    code, out, _ = workbench("data", "astronaut")
    assert code == 0
    assert out.startswith("astronaut: ")


@pytest.mark.parametrize("verb", ["open", "diff", "load", "predict", "evaluate", "score", "compare", "data"])
def test_a_missing_file_is_one_sentence_and_exit_code_2(workbench, verb, tmp_path):
    words = [tmp_path / "absent.pth"] * (2 if verb == "diff" else 1)
    more = ["--data", "scenes-val"] if verb in {"evaluate", "score", "compare"} else []
    code, out, err = workbench(verb, *words, *more)
    assert code == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    assert "absent.pth" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evalute",), "'evaluate'"),
        (("open", "--bogus"), "--bogus (see `workbench open -h`)"),
        (("look", "bogus"), "(see `workbench look -h`)"),
        (("evaluate", "--batch-size", "many"), "--batch-size: expected a valid integer, got 'many'"),
        (("score", "--pck", "wide"), "--pck: expected a valid number, got 'wide'"),
        (
            ("compare", "--resamples", "1"),
            "--resamples: expected a value greater than or equal to 2, got '1'",
        ),
        (("look", "overlay", "--view", "map"), "'--view': 'map' is not one of 'image', 'crop' (see"),
        (("score", "--max-dets"), "(see `workbench score -h`)"),
    ],
)
def test_an_unknown_verb_option_or_value_is_one_sentence_and_exit_code_2(workbench, words, said):
    code, out, err = workbench(*words)
    assert (code, out) == (2, "")
    assert err.startswith("workbench: ")
    assert len(err.splitlines()) == 1
    assert said in err


@pytest.mark.parametrize("verb", VERBS)
def test_an_empty_word_is_refused_and_not_read_as_nothing_given(workbench, verb):
    for words, after in (
        ((verb, ""), verb),
        ((verb, "--data", " "), "--data"),
        ((verb, "--out=", "a"), "--out"),
    ):
        code, out, err = workbench(*words)
        assert (code, out) == (2, "")
        assert err.startswith(f"workbench: expected a value after {after}, got an empty word")
        assert len(err.splitlines()) == 1


def test_words_that_hold_an_equals_sign_or_begin_with_dashes_are_no_empty_words():
    check_words(["open", "--json", "--assume", "input=192x256", "--", "a=", "-"])


def test_nothing_prints_the_help(workbench):
    code, out, _ = workbench()
    assert code == 0
    assert "evaluate" in out


def test_a_mistake_is_one_line_even_when_its_message_has_many(capsys):
    def verb() -> Answer:
        raise ValueError("expected a,\n  got b")

    with pytest.raises(Exception) as stop:
        answering(verb)(as_json=False)
    assert stop.value.exit_code == 2
    assert capsys.readouterr().err == "workbench: expected a, got b\n"


def test_what_a_library_prints_does_not_reach_stdout(capsys):
    def verb() -> Answer:
        print("chat")
        return Answer({"x": float("nan")}, "words")

    answering(verb)(as_json=True)
    out = capsys.readouterr()
    assert json.loads(out.out) == {"x": None}
    assert out.err == "chat\n"


def test_json_has_no_nan():
    assert json.loads(as_text({"a": [float("nan"), float("inf"), 1.0]})) == {"a": [None, None, 1.0]}


def test_the_installed_script_is_the_same_command_line():
    done = subprocess.run([sys.executable, "-m", "workbench", "--version"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.strip().count(".") == 2
