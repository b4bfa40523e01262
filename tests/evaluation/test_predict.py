"""Predicting a whole set: boxes, scores, NMS, flip, progress, cancelling, and models that do not fit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from workbench.core import Batch, Codec, DecodeOptions, Outputs, Prediction
from workbench.data.coco import read_coco
from workbench.evaluation import Cancelled, evaluate, predict, protocol_of
from workbench.evaluation.oks import oks_nms
from workbench.evaluation.protocol import SCORE_RULES, pose_scores
from workbench.skeletons import SKELETONS

COCO = SKELETONS["coco-17"]


class Knowing:
    """A model that is told the truth, and moves it by `off` pixels; its heatmaps show the crop's red."""

    def __init__(self, skeleton=COCO, off=0.0, score=0.9):
        self.module = nn.Identity()
        self.skeleton = skeleton
        self.taps = {}
        self.codec = Codec("heatmap", (8, 8), (8, 8))
        self.padding = 1.25
        self.off, self.score = off, score

    def prepare(self, samples):
        pixels = torch.stack([torch.tensor(s.image[:8, :8]).permute(2, 0, 1) / 255 for s in samples])
        return Batch(pixels, np.tile(np.eye(2, 3), (len(samples), 1, 1)), tuple(samples))

    def forward(self, batch):
        return Outputs(heatmaps=self.module(batch.pixels)[:, :1].repeat(1, len(self.skeleton), 1, 1))

    def decode(self, outputs, batch, options):
        K = len(self.skeleton)
        poses = []
        for sample in batch.samples:
            truth = np.full((K, 2), 5.0) if sample.truth is None else sample.truth[:, :2]
            poses.append(Prediction(truth + self.off, np.full(K, self.score), sample.box))
        return tuple(poses)


@dataclass
class Found:
    image_id: int
    box: tuple
    score: float
    category_id: int = 1


@pytest.fixture
def people(drawn, written, tmp_path):
    data, _ = drawn(0, images=6)
    rng = np.random.default_rng(0)
    for image in data["images"]:
        cv2.imwrite(str(tmp_path / image["file_name"]), rng.integers(0, 255, (400, 400, 3), np.uint8))
    return read_coco(written(data))


class TestAnnotationBoxes:
    def test_every_labelled_instance_is_predicted_once_and_evaluates_to_one(self, people):
        found = predict(Knowing(), people, batch_size=4)
        ids = [people.instances[i].annotation_id for i in people.labelled]
        assert found.annotation_id is not None
        assert found.annotation_id.tolist() == ids
        assert evaluate(people, found).figures["AP"] == 1

    def test_some_of_them(self, people):
        some = people.labelled[2:5]
        found = predict(Knowing(), people, indices=some)
        assert len(found) == 3
        assert evaluate(people, found, indices=some).figures["AP"] == 1

    def test_batches_change_nothing(self, people):
        one, many = predict(Knowing(), people, batch_size=1), predict(Knowing(), people, batch_size=64)
        np.testing.assert_array_equal(one.keypoints, many.keypoints)
        np.testing.assert_array_equal(one.score, many.score)

    def test_outputs_are_handed_over_batch_by_batch(self, people):
        batches = []
        predict(Knowing(), people, batch_size=4, keep_outputs=lambda i, b, o: batches.append((i, len(b), o)))
        assert [i for indices, _, _ in batches for i in indices] == list(people.labelled)
        assert all(len(i) == n == len(o.heatmaps) for i, n, o in batches)

    def test_a_batch_ends_early_where_its_images_are_large(self, people, monkeypatch):
        """Twelve files of 72 kB, each of 74 million pixels, took 3 GB; one image of 480 kB fits here."""
        whole, batches = predict(Knowing(), people), []
        monkeypatch.setitem(predict.__globals__, "BATCH_BYTES", 500_000)
        parted = predict(Knowing(), people, keep_outputs=lambda i, b, o: batches.append(b))
        np.testing.assert_array_equal(whole.keypoints, parted.keypoints)
        assert max(len({id(s.image) for s in b.samples}) for b in batches) == 2

    def test_of_the_largest_images_one_alone_is_kept(self, people, monkeypatch):
        from workbench.core.job import LruCache
        from workbench.data import pose_set

        kept = LruCache(8, lambda pixels: pixels.nbytes, 500_000)
        monkeypatch.setattr(pose_set, "_decoded_images", kept)
        for image_id in people.images:
            assert people.image(image_id) is people.image(image_id)
        assert len(kept) == 1

    def test_progress_is_told_and_cancelling_stops(self, people):
        calls = []
        predict(Knowing(), people, batch_size=3, progress=lambda *done: calls.append(done))
        total = len(people.labelled)
        assert calls == [(n, total) for n in (*range(0, total, 3), total)]
        asked = iter([False, True])
        with pytest.raises(Cancelled, match=f"stopped after 3 of {total}"):
            predict(Knowing(), people, batch_size=3, cancelled=lambda: next(asked))

    def test_the_model_is_left_in_its_mode(self, people):
        model = Knowing()
        model.module.train()
        predict(model, people)
        assert model.module.training


class TestDetectedBoxes:
    def boxes(self, people, twice=False):
        own = [people.instances[i] for i in people.labelled]
        found = [Found(i.image_id, i.box, 0.5 + 0.01 * n) for n, i in enumerate(own)]
        return found * 2 if twice else found

    def test_carry_no_annotation_and_their_score_counts(self, people):
        found = predict(Knowing(), people, boxes=self.boxes(people), nms=1)
        assert found.annotation_id is None
        assert found.score[3] == pytest.approx(0.53 * 0.9)

    def test_poses_found_twice_are_dropped_unless_told_otherwise(self, people):
        # This model knows no truth for a detector's box and says (5, 5) everywhere: one pose is left.
        once = predict(Knowing(), people, boxes=self.boxes(people, twice=True))
        images = {b.image_id for b in self.boxes(people)}
        assert len(once) == len(images)
        best = {b.image_id: b.score for b in sorted(self.boxes(people), key=lambda b: b.score)}
        assert dict(zip(once.image_id.tolist(), once.score.tolist(), strict=True)) == pytest.approx(
            {image: score * 0.9 for image, score in best.items()}
        )
        assert len(predict(Knowing(), people, boxes=self.boxes(people, twice=True), nms=1)) == 2 * len(
            people.labelled
        )

    def test_a_box_of_no_size_is_one_sentence(self, people):
        wrong = [Found(people.instances[0].image_id, (5, 5, 5, 9), 1.0)]
        with pytest.raises(ValueError, match="expected x0 < x1"):
            predict(Knowing(), people, boxes=wrong)


class TestFlip:
    def test_output_is_the_mean_of_both_ways(self, people):
        seen = {}

        def keep(indices, batch, outputs):
            seen["outputs"], seen["pixels"] = outputs, batch.pixels

        predict(Knowing(), people, indices=people.labelled[:2], flip=True, keep_outputs=keep)
        red = seen["pixels"][:, 0]
        # The heatmap is the red channel itself; mirrored in and mirrored out it is itself again.
        torch.testing.assert_close(seen["outputs"].heatmaps[:, 0], red)

    def test_needs_mirror_pairs(self, people):
        model = Knowing(dataclasses.replace(COCO, mirror=()))
        with pytest.raises(ValueError, match="left and right"):
            predict(model, people, flip=True)


class TestWhatDoesNotFit:
    def test_26_keypoints_against_17(self, people):
        with pytest.raises(ValueError, match=r"26 keypoints \(halpe-26\).* annotated with 17 \(coco-17\)"):
            predict(Knowing(SKELETONS["halpe-26"]), people)

    def test_17_animal_keypoints_against_17_human_ones(self, people):
        with pytest.raises(ValueError, match="number 0 is L_Eye in ap10k-17 and nose in coco-17"):
            predict(Knowing(SKELETONS["ap10k-17"]), people)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (DecodeOptions("simcc"), "no decoder 'simcc' for heatmap outputs; there are argmax"),
            (DecodeOptions("", "mean"), "a heatmap has one"),
            (DecodeOptions("", "median"), "expected min, mean, max"),
        ],
    )
    def test_wishes_about_decoding_that_would_be_passed_over(self, people, options, message):
        with pytest.raises((KeyError, ValueError), match=message):
            predict(Knowing(), people, options=options)

    def test_a_model_that_decodes_in_its_own_way_takes_no_decoder(self, people):
        model = Knowing()
        model.codec = None
        with pytest.raises(ValueError, match="in its own way"):
            predict(model, people, options=DecodeOptions("argmax"))
        assert protocol_of(model).decoder == "the model's own"
        model.rollout = lambda batch, forced=0: model.forward(batch)
        assert protocol_of(model).decoder == "the model's own, free-running"

    def test_the_protocol_says_which_support_a_category_agnostic_model_was_given(self, people):
        model = Knowing()
        assert protocol_of(model).support == ""
        model.supported_by = lambda support, skeleton=None: model
        assert protocol_of(model).support == "support as the adapter chooses it"
        model.support = ()
        assert (
            "each instance is its own support (its true keypoints are an input" in protocol_of(model).text()
        )
        sample = people.sample(people.labelled[0])
        model.support = (sample,)
        assert f"support {sample.key}," in protocol_of(model).text()

    def test_nothing_to_predict_and_rules_nobody_knows(self, people):
        with pytest.raises(ValueError, match="nothing to predict"):
            predict(Knowing(), people, indices=[])
        with pytest.raises(KeyError, match="nearest: min"):
            predict(Knowing(), people, score_rule="minn")
        with pytest.raises(ValueError, match="batch size"):
            predict(Knowing(), people, batch_size=0)
        with pytest.raises(ValueError, match="nms: expected"):
            predict(Knowing(), people, nms=-1)

    def test_a_broken_image_is_one_sentence(self, people):
        path = people.images[people.instances[people.labelled[0]].image_id].path
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(ValueError, match=path.name):
            predict(Knowing(), people)


class TestProtocol:
    def test_says_what_predict_does(self):
        rules = protocol_of(Knowing(), flip=True, options=DecodeOptions("dark"))
        assert (rules.boxes, rules.padding, rules.flip, rules.decoder) == ("annotation", 1.25, True, "dark")
        assert np.isnan(rules.nms)
        assert protocol_of(Knowing(), boxes="det.json").nms == 0.9
        assert rules.score_rule == SCORE_RULES["bbox_keypoint"]


class TestScoreRules:
    SCORES = np.array([[0.1, 0.3, 0.8], [0.1, 0.2, 0.15]])
    BOXES = np.array([0.5, 1.0])

    @pytest.mark.parametrize(
        ("rule", "expected"),
        [
            ("bbox_keypoint", [0.5 * 0.55, 0]),
            ("bbox", [0.5, 1]),
            ("mean", [0.4, 0.15]),
            ("min", [0.1, 0.1]),
            ("bbox_rle", [0.5 + 0.4 + 0.8, 1 + 0.15 + 0.2]),
            ("oracle", [0.7, 0]),
        ],
    )
    def test_values_by_hand(self, rule, expected):
        values = pose_scores(rule, self.SCORES, self.BOXES, np.array([0.7, np.nan]))
        np.testing.assert_allclose(values, expected)

    def test_oracle_needs_truth(self):
        with pytest.raises(ValueError, match="boxes from annotations"):
            pose_scores("oracle", self.SCORES, self.BOXES)

    def test_oracle_ranks_better_than_ties(self, people):
        noisy = Knowing(off=np.random.default_rng(1).normal(0, 12, (17, 2)))
        plain, oracle = (
            evaluate(people, predict(noisy, people, score_rule=rule)) for rule in ("bbox", "oracle")
        )
        assert oracle.figures["AP"] >= plain.figures["AP"]
        assert oracle.figures["AR"] == plain.figures["AR"]


class TestNMS:
    @pytest.mark.parametrize("seed", range(5))
    def test_keeps_what_mmpose_keeps(self, seed):
        from workbench.models.mmpose_compat import install

        install()
        nms = pytest.importorskip("mmpose.evaluation.functional.nms")
        rng = np.random.default_rng(seed)
        base = rng.uniform(0, 300, (4, 17, 2))
        keypoints = np.concatenate([base + rng.normal(0, s, base.shape) for s in (0, 1, 4, 9)])
        scores, areas = rng.random(16).round(1), rng.uniform(1e3, 3e4, 16)
        poses = [
            {"keypoints": np.c_[k, np.ones(17)], "score": s, "area": a}
            for k, s, a in zip(keypoints, scores, areas, strict=True)
        ]
        sigmas = np.array(COCO.sigmas)
        chosen = oks_nms(keypoints, scores, areas, sigmas, 0.9)
        assert chosen.tolist() == nms.oks_nms(poses, 0.9, sigmas).tolist()
        assert 0 < len(chosen) < 16

    def test_a_pose_with_keypoints_missing_stays_beside_another(self):
        keypoints = np.zeros((2, 17, 2))
        keypoints[0, :8] = np.nan
        chosen = oks_nms(keypoints, np.array([1.0, 0.5]), np.ones(2), np.array(COCO.sigmas), 0.9)
        assert chosen.tolist() == [0, 1]


def test_pose_scores_are_those_of_mmpose_cocometric():
    """The loop of CocoMetric, written out: sums from the left, thresholds strict."""
    rng = np.random.default_rng(0)
    scores, boxes = rng.random((50, 17)), rng.random(50)
    expected = []
    for row, box in zip(scores, boxes, strict=True):
        total, count = 0.0, 0
        for score in row:
            if score > 0.2:
                total += score
                count += 1
        expected.append(box * (total / count if count else 0))
    np.testing.assert_array_equal(pose_scores("bbox_keypoint", scores, boxes), expected)


@pytest.mark.parametrize("nms", ["oks_nms", "none"])
def test_figures_are_those_of_mmpose_cocometric(people, nms, tmp_path):
    """Scores, areas for NMS, boxes of the results: the whole way from keypoints to AP, beside mmpose's."""
    from workbench.models.mmpose_compat import install

    install()
    from mmpose.evaluation.metrics import CocoMetric

    from workbench.core.geometry import crop_region
    from workbench.evaluation import Predictions
    from workbench.evaluation.oks import crop_areas, rows_after_nms

    rng = np.random.default_rng(0)
    own = [people.instances[i] for i in people.labelled] * 3
    boxes = np.array([i.box for i in own])
    scores, box_scores = rng.random((len(own), 17)), rng.random(len(own))
    spread = rng.choice([0.3, 2, 8], len(own))[:, None, None]
    keypoints = np.stack([i.truth[:, :2] for i in own]) + rng.normal(0, 1, (len(own), 17, 2)) * spread
    scales = np.stack([crop_region(tuple(box), (8, 8), 1.25)[1] for box in boxes.tolist()])

    metric = CocoMetric(ann_file=people.source, nms_mode=nms, outfile_prefix=str(tmp_path / "mmpose"))
    metric.dataset_meta = {"sigmas": np.array(COCO.sigmas), "num_keypoints": 17, "dataset_name": "coco"}
    samples = [
        {
            "id": n,
            "img_id": instance.image_id,
            "category_id": instance.category_id,
            "pred_instances": {
                "keypoints": keypoints[n : n + 1],
                "keypoint_scores": scores[n : n + 1],
                "bboxes": boxes[n : n + 1],
            },
            "gt_instances": {"bbox_scores": box_scores[n : n + 1], "bbox_scales": scales[n : n + 1]},
        }
        for n, instance in enumerate(own)
    ]
    metric.process([], samples)
    theirs = metric.evaluate(len(samples))

    found = Predictions(
        np.array([i.image_id for i in own]),
        np.array([i.category_id for i in own]),
        boxes,
        keypoints,
        scores,
        pose_scores("bbox_keypoint", scores, box_scores),
    )
    if nms != "none":
        found = found.take(rows_after_nms(found, crop_areas(Knowing(), found), np.array(COCO.sigmas), 0.9))
        assert len(found) < len(own)
    ours = evaluate(people, found).figures
    names = ("AP", "AP .5", "AP .75", "AP (M)", "AP (L)", "AR", "AR .5", "AR .75", "AR (M)", "AR (L)")
    np.testing.assert_allclose(
        np.nan_to_num(list(ours.values()), nan=-1), [theirs[f"coco/{n}"] for n in names], atol=1e-12
    )


def test_missing_images_are_named_before_predicting_and_left_out_only_when_asked(people):
    from workbench.data import missing_images, with_present_images

    pose_set = people
    first = pose_set.instances[pose_set.labelled[0]].image_id
    path = pose_set.images[first].path
    path.unlink()
    assert missing_images(pose_set) == {first: path}
    with pytest.raises(FileNotFoundError, match=rf"1 of \d+ images are missing, the first is .*{path.name}"):
        predict(Knowing(), pose_set)
    rest = with_present_images(pose_set)
    assert missing_images(rest) == {}
    assert first not in rest.images
    assert all(a["image_id"] != first for a in rest.raw["annotations"])
    report = evaluate(rest, predict(Knowing(), rest))
    assert report.figures["AP"] == pytest.approx(1)
    assert report.protocol.left_out == 1
    assert "1 missing image left out" in report.protocol.text()
    assert with_present_images(rest) is rest
    for record in rest.images.values():
        record.path.unlink()
    with pytest.raises(FileNotFoundError, match="images are missing"):
        with_present_images(rest)
