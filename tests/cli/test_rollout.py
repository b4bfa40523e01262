"""workbench rollout on the demo: case 003, and what the cured run does instead."""

from __future__ import annotations

import json

import pytest


def test_the_demo_learned_to_continue_the_truth_and_fails_on_its_own(workbench):
    code, out, err = workbench("rollout", "--demo", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["pck_forced"] == 1.0
    assert facts["gap"] > 0.2
    assert [row["step"] for row in facts["per_step"]] == list(range(17))
    assert facts["prefix"][0]["pck"] == facts["pck_free"]
    assert facts["prefix"][-1]["pck"] == 1.0
    assert set(facts["support"]) == {"real", "other", "shuffled", "zero", "mean"}
    assert len(facts["epochs"]) == 2
    assert facts["pck_can_be"] == "k/17"
    assert all(claim["agrees"] for claim in facts["coordinates"])


def test_the_cured_run_finds_them_alone_and_needs_its_support(workbench, root):
    file = root / "checkpoints/cape-demo-cured/epoch_80.pth"
    code, out, err = workbench("rollout", file, "--data", "scenes-val", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["gap"] == 0
    assert facts["support"]["real"] == 1.0
    assert facts["support"]["shuffled"] < 0.5
    assert facts["support_verdict"] == "used"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "expected a checkpoint"),
        (("absent.pth",), "absent.pth"),
        (("--demo", "--instance", "nothing/1"), "nearest"),
        (("--demo", "--threshold", "0"), "threshold above 0"),
        (("--demo", "--normaliser", "head"), "longer side"),
    ],
)
def test_a_mistake_is_one_sentence(workbench, words, said):
    code, out, err = workbench("rollout", *words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
