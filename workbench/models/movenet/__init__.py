"""Family movenet: MoveNet over a MobileNetV3-like backbone, built from its file alone, without a config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.checkpoints.identity import Identity, Shapes, keypoint_sentence
from workbench.core.report import counted
from workbench.models.families import Family, deferred

if TYPE_CHECKING:
    from workbench.models.opening import Opening


def _identify(view: Shapes) -> Identity | None:
    """Four heads over one map: heatmaps, centre, regressions from the centre, offsets."""
    prefix = "header.header_"
    heads = {
        name: view.any(rf"^header\.header_{name}\.1\.weight$")
        for name in ("heatmaps", "centers", "regs", "offsets")
    }
    if not all(heads.values()):
        return None
    sizes = {name: view[weight][0] for name, weight in heads.items()}
    keypoints = sizes["heatmaps"]
    evidence = [
        f"{prefix}heatmaps, centers, regs, offsets with "
        f"{', '.join(str(n) for n in sizes.values())} channels: MoveNet's four heads",
        keypoint_sentence(keypoints, heads["heatmaps"], view[heads["heatmaps"]]),
    ]
    clash = ()
    if sizes["regs"] != 2 * keypoints or sizes["offsets"] != 2 * keypoints:
        clash = (
            f"{sizes['regs']} regressions and {sizes['offsets']} offsets do not fit "
            f"{counted(keypoints, 'keypoint')}",
        )
    return Identity("MoveNet", "", tuple(evidence), "", clash, keypoints, None, {"channels": sizes})


def _opens(opening: Opening) -> bool:
    return opening.required().identity.record == FAMILY.name and not opening.has_config


FAMILY = Family(
    name="movenet",
    summary="MoveNet: four maps, read from the centre outwards; without a config",
    load=deferred("workbench.models.movenet.network", "load"),
    identify=_identify,
    opens=_opens,
    leaves_open=("padding",),
)
