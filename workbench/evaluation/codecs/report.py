"""The report of the codec matrix: every variant beside the model's own reading, and arrows between two."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Skeleton, nearest
from workbench.core.finding import Effect, Finding, Measurement
from workbench.core.report import PICTURE, Report, plain, signed_text
from workbench.evaluation.bootstrap import Interval, no_interval_text
from workbench.evaluation.codecs.ways import NO_FLIP, Way
from workbench.evaluation.protocol import Protocol

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8
    from plotly.graph_objects import Figure

LEAST_GAIN = 0.005
"""AP that a change must give back, beyond its interval, before it is a finding: half of COCO's last digit."""


@dataclass(frozen=True, eq=False)
class Variant:
    """One way to read the outputs, and what it gives.

    Attributes:
        name: unique in its matrix.
        way: decoder, cells, flip, scores.
        figures: the ten COCO figures.
        error_px: mean distance from the annotation over all labelled keypoints, image pixels.
        near_px: the same over the keypoints that the model's own reading finds (OKS .5 and more): there the
            decoder decides, elsewhere the network.
        bias_px: mean offset (x, y) of those keypoints from the annotation, image pixels.
        interval: of AP less the own reading's AP; None for the own reading, for variants that change both the
            reading and the scores, and where nothing counts.
    """

    name: str
    way: Way
    figures: Mapping[str, float]
    error_px: float
    near_px: float
    bias_px: tuple[float, float]
    interval: Interval | None = None

    @property
    def bias_text(self) -> str:
        """``(+0.12, -0.03)``."""
        return "({}, {})".format(*(signed_text(bias, "+.2f") for bias in self.bias_px))

    @property
    def ap(self) -> float:
        """AP over OKS .5 to .95."""
        return self.figures["AP"]


@dataclass(frozen=True, eq=False)
class CodecMatrix(Report):
    """Every way to read one model's outputs on one set.

    Attributes:
        title: of the model.
        data: of the set.
        protocol: of the model's own reading.
        skeleton: of the set.
        variants: the own reading first.
        left_out: what was not varied, and why.
        images: judged.
        instances: predicted.
        network_calls: crops that the network was given, mirrored ones included.
        readings: keypoints [N, K, 2] of each reading (decoder, cells, flip), image pixels.
        truth: (x, y, visibility) of each pose's annotation; nan where it has none.
        near: keypoints that the own reading finds at an OKS of .5 or more.
        boxes: (x0, y0, x1, y1) of each pose.
        best_interval: of the best rival, so wide that it holds for all rivals at once.
        shown: row of the pose that is drawn.
        image: its image.
    """

    title: str
    data: str
    protocol: Protocol
    skeleton: Skeleton
    variants: tuple[Variant, ...]
    left_out: tuple[str, ...]
    images: int
    instances: int
    network_calls: int
    readings: Mapping[tuple[str, str, str], Float[np.ndarray, "N K 2"]] = field(metadata=PICTURE)
    truth: Float[np.ndarray, "N K 3"] = field(metadata=PICTURE)
    near: Bool[np.ndarray, "N K"] = field(metadata=PICTURE)
    boxes: Float[np.ndarray, "N 4"] = field(metadata=PICTURE)
    best_interval: Interval | None = None
    shown: int = 0
    image: UInt8[np.ndarray, "H W 3"] | None = field(default=None, metadata=PICTURE)

    @property
    def own(self) -> Variant:
        """The model's own reading."""
        return self.variants[0]

    @property
    def rivals(self) -> list[Variant]:
        """The other variants that look at each image as often: a flip test costs a second pass."""
        flips = self.own.way.flip != NO_FLIP
        return [v for v in self.variants[1:] if (v.way.flip != NO_FLIP) == flips]

    @property
    def best(self) -> Variant | None:
        """The rival with the highest AP, the smaller error deciding ties; None without AP."""
        others = [v for v in self.rivals if math.isfinite(v.ap)]
        return max(others, key=lambda v: (round(v.ap, 9), -v.error_px), default=None)

    @property
    def flipped(self) -> Variant | None:
        """The best variant that differs from the own reading in whether it has a flip test; or None."""
        others = [v for v in self.changes if v not in self.rivals and math.isfinite(v.ap)]
        return max(others, key=lambda v: v.ap, default=None)

    @property
    def verdict(self) -> str:
        """``own``: no rival has more AP. ``within``: one has, within its interval. ``better``: beyond it."""
        best = self.best
        if best is None or best.ap <= self.own.ap:
            return "own"
        return "better" if self.best_interval is not None and self.best_interval.low > 0 else "within"

    @property
    def changes(self) -> list[Variant]:
        """Variants that differ from the own reading in one thing alone, the highest AP first."""
        one = [v for v in self.variants[1:] if len(v.way.changes(self.own.way)) == 1]
        return sorted(one, key=lambda v: -v.ap)

    def variant(self, name: str) -> Variant:
        """The variant of a name.

        Raises:
            KeyError: there is none.
        """
        names = {v.name: v for v in self.variants}
        if name not in names:
            raise KeyError(f"no variant {name!r}; nearest: {nearest(name, names)}")
        return names[name]

    def to_findings(self) -> tuple[Finding, ...]:
        """What is read wrongly: the best change of one thing each, where it gains beyond its interval.

        A flip test that is left out is a choice of speed, and no finding.
        """
        found: dict[str, Finding] = {}
        for variant in self.changes:
            (what,) = variant.way.changes(self.own.way)
            choice = what == "flip" and NO_FLIP in (variant.way.flip, self.own.way.flip)
            interval = variant.interval
            if what in found or choice or interval is None:
                continue
            if interval.low > 0 and interval.delta >= LEAST_GAIN:
                found[what] = self._finding(what, variant, interval)
        return tuple(found.values())

    def _finding(self, what: str, variant: Variant, interval: Interval) -> Finding:
        mine, other = (str(v).replace("_", " ") for v in (
            getattr(self.own.way, what), getattr(variant.way, what)
        ))  # fmt: skip
        cause, fix = _CAUSES[what]
        return Finding(
            cause=cause,
            evidence=(
                f"{what.replace('_', ' ')} {other} instead of {mine}: AP {self.own.ap:.3f} becomes "
                f"{variant.ap:.3f}, {interval}; error of found keypoints {self.own.near_px:.2f} becomes "
                f"{variant.near_px:.2f} px, bias {self.own.bias_text} becomes {variant.bias_text} px"
            ),
            fix=fix.format(other=other, mine=mine),
            numbers=(
                Measurement("AP", self.own.ap, expected=variant.ap),
                Measurement("error of found keypoints", self.own.near_px, "pixels", variant.near_px),
            ),
            effect=Effect("AP", interval.delta, interval.low, interval.high, self.protocol.text()),
            refuted_by="the same reading of the same weights on other images gains nothing",
            severity="warning",
            confidence="proved",
        )

    def summary(self) -> str:
        whose = f"{self.title} on {self.data}" if self.title else self.data
        own, best = self.own, self.best
        if best is None:
            return f"{whose}: no instance counts, so there is no AP. Protocol: {self.protocol.text()}."
        text = f"{whose}: the model's own reading ({own.name}) has AP {own.ap:.3f}"
        others = f"{len(self.rivals)} other variants, read from the same outputs with as many forward passes,"
        if self.verdict == "own":
            text += f"; none of the {others} has a higher AP. Keep it"
        else:
            strict = self.best_interval
            said = f", {strict} at {strict.level:.2%}" if strict is not None and strict.measured else ""
            text += f"; of {others} {best.name} is best, {best.ap:.3f}{said}"
            if strict is not None and not strict.measured:
                why = no_interval_text(strict.units)
                text += f": {why}, so nothing shows that it is better. Keep the own reading"
            elif self.verdict == "better":
                text += ": the interval, corrected for the number of variants, excludes 0. Use it"
            else:
                text += ": the interval includes 0, so nothing shows that it is better. Keep the own reading"
        text += f".{self._flip_text()}"
        causes = [finding.cause for finding in self.to_findings()]
        found = f" Found: {'; '.join(causes)}." if causes else ""
        return f"{text}{found} Protocol of the own reading: {self.protocol.text()}."

    def _flip_text(self) -> str:
        other = self.flipped
        if other is None or other.interval is None:
            return ""
        certain = "" if other.interval.certain or not other.interval.measured else ", within the interval"
        if self.own.way.flip == NO_FLIP:
            return f" A flip test, which takes a second pass, would give {other.interval} AP{certain}."
        return f" Without its flip test, in half the time, it would have {other.interval} AP{certain}."

    # Figures.

    def plot(self) -> Figure:
        """AP of decoders by flip test, with the own scores, and of score rules, with the own decoder."""
        from workbench.evaluation.codecs.drawing import matrix_figure

        return matrix_figure(self)

    def arrows(self, name: str = "") -> Figure:
        """The shown pose: arrows from the own reading to a variant's, keypoint by keypoint, lengthened.

        Args:
            name: of a variant; the best other one by default.

        Raises:
            KeyError: no such variant.
        """
        from workbench.evaluation.codecs.drawing import arrows_figure

        variant = self.variant(name) if name else self.best or self.variants[-1]
        return arrows_figure(self, variant)

    def clearest(self) -> int:
        """Row of the pose to draw: the one with most found keypoints, the larger box deciding ties."""
        areas = np.prod(self.boxes[:, 2:] - self.boxes[:, :2], axis=1)
        return int(np.lexsort((areas, self.near.sum(1)))[-1])

    # Tables.

    def table(self) -> list[dict[str, Any]]:
        """One row for each variant, the own reading first, then by falling AP."""
        rest = sorted(self.variants[1:], key=lambda v: (-v.ap, v.error_px))
        return [self._row(v) for v in (self.own, *rest)]

    def _row(self, variant: Variant) -> dict[str, Any]:
        interval, way = variant.interval, variant.way
        return plain(
            {
                "name": variant.name,
                "AP": variant.ap,
                "delta": variant.ap - self.own.ap,
                "low": None if interval is None else interval.low,
                "high": None if interval is None else interval.high,
                "AR": variant.figures["AR"],
                "error_px": variant.error_px,
                "near_px": variant.near_px,
                "bias_px": list(variant.bias_px),
                "decoder": way.decoder,
                "cells": way.cells,
                "flip": way.flip,
                "keypoint_score": way.keypoint_score,
                "pose_score": way.pose_score,
            }
        )

    def per_keypoint(self, name: str) -> list[dict[str, Any]]:
        """Error and bias of every keypoint in one variant, over the keypoints that the own reading finds.

        Raises:
            KeyError: no such variant.
        """
        off = self.readings[self.variant(name).way.reading] - self.truth[..., :2]
        rows = []
        for k, keypoint in enumerate(self.skeleton.keypoints):
            here = off[:, k][self.near[:, k]]
            here = here[np.isfinite(here).all(-1)]
            error = float(np.linalg.norm(here, axis=1).mean()) if len(here) else math.nan
            bias = here.mean(0).tolist() if len(here) else [math.nan] * 2
            rows.append({"keypoint": keypoint, "found": len(here), "error_px": error, "bias_px": bias})
        return plain(rows)

    def to_json(self) -> dict[str, Any]:
        best = self.best
        strict = self.best_interval
        return {
            "summary": self.summary(),
            "title": self.title,
            "data": self.data,
            "own": self.own.name,
            "best": None if best is None else best.name,
            "verdict": self.verdict,
            "best_interval": plain(strict),
            "variants": self.table(),
            "findings": [finding.facts() for finding in self.to_findings()],
            "left_out": list(self.left_out),
            "per_keypoint": {v.name: self.per_keypoint(v.name) for v in (self.own, best) if v is not None},
            "images": self.images,
            "instances": self.instances,
            "network_calls": self.network_calls,
            "protocol": self.protocol.to_json(),
        }

    def text(self) -> str:
        """For the command line: the summary, and each variant with the model's own scores."""
        rows = self.table()
        own = rows[0]
        shown = [r for r in rows if _same(r, own, ("keypoint_score", "pose_score"))]
        shown += [r for r in rows[1:] if r not in shown and _same(r, own, ("decoder", "cells", "flip"))]
        width = max(len(r["name"]) for r in shown)
        lines = [f"{'variant':<{width}}     AP  change of AP               mean px  found px  bias px (x, y)"]
        for row in shown:
            ends = (
                "(no interval)"
                if row["low"] is None
                else f"[{signed_text(row['low'])}, {signed_text(row['high'])}]"
            )
            change = "" if row is own else f"{signed_text(row['delta'])} {ends}"
            bias = "  ".join(signed_text(v, "+6.2f") if v is not None else "     -" for v in row["bias_px"])
            lines.append(
                f"{row['name']:<{width}}  {_number(row['AP'], 3)}  {change:<24}"
                f"  {_number(row['error_px'], 2):>8}  {_number(row['near_px'], 2):>8}  {bias}"
            )
        hidden = len(rows) - len(shown)
        more = f"{hidden} more, which change several things with the scores, are in --json" if hidden else ""
        findings = [f"found: {finding.text()}" for finding in self.to_findings()]
        note = [f"not varied: {why}" for why in self.left_out]
        return "\n".join([self.summary(), "", *lines, *filter(None, [more]), *note, *findings])


def _same(row: Mapping[str, Any], own: Mapping[str, Any], fields: tuple[str, ...]) -> bool:
    return all(row[name] == own[name] for name in fields)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


@dataclass(frozen=True, eq=False)
class Moves(Report):
    """Where another way to read the outputs moves the keypoints, beside the model's own reading.

    Attributes:
        matrix: of the model.
        name: of the other variant.
    """

    matrix: CodecMatrix
    name: str

    def summary(self) -> str:
        own, other = self.matrix.own, self.matrix.variant(self.name)
        rows = self.matrix.per_keypoint(self.name)
        most = max(rows, key=lambda r: math.hypot(*(v or 0.0 for v in r["bias_px"])))
        return (
            f"{self.name} against the model's own reading ({own.name}): mean error of found keypoints "
            f"{other.near_px:.2f} against {own.near_px:.2f} px, bias {other.bias_text} against "
            f"{own.bias_text} px; most biased {most['keypoint']}. A bias that is the same for all keypoints "
            "comes from the decoder, the cells or the flip; one that differs comes from the network or the "
            "annotations."
        )

    def plot(self) -> Figure:
        """The arrows of `CodecMatrix.arrows`."""
        return self.matrix.arrows(self.name)

    def table(self) -> list[dict[str, Any]]:
        """One row for each keypoint: error and bias in both readings."""
        own, other = (self.matrix.per_keypoint(name) for name in (self.matrix.own.name, self.name))
        return [
            {
                "keypoint": a["keypoint"],
                "found": a["found"],
                "own_error_px": a["error_px"],
                "own_bias_px": a["bias_px"],
                "error_px": b["error_px"],
                "bias_px": b["bias_px"],
            }
            for a, b in zip(own, other, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "summary": self.summary(),
            "own": self.matrix.own.name,
            "variant": self.name,
            "keypoints": self.table(),
            "protocol": self.matrix.protocol.to_json(),
        }


_CAUSES: Mapping[str, tuple[str, str]] = {
    "decoder": ("decoder does not fit the output", "decode with {other} instead of {mine}"),
    "cells": (
        "cells placed by the wrong rule (UDP against plain)",
        "read the heatmaps in {other} cells: codec and crop must both follow it",
    ),
    "flip": (
        "mirrored heatmaps are shifted wrongly",
        "use '{other}' instead of '{mine}': shift_heatmap is for models trained without UDP",
    ),
    "keypoint_score": (
        "score of SimCC's two peaks ranks poses badly", "take the {other} of the peaks instead of the {mine}"
    ),
    "pose_score": ("pose score ranks poses badly", "rank poses by {other} instead of {mine}"),
}  # fmt: skip
"""Field of Way -> what it means that another value is better, and what to do."""
