"""Keypoint scores on pictures, videos or the data set, and what their range means."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from workbench.core import NotAvailable, PoseModel, Sample
from workbench.core.errors import USER_ERRORS, sentence
from workbench.diagnosis.case import BudgetSpent, Case
from workbench.diagnosis.targets import VIDEOS

# Frames of a video that are looked at: enough for the range of scores.
FRAMES, EVERY = 8, 15


def note_of_scores(case: Case) -> str:
    """The range of the keypoint scores and what it means; "" where nothing was predicted."""
    try:
        model = case.model()
        scores, where = _scores(case, model)
    except (NotAvailable, BudgetSpent):
        return ""
    except (*USER_ERRORS, RuntimeError) as error:
        return f"{case.given.media[0].name if case.given.media else 'the data'}: {sentence(error)}"
    scores = scores[np.isfinite(scores)]
    codec = model.codec
    if not scores.size or codec is None:
        return ""
    note = (
        f"keypoint scores {where} go from {scores.min():.2f} to {scores.max():.2f}, median "
        f"{np.median(scores):.2f}"
    )
    if codec.kind == "simcc" and scores.max() > 1:
        return (
            f"{note}; above 1 is normal here: each is the smaller of the two raw SimCC peaks (x and y), "
            "without a softmax, so it orders keypoints and is no probability"
        )
    return note if case.given.media else ""


def _scores(case: Case, model: PoseModel) -> tuple[np.ndarray, str]:
    """Keypoint scores, and where they are from.

    Raises:
        NotAvailable: there are neither pictures nor predictions.
    """
    from workbench.evaluation.predict import predict_pictures

    if not case.given.media:
        evidence = case.evidence()
        if evidence.model is None:
            raise NotAvailable("the poses are those of a result file")
        return evidence.measure().predictions.scores, f"on {case.pose_set().name}"
    path = case.given.media[0]
    case.step()
    shown = ((path.name, [sample]) for sample in _samples(path))
    found = [one.scores for _, poses in predict_pictures(model, shown) for one in poses]
    if not found:
        raise NotAvailable(f"{path.name}: nobody was found in it")
    where = f"on {path.name} (whole pictures as boxes)"
    return np.concatenate([np.ravel(scores) for scores in found]), where


def _samples(path: Path) -> Iterator[Sample]:
    """The picture, or some frames of the video, each with the whole picture as its box."""
    from workbench.data.images import read_image
    from workbench.data.video import frames

    if path.suffix.lower() in VIDEOS:
        images = (frame.image for frame in itertools.islice(frames(path, EVERY), FRAMES))
    else:
        images = iter([read_image(path)])
    for image in images:
        H, W = image.shape[:2]
        yield Sample(image, (0.0, 0.0, float(W), float(H)), key=path.name, path=str(path))
