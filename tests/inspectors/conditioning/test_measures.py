"""The clinic's numbers, by hand."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.inspectors.conditioning.networks import healthy, looked, network, scenes
from workbench.core import NotAvailable
from workbench.inspectors.conditioning import features_kept, film, paths, refined_scores, switches
from workbench.inspectors.conditioning.film import over_epochs
from workbench.inspectors.conditioning.passes import apart_text, effective_rank, median_moved
from workbench.inspectors.conditioning.training_log import Curve, Trends, curve_of, logs_of, read_validation
from workbench.models.text_fusion.family import shuffled_text


def of_film(model):
    return film.compute(looked(model), film.Params())


def layers_of(model):
    return of_film(model).text


def test_the_effective_rank_counts_directions():
    assert effective_rank(np.diag([2.0, 2, 2, 0])) == pytest.approx(3)
    assert effective_rank(np.outer([1.0, 2], [3.0, 4, 5])) == pytest.approx(1)
    assert effective_rank(np.zeros((3, 3))) == 0


def test_keypoints_that_one_pass_did_not_find_are_left_out_of_the_distance_between_passes():
    box = SimpleNamespace(box=(0.0, 0.0, 10.0, 20.0))

    def run(*points):
        return SimpleNamespace(samples=[box], keypoints=np.array([points], float))

    nowhere = (np.nan, np.nan)
    assert median_moved(run((0, 0), (3, 4), (1, 1)), run((0, 2), (0, 0), nowhere)) == pytest.approx(
        (0.1 + 0.25) / 2
    )
    assert apart_text(0.25) == "keypoints lie 25.0 % of the box apart (median)"
    none = median_moved(run((0, 0), nowhere), run(nowhere, (1, 1)))
    assert np.isnan(none)
    assert apart_text(none) == "the two passes found no keypoint in common"


def test_a_shift_of_each_images_own_deletes_no_direction():
    model = network(**healthy(neck={"gate": "none"}))
    with torch.no_grad():
        layer = model.module.neck.global_mlp[0]
        layer.weight[:32] = 0
        layer.bias[:32], layer.bias[32:] = 1.0, 0.0
        layer.weight[32:] *= 100
    report = of_film(model).layers[0]
    assert report.beta.std(0).mean() > 1
    assert report.rank_after == pytest.approx(report.rank_before, rel=1e-3)
    assert report.verdict == "used"


def test_scale_shift_and_gate_are_those_of_the_layer():
    model = network(**healthy(neck={"gate_value": 0.25}))
    with torch.no_grad():
        layer = model.module.neck.global_mlp[0]
        layer.weight.zero_()
        layer.bias[:32], layer.bias[32:] = 3.0, 0.5
    report = of_film(model)
    row = report.table()[0]
    assert (row["gamma_mean"], row["gamma_std"]) == (3.0, 0.0)
    assert (row["beta_mean"], row["beta_std"]) == (0.5, 0.0)
    assert row["gate"] == 0.25
    scale, shift = report.layers[0].arriving
    assert np.allclose(scale, 0.25 * 3 + 0.75)
    assert np.allclose(shift, 0.125)
    # The same for every sentence: the text is not read.
    assert (row["verdict"], row["across_images"]) == ("ignored", 0.0)


def test_the_verdict_is_identity_destroyed_and_used_where_it_is():
    assert of_film(network(taught=False)).layers[0].verdict == "identity"
    assert of_film(network(**healthy())).layers[0].verdict == "used"
    model = network(**healthy(neck={"gate": "none"}))
    with torch.no_grad():
        model.module.neck.global_mlp[0].weight.zero_()
        model.module.neck.global_mlp[0].bias[:32] = 0.01
    assert of_film(model).layers[0].verdict == "destroyed"


def test_scales_differ_between_images_only_where_each_has_its_own_text():
    each, first = (
        of_film(network(**healthy(neck={"text_from": kind}))).layers[0] for kind in ("each", "first")
    )
    assert each.across_images > 0.01
    assert first.across_images == 0


def test_what_the_layers_clip_and_drop_is_measured_not_read_from_a_name():
    published = layers_of(network(taught=False))
    assert published.clips
    assert published.dropped == pytest.approx(0.1, abs=0.005)
    assert (published.scales_at_zero, published.shifts_at_zero) == (0, 1)
    linear = layers_of(network(**healthy(neck={"mlp": "linear-relu-linear", "init": "random"}), taught=False))
    assert not linear.clips
    assert linear.dropped == 0


def test_random_weights_are_told_from_learned_ones():
    assert layers_of(network(**healthy(neck={"init": "random"}), taught=False)).at_random
    assert not layers_of(network(**healthy())).at_random


def test_both_ways_agree_where_they_are_the_same_and_part_where_the_neck_is_skipped():
    options = healthy(head={"refiner": None})
    assert paths.compute(looked(network(**options)), paths.Params()).first_difference is None
    report = paths.compute(looked(network(**{**options, "fuse_in_predict": False})), paths.Params())
    assert report.first_difference == "text.subject"
    rows = {row["name"]: row for row in report.table()}
    assert rows["backbone"]["difference"] == 0
    assert rows["film"] == {"name": "film", "difference": None, "reached": "training only"}
    assert rows["neck"]["difference"] > 0
    assert report.skipped("film")


def test_features_that_pass_unchanged_keep_their_length_and_rank():
    report = features_kept.compute(looked(network(taught=False)), features_kept.Params())
    assert np.allclose(report.ratios, 1, atol=1e-5)
    assert report.rank_after == pytest.approx(report.rank_before, rel=1e-4)
    assert report.deleted == 0
    all_gone = dataclasses.replace(report, limit=2.0).plot().data
    assert [len(trace.x) for trace in all_gone[1:]] == [len(report.before), 0]
    assert all_gone[1].name == "deleted: below 2 of its norm before"


def test_one_uncertain_keypoint_brings_every_score_to_one_over_bins():
    report = refined_scores.compute(looked(network(taught=False)), refined_scores.Params("Nose"))
    assert report.all_sure == pytest.approx(1)
    # Three softmaxes over 128 bins.
    assert report.one_doubted == pytest.approx(1 / 128, rel=0.05)
    assert report.flattens
    axis = report.plot().layout.xaxis
    assert axis.range[1] - axis.range[0] >= 1  # a decade: below that a number may stand nowhere
    options = healthy(refiner={"mask": "uncertain"})
    alone = refined_scores.compute(looked(network(**options)), refined_scores.Params("Nose"))
    assert alone.one_doubted == pytest.approx(1)
    assert not alone.flattens
    # A softmax on everybody needs no uncertain keypoint.
    options = healthy(refiner={"softmax": "all"})
    always = refined_scores.compute(looked(network(**options)), refined_scores.Params("Nose"))
    assert (always.flattens, always.flattens_always) == (True, True)
    assert always.all_sure < 0.02


def test_whom_the_refiner_touches_is_measured_both_ways():
    options = healthy(refiner={"mask": "uncertain", "confidence_threshold": -1e9})
    nobody = refined_scores.compute(looked(network(**options)), refined_scores.Params())
    assert nobody.touched == (1, 0)
    assert refined_scores.compute(looked(network(**healthy())), refined_scores.Params()).touched == (1, 1)
    report = paths.compute(looked(network(**options)), paths.Params())
    assert report.training == "with fusion, with refiner of every keypoint"
    assert report.inference == "with fusion, with refiner of uncertain keypoints"


def test_the_refiner_is_missing_where_there_is_none():
    with pytest.raises(NotAvailable, match="refiner"):
        refined_scores.compute(looked(network(**healthy(head={"refiner": None}))), refined_scores.Params())


def test_switches_move_nothing_where_the_part_is_not_reached():
    report = switches.compute(looked(network(**healthy(fuse_in_predict=False))), switches.Params())
    rows = {row["name"]: row for row in report.table()}
    assert rows["without neck"]["moved"] == 0
    assert rows["training path"]["moved"] > 0
    assert rows["zero text"]["against"] == "training path"
    assert rows["zero text"]["moved"] > 0
    shared = switches.compute(looked(network(**healthy(neck={"text_from": "first"}))), switches.Params())
    assert {row["name"]: row["moved"] for row in shared.table()}["shuffled text"] == 0


def test_shuffled_texts_are_those_of_other_images_and_one_image_alone_has_no_such_row():
    shuffled = shuffled_text()["text.subject"]
    for count in (2, 3, 4, 8, 16):
        assert (shuffled(torch.arange(count)[:, None])[:, 0] != torch.arange(count)).all()
    alone = switches.compute(looked(network(**healthy()), 1), switches.Params())
    assert "zero text" in alone.names
    assert "shuffled text" not in alone.names


def test_epochs_stand_side_by_side():
    reports = [of_film(network(**healthy(neck={"gate_value": gate}))) for gate in (0.1, 0.4)]
    report = over_epochs(reports)
    assert report.gate.tolist() == pytest.approx([0.1, 0.4])
    assert "the gate changes from 0.1 to 0.4" in report.summary()
    assert report.plot().data
    with pytest.raises(ValueError, match="at least one checkpoint"):
        over_epochs([])


def curve(title, ap, ar):
    return Curve(title, np.arange(1.0, len(ap) + 1), np.array(ap), np.array(ar))


def test_ap_and_ar_that_go_opposite_ways_are_flagged():
    # The seed's numbers: AP .7071 to .6251, AR .7286 to .7590.
    report = Trends((curve("v2", [0.1, 0.6251], [0.2, 0.759]), curve("base", [0.2, 0.7071], [0.3, 0.7286])))
    assert report.between == pytest.approx((-0.082, 0.0304))
    assert "AP and AR change in opposite directions: the poses" in report.summary()
    same = Trends((curve("v2", [0.1, 0.6], [0.2, 0.65]), curve("base", [0.2, 0.7], [0.3, 0.75])))
    assert "in the same direction" in same.summary()
    alone = Trends((curve("v2", [0.1, 0.263], [0.2, 0.4]), curve("base", [0.2, 0.379], [0.3, 0.41])))
    assert "AP changes much more than AR" in alone.summary()
    within = curve("one", [0.1, 0.3, 0.2], [0.1, 0.3, 0.4])
    assert within.opposite == [2]
    assert "opposite" in Trends((within,)).summary()
    assert {t.name for t in report.plot().data} == {"AP, v2", "AR, v2", "AP, base", "AR, base"}


def test_a_log_gives_its_curves_or_one_sentence(tmp_path):
    log = tmp_path / "scalars.json"
    rows = [
        {"loss": 1.0, "step": 3},
        {"coco/AP": 0.2, "coco/AR": 0.3, "step": 2},
        {"coco/AP": 0.1, "coco/AR": 0.2, "step": 1},
    ]
    log.write_text("\n".join(map(json.dumps, rows)))
    read = read_validation(log, "run")
    assert (read.epochs.tolist(), read.AP.tolist()) == ([1, 2], [0.1, 0.2])
    log.write_text('{"loss": 1}\n')
    with pytest.raises(NotAvailable, match="no line holds AP"):
        read_validation(log)
    log.write_text("nonsense\n")
    with pytest.raises(ValueError, match="line 1"):
        read_validation(log)
    log.write_text("3\n")
    with pytest.raises(ValueError, match="line 1"):
        read_validation(log)


def test_a_run_that_was_resumed_is_one_curve_and_the_later_figure_counts(tmp_path):
    def start(name, *rows):
        folder = tmp_path / name / "vis_data"
        folder.mkdir(parents=True)
        lines = [json.dumps({"coco/AP": ap, "coco/AR": ar, "step": e}) for e, ap, ar in rows]
        (folder / "scalars.json").write_text("\n".join(lines))
        (folder / f"{name}.json").write_text("repeats the training rows")

    start("20251014_1", (10, 0.1, 0.2), (20, 0.2, 0.3))
    start("20251015_1", (20, 0.25, 0.35), (30, 0.3, 0.4))
    read = curve_of(tmp_path)
    assert (read.title, len(logs_of(tmp_path))) == (tmp_path.name, 2)
    assert (read.epochs.tolist(), read.AP.tolist()) == ([10, 20, 30], [0.1, 0.25, 0.3])


def test_what_the_trainer_printed_is_read_where_there_is_no_json(tmp_path):
    (tmp_path / "20251014.log").write_text(
        "2025/10/14 09:00:00 - mmengine - INFO - Epoch(train)  [10][42/42]  lr: 4e-03  loss: 0.1\n"
        "2025/10/14 09:00:01 - mmengine - INFO - Epoch(val)  [10][34/34]    coco/AP: 0.080500  "
        "coco/AP .5: 0.261000  coco/AP .75: 0.02  coco/AP (M): -1.0  coco/AP (L): 0.08  coco/AR: 0.194300"
        "  coco/AR .5: 0.4  data_time: 0.1\n"
        "2025-10-14 09:00:02,000 - mmpose - INFO - Epoch(val) [20][34] AP: 0.2, AP .5: 0.4, AR: 0.3\n"
    )
    read = curve_of(tmp_path, "v2")
    assert (read.epochs.tolist(), read.AP.tolist(), read.AR.tolist()) == (
        [10, 20],
        [0.0805, 0.2],
        [0.1943, 0.3],
    )


def test_a_folder_without_a_log_is_one_sentence(tmp_path):
    with pytest.raises(NotAvailable, match="no log lies beside the checkpoints"):
        curve_of(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        curve_of(tmp_path / "absent")


def test_samples_are_of_different_species_and_spread_over_the_set():
    from workbench.data import builtin
    from workbench.inspectors.conditioning.passes import several, spread

    pose_set = builtin("scenes-val")
    assert len({s.category_id for s in several(pose_set, 8)}) == 8
    assert len(spread(pose_set, 10)) == 10
    assert spread(pose_set, None) == list(pose_set.labelled)
    with pytest.raises(ValueError, match="at least 1"):
        spread(pose_set, 0)
    assert len({s.category_id for s in scenes()}) == 2
