from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from workbench.skeletons import SKELETONS, skeleton_for


@pytest.mark.parametrize("name", SKELETONS)
def test_mirror_is_an_involution_and_swaps_left_with_right(name):
    skeleton = SKELETONS[name]
    mirror = np.array(skeleton.mirror)
    assert (mirror[mirror] == np.arange(len(skeleton))).all()
    for i, partner in enumerate(skeleton.mirror):
        if skeleton.keypoints[i].startswith(("face", "kpt")):
            continue
        here, there = skeleton.keypoints[i].lower(), skeleton.keypoints[partner].lower()
        swapped = here.replace("left", "*").replace("right", "left").replace("*", "right")
        side, _, part = here.partition("_")
        if side in ("l", "r", "lf", "rf", "lh", "rh"):  # fore and hind
            swapped = f"{'r' if side[0] == 'l' else 'l'}{side[1:]}_{part}"
        assert there == swapped


@pytest.mark.parametrize("name", SKELETONS)
def test_sigmas_and_limbs_fit_the_keypoints_and_the_source_is_named(name):
    skeleton = SKELETONS[name]
    assert skeleton.source
    assert all(0 < s < 0.2 for s in skeleton.sigmas)
    assert all(a != b and min(a, b) >= 0 and max(a, b) < len(skeleton) for a, b in skeleton.limbs)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("coco-17", "coco"),
        ("ap10k-17", "ap10k"),
        ("animalpose-20", "animalpose"),
        ("crowdpose-14", "crowdpose"),
        ("mpii-16", "mpii"),
        ("halpe-26", "halpe26"),
        ("coco-wholebody-133", "coco_wholebody"),
        ("aic-14", "aic"),
        ("jhmdb-15", "jhmdb"),
        ("humanart-21", "humanart21"),
        ("300w-68", "300w"),
        ("wflw-98", "wflw"),
    ],
)
def test_names_mirror_and_sigmas_are_those_of_mmpose(name, config):
    spec = importlib.util.find_spec("mmpose")  # found, not imported: its configs are plain files
    if spec is None or spec.origin is None:
        pytest.skip("mmpose is not installed")
    file = Path(spec.origin).parent / ".mim/configs/_base_/datasets" / f"{config}.py"
    space: dict = {}
    exec(file.read_text(), space)  # mmpose's own installed file
    info = space["dataset_info"]
    points = [info["keypoint_info"][i] for i in sorted(info["keypoint_info"])]
    names = [p["name"] for p in points]
    mirror = [names.index(p["swap"]) if p["swap"] else i for i, p in enumerate(points)]
    skeleton = SKELETONS[name]
    assert list(skeleton.keypoints) == names
    assert list(skeleton.mirror) == mirror
    assert skeleton.sigmas == pytest.approx(info["sigmas"])
    links = [tuple(names.index(p) for p in link["link"]) for link in info["skeleton_info"].values()]
    assert {frozenset(limb) for limb in skeleton.limbs} == {frozenset(link) for link in links}


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("coco/test_coco.json", "coco-17"),
        ("ap10k/test_ap10k.json", "ap10k-17"),
        ("animalpose/test_animalpose.json", "animalpose-20"),
        ("crowdpose/test_crowdpose.json", "crowdpose-14"),
    ],
)
def test_the_names_in_real_files_are_recognised(shared, file, name):
    categories = json.loads((shared / "data" / file).read_text())["categories"]
    assert skeleton_for(categories[0]["keypoints"]) is SKELETONS[name]


def test_every_known_skeleton_recognises_itself():
    for skeleton in SKELETONS.values():
        assert skeleton_for(skeleton.keypoints) is skeleton


def test_another_order_keeps_names_mirror_and_sigmas_together():
    known = SKELETONS["ap10k-17"]
    order = list(range(17))[::-1]
    turned = skeleton_for([known.keypoints[i] for i in order])
    assert turned.name == "ap10k-17-reordered"
    assert turned.sigmas == tuple(known.sigmas[i] for i in order)
    assert turned.keypoints[turned.mirror[turned.index("L_Eye")]] == "R_Eye"
    limbs = {frozenset((turned.keypoints[a], turned.keypoints[b])) for a, b in turned.limbs}
    assert frozenset(("Nose", "Neck")) in limbs


def test_unknown_names_that_tell_sides_get_their_mirror_pairs():
    own = skeleton_for(["beak", "left_wing", "right_wing", "claw.R", "claw.L", "left_tuft"])
    assert (own.mirror, own.sigmas) == ((0, 2, 1, 4, 3, 5), ())


def test_unknown_names_get_no_sigmas_and_no_mirror():
    own = skeleton_for(["wing", "beak", "claw"], limbs=[(0, 1), (1, 16)])
    assert (own.name, own.sigmas, own.mirror, own.limbs) == ("own-3", (), (), ((0, 1),))


def test_no_names_and_repeated_names_are_refused():
    with pytest.raises(ValueError, match="got none"):
        skeleton_for([])
    with pytest.raises(ValueError, match="'nose' repeat"):
        skeleton_for(["nose", "nose"])
    with pytest.raises(ValueError, match="200000 keypoints; at most 10000"):
        skeleton_for([f"k{k}" for k in range(200_000)])
