"""AP with its interval beside a finding, where the set is large enough for one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import PoseModel
from workbench.core.finding import Finding, Measurement
from workbench.evaluation.compare import paired_bootstrap
from workbench.evaluation.evaluate import evaluate
from workbench.evaluation.predict import predict

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.keypoint_ap import KeypointAP

ENOUGH = 100
"""Instances from which AP is worth its name: below, one instance moves it by a hundredth."""


def ap_of(pose_set: PoseSet, indices: Sequence[int]) -> Callable[[PoseModel], KeypointAP] | None:
    """What evaluates a model on some instances of a set; None where they are too few, or lack sigmas.

    Args:
        pose_set: with images.
        indices: of the instances that are probed.
    """
    areas = np.array([pose_set.instances[i].area for i in indices], float)
    if len(indices) < ENOUGH or not pose_set.skeleton.sigmas or not (areas > 0).all():
        return None

    def evaluated(model: PoseModel) -> KeypointAP:
        return evaluate(pose_set, predict(model, pose_set, indices=indices), indices=indices).ap

    return evaluated


def with_ap(finding: Finding, before: KeypointAP, after: KeypointAP, level: float, seed: int) -> Finding:
    """The finding with AP of both models and the interval of the difference.

    Args:
        finding: not changed.
        before: of the model as it was.
        after: with the finding mended.
        level: of the interval.
        seed: of the bootstrap.
    """
    change = paired_bootstrap(before, after, level=level, seed=seed)
    protocol = f"annotated boxes, no flip, {level:.0%} paired bootstrap over images"
    values = {
        "AP as opened": before.figures["AP"],
        "AP mended": after.figures["AP"],
        "AP gained": change.delta,
        "AP gained, lower end": change.low,
        "AP gained, upper end": change.high,
    }
    numbers = tuple(Measurement(name, float(v), protocol=protocol) for name, v in values.items())
    evidence = f"{finding.evidence}; AP {before.figures['AP']:.3f} and {after.figures['AP']:.3f} ({change})"
    return dataclasses.replace(finding, evidence=evidence, numbers=(*finding.numbers, *numbers))
