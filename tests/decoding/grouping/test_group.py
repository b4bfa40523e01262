"""Small maps whose people are known by hand, and input that must be refused or explained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.decoding.grouping.crowds import crowd
from workbench.core import NotAvailable
from workbench.decoding.grouping import HIGHERHRNET, MMPOSE, RULES, GroupingSettings, detect, group


def maps(*peaks, K=2, size=(12, 12), L=1, background=0.0):
    """Zero heatmaps but for peaks (joint, x, y, value, tag); each tag reaches one cell around its peak."""
    heatmaps = np.zeros((K, *size), np.float32)
    tags = np.full((K, *size, L), background, np.float32)
    for joint, x, y, value, tag in peaks:
        heatmaps[joint, y, x] = value
        tags[joint, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = tag
    return heatmaps, tags


TWO_PEOPLE = ((0, 2, 2, 0.9, 0.0), (1, 2, 6, 0.8, 0.1), (0, 8, 2, 0.7, 5.0), (1, 8, 6, 0.6, 5.2))


def test_two_people_are_told_apart_by_their_tags():
    found = group(*maps(*TWO_PEOPLE))
    assert len(found) == 2
    # No neighbour is higher: a quarter cell towards the top left, then half a cell to the cell's centre.
    np.testing.assert_allclose(found.keypoints[0], [[2.25, 2.25, 0.9], [2.25, 6.25, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(found.keypoints[1], [[8.25, 2.25, 0.7], [8.25, 6.25, 0.6]], rtol=1e-6)
    np.testing.assert_allclose(found.scores, [0.85, 0.65], rtol=1e-6)
    np.testing.assert_allclose(found.tags[:, :, 0], [[0, 0.1], [5, 5.2]], rtol=1e-6)
    assert not found.filled.any()
    assert found.note == ""


def test_a_keypoint_moves_a_quarter_cell_towards_the_higher_neighbour():
    heatmaps, tags = maps((0, 5, 5, 0.9, 0.0), K=1)
    heatmaps[0, 5, 6], heatmaps[0, 4, 5] = 0.5, 0.4
    found = group(heatmaps, tags)
    np.testing.assert_allclose(found.keypoints[0, 0, :2], [5.75, 5.25])
    plain = group(heatmaps, tags, replace(HIGHERHRNET, adjust=False))
    np.testing.assert_array_equal(plain.keypoints[0, 0, :2], [5, 5])


def test_a_missing_keypoint_is_filled_after_the_score_is_taken():
    heatmaps, tags = maps((0, 3, 3, 0.8, 0.0), (1, 3, 8, 0.06, 0.2), (1, 9, 9, 0.09, 4.0))
    found = group(heatmaps, tags)
    assert found.filled.tolist() == [[False, True]]
    # The higher cell carries somebody else's tag.
    np.testing.assert_allclose(found.keypoints[0, 1], [3.25, 8.25, 0.06], rtol=1e-6)
    np.testing.assert_allclose(found.scores, [0.4], rtol=1e-6)
    assert np.isnan(found.tags[0, 1]).all(), "a filled keypoint had no detection, so no tag was read"


def test_without_refine_a_missing_keypoint_is_nan_and_counts_as_zero():
    heatmaps, tags = maps((0, 3, 3, 0.8, 0.0), (1, 3, 8, 0.06, 0.2))
    found = group(heatmaps, tags, replace(HIGHERHRNET, refine=False))
    assert np.isnan(found.keypoints[0, 1, :2]).all()
    assert found.keypoints[0, 1, 2] == 0
    np.testing.assert_allclose(found.scores, [0.4], rtol=1e-6)


def test_mmposes_hundredfold_distance_prefers_a_near_tag_to_a_high_cell():
    # Value - round(distance): 2.5 - 2 beats .1 - 0; with a hundredfold distance it does not.
    heatmaps, tags = maps((0, 3, 3, 0.8, 0.0), (1, 3, 8, 0.09, 0.0), background=2.0)
    heatmaps[1, 9, 9] = 2.5
    settings = replace(HIGHERHRNET, joint_order=(0, 1), detection_threshold=0.5, tag_threshold=0.5)
    filled = {}
    for weight in (1.0, 100.0):
        found = group(heatmaps, tags, replace(settings, fill_weight=weight))
        filled[weight] = found.keypoints[0, 1, :2].tolist()
    assert filled == {1.0: [9.25, 9.25], 100.0: [3.25, 8.25]}


def test_a_settings_threshold_decides_who_joins():
    heatmaps, tags = maps((0, 2, 2, 0.9, 0.0), (1, 2, 6, 0.8, 0.7))
    assert len(group(heatmaps, tags)) == 1
    assert len(group(heatmaps, tags, replace(HIGHERHRNET, tag_threshold=0.5))) == 2


def test_one_tag_map_serves_all_keypoints_where_that_is_declared():
    heatmaps, tags = maps(*TWO_PEOPLE)
    one = np.zeros((1, 12, 12, 1), np.float32)
    one[0, :, 6:] = 5
    shared = group(heatmaps, one, replace(HIGHERHRNET, tag_layout="shared"))
    chosen = group(heatmaps, np.concatenate([tags, one]), replace(HIGHERHRNET, tag_layout=(2, 2)))
    np.testing.assert_array_equal(shared.keypoints, group(heatmaps, tags).keypoints)
    np.testing.assert_array_equal(shared.keypoints, chosen.keypoints)


def test_tensors_and_tags_without_values_axis_are_read_as_arrays_are():
    heatmaps, tags = maps(*TWO_PEOPLE)
    ours = group(torch.from_numpy(heatmaps), torch.from_numpy(tags[..., 0]))
    np.testing.assert_array_equal(ours.keypoints, group(heatmaps, tags).keypoints)


def test_grouping_leaves_its_maps_alone_and_is_repeatable():
    heatmaps, tags = crowd(5, people=8, size=(20, 24))
    before = heatmaps.copy(), tags.copy()
    for settings in RULES.values():
        first, second = group(heatmaps, tags, settings), group(heatmaps, tags, settings)
        np.testing.assert_array_equal(first.keypoints, second.keypoints)
    np.testing.assert_array_equal(heatmaps, before[0])
    np.testing.assert_array_equal(tags, before[1])


def test_shared_detections_give_the_same_groups():
    heatmaps, tags = crowd(6, people=8, size=(20, 24))
    found = detect(heatmaps, HIGHERHRNET)
    shared = group(heatmaps, tags, detections=found)
    np.testing.assert_array_equal(shared.keypoints, group(heatmaps, tags).keypoints)


def test_the_trace_tells_why_each_detection_joined_whom():
    steps = group(*maps(*TWO_PEOPLE), trace=True).steps
    assert [step.joint for step in steps] == [0, 1]
    first, second = steps
    assert first.outcomes == ("new", "new")
    assert first.people == (0, 1)
    assert first.costs.shape == (2, 0)
    assert second.points.tolist() == [[2, 6], [8, 6]]
    np.testing.assert_allclose(second.means, [[0], [5]])
    np.testing.assert_allclose(second.distances, [[0.1, 4.9], [5.2, 0.2]], atol=1e-6)
    np.testing.assert_allclose(second.costs, [[-0.8, 499.2], [499.4, -0.6]], atol=1e-4)
    assert second.columns.tolist() == [0, 1]
    assert second.outcomes == ("joined", "joined")
    assert group(*maps(*TWO_PEOPLE)).steps == ()


def test_a_detection_that_no_person_is_near_begins_a_new_one():
    heatmaps, tags = maps(*TWO_PEOPLE, (1, 5, 10, 0.5, 9.0))
    found = group(heatmaps, tags, trace=True)
    step = found.steps[1]
    assert step.outcomes == ("joined", "joined", "new")
    assert step.costs[2, 2] == 1e10
    assert len(found) == 3


def test_no_detection_is_an_empty_result_that_says_why():
    found = group(*maps((1, 3, 3, 0.07, 0.0)))
    assert len(found) == 0
    assert found.keypoints.shape == (0, 2, 3)
    assert "threshold 0.1" in found.note
    assert "0.07, of keypoint 1" in found.note


def test_equal_tags_everywhere_make_one_person_and_say_so():
    heatmaps, tags = maps(*[(joint, x, y, value, 0.0) for joint, x, y, value, _ in TWO_PEOPLE])
    found = group(heatmaps, tags, trace=True)
    assert len(found) == 1
    assert "the same tag" in found.note
    assert "detections replaced others" in found.note
    assert found.steps[0].outcomes == ("new", "overwrote")


def test_two_hundred_people_are_found_when_the_limits_allow_them_and_missed_aloud_when_not():
    K, side = 3, 120
    heatmaps, tags = np.zeros((K, side, side), np.float32), np.zeros((K, side, side, 1), np.float32)
    for person in range(200):
        x, y = 8 * (person % 14) + 4, 8 * (person // 14) + 4
        for k in range(K):
            heatmaps[k, y, x + k] = 0.5 + person / 1000
            tags[k, y - 1 : y + 2, x + k - 1 : x + k + 2] = 2 * person
    everybody = group(heatmaps, tags, replace(HIGHERHRNET, top_k=250, max_people=250))
    assert len(everybody) == 200
    assert everybody.note == ""
    some = group(heatmaps, tags)
    assert len(some) == 30
    assert "limit of 30" in some.note


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", ["heatmap", "tag map"])
def test_a_map_that_is_not_finite_is_named_and_the_rest_is_grouped(number, which):
    heatmaps, tags = maps(*TWO_PEOPLE)
    (heatmaps if which == "heatmap" else tags)[1, 4, 4] = number
    before = heatmaps.copy(), tags.copy()
    for settings in RULES.values():
        found = group(heatmaps, tags, settings)
        assert found.note.startswith(
            f"{which} 1 holds a number that is not finite: 1 of 2 keypoints left out"
        )
        named = group(heatmaps, tags, settings, names=("nose", "left_eye")).note
        assert "1 of 2 keypoints left out (left_eye), the rest is grouped" in named
        assert len(found) == 2
        # What the map held is neither detected nor filled in.
        assert np.isnan(found.keypoints[:, 1, :2]).all()
        assert not found.filled[:, 1].any()
        alone = group(heatmaps[:1], tags[:1], settings)
        np.testing.assert_array_equal(found.keypoints[:, 0], alone.keypoints[:, 0])
        shared = group(heatmaps, tags, settings, detections=detect(heatmaps, settings))
        np.testing.assert_array_equal(shared.keypoints, found.keypoints)
    np.testing.assert_array_equal(heatmaps, before[0])
    np.testing.assert_array_equal(tags, before[1])


@pytest.mark.parametrize("which", [0, 1])
def test_without_any_finite_map_nobody_can_be_found(which):
    given = maps(*TWO_PEOPLE)
    given[which][:] = np.nan
    with pytest.raises(
        ValueError, match="0, 1 hold a number that is not finite: no keypoint has finite maps"
    ):
        group(*given)
    # One map for all keypoints: without it there is none.
    one = np.full((1, 12, 12, 1), np.inf, np.float32)
    with pytest.raises(ValueError, match="no keypoint has finite maps"):
        group(maps()[0], one, replace(HIGHERHRNET, tag_layout="shared"))


def test_heatmaps_without_tags_cannot_be_grouped():
    with pytest.raises(NotAvailable, match="no tag maps"):
        group(maps()[0], None)


@pytest.mark.parametrize(
    ("change", "tag_maps", "words"),
    [
        ({}, 1, "declare the layout as shared"),
        ({}, 3, "expected 2 tag maps"),
        ({"tag_layout": "shared"}, 2, "expected one tag map"),
        ({"tag_layout": (0, 2)}, 2, "from 0 to 1"),
        ({"tag_layout": (0,)}, 2, "expected 2 indices"),
        ({"joint_order": (1, 2)}, 2, "counts from 1"),
    ],
)
def test_a_layout_or_order_that_does_not_fit_is_refused(change, tag_maps, words):
    heatmaps = maps()[0]
    with pytest.raises(ValueError, match=words):
        group(heatmaps, np.zeros((tag_maps, 12, 12, 1), np.float32), replace(HIGHERHRNET, **change))


def test_maps_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ValueError, match="6 x 6"):
        group(maps()[0], np.zeros((2, 6, 6, 1), np.float32))
    with pytest.raises(ValueError, match="keypoints x height x width"):
        group(np.zeros((12, 12), np.float32), maps()[1])
    with pytest.raises(ValueError, match="maps x height x width x values"):
        group(maps()[0], np.zeros((2, 2), np.float32))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nms_kernel": 4}, "odd number"),
        ({"top_k": 0}, "at least 1"),
        ({"max_people": 0}, "at least 1"),
        ({"detection_threshold": -0.1}, "zero or more"),
        ({"tag_threshold": float("nan")}, "zero or more"),
        ({"fill_weight": -1.0}, "zero or more"),
        ({"quarter": "half"}, "larger or sign or udp"),
        ({"people_limit": "none"}, "joining or result"),
        ({"solver": "greedy"}, "scipy or munkres"),
        ({"tag_layout": "one"}, "per_joint or shared"),
    ],
)
def test_settings_that_mean_nothing_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        GroupingSettings(**change)


def test_without_an_order_the_reference_order_is_taken_as_far_as_it_goes():
    assert HIGHERHRNET.order(17) == (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)
    assert HIGHERHRNET.order(3) == (0, 1, 2)
    assert HIGHERHRNET.order(19)[-2:] == (17, 18)


def test_at_most_so_many_people_can_be_joined_or_given():
    peaks = [(k, 3 * p + 1, 4 * k + 2, 0.9 - p / 10, 3.0 * p) for p in range(4) for k in range(2)]
    heatmaps, tags = maps(*peaks)
    joinable = group(heatmaps, tags, replace(HIGHERHRNET, max_people=2))
    given = group(heatmaps, tags, replace(MMPOSE, max_people=2))
    full = group(heatmaps, tags, replace(HIGHERHRNET, max_people=4, ignore_too_much=True), trace=True)
    assert len(joinable) == 4, "the reference goes on finding people; it only stops adding to them"
    assert joinable.filled[2:, 1].sum() + (joinable.keypoints[2:, 1, 2] > 0).sum() > 0
    assert len(given) == 2
    assert full.steps[1].outcomes == ("dropped",) * 4
    assert "were dropped" in full.note


@pytest.mark.parametrize("rounded", [False, True])
def test_without_suppression_the_highest_cells_of_the_whole_map_are_found(rounded):
    """Also where most cells are above the threshold, and where many of them are equal."""
    maps = np.random.default_rng(0).normal(0, 0.3, (4, 70, 40)).astype(np.float32)
    maps = np.round(maps, 1) if rounded else maps
    for threshold in (0.0, 0.5):
        settings = replace(HIGHERHRNET, nms_kernel=1, detection_threshold=threshold)
        for heatmap, found in zip(maps, detect(maps, settings), strict=True):
            wanted = torch.from_numpy(heatmap.ravel()).topk(30)
            above = wanted.values.numpy() > threshold
            assert found.values.tolist() == wanted.values.numpy()[above].tolist()
            x, y = found.points.T
            assert heatmap[y, x].tolist() == found.values.tolist()
            if rounded:
                assert (y * 40 + x).tolist() == wanted.indices.numpy()[above].tolist()
