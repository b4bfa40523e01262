"""What is each step between a network's maps and its people worth? One step changed at a time, then several.

Every step is varied both ways: what the model's own rules do is left out, and what they leave out (the
inverse affine, suppression, a resolution, the mirrored pass) is done. Simplified inference scripts of
HigherHRNet change some steps together; those pairs are variants as well, and the last variants leave out one
after the other what such a script leaves out, until it is that script: maps are stretched over the image
instead of being taken back by the affine, no mirrored pass, the fine heatmaps alone, corners aligned,
keypoints dealt out as they come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.core import FLIP_BY_DEFAULT
from workbench.decoding.grouping import HIGHERHRNET, MMPOSE
from workbench.evaluation.ablation.variants import Variant, reference

if TYPE_CHECKING:
    from workbench.core import Outputs
    from workbench.models.bottom_up import BottomUp

TOGETHER = "all of these: a simplified script"

# name, one line, rules
Change = tuple[str, str, dict[str, Any]]


def grouping_variants(model: BottomUp, outputs: Outputs, flip: bool = FLIP_BY_DEFAULT) -> list[Variant]:
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
    kept = {v.name: v for v in changes if _differs(own, v)}
    return [own, *kept.values(), *_cumulative(own, simple)]


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
    """The published protocol's side of the same steps, where the model's own rules leave them out."""
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
    """To whom detections go."""
    backwards = tuple(reversed(own.grouping.order(K)))
    other = "munkres" if own.grouping.solver == "scipy" else "scipy"
    return [
        own.but("order backwards", "limbs first", joint_order=backwards),
        *(own.but(f"tag threshold {t:g}", "how near tags must be", tag_threshold=t) for t in (0.5, 1.0, 2.0)),
        own.but("cost without values", "the tag distance itself, not rounded", use_detection_value=False),
        own.but("another optimum", f"{other}'s, where several assignments cost the same", solver=other),
    ]


def _placing(own: Variant) -> list[Variant]:
    """Where keypoints lie, and what becomes of missing ones."""
    changes = [
        own.but("no adjust", "no quarter cell, no half cell to the cell's centre", adjust=False),
        own.but("no refine", "missing keypoints stay missing", refine=False),
        own.but("no adjust, no refine", "both", adjust=False, refine=False),
    ]
    for name, rules in (("mmpose's rules", MMPOSE), ("HigherHRNet's rules", HIGHERHRNET)):
        fields = {key: value for key, value in vars(rules).items() if key not in ("tag_layout", "solver")}
        changes.append(own.but(name, "all that this protocol does otherwise", **fields))
    return changes
