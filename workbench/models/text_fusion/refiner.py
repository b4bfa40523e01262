"""What does the diffusion refiner do to SimCC vectors? A small network, a few steps, and who is touched.

Import it through `register`: mmengine imports transformers, which must not meet a broken torchvision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from mmengine.model import BaseModule
from torch import nn

from workbench.models.text_fusion.family import Refining
from workbench.models.text_fusion.neck import checked

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

Mask = Literal["uncertain", "all", "none"]
Softmax = Literal["all", "uncertain", "none"]


NOISE_SEED = 0


def drawn(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Normal noise of a tensor's shape; of a generator on the CPU, alike for all devices."""
    if generator is None:
        return torch.randn_like(like)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)


class SimCCDiffusionRefiner(BaseModule):
    """Adds a learned difference to the SimCC vectors of uncertain keypoints, step by step.

    The defaults are those of the published code, whose weights get no training signal by default.

    Args:
        coord_dim: bins of one axis.
        hidden_dim: width of the network.
        num_keypoints: kept for configs; the network sees one keypoint at a time.
        num_steps: how often the difference is added.
        confidence_threshold: a keypoint is uncertain when a peak of its raw vectors lies below.
        dropout: within the network, in training.
        mask: whose vectors are changed at inference; in training all are.
        softmax: whose vectors become probabilities after every step at inference. In the published code
            ``all``: one uncertain keypoint in the batch is enough to bring every score of the batch to about
            1 / bins.
        noise: standard deviation of what is added before the first step; it falls linearly.
        init_cfg: as mmengine has it.
    """

    def __init__(
        self,
        coord_dim: int = 512,
        hidden_dim: int = 256,
        num_keypoints: int = 26,
        num_steps: int = 3,
        confidence_threshold: float = 0.7,
        dropout: float = 0.1,
        mask: Mask = "uncertain",
        softmax: Softmax = "all",
        noise: float = 0.05,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        checked(mask, Mask, "mask")
        checked(softmax, Softmax, "softmax")
        if num_steps < 1:
            raise ValueError(
                f"num_steps: expected at least 1, got {num_steps}; leave the refiner out instead"
            )
        self.coord_dim, self.num_keypoints, self.num_steps = coord_dim, num_keypoints, num_steps
        self.confidence_threshold, self.mask, self.softmax = confidence_threshold, mask, softmax
        self.noise = noise

        def layer(width: int) -> list[nn.Module]:
            return [nn.Linear(width, hidden_dim), nn.LayerNorm(hidden_dim), nn.SiLU(), nn.Dropout(dropout)]

        self.encoder = nn.Sequential(*layer(2 * coord_dim + 1))
        self.middle_blocks = nn.ModuleList(nn.Sequential(*layer(hidden_dim)) for _ in range(2))
        self.decoder = nn.Sequential(*layer(hidden_dim), nn.Linear(hidden_dim, 2 * coord_dim))
        # No forward pass goes through it, here as in the published code; the files hold its weights.
        self.time_mlp = nn.Sequential(nn.Linear(hidden_dim, hidden_dim), nn.SiLU())

    def uncertain(self, x: Float[Tensor, "N K bins"], y: Float[Tensor, "N K bins"]) -> Bool[Tensor, "N K"]:
        """Keypoints with a peak below the threshold in either vector."""
        return torch.minimum(x.amax(-1), y.amax(-1)) < self.confidence_threshold

    def forward(
        self, x: Float[Tensor, "N K bins"], y: Float[Tensor, "N K bins"], way: Refining = "inference"
    ) -> tuple[Float[Tensor, "N K bins"], Float[Tensor, "N K bins"]]:
        """Refined vectors; the same ones when nobody is touched.

        Raises:
            ValueError: vectors of another number of bins.
        """
        if x.shape[-1] != self.coord_dim or y.shape[-1] != self.coord_dim:
            raise ValueError(
                f"refiner: built for {self.coord_dim} bins, the head gives {x.shape[-1]} and {y.shape[-1]}"
            )
        training = way == "training"
        chosen = self._chosen(x, y, training)
        if not bool(chosen.any()):
            return x, y
        share = chosen.unsqueeze(-1).to(x.dtype)
        normalised = torch.ones_like(chosen) if self.softmax == "all" else chosen
        # In training the step's own randomness; at inference the same noise in every pass.
        generator = None if self.training else torch.Generator().manual_seed(NOISE_SEED)
        for step in range(self.num_steps, 0, -1):
            time = step / self.num_steps
            noisy = torch.cat([v + drawn(v, generator) * (self.noise * time) * share for v in (x, y)], -1)
            hidden = self.encoder(torch.cat([noisy, torch.full_like(x[..., :1], time)], -1))
            for block in self.middle_blocks:
                hidden = block(hidden) + hidden
            by_x, by_y = (self.decoder(hidden) * share / self.num_steps).chunk(2, -1)
            x, y = x + by_x, y + by_y
            if not training and self.softmax != "none":
                x, y = (torch.where(normalised[..., None], v.softmax(-1), v) for v in (x, y))
        return x, y

    def _chosen(self, x: Tensor, y: Tensor, training: bool) -> Bool[Tensor, "N K"]:
        uncertain = self.uncertain(x, y)
        if training or self.mask == "all":
            return torch.ones_like(uncertain)
        return torch.zeros_like(uncertain) if self.mask == "none" else uncertain
