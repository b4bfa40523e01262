"""From a file to a model that can be run: one module per family, and the adapter for a user's own code.

Use `open_model(file)`. A model that the checkpoint does not fill completely is refused unless that is
allowed; its load report says which share of the parameters was loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.identity import identify_shapes
from workbench.core import Groups, PoseModel
from workbench.core.capabilities import HasNote
from workbench.models.families import Family, explained, families, family_named, family_of
from workbench.models.opening import Opening, StatedFacts, check_one_builder, stated_facts
from workbench.models.top_down import TopDown

if TYPE_CHECKING:
    from workbench.checkpoints import Checkpoint
    from workbench.checkpoints.loading import LoadReport
    from workbench.data import PoseSet

__all__ = ["FAMILIES", "LoadedModel", "TopDown", "open_model"]

if TYPE_CHECKING:
    FAMILIES: dict[str, str]


def __getattr__(name: str) -> dict[str, str]:
    """``FAMILIES``: name of a family -> one line about it; other packages are searched when it is read."""
    if name == "FAMILIES":
        return {family.name: family.summary for family in families()}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model and where it comes from.

    Attributes:
        model: ready for workbench.core.run.
        load: which tensors of the file went into the model; None where the file is the model (ONNX,
            TorchScript) or the adapter fills the network without a report.
        title: for people: ``rtmpose-demo, epoch 5``.
        family: a name of FAMILIES.
        checkpoint: the opened file; None where an adapter was opened without one.
    """

    model: PoseModel
    load: LoadReport | None
    title: str
    family: str
    checkpoint: Checkpoint | None = None

    def with_rules(self, words: Sequence[str]) -> LoadedModel:
        """The same bottom-up model with some rules changed; itself where no word is given.

        Args:
            words: each ``NAME=VALUE``, as `--rule` takes them: ``nms_kernel=3``.

        Raises:
            ValueError: no such rule or value, or the model does not group keypoints.
        """
        if not words:
            return self
        from workbench.models.bottom_up import BottomUp, with_rules

        if not isinstance(self.model, Groups):
            raise ValueError(f"--rule {words[0]}: only a bottom-up model has rules, {self.title} is none")
        if not isinstance(self.model, BottomUp):
            raise ValueError(
                f"--rule {words[0]}: rules can be changed of a workbench.models.bottom_up.BottomUp; "
                f"{self.title} groups by code of its own"
            )
        return replace(self, model=with_rules(self.model, words))

    def named_as(self, pose_set: PoseSet) -> LoadedModel:
        """The same; where its file gives the keypoints no names, they get those of a data set."""
        from workbench.models.naming import named_as

        model = named_as(self.model, pose_set.skeleton, pose_set.name)
        return self if model is self.model else replace(self, model=model)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the checkpoint's bytes, computed at first use; "" without a file."""
        return self.checkpoint.sha256() if self.checkpoint else ""

    @property
    def note(self) -> str:
        """What had to be assumed to open it; "" when nothing was."""
        return self.model.note if isinstance(self.model, HasNote) else ""

    @property
    def loaded_fraction(self) -> float:
        """Share of the model's parameters that the file filled, 0..1; 1 where the file is the model."""
        return 1.0 if self.load is None else self.load.loaded_fraction


def open_model(
    file: Path | str | Sequence[Path] | None,
    *,
    config: Path | str | None = None,
    family: str | None = None,
    adapter: Path | str | None = None,
    remap: bool = False,
    allow_partial: bool = False,
    device: str = "cpu",
    run_config: bool = True,
    output: Sequence[str] = (),
    assume: Sequence[str] = (),
    skeleton: str | None = None,
    resample_pos_embed: bool = False,
) -> LoadedModel:
    """Open a checkpoint as a model that is ready to run.

    Args:
        file: a checkpoint, or the files of one in parts; None only with an adapter that needs no file.
        config: an mmpose config. By default the one inside the checkpoint, else the one beside it; both are
            read without running them.
        family: a name of FAMILIES; by default it is recognised by the file's tensors.
        adapter: the user's own Python file; it is run, and builds the model without a config or a family.
        remap: apply the proposed renaming of tensors.
        allow_partial: accept a model that is not fully loaded.
        device: as torch names it: ``cpu``, ``cuda:1``.
        run_config: run `config` as the user's own code; False reads it with the restricted parser instead.
        output: which output of an exported file is what: ``simcc_x=NAME,simcc_y=NAME``.
        assume: other facts that the file leaves open: ``padding=1.1``, ``input=192x256`` (width x height),
            ``expert=ap10k``; see workbench.models.opening.StatedFacts.
        skeleton: a name of workbench.skeletons.SKELETONS for the keypoints; the file's own by default.
        resample_pos_embed: resample a vision transformer's position embedding for an input of another size.

    Raises:
        NotAvailable: nothing tells how to build the model; the message says what to pass.
        ValueError: the file does not fill the model, a config or adapter is wrong, both were named, or the
            file is damaged.
        FileNotFoundError: no such file.
        KeyError: no such family.

    Example:
        >>> from workbench.checkpoints.demo import demo_checkpoints
        >>> from workbench.models import open_model
        >>> loaded = open_model(demo_checkpoints("cape-demo-defects")[-1])
        >>> loaded.family, loaded.loaded_fraction, loaded.model.skeleton.name
        ('cape', 1.0, 'ap10k-17')
    """
    from workbench.models.naming import called, with_skeleton
    from workbench.skeletons import skeleton_named

    check_one_builder(config, family, adapter)
    checked_device(device)
    paths = () if file is None else (Path(file),) if isinstance(file, (str, Path)) else tuple(map(Path, file))
    if not paths and adapter is None:
        raise ValueError("open_model: expected a checkpoint file; only an adapter needs none")
    checkpoint = open_checkpoint(paths[0] if len(paths) == 1 else list(paths)) if paths else None
    stated = stated_facts(output, assume)
    if checkpoint is not None and (remap or stated.expert is not None):
        checkpoint = replace(checkpoint, remap=remap, expert=stated.expert)
    opening = Opening(
        checkpoint=checkpoint,
        config=Path(config) if config else None,
        adapter=Path(adapter) if adapter else None,
        remap=remap,
        device=device,
        run_config=run_config,
        stated=stated,
        resample_pos_embed=resample_pos_embed,
    )
    record = family_named(family) if family else family_of(opening)
    _check_stated(stated, record)
    if resample_pos_embed and "pos_embed" not in record.leaves_open:
        raise ValueError(f"--resample-pos-embed: only vision transformers have one; this is {record.name}")
    named = skeleton_named(skeleton) if skeleton else None
    model, report = _loaded(record, opening)
    if named is not None:
        model = with_skeleton(model, named, called(named, "as --skeleton says"))
    if report is not None and checkpoint is not None:
        shapes = {name: tuple(tensor.shape) for name, tensor in model.module.state_dict().items()}
        report = replace(report, why=explained(checkpoint.identity, report) or report.why)
        report = report.is_of(checkpoint.identity, identify_shapes(shapes))
        report.require_complete(allow_partial)
    return LoadedModel(model, report, _title(checkpoint, opening.adapter), record.name, checkpoint)


def _loaded(family: Family, opening: Opening) -> tuple[PoseModel, LoadReport | None]:
    if not family.needs_torch:
        return family.load(opening)
    from workbench.models.randomness import private_randomness

    # Building draws first weights: what a partial file leaves of them is then alike each time.
    with private_randomness(0):
        return family.load(opening)


def checked_device(device: str) -> None:
    """Raise if the device is unavailable.

    Raises:
        ValueError: it is no device, or this machine has none of that kind.
    """
    if device == "cpu":
        return  # needs no torch to be known
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ValueError(f"device: expected cpu, cuda, cuda:1 ..., got {device!r}") from None
    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not usable.get(kind, False):
        raise ValueError(f"device {device!r}: none here; use cpu")


def _check_stated(stated: StatedFacts, family: Family) -> None:
    """Refuse facts that the family does not use, instead of ignoring them silently.

    Raises:
        ValueError: a fact is stated that the family does not use.
    """
    if unused := [name for name in stated.given() if name not in family.leaves_open]:
        where = [one.name for one in families() if unused[0] in one.leaves_open]
        whose = {"expert": "ViTPose+ checkpoints", "heads": "ViTPose and Sapiens checkpoints"}.get(
            unused[0], ", ".join(where)
        )
        option = "--output" if unused[0] == "output" else f"--assume {', '.join(unused)}"
        raise ValueError(f"{option}: only {whose} leave that open; this is {family.name}")


def _title(checkpoint: Checkpoint | None, adapter: Path | None) -> str:
    if checkpoint is None:
        return adapter.stem if adapter else "model"
    if checkpoint.epoch is None:
        return checkpoint.path.stem
    return f"{checkpoint.path.resolve().parent.name}, epoch {checkpoint.epoch}"
