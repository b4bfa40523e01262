"""How large is the HigherHRNet in a file? Told by the names and shapes of its tensors alone."""

from __future__ import annotations

import re
from collections.abc import Mapping

from workbench.checkpoints.state_dicts import unwrapped
from workbench.core import NotAvailable
from workbench.models.higherhrnet.network import Architecture

# What wrappers and mmpose put before the published names: DataParallel, Lightning, Sequential(tofp16, net).
_BEFORE = re.compile(r"^(?:module\.|model\.|net\.|1\.)*(?:backbone\.|keypoint_head\.|head\.)?(?:module\.)?")


def published(name: str) -> str:
    """A tensor's name as the published checkpoints have it.

    The loss layers of mmpose have no tensors, so nothing else is in its files.
    """
    return _BEFORE.sub("", unwrapped(name), count=1)


def architecture_of(shapes: Mapping[str, tuple[int, ...]], where: str) -> Architecture:
    """The architecture whose tensors these are.

    Args:
        shapes: by published name.
        where: what to call the file in messages.

    Raises:
        NotAvailable: a tensor that tells a size is missing, or there are no tags.
        ValueError: tags that no declared layout fits, or a further deconvolution.
    """
    first = _shape(shapes, "final_layers.0.weight", where)
    second = _shape(shapes, "final_layers.1.weight", where)
    if any(name.startswith(("deconv_layers.1.", "final_layers.2.")) for name in shapes):
        raise ValueError(f"{where}: HigherHRNet with a second deconvolution; only one is known here")
    keypoints = second[0]
    tags = first[0] - keypoints
    if tags == 0:
        raise NotAvailable(f"tags: {where} has heatmaps at both resolutions and no tag maps, so no grouping")
    if tags not in (1, keypoints):
        raise ValueError(
            f"{where}: final_layers.0 gives {first[0]} maps and final_layers.1 says that {keypoints} are "
            f"heatmaps; expected {keypoints} tag maps (one per keypoint) or 1 (for all), got {tags}"
        )
    return Architecture(
        width=first[1],
        keypoints=keypoints,
        tags=tags,
        stem=_shape(shapes, "conv1.weight", where)[0],
        bottlenecks=_count(shapes, r"layer1\.(\d+)\.", where),
        modules=(
            _count(shapes, r"stage2\.(\d+)\.", where),
            _count(shapes, r"stage3\.(\d+)\.", where),
            _count(shapes, r"stage4\.(\d+)\.", where),
        ),
        blocks=_count(shapes, r"stage2\.0\.branches\.0\.(\d+)\.", where),
        # The first is the deconvolution itself.
        deconv_blocks=_count(shapes, r"deconv_layers\.0\.(\d+)\.", where) - 1,
    )


def _shape(shapes: Mapping[str, tuple[int, ...]], name: str, where: str) -> tuple[int, ...]:
    found = shapes.get(name)
    if found is None or len(found) != 4:
        raise NotAvailable(
            f"{where}: no {name}, which tells the size of a HigherHRNet; it is none, or a part"
        )
    return found


def _count(shapes: Mapping[str, tuple[int, ...]], pattern: str, where: str) -> int:
    numbers = {int(found[1]) for name in shapes if (found := re.match(pattern, name))}
    if not numbers:
        raise NotAvailable(f"{where}: nothing like {pattern}, so this is a part of a HigherHRNet")
    return max(numbers) + 1
