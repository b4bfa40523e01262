"""Training of bottom-up networks on whole images: heatmaps of all people, and a tag for each.

The Trainer passes instances; those of one image become one row, and everybody annotated in it is a target: no
person is trained as background. Associative embedding: pull is the squared distance of each keypoint's tag to
its person's mean, push is exp(-squared distance) of the means.

A whole image has even more background than a crop: `Emphasis.foreground` weighs the cells of a peak. Tags are
initially all alike, where push has no slope while pull holds them together: `Emphasis.position` gives them
initial values. With neither, and tags weighted .001, this is the published loss of HigherHRNet.

Sources: Newell et al., Associative Embedding, NIPS 2017, section 3.2; mmpose 1.3.2 models/losses/ae_loss.py;
Cheng et al., HigherHRNet, CVPR 2020, section 3; HRNet/HigherHRNet-Human-Pose-Estimation@aa23881:
lib/core/loss.py, lib/dataset/target_generators/target_generators.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Answers, Batch, Codec, DecodeOptions, Outputs, Prediction, Sample
from workbench.core.geometry import apply, inverse
from workbench.core.report import counted
from workbench.core.wrapping import Wrapper
from workbench.training.objectives import Target, mse

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor


def push_pull(
    tags: Float[Tensor, "N T h w"], places: list[Int[Tensor, "P K 2"]], push_factor: float = 0.5
) -> dict[str, Tensor]:
    """Pull and push, summed over images.

    Args:
        tags: T = K for one tag per joint, L * K for L-dimensional tags (dimension-major).
        places: per image, for each person and keypoint: cell index y * w + x, and 1 where labelled.
        push_factor: weight of push; .5 in mmpose, 1 in the paper (HigherHRNet weighs both by .001).

    Returns:
        ``pull`` and ``push``, scalars; zero for images without people.

    Raises:
        ValueError: places for another number of images.
    """
    import torch

    if len(places) != len(tags):
        raise ValueError(f"push_pull: expected places for {counted(len(tags), 'image')}, got {len(places)}")
    # A zero that depends on the tags: an image without people still has a gradient, which is zero.
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


@dataclass(frozen=True)
class Emphasis:
    """Weights of the parts of the loss on a whole image.

    Attributes:
        sigma: of the peaks in cells, the same at both resolutions: at the coarser one a peak is twice as wide
            in the image.
        foreground: a cell has weight 1 + foreground x target; 0 is the plain error.
        tags: weight of push and pull relative to the heatmaps.
        push: weight of push relative to pull; .5 as in mmpose and HigherHRNet, 1 in the paper of the tags.
        position: target of a person's tags is also this times its position along x, -1/2 at the left border
            to 1/2 at the right; about 8 for the first few hundred steps; 0 leaves tags to push and pull.
    """

    sigma: float = 2.0
    foreground: float = 0.0
    tags: float = 0.001
    push: float = 0.5
    position: float = 0.0


@dataclass(frozen=True, eq=False)
class PeopleTarget:
    """What the outputs for whole images should have been.

    Attributes:
        heatmaps: everybody's peaks at the finer resolution, the highest where two meet.
        coarse: the same at the coarser one; None for networks with one resolution.
        places: per image, person and keypoint: cell index y * w + x in the tag maps, and 1 where labelled.
        across: per image, position of each person along x: mean of its labelled keypoints, -1/2 to 1/2.
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

    Peaks are at the exact keypoints, also between cells; those of the published code are rounded down.

    Args:
        people: for each image everybody in it: (x, y, visibility) in input pixels.
        input_size: (height, width) of the input.
        like: outputs that define the shapes of the target.
        sigma: of the peaks in cells.

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
    """Parts ``fine``, ``coarse``, ``pull``, ``push`` and, if weighted, ``position``: scalars, image means.

    Args:
        outputs: with heatmaps and tags.
        target: of `people_target`.
        emphasis: weights; the published ones when None.

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
    # One map for all keypoints is read at all their places.
    maps = maps.expand(-1, K, -1, -1) if maps.shape[1] == 1 else maps
    weight = emphasis.tags / max(1, len(maps))
    tags = push_pull(maps, target.places, emphasis.push)
    if emphasis.position:
        tags["position"] = _position(maps, target, emphasis.position)
    return {**parts, **{name: weight * part for name, part in tags.items()}}


def _position(maps: Float[Tensor, "N K h w"], target: PeopleTarget, spread: float) -> Tensor:
    """Squared error of every tag to its person's position: mean over people, summed over images."""
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
    """The highest of everybody's peaks in each cell. Keypoints that nobody has are background, and count."""
    import torch

    from workbench.decoding.targets import target

    K, h, w = like.shape[1:]
    # "dark" draws the peak at the exact place.
    codec = Codec("heatmap", input_size, (h, w), (sigma, sigma), decoder="dark")
    # Targets have cell 0 at coordinate 0; a bottom-up network's cells are decoded at their centres, + .5.
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
    """The cell of each keypoint; not labelled where it lies outside."""
    (H, W), (h, w) = input_size, size
    cells = np.floor(np.nan_to_num(truth[..., :2], nan=-1.0) * (w / W, h / H)).astype(np.int64)
    labelled = (truth[..., 2] > 0) & (cells >= 0).all(-1) & (cells < (w, h)).all(-1)
    index = np.where(labelled, cells[..., 1] * w + cells[..., 0], 0)
    return np.stack([index, labelled], -1).astype(np.int64)


BY_HEART = Emphasis(foreground=10.0, tags=0.01)
"""For one image: peaks have more weight, and tags find their values by themselves."""


@dataclass(eq=False)
class TaughtPeople(Wrapper):
    """View of a bottom-up model for training: a row for each image, a prediction for each instance.

    Attributes:
        model: with the capability Groups.
        emphasis: weights of the loss.
    """

    model: Any
    emphasis: Emphasis = field(default_factory=Emphasis)

    withheld = (Answers,)  # would bypass `prepare`

    @property
    def codec(self) -> None:
        """None: targets of whole images are made of all people at once."""
        return None

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """Every image once; ``extra`` has the ``row`` of each sample and the ``people`` of each row.

        Args:
            samples: with ground truth; several may share an image.

        Raises:
            ValueError: images that need inputs of different sizes.
        """
        rows, of = _images(samples)
        batch = self.model.prepare(rows)
        people = []
        for n, affine in enumerate(batch.to_image):
            truth = _everybody([s for s, row in zip(samples, of, strict=True) if row == n])
            truth[..., :2] = apply(inverse(affine), truth[..., :2])
            people.append(truth)
        extra = {**batch.extra, "rows": tuple(rows), "row": tuple(of), "people": tuple(people)}
        return dataclasses.replace(batch, samples=tuple(samples), extra=extra)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """For each sample the person of its image whose extent overlaps its box best.

        Args:
            outputs: of `forward`.
            batch: of `prepare`.
            options: the default ones.

        Raises:
            ValueError: other options than the default ones.
        """
        if options != DecodeOptions():
            raise ValueError(
                "decoder and score: a bottom-up model groups detections; its settings are others"
            )
        people = self.group(outputs, batch)
        return tuple(
            people[row].in_box(s.box) for s, row in zip(batch.samples, batch.extra["row"], strict=True)
        )

    def maps(self, outputs: Outputs, batch: Batch, n: int, *more: Any, **named: Any) -> Any:
        """The aggregated maps of one row of a batch."""
        return self.model.maps(outputs, _of_images(batch), n, *more, **named)

    def group(self, outputs: Outputs, batch: Batch, *more: Any, **named: Any) -> Any:
        """All people of each row of a batch."""
        return self.model.group(outputs, _of_images(batch), *more, **named)

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Parts of the loss, scalars; their sum is minimised."""
        H, W = batch.pixels.shape[-2:]
        target = people_target(batch.extra["people"], (H, W), outputs, self.emphasis.sigma)
        return people_losses(outputs, target, self.emphasis)


def _of_images(batch: Batch) -> Batch:
    """A batch of `TaughtPeople.prepare` as the inner model prepares it: one sample for each row."""
    return dataclasses.replace(batch, samples=batch.extra["rows"])


def with_everybody(samples: Sequence[Sample]) -> list[Sample]:
    """The samples and all other instances in their images, each once: a bottom-up model is judged on all."""
    found: dict[Any, Sample] = {}
    for sample in samples:
        for one in (sample, *sample.others):
            found.setdefault((one.image_id, one.annotation_id, one.key), one)
    return list(found.values())


def _everybody(samples: Sequence[Sample]) -> np.ndarray:
    """Ground truth [P, K, 3] of the people in one image, each once."""
    truths = [
        np.asarray(s.truth, float) for one in samples for s in (one, *one.others) if s.truth is not None
    ]
    each = list({truth.tobytes(): truth for truth in truths}.values())
    return np.array(each).reshape(len(each), -1, 3)


def _images(samples: Sequence[Sample]) -> tuple[list[Sample], list[int]]:
    """One sample for each different image, and for each sample the number of its image."""
    rows: list[Sample] = []
    number: dict[Any, int] = {}
    of = []
    for sample in samples:
        # By their pixels: an image read twice counts once, one augmented twice counts twice, whatever their
        # ids.
        key = sample.image.shape, sample.image.tobytes()
        if key not in number:
            number[key] = len(rows)
            rows.append(sample)
        of.append(number[key])
    return rows, of
