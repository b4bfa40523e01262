"""A user's own estimator and neck imported by a config, and an adapter: faulty and mended ones."""

from __future__ import annotations

import itertools
from pprint import pformat

import torch

from tests.models.text_fusion_net import config

_COUNT = itertools.count()

MODULES = """
import torch
from mmpose.models.pose_estimators import TopdownPoseEstimator
from mmpose.registry import MODELS
from torch import nn


@MODELS.register_module(force=True)
class OwnTextNeck{n}(nn.Module):
    def __init__(self, channels, dropout=0.0):
        super().__init__()
        self.mlp, self.drop = nn.Linear(384, 2 * channels), dropout

    def forward(self, features, text=None):
        maps = features[-1]
        if text is None:
            return (maps,)
        if not isinstance(text, torch.Tensor):
            if {forgiving} and "global_text" not in text[0].metainfo:
                return (maps,)
            text = torch.stack([torch.as_tensor(s.metainfo["global_text"]) for s in text])
        scale, shift = self.mlp({given}).chunk(2, 1)
        fused = scale[..., None, None] * maps + shift[..., None, None]
        return (nn.functional.dropout(fused, self.drop, self.training),)


@MODELS.register_module(force=True)
class OwnEstimator{n}(TopdownPoseEstimator):
    def extract_feat(self, inputs, data_samples=None):
        return self.neck(self.backbone(inputs), data_samples)

    def loss(self, inputs, data_samples):
        return self.head.loss(self.extract_feat(inputs, data_samples), data_samples, train_cfg=self.train_cfg)

    def predict(self, inputs, data_samples):
        {predict}
"""
PREDICT = {
    "published": "return super().predict(inputs, data_samples)",
    "mended": "return self.head.predict(self.extract_feat(inputs, data_samples), data_samples, "
    "test_cfg=self.test_cfg)",
    "half": "return self.head.predict((0.5 * self.extract_feat(inputs, data_samples)[-1],), data_samples, "
    "test_cfg=self.test_cfg)",
}


def own_config(folder, kind, read=True, dropout=0.0, forgiving=True, given="text"):
    """A checkpoint, and the config that imports the user's modules.

    Args:
        folder: for module, config and checkpoint.
        kind: of predict, see PREDICT.
        read: False leaves γ at 1 and β at 0 whatever the text says.
        dropout: functional, of the neck in training.
        forgiving: the neck does without text where there is none; else it raises KeyError.
        given: what its layer gets in place of the text.
    """
    from workbench.models.mmpose.config import run_config
    from workbench.models.mmpose.model import build

    n = next(_COUNT)
    (folder / f"modules_of_a_user_{n}.py").write_text(
        MODULES.format(n=n, predict=PREDICT[kind], forgiving=forgiving, given=given)
    )
    settings = config()
    model = settings["model"]
    model.pop("text")
    head = {k: v for k, v in model["head"].items() if k != "refiner"}
    model |= {
        "type": f"OwnEstimator{n}", "neck": {"type": f"OwnTextNeck{n}", "channels": 32, "dropout": dropout},
        "head": {**head, "type": "RTMCCHead"}, "test_cfg": {"flip_test": True},
    }  # fmt: skip
    lines = [f"{key} = {pformat(value)}" for key, value in settings.items()]
    # The config finds the module beside it, as a user's folder on the path does.
    lines.insert(0, f"custom_imports = dict(imports=['modules_of_a_user_{n}'])")
    file = folder / f"own_{n}.py"
    file.write_text("\n".join(lines))
    torch.manual_seed(0)
    network = build(run_config(file))
    with torch.no_grad():
        layer = network.neck.mlp
        layer.weight.mul_(3.0 if read else 0.0)
        layer.bias[:32].fill_(1.0)
        layer.bias[32:].zero_()
    torch.save({"state_dict": network.state_dict(), "meta": {"epoch": 1}}, folder / f"epoch_{n}.pth")
    return folder / f"epoch_{n}.pth", file


ADAPTER = """
import dataclasses

import torch
from torch import nn

from workbench.models import TopDown
from workbench.core import Codec, Passed
from workbench.skeletons import SKELETONS


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.neck, self.head = nn.Conv2d(3, 4, 4, 4), nn.Linear(2, 8), nn.Conv2d(4, 17, 1)
        self.extra = nn.Identity()

    def forward(self, pixels, text):
        maps = self.body(pixels)
        if text is not None:
            scale, shift = self.neck(text).chunk(2, 1)
            maps = scale[..., None, None] * maps + shift[..., None, None]
        return maps, self.head(maps)


class Model(TopDown):
    text_taps = {{"neck": "neck", "film": "neck"}}

    def prepare(self, samples):
        batch = super().prepare(samples)
        text = torch.tensor([[float(s.category_id), 1.0] for s in samples])
        return dataclasses.replace(batch, extra={{"text": text}})

    def forward(self, batch):
        return self.predict_pass(batch).outputs

    def training_pass(self, batch):
        return self._pass(batch, batch.extra.get("text"))

    def predict_pass(self, batch):
        return self._pass(batch, {text})

    def with_text(self, batch, edit):
        text = batch.extra["text"]
        return dataclasses.replace(batch, extra={{}} if edit is None else {{"text": edit(text)}})

    def _pass(self, batch, text):
        from workbench.core import Outputs
        features, maps = self.module(batch.pixels, text)
        return Passed(Outputs(heatmaps=maps), features)


def load(checkpoint, device):
    torch.manual_seed(0)
    codec = Codec("heatmap", input_size=(64, 64), output_size=(16, 16), decoder="argmax")
    return Model(Net().eval(), SKELETONS["ap10k-17"], codec)
"""


def own_adapter(folder, mended):
    """An adapter file whose predict gives the text, or none."""
    file = folder / f"adapter_{mended}.py"
    file.write_text(ADAPTER.format(text='batch.extra.get("text")' if mended else "None"))
    return file
