"""Error messages are found in what was pasted and in files; audits are told from logs."""

from __future__ import annotations

import time

import pytest

from workbench.checkpoints.demo import demo_log
from workbench.diagnosis import diagnose
from workbench.diagnosis.targets import sorted_targets
from workbench.diagnosis.texts import error_in, is_message

SHAPES = "mat1 and mat2 shapes cannot be multiplied (136x8 and 64x256)"
TRACEBACK = f"""Loads checkpoint by local backend from path: last.pth
Traceback (most recent call last):
  File "/home/me/run.py", line 3, in <module>
    main()
  File "/home/me/head.py", line 88, in forward
    x = self.mlp(x)
RuntimeError: {SHAPES}
"""


def test_the_last_line_and_the_innermost_place_of_a_traceback_count():
    error = error_in(TRACEBACK, "run.log", whole=False)
    assert error is not None
    assert error.message == f"RuntimeError: {SHAPES}"
    assert error.place == "head.py, line 88"


def test_a_document_gives_the_message_and_the_versions_that_it_names():
    text = f"MMPose: 1.3.2\nMMCV: 2.1.0 # NOT 2.2.0\n\n- **Error**: `{SHAPES}`\n- **Solution**: versions\n"
    error = error_in(text, "notes.md", whole=False)
    assert error is not None
    assert error.message == SHAPES
    assert dict(error.versions) == {"mmpose": "1.3.2", "mmcv": "2.1.0"}


@pytest.mark.parametrize("text", ["", "all is well", "loss 0.3", "a/file/that/is/not/there.pth", "x" * 9000])
def test_other_texts_are_no_message(text):
    assert not is_message(text)


def test_a_pasted_message_is_a_target():
    given = sorted_targets([f"RuntimeError: {SHAPES}"])
    assert [error.source for error in given.errors] == ["the pasted message"]
    assert given.notes == ()


def test_a_saved_message_is_no_log_and_a_log_that_ends_in_an_error_is_both(tmp_path):
    saved = tmp_path / "error.txt"
    saved.write_text(TRACEBACK)
    crashed = tmp_path / "epochs.md"
    crashed.write_text("- Epoch 10: AP 0.10\n- Epoch 20: AP 0.12\n\n" + TRACEBACK)
    given = sorted_targets([saved])
    assert given.logs == ()
    assert [error.source for error in given.errors] == ["error.txt"]
    given = sorted_targets([crashed])
    assert given.logs == (crashed,)
    assert [error.source for error in given.errors] == ["epochs.md"]


def test_a_log_without_an_error_has_none():
    assert sorted_targets([demo_log()]).errors == ()


def test_python_code_is_told_from_a_config(tmp_path):
    code = tmp_path / "model.py"
    code.write_text("import torch\nclass Head(torch.nn.Module):\n    pass\n")
    config = tmp_path / "config.py"
    config.write_text("model = dict(type='X')\n")
    given = sorted_targets([code, config])
    assert given.code == (code,)
    assert given.configs == (config,)


def test_an_unknown_message_is_said_to_be_unknown():
    report = diagnose("ValueError: the moon is full", level="files")
    assert not report.findings
    assert "this message is not known" in report.not_testable["error message"]


def test_a_message_that_is_no_file_and_no_error_is_a_missing_file():
    with pytest.raises(FileNotFoundError, match="no such file"):
        diagnose("what is wrong with my run", level="files")


def test_a_wide_gap_behind_the_name_of_a_package_costs_no_time():
    began = time.process_time()
    error_in(f"ImportError: numpy{' ' * 200_000}!\n", "a.txt")
    error_in("ImportError: no module\n" + "numpy" + "\n" * 200_000 + "!", "a.txt")
    for line in ("", "a", "01234567890"):  # each was looked up in all known messages: 14 s a file
        error_in(f"{line}\n" * 500_000, "a.txt")
    assert time.process_time() - began < 5
    assert ("mmcv", "2.1.0") in error_in("ImportError: x\nmmcv  ==  2.1.0\n", "a.txt").versions
