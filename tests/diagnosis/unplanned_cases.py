"""A third set of cases: weights, statistics and image files broken in ways that no method was tuned on.

Written before they were run, in other layers, strengths and systems than the cases before.
"""

# ruff: noqa: E501 - one case a line
from __future__ import annotations

from tests.diagnosis.cases_labs import text
from tests.diagnosis.fresh_cases import on
from tests.diagnosis.later_fresh_cases import BASE, CROWD, LAST, SEED_7
from tests.diagnosis.planted_code import whole_images
from tests.diagnosis.planted_labels import image_files, labelled
from tests.diagnosis.planted_weights import checkpoint, noisy, state
from tests.diagnosis.systems import CAPE, VITPOSE, Case
from workbench.checkpoints.demo import demo_checkpoints


def begun_anew(*parts, seed=61, how="torch"):
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


def norms_begun_anew(part):
    """Scale and shift of the norms of one part are 1 and 0 again; weights and statistics stay."""

    def change(content):
        weights = state(content)
        for name in [n.removesuffix("running_mean") for n in weights if n.endswith("running_mean")]:
            if name.startswith(part):
                weights[f"{name}weight"].fill_(1.0)
                weights[f"{name}bias"].zero_()

    return change


def variances(part, of):
    """Running variances of one part changed, as a port does that takes them for something else."""

    def change(content):
        for name, tensor in state(content).items():
            if name.startswith(part) and name.endswith("running_var"):
                tensor.copy_(of(tensor))

    return change


def statistics_of(other, *parts):
    """Running statistics of some parts from another file of the same network."""

    def change(content):
        import torch

        weights = state(content)
        found = state(torch.load(other, map_location="cpu", weights_only=False))
        for name in weights:
            if name.startswith(parts) and "running" in name:
                weights[name] = found[name].clone()

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
DISTURBED = ("weights of one part disturbed", "weights that left no trace")
NORMS, SCALED = ("batch-norm statistics do not fit",), ("weights of one part scaled",)
STORED, OTHERS = ("part of the image files stored otherwise",), ("annotations stand under other images",)

FAULTS: tuple[Case, ...] = (
    Case("new: statistics of epoch 2 in stages 2 and 3", LAST.name, checkpoint(statistics_of(demo_checkpoints("rtmpose-demo")[1], "backbone.stage2", "backbone.stage3"), LAST), NORMS, "strong"),
    Case("new: people, variances of stage 4 are deviations", CROWD.name, checkpoint(variances("stage4.", lambda v: v.sqrt()), CROWD), NORMS, "strong"),
    Case("new: people, stage 4 begun anew", CROWD.name, checkpoint(begun_anew("stage4.", how="kaiming"), CROWD), NEVER, "strong", both=(*NEVER, *NORMS)),
    Case("new: noise in stage 2", LAST.name, checkpoint(noisy("backbone.stage2", 1.0, 61), LAST), DISTURBED, "strong"),
    Case("new: noise in the stem", BASE.name, checkpoint(noisy("backbone.stem", 0.8, 62), BASE), DISTURBED, "strong", both=NORMS),
    Case("new: x classifier begun anew", LAST.name, checkpoint(begun_anew("head.cls_x"), LAST), NEVER, "strong", both=("one keypoint placed wrongly",)),
    Case("new: stage 3 begun anew", BASE.name, checkpoint(begun_anew("backbone.stage3"), BASE), NEVER, "strong", both=(*NEVER, *NORMS)),
    Case("new: vitpose, block 1 begun anew", VITPOSE.name, checkpoint(begun_anew("backbone.layers.1."), VITPOSE), NEVER, "strong"),
    Case("new: vitpose, head begun anew", SEED_7.name, checkpoint(begun_anew("head.", how=0.001), SEED_7), NEVER, "strong"),
    Case("new: cape, image encoder begun anew", "cape", checkpoint(begun_anew("image."), CAPE), NEVER, "strong", both=("keypoints not learned", "exposure bias", "support not read")),
    Case("new: cape, noise in decoder layer 1", "cape", checkpoint(noisy("decoder.layers.1", 2.0, 63), CAPE), (*DISTURBED, "keypoints not learned"), "strong", both=("keypoints not learned", "exposure bias", "support not read")),
    Case("new: text, refiner begun anew", "text", on(LAST, text(begun_anew("head.refiner"))), NEVER, "strong", both=(*NEVER, "scores flattened by the refiner")),
    Case("new: text, noise in stage 2", "text", on(LAST, text(noisy("backbone.stage2", 1.2, 64))), DISTURBED, "strong", both=NORMS),
    Case("new: people, kernels of stage 2 turned", CROWD.name, checkpoint(kernels("stage2.", lambda t: t.flip(-1, -2)), CROWD), DISTURBED, "strong"),
    Case("new: people, kernels of stage 3 threefold", CROWD.name, checkpoint(kernels("stage3.", lambda t: 3 * t), CROWD), SCALED, "strong", both=NORMS),
    Case("new: kernels of stage 2 halved", LAST.name, checkpoint(kernels("backbone.stage2", lambda t: t / 2), LAST), SCALED, "strong", both=NORMS),
    Case("new: norms of stage 2 begun anew", LAST.name, checkpoint(norms_begun_anew("backbone.stage2"), LAST), NEVER, "strong"),
    Case("new: vitpose, noise in block 1", SEED_7.name, checkpoint(noisy("backbone.layers.1.", 1.0, 65), SEED_7), DISTURBED, "strong"),
    Case("new: vitpose, a third of the files upside down", SEED_7.name, image_files(0.34, lambda image: image[::-1].copy(), SEED_7, 61), STORED, "strong"),
    Case("new: a third of the files green first", LAST.name, image_files(0.34, lambda image: image[..., [1, 2, 0]].copy(), LAST, 62), STORED, "weak"),
    Case("new: people, three maps rotated", CROWD.name, on(CROWD, whole_images(maps="heatmaps=found.heatmaps[:, [5, *range(1, 5), 15, *range(6, 15), 0, 16]]")), ("keypoint order permuted",), "strong"),
    Case("new: file names one place further on", LAST.name, labelled(named_by(lambda n: [(i + 1) % n for i in range(n)]), LAST), OTHERS, "strong", both=("annotated boxes",)),
    Case("new: file names of pairs exchanged", LAST.name, labelled(named_by(lambda n: [min(i ^ 1, n - 1) for i in range(n)] if n % 2 == 0 else [*(i ^ 1 for i in range(n - 1)), n - 1]), LAST), OTHERS, "strong", both=("annotated boxes",)),
    Case("new: vitpose, file names backwards", SEED_7.name, labelled(named_by(lambda n: range(n)[::-1]), SEED_7), OTHERS, "strong", both=("annotated boxes",)),
)  # fmt: skip
"""Their own first run is in benchmarks/diagnosis_notes.md."""
