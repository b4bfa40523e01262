"""Configs, descriptions, logs, own code: whatever stands in them, a reader ends in values or one sentence."""

from __future__ import annotations

import copy
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models.text_fusion_net import config as small
from workbench.checkpoints.config_reader import read_config
from workbench.cli import answering
from workbench.cli.output import Answer
from workbench.core import NotAvailable
from workbench.core.errors import errors_of_user_code
from workbench.inspectors.conditioning.training_log import read_validation
from workbench.models.mmpose.trust import allowed
from workbench.text.encoding import read_descriptions

DOCUMENTED = (ValueError, NotAvailable, FileNotFoundError)
SECONDS = 5.0

CONFIG = """
_base_ = ['./base.py']
custom_imports = dict(imports=['a.b'], allow_failed_imports=False)
codec = dict(type='SimCCLabel', input_size=(192, 256), sigma=(4.9, 5.66), simcc_split_ratio=2.0)
n = 3 * 2 ** 4
model = dict(type='TopdownPoseEstimator', head=dict(decoder=codec, out=n), x=f'{n:03d}', **dict(y=[1] * 3))
steps = [dict(type='A'), dict(type='B', p={{_base_.p}})]
r = list(range(3)) + [float('inf')]
"""
JSON = '{"a": {"b": [1, 2.5, -3e4, true, null, "text"], "c": {"d": "e"}}, "f": [[[1]]]}'
TOML = """
name = "m"
[keypoints]
nose = "The nose."
tail = "The tail."
[subjects]
horse = {category = 1, sentence = "A horse."}
"""
ROWS = '{"coco/AP": 0.5, "coco/AR": 0.6, "step": 3}\n{"coco/AP": 0.6, "coco/AR": 0.7, "step": 4}\n'
WORDS = """
Epoch(val) [10][34/34]  coco/AP: 0.0805  coco/AR: 0.1
Epoch(val) [11][34/34]  coco/AP: 0.09  coco/AR: 0.2
"""
PIECES = (
    *(
        "0",
        "-1",
        "1e999",
        "9" * 5000,
        "0x" + "f" * 900,
        "nan",
        "NaN",
        "Infinity",
        "None",
        "null",
        "[]",
        "{}",
        "()",
        "''",
    ),
    *(
        "{1: 2}",
        "[[1]]",
        "1j",
        "...",
        "b'a'",
        "\0",
        "\ud83d",
        "\x1b[31m",
        "{{_base_.p}}",
        "{{ fileDirname }}",
        "{{$A:b}}",
    ),
    *(
        "** 99",
        "* 99999",
        "<< 99",
        "range(10**9)",
        "f'{1:99999}'",
        "*[1]",
        "**5",
        "_base_ = 5\n",
        "_base_",
        "type",
        "a.b",
    ),
    *(
        "(" * 300,
        "[" * 3000,
        "-" * 5000,
        "a." * 3000,
        "\n" * 3000,
        "'" * 3,
        "=",
        ",",
        ":",
        "#",
        "\\",
        "__import__('os')",
    ),
)


def mutations(text: str, count: int, seed: int) -> Iterator[str]:
    """Damaged copies of a text, the same ones for the same seed."""
    chance = random.Random(seed)
    for _ in range(count):
        signs = text
        for _ in range(chance.randint(1, 3)):
            a = chance.randrange(len(signs) + 1)
            b = min(len(signs), a + chance.choice((0, 1, 1, 2, 5, 30)))
            piece = chance.choice((*PIECES, signs[a : a + 40] * chance.choice((1, 2, 50)), ""))
            signs = signs[:a] + piece + signs[b:]
        yield signs


def ends(read: Callable[[], Any]) -> None:
    """Raise where a reader does anything but give a value, or one documented sentence, soon."""
    started = time.process_time()
    said = "values"
    try:
        read()
    except DOCUMENTED as error:
        said = str(error)
    assert said.strip()
    assert time.process_time() - started < SECONDS


def read_file(path: Path, text: str, reader: Callable[[Path], Any]) -> Callable[[], Any]:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return lambda: reader(path)


def texts(folder: Path, count: int, seed: int) -> None:
    (folder / "base.py").write_text("p = dict(q=1)\nmodel = dict(head=dict(z=2))\n")
    for text in mutations(CONFIG, count, seed):
        ends(lambda text=text: read_config(text))
        ends(read_file(folder / "c.py", text, read_config))
    for name, sample, reader in (
        ("c.json", JSON, read_config),
        ("c.toml", TOML, read_config),
        ("d.toml", TOML, read_descriptions),
        ("d.json", JSON, read_descriptions),
        ("scalars.json", ROWS, read_validation),
        ("a.log", WORDS, read_validation),
    ):
        for text in mutations(sample, count, seed):
            ends(read_file(folder / name, text, reader))


def test_mutated_texts_end_in_values_or_one_sentence(tmp_path):
    texts(tmp_path, 60, 0)


@pytest.mark.slow
def test_many_mutated_texts_end_in_values_or_one_sentence(tmp_path):
    for seed in range(1, 11):
        texts(tmp_path, 400, seed)


ODD = (
    *(
        5,
        -1,
        0,
        10**30,
        float("inf"),
        float("nan"),
        "text",
        "",
        None,
        True,
        [],
        {},
        (),
        [1],
        (1, 2),
        {"a": 1},
        b"a",
    ),
    *(
        [[1, 2], [3]],
        {"type": "ReLU"},
        {"type": 3},
        {1: 2},
        {None: 1},
        "a" * 5000,
        [{}],
        [None],
        {"dataset": 5},
    ),
)


def odd_copies(value: dict[str, Any], count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Copies in which one or two parts are something else."""
    chance = random.Random(seed)
    for _ in range(count):
        made = copy.deepcopy(value)
        for _ in range(chance.randint(1, 2)):
            place: Any = made
            key = chance.choice(list(place))
            while isinstance(place[key], (dict, list)) and place[key] and chance.random() < 0.8:
                place = place[key]
                key = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
            place[key] = copy.deepcopy(chance.choice(ODD))
        yield made


META = {
    "dataset_name": "m",
    "keypoint_id2name": {k: f"p{k}" for k in range(17)},
    "flip_indices": list(range(17)),
    "sigmas": [0.1] * 17,
    "skeleton_links": [[0, 1]],
}
INFO = {
    "dataset_name": "m",
    "keypoint_info": {k: {"name": f"p{k}", "id": k, "type": "upper", "swap": ""} for k in range(17)},
    "skeleton_info": {0: {"link": ("p0", "p1"), "id": 0}},
    "sigmas": [0.1] * 17,
}


def odd_values(count: int, seed: int) -> None:
    from workbench.models.mmpose.model import build, model_of

    settings = small()
    settings["test_dataloader"] = {"dataset": {"type": "CocoDataset", "metainfo": INFO, "pipeline": []}}
    module = build(settings).eval()
    for config in odd_copies(settings, count, seed):
        ends(lambda config=config: allowed(config["model"], "model"))
        ends(lambda config=config: model_of(module, config, None))
    for meta in odd_copies(META, count, seed):
        ends(lambda meta=meta: model_of(module, small(), meta))
    for meta in odd_copies(INFO, count, seed):
        ends(lambda meta=meta: model_of(module, small(), meta))


def test_odd_values_in_a_config_end_in_a_model_or_one_sentence():
    odd_values(60, 0)


@pytest.mark.slow
def test_many_odd_values_in_a_config_end_in_a_model_or_one_sentence():
    for seed in range(1, 6):
        odd_values(400, seed)


class SpeechlessError(Exception):
    def __str__(self) -> str:
        return ""


ERRORS = (
    *(
        ValueError(),
        KeyError(),
        KeyError(("a", 1)),
        KeyError(None),
        OSError(2, "No such file", "a.txt"),
        OSError(),
    ),
    *(
        Exception([1, {2: 3}]),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd"),
        SpeechlessError(),
        MemoryError(),
    ),
    *(RecursionError("deep"), SyntaxError(), SyntaxError("x", ("f", 10**9, 1, "a")), StopIteration(5)),
    ValueError("\x1b[31m\n\0"),
)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_whatever_a_users_code_raises_is_one_printable_line(error, tmp_path):
    with (
        pytest.raises(ValueError, match=r"own\.py, line \d+: \w+") as caught,
        errors_of_user_code(tmp_path / "own.py"),
    ):
        raise error
    assert str(caught.value).isprintable()


OWN = {
    "a missing file": ("open('weights/stats.pth')", "FileNotFoundError: .*weights/stats.pth"),
    "a command": ("subprocess.run(['false'], check=True)", "CalledProcessError: .*false.* status 1"),
    "an encoding": (r"b'K\xf6'.decode()", "UnicodeDecodeError: .*0xf6"),
    "a key": ("{}['a key']", "KeyError: a key$"),
    "two lines": (r"int('1\n2')", r"ValueError: invalid literal for int\(\) with base 10: '1\\n2'$"),
}


@pytest.mark.parametrize("name", list(OWN))
def test_what_went_wrong_in_a_users_file_is_told_whole(name, tmp_path, workbench):
    code, said = OWN[name]
    file = tmp_path / "own.py"
    file.write_text(f"import subprocess\ndef load(checkpoint, device):\n    {code}\n")
    done, _, err = workbench("load", "--adapter", file)
    assert done == 2
    assert len(err.strip().splitlines()) == 1
    assert re.search(rf"own\.py, line 3: {said}", err.strip())
    done, _, err = workbench("load", "--adapter", file, "--debug")
    assert done == 2
    assert f"line 3, in load\n    {code}\n" in err
    assert re.search(rf"own\.py, line 3: {said}", err.strip().splitlines()[-1])


@pytest.mark.parametrize("debug", [False, True])
def test_debug_shows_the_traceback_of_an_error_after_which_a_verb_goes_on(debug, capsys):
    def verb() -> Answer:
        said = ""
        for _ in range(2):
            try:
                with errors_of_user_code(Path("own.py")):
                    raise RuntimeError("mine")
            except ValueError as error:
                said = str(error)
        return Answer({}, f"{said}; the next one goes on")

    answering(verb)(as_json=False, debug=debug)
    printed = capsys.readouterr()
    assert "the next one goes on" in printed.out
    assert printed.err.count("RuntimeError: mine") == debug


def test_a_missing_base_of_a_users_config_is_named(tmp_path):
    from workbench.models.mmpose.config import run_config

    (tmp_path / "own.py").write_text("_base_ = ['../../gone/default_runtime.py']\n")
    with pytest.raises(ValueError, match=r"own\.py, line 1: FileNotFoundError: .*gone/default_runtime\.py"):
        run_config(tmp_path / "own.py")
