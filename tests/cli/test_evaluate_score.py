"""workbench evaluate, score and compare: figures with their protocol, and one sentence for every mistake."""

from __future__ import annotations

import json
import os

import cv2
import numpy as np
import pytest

from workbench.skeletons import SKELETONS

COCO = SKELETONS["coco-17"]

# A user's own model that looks at nothing and says: the centre of the box, and where its checkpoint moves it.
ADAPTER = """
import numpy as np
import torch

from workbench.core import Batch, Codec, Outputs, Prediction
from workbench.skeletons import SKELETONS


class Centre:
    def __init__(self, move):
        self.module = torch.nn.Identity()
        self.skeleton = SKELETONS["coco-17"]
        self.taps = {}
        self.codec = Codec("heatmap", (8, 8), (8, 8))
        self.padding = 1.5
        self.move = move

    def prepare(self, samples):
        to_image = np.tile(np.eye(2, 3), (len(samples), 1, 1))
        return Batch(torch.zeros(len(samples), 3, 8, 8), to_image, tuple(samples))

    def forward(self, batch):
        return Outputs(heatmaps=batch.pixels[:, :1].repeat(1, 17, 1, 1))

    def decode(self, outputs, batch, options):
        middles = [(np.add(s.box[:2], s.box[2:]) / 2, s.box) for s in batch.samples]
        return tuple(
            Prediction(np.tile(m + [self.move, 0], (17, 1)), np.full(17, 0.5), box) for m, box in middles
        )


def load(checkpoint, device):
    return Centre(0.0 if checkpoint is None else float(checkpoint.read("move")))
"""


@pytest.fixture
def folder(tmp_path):
    """A set of six images with one small person each, whose keypoints all lie in the middle of the box."""
    (tmp_path / "images").mkdir()
    images, annotations = [], []
    for n in range(1, 7):
        cv2.imwrite(str(tmp_path / f"images/{n}.jpg"), np.zeros((200, 200, 3), np.uint8))
        images.append({"id": n, "file_name": f"{n}.jpg", "width": 200, "height": 200})
        annotations.append(
            {
                "id": n + 10, "image_id": n, "category_id": 1, "iscrowd": 0, "num_keypoints": 17,
                "area": 3000.0, "bbox": [20.0 + n, 30, 60, 100], "keypoints": [50.0 + n, 80.0, 2] * 17,
            }
        )  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}
    data = {"images": images, "annotations": annotations, "categories": [category]}
    (tmp_path / "set.json").write_text(json.dumps(data))
    (tmp_path / "centre.py").write_text(ADAPTER)
    return tmp_path


def of(folder):
    """The words that name the adapter and the set."""
    return ["--adapter", folder / "centre.py", "--data", folder / "set.json", "--images", folder / "images"]


def checkpoint(folder, epoch, move):
    import torch

    path = folder / f"epoch_{epoch}.pth"
    torch.save({"state_dict": {"move": torch.tensor(move)}, "meta": {"epoch": epoch}}, path)
    return path


class TestEvaluate:
    def test_tells_the_figures_and_the_rules(self, workbench, folder):
        words = of(folder)
        code, out, err = workbench("evaluate", *words, "--json")
        assert code == 0, err
        facts = json.loads(out)
        assert facts["AP"] == facts["AR"] == facts["APM"] == 1
        assert facts["APL"] is None
        assert len(facts["per_keypoint"]) == 17
        assert facts["protocol"]["padding"] == 1.5
        assert facts["protocol"]["text"].startswith("GT boxes, pad 1.5, no flip, argmax")
        code, out, _ = workbench("evaluate", *words)
        assert "AP 1.000" in out
        assert "left_eye" in out

    def test_predictions_are_written_through_a_link_and_never_in_place_of_a_pipe(self, workbench, folder):
        real, link, pipe = (folder / f"{name}.parquet" for name in ("real", "link", "pipe"))
        real.touch()
        link.symlink_to(real)
        os.mkfifo(pipe)
        code, _, err = workbench("evaluate", *of(folder), "--out", link)
        assert code == 0, err
        assert link.is_symlink()
        assert real.stat().st_size > 0
        code, out, err = workbench("evaluate", *of(folder), "--out", pipe)
        assert (code, out) == (2, "")
        assert "no program reads from this pipe" in err
        assert pipe.is_fifo()

    def test_a_detectors_boxes_and_a_result_file_that_score_reads(self, workbench, folder):
        found = [
            {"image_id": n, "category_id": 1, "bbox": [20.0 + n, 30, 60, 100], "score": 0.9}
            for n in range(1, 6)
        ]
        (folder / "det.json").write_text(json.dumps(found))
        words = of(folder)
        out_file = folder / "kept" / "results.json"
        code, out, err = workbench(
            "evaluate", *words, "--boxes", folder / "det.json", "--out", out_file, "--json"
        )
        assert code == 0, err
        facts = json.loads(out)
        assert facts["AR50"] == pytest.approx(5 / 6)
        assert facts["protocol"]["boxes"] == "det.json"
        assert facts["protocol"]["nms"] == 0.9
        code, out, err = workbench("score", out_file, "--data", folder / "set.json", "--json")
        assert code == 0, err
        assert json.loads(out)["AR50"] == facts["AR50"]

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--decoder", "simcc"], "no decoder 'simcc'"),
            (["--score", "mean"], "a heatmap has one"),
            (["--pose-score", "men"], "nearest: mean"),
            (["--nms", "0"], "expected an OKS above 0"),
            (["--sigmas", "1,2"], "expected one number above 0, or 17, one for each keypoint of"),
            (["--sigmas", "a"], "expected numbers"),
            (["--boxes", "absent.json"], "absent.json"),
            (["--out", "x.csv"], "expected a name ending in .parquet or .json"),
            (["--max-dets", "0"], "max_dets"),
            (["--device", "cuda:77"], "device"),
        ],
    )
    def test_a_wrong_word_is_one_sentence(self, workbench, folder, more, message):
        words = of(folder)
        code, out, err = workbench("evaluate", *words, *more)
        assert (code, out) == (2, "")
        assert len(err.strip().splitlines()) == 1
        assert message in err

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ([], "expected a checkpoint"),
            (["--adapter", "centre.py"], "no such file or folder centre.py"),
            (["--adapter", __file__], "expected --data"),
        ],
    )
    def test_what_is_missing_is_said(self, workbench, words, message):
        code, _, err = workbench("evaluate", *words)
        assert code == 2
        assert message in err

    def test_a_broken_image_is_one_sentence(self, workbench, folder):
        (folder / "images/3.jpg").write_bytes(b"\xff\xd8 no image")
        words = of(folder)
        code, out, err = workbench("evaluate", *words)
        assert (code, out) == (2, "")
        assert "3.jpg" in err
        assert len(err.strip().splitlines()) == 1

    def test_26_keypoints_are_no_17(self, workbench, folder):
        data = json.loads((folder / "set.json").read_text())
        data["categories"][0]["keypoints"] = [f"point {k}" for k in range(26)]
        for annotation in data["annotations"]:
            annotation["keypoints"] = [50, 80, 2] * 26
        (folder / "horse.json").write_text(json.dumps(data))
        words = ["--adapter", folder / "centre.py", "--images", folder / "images"]
        code, _, err = workbench("evaluate", *words, "--data", folder / "horse.json")
        assert code == 2
        assert "17 keypoints" in err
        assert "26" in err

    def test_movenet_on_real_people_scores_as_pycocotools_scores_it(self, workbench, shared, root, tmp_path):
        from pycocotools import coco, cocoeval

        data = shared / "data/coco/test_coco.json"
        code, out, err = workbench(
            "evaluate", shared / "data/weights/movenet_mbv3.pth",
            "--adapter", root / "tests/adapters/movenet.py", "--data", data,
            "--images", shared / "data/coco", "--out", tmp_path / "results.json", "--json",
        )  # fmt: skip
        assert code == 0, err
        facts = json.loads(out)
        truth = coco.COCO(str(data))
        judge = cocoeval.COCOeval(truth, truth.loadRes(str(tmp_path / "results.json")), "keypoints")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        names = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
        assert [facts[n] for n in names] == pytest.approx(judge.stats.tolist(), abs=1e-12)
        assert facts["protocol"]["sha256"]
        assert facts["protocol"]["loaded_fraction"] == 1


class TestScore:
    @pytest.fixture
    def results(self, folder):
        found = [
            {"image_id": n, "category_id": 1, "keypoints": [50.0 + n, 80.0, 1] * 17, "score": 0.5}
            for n in range(1, 7)
        ]
        (folder / "results.json").write_text(json.dumps(found))
        return folder / "results.json"

    def test_needs_no_images(self, workbench, folder, results):
        code, out, err = workbench("score", results, "--data", folder / "set.json", "--json")
        assert code == 0, err
        assert json.loads(out)["AP"] == 1
        assert "boxes unknown" in json.loads(out)["protocol"]["text"]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ('{"annotations": []}', "expected a list of detections, got an object with annotations"),
            ("[", "expected JSON"),
            ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]', "has no 'keypoints'"),
            ('[{"category_id": 1, "keypoints": [1, 2, 3], "score": 1}]', "has no 'image_id'"),
            (
                '[{"image_id": 1, "category_id": 1, "keypoints": [1, 2, 3], "score": NaN}]',
                "wild.json: score of detection 0: not a finite number",
            ),
            ('[{"image_id": 1, "category_id": 1, "keypoints": [1, 2, 3], "score": 1}]', "have 17 and"),
            ('[{"image_id": 99, "category_id": 1, "keypoints": [1, 2, 3], "score": 1}]', "keypoints"),
        ],
    )
    def test_results_in_the_wild_are_one_sentence(self, workbench, folder, content, message):
        (folder / "wild.json").write_text(content)
        code, out, err = workbench("score", folder / "wild.json", "--data", folder / "set.json")
        assert (code, out) == (2, "")
        assert len(err.strip().splitlines()) == 1
        assert message in err

    def test_minus_one_in_a_result_file_is_counted_and_said(self, workbench, folder, results):
        entries = json.loads(results.read_text())
        entries[0]["keypoints"][:3] = [-1, -1, -1]
        entries[0]["score"] = -1
        results.write_text(json.dumps(entries))
        code, out, err = workbench("score", results, "--data", folder / "set.json", "--json")
        assert code == 0, err
        sentences = [one for one in json.loads(out)["findings"] if one.startswith("results.json: -1 ")]
        assert len(sentences) == 3
        assert "at (-1, -1): once, counted as a number like any other" in sentences[0]

    def test_a_category_that_is_not_in_the_set(self, workbench, folder, results):
        found = json.loads(results.read_text())
        found[0]["category_id"] = 7
        results.write_text(json.dumps(found))
        code, _, err = workbench("score", results, "--data", folder / "set.json")
        assert code == 2
        assert "category 7 is not in the annotations" in err

    def test_a_category_id_that_is_a_list_is_one_sentence(self, workbench, folder, results):
        found = json.loads(results.read_text())
        found[0]["category_id"] = [1]
        results.write_text(json.dumps(found))
        for words in ((), ("--category", "1")):
            code, out, err = workbench("score", results, "--data", folder / "set.json", *words)
            assert (code, out, len(err.strip().splitlines())) == (2, "", 1)
            assert "category_id" in err

    def test_sets_without_area_need_the_word(self, workbench, folder, results):
        data = json.loads((folder / "set.json").read_text())
        for annotation in data["annotations"]:
            del annotation["area"]
        (folder / "crowd.json").write_text(json.dumps(data))
        code, _, err = workbench("score", results, "--data", folder / "crowd.json")
        assert code == 2
        assert "--no-area" in err
        code, out, _ = workbench("score", results, "--data", folder / "crowd.json", "--no-area", "--json")
        assert code == 0
        assert "xtcocotools" in json.loads(out)["protocol"]["area"]


class TestCompare:
    def test_epochs_of_a_folder_in_their_order(self, workbench, folder):
        run = folder / "run"
        run.mkdir()
        for epoch, move in ((10, 0.0), (2, 40.0)):
            checkpoint(run, epoch, move)
        code, out, err = workbench(
            "compare", run, "--adapter", folder / "centre.py", "--data", folder / "set.json",
            "--images", folder / "images", "--out", folder / "kept", "--json",
        )  # fmt: skip
        assert code == 0, err
        facts = json.loads(out)
        assert [e["title"] for e in facts["epochs"]] == ["epoch_2", "epoch_10"]
        assert [e["AP"] for e in facts["epochs"]] == [0, 1]
        assert len(facts["gained"]) == 6
        assert facts["lost"] == []
        # The set has too few images for an interval.
        assert (facts["intervals"][0]["delta"], facts["intervals"][0]["low"]) == (1, None)
        assert "too few for an interval;" in facts["summary"]
        assert facts["differences"] == []

        from workbench.evaluation import query_epochs

        history = query_epochs(folder / "kept")
        assert len(history.gained(2, 10)) == 6
        code, out, err = workbench(
            "compare", folder / "kept/epoch_2.parquet", folder / "kept/epoch_10.parquet",
            "--data", folder / "set.json",
        )  # fmt: skip
        assert code == 0, err
        assert "6 instances gained, 0 lost" in out

    def test_one_file_is_none_to_compare_with(self, workbench, folder):
        one = checkpoint(folder, 1, 0.0)
        code, _, err = workbench("compare", one, "--data", folder / "set.json")
        assert code == 2
        assert "two files or more; got epoch_1.pth" in err


def test_score_of_one_category_leaves_out_results_of_others(workbench, folder):
    """Results of all categories in one file, each with its own number of keypoints."""
    data = json.loads((folder / "set.json").read_text())
    data["categories"].append({"id": 2, "name": "hand", "keypoints": ["tip", "root"]})
    (folder / "both.json").write_text(json.dumps(data))
    bodies = [
        {"image_id": a["image_id"], "category_id": 1, "keypoints": a["keypoints"], "score": 0.5}
        for a in data["annotations"]
    ]
    hands = [{"image_id": 1, "category_id": 2, "keypoints": [1, 1, 1, 2, 2, 1], "score": 0.9}] * 3
    for name, results in (("alone.json", bodies), ("mixed.json", hands + bodies)):
        (folder / name).write_text(json.dumps(results))
    answers = {}
    for name in ("alone.json", "mixed.json"):
        code, out, err = workbench(
            "score", folder / name, "--data", folder / "both.json", "--category", "person", "--json"
        )
        assert code == 0, err
        answers[name] = json.loads(out)
    assert answers["mixed.json"]["AP"] == answers["alone.json"]["AP"] == pytest.approx(1)
    assert "3 results are of other categories and were left out" in answers["mixed.json"]["findings"][-1]
    (folder / "none.json").write_text(json.dumps([{**bodies[0], "category_id": 77}]))
    code, _, err = workbench("score", folder / "none.json", "--data", folder / "both.json", "--category", "1")
    assert (code, "category 77 is not in the annotations" in err) == (2, True)


def test_score_says_when_scores_do_not_rank_and_when_poses_are_listed_twice(workbench, folder):
    data = json.loads((folder / "set.json").read_text())
    poses = [
        {"image_id": a["image_id"], "category_id": 1, "keypoints": a["keypoints"], "score": 0.1 * n}
        for n, a in enumerate(data["annotations"], start=1)
    ]
    given = {
        "ranked": poses,
        "equal": [{**pose, "score": 1} for pose in poses],
        "twice": [*poses, {**poses[0], "score": 0.05}],
    }
    found = {}
    for name, results in given.items():
        (folder / f"{name}.json").write_text(json.dumps(results))
        code, out, err = workbench("score", folder / f"{name}.json", "--data", folder / "set.json", "--json")
        assert code == 0, err
        found[name] = json.loads(out)["findings"]
    assert not any("poses" in text for text in found["ranked"])
    assert any("all 6 poses have the score 1: their order" in text for text in found["equal"])
    assert any("1 of 7 poses repeat another one of their image exactly" in text for text in found["twice"])


def test_an_ap_near_0_names_the_commands_that_test_why_and_accuses_nothing(workbench, folder):
    data = json.loads((folder / "set.json").read_text())
    good = [
        {"image_id": a["image_id"], "category_id": 1, "keypoints": a["keypoints"], "score": 0.1 * n}
        for n, a in enumerate(data["annotations"], start=1)
    ]
    halved = [{**r, "keypoints": [v / 2 for v in r["keypoints"]]} for r in good]
    found = {}
    for name, results in {"good": good, "halved": halved, "none": []}.items():
        (folder / f"{name}.json").write_text(json.dumps(results))
        code, out, err = workbench("score", folder / f"{name}.json", "--data", folder / "set.json", "--json")
        assert code == 0, err
        found[name] = json.loads(out).get("next")
    assert found["good"] is None
    assert found["none"] is None
    line, lint = found["halved"]
    assert line == f"workbench diagnose {folder / 'halved.json'} --data {folder / 'set.json'}"
    assert lint == f"workbench data lint {folder / 'set.json'}"


@pytest.mark.parametrize("verb", [("score",), ("score", "--metric", "pck"), ("errors",), ("report",)])
@pytest.mark.parametrize("poses", [0, 1])
def test_a_set_without_annotations_has_no_figures_and_says_so(workbench, tmp_path, verb, poses):
    names = list(COCO.keypoints)
    image = {"id": 1, "file_name": "1.jpg", "width": 64, "height": 48}
    empty = {"images": [image], "annotations": [], "categories": [{"id": 1, "name": "p", "keypoints": names}]}
    (tmp_path / "empty.json").write_text(json.dumps(empty))
    pose = {"image_id": 1, "category_id": 1, "keypoints": [9.0, 9.0, 1.0] * 17, "score": 0.5}
    (tmp_path / "results.json").write_text(json.dumps([pose] * poses))
    out = ["--images", tmp_path, "--out", tmp_path / "report.html"] if verb == ("report",) else []
    code, text, err = workbench(
        verb[0], tmp_path / "results.json", "--data", tmp_path / "empty.json", *verb[1:], *out
    )
    assert code == 0, err
    assert "No AP" in text or "PCK -" in text


def test_thresholds_are_refused_where_ap_is_computed_and_used_where_mpck_is(workbench):
    code, out, err = workbench("score", "--demo", "--thresholds", "0.05")
    assert (code, out) == (2, "")
    assert (
        err == "workbench: --thresholds: AP has thresholds of its own, of OKS; name --metric mpck for these\n"
    )
    # The demo's poses lie 3 px from the truth: none within .0001 of the box, all within 1.
    for thresholds, value in (("0.0001", 0.0), ("1", 1.0), ("0.0001,1", 0.5)):
        words = ("score", "--demo", "--metric", "mpck", "--thresholds", thresholds, "--json")
        assert json.loads(workbench(*words)[1])["value"] == pytest.approx(value), thresholds


def test_a_category_that_a_built_in_set_does_not_have_is_refused(workbench):
    code, out, err = workbench("score", "--demo", "--category", "horse")
    assert (code, out) == (2, "")
    assert "no category 'horse'" in err
