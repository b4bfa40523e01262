"""Mistakes that the code of a training shows by itself, each beside a twin in which nothing is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.diagnosis.planted_scripts import FAULTS, HEALTHY_TWINS, OTHER_CODE
from tests.diagnosis.planted_trainers import (
    MODULE,
    MODULE_TWINS,
    OF_MODULE,
    OF_TRAINER,
    TRAINER,
    TRAINER_TWINS,
)
from tests.diagnosis.planted_trainings import edited_script
from workbench.diagnosis.training_code import script_in


def causes_in(text):
    """Names of the faults that count, remarks aside."""
    compile(text, "train.py", "exec")
    script = script_in(text, Path("train.py"))
    return [fault.cause for fault in (script.faults if script else ()) if fault.severity != "remark"]


@pytest.mark.parametrize("name", FAULTS)
def test_a_mistake_in_the_loop_is_named_alone(name):
    cause, *edits = FAULTS[name]
    assert causes_in(edited_script(*edits)) == [cause]


@pytest.mark.parametrize("name", HEALTHY_TWINS)
def test_a_loop_that_looks_like_a_mistake_and_has_none_is_left_alone(name):
    assert causes_in(edited_script(*HEALTHY_TWINS[name])) == []


@pytest.mark.parametrize("name", OTHER_CODE)
def test_code_around_the_loop_is_read_as_well(name):
    cause, text = OTHER_CODE[name]
    assert causes_in(text) == ([cause] if cause else [])


def test_a_part_that_is_frozen_with_weights_that_were_trained_before_is_a_remark():
    script = script_in(edited_script(*HEALTHY_TWINS["fine-tuned: stem frozen by its name"]), Path("train.py"))
    assert script is not None
    assert [(fault.cause, fault.severity) for fault in script.faults] == [
        ("optimizer misses parameters", "remark")
    ]


@pytest.mark.parametrize("text", [TRAINER, MODULE], ids=["trainer class", "lightning"])
def test_a_loop_whose_parts_stand_in_several_places_is_read_as_one(text):
    faults = OF_TRAINER if text == TRAINER else OF_MODULE
    twins = TRAINER_TWINS if text == TRAINER else MODULE_TWINS
    found = {name: causes_in(replaced(text, edits)) for name, (_, *edits) in faults.items()}
    assert found == {name: [cause] for name, (cause, *_) in faults.items()}
    assert [name for name, edits in twins.items() if causes_in(replaced(text, edits))] == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Lightning steps by itself in neither: the user does, or several optimizers take turns.
        ("        return loss", "        self.manual_backward(loss)\n        self.optimizers().step()"),
        (
            "optimizer = torch.optim.AdamW(self.net.parameters(), lr=5e-4)",
            "a, b = AdamW(self.net.parameters()), AdamW(self.d.parameters())\n        return a, b",
        ),
        # A loss in a dictionary, or under a condition.
        ("        return loss", "        return {'loss': loss, 'found': found.detach()}"),
        ("        return loss", "        if loss > 0:\n            return loss\n        return 0 * loss"),
        (
            "        optimizer = torch",
            "        return torch.optim.AdamW(self.parameters())\n        optimizer = torch",
        ),
    ],
    ids=["by hand", "two optimizers", "dictionary", "condition", "optimizer without a name"],
)
def test_healthy_lightning_of_other_styles_is_left_alone(old, new):
    faults = [
        name for name in causes_in(replaced(MODULE, [(old, new)])) if name != "gradients are not cleared"
    ]
    assert faults == []


def test_a_function_that_is_called_for_every_fold_is_no_epoch():
    tree = "for fold in range(5):\n    fit(fold)\n"
    loop = "def fit(fold):\n    for epoch in range(20):\n        for x in loader:\n"
    steps = "            loss(x).backward()\n            opt.step()\n            opt.zero_grad()\n"
    made = "opt = SGD(net.parameters(), 0.1)\nplan = MultiStepLR(opt, milestones=[8, 16])\n"
    assert causes_in(made + loop + steps + "        plan.step()\n" + tree) == []


def replaced(text, edits):
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(
    ("batches", "size", "named"),
    [(100_000, 8, True), (30_000, 64, True), (2_000, 64, False), (30_000, 4, False)],
)
def test_a_warm_up_that_only_a_very_large_set_ends_is_named(batches, size, named):
    made = f"    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, total_iters={batches})\n"
    step = "            optimizer.step()\n"
    text = edited_script(
        ("    for epoch", made + "    for epoch"),
        (step, step + "            schedule.step()\n"),
        ("batch_size=8", f"batch_size={size}"),
    )
    assert causes_in(text) == (["warm-up longer than the run"] if named else [])
