"""Associative embedding: are a person's tags alike, and different from the others'?

pull: squared distance of each keypoint's tag to its person's mean; push: exp(-squared distance) of the means.
Source: Newell et al., Associative Embedding, NIPS 2017, section 3.2; mmpose 1.3.2 models/losses/ae_loss.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


def push_pull(
    tags: Float[Tensor, "N T h w"],
    places: list[Int[Tensor, "P K 2"]],
    push_factor: float = 0.5,
) -> dict[str, Tensor]:
    """Pull and push, summed over images.

    Args:
        tags: T = K for one tag per joint, L * K for L-dimensional tags (dimension-major).
        places: per image, for each person and keypoint: cell index y * w + x, and 1 where labelled.
        push_factor: weight of push; .5 in mmpose, 1 in the paper (HigherHRNet weighs both by .001).

    Returns:
        ``pull`` and ``push``; zero for images without people.
    """
    import torch

    if len(places) != len(tags):
        raise ValueError(f"push_pull: expected places for {len(tags)} images, got {len(places)}")
    # A zero that hangs on the tags: an image without people still has a gradient, which is zero.
    pull = push = tags.sum() * 0
    for maps, people in zip(tags, places, strict=True):
        K = people.shape[1]
        flat = maps.reshape(-1, K, maps[0].numel())
        members = []
        for person in people:
            labelled = person[:, 1] > 0
            if labelled.any():
                k = torch.arange(K, device=maps.device)[labelled]
                members.append(flat[:, k, person[labelled, 0].long()].T)
        if not members:
            continue
        P = len(members)
        means = torch.stack([tag.mean(0) for tag in members])
        pull = pull + sum(((t - m) ** 2).mean() for t, m in zip(members, means, strict=True)) / (P + 1e-6)
        if P > 1:
            apart = (means[None] - means[:, None]) ** 2
            push = push + push_factor * torch.exp(-apart).sum() / (P * (P - 1) + 1e-6)
    return {"pull": pull, "push": push}
