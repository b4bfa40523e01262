"""The model of this family: its text, its two paths through the network, and what a config says of both.

In evaluation mode `forward` takes the path of inference, in training mode the path of training, so that the
trainer and the evaluation see what a user of the network would. `through(path)` is the same network along
another path.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from workbench.core import (
    Batch,
    Codec,
    DecodeOptions,
    NotAvailable,
    Outputs,
    Passed,
    Prediction,
    Sample,
    Skeleton,
)
from workbench.core.conditioning import (
    REFERENCE,
    TRAINED,
    UNFUSED,
    UNREFINED,
    Conditioning,
    Refiner,
    Switch,
    bypassed,
)
from workbench.core.hooks import replacing
from workbench.core.report import counted
from workbench.models.naming import taps_of
from workbench.models.randomness import directions_like
from workbench.models.top_down import TopDown, typed
from workbench.text.vectors import TextVectors

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

Refining = Literal["", "training", "inference"]


@dataclass(frozen=True)
class Path:
    """One path through the network.

    Attributes:
        fuse: the neck is given the text. Without text it passes the features on unchanged.
        refine: "" leaves the refiner out; ``inference`` refines uncertain keypoints and normalises as the
            options say; ``training`` refines every keypoint and normalises none.
    """

    fuse: bool
    refine: Refining = ""

    def __str__(self) -> str:
        return f"{'with' if self.fuse else 'without'} fusion, {'with' if self.refine else 'without'} refiner"


@dataclass(frozen=True, eq=False)
class Sentences:
    """The vectors of the sentences that go with a batch.

    Attributes:
        subject: one vector per image, of what is seen in it (the species).
        keypoints: one vector per image and keypoint.
    """

    subject: Float[Tensor, "N D"]
    keypoints: Float[Tensor, "N K D"]

    def to(self, device: torch.device | str) -> Sentences:
        """The same vectors elsewhere."""
        return Sentences(self.subject.to(device), self.keypoints.to(device))


def in_data_samples(data_samples: Sequence[Any] | None) -> Sentences | None:
    """What LoadTextEmbeddings put into the samples; None where one of them carries no text."""
    found = [_of(sample) for sample in data_samples or ()]
    if not found or any(subject is None or keypoints is None for subject, keypoints in found):
        return None
    return Sentences(
        torch.stack([torch.as_tensor(subject, dtype=torch.float32) for subject, _ in found]),
        torch.stack([torch.as_tensor(keypoints, dtype=torch.float32) for _, keypoints in found]),
    )


def _of(sample: Any) -> tuple[Any, Any]:
    meta = sample if isinstance(sample, dict) else sample.metainfo
    return meta.get("global_text"), meta.get("local_text")


# Interventions: edits of what passes at named taps. A tap that the path does not reach is not edited.

Edits = dict[str, "Callable[[Tensor], Tensor]"]

TEXT = ("text.subject", "text.keypoints")


def without_neck() -> Edits:
    """The features that enter the neck leave it."""
    return bypassed(("neck.before",), ("neck",))


def without_refiner() -> Edits:
    """The raw SimCC vectors leave the head."""
    return bypassed(("raw.x", "raw.y"), ("refined.x", "refined.y"))


def zero_text() -> Edits:
    """All vectors are zero."""
    return {tap: lambda tensor: tensor * 0 for tap in TEXT}


def shuffled_text(seed: int = 0) -> Edits:
    """Every image has the text of another one of its batch, every keypoint the sentence of another."""

    def exchanged(tensor: Tensor) -> Tensor:
        axis = 0 if tensor.ndim == 2 else 1
        drawn = np.random.default_rng(seed).permutation(tensor.shape[axis])
        order = np.empty_like(drawn)
        order[drawn] = np.roll(drawn, 1)  # one cycle through all: none has its own text again
        return tensor.index_select(axis, _index(order, tensor))

    return dict.fromkeys(TEXT, exchanged)


def noise_text() -> Edits:
    """Random vectors of the length that the sentences' have."""
    return dict.fromkeys(TEXT, lambda tensor: directions_like(tensor, 0))


def other_subject(vector: Float[np.ndarray, " D"]) -> Edits:
    """Every image has this subject's vector."""

    def other(tensor: Tensor) -> Tensor:
        return torch.as_tensor(vector, dtype=tensor.dtype, device=tensor.device).expand_as(tensor)

    return {"text.subject": other}


def _index(order: np.ndarray, like: Tensor) -> Tensor:
    return torch.as_tensor(order, device=like.device)


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

# Modules whose gradients are reported together, the longest prefix first.
PARTS = ("head.refiner", "neck.global_mlp", "neck.local_mlp", "neck.cross_attn", "neck", "backbone", "head")
# In a batch's extra: the neck is given no text.
_REMOVED = "text removed"


@dataclass(frozen=True, eq=False)
class TextFusion:
    """A top-down model with a neck that reads text.

    Attributes:
        top_down: crops, codec, skeleton, and the network itself.
        text: sentence vectors; None where the file names some that are not at hand.
        inference: the path of `forward` in evaluation mode; by default the network's own.
        training: the path of `forward` in training mode; by default the network's own.
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
                f"text {self.text.name}: sentences for {counted(len(self.text.keypoints), 'keypoint')}, the "
                f"network gives {len(self.skeleton)}"
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
        text = "" if self.text else f"no text: {self.no_text}"
        return "; ".join(part for part in (self.top_down.note, text, self.assumption) if part)

    @property
    def batch_text(self) -> str:
        """How one image of a batch changes the answer about another; "" where none does."""
        refiner, neck = self._refiner, self._neck
        if self.inference.refine == "inference" and refiner is not None and refiner.mask != "none":
            if refiner.softmax == "all" and refiner.mask != "all":
                return "one uncertain keypoint normalises the vectors of its whole batch"
            if refiner.noise > 0:
                return "the refiner's noise differs by the place in the batch"
        several = self.text is not None and len(self.text.subject_vectors) > 1
        if self.inference.fuse and neck is not None and neck.text_from == "first" and several:
            return "each crop is given the text of the first of its batch"
        return ""

    @property
    def assumption(self) -> str:
        """What is assumed about code that is not at hand; "" where the config says it."""
        network: Any = self.module
        if not getattr(network, "way_assumed", False) or not getattr(network, "with_neck", False):
            return ""
        return (
            "the config does not set fuse_in_predict: predict is assumed to be the published one, "
            "which skips the neck"
        )

    @property
    def device(self) -> str | None:
        """Where the network runs; None for the CPU."""
        return self.top_down.device

    @property
    def ways(self) -> Mapping[str, Path]:
        """The ways through the network that experiments compare."""
        return {
            "as it predicts": self.inference,
            "as it was trained": self.training,
            "fused and refined": Path(True, "inference"),
            "neither neck nor refiner": Path(False, ""),
            "no refiner": dataclasses.replace(self.inference, refine=""),
        }

    def with_neck(
        self, config: Mapping[str, Any], options: Mapping[str, Any], start: Mapping[str, Tensor], seed: int
    ) -> TextFusion:
        """The model with a neck of other options and first weights; text and paths are these.

        Args:
            config: from which this model was built.
            options: of the neck, those that change; see workbench.models.text_fusion.neck.
            start: tensors by name that the new network begins with, in the shapes of its parameters.
            seed: of the first weights of all others.

        Raises:
            ValueError: the neck cannot be built.
        """
        from workbench.models.mmpose.model import build, model_of
        from workbench.models.mmpose.trust import changed
        from workbench.models.randomness import private_randomness

        part = config["model"]
        settings = changed(config, model={**part, "neck": {**part["neck"], **options}})
        with private_randomness(seed):
            module = build(settings).eval()
        module.load_state_dict(dict(start), strict=False)
        model = model_of(module, settings, None, self.top_down.device)
        assert isinstance(model, TextFusion)  # of this config
        top_down = dataclasses.replace(model.top_down, skeleton=self.skeleton)
        return dataclasses.replace(
            model, top_down=top_down, text=self.text, inference=self.inference, training=self.training
        )

    def through(self, path: Path) -> TextFusion:
        """The same network and text, with another path of inference."""
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
        batch = self.top_down.prepare(samples)
        return batch if self.text is None else self.text.added_to(batch, samples)

    def forward(self, batch: Batch) -> Outputs:
        """SimCC vectors along the path that the module's mode asks for.

        Raises:
            NotAvailable: the path needs text and there is none.
        """
        return self._along(batch, self.training if self.module.training else self.inference)

    def _along(self, batch: Batch, path: Path, edits: Edits | None = None) -> Outputs:
        text = (
            Sentences(batch.extra["subject"], batch.extra["keypoints"]) if "subject" in batch.extra else None
        )
        if _REMOVED in batch.extra:
            path = dataclasses.replace(path, fuse=False)
        if path.fuse and self._neck is not None and text is None:
            raise NotAvailable(
                f"text for the neck: {self.no_text}; put the vectors beside the checkpoint as text.npz "
                "(`workbench text DESCRIPTIONS --out text.npz` writes them), or give the clinic --text FILE"
            )
        device = next(self.module.parameters()).device
        network: Any = self.module
        with replacing(self.module, self.taps, edits or {}):
            return typed(network.along(batch.pixels.to(device), text, path), self.codec)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """Keypoints in image pixels."""
        return self.top_down.decode(outputs, batch, options)

    # The capability Conditioned.

    @property
    def has_neck(self) -> bool:
        """Whether the network has a text neck; a base model has none."""
        return self._neck is not None

    @property
    def _neck(self) -> Any | None:
        """The neck, whose options are attributes; None without one."""
        return getattr(self.module, "neck", None)

    @property
    def _refiner(self) -> Any | None:
        return getattr(getattr(self.module, "head", None), "refiner", None)

    def training_pass(self, batch: Batch) -> Passed:
        """The path of training, whatever mode the network is in.

        Raises:
            NotAvailable: the path needs text and there is none.
        """
        return Passed(self._along(batch, self.training))

    def predict_pass(self, batch: Batch) -> Passed:
        """The path of inference, whatever mode the network is in.

        Raises:
            NotAvailable: the path needs text and there is none.
        """
        return Passed(self._along(batch, self.inference))

    def with_condition(self, batch: Batch, edit: Callable[[Tensor], Tensor] | None) -> Batch:
        """The batch with edited sentence vectors; with None the neck passes the features on unchanged.

        Args:
            batch: from `prepare`.
            edit: of the subjects' vectors [N, D] and of the keypoints' [N, K, D].

        Raises:
            NotAvailable: there is no text.
        """
        if self.text is None:
            raise NotAvailable(f"text: {self.no_text}")
        if edit is None:
            return dataclasses.replace(batch, extra={**batch.extra, _REMOVED: True})
        edited = {name: edit(batch.extra[name]) for name in ("subject", "keypoints")}
        return dataclasses.replace(batch, extra={**batch.extra, **edited})

    @property
    def conditioning(self) -> Conditioning:
        """Where the text enters, its gate, the refiner and the switches."""
        neck, taps = self._neck, self.taps
        outputs = tuple(t for t in ("refined.x", "refined.y") if t in taps) or ("raw.x", "raw.y")
        common: dict[str, Any] = {
            "noun": "text",
            "outputs": tuple(tap for tap in outputs if tap in taps),
            "refiner": self._declared_refiner(),
            "switches": tuple(self._switches()),
            "parts": PARTS,
            "training": self._in_words(self.training, self.inference),
            "inference": self._in_words(self.inference, self.training),
            "assumption": self.assumption and "your predict is the published one",
            "fix_skipped": "pass the data samples (their text) to extract_feat in predict too: "
            "fuse_in_predict=True",
        }
        if neck is None or neck.fusion_type == "none":
            reason = "this model gives its neck nothing to fuse (fusion_type none)"
            return Conditioning(unavailable=reason, **common)
        film = "film" in neck.fusion_type
        texts = ("text.subject",) * film + ("text.keypoints",) * ("attention" in neck.fusion_type)
        return Conditioning(
            part="film" if film else "neck.cross_attn",
            condition=texts,
            film="film" if film else "",
            before="neck.before",
            after="neck",
            baseline=neck.gamma_baseline,
            gate=float(torch.as_tensor(neck.film_gate).detach()) if film else 1.0,
            vectors=None if self.text is None else self.text.subject_vectors,
            names=() if self.text is None else self.text.subjects,
            unavailable="" if self.text else f"this model gives its neck no text: {self.no_text}",
            **common,
        )

    def _in_words(self, path: Path, other: Path) -> str:
        """The path, and which keypoints the refiner changes where both paths refine and differ in that."""
        if not path.refine or not other.refine or path.refine == other.refine:
            return str(path)
        every = path.refine == "training" or getattr(self._refiner, "mask", "") == "all"
        return f"{path} of {'every' if every else 'uncertain'} keypoint{'s' * (not every)}"

    def _declared_refiner(self) -> Refiner | None:
        refiner = self._refiner
        if refiner is None:
            return None
        used = Path(self.inference.fuse, "inference")
        return Refiner(
            raw=("raw.x", "raw.y"),
            refined=("refined.x", "refined.y"),
            layers="head.refiner",
            threshold=float(refiner.confidence_threshold),
            forward=lambda batch: self._along(batch, used),
        )

    def _switch(
        self,
        name: str,
        path: Path,
        edits: Callable[[], Edits] = dict,
        against: str = REFERENCE,
        kind: str = "path",
    ) -> Switch:
        # Edits may store what passes, so each pass makes its own.
        return Switch(name, lambda batch: self._along(batch, path, edits()), against, kind)

    def _switches(self) -> Iterator[Switch]:
        """Everything that can be taken away from this network, the reference first.

        The text is changed where the neck reads it: along the path of training if inference skips the neck.
        """
        used = self.inference
        yield self._switch(REFERENCE, used, against="")
        refines = bool(used.refine) and self._refiner is not None
        if refines:
            yield self._switch(UNREFINED, used, without_refiner, kind="refiner")
        neck = self._neck
        if neck is None or neck.fusion_type == "none" or self.text is None:
            return
        trained = Path(fuse=True, refine=self.training.refine)
        if trained != used:
            # Step by step, so that the neck is not credited with what leaving out the refiner gives.
            behind = UNREFINED if refines and not trained.refine else REFERENCE
            yield self._switch(TRAINED, trained, against=behind)
        if not used.fuse and Path(fuse=True, refine=used.refine) not in (trained, Path(fuse=True)):
            yield self._switch("with neck", Path(fuse=True, refine=used.refine), kind="neck")
        projection = getattr(neck, "out_proj", None)
        if getattr(projection, "out_channels", neck.in_channels) == neck.in_channels:
            yield self._switch(UNFUSED, used, without_neck, kind="neck")
        base, against = (used, REFERENCE) if used.fuse else (trained, TRAINED)
        yield self._switch("zero text", base, zero_text, against, "text")
        yield self._switch("shuffled text", base, shuffled_text, against, "text")
        yield self._switch("noise for text", base, noise_text, against, "text")
        if len(self.text.subjects) > 1:
            # The subject least like the others.
            vectors = self.text.subject_vectors.astype(float)
            s = int((vectors @ vectors.sum(0)).argmin())
            other = self.text.subject_vectors[s]
            name = f"text of a {self.text.subjects[s]} for every image"
            yield self._switch(name, base, lambda: other_subject(other), against, "text")
