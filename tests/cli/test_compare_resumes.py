"""workbench compare: a stopped call goes on with the epoch that is missing; what does not open is told."""

from __future__ import annotations

import json
import shutil

import pytest

import workbench.evaluation
from workbench.checkpoints.demo import demo_checkpoints
from workbench.data import builtin
from workbench.evaluation import Predictions


@pytest.fixture
def small(tmp_path):
    """Three images of a built-in set as a json of their own."""
    scenes = builtin("scenes-val")
    few = scenes.raw["images"][:3]
    ids = {entry["id"] for entry in few}
    raw = {
        **scenes.raw,
        "images": [{**e, "file_name": str(scenes.images[e["id"]].path.name)} for e in few],
        "annotations": [a for a in scenes.raw["annotations"] if a["image_id"] in ids],
    }
    (tmp_path / "small.json").write_text(json.dumps(raw))
    return tmp_path / "small.json", scenes.images[few[0]["id"]].path.parent


@pytest.fixture
def predicted(monkeypatch):
    """How often a model predicted a whole set; `stop_at` interrupts one of the calls."""
    calls = {"count": 0, "stop_at": None}
    real = workbench.evaluation.predict

    def counted(*args, **options):
        calls["count"] += 1
        if calls["count"] == calls["stop_at"]:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(workbench.evaluation, "predict", counted)
    return calls


def test_a_stopped_comparison_goes_on_and_gives_the_same_figures(workbench, small, predicted, tmp_path):
    data, images = small
    files = [demo_checkpoints()[0], demo_checkpoints()[-1]]
    words = ["compare", *files, "--data", data, "--images", images, "--resamples", 20, "--json"]
    whole = json.loads(workbench(*words)[1])
    predicted.update(count=0, stop_at=2)
    out = ["--out", tmp_path / "kept"]
    workbench(*words, *out)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [f"{files[0].stem}.parquet"]
    predicted.update(count=0, stop_at=None)
    resumed = json.loads(workbench(*words, *out)[1])
    assert (predicted["count"], resumed.pop("resumed"), whole.pop("resumed")) == (1, [files[0].stem], [])
    assert resumed == whole
    # Other boxes are other predictions, and a damaged file is none.
    raw = json.loads(data.read_text())
    raw["annotations"][0]["bbox"][2] += 1
    data.write_text(json.dumps(raw))
    predicted["count"] = 0
    assert json.loads(workbench(*words, *out)[1])["resumed"] == []
    (tmp_path / "kept" / f"{files[1].stem}.parquet").write_bytes(b"PAR1 cut off")
    assert json.loads(workbench(*words, *out)[1])["resumed"] == [files[0].stem]
    assert predicted["count"] == 3


def test_what_does_not_open_in_a_folder_is_passed_over_and_said(workbench, small, tmp_path):
    data, images = small
    run, html = tmp_path / "run", tmp_path / "report.html"
    shutil.copytree(demo_checkpoints()[0].parent, run)
    for number in (2, 5, 10, 20):
        (run / f"epoch_{number}.pth").unlink()
    cut = run / "epoch_7.pth"
    cut.write_bytes((run / "epoch_40.pth").read_bytes()[:3000])
    how = ["--data", data, "--images", images, "--resamples", 20]
    facts = json.loads(workbench("compare", run, *how, "--json")[1])
    assert [epoch["title"] for epoch in facts["epochs"]] == ["epoch_1", "epoch_40"]
    assert "epoch_7.pth is passed over: epoch_7.pth is cut off" in facts["notes"][0]
    assert workbench("report", run, *how, "--diagnose", "none", "--out", html)[0] == 0
    assert "epoch_7.pth is passed over" in html.read_text()
    # A file that is named has to open.
    code, _, err = workbench("compare", *demo_checkpoints()[:2], cut, *how)
    assert (code, "workbench: epoch_7.pth is cut off" in err) == (2, True)
    (run / "epoch_40.pth").unlink()
    assert workbench("compare", run, *how)[0] == 2


def test_poses_of_another_skeleton_are_named_with_their_file(workbench, small, tmp_path):
    data, _ = small
    raw = json.loads(data.read_text())
    for name, K in (("a", 17), ("b", 17), ("other", 5)):
        poses = [
            {"image_id": a["image_id"], "category_id": a["category_id"], "keypoints": a["keypoints"][: 3 * K],
             "score": 0.9}
            for a in raw["annotations"]
        ]  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(poses))
    files = [tmp_path / f"{name}.json" for name in ("a", "b", "other")]
    code, _, err = workbench("compare", *files, "--data", data, "--resamples", 20)
    assert code == 2
    assert "workbench: other.json has 5 keypoints and small 17" in err


class TestOnePairing:
    """Poses are paired alike, whatever format their file has; where that cannot be, a sentence says why."""

    FIGURES = ("epochs", "calibration", "changes", "delta", "gained", "lost", "most_changed", "per_keypoint")

    @pytest.fixture
    def files(self, workbench, small, tmp_path):
        """Words for the set, and the predictions of two epochs as Parquet and as result files."""
        data, images = small
        words = ["--data", data, "--images", images, "--resamples", 20]
        epochs = [demo_checkpoints()[1], demo_checkpoints()[-1]]
        assert workbench("compare", *epochs, *words, "--out", tmp_path / "kept")[0] == 0
        predictions = [tmp_path / "kept" / f"{path.stem}.parquet" for path in epochs]
        (tmp_path / "lists").mkdir()
        lists = [tmp_path / "lists" / f"{path.stem}.json" for path in predictions]
        for file, path in zip(lists, predictions, strict=True):
            file.write_text(json.dumps(Predictions.from_parquet(path)[0].to_coco()))
        return words, predictions, lists

    def test_result_files_give_the_figures_of_the_predictions(self, workbench, files):
        words, predictions, lists = files
        parquet, listed = (
            json.loads(workbench("compare", *two, *words, "--json")[1]) for two in (predictions, lists)
        )
        assert listed["notes"] == parquet["notes"] == []
        for facts in (parquet, listed):  # how poses were made stands in Parquet files alone
            for one in facts["calibration"].values():
                assert one.pop("protocol")
        assert {n: listed[n] for n in self.FIGURES} == {n: parquet[n] for n in self.FIGURES}
        assert listed["calibration"]

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (lambda poses: [one.pop("bbox") for one in poses], "it has no box for each pose"),
            (
                lambda poses: poses[0]["bbox"].__setitem__(2, poses[0]["bbox"][2] + 1),
                "its boxes are not those",
            ),
            (lambda poses: poses.pop(), "1 of "),
            (lambda poses: poses.append(poses[0]), "its boxes are not those"),
        ],
    )
    def test_what_tells_no_annotation_is_said(self, workbench, files, change, why):
        words, _, lists = files
        poses = json.loads(lists[0].read_text())
        change(poses)
        lists[0].write_text(json.dumps(poses))
        facts = json.loads(workbench("compare", *lists, *words, "--json")[1])
        (note,) = [one for one in facts["notes"] if "are paired with" in one]
        assert note.startswith(f"{lists[0].name}: poses are paired with annotations by falling OKS")
        assert why in note
        text = workbench("compare", *lists, *words)[1]
        assert f"mind: {note}" in text
