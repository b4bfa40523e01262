"""A pose model that reads text: how does it enter a run, and which way does the run go?

In evaluation mode `forward` goes the way of inference, in training mode the way of training, so the trainer
and the evaluation see what a user of the network would. `through(path)` is the same network gone through
otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core import Batch, Codec, DecodeOptions, NotAvailable, Outputs, Prediction, Sample, Skeleton
from workbench.models.naming import taps_of
from workbench.models.text_fusion.path import Path
from workbench.models.text_fusion.sentences import Sentences
from workbench.models.top_down import TopDown, typed
from workbench.text import TextVectors

if TYPE_CHECKING:
    from torch import nn

# Public name -> module path, beside the paths themselves.
TAPS = {
    "text.subject": "neck.global_text",
    "text.keypoints": "neck.local_text",
    "neck.before": "neck.visual",
    "film": "neck.global_mlp",
    "raw.x": "head.cls_x",
    "raw.y": "head.cls_y",
    "refined.x": "head.refined_x",
    "refined.y": "head.refined_y",
}


@dataclass(frozen=True, eq=False)
class TextFusion:
    """A top-down model with a neck that reads text.

    Attributes:
        top_down: crops, codec, skeleton, and the network itself.
        text: sentence vectors; None when the file names some that are not here.
        inference: the way `forward` goes in evaluation mode; the network's own by default.
        training: the way it goes in training mode; the network's own by default.
        no_text: why there is no text, for people.
    """

    top_down: TopDown
    text: TextVectors | None
    inference: Path = None  # type: ignore[assignment] - filled in below
    training: Path = None  # type: ignore[assignment] - filled in below
    no_text: str = "the config names none"

    def __post_init__(self) -> None:
        network: Any = self.module
        if self.inference is None:
            object.__setattr__(self, "inference", network.path(training=False))
        if self.training is None:
            object.__setattr__(self, "training", network.path(training=True))
        if self.text is not None and self.text.keypoints and len(self.text.keypoints) != len(self.skeleton):
            raise ValueError(
                f"text {self.text.name}: sentences for {len(self.text.keypoints)} keypoints, the network "
                f"gives {len(self.skeleton)}"
            )
        if self.text is not None and (neck := getattr(network, "neck", None)) is not None:
            wanted = neck.text_dims
            given = self.text.subject_vectors.shape[1], self.text.keypoint_vectors.shape[1]
            if wanted != given:
                raise ValueError(
                    f"text {self.text.name}: vectors of {given[0]} numbers by {self.text.encoder}, this "
                    f"neck reads {wanted[0]}; use the encoder it was trained with"
                )

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.top_down.module

    @property
    def skeleton(self) -> Skeleton:
        """The keypoints."""
        return self.top_down.skeleton

    @property
    def codec(self) -> Codec | None:
        """How coordinates stand in the SimCC vectors."""
        return self.top_down.codec

    @property
    def taps(self) -> Mapping[str, str]:
        """Public name -> module path; the names of TAPS where the network has what they stand for."""
        paths = dict(self.module.named_modules())
        return {name: path for name, path in TAPS.items() if path in paths} | taps_of(self.module)

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the crops."""
        return self.top_down.input_size

    @property
    def padding(self) -> float:
        """Factor on the box before it is cropped."""
        return self.top_down.padding

    @property
    def shift_heatmap(self) -> bool:
        """As TopDown has it."""
        return self.top_down.shift_heatmap

    @property
    def note(self) -> str:
        """What had to be assumed to open it, for people."""
        told = "" if self.text else f"no text: {self.no_text}"
        return "; ".join(part for part in (self.top_down.note, told, self.assumption) if part)

    @property
    def assumption(self) -> str:
        """What is taken for granted about code that is not at hand; "" where the config says it."""
        network: Any = self.module
        if not getattr(network, "way_assumed", False) or not getattr(network, "with_neck", False):
            return ""
        return (
            "the config does not say fuse_in_predict: predict is taken for the published one, "
            "which skips the neck"
        )

    def through(self, path: Path) -> TextFusion:
        """The same network and text, with another way of inference."""
        return dataclasses.replace(self, inference=path)

    def reading(self, text: TextVectors) -> TextFusion:
        """The same network with other text.

        Raises:
            ValueError: vectors of another dimension, or of another number of keypoints.
        """
        return dataclasses.replace(self, text=text)

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """Crops, and where there is text its vectors: ``subject`` [N, D], ``keypoints`` [N, K, D] in `extra`.

        Raises:
            ValueError: a box has no size, or a category has no description.
        """
        import torch

        batch = self.top_down.prepare(samples)
        if self.text is None:
            return batch
        keypoints = torch.from_numpy(self.text.keypoint_vectors)
        extra = {
            "subject": torch.from_numpy(self.text.of(samples)),
            "keypoints": keypoints.expand(len(samples), -1, -1),
        }
        return dataclasses.replace(batch, extra={**batch.extra, **extra})

    def forward(self, batch: Batch) -> Outputs:
        """SimCC vectors, the way the module's mode asks for.

        Raises:
            NotAvailable: the way needs text and there is none.
        """
        training = self.module.training
        path = self.training if training else self.inference
        text = (
            Sentences(batch.extra["subject"], batch.extra["keypoints"]) if "subject" in batch.extra else None
        )
        fuses = path.fuse and getattr(self.module, "neck", None) is not None
        if fuses and text is None:
            raise NotAvailable(
                f"text for the neck: {self.no_text}; put the vectors beside the checkpoint as text.npz "
                "(`workbench text DESCRIPTIONS --out text.npz` writes them), or give the clinic --text FILE"
            )
        device = next(self.module.parameters()).device
        network: Any = self.module
        return typed(network.along(batch.pixels.to(device), text, path), self.codec)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """Keypoints in image pixels."""
        return self.top_down.decode(outputs, batch, options)
