"""Variants of a bottom-up protocol; tag maps derived from those of an image (means, components, noise).

HigherHRNet's tag maps are one scalar map per keypoint, each taught only where its own keypoint lies. What
happens when keypoints read other maps says whether the maps are one embedding (they are not).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import FLIP_BY_DEFAULT, NotAvailable
from workbench.decoding.grouping import HIGHERHRNET, MMPOSE, GroupingSettings
from workbench.decoding.grouping.algorithm import NothingFinite, not_finite, not_finite_text
from workbench.models.bottom_up import Aggregation

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.core import Outputs
    from workbench.core.capabilities import BottomUpModel
    from workbench.models.bottom_up import People


# Every so many cells along x and y: neighbouring cells say the same, and the covariance needs few.
_STRIDE = 4


class TagMaps:
    """Tag maps of one image, with cached statistics that several variants share.

    Attributes:
        tags: T maps with L values in each cell; not changed.
        seed: of the noise.
    """

    def __init__(self, tags: Float[np.ndarray, "T H W L"], seed: int) -> None:
        self.tags, self.seed = tags, seed

    @cached_property
    def components(self) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, "T T"]]:
        """Mean over the image of the T values; their principal directions as rows, the strongest first.

        Raises:
            NothingFinite: a map holds other numbers, and the directions are those of all maps.
        """
        T = len(self.tags)
        if (bad := not_finite(self.tags)).any():
            raise NothingFinite(f"components: {not_finite_text('tag map', bad)}")
        sample = self.tags[:, ::_STRIDE, ::_STRIDE].reshape(T, -1).astype(float)
        mean = sample.mean(1)
        _, vectors = np.linalg.eigh(np.cov(sample) if T > 1 else np.ones((1, 1)))
        return mean.astype(np.float32), vectors.T[::-1].astype(np.float32)

    @cached_property
    def noise(self) -> Float[np.ndarray, "T H W L"]:
        """Independent standard normal numbers."""
        return np.random.default_rng(self.seed).standard_normal(self.tags.shape, np.float32)


@dataclass(frozen=True)
class MeanOf:
    """One map for all: the mean of some.

    Attributes:
        maps: their indices.
    """

    maps: Sequence[int]

    def __call__(self, given: TagMaps) -> Float[np.ndarray, "1 H W L"]:
        total = np.zeros_like(given.tags[:1])
        for index in self.maps:
            total += given.tags[index]
        total /= len(self.maps)
        return total


@dataclass(frozen=True)
class FirstComponents:
    """Every map projected onto the strongest principal components of the image's maps.

    Attributes:
        count: of components.
    """

    count: int

    def __call__(self, given: TagMaps) -> Float[np.ndarray, "T H W L"]:
        mean, vectors = given.components
        components = vectors[: self.count]
        flat = given.tags.reshape(len(mean), -1)
        # kept' kept (x - mean) + mean, without a second array of x's size.
        offset = (mean - components.T @ (components @ mean))[:, None]
        return (components.T @ (components @ flat) + offset).reshape(given.tags.shape)


@dataclass(frozen=True)
class ComponentForAll:
    """One map for all keypoints: the first principal component of the image's maps.

    Weights sum to 1 in size, so that the map keeps the unit of tags: with equal weights it is the mean.
    """

    def __call__(self, given: TagMaps) -> Float[np.ndarray, "1 H W L"]:
        weights = given.components[1][0]
        weights = weights / np.abs(weights).sum()
        return (weights @ given.tags.reshape(len(weights), -1)).reshape(1, *given.tags.shape[1:])


@dataclass(frozen=True)
class Noisy:
    """Every map with independent noise in every cell.

    Attributes:
        deviation: of the noise, in units of tags: people closer than 1 are taken for one.
    """

    deviation: float

    def __call__(self, given: TagMaps) -> Float[np.ndarray, "T H W L"]:
        return given.tags + np.float32(self.deviation) * given.noise


# One way to read stored outputs: which maps count, what becomes of the tags, how people are made.


REFERENCE = "reference"
FLIPPED = "with flip"
CHANNELS_EXCHANGED = "blue and red exchanged"
TagChange = Callable[[TagMaps], "Float[np.ndarray, 'T H W L']"]
# From people, input pixels per cell of the finest heatmap, and the affine from input pixels to the image's.
PeopleChange = Callable[["People", float, "Float[np.ndarray, '2 3']"], "People"]
# From the outputs of one image, and the width of its input in pixels.
OutputsChange = Callable[["Outputs", int], "Outputs"]


@dataclass(frozen=True)
class Variant:
    """One variant of a protocol.

    Attributes:
        name: unique among the variants of one sweep.
        about: what it changes and why one would, one line.
        aggregation: which maps count, and how.
        grouping: how detections become people.
        tags: from the tag maps of an image to those that are grouped; None leaves them alone.
        several: it changes more than one thing on top of another variant.
        people: what becomes of the people found; None leaves them alone.
        look: the network is asked anew: ``blue and red exchanged``; "" for the image as it is.
        outputs: what becomes of the network's outputs; None leaves them alone.
        undoes: the mistake that this variant undoes; "" for none.
        beside: name of the variant that differs by nothing else, with which it is compared.
        counts: what it undoes changes who is found rather than where, such as a peak found many times.
    """

    name: str
    about: str
    aggregation: Aggregation
    grouping: GroupingSettings
    tags: TagChange | None = None
    several: bool = False
    people: PeopleChange | None = None
    look: str = ""
    outputs: OutputsChange | None = None
    undoes: str = ""
    beside: str = REFERENCE
    counts: bool = False

    def undoing(self, fault: str, beside: str = REFERENCE, counts: bool = False) -> Variant:
        """The same variant, marked as the one that undoes an error.

        Args:
            fault: name of the error.
            beside: name of the variant that it is compared with.
            counts: the error changes who is found rather than where.
        """
        return dataclasses.replace(self, undoes=fault, beside=beside, counts=counts)

    def but(
        self,
        name: str,
        about: str,
        tags: TagChange | None = None,
        several: bool = False,
        people: PeopleChange | None = None,
        look: str = "",
        outputs: OutputsChange | None = None,
        **rules: Any,
    ) -> Variant:
        """The same with other rules: fields of Aggregation and of GroupingSettings, by name.

        Args:
            name: of the new variant.
            about: what it changes, for people.
            tags: change of the tags.
            several: it changes more than one thing.
            people: change of the people found.
            look: the network is asked anew.
            outputs: change of the network's outputs.
            rules: fields by name.
        """
        own = {f.name for f in dataclasses.fields(Aggregation)}
        maps = {rule: value for rule, value in rules.items() if rule in own}
        groups = {rule: value for rule, value in rules.items() if rule not in own}
        return Variant(
            name,
            about,
            dataclasses.replace(self.aggregation, **maps),
            dataclasses.replace(self.grouping, **groups),
            tags or self.tags,
            several,
            people or self.people,
            look or self.look,
            outputs or self.outputs,
        )


def reference(model: BottomUpModel, flip: bool = True) -> Variant:
    """The model's own rules.

    Args:
        model: whose.
        flip: off, a mirrored pass does not count even where the model's rules would count it.
    """
    maps = dataclasses.replace(model.aggregation, flip=model.aggregation.flip and flip)
    return Variant(REFERENCE, "the model's own rules", maps, model.grouping)


# What do the tag maps mean? Variants that let keypoints read other maps, fewer of them, or worse ones.


COMPONENTS = (1, 2, 4, 8)
NOISE = (0.1, 0.3, 1.0)


def tag_variants(
    model: BottomUpModel, subset: Sequence[int] = (), flip: bool = FLIP_BY_DEFAULT
) -> list[Variant]:
    """The reference first, then one map for all, means, components, noise.

    Args:
        model: with one tag map per keypoint.
        subset: indices of maps whose mean is asked for besides the built-in thirds.
        flip: the mirrored pass counts, where there is one.

    Raises:
        NotAvailable: the network has one tag map for all keypoints.
        ValueError: the subset names a map that is not there.
    """
    own, T = reference(model, flip), model.tags
    if T == 1:
        raise NotAvailable(
            "ablate tags: this network has one tag map for all keypoints, so there is nothing to choose among"
        )
    if not all(0 <= index < T for index in subset):
        raise ValueError(f"maps: expected indices from 0 to {T - 1}, got {list(subset)}")
    K, names = len(model.skeleton), model.skeleton.keypoints
    variants = [own]
    for n in range(T):
        whose = f", that of {names[n]}," if T == K else ""
        variants.append(
            own.but(f"map {n} for all", f"every keypoint reads map {n}{whose} alone", tag_layout=(n,) * K)
        )
    if T == K and model.skeleton.mirror and model.grouping.tag_layout == "per_joint":
        variants.append(
            own.but(
                "partner's map",
                "left keypoints read the right one's map, and right the left one's",
                tag_layout=model.skeleton.mirror,
            )
        )
    for maps in _subsets(T, subset):
        label = "mean of all maps" if len(maps) == T else f"mean of maps {_span(maps)}"
        variants.append(own.but(label, "one map for all keypoints", MeanOf(maps), tag_layout="shared"))
    for count in (c for c in COMPONENTS if c < T):
        what = f"{count} principal component{'s' if count > 1 else ''}"
        about = "every keypoint reads its own map, as far as these tell it"
        variants.append(own.but(what, about, FirstComponents(count)))
    about = "one map for all keypoints: what the maps have in common"
    variants.append(own.but("first component for all", about, ComponentForAll(), tag_layout="shared"))
    variants += [
        own.but(f"noise {deviation:g}", "added to every cell of every tag map", Noisy(deviation))
        for deviation in NOISE
    ]
    return variants


def _subsets(T: int, subset: Sequence[int]) -> list[tuple[int, ...]]:
    """All, thirds (head, arms and legs in COCO's order), and the one asked for."""
    edges = [0, round(T / 3), round(2 * T / 3), T]
    thirds = [tuple(range(a, b)) for a, b in itertools.pairwise(edges) if 1 < b - a < T]
    chosen = [tuple(range(T)), *thirds]
    asked = tuple(dict.fromkeys(subset))
    return [*chosen, asked] if asked and asked not in chosen else chosen


def _span(maps: tuple[int, ...]) -> str:
    if len(maps) > 2 and maps == tuple(range(maps[0], maps[-1] + 1)):
        return f"{maps[0]} to {maps[-1]}"
    return ", ".join(map(str, maps))


# What is each step between a network's maps and its people worth? One step changed at a time, then several.


TOGETHER = "all of these: a simplified script"

# name, one line, rules
Change = tuple[str, str, dict[str, Any]]


def grouping_variants(model: BottomUpModel, outputs: Outputs, flip: bool = FLIP_BY_DEFAULT) -> list[Variant]:
    """The reference first, then every single change that these outputs allow, then several at once.

    Args:
        model: its own rules are the reference.
        outputs: of any image: they tell which passes and resolutions there are.
        flip: the mirrored pass counts in the reference.
    """
    mirrored = any(name.endswith("mirrored") for name in outputs.passes)
    own = reference(model, flip and mirrored)
    K = len(model.skeleton)
    absent = set() if mirrored else {"flip", "flip_tags"}
    if outputs.coarse is None:
        absent.add("resolutions")
    simple = [
        c for c in _simplifications(K) if not absent & set(c[2]) and _differs(own, own.but(*c[:2], **c[2]))
    ]
    changes = [own.but(name, about, **rules) for name, about, rules in simple]
    changes += [v for v in _additions(own, K) if mirrored or not v.aggregation.flip]
    changes += _maps(own, model.scales, absent)
    changes += _detections(own)
    changes += _dealing(own, K)
    changes += _placing(own)
    changes += _pairs(own, simple, K, model.tags)
    # What changes nothing, because the model's own rules are so already, tells nothing.
    distinct = {v.name: v for v in changes if _differs(own, v)}
    return [own, *distinct.values(), *_cumulative(own, simple)]


def _differs(own: Variant, other: Variant) -> bool:
    return (other.aggregation, other.grouping) != (own.aggregation, own.grouping)


def _simplifications(K: int) -> list[Change]:
    """What a simplified script leaves out."""
    return [
        (
            "no inverse affine",
            "maps stretched over the image, of which the input shows more",
            {"inverse_affine": False},
        ),
        ("no flip", "the mirrored pass left out, heatmaps and tags", {"flip": False}),
        ("fine heatmaps only", "the coarser resolution is not averaged in", {"resolutions": "fine"}),
        ("align_corners", "maps enlarged so that corners stay", {"align_corners": True}),
        (
            "keypoints in their order",
            "the first first, not head, trunk, limbs",
            {"joint_order": tuple(range(K))},
        ),
    ]


def _additions(own: Variant, K: int) -> list[Variant]:
    """Steps of the published protocol that the model's own rules leave out."""
    maps, groups = own.aggregation, own.grouping
    affine = "people taken back to the image by the input's affine"
    every: list[tuple[bool, Change]] = [
        (maps.inverse_affine, ("with the inverse affine", affine, {"inverse_affine": True})),
        (maps.flip, ("with flip", "the mirrored pass averaged in, heatmaps and tags", {"flip": True})),
        (
            maps.flip,
            ("with flip, heatmaps only", "tags of the plain pass", {"flip": True, "flip_tags": False}),
        ),
        (maps.flip_tags, ("with mirrored tags", "two tag values instead of one", {"flip_tags": True})),
        (maps.resolutions == "both", ("both resolutions", "the two averaged", {"resolutions": "both"})),
        (not maps.align_corners, ("corners not aligned", "cell centres stay", {"align_corners": False})),
        (maps.project, ("maps enlarged", "to the input's size before grouping", {"project": True})),
        (
            groups.order(K) == HIGHERHRNET.order(K),
            ("head, trunk, limbs", "the published order", {"joint_order": HIGHERHRNET.order(K)}),
        ),
        (groups.adjust, ("adjust", "a quarter cell towards the higher neighbour", {"adjust": True})),
        (groups.refine, ("refine", "missing keypoints filled in", {"refine": True})),
        (groups.use_detection_value, ("cost with values", "rounded", {"use_detection_value": True})),
    ]
    return [own.but(name, about, **rules) for done, (name, about, rules) in every if not done]


def _pairs(own: Variant, simple: list[Change], K: int, tags: int) -> list[Variant]:
    """Steps that published simplified scripts change together."""
    changes = {rule: (name, rules) for name, _, rules in simple for rule in rules}
    if tags == K and own.grouping.tag_layout == "per_joint":
        changes["tag_layout"] = ("map 0 for all", {"tag_layout": (0,) * K})
    wanted = ("flip", "tag_layout"), ("flip", "resolutions"), ("flip", "inverse_affine"), (
        "inverse_affine", "align_corners",
    )  # fmt: skip
    made = []
    for pair in wanted:
        if all(rule in changes for rule in pair):
            (first, one), (second, other) = (changes[rule] for rule in pair)
            about = "a pair that simplified scripts change together"
            made.append(own.but(f"{first} + {second}", about, several=True, **one, **other))
    return made


def _cumulative(own: Variant, simple: list[Change]) -> list[Variant]:
    """One simplification after the other, each on top of those before."""
    added, rules = [], dict(simple[0][2]) if simple else {}
    for count, (name, _, changed) in enumerate(simple[1:], 2):
        rules |= changed
        about = ", ".join(entry[0] for entry in simple[:count])
        label = TOGETHER if count == len(simple) else f"... and {name}"
        added.append(own.but(label, about, several=True, **rules))
    return added


def _maps(own: Variant, scales: tuple[float, ...], absent: set[str]) -> list[Variant]:
    """Which maps count."""
    changes = []
    if "flip_tags" not in absent and own.aggregation.flip:
        changes.append(own.but("no mirrored tags", "one tag value instead of two", flip_tags=False))
    if "resolutions" not in absent:
        changes.append(own.but("coarse heatmaps only", "the finer resolution left out", resolutions="coarse"))
    if len(scales) > 1:
        changes += [
            own.but(f"scale {s:g} only", "the other scales left out", scales=(s,)) for s in sorted(scales)
        ]
    changes.append(own.but("maps not enlarged", "grouped at the network's resolution", project=False))
    return changes


def _detections(own: Variant) -> list[Variant]:
    """What counts as a detection."""
    about = "cells along each side in which a detection must be the highest"
    changes = [
        own.but(f"NMS kernel {k}", "no suppression" if k == 1 else about, nms_kernel=k)
        for k in (1, 3, 5, 7, 11)
    ]
    changes += [
        own.but(f"detection threshold {t:g}", "what a detection must exceed", detection_threshold=t)
        for t in (0.05, 0.1, 0.2, 0.3)
    ]
    return [*changes, *(own.but(f"top {n}", "detections kept per keypoint", top_k=n) for n in (10, 30))]


def _dealing(own: Variant, K: int) -> list[Variant]:
    """How detections are assigned to people."""
    backwards = tuple(reversed(own.grouping.order(K)))
    other = "munkres" if own.grouping.solver == "scipy" else "scipy"
    return [
        own.but("order backwards", "limbs first", joint_order=backwards),
        *(own.but(f"tag threshold {t:g}", "how near tags must be", tag_threshold=t) for t in (0.5, 1.0, 2.0)),
        own.but("cost without values", "the tag distance itself, not rounded", use_detection_value=False),
        own.but("another optimum", f"{other}'s, where several assignments cost the same", solver=other),
    ]


def _placing(own: Variant) -> list[Variant]:
    """How keypoints are placed, and how missing ones are filled in."""
    changes = [
        own.but("no adjust", "no quarter cell, no half cell to the cell's centre", adjust=False),
        own.but("no refine", "missing keypoints stay missing", refine=False),
        own.but("no adjust, no refine", "both", adjust=False, refine=False),
    ]
    for name, rules in (("mmpose's rules", MMPOSE), ("HigherHRNet's rules", HIGHERHRNET)):
        fields = {key: value for key, value in vars(rules).items() if key not in ("tag_layout", "solver")}
        changes.append(own.but(name, "all that this protocol does otherwise", **fields))
    return changes
