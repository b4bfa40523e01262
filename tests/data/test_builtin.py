from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from workbench.data import BUILTIN, DESCRIPTIONS, builtin, cache_folder, export, open_data, read_coco
from workbench.data import builtin as module_of_builtin  # noqa: F401 - the name is the function's
from workbench.data.scenes import SceneSet


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A built-in set of three pictures in a cache of its own."""
    from workbench.data import builtin as _  # noqa: F401

    home = sys.modules["workbench.data.opening"]
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(home, "SHIPPED", tmp_path / "nothing shipped")
    monkeypatch.setitem(home.SCENE_SETS, "scenes-val", SceneSet("scenes-val", "animals", 3, 2))
    home._read.cache_clear()
    yield tmp_path / "cache"
    home._read.cache_clear()


def test_every_built_in_set_has_a_line_of_description():
    assert tuple(DESCRIPTIONS) == BUILTIN
    assert all(DESCRIPTIONS.values())


def test_scenes_are_drawn_once_and_read_from_the_cache_then(small):
    calls: list[tuple[int, int]] = []
    first = builtin("scenes-val", lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert first.name == "scenes-val"
    assert "drawing" in first.source
    times = {p: p.stat().st_mtime_ns for p in small.rglob("*.jpg")}
    assert len(times) == 3
    assert builtin("scenes-val", lambda done, total: pytest.fail("drawn again")) is first
    assert {p: p.stat().st_mtime_ns for p in small.rglob("*.jpg")} == times


def test_two_that_draw_at_once_leave_one_whole_set_and_no_rest(small):
    found = []
    threads = [threading.Thread(target=lambda: found.append(builtin("scenes-val"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert len(list(small.iterdir())) == 1
    assert found[0].absent_images() == ()


def cut(folder, _):
    whole = (folder / "annotations.json").read_bytes()
    (folder / "annotations.json").write_bytes(whole[: len(whole) // 2])


def picture_gone(folder, _):
    next(folder.rglob("*.jpg")).unlink()


def annotations_gone(folder, _):
    """As programs leave it that remove what was not read for long."""
    (folder / "annotations.json").unlink()


def pipe(folder, _):
    (folder / "annotations.json").unlink()
    os.mkfifo(folder / "annotations.json")


def no_folder(folder, _):
    shutil.rmtree(folder)
    folder.write_text("")


def other_keypoints(folder, _):
    annotations = json.loads((folder / "annotations.json").read_text())
    for category in annotations["categories"]:
        category["keypoints"].reverse()
    (folder / "annotations.json").write_text(json.dumps(annotations))


def fewer(folder, _):
    annotations = json.loads((folder / "annotations.json").read_text())
    for name, key in (("images", "id"), ("annotations", "image_id")):
        annotations[name] = [one for one in annotations[name] if one[key] == 1]
    (folder / "annotations.json").write_text(json.dumps(annotations))


def a_link_at(name):
    def link(folder, foreign):
        place = folder / name
        place.rename(foreign)
        place.symlink_to(foreign)

    return link


def dangling(folder, foreign):
    shutil.rmtree(folder)
    folder.symlink_to(foreign)


HARMS = [cut, picture_gone, annotations_gone, pipe, no_folder, other_keypoints, fewer, dangling]
LINKS = ["", "images", "images/000002.jpg", "annotations.json"]


@pytest.mark.parametrize("category", [None, "horse"])
@pytest.mark.parametrize("harm", [*HARMS, *map(a_link_at, LINKS)])
def test_a_set_in_the_cache_that_is_not_as_it_was_drawn_is_named_and_drawn_again(
    small, harm, category, caplog, tmp_path, drawn_once
):
    """Others may write into the cache: no link in it is followed, and what it points to stays."""
    drawn = builtin("scenes-val")
    folder, foreign = next(small.iterdir()), tmp_path / "foreign"
    harm(folder, foreign)
    before = _content(foreign)
    sys.modules["workbench.data.opening"]._read.cache_clear()
    builtin("scenes-val", category=category)
    assert f"{folder} are damaged" in caplog.text
    assert _content(foreign) == before
    assert list(small.iterdir()) == [folder]
    again = builtin("scenes-val")
    assert [one.truth.tolist() for one in again.instances] == [one.truth.tolist() for one in drawn.instances]
    assert all(path.resolve() == small.resolve() / path.relative_to(small) for path in small.rglob("*"))


def _content(place):
    paths = sorted(place.rglob("*")) if place.is_dir() else [place] if place.exists() else []
    return {path: path.read_bytes() for path in paths if path.is_file()}


@pytest.fixture
def drawn_once(monkeypatch, tmp_path_factory):
    """Draw the small set once, and copy it then."""
    home = sys.modules["workbench.data.opening"]
    write = home.write_scenes

    def copied(folder, scenes, progress):
        if not DRAWN:
            DRAWN.append(tmp_path_factory.mktemp("drawn"))
            write(DRAWN[0], scenes)
        shutil.copytree(DRAWN[0], folder, dirs_exist_ok=True)

    monkeypatch.setattr(home, "write_scenes", copied)


DRAWN: list[Path] = []


def test_a_drawing_that_fails_leaves_nothing_behind(small, monkeypatch):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        builtin("scenes-val", stop)
    assert list(small.iterdir()) == []


def test_the_cache_is_where_the_user_says_or_the_platform(monkeypatch, tmp_path):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("WORKBENCH_CACHE")
    assert cache_folder().is_absolute()
    assert cache_folder().name == "pose-workbench"


def test_unknown_names_are_refused_with_the_nearest(tmp_path):
    with pytest.raises(KeyError, match="nearest: scenes-val"):
        builtin("scene-val")
    with pytest.raises(KeyError, match="neither a json file nor built in"):
        open_data("scene-val")
    with pytest.raises(FileNotFoundError, match=r"absent.json"):
        open_data(tmp_path / "absent.json")
    with pytest.raises(ValueError, match="got a folder"):
        open_data(tmp_path)
    with pytest.raises(ValueError, match="brings its own images"):
        open_data("astronaut", tmp_path)


def test_the_astronaut_is_one_person_with_nine_keypoints_in_her_outline():
    cv2 = pytest.importorskip("cv2")
    found = builtin("astronaut")
    assert len(found) == 1
    sample = found.sample(0)
    assert sample.image.shape == (512, 512, 3)
    labelled = {n for n, (_, _, v) in zip(found.skeleton.keypoints, sample.truth, strict=True) if v}
    assert labelled == {
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
        "right_elbow", "right_wrist",
    }  # fmt: skip
    outline = np.array(found.raw["annotations"][0]["segmentation"][0], np.float32).reshape(-1, 1, 2)
    assert cv2.contourArea(outline) == pytest.approx(sample.area)
    for x, y, v in sample.truth:
        if v:
            assert cv2.pointPolygonTest(outline, (float(x), float(y)), True) > -1
    # She faces the camera: her left is on the right of the picture.
    place = {n: tuple(t[:2]) for n, t in zip(found.skeleton.keypoints, sample.truth, strict=True)}
    assert place["left_eye"][0] > place["nose"][0] > place["right_eye"][0]
    assert sample.image[101, 203].mean() < 110  # the pupil is dark
    assert sample.image[103, 246].mean() < 110


def test_a_copy_of_a_set_reads_back_as_the_same(small, tmp_path):
    first = builtin("scenes-val")
    again = read_coco(export(first, tmp_path / "copy"))
    assert len(again) == len(first)
    for a, b in zip(first.instances, again.instances, strict=True):
        assert (a.truth == b.truth).all()
        assert a.box == b.box
    assert (again.image(1) == first.image(1)).all()
    with pytest.raises(FileExistsError, match="nothing is overwritten"):
        export(first, tmp_path / "copy")


def test_the_astronaut_can_be_copied_too(tmp_path):
    path = export(builtin("astronaut"), tmp_path / "copy")
    assert read_coco(path).sample(0).image.shape == (512, 512, 3)
    assert isinstance(path, Path)


@pytest.mark.parametrize("name", ["scenes-val", "scenes-people-val"])
def test_the_shipped_pictures_are_the_ones_the_seed_draws(name, tmp_path):
    """The files beside the code are no second source: drawing them anew gives the same truth and pixels."""
    import dataclasses

    import cv2

    from workbench.data.scenes import write_scenes

    home = sys.modules["workbench.data.opening"]
    write_scenes(tmp_path, dataclasses.replace(home.SCENE_SETS[name], count=2))
    shipped = home.SHIPPED / f"{name}-{home.VERSION}"
    anew, committed = (json.loads((f / "annotations.json").read_text()) for f in (tmp_path, shipped))
    assert anew["annotations"] == [a for a in committed["annotations"] if a["image_id"] <= 2]
    for path in (tmp_path / "images").glob("*.jpg"):
        drawn, old = (cv2.imread(str(p)).astype(int) for p in (path, shipped / "images" / path.name))
        assert np.abs(drawn - old).mean() < 2


def test_one_category_of_a_built_in_set_is_read_alone_and_an_unknown_one_is_refused():
    every = open_data("scenes-val")
    numbers = {instance.category_id for instance in every.instances}
    assert len(numbers) > 1
    for number in numbers:
        name = every.categories[number]
        wanted = [one.annotation_id for one in every.instances if one.category_id == number]
        for category in (number, str(number), name):
            found = open_data("scenes-val", category=category)
            assert [one.annotation_id for one in found.instances] == wanted
    assert len(open_data("astronaut", category="person").instances) == 1
    for name in ("scenes-val", "astronaut"):
        with pytest.raises(KeyError, match="no category 'hors'"):
            open_data(name, category="hors")
