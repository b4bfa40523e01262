"""What the network left for one sample, small enough to travel while somebody drags a slider."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from apps.server.encoding import packed
from apps.server.output_cache import HEATMAPS, SIMCC_X, SIMCC_Y, TO_IMAGE
from apps.server.output_cache import StoredOutputs as Kept
from workbench.core import NotAvailable, Run
from workbench.figures import sprite


@dataclass(frozen=True, eq=False)
class Left:
    """One sample's output.

    Attributes:
        maps: heatmaps [K, h, w], or None.
        simcc: logits [K, bins] along x and y, or None.
        affine: input pixels to image pixels [2, 3].
        facts: ``input_size`` (height, width), ``udp``, ``split_ratio``.
    """

    maps: np.ndarray | None
    simcc: tuple[np.ndarray, np.ndarray] | None
    affine: np.ndarray
    facts: Mapping[str, Any]

    @classmethod
    def of_kept(cls, kept: Kept, sample: int) -> Left:
        """From the store.

        Raises:
            KeyError: the sample was not computed.
        """
        row = kept.row(sample)

        def one(name: str) -> np.ndarray:
            return np.array(kept.array(name)[row])

        if kept.kind == "heatmap":
            return cls(one(HEATMAPS), None, one(TO_IMAGE), kept.facts)
        if kept.kind == "simcc":
            return cls(None, (one(SIMCC_X), one(SIMCC_Y)), one(TO_IMAGE), kept.facts)
        raise NotAvailable("maps: this family leaves neither heatmaps nor SimCC vectors")

    @classmethod
    def of_run(cls, run: Run) -> Left:
        """From a forward pass over this sample alone."""
        codec = run.model.codec
        facts = {
            "input_size": tuple(run.batch.pixels.shape[-2:]),
            "udp": bool(codec and codec.udp),
            "split_ratio": codec.split_ratio if codec else 1.0,
        }
        affine = np.asarray(run.batch.to_image[0], float)
        if run.outputs.heatmaps is not None:
            return cls(run.heatmaps[0], None, affine, facts)
        x, y = run.simcc
        return cls(None, (x[0], y[0]), affine, facts)

    def to_image(self) -> np.ndarray:
        """Affine map from (column, row) of a heatmap cell, or from (bin x, bin y), to image pixels [2, 3]."""
        height, width = self.facts["input_size"]
        if self.maps is None:
            pitch = np.full(2, 1 / self.facts["split_ratio"])
        else:
            h, w = self.maps.shape[1:]
            # UDP: the outermost cells lie on the outermost pixels; plain: a cell is a whole stride.
            pitch = (
                np.array([(width - 1) / (w - 1), (height - 1) / (h - 1)])
                if self.facts["udp"]
                else np.array([width / w, height / h])
            )
        return np.concatenate([self.affine[:, :2] * pitch, self.affine[:, 2:]], 1)


def sent_maps(left: Left) -> tuple[bytes, str, dict[str, str]]:
    """Body, media type and headers: all heatmaps as one grey PNG, or SimCC logits as a PACK."""
    to_image = left.to_image().tolist()
    if left.maps is not None:
        K, h, w = left.maps.shape
        columns = math.ceil(math.sqrt(K))
        png, low, high = sprite(left.maps, columns=columns)
        head = {
            "kind": "heatmap", "K": K, "h": h, "w": w, "columns": columns, "low": low, "high": high,
            "to_image": to_image,
        }  # fmt: skip
        return png, "image/png", {"X-Sprite": json.dumps(head)}
    if left.simcc is None:
        raise NotAvailable("maps: this family leaves neither heatmaps nor SimCC vectors")
    x, y = left.simcc
    head = {"kind": "simcc", "K": len(x), "bins_x": x.shape[1], "bins_y": y.shape[1], "to_image": to_image}
    return packed(head, {"x": x, "y": y}), "application/octet-stream", {}
