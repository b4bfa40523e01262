"""Do scores say how good a pose is? Reliability of scores, and the AP that better ones give.

AP asks for an order of the poses. A map that keeps their order changes nothing; a monotone map of the
KEYPOINT scores, from which the pose's score is then made, does. The best such map is fitted by isotonic
regression of each keypoint's part of the OKS on its score, on one half of the images and used on the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import Report, counted, plain, signed_text
from workbench.evaluation.evaluate import own_annotations
from workbench.evaluation.keypoint_ap import keypoint_ap
from workbench.evaluation.oks import keypoint_terms, oks_of_pairs

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from plotly.graph_objects import Figure

    from workbench.evaluation.evaluate import Evaluation
    from workbench.evaluation.predictions import Predictions

BINS = 10
# Keypoints of one name from which a map of its own is fitted; with fewer all share one.
OWN_MAP = 500


@dataclass(frozen=True, eq=False)
class Reliability:
    """Scores against what they should say, in bins of equally many values.

    Attributes:
        what: ``keypoint`` (its part of the OKS) or ``pose`` (its OKS).
        score: mean score of each bin.
        value: mean OKS part, or OKS, of each bin.
        count: values in each bin.
        error: expected calibration error: mean distance of score and value, weighted by count; nan where
            scores leave 0 to 1 and are no probabilities.
        lowest: score.
        highest: score.
        chance: error that as many scores would show if each bin's were right on average, from the scatter
            within the bins; nan where a bin has one value.
    """

    what: str
    score: Float[np.ndarray, " M"]
    value: Float[np.ndarray, " M"]
    count: Int[np.ndarray, " M"]
    error: float
    lowest: float
    highest: float
    chance: float


@dataclass(frozen=True, eq=False)
class Calibration(Report):
    """Calibration of one model on one data set.

    Attributes:
        title: of the model.
        keypoints: of the keypoint scores.
        poses: of the pose scores.
        ap: as ranked by the model's scores.
        mapped_ap: with the optimal monotone map of the keypoint scores; the mean of them ranks. nan where
            labelled images lie in one half alone, as with one image.
        oracle_ap: ranked by the true OKS: what no map can exceed.
        maps: number of maps that were fitted for each half.
        protocol: of the AP.
    """

    title: str
    keypoints: Reliability
    poses: Reliability
    ap: float
    mapped_ap: float
    oracle_ap: float
    maps: int
    protocol: str

    def summary(self) -> str:
        parts = []
        for one in (self.keypoints, self.poses):
            if np.isfinite(one.error):
                parts.append(
                    f"{one.what} scores are off by {one.error:.3f} on average (ECE of "
                    f"{counted(int(one.count.sum()), 'score')} in {counted(len(one.count), 'bin')}; "
                    f"{_of_chance(one.chance)})"
                )
            else:
                parts.append(
                    f"{one.what} scores reach from {one.lowest:.3g} to {one.highest:.3g}: no probabilities"
                )
        gain, most = self.mapped_ap - self.ap, self.oracle_ap - self.ap
        mapped = (
            "with the best monotone map of the keypoint scores, fitted on the other half of the images, "
            f"{self.mapped_ap:.3f} ({signed_text(gain)}), "
            if self.maps
            else "too few images to fit a map of the keypoint scores on others than its own, "
        )
        return (
            f"{self.title}: {'; '.join(parts)}. AP {self.ap:.3f}; {mapped}in the true order "
            f"{self.oracle_ap:.3f} ({signed_text(most)})."
        )

    def plot(self) -> Figure:
        """Reliability diagram: mean OKS over mean score, the diagonal is perfect."""
        from workbench.figures import QUIET_COLOUR, RUN_COLOURS, new_figure

        figure = new_figure(self.summary(), x="mean score of a bin", y="mean OKS, or its part (0 to 1)")
        top = max(1.0, self.keypoints.highest, self.poses.highest)
        diagonal = np.array([0, 1], np.float32)
        figure.add_scatter(
            x=diagonal, y=diagonal, name="perfect", line={"color": QUIET_COLOUR, "dash": "dot"}
        )
        for one, colour in zip((self.keypoints, self.poses), RUN_COLOURS, strict=False):
            figure.add_scatter(
                x=one.score.astype(np.float32), y=one.value.astype(np.float32), name=f"{one.what} scores",
                customdata=one.count.astype(np.float32), mode="lines+markers", line={"color": colour},
                hovertemplate="score %{x:.3f}: OKS %{y:.3f}, %{customdata:.0f} values<extra></extra>",
            )  # fmt: skip
        figure.update_xaxes(range=[min(0.0, self.keypoints.lowest, self.poses.lowest), top * 1.02])
        return figure.update_yaxes(range=[0, 1.02])

    def table(self) -> list[dict[str, Any]]:
        return [
            {"what": one.what, "score": float(s), "oks": float(v), "count": int(n)}
            for one in (self.keypoints, self.poses)
            for s, v, n in zip(one.score, one.value, one.count, strict=True)
        ]

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return plain(self.to_json())


def _of_chance(chance: float) -> str:
    if not np.isfinite(chance):
        return "too few scores to tell from chance"
    return f"calibrated scores as few as these would show {chance:.3f} by chance"


def calibration(title: str, predictions: Predictions, evaluation: Evaluation) -> Calibration | None:
    """How far the scores of predictions can be believed; None where nothing is to be found.

    Args:
        title: of the model.
        predictions: with scores of keypoints and poses.
        evaluation: of these predictions.
    """
    result = evaluation.ap
    if not np.isfinite(evaluation.figures["AP"]) or not len(predictions):
        return None
    rows, target = pairs_of(predictions, evaluation)
    truth = result.truth
    terms = np.full(predictions.scores.shape, np.nan)
    terms[rows] = keypoint_terms(
        predictions.keypoints[rows], truth.keypoints[target], truth.area[target], result.sigmas
    )
    oks = np.zeros(len(predictions))
    oks[rows] = oks_of_pairs(predictions.keypoints, truth, result.sigmas, rows, target)
    scores = np.nan_to_num(predictions.scores, nan=0.0)
    finite = np.isfinite(terms)
    mapped, maps = _mapped_scores(predictions, scores, terms)
    ranked = {
        name: _ap_of(evaluation, replace(predictions, score=score))
        for name, score in (("mapped", mapped), ("oracle", oks))
    }
    return Calibration(
        title,
        reliability("keypoint", scores[finite], terms[finite]),
        reliability("pose", predictions.score, oks),
        evaluation.figures["AP"],
        ranked["mapped"] if maps else float("nan"),
        ranked["oracle"],
        maps,
        evaluation.protocol.text(),
    )


def _ap_of(evaluation: Evaluation, predictions: Predictions) -> float:
    result = evaluation.ap
    found = replace(result.detections, score=predictions.score)
    return keypoint_ap(result.truth, found, result.sigmas.tolist(), result.max_dets).figures["AP"]


def pairs_of(
    predictions: Predictions, evaluation: Evaluation
) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " M"]]:
    """Poses and the annotations that they are compared with; each annotation once, crowds left out.

    Predictions from annotation boxes: each with its own. Others: pairs by falling OKS, one to one,
    whatever the scores say: scores are what is judged here.

    Args:
        predictions: that were evaluated.
        evaluation: of them.
    """
    truth = evaluation.ap.truth
    if predictions.annotation_id is not None:
        rows, target = own_annotations(predictions, truth)
        counted = ~truth.ignored[target]
        return rows[counted], target[counted]
    matches = evaluation.ap.matches
    order = np.argsort(-matches.pair_oks, kind="stable")
    free_pose, free_truth = np.ones(len(predictions), bool), ~truth.ignored
    rows, target = [], []
    for pair in order.tolist():
        if matches.pair_oks[pair] <= 0:
            break
        pose, one = int(matches.detection[matches.pair_detection[pair]]), int(matches.pair_truth[pair])
        if free_pose[pose] and free_truth[one]:
            free_pose[pose] = free_truth[one] = False
            rows.append(pose)
            target.append(one)
    return np.array(rows, int), np.array(target, int)


def reliability(what: str, score: Float[np.ndarray, " N"], value: Float[np.ndarray, " N"]) -> Reliability:
    """Scores in bins of equally many values; equal scores stay in one bin.

    Args:
        what: the scores are of.
        score: finite.
        value: what each should be, 0 to 1.
    """
    if not len(score):
        empty = np.zeros(0)
        return Reliability(what, empty, empty, np.zeros(0, int), np.nan, np.nan, np.nan, np.nan)
    edges = np.unique(np.quantile(score, np.linspace(0, 1, BINS + 1)))
    place = np.searchsorted(edges[1:-1], score, side="right")
    count = np.bincount(place, minlength=1)
    filled = count > 0
    mean_score = np.bincount(place, score)[filled] / count[filled]
    mean_value = np.bincount(place, value)[filled] / count[filled]
    low, high = float(score.min()), float(score.max())
    error = float((np.abs(mean_score - mean_value) * count[filled]).sum() / len(score))
    is_probability = low >= 0 and high <= 1
    # The mean of n values with scatter s is off by s sqrt(2 / (pi n)) on average (half-normal distribution).
    deviation = value - score
    mean = np.bincount(place, deviation)[filled] / count[filled]
    square = np.bincount(place, deviation**2)[filled] / count[filled] - mean**2
    enough = bool((count[filled] > 1).all())
    n = np.maximum(count[filled], 2)
    scatter = np.sqrt(np.maximum(square, 0) * n / (n - 1))
    chance = float((scatter * np.sqrt(2 / (np.pi * n)) * n).sum() / len(score)) if enough else np.nan
    return Reliability(
        what, mean_score, mean_value, count[filled], error if is_probability else np.nan, low, high, chance
    )


def isotonic(score: Float[np.ndarray, " N"], value: Float[np.ndarray, " N"]) -> tuple[np.ndarray, np.ndarray]:
    """The rising step function of score that is nearest to value in the mean square: its scores and values.

    Pool adjacent violators. Source: Barlow, Bartholomew, Bremner and Brunk, Statistical Inference under Order
    Restrictions (1972); equal to sklearn.isotonic.IsotonicRegression.

    Args:
        score: of the poses.
        value: of the poses, such as their OKS.

    Returns:
        [U] distinct scores, rising, and [U] the value of each.
    """
    places, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, value) / counts
    level: list[float] = []
    weight: list[float] = []
    size: list[int] = []
    for mean, count in zip(means.tolist(), counts.tolist(), strict=True):
        level.append(mean)
        weight.append(float(count))
        size.append(1)
        while len(level) > 1 and level[-2] >= level[-1]:
            total = weight[-2] + weight[-1]
            level[-2] = (level[-2] * weight[-2] + level[-1] * weight[-1]) / total
            weight[-2] = total
            size[-2] += size[-1]
            del level[-1], weight[-1], size[-1]
    return places, np.repeat(level, size)


def _mapped_scores(
    predictions: Predictions, scores: Float[np.ndarray, "N K"], terms: Float[np.ndarray, "N K"]
) -> tuple[Float[np.ndarray, " N"], int]:
    """Pose scores from mapped keypoint scores, fitted on the other half of the images; maps of a half.

    There is no map where one half has no labelled keypoint, as with one image.
    """
    _, place = np.unique(predictions.image_id, return_inverse=True)
    half = place % 2
    if not all(np.isfinite(terms[half == side]).any() for side in (0, 1)):
        return predictions.score, 0
    mapped, maps = np.zeros_like(scores), 0
    for side in (0, 1):
        own, other = half == side, half != side
        fitted = other[:, None] & np.isfinite(terms)
        shared = isotonic(scores[fitted], terms[fitted])
        count = 1
        for k in range(scores.shape[1]):
            column = fitted[:, k]
            curve = shared
            if column.sum() >= OWN_MAP:
                curve, count = isotonic(scores[column, k], terms[column, k]), count + 1
            mapped[own, k] = np.interp(scores[own, k], *curve)
        maps = max(maps, count)
    return mapped.mean(1), maps
