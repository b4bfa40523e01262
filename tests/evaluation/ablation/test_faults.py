"""A mistake planted in a pipeline is named by what undoing it gives back; a healthy one is not accused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.evaluation.ablation.planted import planted
from workbench.core import Outputs
from workbench.core.statistics import standard_error
from workbench.decoding.grouping import RULES
from workbench.evaluation.ablation import fault_variants, sweep
from workbench.evaluation.ablation.sweep import Ablation, Outcome
from workbench.models.bottom_up import BottomUp


@pytest.fixture(scope="module")
def three(scenes):
    return [i for i in scenes.images if sum(one.image_id == i for one in scenes.instances) > 1][:3]


@pytest.fixture(scope="module")
def ids(three):
    return three[:2]


@pytest.fixture(scope="module")
def perfect(scenes, three):
    """Tags mean something near their own keypoint alone, as a trained network's do."""
    return through(planted(scenes, three, resolutions=1), untaught)


def through(model: BottomUp, change, **rules) -> BottomUp:
    """The network's maps changed on their way; blank ones for pictures that it never saw."""

    def call(pixels):
        try:
            return change(model.call(pixels))
        except KeyError:
            K, (H, W) = len(model.skeleton), pixels.shape[-2:]
            blank = torch.zeros(1, K, H // 2, W // 2)
            return Outputs(heatmaps=blank, tags=torch.zeros(1, K, H // 4, W // 4))

    return dataclasses.replace(model, call=call, **rules)


def untaught(outputs: Outputs) -> Outputs:
    near = torch.nn.functional.max_pool2d(outputs.heatmaps, 2) > 0.02
    random = torch.from_numpy(np.random.default_rng(0).normal(0, 8, outputs.tags.shape).astype(np.float32))
    return dataclasses.replace(outputs, tags=torch.where(near, outputs.tags, random))


def both(change):
    """The same change of heatmaps and tags."""
    return lambda outputs: dataclasses.replace(
        outputs, heatmaps=change(outputs.heatmaps), tags=change(outputs.tags)
    )


def found(model, scenes, ids, flip=False):
    report = sweep(
        model, scenes, lambda outputs: fault_variants(model, outputs, flip), image_ids=ids, flip=flip
    )
    return report, [suspect.fault for suspect in report.suspects]


@pytest.mark.parametrize("flip", [False, True])
def test_a_healthy_pipeline_is_accused_of_nothing(perfect, scenes, ids, flip):
    report, suspects = found(perfect, scenes, ids, flip)
    assert report.reference.ap > 0.95
    assert suspects == []
    assert "mistakes that were tried is found" in report.summary()
    # The picture with exchanged channels is looked at anew, with its mirrored pass.
    assert report.forward_passes == 2 * len(ids)
    assert report.network_calls == report.forward_passes * (1 + flip)


@pytest.mark.parametrize("swap", ["heatmaps", "tags"])
def test_mirrored_maps_that_are_not_exchanged_back_are_named(perfect, scenes, ids, swap):
    rules = dataclasses.replace(perfect.aggregation, mirror_swap=swap)
    report, suspects = found(dataclasses.replace(perfect, aggregation=rules), scenes, ids, flip=True)
    assert suspects[0] == "mirrored maps whose left and right are not exchanged back"
    assert report.suspects[0].undone_by == "mirrored maps exchanged"
    finding = report.to_json()["findings"][0]
    assert finding["cause"] == suspects[0]
    assert finding["effect"]["delta"] == report.suspects[0].gain
    assert report.suspects[0].after > 0.95


@pytest.mark.parametrize("part", ["tags", "heatmaps"])
def test_a_network_that_exchanges_its_mirrored_maps_itself_is_named(perfect, scenes, ids, part):
    mirror = list(perfect.skeleton.mirror)
    plain = {_key(p) for p in _pixels(perfect, scenes, ids)}

    def call(pixels):
        outputs = perfect.call(pixels)
        if _key(pixels) in plain:
            return outputs
        return dataclasses.replace(outputs, **{part: getattr(outputs, part)[:, mirror]})

    report, suspects = found(dataclasses.replace(perfect, call=call), scenes, ids, flip=True)
    assert suspects[0] == f"mirrored {part} whose left and right are exchanged wrongly"
    assert report.suspects[0].after > 0.95


def test_a_wrong_flip_test_is_no_fault_of_figures_without_it(perfect, scenes, ids):
    rules = dataclasses.replace(perfect.aggregation, mirror_swap="tags")
    model = dataclasses.replace(perfect, aggregation=rules)
    report = sweep(model, scenes, lambda outputs: fault_variants(model, outputs), image_ids=ids, flip=True)
    assert report.reference.ap > 0.95
    (suspect,) = report.suspects
    assert suspect.is_aside
    assert suspect.finding().effect.measure == "AP with flip test"
    said = report.summary()
    assert (
        "none of the mistakes that were tried costs it AP; in the flip test, which these rules do not" in said
    )


def _pixels(model, scenes, ids):
    from workbench.core import Sample
    from workbench.data.boxes import whole_image

    images = [scenes.image(i) for i in ids]
    return [model.prepare([Sample(image, whole_image(image))]).pixels for image in images]


def _key(pixels):
    return pixels[0, :, ::7, ::5].contiguous().numpy().tobytes()


@pytest.mark.parametrize("factor", [0.1, 40.0])
def test_tags_of_another_scale_are_named(perfect, scenes, three, factor):
    model = through(perfect, lambda outputs: dataclasses.replace(outputs, tags=outputs.tags * factor))
    report, suspects = found(model, scenes, three)
    assert suspects[0] == "tags of the wrong scale"
    assert (float(report.suspects[0].undone_by.removeprefix("tags x ")) > 1) == (factor < 1)


def test_scores_taken_after_refine_are_named(perfect, scenes, ids):
    def strays(outputs):
        heatmaps, tags = outputs.heatmaps.clone(), outputs.tags.clone()
        for n in range(4):  # one peak each: a person of one keypoint, until refine gives it the others'
            heatmaps[0, 0, 3:6, 7 + 12 * n : 10 + 12 * n] = 1.1
            heatmaps[0, 0, 4, 8 + 12 * n] = 1.2
            tags[0, 0, 0:5, 2 + 6 * n : 7 + 6 * n] = 60 + 20 * n
        return dataclasses.replace(outputs, heatmaps=heatmaps, tags=tags)

    healthy = through(perfect, strays)
    assert found(healthy, scenes, ids)[1] == []
    rules = dataclasses.replace(healthy.grouping, person_score="filled", fill_weight=0.0)
    report, suspects = found(dataclasses.replace(healthy, grouping=rules), scenes, ids)
    assert suspects == ["person scores taken after refine"]
    assert "with score before refine AP" in report.summary()


@pytest.mark.parametrize(
    ("rule", "value", "published"), [("detection_threshold", 1.5, 0.1), ("nms_kernel", 1, 5)]
)
def test_a_rule_that_no_published_protocol_has_is_named_with_the_published_value(
    perfect, scenes, three, rule, value, published
):
    rules = dataclasses.replace(perfect.grouping, **{rule: value})
    report, suspects = found(dataclasses.replace(perfect, grouping=rules), scenes, three)
    assert suspects == [f"{rule} {value}, where published protocols have {published}"]
    assert report.suspects[0].undone_by == f"{rule} {published}"
    assert report.suspects[0].after > 0.95
    assert f"{published}: with {rule} {published} AP" in report.summary()


@pytest.mark.parametrize("name", ["mmpose", "mmpose-udp"])
def test_rules_of_another_published_protocol_are_no_mistake(perfect, name):
    model = dataclasses.replace(perfect, grouping=RULES[name])
    undone = {variant.undoes for variant in fault_variants(model, Outputs())}
    assert not any("where published protocols have" in fault for fault in undone)


def test_a_rule_of_one_s_own_that_costs_nothing_is_not_accused(perfect, scenes, ids):
    rules = dataclasses.replace(perfect.grouping, detection_threshold=0.15, nms_kernel=7)
    report, suspects = found(dataclasses.replace(perfect, grouping=rules), scenes, ids)
    assert report.reference.ap > 0.95
    assert suspects == []


def test_maps_a_cell_off_are_named(perfect, scenes, ids):
    def shifted(maps):
        # A cell of the heatmaps; tags are of half as many cells and told apart all the same.
        return torch.nn.functional.pad(maps, (1, 0, 1, 0))[..., : maps.shape[-2], : maps.shape[-1]]

    model = through(perfect, lambda outputs: dataclasses.replace(outputs, heatmaps=shifted(outputs.heatmaps)))
    report, suspects = found(model, scenes, ids)
    assert suspects == ["cells placed off"]
    assert report.suspects[0].undone_by == "1 cell left and up"


def test_half_a_cell_that_is_left_out_is_named(perfect, scenes, ids):
    model = dataclasses.replace(
        perfect,
        aggregation=dataclasses.replace(perfect.aggregation, project=False),
        grouping=dataclasses.replace(perfect.grouping, centre_shift=0.0),
    )
    report, suspects = found(model, scenes, ids)
    assert suspects == ["cells placed off"]
    assert report.suspects[0].undone_by == "0.5 cell right and down"


def test_a_wrong_stride_is_named(perfect, scenes, ids):
    def halved(maps):
        small = maps[..., ::2, ::2]
        h, w = maps.shape[-2] - small.shape[-2], maps.shape[-1] - small.shape[-1]
        return torch.nn.functional.pad(small, (0, w, 0, h))

    report, suspects = found(through(perfect, both(halved)), scenes, ids)
    assert suspects[0] == "a wrong stride"
    assert report.suspects[0].undone_by == "stride twice as large"


def test_exchanged_sides_are_named(perfect, scenes, ids):
    mirror = list(perfect.skeleton.mirror)
    report, suspects = found(through(perfect, both(lambda maps: maps[:, mirror])), scenes, ids)
    assert suspects == ["left and right exchanged"]
    assert report.suspects[0].after > 0.95


def test_exchanged_channels_are_named(scenes, ids):
    class Exchanged:
        """The pictures as a network knows them that was trained on the other order of channels."""

        def __getattr__(self, name):
            return getattr(scenes, name)

        def image(self, image_id):
            return np.ascontiguousarray(scenes.image(image_id)[..., ::-1])

    model = through(planted(Exchanged(), ids, resolutions=1), untaught)
    report, suspects = found(model, scenes, ids)
    assert report.reference.ap == 0
    assert suspects == ["blue and red exchanged (BGR for RGB)"]


def test_a_left_out_inverse_affine_is_named(perfect, scenes, three):
    rules = dataclasses.replace(perfect.aggregation, inverse_affine=False)
    _, suspects = found(dataclasses.replace(perfect, aggregation=rules), scenes, three)
    assert suspects[0] == "the inverse affine left out"


def test_of_one_person_no_scatter_is_known_and_nothing_is_decided():
    each = np.array([0.1, 0.2, 0.6])
    assert standard_error(each) == pytest.approx(0.15275252)  # scipy.stats.sem
    assert np.isnan(standard_error(each[:1]))

    def outcome(name, ap, oks, undoes=""):
        return Outcome(name, "", {"AP": ap}, 1, undoes=undoes, beside="reference", oks=np.array(oks))

    for oks, suspected in (([0.9], 0), ([0.9, 0.92, 0.94], 1)):
        before, after = outcome("reference", 0.2, [0.1] * len(oks)), outcome("other", 0.9, oks, "a fault")
        report = Ablation("", "faults", "data", before, (after,), 1, 1, 1)
        assert len(report.suspects) == suspected
        assert ("not decided with 1 annotated person: a fault" in report.summary()) == (not suspected)
