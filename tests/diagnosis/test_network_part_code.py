"""What a script does around its batches or to a part of the network, and what looks like it and is right."""

# ruff: noqa: E501 - one script a line

from pathlib import Path

import pytest

from tests.diagnosis.planted_trainings import HEALTHY
from workbench.diagnosis.training_code import script_in

CLEARED = "            optimizer.zero_grad()\n"
LOOP = "        for batch in loader:\n"
EPOCH = "    for epoch in range(10):\n"
MADE = "torch.optim.AdamW(model.parameters(), lr=5e-3)"
NORMS = "for m in model.modules():\n{0}    if isinstance(m, torch.nn.BatchNorm2d):\n{0}        m.{1}\n{0}"


def causes(*edits):
    text = HEALTHY
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, 1)
    script = script_in(text, Path("train.py"))
    assert script is not None
    return [(fault.cause, fault.line) for fault in script.faults]


def norms(mode):
    return (LOOP, f"        {NORMS.format('        ', mode)}\n{LOOP}".replace("        \n", "\n"))


@pytest.mark.parametrize(
    ("edits", "cause"),
    [
        ([(CLEARED, ""), (LOOP, "        optimizer.zero_grad()\n" + LOOP)], "gradients are not cleared"),
        (
            [(CLEARED, ""), ("            optimizer.step()\n", "            optimizer.step()\n        optimizer.zero_grad()\n")],
            "gradients are not cleared",
        ),
        ([norms("eval()")], "network is trained in evaluation mode"),
        ([norms("train(False)")], "network is trained in evaluation mode"),
        (
            [(MADE, "torch.optim.SGD((p for n, p in model.named_parameters() if n.startswith('head.')), lr=5e-3)")],
            "optimizer misses parameters",
        ),
        (
            [
                (f"    optimizer = {MADE}", "    chosen = [p for name, p in model.named_parameters() if 'norm' not in name]\n"
                 "    optimizer = torch.optim.AdamW(params=chosen, lr=5e-3)"),
            ],
            "optimizer misses parameters",
        ),
        ([(LOOP, "        torch.manual_seed(0)\n" + LOOP)], "training data not shuffled"),
        ([(LOOP, "        np.random.seed(args.seed)\n" + LOOP)], "training data not shuffled"),
    ],
)  # fmt: skip
def test_a_mistake_around_the_batches_is_named_alone(edits, cause):
    found = causes(*edits)
    assert [name for name, _ in found] == [cause], found


@pytest.mark.parametrize(
    "edits",
    [
        [],
        # A function of the file clears them.
        [(CLEARED, "            clear(optimizer)\n"),
         ("def train(", "def clear(optimizer):\n    optimizer.zero_grad()\n\ndef train("),
         (LOOP, "        optimizer.zero_grad()\n" + LOOP)],
        # They are cleared by hand.
        [(CLEARED, "            for p in model.parameters():\n                p.grad = None\n"),
         (LOOP, "        optimizer.zero_grad()\n" + LOOP)],
        # The norms go back to training mode, and others are in evaluation mode.
        [norms("train()")],
        [(LOOP, f"        {NORMS.format('        ', 'eval()').replace('BatchNorm2d', 'Dropout')}\n{LOOP}")],
        # What needs a gradient is chosen, or the other names are in a second group.
        [(MADE, "torch.optim.AdamW((p for n, p in model.named_parameters() if p.requires_grad), lr=5e-3)")],
        [(MADE, "torch.optim.AdamW([{'params': [p for n, p in model.named_parameters() if 'bias' in n]},"
          " {'params': [p for n, p in model.named_parameters() if 'bias' not in n]}], lr=5e-3)")],
        # Seeds that differ from epoch to epoch, or that are set once.
        [(LOOP, "        torch.manual_seed(7 + epoch)\n" + LOOP)],
        [(EPOCH, "    torch.manual_seed(0)\n" + EPOCH)],
        [(LOOP, "        seed = 3 * epoch\n        torch.manual_seed(seed)\n" + LOOP)],
    ],
)  # fmt: skip
def test_scripts_that_do_nearly_the_same_rightly_are_left_alone(edits):
    assert causes(*edits) == []


def test_the_line_of_the_mistake_is_told():
    (_, line), *_ = causes((CLEARED, ""), (LOOP, "        optimizer.zero_grad()\n" + LOOP))
    text = HEALTHY.replace(CLEARED, "").replace(LOOP, "        optimizer.zero_grad()\n" + LOOP)
    assert "zero_grad" in text.splitlines()[line - 1]
