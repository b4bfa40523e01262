"""What was asked for when a model was opened, and where its config comes from."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core import NotAvailable, Skeleton, reason
from workbench.models.opening import StatedFacts as Said

if TYPE_CHECKING:
    from workbench.checkpoints import Checkpoint

# A folder with more Python files is a project, not a run.
_NEIGHBOURS = 20


@dataclass(frozen=True)
class Opening:
    """The arguments of open_model that a family sees.

    Attributes:
        checkpoint: opened, nothing read; None when only an adapter was given.
        config: named by the user.
        adapter: named by the user.
        remap: apply the proposed renaming of keys.
        device: as torch names it.
        run_config: `config` is the user's own code and may be run.
        said: what the user says of the file.
    """

    checkpoint: Checkpoint | None
    config: Path | None = None
    adapter: Path | None = None
    remap: bool = False
    device: str = "cpu"
    run_config: bool = True
    said: Said = field(default_factory=Said)

    @cached_property
    def beside(self) -> dict[Path, Mapping[str, Any]]:
        """Configs that lie beside the checkpoint, read and not run: mmengine's Runner leaves its own there.

        Files that are no model config, or that would have to be run, are scripts and are passed over.
        """
        from workbench.checkpoints.config_text import config_budget, read_config

        if self.checkpoint is None:
            return {}
        found = {}
        folder = self.checkpoint.path.resolve().parent
        budget = config_budget(f"{folder.name}/*.py")  # one for all of them together
        for path in sorted(folder.glob("*.py"))[:_NEIGHBOURS]:
            if path.resolve().parent != folder:
                continue  # a link to a file that is not of this run
            with contextlib.suppress(ValueError, OSError):
                config = read_config(path, folder, budget)
                if isinstance(config.get("model"), Mapping):
                    found[path] = config
        return found

    def required(self) -> Checkpoint:
        """The checkpoint.

        Raises:
            NotAvailable: none was given.
        """
        if self.checkpoint is None:
            raise NotAvailable("a checkpoint: this family needs a file")
        return self.checkpoint

    def read_config(self) -> Mapping[str, Any]:
        """The config: the user's own is run, one that came with the checkpoint is only read.

        Raises:
            NotAvailable: there is none, or several lie beside the checkpoint.
            ValueError: it cannot be read without running it.
        """
        from workbench.checkpoints.config_text import read_config

        if self.config is not None and self.run_config:
            from workbench.models.mmpose.model import run_config

            return run_config(self.config)
        if self.config is not None:
            return read_config(self.config)
        checkpoint = self.required()
        if checkpoint.config_text:
            return read_config(checkpoint.config_text)
        if len(self.beside) == 1:
            return next(iter(self.beside.values()))
        names = ", ".join(path.name for path in list(self.beside)[:4])
        raise NotAvailable(
            f"config: {checkpoint.path.name} holds none"
            + (f", and several lie beside it ({names})" if names else ", and none lies beside it")
            + "; pass --config"
        )


def skeleton_from_plain(told: Any, family: str) -> Skeleton:
    """The skeleton that a checkpoint of this workbench carries as plain data.

    Args:
        told: the fields of a Skeleton.
        family: what to call the checkpoint in messages.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        names = tuple(str(name) for name in told["keypoints"])
        pairs = tuple((int(a), int(b)) for a, b in told.get("limbs", ()))
        mirror = tuple(int(k) for k in told.get("mirror", ()))
        sigmas = tuple(float(s) for s in told.get("sigmas", ()))
        return Skeleton(str(told["name"]), names, pairs, mirror, sigmas, str(told.get("source", "")))
    except (TypeError, KeyError, AttributeError) as wrong:
        raise ValueError(f"{family}: the checkpoint's skeleton cannot be read: {reason(wrong)}") from wrong
