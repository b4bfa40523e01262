"""Both passes of every sample, plain and mirrored, and what can be read off them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import DecodeOptions, Groups, NotAvailable, Outputs, PoseModel, Sample
from workbench.core.capabilities import RollsOut
from workbench.core.flip import unflipped
from workbench.core.geometry import apply as transform
from workbench.core.geometry import inverse
from workbench.core.job import Cancelled
from workbench.core.report import counted
from workbench.core.run import evaluating
from workbench.evaluation.probes.intervention import NotTried
from workbench.evaluation.probes.passes import Pass, passes_over

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.core import Batch

CELLS = (-1, 0, 1, 2)
"""Shifts of mirrored maps to the right that are tried, in cells: flip tests move whole cells."""

# Partners nearer than this share of the box's longer side share a peak.
_APART = 0.15


@dataclass(frozen=True, eq=False)
class Passes:
    """Keypoints of all samples.

    Attributes:
        plain: of the plain input, image pixels.
        back: of the mirrored input turned back, outputs in their own order, image pixels.
        plain_input: plain, input pixels.
        back_input: back, input pixels.
        turned_input: read off the mirrored maps turned back without a shift, declared order, input pixels;
            nan where there are no maps to turn.
        averages: by cells of shift, of the averaged outputs, image pixels.
        doubled: value of each map at the partner's place, share of the peak; nan where not measured.
    """

    plain: Float[np.ndarray, "N K 2"]
    back: Float[np.ndarray, "N K 2"]
    plain_input: Float[np.ndarray, "N K 2"]
    back_input: Float[np.ndarray, "N K 2"]
    turned_input: Float[np.ndarray, "N K 2"]
    averages: dict[int, Float[np.ndarray, "N K 2"]]
    doubled: Float[np.ndarray, "N K"]


def flip_passes(
    model: PoseModel,
    samples: Sequence[Sample],
    declared: Sequence[int],
    skipped: dict[NotTried, None],
    progress: Callable[[int, int], None] | None,
    cancelled: Callable[[], bool] | None,
    made: Sequence[Pass] | None = None,
) -> tuple[Passes, float]:
    """Both passes of every sample; and input pixels per cell, nan where there are no maps.

    Args:
        model: any.
        samples: labelled.
        declared: mirror partner of each keypoint.
        skipped: what could not be examined is added.
        progress: called with (done, total) samples.
        cancelled: asked before each batch.
        made: plain passes over the samples, where there are some already.

    Raises:
        Cancelled: as asked for.
    """
    columns: dict[str, list[np.ndarray]] = {f.name: [] for f in dataclasses.fields(Passes)}
    averages: dict[int, list[np.ndarray]] = {cells: [] for cells in CELLS}
    cell, done = math.nan, 0
    for part, batch, outputs, points in passes_over(model, samples, made):
        if cancelled is not None and cancelled():
            raise Cancelled(f"stopped after {done} of {counted(len(samples), 'sample')}")
        turned_over = _mirrored(model, batch)
        back_input = _back(model, turned_over, batch, part)
        affines = np.repeat(batch.to_image, len(part), 0) if isinstance(model, Groups) else batch.to_image
        columns["plain"].append(points)
        columns["plain_input"].append(_inside(points, affines))
        columns["back_input"].append(back_input)
        columns["back"].append(_outside(back_input, affines))
        columns["doubled"].append(_doubled(model, outputs, part, affines, declared))
        turned = np.full_like(points, np.nan)
        try:
            cell = _cell(outputs, batch)
            for cells in CELLS:
                averages[cells].append(_average(model, outputs, turned_over, batch, declared, cells))
            turned = _inside(_alone(model, turned_over, batch, declared), affines)
        except NotAvailable as reason:
            skipped[NotTried("flip shift", str(reason))] = None
        columns["turned_input"].append(turned)
        done += len(part)
        if progress is not None:
            progress(done, len(samples))
    joined: dict[str, Any] = {n: np.concatenate(c) for n, c in columns.items() if n != "averages"}
    whole = {cells: np.concatenate(a) for cells, a in averages.items() if a}
    complete = {cells: a for cells, a in whole.items() if len(a) == len(samples)}
    return Passes(**joined, averages=complete), cell


def _mirrored(model: PoseModel, batch: Batch) -> Outputs:
    """The outputs of the mirrored input, not turned back."""
    import torch

    with torch.no_grad(), evaluating(model.module):
        if isinstance(model, Groups):
            extra = dict(batch.extra)
            extra["scales"] = {s: p.flip(-1) for s, p in (extra.get("scales") or {}).items()}
            mirrored = dataclasses.replace(batch, pixels=batch.pixels.flip(-1), extra=extra)
            return model.all_passes(mirrored).detach()
        mirrored = dataclasses.replace(batch, pixels=batch.pixels.flip(-1))
        used = model.rollout if isinstance(model, RollsOut) else model.forward
        return used(mirrored).detach()


def _back(model: PoseModel, outputs: Outputs, batch: Batch, samples: Sequence[Sample]) -> np.ndarray:
    """Keypoints of the mirrored input, mirrored back, in the order of the outputs; input pixels."""
    last = batch.pixels.shape[-1] - 1

    def turned(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
        inside = transform(inverse(affine), points)
        return np.stack([last - inside[..., 0], inside[..., 1]], -1)

    if not isinstance(model, Groups):
        found = model.decode(outputs, batch, DecodeOptions())
        return np.stack([turned(p.keypoints, a) for p, a in zip(found, batch.to_image, strict=True)])
    people, affine = model.group(outputs, batch)[0], batch.to_image[0]
    upright = dataclasses.replace(people, keypoints=transform(affine, turned(people.keypoints, affine)))
    return np.stack([transform(inverse(affine), upright.in_box(s.box).keypoints) for s in samples])


def _inside(points: np.ndarray, affines: np.ndarray) -> np.ndarray:
    return np.stack([transform(inverse(a), p) for a, p in zip(affines, points, strict=True)])


def _outside(points: np.ndarray, affines: np.ndarray) -> np.ndarray:
    return np.stack([transform(a, p) for a, p in zip(affines, points, strict=True)])


def _cell(outputs: Outputs, batch: Batch) -> float:
    """Input pixels per cell along x."""
    maps = outputs.heatmaps if outputs.heatmaps is not None else (outputs.simcc or (None,))[0]
    if maps is None or outputs.tags is not None:
        raise NotAvailable("this model's outputs are no maps that a flip test averages")
    return float(batch.pixels.shape[-1] / maps.shape[-1])


def _turned(outputs: Outputs, declared: Sequence[int], cells: int) -> Outputs:
    """The mirrored outputs turned back, heatmaps and SimCC vectors along x moved by whole cells."""
    import torch

    back = unflipped(outputs, declared)

    def moved(maps: Any) -> Any:
        if maps is None or not cells:
            return maps
        edge = maps[..., :1] if cells > 0 else maps[..., -1:]
        edges = [edge] * abs(cells)
        return torch.cat([*edges, maps[..., :-cells]] if cells > 0 else [maps[..., -cells:], *edges], -1)

    simcc = None if back.simcc is None else (moved(back.simcc[0]), back.simcc[1])
    fields = {name: moved(vectors) for name, vectors in back.fields.items()}
    return dataclasses.replace(
        back, heatmaps=moved(back.heatmaps), simcc=simcc, fields=fields, centres=moved(back.centres)
    )


def _alone(model: PoseModel, mirrored: Outputs, batch: Batch, declared: Sequence[int]) -> np.ndarray:
    found = model.decode(_turned(mirrored, declared, 0), batch, DecodeOptions())
    return np.stack([p.keypoints for p in found])


def _average(
    model: PoseModel, outputs: Outputs, mirrored: Outputs, batch: Batch, declared: Sequence[int], cells: int
) -> np.ndarray:
    back = _turned(mirrored, declared, cells)

    def mean(a: Any, b: Any) -> Any:
        return None if a is None or b is None else (a + b) / 2

    simcc = None
    if outputs.simcc is not None and back.simcc is not None:
        simcc = (mean(outputs.simcc[0], back.simcc[0]), mean(outputs.simcc[1], back.simcc[1]))
    averaged = Outputs(
        heatmaps=mean(outputs.heatmaps, back.heatmaps),
        simcc=simcc,
        fields={name: mean(vectors, back.fields[name]) for name, vectors in outputs.fields.items()},
        centres=mean(outputs.centres, back.centres),
    )
    return np.stack([p.keypoints for p in model.decode(averaged, batch, DecodeOptions())])


def _doubled(
    model: PoseModel,
    outputs: Outputs,
    samples: Sequence[Sample],
    affines: np.ndarray,
    declared: Sequence[int],
) -> Float[np.ndarray, "n K"]:
    """Value of each map at its partner's labelled place, as a share of its peak; nan where not measured.

    Nor is it where the map is half as high at the places of other keypoints: it is flat, as of a network that
    has learned little, and has no second peak.
    """
    made = np.full((len(samples), len(declared)), np.nan)
    if outputs.heatmaps is None or model.codec is None or isinstance(model, Groups):
        return made
    maps = outputs.heatmaps.numpy()
    h, w = maps.shape[-2:]
    H, W = model.codec.input_size
    for n, (sample, affine) in enumerate(zip(samples, affines, strict=True)):
        truth = np.asarray(sample.truth, float)
        inside = transform(inverse(affine), truth[:, :2])
        labelled, places = truth[:, 2] > 0, np.round(inside * [w / W, h / H])
        for k, partner in enumerate(declared):
            apart = np.hypot(*(inside - inside[k]).T) > _APART * max(H, W)
            if not (apart[partner] and labelled[k] and labelled[partner]):
                continue
            near_partner = np.hypot(*(inside - inside[partner]).T) <= _APART * max(H, W)
            peak = maps[n, k].max()
            others = [_at(maps[n, k], places[j]) for j in np.flatnonzero(apart & labelled & ~near_partner)]
            if peak > 0 and np.median([v for v in others if math.isfinite(v)] or [0.0]) <= peak / 2:
                made[n, k] = _at(maps[n, k], places[partner]) / peak
    return made


def _at(heatmap: Float[np.ndarray, "h w"], place: Float[np.ndarray, " 2"]) -> float:
    """The highest value of the cells around a place (x, y) in cells; nan outside the map."""
    x, y = (int(v) for v in place)
    h, w = heatmap.shape
    if not (0 <= x < w and 0 <= y < h):
        return math.nan
    return float(heatmap[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].max())
