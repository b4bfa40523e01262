"""Which defects does the evidence name? One rule each; a rule that does not hold says nothing.

Source of the defects: a-kitaev/Equistera-Trainer@23117ce tools/ (text_fusion_neck.py,
simcc_diffusion_refiner.py, topdown_pose_estimator_v2.py), found by reading and by measuring. The rules read
what the capability Conditioned declares, so they hold for any conditioned network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.finding import Finding
from workbench.core.report import counted, plain
from workbench.inspectors.conditioning.film import DESTROYED, NOTHING, SAME, amount
from workbench.inspectors.conditioning.passes import FEATURES, OUTPUTS, apart_text
from workbench.inspectors.conditioning.paths import BOTH, TRAINING

if TYPE_CHECKING:
    from workbench.core.conditioning import Conditioning
    from workbench.inspectors.conditioning.evidence import ConditionEffect, ExchangedHalves, GradientGroups
    from workbench.inspectors.conditioning.film import Film, Layer
    from workbench.inspectors.conditioning.paths import Paths
    from workbench.inspectors.conditioning.refined_scores import RefinedScores

SKIPPED = "neck skipped in predict"
CONDITION_SKIPPED = "condition skipped in predict"
FLATTENED = "scores flattened by the refiner"
UNTRAINED = "untrained refiner"
MASKED = "refiner masked at inference"
ONE_VECTOR = "one vector for all"
CLIPPED = "γ clipped and dropped"
RANDOM = "random initialisation"
DELETED = "features destroyed"
SHUT = "gate stuck at 0"
DETACHED = "no gradient reaches the condition"
HALVES = "γ and β exchanged"
SATURATED = "γ saturated"
MISNAMED = "text of other keypoints"
CLASSES_EXCHANGED = "conditions of classes exchanged"
PARTED = "training and predict differ"
UNREAD = "text changes nothing"
IGNORED = "condition changes nothing"
EXCHANGED = "raw and averaged weights exchanged"
HEAD_BEHIND = "head moved too little"
# What costs most in the published code comes first, unless a data set shows otherwise.
ORDER = (
    SKIPPED, CONDITION_SKIPPED, PARTED, FLATTENED, UNTRAINED, EXCHANGED, MASKED, HALVES, RANDOM,
    DELETED, HEAD_BEHIND, SHUT, SATURATED, DETACHED, UNREAD, IGNORED, MISNAMED, CLASSES_EXCHANGED,
    ONE_VECTOR, CLIPPED,
)  # fmt: skip
# A gate that was learned from 0 is some hundredths at least.
CLOSED = 1e-4
# What refutes that a conditioned layer does harm.
WORTH_HAVING = "AP that falls when γ = 1 and β = 0 take its place (workbench ablate conditioning)"


def facts_of(finding: Finding) -> dict[str, Any]:
    """A finding under the names of the clinic's JSON.

    Args:
        finding: one of the clinic's; its effect is in AP.
    """
    effect = finding.effect
    return plain(
        {
            "name": finding.cause,
            "evidence": finding.evidence,
            "advice": finding.fix,
            "gives_back": None if effect is None else effect.delta,
            "low": None if effect is None else effect.low,
            "high": None if effect is None else effect.high,
            "assumption": finding.assumption or None,
        }
    )


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the rules read; None where the network has no such part.

    Attributes:
        record: what the model declares.
        paths: training against inference.
        film: γ and β.
        effect: of the condition, along both passes.
        scores: before and after the refiner.
        gradients: of the training loss.
        untouched: how the refiner's weights show that no update reached them; "" where they do not.
        refiner: path of the refiner in the network; "" without one.
        shared: every image of a batch gets one condition although they were given two.
        categories: how many categories the samples have.
        misnamed: keypoints of the text and of the skeleton that do not match, in words; "" where they do.
        halves: keypoints with γ and β exchanged; None where they are not declared.
    """

    record: Conditioning
    paths: Paths
    film: Film | None
    effect: ConditionEffect | None
    scores: RefinedScores | None
    gradients: GradientGroups | None
    untouched: str
    refiner: str
    shared: bool
    categories: int = 1
    misnamed: str = ""
    halves: ExchangedHalves | None = None


def findings(seen: Evidence) -> list[Finding]:
    """Every defect that the evidence names."""
    rules = (
        _skipped, _flattened, _untrained, _masked, _random, _deleted, _shut, _saturated, _detached, _halves,
        _misnamed, _one_vector, _clipped,
    )  # fmt: skip
    found = [finding for rule in rules if (finding := rule(seen)) is not None]
    causes = {finding.cause for finding in found}
    # Where nothing before the refiner differs, its own defect is why the passes do.
    explained = bool(causes & {UNTRAINED, MASKED}) and _parts_at_refiner(seen)
    if not causes & {SKIPPED, CONDITION_SKIPPED} and not explained and (parted := _parted(seen)) is not None:
        found.append(parted)
    # A closed gate, or one vector for all images, is why the condition changes nothing.
    if not causes & {SHUT, ONE_VECTOR} and (unread := _unread(seen)) is not None:
        found.append(unread)
    return found


def _skipped(seen: Evidence) -> Finding | None:
    """The condition is applied in training and not at inference."""
    record, paths, effect = seen.record, seen.paths, seen.effect
    taps = [t for t in (*record.condition, record.film, record.part) if t and paths.skipped(t)]
    silent = effect is not None and effect.changes("training") and not effect.changes("predict")
    # Of the part alone it is not known whether it reads the condition: the effect has to show it.
    reads = any(tap != record.part or tap == record.film for tap in taps)
    if not silent and not reads and (not taps or (effect is not None and not effect.changes("training"))):
        return None
    alone = sum(where == TRAINING for where in paths.reached)
    inside = next(
        (
            name
            for name, where in zip(paths.names, paths.reached, strict=True)
            if where == TRAINING and taps and (name == taps[0] or name.startswith(f"{taps[0]}."))
        ),
        "",
    )
    where = (
        f"on the same input training reaches {inside}, inference does not; {alone} taps are reached in "
        f"training only; the first tap that differs is {paths.first_difference}"
        if inside
        else _parting(paths)
    )
    effects = f"; {effect.summary()}" if effect is not None else ""
    return Finding(
        SKIPPED if record.noun == "text" else CONDITION_SKIPPED,
        f"{where}, and {apart_text(paths.moved)}{effects}",
        record.fix_skipped,
        assumption=record.assumption,
        refuted_by="a predict pass that changes when the condition is taken away",
    )


def _parted(seen: Evidence) -> Finding | None:
    """The passes differ in what the head is given or in what the network gives."""
    paths = seen.paths
    ends = [i for i, name in enumerate(paths.names) if name in (FEATURES, OUTPUTS)]
    if not any(paths.reached[i] != BOTH or paths.differences[i] > 0 for i in ends):
        return None
    return Finding(
        PARTED,
        f"measured on your code: {_parting(paths)}; {apart_text(paths.moved)}",
        "look at what your code does there only in training, or only in predict",
        refuted_by="two passes over one batch that agree at every tap",
    )


def _parts_at_refiner(seen: Evidence) -> bool:
    """Whether the first tap that differs between the passes is the refiner's."""
    first, refiner = seen.paths.first_difference, seen.record.refiner
    if first is None or refiner is None:
        return False
    own = (seen.refiner, refiner.layers, *refiner.refined)
    return any(first == name or first.startswith(f"{name}.") for name in own)


def _parting(paths: Paths) -> str:
    first = paths.first
    if first is None:
        return "no tap differs between the passes"
    where = paths.reached[first]
    how = f"reached in {where}" if where != BOTH else amount(paths.differences[first])
    return f"on the same input the first tap that differs between the passes is {paths.names[first]} ({how})"


def _at_start(seen: Evidence) -> str:
    """That a network which starts at the identity looks the same before its first step."""
    film = seen.film
    same = film is not None and film.layers[0].change == 0
    return "; a network that starts so looks the same before its first step" if same else ""


def _unread(seen: Evidence) -> Finding | None:
    effect = seen.effect
    if effect is None or any(effect.changes(way) for way in ("training", "predict")):
        return None
    text = seen.record.noun == "text"
    return Finding(
        UNREAD if text else IGNORED,
        f"measured: {effect.change} changes neither features nor outputs, in training or in predict"
        f"{_at_start(seen)}",
        "look for a gate at 0, or for weights that stay at their start"
        + (
            "; or for the name under which your code reads the text: data samples hold it as global_text "
            "and local_text"
            if text
            else ""
        ),
        refuted_by="another condition, a random one, that changes features or outputs",
    )


def _flattened(seen: Evidence) -> Finding | None:
    scores = seen.scores
    if scores is None or not scores.at_inference or not scores.flattens:
        return None
    name = scores.skeleton.keypoints[scores.doubted]
    evidence = (
        f"peaks of 1 leave the refiner as {scores.all_sure:.3g}, whether or not a keypoint is uncertain"
        if scores.flattens_always
        else f"with {name} alone below {scores.threshold:g} the scores of all others fall from "
        f"{scores.all_sure:.3g} to {scores.one_doubted:.3g}; {100 * scores.uncertain.mean():.0f} % of the "
        "keypoints are below it"
    )
    return Finding(
        FLATTENED,
        evidence,
        "switch the refiner's normalisation off (softmax='none'), or rank poses by the raw scores",
        refuted_by="scores of the other keypoints that stay as they are when one is uncertain",
    )


def _untrained(seen: Evidence) -> Finding | None:
    scores = seen.scores
    if scores is None or not scores.at_inference or not seen.untouched:
        return None
    evidence = seen.untouched
    if seen.gradients is not None and not seen.gradients.reaches(seen.refiner):
        evidence += ", no gradient of the training loss reaches it"
    touched = scores.moved[(scores.uncertain > 0) & np.isfinite(scores.moved)]
    return Finding(
        UNTRAINED,
        f"{evidence}, yet inference passes {100 * scores.uncertain.mean():.0f} % of the keypoints through it "
        f"and moves them by {100 * (float(np.median(touched)) if touched.size else 0.0):.1f} % of the box "
        "(median)",
        "leave it out of inference (use_refiner_in_predict=False), or train it "
        "(use_refiner_in_training=True)",
        refuted_by="another epoch of the run in which the refiner's weights differ from these",
    )


def _masked(seen: Evidence) -> Finding | None:
    scores = seen.scores
    if scores is None or not scores.at_inference:
        return None
    taught, used = scores.touched
    # A tenth: below it a median keypoint is treated the same in both passes.
    if taught - used < 0.1:
        return None
    return Finding(
        MASKED,
        f"training passes {100 * taught:.0f} % of the keypoints through the refiner, inference "
        f"{100 * used:.0f} %: the others leave as raw vectors that no loss has seen, and "
        f"{apart_text(seen.paths.moved)}",
        "refine the same keypoints at inference as in training (mask='all')",
        refuted_by="keypoints of the two passes that stay as far apart with mask='all'",
    )


def _harmless(seen: Evidence) -> bool:
    """Whether the conditioned layer does no harm whatever its scales: the layers behind it learned them."""
    return seen.effect is not None and seen.effect.harmless


def _random(seen: Evidence) -> Finding | None:
    layers = seen.film.text if seen.film is not None else None
    if seen.film is None or layers is None or not layers.starts_by_deleting or _harmless(seen):
        return None
    layer = seen.film.layers[0]
    return Finding(
        RANDOM,
        f"the weights between the {seen.record.noun} and γ look as torch starts them (std "
        f"{layers.weight_std:.4f}, torch starts with {layers.default_std:.4f}; {100 * layers.rank:.0f} % of "
        f"their directions are in use), so γ is {layers.scale:.3f} where 1 would leave the features "
        f"unchanged: they keep {layer.rank_after:.1f} of {layer.rank_before:.1f} directions and change by "
        f"{100 * layer.change:.0f} %",
        "start at the identity (init='identity'), or learn the departure from 1 (gamma_baseline=1)",
        refuted_by=WORTH_HAVING,
    )


def _deleted(seen: Evidence) -> Finding | None:
    layer = seen.film.layers[0] if seen.film is not None else None
    if seen.film is None or layer is None or layer.verdict != DESTROYED or _random(seen) is not None:
        return None
    if _harmless(seen):
        return None
    return Finding(
        DELETED,
        f"after {layer.name} the features keep {layer.rank_after:.1f} of {layer.rank_before:.1f} directions"
        f", {100 * np.nan_to_num(layer.deleted):.0f} % of the channels are scaled below .1",
        "let the features pass beside the conditioned part (gate='learned'), or take the part away",
        refuted_by=WORTH_HAVING,
    )


def _shut(seen: Evidence) -> Finding | None:
    layer = seen.film.layers[0] if seen.film is not None else None
    if layer is None:
        return None
    away = float(np.abs(layer.gamma - 1).mean()) if layer.gamma.size else 0.0
    # nan: no gate is known. Then scales away from 1 that change nothing show that one is closed.
    if abs(layer.gate) < CLOSED:
        reason = f"the gate of {layer.name} is {layer.gate:.2g}"
    elif np.isnan(layer.gate) and away > NOTHING and layer.change < CLOSED * away:
        reason = (
            f"γ of {layer.name} lies {away:.2g} away from 1, and the features change {amount(layer.change)}: "
            "a gate behind it is closed"
        )
    else:
        return None
    return Finding(
        SHUT,
        f"{reason}: the features leave unchanged whatever the "
        f"{seen.record.noun} is, and {'hardly any' if layer.change else 'no'} gradient comes through "
        f"it to the layers before{_at_start(seen)}",
        "start the gate above 0, give it a learning rate, or look for what holds it at 0 (weight decay, "
        "lr_mult, a frozen parameter)",
        refuted_by="another epoch of the run in which the gate is open",
    )


def _saturated(seen: Evidence) -> Finding | None:
    """An activation behind the layer's scales gives the same for every image."""
    layer = seen.film.layers[0] if seen.film is not None else None
    if layer is None or not layer.saturated or seen.categories < 2:
        return None
    return Finding(
        SATURATED,
        f"measured at the features behind {layer.name}: {layer.departs}, and {layer.saturated}",
        "start the layer where the activation is steep (a smaller bias and weights), or leave the activation "
        "away",
        refuted_by="two images that are multiplied by different scales",
    )


def _detached(seen: Evidence) -> Finding | None:
    """The condition changes what training gives, and its layers do not learn from the loss."""
    gradients, effect = seen.gradients, seen.effect
    if gradients is None or effect is None or not gradients.silent or _saturated(seen) is not None:
        return None
    # Of layers that change nothing (weights at 0, a closed gate, dead units) the gradient is 0 by itself.
    if not effect.read or not effect.changes("training"):
        return None
    layers = ", ".join(gradients.silent)
    return Finding(
        DETACHED,
        f"the gradient of the training loss at {layers} is exactly 0, yet {effect.change} changes what the "
        "training pass gives: these layers learn nothing from this loss",
        f"look between {layers} and the features for detach(), no_grad(), .data, or an activation that is "
        "saturated",
        refuted_by="a gradient of the training loss at these layers that is not 0",
    )


def _halves(seen: Evidence) -> Finding | None:
    """Keypoints come nearer to their labels when the halves of the layer's output are exchanged."""
    near = seen.halves
    if near is None or not near.better:
        return None
    return Finding(
        HALVES,
        f"with the two halves of what {near.layer} outputs exchanged, keypoints lie "
        f"{100 * near.exchanged:.2g} % of the box from their labels, as it is {100 * near.own:.2g} % "
        f"(medians of {counted(near.images, 'image')})",
        "take γ and β from this layer in the order in which its weights were trained",
        refuted_by="keypoints that lie no nearer to their labels with the halves exchanged",
    )


def _misnamed(seen: Evidence) -> Finding | None:
    if not seen.misnamed:
        return None
    return Finding(
        MISNAMED,
        seen.misnamed,
        "write the vectors in the order of the skeleton's keypoints, with their names",
        refuted_by="a list of names in the order of the vectors that agrees with the skeleton",
    )


def _one_vector(seen: Evidence) -> Finding | None:
    film, record, effect = seen.film, seen.record, seen.effect
    if effect is not None and not effect.read and (effect.changes("training") or effect.changes("predict")):
        return Finding(
            ONE_VECTOR,
            f"a random {record.noun} in place of yours changes neither features nor outputs, and "
            f"{effect.change} does: your code applies the part and reads nothing of the {record.noun}",
            f"look at which {record.noun} your code gives to this part, and under which name it reads it",
        )
    # Attention reads the keypoints' sentences, which are the same for every image by design.
    if film is None or not film.layers[0].gamma.size:
        return None
    layer = film.layers[0]
    several = film.images > 1 and seen.categories > 1
    if seen.shared:
        reason = f"every image gets the {record.noun} of the batch's first"
        advice = f"give each image its own {record.noun} (text_from='each')"
    elif len(film.subjects) == 1:
        reason = f"the {record.noun} knows one subject ({film.subjects[0]})"
        advice = "describe what differs between images, or take the neck away: the next layer can learn this"
    elif (
        several
        and film.at_inference
        and layer.across_images < SAME
        and _same_shifts(layer)
        and layer.change > 0
    ):
        reason = (
            f"γ at {layer.name} is the same for {counted(film.images, 'image')} of "
            f"{counted(seen.categories, 'category', 'categories')}"
        )
        advice = (
            f"look at whether each image's own {record.noun} reaches this layer and whether its weights are "
            "trained, or take the conditioned part away"
        )
    else:
        return None
    spread = 0.0 if not np.isfinite(layer.across_images) else layer.across_images
    return Finding(
        ONE_VECTOR,
        f"{reason}: γ varies by {spread:.2g} over images and by {layer.across_channels:.2g} over channels, "
        "so conditioning carries nothing about the image",
        advice,
        refuted_by="two images for which γ differs",
    )


def _same_shifts(layer: Layer) -> bool:
    """Whether β is the same for every image: a condition may be added alone."""
    return float(layer.beta.astype(float).std(0).mean()) < SAME


def _clipped(seen: Evidence) -> Finding | None:
    film = seen.film
    if film is None:
        return None
    layers, layer = film.text, film.layers[0]
    if not film.clips:
        return None
    if layers is not None and layers.clips:
        zeros = layers.scales_at_zero, layers.shifts_at_zero
    else:
        zeros = float((layer.gamma == 0).mean()), float((layer.beta == 0).mean())
    dropped = 0.0 if layers is None else layers.dropped
    return Finding(
        CLIPPED,
        f"the layer that outputs γ and β clips them at 0: {100 * zeros[0]:.0f} % of γ and "
        f"{100 * zeros[1]:.0f} % of β are exactly 0 and get no gradient"
        + (f", and training sets {100 * dropped:.0f} % of them to 0 at random (dropout)" if dropped else ""),
        "end the layers with the linear one (mlp='linear' or 'linear-relu-linear')",
        refuted_by="a γ or β below 0 on any image",
    )
