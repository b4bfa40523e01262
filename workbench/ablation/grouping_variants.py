"""What is each step between a network's maps and its people worth? One step changed at a time, then several.

The last variants leave out one after the other what a simplified inference script of HigherHRNet leaves out,
until it is that script: maps are stretched over the image instead of being taken back by the affine, no
mirrored pass, the fine heatmaps alone, corners aligned, keypoints dealt out as they come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.ablation.variant import Variant, reference
from workbench.grouping import HIGHERHRNET, MMPOSE

if TYPE_CHECKING:
    from workbench.models.bottom_up import BottomUp
    from workbench.records import Outputs

TOGETHER = "all of these: a simplified script"


def grouping_variants(model: BottomUp, outputs: Outputs) -> list[Variant]:
    """The reference first, then every single change that these outputs allow, then several at once.

    Args:
        model: its own rules are the reference.
        outputs: of any image: they tell which passes and resolutions there are.
    """
    own = reference(model)
    simple = _simplifications(own, len(model.skeleton), _absent(own, outputs))
    changes = [own.but(name, about, **rules) for name, about, rules in simple]
    changes += _maps(own, model.scales, _absent(own, outputs))
    changes += _detections(own)
    changes += _dealing(own, len(model.skeleton))
    changes += _placing(own)
    # What changes nothing, because the model's own rules are so already, tells nothing.
    kept = [v for v in changes if (v.aggregation, v.grouping) != (own.aggregation, own.grouping)]
    return [own, *kept, *_cumulative(own, simple)]


def _absent(own: Variant, outputs: Outputs) -> set[str]:
    """Rules that have nothing to choose from."""
    absent = set()
    if not own.aggregation.flip or not any(name.endswith("mirrored") for name in outputs.passes):
        absent |= {"flip", "flip_tags"}
    if outputs.coarse is None:
        absent.add("resolutions")
    return absent


def _simplifications(own: Variant, K: int, absent: set[str]) -> list[tuple[str, str, dict[str, Any]]]:
    """What a simplified script leaves out: name, one line, rules."""
    plain = tuple(range(K))
    every: list[tuple[str, str, dict[str, Any]]] = [
        (
            "no inverse affine",
            "maps stretched over the image, of which the input shows more",
            {"inverse_affine": False},
        ),
        ("no flip", "the mirrored pass left out, heatmaps and tags", {"flip": False}),
        ("fine heatmaps only", "the coarser resolution is not averaged in", {"resolutions": "fine"}),
        ("align_corners", "maps enlarged so that corners stay", {"align_corners": True}),
        ("keypoints in their order", "the first first, not head, trunk, limbs", {"joint_order": plain}),
    ]
    same = own.grouping.order(K) == plain
    return [
        entry for entry in every if not absent & set(entry[2]) and not (same and "joint_order" in entry[2])
    ]


def _cumulative(own: Variant, simple: list[tuple[str, str, dict[str, Any]]]) -> list[Variant]:
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
    if "flip_tags" not in absent:
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
    kernels = {1: "no suppression", 3: "", 7: "", 11: ""}
    about = "cells along each side in which a detection must be the highest"
    changes = [own.but(f"NMS kernel {k}", note or about, nms_kernel=k) for k, note in kernels.items()]
    changes += [
        own.but(f"detection threshold {t:g}", "what a detection must exceed", detection_threshold=t)
        for t in (0.05, 0.2, 0.3)
    ]
    return [*changes, own.but("top 10", "detections kept per keypoint", top_k=10)]


def _dealing(own: Variant, K: int) -> list[Variant]:
    """To whom detections go."""
    backwards = tuple(reversed(own.grouping.order(K)))
    other = "munkres" if own.grouping.solver == "scipy" else "scipy"
    return [
        own.but("order backwards", "limbs first", joint_order=backwards),
        own.but("tag threshold 0.5", "how near tags must be", tag_threshold=0.5),
        own.but("tag threshold 2", "how near tags must be", tag_threshold=2.0),
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
