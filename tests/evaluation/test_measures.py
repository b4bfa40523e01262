"""PCK and its kin against mmpose's own functions, CrowdPose's AP against xtcocotools, and values by hand."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib
import io
import json
import sys

import numpy as np
import pytest

from workbench.data import read_coco
from workbench.evaluation import Predictions, Protocol, evaluate
from workbench.evaluation import pck as figures
from workbench.evaluation.measures import METRICS, measure
from workbench.skeletons import SKELETONS

COCO, MPII = SKELETONS["coco-17"], SKELETONS["mpii-16"]


@pytest.fixture(scope="module")
def theirs():
    """mmpose's functions of keypoint metrics."""
    pytest.importorskip("workbench.models.mmpose_compat").install()
    return importlib.import_module("mmpose.evaluation.functional.keypoint_eval")


def people(skeleton=COCO, count=12, seed=0):
    rng = np.random.default_rng(seed)
    K = len(skeleton)
    data = {
        "images": [{"id": i + 1, "file_name": f"{i}.jpg", "width": 400, "height": 300} for i in range(count)],
        "annotations": [],
        "categories": [{"id": 1, "name": "person", "keypoints": list(skeleton.keypoints)}],
    }
    results = []
    for n in range(count):
        x, y = rng.uniform(5, 200, 2)
        w, h = rng.uniform(30, 90, 2)
        points = np.stack([x + w * rng.random(K), y + h * rng.random(K)], 1)
        seen = (rng.random(K) < 0.8) * 2.0
        seen[:2] = 2
        if K > 3:
            seen[3] = 0  # labelled nowhere: in nobody's mean
        truth = np.concatenate([points, seen[:, None]], 1) * (seen[:, None] > 0)
        person = {"id": n + 1, "image_id": n + 1, "category_id": 1, "bbox": [x, y, w, h], "area": w * h}
        person |= {"keypoints": truth.ravel().tolist(), "iscrowd": 0, "head_size": float(rng.uniform(8, 20))}
        data["annotations"].append(person)
        off = points + rng.normal(0, 6, (K, 2))
        results.append({"image_id": n + 1, "category_id": 1, "score": float(rng.random())})
        results[-1]["keypoints"] = np.concatenate([off, np.ones((K, 1))], 1).ravel().tolist()
    return data, results


def arrays(pose_set, results):
    pred = np.array([r["keypoints"] for r in results]).reshape(len(results), -1, 3)[..., :2]
    truth = np.stack([a.truth for a in pose_set.instances])
    boxes = np.array([a.box for a in pose_set.instances])
    return pred, truth, truth[..., 2] > 0, (boxes[:, 2:] - boxes[:, :2])


@pytest.fixture
def written(tmp_path):
    def write(data):
        path = tmp_path / "set.json"
        path.write_text(json.dumps(data))
        return read_coco(path)

    return write


def value(report, name):
    return next(row["value"] for row in report.rows if row["metric"] == name)


@pytest.mark.parametrize("seed", range(3))
def test_pck_auc_epe_and_nme_are_those_of_mmpose(written, theirs, seed):
    data, results = people(seed=seed)
    pose_set = written(data)
    pred, truth, mask, sides = arrays(pose_set, results)
    found = Predictions.from_coco(results)
    longest = np.tile(sides.max(1, keepdims=True), 2)
    for threshold in (0.05, 0.1, 0.2):
        _, wanted, _ = theirs.keypoint_pck_accuracy(pred, truth[..., :2], mask, threshold, longest.copy())
        assert measure(pose_set, found, threshold=threshold).value == pytest.approx(wanted, abs=1e-9)
    report = measure(pose_set, found, "nme")
    nme = theirs.keypoint_nme(pred, truth[..., :2], mask, longest.copy())
    assert report.value == pytest.approx(nme, rel=1e-6)
    assert value(report, "AUC") == pytest.approx(theirs.keypoint_auc(pred, truth[..., :2], mask, 30.0))
    assert value(report, "EPE") == pytest.approx(theirs.keypoint_epe(pred, truth[..., :2], mask), rel=1e-6)
    # AUC and EPE name no length, so there is no PCK and no NME of a keypoint beside them.
    for metric in ("auc", "epe"):
        alone = measure(pose_set, found, metric)
        pixels = [[row["epe"] for row in one.per_keypoint] for one in (alone, report)]
        np.testing.assert_array_equal(pixels[0], pixels[1])
        assert all(np.isnan(row["pck"]) and np.isnan(row["nme"]) for row in alone.per_keypoint)
        assert alone.plot().layout.xaxis.title.text == "mean error (px)"
    steps = [theirs.keypoint_pck_accuracy(pred, truth[..., :2], mask, t, longest.copy())[1]
             for t in figures.MPCK_THRESHOLDS]  # fmt: skip
    assert value(report, "mPCK") == pytest.approx(np.mean(steps))


def test_a_length_between_two_keypoints_is_that_of_mmposes_nme(written, theirs):
    data, results = people(seed=4)
    pose_set = written(data)
    pred, truth, mask, _ = arrays(pose_set, results)
    length = np.linalg.norm(truth[:, 0, :2] - truth[:, 1, :2], axis=1)
    wanted = theirs.keypoint_nme(pred, truth[..., :2], mask, np.tile(length[:, None], 2))
    for spelling in ("nose,left_eye", "0,1"):
        report = measure(pose_set, Predictions.from_coco(results), "nme", normalise=spelling)
        assert report.value == pytest.approx(wanted, rel=1e-6)
        assert "nose to left_eye" in report.rows[0]["rule"]


def test_pckh_is_that_of_mmposes_mpii_metric(written, theirs):
    metrics = importlib.import_module("mmpose.evaluation.metrics")
    data, results = people(MPII, seed=5)
    pose_set = written(data)
    pred, truth, mask, _ = arrays(pose_set, results)
    heads = [a["head_size"] for a in data["annotations"]]
    theirs_all = metrics.MpiiPCKAccuracy()
    samples = [
        {
            # MPII's own files count pixels from 1, and mmpose moves its predictions there.
            "pred_instances": {"keypoints": pred[n : n + 1] - 1.0},
            "gt_instances": {
                "keypoints": truth[n : n + 1, :, :2],
                "keypoints_visible": mask[n : n + 1],
                "head_size": np.array([[heads[n]]]),
            },
        }
        for n in range(len(pred))
    ]
    theirs_all.process([], samples)
    wanted = theirs_all.compute_metrics(theirs_all.results)["PCK"] / 100
    report = measure(pose_set, Predictions.from_coco(results), "pckh")
    assert report.value == pytest.approx(wanted)
    assert (
        "0.5 of the annotated head size, all keypoints pooled without pelvis and thorax" in report.summary()
    )


def test_nme_by_an_annotated_length_is_that_of_mmposes_norm_item(written, theirs):
    metrics = importlib.import_module("mmpose.evaluation.metrics")
    data, results = people(seed=9)
    rng = np.random.default_rng(9)
    for annotation in data["annotations"]:  # AFLW states the side of the face, which is not its box's
        annotation["box_size"] = float(rng.uniform(20, 60))
    pose_set = written(data)
    pred, truth, mask, _ = arrays(pose_set, results)
    found = Predictions.from_coco(results)
    for item in ("box_size", "bbox_size"):
        samples = [
            {
                "pred_instances": {"keypoints": pred[n : n + 1]},
                "gt_instances": {
                    "keypoints": truth[n : n + 1, :, :2],
                    "keypoints_visible": mask[n : n + 1],
                    "bboxes": np.array([pose_set.instances[n].box]),
                    "box_size": data["annotations"][n]["box_size"],
                },
            }
            for n in range(len(pred))
        ]
        metric = metrics.NME("use_norm_item", norm_item=item)
        metric.process([], samples)
        report = measure(pose_set, found, "nme", normalise=item)
        assert report.value == pytest.approx(metric.compute_metrics(metric.results)["NME"], rel=1e-6)
    assert "as a part of the annotated box_size" in measure(pose_set, found, normalise="box_size").text()
    for annotation in data["annotations"][:3]:
        del annotation["box_size"]
    assert measure(written(data), found, "nme", normalise="box_size").without_length == 3
    for annotation in data["annotations"]:
        annotation.pop("box_size", None)
    with pytest.raises(ValueError, match="--normalise box_size: no annotation states a box_size above 0"):
        measure(written(data), found, "nme", normalise="box_size")


def crossed(data, results):
    """The first two people in one image, each pose lying on the other's annotation."""
    second = data["annotations"][1]
    second["image_id"] = results[1]["image_id"] = 1
    results[0]["keypoints"], results[1]["keypoints"] = results[1]["keypoints"], results[0]["keypoints"]
    for result, annotation in zip(results, data["annotations"], strict=True):
        result["bbox"] = annotation["bbox"]


@pytest.mark.parametrize("metric", ["ap", "pck", "nme"])
def test_the_same_poses_have_the_same_figures_in_every_format(written, workbench, tmp_path, metric):
    data, results = people()
    crossed(data, results)
    pose_set = written(data)
    paths = tmp_path / "results.json", tmp_path / "poses.parquet"
    paths[0].write_text(json.dumps(results))
    own = np.array([a["id"] for a in data["annotations"]])
    found = dataclasses.replace(Predictions.from_coco(results), annotation_id=own)
    found.to_parquet(paths[1], protocol=Protocol(data="set"))
    answers = []
    for path in paths:
        code, out, err = workbench(
            "score", path, "--data", tmp_path / "set.json", "--metric", metric, "--json"
        )
        assert code == 0, err
        answers.append(json.loads(out))
    assert answers[0]["pairing"] == answers[1]["pairing"] == "each pose with its own annotation"
    assert answers[0]["per_keypoint"] == answers[1]["per_keypoint"]
    # By hand: both of the first two are off by the distance of the two people.
    pred, truth, mask, sides = arrays(pose_set, results)
    off = np.linalg.norm(pred - truth[..., :2], axis=2)
    if metric == "nme":
        assert answers[0]["NME"] == pytest.approx((off / sides.max(1)[:, None])[mask].mean(), rel=1e-5)
    # Without boxes nothing tells whose poses they are: the nearest, which is another figure, and is said.
    for result in results:
        del result["bbox"]
    paths[0].write_text(json.dumps(results))
    bare = json.loads(
        workbench("score", paths[0], "--data", tmp_path / "set.json", "--metric", metric, "--json")[1]
    )
    assert bare["pairing"] != answers[0]["pairing"]
    assert bare["per_keypoint"] != answers[0]["per_keypoint"]
    if metric != "ap":
        assert bare["pairing"].endswith("nearest in the mean, because it has no box for each pose")


@pytest.mark.parametrize(
    ("normalise", "length"),
    [
        ("box", 40), ("bbox_size", 40), ("diagonal", 50), ("area", 6), ("torso", 5), ("head", 7),
        ("head_size", 7), ("30px", 30), ("5,12", 5),
    ],
)  # fmt: skip
def test_lengths_by_hand(written, normalise, length):
    data, results = people(count=1)
    one = data["annotations"][0]
    one |= {"bbox": [10, 10, 30, 40], "area": 36, "head_size": 7}
    truth = np.tile([50.0, 50.0, 2.0], (17, 1))
    truth[COCO.index("left_shoulder")] = (53, 54, 2)
    one["keypoints"] = truth.ravel().tolist()
    moved = np.add(truth, [6.0, 8.0, 0.0])
    results[0]["keypoints"] = moved.ravel().tolist()
    report = measure(written(data), Predictions.from_coco(results), "nme", normalise=normalise)
    assert report.value == pytest.approx(10 / length)
    assert value(report, "EPE") == pytest.approx(10)


def test_instances_without_the_length_count_nowhere_and_missing_keypoints_are_wrong(written):
    data, results = people(count=3)
    for n in (0, 1):
        data["annotations"][n]["keypoints"][2] = 0  # the nose is not labelled
    pose_set = written(data)
    truth = np.stack([a.truth for a in pose_set.instances])
    exact = [{**r, "keypoints": truth[n].ravel().tolist()} for n, r in enumerate(results)]
    found = Predictions.from_coco(exact)
    report = measure(pose_set, found, normalise="nose,left_eye")
    assert (report.without_length, report.value) == (2, 1)
    found.keypoints[2, 1] = np.nan
    report = measure(pose_set, found)
    assert report.missing == 1
    eye = next(row for row in report.per_keypoint if row["keypoint"] == "left_eye")
    assert eye["pck"] == pytest.approx(2 / 3)
    assert value(report, "EPE") == 0
    nothing = measure(pose_set, found.take([]))
    assert (nothing.value, nothing.missing) == (0, nothing.labelled)
    assert measure(pose_set, Predictions.from_coco([])).value == 0


def test_poses_are_paired_within_their_image_whatever_their_order(written):
    data, results = people(count=2)
    for entry in (*data["annotations"], *results):
        entry["image_id"] = 1
    extra = copy.deepcopy(results[0])
    extra["keypoints"] = [v + 90 for v in extra["keypoints"]]
    pose_set = written(data)
    straight = measure(pose_set, Predictions.from_coco(results))
    shuffled = measure(pose_set, Predictions.from_coco([extra, results[1], results[0]]))
    assert straight.value == shuffled.value > 0
    with pytest.raises(ValueError, match=r"image 9 is not in the annotations"):
        measure(pose_set, Predictions.from_coco([{**results[0], "image_id": 9}]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--metric", "pcl"), "no metric 'pcl'"),
        (("--metric", "nme", "--normalise", "nose"), "--normalise: expected box, diagonal"),
        (("--metric", "nme", "--normalise", "nose,nose"), "two different keypoints"),
        (("--metric", "nme", "--normalise", "nose,tail"), "no keypoint 'tail'"),
        (("--metric", "nme", "--normalise", "0px"), "a length above 0 px"),
        (("--metric", "ap", "--normalise", "box"), "AP has its own scale"),
        (("--metric", "pckh"), "has no head_top and upper_neck"),
        (("--metric", "mpck", "--thresholds", "a"), "--thresholds: expected numbers"),
        (("--metric", "pck", "--pck", "0"), "expected thresholds above 0"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(workbench, words, message):
    code, _, err = workbench("score", "--demo", *words)
    assert code == 2
    assert message in err


def test_without_sigmas_the_verb_gives_pck_and_says_how_to_get_ap(workbench, tmp_path):
    data, results = people()
    data["categories"][0]["keypoints"] = [f"point {k}" for k in range(17)]
    path, file = tmp_path / "set.json", tmp_path / "results.json"
    path.write_text(json.dumps(data))
    file.write_text(json.dumps(results))
    code, out, err = workbench("score", file, "--data", path)
    assert code == 0, err
    assert "PCK 0." in out
    assert "AP needs OKS sigmas, and none are known for own-17: give --sigmas" in out
    facts = json.loads(workbench("score", file, "--data", path, "--json")[1])
    assert facts["PCK"] == facts["value"] > 0
    assert {row["metric"] for row in facts["metrics"]} == {"PCK", "mPCK", "AUC", "EPE", "NME"}
    assert all(row["rule"] for row in facts["metrics"])
    code, out, _ = workbench("score", file, "--data", path, "--sigmas", "0.05")
    assert "AP 0." in out


def test_numbered_keypoints_of_a_set_take_the_mirror_pairs_of_a_skeleton(workbench, tmp_path):
    wflw = SKELETONS["wflw-98"]
    data, results = people(wflw, count=4)
    del data["categories"][0]["keypoints"]
    truth = np.array([a["keypoints"] for a in data["annotations"]]).reshape(4, -1, 3)
    k, other = 60, 72  # the outer corners of the eyes are partners
    assert wflw.mirror[k] == other
    truth[:, [k, other]] = [[100, 100, 2], [160, 100, 2]]  # far from each other
    for n, result in enumerate(results):
        data["annotations"][n]["keypoints"] = truth[n].ravel().tolist()
        pose = truth[n].copy()
        pose[[k, other]] = pose[[other, k]]  # exchanged: two inversions in each person
        result["keypoints"] = pose.ravel().tolist()
    path, file = tmp_path / "set.json", tmp_path / "results.json"
    path.write_text(json.dumps(data))
    file.write_text(json.dumps(results))
    words = ("--data", path, "--sigmas", "0.05", "--json")
    answers = [json.loads(workbench("errors", file, *words, *more)[1])
            for more in ((), ("--skeleton", "wflw-98"))]  # fmt: skip
    counts = [one["counts"] for one in answers]
    assert (counts[0]["inversion"], counts[0]["miss"]) == (0, 8)
    assert (counts[1]["inversion"], counts[1]["miss"]) == (8, 0)
    facts = json.loads(workbench("score", file, *words[:2], "--skeleton", "wflw-98", "--json")[1])
    assert "none are known for wflw-98" in facts["summary"]
    code, _, err = workbench("score", file, *words, "--skeleton", "coco-17")
    assert code == 2
    assert "--skeleton coco-17: has 17 keypoints, the annotations of set 98" in err
    again = tmp_path / "again.json"
    again.write_text(json.dumps(results))
    code, out, _ = workbench("compare", file, again, *words, "--skeleton", "wflw-98", "--resamples", "20")
    assert code == 0
    data["categories"][0]["keypoints"] = [f"point {i}" for i in range(98)]
    path.write_text(json.dumps(data))
    code, out, err = workbench("score", file, *words[:2], "--skeleton", "wflw-98")
    assert code == 0
    assert "--skeleton wflw-98: set names its keypoints itself; its own names count" in out + err


def test_a_checkpoint_is_measured_and_its_predictions_kept(workbench, tmp_path):
    from workbench.data import builtin

    scenes = builtin("scenes-val")
    image = scenes.raw["images"][0]
    raw = {key: scenes.raw[key] for key in ("categories",)} | {"images": [image]}
    raw["annotations"] = [a for a in scenes.raw["annotations"] if a["image_id"] == image["id"]]
    path, out = tmp_path / "one.json", tmp_path / "kept.parquet"
    path.write_text(json.dumps(raw))
    images = next(iter(scenes.images.values())).path.parent
    words = (
        "evaluate",
        "--demo",
        "--data",
        path,
        "--images",
        images,
        "--metric",
        "nme",
        "--json",
        "--out",
        out,
    )
    code, text, err = workbench(*words)
    assert code == 0, err
    facts = json.loads(text)
    assert (facts["metric"], facts["pairing"]) == ("nme", "each pose with its own annotation")
    assert 0 < facts["NME"] < 1
    assert Predictions.from_parquet(out)[0].keypoints.shape[1] == 17


def test_crowdposes_easy_medium_and_hard_are_those_of_xtcocotools(tmp_path, monkeypatch, workbench):
    pytest.importorskip("xtcocotools", reason="xtcocotools is not built for this Python")
    from pycocotools import mask

    monkeypatch.setitem(sys.modules, "xtcocotools.mask", mask)  # keypoints need no masks
    monkeypatch.setattr(sys.modules["xtcocotools"], "mask", mask, raising=False)
    from xtcocotools import coco as theirs_coco
    from xtcocotools.cocoeval import COCOeval

    crowd = SKELETONS["crowdpose-14"]
    data, results = people(crowd, count=24, seed=8)
    rng = np.random.default_rng(1)
    for image in data["images"]:
        image["crowdIndex"] = float(rng.choice([0.0, 0.19, 0.2, 0.5, 0.8, 0.95]))
    for a in data["annotations"]:
        del a["area"]
        a["num_keypoints"] = int((np.array(a["keypoints"][2::3]) > 0).sum())
    path, file = tmp_path / "set.json", tmp_path / "results.json"
    path.write_text(json.dumps(data))
    file.write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = theirs_coco.COCO(str(path))
        theirs = COCOeval(truth, truth.loadRes(str(file)), "keypoints_crowd", np.array(crowd.sigmas), False)
        theirs.anno_file = (str(path), str(file))
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    pose_set = read_coco(path)
    report = evaluate(pose_set, found := Predictions.from_coco(results), area_rule="box")
    assert report.figures["AP"] == pytest.approx(theirs.stats[0])
    wanted = dict(zip(("AP_easy", "AP_medium", "AP_hard"), theirs.stats[6:], strict=True))
    assert report.crowding == pytest.approx(wanted, abs=5.1e-5)  # theirs are rounded to four digits
    assert len(set(wanted.values())) == 3
    assert report.to_json()["crowding"] == report.crowding
    code, out, _ = workbench("score", file, "--data", path, "--no-area")
    assert code == 0
    assert "AP_easy" in out
    del data["images"][0]["crowdIndex"]
    path.write_text(json.dumps(data))
    assert evaluate(read_coco(path), found, area_rule="box").crowding is None


def test_every_metric_has_a_usual_length_and_is_in_the_help(workbench):
    assert set(METRICS) == {"pck", "pckh", "mpck", "auc", "epe", "nme"}
    assert "pckh" in workbench("score", "-h")[1]
