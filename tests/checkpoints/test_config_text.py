"""Configs are read as mmengine would run them, and what would need to be run is refused by line."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.checkpoints.config_reader import read_config


def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(v) for v in value)
    return value


@pytest.fixture(scope="module")
def configs() -> Path:
    pytest.importorskip("mmengine")
    import importlib.util

    spec = importlib.util.find_spec("mmpose")
    if spec is None or spec.origin is None:
        pytest.skip("mmpose is not installed")
    return Path(spec.origin).parent / ".mim/configs"


def test_top_down_configs_are_read_as_mmengine_runs_them(configs):
    from mmengine.config import Config

    files = (
        sorted((configs / "body_2d_keypoint").rglob("*.py"))[::9]
        + sorted((configs / "animal_2d_keypoint").rglob("*.py"))[::9]
    )
    compared, refused = 0, []
    for file in files:
        try:
            mine = read_config(file, configs)
        except ValueError as error:
            refused.append(str(error))
            continue
        assert mine == plain(Config.fromfile(file)._cfg_dict.to_dict()), file
        compared += 1
    assert compared >= 20
    assert all("not allowed" in sentence for sentence in refused)


def test_what_mmengine_dumps_into_checkpoints_is_read_back(configs):
    from mmengine.config import Config

    file = configs / "animal_2d_keypoint/rtmpose/ap10k/rtmpose-m_8xb64-210e_ap10k-256x256.py"
    settings = Config.fromfile(file)
    assert read_config(settings.pretty_text) == plain(settings._cfg_dict.to_dict())
    assert read_config(settings.dump())["codec"]["input_size"] == (256, 256)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a = 3\nb = a // 2 + a * 2.0", {"a": 3, "b": 7.0}),
        ("c = dict(x=1, **dict(y=2))\nd = c['x'] + c.y", {"c": {"x": 1, "y": 2}, "d": 3}),
        ("a = [1] * 3 + [2]\nb = (1,)\nb += (3,)", {"a": [1, 1, 1, 2], "b": (1, 3)}),
        ("n = 'ap10k'\nf = f'{n}/x-{3:03d}.json'", {"n": "ap10k", "f": "ap10k/x-003.json"}),
        ("a, b = 1, (2, 3)\nc = b[-1]", {"a": 1, "b": (2, 3), "c": 3}),
        ("custom_imports = dict(imports=['evil.module'])", {"custom_imports": {"imports": ["evil.module"]}}),
        (
            "s = {1, 2}\nr = list(range(3))\nt = tuple([1])\ni = float('inf')",
            {"s": {1, 2}, "r": [0, 1, 2], "t": (1,), "i": float("inf")},
        ),
        ("'''words'''\nx: int = 1", {"x": 1}),
        ("from mmengine.config import read_base\nx = 1", {"x": 1}),
        ("s = (192, 256)\nt = tuple([v // 32 for v in s])", {"s": (192, 256), "t": (6, 8)}),
        ("v = 3\nx = [[v * w for v in (1, 2)] for w in (1, 10)]", {"v": 3, "x": [[1, 2], [10, 20]]}),
        ("x = int(768 / 4)\ny = int('12')", {"x": 192, "y": 12}),
    ],
)
def test_values_by_hand(text, want):
    assert read_config(text) == want


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\n__import__('os').system('touch pwned')", r"line 2: Expr"),
        ("x = __import__('os')", r"line 1: the call __import__"),
        ("import os", "line 1: an import"),
        ("from os import system", "line 1: an import"),
        ("x = [i for i in range(3) if i]", "line 1: a comprehension"),
        ("x = [i for i in range(3) for j in range(3)]", "line 1: a comprehension"),
        ("x = [i for i in 'abc']", "line 1: a comprehension over a str"),
        ("x = {i: i for i in range(3)}", "line 1: a comprehension"),
        ("x = {i: i for i in range(3)}", "the copies that mmengine saves"),  # what to do
        ("x = int('9' * 5000)", "int\\(\\) of a str"),
        ("x = int(1e300)", "a number of this size"),
        ("for i in [1]:\n    x = i", "line 1: a loop"),
        ("if True:\n    x = 1", "line 1: a condition"),
        ("def f(): pass", "line 1: a function"),
        ("class A: pass", "line 1: a class"),
        ("x = (lambda: 1)", "line 1: a lambda"),
        ("x = ''.__class__.__mro__", "line 1: the attribute '__class__' of a str"),
        ("x = open('/etc/passwd')", "line 1: the call open"),
        ("x = dict.fromkeys([1])", "line 1: the call dict.fromkeys"),
        ("dict = 1\nx = dict(a=1)", "line 2: the call dict"),
        ("x = y", "line 1: the name 'y', which nothing above binds"),
        ("x = 'a' * 10 ** 9", "of this size"),
        ("x = 2 ** 10 ** 9", "of this size"),
        ("x = f'{1:999999999}'", "f-string"),
        ("x = '%999999999d' % 1", "arithmetic on what are no numbers"),
        ("x = [1] * 1000\n" + "x = x + x\n" * 30, "of this size|steps of work"),
        ("p = [dict(a=1)]\nq = p\nq[0]['a'] = 2", "line 3: an assignment to an item"),
        ("p = [1]\nq = p\nq += [2]", "line 3: a list that is changed in place"),
        ("a = ['x']\n" + "a = [a, a, a, a]\n" * 40, "steps of work"),
        ("a = [1]\n" + "a = [a]\n" * 200, "nested more than"),
        ("x = " + "(" * 5000 + ")" * 5000, "no Python config|nested"),
        ("x = {}" + ".a" * 3000, "nested|not there|no Python config"),
        ("with read_base():\n    from .a import *", "new style"),
        ("x = 1 +", "line 1: invalid syntax"),
        ("x = '{{$HOME:x}}'", "environment"),
        ("x = '{{fileDirname}}'", "it is no file"),
        ("_base_ = ['a.py']", "without a folder"),
    ],
)
def test_whatever_would_run_or_explode_is_refused_by_line(text, says):
    with pytest.raises(ValueError, match=says):
        read_config(text)


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)


def test_base_files_are_merged_as_mmengine_merges(tmp_path):
    config = pytest.importorskip("mmengine.config").Config
    write(
        tmp_path,
        base="model = dict(head=dict(a=1, b=[1, 2]), neck=dict(n=1))\n"
        "list_ = [dict(t=1), dict(t=2)]\nbatch = 8",
        other="data = dict(root='d/')\n",
        child="""
_base_ = ['./base.py', './other.py']
model = dict(head=dict(_delete_=True, c=3), neck=dict(m=2))
list_ = [dict(t=5)]
root = {{ _base_.data.root }}  # not {{_base_.nothing}}
half = {{_base_.batch}}
again = _base_.model.head.a
""",
    )
    mine = read_config(tmp_path / "child.py")
    assert mine["model"] == {"head": {"c": 3}, "neck": {"n": 1, "m": 2}}
    assert mine["list_"] == [{"t": 5}]
    assert (mine["root"], mine["half"], mine["again"], mine["batch"]) == ("d/", 8, 1, 8)
    assert mine == plain(config.fromfile(tmp_path / "child.py")._cfg_dict.to_dict())


def test_base_files_stay_in_their_folder_and_end(tmp_path):
    (tmp_path / "in").mkdir()
    write(tmp_path, secret="x = 1")
    write(
        tmp_path / "in",
        up="_base_ = '../secret.py'",
        far="_base_ = '/etc/passwd'",
        scope="_base_ = 'mmpose::x.py'",
        a="_base_ = './b.py'",
        b="_base_ = './a.py'",
        gone="_base_ = './nothing.py'",
        twice="_base_ = ['./one.py', './two.py']",
        inside="_base_ = './one.py'\ny = 'a{{_base_.x}}'",
        none="_base_ = './one.py'\ny = {{_base_.z}}",
        one="x = 1",
        two="x = 2",
        odd="_base_ = './one.py'\nx = dict(a=1)",
    )
    for name, says in (
        ("up", "outside in"),
        ("far", "outside in"),
        ("scope", "outside in"),
        ("a", "its own base"),
        ("twice", "both set 'x'"),
        ("odd", "_delete_=True"),
        ("inside", "stand alone"),
        ("none", "no base file sets"),
    ):
        with pytest.raises(ValueError, match=says):
            read_config(tmp_path / "in" / f"{name}.py")
    with pytest.raises(FileNotFoundError, match=r"gone\.py names as base"):
        read_config(tmp_path / "in/gone.py")
    assert read_config(tmp_path / "in/up.py", tmp_path) == {"x": 1}


def test_json_and_toml_are_read_too(tmp_path):
    (tmp_path / "a.json").write_text('{"x": [1, 2]}')
    (tmp_path / "a.toml").write_text("[x]\ny = 1\n")
    assert read_config(tmp_path / "a.json") == {"x": [1, 2]}
    assert read_config(tmp_path / "a.toml") == {"x": {"y": 1}}
    for name, text in (("b.json", "{"), ("b.toml", "x = "), ("c.json", "[1]")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=name):
            read_config(tmp_path / name)


@given(st.text(alphabet="abx=()[]{}'\"_.,:*+-0123456789 \n", max_size=80))
def test_any_text_ends_in_values_or_one_error(text):
    with contextlib.suppress(ValueError):
        assert isinstance(read_config(text), dict)
