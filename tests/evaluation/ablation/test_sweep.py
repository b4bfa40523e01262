"""Perfect maps of drawn people: what each change costs is known, and the network is asked once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.evaluation.ablation.planted import planted
from tests.toy import ToyHeatmaps
from workbench.core import NotAvailable, Outputs
from workbench.core.errors import ReadingNote
from workbench.evaluation import evaluate
from workbench.evaluation.ablation import Ablation, Variant, grouping_variants, reference, sweep, tag_variants
from workbench.evaluation.ablation.variants import TOGETHER
from workbench.evaluation.predict import predict_people

FIGURES = ["AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"]


@pytest.fixture(scope="module")
def ids(scenes):
    """Images with two people at least, so that tags have work."""
    several = [i for i in scenes.images if sum(one.image_id == i for one in scenes.instances) > 1]
    return several[:2]


@pytest.fixture(scope="module")
def asked():
    return []


@pytest.fixture(scope="module")
def model(scenes, ids, asked):
    return planted(scenes, ids, through=lambda pixels: asked.append(len(pixels)))


@pytest.fixture(scope="module")
def swept(model, scenes, ids, asked):
    asked.clear()
    report = sweep(
        model,
        scenes,
        lambda outputs: grouping_variants(model, outputs, flip=True),
        image_ids=ids,
        title="planted",
        question="grouping",
    )
    return report, len(asked)


def named(report: Ablation, name: str):
    return next(outcome for outcome in report.variants if outcome.name == name)


def test_the_network_is_asked_once_per_image_and_pass_whatever_the_number_of_variants(swept, ids):
    report, calls = swept
    assert len(report.variants) > 25
    assert report.images == report.forward_passes == len(ids)
    assert calls == report.network_calls == 2 * len(ids)


def test_perfect_maps_have_ap_one_and_the_missing_affine_costs_most(swept):
    report, _ = swept
    assert report.reference.ap == pytest.approx(1.0)
    worst = min((o for o in report.variants if not o.several), key=report.delta)
    assert worst.name in ("no inverse affine", "NMS kernel 1")
    assert report.delta(named(report, "no inverse affine")) < -0.1
    assert report.delta(named(report, TOGETHER)) < -0.1
    assert "no inverse affine" in report.summary()


def test_every_variant_has_the_figures_of_an_evaluation_of_its_own(model, swept, scenes, ids):
    report, _ = swept
    indices = [i for i, one in enumerate(scenes.instances) if one.image_id in ids]
    outcomes = {outcome.name: outcome for outcome in report.variants}
    variants = {
        v.name: v
        for v in grouping_variants(model, Outputs(passes={"mirrored": Outputs()}, coarse=1), flip=True)  # type: ignore[arg-type]
    }
    assert set(variants) == {*outcomes, "reference"}
    for name in ("NMS kernel 1", TOGETHER, "mmpose's rules"):
        own = dataclasses.replace(
            model, aggregation=variants[name].aggregation, grouping=variants[name].grouping
        )
        predictions = predict_people(own, scenes, ids, flip=True)
        alone = evaluate(scenes, predictions, indices=indices)
        np.testing.assert_equal(dict(outcomes[name].figures), alone.figures)
        assert outcomes[name].people == len(predictions)


def test_a_simplified_script_is_all_its_changes_together(model, swept):
    outputs = Outputs(passes={"mirrored": Outputs()}, coarse=1)  # type: ignore[arg-type]
    variants = grouping_variants(model, outputs, flip=True)
    script = next(v for v in variants if v.name == TOGETHER)
    assert (
        script.aggregation.text()
        == "mirrored pass left out, fine heatmaps only, align_corners, no inverse affine"
    )
    assert script.grouping.joint_order == tuple(range(17))
    singles = [v for v in variants if not v.several]
    for name in ("no inverse affine", "no flip", "fine heatmaps only", "align_corners"):
        single = next(v for v in singles if v.name == name)
        assert len(single.aggregation.text().split(", ")) == 1


def test_what_the_outputs_do_not_hold_is_not_varied(model):
    names = {v.name for v in grouping_variants(model, Outputs())}
    assert not names & {"no flip", "no mirrored tags", "fine heatmaps only", "coarse heatmaps only"}
    assert TOGETHER in names
    scaled = dataclasses.replace(model, scales=(0.5, 1.0, 2.0))
    assert {"scale 0.5 only", "scale 2 only"} <= {v.name for v in grouping_variants(scaled, Outputs())}


def test_tags_read_elsewhere_cost_more_than_tags_with_a_little_noise(model, scenes, ids):
    report = sweep(model, scenes, tag_variants(model, [0, 5]), image_ids=ids)
    assert report.reference.ap == pytest.approx(1.0)
    names = [outcome.name for outcome in report.variants]
    assert [f"map {n} for all" for n in range(17)] == names[:17]
    assert {"mean of all maps", "mean of maps 0, 5", "1 principal component", "noise 0.1"} <= set(names)
    assert named(report, "noise 0.1").ap == pytest.approx(1.0)
    assert np.mean([named(report, f"map {n} for all").ap for n in range(17)]) < 0.97
    assert report.forward_passes == len(ids)


def test_without_the_mirrored_pass_each_image_is_one_call(model, scenes, ids):
    variants = [reference(model), reference(model).but("half", "", tag_threshold=0.5)]
    report = sweep(model, scenes, variants, image_ids=ids[:1], flip=False)
    assert report.network_calls == report.forward_passes == report.images == 1


def test_the_report_tells_figures_differences_and_what_comes_nearest(swept):
    report, _ = swept
    facts = report.to_json()
    assert {"reference", "variants", "forward_passes", "images"} <= set(facts)
    assert [name for name in facts["reference"] if name in FIGURES] == FIGURES
    assert facts["reference"]["delta"] == 0
    for row in facts["variants"]:
        assert row["delta"] == pytest.approx(row["AP"] - facts["reference"]["AP"])
    affine = named(report, "no inverse affine")
    assert report.nearest_to(affine.ap + 1e-6).ap == affine.ap
    assert report.nearest_to(2.0).ap == pytest.approx(1.0)
    assert report.table()[0]["name"] == "reference"
    figure = report.plot()
    assert len(figure.data) == 2
    assert "no inverse affine" in figure.layout.title.text.replace("<br>", " ")


def test_variants_need_names_of_their_own(model, scenes, ids):
    own = reference(model)
    with pytest.raises(ValueError, match="names of their own"):
        sweep(model, scenes, [own, own], image_ids=ids[:1])
    with pytest.raises(ValueError, match="names of their own"):
        sweep(model, scenes, [], image_ids=ids[:1])


def test_a_top_down_model_has_nothing_to_ablate_here(scenes):
    with pytest.raises(NotAvailable, match="top-down"):
        sweep(ToyHeatmaps(), scenes, [Variant("a", "", None, None)])  # type: ignore[arg-type]


def test_one_tag_map_for_all_leaves_nothing_to_choose(model):
    shared = dataclasses.replace(
        model, tags=1, grouping=dataclasses.replace(model.grouping, tag_layout="shared")
    )
    with pytest.raises(NotAvailable, match="one tag map"):
        tag_variants(shared)
    with pytest.raises(ValueError, match="from 0 to 16"):
        tag_variants(model, [17])


def test_images_in_which_nobody_counts_have_no_ap(model, scenes, ids):
    nobody = dataclasses.replace(scenes, instances=(), raw={**scenes.raw, "annotations": []})
    with pytest.raises(ValueError, match="no instance counts"):
        sweep(model, nobody, [reference(model)], image_ids=ids[:1])


def test_what_the_models_own_rules_leave_out_is_offered_as_well(model):
    from workbench.models.bottom_up import Aggregation

    outputs = Outputs(passes={"mirrored": Outputs()}, coarse=1)  # type: ignore[arg-type]
    bare = dataclasses.replace(
        model,
        aggregation=Aggregation(resolutions="fine", align_corners=True, project=False, inverse_affine=False),
        grouping=dataclasses.replace(
            model.grouping, nms_kernel=1, joint_order=tuple(range(17)), adjust=False, refine=False
        ),
    )
    variants = {v.name: v for v in grouping_variants(bare, outputs)}
    assert {
        "with the inverse affine", "with flip", "with flip, heatmaps only", "both resolutions",
        "NMS kernel 5", "corners not aligned", "maps enlarged", "head, trunk, limbs", "adjust", "refine",
    } <= set(variants)  # fmt: skip
    assert not set(variants) & {"no inverse affine", "no flip", "NMS kernel 1", "no refine"}
    assert variants["with flip"].aggregation.flip
    assert not variants["reference"].aggregation.flip, "the default of every verb"
    # A model by the published rules has nothing of it to be offered.
    own = {v.name for v in grouping_variants(model, outputs, flip=True)}
    assert not own & {"with the inverse affine", "with flip", "both resolutions", "NMS kernel 5", "adjust"}


def test_steps_that_simplified_scripts_change_together_are_variants(model):
    outputs = Outputs(passes={"mirrored": Outputs()}, coarse=1)  # type: ignore[arg-type]
    variants = {v.name: v for v in grouping_variants(model, outputs, flip=True)}
    pair = variants["no flip + map 0 for all"]
    assert pair.several
    assert not pair.aggregation.flip
    assert pair.grouping.tag_layout == (0,) * 17
    assert {"no flip + fine heatmaps only", "no inverse affine + align_corners"} <= set(variants)


def test_a_match_says_when_no_variant_is_near(swept):
    report, _ = swept
    affine = named(report, "no inverse affine")
    assert report.match(affine.ap + 0.001)[1]
    nearest, near = report.match(2.0)
    assert nearest.ap == pytest.approx(1.0)
    assert not near


@pytest.fixture(scope="module")
def broken(scenes, ids):
    """Perfect maps, but one keypoint's tag map holds nan everywhere."""
    whole = planted(scenes, ids)

    def without(outputs):
        tags = outputs.tags.clone()
        tags[:, 2] = float("nan")
        return dataclasses.replace(outputs, tags=tags)

    class Broken(type(whole)):
        def forward(self, batch):
            return without(super().forward(batch))

    return Broken(**{field.name: getattr(whole, field.name) for field in dataclasses.fields(whole)})


def test_variants_that_read_a_broken_tag_map_alone_are_named_and_the_rest_is_measured(broken, scenes, ids):
    with pytest.warns(ReadingNote) as notes:
        report = sweep(broken, scenes, tag_variants(broken), image_ids=ids, flip=False)
    names = {outcome.name for outcome in report.variants}
    assert {"map 0 for all", "map 1 for all"} <= names
    assert not {"map 2 for all", "mean of all maps", "first component for all"} & names
    said = " ".join(str(note.message) for note in notes)
    assert "map 2 for all" in said
    assert f"tag map 2 holds a number that is not finite in {len(ids)} of {len(ids)} images" in said


def test_evaluation_says_that_a_keypoint_is_left_out(broken, scenes, ids):
    with pytest.warns(ReadingNote, match="tag map 2 holds a number that is not finite in 2 of 2 images"):
        found = predict_people(broken, scenes, ids)
    assert np.isnan(found.keypoints[:, 2]).all()
    assert np.isfinite(found.keypoints[:, 0]).any()
