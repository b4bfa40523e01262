"""Drawn scenes: a data set that needs no download. `write_scenes` draws one into a folder.

Textured animals with AP-10K's 17 keypoints and people with COCO's 17, built of rounded cones in space and
rendered through a depth buffer on noise landscapes. Several figures stand in one picture, occlude each other
and are cut off at the borders, and the visibility of every keypoint is known exactly. The same seed gives the
same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.core import Skeleton
from workbench.skeletons import SKELETONS

VERSION = 1
"""Raised whenever the drawings change, so that figures on different pictures are not compared."""


@dataclass(frozen=True)
class SceneSet:
    """Which scenes to draw.

    Attributes:
        name: of the built-in set.
        kind: ``animals`` or ``people``: what is annotated, and what most scenes show.
        count: pictures.
        seed: with a picture's number it decides everything in it.
    """

    name: str
    kind: str
    count: int
    seed: int

    @property
    def skeleton(self) -> Skeleton:
        """Whose keypoints are annotated."""
        return SKELETONS["ap10k-17" if self.kind == "animals" else "coco-17"]


def write_scenes(folder: Path, scenes: SceneSet, progress: Callable[[int, int], None] | None = None) -> Path:
    """Draw a set into a folder: ``images/000001.jpg`` and on, and ``annotations.json`` in COCO form.

    Args:
        folder: made when absent; files of the same names are replaced.
        scenes: what to draw.
        progress: called with (done, total) after each picture.

    Returns:
        The path of the annotations.
    """
    from workbench.data.images import write_image
    from workbench.data.scenes.composition import scene, scene_annotations, species_categories

    animals = scenes.kind == "animals"
    skeleton = scenes.skeleton
    categories = species_categories() if animals else {"person": 1}
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number in range(1, scenes.count + 1):
        drawn = scene(np.random.default_rng([VERSION, scenes.seed, number]), 0.10 if animals else 0.90)
        name = f"{number:06d}.jpg"
        write_image(folder / "images" / name, drawn.image)
        height, width = drawn.image.shape[:2]
        images.append(
            {"id": number, "file_name": name, "width": width, "height": height, "place": drawn.place}
        )
        for annotation in scene_annotations(drawn, skeleton, categories):
            found.append({"id": len(found) + 1, "image_id": number, **annotation})
        if progress is not None:
            progress(number, scenes.count)
    content = {
        "info": {
            "description": f"Drawn scenes, {scenes.name}: {skeleton.name} keypoints, exact visibility",
            "version": f"{VERSION}, seed {scenes.seed}",
            "contributor": "pose workbench",
        },
        "licenses": [{"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}],
        "images": images,
        "annotations": found,
        "categories": [
            {
                "id": number,
                "name": name,
                "supercategory": "animal" if animals else "person",
                "keypoints": list(skeleton.keypoints),
                "skeleton": [[a + 1, b + 1] for a, b in skeleton.limbs],
            }
            for name, number in categories.items()
        ],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps(content, separators=(",", ":")))
    return path
