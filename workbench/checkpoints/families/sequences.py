"""Category-agnostic pose: networks that take the keypoints to find from a support example."""

from __future__ import annotations

from workbench.checkpoints.identity import Identity, Shapes, times


def cape_small(view: Shapes) -> Identity | None:
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
        f"{layers} decoder layers of width {width}; sequences of up to {steps} steps, the end included",
    )
    facts = {"tokens": tokens, "width": width, "decoder layers": layers, "steps": steps}
    return Identity("cape", "", evidence, facts=facts)


def cape(view: Shapes) -> Identity | None:
    """Autoregressive: a decoder that writes coordinates token by token, and an encoder of the support."""
    support = view.any(r"^support_encoder\.")
    if not support or not view.any(r"^base_model\."):
        return None
    evidence = [f"base_model.* and {support} ...: an autoregressive decoder with a support encoder (CAPE)"]
    words = view.any(r"(token_embed|vocab_embed|embed_tokens|coords_embed|output_token|seq_embed).*weight$")
    facts = {}
    if words:
        rows = view[words][0]
        evidence.append(f"{words} {times(view[words])}: {rows} tokens")
        facts["tokens"] = rows
    layers = view.count(r"decoder\.layers\.(\d+)\.")
    if layers:
        evidence.append(f"{layers} decoder layers")
        facts["decoder layers"] = layers
    dead = view.any(r"^support_cross_attention_layers\.")
    if dead:
        evidence.append(f"{dead} ...: weights that the forward pass never uses, in every published version")
    return Identity("CAPE, autoregressive", "", tuple(evidence), facts=facts)


def matching(view: Shapes) -> Identity | None:
    """CapeFormer and PoseAnything: proposals matched to support features, refined by a transformer."""
    mark = view.any(r"^keypoint_head\.(transformer\.proposal_generator|kpt_branch|transformer\.decoder)")
    if not mark:
        return None
    graph = view.any(r"^keypoint_head\..*(gcn|ffn1\.conv|graph)")
    evidence = [f"{mark} ...: proposals from matching, refined by a transformer (CapeFormer)"]
    if graph:
        evidence.append(f"{graph}: graph convolutions over the skeleton (PoseAnything)")
    return Identity("PoseAnything" if graph else "CapeFormer", "", tuple(evidence))
