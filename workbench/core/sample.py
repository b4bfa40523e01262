"""Which keypoints does a model or a data set speak of?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from workbench.core.errors import nearest
from workbench.core.report import counted

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, UInt8
    from torch import Tensor


@dataclass(frozen=True)
class Skeleton:
    """The keypoints a model or a data set speaks of.

    Attributes:
        name: e.g. ``coco-17``.
        keypoints: the K names, in order.
        limbs: index pairs to draw.
        mirror: for each keypoint the index of its left-right partner (itself on the midline);
            empty when unknown, and then nothing may be flipped.
        sigmas: OKS constants per keypoint; empty when nobody has published any.
        source: where names and sigmas were taken from.
    """

    name: str
    keypoints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...] = ()
    mirror: tuple[int, ...] = ()
    sigmas: tuple[float, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        # An adapter may give lists or arrays: of an array neither a truth value nor a hash can be taken.
        fields = {
            "keypoints": tuple(str(name) for name in self.keypoints),
            "limbs": tuple((int(a), int(b)) for a, b in self.limbs),
            "mirror": tuple(int(k) for k in self.mirror),
            "sigmas": tuple(float(value) for value in self.sigmas),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        K = len(self.keypoints)
        if self.mirror and sorted(self.mirror) != list(range(K)):
            raise ValueError(f"skeleton {self.name}: mirror is no permutation of {counted(K, 'keypoint')}")
        if self.sigmas and len(self.sigmas) != K:
            raise ValueError(
                f"skeleton {self.name}: {counted(len(self.sigmas), 'sigma')} for {counted(K, 'keypoint')}"
            )

    def __len__(self) -> int:
        return len(self.keypoints)

    def index(self, keypoint: str) -> int:
        """Position of a keypoint by name.

        Raises:
            KeyError: there is no such keypoint. The message lists near ones.
        """
        if keypoint not in self.keypoints:
            raise KeyError(f"no keypoint {keypoint!r}; nearest: {nearest(keypoint, self.keypoints)}")
        return self.keypoints.index(keypoint)


# What goes in: instances in images, the same as the network sees them, and how coordinates are coded.


NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Sample:
    """One instance (person, animal) in one image.

    Attributes:
        image: RGB.
        box: (x0, y0, x1, y1) in image pixels, without padding.
        truth: (x, y, visibility) in image pixels; visibility 0, 1 or 2 as in COCO.
        key: what a person calls it, unique in its set: ``000000000785/442619``.
        image_id: id in the annotation file, or a running number.
        annotation_id: id in the annotation file; None without annotation.
        category_id: id in the annotation file.
        area: object area in square pixels, for OKS; nan when unknown.
        box_score: confidence of the detector; 1 for ground truth boxes.
        path: the file the image came from; "" for drawn or in-memory images.
        others: the other annotated instances of the same image, themselves without others: what a network
            that finds everybody at once is compared with.
    """

    image: UInt8[np.ndarray, "H W 3"]
    box: tuple[float, float, float, float]
    truth: Float[np.ndarray, "K 3"] | None = None
    key: str = ""
    image_id: int = 0
    annotation_id: int | None = None
    category_id: int = 1
    area: float = NAN
    box_score: float = 1.0
    path: str = ""
    others: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class Codec:
    """How coordinates are written into a network's output, and how they are read back.

    Attributes:
        kind: ``heatmap`` or ``simcc``.
        input_size: (height, width) of the network's input, pixels.
        output_size: heatmap (h, w) in cells, or SimCC bins (bins_y, bins_x).
        sigma: of the Gaussian target: cells for heatmaps (x and y alike), bins (x, y) for SimCC. Of UDP's
            combined form (decoder ``udp-combined``) the radius of the disc, cells.
        split_ratio: SimCC bins per input pixel.
        udp: unbiased data processing: cell = pixel * (h - 1) / (H - 1) instead of pixel * h / H.
        normalized: SimCC labels sum to 1 (else they peak at 1).
        decoder: the decoder the model was published with; see workbench.decoding.DECODERS. By default the
            highest cell (``argmax``) or bin (``simcc``).
        blur_kernel: side of the Gaussian blur that DARK and UDP apply before the Taylor step.
        mmpose_cut: target Gaussians are cut as mmpose 1.3.2 cuts them: where three sigma are no whole number
            of cells, peaks nearer than that to the left or top edge stand one cell further inside.
        assumed: what nothing says of the outputs and was taken for granted; "" where nothing was.

    Raises:
        ValueError: a size or the sigma is no pair of numbers; a side, a sigma or the split ratio, all of
            which are divided by, is no finite number above 0; or a size is more than a network can be
            meant to see.
    """

    kind: Literal["heatmap", "simcc"]
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    sigma: tuple[float, float] = (2.0, 2.0)
    split_ratio: float = 2.0
    udp: bool = False
    normalized: bool = False
    decoder: str = ""
    blur_kernel: int = 11
    mmpose_cut: bool = False
    assumed: str = ""

    def __post_init__(self) -> None:
        if not self.decoder:
            object.__setattr__(self, "decoder", "simcc" if self.kind == "simcc" else "argmax")
        for name in ("input_size", "output_size", "sigma"):  # lists and arrays of an adapter become tuples
            value = getattr(self, name)
            try:  # numpy's numbers become Python's: json writes no others
                pair = tuple(v.item() if hasattr(v, "item") else v for v in value)
            except TypeError:
                pair = ()
            if len(pair) != 2:
                raise ValueError(f"codec: expected {name} as two numbers, got {value!r}")
            object.__setattr__(self, name, pair)
        divisors = {
            "input_size": self.input_size,
            "output_size": self.output_size,
            "sigma": self.sigma,
            "split ratio": (self.split_ratio,),
        }
        for name, values in divisors.items():
            if not all(0 < value < math.inf for value in values):  # nan is not above 0 either
                shown = ", ".join(f"{value:g}" for value in values)
                raise ValueError(f"codec: expected {name} as finite numbers above 0, got {shown}")
        checked_area(self.input_size, "an input")
        if self.kind == "heatmap":
            checked_area(self.output_size, "a heatmap")
        elif max(self.output_size) > MOST_BINS:
            raise ValueError(f"{max(self.output_size)} SimCC bins are refused: expected at most {MOST_BINS}")


MOST_PIXELS = 4096 * 4096
"""Pixels of one network input, cells of one heatmap: a file that names more asks for the machine's memory."""

MOST_BINS = 65_536
"""SimCC bins of one axis."""


def checked_area(size: tuple[int, int], what: str) -> tuple[int, int]:
    """(height, width), where it is not more than a network can be meant to see.

    Args:
        size: (height, width), pixels.
        what: what has this size, for the error.

    Raises:
        ValueError: it is more than `MOST_PIXELS`.
    """
    H, W = size
    if H * W > MOST_PIXELS:
        raise ValueError(f"{what} of {W}x{H} (width x height) is refused: expected at most 4096x4096 in all")
    return size


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples as the network sees them.

    Attributes:
        pixels: normalised crops.
        to_image: affine map from input pixels to image pixels, per sample.
        samples: where they came from, same order.
        extra: what else a family's forward needs (text, support keypoints ...), by name.
    """

    pixels: Float[Tensor, "N 3 H W"]
    to_image: Float[np.ndarray, "N 2 3"]
    samples: tuple[Sample, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.to_image)
