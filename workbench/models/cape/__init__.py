"""Family cape: category-agnostic pose, autoregressive: keypoints one after the other, from a support example.

A compact re-implementation of the family of nkkrnkl/category-agnostic-pose-estimation (Raster2Seq's decoder
with a geometric support encoder): small enough to learn an image in a minute on a CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.checkpoints.identity import Identity, Shapes, times
from workbench.core.report import counted
from workbench.models.families import Family, Fresh, FreshOptions, deferred

if TYPE_CHECKING:
    from workbench.core import PoseModel
    from workbench.models.opening import Opening


def _opens(opening: Opening) -> bool:
    return "cape" in opening.required().meta and not opening.config_is_top_down


def _small(options: FreshOptions) -> tuple[PoseModel, str]:
    from workbench.models.cape.model import new_cape
    from workbench.models.cape.network import Size

    size = Size(input_size=(96, 96), steps=max(80, len(options.skeleton) + 1))
    model = new_cape(options.skeleton, size, options.seed)
    model.module.to(options.device)
    return model, "cape from first weights"


def _identify(view: Shapes) -> Identity | None:
    return _own(view) or _published(view) or _matching(view)


def _own(view: Shapes) -> Identity | None:
    """The compact re-implementation of this workbench (workbench.models.cape)."""
    rows, pointer = view.first("tokens.rows.weight"), view.first("decoder.pointer.weight")
    if not rows or not pointer or not view.any(r"^support_encoder\."):
        return None
    tokens, width = rows[1]
    layers = view.count(r"^decoder\.layers\.(\d+)\.")
    steps = view["decoder.position"][0] if "decoder.position" in view else 0
    evidence = (
        f"tokens.rows.weight {times(rows[1])}, decoder.pointer.* and support_encoder.*: an autoregressive "
        "decoder over coordinate tokens with a support encoder, as workbench.models.cape has it",
        f"{layers} decoder layers of width {width}; sequences of up to {counted(steps, 'step')}, the end "
        "included",
    )
    facts = {"tokens": tokens, "width": width, "decoder layers": layers, "steps": steps}
    return Identity("cape", "", evidence, facts=facts, capabilities=("RollsOut",))


def _published(view: Shapes) -> Identity | None:
    """Autoregressive: a decoder that writes coordinates token by token, and an encoder of the support."""
    support = view.any(r"^support_encoder\.")
    if not support or not view.any(r"^base_model\."):
        return None
    evidence = [f"base_model.* and {support} ...: an autoregressive decoder with a support encoder (CAPE)"]
    words = view.any(r"(token_embed|vocab_embed|embed_tokens|coords_embed|output_token|seq_embed).*weight$")
    facts = {}
    if words:
        rows = view[words][0]
        evidence.append(f"{words} {times(view[words])}: {counted(rows, 'token')}")
        facts["tokens"] = rows
    layers = view.count(r"decoder\.layers\.(\d+)\.")
    if layers:
        evidence.append(f"{layers} decoder layers")
        facts["decoder layers"] = layers
    dead = view.any(r"^support_cross_attention_layers\.")
    if dead:
        evidence.append(f"{dead} ...: weights that the forward pass never uses, in every published version")
    return Identity("CAPE, autoregressive", "", tuple(evidence), facts=facts)


def _matching(view: Shapes) -> Identity | None:
    """CapeFormer and PoseAnything: proposals matched to support features, refined by a transformer."""
    mark = view.any(r"^keypoint_head\.(transformer\.proposal_generator|kpt_branch|transformer\.decoder)")
    if not mark:
        return None
    graph = view.any(r"^keypoint_head\..*(gcn|ffn1\.conv|graph)")
    evidence = [f"{mark} ...: proposals from matching, refined by a transformer (CapeFormer)"]
    if graph:
        evidence.append(f"{graph}: graph convolutions over the skeleton (PoseAnything)")
    return Identity("PoseAnything" if graph else "CapeFormer", "", tuple(evidence))


FAMILY = Family(
    name="cape",
    summary="category-agnostic, autoregressive: keypoints one after the other, from a support example",
    load=deferred("workbench.models.cape.model", "load"),
    identify=_identify,
    opens=_opens,
    fresh=(Fresh("cape", _small, learns_as="sequence"),),
    save=deferred("workbench.models.cape.model", "write"),
)
