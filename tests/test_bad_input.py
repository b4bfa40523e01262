"""What users get wrong, on the command line: one clear sentence, exit code 2, nothing executed."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

ADAPTER = """
import torch
from workbench.models import TopDown
from workbench.core import Codec
from workbench.skeletons import SKELETONS


def load(checkpoint, device):
    torch.manual_seed(0)
    net = torch.nn.Conv2d(3, 17, 3, stride=4, padding=1)
    codec = Codec("heatmap", (64, 48), (16, 12), decoder="argmax")
    return TopDown(module=net, skeleton=SKELETONS["coco-17"], codec=codec, device=device)
"""


class Shell:
    """A pickle that wants to run a command."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def adapter(tmp_path):
    path = tmp_path / "adapter.py"
    path.write_text(ADAPTER)
    return path


@pytest.fixture
def picture(tmp_path):
    import cv2

    path = tmp_path / "images" / "1.jpg"
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.full((120, 160, 3), 90, np.uint8))
    return path


def annotations(tmp_path, K=17, keypoints=True, file_name="1.jpg", box=(10, 10, 100, 90)):
    """A COCO-format json of one person in one image."""
    names = [f"k{i}" for i in range(K)]
    person = {"id": 1, "image_id": 1, "category_id": 1, "bbox": list(box), "area": 900.0, "iscrowd": 0}
    if keypoints:
        person |= {"keypoints": [30, 40, 2] * K, "num_keypoints": K}
    content = {
        "images": [{"id": 1, "file_name": file_name, "width": 160, "height": 120}],
        "annotations": [person],
        "categories": [{"id": 1, "name": "person", "keypoints": names, "skeleton": []}],
    }
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def refused(answer, *words):
    """Exit code 2, nothing on stdout, one sentence that holds the words."""
    code, out, err = answer
    assert code == 2, (code, out, err)
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("workbench:")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in lines[0], lines[0]


def test_a_file_that_is_no_checkpoint(workbench, tmp_path, picture):
    refused(workbench("open", picture), "1.jpg")
    text = tmp_path / "notes.pth"
    text.write_text("these are notes")
    refused(workbench("open", text), "notes.pth")
    (tmp_path / "empty.pth").touch()
    refused(workbench("open", tmp_path / "empty.pth"), "empty")


CONFIG = "expected a config with model = dict(type=...)"


@pytest.mark.parametrize(
    ("name", "content", "of_config", "of_data"),
    [
        ("empty.json", b"", f"{CONFIG}, but it is empty", "expected JSON, but the file is empty"),
        ("object.json", b"{}", f"{CONFIG}, it holds nothing", "expected a list"),
        (
            "list.json",
            b"[]",
            f"{CONFIG}, got a list",
            "expected a COCO annotation file (an object), got list",
        ),
        ("null.json", b"null", f"{CONFIG}, got null", "expected JSON with content, got null"),
        ("results.json", b'[{"image_id": 1}]', f"{CONFIG}, got a list", "expected a COCO annotation file"),
        ("other.json", b'{"a": 1, "b": 2}', f"{CONFIG}, it holds a, b", "expected a list under 'images'"),
        (
            "run.log",
            b"INFO loss 3",
            "expected a config (.py, .json, .yaml, .yml), or a checkpoint",
            "expected JSON, but",
        ),
        (
            "x.npz",
            b"PK\3\4",
            "expected a config (.py, .json, .yaml, .yml), or a checkpoint",
            "expected JSON, but it is compressed",
        ),
    ],
)
def test_a_file_that_is_no_config_and_no_json_of_a_kind(
    workbench, tmp_path, name, content, of_config, of_data
):
    path = tmp_path / name
    path.write_bytes(content)
    refused(workbench("overfit", "--config", path), f"{name}: {of_config}")
    refused(workbench("data", path), f"{name}: {of_data}")
    refused(workbench("score", path, "--data", path), f"{name}: expected")
    audited = workbench("audit", path)
    assert audited[0] == 2
    assert "Error:" not in audited[2]


def test_files_that_may_not_be_read(workbench, tmp_path, picture, monkeypatch):
    opened = Path.open

    def refusing(path, *words, **named):
        if path in (picture, tmp_path / "epoch_1.pth"):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *words, **named)

    def refused_picture(path, *words, **named):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "epoch_1.pth").write_bytes(b"x")
    monkeypatch.setattr(Path, "open", refusing)  # whoever runs the tests may be allowed everything
    monkeypatch.setattr("PIL.Image.open", refused_picture)
    refused(workbench("open", tmp_path / "epoch_1.pth"), "epoch_1.pth: permission denied")
    answer = workbench("predict", "--demo", "--image", picture)
    refused(answer, "1.jpg: permission denied")
    assert "header" not in answer[2]


def test_a_truncated_checkpoint(workbench, tmp_path):
    whole = tmp_path / "whole.pth"
    torch.save({"state_dict": {"w": torch.rand(200, 200)}}, whole)
    half = tmp_path / "half.pth"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    refused(workbench("open", half), "half.pth")


def test_a_pickle_that_calls_the_shell_is_opened_and_runs_nothing(workbench, tmp_path):
    marker = tmp_path / "executed"
    for name, write in (("zip.pth", torch.save), ("plain.pkl", lambda x, p: p.write_bytes(pickle.dumps(x)))):
        path = tmp_path / name
        write({"state_dict": {"w": torch.zeros(2)}, "evil": Shell(marker)}, path)
        code, out, err = workbench("open", path, "--json")
        assert not marker.exists()
        assert code in (0, 2)
        if code == 0:
            assert any("system" in name for name in json.loads(out)["inert"])
        else:
            assert "Traceback" not in err


def test_a_pickle_bomb_is_refused_quickly(workbench, tmp_path):
    # ten nested lists of ten references each: 10^10 items for a reader that unfolds them, 100 on disk
    bomb = b"\x80\x02]q\x00" + b"".join(b"]q%c(%se" % (i + 1, b"h%c" % i * 10) for i in range(60))
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", bomb + b".")
        archive.writestr("archive/version", "3\n")
    code, _, err = workbench("open", path)
    assert code == 2
    assert "Traceback" not in err


def test_a_config_that_runs_code_is_read_and_never_run(workbench, tmp_path):
    marker = tmp_path / "executed"
    torch.save({"state_dict": {"backbone.w": torch.zeros(2)}}, tmp_path / "epoch_1.pth")
    (tmp_path / "config.py").write_text(f"import os\nos.system('touch {marker}')\nmodel = dict(type='X')\n")
    refused(workbench("load", tmp_path / "epoch_1.pth"))
    assert not marker.exists()


def test_a_json_without_keypoints(workbench, tmp_path, picture, adapter):
    data = annotations(tmp_path, keypoints=False)
    call = ("evaluate", "--adapter", adapter, "--data", data, "--images", picture.parent)
    refused(workbench(*call), "keypoints")


def test_17_against_26_keypoints(workbench, tmp_path, picture, adapter):
    data = annotations(tmp_path, K=26)
    call = ("evaluate", "--adapter", adapter, "--data", data, "--images", picture.parent)
    refused(workbench(*call), "17", "26")


def test_a_broken_image(workbench, tmp_path, adapter):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 and no picture")
    refused(workbench("predict", "--adapter", adapter, "--image", broken), "broken.jpg")


def test_an_image_without_annotation(workbench, tmp_path, picture, adapter):
    data = annotations(tmp_path)
    content = json.loads(data.read_text()) | {"annotations": []}
    data.write_text(json.dumps(content))
    call = ("evaluate", "--adapter", adapter, "--data", data, "--images", picture.parent)
    refused(workbench(*call))
    refused(workbench("look", "target_residual", "--adapter", adapter, "--image", picture), "annotation")


@pytest.mark.parametrize("box", ["10,10,10,50", "50,50,10,10", "a,b,c,d", "1,2,3", "nan,0,5,5"])
def test_a_box_of_no_size(workbench, picture, adapter, box):
    refused(workbench("predict", "--adapter", adapter, "--image", picture, "--box", box))


@pytest.mark.parametrize(
    "words",
    [["{}"], ["look", "{}"], ["score", "a", "b", "{}"], ["score", "{}", "{}"], ["overfit", "--steps", "{}"]],
)
def test_what_was_given_is_not_repeated_whole_when_it_is_long(workbench, words):
    """A pasted number of 5,000 digits: beginning and end tell which one."""
    code, out, err = workbench(*(word.format("9" * 5000) for word in words))
    assert (code, out, len(err) < 500) == (2, "", True)


def test_an_image_named_outside_its_folder(workbench, tmp_path, picture, adapter):
    data = annotations(tmp_path, file_name="../../etc/passwd")
    call = ("evaluate", "--adapter", adapter, "--data", data, "--images", picture.parent)
    refused(workbench(*call), "folder")


def test_a_half_loaded_model_is_refused_and_says_what_is_missing(workbench, tmp_path, picture):
    torch.save({"state_dict": {"weight": torch.zeros(17, 3, 3, 3)}}, tmp_path / "half.pth")
    adapter = tmp_path / "half.py"
    adapter.write_text(
        ADAPTER.replace("    codec =", "    report = load_state(net, checkpoint)\n    codec =")
        .replace("    return TopDown(", "    return (TopDown(")
        .replace("device=device)\n", "device=device), report)\n")
        .replace("import torch\n", "import torch\nfrom workbench.checkpoints.loading import load_state\n", 1)
    )
    call = ("predict", tmp_path / "half.pth", "--adapter", adapter, "--image", picture)
    refused(workbench(*call), "bias")
    code, out, err = workbench(*call, "--allow-partial", "--json")
    assert code == 0, err
    assert "not fully loaded" in out or json.loads(out)["loaded_fraction"] < 1


def test_an_adapter_that_fails_is_told_by_line(workbench, tmp_path, picture):
    path = tmp_path / "mine.py"
    path.write_text("def load(checkpoint, device):\n    return 1 / 0\n")
    refused(workbench("predict", "--adapter", path, "--image", picture), "mine.py", "2", "division")


@pytest.mark.parametrize("kind", ["large", "pipe"])
def test_a_record_without_an_end_is_refused_and_not_read(tmp_path, kind):
    """A folder of results may come from somebody else; each record in it is read up to a limit."""
    from workbench.core.files import RECORD_SIZE
    from workbench.evaluation.manifest import read_manifest
    from workbench.evaluation.sweeps.folder import read_record
    from workbench.training.experiments.results import StoredArm

    for name in ("manifest.json", "sweep.json", "course.json"):
        if kind == "pipe":
            os.mkfifo(tmp_path / name)
        else:
            (tmp_path / name).touch()
            os.truncate(tmp_path / name, RECORD_SIZE + 1)
    said = "more than 16777216 bytes" if kind == "large" else "no regular file"
    with pytest.raises(ValueError, match=said):
        read_record(tmp_path / "sweep.json")
    if kind == "large":
        with pytest.raises(ValueError, match=said):
            read_manifest(tmp_path)
    else:
        assert read_manifest(tmp_path) is None
    assert StoredArm(tmp_path, "").course(()) is None
