"""Causes in the weights: not finite, zero, never learned, scaled, averages exchanged."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.checkpoints.state_dicts import is_statistic
from workbench.core import NotAvailable
from workbench.core.finding import Effect, Finding, Measurement
from workbench.core.report import counted, signed_text
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.checkpoints.checkpoint import Checkpoint
    from workbench.checkpoints.difference import TensorChange
    from workbench.evaluation import Interval

# The largest number of half precision.
HALF = 65504.0
# Units of a layer: a share of all-zero ones from which something is said; pretrained networks have a few.
DEAD_SHARE, LEAST_UNITS = 0.1, 8
# A part is scaled where its factor between two epochs is this far from that of the other parts, and farther
# than what its direction changed: between epochs of healthy runs factors of .95 to 1.3 were measured.
SCALED, BEYOND_CHANGE = 1.45, 2.5
# Numbers from which on a part has a direction: one learned number is always a multiple of itself.
LEAST_WEIGHTS = 8
# AP by which an average must be worse than the weights that it follows.
LAGS = 0.02
# What a case remembers where its model is made of raw weights, and the average beside them is better.
RAW_IN_PLACE = "raw weights in place of their average"
# A part whose direction changed by this many times its size has nothing in common with the earlier one.
UNRELATED = 3.0
# Share of a matrix that is 0, all-zero units aside, from which it was pruned; trained ones have none.
PRUNED = 0.1
# Numbers of a matrix of which a share is said.
LEAST_NUMBERS = 512
# Numbers of a matrix that are enough to say how many different ones it holds; values that 8 bits hold.
MOST_NUMBERS, MOST_LEVELS = 1 << 16, 256
# Earlier epochs of which every tensor is read.
MOST_EPOCHS = 6
# A group of two name levels with more than this share of the weights is taken apart one level deeper.
LARGE_GROUP = 0.5


class NotFinite(Cause):
    """nan or infinite weights; in half precision infinities are overflows."""

    name, group, needs = "weights that are not finite", "file", ("checkpoint",)
    refuted_by = "the named tensors read with finite numbers by another program"

    def test(self, case: Case) -> Answer:
        checkpoint = case.checkpoint()
        bad, total, half = _not_finite(case, checkpoint)
        if not bad:
            return RuledOut(f"all numbers of {counted(total, 'tensor')} are finite")
        first, number = next(iter(bad.items()))
        evidence = (
            f"{len(bad)} of {counted(total, 'tensor')} hold nan or infinities, {first} {number} of them"
        )
        healthy = next((c for c in reversed(case.earlier()) if not _not_finite(case, c)[0]), None)
        if healthy is not None:
            evidence += f"; {healthy.path.name} is finite"
        fix = (
            "train again from the last finite epoch with a smaller rate, gradient clipping or without "
            "half precision"
        )
        if half:
            evidence += f"; they are stored in half precision, which ends at {HALF:g}"
            fix = "store and run these weights in float32 or bfloat16, or clip them before the conversion"
        return self.found(
            evidence, fix=fix, numbers=(Measurement("tensors not finite", len(bad), expected=0),)
        )


def _not_finite(case: Case, checkpoint: Checkpoint) -> tuple[dict[str, int], int, bool]:
    """Tensor -> numbers that are not finite; how many tensors were read; whether all bad ones are float16."""
    bad, total, half = {}, 0, []
    for name, info in checkpoint.tensors.items():
        if not info.is_floating or name in checkpoint.unread:
            continue
        case.step()
        total += 1
        values = checkpoint.read(name)
        count = int((~values.isfinite()).sum())
        if count:
            bad[name] = count
            half.append(info.dtype == "float16")
    return bad, total, bool(half) and all(half)


class DeadLayers(Cause):
    """Layers whose weights are all zero, so that they pass nothing on."""

    name, group, needs = "layers with all weights zero", "file", ("checkpoint",)
    refuted_by = "the same tensors with other numbers in the file that was trained"

    def test(self, case: Case) -> Answer:
        checkpoint = case.checkpoint()
        found, total = [], 0
        for name, info in checkpoint.tensors.items():
            if not info.is_floating or len(info.shape) < 2 or name in checkpoint.unread or info.numel < 16:
                continue
            case.step()
            total += 1
            if not bool(checkpoint.read(name).any()):
                found.append(name)
        if not found:
            return RuledOut(f"none of {total} weight matrices is zero")
        early = {
            name for c in case.earlier()[:1] for name in found if name in c.tensors and not c.read(name).any()
        }
        fix = "load the part that was left out, or look for what sets these weights to zero"
        if early:
            fix = "look at how these layers are initialised, and whether a gradient reaches them"
        return self.found(
            f"{len(found)} of {total} weight matrices are all zero: {', '.join(found[:3])}",
            fix=fix,
            severity="warning" if early else "error",
        )


class NeverLearned(Cause):
    """Weights that are as an initialiser leaves them, or those of an earlier epoch while others moved."""

    name, group, needs = "layers that never learned", "file", ("checkpoint",)
    refuted_by = "another pair of epochs between which these layers differ"
    symptom_of = ("support not read", "untrained refiner", "neck skipped in predict")

    def test(self, case: Case) -> Answer:
        if not case.earlier():
            return self._as_started(case)
        answer = self._of_earlier(case)
        if isinstance(answer, RuledOut) and isinstance(found := self._as_started(case), Finding):
            return found
        return answer

    def _as_started(self, case: Case) -> Answer:
        from workbench.diagnosis.initial_weights import untouched, used

        checkpoint, found = case.checkpoint(), untouched(case.checkpoint())
        matrices = [n for n, info in checkpoint.tensors.items() if len(info.shape) > 1 and info.is_floating]
        frozen = _declared_frozen(case)
        parts: dict[str, list[str]] = defaultdict(list)
        for name in found:
            if not any(name.startswith(head) for head in frozen):
                parts[_part(name)].append(name)
        if not parts:
            return RuledOut(f"none of {len(matrices)} weight matrices is as an initialiser leaves it")
        wrong, asked = list(parts), False
        if case.reaches("forward"):
            with suppress(NotAvailable):
                wrong, asked = used(case, parts), True
        if not wrong:
            return RuledOut(f"{', '.join(parts)} are as they started, and poses do not depend on them")
        names = [name for part in wrong for name in parts[part]]
        evidence = (
            f"{counted(len(names), 'weight')} of {', '.join(wrong[:4])}{' ...' if len(wrong) > 4 else ''} "
            f"are exactly as an initialiser leaves them ({names[0]}: {found[names[0]]})"
        )
        return self.found(
            f"{evidence}, and poses depend on them"
            if asked
            else f"{evidence}; whether they are used takes data",
            fix="load these layers from the file that was trained, or check that the optimizer gets them and "
            "that a gradient reaches them",
            numbers=(Measurement("weights as they started", len(names), expected=0.0),),
            severity="error" if asked else "remark",
        )

    def _of_earlier(self, case: Case) -> Answer:
        from workbench.checkpoints.difference import compare_checkpoints

        own, before = case.checkpoint(), case.earlier()[0]
        found = compare_checkpoints(before, own)
        weights = [
            change
            for change in found.tensors
            if not is_buffer(change.name) and own.tensors[change.name].is_floating
        ]
        weights = _without_constants(case, weights)
        # Weights that moved in between and came back are those of that epoch, which is another cause.
        back = moved_back(case)
        still = [c.name for c in weights if c.equal and not any(is_of(c.name, part) for part in back)]
        if not still or not weights:
            return RuledOut(f"every weight of {len(weights)} differs from {before.path.name}")
        parts = sorted({_part(name) for name in still})
        frozen = _declared_frozen(case)
        if frozen and all(any(part.startswith(head) for head in frozen) for part in parts):
            return RuledOut(f"{', '.join(parts)} did not change, as the config says (frozen)")
        if len(still) == len(weights):
            evidence = (
                f"not one of {counted(len(weights), 'weight')} differs between {before.path.name} and "
                f"{own.path.name}"
            )
            fix = (
                "check that the optimizer gets the model's parameters, and that the checkpoint is "
                "written after training"
            )
            return self.found(evidence, fix=fix)
        share = len(still) / len(weights)
        moved = {_part(change.name) for change in weights if not change.equal}
        parts = sorted({".".join(n.split(".")[: 3 if _part(n) in moved else 2]) for n in still})
        evidence = (
            f"{len(still)} of {len(weights)} weight tensors are identical to those of {before.path.name} "
            f"({', '.join(parts[:4])}{' ...' if len(parts) > 4 else ''}); all others changed"
        )
        return self.found(
            evidence,
            fix="check requires_grad, frozen_stages, the optimizer's parameter groups, and whether the "
            "forward pass uses these layers (out_indices): they get no update",
            numbers=(Measurement("share of weights unchanged", share, expected=0.0),),
            severity="error" if share >= 0.1 else "warning",
        )


def _without_constants(case: Case, weights: list[TensorChange]) -> list[TensorChange]:
    """The tensors without those that the code of the model registers as buffers: constants."""
    if case.options.adapter is None or not case.reaches("forward") or all(not c.equal for c in weights):
        return weights
    with suppress(NotAvailable):
        module = case.model().module
        constants = {name for name, _ in module.named_buffers()} - {n for n, _ in module.named_parameters()}
        return [c for c in weights if not (c.equal and c.name in constants)]
    return weights


def is_buffer(name: str) -> bool:
    """Whether a tensor is a running statistic or a counter, which no optimizer changes."""
    return is_statistic(name) or name.endswith("num_batches_tracked")


def _part(name: str) -> str:
    return ".".join(name.split(".")[:2])


def _declared_frozen(case: Case) -> list[str]:
    """Beginnings of the names of layers that the config freezes on purpose."""
    try:
        backbone = case.config().get("model", {}).get("backbone", {})
    except (NotAvailable, AttributeError):
        return []
    stages = backbone.get("frozen_stages", -1) if isinstance(backbone, dict) else -1
    if not isinstance(stages, int) or stages < 0:
        return []
    return ["backbone.stem", "backbone.conv1", "backbone.bn1", "backbone.patch_embed", "backbone.pos_embed",
            *(f"backbone.{kind}{n}" for kind in ("stage", "layer") for n in range(1, stages + 1)),
            "backbone.layers"]  # fmt: skip


class DeadUnits(Cause):
    """Units (output channels) of a layer whose weights are all zero, beside others that are not."""

    name, group, needs = "units with all weights zero", "file", ("checkpoint",)
    refuted_by = "a pruned network, whose zeros are meant"
    symptom_of = ("layers with all weights zero",)

    def test(self, case: Case) -> Answer:
        checkpoint = case.checkpoint()
        found: dict[str, tuple[int, int]] = {}
        outputs: dict[str, list[int]] = {}
        total = pruned = 0
        for name, info in checkpoint.tensors.items():
            units = next(iter(info.shape), 0)
            # A scale of 0 in the batch normalisation is a dead unit too; float16 rounds small ones to 0.
            scale = name.removesuffix("weight") + "running_mean" in checkpoint.tensors
            several = (len(info.shape) >= 2 or (scale and info.dtype != "float16")) and units >= LEAST_UNITS
            if not info.is_floating or not several or name in checkpoint.unread:
                continue
            case.step()
            total += 1
            values = checkpoint.read(name)
            pruned += scattered_zeros(values) >= PRUNED
            zero = (~values.reshape(units, -1).any(1)).nonzero().flatten().tolist()
            dead = len(zero)
            # A layer that is zero as a whole is another cause.
            if 0 < dead < units and _is_output(name, units, checkpoint):
                outputs[name] = zero
            elif DEAD_SHARE * units <= dead < units:
                found[name] = dead, units
        if pruned:
            return RuledOut(
                f"{pruned} of {counted(total, 'layer')} hold zeros all over, as pruning leaves them, units "
                "as a whole among them"
            )
        if outputs:
            return self._outputs(outputs, checkpoint)
        if not found:
            return RuledOut(f"in none of {counted(total, 'layer')} a tenth of the units is zero")
        name, (dead, units) = max(found.items(), key=lambda item: item[1][0] / item[1][1])
        share = Measurement(f"share of zero units in {name}", dead / units, expected=0.0)
        return self.found(
            f"{dead} of {counted(units, 'unit')} of {name} have all weights zero"
            + (f", and units of {len(found) - 1} other layers" if len(found) > 1 else ""),
            fix="take these units from an earlier checkpoint; look for a copy of weights that left them out, "
            "a mask that stayed, or a rate that killed them",
            numbers=(share,),
        )

    def _outputs(self, outputs: dict[str, list[int]], checkpoint: Checkpoint) -> Finding:
        """Rows of an output layer: one is enough, because it is a keypoint."""
        name, rows = next(iter(outputs.items()))
        units, listed = checkpoint.tensors[name].shape[0], ", ".join(map(str, rows[:5]))
        more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
        have, what = ("has", "keypoint") if len(rows) == 1 else ("have", "keypoints")
        share = Measurement(f"share of zero units in {name}", len(rows) / units, expected=0.0)
        return self.found(
            f"{len(rows)} of {counted(units, 'row')} of the output layer {name} {have} all weights zero: "
            f"{what} {listed}{more} (counted from 0) cannot be found",
            fix="take these rows from an earlier checkpoint; look for a copy of weights that left them out, "
            "or for a keypoint that no training image has",
            numbers=(share,),
        )


def scattered_zeros(values: Tensor) -> float:
    """Share of a matrix that is 0, units that are 0 as a whole left out; 0 for what is too small to say.

    Args:
        values: weights, the first axis of which are units.
    """
    if values.ndim < 2 or values.numel() < LEAST_NUMBERS:
        return 0.0
    rows = values.flatten(1)
    rows = rows[rows.any(1)]
    share = float((rows == 0).float().mean()) if len(rows) else 0.0
    # Quantised weights, of which 0 is one of few values, are a cause of their own.
    return share if share and len(rows.flatten()[:MOST_NUMBERS].unique()) > MOST_LEVELS else 0.0


def _is_output(name: str, units: int, checkpoint: Checkpoint) -> bool:
    """Whether the rows of a layer are keypoints: the last layer of a head, with as many rows."""
    return "final_layer" in name and units == checkpoint.identity.keypoints


class StatisticsNotUpdated(Cause):
    """Running statistics that are those of an earlier epoch, while the weights moved."""

    name, group, needs = "batch-norm statistics not updated", "training", ("checkpoint", "an earlier epoch")
    refuted_by = "another pair of epochs between which the statistics differ"

    def test(self, case: Case) -> Answer:
        own, earlier = case.checkpoint(), case.earlier()
        names = [name for name in own.tensors if name.endswith(("running_mean", "running_var"))]
        if not names:
            raise NotAvailable("the network has no batch normalisation")
        if not earlier:
            raise NotAvailable("no earlier epoch lies beside the checkpoint to compare statistics with")
        before = earlier[0]
        back = moved_back(case)
        names = [n for n in names if n in before.tensors and not any(is_of(n, part) for part in back)]
        still = [name for name in names if bool((own.read(name) == before.read(name)).all())]
        if not still:
            return RuledOut(f"all {len(names)} statistics differ from {before.path.name}")
        weights = [n for n, info in own.tensors.items() if info.is_floating and not is_buffer(n)]
        moved = [n for n in weights if n in before.tensors and not own.read(n).equal(before.read(n))]
        if not moved:
            return RuledOut(f"neither statistics nor weights differ from {before.path.name}")
        if _norm_eval(case):
            return RuledOut("the statistics stand still, as the config says (norm_eval=True)")
        return self.found(
            f"{len(still)} of {len(names)} running means and variances are identical to those of "
            f"{before.path.name}, while {len(moved)} of {counted(len(weights), 'weight')} moved",
            fix="put the network into training mode (model.train()) before every epoch, also after a "
            "validation; or estimate the statistics on training images",
            numbers=(Measurement("share of statistics unchanged", len(still) / len(names), expected=0.0),),
            severity="error" if len(still) > len(names) / 2 else "warning",
        )


def _norm_eval(case: Case) -> bool:
    try:
        backbone = case.config().get("model", {}).get("backbone", {})
    except (NotAvailable, AttributeError):
        return False
    return bool(backbone.get("norm_eval", False)) if isinstance(backbone, dict) else False


@dataclass(frozen=True)
class PartChange:
    """How the weights of one part of a network differ between two checkpoints.

    Attributes:
        part: beginning of the names of its tensors.
        scale: factor that fits best, least squares: own = scale * before + rest.
        rest: what is left, relative to scale * before.
        weights: their number.
    """

    part: str
    scale: float
    rest: float
    weights: int


def changed_parts(case: Case, own: Checkpoint, before: Checkpoint) -> tuple[PartChange, ...]:
    """Parts that both checkpoints have, with how each changed; buffers are left out.

    Args:
        case: stepped before each tensor is read.
        own: the later one.
        before: the earlier one, or another run.
    """
    names = [
        name
        for name, info in own.tensors.items()
        if info.is_floating and not is_buffer(name) and name not in own.unread
        and name in before.tensors and before.tensors[name].shape == info.shape
    ]  # fmt: skip
    products: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(3))
    sizes: dict[str, int] = defaultdict(int)
    for name, part in zip(names, parts_of(names, [own.tensors[n].numel for n in names]), strict=True):
        case.step()
        a, b = own.read(name).double().ravel(), before.read(name).double().ravel()
        products[part] += [float(a @ a), float(a @ b), float(b @ b)]
        sizes[part] += a.numel()
    found = []
    for part, (aa, ab, bb) in products.items():
        scale = ab / bb if bb else math.nan
        rest = math.sqrt(max(aa - scale * ab, 0.0)) / math.sqrt(scale**2 * bb) if bb and scale else math.nan
        found.append(PartChange(part, scale, rest, sizes[part]))
    return tuple(found)


def parts_of(names: Sequence[str], sizes: Sequence[int]) -> list[str]:
    """The part of each tensor: two levels of its name, three within a group that holds most weights."""
    counts: dict[str, int] = defaultdict(int)
    for name, size in zip(names, sizes, strict=True):
        counts[_part(name)] += size
    most = LARGE_GROUP * sum(counts.values())
    return [".".join(n.split(".")[: 3 if counts[_part(n)] > most else 2]) for n in names]


def is_of(name: str, part: str) -> bool:
    """Whether a tensor, or a part, belongs to a part."""
    return name == part or name.startswith(part + ".")


def some_epochs(case: Case) -> list[Checkpoint]:
    """Earlier epochs that are compared tensor by tensor: the first one and the last ones, each is read."""
    earlier = case.earlier()
    return earlier if len(earlier) <= MOST_EPOCHS else [earlier[0], *earlier[1 - MOST_EPOCHS :]]


def epochs_of_parts(case: Case) -> dict[str, list[int]]:
    """Part of the checkpoint's weights -> places in `some_epochs` of those whose weights it has."""

    def compared() -> dict[str, list[int]]:
        own, earlier = case.checkpoint(), some_epochs(case)
        names = [
            name
            for name, info in own.tensors.items()
            if info.is_floating and not is_buffer(name) and name not in own.unread
            and all(name in one.tensors and one.tensors[name].shape == info.shape for one in earlier)
        ]  # fmt: skip
        found: dict[str, list[int]] = {}
        for name, part in zip(names, parts_of(names, [own.tensors[n].numel for n in names]), strict=True):
            case.step()
            values = own.read(name)
            # A part is that of an epoch only as a whole.
            left = found.get(part, range(len(earlier)))
            found[part] = [i for i in left if bool((earlier[i].read(name) == values).all())]
        return found

    return case.once("epochs of parts", compared)


def moved_back(case: Case) -> dict[str, list[int]]:
    """Parts that are those of an earlier epoch although they moved between epochs; as `epochs_of_parts`."""
    equal = epochs_of_parts(case)
    moved = {part: at for part, at in equal.items() if at and len(at) < len(some_epochs(case))}
    return moved if len(moved) < len(equal) else {}


def scaled_parts(parts: Sequence[PartChange]) -> list[tuple[PartChange, float]]:
    """Parts that were multiplied by a factor which the others do not have, and that factor.

    Parts that have nothing in common with the earlier ones, as of another run, tell no usual factor.
    """
    known = [one for one in parts if one.scale > 0 and one.rest < UNRELATED and one.weights >= LEAST_WEIGHTS]
    if len(known) < 3:
        return []
    usual = float(np.median([math.log(one.scale) for one in known]))
    found = []
    for one in known:
        away = math.log(one.scale) - usual
        if abs(away) > max(math.log(SCALED), BEYOND_CHANGE * one.rest):
            found.append((one, math.exp(away)))
    return found


class AveragesExchanged(Cause):
    """The set of weights called averaged (EMA) is the raw one, or the other way round."""

    name, group, needs = "raw and averaged weights exchanged", "file", ("checkpoint with both sets",)

    def test(self, case: Case) -> Answer:
        checkpoint, earlier = case.checkpoint(), case.earlier()
        from workbench.inspectors.conditioning.weights import averaged_and_raw, gain_of_average

        two = [earlier[0], *earlier[-1:]] if len(earlier) > 1 else earlier
        seen = averaged_and_raw(checkpoint, two)
        if seen is None:
            raise NotAvailable("the checkpoint does not hold both averaged and raw weights")
        effect = None
        if seen.differ and case.reaches("forward"):
            try:
                interval = gain_of_average(case.loaded(), case.pose_set(), case.chosen())
                seen = dataclasses.replace(seen, gain=interval)
                low, high = sorted((-interval.low, -interval.high))
                effect = Effect(
                    "AP", -interval.delta, low, high, (f"{counted(len(case.chosen()), 'instance')}, no flip")
                )
            except NotAvailable:
                pass
        finding = seen.finding()
        if finding is None:
            if seen.undecided:
                raise NotAvailable(seen.undecided)
            if seen.gain is not None and checkpoint.averages.main == "raw" and seen.gain.low > LAGS:
                case.once(RAW_IN_PLACE, lambda: True)
                return self._raw_in_place(seen.text, seen.gain, len(case.chosen()))
            if effect is None or effect.low <= LAGS:
                return RuledOut(f"{seen.text}; names and numbers agree")
            return Finding(
                "averaged weights lag behind the trained ones",
                f"{seen.text}; the averaged set is worse than the raw one ({signed_text(-effect.delta)} AP)",
                "use the raw weights, and look whether the average is updated at every step and how fast",
                effect=effect,
                confidence="proved",
                refuted_by="other labelled images on which the averaged set is the better one",
            )
        proved = effect is not None and effect.low > 0
        return dataclasses.replace(
            finding, cause=self.name, effect=effect, confidence="proved" if proved else finding.confidence
        )

    def _raw_in_place(self, text: str, gain: Interval, instances: int) -> Finding:
        """The file's main weights are the raw ones, and the average beside them is the better set."""
        return self.found(
            f"{text}; the model is made of the raw set, and the averaged one beside it gives AP {gain}",
            fix="use the averaged weights of the file, or save this set as the model; a training that "
            "evaluates the average reports figures that the raw set does not reach",
            effect=Effect(
                "AP", gain.delta, gain.low, gain.high, (f"{counted(instances, 'instance')}, no flip")
            ),
            confidence="proved",
            refuted_by="other labelled images on which the raw set is as good as the average",
        )


CAUSES: tuple[Cause, ...] = (
    NotFinite(),
    DeadLayers(),
    DeadUnits(),
    NeverLearned(),
    StatisticsNotUpdated(),
    AveragesExchanged(),
)
