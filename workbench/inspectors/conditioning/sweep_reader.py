"""Conditioning as an ablation of sweeps: every checkpoint with and without condition, neck and refiner.

`workbench.evaluation.sweeps.readings.ELSEWHERE` names this module; its `reader` is called for
``--ablations conditioning``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core.job import Cancelled
from workbench.evaluation.predict import predict
from workbench.evaluation.predictions import Predictions
from workbench.evaluation.sweeps.readings import Reader, VariantName, labelled_rows
from workbench.inspectors.conditioning.passes import Switched, switches_of

if TYPE_CHECKING:
    from workbench.core import PoseModel
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.protocol import Protocol
    from workbench.evaluation.sweeps.rules import SweepRules


def reader(model: PoseModel, pose_set: PoseSet, rules: SweepRules) -> Reader:
    """The reader of a conditioned model: one variant for each switch, the model as it is first.

    Args:
        model: conditioned.
        pose_set: what is predicted.
        rules: of the sweep.

    Raises:
        NotAvailable: the model declares no condition.
        ValueError: the flip test is asked for, or other ablations besides.
    """
    if len(rules.ablations) > 1:
        raise ValueError("ablation conditioning: changes the network itself, so it is swept alone")
    if rules.flip:
        raise ValueError("ablation conditioning: its passes go without the flip test; leave --flip out")
    return ConditioningReader(model, pose_set, rules)


@dataclass
class ConditioningReader:
    """Predictions of every switch of a conditioned model; see workbench.inspectors.conditioning.ablation."""

    model: PoseModel
    pose_set: PoseSet
    rules: SweepRules

    def __post_init__(self) -> None:
        self.rows = labelled_rows(self.pose_set, self.rules.limit)
        self._switches = switches_of(self.model, tuple(self.pose_set.samples(self.rows[:2])))
        self.variants = tuple(
            VariantName(s.name, f"compared with {s.against}" if s.against else "the model as it is")
            for s in self._switches
        )

    def read(self, rows: Sequence[int], cancelled: Callable[[], bool] | None = None) -> list[Predictions]:
        rules, size = self.rules, self.rules.batch_size
        shared: dict[tuple[Any, ...], Any] = {}
        parts: list[list[Predictions]] = [[] for _ in self._switches]
        # Batch by batch, so that all switches see one batch, which is then cropped once.
        for start in range(0, len(rows), size):
            for switch, own in zip(self._switches, parts, strict=True):
                if cancelled is not None and cancelled():
                    raise Cancelled("stopped; finished epochs are kept")
                changed = Switched(self.model, switch, shared)
                batch = rows[start : start + size]
                own.append(
                    predict(
                        changed, self.pose_set, indices=batch, options=rules.decoding,
                        score_rule=rules.score_rule, batch_size=size,
                    )
                )  # fmt: skip
        return [Predictions.joined(own) for own in parts]

    def protocol(self, number: int, own: Protocol) -> Protocol:
        # Another network and the same rules: figures of the variants are to be compared.
        name = self._switches[number].name
        return own if number == 0 else dataclasses.replace(own, checkpoint=f"{own.checkpoint}, {name}")
