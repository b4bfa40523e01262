"""Cancel frees the processor: every kind of job asks after each step, batch or question."""

from __future__ import annotations

import ast
from types import SimpleNamespace

import pytest

from tests.conftest import ROOT
from tests.trees import tree
from workbench.core.job import Cancelled, Job
from workbench.data.images import ImageReading
from workbench.evaluation import Cancelled as Stopped

# Kinds of jobs, by the module that starts them, and what shows that they end.
STARTED_IN = {
    "apps/server/comparison.py": "test_cancelling.py; reading with another decoder below",
    "apps/server/prediction_folders.py": "below",
    "apps/server/prediction_maps.py": "below",
    "apps/pages/conditioning/examination.py": "below",
    "apps/pages/conditioning/page.py": "below",
    "apps/pages/codecs/matrices.py": "below",
    "apps/pages/diagnose.py": "below",
    "apps/pages/results.py": "below",
    "apps/pages/history.py": "below",
    "apps/pages/job_sections.py": "sections that answer a question: below, test_differing.py",
    "apps/pages/grouping/set_evaluation.py": "below",
    "apps/pages/overfit/attempts.py": "below",
    "apps/pages/rollout/lab.py": "below",
}


def starts_a_job(node):
    if not (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "start"
    ):
        return False
    return ast.unparse(node.func.value).endswith(("jobs", "_results"))


def test_every_kind_of_job_is_looked_at_here():
    found = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "apps").rglob("*.py")
        if any(map(starts_a_job, ast.walk(tree(file, only=r"\.start\("))))
    }
    assert found == set(STARTED_IN)


class Asked(Job):
    """A job that is cancelled when it has been asked so often; `asked` counts."""

    after = 3
    asked = 0

    def cancelled(self):
        self.asked += 1
        if self.asked >= self.after:
            self.cancel()
        return super().cancelled()

    def checkpoint(self):
        if self.cancelled():
            raise Cancelled


@pytest.fixture
def job():
    return Asked("job-1", "key", "title")


class Counted:
    """Work in steps: counts those that are done."""

    done = 0

    def until(self, cancelled, steps=100):
        for _ in range(steps):
            if cancelled():
                raise Stopped("as asked for")
            self.done += 1

    def stepping(self, stepped, steps=100):
        for _ in range(steps):
            self.done += 1
            stepped()


def registry(**more):
    epochs = [SimpleNamespace(index=i, label=str(i), path=ROOT / "LICENSE") for i in range(2)]
    run = SimpleNamespace(title="a run", epochs=epochs, folder=ROOT)
    sets = SimpleNamespace(
        apart=lambda _: None, get=lambda *_, **__: SimpleNamespace(skeleton=()),
        sample=lambda *_: None, allowed=lambda _: (), version=lambda *_, **__: "",
    )  # fmt: skip
    return SimpleNamespace(
        run=lambda _: run,
        epoch=lambda _, i: epochs[i],
        model=lambda *_: SimpleNamespace(model=SimpleNamespace(skeleton=SimpleNamespace(mirror=()))),
        own_model=lambda *_: None,
        judging=lambda pose_set, _: (pose_set, ""),
        runs=lambda: [run],
        sets=sets,
        **more,
    )


@pytest.fixture
def context(monkeypatch):
    monkeypatch.setattr("workbench.evaluation.protocol.judged_by", lambda pose_set, _: pose_set)
    return SimpleNamespace(
        registry=registry(),
        settings=SimpleNamespace(device="cpu", config=None, reading=ImageReading()),
        jobs=None,
    )


def test_the_rollout_lab_ends_after_the_question_under_way(job, context, monkeypatch):
    from apps.pages.rollout.lab import Lab, RolloutState

    lab, work = Lab(context), Counted()
    monkeypatch.setattr(lab, "_key", lambda _, question, epoch: (question, epoch))
    monkeypatch.setattr(lab, "_report_or_reason", lambda *_: work.stepping(lambda: None, 1))
    with pytest.raises(Cancelled):
        lab._answer(job, RolloutState("run", (0, 1), "data", 0))
    assert work.done == 2


def test_a_comparison_of_schedules_ends_after_the_step_under_way(job, context, monkeypatch):
    from apps.pages.rollout.lab import RolloutState, ScheduleTraining
    from workbench.inspectors.sequence import schedules as training

    work = Counted()
    monkeypatch.setattr(training, "compare", lambda *_, stepped, **__: work.stepping(stepped))
    lab = SimpleNamespace(own_model=lambda *_: None, context=context)
    with pytest.raises(Cancelled):
        ScheduleTraining(lab)._train(job, RolloutState("run", (0,), "data", 0), 8, 1e-3)
    assert work.done == 3


def test_learning_anew_asks_as_often_as_the_loop_does(job, context, monkeypatch):
    from apps.pages.rollout.lab import Retraining, RolloutState
    from workbench.training import overfit, sequences, switches

    work = Counted()

    def learned(*_, stopped, **__):
        while not stopped():
            work.done += 1

    monkeypatch.setattr(overfit, "overfit", learned)
    monkeypatch.setattr(sequences, "untrained_copy", lambda model: model)
    monkeypatch.setattr(switches, "trial_steps", lambda *_: 0)
    lab = SimpleNamespace(own_model=lambda *_: None, context=context, title=lambda _: "")
    retraining = Retraining(lab)
    monkeypatch.setattr(retraining, "_command", lambda *_: "")
    with pytest.raises(Cancelled):
        retraining._learn(job, RolloutState("run", (0,), "data", 0), 8)
    assert work.done == 2


def test_a_bisection_of_the_overfit_page_ends_with_its_trial(job, monkeypatch):
    from apps.pages.overfit.attempts import Attempt
    from workbench.training import bisection, overfit

    attempt, asked = Attempt.__new__(Attempt), []
    attempt.run = overfit.OverfitRun.__new__(overfit.OverfitRun)
    attempt.run.setup = SimpleNamespace(plan=None, model=None, samples=(), device="cpu")
    attempt.run.verdict, attempt.run.session = "failed", SimpleNamespace(rows=[])
    attempt.run._first, attempt.run._expectation, attempt.run.before = "state", None, ()
    monkeypatch.setattr(overfit, "trial_steps", lambda *_: 0)

    def found(*_, stopped, **__):
        while not stopped():
            asked.append(True)
        return bisection.Cause()

    monkeypatch.setattr(overfit, "found_cause", found)
    with pytest.raises(Cancelled):
        attempt._bisect(job)
    assert len(asked) == 2


def test_an_experiment_ends_after_the_step_under_way(job, context, monkeypatch):
    from apps.pages.conditioning.examination import ClinicState
    from apps.pages.conditioning.page import Experiments
    from workbench.training.experiments import arms, running

    work = Counted()

    def experiment(_, __, ___, ____, watch):
        progress = running._ArmProgress(watch, 0, 1, "an arm")

        def on_step():
            progress("a step", 0.1)

        work.stepping(on_step)

    monkeypatch.setattr(running, "run_experiment", experiment)
    monkeypatch.setattr(running, "halves", lambda *_: None)
    monkeypatch.setattr(arms, "origin_of", lambda *_, **__: None)
    with pytest.raises(Cancelled):
        Experiments(context)._work(job, ClinicState("run", 0, "data"), "neck-rate", 8, 0)
    assert work.done == 3


def test_the_clinic_ends_after_the_pass_or_the_question_under_way(job, context, monkeypatch):
    from apps.pages.conditioning.examination import ClinicState, Examination
    from workbench.inspectors.conditioning import clinic, passes

    work, questions = Counted(), Counted()
    monkeypatch.setattr(passes, "spread", lambda *_: [])
    monkeypatch.setattr(Examination, "_title", lambda *_: "a run")
    monkeypatch.setattr(clinic, "several", lambda *_: ())
    monkeypatch.setattr(clinic, "forward", lambda *_, **__: None)
    monkeypatch.setattr(clinic, "conditioning_of", lambda *_, **__: None)
    monkeypatch.setattr(clinic, "predicted", lambda *_, cancelled, **__: work.until(cancelled))
    monkeypatch.setattr(clinic, "clinic", lambda *arguments: questions.stepping(arguments[-1]))
    with pytest.raises(Cancelled):
        Examination(context)._measured(job, ClinicState("run", 0, "data"), 1)
    assert work.done == 2
    monkeypatch.setattr(clinic, "predicted", lambda *_, **__: None)
    with pytest.raises(Cancelled):
        Examination(context)._measured(job, ClinicState("run", 0, "data"), 1)
    assert questions.done == 1


def test_ap_by_other_rules_ends_after_the_image_under_way(job, context, monkeypatch):
    from apps.pages.grouping.set_evaluation import SetEvaluations, SetRequest, StoredPasses
    from workbench.inspectors.grouping import replay

    work = Counted()

    def reached(model, passes, pose_set, params, progress, *_):
        for n in range(100):
            work.done += 1
            progress(n)

    monkeypatch.setattr(replay, "evaluate_settings", reached)
    sets = SetEvaluations(context)
    model = context.registry.model().model
    with pytest.raises(Cancelled):
        sets._grouped(
            job,
            model,
            (context.registry.sets.apart("data"), ()),
            SetRequest("run", 0, "data"),
            StoredPasses(),
            0,
            100,
        )
    assert work.done == 3


def test_a_codec_matrix_ends_after_the_variant_under_way(job, context, monkeypatch):
    from apps.pages.codecs.matrices import CodecState, Matrices
    from workbench import evaluation
    from workbench.evaluation import codecs, protocol

    work = Counted()
    monkeypatch.setattr(evaluation, "check_counting", lambda _: None)
    monkeypatch.setattr(evaluation, "protocol_of_loaded", lambda *_, **__: None)
    monkeypatch.setattr(protocol, "judged_by", lambda pose_set, _: pose_set)
    monkeypatch.setattr(codecs, "codec_matrix", lambda *_, cancelled, **__: work.until(cancelled))
    loaded = SimpleNamespace(model=context.registry.model().model, named_as=lambda _: loaded)
    context.registry.model = lambda *_: loaded
    context.jobs = None
    with pytest.raises(Stopped):
        Matrices(context)._work(job, CodecState("run", 0, "data", 0))
    assert work.done == 2


def test_a_comparison_of_result_files_ends_before_the_next_file(context, tmp_path):
    from apps.pages.results import ResultFiles

    job = Asked("job-1", "key", "title")
    job.after = 2
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file in files:
        file.write_text("[]")
    with pytest.raises(Cancelled):
        ResultFiles(context)._compared(job, "data", *map(str, files), "")
    assert job.step == "reading B"


def test_a_diagnosis_ends_before_the_next_cause(job, context):
    from apps.pages.diagnose import Diagnosing
    from workbench.checkpoints.demo import demo_checkpoints

    section = Diagnosing(context, [], None)
    asked, tested = section.asked([str(demo_checkpoints()[-1])], "", None, "", "", "files", ""), []
    with pytest.raises(Stopped):
        section._diagnosed(asked, job, lambda cause, answers: tested.append(cause))
    assert len(tested) <= 3


def test_reading_with_another_decoder_ends_after_some_samples(job, monkeypatch):
    import numpy as np

    from apps.server import output_cache
    from workbench.core import DecodeOptions
    from workbench.core import job as jobs

    work = Counted()
    facts = {"decoders": ["x"], "input_size": (8, 8), "kind": "heatmap"}
    stored = output_cache.StoredOutputs(ROOT, tuple(range(99)), facts)
    monkeypatch.setattr(output_cache, "CHUNK", 1)
    monkeypatch.setattr(output_cache.StoredOutputs, "array", lambda *_: np.zeros((99, 2, 3)))
    monkeypatch.setattr(output_cache.StoredOutputs, "_outputs", lambda *_: None)
    reader = SimpleNamespace(decode=lambda *_: [work.stepping(lambda: None, 1)])
    token = jobs._current.set(job)
    try:
        with pytest.raises(Cancelled):
            stored.decode(DecodeOptions(), lambda: reader)
    finally:
        jobs._current.reset(token)
    assert work.done == 2


def test_the_data_page_asks_before_every_check_and_every_draw(context, job):
    from apps.pages.data import EXAMPLE, Draws, Lint, OneSet, Sets, Views
    from workbench.data import builtin

    sets = Sets(context)
    sets.get = lambda data, upload: builtin("astronaut")
    with pytest.raises(Cancelled):
        Lint(sets, None, None).work(OneSet("astronaut", None), job)
    assert (job.asked, job.done) == (3, 1)
    again = Asked("job-2", "key", "title")
    with pytest.raises(Cancelled):
        Views(sets, None, None, None, []).work(Draws("astronaut", EXAMPLE, None, 1, 8, 0), again)
    assert (again.done, again.total) == (1, 8)


def test_a_folder_of_predictions_asks_before_every_epoch(job, monkeypatch):
    from apps.server import prediction_folders as folders
    from apps.server import prediction_maps as maps

    passed, evaluated = [], []
    epochs = [SimpleNamespace(index=index) for index in range(9)]
    registry = SimpleNamespace(
        sets=SimpleNamespace(sample=lambda *_: None, sample_key=lambda *key: key),
        passed=lambda run, index, *_, **__: passed.append(index),
    )
    wanted = SimpleNamespace(
        opened=lambda asked: None, _wished={"key": range(9)}, epoch=lambda opened, index: index,
        _evaluated=lambda opened, epoch: evaluated.append(epoch),
    )  # fmt: skip
    drawn = SimpleNamespace(
        _folders=wanted, _registry=registry, _checkpoint=lambda opened, epoch: ("run", epoch.index),
        _left=SimpleNamespace(get=lambda key, make: make()),
    )  # fmt: skip
    monkeypatch.setattr(maps.Left, "of_run", staticmethod(lambda run: run))
    monkeypatch.setattr(maps, "_maps_key", lambda *names: names)
    asked = SimpleNamespace(key="key", data="data")
    with pytest.raises(Cancelled):
        maps.PredictionMaps._forward(drawn, job, asked, 0, epochs)
    assert passed == [0, 1]
    with pytest.raises(Cancelled):
        folders.PredictionFolders._work(wanted, Asked("job-2", "key", "title"), asked)
    assert evaluated == [0, 1]


def test_the_demo_of_the_history_page_asks_before_every_epoch(job, tmp_path):
    from apps.server.prediction_folders import PredictionFolders

    with pytest.raises(Cancelled):
        PredictionFolders.make_demo(SimpleNamespace(_demo=tmp_path), job)
    assert [path.name for path in tmp_path.rglob("*.parquet")] == [
        f"epoch_{n}.parquet" for n in range(1, job.done + 1)
    ]
    assert (job.done, job.total) == (2, 6)
