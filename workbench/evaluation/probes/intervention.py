"""Intervention: one alternative to how a model is fed or read, as a wrapper around the model.

    swapped = Intervention(
        "red and blue exchanged", "channel order", "the network is given blue for red", "exchange them",
        lambda model: Recoloured(model, matrix, offset),
    )
    better = swapped.apply(model)

The wrappers work on every PoseModel, whatever its family: colours are changed on the batch that the model
itself prepares, crops are cut again along the affine that it states, keypoints are moved after decoding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.core import Answers, Batch, DecodeOptions, NotAvailable, Outputs, PoseModel, Prediction, Sample
from workbench.core.geometry import apply as transform
from workbench.core.geometry import inverse
from workbench.core.wrapping import Wrapper

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

CAUSES: tuple[str, ...] = (
    "value range",
    "channel order",
    "normalisation",
    "width and height exchanged",
    "crop padding",
    "crops differ from their affine",
    "half-pixel shift",
)
"""Causes that `workbench probe input` tells apart, in the order of suspicion."""


@dataclass(frozen=True, eq=False)
class Intervention:
    """One alternative.

    Attributes:
        name: unique among those of one probe: ``red and blue exchanged``.
        cause: what is wrong with the model as it is opened if this one is better; one of `CAUSES` or the
            name of another probe's cause.
        about: what is changed, one phrase.
        fix: what to do if it is better, one sentence.
        apply: the model with the change; the model itself is not changed.
        decode_only: the network's input and output stay as they are, so no forward pass is needed.
        fine: it moves keypoints by a pixel or less, and is judged by the error in input pixels, because OKS
            hardly depends on it.
    """

    name: str
    cause: str
    about: str
    fix: str
    apply: Callable[[PoseModel], PoseModel]
    decode_only: bool = False
    fine: bool = False


@dataclass(frozen=True)
class NotTried:
    """A cause that could not be examined.

    Attributes:
        cause: as in `Intervention`.
        reason: why, one sentence.
    """

    cause: str
    reason: str


# What a model makes of colours.


# Grey levels of a colour that must lie where the other four say; else colours are no affine function.
_CHECK = (90, 150, 210)
_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Colours:
    """The affine function from RGB in 0..255 to the channels of the network's input.

    Attributes:
        matrix: [3, 3], channel = matrix @ (r, g, b) + offset.
        offset: [3].
    """

    matrix: Float[np.ndarray, "3 3"]
    offset: Float[np.ndarray, " 3"]

    @property
    def order(self) -> tuple[int, int, int]:
        """Which colour (0 red, 1 green, 2 blue) each channel of the input holds."""
        r, g, b = (int(c) for c in np.abs(self.matrix).argmax(1))
        return r, g, b

    def change_to(self, other: Colours) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, " 3"]]:
        """Matrix and offset from these channels to those of another function."""
        matrix = other.matrix @ np.linalg.inv(self.matrix)
        return matrix, other.offset - matrix @ self.offset


def colours_of(model: PoseModel, sample: Sample) -> Colours:
    """What a model makes of colours, measured on images of one colour: the median over the input.

    Places that are the same for black and for white (beyond the image, or erased) are left out.

    Args:
        model: any.
        sample: its image's size and its box are used.

    Raises:
        NotAvailable: channels are no affine function of the image's colours.
    """
    shape = sample.image.shape

    def given(colour: Sequence[int]) -> np.ndarray:
        image = np.broadcast_to(np.array(colour, np.uint8), shape)
        plain = dataclasses.replace(sample, image=np.ascontiguousarray(image), others=())
        pixels = model.prepare([plain]).pixels
        if pixels.ndim != 4 or pixels.shape[1] != 3:
            raise NotAvailable(f"colours: the network's input has shape {tuple(pixels.shape)}, not N 3 H W")
        return pixels[0].flatten(1).double().cpu().numpy()

    black = given((0, 0, 0))
    shown = (given((255, 255, 255)) != black).any(0)
    if not shown.any():
        raise NotAvailable("colours: the network's input is the same for a black image and for a white one")

    def middle(colour: Sequence[int]) -> np.ndarray:
        return np.median(given(colour)[:, shown], axis=1)

    offset = np.median(black[:, shown], axis=1)
    columns = [(middle(c) - offset) / 255 for c in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    matrix = np.stack(columns, 1)
    expected, size = matrix @ _CHECK + offset, np.abs(matrix).max() * 255
    # The condition is dimensionless: a network fed with 0..1 has a small matrix.
    flat = size == 0 or abs(np.linalg.det(matrix * 255 / size)) < 1e-6
    if flat or np.abs(middle(_CHECK) - expected).max() > _TOLERANCE * size:
        raise NotAvailable(
            "colours: what the model makes of an image's colours is no affine function of them"
        )
    return Colours(matrix, offset)


# The wrappers.


def _on_pixels(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with its pixels changed, those of a bottom-up model's other scales included."""
    extra = dict(batch.extra)
    if isinstance(scales := extra.get("scales"), Mapping):
        extra["scales"] = {scale: change(pixels) for scale, pixels in scales.items()}
    return dataclasses.replace(batch, pixels=change(batch.pixels), extra=extra)


@dataclass(frozen=True, eq=False)
class Recoloured(Wrapper):
    """A model whose input's channels are changed by an affine function.

    Attributes:
        model: the inner model.
        matrix: [3, 3], new channels = matrix @ channels + offset.
        offset: [3].
    """

    model: PoseModel
    matrix: Float[np.ndarray, "3 3"]
    offset: Float[np.ndarray, " 3"]
    # An exported file answers by itself, from its own input.
    withheld: ClassVar[tuple[type, ...]] = (Answers,)

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """The inner model's input with other colours."""
        import torch

        matrix, offset = (torch.tensor(v, dtype=torch.float64) for v in (self.matrix, self.offset))

        def change(pixels: Tensor) -> Tensor:
            changed = torch.einsum("ij,njhw->nihw", matrix, pixels.double().cpu())
            return (changed + offset.view(1, 3, 1, 1)).to(pixels)

        return _on_pixels(self.model.prepare(samples), change)


@dataclass(frozen=True, eq=False)
class Transposed(Wrapper):
    """A model whose input's, or output's, axes x and y are exchanged.

    Attributes:
        model: the inner model.
        pixels: exchange the axes of the input.
        outputs: exchange the axes of the output.
    """

    model: PoseModel
    pixels: bool = True
    outputs: bool = False
    withheld: ClassVar[tuple[type, ...]] = (Answers,)

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """The inner model's input, transposed where asked."""
        batch = self.model.prepare(samples)
        return _on_pixels(batch, lambda p: p.transpose(-1, -2).contiguous()) if self.pixels else batch

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """As the inner model does, of outputs transposed where asked."""
        return self.model.decode(self._turned(outputs), batch, options)

    def group(self, outputs: Outputs, batch: Batch, *more: Any, **named: Any) -> Any:
        """As the inner model does, of outputs transposed where asked."""
        return self.model.group(self._turned(outputs), batch, *more, **named)  # type: ignore[attr-defined]

    def _turned(self, outputs: Outputs) -> Outputs:
        return transposed(outputs) if self.outputs else outputs


def transposed(outputs: Outputs) -> Outputs:
    """Outputs with x and y exchanged.

    Raises:
        NotAvailable: sequence outputs, whose axes are not known.
    """
    if outputs.tokens.keys() - {"coordinates", "visibility"}:
        raise NotAvailable("exchanging x and y: the axes of this network's outputs are not known")

    def turned(maps: Tensor | None) -> Any:
        return None if maps is None else maps.transpose(-1, -2).contiguous()

    tokens = {
        name: values if name == "visibility" else values[..., [1, 0, *range(2, values.shape[-1])]]
        for name, values in outputs.tokens.items()
    }
    return Outputs(
        heatmaps=turned(outputs.heatmaps),
        simcc=None if outputs.simcc is None else (outputs.simcc[1], outputs.simcc[0]),
        tags=turned(outputs.tags),
        fields={name: turned(vectors).flip(2) for name, vectors in outputs.fields.items()},
        tokens=tokens,
        centres=turned(outputs.centres),
        coarse=turned(outputs.coarse),
        passes={name: transposed(one) for name, one in outputs.passes.items()},
    )


Affine = Any  # float [2, 3], from input pixels to image pixels


@dataclass(frozen=True, eq=False)
class Recropped(Wrapper):
    """A model whose crops are cut from another part of the image, or at another size.

    Attributes:
        model: the inner model, one that sees crops.
        colours: what it makes of colours.
        region: from the affine (input pixels to image pixels), the sample's box and the input's (H, W) to
            the new affine.
        size: (height, width) of the new input; None keeps it.
        read: from the new input's pixels to those in which the inner model's decoder counts, factors along
            x and y; (1, 1) where size is kept.
    """

    model: PoseModel
    colours: Colours
    region: Callable[[Affine, tuple[float, float, float, float], tuple[int, int]], Affine]
    size: tuple[int, int] | None = None
    read: tuple[float, float] = (1.0, 1.0)
    withheld: ClassVar[tuple[type, ...]] = (Answers,)

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """Crops along the new affine, bilinear, black outside the image, in the inner model's colours."""
        import cv2
        import torch

        batch = self.model.prepare(samples)
        before = (int(batch.pixels.shape[2]), int(batch.pixels.shape[3]))
        H, W = self.size or before
        pixels, affines = np.empty((len(samples), H, W, 3)), np.empty((len(samples), 2, 3))
        for n, (sample, affine) in enumerate(zip(samples, batch.to_image, strict=True)):
            affines[n] = self.region(affine, sample.box, (H, W))
            matrix = inverse(affines[n])
            pixels[n] = cv2.warpAffine(
                np.ascontiguousarray(sample.image), matrix, (W, H), flags=cv2.INTER_LINEAR
            )
        channels = pixels @ self.colours.matrix.T + self.colours.offset
        planes = torch.from_numpy(channels).permute(0, 3, 1, 2).to(batch.pixels).contiguous()
        return dataclasses.replace(batch, pixels=planes, to_image=affines)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """As the inner model does, with its count of input pixels corrected."""
        affines = batch.to_image.copy()
        affines[:, :, :2] = affines[:, :, :2] * np.array(self.read)
        return self.model.decode(outputs, dataclasses.replace(batch, to_image=affines), options)


@dataclass(frozen=True, eq=False)
class Moved(Wrapper):
    """A model whose keypoints are moved in the pixels of its input.

    Attributes:
        model: the inner model.
        shift: (x, y) in input pixels.
        factor: (x, y), about pixel (0, 0) of the input.
    """

    model: PoseModel
    shift: tuple[float, float] = (0.0, 0.0)
    factor: tuple[float, float] = (1.0, 1.0)
    withheld: ClassVar[tuple[type, ...]] = (Answers,)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """The inner model's keypoints, moved."""
        found = self.model.decode(outputs, batch, options)
        return tuple(
            dataclasses.replace(one, keypoints=self._moved(one.keypoints, affine))
            for one, affine in zip(found, batch.to_image, strict=True)
        )

    def group(self, outputs: Outputs, batch: Batch, *more: Any, **named: Any) -> Any:
        """The inner model's people, moved."""
        found = self.model.group(outputs, batch, *more, **named)  # type: ignore[attr-defined]
        return tuple(
            dataclasses.replace(people, keypoints=self._moved(people.keypoints, affine))
            for people, affine in zip(found, batch.to_image, strict=True)
        )

    def _moved(self, keypoints: Float[np.ndarray, "*n 2"], affine: Affine) -> Float[np.ndarray, "*n 2"]:
        inside = transform(inverse(affine), keypoints) * np.array(self.factor) + np.array(self.shift)
        return transform(affine, inside)
