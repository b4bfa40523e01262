"""What `workbench predict --demo` shows: the last epoch of the demo run on the first image of its data."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.cli.pictures import Boxes, Picture
    from workbench.core.geometry import Box
    from workbench.data import PoseSet
    from workbench.models import LoadedModel


def demonstrated(images: list[Path] | None) -> tuple[LoadedModel, list[Path], Boxes, str]:
    """The demo model, pictures, their boxes and what to call those.

    Args:
        images: the user's own, looked at whole; by default the first scene of the run's own data.

    Raises:
        NotAvailable: the demo checkpoints are not here.
    """
    from workbench.checkpoints.demo import demo_checkpoints, demo_data
    from workbench.cli.pictures import whole
    from workbench.data import builtin
    from workbench.models import open_model

    loaded = open_model(demo_checkpoints()[-1])
    if images:
        return loaded, images, whole, "whole image"
    shown = builtin(demo_data())
    return loaded, [_file(shown)], _annotated(shown), f"annotation ({shown.name})"


def _first(pose_set: PoseSet) -> int:
    return pose_set.instances[pose_set.labelled[0]].image_id


def _file(pose_set: PoseSet) -> Path:
    """The first labelled image as a file: its own, or a copy of pixels that have none."""
    from workbench.data.images import write_image

    image_id = _first(pose_set)
    path = pose_set.images[image_id].path
    if path.is_file():
        return path
    folder = Path(tempfile.mkdtemp(prefix="workbench-"))
    return write_image(folder / f"{pose_set.name}_{image_id}.png", pose_set.image(image_id))


def _annotated(pose_set: PoseSet) -> Boxes:
    image_id = _first(pose_set)
    found: list[tuple[Box, float]] = [
        (pose_set.instances[i].box, 1.0)
        for i in pose_set.labelled
        if pose_set.instances[i].image_id == image_id
    ]

    def boxes(_: Picture) -> list[tuple[Box, float]]:
        return found

    return boxes
