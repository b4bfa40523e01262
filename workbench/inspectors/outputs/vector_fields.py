"""Where does each cell of the output place the keypoint, and do the cells agree?

Arrows start at cells of the output and end where the cell places the keypoint. Strong arrows belong to cells
with enough weight: at least half of the highest heatmap value (offsets) or of the highest centre value
(regressions). They should end in one point; if their ends are widely spread, the result depends on which
single cell has the highest value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core import NotAvailable, Skeleton
from workbench.core.inspector import INSTANCE, Choice, Inspector, Needs, Range
from workbench.core.report import PICTURE, Report, counted, rows
from workbench.figures import (
    FINDING_COLOUR,
    QUIET_COLOUR,
    TRUTH_COLOUR,
    image_layer,
    keypoint_colour,
    new_figure,
    rgba,
)
from workbench.figures.drawing import draw_arrows, image_data_uri
from workbench.figures.panels import cell_pitch, crop_of, in_input, visible_truth

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8
    from plotly.graph_objects import Figure

    from workbench.core import Run


# Ends that scatter by more than this part of the input's longer side point at different things: a twentieth
# is the size of a hand or a paw on a whole figure.
AGREEMENT = 0.05


def _names(run: Run) -> list[str]:
    return sorted(run.outputs.fields)


def _vectors(run: Run) -> list[str]:
    """Names of a field's vectors: keypoints where there is one per keypoint, numbers otherwise."""
    most = max((tensor.shape[1] for tensor in run.outputs.fields.values()), default=0)
    return _vector_names(run, most)


def _vector_names(run: Run, P: int) -> list[str]:
    names = run.model.skeleton.keypoints
    return list(names) if len(names) == P else [f"vector {p}" for p in range(P)]


FIELD, VECTOR = Choice(_names), Choice(_vectors)


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        instance: which sample of the run; the first when empty.
        output: which of the model's fields; the first by name when empty.
        vector: which of the field's vectors, most often a keypoint; the first when empty.
        arrows: at most this many along the longer side.
    """

    instance: Annotated[str, INSTANCE] = ""
    output: Annotated[str, FIELD] = ""
    vector: Annotated[str, VECTOR] = ""
    arrows: Annotated[int, Range(8, 64, 4)] = 24


@dataclass(frozen=True, eq=False)
class VectorField(Report):
    """One vector field of one sample, in input pixels.

    Attributes:
        key: the sample's name.
        name: of the field.
        vectors: names of its P vectors.
        p: the vector drawn.
        keypoint: its keypoint; None for a field of other things.
        counting: how many cells count, per vector.
        meeting: (x, y) where those cells point, weighted mean, per vector.
        scatter: weighted root mean square distance of their ends to it, input pixels.
        truth: annotation of the drawn vector's keypoint; nan where there is none.
        starts: of the drawn arrows.
        ends: of the drawn arrows.
        strong: arrows of cells that count.
    """

    key: str
    skeleton: Skeleton
    name: str
    vectors: tuple[str, ...]
    p: int
    keypoint: int | None
    counting: Float[np.ndarray, " P"]
    meeting: Float[np.ndarray, "P 2"]
    scatter: Float[np.ndarray, " P"]
    truth: Float[np.ndarray, " 2"]
    starts: Float[np.ndarray, "A 2"] = field(metadata=PICTURE)
    ends: Float[np.ndarray, "A 2"] = field(metadata=PICTURE)
    strong: Bool[np.ndarray, " A"] = field(metadata=PICTURE)
    crop: UInt8[np.ndarray, "H W 3"] = field(metadata=PICTURE)

    def summary(self) -> str:
        p = self.p
        agree = self.scatter[p] <= AGREEMENT * max(self.crop.shape[:2])
        text = (
            f"{self.name}, {self.vectors[p]}: the vectors of {int(self.counting[p])} cells with enough weight"
            f" {'point to' if agree else 'do not agree: they point to places around'}"
            f" ({self.meeting[p, 0]:.1f}, {self.meeting[p, 1]:.1f}) input px, with a spread of"
            f" {self.scatter[p]:.1f} px"
        )
        worst = int(self.scatter.argmax())
        if worst != p:
            text += f"; {self.vectors[worst]} has the largest spread, {self.scatter[worst]:.1f} px"
        if np.isfinite(self.truth).all():
            text += f"; {np.linalg.norm(self.meeting[p] - self.truth):.1f} px from the annotation"
        return text

    def plot(self) -> Figure:
        H, W = self.crop.shape[:2]
        figure = new_figure(self.summary(), x="x (input px)", y="y (input px)", height=620, dragmode="pan")
        figure.update_xaxes(range=[-0.5, W - 0.5], showgrid=False, constrain="domain")
        figure.update_yaxes(range=[H - 0.5, -0.5], showgrid=False, scaleanchor="x", constrain="domain")
        figure.add_layout_image(
            image_layer(image_data_uri(self.crop), (-0.5, -0.5, W - 0.5, H - 0.5), opacity=0.45)
        )
        colour = QUIET_COLOUR if self.keypoint is None else keypoint_colour(self.keypoint, self.skeleton)
        for strong, ink, wide, name in (
            (False, rgba(QUIET_COLOUR, 0.6), 1.0, "other cells"),
            (True, colour, 2.0, "cells with enough weight"),
        ):
            chosen = self.strong == strong
            if chosen.any():
                figure.add_traces(draw_arrows(self.starts[chosen], self.ends[chosen], ink, wide, name))
        for place, symbol, ink, name in (
            (self.meeting[self.p], "x-thin", FINDING_COLOUR, "they meet"),
            (self.truth, "circle-open", TRUTH_COLOUR, "annotation"),
        ):
            if np.isfinite(place).all():
                x, y = np.asarray(place, np.float32)[:, None]
                marker = {"symbol": symbol, "size": 13, "color": ink, "line": {"width": 3, "color": ink}}
                figure.add_scatter(x=x, y=y, mode="markers", marker=marker, name=name,
                                   hovertemplate="x %{x:.1f}, y %{y:.1f} input px")  # fmt: skip
        return figure

    def table(self) -> list[dict[str, Any]]:
        return rows(
            vector=self.vectors,
            cells_that_count=self.counting,
            meeting_x_input=self.meeting[:, 0],
            meeting_y_input=self.meeting[:, 1],
            scatter_input_px=self.scatter,
        )


def meeting_point(
    ends: Float[np.ndarray, "cells 2"], weights: Float[np.ndarray, " cells"]
) -> tuple[Float[np.ndarray, " 2"], float]:
    """Weighted mean of the ends, and the weighted root mean square distance to it."""
    shares = weights / weights.sum()
    mean = (shares[:, None] * ends).sum(0)
    return mean, float(np.sqrt((shares * ((ends - mean) ** 2).sum(1)).sum()))


def compute(run: Run, params: Params) -> VectorField:
    """Follow every vector of one field, and see where the cells that count point."""
    fields = run.fields
    n = INSTANCE.index(run, params.instance)
    name = FIELD.of(run)[FIELD.index(run, params.output)]
    vectors = fields[name][n]
    P, _, h, w = vectors.shape
    names = _vector_names(run, P)
    p = VECTOR.index(run, params.vector)
    if p >= P:
        raise NotAvailable(f"{name} has {counted(P, 'vector')}, {params.vector!r} is not one of them")
    pitch = np.array(cell_pitch(run, (h, w)))
    y, x = np.indices((h, w))
    starts = np.stack([x, y], -1).reshape(-1, 2) * pitch
    ends = starts + vectors.transpose(0, 2, 3, 1).reshape(P, -1, 2) * pitch
    weights = _weights(run, n, name, P, (h, w))
    counting = weights >= weights.max(1, keepdims=True) / 2
    met = [meeting_point(e[c], v[c]) for e, c, v in zip(ends, counting, weights, strict=True)]
    step = math.ceil(max(h, w) / params.arrows)
    drawn = (((y % step == 0) & (x % step == 0)).ravel()) | (counting[p] & (counting[p].sum() <= 400))
    keypoint = p if len(run.model.skeleton) == P else None
    truth = in_input(run, n, visible_truth(run, n))
    return VectorField(
        key=INSTANCE.of(run)[n],
        skeleton=run.model.skeleton,
        name=name,
        vectors=tuple(names),
        p=p,
        keypoint=keypoint,
        counting=counting.sum(1).astype(float),
        meeting=np.array([mean for mean, _ in met]),
        scatter=np.array([spread for _, spread in met]),
        truth=np.full(2, np.nan) if keypoint is None else truth[keypoint],
        starts=starts[drawn],
        ends=ends[p][drawn],
        strong=counting[p][drawn],
        crop=crop_of(run, n),
    )


def _weights(run: Run, n: int, name: str, P: int, cells: tuple[int, int]) -> Float[np.ndarray, "P cells"]:
    """What cells count for: centre heat for regressions, keypoint heat for other fields, else all alike."""
    maps, centres = run.outputs.heatmaps, run.outputs.centres
    found = np.ones((P, cells[0] * cells[1]))
    if name == "regressions" and centres is not None and tuple(centres.shape[-2:]) == cells:
        found[:] = centres[n, 0].numpy().ravel()
    elif name != "regressions" and maps is not None and (maps.shape[1], *maps.shape[-2:]) == (P, *cells):
        found[:] = maps[n].numpy().reshape(P, -1)
    found = found.clip(min=0)
    # A map without heat says nothing about its cells: they then count alike.
    found[found.max(1) <= 0] = 1.0
    return found


INSPECTOR = Inspector("Vector fields", Params, compute, needs=Needs(outputs=("fields",)), order=70)
