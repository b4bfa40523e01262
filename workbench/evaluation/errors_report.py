"""Errors of a result by kind, of keypoints and instances; the AP that each repair gives back; figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Skeleton
from workbench.core.finding import Effect, Finding, Measurement, ranked
from workbench.core.report import PICTURE, Report, counted, plain, signed_text
from workbench.evaluation.errors import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    KINDS,
    SCORING,
    SWAP,
    UNDETECTED,
    UNLABELLED,
    VISIBILITY,
    WORDS,
    Kind,
    Localisation,
    Repair,
    ScoringError,
    Slice,
    ap_of,
    background,
    image_sizes,
    localise,
    optimal_scores,
    outside,
    repaired,
    scoring_errors,
    slices,
    visibility,
    without_background,
)
from workbench.evaluation.evaluate import Evaluation
from workbench.evaluation.keypoint_ap import KeypointAP, keypoint_ap, size_classes
from workbench.evaluation.protocol import Protocol
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS, new_figure

if TYPE_CHECKING:
    from jaxtyping import Bool, Int
    from plotly.graph_objects import Figure

    from workbench.data.pose_set import PoseSet


ADVICE: Mapping[str, str] = {
    "jitter": "keypoints are found and placed inexactly: compare decoders and the codec's own error "
    "(workbench decode, workbench codec), and the flip shift",
    "inversion": "left and right are confused: check the mirror pairs of flip test and augmentation",
    "swap": "keypoints of a neighbour are taken: check box padding and crowded images",
    "miss": "keypoints are not found: look at the worst keypoints' heatmaps and at occluded ones",
    SCORING: "better poses are ranked below worse ones: try another score rule, or calibrate the scores",
    FALSE_POSITIVE: "poses lie on nobody: raise the detector's threshold or use non-maximum suppression",
    FALSE_NEGATIVE: "instances are not found at an OKS threshold: repair their keypoints first",
    UNDETECTED: "no pose lies on an instance: look at the detector's boxes, or the missing crops",
}
"""Kind of error -> what it means and what to do."""

NOTES: Mapping[str, str] = {
    SCORING: "count: instances with a worse pose above a better one; AP: all images ranked by OKS",
    FALSE_POSITIVE: "count: no annotation at OKS .5; AP: without the poses that miss each OKS threshold",
    FALSE_NEGATIVE: "what is still missing to AP 1 without the detections on no instance",
}
"""Kind of error -> what its two numbers are, where they do not count the same thing."""

WORTH = 0.01
"""AP that a repair must give back to be called a finding."""


@dataclass(frozen=True, eq=False)
class Errors(Report):
    """All errors of a result.

    Attributes:
        result: of the evaluator, unrepaired.
        skeleton: of the data set.
        protocol: how the predictions were made and judged.
        repair: where repaired keypoints were put.
        found: the judged keypoints.
        scoring: annotations whose best detection is not ranked first among their own.
        false_positives: detections without an annotation at OKS .5, index into the detections.
        false_negatives: annotations without a detection at OKS .5, index into the ground truth.
        undetected: annotations on which no detection lies (OKS .1), index into the ground truth.
        delta_ap: kind -> AP with this kind alone repaired, less AP; nan without annotations. Missed instances
            (FALSE_NEGATIVE) are left out at every OKS threshold anew, after the detections of nobody, so that
            their share is all that is then missing to 1; undetected ones are left out at all thresholds.
            Of SCORING all detections get optimal scores, which also ranks them across images: it may be above
            0 where `scoring` is empty.
        ap_all: AP with all keypoint errors repaired.
        groups: of each judged annotated point, index into VISIBILITY; -1 where not labelled.
        strayed: judged points that the model put outside the image, though annotated inside.
        slices: parts of the set.
        slice_ap: AP of each part, everybody else ignored; of the sizes medium and large, COCO's APM and APL.
    """

    result: KeypointAP
    skeleton: Skeleton
    protocol: Protocol
    repair: Repair
    found: Localisation
    scoring: tuple[ScoringError, ...]
    false_positives: Int[np.ndarray, " F"]
    false_negatives: Int[np.ndarray, " N"]
    undetected: Int[np.ndarray, " U"]
    delta_ap: Mapping[str, float]
    ap_all: float
    groups: Int[np.ndarray, "M K"] = field(metadata=PICTURE)
    strayed: int
    slices: tuple[Slice, ...]
    slice_ap: tuple[float, ...]

    @property
    def ap(self) -> float:
        """AP of the result as it is; nan where there is nothing to be found."""
        return self.result.figures["AP"]

    @property
    def counts(self) -> dict[str, int]:
        """Judged keypoints by kind, and instances by kind of error."""
        keypoints = self.found.counts().sum(0)
        return {
            **{kind: int(n) for kind, n in zip(KINDS, keypoints, strict=True)},
            SCORING: len(self.scoring),
            FALSE_POSITIVE: len(self.false_positives),
            FALSE_NEGATIVE: len(self.false_negatives),
            UNDETECTED: len(self.undetected),
        }

    @property
    def judged(self) -> int:
        """Labelled keypoints of the detections that lie on an annotation."""
        return int((self.found.kind != UNLABELLED).sum())

    def summary(self) -> str:
        if math.isnan(self.ap):
            return f"No AP: {self.protocol.data} has no instance that counts, so there are no errors to sort"
        counts = self.counts
        if not self.judged:
            stray = counted(counts[FALSE_POSITIVE], "detection lies", "detections lie")
            missed = counted(counts[FALSE_NEGATIVE], "instance is", "instances are")
            return (
                f"AP {self.ap:.3f}: no detection lies on an annotation (OKS .1), {stray} on no instance and "
                f"{missed} missed; check that results and annotations are of the same images, in pixels of "
                "the whole image"
            )
        shares = ", ".join(f"{WORDS[kind]} {counts[kind] / self.judged:.1%}" for kind in KINDS)
        text = f"AP {self.ap:.3f}; of {counted(self.judged, 'judged keypoint', spec=',')} {shares}"
        worst = self._worst()
        if worst is None:
            return f"{text}; no repair would give back {WORTH:g} AP"
        near = self.ambiguous.get(worst, 0)
        also = f" ({near:,} of them also lie near the own annotation)" if near else ""
        given = f"{signed_text(self.delta_ap[worst])} AP if repaired"
        return f"{text}; {WORDS[worst]} costs most, {given}{also}: {self._advice(worst)}"

    @property
    def ambiguous(self) -> dict[str, int]:
        """Inversions and swaps that lie within .85 of their own place as well: two places are one there."""
        return {kind: self.found.ambiguous(kind) for kind in ("inversion", "swap")}

    def _worst(self) -> str | None:
        """The kind whose repair gives back most; None where none gives back WORTH."""
        deltas = {kind: delta for kind, delta in self.repairs.items() if self._is_there(kind)}
        worst = max(deltas, key=lambda kind: np.nan_to_num(deltas[kind], nan=-1))
        return worst if deltas[worst] >= WORTH else None

    def _is_there(self, kind: str) -> bool:
        """Whether errors of a kind may be named.

        AP leaves background poses out at every OKS threshold: with none at .5 all are only placed inexactly.
        """
        return kind != FALSE_POSITIVE or len(self.false_positives) > 0

    @property
    def repairs(self) -> dict[str, float]:
        """`delta_ap` of what can be repaired: without the share that is all that is missing to 1."""
        return {kind: delta for kind, delta in self.delta_ap.items() if kind != FALSE_NEGATIVE}

    def to_findings(self) -> tuple[Finding, ...]:
        """Kinds of errors whose repair gives back WORTH AP or more, the largest first."""
        counts, made = self.counts, []
        for kind, delta in self.repairs.items():
            if not delta >= WORTH or not self._is_there(kind):
                continue
            made.append(
                Finding(
                    f"{WORDS[kind]} errors",
                    self._evidence(kind, delta),
                    self._advice(kind),
                    (Measurement(WORDS[kind], float(counts[kind]), protocol=self.protocol.text()),),
                    Effect("AP", delta, protocol=f"repair {self.repair}, this kind alone"),
                    severity="warning",
                    confidence="measured",
                    refuted_by="annotations that are wrong at these instances",
                )
            )
        return tuple(ranked(made))

    def _evidence(self, kind: str, delta: float) -> str:
        """How many errors of a kind there are, and AP without them.

        A scoring error is counted within one annotation, but AP ranks the poses of all images together: its
        gain is that of the ranking, and may be there with a count of 0.
        """
        count, then = self.counts[kind], f"AP {self.ap:.3f} would be {self.ap + delta:.3f}"
        if kind == FALSE_POSITIVE:
            have, lie = "pose has" if count == 1 else "poses have", "lies" if self.near_misses == 1 else "lie"
            return (
                f"{count:,} {have} no annotation at OKS .5, of which {self.near_misses:,} {lie} on one at "
                f"OKS .1; {then} without the poses that miss an annotation, at each OKS threshold"
            )
        if kind != SCORING:
            of = f"of {counted(self.judged, 'judged keypoint', spec=',')}" if kind in KINDS else "instances"
            return f"{count:,} {of}; {then} without them"
        return (
            f"{then} with scores that follow the OKS, which ranks the poses of all images; in "
            f"{counted(count, 'instance', spec=',')} a "
            "worse pose scores above a better one of the same instance"
        )

    @property
    def near_misses(self) -> int:
        """Detections without an annotation at OKS .5 that lie on one at .1: badly placed, not on nobody."""
        return int(np.isin(self.false_positives, self.found.detection).sum())

    def _advice(self, kind: str) -> str:
        """What to do about a kind of error, by what was measured and by where the boxes come from."""
        if kind == FALSE_POSITIVE and 2 * self.near_misses > len(self.false_positives):
            return "most of these poses lie on an instance, but badly: repair their keypoints first"
        if kind == FALSE_POSITIVE and self.protocol.boxes == "annotation":  # there is no detector
            return "poses in annotated boxes lie on nobody's keypoints: look at these crops"
        if kind == UNDETECTED and self.protocol.boxes == "annotation" and not self.protocol.left_out:
            return "the pose in an instance's own box lies on nobody's keypoints: look at these crops"
        return ADVICE[kind]

    def per_keypoint(self) -> list[dict[str, Any]]:
        """One row for each keypoint of the skeleton: judged ones, and how many of each kind."""
        return [
            {"keypoint": name, "judged": int(row.sum()), **dict(zip(KINDS, row.tolist(), strict=True))}
            for name, row in zip(self.skeleton.keypoints, self.found.counts(), strict=True)
        ]

    def by_slice(self) -> list[dict[str, Any]]:
        """One row for each slice: instances, missed ones, judged keypoints by kind, and AP."""
        missed = np.zeros(len(self.result.truth), bool)
        missed[self.false_negatives] = True
        rows = []
        for part, ap in zip(self.slices, self.slice_ap, strict=True):
            counts = self.found.counts(part.members[self.found.truth]).sum(0).tolist()
            rows.append(
                {
                    "by": part.by, "slice": part.name, "instances": int(part.members.sum()),
                    "missed": int((missed & part.members).sum()), "judged": sum(counts),
                    **dict(zip(KINDS, counts, strict=True)), "AP": ap,
                }
            )  # fmt: skip
        return rows

    def by_visibility(self) -> list[dict[str, Any]]:
        """One row for each group of annotated points: how many were judged, and how many of each kind."""
        rows = []
        for number, name in enumerate(VISIBILITY):
            kinds = self.found.kind[self.groups == number]
            counts = np.bincount(kinds, minlength=len(KINDS)).tolist() if len(kinds) else [0] * len(KINDS)
            rows.append({"points": name, "judged": sum(counts), **dict(zip(KINDS, counts, strict=True))})
        return rows

    def instances(self, kind: str, keypoint: int = -1, part: int = -1) -> list[dict[str, Any]]:
        """The instances with one kind of error, those with most such keypoints first, then by falling OKS.

        Args:
            kind: of KINDS, or scoring, background_false_positive, background_false_negative, undetected.
            keypoint: index in the skeleton, to list the instances where this one is wrong; -1 for any.
            part: index into `slices`; -1 for all instances. Detections of nobody are in no slice.

        Returns:
            rows of image_id, annotation_id (None for a detection of nobody), detection (None for a missed
            instance; index into the detections), oks, keypoints (names), of (annotation_id of the instance
            whose keypoints were taken; None but for swaps).

        Raises:
            ValueError: no such kind.
        """
        members = self.slices[part].members if part >= 0 else np.ones(len(self.result.truth), bool)
        if kind in KINDS:
            return self._with_keypoints(KINDS.index(kind), keypoint, members)
        if kind == SCORING:
            detected = [e for e in self.scoring if members[e.truth]]
            return [self._row(e.truth, e.highest, e.oks[0]) | {"better": e.best} for e in detected]
        if kind == FALSE_NEGATIVE:
            return [self._row(int(g), None, np.nan) for g in self.false_negatives if members[g]]
        if kind == UNDETECTED:
            return [self._row(int(g), None, np.nan) for g in self.undetected if members[g]]
        if kind == FALSE_POSITIVE:
            order = self.false_positives[np.argsort(-self.result.detections.score[self.false_positives])]
            return [self._row(None, int(d), np.nan) for d in order] if part < 0 else []
        raise ValueError(f"kind: expected one of {', '.join(WORDS)}, got {kind!r}")

    def _with_keypoints(self, number: int, keypoint: int, members: Any) -> list[dict[str, Any]]:
        wrong = self.found.kind == number
        asked = wrong.any(1) if keypoint < 0 else wrong[:, keypoint]
        rows = np.flatnonzero(asked & members[self.found.truth])
        rows = rows[np.lexsort((-self.found.oks[rows], -wrong[rows].sum(1)))]
        made = []
        for m in rows:
            names = [self.skeleton.keypoints[k] for k in np.flatnonzero(wrong[m])]
            others = np.unique(self.found.other[m][wrong[m]])
            of = int(self.result.truth.ids[others[-1]]) if number == SWAP and others[-1] >= 0 else None
            row = self._row(int(self.found.truth[m]), int(self.found.detection[m]), float(self.found.oks[m]))
            made.append(row | {"keypoints": names, "of": of})
        return made

    def _row(self, target: int | None, detection: int | None, oks: float) -> dict[str, Any]:
        truth, detections = self.result.truth, self.result.detections
        image = truth.image_ids[truth.image[target]] if target is not None else detections.image_id[detection]
        return {
            "image_id": int(image),
            "annotation_id": None if target is None else int(truth.ids[target]),
            "detection": detection,
            "oks": None if math.isnan(oks) else oks,
            "score": None if detection is None else float(detections.score[detection]),
            "keypoints": [],
            "of": None,
        }

    def table(self) -> list[dict[str, Any]]:
        return self.per_keypoint()

    def to_json(self) -> dict[str, Any]:
        """Counts, shares, per_keypoint, delta_ap, slices and findings; `instances` lists the instances."""
        counts = self.counts
        return plain(
            {
                "summary": self.summary(),
                "AP": self.ap,
                "counts": counts,
                "judged": self.judged,
                "ambiguous": self.ambiguous,
                "per_keypoint": self.per_keypoint(),
                "delta_ap": dict(self.delta_ap),
                "ap_all_keypoints_repaired": self.ap_all,
                "repair": self.repair,
                "inversions_judged": bool(self.skeleton.mirror),
                "slices": self.by_slice(),
                "visibility": self.by_visibility(),
                "strayed_outside_the_image": self.strayed,
                "findings": [finding.facts() for finding in self.to_findings()],
                "protocol": self.protocol.to_json(),
            }
        )

    def text(self) -> str:
        """For the command line: counts, repairs, keypoints, slices."""
        return _text(self)

    def plot(self) -> Figure:
        return overview(self.summary(), self.per_keypoint(), self.repairs)


def errors(
    evaluation: Evaluation, pose_set: PoseSet, repair: Repair = "published", sliced: bool = True
) -> Errors:
    """Sort the errors of an evaluated result.

    Args:
        evaluation: of the result on the set, by the rules that also count here.
        pose_set: the annotations, for the sizes of images.
        repair: where repaired keypoints are put.
        sliced: also evaluate every slice, which takes one evaluation for each.

    Example:
        >>> from workbench.data import builtin
        >>> from workbench.evaluation import Predictions, evaluate
        >>> scenes = builtin("astronaut")
        >>> results = [
        ...     {"image_id": i.image_id, "category_id": i.category_id, "keypoints": i.truth.ravel().tolist(),
        ...      "score": 1.0}
        ...     for i in scenes.instances
        ... ]
        >>> found = errors(evaluate(scenes, Predictions.from_coco(results)), scenes)
        >>> found.counts["miss"], round(found.ap, 3)
        (0, 1.0)
    """
    result, skeleton = evaluation.ap, evaluation.skeleton
    found = localise(result, skeleton.mirror)
    wrong: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind != "good")
    kinds: list[Kind] = [kind for kind in wrong if kind != "inversion" or skeleton.mirror]
    ap = result.figures["AP"]
    delta: dict[str, float] = {k: ap_of(result, repaired(result, found, (k,), repair)) - ap for k in kinds}
    ranked_best = replace(result.detections, score=optimal_scores(result))
    silent = without_background(result)
    delta |= {SCORING: ap_of(result, ranked_best) - ap, FALSE_POSITIVE: silent - ap}
    # Without missed instances, and without detections of nobody, what is left is right by definition.
    delta[FALSE_NEGATIVE] = 1.0 - silent
    nobody = ~result.truth.ignored
    nobody[found.truth] = False
    delta[UNDETECTED] = _ap_within(result, ~nobody) - ap
    alone, missed = background(result)
    parts = slices(result.truth) if sliced else ()
    groups = visibility(result.truth, pose_set)[found.truth]
    return Errors(
        result=result,
        skeleton=skeleton,
        protocol=evaluation.protocol,
        repair=repair,
        found=found,
        scoring=scoring_errors(result),
        false_positives=alone,
        false_negatives=missed,
        undetected=np.flatnonzero(nobody),
        delta_ap=delta,
        ap_all=ap_of(result, repaired(result, found, wrong, repair)),
        groups=groups,
        strayed=_strayed(result, found, pose_set, groups),
        slices=parts,
        slice_ap=tuple(_slice_ap(result, part) for part in parts),
    )


def _text(report: Errors) -> str:
    """The report as lines of text."""
    if math.isnan(report.ap) or not report.judged:
        return report.summary()
    counts, lines = report.counts, [report.summary(), ""]
    lines.append(f"{'error':<28}   count   AP given back   (repair {report.repair}, each kind alone)")
    for kind, delta in report.delta_ap.items():
        note = f"   {NOTES[kind]}" if kind in NOTES else ""
        lines.append(f"{WORDS[kind]:<28} {counts[kind]:>7,}   {signed_text(delta, '+13.4f')}{note}")
    near = ", ".join(f"{n:,} {kind}" for kind, n in report.ambiguous.items())
    lines.append(f"of these also near the own annotation (similarity .85): {near}")
    lines.append(
        f"{'jitter to miss, together':<28} {'':>7}   {signed_text(report.ap_all - report.ap, '+13.4f')}"
    )
    if not report.skeleton.mirror:
        lines.append(f"inversions are not judged: skeleton {report.skeleton.name} names no mirror pairs")
    heads = "".join(f"{kind:>11}" for kind in KINDS)
    lines += ["", f"{'keypoint':<20} judged{heads}"]
    for row in report.per_keypoint():
        lines.append(f"{row['keypoint']:<20} {row['judged']:6d}" + "".join(f"{row[k]:11d}" for k in KINDS))
    lines += ["", f"{'points':<20} judged{heads}"]
    for row in report.by_visibility():
        lines.append(f"{row['points']:<20} {row['judged']:6d}" + "".join(f"{row[k]:11d}" for k in KINDS))
    lines.append(f"predicted outside the image, annotated inside: {report.strayed:,}")
    if report.slices:
        lines += ["", f"{'slice':<38} instances  missed     AP{heads}"]
    for row in report.by_slice():
        ap = "    -" if math.isnan(row["AP"]) else f"{row['AP']:.3f}"
        name = f"{row['by']}: {row['slice']}"
        line = f"{name:<38} {row['instances']:9d} {row['missed']:7d}  {ap}"
        lines.append(line + "".join(f"{row[k]:11d}" for k in KINDS))
    return "\n".join(lines)


def _ap_within(result: KeypointAP, members: Bool[np.ndarray, " G"]) -> float:
    """AP when all instances but some are ignored."""
    truth = replace(result.truth, ignored=result.truth.ignored | ~members)
    return keypoint_ap(truth, result.detections, result.sigmas.tolist(), result.max_dets).figures["AP"]


def _slice_ap(result: KeypointAP, part: Slice) -> float:
    """AP of a slice; of a size by COCO's rule, as in APM and APL."""
    if part.by == "size":
        # COCO ignores a detection of nobody of another size; an infinite area is beyond every range.
        own = size_classes(result.detections.area)[part.name]
        area = np.where(own, result.detections.area, np.inf)
        result = replace(result, detections=replace(result.detections, area=area))
    return _ap_within(result, part.members)


def _strayed(
    result: KeypointAP, found: Localisation, pose_set: PoseSet, groups: Int[np.ndarray, "M K"]
) -> int:
    """How many judged points lie outside the image though their annotation lies inside."""
    sizes = image_sizes(result.truth, pose_set)[found.truth]
    points = result.detections.keypoints[found.detection]
    return int((outside(points, sizes) & np.isin(groups, (0, 1))).sum()) if len(points) else 0


COLOURS = dict(
    zip(KINDS, (QUIET_COLOUR, RUN_COLOURS[0], RUN_COLOURS[3], RUN_COLOURS[2], RUN_COLOURS[1]), strict=True)
)
"""Kind of keypoint error -> its colour, the same in every figure."""


# AP that a bar of the chart can show.
SHOWN = 5e-5


def overview(title: str, keypoints: Sequence[Mapping[str, Any]], repairs: Mapping[str, float]) -> Figure:
    """AP that each repair would give back, the largest on top, beside the keypoints' errors.

    Args:
        title: the finding.
        keypoints: rows of Errors.per_keypoint.
        repairs: kind of error -> AP given back; nan is left out.
    """
    figure = new_figure(title, height=max(330, 24 * len(keypoints) + 150))
    finite = {kind: delta for kind, delta in repairs.items() if math.isfinite(delta)}
    kinds = sorted(finite, key=lambda kind: finite[kind])
    worst = kinds[-1] if kinds else ""
    figure.add_bar(
        x=np.array([finite[kind] for kind in kinds], np.float32), y=[WORDS[kind] for kind in kinds],
        orientation="h", showlegend=False, customdata=np.array(kinds, object),
        marker={"color": [FINDING_COLOUR if kind == worst else QUIET_COLOUR for kind in kinds]},
        hovertext=[signed_text(finite[kind], "+.4f") for kind in kinds],
        hovertemplate="%{y} repaired: %{hovertext} AP<extra></extra>",
    )  # fmt: skip
    for trace in _traces(keypoints):
        figure.add_trace(trace)
    # Bars of length 0 look like a chart that was not drawn.
    for axis, empty, words in (
        ("", not any(abs(delta) > SHOWN for delta in finite.values()), "no repair gives AP back"),
        ("2", not any(row[kind] for row in keypoints for kind in KINDS[1:]), "no keypoint is wrong"),
    ):
        if empty:
            figure.add_annotation(
                xref=f"x{axis} domain", yref=f"y{axis} domain", x=0.5, y=0.5, text=words, showarrow=False
            )
    return figure.update_layout(
        barmode="stack", legend={"y": 1.0, "x": 0.56, "xanchor": "left"},
        xaxis={"domain": [0, 0.36], "title": {"text": "AP given back if repaired"}, "nticks": 5},
        yaxis={"showgrid": False},
        xaxis2={"domain": [0.56, 1], "anchor": "y2", "title": {"text": "share of judged keypoints (%)"},
                "range": [0, 100]},
        yaxis2={"anchor": "x2", "showgrid": False, "autorange": "reversed"},
    )  # fmt: skip


def _traces(keypoints: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Stacked bars of the kinds of errors, one row for each judged keypoint; good ones are left out."""
    import plotly.graph_objects as go

    judged = [row for row in keypoints if row["judged"]]
    names = [row["keypoint"] for row in judged]
    traces = []
    for kind in KINDS[1:]:
        counts = np.array([row[kind] for row in judged], np.float32)
        shares = 100 * counts / np.array([row["judged"] for row in judged], np.float32).clip(1)
        traces.append(
            go.Bar(
                x=shares.astype(np.float32), y=names, orientation="h", name=kind, meta={"kind": kind},
                marker={"color": COLOURS[kind]}, customdata=counts, xaxis="x2", yaxis="y2",
                hovertemplate=f"%{{y}}: {kind} %{{x:.1f}} % (%{{customdata:.0f}})<extra></extra>",
            )
        )  # fmt: skip
    return traces
