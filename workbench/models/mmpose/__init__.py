"""Family mmpose: any mmpose 1.x config with its checkpoint; top-down and grouping ones are read."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.core import NotAvailable
from workbench.models.families import Family, Fresh, FreshOptions, deferred

if TYPE_CHECKING:
    from workbench.core import PoseModel
    from workbench.models.opening import Opening

# Network and skeleton -> a config that mmpose ships, of a size that learns an image in minutes on a CPU.
_SHIPPED: dict[str, dict[str, str]] = {
    "rtmpose": {
        "coco-17": "body_2d_keypoint/rtmpose/coco/rtmpose-t_8xb256-420e_coco-256x192.py",
        "ap10k-17": "animal_2d_keypoint/rtmpose/ap10k/rtmpose-m_8xb64-210e_ap10k-256x256.py",
    },
    "hrnet": {
        "coco-17": "body_2d_keypoint/topdown_heatmap/coco/td-hm_hrnet-w32_8xb64-210e_coco-256x192.py",
        "ap10k-17": "animal_2d_keypoint/topdown_heatmap/ap10k/td-hm_hrnet-w32_8xb64-210e_ap10k-256x256.py",
    },
    "resnet": {
        "coco-17": "body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py",
        "ap10k-17": "animal_2d_keypoint/topdown_heatmap/ap10k/td-hm_res50_8xb64-210e_ap10k-256x256.py",
    },
}


def _opens(opening: Opening) -> bool:
    """Every checkpoint with a config: the load report says how much of its tensors the model takes."""
    return opening.has_config


def shipped_config(network: str, skeleton: str) -> Path:
    """The config that mmpose ships for a network and a skeleton.

    Args:
        network: ``rtmpose``, ``hrnet`` or ``resnet``.
        skeleton: ``coco-17`` or ``ap10k-17``.

    Raises:
        NotAvailable: mmpose is not installed.
    """
    spec = importlib.util.find_spec("mmpose")
    if spec is None or spec.origin is None:
        raise NotAvailable(f"{network}: mmpose is not installed; use --adapter with a network of your own")
    return Path(spec.origin).parent / ".mim" / "configs" / _SHIPPED[network][skeleton]


def _shipped(network: str, options: FreshOptions) -> tuple[PoseModel, str]:
    from workbench.models.mmpose.config import run_config
    from workbench.models.mmpose.model import from_config

    path = shipped_config(network, options.skeleton.name)
    return from_config(run_config(path), options.device), path.stem


FAMILY = Family(
    name="mmpose",
    summary="any mmpose 1.x config with its checkpoint",
    load=deferred("workbench.models.mmpose.model", "load"),
    identify=deferred("workbench.models.mmpose.identity", "identify"),
    opens=_opens,
    deny=deferred("workbench.models.mmpose.identity", "deny"),
    leaves_open=("expert", "pos_embed"),
    fresh=tuple(
        Fresh(
            network,
            partial(_shipped, network),
            skeletons=tuple(configs),
            config=partial(shipped_config, network),
            only=f"mmpose ships configs for {', '.join(configs)}; name a config of your own with --config",
        )
        for network, configs in _SHIPPED.items()
    ),
)
