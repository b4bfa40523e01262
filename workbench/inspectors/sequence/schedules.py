"""Which way of teaching closes the gap between reading the truth and reading its own answers?

One model, from the same first weights each time, learns the same samples; only the share of true tokens falls
differently. PCK is measured free-running while they learn: a schedule that never leaves the truth stays where
teacher forcing ends, one that leaves it too early learns slower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable, Sample
from workbench.core.capabilities import step_counter
from workbench.core.report import Report, plain
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
    """What came of each schedule.

    Attributes:
        kinds: of scheduled sampling; ``teacher`` reads the truth always.
        at: steps that were measured.
        free: PCK of a rollout at these steps.
        forced: PCK of the training step itself.
        truth: share of true tokens read at these steps.
        loss: the last one.
        steps: of each run.
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
        told = ", ".join(f"{kind} {pck:.2f}" for kind, pck in zip(self.kinds, ends, strict=True))
        best = [kind for kind, pck in zip(self.kinds, ends, strict=True) if pck >= ends.max() - 1e-9]
        if len(best) == len(self.kinds):
            return (
                f"After {self.steps} steps no schedule is better than another: PCK free {told} ({self.rule})"
            )
        verb = "is" if len(best) == 1 else "are"
        who = " and ".join(best)
        return f"After {self.steps} steps {who} {verb} best free-running: PCK {told} ({self.rule})"

    def plot(self) -> Figure:
        import plotly.graph_objects as go

        figure = new_figure(self.summary(), x="training step", y="PCK free; share of true tokens (dotted)")
        step = self.at.astype(np.float32)
        for i, kind in enumerate(self.kinds):
            ink = RUN_COLOURS[i % len(RUN_COLOURS)]
            for name, values, dash, mode in (
                (kind, self.free, "solid", "lines+markers"),
                (f"{kind}: true tokens", self.truth, "dot", "lines"),
            ):
                figure.add_trace(
                    go.Scatter(
                        x=step, y=values[i].astype(np.float32), name=name, mode=mode,
                        legendgroup=kind, showlegend=dash == "solid",
                        line={"color": ink, "dash": dash, "width": 2 if dash == "solid" else 1},
                        hovertemplate=f"{name}<br>step %{{x}}: %{{y:.2f}}<extra></extra>",
                    )
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
    """Train the model with each schedule from where it stands; it stands there again at the end.

    It is put back and not copied: a copy of a network that is called through a function of its own goes on
    calling the first one, and learns nothing.

    Args:
        model: a sequence model that counts its training steps (a buffer ``taught``), as cape does.
        samples: with truth.
        settings: of every run.
        kinds: which schedules.
        rule: its threshold is that of PCK; the longer side is what it divides by.
        stepped: called after every step; what it raises ends the comparison.

    Raises:
        NotAvailable: the model counts no steps.
        ValueError: the samples do not fit it, or the rule has another normaliser.
    """
    rule = rule or PckRule()
    if rule.normaliser != "longer side":
        raise ValueError("schedules: the trainer's PCK divides by the longer side; choose that normaliser")
    if step_counter(model.module) is None:
        raise NotAvailable("schedules: expected a network with a buffer 'taught' that counts training steps")
    # Two thirds, so that the last third settles on what is read at the end.
    falls = max(1, 2 * settings.steps // 3)
    first = ModelState(model)
    try:
        found = []
        for kind in kinds:
            first.restore()
            found.append(_taught(model, samples, settings, Teaching(kind, falls), rule, stepped))
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


def _taught(
    model: Any,
    samples: Sequence[Sample],
    settings: Settings,
    teaching: Teaching,
    rule: PckRule,
    stepped: Callable[[], None],
) -> tuple[list[dict[str, Any]], float]:
    """The measured rows of one run, and its last loss."""
    import torch

    with torch.no_grad():
        # The schedules begin with this run, however long the model was taught before.
        model.module.taught.zero_()
    trainer = Trainer(TaughtSequence(model, teaching), samples, settings, pck_threshold=rule.threshold)
    rows, row = [], {}
    for _ in range(settings.steps):
        row = trainer.step()
        if row.get("pck") is not None:
            rows.append(row)
        stepped()
    return rows, float(row["loss"])
