"""mmengine's Runner writes the rows of a Session, and can be held like one.

Importing this module registers the hook, so an mmpose config needs two lines and no code beside it:

    custom_imports = dict(imports=["workbench.training.runner_hook"])
    custom_hooks = [dict(type="WorkbenchHook")]

Rows are read with `workbench.training.run_folder.read_rows(work_dir / "workbench" / "rows")` while it runs; the run
is held by files in ``work_dir/workbench``, see workbench.training.runner_hook.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from workbench.training.measures import norms
from workbench.training.run_folder import RowWriter
from workbench.training.runner_hook import RunControl as Held
from workbench.training.session import FLUSH_SECONDS

if TYPE_CHECKING:
    import torch
    from mmengine.runner import Runner


class Stopped(SystemExit):
    """Somebody asked the Runner to end: its script ends with one sentence and no traceback."""


@HOOKS.register_module()
class WorkbenchHook(Hook):
    """A row per iteration: ``step``, ``loss``, ``loss/PART``, ``lr/GROUP``, ``gradient/GROUP``, ``seconds``.

    What else the model logs (``acc_pose``) stands under its own name. Groups are the network's first-level
    parts, as in a Session.
    """

    priority = "VERY_LOW"  # behind the hooks that save and log: what they did for a step is done

    def __init__(self, folder: str = "", held: Held | None = None) -> None:
        """Take the folder.

        Args:
            folder: for rows and the files that hold the run; ``workbench`` in the run's work_dir by default.
            held: what to obey instead of files.
        """
        self._folder, self._held = folder, held
        self._gradients: dict[str, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Open the rows; those of steps that a resumed run repeats go."""
        folder = Path(self._folder or Path(runner.work_dir) / "workbench")
        self._writer = RowWriter(folder / "rows")
        self._writer.forget_from(runner.iter + 1)
        self._obeyed = self._held or Held(folder)
        self._flushed = time.monotonic()
        parts: dict[str, list[Any]] = {}
        for name, parameter in runner.model.named_parameters():
            if parameter.requires_grad:
                # data-parallel wrappers put "module." before every name
                parts.setdefault(name.removeprefix("module.").partition(".")[0], []).append(parameter)
        self._groups = [{"name": name, "params": params} for name, params in parts.items()]

        def measured(*_: Any) -> None:
            self._gradients = norms(self._groups, gradients=True)

        self._optimizer: torch.optim.Optimizer = runner.optim_wrapper.optimizer  # type: ignore[assignment]
        # The Runner clears gradients before any hook of its own comes: they are read as the optimizer steps.
        self._handle = self._optimizer.register_step_pre_hook(measured)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Wait until the step is allowed.

        Raises:
            Stopped: the run is to end; a checkpoint of the finished steps is written.
        """
        if not self._obeyed.permitted():
            self._writer.flush()
            self._handle.remove()
            name = f"stopped_iter_{runner.iter}.pth"
            runner.save_checkpoint(runner.work_dir, name, by_epoch=False)
            raise Stopped(
                f"stopped after iteration {runner.iter}; its weights are in {runner.work_dir}/{name}"
            )
        self._began = time.perf_counter()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Keep the row, and write what is waiting every few seconds."""
        row: dict[str, Any] = {"step": runner.iter + 1}
        for name, value in (outputs or {}).items():
            part = f"loss/{name.removeprefix('loss_')}" if name.startswith("loss_") else name
            row[part] = float(value)
        row |= {f"lr/{name}": rate for name, rate in self._rates().items()}
        row |= {f"gradient/{name}": float(norm) for name, norm in self._gradients.items()}
        self._writer.add({**row, "seconds": time.perf_counter() - self._began})
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._writer.flush()
            self._flushed = time.monotonic()

    def after_train(self, runner: Runner) -> None:
        """Write the last rows."""
        self._writer.flush()
        self._handle.remove()

    def _rates(self) -> dict[str, float]:
        """Learning rate of each part: of its first parameter, where the config gives several."""
        by_parameter = {
            id(p): float(group["lr"]) for group in self._optimizer.param_groups for p in group["params"]
        }
        firsts = {group["name"]: id(group["params"][0]) for group in self._groups}
        return {name: by_parameter[first] for name, first in firsts.items() if first in by_parameter}
