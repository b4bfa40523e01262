"""Decoding 256 instances of 17 x 64 x 48 maps at once, beside mmpose's heads, which decode one by one.

Maps are Gaussians of several heights in noise, everywhere in the map; once also with noise below zero, as
most networks give it. Both sides get the same tensors and give
(x, y) in input pixels, whose largest difference is stated. Processor time, the best of a few runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.row import Row, ratio

INSTANCES, KEYPOINTS = 256, 17
SIZE, CELLS = (256, 192), (64, 48)
RUNS = 40
TARGET, PIXELS = 10.0, 1e-3


def maps(sigma: float = 2.0) -> np.ndarray:
    """[N, K, h, w], float32."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: CELLS[0], : CELLS[1]]
    made = np.empty((INSTANCES, KEYPOINTS, *CELLS), np.float32)
    for n in range(INSTANCES):
        centre = rng.uniform(0, [CELLS[1] - 1, CELLS[0] - 1], (KEYPOINTS, 2))[..., None, None]
        square = (columns - centre[:, 0]) ** 2 + (rows - centre[:, 1]) ** 2
        height = rng.uniform(0.2, 1.1, (KEYPOINTS, 1, 1))
        noise = np.abs(rng.normal(0, 0.01, (KEYPOINTS, *CELLS)))
        made[n] = height * np.exp(-square / 2 / sigma**2) + noise
    return made


def vectors() -> tuple[np.ndarray, np.ndarray]:
    """SimCC vectors along x [N, K, 384] and y [N, K, 512], float32."""
    rng = np.random.default_rng(1)
    made = []
    for side, sigma in ((SIZE[1] * 2, 4.9), (SIZE[0] * 2, 5.66)):
        centre = rng.uniform(20, side - 20, (INSTANCES, KEYPOINTS, 1))
        height = rng.uniform(0.2, 1.1, (INSTANCES, KEYPOINTS, 1))
        made.append((height * np.exp(-((np.arange(side) - centre) ** 2) / 2 / sigma**2)).astype(np.float32))
    return made[0], made[1]


def seconds(*works: Callable[[], Any]) -> list[tuple[float, Any]]:
    """Of each work the processor time of its fastest run, and its result; they run in turns."""
    best, results = [float("inf")] * len(works), [None] * len(works)
    for _ in range(RUNS):
        for i, work in enumerate(works):
            started = time.process_time()
            results[i] = work()
            best[i] = min(best[i], time.process_time() - started)
    return list(zip(best, results, strict=True))


def head_of(codec: dict[str, Any]) -> Any:
    """A head of mmpose with a codec, of which `decode` alone is used."""
    from workbench.models.mmpose_compat import install

    install()
    from mmpose.models.heads import HeatmapHead

    return HeatmapHead(1, KEYPOINTS, deconv_out_channels=None, decoder=codec)


def rows() -> list[Row]:
    """One row for each decoder that mmpose has."""
    import torch

    from workbench.core import Outputs
    from workbench.decoding import decode
    from workbench.decoding.codecs import codec_for

    heatmaps, simcc = torch.from_numpy(maps()), tuple(map(torch.from_numpy, vectors()))
    size = {"input_size": SIZE[::-1]}
    cells = {"heatmap_size": CELLS[::-1], "sigma": 2.0}
    peers: dict[str, dict[str, Any]] = {
        "quarter": {"type": "MSRAHeatmap", **size, **cells},
        "quarter, with numbers below zero": {"type": "MSRAHeatmap", **size, **cells},
        "dark": {"type": "MSRAHeatmap", **size, **cells, "unbiased": True},
        "udp": {"type": "UDPHeatmap", **size, **cells},
        "simcc": {"type": "SimCCLabel", **size, "sigma": (4.9, 5.66)},
        "simcc-dark": {"type": "SimCCLabel", **size, "sigma": (4.9, 5.66), "use_dark": True},
    }
    table: list[Row] = []
    for title, settings in peers.items():
        name, _, below = title.partition(",")
        codec, head = codec_for(name, SIZE, bin_sigma=(4.9, 5.66)), head_of(settings)
        given: Any = (heatmaps - 0.005 if below else heatmaps.clone()) if codec.kind == "heatmap" else simcc
        outputs = Outputs(heatmaps=given) if codec.kind == "heatmap" else Outputs(simcc=given)
        # refine_simcc_dark overwrites the vectors that it is given.
        fresh = (lambda: tuple(v.clone() for v in simcc)) if name == "simcc-dark" else (lambda g=given: g)
        (mine, (found, _)), (theirs, one_by_one) = seconds(
            lambda o=outputs, c=codec: decode(o, c), lambda h=head, f=fresh: h.decode(f())
        )
        wanted = np.concatenate([one.keypoints for one in one_by_one])
        if name == "udp":
            # mmpose multiplies by the input's size where the last pixel is one less.
            wanted = wanted / SIZE[::-1] * (np.array(SIZE[::-1]) - 1)
        difference = float(np.abs(found - wanted).max())
        size_of = f"{CELLS[0]} x {CELLS[1]}" if codec.kind == "heatmap" else "(384 + 512)"
        what = f"{KEYPOINTS} x {size_of}"
        # The promise is one of heatmaps; vectors are short enough for mmpose to be quick with each.
        target = TARGET if codec.kind == "heatmap" else 1.0
        table.append(
            {
                "what": f"decode {title}, {INSTANCES} instances of {what}, processor time; "
                f"largest difference {difference:.2g} px",
                "ours": f"{1e3 * mine:.1f} ms",
                "peer": f"mmpose's head.decode {1e3 * theirs:.0f} ms",
                "ratio": ratio(theirs, mine),
                "target": f">= {target:g}x, difference below {PIXELS:g} px",
                "met": bool(theirs >= target * mine and difference < PIXELS),
            }
        )
    return table
