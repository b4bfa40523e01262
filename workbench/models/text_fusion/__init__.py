"""Family text fusion: an RTMPose whose features are conditioned by sentences, and whose vectors are refined.

``custom_imports = dict(imports=["workbench.models.text_fusion.register"])`` registers the modules with mmpose
under the names of the published code, so that its configs and checkpoints open too. Every defect of that
code is an option here, and the two paths through the network (training, inference) are values: see Path.

Source: a-kitaev/Equistera-Trainer@23117ce tools/: names, shapes and order of operations; none of its code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.checkpoints.identity import Identity, Shapes, times
from workbench.models.families import ConfigModules, Family, deferred

if TYPE_CHECKING:
    from workbench.models.text_fusion.family import Path, TextFusion

__all__ = ["FAMILY", "Path", "TextFusion"]


def __getattr__(name: str) -> Any:
    """Classes of this package, imported when they are asked for: they need torch, the record does not."""
    if name == "TextFusion":
        from workbench.models.text_fusion.family import TextFusion

        return TextFusion
    if name == "Path":
        from workbench.models.text_fusion.family import Path

        return Path
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _identify(view: Shapes) -> Identity | None:
    """RTMPose with a text neck (FiLM or cross-attention) and a SimCC refiner, as in Equistera-Trainer."""
    film = view.first("neck.global_mlp.0.weight", "neck.local_mlp.0.weight")
    attention = view.any(r"^neck\.cross_attn\.in_proj_weight$")
    refiner = view.any(r"^head\.refiner\.")
    if film is None and not attention and not refiner:
        return None
    from workbench.models.mmpose.identity import rtmpose

    base = rtmpose(view)
    if base is None:
        return None
    evidence = []
    if film is not None:
        text = film[1][1]
        evidence.append(
            f"{film[0]} {times(film[1])}: FiLM neck, text of {text} numbers to scale and shift of "
            f"{film[1][0] // 2}"
        )
    if "neck.film_gate" in view:
        evidence.append("neck.film_gate: the fusion is gated (the later version)")
    if attention:
        evidence.append(f"{attention}: cross-attention between image and text")
    if refiner:
        evidence.append(f"{refiner} ...: a refiner of the SimCC vectors behind the head")
    mode = "film" if film is not None else "attention" if attention else "plain neck"
    return Identity(
        "RTMPose with text fusion" if film is not None or attention else "RTMPose with refiner",
        f"{base.variant}, {mode}{', refiner' if refiner else ''}",
        (*evidence, *base.evidence),
        "",
        base.contradictions,
        base.keypoints,
        base.input_size,
        base.facts,
        ("Conditioned",) if film is not None or attention else (),
    )


def _built(module: Any) -> bool:
    from workbench.models.text_fusion.estimator import TopdownPoseEstimatorWithNeck

    return type(module) is TopdownPoseEstimatorWithNeck


FAMILY = Family(
    name="text_fusion",
    summary="RTMPose whose features are conditioned by sentences; opened as the mmpose config it has",
    load=deferred("workbench.models.mmpose.model", "load"),
    identify=_identify,
    opens=lambda _opening: False,
    config_modules=ConfigModules(
        deferred("workbench.models.text_fusion.config", "names_the_family"),
        deferred("workbench.models.text_fusion.register", "register"),
        deferred("workbench.models.text_fusion.register", "making_room"),
        deferred("workbench.models.text_fusion.config", "fitted"),
        _built,
        deferred("workbench.models.text_fusion.config", "conditioned"),
    ),
)
