"""A network that sees one crop at a time as a model of the workbench: fill in the record `TopDown`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from workbench.core import (
    Batch,
    Codec,
    DecodeOptions,
    NotAvailable,
    Outputs,
    Prediction,
    Sample,
    Skeleton,
    checked_area,
    geometry,
)
from workbench.decoding import decode
from workbench.models.naming import taps_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

Reader = Callable[[Outputs, DecodeOptions], tuple[np.ndarray, np.ndarray]]
NO_BOX = (float("nan"), float("nan"), float("nan"), float("nan"))

# On RGB in 0..255, as torchvision's and mmpose's backbones were trained.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
# mmpose's own, on the box before it is cropped.
PADDING = 1.25


def typed(returned: Any, codec: Codec | None) -> Outputs:
    """Outputs from what a network returned: Outputs already, one tensor of maps, or the SimCC pair.

    Args:
        returned: by the network.
        codec: how coordinates stand in it; None accepts Outputs only.

    Raises:
        ValueError: it returned something else; the message says what, and what was expected.
    """
    if isinstance(returned, Outputs):
        return returned
    if codec is None:
        raise ValueError(f"a model without a codec returns Outputs from `call`, got {_described(returned)}")
    sequence = isinstance(returned, (tuple, list))
    if codec.kind == "simcc" and sequence and len(returned) == 2:
        return Outputs(simcc=(returned[0], returned[1]))
    if codec.kind == "heatmap" and not sequence and getattr(returned, "ndim", 0) == 4:
        return Outputs(heatmaps=cast("Tensor", returned))
    wanted = "two tensors [N, K, bins]" if codec.kind == "simcc" else "one tensor [N, K, h, w]"
    raise ValueError(
        f"the network returned {_described(returned)}, but its codec says {codec.kind}: expected {wanted}; "
        "pass `call` to turn it into Outputs"
    )


@dataclass(frozen=True, eq=False)
class TopDown:
    """A PoseModel around a network that sees one crop at a time.

    Attributes:
        module: the network; put in evaluation mode by `run`, not by this record.
        skeleton: the keypoints in the order of the network's channels.
        codec: how coordinates stand in its output; None needs `read` and `input_size`.
        mean: subtracted from pixels in 0..255, in the network's channel order.
        std: divided by afterwards.
        bgr: channel order of the input is blue, green, red.
        padding: factor on the box before it is cropped.
        warp_udp: crops are warped as UDP does; None follows the codec.
        call: from pixels [N, 3, H, W] to Outputs, or to what the codec's kind expects; the module itself
            by default.
        read: from outputs to (x, y) in input pixels and scores, for outputs that workbench.decoding has no
            decoder for.
        input_size: (height, width) of the crops; the codec's by default.
        taps: public name -> module path; every named part by default.
        device: where pixels are sent; by default where the module's weights are.
        shift_heatmap: the flip test moves mirrored heatmaps one cell to the right.
        shift_coordinates: of a network that gives coordinates in 0..1, how far the flip test moves mirrored
            ones to the left, in widths of the input; None for all others.
        note: what had to be assumed to open it, for people; "" when nothing was.

    Raises:
        ValueError: there is no codec, and `read` or `input_size` is missing.
    """

    module: nn.Module
    skeleton: Skeleton
    codec: Codec | None
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    bgr: bool = False
    padding: float = PADDING
    warp_udp: bool | None = None
    call: Callable[[Any], Any] | None = None
    read: Reader | None = None
    input_size: tuple[int, int] = (0, 0)
    taps: Mapping[str, str] = None  # type: ignore[assignment] - filled in below
    device: str = ""
    shift_heatmap: bool = False
    note: str = ""
    shift_coordinates: float | None = None

    def __post_init__(self) -> None:
        if self.codec is None and (self.read is None or self.input_size == (0, 0)):
            raise ValueError("a top-down model without a codec needs `read` and `input_size`")
        if self.codec is not None and self.input_size == (0, 0):
            object.__setattr__(self, "input_size", self.codec.input_size)
        if self.taps is None:
            object.__setattr__(self, "taps", taps_of(self.module))

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """Crops around the boxes, padded and widened to the input's aspect ratio, normalised.

        `to_image` follows the codec and not the warp, as mmpose's does: where a configuration mixes
        UDP and plain the two differ by up to a pixel, and the figures are those that mmpose reports.

        Args:
            samples: with boxes (x0, y0, x1, y1) in image pixels.

        Returns:
            pixels [N, 3, H, W] and the affine maps from input pixels to image pixels.

        Raises:
            ValueError: a box has no size.
        """
        import torch

        udp = self.codec is not None and self.codec.udp
        warp_udp = udp if self.warp_udp is None else self.warp_udp
        pixels, affines = cropped(samples, self.input_size, self.padding, udp, warp_udp, self.bgr)
        planes = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        mean, std = (torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return Batch(((planes - mean) / std).contiguous(), affines, tuple(samples))

    def forward(self, batch: Batch) -> Outputs:
        """The network's output as it is."""
        weight = next(self.module.parameters(), None)
        device = self.device or ("cpu" if weight is None else weight.device)
        return typed((self.call or self.module)(batch.pixels.to(device)), self.codec)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """Keypoints in image pixels; nan where the network gave none.

        Args:
            outputs: of `forward`, on any device.
            batch: that was passed.
            options: decoder and score; the codec's by default.
        """
        if self.read is not None:
            points, scores = self.read(outputs, options)
        else:
            points, scores = decode(outputs, cast(Codec, self.codec), options)
        return placed(points, scores, batch.samples, batch.to_image, self.skeleton)


def cropped(
    samples: Sequence[Sample],
    input_size: tuple[int, int],
    padding: float,
    udp: bool,
    warp_udp: bool,
    bgr: bool,
) -> tuple[Float[np.ndarray, "N H W 3"], Float[np.ndarray, "N 2 3"]]:
    """Crops around the samples' boxes, not yet normalised, and the affine maps from them to the images.

    Args:
        samples: with boxes.
        input_size: (height, width) of a crop.
        padding: factor on the box.
        udp: the affine maps follow UDP: sizes are measured between the outermost pixel centres.
        warp_udp: pixels are warped in the same way.
        bgr: channel order blue, green, red.

    Raises:
        ValueError: a box has no size, or a crop would have more than MOST_PIXELS.
    """
    H, W = checked_area(input_size, "a crop")
    pixels = np.empty((len(samples), H, W, 3), np.float32)
    affines = np.empty((len(samples), 2, 3))
    for n, sample in enumerate(samples):
        box = geometry.checked_box(sample.box, f"box of {sample.key or f'sample {n}'}")
        centre, size = geometry.crop_region(box, (H, W), padding)
        pixels[n] = geometry.crop(sample.image, centre, size, (H, W), warp_udp)
        affines[n] = geometry.input_to_image(centre, size, (H, W), udp)
    return (np.ascontiguousarray(pixels[..., ::-1]) if bgr else pixels), affines


def placed(
    points: Float[np.ndarray, "N K 2"],
    scores: Float[np.ndarray, "N K"],
    samples: Sequence[Sample],
    affines: Float[np.ndarray, "N 2 3"],
    skeleton: Skeleton,
) -> tuple[Prediction, ...]:
    """Keypoints in input pixels as predictions in image pixels.

    Args:
        points: (x, y) in input pixels; nan where there is none.
        scores: one per keypoint.
        samples: with their boxes; may be empty.
        affines: maps from input pixels to image pixels.
        skeleton: of the model.

    Raises:
        NotAvailable: the network gives another number of keypoints than the skeleton has.
    """
    if points.shape[1] != len(skeleton):
        raise NotAvailable(
            f"keypoints: the network gives {points.shape[1]}, skeleton {skeleton.name} has {len(skeleton)}"
        )
    boxes = [sample.box for sample in samples] or [NO_BOX] * len(affines)
    found = zip(points, scores, affines, boxes, strict=True)
    return tuple(Prediction(geometry.apply(affine, p), s, box) for p, s, affine, box in found)


def _described(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {', '.join(map(_described, value)) or 'nothing'}"
    return type(value).__name__
