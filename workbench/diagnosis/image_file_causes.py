"""Causes in part of the image files: other channels or colours, turned, dark, coarse, grey, another size."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.core import Answers, Batch, DecodeOptions, NotAvailable, Outputs, PoseModel, Sample
from workbench.core.finding import Finding, Measurement
from workbench.core.report import counted, signed_text
from workbench.core.wrapping import Wrapper
from workbench.diagnosis.candidates import Candidate, Candidates
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, NotTestable, RuledOut, Undone
from workbench.diagnosis.evidence import Change, Evidence
from workbench.diagnosis.file_groups import groups_of_files
from workbench.diagnosis.input_budget import affordable, left_to_search
from workbench.diagnosis.input_causes import Input
from workbench.diagnosis.mosaic import interpolated, is_mosaic

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8

    from workbench.evaluation.predictions import Predictions

# A part of the files: not fewer images of those looked at, and not a larger share, which is all of them.
LEAST_IMAGES, MOST_OF_ALL = 3, 0.9
# Mean OKS of the few instances of a second look from which all are looked at.
PROMISING = 0.005
# These instances are looked at where the ones of least OKS, as many as this, gain so much.
WORST, PROMISING_WORST = 4, 0.03
# Ways that are looked at again after each look: each costs a pass.
AT_MOST = 3
# The network is surer of a changed image where its score rises by more than this share of how much scores
# change in the median: a score that hardly changes decides nothing.
SURER = 0.25
# Standard errors by which the other images must lose: else the change is good for all, or for none.
SURE = 2.0
# Changing an image that is right costs about what it gives to one that is not. Of a change that is good for
# all, the images in which the network happens to be less sure lose little; and these are few, so that of a
# change in which the network is surer of less than half of the images half of it is enough.
LEAST_LOST = 0.5
# Contrast (or brightness) of an image this many times lower than that of the usual one.
DARKER = 2.5
# Mean OKS that turning coloured images grey must cost before grey ones are a cause.
LEAST_LOSS = 0.02
# From this share of the first layer's weights that is a difference between channels a network uses colour;
# trained ones have .6 to .8, one that was made for grey images has 0 or one channel.
USES_COLOUR = 0.3
# As many times the sample's instances are looked at beside it where these leave that open.
MORE = 2
# Standard errors by which OKS of files that a statistic sets apart must be lower where nothing undoes it.
LOWER = 3.0
# Of cameras and screens; of sRGB but for its darkest end.
GAMMA = 2.2
# How the change of the tone is named.
TONE = "to the power of"
# The hue of an image in steps of two degrees ends here, with what JPEG adds; others go on to 255.
HALF_HUE = 190


def red_and_blue(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """The image with its first and last channel exchanged."""
    return np.ascontiguousarray(image[..., ::-1])


def turned(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """The image turned by 180 degrees."""
    return np.ascontiguousarray(image[::-1, ::-1])


def mirrored(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """The image with left and right exchanged."""
    return np.ascontiguousarray(image[:, ::-1])


def negative(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """The image with dark and light exchanged."""
    return 255 - image


def upside_down(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """The image with top and bottom exchanged."""
    return np.ascontiguousarray(image[::-1])


def grey(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """The image without colour, by the weights of Rec. 601 as OpenCV has them."""
    level = np.rint(image @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return np.repeat(level[..., None], 3, axis=-1)


def of_hue(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """The colours of an image that holds hue, saturation and value, as PIL or as OpenCV scales the hue."""
    import cv2

    half = image[..., 0].max() <= HALF_HUE
    held = image if not half else np.concatenate([np.minimum(image[..., :1], 179), image[..., 1:]], axis=-1)
    return cv2.cvtColor(held, cv2.COLOR_HSV2RGB if half else cv2.COLOR_HSV2RGB_FULL)


def of_luma(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """The colours of an image that holds luma and the differences of blue and red, as in a JPEG."""
    import cv2

    return cv2.cvtColor(np.ascontiguousarray(image[..., [0, 2, 1]]), cv2.COLOR_YCrCb2RGB)


def of_gamma(image: UInt8[np.ndarray, "H W 3"], power: float) -> UInt8[np.ndarray, "H W 3"]:
    """The image with its values, as shares of 255, to a power."""
    return np.rint(255 * (np.arange(256) / 255) ** power).astype(np.uint8)[image]


@dataclass(frozen=True)
class Stored:
    """One way in which part of the files may be stored, and what undoes it.

    Attributes:
        name: what undoes it, in a few words.
        edit: from the image as it is read to the one that was meant.
        fix: what to do.
    """

    name: str
    edit: Callable[[UInt8[np.ndarray, "H W 3"]], UInt8[np.ndarray, "H W 3"]]
    fix: str


WAYS: tuple[Stored, ...] = (
    Stored("red and blue exchanged", red_and_blue, "store these files as RGB: they were written as BGR"),
    *(
        Stored(
            f"{first} first",
            lambda image, order=order: np.ascontiguousarray(image[..., order]),
            "store the channels of these files as red, green, blue",
        )
        for first, order in (("the last channel", (2, 0, 1)), ("the second channel", (1, 2, 0)))
    ),
    Stored("turned by 180 degrees", turned, "turn these files, or their annotations, by 180 degrees"),
    Stored("mirrored", mirrored, "mirror these files, or their annotations"),
    Stored("top and bottom exchanged", upside_down, "turn these files over, or their annotations"),
    Stored("hue, saturation and value taken as such", of_hue, "store these files as RGB: they are HSV"),
    Stored("luma and colour differences taken as such", of_luma, "store these files as RGB: they are YCbCr"),
    *(
        Stored(
            f"{TONE} {power:.2g}",
            lambda image, power=power: of_gamma(image, power),
            "write these files with the gamma of the others (a linear camera, or a gamma applied twice)",
        )
        for power in (1 / GAMMA, GAMMA)
    ),
    Stored(
        "dark and light exchanged", negative, "store 255 less each value of these files: they are negatives"
    ),
)


@dataclass(frozen=True, eq=False)
class Edited(Wrapper):
    """A model that sees images after a change of their pixels.

    Attributes:
        model: the inner model.
        edit: from sample to image.
    """

    model: PoseModel
    edit: Callable[[Sample], UInt8[np.ndarray, "H W 3"]]
    withheld: ClassVar[tuple[type, ...]] = (Answers,)

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """The inner model's batch, of the changed images."""
        return self.model.prepare([dataclasses.replace(s, image=self.edit(s)) for s in samples])


@dataclass(frozen=True, eq=False)
class Surer(Wrapper):
    """A model that sees each image as it is and changed, and keeps the outputs with the higher scores.

    No label decides, so what this gives is no choice of the better of two results.

    Attributes:
        model: the inner model.
        other: the same of changed images.
        margin: by which a score must be higher.
        stored: outputs of both for some samples; None where they have to be made.
    """

    model: PoseModel
    other: PoseModel
    margin: float
    stored: Callable[[Sequence[Sample]], tuple[Outputs | None, Outputs | None]] = lambda samples: (None, None)
    withheld: ClassVar[tuple[type, ...]] = (Answers,)

    def forward(self, batch: Batch) -> Outputs:
        """Outputs of the image as it is, or of the changed one, sample by sample."""
        import torch

        if not batch.samples:
            raise NotAvailable("this takes the images of a data set, not pixels alone")
        changed = self.other.prepare(batch.samples)
        as_it_is, as_changed = self.stored(batch.samples)
        if as_it_is is None or as_changed is None:
            as_it_is, as_changed = self.model.forward(batch), self.other.forward(changed)
        pairs = [(self.model, as_it_is, batch), (self.other, as_changed, changed)]
        own, other = (
            np.array([_score(p.scores) for p in one.decode(outputs, b, DecodeOptions())])
            for one, outputs, b in pairs
        )
        better = torch.from_numpy(other > own + self.margin)

        def chosen(a: Any, b: Any) -> Any:
            return torch.where(better.to(a.device).view(-1, *[1] * (a.ndim - 1)), b, a)

        a, b = pairs[0][1], pairs[1][1]
        if a.heatmaps is not None and b.heatmaps is not None:
            return Outputs(heatmaps=chosen(a.heatmaps, b.heatmaps))
        if a.simcc is not None and b.simcc is not None:
            return Outputs(simcc=(chosen(a.simcc[0], b.simcc[0]), chosen(a.simcc[1], b.simcc[1])))
        raise NotAvailable("this model gives neither heatmaps nor SimCC vectors")


def _score(scores: Float[np.ndarray, " K"]) -> float:
    return float(np.mean(np.nan_to_num(scores)))


class StoredOtherwise(Undone):
    """Part of the image files is stored otherwise than the rest."""

    name, group = "part of the image files stored otherwise", "input"
    needs = ("model", "data")
    refuted_by = "these files, opened, look as the others do"

    def changes(self, case: Case) -> Iterable[Change]:
        evidence = case.of_model()
        yield from self._dark(case, evidence)
        yield from self._mosaics(evidence)
        changed = [(way, self._of_all(case, way)) for way in WAYS]
        # Orders of channels are alike, so several promise something; each costs a pass over all instances.
        for rows, enough in ((_worst(evidence), PROMISING_WORST), (evidence.glance, PROMISING)):
            promises = [_promise(evidence, change, rows) for _, change in changed if not case.step()]
            least = max(enough, max(promises, default=0.0) / 2)
            best = sorted(zip(promises, changed, strict=True), key=lambda one: -one[0])[:AT_MOST]
            changed = [one for promise, one in best if promise >= least]
        for number, (way, change) in enumerate(changed):
            # The first promises most; the others where as many inputs are left to search for other causes.
            if number and left_to_search(case) < 2 * len(evidence.indices):
                break
            if (looked := _looked(evidence, change)) is None:
                continue
            surer, names, margin = looked
            yield self.change(
                f"{way.name} in the images in which the network is surer so",
                "input",
                lambda model, edit=way.edit, margin=margin, change=change: Surer(
                    model,
                    Edited(model, lambda s: edit(s.image)),
                    margin,
                    lambda samples: tuple(
                        evidence.stored(one, samples) if model is evidence.model else None
                        for one in ((), (change,))
                    ),  # type: ignore[return-value] - of two
                ),
                fix=f"{way.fix}: {some_files(names)}",
                least=0.01,
                facts={
                    "count": len(names),
                    "of": len(surer),
                    "how": f"surer with pixels {way.name}",
                    "surer": surer,
                },
                inputs=2,
                is_stored=True,
            )

    def _of_all(self, case: Case, way: Stored) -> Change:
        """The change of all images; that of the channels is the one that another cause tries anyway."""
        if way.edit is red_and_blue:
            for cause in case.causes:
                if isinstance(cause, Input) and cause.name == "channel order":
                    tried = [one for one in cause.changes(case) if one.name == way.name]
                    if tried:
                        return tried[0]
        return Change("", way.name, "input", lambda model: Edited(model, lambda s: way.edit(s.image)))

    def _dark(self, case: Case, evidence: Evidence) -> Iterator[Change]:
        """Images of much less contrast than the usual one, stretched to its mean and spread."""
        samples = _samples(evidence)
        spread = np.array([float(s.image.std()) for s in samples])
        mean = np.array([float(s.image.mean()) for s in samples])
        usual_spread, usual_mean = float(np.median(spread)), float(np.median(mean))
        dark = (spread * DARKER < usual_spread) | (mean * DARKER < usual_mean)
        names = _files(samples, dark)
        if len(names) < LEAST_IMAGES or dark.mean() > MOST_OF_ALL:
            return

        def stretched(sample: Sample) -> UInt8[np.ndarray, "H W 3"]:
            own_spread, own_mean = float(sample.image.std()), float(sample.image.mean())
            if own_spread * DARKER >= usual_spread and own_mean * DARKER >= usual_mean:
                return sample.image
            image = (sample.image - own_mean) * (usual_spread / max(own_spread, 1e-6)) + usual_mean
            return np.clip(np.rint(image), 0, 255).astype(np.uint8)

        yield self.change(
            "these images stretched to the brightness and contrast of the others",
            "input",
            lambda model: Edited(model, stretched),
            fix=f"write these files anew from their sources (a normalisation, or a division, was stored): "
            f"{some_files(names)}",
            least=0.01,
            facts={
                "count": len(names),
                "of": len(samples),
                "how": f"darker or of less contrast than the usual one, by more than {DARKER:g} times",
            },
        )  # fmt: skip

    def _mosaics(self, evidence: Evidence) -> Iterator[Change]:
        """Images whose pixels show one colour each, as a sensor gives them."""
        samples = _samples(evidence)
        raw = np.array([is_mosaic(s.image) for s in samples])
        names = _files(samples, raw)
        if len(names) >= LEAST_IMAGES:
            yield self.change(
                "the colours of these images interpolated",
                "input",
                lambda model: Edited(
                    model, lambda s: interpolated(s.image) if is_mosaic(s.image) else s.image
                ),
                fix=f"develop these files before they are stored (demosaic them): {some_files(names)}",
                least=0.01,
                facts={
                    "count": len(names),
                    "of": len(samples),
                    "how": "as a sensor gives them: each pixel shows one colour of a cell of 2 x 2",
                },
                shown=True,
            )

    def _worse(self, case: Case) -> Finding | None:
        """Files that a statistic sets apart and that are found worse, where nothing undoes it."""
        evidence = case.of_model()
        samples = _samples(evidence)
        oks = np.concatenate([_oks_of(evidence, one.rows) for one in evidence.forwards()])
        for group in groups_of_files(samples):
            own, rest = oks[group.chosen], oks[~group.chosen]
            lower = float(rest.mean() - own.mean())
            error = float(np.hypot(_error(own), _error(rest)))
            if lower < max(LEAST_LOSS, LOWER * error):
                continue
            names = _files(samples, group.chosen)
            return self.found(
                f"{counted(len(names), 'image')} of the {counted(len(samples), 'instance')} looked at are "
                f"{group.text()}; their mean OKS is {own.mean():.3f}, that of the others {rest.mean():.3f} "
                f"(standard error of the difference {error:.3f}); nothing that was tried gives it back",
                fix=f"look at these files, and write them anew from their sources: {some_files(names)}",
                numbers=(Measurement("mean OKS of these images", float(own.mean())),),
            )
        return None

    def seen(self, case: Case, change: Change) -> str:
        facts = change.facts
        images, of = counted(facts["count"], "image"), counted(facts["of"], "instance")
        return f"{images} of the {of} looked at are {facts['how']}"

    def test(self, case: Case) -> Answer:
        answer = self._undone(case)
        if not isinstance(answer, (RuledOut, NotTestable)):
            return answer
        return self._worse(case) or self._of_another_tone(case) or answer

    def _of_another_tone(self, case: Case) -> Candidates | None:
        """Images of another brightness of which the network is surer with another gamma; it may be chance."""
        evidence, apart = case.of_model(), case.separated()
        for change in case.changes_of(self):
            found, surer = apart.alone.get(change), change.facts.get("surer")
            if surer is None or found is None or apart.chosen or not found.oks >= change.least:
                continue
            level = np.array([float(s.image.mean()) for s in _samples(evidence)])
            darker = float(level[~surer].mean() - level[surer].mean())
            error = float(np.hypot(_error(level[surer]), _error(level[~surer])))
            if not change.name.startswith(TONE) or abs(darker) < LOWER * error:
                continue
            names, tone = some_files(_files(_samples(evidence), surer)), change.name.partition(" in ")[0]
            seen = (
                f"{counted(change.facts['count'], 'image')} ({names}) have a mean pixel of "
                f"{level[surer].mean():.0f}, "
                f"the others {level[~surer].mean():.0f} (standard error of the difference {error:.0f}), and "
                f"the network is surer of them with pixels {tone}: "
                f"{found.text()}, which may be chance"
            )
            stored = "open one of them beside the others, or run the same with --level evaluate: more images"
            taken = (
                "their EXIF or the camera's settings: another exposure and the same gamma excludes the first"
            )
            return Candidates(
                seen,
                (Candidate(self.name, "", stored), Candidate("taken in other light", "", f"give {taken}")),
            )
        return None

    def _undone(self, case: Case) -> Answer:
        case.of_model()
        if not case.changes_of(self) and not case.no_changes_of(self):
            return RuledOut(
                f"no part of the images does better with {', '.join(way.name for way in WAYS)} or stretched "
                "while the rest does worse"
            )
        return super().test(case)


def _oks_of(evidence: Evidence, rows: Sequence[int]) -> Float[np.ndarray, " n"]:
    ids = [evidence.pose_set.instances[i].annotation_id for i in rows]
    return _by_instance(evidence, (), None, ids)[0]


def _samples(evidence: Evidence) -> list[Sample]:
    return [sample for one in evidence.forwards() for sample in one.samples]


def _files(samples: Sequence[Sample], chosen: Bool[np.ndarray, " N"]) -> list[str]:
    """Names of the images of the chosen samples, each once."""
    names = [s.path.rpartition("/")[2] or s.key for s, yes in zip(samples, chosen, strict=True) if yes]
    return list(dict.fromkeys(names))


def some_files(names: Sequence[str]) -> str:
    """The first five names, and dots where there are more."""
    return f"{', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"


def _rows(evidence: Evidence) -> list[int]:
    """The instances in the order of `_samples`."""
    return [row for one in evidence.forwards() for row in one.rows]


def _worst(evidence: Evidence) -> tuple[int, ...]:
    """The instances of least OKS: where part of the files is stored otherwise, theirs are among them."""
    rows = _rows(evidence)
    ids = [evidence.pose_set.instances[row].annotation_id for row in rows]
    oks = _by_instance(evidence, [], None, ids)[0]
    return tuple(rows[i] for i in np.argsort(oks, kind="stable")[:WORST])


def _promise(evidence: Evidence, change: Change, rows: tuple[int, ...]) -> float:
    """Mean gain of a few instances where the network is surer of the changed image."""
    few, rise = _compared(evidence, change, rows)
    return float((few * (rise > _margin(rise))).mean())


def _looked(evidence: Evidence, change: Change) -> tuple[Bool[np.ndarray, " N"], list[str], float] | None:
    """In which instances the network is surer of the changed image, where those gain and the others lose."""
    gained, rise = _compared(evidence, change, None)
    surer = rise > _margin(rise)
    names = _files(_samples(evidence), surer)
    if len(names) < LEAST_IMAGES or surer.mean() > MOST_OF_ALL:
        return None
    gain, rest = gained[surer].mean(), gained[~surer]
    share = LEAST_LOST * (1.0 if surer.mean() > 0.5 else 0.5)
    loses = len(rest) > 1 and rest.mean() < -max(SURE * _error(rest), share * gain)
    return (surer, names, _margin(rise)) if loses and gain > 0 else None


def _margin(rise: Float[np.ndarray, " N"]) -> float:
    return SURER * float(np.median(np.abs(rise)))


def _compared(
    evidence: Evidence, change: Change, rows: tuple[int, ...] | None
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """OKS that a change gives to each instance, and by how much the network's score rises with it."""
    chosen = _rows(evidence) if rows is None else rows
    ids = [evidence.pose_set.instances[i].annotation_id for i in chosen]
    oks, score = _by_instance(evidence, [change], rows, ids)
    own_oks, own_score = _by_instance(evidence, [], None, ids)
    return oks - own_oks, score - own_score


def _by_instance(
    evidence: Evidence, changes: Sequence[Change], rows: tuple[int, ...] | None, ids: Sequence[Any]
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    measured = evidence.measure(changes, rows)
    oks = dict(zip(measured.ap.truth.ids.tolist(), np.nan_to_num(measured.oks).tolist(), strict=True))
    found: Predictions = measured.predictions
    assert found.annotation_id is not None
    score = dict(zip(found.annotation_id.tolist(), map(_score, found.scores), strict=True))
    return np.array([oks.get(n, 0.0) for n in ids]), np.array([score.get(n, 0.0) for n in ids])


class GreyFiles(Cause):
    """Part of the images has no colour, which a network that uses colour pays for."""

    name, group, level, needs = "part of the image files has no colour", "input", "forward", ("model", "data")
    refuted_by = "files of these images that have colour"

    def test(self, case: Case) -> Answer:
        evidence = case.of_model()
        samples = _samples(evidence)
        bare = _colourless(samples)
        names = _files(samples, bare)
        if bare.all() and (candidates := self._of_all(case, len(samples))):
            return candidates
        if len(names) < LEAST_IMAGES or bare.all():
            return RuledOut(
                f"{counted(len(names), 'image')} of the {counted(len(samples), 'instance')} looked at have "
                "no colour"
            )
        case.step()
        change = Change("", "without colour", "input", lambda model: Edited(model, lambda s: grey(s.image)))
        rest = _compared(evidence, change, None)[0][~bare]
        if -SURE * _error(rest) < rest.mean() < -LEAST_LOSS:
            # It may cost something, and these are too few to say: more of them decide.
            count = affordable(case, MORE * len(evidence.indices), passes=2)
            more = [i for i in case.in_order() if i not in evidence.indices][:count]
            if len(more) > 1:
                wider = Evidence(case.pose_set(), more, evidence.model, stepped=case.step)
                bare_too = _colourless(_samples(wider))
                rest = np.concatenate([rest, _compared(wider, change, None)[0][~bare_too]])
        error = _error(rest)
        evident = (
            f"{counted(len(names), 'image')} of the {counted(len(samples), 'instance')} looked at have no "
            f"colour ({some_files(names)}); without colour {len(rest)} others change by mean OKS "
            f"{signed_text(rest.mean())} (standard error {error:.3f})"
        )
        if not (rest.mean() < -LEAST_LOSS and rest.mean() < -SURE * error):
            return RuledOut(f"{evident}: this network hardly needs it")
        return self.found(
            evident,
            fix="give the files with colour; colour that was thrown away cannot be computed",
            numbers=(Measurement("share of images without colour", float(bare.mean()), expected=0.0),),
        )

    def _of_all(self, case: Case, count: int) -> Candidates | None:
        """No image has colour, and the network was not made for such: none is left to compare with."""
        share = _colour_share(case.model())
        if share < USES_COLOUR:
            return None
        return Candidates(
            f"none of the images of {counted(count, 'instance')} has colour, and {share:.0%} of the size of "
            "the first layer's weights is their difference between red, green and blue",
            (
                Candidate(
                    self.name,
                    "",
                    "give these images with colour (--images), or open a training image: one with colour "
                    "supports it",
                ),
                Candidate(
                    "images of another camera than the training's",
                    "",
                    "run `workbench diagnose CHECKPOINT --data TRAIN.json --images FOLDER`: the same figures "
                    "on the training's own images exclude it",
                ),
            ),
        )


def _colour_share(model: PoseModel) -> float:
    """Size of the first layer's differences between the channels of a colour, by that of its weights."""
    for layer in model.module.modules():
        weight = getattr(layer, "weight", None)
        if weight is not None and weight.ndim == 4 and weight.shape[1] == 3:
            values = weight.detach().double()
            return float((values - values.mean(1, keepdim=True)).norm() / values.norm().clamp(min=1e-12))
    return 0.0


def _colourless(samples: Sequence[Sample]) -> Bool[np.ndarray, " N"]:
    return np.array([bool((np.ptp(s.image, axis=-1) == 0).all()) for s in samples])


def _error(values: Float[np.ndarray, " n"]) -> float:
    """Standard error of a mean; infinite for a single value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("inf")


CAUSES: tuple[Cause, ...] = (StoredOtherwise(), GreyFiles())
