"""Consistency on unlabelled images: several hard views are pulled to the prediction of one easy view.

The teacher's maps are those of the easily augmented image, without gradient, warped as the hard views were;
each hard view (a path) is trained to give them. The loss of a labelled batch is added. Sharpening and
confidence masking are options of upstream, off by default.

Source: Zhou et al., Boosting Semi-Supervised 2D Human Pose Estimation by Revisiting Data Augmentation and
Consistency Training, arXiv 2402.11566; hnuzhy/MultiAugs@5443fb9 lib/core/loss.py (JointsMSELoss, PoseDisLoss)
and lib/models/pose_cons.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

Augmentation = Callable[["Tensor"], "Tensor"]
"""A hard augmentation that moves no keypoint: images [N, 3, H, W] to images of the same size."""


@dataclass(frozen=True)
class Consistency:
    """Options of the loss on unlabelled images, with upstream's defaults.

    Attributes:
        sharpen: compare the softmax over each map's cells instead of the maps.
        mask: leave out keypoints whose teacher map stays at or below `threshold`.
        threshold: of the teacher's peak, before any softmax.
        fuse: average the paths' maps, and pull the average to the teacher instead of each path.
    """

    sharpen: bool = False
    mask: bool = False
    threshold: float = 0.5
    fuse: bool = False


def half_mse(
    given: Float[Tensor, "N K h w"], wanted: Float[Tensor, "N K h w"], weights: Float[Tensor, "N K"]
) -> Float[Tensor, ""]:
    """Half the mean squared error, averaged over keypoints: upstream's supervised loss.

    Args:
        given: predicted maps.
        wanted: target maps.
        weights: 0 where a keypoint is not labelled.

    Raises:
        ValueError: maps of two sizes.
    """
    _same_size(given, wanted)
    scaled = weights[..., None, None]
    return 0.5 * ((given * scaled - wanted * scaled) ** 2).mean()


def path_loss(
    given: Float[Tensor, "N K h w"],
    teacher: Float[Tensor, "N K h w"],
    weights: Float[Tensor, "N K"],
    options: Consistency = Consistency(),
) -> Float[Tensor, ""]:
    """The loss of one path against the teacher, whose gradient is cut.

    Args:
        given: maps of the hard view.
        teacher: maps of the easy view, warped as the hard view was.
        weights: 0 where a keypoint must not count.
        options: sharpening and masking.

    Raises:
        ValueError: maps of two sizes.
    """
    _same_size(given, teacher)
    teacher = teacher.detach()
    scaled = weights[..., None, None]
    mine, theirs = given * scaled, teacher * scaled
    if options.sharpen:
        mine, theirs = (maps.flatten(2).softmax(-1).reshape(maps.shape) for maps in (mine, theirs))
    if options.mask:
        sure = (teacher.flatten(2).amax(-1) > options.threshold)[..., None, None]
        mine, theirs = mine * sure, theirs * sure
    return 0.5 * ((mine - theirs) ** 2).mean()


def multi_path_loss(
    labelled: tuple[Float[Tensor, "N K h w"], Float[Tensor, "N K h w"], Float[Tensor, "N K"]],
    paths: Sequence[Float[Tensor, "M K h w"]],
    teacher: Float[Tensor, "M K h w"],
    weights: Float[Tensor, "M K"] | None = None,
    options: Consistency = Consistency(),
) -> dict[str, Tensor]:
    """Supervised loss and the sum of the paths' losses, scalars to be added.

    Args:
        labelled: maps, target and weights of the labelled batch.
        paths: maps of each hard view of the unlabelled batch.
        teacher: maps of its easy view, warped as the hard views were.
        weights: of the unlabelled keypoints; None counts all.
        options: sharpening, masking, fusion.

    Raises:
        ValueError: no path, or maps of two sizes.

    Example:
        >>> import torch
        >>> maps, one = torch.zeros(1, 1, 2, 2), torch.ones(1, 1)
        >>> parts = multi_path_loss((maps, maps, one), [maps + 1, maps + 2], maps)
        >>> {name: float(part) for name, part in parts.items()}
        {'supervised': 0.0, 'consistency': 2.5}
    """
    import torch

    if not paths:
        raise ValueError("multi-path loss: expected at least one path, got none")
    weights = torch.ones_like(teacher[:, :, 0, 0]) if weights is None else weights
    views = [torch.stack(list(paths)).mean(0)] if options.fuse else list(paths)
    consistency = sum(path_loss(view, teacher, weights, options) for view in views)
    return {"supervised": half_mse(*labelled), "consistency": torch.as_tensor(consistency)}


def _same_size(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"consistency: expected maps of one size, got {tuple(a.shape)} and {tuple(b.shape)}")


# -- the views


def affine(rotations: Sequence[float], scales: Sequence[float]) -> Float[Tensor, "N 2 3"]:
    """Matrices for `warp`: rotation about the centre, then scale, in coordinates of -1 to 1.

    Args:
        rotations: degrees; positive turns the picture clockwise.
        scales: above 1 shows more of the image, as upstream passes its matrix to affine_grid.
    """
    import torch

    found = []
    for degrees, scale in zip(rotations, scales, strict=True):
        cos, sin = (scale * f(math.radians(degrees)) for f in (math.cos, math.sin))
        found.append([[cos, sin, 0.0], [-sin, cos, 0.0]])
    return torch.tensor(found)


def random_affine(
    count: int, generator: np.random.Generator, rotation: float = 30.0, scale: float = 0.25
) -> Float[Tensor, "N 2 3"]:
    """Upstream's random warp: a normal rotation in four of five samples, clipped at twice its spread.

    Args:
        count: of matrices.
        generator: of random numbers.
        rotation: spread of the rotation, degrees.
        scale: spread of the scale; it is clipped to 1 - scale .. 1 + scale.
    """
    scales = np.clip(generator.normal(1, scale, count), 1 - scale, 1 + scale)
    turned = generator.random(count) <= 0.8
    rotations = np.clip(generator.normal(0, rotation, count), -2 * rotation, 2 * rotation) * turned
    return affine(list(rotations), list(scales))


def warp(values: Float[Tensor, "N C H W"], matrices: Float[Tensor, "N 2 3"]) -> Float[Tensor, "N C H W"]:
    """Images or maps seen through `affine` matrices; what lies outside is 0.

    The same matrix moves an image and its maps alike, whatever their sizes: coordinates run from -1 to 1.

    Args:
        values: images or maps.
        matrices: from the new coordinates to the old ones.
    """
    from torch.nn import functional

    grid = functional.affine_grid(matrices.to(values), list(values.shape), align_corners=False)
    return functional.grid_sample(values, grid, align_corners=False)


def multi_path_step(
    network: nn.Module,
    labelled: tuple[Float[Tensor, "N 3 H W"], Float[Tensor, "N K h w"], Float[Tensor, "N K"]],
    unlabelled: Float[Tensor, "M 3 H W"],
    augmentations: Sequence[Augmentation],
    matrices: Float[Tensor, "M 2 3"],
    options: Consistency = Consistency(),
) -> dict[str, Tensor]:
    """The loss of one training step: both batches through the network, each path through its augmentation.

    Args:
        network: images to maps.
        labelled: images, target maps and weights.
        unlabelled: easily augmented images.
        augmentations: one for each path.
        matrices: the warp of every path, see `random_affine`.
        options: of the loss.

    Returns:
        Parts of the loss, scalars; their sum is minimised.
    """
    import torch

    images, target, weights = labelled
    with torch.no_grad():
        teacher = warp(network(unlabelled), matrices)
    paths = [network(warp(augment(unlabelled), matrices)) for augment in augmentations]
    return multi_path_loss((network(images), target, weights), paths, teacher, options=options)


# -- the mask


def confidence(maps: Float[np.ndarray, "N K h w"], temperature: float = 0.0) -> Float[np.ndarray, "N K"]:
    """What a confidence mask looks at: the peak of each map, or of its softmax.

    Args:
        maps: any values.
        temperature: 0 for the peak itself, as upstream; otherwise of the softmax over the cells.

    Example:
        >>> maps = np.array([[[[0.0, 1.0]]]])
        >>> confidence(maps).item(), round(confidence(maps, 0.5).item(), 3)
        (1.0, 0.881)
    """
    flat = np.asarray(maps, dtype=float).reshape(*maps.shape[:2], -1)
    if not temperature:
        return flat.max(-1)
    shifted = np.exp((flat - flat.max(-1, keepdims=True)) / temperature)
    return 1 / shifted.sum(-1)


def best_confidence(height: int, width: int, sigma: float, temperature: float = 0.0) -> float:
    """The confidence of a perfect map: a Gaussian of height 1 on the middle cell.

    Args:
        height: of the map, cells.
        width: of the map, cells.
        sigma: of the Gaussian, cells.
        temperature: see `confidence`.

    Example:
        >>> round(best_confidence(64, 48, 2, temperature=0.5), 4)
        0.0023
    """
    y, x = np.mgrid[:height, :width]
    perfect = np.exp(-((x - width // 2) ** 2 + (y - height // 2) ** 2) / (2 * sigma**2))
    return float(confidence(perfect[None, None], temperature)[0, 0])
