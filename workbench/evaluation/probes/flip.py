"""What is wrong with the flip test of a model? The shift that it needs, and its mirror pairs, found by test.

Every sample is passed plainly and mirrored. Three things follow without labels: by how many input pixels
mirrored maps must be moved before they are averaged (0 with UDP, three quarters of a cell without); whether
decoded keypoints agree, which tells a UDP network read by the plain affine from a healthy one; and which
output of the mirrored image is which output of the plain one, which must be the declared mirror pairs. Labels
then tell what each is worth.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import PoseModel, Sample
from workbench.core.capabilities import ShiftsHeatmaps
from workbench.core.finding import Effect, Finding, Measurement
from workbench.core.report import Report, counted, ends_text, plain, signed_text
from workbench.evaluation.bootstrap import fewest_units, no_interval_text
from workbench.evaluation.probes.flip_passes import Passes, flip_passes
from workbench.evaluation.probes.intervention import NotTried
from workbench.evaluation.probes.judge import LEVEL, Judge, labelled
from workbench.evaluation.probes.mirror_pairs import (
    Pair,
    doubled_findings,
    mirror_partners,
    pair_findings,
    undecided_pairs,
    unmirrored_note,
    unmirrored_sides,
    unread_reason,
)
from workbench.evaluation.probes.passes import Pass
from workbench.evaluation.probes.probe_report import LEARNED, LEAST

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure


LEAST_GAIN = 0.002
"""OKS or PCK below which another shift is not called better."""


@dataclass(frozen=True)
class ShiftTrial:
    """The flip test with mirrored maps moved by some cells.

    Attributes:
        cells: to the right.
        pixels: the same in input pixels.
        value: mean OKS or PCK of the average.
        delta: less that of the flip test as the model makes it.
        low: lower end of the interval of delta.
        high: upper end.
        used: the model's flip test moves them so.
    """

    cells: int
    pixels: float
    value: float
    delta: float
    low: float
    high: float
    used: bool


@dataclass(frozen=True, eq=False)
class FlipReport(Report):
    """A model's flip test, examined.

    Attributes:
        title: of the model and the data.
        measure: ``OKS`` or ``PCK@0.05``.
        value: of the model without flip test.
        flipped: with its own flip test; nan where its outputs have no average.
        shift: by which mirrored maps must be moved to the right, input pixels; nan where there are none.
        shift_low: lower end of its interval.
        shift_high: upper end.
        shift_used: by which the model's flip test moves them, input pixels.
        cell: input pixels per cell; nan where there are no maps.
        disagreement: x of decoded keypoints less x of those of the mirrored image turned back, input pixels;
            0 where codec and training agree.
        disagreement_low: lower end of its interval.
        disagreement_high: upper end.
        shifts: the flip test at whole cells.
        pairs: every keypoint with its partner.
        mirror: the mirror pairs as found, an index for each keypoint.
        not_tried: what could not be examined.
        findings: what is wrong.
        samples: labelled instances.
        images: they are in.
        protocol: how everything was measured.
    """

    title: str
    measure: str
    value: float
    flipped: float
    shift: float
    shift_low: float
    shift_high: float
    shift_used: float
    cell: float
    disagreement: float
    disagreement_low: float
    disagreement_high: float
    shifts: tuple[ShiftTrial, ...]
    pairs: tuple[Pair, ...]
    mirror: tuple[int, ...]
    not_tried: tuple[NotTried, ...]
    findings: tuple[Finding, ...]
    samples: int
    images: int
    protocol: str

    @property
    def undecided(self) -> bool:
        """Another shift may be the one that the maps need; it gives more, though that may be chance."""
        shift = (self.shift, self.shift_low, self.shift_high)
        best = _wanted(self.shifts, shift, self.cell)
        return best is not None and not _decided(best, shift, self.cell)

    def summary(self) -> str:
        text = f"{self.title}: {self.measure} {self.value:.3f} without flip test"
        if math.isfinite(self.flipped):
            text += f", {self.flipped:.3f} with it"
        if math.isfinite(self.shift):
            text += (
                f"; mirrored maps fit best moved by {signed_text(self.shift, '+.2f')} input pixels "
                f"{self._shift_ends()}, the flip test moves them "
                f"{self.shift_used:+g}"
            )
        right = sum(p.decided and not p.wrong for p in self.pairs)
        pairs = counted(len(self.pairs), "keypoint has", "keypoints have")
        text += f"; {right} of {pairs} the right mirror partner"
        if open_ones := sum(not p.decided for p in self.pairs):
            text += f", for {open_ones} the outputs do not show which is right"
        if not self.findings:
            return f"{text}. {self._without_findings()}"
        return f"{text}. Found: {'; '.join(f'{f.cause}: {f.evidence}' for f in self.findings)}"

    def _shift_ends(self) -> str:
        """The interval of the shift, or why there is none."""
        if self.samples < fewest_units(LEVEL):
            return f"({no_interval_text(self.samples, 'instance')})"
        return ends_text(self.shift_low, self.shift_high, "+.2f")

    def _without_findings(self) -> str:
        """Without findings: too little learned, a cost without a cause, or nothing wrong."""
        if self.value < LEARNED:
            return "The network finds too little for its flip test to be judged."
        left = ", ".join(dict.fromkeys(one.cause for one in self.not_tried))
        rest = f"what could be examined (not: {left})" if left else "shift, mirror pairs and affine"
        if self.samples < fewest_units(LEVEL) or self.images < 2:
            size = f"{counted(self.samples, 'instance')} in {counted(self.images, 'image')}"
            return f"{size} are too few to call the flip test right; measure more (--limit)."
        if self.undecided:
            return f"Whether another shift is better is not decided on {counted(self.samples, 'instance')}."
        if self.value - self.flipped > LEAST:
            lost = self.value - self.flipped
            return f"The flip test lowers {self.measure} by {lost:.3f}; no cause was found in {rest}."
        return f"Nothing is wrong with {rest}."

    def text(self) -> str:
        """The summary, the shifts, the pairs that are wrong, and what could not be examined."""
        lines = [self.summary(), ""]
        if self.shifts:
            lines.append(f"mirrored maps moved by   {self.measure:>9}  change (interval)")
        for t in self.shifts:
            used = "  as the model does" if t.used else ""
            lines.append(
                f"{t.cells:+d} cells ({t.pixels:+g} input px){'':4}{t.value:9.3f}  {signed_text(t.delta)} "
                f"{ends_text(t.low, t.high)}{used}"
            )
        lines.append(
            "decoded keypoints of plain and mirrored input differ by "
            f"{signed_text(self.disagreement, '+.2f')} input pixels in x "
            f"{ends_text(self.disagreement_low, self.disagreement_high, '+.2f')}; 0 expected"
        )
        lines += [
            f"wrong pair: {p.keypoint} with {p.declared or 'nothing'}; found {p.found} "
            f"({p.distance_found:.3f} of the box away instead of {p.distance_declared:.3f})"
            for p in self.pairs
            if p.wrong
        ]
        lines += [f"not tried: {one.cause}: {one.reason}" for one in self.not_tried]
        lines += [f"finding: {finding.text()}" for finding in self.findings]
        return "\n".join([*lines, f"protocol: {self.protocol}"])

    def plot(self) -> Figure:
        from workbench.figures import FINDING_COLOUR, QUIET_COLOUR
        from workbench.figures.bars import Bars, bars_figure

        colours = [FINDING_COLOUR if p.wrong else QUIET_COLOUR for p in self.pairs]
        notes = [f"declared {p.declared or 'none'}, found {p.found}" for p in self.pairs]
        far = np.array([p.distance_declared for p in self.pairs])
        best = np.array([p.distance_found for p in self.pairs])
        reach = max(float(np.nanmax(far, initial=0)), 0.02) * 1.1
        return bars_figure(
            self.summary(),
            [p.keypoint for p in self.pairs],
            [
                Bars("distance to the declared partner, share of the box", far, colours, notes=notes,
                     span=(0, reach)),
                Bars("to the partner found", best, colours, notes=notes, span=(0, reach)),
            ],
        )  # fmt: skip

    def table(self) -> list[dict[str, Any]]:
        return [plain(pair) for pair in self.pairs]

    def to_findings(self) -> tuple[Finding, ...]:
        return self.findings


def probe_flip(
    model: PoseModel,
    samples: Iterable[Sample],
    *,
    title: str = "",
    sigmas: Sequence[float] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    made: Sequence[Pass] | None = None,
) -> FlipReport:
    """Examine the flip test of a model: its shift, its mirror pairs, and the affine it is read with.

    Args:
        model: any family or adapter; one that gives a coordinate for each keypoint.
        samples: labelled in the model's keypoints.
        title: of the model and the data.
        sigmas: OKS constants; the model's own by default.
        seed: of the bootstrap.
        progress: called with (done, total) samples.
        cancelled: asked before each batch.
        made: plain passes over the samples, all of which are labelled, where there are some already.

    Raises:
        ValueError: no labelled samples, or samples of other keypoints.
        Cancelled: as asked for.
    """
    annotated = labelled(model, samples)
    judge = Judge.of(model, annotated, model.skeleton.sigmas if sigmas is None else sigmas, seed)
    K = len(model.skeleton)
    declared = tuple(model.skeleton.mirror) or tuple(range(K))
    skipped: dict[NotTried, None] = {}
    passes, cell = flip_passes(model, annotated, declared, skipped, progress, cancelled, made)
    shift = _median(judge, passes.plain_input - passes.turned_input)
    moves = isinstance(model, ShiftsHeatmaps) and bool(model.shift_heatmap)
    used = int(moves and model.codec is not None and model.codec.kind == "heatmap")
    shifts = _shift_trials(judge, passes, used, cell)
    pairs, found = mirror_partners(model, judge, passes, declared)
    alike, note = undecided_pairs(model, judge, passes, found)
    pairs = [
        dataclasses.replace(pair, decided=pair.decided and k not in alike) for k, pair in enumerate(pairs)
    ]
    skipped |= dict.fromkeys(note)
    if doubt := unread_reason(judge, passes, declared, found):
        pairs, found = [dataclasses.replace(p, wrong=False, decided=False) for p in pairs], declared
        skipped[NotTried("mirror pairs", doubt)] = None
    elif kept := unmirrored_sides(model, pairs):
        pairs = [
            dataclasses.replace(p, wrong=False, decided=False) if p.keypoint in kept else p for p in pairs
        ]
        found = tuple(declared[k] if pair.keypoint in kept else found[k] for k, pair in enumerate(pairs))
        skipped[unmirrored_note(judge, passes, kept, declared)] = None
    off = _median(judge, passes.plain_input - passes.back_input[:, list(found)])
    findings = [
        *pair_findings(model, judge, passes, pairs, declared, found),
        *_shift_findings(shifts, shift, used, cell, judge),
        *_affine_findings(model, off, cell, judge),
        *doubled_findings(pairs, judge),
    ]
    if judge.value(passes.plain) < LEARNED:
        findings = []
    own = passes.averages.get(used)
    return FlipReport(
        title or "the model", judge.measure, judge.value(passes.plain),
        math.nan if own is None else judge.value(own), *shift, used * cell if math.isfinite(cell) else 0.0,
        cell, *off, tuple(shifts), tuple(pairs), found, tuple(skipped), tuple(findings), len(annotated),
        len({(s.image_id, s.path) for s in annotated}), judge.protocol.replace("no flip, ", ""),
    )  # fmt: skip


# What follows from them.


def _median(judge: Judge, moved: Float[np.ndarray, "N K 2"]) -> tuple[float, float, float]:
    """Median of x over found keypoints, with its interval over resampled clusters; nan where nothing is."""
    x = np.where(np.abs(moved[..., 0]) < 0.1 * judge.side, moved[..., 0], np.nan)
    if not np.isfinite(x).any():
        return math.nan, math.nan, math.nan
    # The mean of what lies near the median: a median alone stands on whole cells.
    middle = float(np.nanmedian(x))
    near = np.abs(x - middle) < max(0.02 * judge.side, 2.0)
    if not near.any():
        return middle, math.nan, math.nan  # it lies in a gap between the values, as of two
    parts, weights = np.where(near, np.nan_to_num(x), 0).sum(1), near.sum(1).astype(float)
    low, high = judge.interval(parts, weights)
    return float(parts.sum() / weights.sum()), low, high


def _shift_trials(judge: Judge, passes: Passes, used: int, cell: float) -> list[ShiftTrial]:
    if used not in passes.averages:
        return []
    base = judge.values(passes.averages[used])
    made = []
    for cells, points in passes.averages.items():
        values = judge.values(points)
        low, high = judge.interval(np.nan_to_num(values - base), np.isfinite(base).astype(float))
        value = float(np.nanmean(values))
        delta = value - float(np.nanmean(base))
        made.append(ShiftTrial(cells, cells * cell, value, delta, low, high, cells == used))
    return made


def _wanted(
    shifts: Sequence[ShiftTrial], shift: tuple[float, float, float], cell: float
) -> ShiftTrial | None:
    """The cell nearest to the shift that the maps need, where its neighbour is used and this one gives more.

    Code moves maps by one cell or not at all: another amount is asked for by networks that know too little.
    """
    best = max(shifts, key=lambda t: t.delta, default=None)
    if best is None or best.used or not math.isfinite(shift[0]) or best.delta < LEAST_GAIN:
        return None
    if not any(t.used and abs(t.cells - best.cells) == 1 for t in shifts):
        return None
    return best if round(shift[0] / cell) == best.cells else None


def _decided(best: ShiftTrial, shift: tuple[float, float, float], cell: float) -> bool:
    """Whether it gives more beyond chance, or the measured shift lies nearest to it, whatever it gives."""
    bounds = [bound / cell for bound in shift[1:] if math.isfinite(bound)]
    return best.low > 0 or (len(bounds) == 2 and all(round(bound) == best.cells for bound in bounds))


def _shift_findings(
    shifts: Sequence[ShiftTrial], shift: tuple[float, float, float], used: int, cell: float, judge: Judge
) -> list[Finding]:
    """Another whole cell is nearer to the shift that the maps need, and gives more."""
    best = _wanted(shifts, shift, cell)
    if best is None or best.cells == used or not _decided(best, shift, cell):
        return []
    wanted = best.cells
    now = next(t for t in shifts if t.used)
    fix = (
        "Move mirrored heatmaps one cell to the right (mmpose: test_cfg shift_heatmap=True)."
        if wanted == 1
        else "Do not move mirrored heatmaps before averaging (mmpose: test_cfg shift_heatmap=False)."
        if wanted == 0
        else f"Move mirrored maps by {wanted} cells before averaging."
    )
    return [
        Finding(
            "flip shift",
            f"mirrored maps must move {signed_text(shift[0], '+.2f')} input pixels "
            f"{ends_text(*shift[1:], '+.2f')} and "
            f"it moves them {now.pixels:+g}: {judge.measure} {now.value:.3f}, {best.value:.3f} with "
            f"{best.cells:+d} cells",
            fix,
            (Measurement("shift that the maps need", shift[0], "input pixels", now.pixels, judge.protocol),),
            Effect(judge.measure, best.delta, best.low, best.high, judge.protocol),
            refuted_by="a flip test on other labelled images that is not better with this shift",
            severity="warning",
            confidence="proved" if best.low > 0 else "measured",
        )
    ]


def _affine_findings(
    model: PoseModel, off: tuple[float, float, float], cell: float, judge: Judge
) -> list[Finding]:
    """Keypoints of the plain and the mirrored input differ as UDP and the plain affine do."""
    if model.codec is None or model.codec.kind != "heatmap" or not math.isfinite(off[0] + off[1]):
        return []
    # See the derivation in tests/evaluation/probes/test_flip.py: (cell - 1) input pixels either way.
    expected = (cell - 1) * (1 if model.codec.udp else -1)
    low, high = sorted((0.6 * expected, 1.4 * expected))
    if not (low < off[1] and off[2] < high):
        return []
    trained, read = ("plain affine", "UDP") if model.codec.udp else ("UDP", "plain affine")
    return [
        Finding(
            "UDP against plain affine",
            f"keypoints of the plain and the mirrored input differ by {signed_text(off[0], '+.2f')} "
            f"input pixels in x "
            f"{ends_text(off[1], off[2], '+.2f')}, as for a network trained with {trained} and read with "
            f"{read} ({signed_text(expected, '+.2f')})",
            f"Read the outputs with {trained}: the codec says udp={model.codec.udp}.",
            (Measurement("difference in x", off[0], "input pixels", 0.0, judge.protocol),),
            refuted_by="outputs read with the other affine that differ as much",
            severity="warning",
            confidence="measured",
        )
    ]
