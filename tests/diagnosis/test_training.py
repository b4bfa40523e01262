"""Level train: the overfit bisector names planted faults, and accuses no healthy training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.diagnosis.planted_trainings import (
    DATA_SET,
    HEALTHY,
    LIGHTNING,
    MIRRORED,
    SCRIPT,
    STEPS,
    adapter_text,
)
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

DEEP, BACK = " " * 12, "loss.backward()"
CLIP = "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)"
# Loops that look like a fault and have none.
PARTS_OF_A_BATCH = """
for images, target in loader:
    optimizer.zero_grad()
    for x, y in zip(images.chunk(4), target.chunk(4)):
        loss = (model(x) - y).pow(2).mean() / 4
        loss.backward()
    optimizer.step()
"""
ALL_BATCHES_IN_A_CLOSURE = """
optimizer = torch.optim.LBFGS(model.parameters())
for epoch in range(20):
    def closure():
        optimizer.zero_grad()
        for x, y in train_loader:
            loss = mse_loss(model(x), y)
            loss.backward()
    optimizer.step(closure)
"""
ACCUMULATED = """
train_loader = DataLoader(train_set, shuffle=True)
val_loader = DataLoader(val_set, sampler=SequentialSampler(val_set))
for epoch in range(9):
    net.train(True)
    for i, batch in enumerate(train_loader):
        with autocast():
            with torch.no_grad():
                soft = teacher(batch["image"])
            found = net(batch["image"])
            loss = loss_fn(found, batch["heatmap"]) + mse_loss(found, soft.detach())
        if not torch.isfinite(torch.tensor(loss.item())):
            continue
        scaler.scale(loss).backward()
        if i % 4 == 3:
            scaler.unscale_(opt)
            clip_grad_value_(net.parameters(), 0.1)
            scaler.step(opt)
            opt.zero_grad()
    net.train(False)
"""
SPLIT_OVER_METHODS = """
class Trainer:
    def step(self):
        self.optimizer.step()
        self.optimizer.zero_grad()

    def fit(self, loader):
        for epoch in range(9):
            self.model.train()
            for batch in loader:
                losses = {}
                losses["maps"] = self.compute_loss(batch)
                loss = sum(losses.values())
                loss.backward()
                self.step()
                self.log({k: v.detach() for k, v in losses.items()})
"""
MIRRORED_TOGETHER = """
for images, keypoints in loader:
    if coin() < 0.5:
        images = images.flip(-1)
        keypoints = mirrored(keypoints)
    upside_down = coin() < 0.5
    if upside_down:
        images = torch.flip(images, [2])
    heatmaps = encode(keypoints, upside_down)
    optimizer.zero_grad()
    loss = (model(images) - heatmaps).pow(2).mean()
    loss.backward()
    optimizer.step()
"""
PICTURES_ALONE = """
for images in loader:
    if coin() < 0.5:
        images = images.flip(-1)
    optimizer.zero_grad()
    loss = (model(images) - images).pow(2).mean()
    loss.backward()
    optimizer.step()
"""
CLIPPED_IN_ONE_BRANCH = """
optimizer = Adam(model.module.parameters())
for x, y in loader:
    optimizer.zero_grad()
    loss = (model(x) - y).abs().mean()
    if half:
        scaler.scale(loss).backward()
        scaler.step(optimizer)
    else:
        loss.backward()
        clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
"""
TWO_NETWORKS = """
for x in loader:
    fake = g(x)
    d_opt.zero_grad()
    d_loss = d(fake.detach()).mean() - d(x).mean()
    d_loss.backward()
    d_opt.step()
    g_opt.zero_grad()
    g_loss = -d(fake).mean()
    g_loss.backward()
    g_opt.step()
"""
FREED_IN_TIME = """
for p in net.stem.parameters():
    p.requires_grad = False
opt = SGD([p for p in net.parameters() if p.requires_grad], 0.1)
for epoch in range(9):
    if epoch == 3:
        for p in net.stem.parameters():
            p.requires_grad = True
        opt.add_param_group({"params": net.stem.parameters()})
    for x, y in loader:
        opt.zero_grad()
        (net(x) - y).abs().mean().backward()
        opt.step()
"""
DRAWN_ANEW = """
schedule = OneCycleLR(opt, 0.1, total_steps=9 * len(loader))
for epoch in range(9):
    order = torch.randperm(len(images))
    for i in range(0, len(images), 8):
        opt.zero_grad()
        (net(images[order[i : i + 8]]) - 1).abs().mean().backward()
        opt.step()
        schedule.step()
"""


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
        ("            optimizer.step()", "        optimizer.step()", "optimizer steps once an epoch", 14),
        ("model.train()", "model.train(mode=False)", "network is trained in evaluation mode", 5),
        ("shuffle=True", "sampler=SequentialSampler(images)", "training data not shuffled", 6),
        ("shuffle=True", "batch_sampler=BatchSampler(range(9), 8, False)", "training data not shuffled", 6),
        (
            CLIP,
            "torch.nn.utils.clip_grad_value_(model.parameters(), 1e-5)",
            "gradient clipping too small",
            13,
        ),
        (CLIP, "[p.grad.clamp_(-1e-5, 1e-5) for p in model.parameters()]", "gradient clipping too small", 13),
        (
            BACK,
            f"loss = torch.tensor(\n{DEEP}    loss.item())\n{DEEP}{BACK}",
            "no gradient reaches the network",
            12,
        ),
        (BACK, f"loss = float(loss)\n{DEEP}{BACK}", "no gradient reaches the network", 12),
        (BACK, "accelerator.backward(loss.detach())", "no gradient reaches the network", 12),
        (
            "optimizer.zero_grad()",
            f"optimizer.zero_grad()\n{DEEP}if coin < 0.5:\n{DEEP}    batch = torch.flip(batch, [3])",
            "augmentation changes image and keypoints differently",
            12,
        ),
        (
            BACK,
            f"scaler.scale(loss).backward()\n{DEEP}scaler.unscale(loss)",
            "gradient clipping too small",
            14,
        ),
        ("in loader", "in torch.split(images, 8)", "training data not shuffled", 9),
        ("in loader", "in range(0, len(images), 8)", "training data not shuffled", 9),
        (
            f"{DEEP}optimizer.step()\n",
            f"{DEEP}optimizer.step()\n        schedule.step()\n"
            "schedule = CosineAnnealingLR(optimizer, T_max=10 * len(train_loader))\n",
            "scheduler counts batches and is stepped every epoch",
            15,
        ),
        (
            "model.parameters(), lr",
            "[p for p in model.parameters() if p.requires_grad], lr=0.01)\n"
            "    model.head.requires_grad_(True)\n    dict(lr",
            "optimizer misses parameters",
            8,
        ),
    ],
)
def test_a_fault_of_the_loop_is_read_from_its_code(tmp_path, old, new, cause, line):
    text = (
        HEALTHY.replace("    loader", "    model.head.requires_grad_(False); loader")
        if "True)" in new
        else HEALTHY
    )
    script = script_in(text.replace(old, new), tmp_path / "train.py")
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


@pytest.mark.parametrize(
    "text",
    [PARTS_OF_A_BATCH, ALL_BATCHES_IN_A_CLOSURE, ACCUMULATED, SPLIT_OVER_METHODS, MIRRORED_TOGETHER,
     PICTURES_ALONE, CLIPPED_IN_ONE_BRANCH, TWO_NETWORKS, FREED_IN_TIME, DRAWN_ANEW],
)  # fmt: skip
def test_loops_of_other_styles_have_no_fault(tmp_path, text):
    script = script_in(text, tmp_path / "train.py")
    assert script is not None
    assert script.faults == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "", []),
        ("        opt.zero_grad()\n", "", [("gradients are not cleared", 11)]),
        ("self.net(images)", "self.net(images).detach()", [("no gradient reaches the network", 11)]),
        ("opt.zero_grad()", "self.net.eval()\n        opt.zero_grad()",
         [("network is trained in evaluation mode", 10)]),
        ("opt.zero_grad()", "opt.zero_grad()\n        optimizer = AdamW(self.parameters())",
         [("optimizer is made anew in the loop", 11)]),
    ],
)  # fmt: skip
def test_manual_optimization_of_lightning_is_read_from_its_training_step(old, new, said):
    script = script_in(LIGHTNING.replace(old, new, 1) if old else LIGHTNING, Path("lit.py"))
    assert script is not None
    assert [(fault.cause, fault.line) for fault in script.faults] == said


@pytest.mark.parametrize(
    ("made", "step", "line"),
    [
        ("image = self.transform(image)", "A.HorizontalFlip(p=0.5)", 9),
        ('image = self.transform(image=image)["image"]', "A.ShiftScaleRotate()", 9),
        (MIRRORED, "A.Blur()", 10),
        ("image = self.transform(image)", "A.RandomBrightnessContrast()", None),
        ("image, keypoints = moved(self.transform(image=image, keypoints=keypoints))", "A.Rotate()", None),
        (f"{MIRRORED}\n            keypoints[:, 0] = 191 - keypoints[:, 0]", "A.Blur()", 11),
        (f"{MIRRORED}\n            keypoints[:, 0] = 191 - keypoints[PAIRS, 0]", "A.Blur()", None),
        ("image = image[..., ::-1]", "A.Blur()", None),
    ],
)
def test_pictures_that_a_data_set_moves_without_their_keypoints_are_read_from_its_code(made, step, line):
    script = script_in(DATA_SET.replace("{made}", made).replace("{step}", step), Path("horses.py"))
    faults = () if script is None else script.faults
    named = "augmentation changes image and keypoints differently"
    assert [(f.cause, f.line) for f in faults] == ([] if line is None else [(named, line)])


def test_the_line_that_is_added_is_shown(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(HEALTHY.replace("            optimizer.zero_grad()\n", ""))
    first = diagnose([path], level="files", causes=[TrainingScript()]).findings[0]
    assert first.diff == "+            optimizer.zero_grad()\n             loss.backward()"
    assert first.where == "train.py, line 11"
