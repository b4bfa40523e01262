"""What does the network say on average, once of the image and once of its mirror image?

Source: mmpose 1.3.2 models/utils/tta.py flip_heatmaps, flip_vectors; heads' predict with flip_test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.records import NotAvailable, Outputs

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def mirrored(values: Any) -> Any:
    """A tensor or numpy array with its last axis turned round."""
    return values[..., ::-1] if isinstance(values, np.ndarray) else values.flip(-1)


def unflipped(outputs: Outputs, mirror: Sequence[int], shift: bool = False) -> Outputs:
    """Outputs of the mirrored image, turned back: left is left again.

    Args:
        outputs: what the network left for the mirrored input.
        mirror: for each keypoint its left-right partner.
        shift: move heatmaps one cell to the right, as models trained without UDP need it: their cell i
            lies at pixel 4 i, and mirroring takes it to 4 i + 3. SimCC is never shifted.

    Raises:
        NotAvailable: the outputs hold something that has no mirror rule.
        ValueError: as many partners as keypoints are needed.
    """
    if outputs.tags is not None or outputs.tokens:
        raise NotAvailable("flip test: tags and tokens have no average; this family needs its own rule")
    order = list(mirror)

    def partners(tensor: Tensor) -> Tensor:
        if tensor.shape[1] != len(order):
            raise ValueError(
                f"flip test: {len(order)} mirror partners for {tensor.shape[1]} keypoints; "
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

    return Outputs(
        heatmaps=None if outputs.heatmaps is None else moved(mirrored(partners(outputs.heatmaps))),
        simcc=None
        if outputs.simcc is None
        else (mirrored(partners(outputs.simcc[0])), partners(outputs.simcc[1])),
        fields={name: field(vectors) for name, vectors in outputs.fields.items()},
        centres=None if outputs.centres is None else moved(mirrored(outputs.centres)),
    )


def average_with_flip(
    outputs: Outputs, flipped_outputs: Outputs, mirror: Sequence[int], shift: bool = False
) -> Outputs:
    """The mean of outputs and of the mirrored image's outputs turned back.

    Raises:
        NotAvailable: the outputs hold something that cannot be averaged.
        ValueError: the mirror does not fit the keypoints.
    """
    back = unflipped(flipped_outputs, mirror, shift)

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
    )
