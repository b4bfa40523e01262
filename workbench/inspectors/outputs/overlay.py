"""Where in the image are the predicted keypoints, and how large is the error of each?

Filled markers are predictions, rings are annotations. Where each of a left-right pair lies on the annotation
of the other, the pair is reported as exchanged: the positions are right, the sides are not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from workbench.core import NotAvailable, Skeleton
from workbench.core.geometry import BOX_SHARE, apply
from workbench.core.inspector import INSTANCE, Choice, Inspector, Range
from workbench.core.report import PICTURE, Report, counted, rows
from workbench.figures import SEQUENTIAL, draw_skeleton, image_figure, image_layer
from workbench.figures.drawing import image_data_uri, sprite
from workbench.figures.panels import cell_pitch, input_size, visible_truth

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8
    from plotly.graph_objects import Figure

    from workbench.core import Run, Sample

NONE, ALL_MAPS = "none", "all keypoints"


def _maps(run: Run) -> list[str]:
    return [NONE] if run.outputs.heatmaps is None else [NONE, ALL_MAPS, *run.model.skeleton.keypoints]


MAP = Choice(_maps)


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        instance: which sample of the run; the first when empty.
        threshold: keypoints with a lower score are not drawn.
        truth: draw the annotation, if there is one.
        heatmap: a keypoint whose heatmap is laid over the image, or the strongest of all.
        view: the whole image, or the region that the network was given.
    """

    instance: Annotated[str, INSTANCE] = ""
    threshold: Annotated[float, Range(0, 2, 0.05)] = 0.0
    truth: bool = True
    heatmap: Annotated[str, MAP] = NONE
    view: Literal["image", "crop"] = "image"


@dataclass(frozen=True, eq=False)
class Overlay(Report):
    """One sample's keypoints in its image, all in image pixels; nan where there is none.

    Attributes:
        key: the sample's name.
        corners: of the region that the network was given.
        swapped: 1 where at most half as far from the mirror partner's annotation as from its own, and the two
            lie apart by more than OKS forgives; 0 where not; nan where that is not known.
        layer: heatmap on input cells, with the image pixels of its outer edges; empty without one.
    """

    key: str
    skeleton: Skeleton
    keypoints: Float[np.ndarray, "K 2"]
    scores: Float[np.ndarray, " K"]
    drawn: Bool[np.ndarray, " K"]
    truth: Float[np.ndarray, "K 2"]
    errors: Float[np.ndarray, " K"]
    swapped: Float[np.ndarray, " K"]
    box: tuple[float, float, float, float]
    corners: Float[np.ndarray, "4 2"]
    view: str
    show_truth: bool
    image: UInt8[np.ndarray, "H W 3"] = field(metadata=PICTURE)
    layer: Float[np.ndarray, "h w"] = field(metadata=PICTURE)
    edges: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)

    def summary(self) -> str:
        names = self.skeleton.keypoints
        known = np.isfinite(self.errors)
        if not known.any():
            low = int(np.nan_to_num(self.scores, nan=np.inf).argmin())
            return (
                f"{int(self.drawn.sum())} of {counted(len(names), 'keypoint')} of {self.key} drawn; "
                f"{names[low]} scores lowest, {self.scores[low]:.2f}; no annotation to compare with"
            )
        far = int(np.nan_to_num(self.errors, nan=-1).argmax())
        side = max(self.box[2] - self.box[0], self.box[3] - self.box[1])
        text = (
            f"Largest error: {names[far]}, {self.errors[far]:.1f} px ({100 * self.errors[far] / side:.0f} % "
            f"of the box's longer side); the mean error of {counted(int(known.sum()), 'annotated keypoint')} "
            f"is {self.errors[known].mean():.1f} px"
        )
        if (self.swapped == 1).any():
            text += f"; left and right seem exchanged at {', '.join(np.array(names)[self.swapped == 1][:4])}"
        return text

    def plot(self) -> Figure:
        figure = image_figure(self.image, self.summary())
        if self.layer.size:
            png, *_ = sprite(self.layer[None], colours=SEQUENTIAL, transparent=True)
            figure.add_layout_image(image_layer(image_data_uri(png), self.edges))
        figure.add_traces(_outline(self.box, self.corners))
        if self.show_truth and np.isfinite(self.truth).any():
            figure.add_traces(
                draw_skeleton(self.truth, self.skeleton, name="annotation", hollow=True, size=13)
            )
        notes = tuple(f"error {e:.1f} px" if np.isfinite(e) else "not annotated" for e in self.errors)
        figure.add_traces(
            draw_skeleton(self.keypoints, self.skeleton, scores=self.scores, drawn=self.drawn, notes=notes)
        )
        if self.view == "crop":
            (x0, y0), (x1, y1) = self.corners.min(0), self.corners.max(0)
            figure.update_xaxes(range=[x0, x1]).update_yaxes(range=[y1, y0])
        return figure

    def table(self) -> list[dict[str, Any]]:
        return rows(
            keypoint=self.skeleton.keypoints,
            x=self.keypoints[:, 0],
            y=self.keypoints[:, 1],
            score=self.scores,
            truth_x=self.truth[:, 0],
            truth_y=self.truth[:, 1],
            error_px=self.errors,
            swapped=[None if np.isnan(one) else bool(one) for one in self.swapped],
        )


def _outline(box: tuple[float, ...], corners: Float[np.ndarray, "4 2"]) -> list[Any]:
    import plotly.graph_objects as go

    x0, y0, x1, y1 = box
    square = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]], np.float32)
    crop = np.concatenate([corners, corners[:1]]).astype(np.float32)
    lines = (
        (square, "box", "rgba(255,255,255,.75)", "solid"),
        (crop, "network's input", "rgba(255,255,255,.75)", "dash"),
    )
    return [
        go.Scatter(x=p[:, 0], y=p[:, 1], mode="lines", name=name, hoverinfo="name", showlegend=False,
                   line={"color": colour, "width": 1, "dash": dash})
        for p, name, colour, dash in lines
    ]  # fmt: skip


def swapped_sides(
    points: Float[np.ndarray, "K 2"],
    truth: Float[np.ndarray, "K 2"],
    mirror: tuple[int, ...],
    tolerance: Float[np.ndarray, " K"],
) -> Float[np.ndarray, " K"]:
    """1 for keypoints at most half as far from their mirror partner's annotation as from their own, else 0.

    nan where it is not known: without a prediction, one of the two annotations, or mirror pairs.

    Args:
        points: predicted, image pixels; nan where there is none.
        truth: annotated, image pixels; nan where nothing is.
        mirror: index of each keypoint's partner; empty where nobody knows the sides.
        tolerance: image pixels. Where both annotations lie nearer to each other, nobody can tell sides.
    """
    if not mirror:
        return np.full(len(points), np.nan)
    partner = truth[list(mirror)]
    own, other = np.linalg.norm(points - truth, axis=1), np.linalg.norm(points - partner, axis=1)
    apart = np.linalg.norm(truth - partner, axis=1)
    return np.where(np.isfinite(own) & np.isfinite(other), (other < own / 2) & (apart > tolerance), np.nan)


def side_tolerance(sample: Sample, skeleton: Skeleton) -> Float[np.ndarray, " K"]:
    """Distance at which a keypoint still counts half by OKS, image pixels.

    Where the skeleton has no OKS constants: a twentieth of the box's longer side, the usual bound of PCK.
    """
    x0, y0, x1, y1 = sample.box
    if not skeleton.sigmas:
        return np.full(len(skeleton), max(x1 - x0, y1 - y0) / 20)
    area = sample.area if np.isfinite(sample.area) and sample.area > 0 else BOX_SHARE * (x1 - x0) * (y1 - y0)
    # exp(-d^2 / (2 area (2 sigma)^2)) = 1 / 2
    return 2 * np.array(skeleton.sigmas) * np.sqrt(2 * np.log(2) * area)


def compute(run: Run, params: Params) -> Overlay:
    """Collect one sample's prediction and annotation."""
    n = INSTANCE.index(run, params.instance)
    sample, prediction, skeleton = run.samples[n], run.predictions[n], run.model.skeleton
    truth = visible_truth(run, n)
    points = np.array(prediction.keypoints, float)
    scores = np.array(prediction.scores, float)
    H, W = input_size(run)
    affine = np.asarray(run.batch.to_image[n], float)
    corners = apply(affine, np.array([[-0.5, -0.5], [W - 0.5, -0.5], [W - 0.5, H - 0.5], [-0.5, H - 0.5]]))
    layer, edges = _layer(run, n, MAP.index(run, params.heatmap), affine)
    return Overlay(
        key=INSTANCE.of(run)[n],
        skeleton=skeleton,
        keypoints=points,
        scores=scores,
        drawn=np.isfinite(points).all(1) & ~(scores < params.threshold),
        truth=truth,
        errors=np.linalg.norm(points - truth, axis=1),
        swapped=swapped_sides(points, truth, skeleton.mirror, side_tolerance(sample, skeleton)),
        box=tuple(float(v) for v in sample.box),  # type: ignore[arg-type]
        corners=corners,
        view=params.view,
        show_truth=params.truth,
        image=np.array(sample.image),
        layer=layer,
        edges=edges,
    )


def _layer(
    run: Run, n: int, choice: int, affine: Float[np.ndarray, "2 3"]
) -> tuple[Float[np.ndarray, "h w"], tuple[float, float, float, float]]:
    """The chosen heatmap, and its outer edges in image pixels."""
    if choice == 0:
        return np.zeros((0, 0), np.float32), (0.0, 0.0, 1.0, 1.0)
    if np.abs(affine[[0, 1], [1, 0]]).max() > 1e-9:
        raise NotAvailable("heatmap over the image: this crop is rotated; see the heatmap grid instead")
    maps = run.heatmaps[n]
    values = maps.max(0) if choice == 1 else maps[choice - 2]
    dx, dy = cell_pitch(run, (values.shape[0], values.shape[1]))
    h, w = values.shape
    (x0, y0), (x1, y1) = apply(affine, np.array([[-dx / 2, -dy / 2], [(w - 0.5) * dx, (h - 0.5) * dy]]))
    return values, (float(x0), float(y0), float(x1), float(y1))


INSPECTOR = Inspector("Overlay", Params, compute, order=10)
