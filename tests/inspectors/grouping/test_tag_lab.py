"""The tag lab on a picture of two people whose tags are 2 and 8, by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests import toy
from workbench.core import NotAvailable
from workbench.core.run import run
from workbench.inspectors import get
from workbench.inspectors.grouping.replay import layouts_of


@pytest.fixture(scope="module")
def looked():
    return toy.a_run("people")


def report(name, looked, **knobs):
    inspector = get(name)
    return inspector.compute(looked, inspector.params(**knobs))


def with_tags(**weights):
    """The toy with other tag maps: rows of the channels' weights."""
    import copy

    import torch

    model = toy.ToyPeople()
    module = copy.deepcopy(model.module)
    with torch.no_grad():
        for row, values in weights.items():
            module[0].weight[int(row[3:])] = torch.tensor(values)[:, None, None]
    other = dataclasses.replace(model, module=module)
    return run(other, toy.samples(other, 1))


class TestTagValues:
    def test_reads_the_maps_where_keypoints_are_annotated(self, looked):
        tag_values = report("tag_values", looked)
        np.testing.assert_allclose(tag_values.values, [[2, 2], [8, 8]])
        np.testing.assert_allclose(tag_values.between, [[np.nan, 6], [6, np.nan]])
        assert tag_values.summary().startswith("Tags separate all 2 people at tag threshold 1")

    def test_a_sample_comes_first_among_the_people_of_its_image(self, looked):
        second = looked.samples[1].key
        np.testing.assert_allclose(report("tag_values", looked, instance=second).means, [8, 2])

    def test_people_nearer_than_the_threshold_are_confused(self, looked):
        tag_values = report("tag_values", dataclasses.replace(looked), threshold=5)
        assert not tag_values.confused()
        near = report("tag_values", with_tags(row2=[0.0, 0, 1], row3=[0.0, 0, 1]), threshold=1.0)
        assert near.confused() == [("person 1", "person 2", pytest.approx(0.6))]
        assert "person 1 and person 2, whose mean tags differ by 0.60" in near.summary()

    def test_a_keypoint_far_from_its_own_mean_is_a_stray_and_one_near_another_is_crossed(self):
        # Keypoint 1's map falls where the other rises: means are 5.5 and 7.
        tag_values = report("tag_values", with_tags(row3=[0.0, 10, -5]), threshold=2.0)
        np.testing.assert_allclose(tag_values.values, [[2, 9], [8, 6]])
        assert tag_values.strays.tolist() == [[True, True], [False, False]]
        assert tag_values.crossed.tolist() == [[False, True], [False, True]]
        assert tag_values.confused()[0][2] == pytest.approx(1.5)


class TestTagSpace:
    def test_equal_maps_correlate_fully_and_have_one_component(self, looked):
        tag_space = report("tag_space", looked)
        np.testing.assert_allclose(tag_space.correlation, 1)
        np.testing.assert_allclose(tag_space.explained, [1, 0], atol=1e-12)
        np.testing.assert_allclose(tag_space.misread, 0)
        bars = [trace.colorbar for trace in tag_space.plot().data if trace.type == "heatmap"]
        assert all(bar.y > 1.02 and bar.yanchor == "bottom" for bar in bars)  # numbers below them have room

    def test_a_keypoint_read_in_a_foreign_map_is_as_far_off_as_the_maps_differ(self):
        tag_space = report("tag_space", with_tags(row3=[0.0, 0, 13]))
        # Own maps: 2 and 2.6 (mean 2.3), 8 and 10.4 (mean 9.2); keypoint 0 read in map 1 gives 2.6 and 10.4.
        np.testing.assert_allclose(tag_space.misread[0, 1], np.sqrt((0.3**2 + 1.2**2) / 2), rtol=1e-5)
        np.testing.assert_allclose(tag_space.misread[1, 0], np.sqrt((0.3**2 + 1.2**2) / 2), rtol=1e-5)

    def test_one_map_for_all_keypoints_has_nothing_to_compare(self):
        model = toy.ToyPeople()
        shared = dataclasses.replace(
            model, tags=1, grouping=dataclasses.replace(model.grouping, tag_layout="shared")
        )
        seen = toy.a_run("people")
        outputs = dataclasses.replace(seen.outputs, tags=seen.outputs.tags[:, :1])
        with pytest.raises(NotAvailable, match="1 tag map for 2 keypoints"):
            report("tag_space", dataclasses.replace(seen, model=shared, outputs=outputs))

    def test_cells_without_any_likely_keypoint_are_one_sentence(self, looked):
        with pytest.raises(ValueError, match="no heatmap exceeds 1"):
            report("tag_space", looked, cells="likely keypoints", least=1.0)


class TestReplay:
    def test_two_people_are_made_step_by_step(self, looked):
        first = report("grouping_steps", looked, step="left_nose")
        assert (first.shown, first.present) == (1, 2)
        assert [d["outcome"] for d in first.now] == ["new", "new"]
        found = np.sort(first.keypoints[:, 0], axis=0)
        np.testing.assert_allclose(found, np.array([p[0] for p in toy.PLACES]) + 0.5)
        assert np.isnan(first.keypoints[:, 1]).all()
        last = report("grouping_steps", looked)
        assert "2 people found, 2 annotated" in last.summary()

    def test_a_tag_threshold_of_nothing_makes_everybody_alone(self, looked):
        assert report("grouping_steps", looked, tag_threshold=0.0).present == 2
        alone = report("grouping_steps", with_tags(row3=[0.0, 0, 13]), tag_threshold=0.0, refine=False)
        assert alone.present == 4

    def test_no_detection_says_why_and_still_draws(self, looked):
        none = report("grouping_steps", looked, detection_threshold=1.0)
        assert "Nobody found: no heatmap exceeds" in none.summary()
        assert none.summary().endswith(f", of {looked.model.skeleton.keypoints[0]}")
        assert none.plot().layout.images
        assert none.table()[0]["keypoint"] is None

    def test_the_costs_are_those_of_the_protocol(self, looked):
        replayed = report("grouping_costs", looked, step="right_tail")
        a, b = np.argsort(replayed.tags)
        np.testing.assert_allclose(replayed.distances[a][np.argsort(replayed.means)], [0, 6])
        # round(distance) * 100 - value
        np.testing.assert_allclose(np.sort(replayed.costs[b]), [-1, 599])
        assert replayed.outcomes == ("joined", "joined")
        # The frame of an assigned pair is as large as its cell and covers no number.
        frames = next(trace for trace in replayed.plot().data if trace.name == "joined")
        assert np.nanmin(np.abs(np.asarray(frames.x) - np.round(frames.x))) == pytest.approx(0.47)

    def test_any_map_can_be_read_for_all_keypoints(self, looked):
        assert layouts_of(looked) == [
            "as declared",
            "map 0 (left_nose) for all",
            "map 1 (right_tail) for all",
        ]
        shifted = with_tags(row3=[0.0, 0, 13])
        own, all_in_0 = (
            report("grouping_costs", shifted, step="right_tail", layout=layout).distances.min()
            for layout in layouts_of(shifted)[:2]
        )
        assert own == pytest.approx(0.6)
        assert all_in_0 == pytest.approx(0)

    def test_an_even_kernel_is_one_sentence(self, looked):
        with pytest.raises(ValueError, match="odd number of cells"):
            report("grouping_steps", looked, nms_kernel=4)

    def test_a_network_of_one_resolution_has_no_coarse_heatmaps(self, looked):
        with pytest.raises(NotAvailable, match="one resolution"):
            report("grouping_steps", looked, resolutions="coarse")


def test_ap_by_kept_maps_is_that_of_maps_made_anew_and_memory_is_bounded(monkeypatch):
    from tests.evaluation.ablation.planted import planted
    from workbench.data import builtin
    from workbench.evaluation.predict import forward_passes
    from workbench.inspectors.grouping.replay import MapCache, Params, evaluate_settings
    from workbench.models.bottom_up import BottomUp

    scenes = builtin("scenes-people-val")
    ids = list(scenes.labelled_of_image)[:3]
    model = planted(scenes, ids)
    passes = list(forward_passes(model, scenes, ids, flip=True))
    size = model.maps(passes[0].outputs, passes[0].batch, 0).heatmaps.nbytes * 2
    made = []
    plain = BottomUp.maps
    monkeypatch.setattr(BottomUp, "maps", lambda self, *a: made.append(0) or plain(self, *a))
    maps = MapCache(2 * size)
    first, again, other, nms1 = (
        evaluate_settings(model, passes, scenes, Params(**knobs), maps=maps, whose=("epoch", "set"))
        for knobs in ({}, {"tag_threshold": 0.5}, {"resolutions": "fine"}, {"nms_kernel": 1})
    )
    # Three, then the one without room; another resolution drops what is kept, and so does going back.
    assert len(made) == 3 + 1 + 3 + 3
    assert first.figures["AP"] == pytest.approx(1)
    alone = evaluate_settings(model, passes, scenes, Params(nms_kernel=1))
    np.testing.assert_equal(nms1.figures, alone.figures)
    assert (again.images, other.images) == (3, 3)
