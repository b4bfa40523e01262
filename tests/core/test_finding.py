"""One record for everything that is found wrong: its text, its JSON, its rank."""

from __future__ import annotations

import json

from workbench.core.finding import Effect, Finding, Measurement, ranked

SKIPPED = Finding(
    "neck skipped in predict",
    "the training and predict passes differ from tap neck on",
    "pass the text to extract_feat in predict",
    numbers=(Measurement("moved", 0.12, "share of the box"),),
    effect=Effect("AP", 0.031, 0.022, 0.04),
    assumption="predict is the published one",
)


def test_the_text_holds_cause_evidence_effect_assumption_and_fix():
    assert SKIPPED.text() == (
        "neck skipped in predict: the training and predict passes differ from tap neck on; removing it gives "
        "AP +0.031 (0.022 to 0.040); only if predict is the published one; pass the text to extract_feat in "
        "predict"
    )
    assert Finding("a", "b").text() == "a: b"


def test_an_effect_without_an_interval_is_one_number():
    assert Effect("PCK@0.05", -0.5).text() == "PCK@0.05 -0.500"


def test_facts_are_plain_json_with_none_for_nan():
    facts = SKIPPED.facts()
    json.dumps(facts, allow_nan=False)
    assert facts["numbers"][0] == {
        "name": "moved", "value": 0.12, "unit": "share of the box", "expected": None, "protocol": "",
    }  # fmt: skip
    assert facts["effect"]["low"] == 0.022


def test_findings_are_ranked_by_severity_then_effect_then_confidence():
    likely = Finding("likely", "", confidence="likely")
    small = Finding("small", "", effect=Effect("AP", 0.01), confidence="proved")
    remark = Finding("remark", "", effect=Effect("AP", 0.5), severity="remark")
    measured = Finding("measured", "")
    order = [f.cause for f in ranked([remark, likely, measured, small, SKIPPED])]
    assert order == ["neck skipped in predict", "small", "measured", "likely", "remark"]
