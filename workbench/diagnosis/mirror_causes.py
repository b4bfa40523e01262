"""Pairs of left and right keypoints that contradict the names of the keypoints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from workbench.core import NotAvailable, Skeleton
from workbench.core.finding import Measurement
from workbench.core.report import counted
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut
from workbench.diagnosis.label_causes import plain_name
from workbench.skeletons import SKELETONS, mirror_by_names

# ultralytics calls COCO's people so in a yaml without names of keypoints.
PERSON = {"person"}


class MirrorPairs(Cause):
    """Pairs of the skeleton that its own names contradict."""

    name, group, needs = "mirror pairs contradict the names", "labels", ("model, data, or the set's yaml",)
    refuted_by = "names that do not mean sides"

    def test(self, case: Case) -> Answer:
        skeletons: list[tuple[str, Skeleton]] = []
        for what, asked in (
            ("the model", lambda: case.model().skeleton),
            ("the data set", lambda: case.pose_set().skeleton),
            ("the yaml of the data set", lambda: skeleton_of_yaml(case.config())),
        ):
            try:
                skeletons.append((what, asked()))
            except NotAvailable:
                continue
        if not skeletons:
            raise NotAvailable("no model, no data set, and no yaml of one with flip_idx")
        wrong = [(what, s, bad) for what, s in skeletons if (bad := _wrong_pairs(s))]
        if wrong and len(skeletons) > 1 and _names_alone(skeletons[0][1], skeletons[1][1]):
            return RuledOut(
                "the pairs of the model are those of the data set, whose names agree with them: it is the "
                "model's names that stand in another order"
            )
        if not any(s.mirror for _, s in skeletons):
            raise NotAvailable("neither the model nor the data set states mirror pairs")
        if not wrong:
            return RuledOut("every left keypoint mirrors to the right one of the same name")
        what, skeleton, bad = wrong[0]
        k, partner, named = bad[0]
        return self.found(
            f"in {what} {counted(len(bad), 'keypoint mirrors', 'keypoints mirror')} to another than their "
            f"names say: {skeleton.keypoints[k]} to {skeleton.keypoints[partner]}, not "
            f"{skeleton.keypoints[named]}",
            fix="correct the swap entries of the metainfo, or flip_idx of a yaml; flip test and flip "
            f"augmentation use them: {list(mirror_by_names(skeleton.keypoints))}",
            numbers=(Measurement("keypoints with a wrong partner", len(bad), expected=0),),
        )


def _names_alone(model: Skeleton, of_set: Skeleton) -> bool:
    """Whether the model has the pairs of the data set, and the same names in another order."""
    own, right = (
        [plain_name(name) for name in model.keypoints],
        [plain_name(name) for name in of_set.keypoints],
    )
    same_pairs = list(model.mirror) == list(of_set.mirror) and not _wrong_pairs(of_set)
    return same_pairs and own != right and sorted(own) == sorted(right)


def _wrong_pairs(skeleton: Skeleton) -> list[tuple[int, int, int]]:
    """Keypoint, its partner, and the partner that the names say; where names tell a side."""
    if not skeleton.mirror:
        return []
    named = _partners_by_names(skeleton)
    stated = skeleton.mirror
    # A name that tells no side contradicts no partner that tells none: eye_1 and eye_2 may be a pair.
    return [
        (k, stated[k], named[k])
        for k in range(len(skeleton))
        if stated[k] != named[k] and (named[k] != k or named[stated[k]] != stated[k])
    ]


def _partners_by_names(skeleton: Skeleton) -> list[int]:
    """For each keypoint its partner by its name; itself where the name tells no side."""
    names, found = [plain_name(name) for name in skeleton.keypoints], []
    for k, partner in enumerate(mirror_by_names(skeleton.keypoints)):
        # The side may stand without a gap: leftear.
        turned = re.sub(r"(left|right)", lambda m: {"left": "right", "right": "left"}[m[1]], names[k])
        found.append(names.index(turned) if partner == k and turned in names else partner)
    return found


def skeleton_of_yaml(config: Mapping[str, Any]) -> Skeleton:
    """Names and pairs of a data set's yaml, as ultralytics reads it: ``flip_idx`` and ``kpt_names``.

    Without names, 17 keypoints of the one class ``person`` are COCO's.

    Args:
        config: the content of the yaml.

    Raises:
        NotAvailable: it states no pairs, or nothing tells what the keypoints are.
    """
    flips = config.get("flip_idx")
    if not isinstance(flips, (list, tuple)) or sorted(map(str, flips)) != sorted(map(str, range(len(flips)))):
        raise NotAvailable("the config states no flip_idx with every keypoint once")
    names = config.get("kpt_names")
    if isinstance(names, Mapping):
        names = next(iter(names.values()), None)
    classes = config.get("names")
    classes = list(classes.values()) if isinstance(classes, Mapping) else classes
    coco = SKELETONS["coco-17"].keypoints
    if names is None and isinstance(classes, list) and set(map(str, classes)) == PERSON:
        names = coco if len(flips) == len(coco) else None
    if (
        not isinstance(names, (list, tuple))
        or len(names) != len(flips)
        or len(set(map(str, names))) != len(names)
    ):
        raise NotAvailable("the yaml of the data set names no keypoints beside flip_idx")
    return Skeleton("yaml", tuple(map(str, names)), (), tuple(map(int, flips)))


CAUSES: tuple[Cause, ...] = (MirrorPairs(),)
