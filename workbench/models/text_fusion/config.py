"""What a checkpoint of this family needs besides its config: the text it names, and whether it has a gate.

The published neck got its gate late, so a config alone does not say whether there is one: the file's tensors
do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from workbench.core import NotAvailable
from workbench.models.mmpose.trust import OwnConfig, changed
from workbench.models.mmpose_user_text import text_of_config
from workbench.models.text_fusion.family import TextFusion
from workbench.models.top_down import TopDown

TYPES = (
    "TopdownPoseEstimatorWithNeck", "TextFusionNeck", "RTMCCHeadWithRefinement", "SimCCDiffusionRefiner"
)  # fmt: skip


def names_the_family(model: Any) -> bool:
    """Whether a model's config uses a module of this family."""
    if isinstance(model, Mapping):
        kind = str(model.get("type", "")).rpartition(".")[2]
        return kind in TYPES or any(map(names_the_family, model.values()))
    return isinstance(model, (list, tuple)) and any(map(names_the_family, model))


def fitted(config: Mapping[str, Any], tensors: Collection[str]) -> Mapping[str, Any]:
    """The config, with what it leaves open filled in from the file's tensors.

    Args:
        config: the whole config.
        tensors: names of the file's tensors.

    Returns:
        the same, or a copy whose neck has no gate where the file has none.

    Raises:
        ValueError: the config has a text neck and the file nothing of it.
    """
    model = config.get("model")
    neck = model.get("neck") if isinstance(model, Mapping) else None
    if not isinstance(model, Mapping) or not isinstance(neck, Mapping):
        return config
    if str(neck.get("type", "")).rpartition(".")[2] != "TextFusionNeck" or not tensors:
        return config
    if isinstance(config, OwnConfig) and not _ours():
        return config
    if not any("neck.global_mlp." in name for name in tensors):
        raise ValueError(
            "the config has a text neck and the checkpoint no neck.global_mlp: it belongs to a model without "
            "text; open it with the config of that model (--config)"
        )
    if "gate" in neck or any(name.endswith("neck.film_gate") for name in tensors):
        return config
    return changed(config, model={**model, "neck": {**neck, "gate": "none"}})


def _ours() -> bool:
    """Whether TextFusionNeck is the workbench's own, and not one that the user's config registered."""
    from workbench.models.text_fusion.register import register

    register()
    from mmpose.registry import MODELS

    from workbench.models.text_fusion.neck import TextFusionNeck

    return MODELS.module_dict.get("TextFusionNeck") is TextFusionNeck


def conditioned(model: TopDown, config: Mapping[str, Any], folder: Path | None = None) -> TextFusion:
    """The model with the text that its config names.

    Args:
        model: the network, cropped and decoded as its config says.
        config: the whole config.
        folder: where files that it names may lie, and text.npz when none of them does; None allows only
            built-in text. A config that the user named may name files below the present folder, too: its
            paths count from where its training was started.
    """
    try:
        return TextFusion(model, text_of_config(config, folder, model.skeleton.keypoints))
    except (NotAvailable, FileNotFoundError) as absent:
        # Inference of the published code needs none; a path that needs one raises with this reason.
        return TextFusion(model, None, no_text=str(absent))
