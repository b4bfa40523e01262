"""How far do the later predictions move when one token is slightly wrong?

The token is moved by a known distance in several directions. In the forced columns all other tokens are
true, so the effect is that of the one token; in the free columns the model reads its own later answers, so
effects accumulate. A gain above 1 at the next steps means that errors grow.

What is compared lies in one batch: where answers depend on rounding, another batch size alone moves them. How
far a change of the size of rounding moves them is measured as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core import NotAvailable, Run, Skeleton
from workbench.core.capabilities import RollsOut
from workbench.core.inspector import Choice, Inspector, Needs, Range
from workbench.core.report import Report, rows
from workbench.figures import RUN_COLOURS, new_figure
from workbench.inspectors.sequence import rollout
from workbench.inspectors.sequence.rollout import CHANGE, MATTERS, PckRule, moved_by_rounding

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

SIZES = (0.02, 0.05, 0.1, 0.2)


def tokens(run: Run) -> list[str]:
    """Keypoints whose token can be moved: annotated in every sample, and not the last one."""
    known = np.all(run.truth[..., 2] > 0, axis=0)[:-1]
    return [run.model.skeleton.keypoints[k] for k in np.flatnonzero(known)]


TOKEN = Choice(tokens)


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        token: the keypoint whose token is moved; the first annotated one when empty.
        directions: number of evenly spread directions; effects are averaged.
    """

    token: Annotated[str, TOKEN] = ""
    directions: Annotated[int, Range(1, 16, 1)] = 4


@dataclass(frozen=True, eq=False)
class Corruption(Report):
    """Movement of the later answers, shares of the box's longer side.

    Attributes:
        skeleton: names of the steps.
        token: index of the moved token.
        sizes: distances, shares of the box's longer side.
        forced: mean movement by size and step, other tokens true; nan up to the token itself.
        free: the same, free-running after the token.
        rounding: largest movement of a later free-running answer when the input changes by CHANGE and no
            token is moved; inf where an answer appears or vanishes.
    """

    skeleton: Skeleton
    token: int
    sizes: Float[np.ndarray, " S"]
    forced: Float[np.ndarray, "S K"]
    free: Float[np.ndarray, "S K"]
    rounding: float = 0.0

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
        end = self.gain_at_end
        # Within the rounding of pixels of a crop, the size of an error does not change.
        trend = "persist" if abs(end - 1) < 0.05 else "grow" if end > 1 else "decay"
        return (
            f"Moving the token {name} by {self.sizes[0]:.0%} of the box moves the next answer by "
            f"{self.gain:.2f} times that distance, and all later ones by {end:.2f} times on average when "
            f"free-running: errors {trend}{self._rounding_text}"
        )

    @property
    def _rounding_text(self) -> str:
        if not self.rounding >= MATTERS:
            return ""
        far = (
            f"moves a later answer by {self.rounding:.2f} of the box"
            if np.isfinite(self.rounding)
            else "makes a later answer appear or vanish"
        )
        return f". A change of the input by {CHANGE:g} alone {far}, so free-running movements depend on it"

    def plot(self) -> Figure:
        figure = new_figure(
            self.summary(), x="step (dotted: teacher-forced)", y="moved by (share of the side)"
        )
        step = np.arange(self.forced.shape[1], dtype=np.float32)
        for i, size in enumerate(self.sizes):
            for name, values, dash in (("forced", self.forced, "dot"), ("free", self.free, "solid")):
                line = {"color": RUN_COLOURS[i % len(RUN_COLOURS)], "dash": dash}
                figure.add_scatter(x=step, y=values[i].astype(np.float32), mode="lines", line=line,
                                   name=f"token moved {size:.0%}", text=list(self.skeleton.keypoints),
                                   legendgroup=f"{size}", showlegend=name == "free",
                                   hovertemplate=f"%{{text}}, {name}<br>moved by %{{y:.3f}}")  # fmt: skip
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
    """One teacher-forced pass and two rollouts, with all sizes and directions in one batch.

    Raises:
        NotAvailable: no token can be moved.
        ValueError: the token is not annotated, or there is no step after it.
    """
    rollout.sequence_model(run)
    K = len(run.model.skeleton)
    j = _position(run, params.token)
    true = rollout.true_tokens(run)
    sides = PckRule().sizes(run)
    where = rollout.image_points(run.batch, true)
    angles = np.arange(params.directions) * 2 * np.pi / params.directions
    shifts = np.array([(0.0, 0.0), *((size * np.cos(a), size * np.sin(a)) for size in SIZES for a in angles)])
    moved = np.tile(where, (len(shifts), 1, 1, 1))
    moved[:, :, j] += shifts[:, None] * sides[:, None]
    many = rollout.repeated(run, len(shifts))
    rollout.true_coordinates(run.batch)
    batch = rollout.with_extra(many.batch, given=rollout.tokens_of(many.batch, moved.reshape(-1, K, 2)))
    passes = rollout.teacher_forced(many, batch), rollout.free_running(many, batch, j + 1)
    points = np.stack([rollout.points_of(many, outputs) for outputs in passes])
    points = points.reshape(2, len(shifts), -1, K, 2)
    distance = np.linalg.norm(points[:, 1:] - points[:, :1], axis=-1) / sides[:, None]
    effects = distance.reshape(2, len(SIZES), -1, K).mean(2)
    rounding = float(moved_by_rounding(run, points[1, 0], j + 1)[:, j + 1 :].max())
    # Steps up to the token do not read it.
    effects[..., : j + 1] = np.nan
    return Corruption(run.model.skeleton, j, np.array(SIZES), effects[0], effects[1], rounding)


def _position(run: Run, token: str) -> int:
    """Index of the token in the sequence."""
    names, offered = run.model.skeleton.keypoints, tokens(run)
    if not offered:
        raise NotAvailable("corruption: no keypoint but the last one is annotated in every sample")
    if token in names and token not in offered:
        last = token == names[-1]
        why = "has no step after it" if last else "is not annotated in every sample"
        raise ValueError(f"corruption: {token} {why}; choose one of {', '.join(offered)}")
    TOKEN.index(run, token)
    return names.index(token or offered[0])


INSPECTOR = Inspector(
    "Corrupted token", Params, compute, needs=Needs(capability=RollsOut, truth=True), order=30
)
