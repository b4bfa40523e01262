"""A number's rules are said in one line, and two numbers of different rules are told apart."""

from __future__ import annotations

import json
import math

import pytest

from workbench.evaluation import Protocol

RULES = Protocol(
    boxes="annotation", padding=1.25, flip=False, decoder="simcc", keypoint_score="min", loaded_fraction=1.0
)


def test_the_line_names_what_changes_a_number():
    text = RULES.text()
    assert text.startswith("GT boxes, pad 1.25, no flip, simcc, min score")
    assert "no NMS" in text
    assert "maxDets 20" in text
    assert "LOADED" not in text


def test_a_model_that_is_not_fully_loaded_says_so_first():
    text = Protocol(loaded_fraction=0.983).text()
    assert text.startswith("NOT FULLY LOADED (98.3% of parameters)")


def test_a_missing_statistic_is_not_hidden_by_rounding():
    for rules in (Protocol(loaded_fraction=0.99999), Protocol(loaded_fraction=1.0, complete=False)):
        assert rules.partly_loaded
        assert rules.text().startswith("NOT FULLY LOADED (tensors missing)")


def test_unknown_rules_are_said_to_be_unknown():
    assert "boxes unknown, flip unknown, decoder unknown" in Protocol().text()


def test_the_same_rules_on_another_epoch_compare():
    one, other = (Protocol(checkpoint=f"epoch_{e}.pth", sha256=str(e)) for e in (1, 2))
    assert one.differs_from(other) == []


def test_every_other_difference_is_named():
    other = Protocol(boxes="det.json", padding=1.25, flip=True, decoder="simcc", nms=0.9)
    assert RULES.differs_from(other) == [
        "boxes: annotation against det.json",
        "flip: False against True",
        "keypoint_score: min against ",
        "nms: nan against 0.9",
        "loaded_fraction: 1 against nan",
    ]


def test_unknown_paddings_are_no_difference():
    assert Protocol().differs_from(Protocol()) == []


def test_json_there_and_back():
    facts = json.loads(json.dumps(RULES.to_json(), allow_nan=False))
    assert facts["text"] == RULES.text()
    assert Protocol.from_json(facts).differs_from(RULES) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("padding", "1.25"),
        ("nms", [0.9]),
        ("decoder", 3.5),
        ("support", {}),
        ("flip", "yes"),
        ("flip_shift", 1),
        ("images", 12.5),
        ("instances", True),
        ("loaded_fraction", 10**400),
        ("oks_sigmas", "abc"),
        ("oks_sigmas", [0.1, None]),
    ],
)
def test_a_setting_of_another_type_is_refused_by_name(name: str, value: object):
    with pytest.raises(ValueError, match=f"the protocol's {name} is .*, expected "):
        Protocol.from_json(RULES.to_json() | {name: value})


def test_whole_numbers_and_absent_settings_are_read():
    found = Protocol.from_json({"padding": 1, "nms": None, "flip": None, "oks_sigmas": [1, 0.5]})
    assert found.padding == 1
    assert math.isnan(found.nms)
    assert found.flip is None
    assert found.oks_sigmas == (1, 0.5)
