"""Pose models small enough to check by hand, one per kind of output.

Each reads a crop of its own size out of the image at the box's top-left corner, one image pixel per
input pixel, so that input and image pixels differ by that corner alone.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import nn

from tests.inspectors.sequence.telling import Telling
from workbench.core import Batch, Codec, Outputs, Prediction, Sample, Skeleton
from workbench.core.capabilities import Attention

SIDE = 9
CORNER = (4, 5)  # x, y of the crop's top-left pixel in the image
TWO = Skeleton("toy-2", ("left_nose", "right_tail"), ((0, 1),), (1, 0), (0.1, 0.1), "made up")
_PARTS = ["eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"]
SEVENTEEN = Skeleton(
    "toy-17",
    (*(f"{side}_{part}" for part in _PARTS for side in ("left", "right")), "nose"),
    tuple((k, k + 2) for k in range(14)),
    (*(k + 1 - 2 * (k % 2) for k in range(16)), 16),
    (0.05,) * 17,
    "made up",
)


class _Toy:
    """What the toys share: cropping without resizing."""

    size = (SIDE, SIDE)

    def prepare(self, samples):
        H, W = self.size
        crops, affines = [], []
        for s in samples:
            x, y = round(s.box[0]), round(s.box[1])
            crops.append(torch.tensor(s.image[y : y + H, x : x + W]).permute(2, 0, 1) / 255)
            affines.append(np.array([[1.0, 0, x], [0, 1, y]]))
        return Batch(torch.stack(crops), np.stack(affines), tuple(samples))

    def _predictions(self, batch, points, scores):
        return tuple(
            Prediction(p + a[:, 2], s, sample.box)
            for p, s, a, sample in zip(points, scores, batch.to_image, batch.samples, strict=True)
        )


def _argmax(maps):
    """(x, y) in cells and value of each map's maximum."""
    flat = maps.reshape(*maps.shape[:2], -1)
    y, x = np.divmod(flat.argmax(-1), maps.shape[-1])
    return np.stack([x, y], -1).astype(float), flat.max(-1)


class ToyHeatmaps(_Toy):
    """Heatmap 0 is the red channel; heatmap 1 the green one, box-blurred.

    Both are lowered by a half and cut at zero by an in-place ReLU, as HRNet has it.
    """

    def __init__(self):
        blur = nn.Conv2d(3, 2, 3, padding=1)
        with torch.no_grad():
            blur.weight.zero_()
            blur.weight[0, 0, 1, 1] = 1
            blur.weight[1, 1] = 1
            blur.bias.fill_(-0.5)
        self.module = nn.Sequential(blur, nn.ReLU(inplace=True)).eval()
        self.taps = {"blur": "0", "head": "1"}
        self.skeleton = TWO
        self.codec = Codec("heatmap", (SIDE, SIDE), (SIDE, SIDE), sigma=(1.0, 1.0))

    def forward(self, batch):
        return Outputs(heatmaps=self.module(batch.pixels))

    def decode(self, outputs, batch, options):
        return self._predictions(batch, *_argmax(outputs.heatmaps.numpy()))


class _Profiles(nn.Module):
    """Maxima of each channel along columns and rows, every pixel as two bins."""

    def __init__(self):
        super().__init__()
        self.pick = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.pick.weight.copy_(torch.eye(2, 3)[..., None, None])

    def forward(self, pixels):
        maps = self.pick(pixels)
        return maps.amax(2).repeat_interleave(2, -1), maps.amax(3).repeat_interleave(2, -1)


class ToySimCC(_Toy):
    """Logits of keypoint 0 are the red channel's column and row maxima, of keypoint 1 the green one's."""

    def __init__(self):
        self.module = _Profiles().eval()
        self.taps = {"pick": "pick"}
        self.skeleton = TWO
        self.codec = Codec(
            "simcc", (SIDE, SIDE), (2 * SIDE, 2 * SIDE), sigma=(2.0, 2.0), split_ratio=2.0, decoder="simcc"
        )

    def forward(self, batch):
        return Outputs(simcc=self.module(batch.pixels))

    def decode(self, outputs, batch, options):
        x, y = (v.numpy() for v in outputs.simcc)
        points = np.stack([x.argmax(-1), y.argmax(-1)], -1) / 2
        return self._predictions(batch, points, np.minimum(x.max(-1), y.max(-1)))


class ToyFields(_Toy):
    """Centre map = red channel; every cell says keypoint 0 lies at (+1, +2) and keypoint 1 at (-1, 0)."""

    def __init__(self):
        field = nn.Conv2d(3, 4, 1)
        with torch.no_grad():
            field.weight.zero_()
            field.bias.copy_(torch.tensor([1.0, 2.0, -1.0, 0.0]))
        self.module = nn.Sequential(field).eval()
        self.taps = {"field": "0"}
        self.skeleton = TWO
        self.codec = None

    def forward(self, batch):
        vectors = self.module(batch.pixels).reshape(len(batch), 2, 2, SIDE, SIDE)
        return Outputs(fields={"regressions": vectors}, centres=batch.pixels[:, :1])

    def decode(self, outputs, batch, options):
        peaks, scores = _argmax(outputs.centres.numpy())
        x, y = peaks[:, 0].astype(int).T
        vectors = outputs.fields["regressions"].numpy()[np.arange(len(x)), :, :, y, x]
        return self._predictions(batch, peaks + vectors, np.repeat(scores, 2, axis=1))


class ToySeventeen(_Toy):
    """17 heatmaps of 64x48 for a 256x192 input: smooth random filters, one per keypoint."""

    size = (256, 192)

    def __init__(self):
        torch.manual_seed(0)
        self.module = nn.Sequential(
            nn.AvgPool2d(4), nn.Conv2d(3, 17, 7, padding=3), nn.BatchNorm2d(17), nn.ReLU()
        ).eval()
        self.taps = {"conv": "1", "norm": "2", "head": "3"}
        self.skeleton = SEVENTEEN
        self.codec = Codec("heatmap", self.size, (64, 48))

    def forward(self, batch):
        return Outputs(heatmaps=self.module(batch.pixels))

    def decode(self, outputs, batch, options):
        peaks, scores = _argmax(outputs.heatmaps.numpy())
        return self._predictions(batch, peaks * 4, scores)


def ToyPeople():
    """A bottom-up network: heatmaps are the red and the green channel, both tags ten times the blue one."""
    from workbench.models.bottom_up import BottomUp

    channels = nn.Conv2d(3, 4, 1, bias=False)
    with torch.no_grad():
        channels.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 10], [0, 0, 10]])[..., None, None])
    module = nn.Sequential(channels).eval()
    return BottomUp(module, TWO, tags=2, input_size=CROWD, multiple=1, mean=(0.0,) * 3, std=(255.0,) * 3)


CROWD = 24  # side of the picture of two people, pixels
PLACES = (((3, 4), (6, 5)), ((15, 12), (18, 16)))  # (x, y) of both keypoints of both people
TAGS = (2.0, 8.0)


def _two_people(i):
    """Sample i: the picture of two people, seen as its second person where i is odd."""
    image = np.zeros((CROWD, CROWD, 3), np.uint8)
    people = []
    for p, (places, tag) in enumerate(zip(PLACES, TAGS, strict=True)):
        for channel, (x, y) in enumerate(places):
            image[y, x, channel] = 255
            image[y - 1 : y + 2, x - 1 : x + 2, 2] = round(25.5 * tag)
        truth = np.array([[x, y, 2] for x, y in places], float)
        (x0, y0), (x1, y1) = places
        box = (float(x0 - 2), float(y0 - 2), float(x1 + 2), float(y1 + 2))
        people.append(Sample(image, box, truth, key=f"crowd/{i}/{p}", image_id=i, annotation_id=2 * i + p + 1,
                             area=64.0))  # fmt: skip
    own, other = people[i % 2], people[1 - i % 2]
    return dataclasses.replace(own, others=(other,))


def people_set(folder, image):
    """A picture of the two people, written into a folder and read as an annotated set."""
    import json

    from workbench.data import read_coco
    from workbench.data.images import write_image

    write_image(folder / "a.png", image)
    annotations = [
        {
            "id": p, "image_id": 1, "category_id": 1, "area": 64.0,
            "bbox": [places[0][0] - 2, places[0][1] - 2, 9, 9],
            "keypoints": [v for x, y in places for v in (x, y, 2)],
        }
        for p, places in enumerate(PLACES, 1)
    ]  # fmt: skip
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": CROWD, "height": CROWD}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(TWO.keypoints), "skeleton": []}],
    }
    (folder / "set.json").write_text(json.dumps(content))
    return dataclasses.replace(read_coco(folder / "set.json"), skeleton=TWO)


class _Attending(nn.Module):
    """Tokens [N, 9, 3] plus the mean over two heads with fixed weights; both heads' weights pass
    `weights`."""

    def __init__(self, heads):
        super().__init__()
        self.weights = nn.Identity()
        self.register_buffer("fixed", heads)

    def forward(self, tokens):
        weights = self.weights(self.fixed.expand(len(tokens), -1, -1, -1))
        return (tokens + (weights @ tokens[:, None]).mean(1)) / 2


class _Patches(nn.Module):
    """Mean colours of 3x3 patches as tokens, two layers of attention, and one heatmap cell per patch."""

    def __init__(self):
        super().__init__()
        own = torch.eye(9)
        first = torch.zeros(9, 9)
        first[:, 0] = 1  # every token attends to the first patch
        self.patches = nn.AvgPool2d(3)
        self.layers = nn.ModuleList([_Attending(torch.stack([own, first])) for _ in range(2)])
        self.head = nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(2, 3))

    def forward(self, pixels):
        tokens = self.patches(pixels).flatten(2).mT
        for layer in self.layers:
            tokens = layer(tokens)
        return self.head(tokens).mT.unflatten(2, (3, 3))


class ToyTransformer(_Toy):
    """Head 1 of both layers attends to the token itself, head 2 to the first patch.

    By hand: a layer with its residual is (A + I) / 2 = 3/4 I + 1/4 E, where E takes the first token; rollout
    through both is 9/16 I + 7/16 E.
    """

    def __init__(self):
        self.module = _Patches().eval()
        self.taps = {"patches": "patches", "first": "layers.0", "second": "layers.1", "head": "head"}
        self.skeleton = TWO
        self.codec = Codec("heatmap", (SIDE, SIDE), (3, 3), sigma=(1.0, 1.0))
        self.attention = Attention(("layers.0.weights", "layers.1.weights"), 2, (3, 3))

    def forward(self, batch):
        return Outputs(heatmaps=self.module(batch.pixels))

    def decode(self, outputs, batch, options):
        points, scores = _argmax(outputs.heatmaps.numpy())
        return self._predictions(batch, points * 3 + 1, scores)


def toy_text():
    """The published text fusion network in small, all of its defects on."""
    from tests.inspectors.conditioning.networks import network
    from workbench.text.vectors import builtin_text

    return network(text=builtin_text().for_all("horse"), taught=False)


TOYS = {
    "heatmaps": ToyHeatmaps, "simcc": ToySimCC, "fields": ToyFields, "seventeen": ToySeventeen,
    "sequence": Telling, "people": ToyPeople, "text": toy_text,
    "transformer": ToyTransformer,
}  # fmt: skip


def samples(model=None, n=2):
    """Samples of an image that holds the model's crop at CORNER, truth on the two lit pixels.

    For the small toys: red lit at input (3, 4), green at input (6, 5), that is image (7, 9), (10, 10).
    """
    if isinstance(model, Telling):
        return model.examples(n)
    if hasattr(model, "group"):
        return tuple(_two_people(i) for i in range(n))
    H, W = getattr(model, "size", getattr(model, "input_size", (SIDE, SIDE)))
    x0, y0 = CORNER
    image = np.zeros((H + 12, W + 10, 3), np.uint8)
    K = 2 if model is None else len(model.skeleton)
    truth = np.zeros((K, 3))
    if K == 2:
        image[y0 + 4, x0 + 3, 0] = image[y0 + 5, x0 + 6, 1] = 255
        truth[:] = [[x0 + 3, y0 + 4, 2], [x0 + 6, y0 + 5, 2]]
    else:
        random = np.random.default_rng(1)
        image[:] = np.kron(random.integers(0, 255, (17, 13, 3)), np.ones((16, 16, 1)))[: H + 12, : W + 10]
        truth[:, :2] = random.uniform((x0, y0), (x0 + W - 1, y0 + H - 1), (K, 2))
        truth[:, 2] = 2
        truth[3] = 0
    box = (float(x0), float(y0), float(x0 + W), float(y0 + H))
    return tuple(
        Sample(image, box, truth, key=f"toy/{i}", image_id=i, annotation_id=i + 1, area=float(H * W))
        for i in range(n)
    )


def a_run(name, record=("*",), n=2, title="toy"):
    """A run of the toy of that name over its samples, every tap recorded unless told otherwise."""
    from workbench.core.run import run

    model = TOYS[name]()
    taps = tuple(model.taps) if record == ("*",) else record
    return run(model, samples(model, n), taps, title=title)
