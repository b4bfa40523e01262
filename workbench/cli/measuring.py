"""`--metric`, `--normalise` and `--thresholds` of `evaluate` and `score`: which figure, of which length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet

Metric = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--metric", help="ap (default where sigmas are known), pck, pckh, mpck, auc, epe or nme."),
]
Normalise = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--normalise",
        help="Length of pck, nme, auc: box, diagonal, area, head, torso, left_eye,right_eye or 30px.",
    ),
]
Thresholds = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--thresholds", help="Of mpck, comma separated; 0.05,0.1,0.15,0.2,0.25 by default."),
]
Threshold = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--pck", help="PCK threshold; 0.05 of the box's longest side, 0.5 of the head by default."),
]


def chosen_metric(
    metric: str | None, pose_set: PoseSet, sigmas: Sequence[float] | None, normalise: str | None
) -> tuple[str, str]:
    """The metric to compute, and why it is not AP where nobody chose it.

    Raises:
        ValueError: a length was named for AP.
    """
    known = sigmas is not None or bool(pose_set.skeleton.sigmas)
    if metric is None and not known:
        return "pck", (
            f"AP needs OKS sigmas, and none are known for {pose_set.skeleton.name}: give --sigmas, one number"
            " for all keypoints or one for each"
        )
    if metric is None and normalise is not None:
        return "pck", ""
    if metric in (None, "ap") and normalise is not None:
        raise ValueError("--normalise: AP has its own scale, the area; name a --metric such as pck or nme")
    return (metric or "ap").lower(), ""


def thresholds_of(text: str | None) -> tuple[float, ...]:
    """Thresholds as people type them.

    Raises:
        ValueError: they are no numbers.
    """
    from workbench.evaluation.pck import MPCK_THRESHOLDS

    if text is None:
        return MPCK_THRESHOLDS
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--thresholds: expected numbers with commas between, got {text!r}") from None
