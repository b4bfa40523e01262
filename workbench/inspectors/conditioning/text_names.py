"""Do the rows of a text speak of the skeleton's keypoints, in their order?"""

from __future__ import annotations

from collections.abc import Sequence


def keypoint_names_text(text: Sequence[str], skeleton: Sequence[str]) -> str:
    """How the keypoints that the text speaks of differ from the skeleton's; "" where they do not.

    Args:
        text: names of the rows, in their order; none where the text does not name them.
        skeleton: the keypoints, in their order.
    """

    def plain_name(name: str) -> str:
        # L_Eye, left eye and left_eye are one; order of the words counts for nothing.
        words = name.lower().replace("_", " ").replace("-", " ").split()
        short = {"l": "left", "r": "right", "f": "front", "b": "back"}
        return " ".join(sorted(short.get(word, word) for word in words))

    a, b = [plain_name(name) for name in text], [plain_name(name) for name in skeleton]
    if not a or a == b or all(name.startswith("keypoint") for name in skeleton):
        return ""
    off = [k for k in range(min(len(a), len(b))) if a[k] != b[k]]
    if sorted(a) == sorted(b):
        k = off[0]
        return (
            f"the text has the skeleton's keypoints in another order: row {k} speaks of {text[k]}, where "
            f"keypoint {k} is {skeleton[k]}; {len(off)} of {len(a)} rows are given to another keypoint"
        )
    known = set(b)
    strange = [text[k] for k in range(len(a)) if a[k] not in known]
    if not strange:
        return ""
    return (
        f"{len(strange)} of {len(a)} rows of the text speak of what the skeleton does not have: "
        f"{', '.join(strange[:3])}{' ...' if len(strange) > 3 else ''} (its keypoints: "
        f"{', '.join(skeleton[:3])} ...)"
    )
