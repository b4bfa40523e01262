"""Which schedule of scheduled sampling closes the gap between teacher-forced and free-running?

The same model is trained from the same initial weights with each schedule; only the share of true tokens
falls differently. Free-running PCK is measured during training: a schedule that keeps all true tokens stays
at teacher forcing, one that drops them too early learns more slowly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable, Sample
from workbench.core.capabilities import step_counter
from workbench.core.report import Report, counted, plain
from workbench.figures import RUN_COLOURS, new_figure
from workbench.inspectors.sequence.rollout import PckRule
from workbench.training.model_state import ModelState
from workbench.training.sequences import Kind, TaughtSequence, Teaching, truth_probability
from workbench.training.settings import Settings
from workbench.training.trainer import Trainer

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from plotly.graph_objects import Figure

KINDS: tuple[Kind, ...] = ("teacher", "linear", "sigmoid", "exponential")


@dataclass(frozen=True, eq=False)
class Schedules(Report):
    """Results of each schedule.

    Attributes:
        kinds: of scheduled sampling; ``teacher`` always reads true tokens.
        at: measured training steps.
        free: PCK of a rollout at these steps.
        forced: PCK of the training step itself.
        truth: share of true tokens at these steps.
        loss: of the last step.
        steps: training steps of each schedule.
        rule: of PCK, in words.
    """

    kinds: tuple[str, ...]
    at: Int[np.ndarray, " P"]
    free: Float[np.ndarray, "S P"]
    forced: Float[np.ndarray, "S P"]
    truth: Float[np.ndarray, "S P"]
    loss: Float[np.ndarray, " S"]
    steps: int
    rule: str

    def summary(self) -> str:
        ends = self.free[:, -1]
        figures = ", ".join(f"{kind} {pck:.2f}" for kind, pck in zip(self.kinds, ends, strict=True))
        best = [kind for kind, pck in zip(self.kinds, ends, strict=True) if pck >= ends.max() - 1e-9]
        if len(best) == len(self.kinds):
            return (
                f"After {counted(self.steps, 'step')} all schedules are equal: free-running PCK {figures} "
                f"({self.rule})"
            )
        verb = "is" if len(best) == 1 else "are"
        names = " and ".join(best)
        return (
            f"After {counted(self.steps, 'step')} {names} {verb} best: free-running PCK {figures} "
            f"({self.rule})"
        )

    def plot(self) -> Figure:
        figure = new_figure(
            self.summary(), x="training step", y="free-running PCK; share of true tokens (dotted)"
        )
        step = self.at.astype(np.float32)
        for i, kind in enumerate(self.kinds):
            ink = RUN_COLOURS[i % len(RUN_COLOURS)]
            for name, values, dash, mode in (
                (kind, self.free, "solid", "lines+markers"),
                (f"{kind}: true tokens", self.truth, "dot", "lines"),
            ):
                figure.add_scatter(
                    x=step, y=values[i].astype(np.float32), name=name, mode=mode,
                    legendgroup=kind, showlegend=dash == "solid",
                    line={"color": ink, "dash": dash, "width": 2 if dash == "solid" else 1},
                    hovertemplate=f"{name}<br>step %{{x}}: %{{y:.2f}}<extra></extra>",
                )  # fmt: skip
        return figure.update_yaxes(range=[-0.03, 1.05])

    def table(self) -> list[dict[str, Any]]:
        return plain(
            [
                {"schedule": kind, "step": step, "pck": free, "pck_train": forced, "true_tokens": truth}
                for kind, *rest in zip(self.kinds, self.free, self.forced, self.truth, strict=True)
                for step, free, forced, truth in zip(self.at, *rest, strict=True)
            ]
        )


def compare(
    model: Any,
    samples: Sequence[Sample],
    settings: Settings,
    kinds: Sequence[Kind] = KINDS,
    rule: PckRule | None = None,
    stepped: Callable[[], None] = lambda: None,
) -> Schedules:
    """Train the model with each schedule from its current weights, which are restored at the end.

    Weights are restored instead of copying the network: a copy that is called through a function of its own
    could still call the original network and learn nothing.

    Args:
        model: a sequence model that counts its training steps (a buffer ``taught``), as cape does.
        samples: with ground truth.
        settings: of each training.
        kinds: schedules.
        rule: of PCK; its normaliser must be the longer side.
        stepped: called after every step; an exception that it raises ends the comparison.

    Raises:
        NotAvailable: the model does not count its training steps.
        ValueError: the samples do not fit it, or the rule has another normaliser.
    """
    rule = rule or PckRule()
    if rule.normaliser != "longer side":
        raise ValueError("schedules: the trainer's PCK divides by the longer side; choose that normaliser")
    if step_counter(model.module) is None:
        raise NotAvailable("schedules: expected a network with a buffer 'taught' that counts training steps")
    # Two thirds, so that the last third is trained with the final share.
    falls = max(1, 2 * settings.steps // 3)
    first = ModelState(model)
    try:
        found = []
        for kind in kinds:
            first.restore()
            found.append(_trained_by(model, samples, settings, Teaching(kind, falls), rule, stepped))
    finally:
        first.restore()
    at = [row["step"] for row in found[0][0]]
    return Schedules(
        kinds=tuple(kinds),
        at=np.array(at),
        free=np.array([[row["pck"] for row in rows] for rows, _ in found], float),
        forced=np.array([[row["pck_train"] for row in rows] for rows, _ in found], float),
        truth=np.array([[truth_probability(kind, step, falls) for step in at] for kind in kinds]),
        loss=np.array([loss for _, loss in found]),
        steps=settings.steps,
        rule=rule.text(),
    )


def _trained_by(
    model: Any,
    samples: Sequence[Sample],
    settings: Settings,
    teaching: Teaching,
    rule: PckRule,
    stepped: Callable[[], None],
) -> tuple[list[dict[str, Any]], float]:
    """The measured rows of one training, and its last loss."""
    import torch

    counter = step_counter(model.module)
    assert counter is not None  # checked by compare
    with torch.no_grad():
        # The schedules start at step 0, however long the model was trained before.
        counter.zero_()
    trainer = Trainer(TaughtSequence(model, teaching), samples, settings, pck_threshold=rule.threshold)
    rows, row = [], {}
    for _ in range(settings.steps):
        row = trainer.step()
        if row.get("pck") is not None:
            rows.append(row)
        stepped()
    return rows, float(row["loss"])
