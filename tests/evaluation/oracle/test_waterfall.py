"""Each part of the way replaced by the truth, on pictures whose AP is known by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests import toy
from workbench.data import builtin
from workbench.data.boxes import FoundBox
from workbench.evaluation.oracle import crops_waterfall, people_waterfall
from workbench.evaluation.oracle.waterfall import Annotated, Waterfall, matched_oks, stepped, subsets

FALSE = ((4, 16), (7, 20))  # keypoints of somebody whom nobody annotated


def crowd(folder, *, false=False, equal=False):
    """A set with the picture of two people; with a brighter third one, or all of one tag."""
    image = np.zeros((toy.CROWD, toy.CROWD, 3), np.uint8)
    people = [(places, tag, 200) for places, tag in zip(toy.PLACES, toy.TAGS, strict=True)]
    for places, tag, light in [*people, *([(FALSE, 5.0, 255)] if false else [])]:
        for channel, (x, y) in enumerate(places):
            image[y, x, channel] = light
            image[y - 1 : y + 2, x - 1 : x + 2, 2] = round(25.5 * (5 if equal else tag))
    return toy.people_set(folder, image)


def reached(report):
    return [step.AP for step in report.steps]


def alone(report):
    return {step.name: step.AP_alone for step in report.steps}


class TestBottomUp:
    def test_of_a_perfect_network_nothing_is_lost(self, tmp_path):
        report = people_waterfall(toy.ToyPeople(), crowd(tmp_path))
        assert reached(report) == pytest.approx([1] * 6)
        assert (report.images, report.people, report.forward_passes) == (1, 2, 1)

    def test_equal_tags_are_made_good_by_true_tags_and_by_true_grouping(self, tmp_path):
        report = people_waterfall(toy.ToyPeople(), crowd(tmp_path, equal=True))
        found = alone(report)
        assert found["model as it is"] < 0.6
        assert found["tags"] == pytest.approx(1)
        assert found["grouping"] == pytest.approx(1)
        # The one person that is left has the last detections; perfect peaks change nothing about that.
        assert found["heatmaps"] < 0.6
        assert "the largest loss is in tags" in report.summary()

    def test_exchanged_heatmaps_are_made_good_by_true_ones_alone(self, tmp_path):
        model = toy.ToyPeople()
        with torch.no_grad():
            weight = model.module[0].weight
            weight.copy_(weight[[1, 0, 2, 3]])
        found = alone(people_waterfall(model, crowd(tmp_path)))
        assert found["model as it is"] == 0
        assert found["heatmaps"] == pytest.approx(1)
        assert found["tags"] == found["scores"] == 0

    def test_a_false_person_before_two_true_ones_costs_a_third(self, tmp_path):
        report = people_waterfall(toy.ToyPeople(), crowd(tmp_path, false=True))
        # Ranked false, true, true: precision is 1/2 at the first hit, 2/3 at the second, so 2/3 throughout.
        assert reached(report)[0] == pytest.approx(2 / 3)
        found = alone(report)
        assert found["scores"] == pytest.approx(1)
        assert found["grouping"] == pytest.approx(1)
        assert found["heatmaps"] == pytest.approx(1)  # nobody peaks there any more
        # The false detections have the nearest true person's tags, and each person takes one of a kind: whose
        # is left over is a third person as before.
        assert found["tags"] == pytest.approx(2 / 3)

    def test_somebody_found_twice_ranks_once_by_true_scores(self):
        truth = np.array([[[4.0, 4, 2], [7, 8, 2]], [[14, 4, 2], [17, 8, 2]]])
        people = Annotated(truth, np.array([64.0, 64.0]), np.array([0.1, 0.1]))
        first, second = truth[..., :2]
        scores = matched_oks(np.stack([first + 0.5, second, first]), people)
        assert scores == pytest.approx([0, 1, 1])
        assert matched_oks(np.zeros((0, 2, 2)), people).shape == (0,)

    def test_of_a_random_network_all_truth_together_makes_ap_1(self):
        from workbench.models.higherhrnet.model import new_higherhrnet
        from workbench.models.higherhrnet.network import Architecture, HigherHRNet
        from workbench.skeletons import SKELETONS

        torch.manual_seed(0)
        small = Architecture(width=8, stem=8, bottlenecks=1, modules=(1, 1, 1), blocks=1, deconv_blocks=1)
        scenes = builtin("scenes-people-val")
        model = new_higherhrnet(HigherHRNet(small), SKELETONS["coco-17"], 192)
        report = people_waterfall(model, scenes, list(scenes.labelled_of_image)[:1], flip=True)
        assert reached(report)[0] < 0.1
        assert reached(report)[-1] == pytest.approx(1)
        assert report.forward_passes == 2

    def test_a_set_without_sigmas_is_one_sentence(self, tmp_path):
        bare = dataclasses.replace(crowd(tmp_path), skeleton=dataclasses.replace(toy.TWO, sigmas=()))
        with pytest.raises(ValueError, match="no sigmas are known"):
            people_waterfall(toy.ToyPeople(), bare)


def shifted(maps, cells):
    """Maps whose content lies so many cells further right and down; zero where it came from."""
    return torch.nn.functional.pad(maps, (cells, 0, cells, 0))[..., : maps.shape[-2], : maps.shape[-1]]


def halved(maps):
    """The whole map in its top left quarter, as where a stride is taken for twice what it is."""
    small = maps[..., ::2, ::2]
    h, w = maps.shape[-2] - small.shape[-2], maps.shape[-1] - small.shape[-1]
    return torch.nn.functional.pad(small, (0, w, 0, h))


class TestPlacing:
    """Perfect maps of drawn people, put into the image wrongly."""

    @pytest.fixture(scope="class")
    def scenes(self):
        return builtin("scenes-people-val")

    @pytest.fixture(scope="class")
    def ids(self, scenes):
        return [i for i in scenes.images if sum(one.image_id == i for one in scenes.instances) > 1][:2]

    @pytest.fixture(scope="class")
    def perfect(self, scenes, ids):
        from tests.evaluation.ablation.planted import planted

        return planted(scenes, ids, resolutions=1)

    def of(self, model, scenes, ids):
        report = people_waterfall(model, scenes, ids)
        return report, {step.name: step for step in report.steps}

    def through(self, model, change):
        """The network's maps changed on their way."""

        def call(pixels):
            outputs = model.call(pixels)
            return dataclasses.replace(outputs, heatmaps=change(outputs.heatmaps), tags=change(outputs.tags))

        return dataclasses.replace(model, call=call)

    def test_a_dropped_inverse_affine_is_placing_and_nothing_else(self, perfect, scenes, ids):
        rules = dataclasses.replace(perfect.aggregation, inverse_affine=False)
        report, steps = self.of(dataclasses.replace(perfect, aggregation=rules), scenes, ids)
        assert steps["model as it is"].AP < 0.95
        assert pytest.approx(1) == steps["placing"].AP
        assert "the largest loss is in placing" in report.summary()
        assert "leave the inverse affine out" in report.text()
        assert steps["heatmaps"].AP_alone < 0.95, "true heatmaps are placed as wrongly"

    def test_cells_further_right_and_down_are_measured_as_an_offset(self, perfect, scenes, ids):
        # Two cells of the heatmaps and one of the tags: at their strides of 2 and 4 pixels 4 pixels each.
        def moved(maps):
            return shifted(maps, 4 * maps.shape[-1] // perfect.place(scenes.image(ids[0]).shape[:2]).size[1])

        report, steps = self.of(self.through(perfect, moved), scenes, ids)
        assert steps["model as it is"].AP < 0.8
        assert steps["placing"].AP > 0.98
        np.testing.assert_allclose(report.measured["placing"]["offset"], [-4, -4], atol=0.5)
        np.testing.assert_allclose(report.measured["placing"]["scale"], [1, 1], atol=0.01)
        assert "moving by -4.0, -4.0 input pixels" in report.text()

    def test_a_stride_taken_for_twice_as_much_is_measured_as_a_scale(self, perfect, scenes, ids):
        report, steps = self.of(self.through(perfect, halved), scenes, ids)
        assert steps["model as it is"].AP < 0.05
        assert steps["placing"].gain > 0.5
        np.testing.assert_allclose(report.measured["placing"]["scale"], [2, 2], rtol=0.02)
        assert "the largest loss is in placing" in report.summary()

    def test_a_perfect_network_is_accused_of_nothing(self, perfect, scenes, ids):
        report, steps = self.of(perfect, scenes, ids)
        assert report.findings == ()
        assert not report.measured["placing"]["needed"]
        assert not report.measured["pairs"]["collapsed"]
        assert not report.measured["sides"]["found"]
        assert report.measured["pairs"]["pairs"] > 10
        assert report.measured["pairs"]["share"] < 0.1
        assert "no part loses anything" in report.summary()
        assert pytest.approx(1) == steps["placing"].AP

    def test_a_network_that_tells_not_left_from_right_is_named_with_its_figure(self, perfect, scenes, ids):
        mirror = list(perfect.skeleton.mirror)

        def both(maps):
            # One peak for both of a pair: where the left one is.
            order = [min(k, mirror[k]) for k in range(len(mirror))]
            return maps[:, order]

        report, _ = self.of(self.through(perfect, both), scenes, ids)
        pairs = report.measured["pairs"]
        assert pairs["collapsed"]
        assert pairs["share"] > 0.9
        assert pairs["median_true_distance"] > 0.1
        assert "left/right pairs collapsed" in [finding.cause for finding in report.to_findings()]
        assert not report.measured["placing"]["needed"]

    def test_exchanged_sides_are_named_with_the_oks_both_ways(self, perfect, scenes, ids):
        mirror = list(perfect.skeleton.mirror)
        report, _ = self.of(self.through(perfect, lambda maps: maps[:, mirror]), scenes, ids)
        sides = report.measured["sides"]
        assert sides["found"]
        assert sides["oks"] < 0.6
        assert sides["oks_exchanged"] > 0.9
        assert "left and right exchanged" in [finding.cause for finding in report.findings]


class TestFlipTest:
    """Averaging with the mirrored pass; no part can hold it."""

    @pytest.fixture(scope="class")
    def scenes(self):
        return builtin("scenes-people-val")

    @pytest.fixture(scope="class")
    def ids(self, scenes):
        return [i for i in scenes.images if sum(one.image_id == i for one in scenes.instances) > 1][:3]

    @pytest.fixture(scope="class")
    def perfect(self, scenes, ids):
        from tests.evaluation.ablation.planted import planted

        return planted(scenes, ids, resolutions=1)

    @pytest.mark.parametrize("swap", ["neither", "tags", "heatmaps"])
    def test_a_wrong_exchange_of_sides_is_named_before_the_parts(self, perfect, scenes, ids, swap):
        rules = dataclasses.replace(perfect.aggregation, mirror_swap=swap)
        model = dataclasses.replace(perfect, aggregation=rules)
        report = people_waterfall(model, scenes, ids, flip=True)
        plain = reached(people_waterfall(model, scenes, ids))[0]
        flipped = report.measured["flip_test"]
        # With one tag map in place of two these tags alone tell people apart, and nothing is lost.
        lost = reached(report)[0] < plain - 0.03
        assert flipped["AP_without"] == pytest.approx(plain)
        assert flipped["found"] == lost
        assert ("the flip test costs AP: without it" in report.summary()) == lost
        assert [finding.cause for finding in report.findings] == ["the flip test costs AP"] * lost
        assert swap == "heatmaps" or lost
        assert "flip test" not in report.missing

    def test_a_right_one_is_not_accused_and_none_is_said_to_be_unmeasured(self, perfect, scenes, ids):
        report = people_waterfall(perfect, scenes, ids, flip=True)
        assert not report.measured["flip_test"]["found"]
        assert report.findings == ()
        assert "--flip" in people_waterfall(perfect, scenes, ids).missing["flip test"]

    def test_of_crops_it_is_named_too(self, tmp_path):
        # The toy tells keypoints by colour, so its mirrored maps are no pairs: exchanging them is wrong.
        model = TestTopDown().model()
        report = crops_waterfall(model, crowd(tmp_path), flip=True)
        assert report.measured["flip_test"]["AP_without"] == pytest.approx(1)
        assert [finding.cause for finding in report.findings] == ["the flip test costs AP"]
        model.skeleton = dataclasses.replace(model.skeleton, mirror=(0, 1))
        right = dataclasses.replace(crowd(tmp_path), skeleton=model.skeleton)
        report = crops_waterfall(model, right, flip=True)
        assert reached(report)[0] == pytest.approx(1)
        assert report.findings == ()


class TestTopDown:
    """The toy reads a crop of 9 x 9 pixels at its box's corner: red is keypoint 0, green keypoint 1."""

    def boxes(self, corners):
        return [FoundBox(1, 1, (x, y, x + 9.0, y + 9.0)) for x, y in corners]

    def model(self):
        model = toy.ToyHeatmaps()
        # As the picture is: dots of 200, not of 255.
        with torch.no_grad():
            model.module[0].weight[1] = 0
            model.module[0].weight[1, 1, 1, 1] = 1
        return model

    def test_annotated_boxes_are_no_part_to_be_replaced(self, tmp_path):
        report = crops_waterfall(self.model(), crowd(tmp_path))
        assert [step.name for step in report.steps] == ["model as it is", "heatmaps", "scores"]
        assert reached(report)[0] == pytest.approx(1)
        assert "annotated boxes are used already" in report.missing["boxes"]

    def test_boxes_beside_everybody_are_made_good_by_annotated_ones(self, tmp_path):
        report = crops_waterfall(
            self.model(), crowd(tmp_path), boxes=self.boxes([(14, 1), (1, 14)]), boxes_from="a detector"
        )
        first, boxes, heatmaps, scores = report.steps
        assert (first.AP, boxes.AP, boxes.gain) == pytest.approx((0, 1, 1))
        assert (heatmaps.gain, scores.gain) == pytest.approx((0, 0))
        assert heatmaps.AP_alone == pytest.approx(0)  # nobody is in those boxes
        assert report.forward_passes == 4

    def test_a_blind_network_is_made_good_by_true_heatmaps(self, tmp_path):
        model = self.model()
        with torch.no_grad():
            model.module[0].weight.zero_()
        report = crops_waterfall(model, crowd(tmp_path))
        assert reached(report)[0] == 0
        assert reached(report)[1] == pytest.approx(1)

    def test_without_a_codec_heatmaps_cannot_be_drawn(self, tmp_path):
        report = crops_waterfall(toy.ToyFields(), crowd(tmp_path))
        assert "no codec" in report.missing["heatmaps"]


class TestTheReport:
    def figures(self, replaced):
        AP = {frozenset(): 0.4, frozenset("a"): 0.7, frozenset("b"): 0.3, frozenset("ab"): 0.6}[replaced]
        return {"AP": AP}

    def test_steps_add_up(self):
        steps = stepped([("a", "one"), ("b", "two")], self.figures)
        assert [s.AP for s in steps] == [0.4, 0.7, 0.6]
        assert [s.gain for s in steps[1:]] == pytest.approx([0.3, -0.1])
        assert [s.gain_alone for s in steps[1:]] == pytest.approx([0.3, -0.1])
        assert steps[0].AP + sum(s.gain for s in steps[1:]) == pytest.approx(steps[-1].AP)
        assert len(subsets("ab")) == 4

    def test_is_told_drawn_and_kept(self, tmp_path):
        report = people_waterfall(toy.ToyPeople(), crowd(tmp_path, false=True), title="toy")
        facts = report.to_json()
        assert [step["name"] for step in facts["steps"]][1:] == [
            "placing",
            "heatmaps",
            "tags",
            "grouping",
            "scores",
        ]
        assert facts["steps"][0]["gain"] is None
        assert facts["steps"][1]["gain"] == pytest.approx(0)
        assert facts["steps"][2]["gain"] == pytest.approx(1 / 3)
        figure = report.plot()
        np.testing.assert_allclose(figure.data[0].y[:3], [2 / 3, 0, 1 / 3], rtol=1e-6, atol=1e-6)
        assert figure.layout.title.text
        assert "replaced_by" in report.table()[0]
        assert "toy: AP 0.667" in report.text()


@pytest.mark.parametrize(
    ("AP", "said"),
    [
        # Of a wrong stride: true heatmaps beside the network's tags, and tags that make up for them.
        (
            (0.0, 0.91, 0.02, 1.0),
            "the largest loss is in placing: with ground truth in its place AP rises by 0.910",
        ),
        ((0.0, 0.0, 0.0, 0.0), "ground truth in the place of one part after the other gives no AP back; "),
        (
            (0.5, 0.6, 0.5, 0.9),
            "the largest loss is in tags: with ground truth in its place AP rises by 0.300 to 0.9",
        ),
    ],
)
def test_a_part_is_given_what_it_adds_to_the_highest_ap_before_it(AP, said):
    parts = [(name, "") for name in ("placing", "heatmaps", "tags")]
    steps = stepped(parts, lambda replaced: {"AP": AP[len(replaced)] if "placing" in replaced else AP[0]})
    report = Waterfall("the model", "bottom-up", steps, {}, 1, 1, 1, "")
    assert f"AP {AP[0]:.3f}; {said}" in report.summary()
