"""Causes that what was given does not distinguish are named together, and never where nothing is wrong."""

from __future__ import annotations

import importlib
import json
import re

import pytest

from tests.diagnosis.planted_logs import flat, logged
from tests.diagnosis.planted_results import good_results, mixed_up_sides
from tests.diagnosis.test_evidence import evidence, moved, perfect, scenes  # noqa: F401 - a fixture
from workbench.core.finding import Effect, Finding
from workbench.data import builtin
from workbench.diagnosis import diagnose
from workbench.diagnosis.candidates import EXPLAINED_BY, Candidate, Candidates, of_separation, of_symptoms
from workbench.diagnosis.cause import GIVEN_BACK
from workbench.diagnosis.claim_causes import ClaimByOtherRules
from workbench.diagnosis.diagnosing import _behind_weights
from workbench.diagnosis.document import document, notebook
from workbench.diagnosis.evidence import Change
from workbench.diagnosis.label_causes import KeypointOrder
from workbench.diagnosis.placing_causes import SidesExchanged
from workbench.diagnosis.report import by_proof
from workbench.diagnosis.separation import Separation
from workbench.diagnosis.training_causes import LossStays, NoGradient


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    """Good poses with left and right exchanged: an order of the channels, or the sides of the labels."""
    mirror = builtin("scenes-val").skeleton.mirror
    made = good_results(lambda raw: None, lambda found: mixed_up_sides(found, mirror))
    targets, options = made(tmp_path_factory.mktemp("mirrored"))
    return diagnose(targets, level="forward", causes=[KeypointOrder(), SidesExchanged()], **options)


def test_two_changes_that_give_the_same_are_candidates_and_neither_is_proved_or_ruled_out(mirrored):
    (first,) = mirrored.findings
    (group,) = mirrored.candidates
    both = {KeypointOrder.name, SidesExchanged.name}
    assert {one.cause for one in group.causes} == both
    assert first.confidence == "likely"
    assert not both.intersection(mirrored.ruled_out)
    for one in group.causes:
        assert re.search(r"mean OKS \+0\.\d+ \(\+0", one.evidence), one
        assert one.measurement.startswith("it is refuted by ")


def test_candidates_stand_in_the_text_the_facts_the_page_and_the_notebook(mirrored, capsys):
    import nbformat

    names = [one.cause for one in mirrored.candidates[0].causes]
    facts = json.loads(json.dumps(mirrored.to_json()))
    assert [one["cause"] for one in facts["candidates"][0]["causes"]] == names
    assert set(facts["candidates"][0]["causes"][0]) == {"cause", "evidence", "measurement"}
    assert "not distinguished by what was given: " in mirrored.text()
    assert "what was given does not distinguish</h2>" in document(mirrored)
    cells = [c.source for c in nbformat.reads(notebook(mirrored), as_version=4).cells]
    (shown,) = [cell for cell in cells if "report.candidates" in cell]
    exec(compile(shown, "notebook", "exec"), {"report": mirrored})
    printed = capsys.readouterr().out
    assert all(f"  {name}: " in printed for name in names)


def test_a_smaller_gain_within_chance_is_a_candidate_and_a_clearly_smaller_one_is_not(scenes):  # noqa: F811
    spoilt = evidence(scenes, moved(8.0)(perfect(scenes, 0.03)))
    back = Change("shift", "moved back", "poses", moved(-8.0))
    nearly = Change("nearly", "moved back by .98", "poses", moved(-7.8))
    half = Change("half", "moved back by half", "poses", moved(-4.0))
    apart = Separation(spoilt, [back, nearly, half]).result()
    (group,) = of_separation(apart, [apart.chosen[0].cause], {})
    assert {one.cause for one in group.causes} == {"shift", "nearly"}
    stated = Change("shift", "moved back", "poses", moved(-8.0), shown=True)
    alone = Separation(spoilt, [stated, half]).result()
    assert of_separation(alone, ["shift"], {}) == []


def test_a_loss_that_stays_has_candidates_without_those_that_were_ruled_out(tmp_path):
    targets, options = logged(flat)(tmp_path)
    report = diagnose(targets, level="files", causes=[LossStays()], **options)
    (group,) = report.candidates
    assert group.symptom.startswith("training loss does not fall (")
    assert "learning rate is ten times off its recipe's" in report.sentences()[0]
    assert "it is not proved" in report.sentences()[0]
    more = diagnose(targets, level="files", causes=[LossStays(), NoGradient()], **options)
    assert NoGradient.name in more.ruled_out
    assert NoGradient.name in {one.cause for one in group.causes}
    assert NoGradient.name not in {one.cause for one in more.candidates[0].causes}


def test_a_symptom_of_which_a_cause_was_found_has_no_candidates():
    symptom = Finding("not finite", "the loss is nan from iteration 40 on", confidence="likely")
    cause = Finding("half precision overflows in training", "the loss scale halves at every step")
    remark = Finding("not finite", "one row", severity="remark")
    assert len(of_symptoms([symptom], (), {})) == 1
    assert of_symptoms([symptom, cause], (), {}) == []
    assert of_symptoms([remark], (), {}) == []
    other = Finding("support not read", "measured in the network")
    assert of_symptoms([symptom, other], (), {}) == []
    assert len(of_symptoms([Finding("not finite", "measured"), other], (), {})) == 1
    assert of_symptoms([symptom], [name for name, _ in EXPLAINED_BY["not finite"]], {}) == []


@pytest.mark.parametrize(
    ("claim", "silent"), [pytest.param(0.99, False, marks=pytest.mark.long), (0.35, True)]
)
def test_a_figure_that_is_not_reached_names_what_could_not_be_tested(claim, silent, tmp_path):
    targets, options = good_results(lambda raw: None, low=0.05, high=0.12)(tmp_path)
    causes = [ClaimByOtherRules(), LossStays(), KeypointOrder()]
    report = diagnose(targets, level="forward", causes=causes, claim={"AP": claim}, **options)
    assert report.findings == ()
    if silent:
        assert report.candidates == ()
        return
    (group,) = report.candidates
    assert re.search(r"^AP is 0\.\d+ \(at most 0\.\d+ .* of the expected 0\.990", group.symptom)
    assert [(one.cause, one.measurement) for one in group.causes] == [
        (LossStays.name, report.not_testable[LossStays.name])
    ]
    assert report.sentences()[0].endswith(f"what was given does not distinguish these: {LossStays.name}.")
    assert "give" in report.sentences()[2] or "add it" in report.sentences()[2]


def test_a_healthy_log_has_no_candidates(tmp_path):
    targets, options = logged()(tmp_path)
    assert diagnose(targets, level="files", **options).candidates == ()


def test_commands_that_candidates_name_are_commands_of_the_workbench():
    texts = [tells for known in EXPLAINED_BY.values() for _, tells in known]
    commands = [one for text in texts for one in re.findall(r"`workbench (\w+) [^`]*`", text)]
    assert commands
    for verb in set(commands):
        importlib.import_module(f"workbench.cli.{verb}")
    assert all(re.match("give|run|evaluate", text) for text in texts)


def test_a_symptom_stands_behind_a_cause_that_is_known_as_well_and_before_a_weaker_one():
    symptom, cause = Finding("keypoints not learned", ""), Finding("loss in the log is scaled", "")
    warning = Finding("annotated boxes", "", severity="warning")
    order = by_proof([symptom, warning, cause])
    assert [one.cause for one in order] == [cause.cause, symptom.cause, warning.cause]


def test_the_text_of_candidates_lists_them():
    one = Candidate("a cause", "", "give it")
    group = Candidates("AP is low", (one, one))
    assert group.text() == "AP is low: a cause or a cause"


class Remembers:
    """A case after its tests: what it remembers by key."""

    def __init__(self, **kept):
        self.peek = {name.replace("_", " "): value for name, value in kept.items()}.get


def test_an_effect_that_is_not_proved_waits_for_weights_that_are():
    weights = Change("weights of one part scaled", "", "weights", lambda model: model)
    case = Remembers(**{GIVEN_BACK.replace(" ", "_"): [weights]})
    nothing, some = Effect("AP", 0.0, 0.0, 0.0), Effect("AP", 0.1, 0.05, 0.2)
    cause = SidesExchanged()
    assert "undo 'weights of one part scaled' first" in _behind_weights(
        case, cause, cause.found("", effect=nothing)
    )
    assert _behind_weights(case, cause, cause.found("", effect=some)) == ""
    assert _behind_weights(case, cause, cause.found("")) == ""
    assert _behind_weights(Remembers(), cause, cause.found("", effect=nothing)) == ""
    assert _behind_weights(case, LossStays(), LossStays().found("", effect=nothing)) == ""
