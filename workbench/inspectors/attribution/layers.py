"""Which layer does Grad-CAM read? The taps of a model whose output is a map."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from workbench.core import NotAvailable, Run
from workbench.core.capabilities import HasAttention
from workbench.core.hooks import replacing
from workbench.core.inspector import Choice
from workbench.core.run import evaluating

if TYPE_CHECKING:
    from torch import Tensor

AUTOMATIC = "automatic"


def layer_names(run: Run) -> list[str]:
    """The layers on offer: chosen by the workbench, or one of the model's taps that may be a map."""
    from torch import nn

    never = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.Softmax, nn.MultiheadAttention, nn.Flatten)
    module = run.model.module
    found = [tap for tap, path in run.model.taps.items() if not isinstance(module.get_submodule(path), never)]
    return [AUTOMATIC, *found]


LAYER = Choice(layer_names)


def chosen_layer(
    run: Run, n: int, score: Callable[[Tensor], Tensor], layer: str
) -> tuple[str, tuple[int, ...]]:
    """The tap that a LAYER parameter means, and the shape (C, h, w) of its output.

    Args:
        run: of the model.
        n: a sample.
        score: that passes it.
        layer: one of `layer_names`; "" is the automatic choice.

    Raises:
        ValueError: no such tap.
        NotAvailable: it gives no map, or the network does not run it.
    """
    LAYER.index(run, layer)
    sizes = layers_of(run, n, score)
    if layer in ("", AUTOMATIC):
        layer = automatic_layer(run, sizes)
    if layer not in sizes:
        raise NotAvailable(
            f"layer {layer}: its output is no map [N, channels, height, width], or the network does not run "
            f"it; these are maps: {', '.join(list(sizes)[-3:]) or 'none'}"
        )
    return layer, sizes[layer]


def automatic_layer(run: Run, sizes: dict[str, tuple[int, ...]]) -> str:
    """The last tap at the network's coarsest resolution, where it has seen most of the image.

    The last layers before the output have the keypoints' own maps and would show little else, so maps with
    one channel per keypoint or tag are passed over, and so are pooled ones of a single row or column.

    Args:
        run: of the model.
        sizes: tap -> (C, h, w), in the order in which they ran.

    Raises:
        NotAvailable: no tap gives a map.
    """
    if not sizes:
        raise NotAvailable(
            "layer: no tap of this model gives a map; Occlusion and Integrated gradients need none"
        )
    K = len(run.model.skeleton)
    tags = 0 if run.outputs.tags is None else run.outputs.tags.shape[1]
    known = (K, tags, K + tags)
    wide = {tap: h * w for tap, (C, h, w) in sizes.items() if C not in known and min(h, w) > 1}
    if not wide:
        return list(sizes)[-1]
    coarsest = min(wide.values())
    return [tap for tap, cells in wide.items() if cells == coarsest][-1]


def layers_of(run: Run, n: int, score: Callable[[Tensor], Tensor]) -> dict[str, tuple[int, ...]]:
    """Taps whose output is a map, in the order in which they ran -> the map's shape (C, h, w).

    Args:
        run: of the model.
        n: a sample.
        score: that passes it.
    """
    import torch

    shapes: dict[str, tuple[int, ...]] = {}

    def measure(name: str) -> Callable[[Tensor], Tensor]:
        def look(output: Tensor) -> Tensor:
            if isinstance(output, torch.Tensor) and output.ndim == 4 and output.is_floating_point():
                shapes.pop(name, None)
                shapes[name] = tuple(output.shape[1:])
            return output

        return look

    model = run.model
    # Attention weights [N, heads, T, T] look like maps and are none.
    never = model.attention.weights if isinstance(model, HasAttention) else ()
    edits = {tap: measure(tap) for tap, path in model.taps.items() if path not in never}
    with torch.no_grad(), replacing(model.module, model.taps, edits), evaluating(model.module):
        score(run.batch.pixels[n : n + 1])
    return shapes
