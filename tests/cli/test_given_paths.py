"""An option that names a file, folder or data set which is not there: exit 2, one sentence, in every verb."""

from __future__ import annotations

import importlib
import typing

import pytest

from workbench import cli
from workbench.checkpoints.demo import demo_checkpoints
from workbench.cli import flag_of, is_path_option


def functions():
    """The words and the function of every verb, and of every part of one."""
    for verb in cli.VERBS:
        module = importlib.import_module(f"workbench.cli.{verb.replace('-', '_')}")
        if hasattr(module, "command"):
            yield (verb,), module.command
        for part in getattr(module, "SUBVERBS", {}):
            yield (verb, part), module.subcommand(part)


def path_options():
    for words, function in functions():
        for parameter in cli._parameters(function)[0]:
            kind, info = typing.get_args(parameter.annotation)[:2]
            if is_path_option(parameter.name, kind, info):
                yield (*words, flag_of(parameter.name, info))


OPTIONS = sorted(set(path_options()))


def test_the_options_of_all_verbs_are_looked_at():
    names = {words[-1] for words in OPTIONS}
    assert {"--data", "--images", "--config", "--adapter", "--against", "--detector", "--boxes"} <= names
    assert {"--text", "--start", "--checkpoint", "--map", "--auth-file", "--log"} <= names
    assert not {"--out", "--arrows", "--folder"} & names
    assert len(OPTIONS) > 250


@pytest.mark.parametrize("words", OPTIONS, ids=" ".join)
def test_what_does_not_exist_is_one_sentence_and_exit_code_2(workbench, tmp_path, words):
    *verb, option = words
    code, out, err = workbench(*verb, option, tmp_path / "absent.json")
    assert (code, out) == (2, ""), err
    assert "absent.json" in err
    assert "no such" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("option", ["--against", "--data", "--images", "--config"])
def test_diagnose_says_so_before_it_looks_at_a_run(workbench, tmp_path, option):
    code, out, err = workbench("diagnose", demo_checkpoints()[-1], option, tmp_path / "absent")
    assert (code, out) == (2, "")
    assert (
        f"{tmp_path / 'absent'}: no such annotation file" in err or f"{option}: no such file or folder" in err
    )
