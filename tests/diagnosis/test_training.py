"""Level train: the overfit bisector names planted faults, and accuses no healthy training."""

from __future__ import annotations

import pytest

from tests.diagnosis.planted_trainings import HEALTHY, SCRIPT, STEPS, adapter_text
from workbench.core.job import Cancelled
from workbench.diagnosis import diagnose
from workbench.diagnosis.overfit_causes import Overfit
from workbench.diagnosis.training_code import TrainingScript, script_in


def trained(folder, script=HEALTHY, init="pass", forward="pass", **more):
    adapter, code = folder / "adapter.py", folder / "train.py"
    adapter.write_text(adapter_text(init=init, forward=forward))
    code.write_text(script)
    options = {"level": "train", "causes": [Overfit()], "steps": STEPS, "sample": 4, **more}
    return diagnose([code], adapter=adapter, data="scenes-val", **options)


def test_a_healthy_training_is_not_accused(tmp_path):
    report = trained(tmp_path, causes=[Overfit(), TrainingScript()])
    assert report.findings == ()
    assert "the network learns one image as it is trained" in report.ruled_out["one image cannot be learned"]


@pytest.mark.parametrize(
    ("script", "init", "cause"),
    [
        (HEALTHY.replace("            optimizer.zero_grad()\n", ""), "pass", "gradients are not cleared"),
        (HEALTHY, "self.requires_grad_(False); self.head.bias.requires_grad_(True)",
         "weights that are not trained"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_named_and_proved(tmp_path, script, init, cause):
    report = trained(tmp_path, script, init)
    first = report.findings[0]
    assert first.cause == cause, report.text()
    assert "trained on one image from initial weights" in first.evidence
    assert first.refuted_by


# The suite plants both rates too.
@pytest.mark.long
@pytest.mark.parametrize(
    ("script", "forward", "cause"),
    [
        pytest.param(SCRIPT.format(rate="5e-7", clip="1.0"), "pass", "learning rate too high or too low",
                     marks=pytest.mark.slow),
        pytest.param(SCRIPT.format(rate="5.0", clip="0"), "pass", "learning rate too high or too low",
                     marks=pytest.mark.slow),
        (SCRIPT.format(rate="5e-3", clip="1e-9").replace("AdamW", "SGD"), "pass",
         "gradient clipping too small"),
    ],
)  # fmt: skip
def test_other_planted_faults_are_named(tmp_path, script, forward, cause):
    report = trained(tmp_path, script, forward=forward)
    first = report.findings[0]
    assert first.cause == cause, report.text()
    assert first.confidence in ("proved", "likely"), report.text()
    assert first.effect is not None
    assert first.effect.delta > 0.2


def test_a_spent_budget_ends_the_training(tmp_path):
    report = trained(tmp_path, budget=0.5, steps=5000)
    assert report.findings == ()
    assert "budget was spent" in report.not_testable["one image cannot be learned"]


def test_a_training_is_cancelled(tmp_path):
    calls = []

    def cancelled():
        calls.append(1)
        return len(calls) > 6

    with pytest.raises(Cancelled):
        trained(tmp_path, steps=5000, cancelled=cancelled)


# The code of the loop alone.


@pytest.mark.parametrize(
    ("old", "new", "cause", "line"),
    [
        ("            optimizer.zero_grad()\n", "", "gradients are not cleared", 11),
        ("model.train()", "model.eval()", "network is trained in evaluation mode", 5),
        ("AdamW(model.parameters()", "AdamW(model.head.parameters()", "optimizer misses parameters", 7),
        ("shuffle=True", "shuffle=False", "training data not shuffled", 6),
        ("model.parameters(), 1.0", "model.parameters(), 1e-4", "gradient clipping too small", 13),
        ("model(batch) -", "model(batch).detach() -", "no gradient reaches the network", 11),
        (
            "            optimizer.zero_grad()\n",
            "            optimizer.zero_grad()\n            optimizer = "
            "torch.optim.SGD(model.parameters(), 0.1)\n",
            "optimizer is made anew in the loop",
            11,
        ),
    ],
)
def test_a_fault_of_the_loop_is_read_from_its_code(tmp_path, old, new, cause, line):
    script = script_in(HEALTHY.replace(old, new), tmp_path / "train.py")
    assert script is not None
    assert [(fault.cause, fault.line) for fault in script.faults] == [(cause, line)]


def test_clipping_after_the_step_is_read_from_the_code(tmp_path):
    clip = "            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
    step = "            optimizer.step()\n"
    script = script_in(HEALTHY.replace(clip + step, step + clip), tmp_path / "train.py")
    assert script is not None
    assert [fault.cause for fault in script.faults] == ["clipping after the step"]


@pytest.mark.parametrize("text", ["", "x = 1\n", "def f(:\n", "for i in range(3):\n    print(i)\n"])
def test_code_without_a_training_loop_says_nothing(tmp_path, text):
    assert script_in(text, tmp_path / "a.py") is None


def test_a_healthy_loop_has_no_fault(tmp_path):
    script = script_in(HEALTHY, tmp_path / "train.py")
    assert script is not None
    assert script.faults == ()
    assert (script.rate, script.optimizer, script.clip) == (5e-3, "adamw", 1.0)


def test_the_line_that_is_added_is_shown(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(HEALTHY.replace("            optimizer.zero_grad()\n", ""))
    first = diagnose([path], level="files", causes=[TrainingScript()]).findings[0]
    assert first.diff == "+            optimizer.zero_grad()\n             loss.backward()"
    assert first.where == "train.py, line 11"
