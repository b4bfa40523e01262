"""Where does an output say the keypoints are? All decoders read one stored output, none writes into it.

Equal to mmpose 1.3.2 (codecs/msra_heatmap.py, udp_heatmap.py, simcc_label.py) but for two points: where the
peak is zero or less the keypoint is nan and not cell -1, and mmpose's blur rewrites the maps it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from workbench.core import Codec, DecodeOptions, NotAvailable, Outputs, nearest
from workbench.decoding import decoders

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class Decoder:
    """One way to read keypoints off an output.

    Attributes:
        kind: what it reads, as Codec.kind.
        about: one line for user interfaces.
        read: from finite maps [N, K, h, w] to cells [N, K, 2], or from both SimCC vectors to bins; with
            the codec, for its blur and sigma.
    """

    kind: Literal["heatmap", "simcc"]
    about: str
    read: Callable[..., Float[np.ndarray, "N K 2"]]


DECODERS: dict[str, Decoder] = {
    "argmax": Decoder("heatmap", "the highest cell", decoders.argmax),
    "quarter": Decoder("heatmap", "a quarter cell towards the higher neighbour", decoders.quarter),
    "dark": Decoder("heatmap", "DARK: one Newton step on the blurred log-map", decoders.dark),
    "udp": Decoder("heatmap", "DARK as UDP has it: unit differences, clipped map", decoders.udp),
    "simcc": Decoder("simcc", "the highest bin along x and y", decoders.argmax),
    "simcc-dark": Decoder(
        "simcc", "the highest bin, one Newton step on the blurred log-vector", decoders.dark
    ),
}


def decoders_for(given: Outputs | Codec) -> list[str]:
    """Names of the decoders that can read these outputs, or what this codec describes."""
    if isinstance(given, Codec):
        kinds = {given.kind}
    else:
        present = {"heatmap": given.heatmaps, "simcc": given.simcc}
        kinds = {kind for kind, tensor in present.items() if tensor is not None}
    return [name for name, decoder in DECODERS.items() if decoder.kind in kinds]


def decode(
    outputs: Outputs, codec: Codec, options: DecodeOptions | None = None
) -> tuple[Float[np.ndarray, "N K 2"], Float[np.ndarray, "N K"]]:
    """Keypoints (x, y) in input pixels and their scores; nan coordinates where the peak is zero or less.

    A heatmap's score is its peak. SimCC has two peaks, raw logits: `options.score` min is mmpose's, mean
    is rtmlib's; the rule has no effect on heatmaps.

    Raises:
        KeyError: no such decoder; the message lists near ones.
        NotAvailable: the decoder reads something these outputs do not hold.
        ValueError: a map or vector holds a number that is not finite, or has no cells.
    """
    options = options or DecodeOptions()
    name = options.decoder or codec.decoder
    if name not in DECODERS:
        raise KeyError(f"no decoder {name!r}; nearest: {nearest(name, DECODERS)}")
    if options.score not in ("", "min", "mean"):
        raise ValueError(f"score rule: expected min or mean, got {options.score!r}")
    if name not in decoders_for(outputs):
        raise NotAvailable(
            f"decoder {name!r} reads {DECODERS[name].kind}; these outputs can be read by "
            f"{', '.join(decoders_for(outputs)) or 'none'}"
        )
    read = DECODERS[name].read
    if outputs.heatmaps is not None and DECODERS[name].kind == "heatmap":
        maps = _finite("heatmap", outputs.heatmaps)
        points = read(maps, codec) * _pixels_per_cell(codec, maps.shape[-2:])
        scores = maps.max((2, 3))
    else:
        assert outputs.simcc is not None  # decoders_for has seen it
        x, y = (_finite(f"SimCC {axis}", tensor) for axis, tensor in zip("xy", outputs.simcc, strict=True))
        points = read(x, y, codec) / codec.split_ratio
        peaks = x.max(-1), y.max(-1)
        found = np.minimum(*peaks) > 0
        scores = np.minimum(*peaks) if options.score != "mean" else (peaks[0] + peaks[1]) / 2
        return np.where(found[..., None], points, np.nan), scores
    return np.where((scores > 0)[..., None], points, np.nan), scores


def _finite(what: str, tensor: object) -> Float[np.ndarray, "N K *size"]:
    """The tensor as float32 numpy, without a copy where it is one already."""
    if isinstance(tensor, np.ndarray):
        array = tensor.astype(np.float32, copy=False)
    else:
        array = tensor.detach().float().cpu().numpy()  # type: ignore[attr-defined]
    if array.ndim < 3 or array.size == 0:
        raise ValueError(f"{what}: expected samples x keypoints x cells, got shape {array.shape}")
    broken = ~np.isfinite(array).all(tuple(range(2, array.ndim)))
    if broken.any():
        n, k = np.argwhere(broken)[0]
        raise ValueError(
            f"{what} of sample {n}, keypoint {k} holds a number that is not finite ({broken.sum()} in all): "
            "the weights diverged or the input did; nothing can be read off it"
        )
    return array


def _pixels_per_cell(codec: Codec, size: tuple[int, ...]) -> Float[np.ndarray, " 2"]:
    """Input pixels per heatmap cell along x and y; UDP spans from the outermost centres."""
    less = 1 if codec.udp else 0
    (H, W), (h, w) = codec.input_size, size
    return np.array([(W - less) / max(w - less, 1), (H - less) / max(h - less, 1)])
