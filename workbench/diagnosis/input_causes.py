"""Causes in the input: each alternative of the input probe, undone and separated from all other causes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import Conditioned, Groups, NotAvailable, PoseModel, Sample
from workbench.core.finding import WITH_FLIP_TEST, Finding, Measurement
from workbench.core.report import ends_text, signed_text
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, NotTestable, RuledOut, Undone
from workbench.diagnosis.evidence import Change
from workbench.diagnosis.input_budget import LEAST_FLIPPED, SPENT_INPUTS, affordable, left_of_inputs
from workbench.diagnosis.norm_statistics import FAR_OFF, LayerFit, fits_of, layer_fits
from workbench.diagnosis.people_evidence import WHOLE_IMAGES, whole_images
from workbench.evaluation.probes import Intervention, NotTried, input_interventions
from workbench.evaluation.probes.input import NORMALISATIONS
from workbench.evaluation.probes.intervention import colours_of

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.evaluation.probes import ProbeReport

# Mean OKS below which a model has learned too little for its fine print to be read.
LEARNED = 0.3
# Causes beside which no network finds keypoints: numbers that are 255 times off.
GROSS = ("value range",)
# Causes that are probed on whole images of a bottom-up model, the one beside them that they are told
# from, and images of a first and of a last look at them.
COLOURS, BESIDE = ("value range", "normalisation"), "channel order"
FIRST_IMAGES, MORE_IMAGES = 4, 30
# Statistics of the first norm fit another normalisation where its misfit is at most this part of the own one.
FITS_BETTER = 0.5


class Input(Undone):
    """One of the causes that `workbench probe input` knows.

    Args:
        name: of the cause.
    """

    group = "input"
    needs = ("model", "data")
    refuted_by = "other labelled images on which the change does not help"

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc] - one class for all causes of the probe

    def changes(self, case: Case) -> Iterable[Change]:
        # Another cause asks for the same ones: equal outputs are those of the same object.
        return case.once(f"changes of {self.name}", lambda: list(self._changes(case)))

    def _changes(self, case: Case) -> Iterable[Change]:
        if self.name in GROSS and (oks := case.of_model().measure().mean_oks) >= LEARNED:
            raise NotAvailable(f"mean OKS is {oks:.2f} as it is, and this would leave next to nothing")
        meant = ""
        if self.name == "normalisation":
            with suppress(NotAvailable):
                meant = _exchanged(*_normalisation(case))
        for one in _tried(case)[0]:
            if one.cause == self.name and not one.fine:
                stage, shown = "outputs" if one.decode_only else "input", one.name == meant
                facts = {"about": one.about}
                yield self.change(one.name, stage, one.apply, fix=one.fix, facts=facts, shown=shown)

    def seen(self, case: Case, change: Change) -> str:
        return f"the network does better on {change.facts['about']}"

    def test(self, case: Case) -> Answer:
        if self.name in COLOURS and isinstance(case.model(), Groups):
            answer = _of_whole_images(case, self.name)
            if self.name == "normalisation" and isinstance(answer, RuledOut):
                return self._by_first_norm(case, answer) or answer
            return answer
        if not case.changes_of(self):
            if self.name in GROSS and (why_not := case.no_changes_of(self)):
                return RuledOut(why_not)
            why = next((no.reason for no in _tried(case)[1] if no.cause == self.name), "")
            return NotTestable(why or "this model offers no alternative to try")
        answer = super().test(case)
        if self.name == "normalisation" and isinstance(answer, RuledOut):
            return self._contradiction(case, answer) or self._by_first_norm(case, answer) or answer
        return answer

    def _by_first_norm(self, case: Case, measured: RuledOut) -> Finding | None:
        """The first normalisation layer stores statistics of another input, whatever that costs."""
        with suppress(NotAvailable):
            own = layer_fits(case)[0]
            if own.off < FAR_OFF or case.separated().chosen:
                return None
            samples = _of_images(case, FIRST_IMAGES)
            colours = [
                one
                for one in input_interventions(case.model(), samples)[0]
                if one.cause in COLOURS and not one.decode_only
            ]
            if left_of_inputs(case) < len(samples) * (1 + len(colours)):
                return None
            tried = [(one, _first_fit(case, one.apply(case.model()), samples)) for one in colours]
            before = _first_fit(case, case.model(), samples)
            best, after = min(tried, key=lambda pair: pair[1].off)
            if best.cause != self.name or after.off > FITS_BETTER * before.off:
                return None
            return self.found(
                f"the running statistics of {own.name}, the first normalisation layer, are {before.off:.2f} "
                f"deviations off those of its input (its deviation is {np.exp(before.ratio):.2f} times the "
                f"stored one), and {after.off:.2f} with {best.name} ({best.about}); what it costs is not "
                f"distinguished from chance: {measured.evidence}",
                fix=best.fix,
                numbers=(
                    Measurement("misfit of the first norm", before.off, unit="deviations"),
                    Measurement("the same with the other normalisation", after.off, unit="deviations"),
                ),
                refuted_by="a training config with the mean and std that are in use",
                severity="warning",
            )
        return None

    def _contradiction(self, case: Case, measured: RuledOut) -> Finding | None:
        """The mean is a published one and the std is not the one that belongs to it."""
        mean, std = _normalisation(case)
        published = [(n, m, np.array(s)) for n, (m, s) in NORMALISATIONS.items() if any(m)]
        if exchanged := _exchanged(mean, std):
            numbers = ", std ".join(f"({_listed(values)})" for values in NORMALISATIONS[exchanged])
            return self._of_numbers(
                f"pixels have the std of '{exchanged}' subtracted and are divided by its mean",
                f"give mean {numbers}",
                measured,
            )
        same_mean = [(n, s) for n, m, s in published if np.allclose(mean, m, rtol=0.005)]
        if not same_mean or any(np.allclose(std, s, rtol=0.05) for _, s in same_mean):
            return None
        name, usual = same_mean[0]
        return self._of_numbers(
            f"pixels have the mean of '{name}' subtracted and are divided by ({_listed(std)}), not by its "
            f"({_listed(usual)})",
            f"divide by ({_listed(usual)}), or state the std that the training had",
            measured,
        )

    def _of_numbers(self, seen: str, fix: str, measured: RuledOut) -> Finding:
        return self.found(
            f"{seen}; what it costs is not told from chance: {measured.evidence}",
            fix=fix,
            refuted_by="a training config with these numbers",
            severity="warning",
            confidence="likely",
        )


def _exchanged(mean: Float[np.ndarray, " 3"], std: Float[np.ndarray, " 3"]) -> str:
    """The published normalisation whose mean and std stand in each other's place; "" where none does."""
    for name, (m, s) in NORMALISATIONS.items():
        if any(m) and not np.allclose(m, s) and np.allclose([mean, std], [s, m], rtol=0.005):
            return name
    return ""


def _listed(values: Sequence[float] | np.ndarray) -> str:
    return ", ".join(f"{v:.4g}" for v in values)


def _first_fit(case: Case, model: PoseModel, samples: Sequence[Sample]) -> LayerFit:
    """The first normalisation layer of a model against what it is given for some images, one by one."""
    case.step()
    return fits_of(model, (model.prepare([sample]) for sample in samples))[0]


def _of_images(case: Case, count: int) -> list[Sample]:
    """One labelled sample of so many images, spread over the set."""
    pose_set = case.pose_set()
    chosen = whole_images(pose_set, count) or pose_set.labelled_of_image
    return pose_set.samples(pose_set.labelled_of_image[number][0] for number in chosen)


def _of_whole_images(case: Case, name: str) -> Answer:
    """What a bottom-up model's own input, and the alternatives to its colours, give: all on a few images.

    Blue and red exchanged is one of the mistakes that the inference script of such a model is tested for;
    here it keeps a normalisation that makes up for it in part from being blamed.
    """
    report = case.once("colours of whole images", lambda: _colours_probed(case))
    found = [finding for finding in report.findings if finding.cause == name]
    if found:
        return found
    tried = [trial for trial in report.trials if trial.cause == name]
    if not tried:
        return RuledOut("every alternative loses on the first images")
    best = max(tried, key=lambda trial: trial.delta)
    other = next((finding.cause for finding in report.findings), "")
    why = f"less than undoing {other!r} does" if other else "no gain that counts"
    return RuledOut(
        f"undoing it ({best.name}) gives {report.measure} {signed_text(best.delta)} "
        f"{ends_text(best.low, best.high)}: {why}"
    )


def _colours_probed(case: Case) -> ProbeReport:
    from workbench.evaluation.probes import probe

    model, pose_set = case.model(), case.pose_set()

    def people(images: int) -> list[Sample]:
        chosen = whole_images(pose_set, images) or pose_set.labelled_of_image
        return pose_set.samples(i for n in chosen for i in pose_set.labelled_of_image[n])

    def probed(images: int, tried: Sequence[Intervention]) -> ProbeReport:
        return probe(model, people(images), tried, progress=lambda done, total: case.step())

    every = input_interventions(model, people(1))[0]
    tried = [one for one in every if one.cause in (*COLOURS, BESIDE)]
    report = probed(FIRST_IMAGES, tried)
    gained = {trial.name for trial in report.trials if trial.delta > 0 and trial.cause in COLOURS}
    if not gained:
        return dataclasses.replace(report, findings=())
    tried = [one for one in tried if one.name in gained or one.cause == BESIDE]
    report = probed(WHOLE_IMAGES, tried)
    named = {finding.cause for finding in report.findings}
    if not named.intersection(COLOURS):
        return report
    # One of so many gains by chance: more images tell it from its neighbour.
    tried = [one for one in tried if one.cause in (*named, BESIDE)]
    more = affordable(case, MORE_IMAGES, passes=1 + len(tried))
    return probed(more, tried) if more > WHOLE_IMAGES else report


class HalfPixel(Cause):
    """Keypoints that lie off by half a pixel or by UDP's factor: too little for OKS, measured in pixels."""

    name, group, level, needs = "half-pixel shift", "input", "forward", ("model", "data")

    def test(self, case: Case) -> Answer:
        evidence = case.of_model()
        fine = [one for one in _tried(case)[0] if one.fine]
        if not fine:
            return NotTestable("this model leaves no shift open")
        if case.separated().chosen or evidence.measure().mean_oks < LEARNED:
            return NotTestable("undo the larger causes first: beside them half a pixel cannot be measured")
        from workbench.evaluation.probes import probe

        case.step()
        parts = evidence.forwards()
        samples = [sample for one in parts for sample in one.samples]
        made = [(one.samples, one.batch, one.outputs) for one in parts]
        report = probe(case.model(), samples, fine, made=made)
        if report.findings:
            return list(report.findings)
        best = max(report.trials, key=lambda trial: trial.share, default=None)
        if best is None:
            return NotTestable("no shift could be measured")
        return RuledOut(
            f"the labels ask for {best.share:.2f} of {best.name}, less than can be told from chance"
        )


class Flip(Cause):
    """The flip test: the shift of mirrored maps, and the mirror pairs that the outputs ask for."""

    name, group, level, needs = "flip test", "input", "forward", ("model", "data")
    refuted_by = "other labelled images on which the flip test is right as it is"
    # Instances, and where these leave another shift undecided; few beside the clinic, which needs inputs too.
    LEAST, MOST = 24, 96

    def test(self, case: Case) -> Answer:
        evidence = case.of_model()
        # Another decoder reads the same outputs: with it the flip test is measured on top of it.
        read, model = case.separated().chosen, case.model()
        if any(one.stage != "outputs" for one in read) or evidence.measure(read).mean_oks < LEARNED:
            return NotTestable("undo the larger causes first: beside them the flip test cannot be measured")
        for change in read:
            model = change.of(model)
        from workbench.evaluation.probes import probe_flip

        case.step()
        parts = evidence.forwards()
        seen = np.cumsum([len(one.rows) for one in parts])
        beside_clinic = case.reaches("evaluate") and isinstance(case.model(), Conditioned)
        least = LEAST_FLIPPED if beside_clinic else self.LEAST
        # Batches end where a look at few instances ends.
        count = int(np.searchsorted(seen, left_of_inputs(case), side="right"))
        parts = parts[: min(int(np.searchsorted(seen, least)) + 1, count)]
        if not parts or sum(len(one.rows) for one in parts) < min(LEAST_FLIPPED, len(evidence.indices)):
            return NotTestable(SPENT_INPUTS)
        samples = [sample for one in parts for sample in one.samples]
        made = [(one.samples, one.batch, one.outputs) for one in parts]
        report = probe_flip(model, samples, made=made)
        more = affordable(case, self.MOST, passes=2) if case.options.budget is None else 0
        if report.undecided and more > len(samples):
            case.step()
            samples = case.pose_set().samples(case.in_order()[:more])
            report = probe_flip(model, samples)
        # A network that confuses sides has two peaks and odd partners: only what gives something back counts.
        found = [
            dataclasses.replace(
                f, effect=dataclasses.replace(f.effect, measure=f"{f.effect.measure}{WITH_FLIP_TEST}")
            )
            for f in report.findings
            if f.effect is not None and f.effect.low > 0
        ]
        return found or RuledOut(report.summary())


def _tried(case: Case) -> tuple[list[Intervention], list[NotTried]]:
    def made() -> tuple[list[Intervention], list[NotTried]]:
        evidence = case.of_model()
        first = [case.pose_set().sample(i) for i in evidence.first]
        return input_interventions(case.model(), first)

    return case.once("input interventions", made)


def _normalisation(case: Case) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 3"]]:
    """Mean and std of (r, g, b) in 0..255 that the model's input has, measured."""
    sample = case.pose_set().sample(case.of_model().first[0])
    colours = case.once("colours", lambda: colours_of(case.model(), sample))
    order = list(colours.order)
    std = 1 / np.abs(colours.matrix[range(3), order])
    mean, spread = np.empty(3), np.empty(3)
    mean[order], spread[order] = -colours.offset * std, std
    return mean, spread


CAUSES: tuple[Cause, ...] = (
    Input("value range"),
    Input("channel order"),
    Input("normalisation"),
    Input("width and height exchanged"),
    Input("crop padding"),
    Input("crops differ from their affine"),
    HalfPixel(),
    Flip(),
)
