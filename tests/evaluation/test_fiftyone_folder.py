"""FiftyOne data sets on disk: there and back, as FiftyOne itself writes them, and what is wrong with some."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.evaluation.test_comparison_details import people_set
from tests.evaluation.test_epoch_scores import people
from workbench.evaluation import evaluate
from workbench.evaluation.exchange_formats import is_fiftyone, read_fiftyone, write_fiftyone


@pytest.fixture
def pose_set(written):
    return people_set(written, count=4, per_image=2)


def boxed(pose_set, annotated=True):
    found = people(pose_set, 1, annotated)
    box = np.array([(10.0, 20.0, 110.0, 220.0)]).repeat(len(found), 0)
    return replace(found, box=box, scores=np.where(np.isnan(found.keypoints[..., 0]), 0, found.scores))


@pytest.mark.parametrize("annotated", [True, False])
def test_what_is_written_is_read_again(tmp_path, pose_set, annotated):
    found = boxed(pose_set, annotated)
    found = found.take(np.argsort(found.image_id, kind="stable"))
    assert is_fiftyone(write_fiftyone(tmp_path / "out", found, pose_set))
    again = read_fiftyone(tmp_path / "out", pose_set)
    for name in ("image_id", "category_id", "scores", "score", "annotation_id"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    for name in ("keypoints", "box"):
        np.testing.assert_allclose(getattr(again, name), getattr(found, name), rtol=1e-14)
    assert np.isnan(found.keypoints).any()
    a, b = evaluate(pose_set, found).figures, evaluate(pose_set, again).figures
    assert a == pytest.approx(b, abs=1e-12, nan_ok=True)


def test_the_points_are_shares_of_the_image_and_absent_ones_nan_as_mongodb_writes_it(tmp_path, pose_set):
    found = boxed(pose_set)
    write_fiftyone(tmp_path / "out", found, pose_set, field="poses")
    text = (tmp_path / "out" / "samples.json").read_text()
    sample = json.loads(text, parse_constant=pytest.fail)["samples"][0]
    label = sample["poses"]["keypoints"][0]
    assert sample["metadata"] == {"_cls": "ImageMetadata", "width": 600, "height": 400}
    absent = np.isnan(found.keypoints[0, :, 0])
    for point, there, pixel in zip(label["points"], ~absent, found.keypoints[0], strict=True):
        if there:
            assert point == pytest.approx([pixel[0] / 600, pixel[1] / 400])
        else:
            assert point == [{"$numberDouble": "NaN"}] * 2
    assert label["bounding_box"] == pytest.approx([10 / 600, 20 / 400, 100 / 600, 200 / 400])
    stated = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert stated["skeletons"]["poses"]["labels"] == list(pose_set.skeleton.keypoints)


def exported(pose_set, label, **more):
    """One sample as FiftyOne 1.22.1 exported it, with a label put in; nan and ids as it writes them."""
    name = next(iter(pose_set.images.values())).path.name
    sample = {
        "filepath": f"C:\\photos\\{name}", "tags": [],
        "metadata": {"_cls": "ImageMetadata", "width": {"$numberInt": "600"}, "height": 400},
        "_media_type": "image", "_rand": 0.99, "_id": {"$oid": "6b0ce23617b2db8fb2b71b71"},
        "pred": {"_cls": "Keypoints", "keypoints": [
            {"_id": {"$oid": "6b0ce23617b2db8fb2b71b70"}, "_cls": "Keypoint", "attributes": {}, "tags": [],
             "label": next(iter(pose_set.categories.values())), "points": [[0.5, 0.25]] * 17, **label}
        ]},
        **more,
    }  # fmt: skip
    return {"samples": [sample]}


def write(folder, facts):
    folder.mkdir(exist_ok=True)
    (folder / "metadata.json").write_text("{}")
    (folder / "samples.json").write_text(json.dumps(facts))
    return folder


NAN = {"$numberDouble": "NaN"}


def test_an_export_with_confidences_alone_is_scored_by_their_mean(tmp_path, pose_set):
    label = {"points": [[0.5, 0.25]] * 16 + [[NAN, NAN]], "confidence": [0.5] * 8 + [0.7] * 8 + [NAN]}
    found = read_fiftyone(write(tmp_path, exported(pose_set, label)), pose_set)
    assert found.keypoints[0, 0].tolist() == [300, 100]
    assert np.isnan(found.keypoints[0, 16]).all()
    assert found.score[0] == pytest.approx(0.6)
    assert found.scores[0, [0, 8, 16]].tolist() == [0.5, 0.7, 0.0]
    assert np.isnan(found.box).all()
    assert found.annotation_id is None
    # With a score of its own, and no confidence: it stands for each keypoint.
    found = read_fiftyone(write(tmp_path, exported(pose_set, {"score": 0.25})), pose_set)
    assert (found.score[0], set(found.scores[0])) == (0.25, {0.25})


@pytest.mark.parametrize(
    ("change", "more", "said"),
    [
        ({"points": [[0.1, 0.2]] * 5}, {}, "expected 17 points"),
        ({"points": None}, {}, "got no"),
        ({"label": "zebra", "score": 1}, {}, "'zebra' is no category of the set"),
        ({}, {}, "neither score nor confidence"),
        ({"confidence": [0.5]}, {}, "17 points and 1 confidences"),
        ({"score": NAN}, {}, "neither score nor confidence"),
        ({}, {"filepath": "/elsewhere/other.jpg"}, "other.jpg is no image of"),
        ({}, {"truth": {"_cls": "Keypoints", "keypoints": []}}, "the fields pred, truth; name one"),
        ({}, {"pred": None}, "no field of keypoints"),
        ({"score": 1}, {"pred": {"_cls": "Keypoints", "keypoints": 3}}, "expected keypoints under 'pred'"),
        ({"points": [[10**400, 0]] * 17}, {}, "a number beyond 64 bits"),
        ({"score": 10**400}, {}, "a number beyond 64 bits"),
        ({"score": 1, "annotation_id": {"$numberLong": "9" * 400}}, {}, "a number beyond 64 bits"),
        ({"score": 1, "annotation_id": {"$numberDouble": "inf"}}, {}, "as a whole number, got inf"),
        ({"confidence": [{"$numberDouble": "inf"}] * 17}, {}, "expected a finite number or nan, got inf"),
        ({"score": 1, "annotation_id": 1.5}, {}, "as a whole number, got 1.5"),
        ({"score": 1, "points": [["a", {}]] * 17}, {}, "expected a number, got 'a'"),
        ({"score": 1}, {"metadata": {"width": 10**400, "height": 1}}, "a number beyond 64 bits"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, pose_set, change, more, said):
    folder = write(tmp_path, exported(pose_set, change, **more))
    with pytest.raises(ValueError, match=r"samples\.json") as failure:
        read_fiftyone(folder, pose_set)
    assert said in str(failure.value)


def test_the_verb_imports_and_exports_it(tmp_path, pose_set, workbench):
    runs = tmp_path / "runs"
    boxed(pose_set).to_parquet(runs / "epoch_3.parquet", epoch=3)
    data = pose_set.source
    code, _, err = workbench("history", runs, "--export", f"3={tmp_path / 'fo'}")
    assert (code, "give them with --data" in err) == (2, True)
    code, _, err = workbench("history", runs, "--data", data, "--export", f"3={tmp_path / 'fo'}")
    assert code == 0, err
    words = ("--import", f"4={tmp_path / 'fo'}#predictions", "--json")
    code, out, err = workbench("history", runs, "--data", data, *words)
    assert code == 0, err
    first, second = json.loads(out)["epochs"]
    assert first["AP"] == pytest.approx(second["AP"], abs=1e-12)
    code, _, err = workbench("history", runs, "--data", data, "--import", f"5={tmp_path / 'fo'}#other")
    assert (code, "expected other, found the fields predictions" in err) == (2, True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    code, _, err = workbench("history", runs, "--data", data, "--export", f"3={tmp_path / 'full'}")
    assert (code, "found something else" in err) == (2, True)
