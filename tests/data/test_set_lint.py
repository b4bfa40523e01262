"""Every lint finds its fault with the annotations behind it; healthy sets get none, or what is true."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from workbench.data import builtin, read_coco
from workbench.data.images import write_image
from workbench.data.set_lint import CHECKS, lint
from workbench.skeletons import mirror_by_names

NAMES = list(builtin("astronaut").skeleton.keypoints)


@pytest.fixture(scope="module")
def people():
    """The raw json of drawn people, whose images are shipped."""
    return builtin("scenes-people-val")


@pytest.fixture
def linted(people, tmp_path):
    """The report of the drawn people after a change of their json."""
    (tmp_path / "images").symlink_to(next(iter(people.images.values())).path.parent)

    def of(change, **options):
        raw = copy.deepcopy(people.raw)
        change(raw)
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(raw))
        return lint(read_coco(path, tmp_path / "images"), **options)

    return of


def causes(report):
    return [one.finding.cause for one in report.found]


def only(report, cause):
    """The finding of this cause."""
    (one,) = [one for one in report.found if one.finding.cause == cause]
    return one


def test_the_built_in_sets_are_healthy():
    for name in ("scenes-val", "scenes-people-val", "astronaut"):
        report = lint(builtin(name), images=name == "astronaut")
        assert report.found == (), name
        assert "found nothing wrong" in report.summary()


def test_real_sets_get_what_is_true_of_them_or_nothing(shared):
    expected = {"coco/test_coco": [], "ap10k/test_ap10k": [], "animalpose/test_animalpose": ["sigmas"],
                "crowdpose/test_crowdpose": ["annotated areas", "counts"]}  # fmt: skip
    for file, wanted in expected.items():
        report = lint(read_coco(shared / "data" / f"{file}.json"))
        assert sorted(causes(report)) == wanted, file
        assert not any(one.finding.severity == "error" for one in report.found)


def whole_bodies(raw):
    """COCO-WholeBody's parts: face and left hand with 1 for what is labelled, the right hand with scores."""
    for number, one in enumerate(raw["annotations"]):
        x, y, w, h = one["bbox"]
        visible = {"foot": 2, "face": 1, "lefthand": 1 + (number % 7 == 0), "righthand": 0.1}
        for part, count in (("foot", 6), ("face", 68), ("lefthand", 21), ("righthand", 21)):
            places = [(x + w * (k + 1) / (count + 1), y + 0.3 * h, visible[part]) for k in range(count)]
            one[f"{part}_kpts"] = [v for place in places for v in place]
            one[f"{part}_valid"] = True


def test_whole_bodies_are_not_accused_of_their_published_convention(people, tmp_path):
    raw = copy.deepcopy(people.raw)
    whole_bodies(raw)
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(raw))
    for part in ("wholebody", "face", "lefthand", "righthand", "foot"):
        report = lint(read_coco(path, part=part), images=False)
        assert ("visibility" in report.not_checked) == (part != "foot")
        assert not {"mirror pairs", "visibility"} & set(causes(report)), part
        assert not any(one.finding.severity == "error" for one in report.found), part


def exchanged(annotation, pairs):
    k = annotation["keypoints"]
    for a, b in pairs:
        k[3 * a : 3 * a + 3], k[3 * b : 3 * b + 3] = k[3 * b : 3 * b + 3], k[3 * a : 3 * a + 3]


def test_every_finding_names_its_annotations(linted):
    def change(raw):
        found = raw["annotations"]
        found[5]["bbox"][2:] = [6, 6]
        found[7]["area"] = 0
        found[11]["keypoints"][0:3] = [0, 0, 2]
        found[12]["num_keypoints"] = 3
        found[14]["keypoints"][0:3] = [-1, -1, 1]
        found.append({**found[30], "id": 99999})

    report = linted(change, images=False)
    ids = [a["id"] for a in builtin("scenes-people-val").raw["annotations"]]
    assert only(report, "annotated boxes").instances == (ids[5],)
    assert only(report, "annotated areas").instances == (ids[7],)
    placed = [one for one in report.found if one.finding.cause == "visibility"]
    assert [one.instances for one in placed] == [(ids[11],), (ids[14],)]
    assert "at (-1, -1), where tools put what is not labelled" in placed[1].finding.evidence
    assert ids[12] in only(report, "counts").instances
    assert only(report, "repeated poses").instances == (99999,)
    assert report.found[0].finding.severity == "error"
    facts = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert all({"instances", "images", "cause", "evidence"} <= set(one) for one in facts["findings"])
    assert facts["not_checked"]["keypoint order"]
    assert set(facts["holds"]) <= set(CHECKS)


def test_keypoints_that_no_instance_labels_are_named(linted):
    def drop(raw):
        for a in raw["annotations"]:
            a["keypoints"][27:33] = [0] * 6
            a["num_keypoints"] = sum(v > 0 for v in a["keypoints"][2::3])

    text = only(linted(drop, images=False), "keypoints never labelled").finding.evidence
    assert text.startswith("2 of 17 keypoints are labelled in none of ")
    assert "(left_wrist, right_wrist): no figure on this set judges them" in text


def test_what_had_nothing_to_look_at_is_not_said_to_hold(linted):
    def unlabelled(raw):
        for a in raw["annotations"]:
            a |= {"keypoints": [0] * len(a["keypoints"]), "num_keypoints": 0}

    report = linted(unlabelled, images=False)
    holds, why = report.to_json()["holds"], "no keypoint of the set is labelled"
    of_poses = {"annotated keypoints", "keypoints outside the box", "visibility", "repeated poses"}
    assert all(report.not_checked[cause] == why for cause in of_poses.difference(causes(report)))
    assert f"not checked: annotated keypoints: {why}" in report.text()
    assert not of_poses & set(holds)
    assert {"counts", "annotation ids"} <= set(holds)

    report = linted(lambda raw: raw.update(annotations=[], images=[]))
    assert not report.found
    assert report.not_checked["annotated areas"] == "the set has no annotations"
    assert report.not_checked["repeated images"] == "the file names no images"
    assert set(report.to_json()["holds"]) == {
        "mirror pairs",
        "sigmas",
        "file read in another way than stated",
    }


def test_corners_and_normalised_coordinates_name_all_that_have_them(linted):
    def corners(raw):
        for a in raw["annotations"]:
            x, y, w, h = a["bbox"]
            a["bbox"] = [x, y, x + w, y + h]

    boxes = [one for one in linted(corners, images=False).found if one.finding.cause == "annotated boxes"]
    assert any("two corners" in one.finding.evidence and len(one.instances) > 200 for one in boxes)

    def unit(raw):
        for a in raw["annotations"]:
            a["keypoints"] = [v / (480, 360, 1)[k % 3] for k, v in enumerate(a["keypoints"])]

    report = linted(unit, images=False)
    assert "visibility" not in causes(report)  # shares of the image that meet at one place
    found = only(report, "annotated keypoints")
    assert "normalised" in found.finding.evidence
    assert len(found.instances) > 200


def test_missing_images_and_those_of_another_size_are_named(linted):
    def change(raw):
        raw["images"][4]["file_name"] = "nowhere.jpg"
        raw["images"][6]["width"] = 999

    report = linted(change)
    ids = [image["id"] for image in builtin("scenes-people-val").raw["images"]]
    assert only(report, "missing images").images == (ids[4],)
    other = only(report, "images of another size")
    assert other.images == (ids[6],)
    assert "is 480 x 360, the file says 999 x 360" in other.finding.evidence
    assert other.instances


def test_images_whose_width_and_height_are_exchanged_are_named(linted):
    def change(raw):
        raw["images"][6].update(width=raw["images"][6]["height"], height=raw["images"][6]["width"])

    found = only(linted(change), "images of another size")
    assert found.images == (builtin("scenes-people-val").raw["images"][6]["id"],)
    assert "is 480 x 360, the file says 360 x 480): the file has width and height exchanged" in (
        found.finding.evidence
    )


def with_visibility(numbers):
    """Keypoints of these visibilities alone, as visible ones."""

    def change(raw):
        for a in raw["annotations"]:
            points = np.reshape(a["keypoints"], (-1, 3))
            points[:, 2] = np.where(np.isin(points[:, 2], numbers), 2, 0)
            a.update(keypoints=points.ravel().tolist(), num_keypoints=int((points[:, 2] > 0).sum()))

    return change


def test_a_set_of_hidden_keypoints_alone_is_told_from_one_of_visible_keypoints_alone(linted):
    assert "as after a conversion that kept hidden keypoints alone" in (
        only(linted(with_visibility([1]), images=False), "visibility").finding.evidence
    )
    for healthy in ([2], [1, 2]):
        assert "visibility" not in causes(linted(with_visibility(healthy), images=False))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_instances_that_chance_hides_are_no_merge_and_merged_ones_are_named(linted, seed):
    """Six labelled keypoints, each hidden with .65: one instance in 13 has none that is seen."""
    random = np.random.default_rng(seed)

    def six(share, merged):
        def change(raw):
            raw["annotations"] = [a for a in raw["annotations"] if all(a["keypoints"][2:18:3])]
            for number, entry in enumerate(raw["annotations"]):
                points = np.array(entry["keypoints"], float).reshape(-1, 3)
                points[6:] = 0
                hidden = random.random(6) < (1 if number % 10 < merged else share)
                points[:6, 2] = np.where(hidden, 1, 2)
                entry.update(keypoints=points.ravel().tolist(), num_keypoints=6)

        return change

    assert "visibility" not in causes(linted(six(0.65, 0), images=False))
    assert "visibility" in causes(linted(six(0.2, 2), images=False))


@pytest.mark.parametrize("share", [1.0, 0.1, 0.0])
def test_hidden_keypoints_that_were_clicked_in_the_middle_of_the_box_are_named(linted, share):
    def change(raw):
        random = np.random.default_rng(0)
        for entry in raw["annotations"]:
            points = np.reshape(entry["keypoints"], (-1, 3)).astype(float)
            x, y, w, h = entry["bbox"]
            if random.random() < share:
                points[points[:, 2] == 1] = (round(x + w / 2), round(y + h / 2), 2)
            entry["keypoints"] = points.ravel().tolist()

    found = [one for one in linted(change).findings if "exactly in the middle of their box" in one.evidence]
    assert [one.cause for one in found] == ["visibility"] * (share > 0)


def test_people_of_a_few_pixels_have_keypoints_in_the_middle_by_chance(linted):
    def change(raw):
        for one in raw["annotations"]:
            x, y, w, h = one["bbox"]
            s = 10 / max(w, h)
            one["bbox"], one["area"] = [x, y, s * w, s * h], s * s * one["area"]
            k = np.reshape(one["keypoints"], (-1, 3)).astype(float)
            k[k[:, 2] > 0, :2] = (x, y) + s * (k[k[:, 2] > 0, :2] - (x, y))
            one["keypoints"] = k.ravel().tolist()

    assert "visibility" not in causes(linted(change, images=False))


def test_single_instances_that_are_called_crowds_are_named(linted):
    def change(raw, step=3):
        for a in raw["annotations"][::step]:
            a["iscrowd"] = 1

    found = only(linted(change, images=False), "crowd regions with keypoints")
    assert len(found.instances) == len(range(0, len(builtin("scenes-people-val").raw["annotations"]), 3))
    few = linted(lambda raw: change(raw, 120), images=False)
    assert "crowd regions with keypoints" not in causes(few)


def test_mirror_pairs_and_sigmas_that_the_file_states_are_compared_with_the_published(linted):
    def change(raw):
        raw["categories"][0]["flip_pairs"] = [
            [1, 2],
            [3, 4],
            [5, 6],
            [7, 8],
            [9, 10],
            [11, 13],
            [12, 14],
            [15, 16],
        ]
        raw["categories"][0]["sigmas"] = [0.05] * 17

    report = linted(change, images=False)
    pairs = only(report, "mirror pairs").finding
    assert "left_hip with left_knee" in pairs.evidence
    assert str(list(builtin("astronaut").skeleton.mirror)) in pairs.fix
    assert "published" in only(report, "sigmas").finding.evidence


def test_sides_are_read_off_names_in_many_spellings():
    assert mirror_by_names(NAMES) == builtin("astronaut").skeleton.mirror
    names = ["nose", "L_Eye", "R_Eye", "earLeft", "earRight", "paw.l", "paw.r", "left_only"]
    assert mirror_by_names(names) == (
        0, 2, 1, 4, 3, 6, 5, 7,
    )  # fmt: skip


def test_sides_that_point_against_the_rest_of_the_set_are_named():
    """Sixty frontal figures, three pairs each; two have their shoulders exchanged."""
    from pathlib import Path

    from workbench.core import Skeleton
    from workbench.data.pose_set import ImageRecord, Instance, PoseSet

    names = tuple(
        f"{side}_{part}" for part in ("eye", "shoulder", "hip", "foot") for side in ("left", "right")
    )
    random = np.random.default_rng(0)
    made = []
    for n in range(60):
        centre, turn = random.uniform(40, 60, 2), random.uniform(-0.5, 0.5)
        across = np.array([np.cos(turn), np.sin(turn)])
        points = [centre + (0, 20 * row) + side * 12 * across for row in range(4) for side in (1, -1)]
        truth = np.concatenate([np.array(points), np.full((8, 1), 2.0)], 1)
        if n in (7, 31):
            truth[[2, 3]] = truth[[3, 2]]
        made.append(Instance(n + 1, 1, 1, (20.0, 20.0, 80.0, 130.0), truth, 3000.0, False, 8))
    mirror = (1, 0, 3, 2, 5, 4, 7, 6)
    images = {1: ImageRecord(1, Path("absent.png"), 200, 200)}
    pose_set = PoseSet("set", Skeleton("own-8", names, (), mirror), tuple(made), images, {1: "a"}, {})
    found = only(lint(pose_set, images=False), "left/right swaps")
    assert found.instances == (8, 32)
    assert "left_shoulder and right_shoulder" in found.finding.evidence


def test_few_instances_do_not_tell_swaps_and_the_report_says_so():
    report = lint(builtin("astronaut"), images=False)
    assert "fewer than 40" in report.not_checked["left/right swaps"]


def test_what_a_set_does_not_hold_is_not_said_to_hold(people, tmp_path):
    """Without sigmas and sides neither is judged; a check that asks nothing is not passed."""
    raw = copy.deepcopy(people.raw)
    raw["categories"][0]["keypoints"] = [f"point {k}" for k in range(17)]
    path = tmp_path / "numbered.json"
    path.write_text(json.dumps(raw))
    report = lint(read_coco(path), images=False)
    assert report.found == ()
    for cause in ("sigmas", "mirror pairs", "left/right swaps"):
        assert cause in report.not_checked
        assert f"holds: {CHECKS[cause]}" not in report.text()
    assert "two pairs of left and right" in report.not_checked["left/right swaps"]
    healthy = lint(people, images=False)
    assert not {"sigmas", "mirror pairs", "left/right swaps"} & healthy.not_checked.keys()


def test_a_set_without_images_is_one_sentence(people, tmp_path):
    path = tmp_path / "alone.json"
    path.write_text(json.dumps(people.raw))
    with pytest.raises(FileNotFoundError, match=r"120 of 120 images are missing, the first is .*--no-images"):
        lint(read_coco(path))
    assert lint(read_coco(path), images=False).found == ()


def test_an_image_file_that_is_none_is_named(tmp_path):
    write_image(tmp_path / "a.png", np.full((20, 30, 3), 90, np.uint8))
    (tmp_path / "b.png").write_bytes(b"no image")
    raw = {
        "images": [{"id": n, "file_name": f"{c}.png", "width": 30, "height": 20}
                   for n, c in enumerate("ab", 1)],
        "categories": [{"id": 1, "name": "x", "keypoints": ["one", "two"]}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 20, 15], "area": 200,
                         "keypoints": [5, 5, 2, 15, 12, 2], "num_keypoints": 2}],
    }  # fmt: skip
    (tmp_path / "set.json").write_text(json.dumps(raw))
    found = only(lint(read_coco(tmp_path / "set.json", tmp_path)), "missing images")
    assert "cannot be read" in found.finding.evidence
    assert found.images == (2,)


def test_the_verb_names_annotations_and_refuses_in_one_sentence(workbench, tmp_path, people):
    # In a folder of its own: the name of tmp_path is that of a folder of annotations.
    path = tmp_path / "alone" / "alone.json"
    path.parent.mkdir()
    path.write_text(json.dumps(people.raw))
    code, out, err = workbench("data", "lint", path, "--no-images", "--json")
    assert code == 0, err
    assert json.loads(out)["findings"] == []
    for words, message in (
        ((path,), "120 of 120 images are missing, the first is"),
        ((tmp_path / "absent.json",), "absent.json"),
        ((), "expected a COCO-format json or a built-in set"),
        (("astronaut", "--model", tmp_path / "none.pth"), "none.pth"),
        (("astronaut", "--out", tmp_path / "x.txt"), "expected a name ending in"),
    ):
        code, out, err = workbench("data", "lint", *words)
        assert (code, out) == (2, ""), words
        assert message in err
        assert len(err.strip().splitlines()) == 1
    assert workbench("data", "astronaut")[0] == 0


@pytest.mark.parametrize(
    ("place", "corner"),
    [
        (lambda image, box: (image["width"] - 1, image["height"] - 1), "lower right"),
        (lambda image, box: (box[0], box[1]), "of their box"),
        (lambda image, box: (7, 7), "upper left"),
    ],
)
def test_one_place_that_stands_for_what_is_not_labelled_is_named(linted, place, corner):
    def change(raw):
        images = {image["id"]: image for image in raw["images"]}
        for entry in raw["annotations"][::3]:
            points = np.reshape(entry["keypoints"], (-1, 3))
            points[[3, 8, 11, 15]] = (*place(images[entry["image_id"]], entry["bbox"]), 2)
            entry["keypoints"] = points.ravel().tolist()
            entry["num_keypoints"] = int((points[:, 2] > 0).sum())

    assert corner in only(linted(change, images=False), "visibility").finding.evidence


def test_a_fixed_thing_that_is_annotated_in_every_picture_is_no_placeholder(linted):
    def change(raw):
        for entry in raw["annotations"]:
            entry["keypoints"][:6] = [100, 90, 2, 100, 90, 2]
            entry["num_keypoints"] = sum(v > 0 for v in entry["keypoints"][2::3])

    assert "visibility" not in causes(linted(change, images=False))


@pytest.mark.parametrize("step", [8, 16])
def test_coarse_coordinates_meet_at_many_places_and_none_is_a_placeholder(linted, step):
    def change(raw):
        for entry in raw["annotations"]:
            points = np.reshape(np.asarray(entry["keypoints"], float), (-1, 3))
            points[:, :2] = np.round(points[:, :2] / step) * step
            entry["keypoints"] = points.ravel().tolist()

    assert "visibility" not in causes(linted(change, images=False))


@pytest.mark.parametrize(("pixels", "severity"), [(3, "remark"), (40, "warning")])
def test_a_keypoint_outside_of_its_image_by_a_hands_error_is_a_remark(linted, pixels, severity):
    def change(raw):
        image = {one["id"]: one for one in raw["images"]}[raw["annotations"][0]["image_id"]]
        raw["annotations"][0]["keypoints"][:3] = [image["width"] + pixels, 50, 2]

    assert only(linted(change, images=False), "keypoints outside the image").finding.severity == severity


@pytest.mark.parametrize("share", [3, 5])
def test_boxes_around_whole_pictures_in_a_part_of_the_set_are_named(linted, share):
    def change(raw):
        images = {image["id"]: image for image in raw["images"]}
        for entry in raw["annotations"][::share]:
            image = images[entry["image_id"]]
            entry["bbox"] = [0, 0, image["width"], image["height"]]

    assert (
        "as large beside their pose" in only(linted(change, images=False), "annotated boxes").finding.evidence
    )


def test_loose_boxes_are_left_alone(linted):
    def change(raw):
        for entry in raw["annotations"][::3]:
            x, y, w, h = entry["bbox"]
            entry["bbox"] = [x - 0.2 * w, y - 0.2 * h, 1.4 * w, 1.4 * h]

    assert not any("as large" in one.finding.evidence for one in linted(change, images=False).found)


def test_the_bar_of_missing_images_counts_those_that_were_left_out():
    absent = tuple(Path(f"{n}.png") for n in range(290))
    report = lint(dataclasses.replace(builtin("astronaut"), left_out=absent), images=True)
    assert only(report, "missing images").size == 290
    assert max(report.plot().data[0].x) == 290
