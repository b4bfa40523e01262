"""What is looked at: a run, an epoch, a sample of a data set or an image of one's own, a decoder.

Pages hold these as ids and numbers; here they become samples and a forward pass.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.server.context import Context
from workbench.core import DecodeOptions, Run, Sample
from workbench.core.geometry import checked_box
from workbench.core.report import Inspector

Corners = tuple["float | None", "float | None", "float | None", "float | None"]
NO_BOX: Corners = (None, None, None, None)


@dataclass(frozen=True)
class Subject:
    """The bar's values, as the browser holds them."""

    run: str
    epoch: int
    data: str
    sample: int
    decoder: str = ""
    image: str | None = None
    box: Corners = NO_BOX

    @property
    def own_box(self) -> tuple[float, float, float, float] | None:
        """The box drawn or entered; None while a side is missing."""
        if any(v is None for v in self.box):
            return None
        return checked_box(tuple(float(v) for v in self.box))  # type: ignore[arg-type]


def subject_of(context: Context, *values: Any) -> Subject:
    """The subject of widget values; what is missing takes its default.

    Raises:
        KeyError: no such run, epoch or data set.
        NotAvailable: no run is served.
    """
    run, epoch, data, sample, decoder, image, *box = values
    folder = context.registry.run(run) if run else context.registry.default_run()
    index = _whole(epoch, "epoch") if epoch not in (None, "") else folder.epochs[-1].index
    context.registry.epoch(folder.id, index)
    if not data:
        data = context.registry.default_data(folder.id, index)
    if sample in (None, ""):
        sample = context.registry.default_sample(folder.id, index, data) if data else 0
    return Subject(folder.id, index, data, _whole(sample, "sample"), decoder or "", image or None, tuple(box))  # type: ignore[arg-type]


def _whole(value: Any, name: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected a whole number, got {value!r}") from None


def sample_of(context: Context, subject: Subject) -> tuple[Sample, tuple[Any, ...]]:
    """The sample looked at, and what stands for it in a cache."""
    if subject.image is None:
        return context.registry.sets.sample(subject.data, subject.sample), (subject.data, subject.sample)
    from workbench.data.boxes import box_in_image, whole_image
    from workbench.data.images import read_image

    pixels = read_image(Path(subject.image))
    box = box_in_image(subject.own_box or whole_image(pixels), pixels)
    return Sample(pixels, box, key=Path(subject.image).name, path=subject.image), (subject.image, box)


def run_of(context: Context, subject: Subject, inspector: Inspector) -> Run:
    """The forward pass that an inspector reads; kept, so that another knob costs none.

    Raises:
        ValueError: the set's annotations are not of the model's keypoints, or not in its order.
    """
    from workbench.evaluation.model_rules import check_same_keypoints

    model = context.registry.model(subject.run, subject.epoch).model
    if subject.image is None:
        check_same_keypoints(model.skeleton, context.registry.sets.skeleton(subject.data), subject.data)
    sample, key = sample_of(context, subject)
    options = DecodeOptions(decoder=subject.decoder)
    flip = inspector.flips(model)
    return context.registry.passed(
        subject.run, subject.epoch, [sample], key, record=inspector.record, options=options, flip=flip
    )


def neighbour(context: Context, data: str, sample: int, step: int) -> int:
    """The next sample that has an annotation, going round."""
    labelled = context.registry.sets.get(data).labelled
    if not labelled:
        return sample
    later = [i for i in labelled if (i > sample if step > 0 else i < sample)]
    if later:
        return later[0] if step > 0 else later[-1]
    return labelled[0] if step > 0 else labelled[-1]


def without_image(subject: Subject) -> Subject:
    """The same subject, its image of one's own put away."""
    return dataclasses.replace(subject, image=None, box=(None,) * 4)
