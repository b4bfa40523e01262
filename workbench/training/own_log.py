"""Does a model's own log say what was measured? A loss logged with its weight, a PCK in mixed pixels.

A model with `logged(outputs, batch)` tells what its training code would have written. The same quantities are
worked out anew here, and every row where the two differ is a row that nobody should believe.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.core import Batch, Outputs, Prediction, Sample
from workbench.core.capabilities import LogsItself
from workbench.core.pck import BoxLength
from workbench.training import measures

# MP-100's rule, by which such logs say PCK: a fifth of the box's longer side. Some code takes another length;
# a log that is right by one of them at every step is right.
THRESHOLD = 0.2
OTHER_LENGTHS: tuple[BoxLength, ...] = ("diagonal", "root of area")

# Rounding and the order of a mean; a factor of five and another coordinate frame are far above.
SLACK = 1e-3


@dataclass(frozen=True)
class Complaint:
    """The log and the measurement where they differ most.

    Attributes:
        column: of the log.
        step: where.
        logged: what the log says.
        measured: what is right.
    """

    column: str
    step: int
    logged: float
    measured: float

    def text(self) -> str:
        """In words."""
        return (
            f"its own log says {self.column} {self.logged:.3g} at step {self.step}, "
            f"where {self.measured:.3g} was measured"
        )


def own_log(
    model: Any, outputs: Outputs, predictions: Sequence[Prediction], batch: Batch
) -> dict[str, float]:
    """``logged/NAME`` and ``measured/NAME`` for what a log says of a sequence model's outputs.

    Args:
        model: with `logged`; without it there is nothing.
        outputs: of a rollout, detached.
        predictions: read off them.
        batch: with the true tokens in ``extra["given"]``.
    """
    if not isinstance(model, LogsItself):
        return {}
    error = (outputs.tokens["coordinates"] - batch.extra["given"].cpu()).abs()
    right = {"loss_coordinates": error.nanmean().item(), "pck": _pck(predictions, batch)}
    logged = {name: float(value) for name, value in model.logged(outputs, batch).items() if name in right}
    found = {f"logged/{name}": value for name, value in logged.items()}
    found |= {f"measured/{name}": right[name] for name in logged}
    if "pck" in logged:
        found |= {f"measured/pck/{length}": _pck(predictions, batch, length) for length in OTHER_LENGTHS}
    return found


def _pck(predictions: Sequence[Prediction], batch: Batch, length: BoxLength = "longer side") -> float:
    """Mean over images of the share of right keypoints, by one length of the box."""
    each = zip(predictions, _asked(batch), strict=True)
    return float(np.mean([measures.pck([p], [s], THRESHOLD, length) for p, s in each]))


def _asked(batch: Batch) -> Sequence[Sample]:
    """The samples with what was asked for: as in MP-100, a keypoint that the support does not show is not."""
    shown = batch.extra.get("support_visible")
    if shown is None:
        return batch.samples
    truths = [np.array(sample.truth, float) for sample in batch.samples]
    for truth, asked in zip(truths, shown.any(1).cpu().numpy(), strict=True):
        truth[~asked, 2] = 0
    return [dataclasses.replace(s, truth=t) for s, t in zip(batch.samples, truths, strict=True)]


def complaints(rows: Sequence[dict[str, Any]]) -> list[Complaint]:
    """For each column of the log that is wrong somewhere, where it is so by most."""
    found: dict[str, Complaint] = {}
    explained = any(_explains(rows, length) for length in OTHER_LENGTHS)
    for row in rows:
        for key, logged in row.items():
            kind, _, column = key.partition("/")
            if kind != "logged" or logged is None or (column == "pck" and explained):
                continue
            one = Complaint(column, row["step"], logged, row[f"measured/{column}"])
            off = abs(one.logged - one.measured)
            if not _agree(one.logged, one.measured) and off > _off(found.get(column)):
                found[column] = one
    return list(found.values())


def _explains(rows: Sequence[dict[str, Any]], length: str) -> bool:
    """Whether a log's PCK is right by this length of the box at every step that says it."""
    said = [row for row in rows if row.get("logged/pck") is not None]
    return bool(said) and all(
        _agree(row["logged/pck"], row.get(f"measured/pck/{length}", np.nan)) for row in said
    )


def _agree(logged: float, measured: float) -> bool:
    return abs(logged - measured) <= SLACK * max(1.0, abs(measured))


def _off(complaint: Complaint | None) -> float:
    return abs(complaint.logged - complaint.measured) if complaint else 0.0
