"""Causes planted in configs and in the user's own code around a network."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from tests.diagnosis.planted_labels import annotation_file
from tests.diagnosis.planted_weights import edited
from tests.diagnosis.systems import HIGHERHRNET, RTMPOSE
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

OWN_CLASS = """
class Own(Wrapper):
    def prepare(self, samples):
        batch = self.model.prepare(samples)
        return dataclasses.replace(batch, pixels=batch.pixels{pixels})

    def decode(self, outputs, batch, options):
        found = self.model.decode(outputs, batch, options)
        return tuple(dataclasses.replace(p, {decode}) for p, a in zip(found, batch.to_image))
"""

ADAPTER = """
import dataclasses
import numpy as np
import torch
from workbench.core import Batch, Codec, Outputs
from workbench.core.wrapping import Wrapper
from workbench.models import TopDown, open_model

CELLS = 32

def maps(inner):
    def call(pixels):
        x, y = inner.forward(Batch(pixels, np.zeros((len(pixels), 2, 3)))).simcc
        # Bins to cells, whose centres lie at their first pixel; then the outer product.
        half = x.shape[-1] // CELLS // 2
        x, y = (torch.nn.functional.pad(v, (half, 0))[..., :-half] for v in (x, y))
        x, y = (v.unflatten(-1, (CELLS, -1)).mean(-1).clamp(min=0) for v in (x, y))
        return Outputs(heatmaps=torch.sqrt(y[..., :, None] * x[..., None, :]))
    return call

{class}

def load(checkpoint, device):
    inner = open_model({path!r}).model
    codec = Codec("heatmap", (128, 128), (CELLS, CELLS), sigma=(CELLS / 16, CELLS / 16), decoder="dark")
    # Such maps have to be moved by 3/4 of a cell once they are mirrored back, which is one cell.
    model = TopDown(inner.module, inner.skeleton, codec, mean=inner.mean, std=inner.std, bgr=inner.bgr,
                    padding=inner.padding, call=maps(inner), shift_heatmap=True)
    model = dataclasses.replace(model, {change})
    return Own(model) if {own} else model
"""


def heatmaps(
    change: str = "", decode: str = "", pixels: str = "", weights=None, labels=None, cells: int = 32
):
    """RTMPose read as square maps, by the user's own code.

    Args:
        change: fields of the model.
        decode: fields of each pose.
        pixels: what follows the input's pixels.
        weights: change of the checkpoint's content.
        labels: change of the annotations' content.
        cells: along a side of the maps.
    """
    text = ADAPTER.replace("CELLS = 32", f"CELLS = {cells}")
    return _adapted(text, RTMPOSE, change, decode, pixels, weights, labels)


OWN_CODE = """
import dataclasses
import numpy as np
from workbench.core.wrapping import Wrapper
from workbench.models import open_model

{class}

def load(checkpoint, device):
    model = open_model({path!r}).model
    model = dataclasses.replace(model, {change})
    return Own(model) if {own} else model
"""


def own_code(system, change: str = "", decode: str = "", pixels: str = "", labels=None):
    """The user's own code around the network of a system; arguments as in `heatmaps`."""
    return _adapted(OWN_CODE, system, change, decode, pixels, None, labels)


def _adapted(text, system, change, decode, pixels, weights, labels):
    def make(folder):
        path = system.last() if weights is None else edited(folder, weights, system.last())
        own = bool(decode or pixels)
        code = (
            text.replace("{class}", OWN_CLASS.strip())
            .replace("{change}", change)
            .replace("{decode}", decode or "keypoints=p.keypoints")
        )
        code = code.replace("{pixels}", pixels).replace("{path!r}", repr(str(path)))
        (folder / "adapter.py").write_text(code.replace("{own}", str(own)))
        options = system.options()
        if labels is not None:
            data, images = annotation_file(folder, labels, system)
            options = {"data": data, "images": images}
        return [], {**options, "adapter": folder / "adapter.py"}

    return make


SQUEEZED = """
import cv2
import numpy as np
import torch
from workbench.core import Batch
from workbench.core.wrapping import Wrapper
from workbench.models import open_model

class Own(Wrapper):
    def prepare(self, samples):
        model, crops, affines = self.model, [], []
        H, W = model.input_size
        for sample in samples:
            x0, y0, x1, y1 = sample.box
            w, h = ((x1 - x0) * model.padding, (y1 - y0) * model.padding)
            affine = np.array([[w / W, 0, (x0 + x1 - w) / 2], [0, h / H, (y0 + y1 - h) / 2]])
            crop = cv2.warpAffine(sample.image, affine, (W, H), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
            crop = crop[..., ::-1] if model.bgr else crop
            crops.append((crop - np.array(model.mean)) / np.array(model.std))
            affines.append(affine)
        pixels = torch.from_numpy(np.stack(crops)).float().permute(0, 3, 1, 2).contiguous()
        return Batch(pixels, np.stack(affines), tuple(samples))

def load(checkpoint, device):
    return Own(open_model({path!r}).model)
"""


def squeezed(system):
    """Boxes are resized to the input without keeping their aspect, by the user's own code."""
    return _adapted(SQUEEZED, system, "", "", "", None, None)


VITPOSE_S = "td-hm_ViTPose-small_8xb64-210e_coco-256x192.py"
HRNET_W32 = "td-hm_hrnet-w32_8xb64-210e_coco-256x192.py"


def published(name: str, *edits: tuple[str, str]):
    """A config that mmpose publishes, edited; it is read and never run."""

    def make(folder):
        package = Path(importlib.util.find_spec("mmpose").origin).parent
        source = package / ".mim/configs/body_2d_keypoint/topdown_heatmap/coco" / name
        text = re.sub(r"_base_ = .*\n", "", source.read_text())
        for pattern, new in edits:
            text, count = re.subn(pattern, new, text)
            assert count, pattern
        (folder / name).write_text(text)
        return [folder / name], {}

    return make


def vitpose_config(*edits: tuple[str, str]):
    """The published config of ViTPose-S, edited."""
    return published(VITPOSE_S, *edits)


# Whole images.

BOTTOM_UP = """
import dataclasses
import torch
from workbench.models import open_model
from workbench.models.bottom_up.model import typed

def load(checkpoint, device):
    model = open_model({path!r}).model
    inner = model.call or model.module
    mirror = list(model.skeleton.mirror)

    def call(pixels):
        found = typed(inner(pixels), 17, 17)
        return dataclasses.replace(found, {maps})

    return dataclasses.replace(model, call=call, {change})
"""


def whole_images(tags: float = 1.0, change: str = "", maps: str = "", epoch: int = -1, **options):
    """HigherHRNet in the user's own code.

    Args:
        tags: factor on the tag maps.
        change: fields of the model.
        maps: fields of the network's outputs ``found``.
        epoch: which of the run's checkpoints.
        options: further arguments of diagnose.
    """

    def make(folder):
        path = folder / "adapter.py"
        text = BOTTOM_UP.replace("{maps}", maps or f"tags=found.tags * {tags!r}").replace("{change}", change)
        path.write_text(text.replace("{path!r}", repr(str(HIGHERHRNET.checkpoints()[epoch]))))
        return [], {"data": "scenes-people-val", "adapter": path, **options}

    return make


# A network that tells sides: the demo's gives the same AP however left and right are exchanged, as people are
# drawn alike from both sides. This one knows its pictures, and their mirror images, by heart.
KNOWN = """
import dataclasses
import numpy as np
import torch
from pathlib import Path
from workbench.core import Outputs
from workbench.data import builtin
from workbench.data.coco import read_coco
from workbench.models import open_model

CELL = 4

def load(checkpoint, device):
    model = open_model({path!r}).model
    pose_set, mirror, known = {set}, list(model.skeleton.mirror), {}

    def key(pixels):
        return pixels.mul(8).round().to(torch.int16).numpy().tobytes()

    def painted(points, size):
        h, w = size[0] // CELL, size[1] // CELL
        y, x = np.mgrid[:h, :w] + 0.5
        # Tags say nothing beside keypoints, as in a network that is taught there alone.
        maps = np.random.default_rng(0).normal(0, 3, (2, 17, h, w)).astype(np.float32)
        maps[0] = 0
        for person, one in enumerate(points):
            for k in np.flatnonzero(one[:, 2] > 0):
                peak = np.exp(-((x - one[k, 0] / CELL) ** 2 + (y - one[k, 1] / CELL) ** 2) / 4)
                maps[0, k] = np.maximum(maps[0, k], peak)
                maps[1, k][peak > 0.1] = 3.0 * person
        return torch.from_numpy(maps)

    def learn(pixels, points):
        size = pixels.shape[-2:]
        turned = [np.column_stack([size[1] - one[:, 0], one[:, 1:]])[mirror] for one in points]
        known[key(pixels)] = painted(points, size)
        known[key(pixels.flip(-1))] = painted(turned, size)
        for part in {itself}:  # maps whose left and right the network exchanges back itself
            known[key(pixels.flip(-1))][part] = known[key(pixels.flip(-1))][part][mirror]

    def call(pixels):
        size = pixels.shape[-2:]
        empty = torch.zeros(2, 17, size[0] // CELL, size[1] // CELL)
        maps = torch.stack([known.get(key(one.cpu()), empty) for one in pixels])
        found = Outputs(heatmaps=maps[:, 0], tags=maps[:, 1])
        return dataclasses.replace(found, {maps})

    for rows in pose_set.labelled_of_image.values():
        sample = pose_set.sample(rows[0])
        batch = model.prepare([sample])
        back = np.linalg.inv(np.vstack([batch.to_image[0], [0, 0, 1]]))[:2]
        points = []
        for row in rows:
            truth = np.array(pose_set.instances[row].truth, float)
            points.append(np.column_stack([truth[:, :2] @ back[:, :2].T + back[:, 2], truth[:, 2]]))
        learn(batch.pixels[0], points)
    return dataclasses.replace(model, call=call, {change})
"""


BESIDE = 'read_coco(Path(__file__).with_name("annotations.json"), Path(__file__).with_name("images"))'
"""The set of a case whose pictures lie beside the adapter."""


def known_people(
    change: str = "",
    maps: str = "",
    itself: tuple[int, ...] = (),
    known: str = 'builtin("scenes-people-val")',
    **options,
):
    """A bottom-up network that tells left from right, in the user's own code.

    Args:
        change: fields of the model.
        maps: fields of the network's outputs ``found``.
        itself: of its maps, 0 heatmaps and 1 tags, those that it exchanges back for mirrored images itself.
        known: the set that it knows by heart.
        options: further arguments of diagnose.
    """

    def make(folder):
        path = folder / "adapter.py"
        text = KNOWN.replace("{maps}", maps).replace("{change}", change).replace("{set}", known)
        text = text.replace("{itself}", str(itself))
        path.write_text(text.replace("{path!r}", repr(str(HIGHERHRNET.last()))))
        return [], {"data": "scenes-people-val", "adapter": path, **options}

    return make
