"""COCO evaluation of predictions, and CrowdPose's AP by crowding (easy, medium, hard images).

Source: xtcocotools 1.14.3 cocoeval.py, get_type_result and split (first=.2, second=.8).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Skeleton
from workbench.core.report import Report, counted, plain
from workbench.evaluation.ground_truth import AreaRule, GroundTruth
from workbench.evaluation.keypoint_ap import AREA_RANGES, KeypointAP, keypoint_ap
from workbench.evaluation.measures import is_length
from workbench.evaluation.oks import keypoint_terms, oks_of_terms, paired_oks
from workbench.evaluation.pck import PCK, per_keypoint
from workbench.evaluation.predictions import Detections, Predictions
from workbench.evaluation.protocol import Protocol

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from plotly.graph_objects import Figure

    from workbench.data.pose_set import PoseSet


# Easy below the first, hard from the second on.
EASY_BELOW, HARD_FROM = 0.2, 0.8
RULE = f"crowdIndex below {EASY_BELOW:g}, below {HARD_FROM:g}, and from there on"


def crowding(pose_set: PoseSet, result: KeypointAP) -> dict[str, float] | None:
    """AP of easy, medium and hard images by their ``crowdIndex``; None where images state none.

    Args:
        pose_set: whose json states the crowd index of each image.
        result: of all its images.

    Returns:
        AP by name, nan where there is nothing to be found.
    """
    stated = {
        int(e["id"]): float(e["crowdIndex"])
        for e in pose_set.raw.get("images", ())
        if isinstance(e, Mapping) and is_length(e.get("crowdIndex"))
    }
    images = result.truth.image_ids.tolist()
    if not images or not all(math.isfinite(stated.get(number, math.nan)) for number in images):
        return None
    index = np.array([stated[number] for number in images])
    kinds = {
        "easy": index < EASY_BELOW,
        "medium": (index >= EASY_BELOW) & (index < HARD_FROM),
        "hard": index >= HARD_FROM,
    }
    return {f"AP_{name}": _ap(result, result.truth.image_ids[chosen]) for name, chosen in kinds.items()}


def _ap(result: KeypointAP, image_ids: np.ndarray) -> float:
    if not len(image_ids):
        return math.nan
    found = result.detections
    here = np.isin(found.image_id, image_ids)
    columns = ("image_id", "category_id", "keypoints", "score", "area")
    part = replace(found, **{name: getattr(found, name)[here] for name in columns})
    truth = result.truth.on_images(image_ids.tolist())
    return keypoint_ap(truth, part, result.sigmas.tolist(), result.max_dets).figures["AP"]


# What is shown of an evaluation: figures with their protocol, worst keypoint first.


@dataclass(frozen=True, eq=False)
class Evaluation(Report):
    """One model, or one result file, on one data set.

    Attributes:
        ap: the ten figures and the matches behind them.
        protocol: the rules, all of them.
        per_keypoint: see workbench.evaluation.pck.
        pairing: which poses the rows of per_keypoint compare.
        pck: what counts as right there.
        oks: of every annotated instance, in the order of ap.truth; nan where nothing is labelled.
        skeleton: of the data set.
        crowding: AP of easy, medium and hard images where they state a crowd index (CrowdPose); else None.
    """

    ap: KeypointAP
    protocol: Protocol
    per_keypoint: tuple[dict[str, Any], ...]
    pairing: str
    pck: str
    oks: Float[np.ndarray, " G"]
    skeleton: Skeleton
    crowding: Mapping[str, float] | None = None

    @property
    def figures(self) -> dict[str, float]:
        """The ten figures; nan where there is no such ground truth."""
        return self.ap.figures

    @property
    def per_category(self) -> list[dict[str, Any]]:
        """The ten figures of each category that has instances, the lowest AP first."""
        names = dict(zip(self.ap.truth.category_ids.tolist(), self.ap.truth.category_names, strict=True))
        rows = [{"category": names[c], "id": c, **f} for c, f in self.ap.per_category.items()]
        return sorted(rows, key=lambda row: row["AP"])

    def summary(self) -> str:
        figures = self.figures
        if math.isnan(figures["AP"]):
            return (
                f"No AP: {self.protocol.data} has no annotated instance to evaluate. Protocol: "
                f"{self.protocol.text()}."
            )
        if not len(self.ap.detections):
            return f"AP 0: no pose was predicted. Protocol: {self.protocol.text()}."
        worst = min((r for r in self.per_keypoint if r["labelled"]), key=lambda row: row["oks"], default=None)
        mean_oks = f"OKS {worst['oks']:.3f}, {self.pairing}" if worst else ""
        weakest = f"; weakest keypoint {worst['keypoint']} ({mean_oks})" if worst else ""
        categories = len(self.ap.per_category)
        mean = f", mean over {counted(categories, 'category', 'categories')}" if categories > 1 else ""
        warning = (
            "Not a result of the published model, it is only partly loaded: "
            if self.protocol.partly_loaded
            else ""
        )
        return (
            f"{warning}AP {figures['AP']:.3f}, AR {figures['AR']:.3f}{mean}{weakest}. "
            f"Protocol: {self.protocol.text()}."
        )

    def plot(self) -> Figure:
        """Mean OKS of every keypoint, the weakest at the top."""
        from workbench.figures import keypoint_colours, new_figure

        rows = sorted((r for r in self.per_keypoint if r["labelled"]), key=lambda r: -r["oks"])
        colours = dict(zip(self.skeleton.keypoints, keypoint_colours(self.skeleton), strict=True))
        ap, ar = figure_text(self.figures["AP"]), figure_text(self.figures["AR"])
        title = f"AP {ap}, AR {ar}: {self.protocol.text()}"
        figure = new_figure(title, x="mean OKS (0 to 1)", height=140 + 22 * max(len(rows), 4))
        figure.add_bar(
            x=np.array([r["oks"] for r in rows], np.float32),
            y=[r["keypoint"] for r in rows],
            orientation="h",
            marker={"color": [colours[r["keypoint"]] for r in rows]},
            customdata=np.array([[r["pck"], r["error_px"], r["labelled"]] for r in rows], np.float32).reshape(
                -1, 3
            ),
            hovertemplate=(
                "%{y}: OKS %{x:.3f}<br>" + self.pck + " %{customdata[0]:.1%}<br>"
                "median error %{customdata[1]:.1f} px<br>labelled %{customdata[2]:.0f}<extra></extra>"
            ),
            showlegend=False,
        )
        figure.update_xaxes(range=[0, 1])
        return figure

    def table(self) -> list[dict[str, Any]]:
        """One row for each keypoint."""
        return [plain(row) for row in self.per_keypoint]

    def to_json(self) -> dict[str, Any]:
        """The figures under COCO's names, null where there is no such ground truth, and all tables."""
        return {
            "summary": self.summary(),
            **plain(self.figures),
            "per_keypoint": self.table(),
            "per_category": plain(self.per_category),
            **({"crowding": plain(self.crowding)} if self.crowding else {}),
            "pairing": self.pairing,
            "pck": self.pck,
            "instances": self.instances(),
            "protocol": self.protocol.to_json(),
        }

    def instances(self) -> list[dict[str, Any]]:
        """One row for each labelled instance, the worst first."""
        truth = self.ap.truth
        shown = np.flatnonzero(np.isfinite(self.oks) & ~truth.ignored)
        return [
            {
                "annotation_id": int(truth.ids[i]),
                "image_id": int(truth.image_ids[truth.image[i]]),
                "oks": float(self.oks[i]),
            }
            for i in shown[np.argsort(self.oks[shown], kind="stable")]
        ]

    def text(self) -> str:
        """For the command line: figures, keypoints, protocol."""
        lines = [self.summary(), ""]
        lines.append("  ".join(f"{name} {figure_text(value)}" for name, value in self.figures.items()))
        if any(math.isnan(v) for v in self.figures.values()):
            lines.append("-: no such ground truth")
        if self.crowding:
            figures = "  ".join(f"{name} {figure_text(value)}" for name, value in self.crowding.items())
            lines.append(f"{figures}   ({RULE})")
        lines += ["", f"{'keypoint':<20} labelled    OKS    PCK  median px   ({self.pairing}; {self.pck})"]
        for row in self.per_keypoint:
            error = "-" if math.isnan(row["error_px"]) else f"{row['error_px']:.1f}"
            oks, pck = figure_text(row["oks"]), figure_text(row["pck"])
            lines.append(f"{row['keypoint']:<20} {row['labelled']:8d}  {oks}  {pck}  {error:>9}")
        categories = self.per_category
        if len(categories) > 1:
            lines += ["", f"{'category':<20}      AP      AR"]
            lines += [
                f"{r['category']:<20}   {figure_text(r['AP'])}   {figure_text(r['AR'])}" for r in categories
            ]
        return "\n".join(lines)


def figure_text(value: float) -> str:
    """A figure with three digits; a dash where there is none."""
    return "    -" if math.isnan(value) else f"{value:.3f}"


said = figure_text
"""Former name of `figure_text`."""


# How good are these predictions? COCO's figures, every keypoint's and every category's, with their rules.


AREA_TEXT = {"annotated": "annotated", "box": ".53 of the box (xtcocotools use_area=False)"}


def evaluate(
    pose_set: PoseSet,
    predictions: Predictions,
    protocol: Protocol | None = None,
    *,
    indices: Iterable[int] | None = None,
    area_rule: AreaRule = "annotated",
    sigmas: Sequence[float] | None = None,
    max_dets: int = 20,
    pck: PCK | None = None,
) -> Evaluation:
    """Compare predictions with the annotations of a data set.

    Args:
        pose_set: the annotations.
        predictions: of this set; those made from annotation boxes are also compared one by one.
        protocol: how they were made; what this function decides is filled in.
        indices: instances of the set that were predicted, when not all: see `truth_of`.
        area_rule: where the annotations' areas come from; ``box`` for sets without (CrowdPose).
        sigmas: OKS constants, when not the skeleton's own.
        max_dets: detections that count per image and category.
        pck: when a keypoint counts as right.

    Raises:
        ValueError: predictions and annotations do not fit, or areas or sigmas are missing.
    """
    truth, skeleton = truth_of(pose_set, area_rule, indices), pose_set.skeleton
    result, protocol = judged(pose_set, predictions, protocol, truth, sigmas=sigmas, max_dets=max_dets)
    rows, target = compared_pairs(predictions, result)
    K = len(skeleton)  # empty files have arrays of no keypoints
    rule = pck or PCK()
    return Evaluation(
        ap=result,
        protocol=protocol,
        per_keypoint=tuple(
            per_keypoint(
                predictions.keypoints[rows].reshape(-1, K, 2),
                truth.keypoints[target].reshape(-1, K, 3),
                truth.area[target],
                truth.boxes[target],
                result.sigmas,
                skeleton.keypoints,
                rule,
            )
        ),
        pairing="each pose with its own annotation"
        if predictions.annotation_id is not None
        else "poses matched at OKS .5",
        pck=str(rule),
        oks=instance_oks(predictions, result),
        crowding=crowding(pose_set, result),
        skeleton=skeleton,
    )


def judged(
    pose_set: PoseSet,
    predictions: Predictions,
    protocol: Protocol | None,
    truth: GroundTruth,
    *,
    sigmas: Sequence[float] | None = None,
    max_dets: int = 20,
) -> tuple[KeypointAP, Protocol]:
    """The ten figures, and the protocol with what decides them filled in.

    Args:
        pose_set: the annotations.
        predictions: of this set.
        protocol: how they were made.
        truth: the annotations that count, of `truth_of`.
        sigmas: as in `evaluate`.
        max_dets: likewise.

    Raises:
        ValueError: predictions and annotations do not fit, or sigmas are missing.
    """
    skeleton = pose_set.skeleton
    found = predictions.detections()
    result = keypoint_ap(truth, found, skeleton.sigmas if sigmas is None else tuple(sigmas), max_dets)
    counting = truth.ids[~truth.ignored]
    return result, replace(
        protocol or Protocol(),
        max_dets=max_dets,
        data=pose_set.name,
        images=len(truth.image_ids),
        instances=len(counting),
        left_out=len(pose_set.left_out),
        unseen=_without_size(pose_set, counting) if predictions.annotation_id is not None else 0,
        sigmas=f"{skeleton.name}: {skeleton.source}" if sigmas is None else "given",
        oks_sigmas=tuple(result.sigmas.tolist()),
        area=AREA_TEXT[truth.area_rule],
        detection_area=found.area_rule,
    )


def check_evaluable(
    pose_set: PoseSet,
    *,
    area_rule: AreaRule = "annotated",
    sigmas: Sequence[float] | None = None,
    max_dets: int = 20,
) -> KeypointAP:
    """Raise what `evaluate` would raise for any predictions; called before a long prediction.

    Args:
        pose_set: annotations.
        area_rule: which area OKS uses.
        sigmas: of OKS, one for each keypoint; None for those of the set.
        max_dets: detections per image and category that count.

    Returns:
        the evaluation of no predictions.
    """
    constants = pose_set.skeleton.sigmas if sigmas is None else tuple(sigmas)
    return keypoint_ap(truth_of(pose_set, area_rule), Detections.from_coco([]), constants, max_dets)


def check_counting(pose_set: PoseSet, **counting: Any) -> None:
    """Refuse a set on which no AP can change, after `check_evaluable`.

    For questions about changes of AP: "no part changes it" would say what was not measured.

    Args:
        pose_set: annotations.
        counting: as of `check_evaluable`.

    Raises:
        ValueError: no annotated instance counts; it says why.
    """
    result = check_evaluable(pose_set, **counting)
    if not result.matches.truth_ignored[0].all():
        return
    why = pose_set.unscored_text() or "each with labelled keypoints is a crowd or has num_keypoints 0"
    if not result.truth.ignored.all():
        low, high = AREA_RANGES["all"]
        why = f"their areas are outside of {low:g} to {high:g} square pixels, and evaluators skip those"
    raise ValueError(f"{pose_set.name}: no annotated instance counts, so there is no AP: {why}")


def _without_size(pose_set: PoseSet, counting: Int[np.ndarray, " G"]) -> int:
    """Number of evaluated annotations without a bounding box."""
    crops = {i.annotation_id for i in pose_set.instances if i.has_size}
    return sum(int(number) not in crops for number in counting)


def images_of(pose_set: PoseSet, indices: Iterable[int]) -> tuple[int, ...]:
    """Ids of the images that a choice of instances is evaluated on, in the order of the set.

    All images of the set when everything in `PoseSet.labelled` is chosen, those without a labelled instance
    included: a detection there is a mistake like any other. Else the images of the chosen instances.

    Args:
        pose_set: annotations.
        indices: of the chosen instances.
    """
    numbers = range(len(pose_set))
    chosen = {numbers[i] for i in indices}
    if chosen.issuperset(pose_set.labelled):
        return tuple(pose_set.images)
    seen = {pose_set.instances[i].image_id for i in chosen}
    return tuple(image_id for image_id in pose_set.images if image_id in seen)


def truth_of(
    pose_set: PoseSet, area_rule: AreaRule = "annotated", indices: Iterable[int] | None = None
) -> GroundTruth:
    """The annotations of a set as the evaluator reads them.

    Args:
        pose_set: the annotations.
        area_rule: as in evaluate.
        indices: instances that were predicted, when not all. Labelled instances that are not among them are
            left out. Everything else on the images of `images_of` stays, because nobody chooses it: crowd
            regions and people without labelled keypoints are still ignored when they are found, and people
            without a box that could be cropped still count as missed.

    Raises:
        ValueError: an annotation id occurs twice, or the json has other annotations than the set.
    """
    by_id = {i.annotation_id: i for i in pose_set.instances}
    items = [
        # What the set's reader made of ids counts: files in the wild hold 5.0, or leave a category out.
        {**entry, "id": own.annotation_id, "image_id": own.image_id, "category_id": own.category_id}
        for entry in pose_set.raw.get("annotations", ())
        if "keypoints" in entry and (own := by_id.get(entry["id"])) is not None
    ]
    if len(by_id) < len(pose_set.instances):
        ids = Counter(i.annotation_id for i in pose_set.instances)
        twice = ids.most_common(1)[0][0]
        raise ValueError(
            f"{pose_set.name}: annotation id {twice} occurs more than once, and nobody can tell which of them"
            f" a pose found; give each annotation an id of its own"
        )
    if len(items) != len(by_id):
        raise ValueError(
            f"{pose_set.name}: {counted(len(by_id), 'instance')}, but {counted(len(items), 'annotation')} in "
            "its json"
        )
    keypoints = list(pose_set.skeleton.keypoints)
    categories = [{"id": n, "name": name, "keypoints": keypoints} for n, name in pose_set.categories.items()]
    images = [{"id": number} for number in pose_set.images]
    truth = GroundTruth.from_coco(
        {"images": images, "annotations": items, "categories": categories}, area_rule
    )
    if indices is None:
        return truth
    numbers = range(len(pose_set))
    chosen = {numbers[i] for i in indices}
    left_out = [pose_set.instances[i].annotation_id for i in pose_set.labelled if i not in chosen]
    return truth.without(left_out).on_images(images_of(pose_set, chosen))


def instance_oks(predictions: Predictions, result: KeypointAP) -> Float[np.ndarray, " G"]:
    """OKS of every annotated instance, in the order of the ground truth; nan where nothing is labelled.

    Predictions made from its own box: of that one pose, nan when it was not predicted. Others: the best of
    all detections within max_dets in its image and category, 0 when there is none.

    Args:
        predictions: that were evaluated.
        result: of the evaluation.
    """
    truth = result.truth
    labelled = (truth.keypoints[..., 2] > 0).any(1)
    if predictions.annotation_id is not None:
        oks = np.full(len(truth), np.nan)
        rows, target = own_annotations(predictions, truth)
        oks[target] = paired_oks(
            predictions.keypoints[rows], truth.keypoints[target], truth.area[target], result.sigmas
        )
        return oks
    oks = np.zeros(len(truth))
    np.maximum.at(oks, result.matches.pair_truth, result.matches.pair_oks)
    return np.where(labelled, oks, np.nan)


def pose_oks(
    predictions: Predictions, result: KeypointAP
) -> tuple[Float[np.ndarray, " N"] | None, Float[np.ndarray, "N K"] | None]:
    """OKS of each pose with its own annotation, and each keypoint's part; None without annotation boxes.

    Args:
        predictions: that were evaluated.
        result: of the evaluation.
    """
    if predictions.annotation_id is None:
        return None, None
    truth = result.truth
    rows, target = own_annotations(predictions, truth)
    pairs = (predictions.keypoints[rows], truth.keypoints[target], truth.area[target], result.sigmas)
    oks, terms = np.full(len(predictions), np.nan), np.full(predictions.scores.shape, np.nan)
    terms[rows] = keypoint_terms(*pairs)
    oks[rows] = oks_of_terms(terms[rows])
    return oks, terms


def own_annotations(
    predictions: Predictions, truth: GroundTruth
) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " M"]]:
    """Rows of predictions and of truth that belong to one annotation.

    Args:
        predictions: with the ids of their annotations.
        truth: annotations.
    """
    if predictions.annotation_id is None or not len(truth):
        return np.zeros(0, int), np.zeros(0, int)
    order = np.argsort(truth.ids)
    place = np.searchsorted(truth.ids[order], predictions.annotation_id).clip(max=len(truth) - 1)
    target = order[place]
    rows = np.flatnonzero(truth.ids[target] == predictions.annotation_id)
    return rows, target[rows]


def compared_pairs(
    predictions: Predictions, result: KeypointAP
) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " M"]]:
    """Rows of predictions and of truth whose keypoints are compared one by one; crowds are left out.

    Args:
        predictions: that were evaluated.
        result: of the evaluation.
    """
    own = predictions.annotation_id is not None
    rows, target = own_annotations(predictions, result.truth) if own else result.matched(0.5)
    counting = ~result.truth.ignored[target]
    return rows[counting], target[counting]
