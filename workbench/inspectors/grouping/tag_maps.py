"""What does each tag map contain, and which values does it have at the annotated keypoints?

One panel per map. A map is trained only at its own keypoint; its values elsewhere have no meaning, however
smooth they look. Dots mark the annotated keypoints of the map in the colours of their people; a map is good
when dots of different people lie on different colours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from workbench.core import NotAvailable, Skeleton
from workbench.core.capabilities import Groups
from workbench.core.inspector import INSTANCE, Inspector, Needs, Range
from workbench.core.report import PICTURE, Report, rows
from workbench.figures import SEQUENTIAL, keypoint_colours
from workbench.figures.drawing import person_colour
from workbench.figures.panels import add_crop, add_map, axes_of, cell_pitch, crop_of, in_input, panel_figure
from workbench.inspectors.grouping.replay import annotated, grouping_model, tag_map_count, tags_at

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from plotly.graph_objects import Figure

    from workbench.core import Run


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        instance: which sample of the run; the first when empty. Its whole image is shown.
        scale: one colour scale for all maps, or each from its own lowest to its own highest value.
        columns: panels side by side.
    """

    instance: Annotated[str, INSTANCE] = ""
    scale: Literal["shared", "each"] = "shared"
    columns: Annotated[int, Range(2, 9, 1)] = 6


@dataclass(frozen=True, eq=False)
class TagMaps(Report):
    """The tag maps of one image.

    Attributes:
        key: of the sample.
        titles: of the maps: the keypoint of each, or ``all keypoints``.
        people: names of the annotated people; empty without annotation.
        values: at each person's keypoint in its map; nan where not labelled.
        places: of these keypoints, input pixels.
        gaps: the smallest difference between two people in each map; nan with fewer than two.
        spans: the lowest and the highest value of each map.
        pitch: input pixels per cell, (x, y).
        maps: outputs of the network, first value of each tag.
    """

    key: str
    skeleton: Skeleton
    titles: tuple[str, ...]
    people: tuple[str, ...]
    values: Float[np.ndarray, "P T"]
    places: Float[np.ndarray, "P T 2"]
    gaps: Float[np.ndarray, " T"]
    spans: Float[np.ndarray, "T 2"]
    pitch: tuple[float, float]
    scale: str
    columns: int
    maps: Float[np.ndarray, "T h w"] = field(metadata=PICTURE)
    crop: UInt8[np.ndarray, "H W 3"] = field(metadata=PICTURE)

    def summary(self) -> str:
        T = len(self.titles)
        kind = (
            "One tag map for all keypoints"
            if T == 1 and len(self.skeleton) > 1
            else f"{T} tag maps, one per keypoint"
        )
        low, high = self.spans[:, 0].min(), self.spans[:, 1].max()
        if np.isfinite(self.gaps).any():
            t = int(np.nanargmin(self.gaps))
            return (
                f"{kind}, values {low:.2f} to {high:.2f}: the smallest tag difference between two people is "
                f"{self.gaps[t]:.2f}, in the map of {self.titles[t]}"
            )
        return (
            f"{kind}, values {low:.2f} to {high:.2f}; with fewer than two annotated people no difference "
            "is measured"
        )

    def plot(self) -> Figure:
        H, W = self.crop.shape[:2]
        low, high = float(self.spans[:, 0].min()), float(self.spans[:, 1].max())
        shared = self.scale == "shared"
        bar = {"colorscale": SEQUENTIAL, "cmin": low, "cmax": high, "colorbar": {"title": {"text": "tag"}}}
        colours = keypoint_colours(self.skeleton) if len(self.titles) == len(self.skeleton) else ()
        figure = panel_figure(
            self.summary(), self.titles, (H, W), self.columns, colours, bar if shared else None
        )
        figure.update_layout(coloraxis_showscale=shared)
        inks = [person_colour(p) for p in range(len(self.people))]
        for t, title in enumerate(self.titles):
            span = (low, high) if shared else (float(self.spans[t, 0]), float(self.spans[t, 1]))
            add_crop(figure, t, self.crop)
            origin = (self.pitch[0] / 2 - 0.5, self.pitch[1] / 2 - 0.5)
            add_map(figure, t, self.maps[t], self.pitch, span, name=title, origin=origin, unit="tag")
            if not self.people:
                continue
            suffix = axes_of(t)
            figure.add_scatter(
                x=self.places[:, t, 0].astype(np.float32), y=self.places[:, t, 1].astype(np.float32),
                mode="markers", text=[f"{p}: tag {v:.3f}" for p, v in zip(self.people, self.values[:, t],
                                                                           strict=True)],
                marker={"size": 9, "color": inks, "line": {"width": 1.5, "color": "#ffffff"}},
                hovertemplate="%{text}<extra>" + title + "</extra>", name=f"people in {title}",
                xaxis=f"x{suffix}", yaxis=f"y{suffix}",
            )  # fmt: skip
        return figure

    def table(self) -> list[dict[str, Any]]:
        named = {name.replace(" ", "_"): self.values[p] for p, name in enumerate(self.people)}
        return rows(map=self.titles, lowest=self.spans[:, 0], highest=self.spans[:, 1],
                    nearest_two_people=self.gaps, **named)  # fmt: skip


def compute(run: Run, params: Params) -> TagMaps:
    """The maps, and their values at the annotated keypoints."""
    n = INSTANCE.index(run, params.instance)
    model = grouping_model(run)
    raw = run.tags[n, : tag_map_count(run)]
    T, K = len(raw), len(model.skeleton)
    own_map = K == T
    titles = (
        model.skeleton.keypoints if own_map else ("all keypoints",) if T == 1 else tuple(map(str, range(T)))
    )
    names: tuple[str, ...] = ()
    values, places = np.zeros((0, T)), np.zeros((0, T, 2))
    try:
        people = annotated(run, n)
    except NotAvailable:
        people = None  # the maps are shown without annotations
    if people is not None and own_map:
        maps = model.maps(run.outputs, run.batch, n)
        own, _ = tags_at(maps, people, tuple(range(K)))
        values = own[..., 0]
        labelled = np.where(people.labelled[..., None], people.truth[..., :2], np.nan)
        places = np.stack([in_input(run, n, points) for points in labelled])
        names = people.names
    spans = np.stack([raw.min((1, 2)), raw.max((1, 2))], 1)
    return TagMaps(
        key=INSTANCE.of(run)[n],
        skeleton=model.skeleton,
        titles=tuple(titles),
        people=names,
        values=values,
        places=places,
        gaps=_gaps(values, T),
        spans=spans,
        pitch=cell_pitch(run, (raw.shape[1], raw.shape[2])),
        scale=params.scale,
        columns=params.columns,
        maps=raw,
        crop=crop_of(run, n),
    )


def _gaps(values: Float[np.ndarray, "P T"], T: int) -> Float[np.ndarray, " T"]:
    """The smallest difference between two people's values in each map."""
    gaps = np.full(T, np.nan)
    for t in range(T):
        known = np.sort(values[np.isfinite(values[:, t]), t])
        if len(known) > 1:
            gaps[t] = np.diff(known).min()
    return gaps


INSPECTOR = Inspector(
    "Tag maps", Params, compute, needs=Needs(outputs=("tags",), capability=Groups), order=20
)
