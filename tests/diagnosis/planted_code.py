"""Causes planted in configs and in the user's own code around a network."""

from __future__ import annotations

import re

from workbench.checkpoints.demo import demo_checkpoints, demo_config

RTM = "rtmpose-demo"

# Configs: the user's config differs from what the weights were trained with.


def configured(*edits: tuple[str, str]):
    def make(folder):
        text = demo_config(RTM).read_text()
        for pattern, new in edits:
            text, count = re.subn(pattern, new, text)
            assert count, pattern
        path = folder / "config.py"
        path.write_text(text)
        return [demo_checkpoints(RTM)[-1]], {"data": "scenes-val", "config": path}

    return make


# Adapters: the user's own code around the network.

ADAPTER = """
import dataclasses
import numpy as np
import torch
from workbench.core import Batch, Codec, Outputs
from workbench.core.wrapping import Wrapper
from workbench.models import TopDown, open_model
from workbench.checkpoints.demo import demo_checkpoints

CELLS = 32

def maps(inner):
    def call(pixels):
        x, y = inner.forward(Batch(pixels, np.zeros((len(pixels), 2, 3)))).simcc
        # Bins to cells, whose centres lie at every fourth pixel; then the outer product.
        x, y = (torch.nn.functional.pad(v, (4, 0))[..., :-4].unflatten(-1, (CELLS, -1)).mean(-1).clamp(min=0)
                for v in (x, y))
        return Outputs(heatmaps=torch.sqrt(y[..., :, None] * x[..., None, :]))
    return call

class Own(Wrapper):
    def decode(self, outputs, batch, options):
        found = self.model.decode(outputs, batch, options)
        return tuple(dataclasses.replace(p, {decode}) for p, a in zip(found, batch.to_image))

def load(checkpoint, device):
    inner = open_model(demo_checkpoints()[-1]).model
    codec = Codec("heatmap", (128, 128), (CELLS, CELLS), sigma=(2.0, 2.0), decoder="dark")
    model = TopDown(inner.module, inner.skeleton, codec, mean=inner.mean, std=inner.std, bgr=inner.bgr,
                    padding=inner.padding, call=maps(inner))
    model = dataclasses.replace(model, {change})
    return Own(model) if {own} else model
"""


def heatmaps(change: str = "", decode: str = ""):
    """RTMPose read as maps of 32 x 32 cells, by the user's own code."""

    def make(folder):
        path = folder / "adapter.py"
        text = ADAPTER.replace("{change}", change).replace("{decode}", decode or "keypoints=p.keypoints")
        path.write_text(text.replace("{own}", str(bool(decode))))
        return [], {"data": "scenes-val", "adapter": path}

    return make


OWN_CODE = """
import dataclasses
import numpy as np
from workbench.core.wrapping import Wrapper
from workbench.models import open_model

class Own(Wrapper):
    def decode(self, outputs, batch, options):
        found = self.model.decode(outputs, batch, options)
        return tuple(dataclasses.replace(p, {decode}) for p, a in zip(found, batch.to_image))

def load(checkpoint, device):
    model = open_model({path!r}).model
    model = dataclasses.replace(model, {change})
    return Own(model) if {own} else model
"""


def own_code(system, change: str = "", decode: str = ""):
    """The user's own code around the network of a system."""

    def make(folder):
        path = folder / "adapter.py"
        text = OWN_CODE.replace("{change}", change).replace("{decode}", decode or "keypoints=p.keypoints")
        text = text.replace("{path!r}", repr(str(system.last())))
        path.write_text(text.replace("{own}", str(bool(decode))))
        return [], {**system.options(), "adapter": path}

    return make


# Whole images.

BOTTOM_UP = """
import dataclasses
from workbench.checkpoints.demo import demo_checkpoints
from workbench.models import open_model
from workbench.models.bottom_up.model import typed

def load(checkpoint, device):
    model = open_model(demo_checkpoints("higherhrnet-demo")[-1]).model
    inner = model.call or model.module

    def call(pixels):
        found = typed(inner(pixels), 17, 17)
        return dataclasses.replace(found, tags=found.tags * {tags})

    return dataclasses.replace(model, call=call, {change})
"""


def whole_images(tags: float = 1.0, change: str = ""):
    def make(folder):
        path = folder / "adapter.py"
        path.write_text(BOTTOM_UP.replace("{tags}", repr(tags)).replace("{change}", change))
        return [], {"data": "scenes-people-val", "adapter": path}

    return make
