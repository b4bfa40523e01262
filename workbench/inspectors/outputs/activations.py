"""What does each layer output: are channels dead, saturated or collapsed?

A dead channel has the same value at every position of every sample. Many dead channels mean lost capacity
or weights that were never loaded. A low effective rank means that channels repeat each other. A jump of mean
or standard deviation between neighbouring layers points to a wrong normalisation or an incomplete load.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core import NotAvailable
from workbench.core.inspector import Inspector, Range
from workbench.core.report import Report, counted, rows
from workbench.core.statistics import effective_number
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS
from workbench.figures.bars import Bars, bars_figure

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.core import Run

# Places of a map used for the rank: enough for 1024 channels, and the spectrum stays under a second.
RANK_PLACES = 2048
RANK_CHANNELS = 1024


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        depth: taps nested deeper in the network than this are left out.
        tolerance: a channel is dead when it varies by less than this part of its tap's spread, and a
            value is saturated when it lies this near to the tap's maximum.
    """

    depth: Annotated[int, Range(1, 8, 1)] = 2
    tolerance: Annotated[float, Range(0.00001, 0.01, 0.00001)] = 0.0001


@dataclass(frozen=True, eq=False)
class Activations(Report):
    """Statistics of every recorded tap, in the network's order; nan where a tap has too few places.

    Attributes:
        taps: public names.
        paths: of their modules.
        shapes: without the sample axis.
        channels: number of channels.
        means: of all values.
        stds: of all values.
        dead: share of channels that say the same everywhere, 0 to 1.
        zeros: share of values that are exactly zero.
        saturated: share of values at the tap's maximum; high only where something bounds them.
        ranks: effective rank of the channels, exp of the entropy of the singular values' shares.
        most_ranks: the largest that this many places and channels allow.
    """

    taps: tuple[str, ...]
    paths: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    channels: Float[np.ndarray, " T"]
    means: Float[np.ndarray, " T"]
    stds: Float[np.ndarray, " T"]
    dead: Float[np.ndarray, " T"]
    zeros: Float[np.ndarray, " T"]
    saturated: Float[np.ndarray, " T"]
    ranks: Float[np.ndarray, " T"]
    most_ranks: Float[np.ndarray, " T"]

    def summary(self) -> str:
        broken = [t for t, s in zip(self.taps, self.stds, strict=True) if not np.isfinite(s)]
        if broken:
            more = f", as do {len(broken) - 1} other taps" if len(broken) > 1 else ""
            return f"{broken[0]} outputs values that are not finite (nan or infinity){more}"
        parts = []
        dead = np.nan_to_num(self.dead, nan=0)
        if dead.max() > 0:
            t = int(dead.argmax())
            parts.append(
                f"{self.taps[t]} has {100 * dead[t]:.0f} % of its "
                f"{counted(int(self.channels[t]), 'channel')} dead"
            )
        else:
            parts.append(f"No channel of {len(self.taps)} taps is dead")
        share = np.nan_to_num(self.ranks / self.most_ranks, nan=2.0)
        if share.min() <= 1:
            t = int(share.argmin())
            parts.append(
                f"lowest effective rank relative to its maximum: {self.taps[t]}, {self.ranks[t]:.0f} of"
                f" {self.most_ranks[t]:.0f}"
            )
        full = np.nan_to_num(self.saturated, nan=0)
        if full.max() > 0.05:  # one value in twenty: below that, it is the tail of a distribution
            t = int(full.argmax())
            parts.append(f"{100 * full[t]:.0f} % of {self.taps[t]} sits at its maximum")
        return "; ".join(parts)

    def plot(self) -> Figure:
        notes = [
            f"{path}, {' x '.join(map(str, shape))}<br>mean {mean:.4g}"
            for path, shape, mean in zip(self.paths, self.shapes, self.means, strict=True)
        ]
        hot = [FINDING_COLOUR if d > 0.05 else QUIET_COLOUR for d in np.nan_to_num(self.dead)]
        columns = [
            Bars("mean, whiskers one std", self.means, RUN_COLOURS[0], whiskers=self.stds, notes=notes),
            Bars("dead channels (%)", 100 * self.dead, hot, notes=notes, span=(0, 100)),
            Bars("zeros (%)", 100 * self.zeros, notes=notes, span=(0, 100)),
            Bars("saturated (%)", 100 * self.saturated, notes=notes, span=(0, 100)),
            Bars("rank (% of possible)", 100 * self.ranks / self.most_ranks, RUN_COLOURS[2],
                 notes=[f"{n}<br>rank {r:.1f} of {m:.0f}" for n, r, m in
                        zip(notes, self.ranks, self.most_ranks, strict=True)], span=(0, 100)),
        ]  # fmt: skip
        return bars_figure(self.summary(), self.taps, columns, (1.4, 1, 1, 1, 1.2))

    def table(self) -> list[dict[str, Any]]:
        return rows(
            tap=self.taps,
            module=self.paths,
            shape=[" x ".join(map(str, shape)) for shape in self.shapes],
            mean=self.means,
            std=self.stds,
            dead=self.dead,
            zeros=self.zeros,
            saturated=self.saturated,
            effective_rank=self.ranks,
            largest_possible_rank=self.most_ranks,
        )


def by_channel(values: Float[np.ndarray, " N *s"]) -> Float[np.ndarray, "places C"]:
    """Values of a tap with one column per channel.

    Maps [N, C, h, w] have channels second; tokens [N, L, C] and vectors [N, C] last.
    """
    if values.ndim >= 4:
        values = np.moveaxis(values, 1, -1)
    return values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(-1, 1)


def effective_rank(columns: Float[np.ndarray, "places C"]) -> float:
    """How many directions the rows spread over: the effective number of the centred rows' singular values.

    Returns:
        1 for one direction, C for C equal ones; nan where nothing varies.
    """
    centred = columns - columns.mean(0)
    # Eigenvalues of the smaller Gram matrix are the squared singular values.
    gram = centred.T @ centred if centred.shape[0] >= centred.shape[1] else centred @ centred.T
    values = np.sqrt(np.linalg.eigvalsh(gram.astype(float)).clip(min=0))
    # Below this part of the largest, eigenvalues of a Gram matrix in double precision are rounding.
    return effective_number(values[values > values.max(initial=0) * 1e-7])


def compute(run: Run, params: Params) -> Activations:
    """Measure every recorded tap."""
    if not run.activations:
        raise NotAvailable("activations: nothing was recorded in this run; record the model's taps")
    taps = _chosen(run, params.depth)
    measured, shapes = [], []
    for tap in taps:
        values = run.activation(tap).float().numpy()
        shapes.append(tuple(int(s) for s in values.shape[1:]))
        measured.append(_measures(by_channel(values), params.tolerance))
    channels, means, stds, dead, zeros, saturated, ranks, most = np.array(measured).T
    paths = tuple(run.model.taps[tap] for tap in taps)
    return Activations(
        tuple(taps), paths, tuple(shapes), channels, means, stds, dead, zeros, saturated, ranks, most
    )


def _chosen(run: Run, depth: int) -> list[str]:
    """Recorded taps, each module once under its first name, in the network's order."""
    first: dict[str, str] = {}
    for tap in run.activations:
        first.setdefault(run.model.taps[tap], tap)
    order = {path: i for i, (path, _) in enumerate(run.model.module.named_modules())}
    paths = sorted((p for p in first if p.count(".") < depth), key=lambda p: order.get(p, len(order)))
    # A network whose taps all lie deep shows them rather than nothing.
    return [first[p] for p in paths] or list(first.values())


def _measures(columns: Float[np.ndarray, "places C"], tolerance: float) -> tuple[float, ...]:
    places, C = columns.shape
    std = float(columns.std())
    nothing = float("nan")
    if not np.isfinite(std):
        return C, nothing, nothing, nothing, nothing, nothing, nothing, nothing
    spread = columns.max(0) - columns.min(0)
    top = columns.max()
    dead = float((spread <= tolerance * std).mean()) if places > 1 else nothing
    saturated = float((columns >= top - tolerance * (top - columns.min())).mean()) if std > 0 else nothing
    used = columns[:: max(1, places // RANK_PLACES), :RANK_CHANNELS]
    most = min(len(used) - 1, used.shape[1])
    rank = effective_rank(used) if most > 0 else nothing
    zeros = float((columns == 0).mean())
    return C, float(columns.mean()), std, dead, zeros, saturated, rank, float(most) if most > 0 else nothing


INSPECTOR = Inspector("Activations", Params, compute, record=("*",), order=80)
