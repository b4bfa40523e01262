"""Lint of visibility: placeholders that are called labelled, and conventions other than COCO's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.finding import Finding
from workbench.core.report import counted
from workbench.data.lints import Located, located_at, usual, within_a_pixel

if TYPE_CHECKING:
    from workbench.data.pose_set import Instance, PoseSet

# Where both coordinates have this value, nothing was labelled: COCO's 0, and the -1 of converters.
_PLACEHOLDERS = (0, -1)
# Nobody labels so many keypoints of which none is seen, but for one instance in some hundred.
_RICH, _LEAST_HIDDEN, _SOME_HIDDEN = 6, 3, 0.05
# No keypoint lies in the middle of its box by itself: so near (pixels), in such a share of all.
_ROUNDED, _MIDDLE = 0.75, 0.01
# In boxes below this area (square pixels) keypoints lie so near to the middle by chance.
_SMALL_BOX = 2500.0
# Where hidden keypoints alone were kept, no keypoint is labelled in more of the instances than this, and in
# the middle instance at most this share of them; where nothing was dropped, both are above .8.
_SELDOM, _FEW = 0.65, 0.45
# So many instances, and names of keypoints, at exactly one place are no chance.
_PLACES, _NAMES = 3, 3
# As many keypoints at that place as at the next one, times this.
_TIMES = 3
# Instances from which on shares of a set are reported.
_LEAST = 40
# In COCO-WholeBody 1 means `labelled` for faces and hands, and nobody says which of them are hidden.
LABELLED_IS_ONE = ("coco-wholebody-133", "coco-wholebody-face", "coco-wholebody-left", "coco-wholebody-right")


def _merged_hidden(chosen: Sequence[Instance]) -> list[Located]:
    """Instances all of whose keypoints are hidden, among others that have visible ones."""
    rich = [a for a in chosen if a.num_keypoints >= _RICH]
    counts = [int((a.truth[:, 2] == 2).sum()) for a in rich]
    hidden = [a for a, count in zip(rich, counts, strict=True) if not count]
    # Where few keypoints are labelled, chance hides all of some: then about as many have one that is seen.
    merged = len(hidden) > 2 * counts.count(1)
    if merged and max(_LEAST_HIDDEN, _SOME_HIDDEN * len(rich)) <= len(hidden) < len(rich):
        text = (
            f"every labelled keypoint of {counted(len(hidden), 'instance')} has visibility 1, which is "
            f"`hidden` in COCO, while the other {len(rich) - len(hidden)} have visible ones: as after a "
            "merge with a file that marks nothing as visible"
        )
        fix = "Write 2 for visible keypoints of these instances too."
        return [located_at(Finding("visibility", text, fix, severity="warning"), hidden)]
    return []


def _in_the_middle(pose_set: PoseSet, chosen: Sequence[Instance]) -> list[Located]:
    """Instances with several labelled keypoints exactly in the middle of their box, or of their image."""
    middles: dict[str, Callable[[Instance], tuple[float, float]]] = {
        "box": lambda a: ((a.box[0] + a.box[2]) / 2, (a.box[1] + a.box[3]) / 2),
        "image": lambda a: (
            (pose_set.images[a.image_id].width or np.nan) / 2,
            (pose_set.images[a.image_id].height or np.nan) / 2,
        ),
    }
    made = []
    labelled = sum(a.num_keypoints for a in chosen)
    for what, middle in middles.items():
        counts = {}
        for a in chosen:
            at = (np.abs(a.truth[:, :2] - middle(a)) <= _ROUNDED).all(1) & (a.truth[:, 2] > 0)
            x0, y0, x1, y1 = a.box
            small = what == "box" and (x1 - x0) * (y1 - y0) < _SMALL_BOX
            counts[id(a)] = 0 if small else int(at.sum())
        behind, count = [a for a in chosen if counts[id(a)]], sum(counts.values())
        several = sum(number > 1 for number in counts.values())
        if count >= _MIDDLE * labelled and several >= max(_LEAST_HIDDEN, _MIDDLE * len(chosen)):
            text = (
                f"{counted(count, 'labelled keypoint')} of {counted(len(behind), 'instance')} lie exactly in "
                f"the middle of their {what}, in {counted(several, 'instance')} more than one: a place that "
                "was clicked for what could not be seen"
            )
            fix = "Give these keypoints visibility 0, or 1 with the place where they are."
            made.append(located_at(Finding("visibility", text, fix), behind))
    return made


def _at_one_place(pose_set: PoseSet, chosen: Sequence[Instance]) -> list[Located]:
    """A place at which keypoints of several names lie in several instances: a value for what is not labelled.

    It is looked for from both corners of the image and of the box. A fixed thing that is annotated in every
    picture of a camera has one name at one place.
    """
    corners: dict[str, Callable[[Instance], tuple[float, float]]] = {
        "the image's upper left corner": lambda a: (0.0, 0.0),
        "the image's lower right corner": lambda a: (
            pose_set.images[a.image_id].width or np.nan, pose_set.images[a.image_id].height or np.nan
        ),
        "the upper left corner of their box": lambda a: (a.box[0], a.box[1]),
        "the lower right corner of their box": lambda a: (a.box[2], a.box[3]),
    }  # fmt: skip
    # Shares of the image, rounded, meet at one place by chance, and are another finding.
    chosen = [a for a in chosen if not within_a_pixel(a.truth[a.truth[:, 2] > 0, :2])]
    found: list[tuple[int, float, str, list[Instance]]] = []
    for what, corner in corners.items():
        at: dict[tuple[float, float], list[tuple[int, int]]] = defaultdict(list)
        for number, a in enumerate(chosen):
            places = np.round(a.truth[:, :2] - corner(a), 2)
            for k in np.flatnonzero((a.truth[:, 2] > 0) & np.isfinite(places).all(1)).tolist():
                at[places[k, 0], places[k, 1]].append((number, k))
        (x, y), held = max(at.items(), key=lambda item: len(item[1]), default=((0.0, 0.0), []))
        numbers, names = {number for number, _ in held}, {k for _, k in held}
        several = len(held) > len(numbers)  # two keypoints of one instance at one point
        # Where coordinates are coarse, many places hold several keypoints by chance.
        usual_count = sorted(map(len, at.values()))[-2] if len(at) > 1 else 0
        alone = len(held) >= _TIMES * usual_count
        if len(numbers) >= _PLACES and len(names) >= _NAMES and several and alone:
            text = (
                f"{counted(len(held), 'labelled keypoint')} of {counted(len(numbers), 'instance')} and "
                f"{len(names)} names lie at exactly one place, ({x:g}, {y:g}) from {what}: a value that "
                "stands for what is not labelled"
            )
            found.append((len(held), -abs(x) - abs(y), text, [chosen[n] for n in sorted(numbers)]))
    if not found:
        return []
    # Where pictures have one size, every corner tells the same place: the nearest is the reason.
    *_, text, behind = max(found, key=lambda one: one[:2])
    fix = "Give the keypoints at this place visibility 0."
    return [located_at(Finding("visibility", text, fix), behind)]


def visibility(pose_set: PoseSet) -> list[Located]:
    """Keypoints whose visibility is not what COCO means by 0, 1 and 2."""
    chosen = usual(pose_set)
    made = []
    for value in _PLACEHOLDERS:
        at = [a for a in chosen if ((a.truth[:, 2] > 0) & (a.truth[:, :2] == value).all(1)).any()]
        if at:
            place, by = f"({value}, {value})", "COCO puts" if value == 0 else "tools put"
            text = (
                f"{counted(len(at), 'instance has', 'instances have')} labelled keypoints at {place}, where "
                f"{by} what is not labelled"
            )
            fix = f"Give keypoints at {place} visibility 0."
            made.append(located_at(Finding("visibility", text, fix), at))
    placed = [a for a in pose_set.instances if not a.iscrowd and a.truth[:, :2].any()]
    if placed and not chosen:
        text = (
            "no keypoint is labelled: all have visibility 0, although those of "
            f"{counted(len(placed), 'instance')} have coordinates"
        )
        fix = "Write visibility 2 for keypoints that are seen and 1 for hidden ones; 0 is `not labelled`."
        made.append(located_at(Finding("visibility", text, fix), placed))
    made += _in_the_middle(pose_set, chosen)
    made += [] if made else _at_one_place(pose_set, chosen)
    if pose_set.skeleton.name.startswith(LABELLED_IS_ONE):
        return made
    made += _merged_hidden(chosen)
    seen = np.stack([a.truth[:, 2] for a in chosen]) if chosen else np.zeros((0, 1))
    if len(chosen) >= 2 and (seen == 1).any() and not (seen == 2).any():
        text = (
            "every labelled keypoint has visibility 1, which is `hidden` in COCO: evaluators count them, "
            "code that asks for visible keypoints (2) finds none"
        )
        made.append(
            Located(Finding("visibility", text, "Write 2 for visible keypoints.", severity="warning"))
        )
    if len(chosen) >= _LEAST and not (seen == 1).any():
        labelled = (seen > 0).astype(float)
        rates, middle = labelled.mean(0), np.median(labelled.sum(1))
        # Of a skeleton made of several sets' keypoints, some are never labelled together.
        together = (labelled.T @ labelled)[np.ix_(rates > 0, rates > 0)].all()
        if rates.max() < _SELDOM and middle <= _FEW * len(rates) and together:
            text = (
                f"no keypoint is labelled in more than {rates.max():.0%} of "
                f"{counted(len(chosen), 'instance')}, {middle:.0f} of {len(rates)} in the middle one, and "
                "none as hidden (visibility 1): as after a conversion that kept hidden keypoints alone"
            )
            fix = "Compare a picture with its labels; keep keypoints of visibility 1 and of 2."
            made.append(Located(Finding("visibility", text, fix, severity="warning")))
    return made


# Exchanged sides, from the set alone.
