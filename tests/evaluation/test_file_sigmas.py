"""OKS constants and mirror pairs that an annotation file states: they count in every verb."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import warnings

import numpy as np
import pytest
import torch

from workbench.core import Codec, ReadingNote
from workbench.core.flip import no_mirror
from workbench.data import open_data
from workbench.data.opening import with_skeleton_named
from workbench.data.set_lint import lint
from workbench.evaluation import Predictions, evaluate
from workbench.evaluation.result_lists import results_of
from workbench.models import TopDown
from workbench.models.naming import named_as
from workbench.skeletons import FILE_SIGMAS, SKELETONS

SIGMAS = [0.03, 0.05, 0.09]
NAMES = ["beak", "crown", "tail"]


@pytest.fixture
def files(tmp_path):
    """``files(key=value, names=...)`` writes 30 birds, and results that are some pixels off."""
    rng = np.random.default_rng(0)

    def written(names=NAMES, **category):
        K, images, people, results = len(names), [], [], []
        for n in range(1, 31):
            points = rng.uniform(20, 80, (K, 2))
            pose = np.concatenate([points, np.full((K, 1), 2.0)], 1).ravel().tolist()
            found = np.concatenate([points + rng.normal(0, 4, (K, 2)), np.ones((K, 1))], 1).ravel().tolist()
            images.append({"id": n, "file_name": f"{n}.png", "width": 100, "height": 100})
            own = {"id": n, "image_id": n, "category_id": 1, "keypoints": pose, "num_keypoints": K}
            people.append({**own, "area": 3600 + 200 * n, "bbox": [10, 10, 80, 80], "iscrowd": 0})
            one = {"image_id": n, "category_id": 1, "keypoints": found, "score": float(rng.random())}
            results.append(one)
        entry = {"id": 1, "name": "bird", **({"keypoints": names} if names else {}), **category}
        content = {"images": images, "annotations": people, "categories": [entry]}
        (tmp_path / "set.json").write_text(json.dumps(content))
        (tmp_path / "results.json").write_text(json.dumps(results))
        return tmp_path / "set.json", tmp_path / "results.json"

    return written


@pytest.mark.parametrize("key", ["sigmas", "kpt_oks_sigmas"])
def test_the_figures_are_those_of_pycocotools_with_the_sigmas_of_the_file(files, workbench, key):
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    data, results = files(**{key: SIGMAS})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO(str(data))
        evaluator = cocoeval.COCOeval(truth, truth.loadRes(str(results)), "keypoints")
        evaluator.params.kpt_oks_sigmas = np.array(SIGMAS)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    pose_set = open_data(data)
    items = results_of(pose_set, json.loads(results.read_text()))
    report = evaluate(pose_set, Predictions.from_coco(items))
    np.testing.assert_allclose(report.ap.stats, evaluator.stats, atol=1e-12)
    assert 0.2 < report.ap.stats[0] < 0.9
    assert "OKS sigmas of the annotation file, 0.03 to 0.09" in report.protocol.text()
    for words in (("score", results), ("errors", results)):
        code, out, err = workbench(*words, "--data", data, "--json")
        assert code == 0, err
        assert f"{report.ap.stats[0]:.10f}"[:10] in out, words


def test_sigmas_of_the_file_precede_the_published_ones_of_known_names(files):
    known = SKELETONS["mpii-16"]
    for sigmas, source in (([0.05] * 16, FILE_SIGMAS), (list(known.sigmas), known.source)):
        skeleton = open_data(files(list(known.keypoints), sigmas=sigmas)[0]).skeleton
        assert (skeleton.name, list(skeleton.sigmas), skeleton.source) == (known.name, sigmas, source)


@pytest.mark.parametrize(
    "sigmas", [[0.1, 0.1], 0.1, [0.1, 0, 0.1], [0.1, -1, 0.1], ["0.1"] * 3, [True] * 3, [1e300] * 3, {"a": 1}]
)
def test_sigmas_that_are_none_are_not_used_and_the_set_says_why(files, sigmas):
    data, _ = files(sigmas=sigmas)
    with pytest.warns(ReadingNote, match="the file's sigmas: expected"):
        pose_set = open_data(data)
    assert pose_set.skeleton.sigmas == ()
    assert "they are not used, none are known" in pose_set.notes[0]


def test_a_skeleton_that_the_user_names_leaves_the_sigmas_of_the_file(files):
    numbers = [str(k) for k in range(16)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = with_skeleton_named(open_data(files(numbers, sigmas=[0.05] * 16)[0]), "mpii-16")
    assert (named.skeleton.keypoints, named.skeleton.sigmas) == (SKELETONS["mpii-16"].keypoints, (0.05,) * 16)


COCO = SKELETONS["coco-17"]
EYES = ["beak", "eye one", "eye two"]


@pytest.mark.parametrize(
    "stated", [{"flip_indices": [0, 2, 1]}, {"flip_pairs": [[1, 2]]}, {"flip_idx": [0, 2, 1]}]
)
def test_mirror_pairs_of_the_file_are_those_of_the_flip_test(files, stated):
    pose_set = open_data(files(EYES, **stated)[0])
    assert pose_set.skeleton.mirror == (0, 2, 1)
    assert lint(pose_set, images=False).not_checked.get("mirror pairs") is None
    # A model that names the same keypoints without pairs is flipped with them; one with pairs keeps its own.
    codec = Codec("heatmap", (64, 64), (64, 64), sigma=(1.0, 1.0))
    bare = dataclasses.replace(pose_set.skeleton, mirror=())
    model = TopDown(torch.nn.Identity(), bare, codec, (0.0,) * 3, (1.0,) * 3, padding=1.0)
    assert no_mirror(model.skeleton)
    named = named_as(model, pose_set.skeleton, "birds")
    assert named.skeleton.mirror == (0, 2, 1)
    assert isinstance(named, TopDown)
    assert "mirror pairs are those of birds" in named.note
    own = dataclasses.replace(model, skeleton=dataclasses.replace(bare, mirror=(1, 0, 2)))
    with pytest.warns(ReadingNote, match="the model exchanges beak with eye one, birds beak with no other"):
        assert named_as(own, pose_set.skeleton, "birds").skeleton.mirror == (1, 0, 2)


@pytest.mark.parametrize(
    ("names", "stated", "sentence", "mirror"),
    [
        (["left", "right", "tail"], {"flip_indices": [0, 2, 1]}, "left with left, not with right", (1, 0, 2)),
        (["beak", "left wing", "right wing"], {"flip_pairs": [[1, 2]]}, "", (0, 2, 1)),
        (["left wing", "right wing", "a", "b"], {"flip_pairs": [[0, 1], [2, 3]]}, "", (1, 0, 3, 2)),
        (EYES, {"flip_indices": [0, 2]}, "expected a list of the partner's index", ()),
        (EYES, {"flip_indices": [1, 2, 0]}, "expected a list of the partner's index", ()),
        (EYES, {"flip_pairs": [[2, 3]]}, "expected a list of pairs of indices", ()),
        (EYES, {"flip_pairs": [[0, 1], [1, 2]]}, "expected a list of pairs of indices", ()),
        (EYES, {"flip_pairs": {"0": 1}}, "expected a list of pairs of indices", ()),
        (EYES, {"flip_pairs": []}, "", ()),
        (COCO.keypoints, {"flip_pairs": [[1, 2]]}, "as coco-17 has", COCO.mirror),
    ],
)  # fmt: skip
def test_mirror_pairs_that_contradict_the_names_are_not_used_and_the_set_says_so(
    files, names, stated, sentence, mirror
):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pose_set = open_data(files(list(names), **stated)[0])
    assert pose_set.skeleton.mirror == mirror
    assert len(pose_set.notes) == bool(sentence)
    assert sentence in " ".join(pose_set.notes)
    causes = [one.finding.cause for one in lint(pose_set, images=False).found]
    assert ("mirror pairs" in causes) == bool(sentence)
