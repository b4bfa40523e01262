"""Labels of instances beside the crops that a model got: in image pixels and in input pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.core import NotAvailable

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.diagnosis.evidence import Evidence
    from workbench.evaluation.predictions import Predictions

# Share of the labelled keypoints that crops must hold for an amount to mean anything.
INSIDE = 0.5


def check_crops(evidence: Evidence) -> None:
    """Raise NotAvailable where crops of a model do not show the instances that are labelled in them."""
    truth, affines = labels_in_images(evidence)
    H, W = evidence.forwards()[0].batch.pixels.shape[-2:]
    inside = inverted(affines, truth[..., :2])
    within = np.all((inside >= 0) & (inside <= np.array([W, H])), axis=-1)
    held = float(within[truth[..., 2] > 0].mean())
    if held < INSIDE:
        raise NotAvailable(f"{held:.0%} of the labelled keypoints lie in the crops: mend the boxes first")


def distances(evidence: Evidence, found: Predictions) -> Float[np.ndarray, "N K"]:
    """Distances of a model's poses from their labels in input pixels; nan where nothing is labelled.

    Args:
        evidence: of the model.
        found: its poses, in the order of `evidence.forwards`.
    """
    truth, affines = labels_in_images(evidence)
    away = np.einsum("nij,nkj->nki", np.linalg.inv(affines[:, :, :2]), truth[..., :2] - found.keypoints)
    return np.where(truth[..., 2] > 0, np.linalg.norm(away, axis=-1), np.nan)


def inverted(
    to_image: Float[np.ndarray, "N 2 3"], points: Float[np.ndarray, "N K 2"]
) -> Float[np.ndarray, "N K 2"]:
    """Points of images in pixels of their inputs."""
    away = points - to_image[:, None, :, 2]
    return np.einsum("nij,nkj->nki", np.linalg.inv(to_image[:, :, :2]), away)


def labels_in_images(evidence: Evidence) -> tuple[Float[np.ndarray, "N K 3"], Float[np.ndarray, "N 2 3"]]:
    """Labels of the instances, and the affines from input to image pixels."""
    parts = evidence.forwards()
    rows = [row for one in parts for row in one.rows]
    truth = np.stack([evidence.pose_set.instances[row].truth for row in rows]).astype(float)
    return truth, np.concatenate([one.batch.to_image for one in parts])
