"""How many bytes do 17 heatmaps of 256 x 192 take on their way to the browser?

Two ways: one PNG sprite, as the app's figures carry them, and one plotly heatmap trace per map. Both are
counted as they travel: PNG bytes as base64 where they sit in a figure, and the figure's JSON.
"""

from __future__ import annotations

import base64

import numpy as np

from benchmarks.row import Row, ratio

K, H, W = 17, 256, 192
TARGET = 400_000  # bytes


def maps(seed: int = 0) -> np.ndarray:
    """[17, 256, 192] float32 like a network's: a peak, now and then a second one, and a noisy floor."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:H, :W]
    floor = random.normal(0, 0.01, (K, H // 4, W // 4)).repeat(4, 1).repeat(4, 2)
    out = np.empty((K, H, W), np.float32)
    for k in range(K):
        out[k] = floor[k]
        for height in (1.0, 0.4)[: 1 + (k % 3 == 0)]:
            cy, cx = random.uniform((20, 20), (H - 20, W - 20))
            out[k] += height * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 6.0**2))
    return out


def rows() -> list[Row]:
    """Bytes of the sprite and of plotly traces."""
    import plotly.graph_objects as go

    from workbench.figures import sprite

    stack = maps()
    png, _low, _high = sprite(stack)
    ours = len(base64.b64encode(png))
    traces = len(go.Figure([go.Heatmap(z=m) for m in stack]).to_json())
    return [
        {
            "what": f"{K} maps of {H}x{W} on the way to the page",
            "ours": f"{ours / 1e3:.0f} kB as base64 ({len(png) / 1e3:.0f} kB PNG)",
            "peer": f"plotly heatmap traces, float32, {traces / 1e3:.0f} kB",
            "ratio": ratio(traces, ours),
            "target": f"< {TARGET / 1e3:.0f} kB",
            "met": ours < TARGET,
        }
    ]
