"""Causes in how coordinates are read off the output: the model's own decoding, and another decoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from workbench.core import Answers, Batch, Codec, DecodeOptions, NotAvailable, Outputs, PoseModel, Prediction
from workbench.core.finding import Finding, Measurement
from workbench.core.report import pair_text
from workbench.core.statistics import standard_error
from workbench.core.wrapping import Wrapper
from workbench.decoding import decode, decoders_for
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, RuledOut, Undone
from workbench.diagnosis.crop_labels import distances
from workbench.diagnosis.evidence import LEAST_AP, Change
from workbench.diagnosis.keypoint_causes import beyond_single_keypoints
from workbench.models.top_down import placed

if TYPE_CHECKING:
    from jaxtyping import Float

# A keypoint is near its label within so many cells, or this share of the input's longer side; so many of them
# must come nearer, to this share of the distance, before another decoder is a cause and no choice: to the
# second share where they do so by this many standard errors.
NEAR_CELLS, NEAR_SHARE, LEAST_FOUND, SHARPER = 2.0, 0.03, 20, (0.9, 0.95)
SURELY = 5.0
# Own code moves keypoints by one amount where so many of them lie within so many input pixels of it.
LEAST_AMOUNT, SAME_AMOUNT, MOST_OF_ALL = 0.2, 0.05, 0.95


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


def stated_codec(case: Case) -> Codec:
    """The codec that the model states; NotAvailable without one."""
    codec = case.of_model().model.codec  # type: ignore[union-attr] - of_model has one
    if codec is None:
        raise NotAvailable("this model states no codec, so its outputs cannot be read in another way")
    return codec


def followed_codec(case: Case) -> Codec:
    """The codec of a model that decodes by it.

    Raises:
        NotAvailable: the model decodes by code of its own: another codec would replace that code as well.
    """
    codec = stated_codec(case)

    def follows() -> bool:
        evidence = case.evidence()
        own = Change("", "", "outputs", lambda model: Recoded(model, codec))
        a, b = evidence.poses().keypoints, evidence.poses([own]).keypoints
        return bool(np.allclose(a, b, atol=0.05, equal_nan=True))

    if not case.once("follows codec", follows):
        raise NotAvailable("the model decodes by code of its own, which differs from its codec")
    return codec


class OwnDecoding(Undone):
    """The model's own decoding code differs from what its codec says."""

    name, group = "own decoding contradicts the codec", "output"
    refuted_by = "a codec that was stated wrongly, while the code is right"

    def changes(self, case: Case) -> Iterable[Change]:
        yield from beyond_single_keypoints(case, self._changes(case))

    def _changes(self, case: Case) -> Iterable[Change]:
        codec = stated_codec(case)
        yield self.change(
            f"the decoder {codec.decoder} of the stated codec",
            "outputs",
            lambda model: Recoded(model, codec),
            fix=f"compare your decoding with the codec: {codec.kind}, input "
            f"{codec.input_size[1]}x{codec.input_size[0]} (width x height), output "
            f"{codec.output_size[1]}x{codec.output_size[0]}, decoder {codec.decoder}",
        )

    def test(self, case: Case) -> Answer:
        stated_codec(case)
        if not case.changes_of(self) and not case.no_changes_of(self):
            return RuledOut("the decoder of the stated codec helps single keypoints alone, which are named")
        answer = super().test(case)
        return (self._constant(case, answer) or answer) if isinstance(answer, RuledOut) else answer

    def _constant(self, case: Case, measured: RuledOut) -> Finding | None:
        """Own code that moves every keypoint by one amount: a difference that no other decoder would make."""
        evidence, codec = case.of_model(), stated_codec(case)
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
            f"own code places {same:.0%} of the keypoints {pair_text(x, y, '+.2f')} input pixels (x, y) from "
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


class OtherDecoder(Undone):
    """Outputs read by the decoder of another codec."""

    name, group = "decoder of another codec", "output"
    refuted_by = "training targets that were made for the decoder in use"

    def changes(self, case: Case) -> Iterable[Change]:
        codec = followed_codec(case)
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
                yield self.change(
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
    surely = nearer.mean() > SURELY * standard_error(nearer)
    return share < (SHARPER[1] if surely else SHARPER[0])


CAUSES = (OwnDecoding(), OtherDecoder())
