"""Causes in the input: each alternative of the input probe, undone and separated from all other causes."""

from __future__ import annotations

from collections.abc import Iterable

from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, NotTestable, RuledOut, Undone
from workbench.diagnosis.evidence import Change
from workbench.evaluation.probes import Intervention, NotTried, input_interventions

# Mean OKS below which a model has learned too little for its fine print to be read.
LEARNED = 0.3


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
        for one in _tried(case)[0]:
            if one.cause == self.name and not one.fine:
                stage = "outputs" if one.decode_only else "input"
                yield Change(self.name, one.name, stage, one.apply, one.fix, facts={"about": one.about})

    def seen(self, case: Case, change: Change) -> str:
        return f"the network does better on {change.facts['about']}"

    def test(self, case: Case) -> Answer:
        if not case.changes_of(self):
            why = next((no.reason for no in _tried(case)[1] if no.cause == self.name), "")
            return NotTestable(why or "this model leaves no other way open")
        return super().test(case)


class HalfPixel(Cause):
    """Keypoints that lie off by half a pixel or by UDP's factor: too little for OKS, measured in pixels."""

    name, group, level, needs = "half-pixel shift", "input", "forward", ("model", "data")

    def test(self, case: Case) -> Answer:
        from workbench.evaluation.probes import probe

        evidence = case.of_model()
        fine = [one for one in _tried(case)[0] if one.fine]
        if not fine:
            return NotTestable("this model leaves no shift open")
        if case.separated().chosen or evidence.measure().mean_oks < LEARNED:
            return NotTestable("undo the larger causes first: beside them half a pixel cannot be measured")
        case.step()
        samples = [case.pose_set().sample(i) for i in evidence.indices]
        report = probe(case.model(), samples, fine)
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
    MOST = 24

    def test(self, case: Case) -> Answer:
        from workbench.evaluation.probes import probe_flip

        evidence = case.of_model()
        if case.separated().chosen or evidence.measure().mean_oks < LEARNED:
            return NotTestable("undo the larger causes first: beside them the flip test cannot be measured")
        case.step()
        step = max(1, len(evidence.indices) // self.MOST)
        samples = [case.pose_set().sample(i) for i in evidence.indices[::step][: self.MOST]]
        report = probe_flip(case.model(), samples)
        # A network that confuses sides has two peaks and odd partners: only what gives something back counts.
        found = [f for f in report.findings if f.effect is not None and f.effect.low > 0]
        return found or RuledOut(report.summary())


def _tried(case: Case) -> tuple[list[Intervention], list[NotTried]]:
    def made() -> tuple[list[Intervention], list[NotTried]]:
        evidence = case.of_model()
        first = [case.pose_set().sample(i) for i in evidence.glance[:4]]
        return input_interventions(case.model(), first)

    return case.once("input interventions", made)


CAUSES: tuple[Cause, ...] = (
    Input("value range"),
    Input("channel order"),
    Input("normalisation"),
    Input("width and height exchanged"),
    Input("crop padding"),
    HalfPixel(),
    Flip(),
)
