from __future__ import annotations

import json

import numpy as np
import pytest

from workbench.data import read_coco
from workbench.data.scenes import SceneSet, write_scenes
from workbench.data.scenes.animals import SPECIES, quadruped
from workbench.data.scenes.composition import SIZE, obstacle, scene, scene_annotations, species_categories
from workbench.data.scenes.people import person
from workbench.data.scenes.rendering import NOTHING, Figure, Material, View, relief
from workbench.skeletons import SKELETONS

COUNT = 8


@pytest.fixture(scope="module", params=["animals", "people"])
def drawn(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    write_scenes(folder, SceneSet("small", request.param, COUNT, 11))
    return read_coco(folder / "annotations.json")


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_scenes(tmp_path / folder, SceneSet("small", "animals", 2, seed))
    files = ["annotations.json", "images/000001.jpg", "images/000002.jpg"]
    a, b, c = ([(tmp_path / folder / f).read_bytes() for f in files] for folder in "abc")
    assert a == b
    assert all(x != y for x, y in zip(a, c, strict=True))


def test_a_set_is_a_coco_file_like_any_other(drawn):
    assert drawn.skeleton in (SKELETONS["ap10k-17"], SKELETONS["coco-17"])
    assert len(drawn.images) == COUNT
    assert drawn.absent_images() == ()
    assert len(drawn.labelled) == len(drawn) >= COUNT // 2
    for sample in drawn.samples():
        assert sample.image.shape == (*SIZE, 3)
        assert sample.area > 0


def test_every_labelled_keypoint_lies_in_the_image_and_every_visible_one_in_its_box(drawn):
    for a in drawn.instances:
        H, W = SIZE
        x, y, seen = a.truth.T
        inside = seen > 0
        assert (x[inside] >= 0).all()
        assert (x[inside] <= W - 1).all()
        assert (y[inside] >= 0).all()
        assert (y[inside] <= H - 1).all()
        assert (a.truth[~inside] == 0).all()
        x0, y0, x1, y1 = a.box
        visible = seen == 2
        assert ((x[visible] > x0 - 2) & (x[visible] < x1 + 2)).all()
        assert ((y[visible] > y0 - 2) & (y[visible] < y1 + 2)).all()


def test_boxes_and_areas_are_those_of_the_outlines(drawn):
    import cv2

    for entry in drawn.raw["annotations"]:
        mask = np.zeros(SIZE, np.uint8)
        for outline in entry["segmentation"]:
            cv2.fillPoly(mask, [np.array(outline, np.int32).reshape(-1, 1, 2)], 1)
        # Outlines have no holes and few corners: larger where there are holes, a little smaller at slivers.
        assert entry["area"] <= mask.sum() * 1.05 + 20
        assert entry["area"] <= entry["bbox"][2] * entry["bbox"][3]
        if entry["area"] > 2000:
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert (columns[0], rows[0]) == pytest.approx(entry["bbox"][:2], abs=4)


def test_all_three_visibilities_occur_and_pycocotools_reads_the_file(drawn, tmp_path):
    truth = np.stack([a.truth for a in drawn.instances])
    assert {0, 1, 2} == set(truth[..., 2].ravel().tolist())
    coco = pytest.importorskip("pycocotools.coco")
    path = tmp_path / "again.json"
    path.write_text(json.dumps(drawn.raw))
    assert len(coco.COCO(str(path)).getAnnIds()) == len(drawn)


def ball(z, material=0):
    figure = Figure([Material((1, 0, 0))])
    figure.ball((0, 0, z), 1.0, material)
    return figure


def test_a_ball_in_relief_is_a_half_sphere():
    seen = relief(ball(0.0), View(50, 50, 20.0, 0.0, 0.0), (100, 100))
    assert seen is not None
    row, column = 50 - seen.top, 50 - seen.left
    assert seen.height[row, column] == pytest.approx(20, abs=0.1)
    assert seen.height[row, column + 12] == pytest.approx(16, abs=0.1)  # 12, 16, 20
    assert seen.height[row, column + 21] == NOTHING
    assert seen.shape.sum() == pytest.approx(np.pi * 400, rel=0.01)


def test_left_is_left_from_every_side():
    # Facing right, left is away from the viewer; facing left, near; from the front, on the right.
    left = (0, 0, -1)
    assert View(0, 0, 1, 0.0, 0.0).project([left])[0] == pytest.approx((0, 0, -1))
    assert View(0, 0, 1, np.pi, 0.0).project([left])[0] == pytest.approx((0, 0, 1))
    assert View(0, 0, 1, -np.pi / 2, 0.0).project([left])[0] == pytest.approx((1, 0, 0))


def test_a_mark_behind_its_own_body_is_hidden_and_one_in_front_visible():
    from workbench.core import Skeleton
    from workbench.data.scenes.composition import Actor, Scene

    figure = ball(0.0)
    figure.mark("near", (0, 0, 0.95), 0.1)
    figure.mark("far", (0, 0, -0.95), 0.1)
    figure.mark("outside", (9, 0, 0), 0.1)
    view = View(100, 100, 40.0, 0.0, 0.0)  # of the doubled picture
    seen = relief(figure, view, (SIZE[0] * 2, SIZE[1] * 2))
    cover = np.zeros(SIZE, np.float32)
    cover[30:70, 30:70] = 1
    actor = Actor(figure, view, "ball", seen, cover)
    skeleton = Skeleton("marks", ("near", "far", "outside"))
    image = np.zeros((*SIZE, 3), np.uint8)
    (alone,) = scene_annotations(Scene(image, (actor,), "none"), skeleton, {"ball": 1}) or [None]
    assert alone is not None
    assert alone["keypoints"][2::3] == [2, 1, 2]  # 9 m * 20 px = 180 px to the right: inside, uncovered
    # A thing in front of the left half hides the near mark as well.
    front = np.zeros(SIZE, np.float32)
    front[:, :60] = 1
    thing = Actor(Figure(), view, "", None, front)
    (behind,) = scene_annotations(Scene(image, (actor, thing), "none"), skeleton, {"ball": 1})
    assert behind["keypoints"][2::3] == [1, 1, 2]
    assert behind["area"] == 40 * 10
    assert behind["bbox"] == [60, 30, 10, 40]


@pytest.mark.parametrize("species", SPECIES, ids=lambda s: s.name)
def test_every_species_stands_on_the_ground_with_all_marks(species):
    for seed in range(6):
        figure = quadruped(species, np.random.default_rng(seed))
        assert set(figure.marks) == set(SKELETONS["ap10k-17"].keypoints)
        bottoms = [
            min(s[1] - r[0], e[1] - r[1])
            for s, e, r in zip(figure.starts, figure.ends, figure.radii, strict=True)
        ]
        assert min(bottoms) == pytest.approx(0, abs=1e-9)
        for name, partner in zip(SKELETONS["ap10k-17"].keypoints, SKELETONS["ap10k-17"].mirror, strict=True):
            if name.startswith("L_") and "Eye" not in name:
                other = SKELETONS["ap10k-17"].keypoints[partner]
                assert figure.marks[name][0][2] < 0 < figure.marks[other][0][2]


def test_people_stand_on_the_ground_with_all_marks():
    for seed in range(12):
        figure = person(np.random.default_rng(seed))
        assert set(figure.marks) == set(SKELETONS["coco-17"].keypoints)
        assert 1.2 < figure.height < 2.6
        assert figure.marks["left_hip"][0][2] < 0 < figure.marks["right_hip"][0][2]


def test_every_kind_of_figure_in_the_scenes_has_a_category():
    assert list(species_categories()) == [s.name for s in SPECIES]
    actors = scene(np.random.default_rng(5), 0.5).actors
    assert {a.kind for a in actors} <= {*species_categories(), "person", ""}


def test_an_unknown_obstacle_is_refused():
    with pytest.raises(ValueError, match="expected one of bush, tree"):
        obstacle("cloud", "meadow", np.random.default_rng(0))


def test_the_pictures_of_this_version_have_not_changed():
    """Who changes the drawings raises VERSION: checkpoints were trained on these very pictures."""
    from workbench.data.scenes import VERSION

    assert VERSION == 1
    drawn = scene(np.random.default_rng([1, 2, 2]), 0.1)
    assert drawn.place == "desert"
    assert [a.kind for a in drawn.actors] == ["person", "", "horse", "", "person"]
    noses = [
        a.view.project([a.figure.marks[name][0]])[0, :2]
        for a in drawn.actors
        for name in ("Nose", "nose")
        if name in a.figure.marks
    ]
    assert np.array(noses) == pytest.approx(
        np.array([[794.3, 303.5], [764.1, 276.8], [433.9, 272.2]]), abs=0.06
    )
    assert drawn.image.mean((0, 1)) == pytest.approx([151.3, 157.6, 150.0], abs=0.6)


def test_a_texture_at_no_point_has_no_value():
    from workbench.data.scenes.rendering import sample

    assert sample("grain", np.zeros(0), np.zeros(0)).shape == (0,)
