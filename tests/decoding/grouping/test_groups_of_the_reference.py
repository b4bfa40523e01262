"""Group for group and cell for cell what the reference protocol and mmpose's codec find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.decoding.grouping import literal
from tests.decoding.grouping.crowds import crowd
from workbench.decoding.grouping import HIGHERHRNET, MMPOSE, MMPOSE_UDP, Detections, GroupingSettings, group
from workbench.decoding.grouping.assignment import assign_detections
from workbench.decoding.grouping.settings import REFERENCE_ORDER

SIZE = (20, 24)
# Ties are as the solver of the reference leaves them.
WITH_MUNKRES = replace(HIGHERHRNET, solver="munkres")


def order(K):
    return [joint for joint in literal.ORDER if joint < K]


def assert_equal_to_the_reference(seed, K, size):
    """One crowd of 0 to 30 people; returns how many."""
    people = int(np.random.default_rng(seed).integers(0, 31))
    heatmaps, tags = crowd(seed, people, K=K, size=size)
    expected, scores = literal.grouped(heatmaps, tags, order=order(K))
    ours = group(heatmaps, tags, WITH_MUNKRES)
    # The reference leaves (0, 0) where a keypoint is missing.
    np.testing.assert_array_equal(np.nan_to_num(ours.keypoints), expected[..., :3], err_msg=f"seed {seed}")
    np.testing.assert_array_equal(ours.scores, np.array(scores, np.float32))
    there = ~np.isnan(ours.tags)
    np.testing.assert_array_equal(ours.tags[there], expected[..., 3:][there])
    return people


@pytest.mark.parametrize("crowds", [250, pytest.param(1000, marks=pytest.mark.long)])
def test_crowds_of_up_to_thirty_are_grouped_as_the_reference_groups_them(crowds):
    # Small maps, which cost milliseconds; every twentieth is a whole skeleton with room for thirty apart.
    counts = set()
    for seed in range(crowds):
        K, size = (17, SIZE) if seed % 20 == 0 else (3 + seed % 3, (10, 12))
        counts.add(assert_equal_to_the_reference(seed, K, size))
    assert counts == set(range(31))


@pytest.mark.slow
def test_a_thousand_crowds_on_larger_maps_are_grouped_as_the_reference_groups_them():
    for seed in range(1000):
        assert_equal_to_the_reference(seed, (5, 9, 17)[seed % 3], (64, 80))


def test_random_sets_of_detections_are_dealt_out_as_by_the_reference():
    rng = np.random.default_rng(7)
    for case in range(250):
        K, L, people = (int(rng.integers(*bounds)) for bounds in ((2, 5), (1, 3), (0, 31)))
        counts = rng.binomial(people, 0.8, K)
        spread = rng.choice([0.3, 1.0, 3.0, 10.0])
        centres = rng.normal(0, spread, (people, L))
        where = rng.integers(0, 64, (K, 30, 2))
        values = np.sort(rng.uniform(0, 1, (K, 30)).astype(np.float32))[:, ::-1].copy()
        values[np.arange(30) >= counts[:, None]] = 0
        chosen = np.stack([rng.permutation(np.arange(30) % max(people, 1)) for _ in range(K)])
        read = (centres[chosen] if people else np.zeros((K, 30, L))) + rng.normal(0, 0.2, (K, 30, L))
        read = read.astype(np.float32)
        if case % 5 == 0:  # whole numbers: equal keys, equal costs
            read = np.round(read)
        settings = GroupingSettings(
            use_detection_value=case % 7 != 1,
            ignore_too_much=case % 11 == 2,
            max_people=5 if case % 3 == 0 else 30,
            tag_threshold=(1.0, 0.4)[case % 2],
            solver="munkres",
        )
        expected = literal.dealt(
            read,
            where,
            values,
            order(K),
            settings.detection_threshold,
            settings.tag_threshold,
            settings.use_detection_value,
            settings.max_people,
            settings.ignore_too_much,
        )
        above = values > settings.detection_threshold
        detections = [Detections(where[k][above[k]], values[k][above[k]]) for k in range(K)]
        people_found, _ = assign_detections(detections, [read[k][above[k]] for k in range(K)], settings)
        ours = np.zeros((len(people_found), K, 3 + L), np.float32)
        for p, person in enumerate(people_found):
            for joint, row in person.joints.items():
                ours[p, joint] = row
        np.testing.assert_array_equal(ours, expected, err_msg=f"case {case}")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (GroupingSettings(nms_kernel=1), {"kernel": 1}),
        (GroupingSettings(nms_kernel=9), {"kernel": 9}),
        (GroupingSettings(top_k=6), {"top_k": 6}),
        (GroupingSettings(detection_threshold=0.0), {"threshold": 0.0}),
        (GroupingSettings(detection_threshold=0.3), {"threshold": 0.3}),
        (GroupingSettings(joint_order=tuple(range(9))), {"order": list(range(9))}),
        (GroupingSettings(adjust=False), {"adjust": False}),
        (GroupingSettings(refine=False), {"refine": False}),
        (GroupingSettings(max_people=4), {"max_people": 4}),
        (GroupingSettings(max_people=4, ignore_too_much=True), {"max_people": 4, "ignore_too_much": True}),
    ],
)
def test_every_setting_of_the_reference_means_the_same_here(settings, words):
    for seed in range(3):
        heatmaps, tags = crowd(seed, people=9, K=9, size=SIZE)
        people, _ = literal.grouped(heatmaps, tags, **{"order": order(9), **words})
        ours = group(heatmaps, tags, replace(settings, solver="munkres"))
        np.testing.assert_array_equal(np.nan_to_num(ours.keypoints), people[..., :3])


def test_equal_peaks_come_in_the_order_in_which_the_reference_takes_them():
    # Perfect maps: every peak is exactly 1, so only the sorting of equal values says who is first.
    heatmaps, tags = np.zeros((5, *SIZE), np.float32), np.zeros((5, *SIZE, 1), np.float32)
    rng = np.random.default_rng(0)
    for k in range(5):
        for person, cell in enumerate(rng.choice(SIZE[0] * SIZE[1], 12, replace=False)):
            y, x = divmod(int(cell), SIZE[1])
            heatmaps[k, y, x], tags[k, y, x] = 1, person * 3
    people, _ = literal.grouped(heatmaps, tags, order=order(5))
    np.testing.assert_array_equal(
        np.nan_to_num(group(heatmaps, tags, WITH_MUNKRES).keypoints), people[..., :3]
    )


@pytest.fixture(scope="module")
def codec_of():
    from workbench.models import mmpose_compat

    mmpose_compat.install()
    from mmpose.codecs import AssociativeEmbedding

    def build(**options):
        size = SIZE[::-1]
        return AssociativeEmbedding(size, size, decode_keypoint_order=list(REFERENCE_ORDER), **options)

    return build


def decoded(codec, heatmaps, tags):
    channels = np.ascontiguousarray(tags.transpose(3, 0, 1, 2)).reshape(-1, *SIZE)
    # Copies: its UDP branch writes over the maps it is given.
    points, values, scores = codec.batch_decode(
        torch.from_numpy(heatmaps.copy())[None], torch.from_numpy(channels)[None]
    )
    return np.concatenate([points[0], values[0][..., None]], -1), scores[0]


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        (MMPOSE, {}),
        (GroupingSettings(**{**vars(MMPOSE), "centre_shift": 0.5}), {"decode_center_shift": 0.5}),
        (GroupingSettings(**{**vars(MMPOSE), "max_people": 6}), {"decode_max_instances": 6}),
        (MMPOSE_UDP, {"use_udp": True}),
    ],
    ids=["as it comes", "centre shift", "at most six", "udp"],
)
def test_with_its_rules_the_groups_are_those_of_mmposes_codec(codec_of, settings, options):
    for seed in range(6):
        heatmaps, tags = crowd(seed, size=SIZE, people=(1, 4, 8, 12, 16, 20)[seed])
        expected, scores = decoded(codec_of(**options), heatmaps, tags)
        ours = group(heatmaps, tags, replace(settings, solver="munkres"))
        np.testing.assert_allclose(ours.keypoints, expected, rtol=0, atol=2e-6 if options else 0)
        np.testing.assert_array_equal(ours.scores, scores)


def test_each_of_mmposes_rules_for_places_changes_something():
    heatmaps, tags = crowd(3, size=SIZE, people=12)
    reference = group(heatmaps, tags).keypoints
    names = ("quarter", "centre_shift", "fill_adjusted", "fill_positive")
    for name in names:
        settings = GroupingSettings(**{**vars(HIGHERHRNET), name: getattr(MMPOSE, name)})
        if name == "fill_positive":
            heatmaps = np.where(heatmaps > 0.2, heatmaps, np.float32(-0.1))
            reference = group(heatmaps, tags).keypoints
        assert not np.array_equal(group(heatmaps, tags, settings).keypoints, reference, equal_nan=True), name


def test_scipy_finds_another_assignment_only_where_several_cost_the_same():
    from workbench.decoding.grouping.assignment import assign, with_no_person

    rng = np.random.default_rng(1)
    differing = 0
    for _ in range(200):
        M, G = rng.integers(2, 20, 2)
        values = rng.uniform(0.1, 1, (M, 1))
        costs = with_no_person(np.round(rng.uniform(0, 3, (M, G))) * 100 - values)
        ours, scipys = assign(costs, G, "munkres"), assign(costs, G, "scipy")
        rows = np.arange(M)
        assert costs[rows, ours].sum() == pytest.approx(costs[rows, scipys].sum(), abs=1e-4)
        differing += bool((np.minimum(ours, G) != np.minimum(scipys, G)).any())
    assert differing > 20, "rounded distances make ties common: the solver is part of the protocol"


def test_the_default_solver_is_scipys_and_its_ties_are_as_documented():
    from workbench.decoding.grouping.assignment import assign, solver_text

    assert HIGHERHRNET.solver == "scipy"
    assert solver_text("scipy").startswith("scipy 1.")
    assert solver_text("munkres").startswith("munkres ")
    for count in (2, 5, 30):
        assert assign(np.full((count, count), 7.0), count).tolist() == list(range(count))


@pytest.mark.parametrize("size", [3e19, 1e20, 1e36])
def test_finite_tags_of_any_size_are_grouped_as_the_reference_groups_them(size):
    rng = np.random.default_rng(0)
    for spread in (0.1, 1e-12):
        heatmaps = np.zeros((17, 32, 32), np.float32)
        heatmaps[:16, 10, 10] = 0.9  # the last keypoint is missing
        tags = (size * rng.uniform(1 - spread, 1, (17, 32, 32, 1))).astype(np.float32)
        with np.errstate(over="ignore"):
            expected, _ = literal.grouped(heatmaps, tags)
        for solver in ("munkres", "scipy"):
            ours = group(heatmaps, tags, replace(HIGHERHRNET, solver=solver))
            np.testing.assert_array_equal(np.nan_to_num(ours.keypoints), expected[..., :3])


def test_tags_whose_sum_is_beyond_float32_are_grouped_where_the_reference_has_no_answer():
    heatmaps = np.zeros((17, 32, 32), np.float32)
    heatmaps[:16, 10, 10] = 0.9
    tags = np.full((17, 32, 32, 1), 3e38, np.float32)
    for solver in ("munkres", "scipy"):
        found = group(heatmaps, tags, replace(HIGHERHRNET, solver=solver))
        assert found.keypoints[..., 2].max() == np.float32(0.9)
