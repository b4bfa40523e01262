"""What did one forward pass leave behind?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import numpy as np

from workbench.records.errors import NotAvailable

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from workbench.records.model import PoseModel
    from workbench.records.outputs import Outputs, Prediction
    from workbench.records.samples import Batch, Codec, Sample


@dataclass(frozen=True, eq=False)
class Run:
    """What one forward pass over some samples left behind. Inspectors read it.

    The typed properties give copies as numpy arrays or raise NotAvailable with the reason, so no
    inspector handles None.
    """

    model: PoseModel
    samples: tuple[Sample, ...]
    batch: Batch
    outputs: Outputs
    predictions: tuple[Prediction, ...]
    activations: Mapping[str, Tensor] = field(default_factory=dict)
    title: str = ""

    @property
    def heatmaps(self) -> Float[np.ndarray, "N K h w"]:
        """Heatmaps of all samples, as the network left them."""
        if self.outputs.heatmaps is None:
            raise NotAvailable(f"heatmaps: this model gives {self._given()}, no heatmaps")
        return self.outputs.heatmaps.numpy().copy()

    @property
    def simcc(self) -> tuple[Float[np.ndarray, "N K bins_x"], Float[np.ndarray, "N K bins_y"]]:
        """SimCC logits of all samples."""
        if self.outputs.simcc is None:
            raise NotAvailable(f"SimCC vectors: this model gives {self._given()}, no SimCC vectors")
        x, y = self.outputs.simcc
        return x.numpy().copy(), y.numpy().copy()

    @property
    def tags(self) -> Float[np.ndarray, "N T h w"]:
        """Associative embedding maps."""
        if self.outputs.tags is None:
            raise NotAvailable(f"tags: this model gives {self._given()}, no tags")
        return self.outputs.tags.numpy().copy()

    @property
    def fields(self) -> dict[str, Float[np.ndarray, "N P 2 h w"]]:
        """Vector fields by name."""
        if not self.outputs.fields:
            raise NotAvailable(f"vector fields: this model gives {self._given()}, no vector fields")
        return {name: tensor.numpy().copy() for name, tensor in self.outputs.fields.items()}

    @property
    def truth(self) -> Float[np.ndarray, "N K 3"]:
        """Annotations of all samples, image pixels."""
        bare = [s.key or str(i) for i, s in enumerate(self.samples) if s.truth is None]
        if bare:
            raise NotAvailable(f"truth: no annotation for {', '.join(bare[:3])}")
        truth = np.stack([np.asarray(s.truth, float) for s in self.samples])
        if truth.shape[1] != len(self.model.skeleton):
            raise NotAvailable(
                f"truth: annotations have {truth.shape[1]} keypoints, the model {len(self.model.skeleton)}"
            )
        return truth

    @property
    def keypoints(self) -> Float[np.ndarray, "N K 2"]:
        """Predicted (x, y) of all samples, image pixels."""
        return np.stack([p.keypoints for p in self.predictions])

    @property
    def scores(self) -> Float[np.ndarray, "N K"]:
        """Keypoint scores of all samples."""
        return np.stack([p.scores for p in self.predictions])

    @property
    def codec(self) -> Codec:
        """The model's codec."""
        if self.model.codec is None:
            raise NotAvailable("codec: this family declares none, so no target can be drawn")
        return self.model.codec

    def activation(self, tap: str) -> Tensor:
        """What was recorded at one tap, on the CPU."""
        if tap not in self.activations:
            raise NotAvailable(f"activation {tap!r}: recorded {sorted(self.activations) or 'none'}")
        return self.activations[tap]

    def _given(self) -> str:
        words = {"simcc": "SimCC vectors", "fields": "vector fields"}
        names = [f.name for f in fields(self.outputs) if getattr(self.outputs, f.name) is not None]
        return (
            ", ".join(
                words.get(n, n)
                for n in names
                if not isinstance(getattr(self.outputs, n), Mapping) or getattr(self.outputs, n)
            )
            or "nothing"
        )
