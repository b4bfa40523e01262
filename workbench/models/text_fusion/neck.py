"""The neck that conditions features by text: FiLM, attention over keypoint sentences, both, or nothing.

Import it through `register`: mmengine imports transformers, which must not meet a broken torchvision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from mmengine.model import BaseModule
from torch import nn

from workbench.core import nearest
from workbench.core.report import counted
from workbench.models.text_fusion.family import Sentences

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


Layers = Literal["linear-relu-dropout", "linear", "linear-relu-linear"]
Start = Literal["identity", "random"]


def checked(value: str, known: object, name: str) -> str:
    """The value, if it is one of a Literal's.

    Args:
        value: of an option.
        known: the Literal.
        name: of the option, for the error.

    Raises:
        ValueError: it is not; the message lists those that are.
    """
    names = get_args(known)
    if value not in names:
        raise ValueError(
            f"{name}: expected one of {', '.join(map(repr, names))}, got {value!r} "
            f"(nearest: {nearest(str(value), names)})"
        )
    return value


def text_layers(kind: Layers, text: int, out: int, dropout: float) -> nn.Sequential:
    """From a sentence's vector to `out` numbers.

    Args:
        kind: the published code has ``linear-relu-dropout``: its last step is a ReLU, so nothing that comes
            out is negative, and while it trains a share `dropout` of the numbers is zero.
        text: length of the sentence's vector.
        out: how many numbers.
        dropout: share of numbers set to zero in training.
    """
    checked(kind, Layers, "mlp")
    if kind == "linear":
        return nn.Sequential(nn.Linear(text, out))
    if kind == "linear-relu-dropout":
        return nn.Sequential(nn.Linear(text, out), nn.ReLU(), nn.Dropout(dropout))
    return nn.Sequential(nn.Linear(text, out), nn.ReLU(), nn.Linear(out, out))


def start_at_identity(layers: nn.Sequential, baseline: float) -> None:
    """Fill the layers so that scale + baseline is 1 and shift is 0 whatever the sentence says.

    Args:
        layers: whose last one gives scales, then shifts.
        baseline: what the network adds to the scale: 1 or 0.
    """
    last = [layer for layer in layers if isinstance(layer, nn.Linear)][-1]
    with torch.no_grad():
        last.weight.zero_()
        scale, shift = last.bias.chunk(2)
        scale.fill_(1 - baseline)
        shift.zero_()


def scale_and_shift(
    film: Float[Tensor, "N 2C"], baseline: float = 0.0
) -> tuple[Float[Tensor, "N C"], Float[Tensor, "N C"]]:
    """The γ and β that the features meet, from what the layers leave.

    Args:
        film: output of the layers: scales first, then shifts.
        baseline: added to the scale; 1 in the original FiLM, which learns the departure from identity.
            Source: Perez et al. 2018; ethanjperez/film@fe43ddf vr/models/film_gen.py, gamma_baseline.
    """
    scale, shift = film.chunk(2, dim=-1)
    return scale + baseline, shift


Fusion = Literal["film", "attention", "film+attention", "none"]
Gate = Literal["learned", "fixed", "none"]
TextFrom = Literal["first", "each"]

HEADS = 4  # of the published attention


class TextFusionNeck(BaseModule):
    """Features in, features conditioned by text out; without text they are handed on as they are.

    The defaults are those of the published code. Parts without weights (`visual`, `global_text`,
    `local_text`, `modulated`) are there to be recorded and replaced.

    Args:
        in_channels: of the features.
        out_channels: of what comes out; another number than in_channels adds a 1x1 convolution.
        global_text_dim: length of the vector of the image's subject.
        local_text_dim: length of the keypoints' vectors.
        fusion_type: FiLM reads the subject, attention the keypoints.
        num_keypoints: sentences that attention expects.
        dropout: in the text layers and in attention.
        mlp: the text layers; see film.text_layers.
        init: ``identity`` begins as if there were no text, ``random`` as torch fills a layer.
        gate: ``learned`` or ``fixed`` blends: g * fused + (1 - g) * features; ``none`` takes what is fused
            alone.
        gate_value: g, or where it begins.
        gamma_baseline: added to the scale; 1 in the original FiLM.
        text_from: ``first`` gives every image the text of the batch's first, as the published code does;
            ``each`` its own.
        init_cfg: as mmengine has it.
    """

    def __init__(
        self,
        in_channels: int = 768,
        out_channels: int = 768,
        global_text_dim: int = 384,
        local_text_dim: int = 384,
        fusion_type: Fusion = "film",
        num_keypoints: int = 26,
        dropout: float = 0.1,
        mlp: Layers = "linear-relu-dropout",
        init: Start = "identity",
        gate: Gate = "learned",
        gate_value: float = 0.1,
        gamma_baseline: float = 0.0,
        text_from: TextFrom = "first",
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        checked(fusion_type, Fusion, "fusion_type")
        checked(init, Start, "init")
        checked(gate, Gate, "gate")
        checked(text_from, TextFrom, "text_from")
        self.fusion_type, self.text_from, self.gate = fusion_type, text_from, gate
        self.in_channels, self.num_keypoints = in_channels, num_keypoints
        self.text_dims = (global_text_dim, local_text_dim)
        self.gamma_baseline = float(gamma_baseline)
        self.visual, self.modulated = nn.Identity(), nn.Identity()
        self.global_text, self.local_text = nn.Identity(), nn.Identity()
        self.global_mlp = text_layers(mlp, global_text_dim, 2 * in_channels, dropout)
        # There in FiLM too, where nothing reads it: the published files hold it.
        self.local_mlp = text_layers(mlp, local_text_dim, in_channels, dropout)
        if gate == "learned":
            self.film_gate = nn.Parameter(torch.tensor(float(gate_value)))
        else:
            self.film_gate = float(gate_value) if gate == "fixed" else 1.0
        if "attention" in fusion_type:
            self.cross_attn = nn.MultiheadAttention(in_channels, HEADS, dropout, batch_first=True)
            self.norm, self.norm2 = nn.LayerNorm(in_channels), nn.LayerNorm(in_channels)
            self.ffn = nn.Sequential(
                nn.Linear(in_channels, 2 * in_channels),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(2 * in_channels, in_channels),
                nn.Dropout(dropout),
            )
        same = in_channels == out_channels
        self.out_proj = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)
        if init == "identity":
            start_at_identity(self.global_mlp, self.gamma_baseline)

    def forward(
        self, features: tuple[Float[Tensor, "N C h w"], ...] | Tensor, text: Sentences | None = None
    ) -> tuple[Float[Tensor, "N C2 h w"]]:
        """The last feature map, conditioned.

        Args:
            features: of the backbone, maps [N, C, h, w]; the last one is used.
            text: of the batch; None skips the fusion, output projection included.

        Raises:
            ValueError: text of another dimension, or of another number of keypoints or images.
        """
        maps = self.visual(features[-1] if isinstance(features, (tuple, list)) else features)
        if text is None or self.fusion_type == "none":
            return (maps,)
        self._check(text, len(maps))
        text = text.to(maps.device)
        if self.text_from == "first":
            text = Sentences(
                text.subject[:1].expand_as(text.subject), text.keypoints[:1].expand_as(text.keypoints)
            )
        fused = maps
        if "film" in self.fusion_type:
            fused = self._film(fused, self.global_text(text.subject))
        if "attention" in self.fusion_type:
            fused = self._attention(fused, self.local_text(text.keypoints))
        return (self.out_proj(fused),)

    def _film(self, maps: Tensor, subject: Float[Tensor, "N D"]) -> Tensor:
        scale, shift = scale_and_shift(self.global_mlp(subject), self.gamma_baseline)
        fused = self.modulated(scale[..., None, None] * maps + shift[..., None, None])
        return fused if self.gate == "none" else self.film_gate * fused + (1 - self.film_gate) * maps

    def _attention(self, maps: Tensor, keypoints: Float[Tensor, "N K D"]) -> Tensor:
        cells = maps.flatten(2).transpose(1, 2)
        sentences = self.local_mlp(keypoints)
        attended, _ = self.cross_attn(cells, sentences, sentences)
        cells = self.norm(cells + attended)
        cells = self.norm2(cells + self.ffn(cells))
        return cells.transpose(1, 2).unflatten(2, maps.shape[-2:])

    def _check(self, text: Sentences, images: int) -> None:
        wanted, given = self.text_dims, (text.subject.shape[-1], text.keypoints.shape[-1])
        if wanted != given:
            raise ValueError(
                f"text: this neck reads vectors of {_pair(wanted)} numbers, the text has {_pair(given)}; "
                "use the encoder it was trained with"
            )
        if "attention" in self.fusion_type and text.keypoints.shape[1] != self.num_keypoints:
            raise ValueError(
                f"text: this neck reads {self.num_keypoints} keypoint sentences, the text has "
                f"{text.keypoints.shape[1]}"
            )
        if len(text.subject) != images or len(text.keypoints) != images:
            raise ValueError(f"text: {counted(images, 'image')} and text for {len(text.subject)}")


def _pair(sizes: tuple[int, int]) -> str:
    return str(sizes[0]) if sizes[0] == sizes[1] else f"{sizes[0]} (subject) and {sizes[1]} (keypoints)"
