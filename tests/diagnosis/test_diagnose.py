"""From files to the answer: planted causes are found first, and nothing is said of a healthy run."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from tests.diagnosis import suite, systems
from tests.diagnosis.judging import judged
from tests.diagnosis.planting import CONTROLS, FAULTS
from workbench.checkpoints.demo import demo_checkpoints, demo_config, demo_run
from workbench.core import NotAvailable
from workbench.core.finding import WITH_FLIP_TEST, Effect
from workbench.diagnosis import Cause, Diagnosis, RuledOut, all_causes, diagnose
from workbench.diagnosis.case import Case, Options
from workbench.diagnosis.loading_causes import PartlyLoaded
from workbench.diagnosis.report import ASSUMED_SIGMAS, by_proof
from workbench.diagnosis.targets import Given

# Whose pictures are drawn, or whose network is trained, before a case can be made.
MADE_FIRST = ("vitpose", "text", "heatmaps", "results")
# Their pictures are drawn as well, some 60 in 10 s: tests/diagnosis/test_image_files.py leaks built-in ones.
LEAKED = (
    "held: other training set of the same names",
    "fresh: a seventh of the validation in the training",
    "later: validation pictures in the training, stored anew",
    "third: mirrored validation pictures in the training",
    "sixth, results: people, middles of validation pictures in the training",
)


def is_made_first(case):
    """Whether something is drawn or trained before the case can be made."""
    if case.system == "results" and case.level == "files":
        return case.name in LEAKED
    return bool(case.system in MADE_FIRST or case.system.partition(", ")[2] or "really trained" in case.name)


# More than a third of the suite: all that reads files alone, and some that ask the demo's network.
WHOLE = (
    *suite.IN_SAMPLE, *suite.HELD_OUT, *suite.FRESH, *suite.LATER, *suite.THIRD, *suite.FOURTH, *suite.FIFTH,
    *suite.SIXTH,
)  # fmt: skip
FAST = [c for c in WHOLE if (c.fast or c.level == "files") and not is_made_first(c)]
DRAWN = [c for c in WHOLE if (c.fast or c.name in LEAKED) and is_made_first(c)]
SLOW = [case for case in (*FAULTS, *CONTROLS) if case not in (*FAST, *DRAWN)]


# Every cause is tested on the whole set: 4 to 8 s.
COSTLY = ("epoch 40",)


def test_more_than_a_third_of_the_suite_is_run():
    assert len(FAST) > len(WHOLE) / 3


@pytest.mark.parametrize(
    "case",
    [*(pytest.param(c, id=c.name, marks=pytest.mark.long if c.name in COSTLY else ()) for c in FAST),
     *(pytest.param(c, id=c.name, marks=pytest.mark.long) for c in DRAWN)],
)  # fmt: skip
def test_the_true_cause_is_first_and_nothing_false_is_said(case, request, monkeypatch):
    if "long" not in request.keywords:
        monkeypatch.delattr(systems, "write_scenes")  # a case that draws pictures is long
    few = 24 if "long" not in request.keywords or not case.cause else 48
    outcome = judged(case, sample=few)
    assert outcome.right, outcome.report.text()
    assert not outcome.false, outcome.report.text()


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW, ids=lambda case: case.name)
def test_the_rest_of_the_suite(case):
    outcome = judged(case)
    assert outcome.right, outcome.report.text()


def test_a_file_without_a_tensor_that_tells_its_size_says_which(tmp_path):
    content = torch.load(demo_checkpoints("higherhrnet-demo")[-1], map_location="cpu", weights_only=False)
    del content["state_dict"]["conv1.weight"]
    torch.save(content, tmp_path / "part.pth")
    report = diagnose(tmp_path / "part.pth", level="forward", causes=[PartlyLoaded()])
    assert [one.cause for one in report.findings] == ["weights only partly loaded"]
    assert "conv1.weight" in report.findings[0].evidence


class Always(Cause):
    """Finds itself."""

    name, group, level = "always there", "output", "files"

    def test(self, case):
        return self.found("it is there", fix="take it away")


class Missing(Cause):
    """Lacks something."""

    name, group = "never testable", "file"

    def test(self, case):
        raise NotAvailable("a thing that nobody has")


class Broken(Cause):
    """Of another package, with a mistake in its code."""

    name, group, level = "broken test", "file", "files"

    def test(self, case):
        return case.nowhere


class Absent(Cause):
    """Is not there."""

    name, group = "not there", "labels"

    def test(self, case):
        return RuledOut("looked at, and fine")


class Costly(Cause):
    """Needs a training."""

    name, group, level = "costly", "training", "train"

    def test(self, case):
        raise AssertionError("not at this level")


def test_the_json_has_what_was_found_ruled_out_and_not_tested():
    report = diagnose(demo_checkpoints()[-1], causes=[Costly(), Missing(), Absent(), Always()], level="files")
    facts = json.loads(json.dumps(report.to_json()))
    assert [f["cause"] for f in facts["findings"]] == ["always there"]
    assert facts["findings"][0]["group"] == "output"
    assert facts["ruled_out"] == [{"cause": "not there", "evidence": "looked at, and fine"}]
    needs = {one["cause"]: one["needs"] for one in facts["not_testable"]}
    assert needs["never testable"] == "a thing that nobody has"
    assert "--level train" in needs["costly"]
    assert len(facts["sentences"]) == 3


def test_a_proof_outranks_every_circumstance():
    cause = Always()
    proved = cause.found("a", effect=Effect("AP", 0.03, 0.01, 0.05), confidence="proved", severity="warning")
    larger = cause.found("b", effect=Effect("AP", 0.2, 0.1, 0.3), confidence="proved")
    broken = cause.found("c", confidence="measured")
    likely = cause.found("d", confidence="likely", severity="error")
    remark = cause.found("e", severity="remark", confidence="proved", effect=Effect("AP", 0.9, 0.8, 1.0))
    flip = cause.found(
        "f", effect=Effect(f"OKS{WITH_FLIP_TEST}", 0.4, 0.3, 0.5), confidence="proved", severity="warning"
    )
    order = by_proof([remark, likely, flip, broken, proved, larger])
    assert [finding.evidence for finding in order] == ["b", "a", "c", "f", "d", "e"]
    # Also where no interval was drawn.
    alone = cause.found("g", effect=Effect(f"AP{WITH_FLIP_TEST}", 0.8), confidence="proved")
    assert [finding.evidence for finding in by_proof([alone, likely, broken])] == ["c", "g", "d"]
    # Without the flip test the figure has no cause that the flip test could name.
    answer = Diagnosis("run", "a checkpoint", (flip,), {}, {}, {}).sentences()[0]
    assert answer == (
        "No cause of this figure was found; in the flip test, which it does not use: always there "
        "(OKS with flip test +0.400 (0.300 to 0.500))."
    )
    answer = Diagnosis("run", "a checkpoint", (broken, flip), {}, {}, {}).sentences()[0]
    assert (
        "main finding is: always there; what it costs was not measured; also found: always there (OKS"
        in answer
    )
    # What it rests on and was not looked at stands beside the cause.
    assumed = dataclasses.replace(broken, assumption="your predict is the published one")
    answer = Diagnosis("run", "a checkpoint", (assumed, flip), {}, {}, {}).sentences()[0]
    assert "main finding is: always there (only if your predict is the published one); what it" in answer
    assert Diagnosis("run", "a checkpoint", (flip,), {}, {}, {}).plot().layout.xaxis.title.text == (
        f"change of OKS{WITH_FLIP_TEST} by undoing the cause"
    )


def test_the_cause_of_a_proved_symptom_comes_before_it_and_before_what_is_only_measured():
    cause = Always()
    symptom = cause.found("a", effect=Effect("AP", 0.06, 0.02, 0.08), confidence="proved")
    symptom = dataclasses.replace(symptom, cause="score does not rank")
    explains = dataclasses.replace(cause.found("b"), cause="scores flattened")
    other = dataclasses.replace(cause.found("c"), cause="neck skipped")
    order = by_proof([other, explains, symptom], {"score does not rank": ("scores flattened",)})
    assert [finding.evidence for finding in order] == ["b", "a", "c"]
    answer = Diagnosis("run", "a checkpoint", tuple(order), {}, {}, {}).sentences()[0]
    assert (
        "The main cause is: scores flattened; it explains what was proved: score does not rank (AP +0.060"
        in answer
    )
    assert "also found: neck skipped" in answer


def test_a_figure_of_renamed_weights_says_so():
    found = Always().found("a", effect=Effect("AP", 1.0, 0.9, 1.0), confidence="proved")
    found = dataclasses.replace(found, cause="weights only partly loaded")
    answer = Diagnosis("run", "a checkpoint", (found,), {}, {}, {}, {"AP": 1.0}).sentences()[0]
    assert answer.startswith("The run, once its weights are renamed, reaches AP 1.000; the main cause is")


def test_a_figure_without_known_sigmas_says_which_one_was_used():
    found = Always().found("a", effect=Effect("AP", 1.0, 0.9, 1.0), confidence="proved")
    rules = f"poses, {ASSUMED_SIGMAS}"
    answer = Diagnosis("run", "results", (found,), {}, {}, {}, {"AP": 1.0}, protocol=rules).sentences()[0]
    assert answer.startswith("The run reaches AP 1.000 (sigma .07 for every keypoint: none are known); ")


def test_every_finding_says_what_would_refute_it():
    class Silent(Always):
        refuted_by = ""

    report = diagnose(demo_checkpoints()[-1], causes=[Silent()], level="files")
    assert report.findings[0].refuted_by.startswith("the same test on other data")


def test_a_config_of_another_model_is_told_and_the_rest_is_tested(tmp_path):
    config = tmp_path / "other.py"
    config.write_text(demo_config().read_text().replace("out_channels=17", "out_channels=21"))
    causes = [
        c for c in all_causes() if c.name in ("weights only partly loaded", "weights that are not finite")
    ]
    report = diagnose([demo_checkpoints()[-1], config], level="forward", causes=causes)
    assert [finding.cause for finding in report.findings] == ["weights only partly loaded"]
    assert "with the config inside or beside the checkpoint 100.0 % are" in report.findings[0].evidence
    assert "weights that are not finite" in report.ruled_out


def test_a_broken_file_among_good_ones_is_told_and_the_rest_is_tested(tmp_path):
    files = {"broken.json": "{", "broken.py": "x = (", "photo.jpg": "no picture", "empty.log": ""}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    targets = [demo_checkpoints()[-1], *(tmp_path / name for name in files)]
    report = diagnose(targets, level="files")
    assert "weights that are not finite" in report.ruled_out
    evidence = [finding.evidence for finding in report.findings]
    sentences = " ".join([*report.notes, *report.not_testable.values(), *evidence])
    for name in ("broken.json", "broken.py", "empty.log"):
        assert name in sentences


def test_the_whole_set_is_measured_at_level_evaluate_and_a_part_within_a_budget():
    causes = [c for c in all_causes() if c.name == "output axes exchanged"]
    whole = diagnose(demo_checkpoints()[1], data="scenes-val", causes=causes, sample=4)
    assert "230 annotated instances" in whole.protocol
    assert "of 230" not in whole.protocol
    part = diagnose(demo_checkpoints()[1], data="scenes-val", causes=causes, sample=4, level="forward")
    assert "on 4 of 230 annotated instances (level forward)" in part.sentences()[0]
    assert "4 of 230 annotated instances" in part.protocol


def test_no_cause_found_is_an_answer():
    report = diagnose(demo_checkpoints()[-1], causes=[Absent()], level="files")
    first, second, _ = report.sentences()
    assert first == "No cause was found: 1 possible cause was tested and ruled out, 0 could not be tested."
    assert second == "Ruled out: not there."
    assert report.findings == ()


def test_nothing_testable_is_said(tmp_path):
    path = tmp_path / "notes.doc"
    path.write_text("words")
    report = diagnose(path, level="files")
    assert "nothing could be tested" in report.sentences()[0]
    assert report.notes[0].startswith("notes.doc: expected a checkpoint")
    assert any("checkpoint" in text for text in report.worth_adding)


def test_a_broken_checkpoint_is_the_finding_and_the_log_is_still_tested(tmp_path):
    path = tmp_path / "epoch_1.pth"
    path.write_bytes(demo_checkpoints()[0].read_bytes()[:5000])
    report = diagnose([path, demo_run() / "vis_data" / "scalars.json"], level="files")
    assert report.findings[0].cause == "checkpoint cannot be opened"
    assert "training curves" in report.ruled_out


def test_a_log_of_another_run_is_told_and_not_used():
    log = demo_run("rtmpose-text-base") / "vis_data" / "scalars.json"
    report = diagnose([demo_checkpoints()[-1], log], level="files")
    assert [f.cause for f in report.findings] == ["log of another run"]
    assert "log is of another run" in report.not_testable["training curves"]
    assert "weights that are not finite" in report.ruled_out


def log_of(folder, epochs, per_epoch, **figures):
    """A log of one row an epoch, of which the loss does not fall."""
    rows = [{"epoch": e, "iter": e * per_epoch, "loss": 5.0, **figures} for e in range(1, epochs + 1)]
    path = folder / "other.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


@pytest.mark.parametrize(
    ("epochs", "per_epoch", "why"),
    [
        (12, 147, "it ends at epoch 12, and epoch_40.pth was written at epoch 40"),
        (60, 300, "an epoch has 147 iterations in epoch_40.pth, and epoch 60 lies at iteration 18000"),
    ],
)
def test_a_log_that_counts_otherwise_is_of_another_run(tmp_path, epochs, per_epoch, why):
    report = diagnose([demo_checkpoints()[-1], log_of(tmp_path, epochs, per_epoch)], level="files")
    assert [f.cause for f in report.findings] == ["log of another run"], report.text()
    assert why in report.findings[0].evidence
    assert why in report.not_testable["training loss does not fall"]


def test_a_log_of_which_nothing_can_be_compared_is_not_blamed_on_the_run(tmp_path):
    report = diagnose([demo_checkpoints()[-1], log_of(tmp_path, 40, 147)], level="files")
    assert "no figure stands in both" in report.not_testable["log of another run"]
    found = {f.cause: f for f in report.findings}["training loss does not fall"]
    assert found.evidence.startswith("of this log, which nothing shows to be of the checkpoint's run: ")
    assert found.severity == "warning"


def test_a_set_without_annotations_is_told(tmp_path):
    path = tmp_path / "bare.json"
    image = {"id": 1, "file_name": "a.png", "width": 8, "height": 8}
    names = [f"k{i}" for i in range(17)]
    content = {
        "images": [image],
        "annotations": [],
        "categories": [{"id": 1, "name": "a", "keypoints": names}],
    }
    path.write_text(json.dumps(content))
    report = diagnose(demo_checkpoints()[-1], data=path, level="forward")
    assert "no instance is annotated" in report.not_testable["channel order"]
    assert "weights that are not finite" in report.ruled_out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"level": "all"}, "expected files, forward, evaluate, train"),
        ({"claim": {"mAP": 0.5}}, "expected one of AP"),
        ({"claim": {"AP": 5}}, "from 0 to 1"),
        ({"budget": 0}, "more than 0 seconds"),
    ],
)
def test_wrong_arguments_are_one_sentence(more, words):
    with pytest.raises(ValueError, match=words):
        diagnose(demo_checkpoints()[-1], **more)
    with pytest.raises(FileNotFoundError, match="no such file"):
        diagnose("nowhere.pth")


def test_a_spent_budget_leaves_causes_untested():
    report = diagnose(demo_checkpoints()[-1], level="files", budget=1e-9)
    assert not report.findings
    assert all("budget" in why or "level" in why for why in report.not_testable.values())


def test_causes_have_names_of_their_own_and_say_what_refutes_them():
    causes = all_causes()
    assert len({cause.name for cause in causes}) == len(causes)
    assert all(cause.group and cause.needs for cause in causes)


TWO_RUNS = """
### Base Model
- Epoch 230: AP 0.7000
- Epoch 240: AP 0.7071

### New Model
- Epoch 270: AP 0.6241
- Epoch 280: AP 0.6251

| Metric | Base | New |
|---|---|---|
| AP | 0.7071 | 0.6251 |
| AR | 0.7286 | 0.7590 |
"""


def test_a_text_that_compares_two_runs_gives_the_sign_of_lost_ranking(tmp_path):
    text = tmp_path / "analysis.md"
    text.write_text(TWO_RUNS)
    found = diagnose([text], level="files").findings
    assert [one.cause for one in found] == ["AP and AR go opposite ways"]


def test_the_text_of_case_000_names_ap_against_ar(shared):
    first = diagnose([shared / "seeds" / "000.md"], level="files").findings[0]
    assert first.cause == "AP and AR go opposite ways"
    assert first.evidence.startswith(
        "from 000.md: Base to 000.md: V2 AP changes by -0.082 (0.7071 to 0.6251)"
    )


def test_the_text_of_case_003_names_the_loss_that_falls_alone(shared):
    first = diagnose([shared / "seeds" / "003.md"], level="files").findings[0]
    assert first.cause == "loss falls while the metric does not"


def test_a_text_without_figures_is_told(tmp_path):
    text = tmp_path / "notes.md"
    text.write_text("# Notes\n\nNothing was measured.\n")
    answer = diagnose([text], level="files")
    assert not answer.findings
    assert not answer.ruled_out


def test_given_sigmas_judge_everything_and_are_told():
    case = Case(Given(), Options(data="scenes-val", sigmas=(0.05,)))
    assert case.pose_set().skeleton.sigmas == (0.05,) * 17
    assert case.notes == ["OKS is computed with the given sigmas, 0.05"]
    for sigmas in ((0.05, 0.06), (-1.0,)):
        with pytest.raises(
            NotAvailable, match="one number above 0, or 17, one for each keypoint of scenes-val"
        ):
            diagnose([], data="scenes-val", sigmas=sigmas)


@pytest.mark.parametrize("budget", [1e-9, 0.5])
def test_a_budget_that_ends_early_leaves_a_report_that_says_so(budget):
    report = diagnose(demo_run("rtmpose-demo"), data="scenes-val", level="forward", budget=budget)
    left = [cause for cause, needs in report.not_testable.items() if "budget" in needs]
    assert f"the budget of {budget:g} s was spent before {len(left)} causes were tested" in report.text()
    assert left


def test_a_mistake_in_the_test_of_another_package_takes_nothing_from_the_others():
    report = diagnose(demo_checkpoints()[-1], level="files", causes=[Broken(), Always()])
    assert [one.cause for one in report.findings] == ["always there"]
    assert report.not_testable["broken test"].startswith("its own test failed (AttributeError: ")
