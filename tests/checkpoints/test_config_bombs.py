"""A small config that asks for much ends in one sentence: soon, and before the memory is used."""

from __future__ import annotations

import os
import time
import tracemalloc

import pytest

from workbench.checkpoints.config_reader import read_available, read_config
from workbench.checkpoints.config_values import plain_values
from workbench.checkpoints.history import _VERSION_LINE
from workbench.checkpoints.model_code import code_beside
from workbench.models.opening import Opening

BOMBS = {
    "widths of f-strings": "".join(f"x{i} = f'{{1:999999}}'\n" for i in range(999)),
    "f-strings": "x = 'a' * 100000\n" + "".join(f"y{i} = f'{{x}}{{x}}'\n" for i in range(999)),
    "widths in digits of another script": f"x = f'{'{1:٩٩٩٩٩٩}' * 9999}'",
    "one text often in one f-string": "x = 'a' * 100000\ny = f'" + "{x}" * 9999 + "'",
    "one text often in a list": "x = 'a' * 100000\ny = [x for i in range(9999)]",
    "slices of a text": "x = 'a' * 99999\ny = [x[1:] for i in range(9999)]",
    "one set often": "x = set(range(99999))\ny = [x, x, x, x]",
    "ranges": "".join(f"x{i} = range(99999)\n" for i in range(999)),
    "a range beyond all": "x = range(0, 2 ** 60 * 2 ** 60)",
    "a number in hex": "x = 0x" + "f" * 200_000,
    "a number": "x = " + "9" * 200_000,
    "one list in many": "x = [[0] * 1000] * 100000",
    "cubes of lists": "x = [[[0] * 100] * 100] * 100",
    "one list by many names": " = ".join(f"a{i}" for i in range(9999)) + " = [" + "0," * 50_000 + "]",
    "one list used by many": "x = list('" + "a" * 99_999 + "')\n" + "".join(f"y{i} = x\n" for i in range(99)),
    "minus signs": "x = " + "-" * 200_000 + "1",
    "a sum": "x = " + "1+" * 100_000 + "1",
    "attributes": "x = {}" + ".a" * 100_000,
    "brackets": "x = " + "[" * 120_000,
    "shifts": "x = 1 << 10 ** 9",
    "a complex power": "x = (-8) ** 0.5",
    "a list as key": "x = {[1]: 2}",
    "dicts in a set": "x = {{}}",
    "a base that is a number": "_base_ = 5",
    "a base that is nothing": "_base_ = None",
    "bases that are numbers": "_base_ = [5]",
    "more than any config": "x = 1\n" * 50_000,
    # A place below such a key took 120 kB for each of 12,000 values: 2.9 GB in an audit.
    "a long key": "x = {'" + "a" * 501 + "': {'b': 1}}",
    "a long name": "x = dict(" + "a" * 501 + "=dict(b=1))",
}


def refused(read, says="."):
    started = time.process_time()
    with pytest.raises(ValueError, match=says) as caught:
        read()
    assert time.process_time() - started < 5
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", list(BOMBS))
def test_a_text_that_unfolds_is_refused(name):
    refused(lambda: read_config(BOMBS[name]))


UNMADE = ("ranges", "one list in many", "f-strings", *(name for name in BOMBS if "often" in name))


@pytest.mark.parametrize("name", [*UNMADE, "slices of a text", "widths in digits of another script"])
def test_what_is_refused_was_not_made_before(name):
    tracemalloc.start()
    try:
        refused(lambda: read_config(BOMBS[name]))
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_base_files_are_read_once_each_and_stay_in_their_folder(tmp_path):
    for n in range(1, 21):
        for side in "ab":
            (tmp_path / f"{side}{n}.py").write_text(f"_base_ = ['a{n - 1}.py', 'b{n - 1}.py']\n")
    (tmp_path / "a0.py").write_text("")
    (tmp_path / "b0.py").write_text("")
    assert read_config(tmp_path / "a20.py") == {}  # 41 files, two million ways
    for n in range(60):
        (tmp_path / f"c{n + 1}.py").write_text(f"_base_ = 'c{n}.py'\n")
    (tmp_path / "c0.py").write_text("x = 1")
    refused(lambda: read_config(tmp_path / "c60.py"), "more than 50 base files")
    for n in range(30):
        both = f"_base_ = 'd{n}.py'\ny = [{{{{_base_.y}}}}, {{{{_base_.y}}}}]\n"
        (tmp_path / f"d{n + 1}.py").write_text(both)
    (tmp_path / "d0.py").write_text("y = [0]")
    refused(lambda: read_config(tmp_path / "d30.py"), "steps of work|nested")


def test_a_base_file_that_is_none_is_named(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "secret.py").write_text("x = 1")
    (folder / "link.py").symlink_to(tmp_path / "secret.py")
    (folder / "circle.py").symlink_to(folder / "circle.py")
    os.mkfifo(folder / "pipe.py")
    for named, says in (
        ("link.py", "outside run"),
        ("../secret.py", "outside run"),
        ("circle.py", "base file 'circle.py'"),
        ("a\\0b", "base file"),
        ("a" * 5000, "base file 'aaa"),
    ):
        (folder / "config.py").write_text(f"_base_ = '{named}'\n")
        refused(lambda: read_config(folder / "config.py"), says)
    (folder / "config.py").write_text("_base_ = 'pipe.py'\n")
    with pytest.raises(FileNotFoundError, match=r"which config\.py names as base"):
        read_config(folder / "config.py")


def test_toml_and_json_are_bounded_too(tmp_path):
    for name, text in (
        ("a.toml", "a." * 50_000 + "a = 1"),  # 37 s and 9 GB for the parser alone
        ("b.toml", "a = " + "[" * 50_000),
        ("c.toml", "a = 0x" + "f" * 5000),
        ("d.json", '{"a": ' + "[" * 50_000),
        ("e.json", '{"a": ' + "9" * 5000 + "}"),
        ("f.json", '{"a": ' + "9" * 500 + "}"),
        ("h.yaml", "a: &a " + "x" * 60_000 + "\nb: [" + "*a, " * 9999 + "]"),
        ("i.json", '{"' + "a" * 501 + '": {"b": 1}}'),
        ("g.json", '{"a": [' + "0," * 200_000 + "0]}"),
    ):
        (tmp_path / name).write_text(text)
        read = read_available if name.endswith("yaml") else read_config
        refused(lambda name=name, read=read: read(tmp_path / name), name[0])


@pytest.mark.parametrize(
    "text",
    ["a: !!timestamp [1]", "a: !!int ''", "a: !!bool maybe", "a: !!float x", "a: 1" + ":30" * 300 + ":30.5",
     "a: !!python/object/apply:os.system [id]", "? [a]\n: b", "a: !!int 0x", "a: !!binary {b: c}"],
)  # fmt: skip
def test_a_yaml_value_that_is_none_of_its_tags_kind_is_one_sentence(text):
    """PyYAML itself raises AttributeError, IndexError, KeyError, OverflowError for these."""
    from workbench.checkpoints.config_reader import config_budget

    with pytest.raises(ValueError, match="is no YAML that can be read"):
        plain_values(text, "yaml", config_budget("a"))


def test_dates_and_bytes_in_yaml_are_texts():
    from workbench.checkpoints.config_reader import config_budget

    text = "a: 2001-99-99\nb: 2024-01-02\nc: !!binary x"
    found = plain_values(text, "yaml", config_budget("a"))
    assert found == {"a": "2001-99-99", "b": "2024-01-02", "c": "x"}


def test_dots_in_toml_that_are_no_key_are_fine():
    from workbench.checkpoints.config_reader import config_budget

    text = "# " + "." * 500 + "\na = [" + "0.5, " * 200 + "]\nb.c.d = 'e.g. " + "..." * 50 + "'\n"
    assert plain_values(text, "toml", config_budget("a"))["b"]["c"]["d"].startswith("e.g.")


def test_newlines_before_a_version_take_no_time():
    started = time.process_time()
    assert not _VERSION_LINE.findall("\n" * 200_000)
    assert time.process_time() - started < 1
    assert _VERSION_LINE.findall("a\n\n  PyTorch: 2.1 \n MMPose :1.3\nnumpy:\nx") == [
        ("PyTorch", "2.1 "),
        ("MMPose", "1.3"),
    ]


def test_files_beside_a_checkpoint_share_one_budget_and_links_out_are_passed_over(tmp_path):
    import torch

    from workbench.checkpoints import open_checkpoint

    folder = tmp_path / "run"
    folder.mkdir()
    torch.save({"a.weight": torch.zeros(1)}, folder / "a.pth")
    (tmp_path / "elsewhere.py").write_text("model = dict(type='A')")
    (folder / "link.py").symlink_to(tmp_path / "elsewhere.py")
    for n in range(20):
        (folder / f"bomb{n:02d}.py").write_text("x = [0] * 99999\n" * 2 + "model = dict()")
    started = time.process_time()
    assert set(Opening(open_checkpoint(folder / "a.pth")).beside) <= {folder / "bomb00.py"}
    assert time.process_time() - started < 5


def test_blank_lines_of_a_module_beside_an_adapter_cost_no_time(tmp_path):
    """16 kB of them took 1.5 s, twice as many four times as long."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "heads.py").touch()
    (tmp_path / "mine.py").write_text("\n" * 200_000 + "  from .parts import heads")
    began = time.process_time()
    assert set(code_beside(tmp_path / "mine.py")) == {"mine.py", "parts/heads.py"}
    assert time.process_time() - began < 2
