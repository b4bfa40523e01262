"""Sweep over frequent errors of a bottom-up pipeline, and over those of single keypoints' maps.

Where several errors are suspected, each is undone on top of the one that costs most: what gives nothing back
then is explained by that one. Mistakes of a flip test that the reference does not use wait until no other one
is suspected.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from workbench.evaluation.ablation.faults import fault_variants
from workbench.evaluation.ablation.keypoint_maps import KeypointMaps
from workbench.evaluation.ablation.sweep import Ablation, Outcome, sweep
from workbench.evaluation.ablation.variants import Variant

if TYPE_CHECKING:
    from workbench.core import Outputs
    from workbench.core.capabilities import BottomUpModel
    from workbench.data.pose_set import PoseSet

VariantsOf = Callable[["Outputs"], Sequence[Variant]]


def fault_sweep(
    model: BottomUpModel,
    pose_set: PoseSet,
    *,
    image_ids: Iterable[int] | None = None,
    reference_flips: bool = False,
    **asked: Any,
) -> Ablation:
    """Errors undone one by one; those that another one explains are not suspected.

    The images are looked at once more where the maps of single keypoints are not their own, and once more
    where several errors are suspected.

    Args:
        model: bottom-up; its own rules are the reference.
        pose_set: annotated images.
        image_ids: of the set; all by default.
        reference_flips: the mirrored pass counts in the reference.
        asked: as for `sweep`.
    """
    ids = list(pose_set.images if image_ids is None else image_ids)
    maps = KeypointMaps(model, pose_set)

    def frequent(outputs: Outputs) -> list[Variant]:
        return fault_variants(model, outputs, reference_flips)

    def of_keypoints(outputs: Outputs) -> list[Variant]:
        own = frequent(outputs)[0]
        return [own, *maps.variants(own)]

    def again(variants: VariantsOf) -> Ablation:
        return sweep(model, pose_set, variants, image_ids=ids, **asked)

    report = sweep(model, pose_set, frequent, image_ids=ids, seen=maps.add, **asked)
    if maps.is_another():
        more = again(of_keypoints)
        report = joined(report, more, more.variants)
    own = [suspect for suspect in report.suspects if not suspect.is_aside]
    if own:
        # Beside a mistake that costs AP the flip test cannot be judged.
        aside = frozenset(suspect.fault for suspect in report.suspects if suspect.is_aside)
        report = dataclasses.replace(report, explained=aside - {suspect.fault for suspect in own})
    of_first = on_top_of_first(report, lambda outputs: [*frequent(outputs), *of_keypoints(outputs)[1:]])
    if of_first is None:
        return report
    beside = again(of_first)
    explained = report.explained | explained_by_first(report, beside)
    return dataclasses.replace(joined(report, beside), explained=explained)


def joined(report: Ablation, more: Ablation, variants: Sequence[Outcome] = ()) -> Ablation:
    """The report with variants of another sweep over the same images, and with what that one cost.

    Args:
        report: of a sweep.
        more: of another one with the same reference.
        variants: of the other one that the report takes over.
    """
    return dataclasses.replace(
        report,
        variants=(*report.variants, *variants),
        forward_passes=report.forward_passes + more.forward_passes,
        network_calls=report.network_calls + more.network_calls,
    )


def on_top_of_first(report: Ablation, every: VariantsOf) -> VariantsOf | None:
    """Variants that undo each suspected error on top of the one that costs most; None for fewer than two.

    Args:
        report: of a sweep over errors.
        every: all variants of that sweep.
    """
    suspects = [suspect for suspect in report.suspects if not suspect.is_aside]
    if len(suspects) < 2:
        return None

    def variants(outputs: Outputs) -> list[Variant]:
        by_name = {one.name: one for one in every(outputs)}
        own, best = by_name[report.reference.name], by_name[suspects[0].undone_by]
        both = [on_top(own, best, by_name[one.undone_by]) for one in suspects[1:]]
        return [own, best, *(one for one in both if one is not None)]

    return variants


def explained_by_first(report: Ablation, beside: Ablation) -> frozenset[str]:
    """Suspected errors whose undoing gives nothing back once the one that costs most is undone.

    Args:
        report: of a sweep over errors.
        beside: of a sweep over the variants of `on_top_of_first`.
    """
    first, *others = [suspect.fault for suspect in report.suspects if not suspect.is_aside]
    left = {suspect.fault for suspect in beside.suspects}
    return frozenset(others) - left - {first}


def on_top(own: Variant, first: Variant, second: Variant) -> Variant | None:
    """The second variant on top of the first one; None where both change the same rule.

    Args:
        own: the model's rules, which both change.
        first: with which the other is compared then.
        second: the other one.
    """
    made: dict[str, Any] = {}
    for name in ("aggregation", "grouping"):
        rules = _both(*(vars(vars(variant)[name]) for variant in (own, first, second)))
        if rules is None:
            return None
        made[name] = dataclasses.replace(vars(own)[name], **rules)
    for name in ("tags", "people", "look", "outputs"):
        before, one, two = (vars(variant)[name] for variant in (own, first, second))
        if one == before:
            continue
        if two == before:
            made[name] = one
        elif name == "people" and type(one) is not type(two):
            made[name] = lambda people, stride, to_image, a=one, b=two: b(
                a(people, stride, to_image), stride, to_image
            )
        elif name == "outputs":
            made[name] = lambda outputs, width, a=one, b=two: b(a(outputs, width), width)
        else:
            return None
    name = f"{first.name}, {second.name}"
    return dataclasses.replace(second, name=name, **made).undoing(second.undoes, first.name, second.counts)


def _both(own: dict[str, Any], first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any] | None:
    """What two changes of one record leave of it; None where both change one field."""
    changes = [{name for name in own if given[name] != own[name]} for given in (first, second)]
    if changes[0] & changes[1]:
        return None
    return {name: (first if name in changes[0] else second)[name] for name in own}
