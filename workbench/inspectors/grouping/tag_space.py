"""Are the tag maps one embedding, or one scalar per keypoint with its own scale?

HigherHRNet's 17 tag maps are 17 scalar maps: each keypoint's tag is read in its own map and compared with
tags that were read in others. Left: correlation of any two maps over the image; maps that look alike can
still differ at keypoints. Right: distance of a keypoint's tag from its person's mean when it is read in
another map than its own. No map is trained off the diagonal, which is what "map 0 for all keypoints" reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from workbench.core import NotAvailable, Skeleton
from workbench.core.capabilities import Groups
from workbench.core.inspector import INSTANCE, Inspector, Needs, Range
from workbench.core.report import Report, counted, rows
from workbench.core.statistics import finite_median
from workbench.figures import DIVERGING, SEQUENTIAL, new_figure
from workbench.inspectors.grouping.replay import annotated, grouping_model, means_of, tag_map_count, tags_at

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.core import Run


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        instance: which sample of the run; the first when empty. Its whole image is used.
        cells: correlate the maps over all cells, or over those where any heatmap exceeds `least`.
        least: heatmap value above which a cell is likely to contain a keypoint.
    """

    instance: Annotated[str, INSTANCE] = ""
    cells: Literal["image", "likely keypoints"] = "image"
    least: Annotated[float, Range(0, 1, 0.01)] = 0.1


@dataclass(frozen=True, eq=False)
class TagSpace(Report):
    """Similarity of the tag maps of one image.

    Attributes:
        key: of the sample.
        maps: names of the maps: their keypoints.
        cells: number of cells used.
        correlation: of any two maps over these cells; nan for a constant map.
        explained: share of the variance along each principal component, the largest first.
        loadings: of the first component on each map.
        misread: keypoint k read in map m: RMS distance from the person's mean tag over the annotated people;
            nan where no person has the keypoint, or without annotation.
    """

    key: str
    skeleton: Skeleton
    maps: tuple[str, ...]
    cells: int
    correlation: Float[np.ndarray, "T T"]
    explained: Float[np.ndarray, " T"]
    loadings: Float[np.ndarray, " T"]
    misread: Float[np.ndarray, "T T"]

    def summary(self) -> str:
        T = len(self.maps)
        off = self.correlation[~np.eye(T, dtype=bool)]
        agree = float(np.median(off[np.isfinite(off)])) if np.isfinite(off).any() else float("nan")
        text = (
            f"The {T} tag maps, one per keypoint, have a median correlation of {agree:.2f}, and the first "
            f"principal component explains {100 * self.explained[0]:.0f} % of their variance"
        )
        own, foreign = self.own_and_foreign()
        if np.isfinite(foreign):
            text += (
                f"; a tag read in another keypoint's map differs by {foreign:.2f} from its person's mean, in "
                f"its own map by {own:.2f}: read each keypoint in its own map"
            )
        return text

    def own_and_foreign(self) -> tuple[float, float]:
        """Median of `misread` on the diagonal, and off it; nan without annotation."""
        if not np.isfinite(self.misread).any():
            return float("nan"), float("nan")
        apart = ~np.eye(len(self.maps), dtype=bool)
        return float(np.nanmedian(np.diag(self.misread))), float(np.nanmedian(self.misread[apart]))

    def plot(self) -> Figure:
        names = np.array(self.maps, object)
        figure = new_figure(self.summary(), height=620, showlegend=False)
        known = np.isfinite(self.misread).any()
        left, right = ([0, 0.48], [0.52, 1]) if known else ([0, 0.7], [1, 1])
        # Each colour bar above its own map, with room between them for its numbers at every width.
        bar: dict[str, Any] = {"thickness": 12, "orientation": "h", "y": 1.05, "yanchor": "bottom",
                               "xanchor": "left"}  # fmt: skip
        figure.add_heatmap(z=self.correlation.astype(np.float32), x=names, y=names, zmin=-1, zmax=1,
                           colorscale=DIVERGING, name="correlation of two maps",
                           colorbar={**bar, "title": {"text": "correlation"}, "x": left[0],
                                     "len": left[1] - left[0]},
                           hovertemplate="maps of %{y} and %{x}<br>correlation %{z:.2f}<extra></extra>",
        )  # fmt: skip
        figure.update_layout(
            xaxis={"domain": left, "anchor": "y", "tickangle": -60, "title": {"text": "tag map of"}},
            yaxis={"domain": [0.42, 1], "autorange": "reversed", "title": {"text": "tag map of"}},
        )
        if known:
            figure.add_heatmap(z=self.misread.astype(np.float32), x=names, y=names, xaxis="x2", yaxis="y2",
                               colorscale=SEQUENTIAL, zmin=0, name="distance from the person's mean",
                               colorbar={**bar, "title": {"text": "distance"}, "x": right[0],
                                         "len": right[1] - right[0]},
                               hovertemplate="%{y} read in the map of %{x}<br>%{z:.2f} from its person's mean"
                                             "<extra></extra>")  # fmt: skip
            across = {"title": {"text": "read in the map of"}, "domain": right, "anchor": "y2"}
            # The same rows as on the left.
            down = {"domain": [0.42, 1], "anchor": "x2", "matches": "y", "showticklabels": False}
            figure.update_layout(xaxis2={**across, "tickangle": -60}, yaxis2=down)
        places = np.arange(1, len(names) + 1, dtype=np.float32)
        figure.add_bar(x=places, y=(100 * self.explained).astype(np.float32), xaxis="x3", yaxis="y3",
                       name="variance by component", showlegend=False, marker={"color": "#3d8fdc"},
                       hovertemplate="component %{x}<br>%{y:.1f} % of the variance<extra></extra>",
        )  # fmt: skip
        figure.update_layout(
            xaxis3={"domain": [0, 1], "anchor": "y3", "title": {"text": "principal component"}, "dtick": 1},
            yaxis3={
                "domain": [0, 0.14],
                "anchor": "x3",
                "title": {"text": "variance (%)"},
                "range": [0, 100],
            },
        )
        return figure

    def table(self) -> list[dict[str, Any]]:
        T = len(self.maps)
        apart = ~np.eye(T, dtype=bool)
        agree = [finite_median(self.correlation[t][apart[t]]) for t in range(T)]
        elsewhere = [finite_median(self.misread[t][apart[t]]) for t in range(T)]
        return rows(
            map=self.maps,
            median_correlation_with_others=agree,
            first_component=self.loadings,
            read_in_own_map=np.diag(self.misread),
            read_in_other_maps=elsewhere,
        )


def compute(run: Run, params: Params) -> TagSpace:
    """Correlate the maps, and read every annotated keypoint in every map."""
    n = INSTANCE.index(run, params.instance)
    model = grouping_model(run)
    raw = run.tags[n, : tag_map_count(run)].astype(float)
    T, K = len(raw), len(model.skeleton)
    if T != K:
        raise NotAvailable(
            f"tag space: this model gives {T} tag map{'s' * (T != 1)} for {counted(K, 'keypoint')}; it "
            "compares maps of single keypoints"
        )
    flat = raw.reshape(T, -1)
    if params.cells == "likely keypoints":
        flat = flat[:, _likely(run, n, params.least, raw.shape[1:])]
    correlation, explained, loadings = _components(flat)
    misread = np.full((K, T), np.nan)
    if run.samples[n].truth is not None:
        people = annotated(run, n)
        maps = model.maps(run.outputs, run.batch, n)
        own, every = tags_at(maps, people, model.grouping.maps(K, T))
        distance = np.linalg.norm(every - means_of(own)[:, None, None], axis=-1)
        known = np.isfinite(distance)
        total = np.where(known, distance, 0) ** 2
        count = known.sum(0)
        misread = np.sqrt(np.divide(total.sum(0), count, out=np.full((K, T), np.nan), where=count > 0))
    return TagSpace(
        key=INSTANCE.of(run)[n],
        skeleton=model.skeleton,
        maps=model.skeleton.keypoints,
        cells=flat.shape[1],
        correlation=correlation,
        explained=explained,
        loadings=loadings,
        misread=misread,
    )


def _likely(run: Run, n: int, least: float, size: tuple[int, ...]) -> np.ndarray:
    """Mask of the tag map cells where some heatmap exceeds `least`."""
    import cv2

    highest = np.ascontiguousarray(run.heatmaps[n].max(0))
    chosen = cv2.resize(highest, (size[1], size[0]), interpolation=cv2.INTER_AREA).ravel() > least
    if not chosen.any():
        raise ValueError(f"least: no heatmap exceeds {least:g}; the highest value is {highest.max():.3g}")
    return chosen


def _components(
    flat: Float[np.ndarray, "T cells"],
) -> tuple[Float[np.ndarray, "T T"], Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """Correlation of the rows, share of variance along their principal components, loadings of the first."""
    centred = flat - flat.mean(1, keepdims=True)
    covariance = centred @ centred.T / flat.shape[1]
    deviation = np.sqrt(np.diag(covariance))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = covariance / deviation[:, None] / deviation[None]
    values, vectors = np.linalg.eigh(covariance)
    total = values.sum()
    explained = values[::-1].clip(min=0) / total if total > 0 else np.full(len(values), np.nan)
    first = vectors[:, -1]
    # The sign of an eigenvector is arbitrary; the largest entry is made positive.
    return correlation, explained, first * np.sign(first[np.abs(first).argmax()])


INSPECTOR = Inspector(
    "Tag space", Params, compute, needs=Needs(outputs=("tags",), capability=Groups), order=30
)
