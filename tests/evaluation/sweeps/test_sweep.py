"""A sweep's table is what `evaluate` gives, and stays the same to the bit whatever stops the sweep."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.apps import painted
from tests.evaluation.sweeps.conftest import rules, write_run
from workbench.core import DecodeOptions, NotAvailable
from workbench.core.files import locked_folder
from workbench.core.report import plain
from workbench.data.opening import open_data
from workbench.evaluation import Cancelled, Predictions, SweepRules, evaluate, predict, query_epochs, sweep
from workbench.evaluation.manifest import check_manifest
from workbench.evaluation.sweeps import blocks, folder
from workbench.models import open_model

FIGURES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")


def stop_after(count):
    """A question that is answered yes from the count-th time on."""
    asked = iter(range(count))
    return lambda: next(asked, None) is None


def test_the_table_is_what_predicting_and_judging_each_checkpoint_gives(painting):
    report = sweep(painting.run, painting.data, painting.out, rules=rules())
    pose_set = open_data(painting.data)
    assert [row["epoch"] for row in report.rows] == [1, 2, 10]
    for row in report.rows:
        loaded = open_model(painting.run / f"epoch_{row['epoch']}.pth", adapter=painting.adapter)
        wanted = evaluate(pose_set, predict(loaded.model, pose_set, batch_size=4)).figures
        assert {name: row[name] for name in FIGURES} == plain(wanted)
    assert report.rows[0]["AP"] < report.rows[1]["AP"] < report.rows[2]["AP"]
    assert (report.done, report.failed, report.resumed) == (3, (), 0)


def test_a_finished_sweep_is_a_history_of_each_variant_with_a_manifest(painting):
    report = sweep(painting.run, painting.data, painting.out, rules=rules("flip"))
    variants = json.loads((painting.out / "sweep.json").read_text())["variants"]
    assert [one["name"] for one in variants] == list(report.variants)
    for one in variants:
        place = painting.out / one["folder"]
        history = query_epochs(place)
        assert list(history.files) == [1, 2, 10]
        assert check_manifest(place) == []
        entries = json.loads((place / "manifest.json").read_text())["epochs"]
        rows = report.of(one["name"])
        assert [entry["figures"]["AP"] for entry in entries] == [row["AP"] for row in rows]
        assert {entry["variant"] for entry in entries} == {one["name"]}
        assert [entry["checkpoint"] for entry in entries] == ["epoch_1.pth", "epoch_2.pth", "epoch_10.pth"]
        # Each file gives the figures of its row again.
        found, protocol = Predictions.from_parquet(history.files[2])
        assert plain(evaluate(open_data(painting.data), found, protocol).figures)["AP"] == rows[1]["AP"]
    assert not (painting.out / ".unfinished").exists()


def test_every_variant_is_what_the_codec_matrix_finds(painting):
    from workbench.evaluation.codecs import codec_matrix

    data = painted.write_data(painting.out.parent / "few", 3)
    names = ("decoders", "flip", "udp, UDP cells, flip shifted, pose min")
    report = sweep(painting.run, data, painting.out, rules=rules(*names))
    loaded = open_model(painting.run / "epoch_2.pth", adapter=painting.adapter)
    matrix = codec_matrix(loaded.model, open_data(data), batch_size=4, resamples=2)
    wanted = {variant.name: plain(variant.figures) for variant in matrix.variants[1:]}
    wanted["reference"] = plain(matrix.variants[0].figures)
    found = {row["variant"]: row for row in report.rows if row["epoch"] == 2}
    assert {"dark, no flip", "argmax, flip shifted", names[2]} < found.keys()
    for name, row in found.items():
        assert {figure: row[figure] for figure in FIGURES} == wanted[name]


def test_a_single_variant_is_named_by_its_name_and_its_rules_stand_in_the_protocol(painting):
    report = sweep(painting.run, painting.data, painting.out, rules=rules("dark, flip"))
    assert report.variants == ("reference", "dark, flip")
    _, protocol = Predictions.from_parquet(painting.out / "dark-flip" / "epoch_2.parquet")
    assert (protocol.decoder, protocol.flip) == ("dark", True)
    _, own = Predictions.from_parquet(painting.out / "epoch_2.parquet")
    assert own.flip is False
    assert own.sha256 == protocol.sha256 != ""


def test_finished_work_is_not_done_again(painting):
    first = sweep(painting.run, painting.data, painting.out, rules=rules())
    files = {path: path.stat().st_mtime_ns for path in painting.out.glob("*.parquet")}
    calls = []
    again = sweep(
        painting.run, painting.data, painting.out, rules=rules(), progress=lambda *n: calls.append(n),
        cancelled=lambda: pytest.fail("a batch was predicted"),
    )  # fmt: skip
    assert again.rows == first.rows
    assert again.resumed == 3
    assert set(calls) == {(0, 0)}
    assert {path: path.stat().st_mtime_ns for path in painting.out.glob("*.parquet")} == files


def test_paths_relative_to_the_working_folder_name_the_same_sweep(painting, monkeypatch):
    from workbench.evaluation.sweeps.rules import SweepSource

    sweep(painting.run, painting.data, painting.out, rules=rules())
    monkeypatch.chdir(painting.run)
    assert sweep(".", "../data/painted.json", "../swept", rules=rules()).resumed == 3
    found = SweepSource.located(".", "../data/painted.json#foot", "images")
    assert found.data == f"{painting.data.resolve()}#foot"
    assert SweepSource.located(".", "scenes-val").data == "scenes-val"


def test_new_epochs_of_a_run_that_goes_on_are_added(painting):
    sweep(painting.run, painting.data, painting.out, rules=rules())
    painted.write_checkpoint(painting.run / "epoch_20.pth", 20, 1)
    report = sweep(painting.run, painting.data, painting.out, rules=rules())
    assert [row["epoch"] for row in report.rows] == [1, 2, 10, 20]
    assert report.resumed == 3


@pytest.mark.parametrize("batches", [1, 9, 17])
def test_a_sweep_stopped_within_an_epoch_goes_on_there_and_ends_with_the_same_table(
    painting, tmp_path, batches, monkeypatch
):
    monkeypatch.setattr(blocks, "BATCHES", 1)
    wanted = sweep(painting.run, painting.data, tmp_path / "undisturbed", rules=rules("flip"))
    with pytest.raises(Cancelled):
        sweep(painting.run, painting.data, painting.out, rules=rules("flip"), cancelled=stop_after(batches))
    asked = []
    report = sweep(
        painting.run, painting.data, painting.out, rules=rules("flip"), cancelled=lambda: asked.append(1),
    )  # fmt: skip
    assert report.rows == wanted.rows
    # 18 batches in all, and not one of them twice but the one that was not begun.
    assert len(asked) == 18 - batches
    assert (tmp_path / "undisturbed" / "table.csv").read_text() == (painting.out / "table.csv").read_text()
    for name in ("epoch_1", "epoch_2", "epoch_10"):
        one, other = (
            Predictions.from_parquet(place / f"{name}.parquet")[0]
            for place in (painting.out, tmp_path / "undisturbed")
        )
        assert np.array_equal(one.keypoints, other.keypoints, equal_nan=True)
        assert np.array_equal(one.score, other.score)


def test_half_written_files_and_parts_are_made_again(painting, monkeypatch):
    monkeypatch.setattr(blocks, "BATCHES", 1)
    monkeypatch.setattr(folder, "FLUSH_EVERY", 0.0)
    with pytest.raises(Cancelled):
        sweep(painting.run, painting.data, painting.out, rules=rules(), cancelled=stop_after(10))
    parts = sorted(painting.out.glob(".unfinished/*/*.npz"))
    assert len(parts) == 4
    parts[1].write_bytes(parts[1].read_bytes()[:200])
    os.truncate(parts[1], 8 << 30)  # a hole on disk, which is not read
    done = painting.out / "epoch_1.parquet"
    done.write_bytes(done.read_bytes()[:500])
    report = sweep(painting.run, painting.data, painting.out, rules=rules())
    assert report.resumed == 0
    monkeypatch.undo()
    again = sweep(painting.run, painting.data, painting.out.parent / "other", rules=rules())
    assert report.rows == again.rows
    assert not (painting.out / ".unfinished").exists()


def test_a_changed_checkpoint_is_predicted_again_and_its_old_parts_are_not_used(painting, monkeypatch):
    monkeypatch.setattr(blocks, "BATCHES", 1)
    sweep(painting.run, painting.data, painting.out, rules=rules())
    painted.write_checkpoint(painting.run / "epoch_2.pth", 2, 5)
    with pytest.raises(Cancelled):
        sweep(painting.run, painting.data, painting.out, rules=rules(), cancelled=stop_after(3))
    painted.write_checkpoint(painting.run / "epoch_2.pth", 2, 0)
    report = sweep(painting.run, painting.data, painting.out, rules=rules())
    assert report.resumed == 2
    assert [row["AP"] for row in report.rows][1:] == [report.rows[2]["AP"]] * 2


def test_failed_checkpoints_are_told_with_the_reason_and_passed_over(painting):
    (painting.run / "epoch_20.pth").write_bytes(b"not a checkpoint at all")
    torch.save(
        {"state_dict": {"head.weight": torch.zeros(3)}, "meta": {"epoch": 30}}, painting.run / "epoch_30.pth"
    )
    painted.write_checkpoint(painting.run / "best_epoch_2.pth", 2, 2)
    (painting.run / "weights.pth").write_bytes((painting.run / "epoch_1.pth").read_bytes())
    report = sweep(painting.run, painting.data, painting.out, rules=rules())
    assert report.done == 3
    reasons = {one.checkpoint: one.reason for one in report.failed}
    assert "epoch_20.pth" in reasons["epoch_20.pth"]
    assert "head.weight" in reasons["epoch_30.pth"] or "shift" in reasons["epoch_30.pth"]
    assert reasons["best_epoch_2.pth"] == "epoch 2 is also in epoch_2.pth"
    assert reasons["weights.pth"] == "epoch 1 is also in epoch_1.pth"
    assert "4 failed" in report.summary()
    assert re.search(r"Protocol: GT boxes, .*: \d+ instances, \d+ images\.$", report.summary())


def test_a_checkpoint_of_another_network_is_passed_over_and_not_the_others(tmp_path):
    from workbench.checkpoints.demo import demo_checkpoints
    from workbench.evaluation.sweeps.plan import _numbered

    own, odd = demo_checkpoints("rtmpose-demo")[:2], demo_checkpoints("cape-demo")[-1]
    units, failed = _numbered([odd, *own])
    assert [Path(unit.path) for unit in units] == own
    assert failed[0].checkpoint == odd.name
    assert failed[0].reason.startswith("another model: ")
    assert "RTMPose" in failed[0].reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"flip": True}, "flip: false in the folder, true asked for"),
        ({"limit": 3}, "limit: null in the folder, 3 asked for"),
        ({"ablations": ("flip",)}, "ablations"),
        ({"max_dets": 5}, "max_dets: 20 in the folder, 5 asked for"),
    ],
)
def test_the_folder_of_another_sweep_is_refused(painting, change, said):
    from dataclasses import replace

    sweep(painting.run, painting.data, painting.out, rules=rules())
    with pytest.raises(ValueError, match="holds another sweep") as refused:
        sweep(painting.run, painting.data, painting.out, rules=replace(rules(), **change))
    assert said in str(refused.value)


def test_other_data_another_run_and_foreign_predictions_are_refused(painting, tmp_path):
    sweep(painting.run, painting.data, painting.out, rules=rules())
    other = painted.write_data(tmp_path / "other", 3)
    with pytest.raises(ValueError, match="made with other annotations"):
        sweep(painting.run, other, painting.out, rules=rules())
    with pytest.raises(ValueError, match="run: "):
        sweep(write_run(tmp_path / "second"), painting.data, painting.out, rules=rules())
    (painting.out / "sweep.json").unlink()
    with pytest.raises(ValueError, match="holds predictions that no sweep wrote"):
        sweep(painting.run, painting.data, painting.out, rules=rules())
    (painting.out / "sweep.json").write_text('{"identity": ')
    with pytest.raises(ValueError, match=r"sweep\.json: is damaged"):
        sweep(painting.run, painting.data, painting.out, rules=rules())


def test_changed_code_of_the_adapter_is_another_sweep(painting, tmp_path):
    adapter = tmp_path / "code" / "own.py"
    adapter.parent.mkdir()
    adapter.write_text(Path(painting.adapter).read_text())
    with_own = rules().__class__(batch_size=4, opening={"adapter": str(adapter)})
    sweep(painting.run, painting.data, painting.out, rules=with_own)
    adapter.write_text(adapter.read_text() + "\n# changed\n")
    with pytest.raises(ValueError, match="made with other code"):
        sweep(painting.run, painting.data, painting.out, rules=with_own)


def test_of_two_sweeps_in_one_folder_one_is_refused(painting):
    with locked_folder(painting.out, "busy"), pytest.raises(ValueError, match="another sweep writes into"):
        sweep(painting.run, painting.data, painting.out, rules=rules())


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (("decoder",), KeyError, "no ablation 'decoder'; nearest: decoders"),
        (("grouping",), NotAvailable, "this model is top-down; for it there are decoders, flip, codec"),
    ],
)
def test_ablations_that_do_not_exist_or_fit_are_refused(painting, words, kind, said):
    with pytest.raises(kind) as refused:
        sweep(painting.run, painting.data, painting.out, rules=rules(*words))
    assert said in str(refused.value)
    assert not list(painting.out.glob("*.parquet"))


def test_folders_without_checkpoints_and_data_without_annotations_are_refused(painting, tmp_path):
    (tmp_path / "empty").mkdir()
    for run, said in (
        (tmp_path / "empty", "no checkpoint in this folder"),
        (tmp_path / "absent", "no such folder"),
    ):
        with pytest.raises(FileNotFoundError, match=said):
            sweep(run, painting.data, painting.out, rules=rules())
    with pytest.raises(NotADirectoryError, match="expected the folder of a run"):
        sweep(painting.run / "epoch_1.pth", painting.data, painting.out, rules=rules())
    bare = json.loads(painting.data.read_text()) | {"annotations": []}
    (painting.data.parent / "bare.json").write_text(json.dumps(bare))
    with pytest.raises(ValueError, match="no annotated keypoint"):
        sweep(painting.run, painting.data.parent / "bare.json", painting.out, rules=rules())
    with pytest.raises(KeyError, match="no engine 'rya'; nearest: ray"):
        sweep(painting.run, painting.data, painting.out, rules=rules(), engine="rya")
    for path in painting.run.glob("*.pth"):
        path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="not one of 3 checkpoints"):
        sweep(painting.run, painting.data, painting.out, rules=rules())


def test_missing_images_are_told_before_anything_is_predicted(painting):
    (painting.data.parent / "images" / "000003.png").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 24 images are missing"):
        sweep(painting.run, painting.data, painting.out, rules=rules())


def test_a_bottom_up_sweep_is_what_the_ablation_finds(tmp_path):
    from workbench.checkpoints.demo import demo_checkpoints, demo_data, demo_run
    from workbench.evaluation import SweepRules
    from workbench.evaluation.ablation import grouping_variants
    from workbench.evaluation.ablation import sweep as ablation

    run, file = demo_run("higherhrnet-demo"), demo_checkpoints("higherhrnet-demo")[-1]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / file.name).symlink_to(file)
    report = sweep(
        tmp_path / "run", demo_data("higherhrnet-demo"), tmp_path / "out",
        rules=SweepRules(ablations=("no refine", "NMS kernel 3"), limit=2),
    )  # fmt: skip
    loaded, pose_set = open_model(file), open_data(demo_data("higherhrnet-demo"))
    model = loaded.model
    wanted = ablation(
        model, pose_set, lambda outputs: grouping_variants(model, outputs, False), flip=True,
        image_ids=list(pose_set.images)[:2],
    )  # fmt: skip
    by_name = {one.name: plain(one.figures) for one in (wanted.reference, *wanted.variants)}
    assert run.is_dir()
    assert len(report.rows) == 3
    for row in report.rows:
        assert {name: row[name] for name in FIGURES} == by_name[row["variant"]]


def test_a_sweep_over_conditioning_is_what_its_ablation_finds(tmp_path):
    from workbench.checkpoints.demo import demo_checkpoints, demo_data
    from workbench.evaluation import SweepRules
    from workbench.inspectors.conditioning.ablation import predicted

    file = demo_checkpoints("rtmpose-text-fusion")[-1]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / file.name).symlink_to(file)
    data, rules = demo_data("rtmpose-text-fusion"), SweepRules(ablations=("conditioning",), limit=2)
    report = sweep(tmp_path / "run", data, tmp_path / "out", rules=rules)
    pose_set = open_data(data)
    rows = [i for i in pose_set.labelled if pose_set.instances[i].image_id in list(pose_set.images)[:2]]
    found = predicted(open_model(file).model, pose_set, rows)
    assert len(report.rows) == len(found.evaluations) > 2
    for row in report.rows:
        assert {n: row[n] for n in FIGURES} == plain(found.evaluations[row["variant"]].figures)
    with pytest.raises(ValueError, match="is swept alone"):
        sweep(tmp_path / "run", data, tmp_path / "two", rules=SweepRules(ablations=("conditioning", "flip")))


def test_blocks_survive_as_bytes_and_damaged_ones_are_refused():
    one = Predictions(
        np.array([1, 2]), np.array([1, 1]), np.zeros((2, 4)), np.full((2, 3, 2), np.nan), np.ones((2, 3)),
        np.ones(2), np.array([7, 8]),
    )  # fmt: skip
    other = Predictions(*(np.zeros((0, *shape)) for shape in ((), (), (4,), (3, 2), (3,), ())))
    data = blocks.to_bytes(blocks.Block(4, 6, (one, other)))
    back = blocks.from_bytes(data)
    assert (back.first, back.last) == (4, 6)
    assert np.array_equal(back.predictions[0].keypoints, one.keypoints, equal_nan=True)
    assert back.predictions[0].annotation_id.tolist() == [7, 8]
    assert back.predictions[1].annotation_id is None
    for cut in range(0, len(data), 97):
        with pytest.raises(ValueError, match="damaged block"):
            blocks.from_bytes(data[:cut])


def test_a_worker_without_the_run_takes_its_checkpoint_and_config_as_bytes(painting, tmp_path):
    from workbench.evaluation.sweeps.ray_engine import RemoteWorker, _packed
    from workbench.evaluation.sweeps.rules import SweepSource, checkpoint_sha256

    path = painting.run / "epoch_2.pth"
    (painting.run / "config.py").write_text("model = dict(type='Own')")
    files, sha256 = _packed(path), checkpoint_sha256(path)
    assert sorted(files) == ["config.py", "epoch_2.pth"]
    worker = RemoteWorker(SweepSource(str(painting.run), str(painting.data)), rules(), 0)
    wanted = list(worker.events(str(path), sha256, 16, ["reference"]))
    assert [kind for kind, _ in wanted] == ["opened", "block"]
    absent = str(tmp_path / "elsewhere" / path.name)
    assert list(worker.events(absent, sha256, 16, ["reference"])) == [("absent", b"")]
    # A file of other content under the same path is not taken for the checkpoint.
    assert list(worker.events(str(painting.run / "epoch_1.pth"), sha256, 16, [])) == [("absent", b"")]
    (kind, _), (_, block) = worker.events(absent, sha256, 16, ["reference"], files)
    first, second = blocks.from_bytes(block), blocks.from_bytes(wanted[1][1])
    assert kind == "opened"
    assert np.array_equal(first.predictions[0].keypoints, second.predictions[0].keypoints)


def test_a_worker_says_what_it_cannot_open_instead_of_raising(painting):
    from workbench.evaluation.sweeps.ray_engine import RemoteWorker
    from workbench.evaluation.sweeps.rules import SweepSource, checkpoint_sha256

    worker = RemoteWorker(SweepSource(str(painting.run), "absent.json"), rules(), 0)
    assert "absent.json" in worker.prepare(17)["error"]
    worker = RemoteWorker(SweepSource(str(painting.run), str(painting.data)), rules(), 0)
    assert worker.prepare(17).keys() == {"version", "annotations", "detections"}
    damaged = painting.run / "epoch_3.pth"
    damaged.write_bytes(b"damaged")
    ((kind, said),) = worker.events(str(damaged), checkpoint_sha256(damaged), 0, ["reference"])
    assert kind == "failed"
    assert b"epoch_3.pth" in said


def test_variants_get_folders_of_their_own():
    names = folder.folder_names(["dark, no flip", "Dark no flip", "../../x", "..", "mean of maps 0, 1"])
    assert names == ["dark-no-flip", "dark-no-flip-2", "x", "variant", "mean-of-maps-0-1"]


def write_boxes(painting, path):
    """A detector's boxes: each person twice, of picture 3 none, on picture 5 a box beside the person."""
    pose_set = open_data(painting.data)
    found = [
        {"image_id": i.image_id, "category_id": 1, "bbox": [x + dx, y, w, h], "score": 0.9 - dx / 10}
        for i in pose_set.instances
        for x, y, w, h in [(i.box[0], i.box[1], i.box[2] - i.box[0], i.box[3] - i.box[1])]
        for dx in (0, 1)
        if i.image_id != 3
    ]
    found.append({"image_id": 5, "category_id": 1, "bbox": [0, 0, 30, 30], "score": 0.2})
    path.write_text(json.dumps(found))
    return path


def test_boxes_of_a_detector_are_judged_as_by_evaluate_and_stand_in_the_protocol(painting, tmp_path):
    from workbench.data.boxes import read_detections

    file = write_boxes(painting, tmp_path / "found.json")
    report = sweep(painting.run, painting.data, painting.out, rules=rules("dark, no flip", boxes=str(file)))
    pose_set = open_data(painting.data)
    boxes = read_detections(file, pose_set)
    loaded = open_model(painting.run / "epoch_2.pth", adapter=painting.adapter)
    found = {row["variant"]: row for row in report.rows if row["epoch"] == 2}
    for variant, options in (("reference", None), ("dark, no flip", DecodeOptions("dark"))):
        wanted = evaluate(pose_set, predict(loaded.model, pose_set, boxes=boxes, options=options)).figures
        assert {name: found[variant][name] for name in FIGURES} == plain(wanted)
    own, protocol = Predictions.from_parquet(painting.out / "epoch_2.parquet")
    assert (protocol.boxes, protocol.nms, 3 in own.image_id) == ("found.json", 0.9, False)
    assert len(pose_set) <= len(own) < len(boxes)  # NMS drops poses that two boxes of a person gave alike
    file.write_text(json.dumps(json.loads(file.read_text())[:-1]))
    with pytest.raises(ValueError, match="made with other detections"):
        sweep(painting.run, painting.data, painting.out, rules=rules("dark, no flip", boxes=str(file)))


def test_a_changed_module_or_package_beside_the_adapter_is_another_sweep(painting, tmp_path):
    from workbench.evaluation.sweeps.rules import code_digest

    code = tmp_path / "code"
    for name, text in (("own.py", "from parts.heads import head\nimport near\n"), ("near.py", "")):
        (code / "parts").mkdir(parents=True, exist_ok=True)
        (code / name).write_text(text)
    for name in ("parts/__init__.py", "parts/heads.py", "other/unused.py"):
        (code / name).parent.mkdir(exist_ok=True)
        (code / name).write_text("")
    named = SweepRules(opening={"adapter": str(code / "own.py")})
    first = code_digest(named, painting.run)
    names = ["near.py", "own.py", "parts/__init__.py", "parts/heads.py"]
    assert list(first) == [f"adapter/{name}" for name in names]
    (code / "parts" / "heads.py").write_text("scale = 2\n")
    assert code_digest(named, painting.run) != first
    # A config of the run counts; a link to a file of elsewhere is read by nobody.
    run = tmp_path / "linked"
    run.mkdir()
    (run / "config.py").write_text("_base_ = 'link.py'\n")
    (run / "link.py").symlink_to(code / "near.py")
    assert list(code_digest(SweepRules(), run)) == ["run/config.py"]


@pytest.mark.parametrize("figures", ["[1]", '{"AP": "<b>0.9</b>"}', '{"AP": {}}', "7"])
def test_a_finished_file_whose_figures_are_none_is_made_anew(tmp_path, monkeypatch, figures):
    """A folder may be a stranger's: its notes are whatever somebody wrote."""
    from workbench.evaluation.sweeps.readings import VariantName

    swept = folder.SweepFolder(tmp_path, (VariantName("reference"),))
    unit = blocks.Unit("epoch_1", "epoch_1.pth", 1)
    swept.file(0, unit).touch()
    monkeypatch.setattr(folder, "read_origin", lambda path: "origin")
    monkeypatch.setattr(folder, "read_note", lambda path, name: figures)
    assert swept.finished(unit, ["origin"]) is None
    monkeypatch.setattr(folder, "read_note", lambda path, name: '{"AP": 0.5, "APM": null}')
    assert swept.finished(unit, ["origin"])[0]["AP"] == 0.5


def test_a_compressed_block_is_not_unfolded():
    import io

    buffer = io.BytesIO()
    np.savez_compressed(buffer, rows=np.zeros(1_000_000))
    with pytest.raises(ValueError, match=r"a damaged block of predictions \(a compressed archive"):
        blocks.from_bytes(buffer.getvalue())


def test_a_block_that_no_library_can_read_is_damaged_and_nothing_else():
    """A header that asks for petabytes or for a deep parser, an encrypted entry, rows without end."""
    import io
    import zipfile

    def block(header, content=b""):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as parts:
            named = header.encode() + b"\n"
            parts.writestr(
                "rows.npy", b"\x93NUMPY\x01\x00" + len(named).to_bytes(2, "little") + named + content
            )
        return buffer.getvalue()

    facts = "{'descr': '<f8', 'fortran_order': False, 'shape': (%d,)}"
    encrypted = bytearray(block(facts % 2, bytes(16)))
    encrypted[6] |= 1
    encrypted[encrypted.find(b"PK\x01\x02") + 8] |= 1
    endless = block(facts % 2, np.array([0, np.inf]).tobytes())
    for data in (
        block(facts % 10**15),
        block("-" * 9000 + "1"),
        block("(" * 9000),
        bytes(encrypted),
        endless,
    ):
        with pytest.raises(ValueError, match="damaged block"):
            blocks.from_bytes(data)
