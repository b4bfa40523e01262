"""Grouping of one image, from maps to people: detect, assign, adjust, score, refine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable
from workbench.core.report import counted
from workbench.decoding.grouping.assignment import (
    NO_DETECTIONS,
    Detections,
    Grouping,
    JointStep,
    Person,
    assign_detections,
    detect,
)
from workbench.decoding.grouping.refinement import adjusted, fill_missing
from workbench.decoding.grouping.settings import HIGHERHRNET, GroupingSettings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class NothingFinite(ValueError):  # noqa: N818 - reads as a claim, as NotAvailable does
    """No keypoint has a heatmap and a tag map of finite numbers, so nobody can be grouped."""


def group(
    heatmaps: Float[np.ndarray, "K H W"],
    tags: Float[np.ndarray, "T H W L"] | None,
    settings: GroupingSettings = HIGHERHRNET,
    trace: bool = False,
    detections: Sequence[Detections] | None = None,
    names: Sequence[str] = (),
) -> Grouping:
    """The people in the maps of one image.

    Args:
        heatmaps: one per keypoint; arrays or CPU tensors, read as float32, not modified.
        tags: of the same height and width; L values per cell (the flip test gives two), or [T, H, W] for one.
        settings: the reference protocol by default.
        trace: keep one `JointStep` per keypoint.
        detections: of the same maps, from `detect`, when several groupings share them.
        names: of the keypoints, for the note; by default they are called by their numbers.

    Returns:
        The people; keypoints in cells of the maps. Empty, with a note that says why, where no map exceeds the
        detection threshold. Keypoints whose heatmap or tag map holds a number that is not finite are left
        out, and the note names them.

    Raises:
        NotAvailable: there are no tags.
        ValueError: shapes or the tag layout do not fit, or no keypoint has finite maps.

    Example:
        >>> import numpy as np
        >>> heatmaps, tags = np.zeros((2, 1, 32, 32), np.float32)
        >>> heatmaps[0, 8, 4] = heatmaps[0, 8, 24] = 0.9  # two detections of one keypoint ...
        >>> tags[0, 8, 24] = 5.0  # ... whose tags differ by 5
        >>> found = group(heatmaps, tags)
        >>> len(found), found.keypoints[:, 0, 0].tolist()
        (2, [4.25, 24.25])
    """
    if tags is None:
        raise NotAvailable(
            "grouping: these outputs contain heatmaps but no tag maps, which assign keypoints to people"
        )
    usable = checked(heatmaps, tags, settings, names)
    heatmaps, tags = usable.heatmaps, usable.tags
    K = len(heatmaps)
    layout = settings.maps(K, len(tags))
    order = settings.order(K)
    found = detect(heatmaps, settings) if detections is None else tuple(detections)
    found = tuple(NO_DETECTIONS if out else d for d, out in zip(found, usable.left_out, strict=True))
    read = [tags[layout[k], d.points[:, 1], d.points[:, 0]] for k, d in enumerate(found)]
    people, steps = assign_detections(found, read, settings)
    keypoints, tag_values, present = _as_arrays(people, K, tags.shape[-1])
    if settings.adjust:
        keypoints = adjusted(keypoints, present, heatmaps, settings)
    scores = keypoints[:, :, 2].mean(1)
    filled = np.zeros_like(present)
    if settings.refine and len(people):
        wanted = ~present & ~usable.left_out
        keypoints, filled = fill_missing(keypoints, present, wanted, heatmaps, tags, layout, settings)
        if settings.person_score == "filled":
            scores = keypoints[:, :, 2].mean(1)
    keypoints[~(present | filled), :2] = np.nan
    notes = [usable.note, _note(heatmaps, found, steps, settings, order, names)]
    note = "; ".join(text for text in notes if text)
    return Grouping(keypoints, tag_values, scores, filled, tuple(steps) if trace else (), note)


@dataclass(frozen=True, eq=False)
class Usable:
    """Maps that can be grouped.

    Attributes:
        heatmaps: float32, finite; zero where a keypoint is left out.
        tags: float32, finite; zero where a map held other numbers.
        left_out: keypoints whose heatmap or tag map holds a number that is not finite.
        note: which those are; "" when none.
    """

    heatmaps: Float[np.ndarray, "K H W"]
    tags: Float[np.ndarray, "T H W L"]
    left_out: Bool[np.ndarray, " K"]
    note: str


def checked(heatmaps: Any, tags: Any, settings: GroupingSettings, names: Sequence[str] = ()) -> Usable:
    """Heatmaps and tags as float32 arrays of matching shapes; keypoints without finite maps are left out.

    Args:
        heatmaps: [K, H, W], arrays or CPU tensors.
        tags: [T, H, W] or [T, H, W, L].
        settings: the tag layout says which tag map a keypoint needs.
        names: of the keypoints, for the note; by default they are called by their numbers.

    Raises:
        ValueError: the shapes do not fit.
        NothingFinite: no keypoint has finite maps.
    """
    heatmaps, tags = np.asarray(heatmaps, np.float32), np.asarray(tags, np.float32)
    if heatmaps.ndim != 3 or heatmaps.size == 0:
        raise ValueError(f"heatmaps: expected keypoints x height x width, got shape {heatmaps.shape}")
    if tags.ndim == 3:
        tags = tags[..., None]
    if tags.ndim != 4 or tags.size == 0:
        raise ValueError(f"tags: expected maps x height x width x values, got shape {tags.shape}")
    if tags.shape[1:3] != heatmaps.shape[1:]:
        raise ValueError(
            f"tags: expected maps of {heatmaps.shape[2]} x {heatmaps.shape[1]} cells as the heatmaps, got "
            f"{tags.shape[2]} x {tags.shape[1]}; bring them to one size first"
        )
    broken, broken_tags = not_finite(heatmaps), not_finite(tags)
    left_out = broken | broken_tags[list(settings.maps(len(heatmaps), len(tags)))]
    if not left_out.any():
        return Usable(heatmaps, tags, left_out, "")
    parts = [
        not_finite_text(what, bad)
        for what, bad in (("heatmap", broken), ("tag map", broken_tags))
        if bad.any()
    ]
    problem = " and ".join(parts)
    if left_out.all():
        raise NothingFinite(
            f"{problem}: no keypoint has finite maps; the weights diverged, or the input holds such numbers"
        )
    heatmaps, tags = heatmaps.copy(), tags.copy()
    heatmaps[left_out], tags[broken_tags] = 0, 0
    called = [*names] or [str(k) for k in range(len(heatmaps))]
    gone = [name for name, out in zip(called, left_out.tolist(), strict=True) if out]
    left = f"{len(gone)} of {counted(len(heatmaps), 'keypoint')} left out ({', '.join(gone)})"
    note = f"{problem}: {left}, the rest is grouped"
    return Usable(heatmaps, tags, left_out, note)


def not_finite(maps: np.ndarray) -> Bool[np.ndarray, " maps"]:
    """Which maps hold a number that is not finite.

    Args:
        maps: [maps, ...], any number of axes after the first.
    """
    # A finite sum proves most maps finite, because nan and infinity propagate.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = ~np.isfinite(maps.reshape(len(maps), -1).sum(1))
    for m in np.flatnonzero(suspicious):
        suspicious[m] = not np.isfinite(maps[m]).all()
    return suspicious


def not_finite_text(what: str, bad: Bool[np.ndarray, " n"]) -> str:
    """Which maps of one kind hold such numbers: "tag map 2 holds a number that is not finite".

    Args:
        what: the kind, singular.
        bad: of every map.
    """
    words = f"{what} {_listed(bad)} holds" if bad.sum() == 1 else f"{what}s {_listed(bad)} hold"
    return f"{words} a number that is not finite"


def _listed(which: Bool[np.ndarray, " n"]) -> str:
    return ", ".join(map(str, np.flatnonzero(which)))


def _as_arrays(people: Sequence[Person], K: int, L: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keypoints [P, K, 3], zeros where missing, as in the references; tags [P, K, L]; present [P, K]."""
    keypoints = np.zeros((len(people), K, 3), np.float32)
    tags = np.full((len(people), K, L), np.nan, np.float32)
    present = np.zeros((len(people), K), bool)
    for p, person in enumerate(people):
        for joint, row in person.joints.items():
            keypoints[p, joint], tags[p, joint] = row[:3], row[3:]
            present[p, joint] = True
    return keypoints, tags, present


def _note(
    heatmaps: Float[np.ndarray, "K H W"],
    found: Sequence[Detections],
    steps: Sequence[JointStep],
    settings: GroupingSettings,
    order: Sequence[int],
    names: Sequence[str],
) -> str:
    """Notes for the user on the result; "" when there are none."""
    if not any(map(len, found)):
        k = int(heatmaps.reshape(len(heatmaps), -1).max(1).argmax())
        return (
            f"nobody found: no heatmap exceeds the detection threshold {settings.detection_threshold:g}; the "
            f"highest value is {heatmaps[k].max():.3g}, of {names[k] if names else f'keypoint {k}'}"
        )
    notes = []
    several = [step for step in steps if len(step.values) > 1]
    if several and all(np.ptp(step.tags) == 0 for step in several):
        notes.append(
            "all detections of a keypoint have the same tag: tags cannot separate people, and the protocol "
            "keeps one person"
        )
    over = sum(step.outcomes.count("overwrote") for step in steps)
    if over:
        notes.append(
            f"{counted(over, 'detection')} replaced others, because their first tag values are equal"
        )
    dropped = sum(step.outcomes.count("dropped") for step in steps)
    if dropped:
        notes.append(
            f"{counted(dropped, 'detection was', 'detections were')} dropped: the limit of "
            f"{counted(settings.max_people, 'person', 'people')} is reached"
        )
    cut = [step.joint for step in steps if len(step.values) == settings.top_k > 1]
    if cut:
        notes.append(
            f"{len(cut)} of {counted(len(order), 'keypoint reaches', 'keypoints reach')} the limit of "
            f"{counted(settings.top_k, 'detection')}: there may be more people"
        )
    return "; ".join(notes)
