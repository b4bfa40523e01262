"""What do training curves show? Rules with their numbers; each gives a Finding with place and evidence.

Thresholds are of figures between 0 and 1; figures in percent are scaled. All rules look at what was logged
and at nothing else: a flag says what is seen, and only its fix says what may be behind it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from workbench.core.finding import Finding, Measurement
from workbench.core.report import counted, signed_text
from workbench.curves.mistakes import STANDS_STILL, begun_again, in_order, not_falling, stands_still
from workbench.curves.pasted import comparable
from workbench.curves.quantities import is_coco, role_of, scale_of, short
from workbench.curves.schedule import ended_early, rate_steps, restarted, steps, warm_up, warm_up_end
from workbench.curves.table import Curves, Series, times

# A change below this is noise of the last digits.
NOTHING = 0.002
# A best result this far above the last one is worth another checkpoint.
BETTER = 0.005
# AP that moves this far, and so many times as far as AR, changes alone: the order of the poses is suspect.
MUCH, ALONE_BY = 0.02, 3.0
OPPOSITE, ALONE, SAME = "opposite directions", "AP alone", "the same direction"

BEST_NOT_LAST = "best is not last"
LOSS_WITHOUT_METRIC = "loss falls while the metric does not"
LATE_START = "late start"
JUMP = "sudden jump"
PLATEAU = "plateau"
AGAINST = "AP and AR go opposite ways"
BEST_BELOW = "stated best is below another value"
COARSE = "metric moves in coarse steps"
NOT_FINITE = "not finite"
GAP = "validation loss far above training loss"

# A jump is so many times the median change of its four neighbours and the largest of them, and at least MUCH;
# of MANY evaluations also so many times as large as nine in ten of all changes.
JUMP_BY, JUMP_BY_LARGEST, MANY = 4.0, 2.0, 20
SHOWN = 4  # jumps that are named
# Part of the run that lies behind the best value before "loss falls while the metric does not" is asked.
BEHIND = 0.15
LOSS_FALL = 0.2
# Two losses of single batches differ by less than this many times their scatter by chance.
BY_CHANCE = 3.0
# A metric that loses so much of its best value is asked too where the loss falls by less.
LOST = 0.25
# A metric below LOW in all evaluations says that nothing was learned, where the loss falls by FELL_BY_FAR.
LOW, FELL_BY_FAR = 0.3, 0.5
# First figures below this part of the best one are a late start, where the best is above HIGH.
LATE, HIGH = 0.05, 0.1
# Nobody expects anything before.
EARLY = {"epoch": 3, "iteration": 100}
PLATEAU_PART, PLATEAU_COUNT = 0.3, 5
# Largest denominator that is called coarse: one keypoint of so many.
COARSEST = 20
GAP_BY = 3.0


def with_flags(curves: Curves) -> Curves:
    """The curves with what they show."""
    return replace(curves, flags=tuple(flags_of(curves)))


def flags_of(curves: Curves) -> list[Finding]:
    """What one run shows, in the order in which a person should read it."""
    judged = curves.headline
    found = [*_not_finite(curves), *not_falling(curves), *restarted(curves), *begun_again(curves)]
    found += stands_still(curves)
    # What is evaluated is not what is trained: the figures say nothing more.
    still = any(flag.cause == STANDS_STILL for flag in found)
    against = _against(curves)
    if judged is not None and not still and against and _explains(against[0], judged):
        found += against
        against = []
    if judged is not None and len(judged.by_epoch()[0]) > 1 and not still:
        found += [
            *_best_not_last(judged),
            *_loss_without_metric(curves, judged),
            *_late_start(curves, judged),
            *_jumps(curves, judged),
            *_plateau(judged),
        ]
    if judged is not None:
        found += [*_coarse(judged)]
    found += [*against, *_best_below(curves), *warm_up(curves), *_gap(curves), *rate_steps(curves)]
    return [*found, *ended_early(curves), *in_order(curves)]


def _explains(against: Finding, judged: Series) -> bool:
    """Whether AP lost, in one step in which AR rose, at least half of what it lies below its best value."""
    value = _judged(judged)[1]
    return short(judged.name) == "AP" and -against.numbers[0].value >= (value.max() - value[-1]) / 2 > 0


def _judged(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """Places and values between 0 and 1, the higher the better."""
    x, value = series.by_epoch()
    if role_of(series.name) == "error":
        return x, -value / max(float(np.max(np.abs(value))), 1e-12)
    return x, value / scale_of(value)


def _at(series: Series, place: float) -> str:
    return f"{series.unit} {place:g}"


def _best_not_last(series: Series) -> list[Finding]:
    x, value = _judged(series)
    raw = series.by_epoch()[1]
    best = int(value.argmax())
    # The spread of neighbouring evaluations: of many the best stands high by luck alone.
    spread = float(np.median(np.abs(np.diff(value[len(value) // 2 :])))) if len(x) >= MANY else 0.0
    if value[best] - value[-1] <= max(BETTER, 2 * spread):
        return []
    name = short(series.name)
    return [
        Finding(
            BEST_NOT_LAST,
            f"{name} is {raw[best]:.4g} at {_at(series, x[best])} and {raw[-1]:.4g} at the last evaluation "
            f"({_at(series, x[-1])})",
            "use the best checkpoint, chosen on data other than the final test; see what changed after it",
            (Measurement(f"best {name}", float(raw[best])), Measurement(f"last {name}", float(raw[-1]))),
            severity="warning" if value[best] - value[-1] > MUCH else "remark",
            where=_at(series, x[best]),
            refuted_by="an interval around 0 when both checkpoints are compared (workbench compare)",
        )
    ]


def _loss_without_metric(curves: Curves, judged: Series) -> list[Finding]:
    loss = None if curves.loss is None else curves.loss.in_epochs_of(judged)
    if loss is None or loss.unit != judged.unit:
        return []
    if never := _never_rises(loss, judged):
        return never
    x, value = _judged(judged)
    lx, lv = loss.by_epoch()
    value = _without_spikes(value)  # one evaluation alone says nothing of those behind it
    best = int(value.argmax())
    behind = (x[-1] - x[best]) / max(x[-1] - x[0], 1e-12)
    if best == len(x) - 1 or behind < BEHIND or lx[-1] < x[best] or lx[0] > x[best]:
        return []
    before = float(np.interp(x[best], lx, lv))
    fall = (before - float(lv[-1])) / max(abs(before), 1e-12)
    raw = judged.by_epoch()[1]
    # The last evaluations together: one alone may be low by chance.
    late = value[-max(1, len(value) // 10) :].max()
    lost = fall > 0 and value[best] > 0 and value[best] - late > LOST * value[best]
    noise = BY_CHANCE * _scatter(lv) / max(abs(before), 1e-12)
    if (fall < max(LOSS_FALL, noise) and not lost) or value[-1] - value[best] > 0:
        return []
    name = short(judged.name)
    return [
        Finding(
            LOSS_WITHOUT_METRIC,
            f"from {_at(judged, x[best])} to {x[-1]:g} the training loss falls from {before:.3g} to "
            f"{lv[-1]:.3g} (-{fall:.0%}), {name} goes from {raw[best]:.4g} to {raw[-1]:.4g}",
            "see whether validation does what training does (teacher forcing, neck, pre-processing), then "
            "look for overfitting",
            (Measurement("fall of the loss", fall, "share"),
             Measurement(f"change of {name}", float(raw[-1] - raw[best]))),
            severity="warning",
            confidence="measured",
            where=f"{judged.unit} {x[best]:g} to {x[-1]:g}",
            refuted_by="another measure of the validation set (mean OKS, pixel error) that improves there",
        )
    ]  # fmt: skip


def _without_spikes(value: np.ndarray) -> np.ndarray:
    """Values, of which one far above both its neighbours is as high as the higher of these."""
    if len(value) < 5:
        return value
    beside = np.maximum(value[:-2], value[2:])
    far = max(MUCH, JUMP_BY * float(np.median(np.abs(np.diff(value)))))
    inner = np.where(value[1:-1] - beside > far, beside, value[1:-1])
    return np.r_[value[0], inner, value[-1]]


def _never_rises(loss: Series, judged: Series) -> list[Finding]:
    """A metric that is low and stays so from the first evaluation on, while the loss falls by far."""
    if role_of(judged.name) != "metric":
        return []
    x, value = _judged(judged)
    lv = loss.by_epoch()[1]
    third = len(value) // 3
    if third < 2 or value.max() >= LOW or len(lv) < 2:
        return []
    rise = float(np.median(value[-third:]) - np.median(value[:third]))
    fall = float(lv[0] - lv[-1]) / abs(float(lv[0])) if lv[0] else 0.0
    if rise >= MUCH or fall < FELL_BY_FAR:
        return []
    name, raw = short(judged.name), judged.by_epoch()[1]
    return [
        Finding(
            LOSS_WITHOUT_METRIC,
            f"the training loss falls from {lv[0]:.3g} to {lv[-1]:.3g} (-{fall:.0%}), {name} stays between "
            f"{raw.min():.4g} and {raw.max():.4g} in all {len(x)} evaluations",
            "see whether validation does what training does: decoder, codec, pre-processing, keypoint order, "
            "the weights that are evaluated (workbench diagnose with the checkpoint tests these)",
            (Measurement("fall of the loss", fall, "share"), Measurement(f"change of {name}", rise)),
            severity="warning",
            confidence="measured",
            where=f"{judged.unit} {x[0]:g} to {x[-1]:g}",
            refuted_by="a metric on the training images that rises as the loss falls",
        )
    ]


def _scatter(values: np.ndarray) -> float:
    """Median distance of neighbouring values in the second half, less what they fall on the whole."""
    change = np.diff(values[len(values) // 2 :])
    return float(np.median(np.abs(change - np.median(change)))) if len(change) else 0.0


def _late_start(curves: Curves, series: Series) -> list[Finding]:
    if role_of(series.name) != "metric":
        return []
    x, value = _judged(series)
    low = value < LATE * value.max()
    if value.max() < HIGH or not low[0] or low.all():
        return []
    first = int(np.flatnonzero(~low)[0])
    soon = EARLY[series.unit]
    if not low[:first].all() or x[first - 1] < soon:
        return []
    name = short(series.name)
    raw = series.by_epoch()[1]
    warm = warm_up_end(curves)
    rising = (
        f"; the learning rate rises until {warm[0]} {warm[1]:g}"
        if warm is not None and warm[0] == series.unit and warm[1] >= x[0]
        else ""
    )
    return [
        Finding(
            LATE_START,
            f"{name} is {raw[first - 1]:.4g} until {_at(series, x[first - 1])} and {raw[first]:.4g} at "
            f"{_at(series, x[first])}{rising}",
            "no evidence against the network by itself: compare the length of warm-up (and the EMA's) in "
            "iterations with the iterations per epoch, and compare runs from the first epoch after it",
            (Measurement(f"first {name}", float(raw[0])), Measurement("evaluations before the start", first)),
            severity="remark",
            where=_at(series, x[0]) + (f" to {x[first - 1]:g}" if first > 1 else ""),
            refuted_by="checkpoints of these epochs that are better when they are evaluated again",
        )
    ]


def _jumps(curves: Curves, series: Series) -> list[Finding]:
    x, value = _judged(series)
    raw = series.by_epoch()[1]
    if len(x) < 5:
        return []
    change, span = np.diff(value), np.diff(x)
    rate = np.abs(change) / np.maximum(span, 1e-12)
    step = _denominator(value)
    usual = float(np.quantile(rate, 0.9)) if len(x) >= MANY else 0.0
    falls = [one for one in steps(curves, curves.headline) if one[0] == series.unit]
    found: dict[int, int] = {}  # first change -> last change: the next one where it takes the first one back
    last = -1
    # A log of single batches has 500,000 changes: most are too small to ask what stands around them.
    for i in np.flatnonzero((np.abs(change) >= MUCH) & (rate >= JUMP_BY_LARGEST * usual)).tolist():
        if i == last:
            continue
        single = _jumps_off(rate[i : i + 1], change[i : i + 1], rate[:i], rate[i + 1 :], usual, step)
        back = i + 1 < len(change) and change[i] * change[i + 1] < 0
        if not single and not (
            back and _jumps_off(rate[i : i + 2], change[i : i + 2], rate[:i], rate[i + 2 :], usual, step)
        ):
            continue
        end = i if single else i + 1
        # A rate that steps down explains what is gained there, and nothing that is lost.
        if change[i] < 0 or not any(x[i] <= place <= x[end + 1] + 1 for _, place, _, _ in falls):
            found[i] = last = end
            if len(found) == SHOWN:
                break
    if not found:
        return []
    name = short(series.name)
    shown = ", ".join(
        f"{raw[i]:.4g} to {raw[i + 1]:.4g} at {series.unit} {x[i + 1]:g}"
        + (f" and to {raw[last + 1]:.4g} at {x[last + 1]:g}" if last > i else "")
        for i, last in found.items()
    )
    i = next(iter(found))
    return [
        Finding(
            JUMP,
            f"{name} jumps: {shown}; its neighbours change at most half as fast",
            "see what changed there: learning rate, augmentation switched off, a resume, the evaluation data",
            (Measurement(f"change of {name}", float(raw[i + 1] - raw[i])),),
            severity="remark",
            where=", ".join(f"{series.unit} {x[i]:g} to {x[j + 1]:g}" for i, j in found.items()),
            refuted_by="the checkpoints on both sides of it, evaluated again by one protocol, do not differ",
        )
    ]


def _jumps_off(
    rate: np.ndarray, change: np.ndarray, before: np.ndarray, after: np.ndarray, usual: float, step: int
) -> bool:
    """Whether each of these changes stands out from the four around them.

    At the end of a run the neighbours are those before; at its beginning all changes are large.

    Args:
        rate: of the changes, for each unit of the place.
        change: between 0 and 1.
        before: rates before them.
        after: rates after them.
        usual: rate that nine in ten of all changes do not exceed; 0 of few evaluations.
        step: denominator of a coarse metric, where one keypoint more or less is no jump; 0 for none.
    """
    after = after[:2]
    around = np.r_[before[max(0, len(before) - 4 + len(after)) :], after]
    if len(around) < 3 or np.abs(change).min() < max(MUCH, 1.5 / step if step else 0):
        return False
    return rate.min() >= max(JUMP_BY * np.median(around), JUMP_BY_LARGEST * max(around.max(), usual))


def _plateau(series: Series) -> list[Finding]:
    x, value = _judged(series)
    if x[-1] <= x[0]:
        return []
    # As far back as nothing moves.
    back = value[::-1]
    spread = np.maximum.accumulate(back) - np.minimum.accumulate(back)
    first = len(value) - int((spread <= NOTHING).sum())
    short_of = x[-1] - x[first] < PLATEAU_PART * (x[-1] - x[0])
    if len(value) - first < PLATEAU_COUNT or short_of or value.max() < LATE:
        return []
    raw = series.by_epoch()[1]
    name = short(series.name)
    return [
        Finding(
            PLATEAU,
            f"from {_at(series, x[first])} to {x[-1]:g} {name} stays between {raw[first:].min():.4g} and "
            f"{raw[first:].max():.4g}",
            "longer training at this learning rate brings nothing; lower it, or stop earlier",
            (Measurement(f"range of {name}", float(np.ptp(raw[first:]))),),
            severity="remark",
            where=f"{series.unit} {x[first]:g} to {x[-1]:g}",
            refuted_by="a finer measure (mean OKS, pixel error) that still improves there",
        )
    ]


# AP and AR.


def parting(ap: float, ar: float) -> str:
    """How two changes compare: OPPOSITE, ALONE (AP changes far more than AR), or SAME.

    AR only asks where keypoints lie (with one pose for each annotation), AP also asks for an order of the
    poses. If one falls while the other rises, or AP falls alone, precision was not traded for recall: the
    scores changed.
    """
    if min(abs(ap), abs(ar)) > NOTHING and (ap < 0) != (ar < 0):
        return OPPOSITE
    return ALONE if abs(ap) > MUCH and abs(ap) > ALONE_BY * abs(ar) else SAME


_SCORES = (
    "look at the order of the poses: AP falls with wrong scores, AR does not; rank by oracle OKS or by the "
    "raw keypoint scores to see how much of it comes back"
)


def _against(curves: Curves) -> list[Finding]:
    ap, ar = curves.get("AP", "val") or curves.get("AP"), curves.get("AR", "val") or curves.get("AR")
    if ap is None or ar is None:
        return []
    x, p, r = common(ap, ar)
    scale = scale_of(np.r_[p, r])
    dp, dr = np.diff(p) / scale, np.diff(r) / scale
    apart = (np.minimum(np.abs(dp), np.abs(dr)) > NOTHING) & (np.sign(dp) != np.sign(dr))
    at = np.flatnonzero(apart)
    if not len(at):
        return []
    i = int(at[np.argmax(np.abs(dp[at] - dr[at]))])
    places = ", ".join(f"{x[j + 1]:g}" for j in at[:6])
    return [
        Finding(
            AGAINST,
            f"from {ap.unit} {x[i]:g} to {x[i + 1]:g} AP changes by {signed_text(dp[i])} and AR by "
            f"{signed_text(dr[i])}"
            + (f"; in all, they change in opposite directions at {ap.unit} {places}" if len(at) > 1 else ""),
            _SCORES,
            (Measurement("change of AP", float(dp[i])), Measurement("change of AR", float(dr[i]))),
            severity="warning",
            where=f"{ap.unit} {places}",
            refuted_by="AP that stays as low when poses are ranked by oracle OKS",
        )
    ]


def common(a: Series, b: Series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places at which both have a value, and the values there."""
    (ax, av), (bx, bv) = a.by_epoch(), b.by_epoch()
    x, ia, ib = np.intersect1d(ax, bx, return_indices=True)
    return x, av[ia], bv[ib]


def flags_between(run: Curves, base: Curves) -> list[Finding]:
    """What two runs of one task show side by side: AP and AR that go opposite ways, or AP alone.

    Args:
        run: in question.
        base: what it is compared with.
    """
    pair = [ap_and_ar(one) for one in (run, base)]
    if pair[0] is None or pair[1] is None:
        return []
    (ap, ar, own), (base_ap, base_ar, other) = pair[0], pair[1]
    scale = scale_of(np.array([ap, ar, base_ap, base_ar]))
    dp, dr = (ap - base_ap) / scale, (ar - base_ar) / scale
    kind = parting(dp, dr)
    if kind == SAME:
        return []
    how = own if own == other else f"{base.title} {other}, {run.title} {own}"
    return [
        Finding(
            AGAINST if kind == OPPOSITE else "AP changes alone",
            f"from {base.title} to {run.title} AP changes by {signed_text(dp)} ({base_ap:.4g} to "
            f"{ap:.4g}) and AR by "
            f"{signed_text(dr)} ({base_ar:.4g} to {ar:.4g}); {how}",
            _SCORES,
            (Measurement("change of AP", dp), Measurement("change of AR", dr)),
            refuted_by="AP that stays as low when poses are ranked by oracle OKS",
            assumption="both were evaluated by the same protocol",
            severity="warning",
            where=f"{run.title} against {base.title}",
        )
    ]


def ap_and_ar(run: Curves) -> tuple[float, float, str] | None:
    """AP and AR at the best AP, else as the text reports them; and which of the two."""
    ap, ar = run.get("AP"), run.get("AR")
    if ap is not None and ar is not None:
        x, p, r = common(ap, ar)
        if len(x):
            i = int(p.argmax())
            return float(p[i]), float(r[i]), f"at {ap.unit} {x[i]:g}"
    reported = {comparable(s.name): s.value for s in run.stated if s.kind == "reported"}
    return (reported["AP"], reported["AR"], "as reported") if {"AP", "AR"} <= reported.keys() else None


def _best_below(curves: Curves) -> list[Finding]:
    found = []
    for best in (s for s in curves.stated if s.kind == "best"):
        others = [
            (s.value, s.epoch, s.text) for s in curves.stated if s.name == best.name and s.kind == "final"
        ]
        series = curves.get(best.name)
        if series is not None:
            x, value = series.by_epoch()
            others += [(float(v), float(e), "") for e, v in zip(x, value, strict=True)]
        higher = max(others, default=(-math.inf, 0.0, ""))
        if not higher[0] > best.value + 1e-4 * scale_of(np.array([best.value])):
            continue
        where = "" if math.isnan(higher[1]) else f" at epoch {higher[1]:g}"
        own = "" if math.isnan(best.epoch) else f" at epoch {best.epoch:g}"
        found.append(
            Finding(
                BEST_BELOW,
                f"the best {best.name} is said to be {best.value:.4g}{own}, but {higher[0]:.4g} "
                f"stands{where}",
                "compare with the higher one; save_best may have looked at another figure or another start",
                (Measurement(f"stated best {best.name}", best.value), Measurement("higher", higher[0])),
                severity="warning",
                where=f"epoch {higher[1]:g}" if not math.isnan(higher[1]) else "",
                refuted_by="both checkpoints evaluated again, and the stated best is higher",
            )
        )
    return found[:1]


# Numbers that are none, coarse metrics, validation loss.


def _not_finite(curves: Curves) -> list[Finding]:
    found = []
    for series in curves.series:
        if role_of(series.name) != "loss":
            continue
        bad = np.flatnonzero(~np.isfinite(series.value))
        if len(bad):
            first = series.x[bad[0]]
            found.append(
                Finding(
                    NOT_FINITE,
                    f"{series.label} is nan or infinite {times(len(bad))}, first at {series.unit} {first:g}",
                    "lower the learning rate or clip gradients; look at the batch of this iteration",
                    (Measurement("rows", len(bad)),),
                    severity="error",
                    where=f"{series.unit} {first:g}",
                )
            )
    return found[:3]


def _denominator(value: np.ndarray) -> int:
    """Smallest n of at most COARSEST of which all values are multiples of 1/n; 0 where there is none."""
    inner = np.unique(np.round(value[(value > 0.001) & (value < 0.999)], 5))
    if len(inner) < 3:
        return 0
    # Few figures that are written with two digits are no sign of anything.
    rounded = len(value) < 8
    for n in range(2, COARSEST + 1):
        if rounded and 100 % n == 0:
            continue
        # Texts round to two digits of a percentage.
        if np.all(np.abs(inner * n - np.round(inner * n)) <= n * 6e-5):
            return n
    return 0


def _coarse(series: Series) -> list[Finding]:
    # An AP is no share of keypoints: its steps come from the digits of the log.
    if role_of(series.name) != "metric" or is_coco(series.name):
        return []
    x, value = _judged(series)
    n = _denominator(value)
    if not n or len(x) < 4:
        return []
    name = short(series.name)
    return [
        Finding(
            COARSE,
            f"all values of {name} are multiples of 1/{n}: it is measured on {counted(n, 'keypoint')} (or on "
            "a multiple that always moves together)",
            f"a change of {1 / n:.3f} is one keypoint; judge by more samples, or by a distance",
            (Measurement("step", 1 / n),),
            severity="remark",
            refuted_by="a longer log with a value between these steps",
        )
    ]


def _gap(curves: Curves) -> list[Finding]:
    """A validation loss that ends far above the training loss of the same name."""
    found = []
    for val in curves.series:
        if role_of(val.name) != "loss" or val.split != "val":
            continue
        train = curves.get(short(val.name), "train")
        train = None if train is None else train.in_epochs_of(val)
        if train is None or train.unit != val.unit or role_of(train.name) != "loss":
            continue
        tv, vv = train.by_epoch()[1], val.by_epoch()[1]
        if len(tv) < 2 or len(vv) < 2 or tv[-1] <= 0 or vv[-1] < GAP_BY * tv[-1] or vv[-1] < vv.min() * 1.05:
            continue
        x = val.by_epoch()[0]
        low = int(vv.argmin())
        found.append(
            Finding(
                GAP,
                f"{val.label} is lowest, {vv[low]:.3g}, at {val.unit} {x[low]:g} and ends at {vv[-1]:.3g}; "
                f"the training loss ends at {tv[-1]:.3g}",
                "overfitting, or validation does not do what training does: compare both on the same batch",
                (Measurement("validation", float(vv[-1])), Measurement("training", float(tv[-1]))),
                severity="warning",
                where=f"{val.unit} {x[low]:g} to {x[-1]:g}",
                refuted_by="both losses of one batch in one mode, as far apart",
            )
        )
    return found[:1]
