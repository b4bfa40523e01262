"""One attribution map per keypoint: what the reports of Grad-CAM, occlusion and their like share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Run, Skeleton
from workbench.core.inspector import INSTANCE, keypoint_choice
from workbench.core.report import PICTURE, Report, counted, rows
from workbench.figures import DIVERGING, SEQUENTIAL, keypoint_colours
from workbench.figures.panels import add_crop, add_map, add_marks, crop_of, panel_figure
from workbench.inspectors.attribution.targets import UNITS, Targets

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from plotly.graph_objects import Figure

NEAR = 0.2
"""Evidence within this share of the box's longer side of a keypoint counts as the keypoint's own place."""

FAR = 0.35  # a keypoint whose strongest evidence lies further away is named in the summary

ALL_KEYPOINTS = "all keypoints"
SHOWN = keypoint_choice(ALL_KEYPOINTS)
"""What is drawn: all keypoints side by side, or one."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MapsReport(Report):
    """Maps of T keypoints of one sample. Positive values are evidence for the target.

    Attributes:
        key: the sample's name.
        skeleton: of the model.
        keypoints: the T indices in the skeleton.
        target: kind of target, key of targets.UNITS.
        values: the targets, undisturbed.
        points: (x, y) of the model's answers, input pixels.
        strongest: (x, y) of each map's largest value, input pixels; nan for a map without positive values.
        away: distance of `strongest` from the answer, shares of the box's longer side; nan as before.
        near: share of the positive evidence within NEAR of the answer; nan as before.
        against: share of the evidence that is negative; nan for a map of zeros.
        chosen: index in the skeleton of the keypoint drawn alone; -1 for all.
        positive: draw the evidence for the keypoints alone.
        pitch: input pixels per cell of the maps, (x, y).
        origin: input pixel on which cell (0, 0) is centred, (x, y).
        maps: one for each of the T keypoints.
        crop: the network's input.
    """

    key: str
    skeleton: Skeleton
    keypoints: tuple[int, ...]
    target: str
    values: Float[np.ndarray, " T"]
    points: Float[np.ndarray, "T 2"]
    strongest: Float[np.ndarray, "T 2"]
    away: Float[np.ndarray, " T"]
    near: Float[np.ndarray, " T"]
    against: Float[np.ndarray, " T"]
    chosen: int
    positive: bool = True
    pitch: tuple[float, float]
    origin: tuple[float, float]
    maps: Float[np.ndarray, "T h w"] = field(metadata=PICTURE)
    crop: UInt8[np.ndarray, "H W 3"] = field(metadata=PICTURE)

    @property
    def names(self) -> list[str]:
        """Names of the T keypoints."""
        return [self.skeleton.keypoints[k] for k in self.keypoints]

    @property
    def unit(self) -> str:
        """What a target is."""
        return UNITS[self.target]

    @property
    def measured(self) -> Float[np.ndarray, " T"]:
        """Whether each map holds positive evidence."""
        return np.isfinite(self.away)

    def where(self) -> str:
        """Where the evidence lies, in one clause with its numbers."""
        names, found = self.names, np.flatnonzero(self.measured)
        if self.chosen >= 0:
            t = self.keypoints.index(self.chosen)
            if not self.measured[t]:
                return f"there is no positive evidence for {names[t]}"
            return (
                f"the strongest evidence for {names[t]} lies {self.away[t]:.0%} of the box away from it, and "
                f"{self.near[t]:.0%} of all evidence within {NEAR:.0%}"
            )
        within = int((self.away[found] <= NEAR).sum())
        text = (
            f"for {within} of {counted(len(names), 'keypoint')} the strongest evidence lies within "
            f"{NEAR:.0%} of the box's longer side from the keypoint"
        )
        far = int(np.nan_to_num(self.away, nan=-1).argmax())
        if self.away[far] > FAR:
            text += f"; it is farthest for {names[far]}, {self.away[far]:.0%} away"
        return text

    def advice(self) -> str:
        """What the distances mean and what to do; one clause."""
        asked = self.away if self.chosen < 0 else self.away[[self.keypoints.index(self.chosen)]]
        if np.nan_to_num(asked).max(initial=0) > FAR:
            return (
                "a keypoint with distant evidence depends on its surroundings and may fail "
                "where those are hidden or different"
            )
        return "the network looks at the keypoints themselves"

    def plot(self) -> Figure:
        H, W = self.crop.shape[:2]
        shown = range(len(self.keypoints)) if self.chosen < 0 else [self.keypoints.index(self.chosen)]
        signed = not self.positive and bool((self.maps < 0).any())
        maps = self.maps if signed else np.maximum(self.maps, 0)
        colours = [keypoint_colours(self.skeleton)[self.keypoints[t]] for t in shown]
        heads = [f"{self.names[t]}\n{_percent(self.near[t])} within {NEAR:.0%}" for t in shown]
        top = float(np.abs(maps[list(shown)]).max()) or 1.0
        bar = {
            "colorscale": [list(c) for c in (DIVERGING if signed else SEQUENTIAL)],
            "cmin": -top if signed else 0, "cmax": top, "colorbar": {"title": {"text": self.bar_title()}},
        }  # fmt: skip
        alone = self.chosen >= 0
        figure = panel_figure(
            self.summary(), heads, (H, W), 1 if alone else 6, colours, bar if alone else None
        )
        if alone:
            figure.update_layout(height=560)
        else:
            figure.update_layout(coloraxis=bar | {"showscale": False})
        for panel, t in enumerate(shown):
            # Each map on its own scale: the targets of different keypoints are of different sizes.
            high = float(np.abs(maps[t]).max()) or 1.0
            add_crop(figure, panel, self.crop)
            add_map(
                figure, panel, maps[t], self.pitch, (-high, high) if signed else (0, high),
                name=self.names[t], origin=self.origin, unit=self.bar_title(),
                colours=DIVERGING if signed else SEQUENTIAL, transparent=not signed,
            )  # fmt: skip
            add_marks(figure, panel, self.points[t], np.full(2, np.nan), "answer")
        return figure

    def bar_title(self) -> str:
        """What the values of the maps are, in few words."""
        return "evidence"

    def table(self) -> list[dict[str, Any]]:
        return rows(
            keypoint=self.names,
            target=self.values,
            x_strongest=self.strongest[:, 0],
            y_strongest=self.strongest[:, 1],
            away_box=self.away,
            near=self.near,
            against=self.against,
        )


def _percent(share: float) -> str:
    return f"{share:.0%}" if np.isfinite(share) else "no evidence"


def map_facts(run: Run, n: int, targets: Targets, values: Any, maps: Any, chosen: str) -> dict[str, Any]:
    """The fields of a MapsReport.

    Args:
        run: what was asked.
        n: the sample.
        targets: what was explained.
        values: the undisturbed targets, tensor [T].
        maps: tensor [T, h, w] over the whole input.
        chosen: value of a SHOWN parameter.

    Raises:
        ValueError: no such keypoint.
        NotAvailable: the model did not find it in this sample.
    """
    k = SHOWN.index(run, chosen) - 1
    if k >= 0:
        targets.only(k)
    drawn = np.asarray(maps.detach().float().cpu().numpy())
    T, h, w = drawn.shape
    H, W = run.batch.pixels.shape[-2:]
    pitch = (W / w, H / h)
    origin = (pitch[0] / 2 - 0.5, pitch[1] / 2 - 0.5)
    x, y = (origin[i] + np.arange(size) * pitch[i] for i, size in enumerate((w, h)))
    side = box_side(run, n)
    distances = np.hypot(
        x[None, None] - targets.points[:, :1, None], y[None, :, None] - targets.points[:, 1:, None]
    )
    positive = np.maximum(drawn.astype(float), 0)
    total, size = positive.sum((1, 2)), np.abs(drawn.astype(float)).sum((1, 2))
    found = total > 0
    best = positive.reshape(T, -1).argmax(1)
    strongest = np.where(found[:, None], np.stack([x[best % w], y[best // w]], 1), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        near = np.where(found, (positive * (distances <= NEAR * side)).sum((1, 2)) / total, np.nan)
        against = np.where(size > 0, 1 - total / size, np.nan)
    return {
        "key": INSTANCE.of(run)[n],
        "skeleton": run.model.skeleton,
        "keypoints": targets.keypoints,
        "target": targets.kind,
        "values": values.detach().double().cpu().numpy(),
        "points": targets.points,
        "strongest": strongest,
        "away": np.linalg.norm(strongest - targets.points, axis=1) / side,
        "near": near,
        "against": against,
        "chosen": k,
        "pitch": pitch,
        "origin": origin,
        "maps": drawn,
        "crop": crop_of(run, n),
    }


def box_side(run: Run, n: int) -> float:
    """Longer side of a sample's box in input pixels."""
    x0, y0, x1, y1 = run.samples[n].box
    return max(x1 - x0, y1 - y0) / float(np.linalg.norm(run.batch.to_image[n][:, 0]))
