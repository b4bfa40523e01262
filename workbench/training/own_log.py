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

from workbench.records import Batch, Outputs, Prediction, Sample
from workbench.training import measures

# MP-100's rule, by which such logs say PCK: a fifth of the box's longer side.
THRESHOLD = 0.2

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
    if not callable(getattr(model, "logged", None)):
        return {}
    error = (outputs.tokens["coordinates"] - batch.extra["given"].cpu()).abs()
    shares = [measures.pck([p], [s], THRESHOLD) for p, s in zip(predictions, _asked(batch), strict=True)]
    right = {"loss_coordinates": error.nanmean().item(), "pck": float(np.mean(shares))}
    logged = {name: float(value) for name, value in model.logged(outputs, batch).items() if name in right}
    return {f"logged/{name}": value for name, value in logged.items()} | {
        f"measured/{name}": right[name] for name in logged
    }


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
    for row in rows:
        for key, logged in row.items():
            kind, _, column = key.partition("/")
            if kind != "logged" or logged is None:
                continue
            one = Complaint(column, row["step"], logged, row[f"measured/{column}"])
            off = abs(one.logged - one.measured)
            if off > SLACK * max(1.0, abs(one.measured)) and off > _off(found.get(column)):
                found[column] = one
    return list(found.values())


def _off(complaint: Complaint | None) -> float:
    return abs(complaint.logged - complaint.measured) if complaint else 0.0
