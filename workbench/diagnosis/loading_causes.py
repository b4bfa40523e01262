"""Causes between file and model: a file that cannot be opened or built, weights that did not arrive."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.config_reader import read_config
from workbench.checkpoints.loading import percent
from workbench.core import NotAvailable, PartMissing
from workbench.core.errors import USER_ERRORS, sentence
from workbench.core.finding import Effect, Finding, Measurement
from workbench.core.report import counted
from workbench.diagnosis.case import Case, Failed
from workbench.diagnosis.cause import Answer, Cause, RuledOut
from workbench.diagnosis.evidence import Evidence, gain

if TYPE_CHECKING:
    from workbench.checkpoints.checkpoint import Checkpoint
    from workbench.models import LoadedModel


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
        return RuledOut(
            f"{checkpoint.format}, {counted(len(checkpoint.tensors), 'tensor')}, {checkpoint.identity}"
        )


class NotRead(Cause):
    """A file that was named is damaged: a config, a json, code, predictions, or a second checkpoint."""

    name, group, needs = "file cannot be read", "file", ("a config, json, code, predictions or checkpoints",)
    refuted_by = "another program that reads the same file"

    def test(self, case: Case) -> Answer:
        given = case.given
        damaged = [f"{name} {why}" for name, why in given.damaged]
        readers = [case.config] if case.config_path() is not None or given.configs else []
        readers += [case.all_results] if given.predictions else []
        read = len(readers)
        for reader in readers:
            try:
                reader()
            except Failed as error:
                damaged.append(str(error))
        for path in given.others:
            read += 1
            try:
                open_checkpoint(path)
            except USER_ERRORS as error:
                damaged.append(sentence(error))
        if why := _damaged_set(case):
            damaged.append(why)
        if damaged:
            return [self.found(why, fix="mend the named place, or get the file again") for why in damaged]
        if not read:
            raise NotAvailable("no config, no predictions and no second checkpoint was given")
        return RuledOut(f"{read} further {'file' if read == 1 else 'files'} can be read")


def _damaged_set(case: Case) -> str:
    """Why the named annotations are no JSON; "" where they are, also those that are of no use otherwise."""
    from workbench.data.coco import read_json

    try:
        case.read_set()
    except Failed:
        name = case.options.data or str(case.given.annotations[0])
        path = Path(name.partition("#")[0])
        if path.is_file():
            try:
                read_json(path)
            except USER_ERRORS as error:
                return sentence(error)
    except NotAvailable:
        pass
    return ""


class Contradiction(Cause):
    """The file's name, or the config inside, says something that the tensors or the file's record deny."""

    name, group, needs = "file is not what its name or config says", "file", ("checkpoint",)
    refuted_by = "the trainer's record of what was written into this file"

    def test(self, case: Case) -> Answer:
        checkpoint = case.checkpoint()
        identity, epoch = checkpoint.identity, checkpoint.epoch
        named = re.search(r"epoch[_=](\d{1,6})(?!\d)", checkpoint.path.name)
        # Trainers count from 0 or from 1.
        if named and epoch is not None and abs(int(named[1]) - epoch) > 1:
            return self.found(
                f"the file is called {checkpoint.path.name}, and its trainer recorded epoch {epoch} in it",
                fix=f"get the file of epoch {named[1]}, or compare this one with figures of epoch {epoch}",
                severity="warning",
            )
        if others := _of_other_config(case):
            return self.found(others, fix="name the config of this run")
        if absent := modules_without_weights(checkpoint):
            part, other = next(iter(absent.items()))
            return self.found(
                f"the file lists the modules of the network that wrote it, and {part} has no weights in it, "
                f"while {other}, which is built alike, has"
                + (f"; likewise {', '.join(list(absent)[1:5])}" if len(absent) > 1 else "")
                + f"; the tensors are those of {identity}",
                fix=f"get the file with the weights of {part}; look for a filter of names in what wrote it",
                numbers=(Measurement("modules without their weights", len(absent), expected=0.0),),
            )
        if not identity.contradictions:
            return RuledOut(f"{identity}: name, config and tensors agree")
        return self.found(
            f"{'; '.join(identity.contradictions)}; the tensors are those of {identity}",
            fix="use the file for what its tensors are, or get the one that the name promises",
            severity="warning",
        )


def _of_other_config(case: Case) -> str:
    """What the named config describes and the one inside the checkpoint denies; "" where they agree."""
    path, text = case.config_path(), case.checkpoint().config_text
    if path is None or not text:
        return ""
    try:
        named, own = (_types(config) for config in (case.config(), read_config(text)))
    except (NotAvailable, *USER_ERRORS):
        return ""  # one of them cannot be read, which another cause tells
    if not named or not own or named == own:
        return ""
    other, mine = (" with ".join(types) for types in (named, own))
    return f"{path.name} describes {other}, and {case.checkpoint().path.name} was trained with {mine}"


def _types(config: Mapping[str, Any]) -> list[str]:
    """Types of backbone and head."""
    model = config.get("model")
    parts = [model.get(name) for name in ("backbone", "head")] if isinstance(model, Mapping) else []
    return [
        str(part["type"]).rpartition(".")[2] for part in parts if isinstance(part, Mapping) and "type" in part
    ]


def modules_without_weights(checkpoint: Checkpoint) -> dict[str, str]:
    """Module that the file lists and has no weights of -> one of the same build that has; outermost ones.

    Args:
        checkpoint: whose names are compared. Modules are of one build where names differ in numbers alone
            and the modules inside have the same names.
    """
    inside: dict[str, set[str]] = defaultdict(set)
    for name in checkpoint.modules:
        parts = name.split(".")
        for depth in range(1, len(parts)):
            inside[".".join(parts[:depth])].add(".".join(parts[depth:]))
    filled = {
        ".".join(parts[:depth])
        for parts in (name.split(".") for name in checkpoint.tensors)
        for depth in range(1, len(parts))
    }
    found: dict[str, str] = {}
    for part, within in sorted(inside.items()):
        # Numbers alone are those of any Sequential, which may hold nothing that has weights.
        if part in filled or part.startswith(tuple(f"{one}." for one in found)):
            continue
        pattern = re.compile(re.sub(r"(?<![^.])[0-9]+(?![^.])", "[0-9]+", re.escape(part)))
        if len(within) > 1 and any(not word.isdigit() for one in within for word in one.split(".")):
            alike = (o for o in inside if o in filled and pattern.fullmatch(o) and inside[o] == within)
            if (other := next(alike, None)) is not None:
                found[part] = other
    return found


class PartlyLoaded(Cause):
    """Weights that never reached the model: names or shapes differ."""

    name, group, level, needs = "weights only partly loaded", "file", "forward", ("checkpoint", "model")
    refuted_by = "a load report in which every tensor of the model comes from the file"

    def test(self, case: Case) -> Answer:
        try:
            report = case.load_report()
        except PartMissing as error:
            held = case.checkpoint()
            return self.found(
                f"no model can be built of the file, which lacks what every network of its layout has: "
                f"{', '.join(error.tensors)}; it holds {len(held.tensors)} other tensors ({held.identity})",
                fix="write the file again with every tensor of the network (model.state_dict()); look for a "
                "filter of names, or parameters that were not registered, in what wrote it",
                numbers=(Measurement("tensors missing that tell a size", len(error.tensors), expected=0.0),),
            )
        except NotAvailable:
            if not (seen := backbone_alone(case)):
                raise
            return self.found(
                f"the file holds a backbone only, and no weights of a head: {seen}",
                fix="open the checkpoint of the whole pose network, or train a head on this backbone first; "
                "look for what wrote the file (a filter of names, backbone.state_dict())",
            )
        if report.complete:
            return RuledOut(f"{percent(report.loaded_fraction)} of the parameters come from the file")
        evidence, fix = report.summary(), "use the config and the code that this checkpoint was trained with"
        effect = None
        loaded = case.loaded()
        if loaded is not case.as_given() and loaded.load is not None:
            names = "; ".join(rule.text for rule in report.remap)
            evidence += f"; renamed, {percent(loaded.load.loaded_fraction)} are loaded"
            fix = f"rename the tensors ({names}): --remap does it, or in your code before load_state_dict"
            effect = _effect_of(case, case.as_given())
        elif case.model_config() is not None and (other := _with_own_config(case)) is not None:
            evidence += (
                f"; with the config inside or beside the checkpoint {percent(other.loaded_fraction)} are"
            )
            fix = "give the config that belongs to this checkpoint; the one named is of another model"
        share = Measurement("share of the parameters loaded", report.loaded_fraction, expected=1.0)
        confidence = "proved" if effect is not None and effect.low > 0 else "measured"
        return self.found(evidence, fix=fix, numbers=(share,), effect=effect, confidence=confidence)


def backbone_alone(case: Case) -> str:
    """What tells that a checkpoint is a backbone without a head for keypoints; "" where it is none.

    Raises:
        NotAvailable: the checkpoint cannot be opened.
    """
    from workbench.checkpoints.identity import Shapes, backbone_of

    if case.given.checkpoint is None:
        return ""
    checkpoint = case.checkpoint()
    identity = checkpoint.identity
    if identity.keypoints is not None:
        return ""
    known = backbone_of(Shapes({name: tuple(info.shape) for name, info in checkpoint.tensors.items()}))
    if known is None and not identity.naming:
        return ""
    evidence = "; ".join(identity.evidence) or (known.evidence if known is not None else "")
    return f"{counted(len(checkpoint.tensors), 'tensor')}, {evidence}"


def _with_own_config(case: Case) -> LoadedModel | None:
    from workbench.models import open_model

    try:
        other = open_model(case.given.checkpoint, allow_partial=True)
    except (ValueError, LookupError, OSError):
        return None
    better = case.load_report().loaded_fraction + 0.01
    return other if other.load is not None and other.load.loaded_fraction > better else None


def _effect_of(case: Case, opened: LoadedModel) -> Effect | None:
    """AP that the model has beyond another one on the sample; None where nothing can be measured."""
    try:
        pose_set, after = case.pose_set(), case.of_model()
        model = opened.named_as(pose_set).model
        before = Evidence(pose_set, after.indices, model, stepped=case.step)
        found = gain(before.measure(), after.measure(), with_ap=True)
    except NotAvailable:
        return None
    return Effect("AP", found.AP, found.AP_low, found.AP_high, before.protocol())


class NotRun(Cause):
    """No model can be built of the files, or its forward pass fails."""

    name, group, level, needs = "model cannot be built or run", "file", "forward", ("model",)
    symptom_of = ("config keys at a wrong place",)
    refuted_by = "the same files running in the code that they were trained with"

    def test(self, case: Case) -> Answer:
        from workbench.doctor import explain

        seen, failure = "the model is built", ""
        # Where no config builds one that is said below.
        with contextlib.suppress(Failed):
            failure = case.config_failure()
        if failure:
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
                if make == case.evidence and (unread := self._unread(case)):
                    return RuledOut(f"{seen}; what fails is reading the images: {unread}")
                return self._failing(what, str(error), case.options.adapter)
            except NotAvailable:
                if make == case.as_given:
                    raise
                return self._unreadable(case) or RuledOut(seen)
        return RuledOut(f"{seen}, and a forward pass over samples gives outputs")

    def _failing(self, what: str, error: str, adapter: Path | None) -> Finding:
        """What fails, with the advice that fits whose code it is; the error is whole and last.

        Args:
            what: fails.
            error: its sentence.
            adapter: the user's own code, where it is the one that is run.
        """
        from workbench.doctor import explain

        known = explain(error)
        # What the doctor advises is for mmpose's configs; an adapter's own line is what is to be changed.
        if adapter is not None:
            fix = f"mend {adapter.name} where it raises this; the same call with --debug shows its traceback"
        elif known is not None:
            fix = known.do
        else:
            fix = "use the config and the code that this file was trained with"
        cause = f" ({known.cause.rstrip('.')})" if known is not None else ""
        return self.found(f"{what}{cause}: {error}", fix=fix)

    def _unreadable(self, case: Case) -> Finding | None:
        """The finding where the stated decoder reads other outputs than the codec states."""
        from workbench.decoding import decoders_for

        codec = case.model().codec
        if codec is None or codec.decoder in (readable := decoders_for(codec)):
            return None
        return self.found(
            f"its outputs cannot be read: the codec is {codec.kind}, and its decoder {codec.decoder} reads "
            "other outputs",
            fix=f"name one of {', '.join(readable)} as the codec's decoder",
        )

    def _unread(self, case: Case) -> str:
        """Why an image of the sample cannot be read; "" where all can."""
        try:
            for index in case.chosen():
                case.step()
                case.pose_set().sample(index)
        except USER_ERRORS as error:
            return sentence(error)
        return ""


CAUSES: tuple[Cause, ...] = (NotOpened(), NotRead(), Contradiction(), PartlyLoaded(), NotRun())
