"""Which defects does the evidence name? One rule each; a rule that does not hold says nothing.

Source of the defects: a-kitaev/Equistera-Trainer@23117ce tools/ (text_fusion_neck.py,
simcc_diffusion_refiner.py, topdown_pose_estimator_v2.py), found by reading and by measuring.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import plain
from workbench.inspectors.conditioning.film import DESTROYED

if TYPE_CHECKING:
    from workbench.evaluation import Interval
    from workbench.inspectors.conditioning.evidence import GradientGroups
    from workbench.inspectors.conditioning.film import Film
    from workbench.inspectors.conditioning.paths import Paths
    from workbench.inspectors.conditioning.refined_scores import RefinedScores

SKIPPED = "neck skipped in predict"
FLATTENED = "scores flattened by the refiner"
UNTRAINED = "untrained refiner"
MASKED = "refiner masked at inference"
ONE_VECTOR = "one vector for all"
CLIPPED = "γ clipped and dropped"
RANDOM = "random initialisation"
DELETED = "features destroyed"
SHUT = "gate stuck at 0"
MISNAMED = "text of other keypoints"
PARTED = "training and predict differ"
UNREAD = "text changes nothing"
EXCHANGED = "raw and averaged weights exchanged"
HEAD_BEHIND = "head moved too little"
# What costs most in the published code comes first, until a data set says otherwise.
ORDER = (
    SKIPPED, PARTED, FLATTENED, UNTRAINED, EXCHANGED, MASKED, RANDOM, DELETED, HEAD_BEHIND, SHUT, UNREAD,
    MISNAMED, ONE_VECTOR, CLIPPED,
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One defect.

    Attributes:
        name: of the defect.
        evidence: the numbers that name it, one sentence.
        advice: what to do, one sentence.
        gives_back: AP that taking the part away gives on the data set; None where nobody measured it.
        assumption: what it rests on that was not looked at: it is so only if this holds; "" nothing.
    """

    name: str
    evidence: str
    advice: str
    gives_back: Interval | None = None
    assumption: str = ""

    def facts(self) -> dict[str, Any]:
        """As the command line tells it."""
        interval = self.gives_back
        return plain(
            {
                "name": self.name,
                "evidence": self.evidence,
                "advice": self.advice,
                "gives_back": None if interval is None else interval.delta,
                "low": None if interval is None else interval.low,
                "high": None if interval is None else interval.high,
                "assumption": self.assumption or None,
            }
        )


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the rules read; None where the network has no such part.

    Attributes:
        paths: training against inference.
        film: of the neck.
        scores: before and behind the refiner.
        gradients: of training's loss.
        untouched: the refiner's normalisation layers hold exactly what they start with.
        shared: every image of a batch gets the same subject's vector although they were given two.
        assumption: what is taken for granted about the way of `predict`; "" where the config says it.
        named: keypoints of the text and of the skeleton that do not match, in words; "" where they do.
    """

    paths: Paths
    film: Film | None
    scores: RefinedScores | None
    gradients: GradientGroups | None
    untouched: bool
    shared: bool
    assumption: str = ""
    named: str = ""


def findings(seen: Evidence) -> list[Finding]:
    """Every defect that the evidence names."""
    rules = (
        _skipped, _flattened, _untrained, _masked, _random, _deleted, _shut, _misnamed, _one_vector, _clipped
    )  # fmt: skip
    return [finding for rule in rules if (finding := rule(seen)) is not None]


def _skipped(seen: Evidence) -> Finding | None:
    film, paths = seen.film, seen.paths
    if film is None or film.at_inference or not paths.skipped("film"):
        return None
    alone = sum(where == "training only" for where in paths.reached)
    return Finding(
        SKIPPED,
        f"on the same input the ways part at {paths.first_difference}; {alone} taps are passed in training "
        f"alone, the neck's own among them, and keypoints end {100 * paths.moved:.1f} % of the box apart",
        "hand the data samples (their text) to extract_feat in predict too: fuse_in_predict=True",
        assumption=seen.assumption and "your predict is the published one",
    )


def _flattened(seen: Evidence) -> Finding | None:
    scores = seen.scores
    if scores is None or not scores.at_inference or not scores.flattens:
        return None
    name = scores.skeleton.keypoints[scores.doubted]
    told = (
        f"scores of 1 leave the refiner as {scores.all_sure:.3g}, whether a keypoint is uncertain or none"
        if scores.flattens_always
        else f"with {name} alone below {scores.threshold:g} the scores of all others fall from "
        f"{scores.all_sure:.3g} to {scores.one_doubted:.3g}; {100 * scores.uncertain.mean():.0f} % of the "
        "keypoints are below it"
    )
    return Finding(
        FLATTENED,
        told,
        "normalise nobody (softmax='none'), or rank poses by the raw scores",
    )


def _untrained(seen: Evidence) -> Finding | None:
    scores = seen.scores
    if scores is None or not scores.at_inference or not seen.untouched:
        return None
    told = "its normalisation layers hold exactly the ones and zeros that they start with"
    if seen.gradients is not None and not seen.gradients.reaches("head.refiner"):
        told += ", no gradient of training's loss reaches it"
    return Finding(
        UNTRAINED,
        f"{told}, yet inference passes {100 * scores.uncertain.mean():.0f} % of the keypoints through it and "
        f"moves them by {100 * _moved(scores):.1f} % of the box (median)",
        "leave it out of inference (use_refiner_in_predict=False), or train it "
        "(use_refiner_in_training=True)",
    )


def _masked(seen: Evidence) -> Finding | None:
    scores = seen.scores
    if scores is None or not scores.at_inference:
        return None
    taught, used = scores.touched
    # A tenth: below it a median keypoint goes the same way.
    if taught - used < 0.1:
        return None
    return Finding(
        MASKED,
        f"training passes {100 * taught:.0f} % of the keypoints through the refiner, inference "
        f"{100 * used:.0f} %: the others leave as raw vectors that no loss has seen, and keypoints end "
        f"{100 * seen.paths.moved:.1f} % of the box apart",
        "refine at inference whom training refines (mask='all')",
    )


def _moved(scores: RefinedScores) -> float:
    touched = scores.moved[scores.uncertain > 0]
    return float(np.median(touched)) if touched.size else 0.0


def _random(seen: Evidence) -> Finding | None:
    text = seen.film.text if seen.film is not None else None
    if seen.film is None or text is None or not text.starts_by_deleting:
        return None
    layer = seen.film.layers[0]
    return Finding(
        RANDOM,
        f"the text layer's weights look as they were drawn (std {text.weight_std:.4f}, torch starts with "
        f"{text.default_std:.4f}; {100 * text.rank:.0f} % of their directions in use), so γ is "
        f"{text.scale:.3f} where 1 would leave the features alone: they keep {layer.rank_after:.1f} of "
        f"{layer.rank_before:.1f} directions and change by {100 * layer.change:.0f} %",
        "start at the identity (init='identity'), or learn the departure from 1 (gamma_baseline=1)",
    )


def _deleted(seen: Evidence) -> Finding | None:
    layer = seen.film.layers[0] if seen.film is not None else None
    if seen.film is None or layer is None or layer.verdict != DESTROYED or _random(seen) is not None:
        return None
    return Finding(
        DELETED,
        f"behind {layer.name} the features keep {layer.rank_after:.1f} of {layer.rank_before:.1f} directions"
        f", {100 * np.nan_to_num(layer.deleted):.0f} % of the channels are scaled below .1",
        "let the features pass beside the neck (gate='learned'), or take the neck away",
    )


# A gate that was learned from 0 is some hundredths at least.
CLOSED = 1e-4


def _shut(seen: Evidence) -> Finding | None:
    layer = seen.film.layers[0] if seen.film is not None else None
    if layer is None or abs(layer.gate) >= CLOSED:
        return None
    return Finding(
        SHUT,
        f"the gate of {layer.name} is {layer.gate:.2g}: the features leave as they entered, whatever the "
        "text says, and the layers before the gate get no gradient through it",
        "start the gate above 0, give it a learning rate, or look for what holds it at 0 (weight decay, "
        "lr_mult, a frozen parameter)",
    )


def _misnamed(seen: Evidence) -> Finding | None:
    if not seen.named:
        return None
    return Finding(
        MISNAMED,
        seen.named,
        "write the vectors in the order of the skeleton's keypoints, with their names",
    )


def _one_vector(seen: Evidence) -> Finding | None:
    film = seen.film
    # Attention reads the keypoints' sentences, which are the same for every image by design.
    if film is None or not film.layers[0].gamma.size:
        return None
    layer = film.layers[0]
    if seen.shared:
        why = "the neck gives every image the text of the batch's first"
        advice = "give each image its own (text_from='each')"
    elif len(film.subjects) == 1:
        why = f"the text knows one subject ({film.subjects[0]})"
        advice = "describe what differs between images, or take the neck away: the next layer can learn this"
    else:
        return None
    spread = 0.0 if not np.isfinite(layer.across_images) else layer.across_images
    return Finding(
        ONE_VECTOR,
        f"{why}: γ varies by {spread:.2g} over images and by {layer.across_channels:.2g} over channels, so "
        "conditioning carries nothing about the image",
        advice,
    )


def _clipped(seen: Evidence) -> Finding | None:
    text = seen.film.text if seen.film is not None else None
    if text is None or not text.clips:
        return None
    return Finding(
        CLIPPED,
        f"the layers end in one that lets nothing negative through: {100 * text.scales_at_zero:.0f} % of γ "
        f"and {100 * text.shifts_at_zero:.0f} % of β are exactly 0 and get no gradient"
        + (f", and training drops {100 * text.dropped:.0f} % of them at random" if text.dropped else ""),
        "end the layers with the linear one (mlp='linear' or 'linear-relu-linear')",
    )
