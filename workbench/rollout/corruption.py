"""If one token is a little wrong, how far do the later answers move?

The token is moved by a known distance in several directions. In the forced column all other tokens stay true,
so the effect is that of the one token alone; in the free column the model reads its own answers after it, so
effects add up. A gain above 1 at the next steps means that errors grow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.figures import RUN_COLOURS, new_figure
from workbench.records import Run, Skeleton
from workbench.report import Inspector, Range, Report, rows
from workbench.rollout import sequence
from workbench.rollout.pck import PckRule

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

SIZES = (0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Params:
    """Knobs.

    Attributes:
        token: which token is moved; the first is 0.
        directions: into how many directions, evenly spread; effects are averaged.
    """

    token: Annotated[int, Range(0, 200, 1)] = 0
    directions: Annotated[int, Range(1, 16, 1)] = 4


@dataclass(frozen=True, eq=False)
class Corruption(Report):
    """Movement of the later answers, shares of the box's longer side.

    Attributes:
        skeleton: names of the steps.
        token: which one was moved.
        sizes: how far, shares of the box's longer side.
        forced: mean movement by size and step, other tokens true; nan up to the token itself.
        free: the same, own answers read after it.
    """

    skeleton: Skeleton
    token: int
    sizes: Float[np.ndarray, " S"]
    forced: Float[np.ndarray, "S K"]
    free: Float[np.ndarray, "S K"]

    @property
    def gain(self) -> float:
        """Movement at the next step over that of the token, for the smallest size."""
        return float(self.forced[0, self.token + 1] / self.sizes[0])

    @property
    def gain_at_end(self) -> float:
        """Mean movement of all later steps over that of the token, free-running, for the smallest size."""
        return float(self.free[0, self.token + 1 :].mean() / self.sizes[0])

    def summary(self) -> str:
        name = self.skeleton.keypoints[self.token]
        grows = "errors grow" if self.gain_at_end > 1 else "errors die away"
        return (
            f"Moving {name} by {self.sizes[0]:.0%} of the box moves the next answer {self.gain:.2f} times as "
            f"far, all later ones {self.gain_at_end:.2f} times on average when free-running: {grows}"
        )

    def plot(self) -> Figure:
        import plotly.graph_objects as go

        figure = new_figure(self.summary(), x="step", y="movement (share of the longer side)")
        step = np.arange(self.forced.shape[1], dtype=np.float32)
        for i, size in enumerate(self.sizes):
            for name, values, dash in (("forced", self.forced, "dot"), ("free", self.free, "solid")):
                line = {"color": RUN_COLOURS[i % len(RUN_COLOURS)], "dash": dash}
                figure.add_trace(
                    go.Scatter(x=step, y=values[i].astype(np.float32), mode="lines", line=line,
                               name=f"{size:.0%}, {name}", text=list(self.skeleton.keypoints),
                               hovertemplate="%{text}<br>moved by %{y:.3f}")
                )  # fmt: skip
        return figure

    def table(self) -> list[dict[str, Any]]:
        later = slice(self.token + 1, None)
        return rows(
            moved=self.sizes,
            next_forced=self.forced[:, self.token + 1],
            later_forced=self.forced[:, later].mean(1),
            later_free=self.free[:, later].mean(1),
        )


def compute(run: Run, params: Params) -> Corruption:
    """Four passes, all sizes and directions in one batch.

    Raises:
        ValueError: there is no step after the token.
    """
    sequence.sequence(run)
    K = len(run.model.skeleton)
    j = params.token
    if not 0 <= j < K - 1:
        raise ValueError(f"corruption: token {j} has no step after it; expected 0 to {K - 2}")
    tokens = sequence.true_tokens(run)
    if np.isnan(tokens[:, j]).any():
        raise ValueError(
            f"corruption: {run.model.skeleton.keypoints[j]} is not annotated; choose another token"
        )
    sides = PckRule().sizes(run)
    where = sequence.places_of(run.batch, tokens)
    calm = sequence.with_extra(run.batch, given=tokens)
    before = sequence.points_of(run, sequence.forced(run, calm))
    before_free = sequence.points_of(run, sequence.free(run, calm, j + 1))
    turns = np.arange(params.directions) * 2 * np.pi / params.directions
    ways = np.array([size * np.array([np.cos(t), np.sin(t)]) for size in SIZES for t in turns])
    moved = np.tile(where, (len(ways), 1, 1, 1))
    moved[:, :, j] += ways[:, None] * sides[:, None]
    many = sequence.repeated(run, len(ways))
    batch = sequence.with_extra(many.batch, given=sequence.tokens_of(many.batch, moved.reshape(-1, K, 2)))
    effects = np.empty((2, len(SIZES), K))
    for mode, (calm_points, outputs) in enumerate(
        ((before, sequence.forced(many, batch)), (before_free, sequence.free(many, batch, j + 1)))
    ):
        after = sequence.points_of(many, outputs).reshape(len(ways), -1, K, 2)
        distance = np.linalg.norm(after - calm_points, axis=-1) / sides[:, None]
        effects[mode] = distance.reshape(len(SIZES), -1, K).mean(1)
    # Steps up to the token do not read it.
    effects[..., : j + 1] = np.nan
    return Corruption(run.model.skeleton, j, np.array(SIZES), effects[0], effects[1])


INSPECTOR = Inspector(
    "Corrupted token",
    "If one token is a little wrong, how far do the later answers move?",
    Params,
    compute,
    needs_truth=True,
)
