"""Flip test: the outputs of the mirrored image turned back, and averaged with those of the image.

Source: mmpose 1.3.2 models/utils/tta.py flip_heatmaps, flip_vectors, flip_coordinates; the heads' predict
with flip_test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import NotAvailable
from workbench.core.model import Outputs
from workbench.core.report import counted

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from workbench.core.sample import Skeleton

# What regression heads leave, [N, K, 2 or 4], and visibility heads beside anything, [N, K].
_AVERAGED = {"coordinates", "visibility"}


def mirrored(values: Any) -> Any:
    """A tensor or numpy array with its last axis reversed."""
    return values[..., ::-1] if isinstance(values, np.ndarray) else values.flip(-1)


def no_mirror(skeleton: Skeleton) -> str:
    """Why nothing can be averaged with its mirror image; "" where the skeleton names left and right.

    Args:
        skeleton: of the model; its source may hold what is wrong with the swaps that were given.
    """
    if skeleton.mirror:
        return ""
    source = f" ({skeleton.source})" if skeleton.source else ""
    return f"flip: skeleton {skeleton.name} does not say which keypoints are left and right{source}"


def unflipped(
    outputs: Outputs, mirror: Sequence[int], shift: bool = False, shift_coordinates: float | None = None
) -> Outputs:
    """Outputs of the mirrored image, turned back: left is left again.

    Args:
        outputs: what the network left for the mirrored input.
        mirror: for each keypoint its left-right partner.
        shift: move heatmaps one cell to the right, as models trained without UDP need it: their cell i
            lies at pixel 4 i, and mirroring takes it to 4 i + 3. SimCC is never shifted.
        shift_coordinates: of outputs with coordinates in 0..1 (x first), how far to move mirrored ones to the
            left: a pixel's share of the width, because pixel 0 mirrors to W - 1 and not to W. None where
            coordinates are something else.

    Raises:
        NotAvailable: the outputs hold something that has no mirror rule.
        ValueError: as many partners as keypoints are needed.
    """
    regressed = shift_coordinates is not None and outputs.tokens.keys() <= _AVERAGED
    if outputs.tags is not None or (outputs.tokens and not regressed):
        raise NotAvailable(
            "flip test: tags and tokens have no average; run without --flip, or let `call` return "
            "tokens['coordinates'] in 0..1 and give TopDown shift_coordinates=1 / width of the input"
        )
    order = list(mirror)

    def partners(tensor: Tensor) -> Tensor:
        if tensor.shape[1] != len(order):
            raise ValueError(
                f"flip test: {len(order)} mirror partners for {counted(tensor.shape[1], 'keypoint')}; "
                "the skeleton must name the partner of each"
            )
        return tensor[:, order]

    def moved(maps: Any) -> Any:
        # The first column stays: nothing is known of what was left of it.
        if not shift:
            return maps
        if isinstance(maps, np.ndarray):
            return np.concatenate([maps[..., :1], maps[..., :-1]], -1)
        import torch

        return torch.cat([maps[..., :1], maps[..., :-1]], -1)

    def field(vectors: Float[Tensor, "N P 2 h w"]) -> Float[Tensor, "N P 2 h w"]:
        turned = partners(vectors).flip(-1)
        # Mirrored, a vector to the right points to the left.
        return moved(turned * turned.new_tensor([-1.0, 1.0]).view(1, 1, 2, 1, 1))

    def token(name: str, values: Tensor) -> Tensor:
        turned = partners(values)
        if name != "coordinates":
            return turned
        x = 1.0 - turned[..., :1] - (shift_coordinates or 0.0)
        return torch.cat([x, turned[..., 1:]], -1)

    if outputs.tokens:
        import torch

    return Outputs(
        heatmaps=None if outputs.heatmaps is None else moved(mirrored(partners(outputs.heatmaps))),
        simcc=None
        if outputs.simcc is None
        else (mirrored(partners(outputs.simcc[0])), partners(outputs.simcc[1])),
        fields={name: field(vectors) for name, vectors in outputs.fields.items()},
        centres=None if outputs.centres is None else moved(mirrored(outputs.centres)),
        tokens={name: token(name, values) for name, values in outputs.tokens.items()},
    )


def average_with_flip(
    outputs: Outputs,
    flipped_outputs: Outputs,
    mirror: Sequence[int],
    shift: bool = False,
    shift_coordinates: float | None = None,
) -> Outputs:
    """The mean of outputs and of the mirrored image's outputs turned back.

    Args:
        outputs: of the input.
        flipped_outputs: of the mirrored input.
        mirror: for each keypoint the index of its mirror partner.
        shift: see `unflipped`.
        shift_coordinates: see `unflipped`.

    Raises:
        NotAvailable: the outputs hold something that cannot be averaged.
        ValueError: the mirror does not fit the keypoints.
    """
    back = unflipped(flipped_outputs, mirror, shift, shift_coordinates)

    def mean(a: Tensor | None, b: Tensor | None) -> Tensor | None:
        return None if a is None or b is None else (a + b) * 0.5

    simcc = None
    if outputs.simcc is not None and back.simcc is not None:
        simcc = ((outputs.simcc[0] + back.simcc[0]) * 0.5, (outputs.simcc[1] + back.simcc[1]) * 0.5)
    return Outputs(
        heatmaps=mean(outputs.heatmaps, back.heatmaps),
        simcc=simcc,
        fields={name: (vectors + back.fields[name]) * 0.5 for name, vectors in outputs.fields.items()},
        centres=mean(outputs.centres, back.centres),
        tokens={name: (values + back.tokens[name]) * 0.5 for name, values in outputs.tokens.items()},
    )
