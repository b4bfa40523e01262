"""probe: every intervention on the same labelled samples, paired with the model as it is opened.

A cause is named if an alternative raises the mean OKS (PCK where there are no sigmas or areas) by more than
`LEAST` and the interval of the difference lies above 0. Shifts of a pixel or less hardly change the OKS. They
are judged by the errors themselves: the share of the shift that the labelled keypoints ask for, 0 where they
ask for none and 1 where they ask for exactly this one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Batch, DecodeOptions, Groups, NotAvailable, Outputs, PoseModel, Prediction, Sample
from workbench.core.finding import Effect, Finding, Measurement, Severity
from workbench.core.geometry import apply as transform
from workbench.core.geometry import inverse
from workbench.core.job import Cancelled
from workbench.core.pck import box_lengths, distances
from workbench.core.report import Report, plain
from workbench.core.run import evaluating, run
from workbench.evaluation.oks import paired_oks
from workbench.evaluation.probes.average_precision import with_ap
from workbench.evaluation.probes.intervention import CAUSES, Intervention, NotTried

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.evaluation.keypoint_ap import KeypointAP

Make = Callable[[PoseModel, Sequence[Sample]], tuple[list[Intervention], list[NotTried]]]

LEAST = 0.02
"""Gain of OKS or PCK below which no cause is named. Alternatives that hardly differ from what a network was
trained with (another padding, another published mean) reach .01 on a healthy model by chance."""

ALIKE = 0.005
"""Gains that differ by less are the same: ImageNet's and CLIP's numbers make nearly the same input."""

LEVEL = 0.99
"""Of the intervals. Some twenty alternatives are tried, so that 95 % would name one without a cause."""

PCK = 0.05
"""PCK threshold, share of the box's longer side."""

LEAST_SHARE = 0.5
"""Of a fine shift: above it, moving the keypoints brings them nearer to the labels than leaving them."""

EXPLAINED = (2 / 3, 3 / 2)
"""Shares of a fine shift that it explains: errors of another size have another cause (a network trained with
few images is off by a pixel in some direction)."""

# Fine shifts are read off keypoints that were found: nearer to the label than this share of the input's side.
_FOUND = 0.04
# Images below which single instances are resampled instead.
_FEW_IMAGES = 8
_RESAMPLES = 2000
_BATCH = 16


@dataclass(frozen=True)
class Trial:
    """One alternative, measured.

    Attributes:
        name: of the intervention.
        cause: what is wrong with the model if the alternative is better.
        about: what it changes.
        fix: what to do if it is better.
        base: mean OKS (or PCK) of the model it is compared with.
        value: the same with the alternative.
        delta: value less base.
        low: lower end of the interval of delta; nan where one sample alone was measured.
        high: upper end.
        share: of a fine shift, how much of it the labels ask for; nan for others.
        share_low: lower end of its interval.
        share_high: upper end.
        pixels: of a fine shift, how far it moves keypoints on average, input pixels; nan for others.
        fine: judged by its share.
        round: 1 on the model as it is opened, 2 on the model with the first finding mended, ...
    """

    name: str
    cause: str
    about: str
    fix: str
    base: float
    value: float
    delta: float
    low: float
    high: float
    share: float = math.nan
    share_low: float = math.nan
    share_high: float = math.nan
    pixels: float = math.nan
    fine: bool = False
    round: int = 1

    @property
    def better(self) -> bool:
        """The alternative is better than the model, beyond chance and beyond what hardly matters."""
        if self.fine:
            low, high = EXPLAINED
            return self.share_low > LEAST_SHARE and low <= self.share <= high
        # Of one sample there is no interval: the step itself must be beyond doubt.
        return self.delta > LEAST and (self.low > 0 if math.isfinite(self.low) else self.delta > 0.2)

    @property
    def verdict(self) -> str:
        """``better``, ``ruled out`` (worse beyond chance) or ``no difference``."""
        if self.better:
            return "better"
        if self.fine:
            return "ruled out" if self.share_high < LEAST_SHARE else "no difference"
        return "ruled out" if self.high < 0 else "no difference"


@dataclass(frozen=True, eq=False)
class ProbeReport(Report):
    """The alternatives of one probe, what they gave, and what follows.

    Attributes:
        title: of the model and the data.
        question: what was probed: ``input``.
        measure: ``OKS`` or ``PCK@0.05``.
        value: of the model as it is opened, mean over the samples.
        samples: labelled instances.
        images: they are in.
        trials: every alternative.
        not_tried: causes that could not be examined, with the reason.
        findings: causes that were named, the largest effect first.
        protocol: how everything was measured.
    """

    title: str
    question: str
    measure: str
    value: float
    samples: int
    images: int
    trials: tuple[Trial, ...]
    not_tried: tuple[NotTried, ...]
    findings: tuple[Finding, ...]
    protocol: str

    def summary(self) -> str:
        causes = len({t.cause for t in self.trials})
        head = f"{self.title}: {self.measure} {self.value:.3f} on {self.samples} instances"
        tried = f"{len(self.trials)} alternatives of {causes} causes were tried"
        if self.findings:
            found = "; ".join(f"{f.cause}: {f.evidence}" for f in self.findings)
            return f"{head}; {tried}. Found: {found}. {self.findings[0].fix}"
        nearest = max((t for t in self.trials if not t.fine), key=lambda t: t.delta, default=None)
        near = "" if nearest is None else f" (the nearest is {nearest.name}, {nearest.delta:+.3f})"
        text = f"{head}; {tried}, and none is better{near}: the {self.question} is as the network expects it."
        if self.value < 0.2:
            text += " The value is low all the same: look at the weights (workbench load) and the labels."
        return text

    def text(self) -> str:
        """The summary, every alternative with its numbers, and what could not be tried."""
        width = max((len(t.name) for t in self.trials), default=0)
        lines = [self.summary(), "", f"{'alternative':{width}}  {self.measure:>9}  change (interval)"]
        for t in self.trials:
            interval = f"({t.low:+.3f} to {t.high:+.3f})" if math.isfinite(t.low) else "(no interval)"
            share = f"; {t.share:.2f} of it in the errors" if t.fine else ""
            lines.append(
                f"{t.name:{width}}  {t.value:9.3f}  {t.delta:+.3f} {interval}  {t.verdict}, {t.cause}{share}"
            )
        lines += [f"not tried: {one.cause}: {one.reason}" for one in self.not_tried]
        lines += [f"finding: {finding.text()}" for finding in self.findings]
        return "\n".join([*lines, f"protocol: {self.protocol}"])

    def plot(self) -> Figure:
        from workbench.figures import FINDING_COLOUR, QUIET_COLOUR
        from workbench.figures.bars import Bars, bars_figure

        deltas = np.array([t.delta for t in self.trials])
        reach = max(float(np.nanmax(np.abs(deltas), initial=0)), 0.01) * 1.1
        colours = [FINDING_COLOUR if t.better else QUIET_COLOUR for t in self.trials]
        notes = [f"{t.cause}: {t.about}; {t.verdict}" for t in self.trials]
        widths = np.array([(t.high - t.low) / 2 for t in self.trials])
        column = Bars(f"{self.measure} beyond the model as it is opened", deltas, colours, notes=notes,
                      span=(-reach, reach), whiskers=np.nan_to_num(widths))  # fmt: skip
        return bars_figure(self.summary(), [t.name for t in self.trials], [column])

    def table(self) -> list[dict[str, Any]]:
        return [{**plain(trial), "verdict": trial.verdict} for trial in self.trials]

    def to_findings(self) -> tuple[Finding, ...]:
        return self.findings

    def to_json(self) -> dict[str, Any]:
        facts = {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        facts["findings"] = [finding.facts() for finding in self.findings]
        return {"summary": self.summary(), **facts, "trials": self.table()}


# The measurement.


def probe(
    model: PoseModel,
    samples: Iterable[Sample],
    interventions: Sequence[Intervention] | Make,
    *,
    title: str = "",
    question: str = "input",
    rounds: int = 1,
    sigmas: Sequence[float] | None = None,
    seed: int = 0,
    evaluated: Callable[[PoseModel], KeypointAP] | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ProbeReport:
    """Measure every intervention on the same samples, paired with the model as it is opened.

    Args:
        model: any family or adapter, as it is opened.
        samples: with ground truth in the model's keypoints; areas and the skeleton's sigmas give OKS, without
            them PCK is measured.
        interventions: the alternatives; or what makes them for a model, see `input_interventions`. Only then
            several rounds are possible.
        title: what to call the model and the data.
        question: what is probed, for the summary.
        rounds: after a finding, the rest is tried again on the model with that finding mended, this often.
        sigmas: OKS constants; the model's own by default.
        seed: of the bootstrap.
        evaluated: AP of a model on the same set, see `average_precision.ap_of`; asked twice for each finding,
            which then states both and the interval of their difference.
        progress: called with (done, total) alternatives times samples.
        cancelled: asked before each batch.

    Raises:
        ValueError: no labelled samples.
        Cancelled: as asked for.
    """
    told = labelled(model, samples)
    judge = Judge.of(model, told, model.skeleton.sigmas if sigmas is None else sigmas, seed)
    trials: list[Trial] = []
    findings: list[Finding] = []
    skipped: dict[NotTried, None] = {}
    mended: list[str] = []
    value = math.nan
    for number in range(1, max(1, rounds) + 1):
        chosen, no = interventions(model, told) if callable(interventions) else (list(interventions), [])
        chosen = [one for one in chosen if one.cause not in mended]
        if len({one.name for one in chosen}) < len(chosen):
            raise ValueError("probe: expected interventions with different names")
        skipped |= dict.fromkeys(no)
        base, measured, no = _measured(model, told, chosen, progress, cancelled)
        skipped |= dict.fromkeys(no)
        made = [judge.trial(one, base, found, number) for one, found in measured]
        values = {one.name: judge.values(found) for one, found in measured}
        value = judge.value(base) if number == 1 else value
        trials += made
        best, close = _best(made, values, judge)
        if best is None:
            break
        findings.append(_finding(best, close, judge))
        if evaluated is not None:
            better = next(one for one in chosen if one.name == best.name).apply(model)
            findings[-1] = with_ap(findings[-1], evaluated(model), evaluated(better), LEVEL, seed)
        mended.append(best.cause)
        if not callable(interventions) or best.fine:
            break  # a fine shift is named only where nothing else is left
        model = next(one for one in chosen if one.name == best.name).apply(model)
    return ProbeReport(
        title or "the model",
        question,
        judge.measure,
        value,
        len(told),
        len(judge.clusters),
        tuple(trials),
        tuple(skipped),
        tuple(findings),
        judge.protocol,
    )


def labelled(model: PoseModel, samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """The samples that have a labelled keypoint.

    Args:
        model: whose keypoints they must be labelled with.
        samples: any.

    Raises:
        ValueError: none is labelled, or they are labelled with another number of keypoints.
    """
    told = tuple(s for s in samples if s.truth is not None and (np.asarray(s.truth)[:, 2] > 0).any())
    if not told:
        raise ValueError("probe: expected labelled samples, got none; give a data set with keypoints")
    wanted = len(model.skeleton)
    if len(np.asarray(told[0].truth)) != wanted:
        raise ValueError(
            f"probe: the model predicts {wanted} keypoints, the samples are labelled with "
            f"{len(np.asarray(told[0].truth))}; choose a data set with the model's keypoints"
        )
    return told


Values = Mapping[str, "Float[np.ndarray, ' N']"]


def _best(trials: Sequence[Trial], values: Values, judge: Judge) -> tuple[Trial | None, list[Trial]]:
    """The alternative to name, and the best ones of other causes that cannot be told from it.

    The best of each cause, in the order of suspicion; one of a later cause only if it is better beyond
    chance.
    A fine shift only where it gives more than all that is coarse.
    """
    firsts = []
    coarse = [t for t in trials if t.better and not t.fine]
    for cause in sorted({t.cause for t in coarse}, key=_suspicion):
        own = [t for t in coarse if t.cause == cause]
        # Of those that give as much the first.
        firsts.append(next(t for t in own if t.delta > max(o.delta for o in own) - ALIKE))

    def beats(one: Trial, other: Trial) -> bool:
        change = np.nan_to_num(values[one.name] - values[other.name])
        low, _ = judge.interval(change, np.ones(len(change)))
        return low > 0 if math.isfinite(low) else one.delta > other.delta + ALIKE

    # Of several fine shifts that the labels ask for, the one that they ask for most exactly.
    fine = min(
        (t for t in trials if t.better and t.fine),
        key=lambda t: abs(math.log(max(t.share, 1e-6))),
        default=None,
    )
    if not firsts:
        return fine, []
    best = firsts[0]
    for one in firsts[1:]:
        best = one if beats(one, best) else best
    if fine is not None and fine.delta > best.delta:
        return fine, []  # misplaced keypoints are mended a little by many things
    return best, [one for one in firsts if one is not best and not beats(best, one)]


def _suspicion(cause: str) -> int:
    return CAUSES.index(cause) if cause in CAUSES else len(CAUSES)


def _finding(best: Trial, close: Sequence[Trial], judge: Judge) -> Finding:
    severity: Severity = "error" if best.delta >= 0.05 else "warning"
    numbers = [
        Measurement(f"{judge.measure} as opened", best.base, protocol=judge.protocol),
        Measurement(f"{judge.measure} with {best.name}", best.value, protocol=judge.protocol),
    ]
    after = "" if best.round == 1 else ", the findings before it mended"
    opened = f"{judge.measure} is {best.base:.3f} as the model is opened{after}"
    evidence = f"{opened}, and {best.value:.3f} with {best.name}"
    if best.fine:
        evidence = (
            f"keypoints lie off by {best.share:.2f} ({best.share_low:.2f} to {best.share_high:.2f}) of "
            f"{best.name}, which moves them by {best.pixels:.2f} input pixels on average{after}"
        )
        numbers.append(Measurement("share of the shift in the errors", best.share, expected=0.0))
    return Finding(
        best.cause,
        evidence,
        best.fix,
        tuple(numbers),
        Effect(judge.measure, best.delta, best.low, best.high, judge.protocol),
        refuted_by=f"other labelled images on which {best.name} is not better",
        assumption=f"not {' or '.join(f'{t.cause} ({t.name}: {t.value:.3f})' for t in close)}"
        if close
        else "",
        severity=severity,
        confidence="proved" if math.isfinite(best.low) and not close else "likely",
    )


Found = Any  # float [N, K, 2], keypoints in image pixels


@dataclass(frozen=True, eq=False)
class Judge:
    """What the measurements are compared with.

    Attributes:
        truth: (x, y, visibility), image pixels.
        areas: square pixels; nan where unknown.
        lengths: of the boxes, pixels.
        sigmas: OKS constants; None where PCK is measured.
        to_input: affine from image to input pixels of the model as it is opened, per sample.
        side: the input's longer side, pixels.
        clusters: which samples are drawn together.
        draws: how often each cluster is drawn in each resample.
        protocol: in words.
    """

    truth: Float[np.ndarray, "N K 3"]
    areas: Float[np.ndarray, " N"]
    lengths: Float[np.ndarray, " N"]
    sigmas: Float[np.ndarray, " K"] | None
    to_input: Float[np.ndarray, "N 2 3"]
    side: float
    clusters: list[np.ndarray]
    draws: Float[np.ndarray, "B C"]
    protocol: str

    @classmethod
    def of(cls, model: PoseModel, samples: Sequence[Sample], constants: Sequence[float], seed: int) -> Judge:
        truth = np.stack([np.asarray(s.truth, float) for s in samples])
        areas = np.array([s.area for s in samples], float)
        measured = bool(constants) and bool((areas > 0).all())
        affines, side = _affines(model, samples)
        of_image: dict[Any, list[int]] = {}
        for n, sample in enumerate(samples):
            of_image.setdefault((sample.image_id, sample.path), []).append(n)
        few = len(of_image) < _FEW_IMAGES
        clusters = (
            [np.array([n]) for n in range(len(samples))] if few else list(map(np.array, of_image.values()))
        )
        C = len(clusters)
        picks = np.random.default_rng(seed).integers(0, C, (_RESAMPLES, C))
        draws = np.stack([np.bincount(pick, minlength=C) for pick in picks]).astype(float)
        measure = "OKS" if measured else f"PCK@{PCK:g} of the box"
        protocol = (
            f"mean {measure} of {len(samples)} instances in {len(of_image)} images, annotated boxes, "
            f"no flip, {LEVEL:.0%} paired bootstrap over {'instances' if few else 'images'}"
        )
        sigmas = np.array(constants) if measured else None
        lengths = box_lengths([s.box for s in samples])
        return cls(truth, areas, lengths, sigmas, affines, side, clusters, draws, protocol)

    @property
    def measure(self) -> str:
        return "OKS" if self.sigmas is not None else f"PCK@{PCK:g}"

    def values(self, keypoints: Found) -> Float[np.ndarray, " N"]:
        """Of each sample."""
        if self.sigmas is not None:
            return paired_oks(keypoints, self.truth, self.areas, self.sigmas)
        from workbench.core.pck import pck_by_image

        return pck_by_image(distances(keypoints, self.truth, self.lengths), PCK)

    def value(self, keypoints: Found) -> float:
        return float(np.nanmean(self.values(keypoints)))

    def trial(self, one: Intervention, base: Found, found: Found, number: int) -> Trial:
        """The intervention's trial.

        Args:
            one: the intervention.
            base: keypoints of the model as it is.
            found: keypoints with the intervention.
            number: of the round.
        """
        before, after = self.values(base), self.values(found)
        change = np.nan_to_num(after - before)
        low, high = self.interval(change, np.isfinite(before).astype(float))
        base_mean, mean = float(np.nanmean(before)), float(np.nanmean(after))
        told: dict[str, float] = {}
        if one.fine:
            told = self._share(base, found)
        return Trial(
            one.name, one.cause, one.about, one.fix,
            base_mean, mean, mean - base_mean, low, high, **told, fine=one.fine, round=number,
        )  # fmt: skip

    def _share(self, base: Found, found: Found) -> dict[str, float]:
        """How much of the movement from one to the other the labels ask for, by least squares."""
        inside = [np.stack([transform(a, p) for a, p in zip(self.to_input, points, strict=True)])
                  for points in (base, found, self.truth[..., :2])]  # fmt: skip
        error, move = inside[2] - inside[0], inside[1] - inside[0]
        near = np.hypot(*np.moveaxis(error, -1, 0)) < _FOUND * self.side  # nan is not near
        counted = near & (self.truth[..., 2] > 0)
        dot, square = ((np.where(counted[..., None], error * move, 0)).sum((1, 2)),
                       (np.where(counted[..., None], move * move, 0)).sum((1, 2)))  # fmt: skip
        low, high = self.interval(dot, square)
        total = float(square.sum())
        pixels = float(np.hypot(*np.moveaxis(move[counted], -1, 0)).mean()) if counted.any() else math.nan
        share = float(dot.sum() / total) if total > 0 else math.nan
        return {"share": share, "share_low": low, "share_high": high, "pixels": pixels}

    def interval(self, parts: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
        """Interval of sum(parts) / sum(weights) over resampled clusters; nan for a single cluster."""
        if len(self.clusters) < 2:
            return math.nan, math.nan
        sums = [np.array([v[c].sum() for c in self.clusters]) for v in (parts, weights)]
        top, bottom = (self.draws @ s for s in sums)
        ratio = np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0)
        ratio = ratio[np.isfinite(ratio)]
        if not len(ratio):
            return math.nan, math.nan
        low, high = np.quantile(ratio, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)


def _affines(model: PoseModel, samples: Sequence[Sample]) -> tuple[np.ndarray, float]:
    found, side = [], 0.0
    for part in parts_of(model, samples):
        batch = model.prepare(part[:1] if isinstance(model, Groups) else part)
        to_input = [inverse(affine) for affine in batch.to_image]
        found += to_input * len(part) if isinstance(model, Groups) else to_input
        side = max(side, float(max(batch.pixels.shape[-2:])))
    return np.stack(found), side


def parts_of(model: PoseModel, samples: Sequence[Sample]) -> Iterator[tuple[Sample, ...]]:
    """Samples in batches, in order; of a bottom-up model the neighbours that share an image."""
    start = 0
    while start < len(samples):
        end = start + 1
        if isinstance(model, Groups):
            while end < len(samples) and samples[end].image is samples[start].image:
                end += 1
        else:
            end = min(start + _BATCH, len(samples))
        yield tuple(samples[start:end])
        start = end


def _measured(
    model: PoseModel,
    samples: Sequence[Sample],
    interventions: Sequence[Intervention],
    progress: Callable[[int, int], None] | None,
    cancelled: Callable[[], bool] | None,
) -> tuple[Found, list[tuple[Intervention, Found]], list[NotTried]]:
    """Keypoints of the model and of every intervention; those that cannot be applied with the reason."""
    base: list[np.ndarray] = []
    found: dict[str, list[np.ndarray]] = {one.name: [] for one in interventions}
    wrapped: dict[str, PoseModel] = {}
    skipped: dict[str, NotTried] = {}
    for one in interventions:
        try:
            wrapped[one.name] = one.apply(model)
        except NotAvailable as reason:
            skipped[one.name] = NotTried(one.cause, f"{one.name}: {reason}")
    total, done = (len(interventions) + 1) * len(samples), 0
    for part in parts_of(model, samples):
        if cancelled is not None and cancelled():
            raise Cancelled(f"stopped after {done} of {total}")
        batch, outputs, points = passed(model, part)
        base.append(points)
        for one in interventions:
            if one.name in skipped:
                continue
            changed = wrapped[one.name]
            try:
                if one.decode_only:
                    points = _read(changed, outputs, batch, part)
                else:
                    points = passed(changed, part)[2]
            except (NotAvailable, ValueError, RuntimeError) as reason:
                # A network of fixed sizes refuses another input: then the cause is not this one.
                skipped[one.name] = NotTried(
                    one.cause, f"{one.name}: the network refuses it ({_line(reason)})"
                )
                continue
            found[one.name].append(points)
        done += (len(interventions) + 1) * len(part)
        if progress is not None:
            progress(done, total)
    kept = [one for one in interventions if one.name not in skipped]
    return np.concatenate(base), [(o, np.concatenate(found[o.name])) for o in kept], list(skipped.values())


def _line(reason: BaseException) -> str:
    return " ".join(str(reason).split())[:160]


def passed(model: PoseModel, samples: Sequence[Sample]) -> tuple[Batch, Outputs, np.ndarray]:
    """One forward pass and the keypoints of each sample."""
    if not isinstance(model, Groups):
        result = run(model, samples)
        return result.batch, result.outputs, result.keypoints
    import torch

    with torch.no_grad(), evaluating(model.module):  # type: ignore[attr-defined]
        batch = model.prepare(samples[:1])  # type: ignore[attr-defined]
        outputs = model.all_passes(batch).detach()
    return batch, outputs, _read(model, outputs, batch, samples)


def _read(model: PoseModel, outputs: Outputs, batch: Batch, samples: Sequence[Sample]) -> np.ndarray:
    if isinstance(model, Groups):
        people = model.group(outputs, batch)[0]
        predictions: Sequence[Prediction] = [people.in_box(sample.box) for sample in samples]
    else:
        predictions = model.decode(outputs, batch, DecodeOptions())
    return np.stack([np.asarray(p.keypoints, float) for p in predictions])
