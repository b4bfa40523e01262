"""What does each part of the conditioning cost or give, in AP on a data set, with intervals?

The set is gone through once, batch by batch; in every batch each variant makes its pass, so that all see the
same crops. Every difference is paired: the same images, drawn with replacement, for both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Conditioned
from workbench.core.report import Report, plain
from workbench.evaluation import (
    Cancelled,
    Evaluation,
    Interval,
    Predictions,
    evaluate,
    paired_bootstrap,
    predict,
    protocol_of,
)
from workbench.figures import QUIET_COLOUR
from workbench.figures.bars import Bars, bars_figure
from workbench.inspectors.conditioning.passes import conditioned
from workbench.inspectors.conditioning.switches import INKS
from workbench.inspectors.conditioning.variants import REFERENCE, Edited, Variant, variants_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.core import PoseModel
    from workbench.data.pose_set import PoseSet

RESAMPLES = 500
SHOWN = ("AP", "AP50", "AP75", "AR")
COLUMNS = ("image_id", "category_id", "box", "keypoints", "scores", "score", "annotation_id")


@dataclass(frozen=True, eq=False)
class Predicted:
    """What every variant says about the same instances.

    Attributes:
        variants: the reference first.
        predictions: by the variant's name.
        evaluations: by the variant's name.
        indices: instances of the set.
    """

    variants: tuple[Variant, ...]
    predictions: Mapping[str, Predictions]
    evaluations: Mapping[str, Evaluation]
    indices: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Row:
    """One variant on the set.

    Attributes:
        name: of the variant.
        against: the variant it is judged against.
        kind: what is touched.
        figures: COCO's ten.
        interval: of the difference of AP.
    """

    name: str
    against: str
    kind: str
    figures: dict[str, float]
    interval: Interval

    def facts(self) -> dict[str, Any]:
        """As the command line tells it."""
        return plain(
            {
                "name": self.name,
                "against": self.against,
                "kind": self.kind,
                **{k: v for k, v in self.figures.items() if k in SHOWN},
                "delta": self.interval.delta,
                "low": self.interval.low,
                "high": self.interval.high,
            }
        )


@dataclass(frozen=True, eq=False)
class PartsCost(Report):
    """Every variant against the one it belongs to.

    Attributes:
        title: of the model.
        reference: evaluation of the model as it is.
        variants: what was taken away.
    """

    title: str
    reference: Evaluation
    variants: tuple[Row, ...]

    @property
    def best(self) -> Row | None:
        """The variant that gives back most, with an interval above 0."""
        gains = [row for row in self.variants if row.interval.low > 0]
        return max(gains, key=lambda row: row.interval.delta, default=None)

    def of(self, name: str) -> Row | None:
        """The row of a variant."""
        return next((row for row in self.variants if row.name == name), None)

    def summary(self) -> str:
        figures = self.reference.figures
        text = f"{self.title}: AP {figures['AP']:.3f}, AR {figures['AR']:.3f} as it is"
        if self.best is None:
            return f"{text}; nothing that is taken away gives any of it back for certain"
        row = self.best
        text += f"; {row.name} gives {row.interval} against {row.against}"
        spare = [r.name for r in self.variants if r.kind == "text" and r.interval.low <= 0 <= r.interval.high]
        if spare:
            text += f"; for all that can be told these cost nothing: {', '.join(spare)}"
        return text

    def plot(self) -> Figure:
        names = [
            row.name if row.against == REFERENCE else f"{row.name} (vs {row.against})"
            for row in self.variants
        ]
        deltas = np.array([row.interval.delta for row in self.variants])
        inks = [INKS[row.kind] for row in self.variants]
        notes = [f"{row.interval} against {row.against}" for row in self.variants]
        low, high = (
            np.array([getattr(row.interval, end) for row in self.variants]) for end in ("low", "high")
        )
        ap, ar = (np.array([row.figures[name] for row in self.variants]) for name in ("AP", "AR"))
        change = "change of AP, 95 % interval"
        columns = [
            Bars("AP", ap, inks, notes=notes, span=(0, 1)),
            Bars(change, deltas, inks, whiskers=high - deltas, notes=notes),
            Bars("AR", ar, QUIET_COLOUR, notes=notes, span=(0, 1)),
        ]
        figure = bars_figure(self.summary(), names, columns, (1, 1.6, 1))
        # A bootstrap interval need not lie evenly about the difference.
        down = (deltas - low).astype(np.float32)
        return figure.update_traces(
            error_x={"symmetric": False, "arrayminus": down}, selector={"name": change}
        )

    def table(self) -> list[dict[str, Any]]:
        return [row.facts() for row in self.variants]

    def to_json(self) -> dict[str, Any]:
        """The facts under the names of the command line."""
        return plain(
            {
                "summary": self.summary(),
                "title": self.title,
                "reference": {"name": REFERENCE, **self.reference.figures},
                "variants": self.table(),
                "protocol": self.reference.protocol.to_json(),
            }
        )


def predicted(
    model: PoseModel,
    pose_set: PoseSet,
    indices: Iterable[int] | None = None,
    *,
    title: str = "",
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Predicted:
    """Every variant's predictions and figures.

    Args:
        model: reads text.
        pose_set: annotated.
        indices: instances; all labelled ones by default.
        title: what to call the model in the protocol.
        batch_size: crops in one pass.
        progress: called with (passes done, passes in all).
        cancelled: asked before every pass.

    Raises:
        NotAvailable: the model reads no text.
        Cancelled: as asked for.
        ValueError: the model's keypoints are not the set's.
    """
    chosen = tuple(pose_set.labelled if indices is None else indices)
    if not chosen:
        raise ValueError(f"{pose_set.name}: no labelled instance to predict")
    variants, edited = _edited(model, pose_set, chosen)
    parts: dict[str, list[Predictions]] = {v.name: [] for v in variants}
    starts = range(0, len(chosen), batch_size)
    done = 0
    for start in starts:
        rows = chosen[start : start + batch_size]
        for name, changed in edited.items():
            if progress is not None:
                progress(done, len(starts) * len(variants))
            if cancelled is not None and cancelled():
                raise Cancelled(f"stopped after {start} of {len(chosen)} instances")
            found = predict(changed, pose_set, indices=rows, batch_size=batch_size)
            parts[name].append(found)
            done += 1
    if progress is not None:
        progress(done, done)
    together = {name: _joined(found) for name, found in parts.items()}
    rules = protocol_of(model, checkpoint=title)
    return Predicted(
        variants=variants,
        predictions=together,
        evaluations={n: evaluate(pose_set, p, rules, indices=chosen) for n, p in together.items()},
        indices=chosen,
    )


def _edited(
    model: PoseModel, pose_set: PoseSet, chosen: Sequence[int]
) -> tuple[tuple[Variant, ...], dict[str, Any]]:
    """What can be taken away from the model, and the model without it, by name."""
    if isinstance(model, Conditioned):
        from workbench.inspectors.conditioning.variants import own_ways

        return own_ways(model, tuple(pose_set.samples(list(chosen[:2]))))
    conditioning = conditioned(model)
    variants = tuple(variants_of(conditioning))
    kept: dict[tuple[Any, ...], Any] = {}
    return variants, {v.name: Edited.of(conditioning, v, kept) for v in variants}


def ablation(
    found: Predicted,
    title: str = "",
    resamples: int = RESAMPLES,
    seed: int = 0,
    stepped: Callable[[], None] = lambda: None,
) -> PartsCost:
    """Every variant against the one it belongs to.

    Args:
        found: see `predicted`.
        title: of the model.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        stepped: called before every variant; what it raises ends the ablation.
    """
    rows = []
    for variant in found.variants:
        if variant.name == REFERENCE:
            continue
        stepped()
        here, there = found.evaluations[variant.name], found.evaluations[variant.against]
        interval = paired_bootstrap(there.ap, here.ap, resamples=resamples, seed=seed)
        rows.append(Row(variant.name, variant.against, variant.kind, here.figures, interval))
    return PartsCost(title or "the model", found.evaluations[REFERENCE], tuple(rows))


def _joined(parts: Sequence[Predictions]) -> Predictions:
    """Batches as one; all of them were made from annotation boxes."""
    return Predictions(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in COLUMNS})
