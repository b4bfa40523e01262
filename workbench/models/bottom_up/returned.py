"""What did a bottom-up network return? Heatmaps and tags, told apart by declared numbers and no guess."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench.core import NotAvailable, Outputs

if TYPE_CHECKING:
    from torch import Tensor


def typed(returned: Any, keypoints: int, tags: int) -> Outputs:
    """Outputs from what a network returned.

    Three forms are known: one tensor with heatmaps and behind them tags; the two as a pair; and
    HigherHRNet's, first both at the coarser resolution and then heatmaps alone at the finer one.

    Args:
        returned: by the network.
        keypoints: K, declared.
        tags: tag maps, declared: K L for L maps per keypoint, L for maps that all share.

    Raises:
        NotAvailable: there are heatmaps, but no tags.
        ValueError: another number of channels than declared, or no maps at all.
    """
    if isinstance(returned, Outputs):
        return returned
    parts: list[Any] = list(returned) if isinstance(returned, (list, tuple)) else [returned]
    if not parts or len(parts) > 2 or any(getattr(part, "ndim", 0) != 4 for part in parts):
        raise ValueError(f"the network returned {_shapes(parts)}: {_wanted(keypoints, tags)}")
    channels = [part.shape[1] for part in parts]
    if channels in ([keypoints], [keypoints, keypoints]) and channels != [keypoints, tags]:
        raise NotAvailable(
            f"tags: the network gives {keypoints} heatmaps only, so nothing says which keypoints belong to "
            "one person; a top-down model would be asked box by box"
        )
    if channels == [keypoints + tags]:
        return Outputs(heatmaps=parts[0][:, :keypoints], tags=parts[0][:, keypoints:])
    if channels == [keypoints + tags, keypoints]:
        first: Tensor = parts[0]
        return Outputs(heatmaps=parts[1], coarse=first[:, :keypoints], tags=first[:, keypoints:])
    if channels == [keypoints, tags]:
        return Outputs(heatmaps=parts[0], tags=parts[1])
    raise ValueError(f"the network returned {_shapes(parts)}: {_wanted(keypoints, tags)}")


def _wanted(keypoints: int, tags: int) -> str:
    both = keypoints + tags
    return (
        f"{keypoints} keypoints and {tags} tag maps are declared, so expected maps with {both} channels, "
        f"with {keypoints} and {tags}, or with {both} and then {keypoints}; declare the layout that it has"
    )


def _shapes(parts: Sequence[Any]) -> str:
    told = [str(list(p.shape)) if hasattr(p, "shape") else type(p).__name__ for p in parts]
    return " and ".join(told) or "nothing"
