"""Which images a served annotation file can show: those of its own folders, or of --images, and no others."""

from __future__ import annotations

import json
import os

import cv2
import numpy as np
import pytest

from apps.server.data_sets import DataSets
from apps.server.settings import Settings
from workbench.data.images import ImageReading, write_image
from workbench.diagnosis.case import Case, Options
from workbench.diagnosis.targets import Given
from workbench.evaluation.sweeps.rules import SweepRules, SweepSource

PERSON = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "keypoints": [2, 2, 2, 5, 5, 2]}
SIZE = {"width": 20, "height": 12}


def content(name, **more):
    return {
        "images": [{"id": 1, "file_name": name, **SIZE}],
        "annotations": [PERSON | more],
        "categories": [{"id": 1, "name": "newt", "keypoints": ["a", "b"]}],
    }


@pytest.fixture
def places(tmp_path):
    for folder in ("set/annotations", "set/val2017", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    for file, shade in (("set/val2017/a.png", 50), ("elsewhere/a.png", 90), ("elsewhere/b.png", 120)):
        write_image(tmp_path / file, np.full((12, 20, 3), shade, np.uint8))
    (tmp_path / "set/val2017/link.png").symlink_to(tmp_path / "elsewhere/b.png")
    return tmp_path


def served(places, name, *, folder=False, images=None):
    file = places / "set/annotations/val.json"
    file.write_text(json.dumps(content(name)))
    sets = DataSets([places / "set" if folder else file], images)
    return sets, sets.ids()[0]


@pytest.mark.parametrize("folder", [True, False])
def test_images_of_the_usual_layout_are_served_and_links_out_of_it_are_not(places, folder):
    sets, name = served(places, "a.png", folder=folder)
    assert sets.sample(name, 0).image[0, 0, 0] == 50
    sets, name = served(places, "link.png", folder=folder)
    with pytest.raises(ValueError, match=r"link.png: leads out of the data set's folders.*--images"):
        sets.sample(name, 0)
    for outside in (str(places / "elsewhere/b.png"), "elsewhere/b.png"):
        sets, name = served(places, outside, folder=folder)
        with pytest.raises(FileNotFoundError):
            sets.sample(name, 0)


def test_images_beside_a_named_annotations_folder_are_served_and_no_others(places):
    served(places, "a.png")
    sets = DataSets([places / "set/annotations"])
    assert sets.sample("annotations/val.json", 0).image[0, 0, 0] == 50
    served(places, "link.png")
    with pytest.raises(ValueError, match=r"link.png: leads out of the data set's folders"):
        DataSets([places / "set/annotations"]).sample("annotations/val.json", 0)


def test_what_every_page_says_of_a_set_is_another_folder_of_the_same_names_and_missing_images(places):
    (places / "set/other").mkdir()
    write_image(places / "set/other/a.png", np.full((12, 20, 3), 70, np.uint8))
    sets, name = served(places, "a.png")
    assert sets.notes(name) == [], "val2017 is named like val.json"
    file = (places / "set/annotations/val.json").rename(places / "set/annotations/newts.json")
    (note,) = DataSets([file]).notes("newts.json")
    assert note.startswith("images are read from the folder other; other files of the same names lie in val")
    entries = json.loads(file.read_text())
    entries["images"].append({"id": 2, "file_name": "gone.png", **SIZE})
    file.write_text(json.dumps(entries))
    assert DataSets([file]).notes("newts.json")[1].endswith("the first is gone.png")
    assert sets.notes("scenes-val") == []


def test_pipes_and_links_in_a_circle_are_no_sets(places):
    os.mkfifo(places / "set/pipe.json")
    (places / "set/circle.json").symlink_to("circle.json")
    assert served(places, "a.png", folder=True)[1] == "set/annotations/val.json"


def test_a_sweep_and_a_diagnosis_of_the_app_follow_no_link_out_of_what_is_served(places):
    sets, name = served(places, "link.png")
    within = sets.allowed(name)
    source = SweepSource.located("run", sets.file(name), within=within)
    case = Case(given=Given(), options=Options(data=str(sets.file(name)), within=within))
    on_command_line = SweepSource.located("run", sets.file(name)).open_data(SweepRules(), 2)
    for pose_set in (source.open_data(SweepRules(), 2), case.read_set(), on_command_line):
        with pytest.raises(ValueError, match=r"link.png: leads out of the data set's folders"):
            pose_set.sample(0)
    assert sets.allowed("scenes-val") == ()


def test_the_folder_of_images_can_be_named(places):
    sets, name = served(places, "b.png", images=places / "elsewhere")
    assert sets.sample(name, 0).image[0, 0, 0] == 120
    assert Settings(places, images=places / "elsewhere").images == places / "elsewhere"
    with pytest.raises(FileNotFoundError, match="expected the folder of the images"):
        Settings(places, images=places / "nowhere")


def test_what_is_stated_about_images_holds_for_served_sets_and_names_another_version(places):
    cv2.imwrite(str(places / "set/val2017/night.png"), np.full((12, 20), 1000, np.uint16))
    sets, name = served(places, "night.png")
    stated = DataSets([places / "set/annotations/val.json"], reading=ImageReading(bits=16))
    shown = [one.sample(name, 0).image.max() for one in (sets, stated)]
    assert shown == [1000 >> 2, 1000 >> 8]
    assert sets.version(name) != stated.version(name)


def test_a_whole_body_file_is_offered_as_body_and_whole(places):
    file = places / "set/annotations/whole.json"
    parts = {"foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}
    lists = {key: [3.0, 3.0, 2.0] * count for key, count in parts.items()}
    file.write_text(json.dumps(content("a.png", keypoints=[3.0, 3.0, 2.0] * 17, **lists)))
    text = file.read_text().replace('["a", "b"]', json.dumps([f"p{k}" for k in range(17)]))
    file.write_text(text)
    sets = DataSets([file])
    assert sets.ids()[:2] == ["whole.json", "whole.json#wholebody"]
    assert [len(sets.skeleton(name)) for name in sets.ids()[:2]] == [17, 133]
    assert sets.file("whole.json#wholebody").name == "whole.json#wholebody"


def test_a_file_that_is_exchanged_for_a_link_between_check_and_reading_is_not_read(tmp_path, monkeypatch):
    """Exchanged before it is opened it is refused; afterwards the file that was checked is read."""
    import numpy as np

    from workbench.data import image_folders
    from workbench.data.images import image_size, read_image, upright_size, write_image

    served, outside = tmp_path / "served", tmp_path / "outside.png"
    served.mkdir()
    file = write_image(served / "a.png", np.full((8, 9, 3), 50, np.uint8))
    write_image(outside, np.full((8, 9, 3), 200, np.uint8))
    before = sorted(tmp_path.rglob("*"))
    with image_folders.opened_within(file, [served]) as path:
        assert (path.name, path.stem, path.suffix) == ("a.png", "a", ".png")
        assert path.parts[:2] == ("/", "proc"), "nothing is written for it"
        assert sorted(tmp_path.rglob("*")) == before
        file.unlink()
        file.symlink_to(outside)
        assert read_image(path).max() == 50
    assert not path.exists()
    broken = served / "b.tif"
    broken.write_bytes(b"no image")
    for read in (read_image, image_size, upright_size):
        with (
            image_folders.opened_within(broken, [served]) as path,
            pytest.raises(ValueError, match=r"^b\.tif: "),
        ):
            read(path)
    asked = []

    def checked_before_it_was_exchanged(place, folders):
        asked.append(place)
        return True if place == file else is_within(place, folders)

    is_within = image_folders.is_within
    monkeypatch.setattr(image_folders, "is_within", checked_before_it_was_exchanged)
    given = image_folders.opened_within(file, [served])
    with pytest.raises(ValueError, match=r"a.png: leads out of the data set"), given:
        raise AssertionError("a foreign file was given")
    assert len(asked) == 2


def test_more_sets_than_are_kept_open_are_read_once_for_the_lists_of_all_runs(places, monkeypatch):
    """Every run asks for every set; a set of 60,000 annotations takes 6 s."""
    import workbench.data

    names = [f"{n}.json" for n in range(9)]
    for name in names:
        (places / "set" / name).write_text(json.dumps(content("val2017/a.png")))
    broken = places / "set/broken.json"
    broken.write_text(json.dumps(content("val2017/a.png", keypoints=[1])))
    sets, read = DataSets([places / "set" / name for name in names] + [broken]), []
    coco = workbench.data.read_coco
    monkeypatch.setattr(
        "workbench.data.read_coco", lambda path, *a, **k: (read.append(path), coco(path, *a, **k))[1]
    )
    skeleton = sets.skeleton(names[0])
    for _ in range(3):
        assert sets.fitting(skeleton)[:9] == names
        assert sets.count(names[0]) == 1
        with pytest.raises(ValueError, match="keypoints"):
            sets.count("broken.json")
    assert len(read) == len(names) + 1
    (places / "set/0.json").write_text(json.dumps(content("val2017/a.png", id=2) | {"info": {}}))
    assert sets.count(names[0]) == 1
    assert len(read) == len(names) + 2, "a file that changed is read again"
