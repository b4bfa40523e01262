"""Findings that need the images: which are turned by EXIF, which are there twice, perhaps saved anew?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.data.images import MOST_PIXELS, turned_by_exif

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.data.pose_set import PoseSet

# Grey levels of a picture scaled to this many pixels a side tell two scenes apart and not two JPEG qualities.
_SIDE = 24
# Mean difference, of 255, below which two pictures are one. JPEG at quality 50 differs by about 1.
_SAME = 2.0
# Two plain pictures are alike whatever they show; below this spread of grey levels nothing is told.
_PLAIN = 3.0


def image_lints(pose_set: PoseSet, most: int = 1000) -> tuple[str, ...]:
    """Findings that need the images: turned by EXIF, and pictures that are there twice.

    Args:
        pose_set: its images that are there are read; missing ones are another finding.
        most: images to look at; when there are more, the findings say so.
    """
    present = [r for r in pose_set.images.values() if r.path.is_file()]
    looked = present[:most]
    limited = f" (the first {most:,} of {len(present):,} images were looked at)" if looked != present else ""
    turned = stored = 0
    for record in looked:
        try:
            sizes = turned_by_exif(record.path)
        except (ValueError, OSError):
            continue  # said by who reads it
        if sizes is not None:
            turned += 1
            as_stored, upright = sizes
            stored += (record.height, record.width) == as_stored != upright
    found = []
    if turned:
        found.append(
            f"{turned} images are turned by their EXIF orientation: OpenCV, mmpose and browsers show them"
            " upright"
            + (f"; {stored} are annotated on the picture as it is stored, and read so here" if stored else "")
            + limited
        )
    paths: dict[Any, int] = defaultdict(int)
    for record in pose_set.images.values():
        paths[record.path] += 1
    same_file = sum(n - 1 for n in paths.values())
    if same_file:
        found.append(f"{same_file} images name a file that another image names as well")
    repeated = alike([r.path for r in dict.fromkeys(looked)])
    if repeated:
        found.append(
            f"{len(repeated)} images are nearly the same picture as another, the first {repeated[0].name}:"
            f" they count twice, and leak where one is trained on{limited}"
        )
    return tuple(found)


def alike(paths: Sequence[Path]) -> list[Path]:
    """Those image files that show nearly the same as an earlier one; unreadable ones are passed by."""
    kept: list[Path] = []
    small: list[np.ndarray] = []
    for path in paths:
        thumbnail = _thumbnail(path)
        if thumbnail is not None and thumbnail.std() >= _PLAIN:
            kept.append(path)
            small.append(thumbnail.ravel())
    if len(kept) < 2:
        return []
    table = np.stack(small)
    found = []
    for i in range(1, len(kept)):
        if (np.abs(table[:i] - table[i]).mean(1) < _SAME).any():
            found.append(kept[i])
    return found


def _thumbnail(path: Path) -> Float[np.ndarray, "s s"] | None:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                return None
            # JPEG decodes at an eighth of its size in a fraction of the time.
            picture.draft("L", (4 * _SIDE, 4 * _SIDE))
            grey = picture.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
            return np.asarray(grey, np.float32)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
