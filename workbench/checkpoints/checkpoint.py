"""An opened checkpoint: what its file says, and its tensors, which stay on disk until they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.checkpoints.averages import Averages
from workbench.checkpoints.history import History
from workbench.checkpoints.identity import Identity, identify
from workbench.checkpoints.state_dicts import is_statistic, unread_text
from workbench.checkpoints.tensors import TensorInfo, Unread, own_elements, read_tensor, read_together
from workbench.core import nearest
from workbench.core.files import sha256_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """An opened checkpoint: one file, or several that make one model.

    Attributes:
        paths: its files.
        container: the file format: ``torch zip``, ``torch pickle before 1.6``, ``safetensors`` ...
        format: who wrote it: ``mmengine``, ``mmcv 0.x``, ``Lightning``, ``bare state dict`` ...
        tensors: the weights by name, as the file names them inside its wrapper.
        wrapper: key of the weights in the file, "" when the file is the state dict.
        prefix: prefix of a wrapper that all names share (``module.`` ...), "" if none.
        history: what the file says of its training.
        averages: averaged (EMA) and raw weights.
        inert: classes and functions that the file names and that were neither imported nor called.
        facts: what the container says: ONNX inputs and outputs, safetensors metadata ...
        remap: whether `load_state` applies the proposed renaming by default.
        expert: of a ViTPose+ file, the number of the data set's expert to load; None for the one with the
            model's number of keypoints.
        unread: tensors of the state dict whose numbers are not read (quantised, sparse ...), by name.
        left: further weights in the files that are not among the tensors, in words.
        modules: of the network that wrote the file, as torch lists them beside its weights; () without it.
    """

    paths: tuple[Path, ...]
    container: str
    format: str
    tensors: Mapping[str, TensorInfo]
    wrapper: str = ""
    prefix: str = ""
    history: History = field(default_factory=History)
    averages: Averages = field(default_factory=Averages)
    inert: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    remap: bool = False
    expert: int | None = None
    unread: Mapping[str, Unread] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """Its first file."""
        return self.paths[0]

    @property
    def meta(self) -> dict[str, Any]:
        """What the file holds besides weights, as plain data."""
        return self.history.meta

    @property
    def epoch(self) -> int | None:
        """Finished epochs; None when the file does not say."""
        return self.history.epoch

    @property
    def iteration(self) -> int | None:
        """Optimiser steps; None when the file does not say."""
        return self.history.iteration

    @property
    def metrics(self) -> dict[str, float]:
        """Name -> latest value in the file."""
        return self.history.metrics

    @property
    def metrics_note(self) -> str:
        """A sentence where validation metrics in the file belong to other weights than these; else "".

        mmengine and mmcv write the checkpoint of an epoch before they validate it: what the file holds is the
        figure of the weights before. The file of a best epoch is written after its validation, and mmengine
        then writes that epoch's own file again. Where the file states its stage, that decides; its name else.
        """
        if self.format not in ("mmengine", "mmcv 0.x") or self.history.after_validation:
            return ""
        if self.history.after_validation is None and self.path.stem.lower().startswith("best"):
            return ""
        counts = [
            len(numbers)
            for name, numbers in self.history.series.items()
            if name.startswith("val/") and not name.endswith("time")
        ]
        if not counts and "best_score" not in self.metrics:
            return ""
        if counts and self.epoch is not None and max(counts) >= self.epoch:
            return ""
        names = "val/..." if counts else "best_score"
        every = bool(counts) and self.epoch is not None and max(counts) == self.epoch - 1
        here = "these weights" if self.epoch is None else f"epoch {self.epoch}"
        before = f"epoch {self.epoch - 1}" if every and self.epoch else "an earlier validation"
        return f"{names}: of {before}, not of {here}, whose file was written before it was validated"

    @property
    def dataset_meta(self) -> dict[str, Any]:
        """Keypoint names, flip pairs, sigmas, classes, where the file has them."""
        return self.history.dataset_meta

    @property
    def versions(self) -> dict[str, str]:
        """Package -> version, as the file says."""
        return self.history.versions

    @property
    def config_text(self) -> str | None:
        """The training config inside the file; `config_reader.read_config` reads it without running it."""
        return self.history.config_text

    @property
    def optimizer(self) -> str | None:
        """The optimiser's state in words; None without one."""
        return self.history.optimizer

    @property
    def ema(self) -> str:
        """Which weights are averaged, in a sentence; "" when none are."""
        return self.averages.text

    def infos(self, ema: bool | None = None) -> Mapping[str, TensorInfo]:
        """The weights on disk.

        Args:
            ema: None for those that the file's own trainer would load, True for the averaged ones, False for
                the raw ones.

        Raises:
            LookupError: averaged or raw weights are asked for and there are none.
        """
        if ema is None or (not ema and not self.averages.text):
            return self.tensors
        if ema and not self.averages.averaged:
            raise LookupError(f"{self.path.name} holds no averaged (EMA) weights")
        if not ema and not self.averages.raw:
            raise LookupError(f"{self.path.name} holds averaged (EMA) weights alone, and no raw ones")
        return self.averages.averaged if ema else self.averages.raw

    def read(self, name: str) -> Tensor:
        """One tensor in the shape that its TensorInfo states, read now, bit for bit as torch.load gives it.

        Raises:
            KeyError: no tensor of that name; the message lists near ones.
            ValueError: its type cannot be read, or the file became shorter.
        """
        if name in self.unread:
            raise ValueError(f"{self.path.name}: {name} is {self.unread[name].kind}, which is not read")
        if name not in self.tensors:
            raise KeyError(f"no tensor {name!r} in {self.path.name}; nearest: {nearest(name, self.tensors)}")
        return read_tensor(self.tensors[name])

    def state_dict(self, ema: bool | None = None) -> dict[str, Tensor]:
        """All tensors in the file's shapes, read now; those that share a storage on disk share it in memory.

        Args:
            ema: see infos.

        Raises:
            ValueError: a tensor cannot be read.
            LookupError: averaged or raw weights are asked for and there are none.
        """
        return read_together(self.infos(ema))

    @property
    def parameters(self) -> int:
        """Number of weights: floating-point numbers without the running statistics of normalisation.

        Weights that several tensors share are counted once.
        """
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        """First part of the name -> number of weights, in the file's order; shared ones count where first."""
        found: dict[str, int] = {}
        for name, count in self._own.items():
            part = name.removeprefix(self.prefix).partition(".")[0]
            found[part] = found.get(part, 0) + count
        return found

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of weights that share all elements with earlier tensors, and are not counted again."""
        return tuple(name for name, count in self._own.items() if not count and self.tensors[name].numel)

    @cached_property
    def _own(self) -> dict[str, int]:
        weights = {n: i for n, i in self.tensors.items() if i.is_floating and not is_statistic(n)}
        return own_elements(weights)

    @property
    def unread_text(self) -> str:
        """Number of tensors that are not read, by kind; "" when all are."""
        return unread_text(self.unread.values())

    @property
    def dtypes(self) -> dict[str, int]:
        """Type -> number of tensors, most frequent first."""
        names = [info.dtype for info in self.tensors.values()]
        return {name: names.count(name) for name in sorted(set(names), key=lambda n: -names.count(n))}

    @cached_property
    def identity(self) -> Identity:
        """The family that its tensors, its file name and its config tell."""
        shapes = {name: info.shape for name, info in self.tensors.items()}
        return identify(shapes, self.path.name, self.config_text)

    def sha256(self) -> str:
        """Hash of the file; of several files, of their hashes one after the other. Reads every byte."""
        hashes = [sha256_of(path) for path in self.paths]
        if len(hashes) == 1:
            return hashes[0]
        return hashlib.sha256("".join(hashes).encode()).hexdigest()
