"""How keypoints of a probe are judged: against the labels, paired, with a bootstrap over images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Groups, PoseModel, Sample
from workbench.core.geometry import apply as transform
from workbench.core.geometry import inverse
from workbench.core.pck import box_lengths, distances, pck_by_image
from workbench.core.report import counted
from workbench.evaluation.bootstrap import (
    FEWEST_UNITS,
    drawn_counts,
    fewest_units,
    no_interval_text,
    percentile_interval,
)
from workbench.evaluation.oks import paired_oks
from workbench.evaluation.probes.intervention import Intervention
from workbench.evaluation.probes.passes import Found, parts_of
from workbench.evaluation.probes.probe_report import Trial

if TYPE_CHECKING:
    from jaxtyping import Float

LEVEL = 0.99
"""Of the intervals. Some twenty alternatives are tried, so that 95 % would name one without a cause."""

PCK = 0.05
"""PCK threshold, share of the box's longer side."""

# Fine shifts are read off keypoints that were found: nearer to the label than this share of the input's side.
_FOUND = 0.04
_RESAMPLES = 2000


def labelled(model: PoseModel, samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """The samples that have a labelled keypoint.

    Args:
        model: whose keypoints they must be labelled with.
        samples: any.

    Raises:
        ValueError: none is labelled, or they are labelled with another number of keypoints.
    """
    judged = tuple(s for s in samples if s.truth is not None and (np.asarray(s.truth)[:, 2] > 0).any())
    if not judged:
        raise ValueError("probe: expected labelled samples, got none; give a data set with keypoints")
    wanted = len(model.skeleton)
    if len(np.asarray(judged[0].truth)) != wanted:
        raise ValueError(
            f"probe: the model predicts {counted(wanted, 'keypoint')}, the samples are labelled with "
            f"{len(np.asarray(judged[0].truth))}; choose a data set with the model's keypoints"
        )
    return judged


@dataclass(frozen=True, eq=False)
class Judge:
    """What the measurements are compared with.

    Attributes:
        truth: (x, y, visibility), image pixels.
        areas: square pixels; nan where unknown.
        lengths: of the boxes, pixels.
        sigmas: OKS constants; None where PCK is measured.
        to_input: affine from image to input pixels of the model as it is opened, per sample.
        side: the input's longer side, pixels.
        clusters: which samples are drawn together.
        draws: how often each cluster is drawn in each resample.
        protocol: in words.
    """

    truth: Float[np.ndarray, "N K 3"]
    areas: Float[np.ndarray, " N"]
    lengths: Float[np.ndarray, " N"]
    sigmas: Float[np.ndarray, " K"] | None
    to_input: Float[np.ndarray, "N 2 3"]
    side: float
    clusters: list[np.ndarray]
    draws: Float[np.ndarray, "B C"]
    protocol: str

    @classmethod
    def of(cls, model: PoseModel, samples: Sequence[Sample], constants: Sequence[float], seed: int) -> Judge:
        truth = np.stack([np.asarray(s.truth, float) for s in samples])
        areas = np.array([s.area for s in samples], float)
        measured = bool(constants) and bool((areas > 0).all())
        affines, side = _affines(model, samples)
        of_image: dict[Any, list[int]] = {}
        for n, sample in enumerate(samples):
            of_image.setdefault((sample.image_id, sample.path), []).append(n)
        few = len(of_image) < FEWEST_UNITS
        clusters = (
            [np.array([n]) for n in range(len(samples))] if few else list(map(np.array, of_image.values()))
        )
        draws = drawn_counts(len(clusters), _RESAMPLES, seed).astype(float)
        measure = "OKS" if measured else f"PCK@{PCK:g} of the box"
        drawn = f"{LEVEL:.0%} paired bootstrap over {'instances' if few else 'images'}"
        if len(clusters) < fewest_units(LEVEL):
            drawn = no_interval_text(len(clusters), "instance")
        protocol = (
            f"mean {measure} of {counted(len(samples), 'instance')} in {counted(len(of_image), 'image')}, "
            f"annotated boxes, no flip, {drawn}"
        )
        sigmas = np.array(constants) if measured else None
        lengths = box_lengths([s.box for s in samples])
        return cls(truth, areas, lengths, sigmas, affines, side, clusters, draws, protocol)

    @property
    def measure(self) -> str:
        return "OKS" if self.sigmas is not None else f"PCK@{PCK:g}"

    def values(self, keypoints: Found) -> Float[np.ndarray, " N"]:
        """Of each sample."""
        if self.sigmas is not None:
            return paired_oks(keypoints, self.truth, self.areas, self.sigmas)
        return pck_by_image(distances(keypoints, self.truth, self.lengths), PCK)

    def value(self, keypoints: Found) -> float:
        return float(np.nanmean(self.values(keypoints)))

    def trial(self, one: Intervention, base: Found, found: Found, number: int) -> Trial:
        """The intervention's trial.

        Args:
            one: the intervention.
            base: keypoints of the model as it is.
            found: keypoints with the intervention.
            number: of the round.
        """
        before, after = self.values(base), self.values(found)
        change = np.nan_to_num(after - before)
        low, high = self.interval(change, np.isfinite(before).astype(float))
        base_mean, mean = float(np.nanmean(before)), float(np.nanmean(after))
        of_shift: dict[str, float] = {}
        if one.fine:
            of_shift = self._share(base, found)
        return Trial(
            one.name, one.cause, one.about, one.fix,
            base_mean, mean, mean - base_mean, low, high, **of_shift, fine=one.fine, round=number,
        )  # fmt: skip

    def _share(self, base: Found, found: Found) -> dict[str, float]:
        """How much of the movement from one to the other the labels ask for, by least squares."""
        inside = [np.stack([transform(a, p) for a, p in zip(self.to_input, points, strict=True)])
                  for points in (base, found, self.truth[..., :2])]  # fmt: skip
        error, move = inside[2] - inside[0], inside[1] - inside[0]
        near = np.hypot(*np.moveaxis(error, -1, 0)) < _FOUND * self.side  # nan is not near
        judged = near & (self.truth[..., 2] > 0)
        dot, square = ((np.where(judged[..., None], error * move, 0)).sum((1, 2)),
                       (np.where(judged[..., None], move * move, 0)).sum((1, 2)))  # fmt: skip
        low, high = self.interval(dot, square)
        total = float(square.sum())
        pixels = float(np.hypot(*np.moveaxis(move[judged], -1, 0)).mean()) if judged.any() else math.nan
        share = float(dot.sum() / total) if total > 0 else math.nan
        return {"share": share, "share_low": low, "share_high": high, "pixels": pixels}

    def interval(
        self, parts: Float[np.ndarray, " N"], weights: Float[np.ndarray, " N"]
    ) -> tuple[float, float]:
        """Interval of sum(parts) / sum(weights) over resampled clusters; nan where too few have weight.

        Args:
            parts: of each sample, with that of its weight.
            weights: of each sample.
        """
        sums = [np.array([v[c].sum() for c in self.clusters]) for v in (parts, weights)]
        top, bottom = (self.draws @ s for s in sums)
        ratio = np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0)
        return percentile_interval(ratio, LEVEL, int((sums[1] > 0).sum()))


def _affines(model: PoseModel, samples: Sequence[Sample]) -> tuple[np.ndarray, float]:
    found, side = [], 0.0
    for part in parts_of(model, samples):
        batch = model.prepare(part[:1] if isinstance(model, Groups) else part)
        to_input = [inverse(affine) for affine in batch.to_image]
        found += to_input * len(part) if isinstance(model, Groups) else to_input
        side = max(side, float(max(batch.pixels.shape[-2:])))
    return np.stack(found), side
