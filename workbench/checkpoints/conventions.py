"""How do the pose and vision-transformer code bases name the same tensors?

Source: HRNet-Human-Pose-Estimation@6f69e46 lib/models;
ViTPose@c050ed2 mmpose/models/backbones/vit.py; mmpretrain@1.2.0 vision_transformer.py;
transformers@5.23 models/vitpose and vitpose_backbone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Convention:
    """One way of naming, turned into another.

    Attributes:
        text: for people.
        mark: what a name of the first way holds.
        pairs: patterns and replacements, each tried on every name, the first that matches wins.
        stacks: one tensor of the other way -> the tensors of the first that make it, in order.
    """

    text: str
    mark: str
    pairs: tuple[tuple[str, str], ...]
    stacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


# (ViTPose 0.x, mmpretrain), relative to the backbone.
_BLOCKS = (
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"blocks\.(\d+)\.norm1\.", r"layers.\1.ln1."),
    (r"blocks\.(\d+)\.norm2\.", r"layers.\1.ln2."),
    (r"blocks\.(\d+)\.attn\.", r"layers.\1.attn."),
    (r"blocks\.(\d+)\.mlp\.fc1\.", r"layers.\1.ffn.layers.0.0."),
    (r"blocks\.(\d+)\.mlp\.fc2\.", r"layers.\1.ffn.layers.1."),
    (r"last_norm\.", "ln1."),
)
_BACK = (
    (r"patch_embed\.projection\.", "patch_embed.proj."),
    (r"layers\.(\d+)\.ln1\.", r"blocks.\1.norm1."),
    (r"layers\.(\d+)\.ln2\.", r"blocks.\1.norm2."),
    (r"layers\.(\d+)\.attn\.", r"blocks.\1.attn."),
    (r"layers\.(\d+)\.ffn\.layers\.0\.0\.", r"blocks.\1.mlp.fc1."),
    (r"layers\.(\d+)\.ffn\.layers\.1\.", r"blocks.\1.mlp.fc2."),
    (r"(?<!\d\.)ln1\.", "last_norm."),
)
# Hugging Face -> mmpretrain; heads are those of mmpose 1.x (ViTPose 0.x has the same under keypoint_head).
_HUGGING_FACE = (
    (r"embeddings\.position_embeddings$", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.projection."),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.", r"layers.\1.attn."),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"layers.\1.attn.proj."),
    (r"encoder\.layer\.(\d+)\.layernorm_before\.", r"layers.\1.ln1."),
    (r"encoder\.layer\.(\d+)\.layernorm_after\.", r"layers.\1.ln2."),
    (r"encoder\.layer\.(\d+)\.mlp\.fc1\.", r"layers.\1.ffn.layers.0.0."),
    (r"encoder\.layer\.(\d+)\.mlp\.fc2\.", r"layers.\1.ffn.layers.1."),
    (r"backbone\.layernorm\.", "backbone.ln1."),
    (r"head\.deconv1\.", "head.deconv_layers.0."),
    (r"head\.batchnorm1\.", "head.deconv_layers.1."),
    (r"head\.deconv2\.", "head.deconv_layers.3."),
    (r"head\.batchnorm2\.", "head.deconv_layers.4."),
    (r"head\.conv\.", "head.final_layer."),
)
# Official HRNet and SimpleBaseline (pose_hrnet.py, pose_resnet.py), HigherHRNet (pose_higher_hrnet.py) and
# what was made of them: one module holds the backbone and the last layers. mmpose puts them into two.
OFFICIAL = (
    (r"^(final_layers?|deconv_layers)\.", r"head.\1."),
    (r"^(conv1|conv2|bn1|bn2|layer[1-4]|transition[1-3]|stage[2-4])\.", r"backbone.\1."),
)
_TO_OFFICIAL = (
    (r"^(?:keypoint_)?head\.(final_layers?|deconv_layers)\.", r"\1."),
    (r"^backbone\.", ""),
)
CONVENTIONS: tuple[Convention, ...] = (
    Convention(
        "official HRNet / SimpleBaseline names -> mmpose names (conv1 -> backbone.conv1 ..., "
        "final_layer -> head.final_layer, deconv_layers -> head.deconv_layers)",
        "final_layer",
        OFFICIAL,
    ),
    Convention("mmpose names -> official HRNet / SimpleBaseline names", "head.", _TO_OFFICIAL),
    Convention("ViTPose 0.x names of blocks -> mmpretrain names", "blocks.", _BLOCKS),
    Convention("mmpretrain names of blocks -> ViTPose 0.x names", "layers.", _BACK),
    Convention(
        "Hugging Face VitPose names -> mmpose 1.x names, query, key and value joined",
        "encoder.layer.",
        _HUGGING_FACE,
        {
            f".attn.qkv.{end}": tuple(f".attn.{part}.{end}" for part in ("query", "key", "value"))
            for end in ("weight", "bias")
        },
    ),
)


def renamed(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    """The name after the first pattern that matches."""
    for old, new in pairs:
        changed, count = re.subn(old, new, name, count=1)
        if count:
            return changed
    return name
