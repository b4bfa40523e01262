"""Causes in the files: weights that did not arrive, never learned, or are not finite."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from workbench.checkpoints.loading import percent
from workbench.checkpoints.state_dicts import is_statistic
from workbench.core import Answers, Batch, NotAvailable, Outputs, PoseModel
from workbench.core.finding import Effect, Finding, Measurement
from workbench.core.wrapping import Wrapper
from workbench.diagnosis.case import Case, Failed
from workbench.diagnosis.cause import Answer, Cause, RuledOut, Undone
from workbench.diagnosis.evidence import Change, Evidence, gain
from workbench.diagnosis.fixes import REMOVED, config_diff
from workbench.diagnosis.text_causes import stated_recipe

if TYPE_CHECKING:
    from torch import nn

    from workbench.checkpoints.checkpoint import Checkpoint
    from workbench.models import LoadedModel

# A share of layers from which something is said about all of them.
MANY = 0.5
# The largest number of half precision.
HALF = 65504.0


class NotFinite(Cause):
    """nan or infinite weights; in half precision infinities are overflows."""

    name, group, needs = "weights that are not finite", "file", ("checkpoint",)
    refuted_by = "the named tensors read with finite numbers by another program"

    def test(self, case: Case) -> Answer:
        checkpoint = case.checkpoint()
        bad, total, half = _not_finite(case, checkpoint)
        if not bad:
            return RuledOut(f"all numbers of {total} tensors are finite")
        first, number = next(iter(bad.items()))
        evidence = f"{len(bad)} of {total} tensors hold nan or infinities, {first} {number} of them"
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


class PartlyLoaded(Cause):
    """Weights that never reached the model: names or shapes differ."""

    name, group, level, needs = "weights only partly loaded", "file", "forward", ("checkpoint", "model")
    refuted_by = "a load report in which every tensor of the model comes from the file"

    def test(self, case: Case) -> Answer:
        report = case.load_report()
        if report.complete:
            return RuledOut(f"{percent(report.loaded_fraction)} of the parameters come from the file")
        evidence, fix = report.summary(), "use the config and the code that this checkpoint was trained with"
        effect = None
        loaded = case.loaded()
        if loaded is not case.as_given() and loaded.load is not None:
            names = "; ".join(rule.text for rule in report.remap)
            evidence += f"; renamed, {percent(loaded.load.loaded_fraction)} are loaded"
            fix = f"rename the tensors ({names}): --remap does it, or in your code before load_state_dict"
            effect = _effect_of(case, case.as_given(), loaded)
        elif case.config_path() is not None and (other := _with_own_config(case)) is not None:
            evidence += (
                f"; with the config inside or beside the checkpoint {percent(other.loaded_fraction)} are"
            )
            fix = "give the config that belongs to this checkpoint; the one named is of another model"
        share = Measurement("share of the parameters loaded", report.loaded_fraction, expected=1.0)
        confidence = "proved" if effect is not None and effect.low > 0 else "measured"
        return self.found(evidence, fix=fix, numbers=(share,), effect=effect, confidence=confidence)


def _with_own_config(case: Case) -> LoadedModel | None:
    from workbench.models import open_model

    try:
        other = open_model(case.given.checkpoint, allow_partial=True)
    except (ValueError, LookupError, OSError):
        return None
    better = case.load_report().loaded_fraction + 0.01
    return other if other.load is not None and other.load.loaded_fraction > better else None


def _effect_of(case: Case, before: LoadedModel, after: LoadedModel) -> Effect | None:
    """AP of two opened models on the chosen instances; None where nothing can be measured."""
    try:
        pose_set = case.pose_set()
        case.top_down()
        models = [one.named_as(pose_set).model for one in (before, after)]
        made = [Evidence(pose_set, case.chosen(), model, stepped=case.step) for model in models]
        found = gain(made[0].measure(), made[1].measure(), with_ap=True)
    except NotAvailable:
        return None
    return Effect("AP", found.AP, found.AP_low, found.AP_high, made[0].protocol())


class NeverLearned(Cause):
    """Weights that are the same as in an earlier epoch, while others moved."""

    name, group, needs = "layers that never learned", "file", ("checkpoint", "an earlier epoch")
    refuted_by = "another pair of epochs between which these layers differ"
    symptom_of = ("support not read", "untrained refiner", "neck skipped in predict")

    def test(self, case: Case) -> Answer:
        from workbench.checkpoints.difference import compare_checkpoints

        own, earlier = case.checkpoint(), case.earlier()
        if not earlier:
            raise NotAvailable(
                "no earlier epoch lies beside the checkpoint; keep one, or name the run's folder"
            )
        before = earlier[0]
        found = compare_checkpoints(before, own)
        weights = [change for change in found.tensors if not _counter(change.name)]
        still = [change.name for change in weights if change.equal]
        if not still or not weights:
            return RuledOut(f"every weight of {len(weights)} differs from {before.path.name}")
        parts = sorted({_part(name) for name in still})
        frozen = _declared_frozen(case)
        if frozen and all(any(part.startswith(head) for head in frozen) for part in parts):
            return RuledOut(f"{', '.join(parts)} did not change, as the config says (frozen)")
        if len(still) == len(weights):
            evidence = (
                f"not one of {len(weights)} weights differs between {before.path.name} and {own.path.name}"
            )
            fix = (
                "check that the optimizer gets the model's parameters, and that the checkpoint is "
                "written after training"
            )
            return self.found(evidence, fix=fix)
        share = len(still) / len(weights)
        evidence = (
            f"{len(still)} of {len(weights)} weights are bit for bit those of {before.path.name} "
            f"({', '.join(parts[:4])}{' ...' if len(parts) > 4 else ''}), the others moved"
        )
        return self.found(
            evidence,
            fix="check requires_grad, frozen_stages and the optimizer's parameter groups: these layers get "
            "no update",
            numbers=(Measurement("share of weights unchanged", share, expected=0.0),),
            severity="error" if share >= 0.1 else "warning",
        )


def _counter(name: str) -> bool:
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


class AveragesExchanged(Cause):
    """The set of weights called averaged (EMA) is the raw one, or the other way round."""

    name, group, needs = "raw and averaged weights exchanged", "file", ("checkpoint with both sets",)

    def test(self, case: Case) -> Answer:
        from workbench.inspectors.conditioning.weights import averaged_and_raw, gain_of_average

        checkpoint, earlier = case.checkpoint(), case.earlier()
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
                effect = Effect("AP", -interval.delta, low, high, f"{len(case.chosen())} instances, no flip")
            except NotAvailable:
                pass
        finding = seen.finding()
        if finding is None:
            if seen.undecided:
                raise NotAvailable(seen.undecided)
            return RuledOut(f"{seen.text}; names and numbers agree")
        proved = effect is not None and effect.low > 0
        return dataclasses.replace(
            finding, cause=self.name, effect=effect, confidence="proved" if proved else finding.confidence
        )


class Contradiction(Cause):
    """The file's name, or the config inside, says something that the tensors deny."""

    name, group, needs = "file is not what its name or config says", "file", ("checkpoint",)
    refuted_by = "the trainer's record of what was written into this file"

    def test(self, case: Case) -> Answer:
        identity = case.checkpoint().identity
        if not identity.contradictions:
            return RuledOut(f"{identity}: name, config and tensors agree")
        return self.found(
            f"{'; '.join(identity.contradictions)}; the tensors are those of {identity}",
            fix="use the file for what its tensors are, or get the one that the name promises",
            severity="warning",
        )


class NormStatistics(Undone):
    """Running statistics of batch normalisation that were never updated, or belong to other data."""

    name, group, needs = "batch-norm statistics do not fit", "file", ("model", "data")
    refuted_by = "no gain when the statistics are estimated anew on training images"

    def changes(self, case: Case) -> Iterable[Change]:
        model = case.top_down()
        if not _norms(model.module):
            raise NotAvailable("the network has no batch normalisation")
        yield Change(
            self.name,
            "the statistics of these images in place of the stored ones",
            "weights",
            ByBatch,
            fix="estimate the running statistics anew: a few hundred training batches in training mode "
            "without an optimizer, then save",
            least=0.04,
            last_resort=True,
        )

    def seen(self, case: Case, change: Change) -> str:
        fresh, layers = _fresh_statistics(case.checkpoint())
        if fresh:
            return f"{fresh} of {layers} normalisation layers still hold mean 0 and variance 1, as they start"
        return f"the {layers} normalisation layers hold statistics that other inputs had"

    def test(self, case: Case) -> Answer:
        fresh, layers = _fresh_statistics(case.checkpoint())
        try:
            answer = super().test(case)
        except NotAvailable:
            if not layers or fresh < MANY * layers:
                raise
            answer = RuledOut("")
        if isinstance(answer, RuledOut) and layers and fresh >= MANY * layers:
            return self.found(
                f"{fresh} of {layers} normalisation layers still hold mean 0 and variance 1, as they start",
                fix="train with these layers in training mode, or estimate the statistics on training images",
            )
        return answer


def _fresh_statistics(checkpoint: Checkpoint) -> tuple[int, int]:
    """Normalisation layers whose statistics are those of a new layer, and how many there are."""
    names = [name for name in checkpoint.tensors if name.endswith("running_mean")]
    fresh = 0
    for name in names:
        other = name.removesuffix("mean") + "var"
        if other in checkpoint.tensors:
            mean, var = checkpoint.read(name), checkpoint.read(other)
            fresh += bool((mean == 0).all()) and bool((var == 1).all())
    return fresh, len(names)


def _norms(module: nn.Module) -> list[Any]:
    from torch.nn.modules.batchnorm import _BatchNorm

    return [m for m in module.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


@dataclass(frozen=True, eq=False)
class ByBatch(Wrapper):
    """A model whose batch normalisation uses the statistics of the batch; the stored ones stay as they are.

    Attributes:
        model: the inner model.
    """

    model: PoseModel
    withheld: ClassVar[tuple[type, ...]] = (Answers,)

    def forward(self, batch: Batch) -> Outputs:
        """The inner model's outputs."""
        if len(batch) < 2:
            return self.model.forward(batch)
        with _by_batch(_norms(self.model.module)):
            return self.model.forward(batch)


@contextmanager
def _by_batch(layers: Sequence[Any]) -> Iterator[None]:
    before = [(m, m.training, m.momentum, m.num_batches_tracked.clone()) for m in layers]
    for layer in layers:
        layer.training, layer.momentum = True, 0.0
    try:
        yield
    finally:
        for layer, training, momentum, tracked in before:
            layer.training, layer.momentum = training, momentum
            layer.num_batches_tracked.copy_(tracked)


class Against(Undone):
    """Parts of the weights that differ from the run it is compared with, and cost something."""

    name, group = "weights differ from those of the other run", "file"
    needs = ("checkpoint", "another checkpoint (--against)", "data")
    refuted_by = "no gain when these parts are taken from the other run"

    def changes(self, case: Case) -> Iterable[Change]:
        model, other = case.top_down(), _other_checkpoint(case)
        states = other.state_dict()
        own = model.module.state_dict()
        same = {n: t for n, t in states.items() if n in own and own[n].shape == t.shape}
        if len(same) < MANY * len(own):
            raise NotAvailable(
                f"{other.path.name} is of another network: {len(same)} of {len(own)} tensors fit"
            )
        parts = sorted({name.partition(".")[0] for name in same})
        for part in [*parts, *(["statistics"] if any(map(_counter, same)) else [])]:
            chosen = {
                n: t
                for n, t in same.items()
                if (_counter(n) if part == "statistics" else n.startswith(part + "."))
            }
            differing = {
                n: t for n, t in chosen.items() if not bool((t.float() == own[n].cpu().float()).all())
            }
            if not differing:
                continue
            yield Change(
                self.name,
                f"{part} of {other.path.name}",
                "weights",
                lambda model, tensors=differing: WithTensors(model, tensors),
                fix=f"find what changed {part} between the two: it is better in {other.path.name}",
                least=0.03,
            )


def _other_checkpoint(case: Case) -> Checkpoint:
    from workbench.checkpoints import open_checkpoint

    other = case.against()
    if other.checkpoint is None:
        raise NotAvailable("the other run holds no checkpoint to compare weights with")
    return case.once("other checkpoint", lambda: open_checkpoint(other.checkpoint))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class WithTensors(Wrapper):
    """A model with some of its tensors exchanged while it runs; they are put back afterwards.

    Attributes:
        model: the inner model.
        tensors: by their names in the module's state dict.
    """

    model: PoseModel
    tensors: Any
    withheld: ClassVar[tuple[type, ...]] = (Answers,)

    def forward(self, batch: Batch) -> Outputs:
        """The inner model's outputs with the other tensors."""
        import torch

        own = self.model.module.state_dict(keep_vars=True)
        before = {name: own[name].detach().clone() for name in self.tensors}
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                own[name].copy_(tensor.to(own[name]))
            try:
                return self.model.forward(batch)
            finally:
                for name, tensor in before.items():
                    own[name].copy_(tensor)


class Audit(Cause):
    """The config contradicts itself, or differs from the reference recipe that it follows."""

    name, group, needs = "config contradicts itself", "file", ("config",)
    refuted_by = "the code that reads the config, where it gives these keys another meaning"
    # Differences from a recipe may be wanted: they are remarks, and only the weightiest are named.
    MOST = 4

    def test(self, case: Case) -> Answer:
        from workbench.recipes.audit import audit

        # A text about a recipe says which one the config is meant to follow.
        report = audit(case.config(), stated_recipe(case) or None, title="the config")
        wrong = [one for one in report.findings if one.severity == "error" and not report.recipe]
        wrong += [one for one in report.findings if one.source == "the config itself" and one not in wrong]
        wrong = [one for one in wrong if one.severity == "error"]
        differing = [one for one in report.findings if one not in wrong and one.severity != "remark"]
        if not wrong and not differing:
            return RuledOut(report.summary())
        found = [_of_audit(case, one, self.refuted_by) for one in wrong]
        remarks = [_of_audit(case, one, self.refuted_by) for one in differing[: self.MOST]]
        return [
            *found,
            *(dataclasses.replace(one, severity="remark", confidence="possible") for one in remarks),
        ]


def _of_audit(case: Case, found: Any, refuted_by: str) -> Finding:
    """A finding of the audit, the change of the config as a diff."""
    diff = "" if found.expected is None else config_diff(case, {found.key: found.expected})
    why = f"; {found.why}" if found.why else ""
    return Finding(
        found.cause,
        f"{found.evidence}{why} ({found.source})" if found.source else f"{found.evidence}{why}",
        found.fix,
        diff=diff,
        refuted_by=found.refuted_by or refuted_by,
        assumption=found.assumption,
        severity=found.severity,
        confidence=found.confidence,
    )


class NotRun(Cause):
    """No model can be built of the files, or its forward pass fails."""

    name, group, level, needs = "model cannot be built or run", "file", "forward", ("model",)
    symptom_of = ("config keys at a wrong place",)
    refuted_by = "the same files running in the code that they were trained with"

    def test(self, case: Case) -> Answer:
        from workbench.doctor import explain

        seen = "the model is built"
        if failure := case.config_failure():
            known = explain(failure)
            return self.found(
                f"the model of the named config cannot be built: {failure}",
                fix=known.do
                if known is not None
                else "mend the named part of the config, or leave it out: "
                "the checkpoint's own config builds this model",
            )
        for what, make in (
            ("the model cannot be built", case.as_given),
            ("its forward pass fails", case.evidence),
        ):
            try:
                make()
            except Failed as error:
                known = explain(str(error))
                cause = f"; {known.cause}" if known is not None else ""
                fix = "use the config and the code that this file was trained with"
                return self.found(f"{what}: {error}{cause}", fix=known.do if known is not None else fix)
            except NotAvailable:
                if make == case.as_given:
                    raise
                return RuledOut(seen)
        return RuledOut(f"{seen}, and a forward pass over samples gives outputs")


class MisplacedKeys(Cause):
    """Keys of a config that their class does not take."""

    name, group, needs = "config keys at a wrong place", "file", ("config",)
    refuted_by = "a class of one's own that takes these keys"

    def test(self, case: Case) -> Answer:
        from workbench.models.mmpose.model import misplaced_keys_of

        config = case.config()
        model = config.get("model")
        if not isinstance(model, Mapping) or "type" not in model:
            raise NotAvailable("the config describes no model of mmpose")
        wrong = misplaced_keys_of(config)
        if not wrong:
            return RuledOut("every key of the model is one that its class takes")
        return self.found(
            f"{_counted(len(wrong), 'key does', 'keys do')} not belong: {'; '.join(wrong[:3])}",
            fix="remove these keys, or move them to the part that takes them (in_channels is the head's)",
            diff=config_diff(case, dict.fromkeys([phrase.partition(":")[0] for phrase in wrong], REMOVED)),
        )


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


class NotOpened(Cause):
    """The checkpoint cannot be opened, or no model can be built of it."""

    name, group, needs = "checkpoint cannot be opened", "file", ("checkpoint",)
    refuted_by = "another program that opens the same file"

    def test(self, case: Case) -> Answer:
        from workbench.doctor import explain

        checkpoint = None
        try:
            checkpoint = case.checkpoint()
        except NotAvailable as error:
            if case.given.checkpoint is None:
                raise
            known = explain(str(error))
            return self.found(str(error), fix=known.do if known else "write or download the file again")
        return RuledOut(f"{checkpoint.format}, {len(checkpoint.tensors)} tensors, {checkpoint.identity}")


CAUSES: tuple[Cause, ...] = (
    NotOpened(),
    Contradiction(),
    NotFinite(),
    DeadLayers(),
    NeverLearned(),
    AveragesExchanged(),
    PartlyLoaded(),
    NormStatistics(),
    NotRun(),
    Against(),
    Audit(),
    MisplacedKeys(),
)
