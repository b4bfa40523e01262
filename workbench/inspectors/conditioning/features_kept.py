"""How much of the features remains after conditioning: norm of the channels and effective rank?

A part that deletes channels leaves fewer directions (effective rank) for the head to read; one that only
rescales them leaves the rank unchanged. If the number of directions is unchanged, the head can undo what the
part did; lost directions cannot be restored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core import NotAvailable
from workbench.core.capabilities import Conditioned
from workbench.core.inspector import Inspector, Needs, Range
from workbench.core.report import Report, counted, rows
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS, new_figure
from workbench.inspectors.conditioning.passes import centred_cells, conditioning_of, effective_rank, one_pass

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.core import Run


@dataclass(frozen=True)
class Params:
    """Controls.

    Attributes:
        deleted: a channel counts as deleted when its norm falls below this share of its norm before.
    """

    deleted: Annotated[float, Range(0.01, 0.5, 0.01)] = 0.1


@dataclass(frozen=True, eq=False)
class FeaturesKept(Report):
    """Features before and after the conditioned part, in the training pass.

    Attributes:
        before: root mean square of each channel that enters.
        after: of each that leaves.
        rank_before: directions used, effective rank.
        rank_after: directions used, effective rank.
        limit: see Params.deleted.
    """

    before: Float[np.ndarray, " C"]
    after: Float[np.ndarray, " C"]
    rank_before: float
    rank_after: float
    limit: float

    @property
    def ratios(self) -> Float[np.ndarray, " C"]:
        """Norm after over norm before; nan for a channel whose norm before is 0."""
        silent = self.before <= 1e-12
        return np.where(silent, np.nan, self.after / np.where(silent, 1, self.before))

    @property
    def deleted(self) -> int:
        """Channels that leave shorter than the limit."""
        return int((self.ratios < self.limit).sum())

    def summary(self) -> str:
        ratio = float(np.nanmedian(self.ratios)) if np.isfinite(self.ratios).any() else float("nan")
        complete = self.rank_after > 0.9 * self.rank_before
        return (
            f"{'All directions remain' if complete else 'Directions are lost'}: the effective rank is "
            f"{self.rank_before:.1f} before and {self.rank_after:.1f} after conditioning; {self.deleted} of "
            f"{counted(len(self.before), 'channel is', 'channels are')} deleted, and the median channel "
            f"keeps {ratio:.2f} of its norm"
        )

    def plot(self) -> Figure:
        gone = self.ratios < self.limit
        top = float(max(self.before.max(), self.after.max(), 1e-9)) * 1.05
        figure = new_figure(
            self.summary(), height=420,
            x="norm of a channel before (root mean square)", y="norm after (root mean square)",
        )  # fmt: skip
        line = np.array([0, top], np.float32)
        figure.add_scatter(
            x=line, y=line, mode="lines", line={"color": QUIET_COLOUR, "dash": "dot", "width": 1},
            name="unchanged", hoverinfo="skip",
        )  # fmt: skip
        kinds = ((f"deleted: below {self.limit:g} of its norm before", gone, FINDING_COLOUR),
                 ("other channels", ~gone, RUN_COLOURS[0]))  # fmt: skip
        for name, chosen, ink in kinds:
            figure.add_scatter(
                x=self.before[chosen].astype(np.float32), y=self.after[chosen].astype(np.float32),
                mode="markers", marker={"size": 6, "opacity": 0.8, "color": ink},
                text=[f"channel {c}" for c in np.flatnonzero(chosen)], name=name,
                hovertemplate="%{text}: %{x:.3g} before, %{y:.3g} after<extra></extra>",
            )  # fmt: skip
        return figure

    def table(self) -> list[dict[str, Any]]:
        return rows(
            channel=np.arange(len(self.before)), before=self.before, after=self.after, ratio=self.ratios
        )


def compute(run: Run, params: Params) -> FeaturesKept:
    """Run the training pass once.

    Raises:
        NotAvailable: the model declares no condition or no taps of the features around it, or the part makes
            another number of channels.
    """
    record = conditioning_of(run.model)
    if not (record.before and record.after):
        raise NotAvailable(
            "features: the taps before and after the conditioned part are not declared; name them as "
            "`before` and `after` of an adapter's conditioning (workbench paths lists the taps)"
        )
    made = one_pass(run, "training", (record.before, record.after))
    before, after = made.parts[record.before], made.parts[record.after]
    if before.ndim != 4 or before.shape[1] != after.shape[1]:
        raise NotAvailable(
            f"features: {counted(before.shape[1], 'channel')} enter and {after.shape[1]} leave the "
            "conditioned part, so no channel can be compared with itself (expected maps [N, C, h, w] of "
            "equal C)"
        )
    return FeaturesKept(
        before=np.sqrt((before.astype(float) ** 2).mean((0, 2, 3))),
        after=np.sqrt((after.astype(float) ** 2).mean((0, 2, 3))),
        rank_before=effective_rank(centred_cells(before)),
        rank_after=effective_rank(centred_cells(after)),
        limit=params.deleted,
    )


INSPECTOR = Inspector("Features kept", Params, compute, needs=Needs(capability=Conditioned), order=30)
