"""Where the self-attention of a transformer can be read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attention:
    """Self-attention of a network, layer by layer.

    The weights are read and replaced with workbench.core.hooks, which is also what makes a layer compute them
    one by one: without a hook the layer uses a fused kernel that never has them in memory.

        with recording(model.module, model.attention.taps, model.attention.weights) as found:
            model.forward(batch)
        found[model.attention.weights[-1]]  # [N, heads, T, T], last layer

    Attributes:
        weights: for each layer, from the first, the path of the module whose output are its weights
            [N, heads, T, T]: a row per querying token, summing to 1.
        heads: of each layer.
        grid: (h, w) patches of the input.
        before: tokens in front of those of the patches, such as a class token: the patch in row y and column
            x is token ``before + y * w + x``.
    """

    weights: tuple[str, ...]
    heads: int
    grid: tuple[int, int]
    before: int = 0

    @property
    def taps(self) -> dict[str, str]:
        """The modules of `weights` as workbench.core.hooks takes them, name -> module path."""
        return {path: path for path in self.weights}
