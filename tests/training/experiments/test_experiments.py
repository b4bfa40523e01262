"""Experiments: arms that start alike, differ in one thing, and are judged with honest intervals."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import numpy as np
import pytest
import torch

from tests.models.text_fusion_net import config, written
from workbench.cli import main
from workbench.core import NotAvailable
from workbench.data import builtin
from workbench.evaluation import Cancelled
from workbench.models import open_model
from workbench.models.text_fusion import Path
from workbench.text.vectors import builtin_text
from workbench.training.experiments import EXPERIMENTS, Arm, Experiment, experiment_named, results, running
from workbench.training.experiments.arms import arm_model, origin_of, way_through
from workbench.training.experiments.results import (
    ArmResult,
    ExperimentReport,
    StoredArm,
    digest_of,
    stored_in,
)
from workbench.training.experiments.running import Course, Material, Watch, halves, jittered, run_experiment
from workbench.training.trainer import Trainer

SHORT = Course(steps=2, batch=2, measures=1)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    settings = config({"init": "random", "gate": "none"}, text="drawn-quadrupeds/horse")
    return written(settings, tmp_path_factory.mktemp("fusion"))


@pytest.fixture(scope="module")
def origin(file):
    return origin_of(open_model(file))


@pytest.fixture(scope="module")
def few():
    whole = halves(builtin("scenes-val"))
    (learn, some), (judge, others) = whole.train, whole.judge
    return Material((learn, some[:4]), (judge, others[:6]), whole.note)


def arm_result(name, delta=0.0, low=0.0, high=0.0, AP=0.5):
    empty = np.zeros(0)
    return ArmResult(
        name, AP, AP - 0.1, AP + 0.1, 0.6, delta, low, high, 0.55, 0, 0, 0, empty, empty, empty, empty
    )


def test_the_six_published_experiments_and_the_one_it_missed_are_there():
    wanted = {
        "no-fusion",
        "identity-start",
        "residual",
        "better-text",
        "neck-rate",
        "no-refiner",
        "both-ways",
    }
    assert set(EXPERIMENTS) == wanted
    assert all(len(e.arms) > 1 and len({a.name for a in e.arms}) == len(e.arms) for e in EXPERIMENTS.values())
    with pytest.raises(KeyError, match="no experiment 'residuals'; nearest: residual"):
        experiment_named("residuals")


def test_all_arms_start_alike_but_for_the_neck(origin):
    torch.manual_seed(5)
    a = arm_model(origin, Arm("a", {"init": "random"}), seed=1).module.state_dict()
    torch.manual_seed(6)
    again = arm_model(origin, Arm("a", {"init": "random"}), seed=1).module.state_dict()
    b = arm_model(origin, Arm("b", {"init": "identity"}), seed=1).module.state_dict()
    differ = {name for name in b if not torch.equal(a[name], b[name])}
    assert differ == {"neck.global_mlp.0.weight", "neck.global_mlp.0.bias"}
    assert all(torch.equal(a[name], again[name]) for name in a)


def test_the_given_model_is_left_as_it_was(origin, few):
    before = {k: v.clone() for k, v in origin.given.module.state_dict().items()}
    run_experiment(EXPERIMENTS["no-fusion"], origin, few, SHORT)
    assert all(torch.equal(v, before[k]) for k, v in origin.given.module.state_dict().items())


def test_the_same_seed_gives_the_same_report_and_no_arm_differs_from_itself(origin, few):
    twins = Experiment("twins", "Are twins alike?", (Arm("one"), Arm("other")))
    report = run_experiment(twins, origin, few, SHORT)
    one, other = report.arms
    assert (one.AP, other.delta) == (other.AP, 0)
    # Six instances in four images give no interval and no verdict.
    assert np.isnan([one.low, one.high, other.delta_low, other.delta_high]).all()
    assert not other.certain
    assert "(no interval), too few images for an interval" in report.summary()
    assert "nan" not in report.text()
    assert np.array_equal(one.loss, other.loss)
    assert one.measured.tolist() == [2]
    facts = json.loads(json.dumps(report.to_json()))
    assert {"name", "AP", "low", "high"} <= set(facts["arms"][0])


def test_the_seventh_judges_the_same_weights_by_every_way(origin, few):
    report = run_experiment(EXPERIMENTS["both-ways"], origin, few, SHORT)
    names = [arm.name for arm in report.arms]
    taught = {arm.AP_taught for arm in report.arms}
    assert report.steps == 0
    assert len(taught) == 1, "one way of training, one figure"
    assert report.arms[names.index("training path")].AP in taught


def test_ways_are_what_their_names_say(origin):
    model = origin.given
    assert (model.inference, model.training) == (Path(False, "inference"), Path(True, ""))
    ways = {arm.way: way_through(model, arm.way).inference for arm in EXPERIMENTS["both-ways"].arms}
    assert ways == {
        "as it predicts": Path(False, "inference"),
        "as it was trained": Path(True, ""),
        "fused and refined": Path(True, "inference"),
        "neither neck nor refiner": Path(False, ""),
    }
    assert way_through(model, "no refiner").inference == Path(False, "")


def test_arms_with_better_text_read_each_images_species(origin, few):
    own, each, other = (arm_model(origin, arm, 0) for arm in EXPERIMENTS["better-text"].arms)
    samples = [builtin("scenes-val").sample(i) for i in few.judge[1]]
    vectors = [m.prepare(samples).extra["subject"].numpy() for m in (own, each, other)]
    assert len(np.unique(vectors[0], axis=0)) == 1
    assert np.array_equal(vectors[1], builtin_text().of(samples))
    assert not (vectors[1] == vectors[2]).all(1).any(), "no image has its own species' sentence"
    assert (own.module.neck.text_from, each.module.neck.text_from) == ("first", "each")


def test_halves_share_no_image():
    scenes = builtin("scenes-val")
    material = halves(scenes)
    learn, judge = (
        {scenes.instances[i].image_id for i in part[1]} for part in (material.train, material.judge)
    )
    assert not learn & judge
    assert len(material.train[1]) + len(material.judge[1]) == len(scenes.labelled)
    one = dataclasses.replace(scenes, instances=scenes.instances[:1])
    with pytest.raises(ValueError, match="1 labelled image, two are needed"):
        halves(one)


def test_a_jittered_box_holds_the_same_instance():
    sample = builtin("scenes-val").sample(0)
    moved = jittered(sample, np.random.default_rng(0))
    assert moved.box != sample.box
    assert moved.truth is sample.truth
    ratio = (moved.box[2] - moved.box[0]) / (sample.box[2] - sample.box[0])
    assert 0.8 <= ratio <= 1.25


def test_a_course_measures_at_its_end_and_evenly_before():
    assert Course(steps=300, measures=3).measured_at() == (100, 200, 300)
    assert Course(steps=1, measures=3).measured_at() == (1,)
    for wrong in ({"steps": 0}, {"batch": 1}, {"measures": 0}, {"learning_rate": 0.0}):
        with pytest.raises(ValueError, match="experiment: "):
            Course(**wrong)


def test_an_experiment_can_be_cancelled(origin, few):
    seen = []
    watch = Watch(progress=lambda what, share: seen.append((what, share)), cancelled=lambda: len(seen) >= 1)
    with pytest.raises(Cancelled, match="stopped in arm 'as configured'"):
        run_experiment(EXPERIMENTS["neck-rate"], origin, few, SHORT, watch)
    assert seen == [("as configured: step 1 of 2", 0.225)]


def test_the_report_tells_a_change_from_luck():
    report = ExperimentReport(
        "x", "Is it so?", (arm_result("first"), arm_result("second", 0.05, 0.01, 0.09, 0.55),
        arm_result("third", -0.01, -0.05, 0.03, 0.49)), 0, 0, "6 instances",
    )  # fmt: skip
    assert (
        "second +0.050 [+0.010, +0.090]; third -0.010 [-0.050, +0.030], not significant" in report.summary()
    )
    figure = report.plot()
    assert figure.layout.title.text.startswith("Is it so? second: +0.050 AP")
    arms = (arm_result("first"), arm_result("second", -0.0001, -0.01, 0.01))
    alike = ExperimentReport("x", "Is it so?", arms, 0, 0, "6 instances").plot()
    assert alike.layout.title.text.startswith("Is it so? second: +0.000 AP")
    assert figure.data[0].x.dtype == np.float32
    assert [row["arm"] for row in report.table()] == ["first", "second", "third"]


def test_a_model_without_a_text_neck_is_refused_in_one_sentence():
    from workbench.checkpoints.demo import demo_checkpoints

    with pytest.raises(NotAvailable, match="has no text neck; give a text fusion checkpoint"):
        origin_of(open_model(demo_checkpoints()[-1]))


def test_a_start_of_another_network_is_refused_in_one_sentence(file):
    from workbench.checkpoints.demo import demo_checkpoints

    with pytest.raises(
        ValueError, match=r"does not fit as a start: \d+ tensors of backbone and head are absent"
    ):
        origin_of(open_model(file), demo_checkpoints()[-1])


def test_a_start_gives_every_arm_its_weights(file, tmp_path):
    state = torch.load(file, weights_only=True)["state_dict"]
    other = {
        k: v + 1 if k == "head.cls_x.weight" else v for k, v in state.items() if not k.startswith("neck")
    }
    torch.save({"state_dict": other}, tmp_path / "base.pth")
    origin = origin_of(open_model(file), tmp_path / "base.pth")
    made = arm_model(origin, Arm("a"), 0).module.state_dict()
    torch.testing.assert_close(made["head.cls_x.weight"], state["head.cls_x.weight"] + 1)
    assert "begin with the weights of" in origin.note


def test_a_config_that_the_user_names_builds_the_arms_of_a_file_without_one(file, tmp_path):
    saved = torch.load(file, weights_only=True)
    torch.save({"state_dict": saved["state_dict"]}, tmp_path / "bare.pth")
    (tmp_path / "elsewhere").mkdir()
    own_config = tmp_path / "elsewhere" / "mine.py"
    own_config.write_text(saved["meta"]["cfg"])
    with pytest.raises(NotAvailable, match="pass --config"):
        open_model(tmp_path / "bare.pth")
    origin = origin_of(open_model(tmp_path / "bare.pth", config=own_config), config=own_config)
    assert arm_model(origin, Arm("a", {"gate": "fixed"}), 0).module.neck.gate == "fixed"


def test_without_sentences_of_the_species_better_text_says_what_is_missing(tmp_path):
    np.save(tmp_path / "g.npy", np.ones(384, np.float32))
    np.save(tmp_path / "l.npy", np.ones((17, 384), np.float32))
    load = {"type": "LoadTextEmbeddings", "global_path": "g.npy", "local_path": "l.npy"}
    settings = config(text="") | {"train_dataloader": {"dataset": {"pipeline": [load]}}}
    origin = origin_of(open_model(written(settings, tmp_path)))
    with pytest.raises(NotAvailable, match="sentences of each species are needed"):
        arm_model(origin, EXPERIMENTS["better-text"].arms[1], 0)


def test_the_verb_lists_and_refuses(capsys, file):
    assert main(["experiment"]) == 0
    assert "both-ways" in capsys.readouterr().out
    assert main(["experiment", "no-fusion"]) == 2
    assert "expected a text fusion checkpoint and --data" in capsys.readouterr().err
    assert main(["experiment", "no-fusion", str(file), "--data", "scenes-vall"]) == 2
    assert "scenes-val" in capsys.readouterr().err


def test_the_verb_answers_with_arms(capsys, file):
    argv = ["experiment", "no-refiner", str(file), "--data", "scenes-val", "--most", "4", "--json"]
    assert main(argv) == 0
    text = json.loads(capsys.readouterr().out)
    assert [arm["name"] for arm in text["arms"]] == ["as configured", "no refiner"]


class Killed(BaseException):
    """What nothing catches, as a kill."""


@contextlib.contextmanager
def killed_at(monkeypatch, arm, step):
    """An experiment that ends in this arm when the snapshot of this step is to be written."""
    real = StoredArm.after_step

    def after_step(self, trainer, course):
        if self.folder.name.startswith(f"{arm}-") and trainer.step_number == step:
            raise Killed
        real(self, trainer, course)

    with monkeypatch.context() as patched:
        patched.setattr(StoredArm, "after_step", after_step)
        yield


def test_a_killed_experiment_goes_on_and_gives_the_same_figures(origin, few, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "SNAPSHOT_SECONDS", 0)
    course = Course(steps=3, batch=2, measures=2)
    experiment = EXPERIMENTS["neck-rate"]
    asked = (experiment, origin, few, course)
    whole = run_experiment(*asked).to_json()
    with killed_at(monkeypatch, 1, 3), pytest.raises(Killed), stored_in(tmp_path, *asked) as stored:
        run_experiment(*asked, store=stored)
    done = stored.folder / "0-as-configured"
    assert (done / "course.json").is_file()
    assert not list(done.glob("*.pth")), "snapshots of a finished arm are of no use"
    (
        half := next(p for p in stored.folder.iterdir() if p.name.startswith("1-")) / "step_00000009.half"
    ).touch()
    trained = []
    real = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self: trained.append(self.step_number + 1) or real(self))
    with stored_in(tmp_path, *asked) as stored:
        again = run_experiment(*asked, store=stored).to_json()
    assert again == whole
    assert trained == [3]
    assert stored.resumed == ["as configured, finished", f"{experiment.arms[1].name}, from step 2"]
    assert not half.exists()
    # A damaged file is none: its arm is trained anew, and the figures are the same.
    next(done.glob("*.parquet")).write_bytes(b"PAR1 cut off")
    trained.clear()
    with stored_in(tmp_path, *asked) as stored:
        assert run_experiment(*asked, store=stored).to_json() == whole
    assert (trained, stored.resumed[0].endswith("finished")) == ([1, 2, 3], True)


def test_whatever_decides_the_figures_of_an_experiment_decides_its_folder(origin, few):
    experiment = EXPERIMENTS["neck-rate"]

    def of(**changed):
        asked = {"experiment": experiment, "origin": origin, "material": few, "course": SHORT} | changed
        return digest_of(**asked)

    first = next(iter(origin.start))
    moved = dataclasses.replace(origin, start={**origin.start, first: origin.start[first] + 1e-3})
    pose_set, indices = few.train
    instances = list(pose_set.instances)
    instances[indices[0]] = dataclasses.replace(instances[indices[0]], truth=instances[indices[0]].truth + 1)
    corrected = dataclasses.replace(pose_set, instances=tuple(instances))
    others = {
        "weights": of(origin=moved),
        "learning rate": of(course=dataclasses.replace(SHORT, learning_rate=2e-3)),
        "truth": of(material=dataclasses.replace(few, train=(corrected, indices))),
        "instances": of(material=dataclasses.replace(few, judge=(few.judge[0], few.judge[1][:-1]))),
        "arms": of(experiment=dataclasses.replace(experiment, arms=experiment.arms[::-1])),
        "text": of(origin=dataclasses.replace(origin, species=None)),
    }
    assert of() == of()
    assert len({of(), *others.values()}) == len(others) + 1


def test_an_untrained_experiment_keeps_its_predictions(origin, few, tmp_path, monkeypatch):
    asked = (EXPERIMENTS["both-ways"], origin, few, SHORT)
    with stored_in(tmp_path, *asked) as stored:
        whole = run_experiment(*asked, store=stored).to_json()
    assert stored.resumed == []
    monkeypatch.setattr(running, "predict", None)
    with stored_in(tmp_path, *asked) as stored:
        assert run_experiment(*asked, store=stored).to_json() == whole
    assert len(stored.resumed) == 4
    with stored_in(tmp_path, *asked), pytest.raises(ValueError, match="another"), stored_in(tmp_path, *asked):
        pass


def test_arms_of_a_config_with_code_of_its_own_are_not_kept(workbench, file, tmp_path):
    (tmp_path / "mine.py").write_text(
        torch.load(file, weights_only=True)["meta"]["cfg"] + "\ncustom_imports = {'imports': ['json']}\n"
    )
    argv = ["experiment", "both-ways", file, "--data", "scenes-val", "--most", 4]
    code, _, err = workbench(*argv, "--config", tmp_path / "mine.py", "--folder", tmp_path / "kept")
    assert (code, "mine.py imports code of its own" in err) == (2, True)


def test_the_verb_says_what_it_took_up(workbench, file, tmp_path):
    argv = ["experiment", "both-ways", file, "--data", "scenes-val", "--most", 4, "--json"]
    code, first, err = workbench(*argv, "--folder", tmp_path / "kept")
    assert code == 0, err
    second = json.loads(workbench(*argv, "--folder", tmp_path / "kept")[1])
    first = json.loads(first)
    assert (first.pop("resumed"), len(second.pop("resumed"))) == ([], 4)
    assert second == first


@pytest.mark.parametrize("wrong", [7, "x", {"a": 1}, [["b"]]])
def test_a_curve_of_a_strangers_folder_that_is_none_is_trained_again(tmp_path, wrong):
    import json

    from workbench.training.experiments.results import COURSE

    arm = StoredArm(tmp_path, "origin")
    (tmp_path / "course.json").write_text(json.dumps(dict.fromkeys(COURSE, wrong)))
    assert arm.course(()) is None
    arm.finish({name: [1, 0.5] for name in COURSE})
    assert arm.course(()) == {name: [1, 0.5] for name in COURSE}
    text = (tmp_path / "course.json").read_text()
    (tmp_path / "course.json").write_text(text.replace("0.5", "0.6", 1))
    assert arm.course(()) is None, "a changed digit is valid JSON"


@pytest.mark.parametrize("depth", [1, 2])
def test_no_link_in_the_folder_of_an_experiment_is_written_through(origin, few, tmp_path, depth):
    """Of the experiment's own folder, and of an arm's."""
    asked = (EXPERIMENTS["both-ways"], origin, few, SHORT)
    with stored_in(tmp_path / "given", *asked) as stored:
        stored.arm(0, "judged")
    outside = tmp_path / "outside"
    outside.mkdir()
    names = ("notes.half", "step_00000001.pth", "course.json")
    for name in names:
        (outside / name).write_text("mine")
    inner = stored.folder if depth == 1 else stored.folder / "0-judged"
    inner.rename(tmp_path / "former")
    inner.symlink_to(outside, target_is_directory=True)
    with pytest.raises(OSError, match="is a link to"), stored_in(tmp_path / "given", *asked) as stored:
        run_experiment(*asked, store=stored)
    assert {path.name: path.read_text() for path in outside.iterdir()} == dict.fromkeys(names, "mine")


def test_a_folder_among_the_files_of_an_arm_is_no_half_of_a_file(tmp_path):
    (tmp_path / "mine.half").mkdir()
    StoredArm(tmp_path, "origin")
    assert (tmp_path / "mine.half").is_dir()


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": [2]},
        {"steps": []},
        {"loss": []},
        {"loss": [0.1] * 5},
        {"APs": [0.9]},
        {"measured": [1], "APs": []},
    ],
)
def test_a_snapshot_with_a_curve_of_other_steps_is_not_taken_up(tmp_path, wrong):
    class Taught:
        settings, step_number = SHORT, 1

        def state(self):
            return {"step": 1, "model": {}, "optimizer": {}, "settings": {}}

        def restore(self, state):
            self.restored = state["step"]

    course = {"steps": [1], "loss": [0.3], "measured": [], "APs": []}
    for change, taken in (({}, True), (wrong, False)):
        arm, taught = StoredArm(tmp_path, "origin"), Taught()
        arm._saved = -1e9
        arm.after_step(taught, {**course, **change})
        assert (arm.restore(taught) is not None, hasattr(taught, "restored")) == (taken, taken)
