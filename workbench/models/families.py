"""One record per family of networks: how its files are recognised, opened, started afresh and trained.

A family stands in one module (or folder) as a `Family` called ``FAMILY``. It is registered by one line in
workbench.checkpoints.identity.FAMILY_MODULES, or by another package under the entry point
``workbench.families``; nothing else in the workbench names it. Recognising a file imports every record, so a
record's module imports nothing heavy: torch and the network's own module are imported inside its functions,
or named by `deferred`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from workbench.checkpoints.identity import registered_families
from workbench.core import NotAvailable, PoseModel, Skeleton, nearest

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from workbench.checkpoints import Checkpoint
    from workbench.checkpoints.identity import Identity, Shapes
    from workbench.checkpoints.loading import LoadReport
    from workbench.models.opening import Opening, StatedFacts


@dataclass(frozen=True)
class FreshOptions:
    """What a network with first weights is made for.

    Attributes:
        skeleton: the keypoints that it predicts.
        seed: of the first weights; torch's generators are seeded with it already while `Fresh.build` runs.
        device: as torch names it.
    """

    skeleton: Skeleton
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True)
class Fresh:
    """One network of a family that can be started from first weights, by `workbench overfit NAME`.

    Attributes:
        name: as users write it.
        build: from options to a model with first weights and its title.
        skeletons: names of the skeletons that it exists for; empty for any.
        learns_as: which training settings suit it: ``crops`` (top-down), ``sequence`` or ``whole images``.
        only: for the error about another skeleton, why there are these only.
        config: from the name of a skeleton to the config that the network is built from, which a checkpoint
            of it needs beside it; None where weights alone tell how to build it.
    """

    name: str
    build: Callable[[FreshOptions], tuple[PoseModel, str]]
    skeletons: tuple[str, ...] = ()
    learns_as: Literal["crops", "sequence", "whole images"] = "crops"
    only: str = ""
    config: Callable[[str], Path] | None = None


@dataclass(frozen=True)
class ConfigModules:
    """Modules of a family that an mmpose config may name beside mmpose's own.

    Attributes:
        named_in: whether the model's part of a config names one of them.
        register: makes them known to mmpose; a second call does nothing.
        making_room: context in which a user's own code may register the same names.
        fitted: from a whole config and the names of a file's tensors to the config with what it leaves open.
        built: whether a network was built of them.
        wrapped: from the model of such a network, the config, and the folder where files that it names may
            lie, to the model of the family.
    """

    named_in: Callable[[Any], bool]
    register: Callable[[], None]
    making_room: Callable[[], AbstractContextManager[None]]
    fitted: Callable[[Mapping[str, Any], Collection[str]], Mapping[str, Any]]
    built: Callable[[Any], bool]
    wrapped: Callable[[Any, Mapping[str, Any], Path | None], PoseModel]


class Converted(Protocol):
    """What a conversion wrote; a dataclass whose fields are the JSON of `workbench convert`.

    Attributes:
        file: name of the file that was read.
        files: that were written.
        notes: what the two code bases do not agree on.
        dropped: tensors that were left out because the user named them.
        left: what the file holds besides and the new one does not, in words.
        config: a config that the new weights need beside them; None for none.
    """

    @property
    def file(self) -> str: ...

    @property
    def files(self) -> tuple[str, ...]: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def dropped(self) -> tuple[str, ...]: ...

    @property
    def left(self) -> tuple[str, ...]: ...

    @property
    def config(self) -> dict[str, Any] | None: ...

    def summary(self) -> str:
        """One sentence."""
        ...


@dataclass(frozen=True)
class Conversions:
    """How weights of a family are written under the names of another code base: `workbench convert`.

    Attributes:
        namings: as `--to` takes them -> what they are called; unique among all families.
        convert: from a checkpoint, a naming, the new file, StatedFacts, names of tensors to leave out, and
            whether outputs are compared (None: if that is quick) to what was written.
        facts: names of `--assume` that a conversion may need.
        demo: from a folder and a naming to a tiny file to convert and the name of the converted one.
        demo_naming: to which the demo is converted when none is named.
    """

    namings: Mapping[str, str]
    convert: Callable[[Checkpoint, str, Path, StatedFacts, Sequence[str], bool | None], Converted]
    facts: tuple[str, ...]
    demo: Callable[[Path, str], tuple[Path, str]]
    demo_naming: str


@dataclass(frozen=True)
class CommonNames:
    """One naming for networks of a family, whichever code base they are of: what `workbench port` pairs by.

    Attributes:
        state: from the tensors of any network to the same under common names; of no known naming: unchanged.
        paths: from the names of a network's tensors and paths of its modules to path -> common path.
        demo: from a folder to two tiny files of one network, the second a port with a mistake.
    """

    state: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
    paths: Callable[[Sequence[str], Sequence[str]], Mapping[str, str]]
    demo: Callable[[Path], tuple[Path, Path]]


@dataclass(frozen=True)
class Demo:
    """A tiny network with random weights, for `--demo` where no demo run can answer.

    Attributes:
        title: for people: ``a random ViTPose``.
        note: why it was taken, for people.
        write: from a folder to the file that was written there.
    """

    title: str
    note: str
    write: Callable[[Path], Path]


@dataclass(frozen=True)
class Family:
    """A family of networks.

    Attributes:
        name: as `--family` takes it; unique.
        summary: one line for people.
        load: from an Opening to a model and its LoadReport; the report is None where the file is the model.
        identify: from names and shapes of tensors to an Identity, or None where they are of another family;
            None for a family that cannot be told from tensors.
        opens: whether an Opening is one for this family when the user names none. By default: its checkpoint
            was identified by this record. May raise NotAvailable with what the user has to do first.
        deny: from a file's name in lower case and the Identity that was found to sentences that contradict
            the name.
        explain: from the Identity of a file and the report of a load that did not fill the model to a
            sentence about the reason, or "".
        fresh: networks that can be started from first weights.
        training_view: from any model and the number of steps to the model as the trainer needs it, or None
            for a model of another family. Without it the trainer decides by the model's capabilities
            (objective of its own, rollout, grouping) and its codec.
        save: from a model, a path and a number of epochs to a file that the workbench opens again.
        leaves_open: facts that a file of this family may leave to its user: names of `--assume`, ``output``,
            and ``pos_embed`` where a position embedding can be resampled.
        takes_adapter: it opens the user's own Python file (`--adapter`) instead of a checkpoint.
        file_is_model: nothing can be missing from a file that opens, so it needs no report of a load.
        config_modules: modules that an mmpose config may name; None for none.
        conversions: how its weights are written under other names; None where they cannot.
        common_names: by which its networks are compared with those of other code bases; None for their own.
        demo: a tiny network with random weights; None for none.
        needs_torch: loading draws first weights, so random numbers are seeded; False keeps torch out.
    """

    name: str
    summary: str
    load: Callable[[Opening], tuple[PoseModel, LoadReport | None]]
    identify: Callable[[Shapes], Identity | None] | None = None
    opens: Callable[[Opening], bool] | None = None
    deny: Callable[[str, Identity], Iterable[str]] | None = None
    explain: Callable[[Identity, LoadReport], str] | None = None
    fresh: tuple[Fresh, ...] = ()
    training_view: Callable[[Any, int], Any | None] | None = None
    save: Callable[[Any, Path, int], None] | None = None
    leaves_open: tuple[str, ...] = ("expert",)
    takes_adapter: bool = False
    file_is_model: bool = False
    config_modules: ConfigModules | None = None
    conversions: Conversions | None = None
    common_names: CommonNames | None = None
    demo: Demo | None = None
    needs_torch: bool = True


def deferred(module: str, name: str) -> Callable[..., Any]:
    """A function of a module that is imported when the function is called.

    Args:
        module: its full name.
        name: of the function in it.
    """

    def call(*arguments: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*arguments)

    return call


def families() -> tuple[Family, ...]:
    """All families, the workbench's own first, then those of other packages.

    Raises:
        ValueError: another package's record cannot be imported or is none.
    """
    return registered_families()


def family_named(name: str) -> Family:
    """The family of a name.

    Raises:
        KeyError: there is none; the message lists near names.
    """
    known = {family.name: family for family in families()}
    if name not in known:
        raise KeyError(f"no family {name!r}; nearest: {nearest(name, known)}")
    return known[name]


def family_of(opening: Opening) -> Family:
    """The family that opens what the user named; the last registered is asked first.

    Raises:
        NotAvailable: nothing tells how to build the model; the message says what to pass.
    """
    for family in reversed(families()):
        if family.takes_adapter is not (opening.adapter is not None):
            continue
        if family.takes_adapter:
            return family
        if family.opens is None:
            if family.identify is not None and opening.required().identity.record == family.name:
                return family
        elif family.opens(opening):
            return family
    checkpoint = opening.required()
    raise NotAvailable(
        f"{checkpoint.path.name}: holds weights ({checkpoint.identity.family}) but no config to build the "
        f"model from{opening.unread}; pass --config with its mmpose config, or --adapter with your own "
        "Python file"
    )


def config_modules() -> tuple[ConfigModules, ...]:
    """Modules of all families that an mmpose config may name."""
    return tuple(family.config_modules for family in families() if family.config_modules is not None)


def conversions() -> dict[str, Conversions]:
    """Naming, as `workbench convert --to` takes it -> the conversions that write it, of all families.

    Raises:
        ValueError: two families have a naming of the same name.
    """
    found: dict[str, Conversions] = {}
    for family in families():
        if (offered := family.conversions) is None:
            continue
        for naming in offered.namings:
            if naming in found:
                raise ValueError(f"family {family.name}: another family writes {naming!r} already")
            found[naming] = offered
    return found


def conversion_to(naming: str) -> Conversions:
    """The conversions that write a naming.

    Raises:
        ValueError: none does; the message lists near names.
    """
    known = conversions()
    if naming not in known:
        raise ValueError(
            f"--to {naming}: expected one of {', '.join(known)} (nearest: {nearest(naming, known)})"
        )
    return known[naming]


def common_names() -> tuple[CommonNames, ...]:
    """How families call their networks alike, of all that do."""
    return tuple(family.common_names for family in families() if family.common_names is not None)


def explained(identity: Identity, report: LoadReport) -> str:
    """Why a model does not get all of its weights from a file, where the file's family knows it; else "".

    Args:
        identity: of the file.
        report: of the load.
    """
    family = next((one for one in families() if one.name == identity.record), None)
    if report.complete or family is None or family.explain is None:
        return ""
    return family.explain(identity, report)


def fresh_networks() -> dict[str, Fresh]:
    """Networks that can be started from first weights, by name.

    Raises:
        ValueError: two families have a network of the same name.
    """
    found: dict[str, Fresh] = {}
    for family in families():
        for network in family.fresh:
            if network.name in found:
                raise ValueError(f"family {family.name}: another family starts {network.name!r} already")
            found[network.name] = network
    return found


def fresh_network(name: str, skeleton: str) -> Fresh:
    """The network of a name, once it is clear that it exists for a skeleton.

    Args:
        name: of the network.
        skeleton: name of a skeleton.

    Raises:
        KeyError: no such network; the message lists near names.
        NotAvailable: it does not exist for this skeleton.
    """
    known = fresh_networks()
    if name not in known:
        raise KeyError(f"no network {name!r} to train from initial weights; there are {', '.join(known)}")
    network = known[name]
    if network.skeletons and skeleton not in network.skeletons:
        raise NotAvailable(f"{name} for skeleton {skeleton}: {network.only}")
    return network


def training_view(model: Any, steps: int) -> Any | None:
    """The model as its family has it trained; None where no family has a view of its own.

    Args:
        model: any PoseModel.
        steps: of the training.
    """
    for family in reversed(families()):
        view = family.training_view(model, steps) if family.training_view else None
        if view is not None:
            return view
    return None
