"""Interactive diagnostics for pose-estimation models."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

__version__ = "0.1.0"

# Rooms that have moved, so that adapters and notebooks of users go on working: old name -> new name.
FORMER_NAMES = {
    "workbench.records.samples": "workbench.core.sample",
    "workbench.records.skeleton": "workbench.core.sample",
    "workbench.records": "workbench.core",
    "workbench.report": "workbench.core.report",
    "workbench.run": "workbench.core.run",
    "workbench.hooks": "workbench.core.hooks",
    "workbench.geometry": "workbench.core.geometry",
    "workbench.files": "workbench.core.files",
    "workbench.decoding.flip": "workbench.core.flip",
    "workbench.demo": "workbench.checkpoints.demo",
    "workbench.grouping": "workbench.decoding.grouping",
    "workbench.oracle": "workbench.evaluation.oracle",
    "workbench.ablation": "workbench.evaluation.ablation",
    "workbench.experiments": "workbench.training.experiments",
    "workbench.tags": "workbench.inspectors.grouping",
    "workbench.rollout": "workbench.inspectors.sequence",
    "workbench.conditioning": "workbench.inspectors.conditioning",
    "workbench.cli.looking": "workbench.cli.report_output",
    "workbench.core.needs": "workbench.core.inspector",
    "workbench.core.outputs": "workbench.core.model",
    "workbench.models.config_text": "workbench.models.mmpose_user_text",
}


class _FormerNames(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a module by its former name, with a warning that gives the new one."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        for old, new in FORMER_NAMES.items():
            if fullname == old or fullname.startswith(f"{old}."):
                return importlib.machinery.ModuleSpec(fullname, self, loader_state=new + fullname[len(old) :])
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        name: str = spec.loader_state
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"No module named {spec.name!r}", name=spec.name) from error
        warnings.warn(f"{spec.name} is now {name}", FutureWarning, stacklevel=6)
        # The import system is about to write the former name's spec into the module.
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None and spec.loader is self:
            module.__spec__ = spec.loader_state


# Last: only names that nothing else finds come here.
sys.meta_path.append(_FormerNames())
