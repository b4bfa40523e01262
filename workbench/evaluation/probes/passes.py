"""Forward passes of a probe: keypoints of the model as it is opened and of every intervention, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from workbench.core import Batch, DecodeOptions, Groups, NotAvailable, Outputs, PoseModel, Prediction, Sample
from workbench.core.job import Cancelled
from workbench.core.run import evaluating, run
from workbench.evaluation.probes.intervention import Intervention, NotTried

Found = Any  # float [N, K, 2], keypoints in image pixels

Pass = tuple[Sequence[Sample], Batch, Outputs]
"""Samples of one batch with their input and outputs."""

_BATCH = 16


def parts_of(model: PoseModel, samples: Sequence[Sample]) -> Iterator[tuple[Sample, ...]]:
    """Samples in batches, in order; of a bottom-up model the neighbours that share an image.

    Args:
        model: whose kind decides what belongs together.
        samples: in their order.
    """
    start = 0
    while start < len(samples):
        end = start + 1
        if isinstance(model, Groups):
            while end < len(samples) and samples[end].image is samples[start].image:
                end += 1
        else:
            end = min(start + _BATCH, len(samples))
        yield tuple(samples[start:end])
        start = end


def passes_over(
    model: PoseModel, samples: Sequence[Sample], made: Sequence[Pass] | None
) -> Iterator[tuple[Sequence[Sample], Batch, Outputs, np.ndarray]]:
    """Samples in batches, with input, outputs and keypoints [N, K, 2] of each, image pixels.

    Args:
        model: as it is opened.
        samples: in order.
        made: the passes over exactly these samples, where there are some already.
    """
    if made is None:
        for part in parts_of(model, samples):
            yield part, *passed(model, part)
        return
    for part, batch, outputs in made:
        yield part, batch, outputs, _read(model, outputs, batch, part)


def measured(
    model: PoseModel,
    samples: Sequence[Sample],
    interventions: Sequence[Intervention],
    progress: Callable[[int, int], None] | None,
    cancelled: Callable[[], bool] | None,
    made: Sequence[Pass] | None = None,
) -> tuple[Found, list[tuple[Intervention, Found]], list[NotTried]]:
    """Keypoints of the model and of every intervention; those that cannot be applied with the reason.

    Args:
        model: as it is opened.
        samples: in the order of the answer.
        interventions: with different names; those that change the decoding alone share one forward pass.
        progress: called with (done, total) alternatives times samples.
        cancelled: asked before each batch.
        made: passes of the model over the samples, where there are some already.

    Raises:
        Cancelled: as asked for.
    """
    base: list[np.ndarray] = []
    found: dict[str, list[np.ndarray]] = {one.name: [] for one in interventions}
    wrapped: dict[str, PoseModel] = {}
    skipped: dict[str, NotTried] = {}
    for one in interventions:
        try:
            wrapped[one.name] = one.apply(model)
        except NotAvailable as reason:
            skipped[one.name] = NotTried(one.cause, f"{one.name}: {reason}")
    total, done = (len(interventions) + 1) * len(samples), 0
    for part, batch, outputs, points in passes_over(model, samples, made):
        if cancelled is not None and cancelled():
            raise Cancelled(f"stopped after {done} of {total}")
        base.append(points)
        for one in interventions:
            if one.name in skipped:
                continue
            changed = wrapped[one.name]
            try:
                if one.decode_only:
                    points = _read(changed, outputs, batch, part)
                else:
                    points = passed(changed, part)[2]
            except (NotAvailable, ValueError, RuntimeError) as reason:
                # A network of fixed sizes refuses another input: then the cause is not this one.
                skipped[one.name] = NotTried(
                    one.cause, f"{one.name}: the network refuses it ({_line(reason)})"
                )
                continue
            found[one.name].append(points)
        done += (len(interventions) + 1) * len(part)
        if progress is not None:
            progress(done, total)
    possible = [one for one in interventions if one.name not in skipped]
    return (
        np.concatenate(base),
        [(o, np.concatenate(found[o.name])) for o in possible],
        list(skipped.values()),
    )


def _line(reason: BaseException) -> str:
    return " ".join(str(reason).split())[:160]


def passed(model: PoseModel, samples: Sequence[Sample]) -> tuple[Batch, Outputs, np.ndarray]:
    """One forward pass and the keypoints [N, K, 2] of the samples, image pixels.

    Args:
        model: that is asked.
        samples: of one batch.
    """
    if not isinstance(model, Groups):
        result = run(model, samples)
        return result.batch, result.outputs, result.keypoints
    import torch

    with torch.no_grad(), evaluating(model.module):  # type: ignore[attr-defined]
        batch = model.prepare(samples[:1])  # type: ignore[attr-defined]
        outputs = model.all_passes(batch).detach()
    return batch, outputs, _read(model, outputs, batch, samples)


def _read(model: PoseModel, outputs: Outputs, batch: Batch, samples: Sequence[Sample]) -> np.ndarray:
    if isinstance(model, Groups):
        people = model.group(outputs, batch)[0]
        predictions: Sequence[Prediction] = [people.in_box(sample.box) for sample in samples]
    else:
        predictions = model.decode(outputs, batch, DecodeOptions())
    return np.stack([np.asarray(p.keypoints, float) for p in predictions])
