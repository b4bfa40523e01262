"""Causes planted in trainings: in a loop's code, and in runs that were really trained so."""

from __future__ import annotations

import shutil

from tests.diagnosis.cached_runs import trained_wrongly
from tests.diagnosis.systems import RTMPOSE
from workbench.diagnosis.cause import all_causes

ADAPTER = """
import torch
from torch import nn
from workbench.core import Codec
from workbench.models import TopDown
from workbench.skeletons import SKELETONS


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU(),
                                  nn.Conv2d(24, 24, 5, 1, 2), nn.BatchNorm2d(24), nn.ReLU())
        self.head = nn.Conv2d(24, 17, 5, 1, 2)
        {more}
        {init}

    def forward(self, x):
        {forward}
        found = self.head(self.stem(x))
        return {given}


def load(checkpoint, device):
    codec = Codec({codec})
    return TopDown(Net().to(device), SKELETONS["ap10k-17"], codec, device=device)
"""
# The parts of the code in which a network of heatmaps and one of SimCC vectors differ.
HEATMAPS = {
    "more": "pass",
    "given": "found",
    "codec": '"heatmap", (48, 48), (24, 24), sigma=(2.0, 2.0), decoder="quarter"',
}
SIMCC = {
    "more": "self.x, self.y = nn.Linear(576, 96), nn.Linear(576, 96)",
    "given": "(self.x(found.flatten(2)), self.y(found.flatten(2)))",
    "codec": '"simcc", (48, 48), (96, 96), sigma=(2.0, 2.0), split_ratio=2.0, decoder="simcc"',
}
SCRIPT = """
import torch

def train(model, images, targets):
    model.train()
    loader = torch.utils.data.DataLoader(images, batch_size=8, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr={rate})
    for epoch in range(10):
        for batch in loader:
            optimizer.zero_grad()
            loss = (model(batch) - targets).pow(2).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), {clip})
            optimizer.step()
"""
HEALTHY = SCRIPT.format(rate="5e-3", clip="1.0")
UNCLEARED = ("            optimizer.zero_grad()\n", "")
EVALUATING = ("model.train()", "model.eval()")
STEPS = 120
# Code of Lightning with manual optimization, and a data set that moves its pictures.
LIGHTNING = """
class Poses(LightningModule):
    def __init__(self):
        self.net, self.teacher = Net(), Net()
        self.teacher.eval()

    def training_step(self, batch, batch_idx):
        images, heatmaps = batch
        opt = self.optimizers()
        opt.zero_grad()
        loss = F.mse_loss(self.net(images), heatmaps)
        self.manual_backward(loss)
        opt.step()
        self.log("loss", loss.item())

    def configure_optimizers(self):
        return AdamW(self.parameters(), lr=1e-3)
"""
DATA_SET = """
class Horses(Dataset):
    def __init__(self, files, transform=None):
        self.files, self.chance = files, 0.5
        self.transform = transform

    def __getitem__(self, i):
        image, keypoints = read(self.files[i]), self.keypoints[i]
        {made}
        return image, heatmaps_of(keypoints)

train_transform = A.Compose([A.Normalize(), {step}])
train_set = Horses(files, transform=train_transform)
"""
MIRRORED = "if random() < self.chance:\n            image = image[:, ::-1].copy()"


def edited_script(*edits):
    """The healthy loop with texts replaced, each (old, new)."""
    text = HEALTHY
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return text


def code(text, *edits):
    """A text of code with parts replaced, each (old, new)."""

    def make(folder):
        made = text
        for old, new in edits:
            assert old in made, old
            made = made.replace(old, new, 1)
        (folder / "code.py").write_text(made)
        return [folder / "code.py"], {}

    return make


def script(*edits):
    """The code of a loop alone."""

    def make(folder):
        (folder / "train.py").write_text(edited_script(*edits))
        return [folder / "train.py"], {}

    return make


def own_training(*edits, kind=HEATMAPS, init="pass", forward="pass", steps=STEPS):
    """A small network of the user's own and its loop, at level train; causes of training alone are tested."""

    def make(folder):
        adapter, code = folder / "adapter.py", folder / "train.py"
        adapter.write_text(adapter_text(kind, init, forward))
        code.write_text(edited_script(*edits))
        return [code], {"adapter": adapter, "data": "scenes-val", **_train_options(steps)}

    return make


def adapter_text(kind=HEATMAPS, init="pass", forward="pass"):
    """The network's code."""
    text = ADAPTER
    for name, value in {**kind, "init": init, "forward": forward}.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _train_options(steps):
    causes = [cause for cause in all_causes() if cause.group == "training"]
    return {"causes": causes, "steps": steps, "sample": 4}


def really_trained(fault, system=RTMPOSE, epoch=0):
    """The run folder of a training with a fault, continued from an early checkpoint; it is trained once."""

    def make(folder):
        name = system.name.replace(", ", "-")
        run = trained_wrongly(fault, lambda: system.checkpoints()[epoch], name)
        shutil.copytree(run, folder / "run")
        return [folder / "run"], {}

    return make
