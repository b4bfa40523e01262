"""How much does a cache save a rollout of 68 keypoints, MP-100's longest category?

The peer runs the same network without one: for every step it calls forward again on the tokens so far, image
and support encoded anew, as a loop around `forward` does. A second row keeps what was encoded and re-runs the
decoder alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.row import Row, ratio
from workbench.models.cape import Size, new_cape
from workbench.records import Sample, Skeleton

K = 68
TARGET = 5.0


# The published network's decoder (width 256, 8 heads, 6 layers) on crops of half its side, and the demo's.
SIZES = {
    "published decoder": Size((256, 256), bins=44, width=256, heads=8, layers=6, support_layers=3),
    "demo": Size((96, 96)),
}


def rows() -> list[Row]:
    """Cached rollouts beside both peers, medians of three, one thread each; the demo's has no target."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            return [row for name, size in SIZES.items() for row in _measured(name, size)]
    finally:
        torch.set_num_threads(threads)


def _measured(name: str, size: Size) -> list[Row]:
    random = np.random.default_rng(0)
    truth = np.concatenate([random.uniform(20, 108, (K, 2)), np.full((K, 1), 2.0)], 1)
    sample = Sample(random.integers(0, 255, (128, 128, 3), np.uint8), (0, 0, 127, 127), truth)
    model = new_cape(Skeleton("face-68", tuple(map(str, range(K)))), size)
    for head in model.module.decoder.offsets:
        torch.nn.init.normal_(head[2].weight, std=0.5)  # first weights would answer with the anchors alone
    batch = model.prepare([sample])
    network, pixels, extra = model.module, batch.pixels, batch.extra
    read = model.rollout(batch).tokens["read"]

    def again(anew: bool) -> torch.Tensor:
        # The tokens the rollout read: on its own answers, rounding alone would lead elsewhere in 68 steps.
        around = network.around(extra, pixels)
        logits = []
        for t in range(K + 1):
            around = network.around(extra, pixels) if anew else around
            logits.append(network(around, read[:, :t]).types[-1][:, -1])
        return torch.stack(logits, 1)

    ours, logits = _timed(lambda: model.rollout(batch).tokens["types"])
    found: list[Row] = []
    for peer, anew in (("forward re-run on the prefix", True), ("its decoder alone", False)):
        seconds, others = _timed(lambda anew=anew: again(anew))
        off = float((logits - others).abs().max())
        wanted = anew and name != "demo"
        found.append(
            {
                "what": f"rollout of {K} keypoints, {name}; logits differ by {off:.0e}",
                "ours": f"cached {ours * 1e3:.0f} ms",
                "peer": f"{peer} {seconds * 1e3:.0f} ms",
                "ratio": ratio(seconds, ours),
                "target": f">= {TARGET:.0f}x, 1e-5" if wanted else "1e-5",
                "met": off < 1e-5 and (seconds >= TARGET * ours or not wanted),
            }
        )
    return found


def _timed(call: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Median seconds of three runs after one to warm up, and the result."""
    call()
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[1], result
