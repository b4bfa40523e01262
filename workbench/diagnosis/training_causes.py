"""Causes in the training: what its log shows, against its config; and what a short training proves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.core import NotAvailable
from workbench.core.finding import Finding, Measurement
from workbench.curves.schedule import LONG_WARM_UP, rate_of
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, NotTestable, RuledOut
from workbench.diagnosis.fixes import config_diff
from workbench.diagnosis.schedule import parts_of, rate_at

if TYPE_CHECKING:
    from workbench.checkpoints.checkpoint import Checkpoint
    from workbench.curves import Curves

# A rate in the log agrees with the config's where it is so near, in all but a few rows.
NEAR, MOST_ROWS = 0.06, 0.9
# A training loss that falls less than this share is said not to fall.
LEAST_FALL = 0.05
# What curves of healthy runs show as well: worth a look on the Curves page, no cause of anything.
OBSERVED = ("best is not "
"last", "plateau", "sudden jump", "metric moves in coarse steps", "learning rate step",
            "late start")  # fmt: skip
# A run that reached so much of its figure learned, however flat its loss lies.
LEARNED = 0.1
# Clipping leaves less than this share of the usual gradient.
CLIPPED = 0.05


def curves(case: Case) -> Curves:
    """The curves of the run's log; of the last run, where a text tells of several.

    Raises:
        NotAvailable: there is no log, it is damaged, or it is another run's.
    """
    return logged_runs(case)[-1]


def logged_runs(case: Case) -> tuple[Curves, ...]:
    """All runs of the log: a log of a trainer holds one, a text with tables may compare several.

    Raises:
        NotAvailable: there is no log, it is damaged, or it is another run's.
    """
    from workbench.curves import read_logs

    def read() -> tuple[Curves, ...]:
        if not case.given.logs:
            raise NotAvailable("no log was given; add it, or the folder of the run")
        return read_logs(case.given.logs, case.given.folder.name if case.given.folder else "the run")

    return case.once("curves", read)


def own_curves(case: Case) -> Curves:
    """The curves, where they are not of another run than the checkpoint.

    Raises:
        NotAvailable: they are.
    """
    found = curves(case)
    if why := contradiction(case):
        raise NotAvailable(why)
    return found


@dataclass(frozen=True)
class LogOrigin:
    """Whether a log is of the run that wrote a checkpoint.

    Attributes:
        run: ``same``, ``other``, or ``unknown`` where nothing that both hold could be compared.
        evidence: one sentence with its figures.
    """

    run: Literal["same", "other", "unknown"]
    evidence: str


def contradiction(case: Case) -> str:
    """Why the log is not this checkpoint's; "" where nothing says so."""
    try:
        origin = log_origin(case)
    except NotAvailable:
        return ""
    return origin.evidence if origin.run == "other" else ""


def log_origin(case: Case) -> LogOrigin:
    """Whether the log is of the checkpoint's run, by the figures and then by the counts that both hold.

    Raises:
        NotAvailable: there is no log, or no checkpoint that opens.
    """

    def compared() -> LogOrigin:
        logged, checkpoint = curves(case), case.checkpoint()
        beside = any(checkpoint.path.parent in log.parents for log in case.given.logs)
        return (
            _by_figures(checkpoint.history.series, logged)
            or _by_counts(checkpoint, logged, beside)
            or (LogOrigin("same", "the log lies in the folder of the checkpoint") if beside else None)
            or LogOrigin(
                "unknown",
                "the checkpoint and the log hold no figure, epoch or iteration that can be compared",
            )
        )

    return case.once("log origin", compared)


def _by_figures(held: Mapping[str, Sequence[float]], logged: Curves) -> LogOrigin | None:
    """By the first validation figure that both hold at least twice."""
    for name, values in held.items():
        series = logged.get(name.partition("/")[2] or name)
        if not name.startswith("val/") or series is None or len(values) < 2 or "time" in name:
            continue
        own = np.array(values, float)
        other = series.finite()[1][: len(own)]
        if len(other) < 2:
            continue
        near = np.isclose(own[: len(other)], other, atol=2e-4)
        if near.mean() < 0.5:
            return LogOrigin(
                "other",
                f"the log is of another run: {name} is {own[-1]:.4g} in the checkpoint and "
                f"{other[-1]:.4g} in the log",
            )
        return LogOrigin("same", f"{name} agrees in {near.mean():.0%} of {len(near)} validations")
    return None


def _by_counts(checkpoint: Checkpoint, logged: Curves, beside: bool) -> LogOrigin | None:
    """By where the log ends, and by how many iterations its epochs have; a text with tables may be a part."""
    from workbench.curves.reading import TEXT

    training = [s for s in logged.series if s.split != "val"]
    if not training or logged.format == TEXT:
        return None
    epochs = np.concatenate([series.epoch for series in training])
    iterations = np.concatenate([series.iteration for series in training])
    for what, rows, own in (
        ("epoch", epochs, checkpoint.epoch),
        ("iteration", iterations, checkpoint.iteration),
    ):
        places = np.unique(rows[np.isfinite(rows)])
        if not own or len(places) < 2:
            continue
        # Loggers write every so many iterations; a log that lies beside the checkpoint may be cut.
        if places[-1] + 2 * float(np.median(np.diff(places))) < own and not beside:
            return LogOrigin(
                "other",
                f"the log is of another run, or cut off: it ends at {what} {places[-1]:g}, and "
                f"{checkpoint.path.name} was written at {what} {own}",
            )
        break
    both = np.isfinite(epochs) & np.isfinite(iterations)
    if not checkpoint.epoch or not checkpoint.iteration or not both.any():
        return None
    epochs, iterations = epochs[both], iterations[both]
    per_epoch = checkpoint.iteration / checkpoint.epoch
    # The epoch of a row is the one that runs or the last finished one, counted from 0 or 1.
    denied = (iterations > (epochs + 1) * per_epoch) | (iterations < (epochs - 2) * per_epoch)
    length = f"an epoch has {per_epoch:g} iterations in {checkpoint.path.name}"
    if denied.mean() > 0.5:
        return LogOrigin(
            "other",
            f"the log is of another run: {length}, and epoch {epochs[-1]:g} lies at iteration "
            f"{iterations[-1]:g} in the log",
        )
    # Other runs on the same data have as many: this alone shows nothing.
    return None if beside else LogOrigin("unknown", f"{length} and in the log, but no figure stands in both")


def of_this_log(case: Case, finding: Finding) -> Finding:
    """A finding from a log; where nothing shows the log to be of the checkpoint's run, it says so.

    Args:
        case: after the log was read.
        finding: of a cause that reads the log.
    """
    try:
        origin = log_origin(case)
    except NotAvailable:
        return finding
    if origin.run != "unknown":
        return finding
    return dataclasses.replace(
        finding,
        evidence=f"of this log, which nothing shows to be of the checkpoint's run: {finding.evidence}",
        severity="warning" if finding.severity == "error" else finding.severity,
    )


class LogOfAnotherRun(Cause):
    """The log that was given is not this checkpoint's."""

    name, group, needs = "log of another run", "training", ("log", "checkpoint")
    refuted_by = "the validation figures inside the checkpoint and in the log, side by side"

    def test(self, case: Case) -> Answer:
        origin = log_origin(case)
        if origin.run == "other":
            case.notes.append(origin.evidence)
            return self.found(
                origin.evidence, fix="give the log that lies beside the checkpoint", severity="warning"
            )
        return RuledOut(origin.evidence) if origin.run == "same" else NotTestable(origin.evidence)


class LogFlags(Cause):
    """What stands out in the curves: jumps, restarts, not finite, AP against AR, overfitting."""

    name, group, needs = "training curves", "training", ("log",)
    refuted_by = "another log of the same run without it"

    def test(self, case: Case) -> Answer:
        own = own_curves(case)
        from workbench.curves import flags_between, read_logs

        flags = list(own.flags)
        for other in logged_runs(case)[:-1]:
            flags += flags_between(own, other)
        try:
            logs = case.against().logs
            flags += flags_between(own, read_logs(logs, "the other run")[-1]) if logs else []
        except NotAvailable:
            pass
        found = [flag for flag in flags if flag.severity != "remark" and flag.cause not in OBSERVED]
        if any(flag.cause == LONG_WARM_UP for flag in found) and _rate_is_explained(case):
            found = [flag for flag in found if flag.cause != LONG_WARM_UP]
        if not found:
            return RuledOut(own.summary())
        # A curve shows a symptom: it never outranks what undoing a cause gave back.
        return [
            dataclasses.replace(flag, confidence="likely", refuted_by=flag.refuted_by or self.refuted_by)
            for flag in found
        ]


def _rate_is_explained(case: Case) -> bool:
    """Whether a mistake with the config's schedule gives the rates of the log, its warm-up too."""
    try:
        answer = Rate().test(case)
    except NotAvailable:
        return False
    return isinstance(answer, Finding) and answer.severity == "error"


class Rate(Cause):
    """The learning rate in the log is not the one that the config's schedule asks for."""

    name, group, needs = "learning rate is not the config's", "training", ("log", "config")
    refuted_by = "a scheduler outside of the config, or automatic scaling of the rate by the batch size"

    def test(self, case: Case) -> Answer:
        series, iterations, per_epoch = _rates(own_curves(case))
        base, parts = parts_of(case.config())
        logged = series[:, 1]
        expected = {
            "as the config says": _expected(base, parts, iterations, per_epoch),
            "schedulers stepped once an epoch instead of every iteration": _expected(
                base, parts, iterations, per_epoch, True
            ),
        }
        right = expected["as the config says"]
        share = _agree(logged, right)
        if share >= MOST_ROWS:
            return RuledOut(
                f"the rate in {share:.0%} of {len(logged)} rows is the one that the config asks for"
            )
        ratio = float(np.median(logged / np.maximum(right, 1e-30)))
        tries = {name: _agree(logged, values) for name, values in expected.items()}
        tries["the schedule begun anew"] = _restarted(logged, base, parts, iterations, per_epoch)
        tries[f"a base rate {ratio:.3g} times as large"] = _agree(logged, right * ratio)
        best = max(tries, key=lambda name: tries[name])
        agreement = f"rows agree with the config in {share:.0%} of {len(logged)} rows"
        if tries[best] < MOST_ROWS:
            first = int(np.argmax(~_near(logged, right)))
            return self.found(
                f"{agreement}; first at iteration {iterations[first]:g}: {logged[first]:.3g} instead of "
                f"{right[first]:.3g}",
                fix="compare the schedule that really ran with the config",
                severity="warning",
                confidence="possible",
            )
        return self.found(
            f"{agreement}, and in {tries[best]:.0%} with {best}",
            fix=_fix_of(best, ratio),
            numbers=(Measurement("rate in the log over the config's", ratio, expected=1.0),),
        )


def _fix_of(best: str, ratio: float) -> str:
    if "epoch" in best:
        return "step schedulers with by_epoch=False after every iteration"
    if "anew" in best:
        return "resume with the state of the schedulers (resume=True), not with load_from"
    return f"set the rate of the config, or change the config: the run used {ratio:.3g} times as much"


def _rates(found: Curves) -> tuple[np.ndarray, np.ndarray, float]:
    """[R, 2] place and rate; the iterations; iterations of an epoch."""
    series, loss = rate_of(found), found.loss
    if series is None or len(series.finite()[1]) < 4:
        raise NotAvailable("the log holds no learning rate")
    held = np.isfinite(series.iteration) & np.isfinite(series.value)
    if held.sum() < 4:
        raise NotAvailable("the log does not count iterations beside the learning rate")
    iterations = series.iteration[held]
    epochs = series.epoch[held]
    per_epoch = math.nan
    counted = loss if loss is not None else series
    both = np.isfinite(counted.epoch) & np.isfinite(counted.iteration) & (counted.epoch >= 2)
    if both.any():
        # The last row of an epoch lies just before its end.
        last = {float(e): float(i) for e, i in zip(counted.epoch[both], counted.iteration[both], strict=True)}
        per_epoch = float(np.median([i / e for e, i in last.items()]))
        if len(last) > 2:  # from one epoch to the next: some loggers count epochs from 0
            ends = np.array(sorted(last.items()))
            per_epoch = float(np.median(np.diff(ends[:, 1]) / np.diff(ends[:, 0])))
    elif np.isfinite(epochs).any() and np.nanmax(epochs) > 0:
        per_epoch = float(iterations.max() / np.nanmax(epochs))
    return np.stack([iterations, series.value[held]], 1), iterations, per_epoch if per_epoch > 0 else 1.0


def _expected(
    base: float, parts: Sequence[Any], iterations: np.ndarray, per_epoch: float, epochs: bool = False
) -> np.ndarray:
    # The rate of a row is that of its iteration, which the row counts as finished.
    return np.array([rate_at(base, parts, max(i - 1, 0), per_epoch, epochs) for i in iterations])


def _near(logged: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.abs(logged - expected) <= NEAR * np.maximum(np.abs(expected), 1e-12)


def _agree(logged: np.ndarray, expected: np.ndarray) -> float:
    return float(_near(logged, expected).mean())


def _restarted(
    logged: np.ndarray, base: float, parts: Sequence[Any], iterations: np.ndarray, per_epoch: float
) -> float:
    """Share of rows that agree where the schedule begins again at the row that fits best."""
    best = 0.0
    for start in range(1, len(iterations)):
        moved = np.where(np.arange(len(iterations)) < start, iterations, iterations - iterations[start - 1])
        best = max(best, _agree(logged, _expected(base, parts, moved, per_epoch)))
        if start > 400:
            break
    return best


class WarmUp(Cause):
    """The run ends while the learning rate still rises."""

    name, group, needs = "warm-up longer than the run", "training", ("log or config",)
    refuted_by = "a log of the rest of the run, in which the rate falls again"

    def test(self, case: Case) -> Answer:
        series, iterations, _ = _rates(own_curves(case))
        rate = series[:, 1]
        rising = np.diff(rate) > 0
        if len(rate) < 4 or rising.mean() < 0.95:
            return RuledOut(
                f"the rate rises until iteration {iterations[int(rate.argmax())]:g} of {iterations[-1]:g}"
            )
        return self.found(
            f"the learning rate rises from {rate[0]:.3g} to {rate[-1]:.3g} over all {iterations[-1]:g} "
            "iterations: the "
            "run ends in its warm-up",
            fix="shorten the warm-up to a few percent of the run, or train longer",
            numbers=(Measurement("share of the run in warm-up", 1.0, expected=0.05),),
        )


class LossStays(Cause):
    """The training loss does not fall: nothing is learned."""

    name, group, needs = "training loss does not fall", "training", ("log",)
    refuted_by = "a loss that falls when one image is learned by heart (`workbench overfit`)"

    def test(self, case: Case) -> Answer:
        loss = own_curves(case).loss
        if loss is None or len(loss.finite()[1]) < 6:
            raise NotAvailable("the log holds no training loss, or too few rows of it")
        _, value = loss.finite()
        part = max(2, len(value) // 10)
        first, last = float(np.median(value[:part])), float(np.median(value[-part:]))
        fall = 1 - last / first if first else 0.0
        judged = own_curves(case).best
        if judged is not None and judged[1] >= LEARNED and last <= 1.2 * first:
            return RuledOut(
                f"the loss goes from {first:.3g} to {last:.3g}, and the run reaches {judged[1]:.3f}"
            )
        if fall >= LEAST_FALL:
            return RuledOut(f"the training loss falls by {fall:.0%}, from {first:.3g} to {last:.3g}")
        verb = "rises" if last > 1.2 * first else "stays"
        return self.found(
            f"the training loss {verb} at {last:.3g} (it began at {first:.3g}) over {len(value)} rows",
            fix="overfit one image (`workbench overfit`), whose bisector tells apart: a rate that is too "
            "large or "
            "too small, an optimizer without the model's parameters, gradients that are not cleared",
            numbers=(Measurement("share by which the loss falls", fall, expected=0.5),),
            confidence="likely",
        )


class Clipping(Cause):
    """Gradients are clipped to a small part of their usual size in every step."""

    name, group, needs = "gradient clipping too small", "training", ("log", "config")
    refuted_by = "the same curves with the clipping taken away"

    def test(self, case: Case) -> Answer:
        wrapper = case.config().get("optim_wrapper", {})
        clip = wrapper.get("clip_grad") if isinstance(wrapper, Mapping) else None
        most = clip.get("max_norm") if isinstance(clip, Mapping) else None
        if not isinstance(most, (int, float)):
            return RuledOut("the config clips no gradients")
        norm = own_curves(case).get("grad_norm")
        if norm is None or not len(norm.finite()[1]):
            raise NotAvailable("the log holds no gradient norm")
        usual = float(np.median(norm.finite()[1]))
        if most >= CLIPPED * usual:
            return RuledOut(f"gradients have a norm of {usual:.3g} and are clipped at {most:g}")
        return self.found(
            f"gradients have a norm of {usual:.3g} (median) and are clipped at {most:g}: every step keeps "
            f"{most / usual:.1%} of its gradient",
            fix=f"clip at about {_clip_for(usual):g}, or not at all",
            diff=config_diff(case, {"optim_wrapper.clip_grad.max_norm": _clip_for(usual)}),
            confidence="likely",
        )


def _clip_for(usual: float) -> float:
    """The next power of ten above the usual norm of the gradients."""
    return 10.0 ** math.ceil(math.log10(usual))


class NotShuffled(Cause):
    """Training data in the order of the file."""

    name, group, needs = "training data not shuffled", "training", ("config",)
    refuted_by = "a sampler that shuffles outside of the config"

    def test(self, case: Case) -> Answer:
        loader = case.config().get("train_dataloader")
        if not isinstance(loader, Mapping):
            raise NotAvailable("the config has no train_dataloader")
        sampler = loader.get("sampler")
        given = sampler.get("shuffle") if isinstance(sampler, Mapping) else loader.get("shuffle")
        if given is not False:
            return RuledOut("the training data are shuffled" if given else "nothing says that they are not")
        return self.found(
            "train_dataloader.sampler.shuffle is False: every epoch has the same batches, neighbours "
            "together",
            fix="shuffle the training data",
            diff=config_diff(case, {_place_of_shuffle(loader): True}),
        )


def _place_of_shuffle(loader: Mapping[str, Any]) -> str:
    own = "train_dataloader.shuffle"
    return "train_dataloader.sampler.shuffle" if isinstance(loader.get("sampler"), Mapping) else own


CAUSES: Sequence[Cause] = (
    LogOfAnotherRun(),
    LogFlags(),
    Rate(),
    WarmUp(),
    LossStays(),
    Clipping(),
    NotShuffled(),
)
