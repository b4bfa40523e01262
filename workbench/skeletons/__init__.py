"""Known skeletons, recognised by the names of their keypoints.

`SKELETONS["ap10k-17"]` looks one up; `skeleton_for(names)` recognises one in any spelling that files use
(``L_F_Paw`` and ``left_front_paw`` are the same keypoint). Unknown names give a new skeleton with the mirror
pairs that they tell (``left_wing``, ``right_wing``) and without sigmas: invented ones would give plausible
but meaningless figures.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from workbench.core import Skeleton, nearest
from workbench.core.report import counted
from workbench.skeletons.definitions import (
    AIC_14,
    ANIMALPOSE_20,
    ANIMALPOSE_ALIASES,
    AP10K_17,
    AP10K_ALIASES,
    COCO_17,
    COCO_WHOLEBODY_133,
    CROWDPOSE_14,
    CROWDPOSE_ALIASES,
    FACE_68,
    HALPE_26,
    HORSE_26,
    HUMANART_21,
    JHMDB_15,
    MPII_16,
    WFLW_98,
)

SKELETONS: dict[str, Skeleton] = {
    s.name: s
    for s in (
        COCO_17,
        AP10K_17,
        ANIMALPOSE_20,
        HORSE_26,
        CROWDPOSE_14,
        MPII_16,
        HALPE_26,
        COCO_WHOLEBODY_133,
        AIC_14,
        JHMDB_15,
        HUMANART_21,
        FACE_68,
        WFLW_98,
    )
}
"""Known skeletons by name. MoveNet predicts coco-17."""


FILE_SIGMAS = "sigmas of the annotation file"
"""Source of a skeleton whose OKS constants its annotation file states."""

MODEL_SIGMAS = "the model's own sigmas"
"""Start of the source of a skeleton whose OKS constants came with a model."""


def skeleton_named(name: str) -> Skeleton:
    """A known skeleton by its name, as `--skeleton` takes it.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in SKELETONS:
        raise ValueError(f"--skeleton {name}: no such skeleton; nearest: {nearest(name, SKELETONS)}")
    return SKELETONS[name]


_ALIASES: dict[str, Mapping[str, str]] = {
    AP10K_17.name: AP10K_ALIASES,
    ANIMALPOSE_20.name: ANIMALPOSE_ALIASES,
    CROWDPOSE_14.name: CROWDPOSE_ALIASES,
}


MOST_KEYPOINTS = 10_000
"""Names of one list that are read; far more than any skeleton has (whole bodies 133, dense faces 478)."""


def skeleton_for(names: Sequence[str], limbs: Sequence[tuple[int, int]] = ()) -> Skeleton:
    """The skeleton of a list of keypoint names.

    Args:
        names: as a file spells them, in the file's order.
        limbs: index pairs (from 0) for unknown names; pairs out of range are left out, because some files
            contain the limbs of another skeleton (CrowdPose contains COCO's).

    Returns:
        A known skeleton; a known one in the order of the file, with its mirror pairs and sigmas; or a new one
        named ``own-K`` without sigmas, and with those mirror pairs that its names tell.

    Raises:
        ValueError: no names, a repeated one, or more than `MOST_KEYPOINTS`.

    Example:
        >>> skeleton_for(["left_front_paw", "nose"]).name
        'own-2'
        >>> skeleton_for(SKELETONS["coco-17"].keypoints).name
        'coco-17'
    """
    names = tuple(str(name) for name in names)
    if not names:
        raise ValueError("skeleton: expected keypoint names, got none")
    if len(names) > MOST_KEYPOINTS:
        raise ValueError(f"skeleton: {counted(len(names), 'keypoint')}; at most {MOST_KEYPOINTS} are read")
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        repeated = ", ".join(map(repr, twice[:3]))
        raise ValueError(f"skeleton: keypoint names must differ, but {repeated} repeat")
    for known in SKELETONS.values():
        indices = _indices(names, known)
        if indices == list(range(len(known))):
            return known
        if indices is not None:
            return _reordered(known, indices)
    K = len(names)
    inside = tuple((int(a), int(b)) for a, b in limbs if 0 <= a < K and 0 <= b < K and a != b)
    mirror = mirror_by_names(names)
    return Skeleton(
        f"own-{K}", names, inside, mirror if mirror != tuple(range(K)) else (),
        source="names as the file gives them; no published sigmas",
    )  # fmt: skip


_SIDES = (("left", "right"), ("l", "r"))


def mirror_by_names(names: Sequence[str]) -> tuple[int, ...]:
    """For each keypoint its partner on the other side by its name; itself where the name tells no side.

    Args:
        names: ``left_eye``, ``L_Eye``, ``eye.R`` ...
    """
    words = [re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) for name in names]
    parts = [tuple(part for part in re.split(r"[^a-z0-9]+", word.lower()) if part) for word in words]
    at = {part: k for k, part in enumerate(parts)}
    found = []
    for k, part in enumerate(parts):
        partner = k
        for one, other in _SIDES:
            exchange = {one: other, other: one}
            turned = tuple(exchange.get(word, word) for word in part)
            if turned != part and turned in at:
                partner = at[turned]
                break
        found.append(partner)
    return tuple(found)


def spelling(name: str) -> str:
    """A name without case, blanks and punctuation: ``Root of tail`` -> ``root_of_tail``."""
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def _indices(names: Sequence[str], known: Skeleton) -> list[int] | None:
    """For each name its index in a known skeleton; None when they are not the same set of keypoints."""
    if len(names) != len(known):
        return None
    index = {spelling(name): i for i, name in enumerate(known.keypoints)}
    aliases = _ALIASES.get(known.name, {})
    index |= {spelling(alias): known.keypoints.index(name) for alias, name in aliases.items()}
    indices = [index.get(spelling(name), -1) for name in names]
    return indices if sorted(indices) == list(range(len(known))) else None


def _reordered(known: Skeleton, indices: list[int]) -> Skeleton:
    to_new = {old: new for new, old in enumerate(indices)}
    return Skeleton(
        name=f"{known.name}-reordered",
        keypoints=tuple(known.keypoints[i] for i in indices),
        limbs=tuple((to_new[a], to_new[b]) for a, b in known.limbs),
        mirror=tuple(to_new[known.mirror[i]] for i in indices) if known.mirror else (),
        sigmas=tuple(known.sigmas[i] for i in indices) if known.sigmas else (),
        source=f"{known.source}; in the order of the file",
    )
