"""A further set: weights, statistics and image files broken in ways that no method was tuned on.

Written before they were run; benchmarks/diagnosis_notes.md says what their first run showed.
"""

# ruff: noqa: E501 - one case a line
from __future__ import annotations

from tests.diagnosis.cases_labs import text
from tests.diagnosis.fresh_cases import on
from tests.diagnosis.planted_code import whole_images
from tests.diagnosis.planted_labels import image_files, labelled
from tests.diagnosis.planted_seconds import CROWD, LAST, SEED_7
from tests.diagnosis.planted_weights import checkpoint, noisy, state
from tests.diagnosis.systems import CAPE, VITPOSE, Case


def begun_anew(*parts: str, seed: int = 61, how: str | float = "torch"):
    """Weights of some parts as an initialiser makes them, norms and biases too; statistics stay.

    Args:
        parts: beginnings of names.
        seed: of the numbers.
        how: ``torch`` for its default, ``kaiming`` for a normal distribution by fan out, or a deviation.
    """

    def change(content):
        import torch

        generator = torch.Generator().manual_seed(seed)
        for name, tensor in state(content).items():
            if not name.startswith(parts) or not tensor.is_floating_point() or "running" in name:
                continue
            if tensor.ndim == 1:
                tensor.fill_(1.0 if name.endswith("weight") else 0.0)
            elif how == "torch":
                bound = tensor[0].numel() ** -0.5
                tensor.uniform_(-bound, bound, generator=generator)
            else:
                deviation = (2 / tensor[:, 0].numel()) ** 0.5 if how == "kaiming" else how
                tensor.normal_(0, deviation, generator=generator)

    return change


def variances(part, of):
    """Running variances of one part changed, as a port does that takes them for something else."""

    def change(content):
        for name, tensor in state(content).items():
            if name.startswith(part) and name.endswith("running_var"):
                tensor.copy_(of(tensor))

    return change


def kernels(part, of):
    """Matrices of one part changed, without those of attention."""

    def change(content):
        for name, tensor in state(content).items():
            if name.startswith(part) and tensor.ndim == 4:
                tensor.copy_(of(tensor))

    return change


def named_by(order):
    """File names in another order of the images.

    Args:
        order: from the number of images to the place of the name that each image gets.
    """

    def change(raw):
        names = [image["file_name"] for image in raw["images"]]
        for image, place in zip(raw["images"], order(len(names)), strict=True):
            image["file_name"] = names[place]

    return change


NEVER = (
    "layers that never learned",
    "random initialisation",
    "untrained refiner",
    "weights of one part disturbed",
)
DISTURBED = ("weights of one part disturbed",)
NORMS, SCALED = ("batch-norm statistics do not fit",), ("weights of one part scaled",)
STORED, OTHERS = ("part of the image files stored otherwise",), ("annotations stand under other images",)

FAULTS: tuple[Case, ...] = (
    Case("new: people, variances of stage 4 are deviations", CROWD.name, checkpoint(variances("stage4.", lambda v: v.sqrt()), CROWD), NORMS, "strong"),
    Case("new: people, stage 4 begun anew", CROWD.name, checkpoint(begun_anew("stage4.", how="kaiming"), CROWD), NEVER, "strong", both=(*NEVER, *NORMS)),
    Case("new: noise in stage 2", LAST.name, checkpoint(noisy("backbone.stage2", 1.0, 61), LAST), DISTURBED, "strong"),
    Case("new: vitpose, block 1 begun anew", VITPOSE.name, checkpoint(begun_anew("backbone.layers.1."), VITPOSE), NEVER, "strong"),
    Case("new: cape, image encoder begun anew", "cape", checkpoint(begun_anew("image."), CAPE), NEVER, "strong", both=("keypoints not learned", "exposure bias", "support not read")),
    Case("new: text, refiner begun anew", "text", on(LAST, text(begun_anew("head.refiner"))), NEVER, "strong", both=(*NEVER, "scores flattened by the refiner")),
    Case("new: people, kernels of stage 2 turned", CROWD.name, checkpoint(kernels("stage2.", lambda t: t.flip(-1, -2)), CROWD), DISTURBED, "strong"),
    Case("new: people, kernels of stage 3 threefold", CROWD.name, checkpoint(kernels("stage3.", lambda t: 3 * t), CROWD), SCALED, "strong", both=NORMS),
    Case("new: kernels of stage 2 halved", LAST.name, checkpoint(kernels("backbone.stage2", lambda t: t / 2), LAST), SCALED, "strong", both=NORMS),
    Case("new: vitpose, noise in block 1", SEED_7.name, checkpoint(noisy("backbone.layers.1.", 1.0, 65), SEED_7), DISTURBED, "strong"),
    Case("new: vitpose, a third of the files upside down", SEED_7.name, image_files(0.34, lambda image: image[::-1].copy(), SEED_7, 61), STORED, "strong"),
    Case("new: a third of the files green first", LAST.name, image_files(0.34, lambda image: image[..., [1, 2, 0]].copy(), LAST, 62), STORED, "weak"),
    Case("new: people, three maps rotated", CROWD.name, on(CROWD, whole_images(maps="heatmaps=found.heatmaps[:, [5, *range(1, 5), 15, *range(6, 15), 0, 16]]")), ("keypoint order permuted",), "strong"),
    Case("new: vitpose, file names backwards", SEED_7.name, labelled(named_by(lambda n: range(n)[::-1]), SEED_7), OTHERS, "strong", both=("annotated boxes",)),
)  # fmt: skip
