"""Oracle of bottom-up models: AP with parts replaced by ground truth; scale and offset of the cells.

Keypoints of found people are compared with those of the annotated ones, in pixels of the network's input, and
one scale and one offset for each axis are fitted over all images. A healthy model has scale 1 and offset 0; a
wrong stride, a lost half cell or maps that a script stretched over the image have not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Outputs
from workbench.core.finding import Finding
from workbench.core.geometry import apply, inverse
from workbench.core.report import counted, signed_text
from workbench.core.statistics import standard_error
from workbench.decoding.grouping import Grouping, group
from workbench.decoding.grouping.left_right import Pairs, nearest_people, pairs_of
from workbench.evaluation import keypoint_ap, protocol_of, truth_of
from workbench.evaluation.oks import checked_sigmas
from workbench.evaluation.oracle.flip_test import FlipTest, left_out
from workbench.evaluation.oracle.waterfall import (
    Annotated,
    Waterfall,
    annotated_in,
    best_oks,
    grouped_by_truth,
    matched_oks,
    stepped,
    subsets,
)
from workbench.evaluation.predict import Looked, category_of, forward_passes, predictions_of
from workbench.models.bottom_up import Maps, People, true_outputs

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.core.capabilities import BottomUpModel
    from workbench.data.pose_set import PoseSet


# Strides that are mistaken for one another: by one or two halvings.
_FACTORS = (1.0, 0.5, 2.0, 0.25, 4.0)
# A fit with fewer keypoints proves nothing.
_LEAST = 12
# Input pixels and standard errors that a correction must exceed; less is the network's own inaccuracy.
_LEAST_SHIFT, _ERRORS = 0.5, 5.0
# Standard errors within which a scale is 1; scales beyond which found keypoints do not follow true ones.
_SCALE_ERRORS, _SCALES = 3.0, (0.1, 10.0)
_ROUNDS = 8
# A keypoint is read as this person's where it lies within so much of the person's size.
_NEAR = 0.5


@dataclass(frozen=True)
class Placing:
    """Map from predicted to annotated keypoints in input pixels: scale * x + offset.

    Attributes:
        scale: along x and y.
        offset: along x and y, input pixels.
        shift: how far this moves keypoints, root mean square, input pixels.
        error: of that, standard error of the fit.
        keypoints: that were compared.
        needed: it is more than the network's own inaccuracy; otherwise nothing is corrected.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    shift: float = 0.0
    error: float = float("nan")
    keypoints: int = 0
    needed: bool = False

    def __call__(self, points: Float[np.ndarray, "*s 2"]) -> Float[np.ndarray, "*s 2"]:
        return points * np.array(self.scale) + np.array(self.offset) if self.needed else points

    def text(self) -> str:
        """In words."""
        if not self.needed:
            return f"scale 1 and offset 0 fit {counted(self.keypoints, 'keypoint')}"
        (sx, sy), (ox, oy) = self.scale, self.offset
        scaling = "" if self.scale == (1.0, 1.0) else f"scaling by {sx:.3f} x {sy:.3f} and "
        return (
            f"found keypoints lie where they should after {scaling}moving by "
            f"{signed_text(ox, '+.1f')}, {signed_text(oy, '+.1f')} input pixels ({self.shift:.1f} on average "
            f"with a standard error of {self.error:.2g}, {counted(self.keypoints, 'keypoint')})"
        )

    def finding(self) -> Finding | None:
        """The scale and offset as a record; None where none is needed."""
        if not self.needed:
            return None
        return Finding(
            "people placed wrongly",
            self.text(),
            "check the stride of the maps, the half cell in the decoder, and the inverse affine of the input",
            refuted_by="other images on which scale 1 and offset 0 fit",
        )

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "scale": self.scale, "offset": self.offset, "shift": self.shift, "standard_error": self.error,
            "keypoints": self.keypoints, "needed": self.needed, "text": self.text(),
        }  # fmt: skip


def fitted(
    found: Sequence[Float[np.ndarray, "P K 2"]], true: Sequence[Float[np.ndarray, "Q K 2"]]
) -> Placing:
    """The scale and offset that suit all images best.

    Args:
        found: people of each image, input pixels; nan where a keypoint is missing.
        true: annotated ones, likewise.
    """
    best: tuple[np.ndarray, np.ndarray] | None = None
    for factor in _FACTORS:
        pairs = _paired([people * factor for people in found], true)
        if best is None or len(pairs[0]) > len(best[0]):
            best = pairs[0] / factor, pairs[1]
    assert best is not None  # there are factors
    ours, theirs = best
    if len(ours) < _LEAST:
        return Placing(keypoints=len(ours))
    axes = [_line(ours[:, i], theirs[:, i]) for i in (0, 1)]
    moved = np.stack([a * ours[:, i] + b - ours[:, i] for i, (a, b, _) in enumerate(axes)], -1)
    shift = float(np.sqrt((moved**2).sum(-1).mean()))
    error = float(np.hypot(axes[0][2], axes[1][2]))
    needed = shift > max(_LEAST_SHIFT, _ERRORS * error)
    return Placing((axes[0][0], axes[1][0]), (axes[0][1], axes[1][1]), shift, error, len(ours), bool(needed))


def _paired(
    found: Sequence[Float[np.ndarray, "P K 2"]], true: Sequence[Float[np.ndarray, "Q K 2"]]
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of predicted and annotated keypoints of the same person that are near each other."""
    ours, theirs = [np.zeros((0, 2))], [np.zeros((0, 2))]
    for people, annotated in zip(found, true, strict=True):
        own = nearest_people(people, annotated)
        for q in np.flatnonzero(own >= 0):
            a, b = people[own[q]], annotated[q]
            size = np.nanmax(b, 0) - np.nanmin(b, 0)
            with np.errstate(invalid="ignore"):
                near = np.linalg.norm(a - b, axis=-1) < _NEAR * size.max()
            ours.append(a[near])
            theirs.append(b[near])
    return np.concatenate(ours), np.concatenate(theirs)


def _line(found: Float[np.ndarray, " n"], true: Float[np.ndarray, " n"]) -> tuple[float, float, float]:
    """True = a * found + b through most of the points, and the standard error of this at their middle.

    The found keypoints carry the noise: a fit of the true ones to them would draw the scale below 1, and
    with it the offset, which holds at the origin. So found = c * true + d is fitted and inverted. A scale
    within its errors of 1 is taken as 1: the offset is then the mean distance, better determined.
    Found keypoints that do not follow the true ones are not corrected.
    """
    weights = np.ones(len(found), bool)
    c, d, spread = 1.0, float(np.median(found - true)), 0.0
    for _ in range(_ROUNDS):
        middle = true[weights].mean()
        design = np.stack([true[weights] - middle, np.ones(weights.sum())], 1)
        (c, height), *_ = np.linalg.lstsq(design, found[weights], rcond=None)
        d = height - c * middle
        away = np.abs(found - c * true - d)
        # Left and right exchanged, or a keypoint of somebody else, must not count.
        spread = 1.4826 * float(np.median(away[weights]))
        inliers = away <= max(3 * spread, 1e-6)
        if inliers.sum() < _LEAST or (inliers == weights).all():
            break
        weights = inliers
    reach = float(np.sqrt(((true[weights] - true[weights].mean()) ** 2).sum()))
    if abs(c - 1) * reach <= _SCALE_ERRORS * spread:
        c, d = 1.0, float((found - true)[weights].mean())
    elif not _SCALES[0] < c < _SCALES[1]:
        c, d = 1.0, 0.0
    return float(1 / c), float(-d / c), float(spread / c / np.sqrt(weights.sum()))


def in_input(
    points: Float[np.ndarray, "*s 2"], to_image: Float[np.ndarray, "2 3"]
) -> Float[np.ndarray, "*s 2"]:
    """Points in input pixels of points in image pixels.

    Args:
        points: (x, y), image pixels.
        to_image: affine map from input pixels.
    """
    return apply(inverse(to_image), points)


# Where does a network lose AP that finds everybody by tags: placing, heatmaps, tags, grouping, or scores?


PARTS = (
    ("placing", "the input's inverse affine, and the measured scale and offset of the cells"),
    ("heatmaps", "peaks where keypoints are annotated"),
    ("tags", "one value per annotated person"),
    ("grouping", "each annotated person gets the nearest detections, others are nobody"),
    ("scores", "people ranked by their true OKS, those found twice last"),
)


AFFINE_LEFT_OUT = Finding(
    "the inverse affine left out",
    "the model's rules leave the inverse affine out; placing puts it back",
    "take keypoints from the maps back to the image by the inverse of the input's affine",
    refuted_by="the same AP with placing replaced by ground truth",
)


def people_waterfall(
    model: BottomUpModel,
    pose_set: PoseSet,
    image_ids: Iterable[int] | None = None,
    *,
    flip: bool = False,
    title: str = "the model",
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Waterfall:
    """AP of a bottom-up model as its parts are replaced by ground truth.

    Args:
        model: bottom-up, with its own grouping and aggregation.
        pose_set: annotated.
        image_ids: of the set; all by default.
        flip: the mirrored images are looked at, too.
        title: of the model.
        progress: called with (done, total) images.
        cancelled: asked before each image.

    Raises:
        ValueError: the set does not fit the model, or has no sigmas or areas.
        Cancelled: as asked for.
    """
    checked_sigmas(pose_set.skeleton, "oracle")
    asked = subsets([name for name, _ in PARTS])
    images: list[Image] = []
    without_flip: list[People] = []
    passes = 0
    watched: dict[str, Any] = {"flip": flip, "progress": progress, "cancelled": cancelled}
    for looked in forward_passes(model, pose_set, image_ids, **watched):
        passes += 1 + len(looked.outputs.passes)
        images.append(read(model, looked, annotated_in(pose_set, looked.image_id), asked))
        if looked.outputs.passes and model.aggregation.flip and flip:
            without_flip.append(plain_people(model, looked))
    ids = [image.image_id for image in images]
    truth = truth_of(pose_set).on_images(ids)
    category, K = category_of(pose_set), len(pose_set.skeleton)
    # Peaks drawn from the truth lie where they should; the network's own may not.
    measured = {drawn: placing_of(images, drawn) for drawn in (False, True)}

    def figures_of(found: Sequence[People]) -> dict[str, float]:
        detections = predictions_of(ids, found, category, K).detections()
        return keypoint_ap(truth, detections, pose_set.skeleton.sigmas).figures

    def figures(replaced: frozenset[str]) -> dict[str, float]:
        return figures_of([image.people(replaced, measured["heatmaps" in replaced]) for image in images])

    flip_test = _flip_test(images, measured[False], without_flip, figures_of)
    affine = model.aggregation.inverse_affine
    alone = without_flip if flip_test is not None and flip_test.costs else None
    sides = _left_and_right(images, measured[False], pose_set.skeleton.mirror, alone)
    findings = (
        flip_test and flip_test.finding(),
        None if affine else AFFINE_LEFT_OUT,
        measured[False].finding(),
        *sides.findings(),
    )
    return Waterfall(
        title=title,
        kind="bottom-up",
        steps=stepped(PARTS, figures),
        missing={"boxes": "a bottom-up model is given none", **left_out(flip_test, model)},
        images=len(ids),
        people=int((~truth.ignored).sum()),
        forward_passes=passes,
        protocol=protocol_of(model, flip=flip).text(),
        findings=tuple(finding for finding in findings if finding is not None),
        measured={
            "placing": {**measured[False].facts(), "inverse_affine": affine},
            **sides.facts(),
            **({"flip_test": flip_test.facts()} if flip_test else {}),
        },
    )


def _flip_test(
    images: Sequence[Image],
    placing: Placing,
    without_flip: Sequence[People],
    figures_of: Callable[[Sequence[People]], dict[str, float]],
) -> FlipTest | None:
    """The flip test against the plain pass alone; None where there was no mirrored pass."""
    if not without_flip:
        return None
    given = [image.people(frozenset(), placing) for image in images]
    gains = [
        best_oks(plain.keypoints, image.annotated) - best_oks(own.keypoints, image.annotated)
        for image, own, plain in zip(images, given, without_flip, strict=True)
    ]
    return FlipTest(figures_of(given)["AP"], figures_of(without_flip)["AP"], np.concatenate(gains))


@dataclass(frozen=True)
class LeftAndRight:
    """What was measured of left and right.

    Attributes:
        pairs: found at one position.
        exchanged: whether people fit better with their sides exchanged, as facts.
    """

    pairs: Pairs
    exchanged: dict[str, Any]

    def findings(self) -> tuple[Finding | None, Finding | None]:
        """Each as a record; None where there is nothing wrong."""
        text = self.exchanged["text"]
        return self.pairs.finding(), _exchanged(text) if self.exchanged["found"] else None

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return {"pairs": self.pairs.facts(), "sides": self.exchanged}


def _left_and_right(
    images: Sequence[Image], placing: Placing, mirror: Sequence[int], alone: Sequence[People] | None
) -> LeftAndRight:
    """Collapsed pairs, and whether sides are exchanged, of the people found in each image.

    Of a wrong flip test both sides are one, though the network may well tell left from right: then its plain
    pass `alone` is judged.
    """
    people = alone or [image.people(frozenset({"placing"}), placing) for image in images]
    found, truth = [one.keypoints for one in people], [image.annotated.truth for image in images]
    return LeftAndRight(pairs_of(found, truth, mirror), sides_exchanged(images, found, mirror))


@dataclasses.dataclass(frozen=True, eq=False)
class Placed:
    """Groups, and the affine maps of their cells.

    Attributes:
        groups: in cells.
        given: from cells to image pixels, as the model's rules have it.
        right: likewise, by the inverse of the input's affine.
    """

    groups: Grouping
    given: Float[np.ndarray, "2 3"]
    right: Float[np.ndarray, "2 3"]


@dataclasses.dataclass(frozen=True, eq=False)
class Image:
    """One image's groups with each set of parts replaced; scale, offset and scores come on top.

    Attributes:
        image_id: as in the annotation file.
        annotated: its people.
        made: by the parts replaced, without scores.
        input_to_image: from input pixels.
    """

    image_id: int
    annotated: Annotated
    made: dict[frozenset[str], Placed]
    input_to_image: Float[np.ndarray, "2 3"]

    def people(self, replaced: frozenset[str], placing: Placing) -> People:
        """Everybody found with these parts replaced.

        Args:
            replaced: names out of PARTS.
            placing: measured over all images.
        """
        placed = self.made[replaced - {"scores"}]
        groups, to_image = placed.groups, placed.right if "placing" in replaced else placed.given
        if "placing" in replaced and placing.needed:
            moved = groups.keypoints.copy()
            image = apply(self.input_to_image, placing(self.found(placed)))
            moved[..., :2] = apply(inverse(placed.right), image)
            groups = dataclasses.replace(groups, keypoints=moved)
        people = People.of(groups, to_image)
        if "scores" in replaced:
            people = dataclasses.replace(people, score=matched_oks(people.keypoints, self.annotated))
        return people

    def found(self, placed: Placed) -> Float[np.ndarray, "P K 2"]:
        """Keypoints of groups in pixels of the input."""
        points = placed.groups.keypoints[..., :2].astype(float)
        return in_input(apply(placed.right, points), self.input_to_image)


def read(model: BottomUpModel, looked: Looked, people: Annotated, asked: Iterable[frozenset[str]]) -> Image:
    """Groups of one image for each set of replaced parts; equal intermediate results are shared.

    Args:
        model: bottom-up.
        looked: outputs of one image.
        people: annotated in it.
        asked: the sets of parts that the truth replaces.
    """
    true = true_outputs(model, looked.outputs, looked.batch, [people.truth])
    place = model.place(looked.batch.samples[0].image.shape[:2], model.main_scale)
    # Maps that a script stretches over the image have other cells than those that are taken back.
    rules = {
        part: dataclasses.replace(model.aggregation, inverse_affine=part or model.aggregation.inverse_affine)
        for part in (False, True)
    }
    drawn_maps: dict[tuple[object, ...], Maps] = {}
    grouped: dict[tuple[object, ...], Placed] = {}
    made: dict[frozenset[str], Placed] = {}
    for replaced in dict.fromkeys(parts - {"scores"} for parts in asked):
        rule = rules["placing" in replaced]
        drawn = replaced & {"heatmaps", "tags"}
        if (drawn, rule) not in drawn_maps:
            drawn_maps[drawn, rule] = model.maps(mixed(looked.outputs, true, drawn), looked.batch, 0, rule)
        maps = drawn_maps[drawn, rule]
        right = place.to_image((maps.heatmaps.shape[1], maps.heatmaps.shape[2]))
        key = drawn, rule, "grouping" in replaced
        if key not in grouped:
            if "grouping" in replaced:
                # By where cells lie in truth: that they are placed wrongly is another part.
                maps_in_place = dataclasses.replace(maps, to_image=right)
                groups = grouped_by_truth(maps_in_place, people, model.grouping)
            else:
                groups = group(maps.heatmaps, maps.tags, model.grouping)
            grouped[key] = Placed(groups, maps.to_image, right)
        made[replaced] = grouped[key]
    return Image(looked.image_id, people, made, place.to_image())


def plain_people(model: BottomUpModel, looked: Looked) -> People:
    """The people of one image without its mirrored passes.

    Args:
        model: bottom-up.
        looked: outputs of one image.
    """
    rules = dataclasses.replace(model.aggregation, flip=False)
    maps = model.maps(looked.outputs, looked.batch, 0, rules)
    return People.of(group(maps.heatmaps, maps.tags, model.grouping), maps.to_image)


def placing_of(images: Sequence[Image], drawn: bool) -> Placing:
    """Scale and offset of what was detected, over all images.

    Args:
        images: with their groups.
        drawn: in heatmaps drawn from the truth, not in the network's own.
    """
    found, true = [], []
    for image in images:
        placed = image.made[frozenset({"placing", "heatmaps"} if drawn else {"placing"})]
        points = np.where(placed.groups.filled[..., None], np.nan, image.found(placed))
        labelled = image.annotated.truth[..., 2:] > 0
        shown = in_input(image.annotated.truth[..., :2], image.input_to_image)
        found.append(points)
        true.append(np.where(labelled, shown, np.nan)[labelled.any((1, 2))])
    return fitted(found, true)


def sides_exchanged(
    images: Sequence[Image], found: Sequence[Float[np.ndarray, "P K 2"]], mirror: Sequence[int]
) -> dict[str, Any]:
    """Whether people fit better with left and right exchanged: mean OKS both ways, and the finding.

    Args:
        images: with annotated people.
        found: keypoints of the predicted people of each image, image pixels.
        mirror: for each keypoint the index of its mirror partner.
    """
    figures = np.zeros((0, 2))
    if mirror:
        for image, people in zip(images, found, strict=True):
            both = [best_oks(points, image.annotated) for points in (people, people[:, list(mirror)])]
            figures = np.concatenate([figures, np.stack(both, -1)])
    plain, exchanged = figures.mean(0) if len(figures) else (float("nan"),) * 2
    gain = figures[:, 1] - figures[:, 0]
    # Five standard errors, and a tenth of OKS: where pairs have collapsed both ways are alike.
    better = bool(len(gain) > 1 and gain.mean() > max(0.1, 5 * standard_error(gain)))
    text = (
        f"left and right are exchanged: OKS of {counted(len(gain), 'person', 'people')} rises from "
        f"{plain:.2f} to {exchanged:.2f} when the sides' names are exchanged"
    )
    return {"oks": plain, "oks_exchanged": exchanged, "found": better, "text": text if better else ""}


def _exchanged(text: str) -> Finding:
    return Finding(
        "left and right exchanged",
        text,
        "compare the order of the heatmaps with the keypoints' names, and the mirror pairs used in training",
        refuted_by="other images on which people fit better as they come",
    )


def mixed(given: Outputs, true: Outputs, replaced: frozenset[str]) -> Outputs:
    """The network's outputs with its heatmaps, its tags or both replaced, in all passes.

    Args:
        given: by the network.
        true: drawn from the annotations.
        replaced: ``heatmaps``, ``tags`` or both.
    """
    passes = {name: mixed(own, true.passes[name], replaced) for name, own in given.passes.items()}
    heatmaps, tags = (true if part in replaced else given for part in ("heatmaps", "tags"))
    return dataclasses.replace(
        given, heatmaps=heatmaps.heatmaps, coarse=heatmaps.coarse, tags=tags.tags, passes=passes
    )
