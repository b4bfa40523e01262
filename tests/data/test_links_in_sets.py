"""A link in a data set that leads out of its folders is not opened, whatever reads the set's images."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from workbench.data import read_coco
from workbench.data.images import write_image
from workbench.data.opening import export

OPENED: list[str] = []
WATCHING = [False]


def _note(event: str, arguments: tuple) -> None:
    if WATCHING[0] and event == "open":
        OPENED.append(str(arguments[0]))


sys.addaudithook(_note)  # Python takes none back; it is asleep but in these tests


@pytest.fixture
def linked(tmp_path):
    """A set of two images, of which one is a link to a picture elsewhere, and the place of that picture."""
    (tmp_path / "set").mkdir()
    picture = np.random.default_rng(1).integers(0, 255, (90, 120, 3), np.uint8)
    write_image(tmp_path / "secret.png", picture)
    write_image(tmp_path / "set/a.png", picture)  # a duplicate of it, had it been read
    (tmp_path / "set/b.png").symlink_to(tmp_path / "secret.png")
    points = [10, 20, 2, 60, 50, 2, 30, 70, 2, 80, 40, 2, 50, 15, 2, 20, 60, 2]
    content = {
        "images": [
            {"id": n, "file_name": f"{name}.png", "width": 120, "height": 90} for n, name in enumerate("ab")
        ],
        "categories": [{"id": 1, "name": "thing", "keypoints": list("uvwxyz")}],
        "annotations": [
            {"id": 7 + n, "image_id": n, "category_id": 1, "bbox": [5, 5, 90, 80], "keypoints": points,
             "num_keypoints": 6, "area": 7200, "iscrowd": 0}
            for n in range(2)
        ],
    }  # fmt: skip
    path = tmp_path / "set/val.json"
    path.write_text(json.dumps(content))
    return path, tmp_path / "secret.png"


def opened_files(call) -> tuple[set[Path], Any]:
    """The files that a call opened, links followed, and what it returned or said."""
    OPENED.clear()
    WATCHING[0] = True
    try:
        found = call()
    except ValueError as error:
        found = error
    finally:
        WATCHING[0] = False
    return {Path(name).resolve() for name in OPENED if name.endswith(".png")}, found


def test_no_lint_reads_what_a_link_in_a_set_leads_to(linked):
    from workbench.data.set_lint import lint

    path, secret = linked
    opened, report = opened_files(lambda: lint(read_coco(path)))
    assert secret not in opened
    assert path.with_name("a.png") in opened
    evidence = " ".join(one.evidence for one in report.findings)
    assert "1 image file cannot be read, the first is b.png: leads out of the data set's folders" in evidence
    assert "duplicate" not in evidence
    # The folder that it leads to is named: now it is the user's word.
    opened, report = opened_files(lambda: lint(read_coco(path, path.parent.parent)))
    assert secret in opened or "duplicate" in " ".join(one.evidence for one in report.findings)


def test_a_set_with_a_link_that_leads_elsewhere_is_not_written_as_a_copy(linked, tmp_path):
    path, secret = linked
    opened, error = opened_files(lambda: export(read_coco(path), tmp_path / "copy"))
    assert secret not in opened
    assert "b.png: leads out of the data set's folders" in str(error)
    assert not (tmp_path / "copy/annotations.json").exists()


def test_training_images_are_not_compared_with_what_a_link_leads_to(linked):
    from workbench.diagnosis.set_causes import leaked_images

    path, secret = linked
    found = read_coco(path)
    case = cast(Any, SimpleNamespace(step=lambda: None))
    opened, (leaked, _) = opened_files(lambda: leaked_images(found, found, case))
    assert secret not in opened
    assert leaked == {0}


def test_a_copy_of_a_set_on_a_full_disk_leaves_no_part_of_an_image(linked, tmp_path, monkeypatch):
    import shutil

    def half(source, target):
        Path(target).write_bytes(Path(source).read_bytes()[:100])
        raise OSError(errno.ENOSPC, "No space left on device", str(source))

    path, _ = linked
    path.with_name("b.png").unlink()
    path.with_name("b.png").write_bytes(path.with_name("a.png").read_bytes())
    monkeypatch.setattr(shutil, "copyfile", half)
    with pytest.raises(OSError, match=r"No space left") as full:
        export(read_coco(path), tmp_path / "copy")
    assert full.value.filename == str(tmp_path / "copy/images/a.png")
    assert not any(one.is_file() for one in (tmp_path / "copy").rglob("*"))


@pytest.mark.parametrize("verb", [("data",), ("data", "lint")])
def test_the_verb_of_data_does_not_read_what_a_link_in_a_set_leads_to(linked, verb, workbench):
    path, secret = linked
    opened, (code, _, err) = opened_files(lambda: workbench(*verb, str(path)))
    assert (code, err.count("Traceback")) == (0, 0)
    assert secret not in opened
