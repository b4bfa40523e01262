"""A map of one keypoint that is another one's, or lies off, is named; healthy maps are not accused."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.evaluation.ablation.planted import planted
from tests.evaluation.ablation.test_faults import both, through, untaught
from workbench.evaluation.ablation import fault_sweep, sweep
from workbench.evaluation.ablation.fault_sweep import on_top
from workbench.evaluation.ablation.keypoint_maps import KeypointMaps, MapsPutBack
from workbench.evaluation.ablation.variants import reference

WRIST, HIP = 9, 12


@pytest.fixture(scope="module")
def ids(scenes):
    return [i for i in scenes.images if sum(one.image_id == i for one in scenes.instances) > 1][:5]


@pytest.fixture(scope="module")
def perfect(scenes, ids):
    return through(planted(scenes, ids, resolutions=1), untaught)


def exchanged(a, b):
    order = list(range(17))
    order[a], order[b] = b, a
    return lambda maps: maps[:, order]


def moved(k, x, y):
    """One map moved by a share of its width, so that maps of any size move as far."""

    def change(maps):
        maps = maps.clone()
        maps[:, k] = maps[:, k].roll((round(y * maps.shape[-1]), round(x * maps.shape[-1])), (-2, -1))
        return maps

    return change


def heatmaps(change):
    return lambda outputs: dataclasses.replace(outputs, heatmaps=change(outputs.heatmaps))


def tags(change):
    return lambda outputs: dataclasses.replace(outputs, tags=change(outputs.tags))


def suspected(model, scenes, ids, flip=False):
    report = fault_sweep(model, scenes, image_ids=ids, flip=flip, reference_flips=flip)
    return report, [suspect.fault for suspect in report.suspects]


@pytest.mark.parametrize("where", [heatmaps, both])
@pytest.mark.parametrize(("a", "b"), [(WRIST, HIP), (1, 2)])
def test_two_exchanged_keypoints_are_named_with_their_channels(perfect, scenes, ids, where, a, b):
    report, faults = suspected(through(perfect, where(exchanged(a, b))), scenes, ids)
    names = scenes.skeleton.keypoints
    assert faults == [
        f"heatmaps of 2 keypoints exchanged ({names[a]} in channel {b}, {names[b]} in channel {a})"
    ]
    assert report.reference.ap < 0.96 < 0.99 < report.suspects[0].after
    assert report.to_json()["findings"][0]["cause"] == faults[0]


@pytest.mark.parametrize("where", [heatmaps, both])
def test_one_shifted_channel_is_named_with_its_distance(perfect, scenes, ids, where):
    report, faults = suspected(through(perfect, where(moved(WRIST, 1 / 16, 0))), scenes, ids)
    width = report.suspects[0].fault.partition("(")[2].partition(",")[0]
    assert faults == [f"the heatmap of left_wrist lies off by ({width}, +0) input pixels (x, y)"]
    assert 10 <= float(width) <= 14  # inputs of 128 to 192 pixels
    assert report.suspects[0].after > 0.99


def test_two_independent_mistakes_are_both_named(perfect, scenes, ids):
    model = through(perfect, heatmaps(moved(WRIST, 1 / 16, 0)))
    rules = dataclasses.replace(model.grouping, tag_threshold=0.0)
    _, faults = suspected(dataclasses.replace(model, grouping=rules), scenes, ids)
    assert {fault.split(",")[0].split(" (")[0] for fault in faults} == {
        "tag_threshold 0.0", "the heatmap of left_wrist lies off by",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (both(exchanged(WRIST, HIP)), []),
        (heatmaps(exchanged(WRIST, HIP)), []),
        (tags(exchanged(WRIST, HIP)), ["tag"]),
    ],
)
def test_where_the_order_is_told_elsewhere_tag_maps_of_the_same_order_are_not(
    perfect, scenes, ids, change, told
):
    model = through(perfect, change)
    maps = KeypointMaps(model, scenes, orders=False)
    sweep(model, scenes, [reference(model)], image_ids=ids, flip=False, seen=maps.add)
    assert [one.undoes.split()[0] for one in maps.variants(reference(model))] == told
    assert maps.is_another() == bool(told)


def test_all_maps_off_by_one_amount_are_one_mistake(perfect, scenes, ids):
    def off(maps):
        return maps.roll((maps.shape[-1] // 16,) * 2, (-2, -1))

    report, faults = suspected(through(perfect, both(off)), scenes, ids)
    assert faults == ["cells placed off"]
    assert report.suspects[0].after > 0.95


def test_exchanged_tag_maps_are_named_or_left_open_by_name(perfect, scenes, ids):
    report, _ = suspected(through(perfect, tags(exchanged(WRIST, HIP))), scenes, ids)
    listed = "left_wrist in channel 12, right_hip in channel 9"
    assert f"tag maps of 2 keypoints exchanged ({listed})" in report.summary()
    (undone,) = [one for one in report.variants if one.undoes.startswith("tag maps")]
    assert undone.ap > 0.99 > report.reference.ap


def test_what_the_first_mistake_explains_is_not_suspected(perfect, scenes, ids):
    rules = dataclasses.replace(perfect.aggregation, mirror_swap="neither")
    report, faults = suspected(dataclasses.replace(perfect, aggregation=rules), scenes, ids, flip=True)
    assert faults == ["mirrored maps whose left and right are not exchanged back"]
    assert "tags of the wrong scale" in report.explained


def test_beside_exchanged_sides_the_flip_test_is_not_judged(perfect, scenes, ids):
    mirror = list(scenes.skeleton.mirror)
    model = through(perfect, both(lambda maps: maps[:, mirror]))
    report = fault_sweep(model, scenes, image_ids=ids, flip=True)
    assert [suspect.fault for suspect in report.suspects] == ["left and right exchanged"]


@pytest.mark.parametrize("flip", [False, True])
def test_healthy_maps_are_looked_at_once(perfect, scenes, ids, flip):
    report, faults = suspected(perfect, scenes, ids, flip)
    assert faults == []
    assert report.reference.ap > 0.95
    assert report.forward_passes == 2 * len(ids)  # as they are, and with red and blue exchanged


@pytest.mark.long
def test_maps_of_noise_are_not_accused(perfect, scenes, ids):
    generator = torch.Generator().manual_seed(0)

    def noise(maps):
        here = torch.rand(maps.shape, generator=generator) > 0.999
        return torch.rand(maps.shape, generator=generator) * here

    _, faults = suspected(through(perfect, heatmaps(noise)), scenes, ids)
    assert faults == []


def test_a_change_moves_every_pass_and_every_value_of_a_tag():
    from workbench.core import Outputs

    maps = torch.arange(2 * 3 * 4, dtype=torch.float32).reshape(1, 2, 3, 4)
    tags = torch.cat([maps, maps + 100], 1)
    given = Outputs(heatmaps=maps, tags=tags, passes={"mirrored": Outputs(heatmaps=maps, tags=tags)})

    def both_of(outputs):
        assert outputs.heatmaps is not None
        assert outputs.tags is not None
        return outputs.heatmaps, outputs.tags

    changed = MapsPutBack((1, 0), (1, 0), tag_maps=2)(given, 8)
    for one in (changed, changed.passes["mirrored"]):
        ours, values = both_of(one)
        assert torch.equal(ours, maps[:, [1, 0]])
        assert torch.equal(values, tags[:, [1, 0, 3, 2]])
    ours, values = both_of(MapsPutBack(moved=(1,), by=(2.0, 0.0), with_tags=True, tag_maps=2)(given, 8))
    assert torch.equal(ours[:, 1], torch.arange(12.0, 24).reshape(1, 3, 4).roll(1, -1))
    assert torch.equal(values[:, 3], tags[:, 3].roll(1, -1))
    assert torch.equal(values[:, 2], tags[:, 2])
    assert torch.equal(maps[:, 1], torch.arange(12.0, 24).reshape(1, 3, 4))


def test_two_changes_of_different_rules_are_made_together_and_of_one_rule_are_not(perfect):
    own = reference(perfect)
    first, second = own.but("a", "", nms_kernel=3), own.but("b", "", tag_threshold=2.0)
    made = on_top(own, first, second)
    assert made is not None
    assert (made.grouping.nms_kernel, made.grouping.tag_threshold, made.beside) == (3, 2.0, "a")
    assert on_top(own, first, own.but("c", "", nms_kernel=7)) is None
