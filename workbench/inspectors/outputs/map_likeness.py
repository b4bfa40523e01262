"""Are the output maps of different keypoints nearly the same?

If they are, the network does not distinguish its keypoints. The loss may be small all the same: one blurred
blob per person is a fair guess for every keypoint. The maps then correlate, and their effective rank is far
below their number. Neighbouring keypoints on a head correlate in every network; if all pairs do, something is
broken (a head without gradient, a student that learned the mean pose, exchanged targets).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable, Skeleton
from workbench.core.inspector import Inspector, Needs
from workbench.core.report import Report, counted, rows
from workbench.decoding.map_statistics import correlations, likeness
from workbench.figures import DIVERGING, new_figure

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.core import Run


@dataclass(frozen=True)
class Params:
    """No parameters."""


@dataclass(frozen=True, eq=False)
class MapLikeness(Report):
    """How similar the maps of different keypoints are, over all cells of all samples.

    Attributes:
        correlation: of a pair of maps, mean over all pairs that vary.
        rank: effective number of different maps, at most K.
        constant: maps that have one value everywhere.
        pairs: correlation of every pair; nan where a map is constant.
        alike: whether the maps of all keypoints are nearly equal.
    """

    skeleton: Skeleton
    correlation: float
    rank: float
    constant: int
    pairs: Float[np.ndarray, "K K"]
    alike: bool

    def closest(self) -> tuple[int, int]:
        """The two different keypoints whose maps correlate most."""
        apart = np.where(np.eye(len(self.pairs), dtype=bool) | np.isnan(self.pairs), -np.inf, self.pairs)
        a, b = np.unravel_index(int(apart.argmax()), apart.shape)
        return int(a), int(b)

    def summary(self) -> str:
        K = len(self.pairs)
        if K == 1:
            return "There is one map alone: it cannot be compared with another one"
        if not np.isfinite(self.correlation):
            return (
                f"{self.constant} of {counted(K, 'map')} have one value everywhere, so they cannot be "
                "compared"
            )
        worth = f"mean correlation of two maps {self.correlation:.2f}, effective rank {self.rank:.1f} of {K}"
        flat = f"; {self.constant} have one value everywhere" if self.constant else ""
        if self.alike:
            return (
                f"The maps of all keypoints are nearly equal: {worth}{flat}; the network does not "
                "distinguish its keypoints. This is usual before training; after training, check the targets "
                "and the loss"
            )
        a, b = self.closest()
        names = self.skeleton.keypoints
        return (
            f"The maps differ: {worth}{flat}; the most similar are {names[a]} and {names[b]} "
            f"({self.pairs[a, b]:.2f})"
        )

    def plot(self) -> Figure:
        names = list(self.skeleton.keypoints)
        figure = new_figure(self.summary(), x="keypoint", y="keypoint", height=560)
        figure.add_heatmap(
            z=self.pairs.astype(np.float32),
            x=names,
            y=names,
            colorscale=DIVERGING,
            zmin=-1,
            zmax=1,
            colorbar={"title": {"text": "correlation"}},
            hovertemplate="%{y} and %{x}: %{z:.2f}<extra></extra>",
        )
        figure.update_yaxes(autorange="reversed")
        return figure

    def table(self) -> list[dict[str, Any]]:
        names = self.skeleton.keypoints
        found = []
        for k, row in enumerate(self.pairs):
            others = np.delete(row, k)
            if not np.isfinite(others).any():
                found.append((names[k], np.nan, "", np.nan))
                continue
            most = int(np.where(np.isfinite(row) & (np.arange(len(row)) != k), row, -np.inf).argmax())
            found.append((names[k], np.nanmean(others), names[most], row[most]))
        columns = ("keypoint", "mean_correlation", "most_alike", "correlation")
        return rows(**dict(zip(columns, zip(*found, strict=True), strict=True)))


def compute(run: Run, params: Params) -> MapLikeness:
    """Compare all maps of the run."""
    if run.outputs.heatmaps is not None:
        maps = run.heatmaps
    elif run.outputs.simcc is not None:
        # A keypoint's two vectors as one row.
        maps = np.concatenate(run.simcc, -1)[:, :, None]
    else:
        raise NotAvailable("map likeness: this model gives neither heatmaps nor SimCC vectors")
    found = likeness(maps)
    return MapLikeness(
        run.model.skeleton, found.correlation, found.rank, found.constant, correlations(maps), found.alike
    )


INSPECTOR = Inspector("Map similarity", Params, compute, needs=Needs(outputs=("heatmaps", "simcc")), order=50)
