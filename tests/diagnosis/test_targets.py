"""Targets are sorted by what they are; what is of no use is told, and the rest counts."""

from __future__ import annotations

import json
import os
import shutil
import time

import pytest
import torch

from workbench.checkpoints.demo import demo_checkpoints, demo_config, demo_log, demo_run
from workbench.diagnosis import diagnose
from workbench.diagnosis.loading_causes import Contradiction, NotOpened, NotRead, NotRun, PartlyLoaded
from workbench.diagnosis.package_causes import PackageVersions
from workbench.diagnosis.replaced_weights import Against
from workbench.diagnosis.targets import kind_of, sorted_targets
from workbench.diagnosis.training_code import script_in
from workbench.diagnosis.weight_causes import NeverLearned


def written(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_run_folder_is_taken_apart():
    given = sorted_targets([demo_run()])
    assert given.checkpoint == demo_checkpoints()[-1]
    assert list(given.epochs) == demo_checkpoints()
    assert given.logs == (demo_log(),)
    assert given.configs == (demo_config(),)
    assert given.named_config is None
    beside = demo_run() / "vis_data" / ".." / "vis_data" / demo_log().name
    assert sorted_targets([demo_run(), beside]).logs == given.logs


def test_links_out_of_the_served_folder_are_named_and_not_followed(tmp_path):
    run = tmp_path / "served" / "run"
    run.mkdir(parents=True)
    (run / "epoch_1.pth").write_bytes(demo_checkpoints()[0].read_bytes())
    config = written(tmp_path / "secret.py", "model = dict(type='X')\n")
    targets = {"epoch_2.pth": demo_checkpoints()[1], "config.py": config, "a.log.json": demo_log()}
    for name, target in targets.items():
        (run / name).symlink_to(target)
    given = sorted_targets([run], [run.parent])
    assert (list(given.epochs), given.configs, given.logs) == ([run / "epoch_1.pth"], (), ())
    joined = " ".join(given.notes)
    assert [name in joined for name in ("epoch_2.pth", "config.py")] == [True, True]
    assert sorted_targets([run]).configs == (run / "config.py",)


def test_boxes_of_a_detector_are_named_as_such(tmp_path):
    found = {"bbox": [1.0, 2.0, 30.0, 40.0], "category_id": 1, "image_id": 7, "score": 0.9}
    given = sorted_targets([written(tmp_path / "boxes.json", [found])])
    assert given.notes == (
        "boxes.json: holds a detector's boxes and no keypoints; give it to `evaluate` as --boxes",
    )


@pytest.mark.parametrize("name", ["a.json", "b.py", "c.txt", "d.log", "e.pkl", "f.yaml", "g.md"])
def test_a_named_pipe_is_not_read(tmp_path, name):
    os.mkfifo(tmp_path / name)
    given = sorted_targets([tmp_path / name])
    assert given.notes == (f"{name}: is no regular file; reading a pipe may never end",)


def test_each_file_is_told_by_its_content(tmp_path):
    pose = {"image_id": 1, "category_id": 1, "keypoints": [1, 2, 1], "score": 0.5}
    cases = {
        "a.json": ([pose], "results"),
        "b.json": ({"images": [], "annotations": [], "categories": []}, "annotations"),
        "c.json": ('{"mode": "train", "loss": 1}\n{"mode": "val", "AP": 0.2}\n', "log"),
        "d.py": ("model = dict(type='X')\n", "config"),
        "draw.py": ("import os\nWHERE = 'img'\ndef draw(n):\n    pass\ndraw(3)\n", "code"),
        "grown.py": ("model = dict(type='X')\nmodel.update(type='Y')\n", "config"),
        "e.py": ("def load(checkpoint, device):\n    pass\n", "adapter"),
        "f.json": ([1, 2], "unknown"),
        "g.md": ("words", "log"),
        "i.doc": ("words", "unknown"),
        "h.py": ("def load(", "damaged"),
        "j.json": ('[{"image_id": 1, "keypoints": [1, 2,', "damaged"),
        "k.json": ('{"images": [], "annotations": [{"id"', "damaged"),
    }
    for name, (content, kind) in cases.items():
        assert kind_of(written(tmp_path / name, content))[0] == kind, name


def test_a_script_longer_than_any_is_not_parsed(tmp_path):
    assert kind_of(written(tmp_path / "a.py", "a = 1\n" * 200_000)) == (
        "unknown", "is longer than 1 MB, as no config and no script is"
    )  # fmt: skip


LOOP = "for x in y:\n  loss = net(x)\n  loss.backward()\n  opt.step()\n"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("  a.b = c\n" * 4000, "has more than 15000 expressions and statements, as no training script has"),
        (f"  a = b{'.c' * 200}\n", "has more than 100 expressions and statements inside of each other"),
        (f"  lr = 0x{'f' * 300}\n", "has a whole number of more than 1000 bits"),
    ],
)
def test_code_whose_parts_would_be_compared_for_minutes_is_left_out(more, why, tmp_path):
    assert kind_of(written(tmp_path / "train.py", LOOP + more)) == ("unknown", why)
    assert kind_of(written(tmp_path / "train.py", LOOP)) == ("code", "")


def test_a_script_as_long_as_is_read_takes_seconds(tmp_path):
    text = "for x in y:\n" + "  loss = net(x)\n  loss.backward()\n  opt.step()\n" * 700
    assert kind_of(written(tmp_path / "train.py", text)) == ("code", "")
    begin = time.process_time()
    script = script_in(text, tmp_path / "train.py")
    assert script is not None
    assert script.has("gradients are not cleared")
    assert time.process_time() - begin < 5  # .6 s; 20 s before what is found in a tree was remembered


def test_a_broken_target_is_told_and_the_rest_counts(tmp_path):
    given = sorted_targets(
        [
            demo_checkpoints()[-1], written(tmp_path / "broken.json", "{"), tmp_path / "none.pth",
            written(tmp_path / "other.log", "Nov 30 12:00:01 host sshd: Accepted key\n" * 9),
        ]
    )  # fmt: skip
    assert given.checkpoint == demo_checkpoints()[-1]
    ((name, why),) = given.damaged
    assert name == "broken.json"
    assert why.startswith("is damaged JSON, cut or edited: ")
    assert "no such file" in given.notes[0]
    assert given.notes[1:] == ("other.log was not used: no figures by epoch can be read in it",)
    assert given.logs == ()


def test_an_adapter_among_the_targets_is_never_run(tmp_path):
    mark = tmp_path / "ran"
    code = f"open({str(mark)!r}, 'w')\ndef load(checkpoint, device):\n    pass\n"
    given = sorted_targets([written(tmp_path / "adapter.py", code)])
    assert "name it with --adapter" in given.notes[0]
    assert not mark.exists()


def test_a_config_that_is_named_is_told_from_one_in_the_folder(tmp_path):
    own = written(tmp_path / "mine.py", "model = dict()\n")
    assert sorted_targets([demo_checkpoints()[-1], own]).named_config == own


def test_dropped_checkpoints_of_one_run_are_its_epochs(tmp_path):
    # A browser sends every file into a folder of its own.
    made = []
    for name in ("epoch_10.pth", "epoch_2.pth", "best_epoch_4.pth", "epoch_4.pth"):
        (tmp_path / name).mkdir()
        made.append(written(tmp_path / name / name, ""))
    ten, two, best, four = made
    given = sorted_targets(made, one_run=True)
    assert (given.checkpoint, given.epochs, given.others) == (ten, (two, four, ten), (best,))
    assert sorted_targets([two, ten]).others == (ten,)
    (tmp_path / "other").mkdir()
    same = written(tmp_path / "other" / two.name, "")
    assert sorted_targets([two, same], one_run=True).others == (same,)


def test_epochs_are_counted_in_words():
    assert f"; epochs {len(demo_checkpoints())}; " in sorted_targets([demo_run()]).text()


@pytest.mark.parametrize("level", ["files", "evaluate"])
def test_a_data_set_that_there_is_not_is_refused_with_the_nearest_name(level, tmp_path):
    with pytest.raises(KeyError, match=r"'scenes-vla'.*nearest: scenes-val"):
        diagnose([demo_run()], data="scenes-vla", level=level, causes=[])
    written(tmp_path / "truth.json", {})
    with pytest.raises(FileNotFoundError, match=r"no such annotation file; nearest: truth\.json"):
        diagnose([demo_run()], data=tmp_path / "trutth.json#foot", level=level, causes=[])


def test_a_target_that_there_is_not_is_refused_with_the_nearest_name(tmp_path):
    (tmp_path / "history").mkdir()
    with pytest.raises(FileNotFoundError, match="histry: no such file or folder; nearest: history"):
        diagnose([tmp_path / "histry"], causes=[])


def test_packages_are_not_imported_for_a_message_with_another_cause():
    message = "mat1 and mat2 shapes cannot be multiplied (136x8 and 64x256)"
    report = diagnose([message], causes=[PackageVersions()])
    assert "a known cause that is none of versions" in report.not_testable["package versions that do not fit"]
    assert report.seconds < 5


def test_of_a_run_the_last_epoch_that_opens_is_examined(tmp_path):
    first, last = demo_checkpoints()[0], demo_checkpoints()[-1]
    shutil.copy(first, tmp_path / "epoch_1.pth")
    shutil.copy(last, tmp_path / "epoch_3.pth")
    (tmp_path / "epoch_2.pth").write_bytes(last.read_bytes()[:30000])
    (tmp_path / "epoch_4.pth").write_bytes(last.read_bytes()[:30000])
    (tmp_path / "x.pth").write_text("hello")
    report = diagnose([tmp_path], level="files", causes=[NotOpened(), NeverLearned()])
    assert report.findings == ()
    assert "epoch_3.pth" in report.given
    notes = "\n".join(report.notes)
    assert "x.pth: no epoch in its name" in notes
    assert "epoch_4.pth cannot be opened: " in notes
    assert "epoch_2.pth" in notes


def test_of_a_run_without_one_that_opens_the_last_is_found_broken(tmp_path):
    for number in (1, 2):
        (tmp_path / f"epoch_{number}.pth").write_text("hello")
    first = diagnose([tmp_path], level="files", causes=[NotOpened()]).findings[0]
    assert first.evidence.startswith("epoch_2.pth is a text file")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (
            "bad.yaml",
            "model:\n  - a: [1, 2\n b: }\n",
            "bad.yaml: expected a config with model = dict(type=...), but it is no YAML that can",
        ),
        ("bad.py", "model = dict(\n", "bad.py is no Python that can be read"),
        ("cut.json", '[{"image_id": 1, "keypoints": [1, 2', "cut.json is damaged JSON, cut or edited"),
        ("cut.pth", "hello", "cut.pth is a text file"),
    ],
)
def test_a_damaged_file_beside_a_good_checkpoint_is_the_first_finding(tmp_path, name, content, why):
    damaged = written(tmp_path / name, content)
    report = diagnose([demo_checkpoints()[-1], damaged], level="files")
    assert report.findings[0].cause == "file cannot be read", report.text()
    assert report.findings[0].evidence.startswith(why)


@pytest.mark.parametrize("content", ["", "hello", '{"images": [', "[" * 100_000])
def test_annotations_that_are_no_json_are_a_finding(tmp_path, content):
    damaged = written(tmp_path / "val.json", content)
    report = diagnose(demo_checkpoints()[-1], data=damaged, level="files", causes=[NotRead()])
    assert [finding.cause for finding in report.findings] == ["file cannot be read"]
    assert report.findings[0].evidence.startswith("val.json")
    assert not diagnose(demo_checkpoints()[-1], data="scenes-val", level="files", causes=[NotRead()]).findings


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([], "expected a COCO annotation file (an object), got list"),
        ({"images": [], "annotations": [], "categories": []}, "expected at least one category, got none"),
        (
            {
                "images": [{"id": 1, "file_name": "1.jpg", "width": 9, "height": 9}],
                "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25}],
                "categories": [{"id": 1, "name": "person"}],
            },
            "expected keypoints, but neither categories nor annotations have any",
        ),
    ],
)
def test_annotations_of_no_use_are_told_and_called_neither_damaged_nor_absent(tmp_path, content, why):
    path = written(tmp_path / "val.json", json.dumps(content))
    report = diagnose(demo_checkpoints()[-1], data=path, level="files", causes=[NotRead()])
    assert not report.findings
    assert report.worth_adding[0].startswith("a data set that can be used (val.json: "), report.text()
    assert why in report.worth_adding[0]
    assert any(note.startswith("the data set was not used: val.json: ") for note in report.notes)


def test_a_damaged_checkpoint_that_is_named_first_leaves_the_good_one_to_be_examined(tmp_path):
    damaged = written(tmp_path / "cut.pth", "hello")
    report = diagnose([damaged, demo_checkpoints()[-1]], level="files", causes=[NotOpened(), NotRead()])
    assert report.subject.startswith("epoch_40.pth is RTMPose")
    assert [finding.cause for finding in report.findings] == ["file cannot be read"]
    assert report.findings[0].evidence.startswith("cut.pth is a text file")


def test_a_config_of_another_model_is_told_and_the_rest_is_tested_without_it(tmp_path):
    codec = "dict(type='MSRAHeatmap', input_size=(192, 256), heatmap_size=(48, 64), sigma=2)"
    other = written(
        tmp_path / "resnet.py",
        "model = dict(type='TopdownPoseEstimator', backbone=dict(type='ResNet', depth=18), "
        f"head=dict(type='HeatmapHead', in_channels=512, out_channels=17, decoder={codec}))\n",
    )
    given = [demo_checkpoints()[-1], other]
    report = diagnose(given, data="scenes-val", level="forward", causes=[Contradiction(), NotRun()], sample=4)
    assert [finding.cause for finding in report.findings] == [Contradiction.name, NotRun.name]
    said = "describes ResNet with HeatmapHead, and epoch_40.pth was trained with CSPNeXt with RTMCCHead"
    assert report.findings[0].evidence == f"resnet.py {said}"
    assert "0.0 % of its parameters come from the file" in report.findings[1].evidence
    assert "resnet.py does not fit; the rest is tested with the checkpoint's own config" in report.notes
    assert report.figures["AP"] > 0


def test_a_set_without_annotations_is_told(tmp_path):
    from workbench.data import builtin

    known = builtin("scenes-val")
    none = written(tmp_path / "none.json", {**known.raw, "annotations": []})
    images = next(iter(known.images.values())).path.parent
    report = diagnose(demo_checkpoints()[-1], data=none, images=images, level="forward", causes=[NotRun()])
    assert "none: no instance is annotated, so nothing is compared with the truth" in report.notes


def test_weights_that_cannot_be_compared_are_told_with_the_reason(tmp_path):
    cut = written(tmp_path / "cut.pth", "hello")
    report = diagnose([demo_checkpoints()[-1], cut], data="scenes-val", level="forward", causes=[Against()])
    assert "cut.pth is a text file" in report.not_testable[Against.name]


def test_a_checkpoint_of_unknown_code_asks_first_for_the_code_that_builds_its_model(tmp_path):
    torch.save({"net": {f"net::enc/{k}.weight": torch.randn(8, 8) for k in range(3)}}, tmp_path / "own.pth")
    pose = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "keypoints": [1, 2, 2, 8, 9, 2],
        "bbox": [0, 0, 9, 9],
        "area": 50,
    }
    names = {"id": 1, "name": "bug", "keypoints": ["near end", "far end"]}
    image = {"id": 1, "file_name": "a.png", "width": 10, "height": 10}
    whole = {"images": [image], "annotations": [pose], "categories": [names]}
    data = written(tmp_path / "val.json", whole)
    report = diagnose([tmp_path / "own.pth"], data=data, images=tmp_path, level="files")
    assert report.worth_adding[0].startswith("the model: its mmpose config (--config) or a Python file")
    assert "--adapter" in report.sentences()[2]
    assert (
        "neither the model nor the data set states"
        in report.not_testable["mirror pairs contradict the names"]
    )


@pytest.mark.parametrize(
    ("named", "edit", "config", "note"),
    [(False, "", False, False), (False, "padding=1.0", True, True), (True, "padding=1.0", True, False)],
    ids=["the checkpoint's own", "another one", "named as the user's own code"],
)
def test_a_printed_command_says_where_it_runs_a_config_that_was_only_read(
    tmp_path, named, edit, config, note
):
    """A config among the targets is read; --config of the other verbs is code that is run."""
    text = demo_config("rtmpose-demo").read_text()
    path = tmp_path / "mine.py"
    path.write_text(text.replace("padding=1.25", edit) if edit else text)
    file = demo_checkpoints("rtmpose-demo")[-1]
    targets, options = ([file], {"config": path}) if named else ([file, path], {})
    report = diagnose(targets, causes=[PartlyLoaded()], data="scenes-val", level="forward", **options)
    probe = next(one for one in report.commands if " probe " in one.line)
    assert ("--config" in probe.line, "only read here" in probe.shows) == (config, note)


def test_a_run_to_compare_with_that_holds_nothing_and_a_set_without_labels_are_told(tmp_path):
    """And no command is printed that such a set would end."""
    (tmp_path / "empty").mkdir()
    images = [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}]
    path = written(tmp_path / "none.json", {"images": images, "annotations": [], "categories": []})
    report = diagnose(
        [demo_checkpoints()[-1]], against=tmp_path / "empty", data=path, level="forward",
        causes=[Against(), PartlyLoaded()],
    )  # fmt: skip
    assert any(note.startswith("--against: ") and "empty" in note for note in report.notes)
    assert [one.line for one in report.commands if "--data" in one.line] == []
