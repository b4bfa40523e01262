"""From a file to a model that can be run: one module per family, and the adapter for a user's own code.

`open_model(file)` is the one door. What a checkpoint holds is copied into the network behind a gate: a model
that is not fully loaded is refused unless told otherwise, and then its load report says how far it is.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.core import Groups, NotAvailable, PoseModel, nearest
from workbench.core.capabilities import HasNote
from workbench.models.opening import Opening
from workbench.models.said import Said, said
from workbench.models.top_down import TopDown

if TYPE_CHECKING:
    from workbench.checkpoints import Checkpoint
    from workbench.checkpoints.loading import LoadReport
    from workbench.data import PoseSet

__all__ = ["FAMILIES", "LoadedModel", "TopDown", "open_model"]

FAMILIES: dict[str, str] = {
    "mmpose": "any mmpose 1.x config with its checkpoint",
    "higherhrnet": "HigherHRNet: heatmaps and tags of a whole image; people are told apart by their tags",
    "official_heatmaps": "HRNet and SimpleBaseline files of the published layouts, without a config",
    "movenet": "MoveNet: four maps, read from the centre outwards; without a config",
    "cape": "category-agnostic, autoregressive: keypoints one after the other, from a support example",
    "onnx": "an ONNX file with heatmap or SimCC outputs",
    "tflite": "a TensorFlow Lite file with heatmap or SimCC outputs; needs ai-edge-litert or tflite-runtime",
    "torchscript": "a TorchScript or torch.export file; loading one runs its code, so it must be asked for",
    "adapter": "your own model, through a Python file of yours",
}
"""Family -> one line. Its module is workbench.models.<family>, whose `load` answers an Opening."""


# What a file of a family may leave open, for its user to say; see workbench.models.said.
_CROP = ("padding", "mean", "std", "channels", "input")
_LEFT_OPEN = {
    "onnx": ("output", "layout", *_CROP),
    "tflite": ("output", "layout", *_CROP),
    "torchscript": ("output", "layout", *_CROP),
    "official_heatmaps": _CROP,
    "movenet": ("padding",),
}


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model, and what is known of how it came to be.

    Attributes:
        model: ready for workbench.core.run.
        load: what of the file went into the model; None where the file is the model (ONNX, TorchScript)
            or the adapter loads by itself.
        title: what to call it: ``rtmpose-demo, epoch 5``.
        family: a name of FAMILIES.
        checkpoint: the opened file; None when an adapter needs none.
    """

    model: PoseModel
    load: LoadReport | None
    title: str
    family: str
    checkpoint: Checkpoint | None = None

    def with_rules(self, words: Sequence[str]) -> LoadedModel:
        """The same, of a bottom-up model with some rules changed: ``nms_kernel=3``; itself without words.

        Raises:
            ValueError: no such rule or value, or the model is none that groups.
        """
        if not words:
            return self
        from workbench.models.bottom_up import BottomUp, wished

        if not isinstance(self.model, Groups):
            raise ValueError(f"--rule {words[0]}: only a bottom-up model has rules, {self.title} is none")
        if not isinstance(self.model, BottomUp):
            raise ValueError(
                f"--rule {words[0]}: rules can be changed of a workbench.models.bottom_up.BottomUp; "
                f"{self.title} groups by code of its own"
            )
        return replace(self, model=wished(self.model, words))

    def named_as(self, pose_set: PoseSet) -> LoadedModel:
        """The same, its keypoints called as in a data set where its file gives them no names."""
        from workbench.models.naming import named_as

        model = named_as(self.model, pose_set.skeleton, pose_set.name)
        return self if model is self.model else replace(self, model=model)

    @cached_property
    def sha256(self) -> str:
        """Of the checkpoint's bytes, worked out when first asked for; "" without a file."""
        return self.checkpoint.sha256() if self.checkpoint else ""

    @property
    def note(self) -> str:
        """What had to be assumed to open it; "" when nothing was."""
        return self.model.note if isinstance(self.model, HasNote) else ""

    @property
    def loaded_fraction(self) -> float:
        """Share of the model's parameters that came from the file; 1 where the file is the model."""
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
) -> LoadedModel:
    """A model ready to run.

    Args:
        file: a checkpoint, or the files of one; None only with an adapter that needs none.
        config: an mmpose config. By default the one inside the checkpoint, else the one beside it; both are
            read without running them.
        family: a name of FAMILIES; by default told from the file.
        adapter: the user's own Python file; it is run.
        remap: apply the proposed renaming of keys.
        allow_partial: go on with a model that is not fully loaded.
        device: as torch names it.
        run_config: `config` is the user's own code; False reads it by the restricted parser instead.
        output: which of an exported file's outputs are what: ``simcc_x=NAME,simcc_y=NAME``; see
            workbench.models.said.
        assume: what else the file leaves open: ``padding=1.1``, ``input=192x256``, ``expert=ap10k``.
        skeleton: what its keypoints are, a name of workbench.skeletons.SKELETONS; by default the file tells.

    Raises:
        NotAvailable: nothing tells how to build the model; the message says what to pass.
        ValueError: the file does not fill the model, a config or adapter is wrong, or the file is damaged.
        FileNotFoundError: no such file.
        KeyError: no such family.
    """
    from workbench.checkpoints import open_checkpoint
    from workbench.models.naming import skeleton_named, with_skeleton

    checked_device(device)
    paths = () if file is None else (Path(file),) if isinstance(file, (str, Path)) else tuple(map(Path, file))
    if not paths and adapter is None:
        raise ValueError("open_model: expected a checkpoint file; only an adapter can do without")
    checkpoint = open_checkpoint(paths[0] if len(paths) == 1 else list(paths)) if paths else None
    stated = said(output, assume)
    if checkpoint is not None and (remap or stated.expert is not None):
        checkpoint = replace(checkpoint, remap=remap, expert=stated.expert)
    opening = Opening(
        checkpoint=checkpoint,
        config=Path(config) if config else None,
        adapter=Path(adapter) if adapter else None,
        remap=remap,
        device=device,
        run_config=run_config,
        said=stated,
    )
    family = family or _family_of(opening)
    if family not in FAMILIES:
        raise KeyError(f"no family {family!r}; nearest: {nearest(family, FAMILIES)}")
    _check_said(stated, family)
    named = skeleton_named(skeleton) if skeleton else None
    model, report = _loaded(family, opening)
    if named is not None:
        model = with_skeleton(model, named, "as --skeleton says")
    if report is not None:
        report.require_complete(allow_partial)
    return LoadedModel(model, report, _title(checkpoint, opening.adapter), family, checkpoint)


def _loaded(family: str, opening: Opening) -> tuple[PoseModel, LoadReport | None]:
    load = importlib.import_module(f"workbench.models.{family}").load
    if family == "onnx":
        return load(opening)  # draws nothing, and is run without torch
    from workbench.models.randomness import private_randomness

    # Building draws first weights: what a partial file leaves of them is then alike each time.
    with private_randomness(0):
        return load(opening)


def checked_device(device: str) -> None:
    """Nothing, where torch can use the device.

    Raises:
        ValueError: it is no device, or there is none of that kind here.
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


def _check_said(stated: Said, family: str) -> None:
    """Refuse what a family does not ask for: it would be passed over in silence.

    Raises:
        ValueError: something is said that the family does not use.
    """
    open_here = _LEFT_OPEN.get(family, ("expert",))
    if unused := [name for name in stated.given() if name not in open_here]:
        where = [name for name, facts in _LEFT_OPEN.items() if unused[0] in facts]
        whose = ", ".join(where) if where else "ViTPose+ checkpoints"
        option = "--output" if unused[0] == "output" else f"--assume {', '.join(unused)}"
        raise ValueError(f"{option}: only {whose} leave that open; this is {family}")


def _family_of(opening: Opening) -> str:
    if opening.adapter:
        return "adapter"
    checkpoint = opening.required()
    if checkpoint.container.lower().startswith("onnx"):
        return "onnx"
    if checkpoint.container == "TensorFlow Lite":
        return "tflite"
    if checkpoint.container.lower().startswith(("torchscript", "torch.export")):
        raise NotAvailable(
            f"{checkpoint.path.name}: a {checkpoint.container} file is a program, and loading it runs it; "
            "pass --family torchscript if you trust where it came from"
        )
    if opening.config and _is_top_down(opening.config):
        return "mmpose"  # whatever the file is: how little of it such a model takes is the answer
    # mmpose 1.x has no HigherHRNet: a 0.x config inside the file could not be built. With names of 1.x and a
    # config it is somebody's own code.
    told = checkpoint.identity.family
    own = told == "HigherHRNet (mmpose 1.x names)" and (opening.config or checkpoint.config_text)
    if told.startswith("HigherHRNet") and not own:
        return "higherhrnet"
    if "cape" in checkpoint.meta:
        return "cape"
    if opening.config or checkpoint.config_text or opening.beside:
        return "mmpose"
    # Layouts that tensors alone describe.
    if told.startswith("MoveNet"):
        return "movenet"
    if told.startswith(("HRNet (", "SimpleBaseline ResNet (")):
        return "official_heatmaps"
    raise NotAvailable(
        f"{checkpoint.path.name}: holds weights ({checkpoint.identity.family}) but no config to build the "
        "model from; pass --config with its mmpose config, or --adapter with your own Python file"
    )


def _is_top_down(config: Path) -> bool:
    """The config names one of mmpose's top-down estimators; no where it cannot be told without running it."""
    from workbench.checkpoints.config_text import read_config

    with contextlib.suppress(ValueError, OSError):
        model = read_config(config).get("model")
        kind = model.get("type") if isinstance(model, Mapping) else None
        return isinstance(kind, str) and kind.rpartition(".")[2].lower().startswith("topdown")
    return False


def _title(checkpoint: Checkpoint | None, adapter: Path | None) -> str:
    if checkpoint is None:
        return adapter.stem if adapter else "model"
    if checkpoint.epoch is None:
        return checkpoint.path.stem
    return f"{checkpoint.path.resolve().parent.name}, epoch {checkpoint.epoch}"
