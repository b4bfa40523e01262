"""Causes in the output: how coordinates are read off it, where they are placed, and how poses are scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from workbench.core import (
    Answers,
    Batch,
    Codec,
    DecodeOptions,
    NotAvailable,
    Outputs,
    PoseModel,
    Prediction,
)
from workbench.core.finding import Finding, Measurement
from workbench.core.geometry import apply
from workbench.core.wrapping import Wrapper
from workbench.decoding import decode, decoders_for
from workbench.diagnosis.annotated_box_causes import line_through
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut, Undone
from workbench.diagnosis.constant_outputs import check_varying
from workbench.diagnosis.evidence import LEAST_AP, Change
from workbench.diagnosis.keypoint_causes import beyond_single_keypoints
from workbench.diagnosis.label_causes import paired_points, paired_rows
from workbench.diagnosis.offset_causes import crop_offset, distances, offset_of_results
from workbench.evaluation.predictions import Predictions
from workbench.evaluation.probes.intervention import Moved, Transposed
from workbench.evaluation.protocol import pose_scores
from workbench.models.top_down import placed

if TYPE_CHECKING:
    from jaxtyping import Float

# AP that tied scores must cost before they are an error.
LEAST_LOST = 0.05
# Rank correlation of score and OKS below which an order may be chance (healthy models: .38 up); orders drawn.
LITTLE_RANK, RANDOM_ORDERS, BY_CHANCE = 0.35, 20, "scores hardly tell good poses from bad"
# A keypoint is near its label within so many cells, or this share of the input's longer side; so many of them
# must come nearer, to this share of the distance, before another decoder is a cause and no choice: to the
# second share where they do so by this many standard errors.
NEAR_CELLS, NEAR_SHARE, LEAST_FOUND, SHARPER = 2.0, 0.03, 20, (0.9, 0.95)
SURELY = 5.0
# Own code moves keypoints by one amount where so many of them lie within so many input pixels of it.
LEAST_AMOUNT, SAME_AMOUNT, MOST_OF_ALL = 0.2, 0.05, 0.95

RATIOS = (1.0, 1.5, 2.0, 3.0, 4.0)
"""SimCC bins per input pixel in published configs; 2 is mmpose's default."""


@dataclass(frozen=True, eq=False)
class Recoded(Wrapper):
    """A model whose outputs are read by another codec; its input stays as it is.

    Attributes:
        model: the inner model.
        other: the codec.
    """

    model: PoseModel
    other: Codec
    withheld: ClassVar[tuple[type, ...]] = (Answers,)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """Keypoints by the other codec, in image pixels."""
        points, scores = decode(outputs, self.other, options)
        return placed(points, scores, batch.samples, batch.to_image, self.model.skeleton)


def _codec(case: Case) -> Codec:
    codec = case.of_model().model.codec  # type: ignore[union-attr] - of_model has one
    if codec is None:
        raise NotAvailable("this model states no codec, so its outputs cannot be read in another way")
    return codec


def _plain_codec(case: Case) -> Codec:
    """The codec of a model that decodes by it.

    Raises:
        NotAvailable: the model decodes by code of its own: another codec would replace that code as well.
    """
    codec = _codec(case)

    def follows() -> bool:
        evidence = case.evidence()
        own = Change("", "", "outputs", lambda model: Recoded(model, codec))
        a, b = evidence.poses().keypoints, evidence.poses([own]).keypoints
        return bool(np.allclose(a, b, atol=0.05, equal_nan=True))

    if not case.once("follows codec", follows):
        raise NotAvailable("the model decodes by code of its own, which differs from its codec")
    return codec


class OtherDecoder(Undone):
    """Outputs read by the decoder of another codec."""

    name, group = "decoder of another codec", "output"
    refuted_by = "training targets that were made for the decoder in use"

    def changes(self, case: Case) -> Iterable[Change]:
        codec = _plain_codec(case)
        outputs = case.evidence().forwards()[0].outputs
        # A refinement moves keypoints by less than a cell: it counts where AP shows it as well.
        gains = {"argmax": 0.01, "simcc": 0.06}
        for name in decoders_for(outputs):
            for udp in (False, True) if codec.kind == "heatmap" else (codec.udp,):
                if (name, udp) == (codec.decoder, codec.udp) or (udp and name in ("quarter", "dark")):
                    continue
                other = dataclasses.replace(codec, decoder=name, udp=udp)
                if not _reads_better(case, codec, other):
                    continue
                words = f"decoder {name}{' with UDP coordinates' if udp else ''}"
                yield Change(
                    self.name,
                    words,
                    "outputs",
                    lambda model, other=other: Recoded(model, other),
                    fix=f"decode with {words}: the model is read with {codec.decoder}"
                    f"{' with UDP coordinates' if codec.udp else ''}",
                    least=gains.get(codec.decoder, 0.03) if udp == codec.udp else 0.035,
                    needs_ap=LEAST_AP if codec.decoder == "argmax" else 0.0,
                )


def _reads_better(case: Case, codec: Codec, other: Codec) -> bool:
    """Whether keypoints that the maps show near their labels come nearer still by another decoder.

    On blurred maps of a network that has learned little a decoder that averages gives more OKS as well: it
    draws lost keypoints to the middle, and no found one nearer to its label.
    """
    evidence = case.evidence()

    def away(read: Codec) -> Float[np.ndarray, "N K"]:
        return distances(
            evidence, evidence.poses([Change("", "", "outputs", lambda model: Recoded(model, read))])
        )

    peak = dataclasses.replace(codec, decoder="argmax" if codec.kind == "heatmap" else "simcc")
    cell = codec.input_size[1] / codec.output_size[1] if codec.kind == "heatmap" else 1.0
    shown = case.once("distances of peaks", lambda: away(peak))
    near = shown < max(NEAR_CELLS * cell, NEAR_SHARE * max(codec.input_size))
    if near.sum() < LEAST_FOUND:
        return False
    own = case.once("distances as decoded", lambda: away(codec))
    before, after = own[near], away(other)[near]
    share, nearer = float(np.median(after) / np.median(before)), before - after
    surely = nearer.mean() > SURELY * nearer.std() / np.sqrt(len(nearer))
    return share < (SHARPER[1] if surely else SHARPER[0])


class OwnDecoding(Undone):
    """The model's own decoding code differs from what its codec says."""

    name, group = "own decoding contradicts the codec", "output"
    refuted_by = "a codec that was stated wrongly, while the code is right"

    def changes(self, case: Case) -> Iterable[Change]:
        yield from beyond_single_keypoints(case, self._changes(case))

    def _changes(self, case: Case) -> Iterable[Change]:
        codec = _codec(case)
        yield Change(
            self.name,
            f"the decoder {codec.decoder} of the stated codec",
            "outputs",
            lambda model: Recoded(model, codec),
            fix=f"compare your decoding with the codec: {codec.kind}, input "
            f"{codec.input_size[1]}x{codec.input_size[0]} (width x height), output "
            f"{codec.output_size[1]}x{codec.output_size[0]}, decoder {codec.decoder}",
        )

    def test(self, case: Case) -> Answer:
        _codec(case)
        if not case.changes_of(self) and not case.no_changes_of(self):
            return RuledOut("the decoder of the stated codec helps single keypoints alone, which are named")
        answer = super().test(case)
        return (self._constant(case, answer) or answer) if isinstance(answer, RuledOut) else answer

    def _constant(self, case: Case, measured: RuledOut) -> Finding | None:
        """Own code that moves every keypoint by one amount: a difference that no other decoder would make."""
        evidence, codec = case.of_model(), _codec(case)
        if any(one.cause == self.name for others in case.separated().alike.values() for one in others):
            return None  # named already, beside the cause that explains the same
        own = evidence.poses().keypoints
        stated = evidence.poses([Change("", "", "outputs", lambda model: Recoded(model, codec))]).keypoints
        affines = np.concatenate([one.batch.to_image for one in evidence.forwards()])
        away = np.einsum("nij,nkj->nki", np.linalg.inv(affines[:, :, :2]), own - stated)
        away = away[np.isfinite(away).all(-1)]
        if not len(away):
            return None
        amount = np.median(away, axis=0)
        same = float((np.abs(away - amount).max(-1) < SAME_AMOUNT).mean())
        if np.abs(amount).max() < LEAST_AMOUNT or same < MOST_OF_ALL:
            return None
        x, y = amount
        return self.found(
            f"own code places {same:.0%} of the keypoints ({x:+.2f}, {y:+.2f}) input pixels (x, y) from "
            f"where the stated codec does (decoder {codec.decoder}), whatever the image; "
            f"{measured.evidence}",
            fix="take the amount out of the decoding, or state the codec whose cells lie there: pixel and "
            "cell centres are counted from another corner",
            numbers=(
                Measurement("amount along x", float(x), "input pixels", 0.0),
                Measurement("amount along y", float(y), "input pixels", 0.0),
            ),
            severity="warning",
        )


class AxesExchanged(Undone):
    """x and y exchanged when the output is read."""

    name, group = "output axes exchanged", "output"
    refuted_by = "an input that is transposed as well"

    def changes(self, case: Case) -> Iterable[Change]:
        evidence = case.evidence()
        if evidence.model is None:
            yield Change(
                self.name,
                "x and y of every keypoint exchanged",
                "poses",
                lambda found: dataclasses.replace(found, keypoints=found.keypoints[..., ::-1].copy()),
                fix="write x before y: COCO results are x, y, score",
            )
            return
        codec = _codec(case)
        what = "SimCC vectors x and y" if codec.kind == "simcc" else "rows and columns of the heatmaps"
        yield Change(
            self.name,
            f"{what} exchanged",
            "outputs",
            lambda model: Transposed(model, pixels=False, outputs=True),
            fix=f"exchange {what}: the first one is {'x' if codec.kind == 'simcc' else 'the row, y'}",
        )


class SplitRatio(Undone):
    """SimCC bins per pixel that the network was not trained with."""

    name, group = "SimCC split ratio", "output"
    refuted_by = "the ratio of bins to input pixels in the training config"

    def changes(self, case: Case) -> Iterable[Change]:
        codec = _plain_codec(case)
        if codec.kind != "simcc":
            raise NotAvailable("the output is heatmaps: it has no split ratio")
        outputs = case.evidence().forwards()[0].outputs
        assert outputs.simcc is not None
        exact = outputs.simcc[0].shape[-1] / codec.input_size[1]
        for ratio in sorted({*RATIOS, exact} - {codec.split_ratio}):
            other = dataclasses.replace(codec, split_ratio=ratio)
            yield Change(
                self.name,
                f"split ratio {ratio:g}",
                "outputs",
                lambda model, other=other: Recoded(model, other),
                fix=f"simcc_split_ratio={ratio:g}: {outputs.simcc[0].shape[-1]} bins for "
                f"{codec.input_size[1]} pixels",
            )

    def seen(self, case: Case, change: Change) -> str:
        codec = _codec(case)
        outputs = case.evidence().forwards()[0].outputs
        assert outputs.simcc is not None
        return (
            f"the codec says {codec.split_ratio:g} bins per pixel, the network gives "
            f"{outputs.simcc[0].shape[-1]} bins "
            f"for {codec.input_size[1]} pixels"
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
        yield Change(
            self.name,
            "the inverse affine applied to keypoints in crop pixels",
            "outputs",
            Returned,
            fix="map keypoints from the crop to the image: image = crop / input_size * box_size + box corner",
        )

    def seen(self, case: Case, change: Change) -> str:
        offset = change.facts.get("offset")
        return super().seen(case, change) if offset is None else offset.text()

    def _moved(self, words: str, **how: Any) -> Change:
        fix = (
            "multiply cells by input size / output size"
            if "factor" in how
            else "place cell centres as the codec does"
        )
        return Change(self.name, words, "outputs", lambda model: Moved(model, **how), fix=f"{fix}: {words}")

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
            yield Change(self.name, words, "poses", _per_pose(of, boxes, sizes), fix=fix)
        for factor in (0.25, 0.5, 2.0, 4.0):
            yield Change(
                self.name, f"keypoints times {factor:g}", "poses",
                lambda found, f=factor: dataclasses.replace(found, keypoints=found.keypoints * f),
                fix=f"the coordinates are {1 / factor:g} times as large as the image's",
            )  # fmt: skip
        points, truth, _, _ = paired_points(case.evidence().poses(), case.pose_set())
        if (amount := offset_of_results(points, truth)) is not None:
            x, y = amount
            yield Change(
                self.name, f"keypoints moved by ({x:+.1f}, {y:+.1f}) pixels", "poses",
                lambda found: dataclasses.replace(found, keypoints=found.keypoints + np.array(amount)),
                fix="look for half a cell, a border or a corner that was left out when keypoints were taken "
                f"back to the image: all are off by ({0.0 - x:+.1f}, {0.0 - y:+.1f}) pixels (x, y)",
            )  # fmt: skip
        fitted = fitted_placing(case)
        if fitted is not None:
            scale, offset = fitted
            yield Change(
                self.name,
                f"keypoints times ({scale[0]:.3f}, {scale[1]:.3f}) plus ({offset[0]:.1f}, {offset[1]:.1f}) "
                "pixels",
                "poses",
                lambda found: dataclasses.replace(found, keypoints=found.keypoints * scale + offset),
                fix="apply the inverse of what made the input of the image (padding and scale) to every "
                "keypoint",
                least=0.03,
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
        yield Change(
            self.name,
            "left and right exchanged in every pose",
            "poses",
            lambda found: dataclasses.replace(
                found, keypoints=found.keypoints[:, order], scores=found.scores[:, order]
            ),
            fix="exchange the channels of left and right: a flip of the image without them, or a list of "
            "names in another order",
        )


class ScoreRule(Undone):
    """Poses are scored so that good ones do not come first, though a better score is at hand."""

    name, group = "score does not rank the poses", "output"
    refuted_by = "the same AP with poses ranked by their true OKS"
    symptom_of = ("scores flattened by the refiner", "untrained refiner")

    RULES: ClassVar[dict[str, str]] = {
        "mean": "the mean of the keypoint scores",
        "min": "the lowest keypoint score",
        "bbox": "the box score",
    }

    def changes(self, case: Case) -> Iterable[Change]:
        for rule, words in self.RULES.items():
            yield Change(
                self.name,
                f"poses ranked by {words}",
                "scores",
                lambda found, rule=rule: _rescored(found, rule),
                fix=f"score a pose by {words}, from the raw peaks of the network",
            )
        yield Change(
            self.name,
            "poses ranked the other way round",
            "scores",
            lambda found: dataclasses.replace(
                found, score=found.score.min() + found.score.max() - found.score
            ),
            fix="write a score that is high for a good pose: these are low for good ones, as distances and "
            "losses are",
        )

    def test(self, case: Case) -> Answer:
        check_varying(case)
        answer = super().test(case)
        if not isinstance(answer, RuledOut):
            return answer
        return _ranking(self, case) or answer

    def waits_for(self, finding: Finding, others: Sequence[Finding]) -> str:
        """Poses that are wrong for another reason than the network's are not ranked by its scores."""
        wrong = next((one.cause for one in others if one.severity == "error"), "")
        waits = bool(wrong) and finding.evidence.startswith(BY_CHANCE)
        return f"undo '{wrong}' first: of poses that it spoils no score says much" if waits else ""


def _rescored(found: Predictions, rule: str) -> Predictions:
    box = np.ones(len(found))
    return dataclasses.replace(found, score=pose_scores(rule, np.nan_to_num(found.scores), box))


def _ranking(cause: Cause, case: Case) -> Answer | None:
    """What the order of the poses costs: AP of this order against the order by true OKS."""
    from scipy.stats import spearmanr

    measured = case.evidence().measure()
    rows, instances = paired_rows(measured.predictions, case.pose_set())
    if len(rows) < 12:
        return None
    found = measured.predictions.take(np.array(rows))
    place = {int(number): i for i, number in enumerate(measured.ap.truth.ids)}
    ids = [one.annotation_id for one in instances]
    oks = np.array([measured.oks[place[n]] if n in place else np.nan for n in ids])
    known = np.isfinite(oks)
    if known.sum() < 12:
        return None
    tied = 1 - len(np.unique(np.round(found.score[known], 6))) / known.sum()
    ideal = dataclasses.replace(found, score=np.nan_to_num(oks))
    oracle = Change(cause.name, "poses ranked by their true OKS", "scores", lambda _: ideal)
    best = case.evidence().measure([oracle]).figures["AP"]
    lost = best - measured.figures["AP"]
    rank = (
        float(cast(Any, spearmanr(found.score[known], oks[known]))[0]) if np.ptp(found.score[known]) else 0.0
    )
    if np.ptp(found.score) == 0 and lost < LEAST_LOST:
        return cause.found(
            f"all {len(found)} poses have the score {found.score[0]:.3g}, so their order is chance; here "
            f"that costs little: ranked by true OKS AP would be {best:.3f} instead of "
            f"{measured.figures['AP']:.3f}",
            fix="write the score of each pose, for example the mean of its keypoints' peaks",
            severity="warning",
        )
    if tied < 0.5 and lost >= LEAST_LOST and rank < LITTLE_RANK:
        return _by_chance(cause, case, found, rank, best)
    if tied < 0.5 or lost < LEAST_LOST:
        return None
    return cause.found(
        f"{tied:.0%} of the poses share their score with another; ranked by true OKS AP would be "
        f"{best:.3f} instead "
        f"of {measured.figures['AP']:.3f}: localisation is as it should be, the order of the poses is lost",
        fix="look for what flattens the scores before they are written (a softmax, a refiner, rounding)",
        numbers=(
            Measurement("share of tied scores", tied, expected=0.0),
            Measurement("rank correlation of score and OKS", rank),
            Measurement("AP ranked by true OKS", best),
        ),
    )


def _by_chance(cause: Cause, case: Case, found: Predictions, rank: float, best: float) -> Answer:
    """Scores that say next to nothing of the poses, beside AP in random order and in the best one."""
    measured, random = case.evidence().measure(), np.random.default_rng(0)
    orders = []
    for _ in range(RANDOM_ORDERS):
        case.step()
        mixed = dataclasses.replace(found, score=random.permutation(found.score))
        drawn = Change(cause.name, "poses in random order", "scores", lambda _, mixed=mixed: mixed)
        orders.append(case.evidence().measure([drawn]).figures["AP"])
    return cause.found(
        f"{BY_CHANCE}: their rank correlation with OKS is {rank:.2f}; AP is "
        f"{measured.figures['AP']:.3f}, of poses in random order {min(orders):.3f} to {max(orders):.3f} in "
        f"{RANDOM_ORDERS} draws, and ranked by true OKS, which no score can surpass, {best:.3f}",
        fix="write the score that the network gives each pose (the mean of its keypoints' peaks, times the "
        "box's score), in the order of the poses",
        numbers=(
            Measurement("rank correlation of score and OKS", rank),
            Measurement("AP in random order, the best of the draws", max(orders)),
            Measurement("AP ranked by true OKS", best),
        ),
    )


CAUSES: Sequence[Cause] = (
    AxesExchanged(),
    SplitRatio(),
    Placing(),
    SidesExchanged(),
    OwnDecoding(),
    OtherDecoder(),
    ScoreRule(),
)
