"""Causes in the weights that are proved by replacing some: statistics, parts of another checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from workbench.core import Conditioned, NotAvailable
from workbench.core.errors import available
from workbench.core.finding import Finding, Measurement
from workbench.core.report import counted, signed_text
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, NotTestable, RuledOut, Undone
from workbench.diagnosis.evidence import Change
from workbench.diagnosis.exchanged_tensors import (
    WithTensors,
    given_back,
    moved_tensors,
    orders_of_blocks,
    places_of_earlier,
)
from workbench.diagnosis.norm_statistics import Misfit, layer_fits, measured_statistics, misfits, norms_of
from workbench.diagnosis.people_evidence import PeopleEvidence
from workbench.diagnosis.weight_causes import (
    LEAST_NUMBERS,
    MOST_LEVELS,
    MOST_NUMBERS,
    PRUNED,
    UNRELATED,
    PartChange,
    changed_parts,
    epochs_of_parts,
    is_buffer,
    is_of,
    moved_back,
    scaled_parts,
    scattered_zeros,
    some_epochs,
)
from workbench.diagnosis.weight_sizes import Outsized, large_scalars, outsized, outsized_layer
from workbench.inspectors.conditioning.findings import FLATTENED, MASKED, UNTRAINED
from workbench.inspectors.conditioning.passes import Switched, without_refiner

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.checkpoints.checkpoint import Checkpoint

# A share of layers from which something is said about all of them.
MANY = 0.5
# A part changed out of proportion where it changed so many times as much as the parts do in the median. It is
# then replaced, and what comes back decides.
MORE_THAN_OTHERS = 1.4
# Parts that are replaced: each costs a pass over the instances.
MOST_PARTS = 3
# Weights move so fast in the first batches that statistics stay behind them.
LEAST_BATCHES = 1000
OF_RESULTS = "the poses are those of a result file; give the checkpoint without it as well"
WORSE_REFINED = "the refiner makes poses worse than what it is given"
PARTLY = "weights only partly loaded"
LOOK_FOR = "look for what wrote into it: noise, a merge, pruning, quantisation, layers begun anew"
# Different values up to which the loss is large: trained weights are nearly all different.
COARSE = 32


class Against(Undone):
    """Parts of the weights that differ from the run it is compared with, and cost something."""

    of_people = True
    name, group = "weights differ from those of the other run", "file"
    needs = ("checkpoint", "another checkpoint (--against)", "data")
    refuted_by = "no gain when these parts are taken from the other run"

    def changes(self, case: Case) -> Iterable[Change]:
        model, other = case.tried_on().model, _other_checkpoint(case)
        if model is None:
            raise NotAvailable(OF_RESULTS)
        states = other.state_dict()
        own = model.module.state_dict()
        same = {n: t for n, t in states.items() if n in own and own[n].shape == t.shape}
        if len(same) < MANY * len(own):
            raise NotAvailable(
                f"{other.path.name} is of another network: {len(same)} of {counted(len(own), 'tensor')} fit"
            )
        parts = sorted({name.partition(".")[0] for name in same})
        parts += [one.part for one in _out_of_proportion(changed_parts(case, case.checkpoint(), other))]
        for part in [*parts, *(["statistics"] if any(map(is_buffer, same)) else [])]:
            statistics = {n: t for n, t in same.items() if is_buffer(n)}
            chosen = statistics if part == "statistics" else _of_part(same, part)
            differing = {
                n: t for n, t in chosen.items() if not bool((t.float() == own[n].cpu().float()).all())
            }
            if not differing:
                continue
            yield self.change(
                f"{part} of {other.path.name}",
                "weights",
                lambda model, tensors=differing: WithTensors(model, tensors),
                fix=f"find what changed {part} between the two: it is better in {other.path.name}",
                least=0.03,
            )


class DisturbedPart(Undone):
    """One part of the weights is not what was trained, and costs something.

    Against an earlier epoch: it changed out of proportion. Without one: statistics of batch normalisation say
    what the weights before them gave in training.
    """

    name, group = "weights of one part disturbed", "file"
    needs = ("checkpoint", "data", "an earlier epoch, or batch normalisation")
    refuted_by = "the trainer's own file of this epoch, with the same weights in this part"
    of_people = True

    def changes(self, case: Case) -> Iterable[Change]:
        yield from self._out_of_place(case)
        yield from self._pruned(case)
        yield from self._of_earlier(case) if case.earlier() else self._of_this_file(case)
        people = isinstance(case.tried_on(), PeopleEvidence)
        for one in _spoilt(case):
            # In the first part a wrong input looks the same; of people it is undone elsewhere.
            first = one.layers[0] is layer_fits(case)[0]
            if people and first:
                continue
            behind = layer_fits(case)[layer_fits(case).index(one.layers[0]) :]
            tensors = measured_statistics(behind)
            yield self.change(
                f"statistics estimated anew from {one.part} on",
                "weights",
                lambda model, tensors=tensors: WithTensors(model, tensors),
                fix=f"take {one.part} from the trainer's own file, or from an epoch before; {LOOK_FOR}. New "
                "statistics give back a part of it alone",
                least=0.03,
                last_resort=first,
                facts={"told": one.text()},
            )

    def _out_of_place(self, case: Case) -> Iterable[Change]:
        """Parts of one build in each other's place, as an earlier epoch shows them, or tried in turn."""
        model = case.tried_on().model
        if model is None:
            raise NotAvailable(OF_RESULTS)
        own, earlier = model.module.state_dict(), case.earlier()
        source = ", told by the weights of the epoch before"
        if earlier:
            found = places_of_earlier(own, earlier[-1].state_dict())
            orders = [found] if found else []
        else:
            orders, source = list(orders_of_blocks(own)), ""
        for places in orders:
            listed = ", ".join(f"{part} in the place of {there}" for part, there in list(places.items())[:4])
            tensors = moved_tensors(own, places)
            yield self.change(
                f"{listed}{' ...' if len(places) > 4 else ''}",
                "weights",
                lambda model, tensors=tensors: WithTensors(model, tensors),
                fix=f"write {listed}; look for what sorted or renamed them",
                shown=bool(source),
                facts={"told": f"{', '.join(list(places)[:4])} are not at their own place{source}"},
            )

    def _pruned(self, case: Case) -> Iterable[Change]:
        """Zeros all over the matrices: filled from an earlier epoch, or with new statistics behind them."""
        model, earlier = case.tried_on().model, case.earlier()
        own = model.module.state_dict() if model is not None else {}
        shares = {name: scattered_zeros(tensor) for name, tensor in own.items() if tensor.is_floating_point()}
        pruned = [name for name, share in shares.items() if share >= PRUNED]
        if not pruned:
            return
        before = earlier[-1].state_dict() if earlier else {}
        known = [n for n in own if n in before and before[n].shape == own[n].shape and own[n].ndim > 1]
        filled = {n: own[n].where(own[n] != 0, before[n].to(own[n])) for n in known}
        filled = {n: t for n, t in filled.items() if not t.equal(own[n])}
        tensors, words = filled, f"zeros of {len(filled)} matrices filled from the epoch before"
        if not earlier and norms_of(model.module):  # type: ignore[union-attr] - with tensors it is one
            tensors, words = measured_statistics(layer_fits(case)), "statistics estimated anew"
        if not tensors:
            return
        most = max(shares[name] for name in pruned)
        yield self.change(
            words,
            "weights",
            lambda model: WithTensors(model, tensors),
            fix="take the file from before the pruning, or train on after it; what is tried here gives back "
            "a part of it alone",
            least=0.03,
            shown=True,
            facts={
                "told": (
                    f"{len(pruned)} of {counted(len(shares), 'tensor')} hold zeros all over, {most:.0%} of "
                    f"{max(pruned, key=lambda name: shares[name])}, as pruning leaves them and training does "
                    "not"
                )
            },
        )

    def _of_this_file(self, case: Case) -> Iterable[Change]:
        """Ways to do without weights that look disturbed, where no earlier epoch has better ones."""
        model = case.tried_on().model
        if model is None:
            raise NotAvailable(OF_RESULTS)
        own = model.module.state_dict()
        layer = outsized_layer(model.module)
        for one in [*_outsized(case)[:MOST_PARTS], *([layer] if layer is not None else [])]:
            # Noise of power p in weights of power 1: times 1 / (1 + p) they are nearest to what they were. A
            # single layer that is so large was multiplied.
            factor = one.usual ** (-1 if one is layer else -2)
            tensors = {name: factor * own[name] for name in one.names}
            yield self.change(
                f"weights of {one.block} times {factor:.2f}",
                "weights",
                lambda model, tensors=tensors: WithTensors(model, tensors),
                fix=f"take {one.block} from the trainer's own file; {LOOK_FOR}. Smaller weights give back a "
                "part of it alone",
                least=0.015,
                facts={"told": one.text()},
            )
        for name, value in large_scalars(model.module).items():
            yield self.change(
                f"{name} at 1",
                "weights",
                lambda model, one={name: own[name] / value}: WithTensors(model, one),
                fix=f"take {name} from the trainer's own file, or train on with a smaller rate for it",
                facts={"told": f"{name}, a parameter of one number, is {value:.3g}"},
            )
        if isinstance(model, Conditioned) and (switch := without_refiner(model)) is not None:
            yield self.change(
                "the refiner left out",
                "weights",
                lambda model: Switched(model, switch),
                fix=f"take the refiner from the trainer's own file, or leave it out; {LOOK_FOR}",
                least=0.1,
                facts={"told": WORSE_REFINED},
            )

    def vanishes_with(self, case: Case, finding: Finding) -> str:
        """A part that is not in the file has the weights it starts with: it was not disturbed."""
        missing = available(lambda: case.load_report().missing, ())
        blocks = {".".join(name.split(".")[:2]) for name in missing}
        blocks |= {WORSE_REFINED} if any("refiner" in name for name in missing) else set()
        if any(block in finding.evidence for block in blocks):
            return PARTLY
        return super().vanishes_with(case, finding)

    def waits_for(self, finding: Finding, others: Sequence[Finding]) -> str:
        """A refiner that is used wrongly makes poses worse with the weights that it should have."""
        spoilt = next((one.cause for one in others if one.cause in (FLATTENED, UNTRAINED, MASKED)), "")
        waits = bool(spoilt) and finding.evidence.startswith(WORSE_REFINED)
        return f"undo '{spoilt}' first: it spoils what the refiner gives" if waits else ""

    def _of_earlier(self, case: Case) -> Iterable[Change]:
        model, before = case.tried_on().model, self._before(case)
        if model is None:
            raise NotAvailable(OF_RESULTS)
        states, own = before.state_dict(), model.module.state_dict()
        same = {n: t for n, t in states.items() if n in own and own[n].shape == t.shape}
        parts = self._parts(case)
        usual = _usual_change(parts)
        far = self._unexplained(case)
        # A head as torch starts it, or of another run, is several parts that mean something together alone.
        apart = [one for one in parts if one.rest > UNRELATED and not any(one is own for own in far)]
        apart = [*(one for one in far if one.rest > UNRELATED), *apart]
        for chosen in ([one] for one in far) if len(apart) < 2 else (apart, *([one] for one in far)):
            tensors = {n: t for one in chosen for n, t in _of_part(same, one.part).items()}
            if not tensors:
                continue
            names, rest = ", ".join(one.part for one in chosen), min(one.rest for one in chosen)
            yield self.change(
                f"{names} of {before.path.name}",
                "weights",
                lambda model, tensors=tensors: WithTensors(model, tensors),
                fix=f"take {names} from {before.path.name}, or the whole file from the trainer again; "
                f"{LOOK_FOR}",
                least=0.03,
                facts={"rest": rest, "usual": usual, "before": before.path.name, "part": names},
            )

    def seen(self, case: Case, change: Change) -> str:
        facts = change.facts
        if "told" in facts:
            return facts["told"]
        return (
            f"{facts['part']} differs from {facts['before']} by {facts['rest']:.0%} of its size, the other "
            f"parts by {facts['usual']:.0%} (median)"
        )

    def test(self, case: Case) -> Answer:
        tried = available(lambda: bool(case.changes_of(self)) and case.reaches("forward"), False)
        if tried:
            answer = super().test(case)
            return self._evident(case) or answer if isinstance(answer, RuledOut) else answer
        if not case.earlier() and case.reaches("forward"):
            case.model()
            return self._evident(case) or RuledOut(
                "no block of weights is larger than the others, and statistics fit the weights before them"
            )
        before, parts = self._before(case), self._parts(case)
        usual, far = _usual_change(parts), self._unexplained(case)
        if not far and _out_of_proportion(parts):
            return RuledOut("the parts that changed out of proportion are those of a cause of their own")
        if not far:
            most = max((one.rest for one in parts if one.rest == one.rest), default=0.0)
            return RuledOut(f"parts differ from {before.path.name} by {usual:.0%} (median) to {most:.0%}")
        # Parts of healthy runs differ up to 8 times as much as the median: only what comes back tells.
        return NotTestable(
            f"{far[0].part} differs from {before.path.name} by {far[0].rest:.0%}, the parts by {usual:.0%} "
            "in the median; whether that costs anything needs data and a model that finds poses in it"
        )

    def _evident(self, case: Case) -> Finding | None:
        """A part that no training leaves behind, where nothing that was tried gives accuracy back."""
        with suppress(NotAvailable):
            if case.separated().chosen:
                return None
        trained = max((int(one.num_batches_tracked) for one in norms_of(case.model().module)), default=0)
        far = [one for one in _spoilt(case) if one.is_far and one.layers[0] is not layer_fits(case)[0]]
        disturbed = [(one.part, one.text()) for one in far if trained >= LEAST_BATCHES]
        disturbed += [(one.block, one.text()) for one in _outsized(case) if one.is_certain]
        if not disturbed:
            return None
        part, text = disturbed[0]
        return self.found(
            f"{text}, which training does not leave behind; nothing that was tried in its place gives more",
            fix=f"take {part} from the trainer's own file, or from an epoch before; {LOOK_FOR}",
        )

    def _unexplained(self, case: Case) -> list[PartChange]:
        """Parts out of proportion, without those of which another cause tells what is wrong with them."""
        return [one for one in _out_of_proportion(self._parts(case)) if not _is_explained(case, one.part)]

    def _before(self, case: Case) -> Checkpoint:
        earlier = case.earlier()
        if not earlier:
            raise NotAvailable("no earlier epoch lies beside the checkpoint to compare weights with")
        return earlier[-1]

    def _parts(self, case: Case) -> tuple[PartChange, ...]:
        before = self._before(case)
        return case.once("changed parts", lambda: changed_parts(case, case.checkpoint(), before))


def _spoilt(case: Case) -> list[Misfit]:
    """The first part with weights that the statistics behind them do not fit; [] without such statistics."""
    try:
        found = [one for one in misfits(case) if one.kind == "weights"]
    except NotAvailable:
        return []
    return [one for one in found if not _is_explained(case, one.part)]


def _outsized(case: Case) -> list[Outsized]:
    """Blocks with larger weights than all others; with an earlier epoch that tells more, none."""
    if case.given.checkpoint is not None and case.earlier():
        return []
    found = case.once("outsized blocks", lambda: outsized(case.model().module))
    return [one for one in found if not _is_explained(case, one.block)]


def _is_explained(case: Case, part: str) -> bool:
    """Whether a part is one of an earlier epoch, or quantised: causes of their own."""
    if case.given.checkpoint is None:
        return False
    known = [*(moved_back(case) if len(case.earlier()) > 1 else ()), *levels_of(case)[0]]
    return any(is_of(name, part) or is_of(part, name) for name in known)


def _usual_change(parts: Sequence[PartChange]) -> float:
    known = sorted(one.rest for one in parts if one.rest == one.rest)
    return known[len(known) // 2] if known else 0.0


def _out_of_proportion(parts: Sequence[PartChange]) -> list[PartChange]:
    """Parts that changed more than the others in direction, the most first; scaled ones are another cause."""
    usual, scaled = _usual_change(parts), [one for one, _ in scaled_parts(parts)]
    found = [p for p in parts if p.rest > max(MORE_THAN_OTHERS * usual, 0.05) and p not in scaled]
    return sorted(found, key=lambda one: -one.rest)[:MOST_PARTS]


def _of_part(tensors: Mapping[str, Any], part: str) -> dict[str, Any]:
    return {n: t for n, t in tensors.items() if n == part or n.startswith(part + ".")}


def _other_checkpoint(case: Case) -> Checkpoint:
    from workbench.checkpoints import open_checkpoint

    other = case.against()
    if other.checkpoint is None:
        raise NotAvailable("the other run holds no checkpoint to compare weights with")
    return case.once("other checkpoint", lambda: open_checkpoint(other.checkpoint))  # type: ignore[arg-type]


class ScaledPart(Cause):
    """The weights of one part are those of an earlier epoch times a factor: no training does that."""

    name, group, needs = "weights of one part scaled", "file", ("checkpoint", "an earlier epoch")
    refuted_by = "the trainer's own file of this epoch, with the same weights"

    def test(self, case: Case) -> Answer:
        own, earlier = case.checkpoint(), case.earlier()
        if not earlier:
            return self._by_statistics(case)
        before = earlier[-1]
        parts = case.once("changed parts", lambda: changed_parts(case, own, before))
        found = scaled_parts(parts)
        if not found:
            factors = [one.scale for one in parts if math.isfinite(one.scale)]
            spread = f"{min(factors):.2f} to {max(factors):.2f}" if factors else "none"
            return RuledOut(f"parts changed by factors of {spread} since {before.path.name}, none by itself")
        one, factor = max(found, key=lambda pair: abs(math.log(pair[1])))
        others = ", ".join(other.part for other, _ in found if other is not one)
        text = (
            f"{one.part} is {factor:.3g} times what it was in {before.path.name}, its direction changed by "
            f"{one.rest:.0%}"
            + (f"; likewise {others}" if others else "")
            + "; the other parts kept their size"
        )
        state = own.state_dict()
        divided = {n: t.float() / by for p, by in found for n, t in _of_part(state, p.part).items()}
        effect = given_back(case, self.name, divided)
        if effect is not None and effect.high < 0:
            # The epoch before was the one with a wrong size.
            return RuledOut(f"{text}; divided by it AP changes by {signed_text(effect.delta)}")
        return self.found(
            text,
            fix=f"divide the weights of {one.part} by {factor:.3g}, and look for what multiplied them: a "
            "merge of files, a conversion, an average that was not divided",
            numbers=(Measurement(f"factor of {one.part}", factor, expected=1.0),),
            effect=effect,
            confidence="proved" if effect is not None and effect.low > 0 else "measured",
        )

    def _by_statistics(self, case: Case) -> Answer:
        """Without an earlier epoch: every statistic behind the weights is off by the factor."""
        if not case.reaches("forward"):
            raise NotAvailable("no earlier epoch lies beside the checkpoint to compare weights with")
        found = [one for one in misfits(case) if one.kind == "scaled"]
        if not found:
            return RuledOut(
                f"no part is scaled against the statistics of {len(layer_fits(case))} norms behind"
            )
        one = found[0]
        effect = given_back(case, self.name, one.tensors())
        return self.found(
            f"{one.text()}: all channels by a factor of {one.factor:.3g}",
            fix=f"divide the weights of {one.part} by {one.factor:.3g}, or estimate the statistics anew; "
            "look for what multiplied one of the two",
            numbers=(Measurement(f"factor of {one.part}", one.factor, expected=1.0),),
            effect=effect,
            confidence="proved" if effect is not None and effect.low > 0 else "measured",
        )


class OfEarlierEpoch(Cause):
    """The weights of one part are those of an earlier epoch, after which they had moved on."""

    name, group = "weights of one part of an earlier epoch", "file"
    needs = ("checkpoint", "two earlier epochs")
    refuted_by = "the trainer's own file of this epoch, with the same weights"

    def test(self, case: Case) -> Answer:
        earlier, equal = some_epochs(case), epochs_of_parts(case)
        if len(earlier) < 2:
            raise NotAvailable("this takes two earlier epochs beside the checkpoint")
        moved = moved_back(case)
        if not moved:
            return RuledOut(
                f"none of {counted(len(equal), 'part')} is that of one of {len(earlier)} earlier epochs alone"
            )
        parts, newest = sorted(moved), earlier[-1]
        listed = ", ".join(f"{part} of {earlier[moved[part][-1]].path.name}" for part in parts[:3])
        stale = [part for part in parts if moved[part][-1] < len(earlier) - 1]
        evidence = (
            f"weights are identical to those of an earlier epoch in {len(parts)} of "
            f"{counted(len(equal), 'part')} ({listed}{' ...' if len(parts) > 3 else ''}), while the others "
            "changed"
        )
        fix = "look for what wrote these parts into the file: a merge of files, a partly restored checkpoint"
        if not stale:
            return self.found(
                f"{evidence}; they moved before and no more since then",
                fix=f"{fix}; or for a schedule that freezes them",
                severity="warning",
            )
        tensors = {n: newest.read(n) for n in newest.tensors if any(is_of(n, part) for part in stale)}
        effect = given_back(case, self.name, {n.removeprefix(newest.prefix): t for n, t in tensors.items()})
        if effect is not None:
            evidence += f"; with these parts of {newest.path.name} AP changes by {effect.text()}"
        return self.found(
            evidence,
            fix=f"{fix}; take the trainer's own file of this epoch, or these parts of {newest.path.name}",
            numbers=(Measurement("parts of an earlier epoch", len(parts), expected=0.0),),
            effect=effect,
            confidence="proved" if effect is not None and effect.low > 0 else "measured",
        )


class Quantised(Cause):
    """Weights that hold few different values, as a quantisation leaves them."""

    name, group, needs = "weights are quantised", "file", ("checkpoint",)
    refuted_by = "the file that the trainer wrote, with the same few values"

    def test(self, case: Case) -> Answer:
        levels, total = levels_of(case)
        if not levels:
            return RuledOut(f"{total} weight matrices hold as many values as trained ones do")
        usual = sorted(levels.values())[len(levels) // 2]
        evidence = (
            f"{len(levels)} of {total} weight matrices hold at most "
            f"{counted(max(levels.values()), 'different value')} (median {usual}; of one output channel, or "
            f"of all), {next(iter(levels))} for one"
        )
        fix = "take the file that the trainer wrote; quantise with calibration or with training that knows it"
        before = next((one for one in reversed(case.earlier()) if self._is_full(one, levels)), None)
        effect = None
        if before is not None:
            tensors = {n.removeprefix(before.prefix): before.read(n) for n in levels}
            effect = given_back(case, self.name, tensors)
        proved = effect is not None and effect.low > 0
        if before is not None and effect is not None and proved:
            evidence += f"; with those of {before.path.name}, which are not, AP changes by {effect.text()}"
        coarse = usual <= COARSE
        return self.found(
            evidence,
            fix=fix,
            numbers=(Measurement("weight matrices with few values", len(levels), expected=0.0),),
            effect=effect if proved else None,
            severity="error" if proved or coarse else "remark",
            confidence="proved" if proved else "measured",
        )

    def _is_full(self, other: Checkpoint, levels: Mapping[str, int]) -> bool:
        return all(n in other.tensors and few_levels(other.read(n)) is None for n in list(levels)[:8])


def levels_of(case: Case) -> tuple[dict[str, int], int]:
    """Weight matrix -> number of its different values, where these are few; and how many were looked at."""

    def read_levels() -> tuple[dict[str, int], int]:
        checkpoint, levels, total = case.checkpoint(), {}, 0
        for name, info in checkpoint.tensors.items():
            large = info.is_floating and len(info.shape) >= 2 and info.numel >= LEAST_NUMBERS
            if not large or is_buffer(name) or name in checkpoint.unread:
                continue
            case.step()
            total += 1
            if (found := few_levels(checkpoint.read(name))) is not None:
                levels[name] = found
        return levels, total

    return case.once("levels of weights", read_levels)


def few_levels(tensor: Tensor) -> int | None:
    """How many different values a weight matrix holds, where these are few; None where they are not.

    Args:
        tensor: weights, the first axis of which are output channels. Channels with a scale of their own are
            looked at one by one.
    """
    flat = tensor.detach().float().flatten(1)
    sample = flat.flatten()[:MOST_NUMBERS]
    if not bool(sample.isfinite().all()):
        return None  # what overflowed has few values, too: another cause
    count = len(sample.unique())
    if count <= 2:
        return None  # zeros, ones, signs: other causes
    found = [count] if count <= MOST_LEVELS and count * 4 <= len(sample) else []
    if flat.shape[1] >= 64:
        counts = [len(row.unique()) for row in flat[:8]]
        if all(2 < n <= MOST_LEVELS and n * 4 <= flat.shape[1] for n in counts):
            found.append(max(counts))
    return min(found, default=None)


CAUSES: tuple[Cause, ...] = (ScaledPart(), OfEarlierEpoch(), Quantised(), DisturbedPart(), Against())
