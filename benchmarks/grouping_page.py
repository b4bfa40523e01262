"""How long after a slider of the Grouping page moved is the AP there? 36 images of a photograph's shape.

The page's own evaluation: outputs and enlarged maps are stored, people are grouped by the new settings and
scored. Maps are those of the annotated people with noise everywhere, as a network's, so that without
suppression thousands of cells lie above the threshold. Judged by the processor time of all threads together:
a machine with other work on it lets a user wait longer, which is stated beside it.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import torch

from benchmarks.row import Row

IMAGES = 36
SIDE, LONGER = 512, 768  # of the input
NOISE = 0.01
LIMIT = 1.0  # seconds
ROUNDS = 3

SETTINGS: dict[str, dict[str, Any]] = {
    "threshold of detections": {"detection_threshold": 0.2},
    "threshold of tags": {"tag_threshold": 0.5},
    "NMS 11": {"nms_kernel": 11},
    "NMS 1": {"nms_kernel": 1},
    "NMS 1 and the lowest threshold": {"nms_kernel": 1, "detection_threshold": 0.0},
    "without refine": {"refine": False},
}


def rows() -> list[Row]:
    """One row for each control that was moved."""
    from workbench.inspectors.grouping.replay import MapCache, PictureParams, evaluate_settings

    model, pose_set, stored = stored_passes()
    cache = MapCache(2 << 30)

    def answer(changes: dict[str, Any]) -> tuple[float, float, Any]:
        params = PictureParams(**changes)
        started, used = time.perf_counter(), time.process_time()
        figures = evaluate_settings(model, stored, pose_set, params, None, cache, ("benchmark",))
        return time.perf_counter() - started, time.process_time() - used, figures

    answer({})  # the first answer enlarges the maps
    looked = stored[0]
    h, w = model.maps(looked.outputs, looked.batch, 0).heatmaps.shape[-2:]
    if (h, w) != (SIDE, LONGER):
        raise RuntimeError(f"benchmark: expected maps of {SIDE}x{LONGER}, got {h}x{w}")
    made: list[Row] = []
    for name, changes in SETTINGS.items():
        rounds = [answer(changes) for _ in range(ROUNDS)]
        waited, used, found = min(rounds, key=lambda r: r[1])
        made.append(
            {
                "what": f"Grouping page, {name}: regrouping and AP of {IMAGES} images, maps of "
                f"{h}x{w}, {found.found} people found, {found.annotated} annotated",
                "ours": f"{used:.2f} s of processor, waited {waited:.2f} s",
                "peer": "",
                "ratio": f"AP {found.figures['AP']:.3f}",
                "target": f"<= {LIMIT:g} s of processor",
                "met": used <= LIMIT,
            }
        )
    return made


def stored_passes() -> tuple[Any, Any, list[Any]]:
    """A bottom-up model, the set, and its outputs on the first images, plain and mirrored."""
    from tests.evaluation.ablation.planted import planted
    from workbench.data import builtin
    from workbench.evaluation.predict import forward_passes

    scenes = builtin("scenes-people-val")
    ids = list(scenes.labelled_of_image)[:IMAGES]
    rng = torch.Generator().manual_seed(0)
    stored = []
    with tempfile.TemporaryDirectory() as folder:
        scenes = _widened(scenes, ids, Path(folder))
        model = planted(scenes, ids, SIDE)
        for looked in forward_passes(model, scenes, ids, flip=True):
            outputs = _noisy(looked.outputs, rng)
            batch = dataclasses.replace(looked.batch, pixels=torch.zeros(0))
            stored.append(dataclasses.replace(looked, outputs=outputs, batch=batch))
    return model, scenes, stored


def _widened(scenes: Any, ids: list[int], folder: Path) -> Any:
    """The set with these images in the input's shape: columns are added at the right."""
    images = dict(scenes.images)
    for number in ids:
        pixels = scenes.image(number)
        height, width = pixels.shape[:2]
        more = height * LONGER // SIDE - width
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), cv2.copyMakeBorder(pixels[..., ::-1], 0, 0, 0, more, cv2.BORDER_REPLICATE))
        images[number] = dataclasses.replace(images[number], path=path, width=width + more)
    return dataclasses.replace(scenes, images=images)


def _noisy(outputs: Any, rng: torch.Generator) -> Any:
    changed = {
        name: maps + NOISE * torch.randn(maps.shape, generator=rng)
        for name in ("heatmaps", "coarse", "tags")
        if (maps := getattr(outputs, name)) is not None
    }
    passes = {name: _noisy(more, rng) for name, more in outputs.passes.items()}
    return dataclasses.replace(outputs, **changed, passes=passes)
