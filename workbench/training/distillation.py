"""A student is trained on its teacher's maps and looked at between: what became of it?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import PoseModel, Sample
from workbench.decoding.map_statistics import likeness
from workbench.training.distillation import Distillation, Distilled
from workbench.training.settings import Settings
from workbench.training.trainer import Trainer

if TYPE_CHECKING:
    from jaxtyping import Float

BINS = 41
# Foreground: cells above this share of the teacher's highest value.
LEVEL = 0.1
# Stem channels that are shown, and the most cells along a side of one: more are not told apart on a screen.
FEATURES, FEATURE_SIDE = 12, 64


def distil(
    student: PoseModel,
    teacher: PoseModel,
    samples: Sequence[Sample],
    settings: Settings,
    *,
    epochs: int = 5,
    foreground: float = 0.0,
    device: str = "cpu",
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Distillation:
    """Train a student on a teacher's maps and look at it after every epoch.

    Args:
        student: trained in place.
        teacher: stays as it is; its heatmaps must have the student's size.
        samples: with truth, as the Trainer wants them; all of them form every batch.
        settings: of the training; its steps are cut into epochs.
        epochs: how often to look; 0 looks at the student as it is and trains nothing.
        foreground: weight of the cells in the teacher's peaks, 0 for the plain error.
        device: where to train.
        on_epoch: told each row of the table.

    Raises:
        ValueError: the two do not fit together, or there are fewer steps than epochs.
    """
    steps = settings.steps if epochs else 0
    if not 0 <= epochs <= settings.steps:
        raise ValueError(
            f"distillation: expected 1 to {settings.steps} epochs, as many as steps, got {epochs}"
        )
    trainer = Trainer(Distilled(student, teacher, foreground), samples, settings, device=device)
    wanted = trainer.batch.extra["teacher"].cpu().numpy()
    of_teacher = likeness(wanted)
    most = float(wanted.max())
    front = wanted > LEVEL * most
    name, first = _stem(trainer.model.module)
    map_edges = np.linspace(-0.5, 1.25, BINS + 1) * most
    found: list[dict[str, Any]] = []
    features: list[np.ndarray] = []
    losses: list[float] = []
    marks = {round(steps * (i + 1) / epochs) for i in range(epochs)}
    for step in range(steps + 1):
        if step:
            losses.append(trainer.advance()["loss"])
        if step and step not in marks:
            continue
        maps, stem = _seen(trainer, name)
        alike = likeness(maps)
        energy = float((maps**2).sum())
        row = {
            "epoch": len(found),
            "loss": float(np.mean(losses)) if losses else float("nan"),
            "correlation": alike.correlation,
            "rank": alike.rank,
            "reach": float(maps[front].mean() / wanted[front].mean()),
            "leak": float((maps[~front] ** 2).sum() / energy) if energy else float("nan"),
            "stem": float(np.sqrt(np.mean(stem**2))),
            "maps": _shares(maps, map_edges),
            "weights": first.weight.detach().cpu().numpy().copy(),
        }
        found.append(row)
        if not step:
            features.append(_shown(stem))
        if step == steps:
            features.append(_shown(stem))
        losses = []
        if on_epoch:
            on_epoch({key: value for key, value in row.items() if key not in ("maps", "weights")})
    # One range for all epochs: weights grow.
    spread = max(float(np.abs(row["weights"]).max()) for row in found) or 1.0
    weight_edges = np.linspace(-spread, spread, BINS + 1)
    for row in found:
        row["weights"] = _shares(row["weights"], weight_edges)
    column = {key: np.array([row[key] for row in found], float) for key in found[0]}
    return Distillation(
        tuple(range(len(found))), column["loss"], column["correlation"], column["rank"],
        of_teacher.correlation, of_teacher.rank, column["reach"], column["leak"], column["stem"],
        map_edges, column["maps"], weight_edges, column["weights"], np.stack(features),
    )  # fmt: skip


def _seen(trainer: Trainer, stem: str) -> tuple[np.ndarray, np.ndarray]:
    """The student's maps in evaluation mode, and its first layer's output."""
    from workbench.core.hooks import recording

    with recording(trainer.model.module, {"stem": stem}, ["stem"]) as seen:
        outputs = trainer.evaluated()
    assert outputs.heatmaps is not None  # the objective read them
    return outputs.heatmaps.numpy(), seen["stem"].float().numpy()


def _shown(stem: Float[np.ndarray, "N C ..."]) -> Float[np.ndarray, "C h w"]:
    """The first channels of the first image, thinned out; a stem without a plane is one row of numbers."""
    planes = stem[0][:FEATURES] if stem.ndim == 4 else stem[0].reshape(1, 1, -1)
    step = -(-max(planes.shape[1:]) // FEATURE_SIDE)
    return planes[:, ::step, ::step]


def _stem(module: Any) -> tuple[str, Any]:
    """The first layer with a weight matrix: path and layer."""
    for path, part in module.named_modules():
        weight = getattr(part, "weight", None)
        if weight is not None and weight.ndim > 1:
            return path, part
    raise ValueError("distillation: the student has no layer with weights")


def _shares(values: np.ndarray, edges: np.ndarray) -> Float[np.ndarray, " bins"]:
    """Share of the values in each bin; what lies beyond is counted in the outermost ones."""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return counts / values.size
