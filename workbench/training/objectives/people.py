"""Losses on whole images: is every keypoint a peak at both resolutions, and does its tag say whose it is?

A whole image is even more background than a crop (see energy.py): `foreground` weighs the cells that lie in
a peak. Tags begin all alike, and there push has no slope while pull holds them together: `told` gives them
values to begin with. With neither, and tags weighted .001, this is the loss HigherHRNet was published with.
Source: Cheng et al., HigherHRNet, CVPR 2020, section 3; HRNet/HigherHRNet-Human-Pose-Estimation@aa23881:
lib/core/loss.py, lib/dataset/target_generators/target_generators.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import Codec, Outputs
from workbench.training.objectives import Target, mse
from workbench.training.people import push_pull

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class Emphasis:
    """What counts how much in the loss of a whole image.

    Attributes:
        sigma: of the peaks, cells, at both resolutions alike: a peak is twice as wide in the image at the
            coarser one.
        foreground: a cell counts 1 + foreground x target; 0 is the plain error.
        tags: weight of push and pull against the heatmaps.
        push: weight of push against pull; .5 as in mmpose and HigherHRNet, 1 in the paper of the tags.
        told: a person's tags are also told to be this times its place along x, -1/2 to 1/2 from the left
            border to the right: some 8 for the first few hundred steps; 0 leaves tags to push and pull.
    """

    sigma: float = 2.0
    foreground: float = 0.0
    tags: float = 0.001
    push: float = 0.5
    told: float = 0.0


@dataclass(frozen=True, eq=False)
class PeopleTarget:
    """What the outputs for whole images should have been.

    Attributes:
        heatmaps: everybody's peaks at the finer resolution, the highest where two meet.
        coarse: at the coarser one; None for networks with one resolution.
        places: per image, person and keypoint: cell index y * w + x in the tag maps, and 1 where labelled.
        across: per image, where each person is along x: mean of its labelled keypoints, -1/2 to 1/2.
    """

    heatmaps: Target
    coarse: Target | None
    places: list[Int[Tensor, "P K 2"]]
    across: list[Float[Tensor, " P"]]


def people_target(
    people: Sequence[Float[np.ndarray, "P K 3"]],
    input_size: tuple[int, int],
    like: Outputs,
    sigma: float = 2.0,
) -> PeopleTarget:
    """The target of whole images.

    Peaks stand where the keypoints are, between cells too; the published ones are rounded down to a cell.

    Args:
        people: for each image everybody in it: (x, y, visibility) in input pixels.
        input_size: (height, width) of the input.
        like: outputs, whose shapes the target takes.
        sigma: of the peaks, cells.

    Raises:
        ValueError: the outputs lack heatmaps or tags.
    """
    import torch

    if like.heatmaps is None or like.tags is None:
        raise ValueError("people objective: expected heatmaps and tags from the model")
    device = like.heatmaps.device
    h, w = like.tags.shape[-2:]
    places = [torch.as_tensor(_places(truth, input_size, (h, w)), device=device) for truth in people]
    fine = _peaks(people, input_size, like.heatmaps, sigma)
    coarse = None if like.coarse is None else _peaks(people, input_size, like.coarse, sigma)
    across = [
        torch.as_tensor([_across(one, input_size[1]) for one in truth], dtype=torch.float32, device=device)
        for truth in people
    ]
    return PeopleTarget(fine, coarse, places, across)


def people_losses(
    outputs: Outputs, target: PeopleTarget, emphasis: Emphasis | None = None
) -> dict[str, Tensor]:
    """Parts ``fine``, ``coarse``, ``pull``, ``push`` and, where asked for, ``told``; each a mean over images.

    Raises:
        ValueError: outputs and target are of different sizes, or there are no tags.
    """
    emphasis = emphasis or Emphasis()
    if outputs.heatmaps is None or outputs.tags is None:
        raise ValueError("people objective: expected heatmaps and tags from the model")
    full = dataclasses.replace(outputs, heatmaps=outputs.heatmaps.float())
    parts = {"fine": mse(full, target.heatmaps, emphasis.foreground)["heatmap"]}
    if target.coarse is not None and outputs.coarse is not None:
        coarse = dataclasses.replace(outputs, heatmaps=outputs.coarse.float())
        parts["coarse"] = mse(coarse, target.coarse, emphasis.foreground)["heatmap"]
    maps = outputs.tags.float()
    K = target.heatmaps.weights.shape[1]
    # One map for all keypoints is read in all their places.
    maps = maps.expand(-1, K, -1, -1) if maps.shape[1] == 1 else maps
    weight = emphasis.tags / max(1, len(maps))
    tags = push_pull(maps, target.places, emphasis.push)
    if emphasis.told:
        tags["told"] = _told(maps, target, emphasis.told)
    return {**parts, **{name: weight * part for name, part in tags.items()}}


def _told(maps: Float[Tensor, "N K h w"], target: PeopleTarget, spread: float) -> Tensor:
    """Squared error of every tag to its person's place: per image a mean over people, summed over images."""
    total = maps.sum() * 0
    for image, places, across in zip(maps, target.places, target.across, strict=True):
        flat = image.flatten(1)
        labelled = places[..., 1] > 0
        for person, where in zip(range(len(places)), across, strict=True):
            k = labelled[person].nonzero().flatten()
            if len(k):
                given = flat[k, places[person, k, 0]]
                total = total + ((given - spread * where) ** 2).mean() / len(places)
    return total


def _across(person: Float[np.ndarray, "K 3"], width: int) -> float:
    labelled = person[:, 2] > 0
    return float(person[labelled, 0].mean() / width - 0.5) if labelled.any() else 0.0


def _peaks(
    people: Sequence[np.ndarray], input_size: tuple[int, int], like: torch.Tensor, sigma: float
) -> Target:
    """The highest of everybody's peaks in each cell. Keypoints nobody has are background, and count."""
    import torch

    from workbench.decoding.targets import target

    K, h, w = like.shape[1:]
    # "dark" is the peak at the exact place.
    codec = Codec("heatmap", input_size, (h, w), (sigma, sigma), decoder="dark")
    # Targets have cell 0 at coordinate 0; a bottom-up network's cells are read at their centres, + .5.
    half = np.array([input_size[1] / w, input_size[0] / h]) / 2
    maps = np.zeros((len(people), K, h, w), np.float32)
    for n, truth in enumerate(people):
        if len(truth):
            drawn = target(codec, truth[..., :2] - half, (truth[..., 2] > 0).astype(float))
            maps[n] = drawn["heatmaps"].max(0)
    ones = torch.ones((len(people), K), device=like.device)
    return Target(ones, heatmaps=torch.as_tensor(maps, device=like.device))


def _places(
    truth: Float[np.ndarray, "P K 3"], input_size: tuple[int, int], size: tuple[int, int]
) -> Int[np.ndarray, "P K 2"]:
    """The cell each keypoint lies in; not labelled where it lies outside."""
    (H, W), (h, w) = input_size, size
    cells = np.floor(np.nan_to_num(truth[..., :2], nan=-1.0) * (w / W, h / H)).astype(np.int64)
    labelled = (truth[..., 2] > 0) & (cells >= 0).all(-1) & (cells < (w, h)).all(-1)
    index = np.where(labelled, cells[..., 1] * w + cells[..., 0], 0)
    return np.stack([index, labelled], -1).astype(np.int64)
