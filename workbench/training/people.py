"""How is a bottom-up network taught? Whole images with everybody in them: peaks for all, a tag for each.

A bottom-up model is any that has `group`. The Trainer gives it instances; those that lie in one image become
one row, and everybody annotated in it is taught: the network is never told that a person is background.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Answers, Batch, DecodeOptions, Outputs, Prediction, Sample
from workbench.core.geometry import apply, inverse
from workbench.core.wrapping import Wrapper
from workbench.training.people import Emphasis, people_losses, people_target

if TYPE_CHECKING:
    from torch import Tensor

# One image is learned by heart with peaks that count more; tags find their values by themselves.
BY_HEART = Emphasis(foreground=10.0, tags=0.01)


@dataclass(eq=False)
class TaughtPeople(Wrapper):
    """A bottom-up model as the Trainer wants it: a row for each image, a prediction for each instance.

    Attributes:
        model: with `group`.
        emphasis: what counts how much.
    """

    model: Any
    emphasis: Emphasis = field(default_factory=Emphasis)
    withheld = (Answers,)  # goes past `prepare`

    @property
    def codec(self) -> None:
        """Whole images have none: targets are made of all people at once."""
        return None

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """Images once each; ``extra``: ``row`` of each sample, ``people`` of each row in input pixels.

        Raises:
            ValueError: images that need inputs of different sizes.
        """
        rows, of = _images(samples)
        batch = self.model.prepare(rows)
        people = []
        for n, affine in enumerate(batch.to_image):
            truth = _everybody([s for s, row in zip(samples, of, strict=True) if row == n])
            truth[..., :2] = apply(inverse(affine), truth[..., :2])
            people.append(truth)
        extra = {**batch.extra, "rows": tuple(rows), "row": tuple(of), "people": tuple(people)}
        return dataclasses.replace(batch, samples=tuple(samples), extra=extra)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """For each sample the person of its image whose extent overlaps its box best."""
        if options != DecodeOptions():
            raise ValueError(
                "decoder and score: a bottom-up model groups detections; its settings are others"
            )
        people = self.group(outputs, batch)
        return tuple(
            people[row].in_box(s.box) for s, row in zip(batch.samples, batch.extra["row"], strict=True)
        )

    def maps(self, outputs: Outputs, batch: Batch, n: int, *more: Any, **named: Any) -> Any:
        """The aggregated maps of one row of a batch."""
        return self.model.maps(outputs, _of_images(batch), n, *more, **named)

    def group(self, outputs: Outputs, batch: Batch, *more: Any, **named: Any) -> Any:
        """All people of each row of a batch."""
        return self.model.group(outputs, _of_images(batch), *more, **named)

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Loss parts; what is minimised is their sum."""
        H, W = batch.pixels.shape[-2:]
        target = people_target(batch.extra["people"], (H, W), outputs, self.emphasis.sigma)
        return people_losses(outputs, target, self.emphasis)


def _of_images(batch: Batch) -> Batch:
    """A batch of `TaughtPeople.prepare` as the inner model prepares it: one sample for each row."""
    return dataclasses.replace(batch, samples=batch.extra["rows"])


def with_everybody(samples: Sequence[Sample]) -> list[Sample]:
    """The samples and all others in their images, each once: what a bottom-up model is judged on."""
    found: dict[Any, Sample] = {}
    for sample in samples:
        for one in (sample, *sample.others):
            found.setdefault((one.image_id, one.annotation_id, one.key), one)
    return list(found.values())


def _everybody(samples: Sequence[Sample]) -> np.ndarray:
    """Truth [P, K, 3] of the people in one image, each once."""
    truths = [
        np.asarray(s.truth, float) for one in samples for s in (one, *one.others) if s.truth is not None
    ]
    each = list({truth.tobytes(): truth for truth in truths}.values())
    return np.array(each).reshape(len(each), -1, 3)


def _images(samples: Sequence[Sample]) -> tuple[list[Sample], list[int]]:
    """One sample for each different image, and for each sample the number of its image."""
    rows: list[Sample] = []
    number: dict[Any, int] = {}
    of = []
    for sample in samples:
        # By their pixels: an image read twice is one, an image changed twice is two, whatever their ids.
        key = sample.image.shape, sample.image.tobytes()
        if key not in number:
            number[key] = len(rows)
            rows.append(sample)
        of.append(number[key])
    return rows, of
