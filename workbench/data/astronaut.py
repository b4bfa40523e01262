"""One real photograph that a dependency ships, with keypoints marked by hand (astronaut.json says how)."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

from workbench.data.coco import read_coco
from workbench.data.pose_set import PoseSet


def astronaut() -> PoseSet:
    """The photograph of Eileen Collins in scikit-image: one person, COCO's 17 keypoints.

    Raises:
        FileNotFoundError: scikit-image is not installed, or this version no longer ships the picture.
    """
    found = importlib.util.find_spec("skimage")  # its folder is enough; importing it takes a second
    if found is None or found.origin is None:
        raise FileNotFoundError("astronaut: scikit-image, which ships the photograph, is not installed")
    images = Path(found.origin).parent / "data"
    if not (images / "astronaut.png").is_file():
        raise FileNotFoundError(f"astronaut: this scikit-image ships no astronaut.png in {images}")
    photograph = read_coco(Path(__file__).with_name("astronaut.json"), images)
    return replace(photograph, name="astronaut", source="scikit-image's astronaut.png; keypoints by hand")
