"""Which pictures are there twice, perhaps saved anew or in another size?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

# Grey levels of a picture scaled to this many pixels a side tell two scenes apart and not two JPEG qualities.
_SIDE = 24
# Mean difference, of 255, below which two pictures are one. JPEG at quality 50 differs by about 1.
_SAME = 2.0
# Two plain pictures are alike whatever they show; below this spread of grey levels nothing is told.
_PLAIN = 3.0


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

    from workbench.data.images import MOST_PIXELS

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
