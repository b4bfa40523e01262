"""Settings of grouping: every difference between the published protocols is one field.

`HIGHERHRNET` is the protocol of the published figures, `MMPOSE` that of mmpose's AssociativeEmbedding codec.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

TagLayout = Literal["per_joint", "shared"] | tuple[int, ...]

# From head over trunk to limbs. Source: HigherHRNet-Human-Pose-Estimation, lib/core/group.py Params.
REFERENCE_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)

LARGEST_KERNEL = 1001
"""Largest side of the suppression window, cells: one of 30,001 takes 900 MB, and covers no other maximum."""


@dataclass(frozen=True)
class GroupingSettings:
    """Settings of grouping; the defaults are the reference protocol of HigherHRNet, except for the solver.

    Source: HRNet/HigherHRNet-Human-Pose-Estimation, lib/core/group.py and lib/config/default.py; mmpose 1.3.2
    codecs/associative_embedding.py.

    Attributes:
        nms_kernel: side of the non-maximum suppression window, cells, odd; 1 for no suppression.
        top_k: detections per keypoint, the highest.
        joint_order: the order in which keypoints are assigned, from 0; () for the reference's, further
            keypoints after it.
        detection_threshold: a detection's value must exceed it; zero or more.
        tag_threshold: a detection joins a person when the tag distance is below this.
        use_detection_value: cost = round(distance) * 100 - value; otherwise the distance itself.
        solver: of the assignment: ``scipy``, or ``munkres`` (reference); they differ where several
            assignments cost the same, see workbench.decoding.grouping.assignment.
        ignore_too_much: drop detections that would start a person beyond max_people.
        max_people: limit used by `people_limit`; None for no limit.
        people_limit: ``joining``: any number of people is found, but detections join only the first
            max_people (reference); ``result``: the result is cut to the first max_people (mmpose).
        tag_layout: tag map of each keypoint: ``per_joint`` its own, ``shared`` the only one, or the index of
            a map for every keypoint.
        adjust: move detected keypoints a quarter cell towards the higher neighbour, then by centre_shift.
        quarter: ``larger``: on ties towards the top left, also at the border (reference); ``sign``: no move
            on ties and beside the border (mmpose); ``udp``: UDP's Newton step (mmpose with use_udp).
        udp_blur: side of the blur of ``udp``, cells, odd.
        fill_blurred: refine reads the blurred logarithm of the map instead of the map, because mmpose's
            ``udp`` overwrites the map.
        centre_shift: cells added to adjusted keypoints: .5 where cell centres lie at .5.
        refine: fill in missing keypoints: the cell with the highest value - fill_weight * round(distance of
            its tag to the person's mean tag).
        person_score: mean of all K values: ``detected``: before refine, missing ones counted as 0 (reference
            and mmpose); ``filled``: after refine, as some scripts do by mistake.
        fill_weight: of the rounded tag distance in refine: 1 (reference) or 100 (mmpose).
        fill_adjusted: move filled keypoints by a quarter cell and half a cell (reference).
        fill_positive: leave a keypoint missing where the best cell's value is not positive (reference).
    """

    nms_kernel: int = 5
    top_k: int = 30
    joint_order: tuple[int, ...] = ()
    detection_threshold: float = 0.1
    tag_threshold: float = 1.0
    use_detection_value: bool = True
    solver: Literal["scipy", "munkres"] = "scipy"
    ignore_too_much: bool = False
    max_people: int | None = 30
    people_limit: Literal["joining", "result"] = "joining"
    tag_layout: TagLayout = "per_joint"
    adjust: bool = True
    quarter: Literal["larger", "sign", "udp"] = "larger"
    udp_blur: int = 3
    fill_blurred: bool = False
    centre_shift: float = 0.5
    refine: bool = True
    person_score: Literal["detected", "filled"] = "detected"
    fill_weight: float = 1.0
    fill_adjusted: bool = True
    fill_positive: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.nms_kernel <= LARGEST_KERNEL or self.nms_kernel % 2 == 0:
            raise ValueError(
                f"nms_kernel: expected an odd number of cells up to {LARGEST_KERNEL}, got {self.nms_kernel}"
            )
        if self.top_k < 1:
            raise ValueError(f"top_k: expected at least 1 detection per keypoint, got {self.top_k}")
        if self.max_people is not None and self.max_people < 1:
            raise ValueError(f"max_people: expected at least 1, or None for no limit, got {self.max_people}")
        # Suppressed cells are zero: with a negative threshold all of them would be detections.
        if not self.detection_threshold >= 0:
            raise ValueError(f"detection_threshold: expected zero or more, got {self.detection_threshold}")
        if not self.tag_threshold >= 0:
            raise ValueError(f"tag_threshold: expected zero or more, got {self.tag_threshold}")
        if not self.fill_weight >= 0:
            raise ValueError(f"fill_weight: expected zero or more, got {self.fill_weight}")
        for name, known in _WORDS.items():
            word = getattr(self, name)
            if not isinstance(word, tuple) and word not in known:
                raise ValueError(f"{name}: expected {' or '.join(known)}, got {word!r}")

    def order(self, keypoints: int) -> tuple[int, ...]:
        """The order in which this number of keypoints is assigned.

        Raises:
            ValueError: joint_order does not name each of them once.
        """
        if not self.joint_order:
            known = tuple(j for j in REFERENCE_ORDER if j < keypoints)
            return known + tuple(range(len(known), keypoints))
        if sorted(self.joint_order) != list(range(keypoints)):
            raise ValueError(
                f"joint_order: expected each of 0 to {keypoints - 1} once, got {list(self.joint_order)}; "
                "the reference's own list counts from 1"
            )
        return self.joint_order

    def maps(self, keypoints: int, tags: int) -> tuple[int, ...]:
        """The index of the tag map of each keypoint.

        Args:
            keypoints: number of keypoints.
            tags: number of tag maps.

        Raises:
            ValueError: the layout does not fit this many keypoints and tag maps.
        """
        if self.tag_layout == "per_joint":
            if tags == keypoints:
                return tuple(range(keypoints))
            hint = "shared" if tags == 1 else "an index per keypoint"
            raise ValueError(
                f"tag layout per_joint: expected {keypoints} tag maps, one per keypoint, got {tags}; "
                f"declare the layout as {hint}"
            )
        if self.tag_layout == "shared":
            if tags == 1:
                return (0,) * keypoints
            raise ValueError(
                f"tag layout shared: expected one tag map for all keypoints, got {tags}; to read one of "
                f"them for all, give its index {keypoints} times"
            )
        layout = tuple(self.tag_layout)
        if len(layout) != keypoints or not all(0 <= index < tags for index in layout):
            raise ValueError(
                f"tag layout: expected {keypoints} indices from 0 to {tags - 1}, got {list(layout)}"
            )
        return layout


_WORDS = {
    "solver": ("scipy", "munkres"),
    "people_limit": ("joining", "result"),
    "tag_layout": ("per_joint", "shared"),
    "person_score": ("detected", "filled"),
    "quarter": ("larger", "sign", "udp"),
}

HIGHERHRNET = GroupingSettings()
MMPOSE = GroupingSettings(
    max_people=None,
    people_limit="result",
    quarter="sign",
    centre_shift=0.0,
    fill_weight=100.0,
    fill_adjusted=False,
    fill_positive=False,
)
MMPOSE_UDP = replace(MMPOSE, quarter="udp", fill_blurred=True)
RULES: dict[str, GroupingSettings] = {"higherhrnet": HIGHERHRNET, "mmpose": MMPOSE, "mmpose-udp": MMPOSE_UDP}
"""The published protocols by name; `dataclasses.replace` changes single settings."""
