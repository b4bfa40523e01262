"""Causes in where keypoints are placed: axes, scale, offset, the inverse affine, and left for right."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.core import Answers, Batch, DecodeOptions, NotAvailable, Outputs, PoseModel, Prediction
from workbench.core.capabilities import CropsBoxes, RollsOut
from workbench.core.geometry import apply, inverse
from workbench.core.report import counted, pair_text
from workbench.core.wrapping import Wrapper
from workbench.diagnosis.annotated_box_causes import line_through
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Undone
from workbench.diagnosis.constant_outputs import check_varying
from workbench.diagnosis.decoder_causes import Recoded, followed_codec, stated_codec
from workbench.diagnosis.evidence import Change
from workbench.diagnosis.keypoint_causes import beyond_single_keypoints
from workbench.diagnosis.lab_causes import axes_of_sequence
from workbench.diagnosis.label_causes import paired_points
from workbench.diagnosis.offset_causes import box_offset, crop_offset, offset_of_results, two_offsets
from workbench.evaluation.predictions import Predictions
from workbench.evaluation.probes.intervention import Moved, Transposed

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.data.pose_set import PoseSet

# Poses of an image are exchanged where they lie at so small a part of the distance once they are turned, and
# nearer to the labels than this share of the animal's or person's size.
EXCHANGED, LABELLED = 0.5, 0.4
# Images of the smaller group, and its share.
LEAST_IMAGES, LEAST_SHARE = 3, 0.08
# Sizes of pictures that are mixed differ by such factors, or by that of pictures with a single instance.
FACTORS = (0.25, 1 / 3, 0.5, 2 / 3, 0.75, 4 / 3, 1.5, 2.0, 3.0, 4.0)
# Labelled keypoints that tell a factor, and how far from 1 it lies.
LEAST_POINTS, MOVED_BY = 4, 0.1

RATIOS = (1.0, 1.5, 2.0, 3.0, 4.0)
"""SimCC bins per input pixel in published configs; 2 is mmpose's default."""


class AxesExchanged(Undone):
    """x and y exchanged when the output is read."""

    name, group = "output axes exchanged", "output"
    refuted_by = "an input that is transposed as well"

    def test(self, case: Case) -> Answer:
        of_sequence = axes_of_sequence(case)
        return super().test(case) if of_sequence is None else of_sequence

    def changes(self, case: Case) -> Iterable[Change]:
        evidence = case.evidence()
        if evidence.model is None:
            some = exchanged_images(evidence.poses(), case.pose_set())
            where = f"the poses of {len(some)} of {counted(len(case.pose_set().images), 'image')}"
            yield self.change(
                f"x and y exchanged in {where}" if some else "x and y of every keypoint exchanged",
                "poses",
                lambda found: _exchanged(found, some),
                fix="write x before y: COCO results are x, y, score",
            )
            return
        model = case.of_model().model
        # Sequence models have a measurement of their own, see `test`.
        reads_itself = model is not None and model.codec is None and not isinstance(model, RollsOut)
        if reads_itself and isinstance(model, CropsBoxes):
            yield self.change(
                "x and y of every keypoint exchanged in the crop",
                "outputs",
                lambda model: ReadTransposed(model),
                fix="write x before y where your own code makes keypoints of the outputs",
            )
            return
        codec = stated_codec(case)
        what = "SimCC vectors x and y" if codec.kind == "simcc" else "rows and columns of the heatmaps"
        yield self.change(
            f"{what} exchanged",
            "outputs",
            lambda model: Transposed(model, pixels=False, outputs=True),
            fix=f"exchange {what}: the first one is {'x' if codec.kind == 'simcc' else 'the row, y'}",
        )


@dataclass(frozen=True, eq=False)
class ReadTransposed(Wrapper):
    """A model whose keypoints have x and y exchanged, as shares of the input's width and height.

    Attributes:
        model: the inner model, which decodes by code of its own.
    """

    model: PoseModel
    withheld: ClassVar[tuple[type, ...]] = (Answers,)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """The inner model's keypoints, x for y."""
        found = self.model.decode(outputs, batch, options)
        H, W = batch.pixels.shape[-2:]
        turned = np.array([W / H, H / W])
        return tuple(
            dataclasses.replace(
                one, keypoints=apply(affine, apply(inverse(affine), one.keypoints)[:, ::-1] * turned)
            )
            for one, affine in zip(found, batch.to_image, strict=True)
        )


def exchanged_images(found: Predictions, pose_set: PoseSet) -> frozenset[int]:
    """Ids of the images whose poses lie at their labels with x and y exchanged, where others do as they are.

    Args:
        found: poses of a result file.
        pose_set: their annotations.

    Returns:
        none where it is all images, or too few to be told from chance.
    """
    return _images_that_fit(found, pose_set, lambda points: points[..., ::-1])


def _images_that_fit(
    found: Predictions, pose_set: PoseSet, way: Callable[[np.ndarray], np.ndarray]
) -> frozenset[int]:
    """Ids of the images whose poses lie at their labels once they are changed; others do as they are."""
    turned, plain = [], []
    for number, rows in pose_set.labelled_of_image.items():
        points = found.keypoints[found.image_id == number]
        if not len(points):
            continue
        truth = np.stack([np.asarray(pose_set.instances[row].truth, float) for row in rows])
        side = np.median([np.sqrt(pose_set.instances[row].area) for row in rows])
        far, near = (_nearest(one, truth) for one in (points, way(points)))
        if near < EXCHANGED * far and near < LABELLED * side:
            turned.append(number)
        elif far < EXCHANGED * near and far < LABELLED * side:
            plain.append(number)
    enough = min(len(turned), len(plain)) >= max(LEAST_IMAGES, LEAST_SHARE * (len(turned) + len(plain)))
    return frozenset(turned) if enough else frozenset()


def scaled_images(found: Predictions, pose_set: PoseSet) -> tuple[Float[np.ndarray, " 2"], frozenset[int]]:
    """A factor along x and y, and the ids of the images whose poses lie at their labels times it.

    The factor is that of pictures with one pose and one instance, where several agree.

    Args:
        found: poses of a result file.
        pose_set: their annotations.

    Returns:
        no images where it is all of them, or too few to be told from chance.
    """
    factors = []
    for number, rows in pose_set.labelled_of_image.items():
        points = found.keypoints[found.image_id == number]
        if len(points) != 1 or len(rows) != 1:
            continue
        truth = np.asarray(pose_set.instances[rows[0]].truth, float)
        seen = (truth[:, 2] > 0) & np.isfinite(points[0]).all(1)
        squares = (points[0][seen] ** 2).sum(0)
        if seen.sum() >= LEAST_POINTS and (squares > 0).all():
            factors.append((points[0][seen] * truth[seen, :2]).sum(0) / squares)
    of_images = np.array(factors).reshape(-1, 2)
    others = of_images[np.abs(of_images - 1).max(1) > MOVED_BY]
    found_in: dict[tuple[float, float], frozenset[int]] = {}
    for factor in [
        *np.array([[f, f] for f in FACTORS]),
        *(np.median(others, 0)[None] if len(others) else []),
    ]:
        ids = _images_that_fit(found, pose_set, lambda points, f=factor: points * f)
        found_in[float(factor[0]), float(factor[1])] = ids
    best = max(found_in, key=lambda one: len(found_in[one]))
    return np.array(best), found_in[best]


def _nearest(points: Float[np.ndarray, "N K 2"], truth: Float[np.ndarray, "M K 3"]) -> float:
    """Median distance of poses to the nearest instance of their image in pixels; inf without any label."""
    seen = np.where(truth[..., 2:] > 0, truth[..., :2], np.nan)
    away = np.linalg.norm(points[:, None] - seen, axis=-1)
    known = np.isfinite(away)
    counts = known.sum(-1)
    means = np.where(counts > 0, np.where(known, away, 0).sum(-1) / np.maximum(counts, 1), np.inf)
    return float(np.median(means.min(1)))


def _exchanged(found: Predictions, some: frozenset[int]) -> Predictions:
    """Y before x in the poses of some images; of all where none is named."""
    chosen = np.isin(found.image_id, list(some)) | (not some)
    points = np.where(chosen[:, None, None], found.keypoints[..., ::-1], found.keypoints)
    return dataclasses.replace(found, keypoints=points)


def _scaled(found: Predictions, some: frozenset[int], factor: Float[np.ndarray, " 2"]) -> Predictions:
    """The poses of some images times a factor."""
    chosen = np.isin(found.image_id, list(some))
    points = np.where(chosen[:, None, None], found.keypoints * factor, found.keypoints)
    return dataclasses.replace(found, keypoints=points)


class SplitRatio(Undone):
    """SimCC bins per pixel that the network was not trained with."""

    name, group = "SimCC split ratio", "output"
    refuted_by = "the ratio of bins to input pixels in the training config"

    def changes(self, case: Case) -> Iterable[Change]:
        codec = followed_codec(case)
        if codec.kind != "simcc":
            raise NotAvailable("the output is heatmaps: it has no split ratio")
        outputs = case.evidence().forwards()[0].outputs
        assert outputs.simcc is not None
        exact = outputs.simcc[0].shape[-1] / codec.input_size[1]
        for ratio in sorted({*RATIOS, exact} - {codec.split_ratio}):
            other = dataclasses.replace(codec, split_ratio=ratio)
            yield self.change(
                f"split ratio {ratio:g}",
                "outputs",
                lambda model, other=other: Recoded(model, other),
                fix=(
                    f"simcc_split_ratio={ratio:g}: {counted(outputs.simcc[0].shape[-1], 'bin')} for "
                    f"{codec.input_size[1]} pixels"
                ),
            )

    def seen(self, case: Case, change: Change) -> str:
        codec = stated_codec(case)
        outputs = case.evidence().forwards()[0].outputs
        assert outputs.simcc is not None
        return (
            f"the codec says {counted(codec.split_ratio, 'bin', spec='g')} per pixel, the network gives "
            f"{counted(outputs.simcc[0].shape[-1], 'bin')} for {codec.input_size[1]} pixels"
        )


class Placing(Undone):
    """Keypoints placed at a wrong scale or offset: stride, half a cell, a missing inverse affine."""

    name, group = "keypoints placed wrongly", "output"
    refuted_by = "labels that are off by the same amount"
    symptom_of = ("annotated keypoints",)

    def changes(self, case: Case) -> Iterable[Change]:
        yield from beyond_single_keypoints(case, self._changes(case))

    def _changes(self, case: Case) -> Iterable[Change]:
        evidence = case.evidence()
        if evidence.model is None:
            yield from self._of_results(case)
            return
        check_varying(case)
        codec = evidence.model.codec
        cell = 1.0
        if codec is not None:
            cell = codec.input_size[1] / codec.output_size[1]
        for factor in (0.25, 0.5, 2.0, 4.0):
            yield self._moved(f"stride times {factor:g}", factor=(factor, factor))
        # Less than half a cell is measured in pixels by the half-pixel probe.
        for cells in (-1.0, -0.5, 0.5, 1.0):
            pixels = cells * max(cell, 2.0)
            yield self._moved(f"keypoints moved by {pixels:+g} input pixels", shift=(pixels, pixels))
        yield from crop_offset(case, self.name)
        yield self.change(
            "the inverse affine applied to keypoints in crop pixels",
            "outputs",
            Returned,
            fix="map keypoints from the crop to the image: image = crop / input_size * box_size + box corner",
        )

    def seen(self, case: Case, change: Change) -> str:
        offset = change.facts.get("offset")
        seen = super().seen(case, change) if offset is None else offset.text()
        return change.facts.get("told", seen)

    def _moved(self, words: str, **how: Any) -> Change:
        fix = (
            "multiply cells by input size / output size"
            if "factor" in how
            else "place cell centres as the codec does"
        )
        return self.change(words, "outputs", lambda model: Moved(model, **how), fix=f"{fix}: {words}")

    def _of_results(self, case: Case) -> Iterable[Change]:
        boxes, sizes = _geometry(case)
        for words, of, fix in (
            ("keypoints times the image's "
            "size", lambda p, b, s: p * s, "write pixels, not shares of the image"),
            ("keypoints times the box plus its corner", lambda p, b, s: p * (b[:, 1] - b[:, 0]) + b[:, 0],
             "map keypoints from 0..1 of the box to the image"),
            ("the box's corner "
            "added", lambda p, b, s: p + b[:, 0], "add the corner of the crop to every keypoint"),
            ("the image mirrored "
             "back", lambda p, b, s: s * [1, 0] + p * [-1, 1], "mirror keypoints of mirrored images back"),
            ("the image turned upside "
             "down", lambda p, b, s: s * [0, 1] + p * [1, -1], "count y from the upper edge of the image"),
        ):  # fmt: skip
            yield self.change(words, "poses", _per_pose(of, boxes, sizes), fix=fix)
        for factor in (0.25, 0.5, 2.0, 4.0):
            yield self.change(
                f"keypoints times {factor:g}", "poses",
                lambda found, f=factor: dataclasses.replace(found, keypoints=found.keypoints * f),
                fix=f"the coordinates are {1 / factor:g} times as large as the image's",
            )  # fmt: skip
        yield from self._of_frames(case)
        yield from self._by_columns()
        points, truth, _, _ = paired_points(case.evidence().poses(), case.pose_set())
        if (amount := offset_of_results(points, truth)) is not None:
            x, y = amount
            yield self.change(
                f"keypoints moved by {pair_text(x, y)} pixels", "poses",
                lambda found: dataclasses.replace(found, keypoints=found.keypoints + np.array(amount)),
                fix="look for half a cell, a border or a corner that was left out when keypoints were taken "
                f"back to the image: all are off by {pair_text(-x, -y)} pixels (x, y)",
            )  # fmt: skip
        yield from box_offset(case, self.name)
        yield from two_offsets(case, self.name)
        fitted = fitted_placing(case)
        if fitted is not None:
            scale, offset = fitted
            yield self.change(
                f"keypoints times ({scale[0]:.3f}, {scale[1]:.3f}) plus ({offset[0]:.1f}, {offset[1]:.1f}) "
                "pixels",
                "poses",
                lambda found: dataclasses.replace(found, keypoints=found.keypoints * scale + offset),
                fix="apply the inverse of what made the input of the image (padding and scale) to every "
                "keypoint",
                least=0.03,
            )

    def _of_frames(self, case: Case) -> Iterable[Change]:
        factor, some = scaled_images(case.evidence().poses(), case.pose_set())
        if some:
            yield self.change(
                f"keypoints times ({factor[0]:.3g}, {factor[1]:.3g}) in the poses of {len(some)} of "
                f"{counted(len(case.pose_set().labelled_of_image), 'image')}",
                "poses",
                lambda found: _scaled(found, some, factor),
                fix="write pixels of each picture's own size: these were predicted on pictures, or with a "
                "frame size, of another one",
            )

    def _by_columns(self) -> Iterable[Change]:
        for words, fix, of in (
            ("numbers read column by column", "all x, then all y, then all scores", _from_columns),
            ("coordinates read column by column", "all x, then all y", _from_columns_of_places),
        ):
            yield self.change(
                words,
                "poses",
                of,
                fix=f"write x, y, score of one keypoint after the other: the file has {fix} (an array [3, K] "
                "that was flattened; transpose it first)",
            )


@dataclass(frozen=True, eq=False)
class Returned(Wrapper):
    """A model whose keypoints are in pixels of the crop and are taken back to the image.

    Attributes:
        model: the inner model.
    """

    model: PoseModel
    withheld: ClassVar[tuple[type, ...]] = (Answers,)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """The inner model's keypoints, in image pixels."""
        found = self.model.decode(outputs, batch, options)
        return tuple(
            dataclasses.replace(one, keypoints=apply(affine, one.keypoints))
            for one, affine in zip(found, batch.to_image, strict=True)
        )


def _geometry(case: Case) -> tuple[dict[int, Any], dict[int, Any]]:
    """For each image id the corners of its boxes [P, 2, 2], and its size (width, height)."""
    pose_set = case.pose_set()
    boxes = {
        image_id: np.array([pose_set.instances[i].box for i in rows], float).reshape(-1, 2, 2)
        for image_id, rows in pose_set.labelled_of_image.items()
    }
    sizes = {n: np.array([r.width or np.nan, r.height or np.nan], float) for n, r in pose_set.images.items()}
    return boxes, sizes


def _from_columns(found: Predictions) -> Predictions:
    """Poses whose 3K numbers are all x, then all y, then all scores, and were read as K times x, y, score."""
    numbers = np.concatenate([found.keypoints, found.scores[..., None]], -1)
    x, y, score = np.moveaxis(numbers.reshape(len(numbers), 3, -1), 1, 0)
    return dataclasses.replace(found, keypoints=np.stack([x, y], -1), scores=score)


def _from_columns_of_places(found: Predictions) -> Predictions:
    """The same of the 2K coordinates alone, where scores are apart."""
    x, y = np.moveaxis(found.keypoints.reshape(len(found.keypoints), 2, -1), 1, 0)
    return dataclasses.replace(found, keypoints=np.stack([x, y], -1))


def _per_pose(
    of: Callable[..., Any], boxes: dict[int, Any], sizes: dict[int, Any]
) -> Callable[[Predictions], Predictions]:
    """A change of every pose by the box of its own annotation, taken in the order of the file."""

    def changed(found: Predictions) -> Predictions:
        points = found.keypoints.copy()
        counts: dict[int, int] = {}
        for row, image_id in enumerate(found.image_id.tolist()):
            held = boxes.get(image_id)
            if held is None:
                continue
            own = held[counts.get(image_id, 0) % len(held)]
            counts[image_id] = counts.get(image_id, 0) + 1
            points[row] = of(points[row], own[None], sizes[image_id])
        return dataclasses.replace(found, keypoints=points)

    return changed


def fitted_placing(case: Case) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, " 2"]] | None:
    """Scale and offset from the poses of a result file to the labels; None where it is identity.

    Fitted by medians on half of the images and kept only where the other half agrees.
    """
    points, truth, size, _ = paired_points(case.evidence().poses(), case.pose_set())
    if len(points) < 8:
        return None
    parts = []
    for start in (0, 1):
        p, t = points[start::2], truth[start::2]
        seen = (t[..., 2] > 0) & np.isfinite(p).all(-1)
        lines = [line_through(p[..., axis][seen], t[..., axis][seen]) for axis in (0, 1)]
        parts.append(np.array(lines))
    scale, offset = parts[0][:, 0], parts[0][:, 1]
    apart = np.abs(parts[0] - parts[1])
    near = (apart[:, 0] < 0.05) & (apart[:, 1] < 0.1 * np.median(size))
    moved = np.abs(scale - 1).max() > 0.03 or np.abs(offset).max() > 0.03 * np.median(size)
    return (scale, offset) if near.all() and moved else None


class SidesExchanged(Undone):
    """Left and right exchanged in all predictions, as after a flip without an exchange of channels."""

    name, group = "left and right exchanged", "output"
    refuted_by = "pictures on which the predicted left is the animal's or person's own left"

    def changes(self, case: Case) -> Iterable[Change]:
        mirror = case.pose_set().skeleton.mirror
        if not mirror:
            raise NotAvailable("the skeleton does not say what is left and what right")
        order = list(mirror)
        yield self.change(
            "left and right exchanged in every pose",
            "poses",
            lambda found: dataclasses.replace(
                found, keypoints=found.keypoints[:, order], scores=found.scores[:, order]
            ),
            fix="exchange the channels of left and right: a flip of the image without them, or a list of "
            "names in another order",
        )


CAUSES = (AxesExchanged(), SplitRatio(), Placing(), SidesExchanged())
