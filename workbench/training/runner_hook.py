"""Hook for mmengine's Runner: it writes the rows of a Session, and can be paused, stepped and stopped.

Importing this module registers the hook, so an mmpose config needs two lines and no further code:

    custom_imports = dict(imports=["workbench.training.runner_hook"])
    custom_hooks = [dict(type="WorkbenchHook")]

Rows are in ``work_dir/workbench/rows``, to be read with `workbench.training.run_folder.read_rows` while the
run continues. Files in ``work_dir/workbench``, from any process, control it: ``pause`` (empty) pauses the run
after the current step until the file is removed; ``step``, containing a number, allows so many steps and
pauses again; ``stop`` ends it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from workbench.training.measures import GradientNorms
from workbench.training.run_folder import RowWriter
from workbench.training.session import FLUSH_SECONDS

if TYPE_CHECKING:
    import torch
    from mmengine.runner import Runner


# Seconds between two looks at the files, paused or running.
LOOK_SECONDS = 0.2


class RunControl:
    """Pause, step, resume and stop for a loop that calls `permitted` before every step."""

    def __init__(self, folder: Path | None = None) -> None:
        """Start in the running state.

        Args:
            folder: of the control files; None is controlled by its methods alone.
        """
        self._folder = folder
        self._allowed: float = float("inf")
        self._stop = False
        self._turn = threading.Condition()
        self._looked = 0.0
        self._from_file = False

    def pause(self) -> None:
        """Pause after the current step."""
        with self._turn:
            self._allowed = 0

    def resume(self) -> None:
        """Continue, whether a method or a file paused."""
        with self._turn:
            if self._folder and (pause := self._folder / "pause").is_file():
                pause.unlink(missing_ok=True)
            self._allowed, self._from_file = float("inf"), False
            self._turn.notify_all()

    def step(self, count: int = 1) -> None:
        """Do some steps and pause.

        Raises:
            ValueError: less than one.
        """
        if count < 1:
            raise ValueError(f"step: expected at least one, got {count}")
        with self._turn:
            self._allowed = count
            self._turn.notify_all()

    def stop(self) -> None:
        """End the run after the current step."""
        with self._turn:
            self._stop = True
            self._turn.notify_all()

    def permitted(self) -> bool:
        """Wait until a step is allowed; False when the run is to end."""
        with self._turn:
            self._look()
            while self._allowed < 1 and not self._stop:
                self._turn.wait(LOOK_SECONDS)
                self._look()
            self._allowed -= 1
            return not self._stop

    def _look(self) -> None:
        """Read the files, and delete those that have been executed."""
        if self._folder is None or time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        # Only regular files count: a folder or a pipe of such a name belongs to somebody else, and must
        # neither end nor block the training of the user.
        if (stop := self._folder / "stop").is_file():
            with contextlib.suppress(OSError):  # a folder that cannot be written: stop all the same
                stop.unlink()
            self._stop = True
        paused = (self._folder / "pause").is_file()
        if paused and not self._from_file:
            self._allowed, self._from_file = 0, True
        elif self._from_file and not paused:
            self._allowed, self._from_file = float("inf"), False
        if (steps := self._folder / "step").is_file():
            with contextlib.suppress(OSError):  # cannot be read or deleted: no step is allowed
                with steps.open("rb") as file:
                    text = file.read(10).decode("ascii", "replace").strip()
                steps.unlink()
                self._allowed = int(text) if text.isdecimal() else 1


class Stopped(SystemExit):
    """The Runner was stopped: its script ends with one sentence and no traceback."""


@HOOKS.register_module()
class WorkbenchHook(Hook):
    """A row per iteration: ``step``, ``loss``, ``loss/PART``, ``lr/GROUP``, ``gradient/GROUP``, ``seconds``.

    What else the model logs (``acc_pose``) has its own name. Groups are the network's first-level children,
    as in a Session.
    """

    priority = "VERY_LOW"  # after the hooks that save and log

    def __init__(self, folder: str = "", control: RunControl | None = None) -> None:
        """Take the folder.

        Args:
            folder: for rows and control files; ``workbench`` in the run's work_dir by default.
            control: used instead of control files.
        """
        self._folder, self._given = folder, control
        self._gradients: dict[str, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Open the rows, and delete those of steps that a resumed run repeats."""
        folder = Path(self._folder or Path(runner.work_dir) / "workbench")
        self._writer = RowWriter(folder / "rows")
        self._writer.forget_from(runner.iter + 1)
        self._control = self._given or RunControl(folder)
        self._flushed = time.monotonic()
        parts: dict[str, list[Any]] = {}
        for name, parameter in runner.model.named_parameters():
            if parameter.requires_grad:
                # Data-parallel wrappers put "module." before every name.
                parts.setdefault(name.removeprefix("module.").partition(".")[0], []).append(parameter)
        self._groups = [{"name": name, "params": params} for name, params in parts.items()]
        norms = GradientNorms(self._groups)

        def measured(*_: Any) -> None:
            self._gradients = norms.by_name()

        self._optimizer: torch.optim.Optimizer = runner.optim_wrapper.optimizer  # type: ignore[assignment]
        # The Runner clears gradients before any of its hooks is called: they are read when the optimizer
        # steps.
        self._handle = self._optimizer.register_step_pre_hook(measured)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Wait until the step is allowed.

        Raises:
            Stopped: the run is to end; a checkpoint of the finished steps has been written.
        """
        if not self._control.permitted():
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
        """Add the row, and write waiting rows every few seconds."""
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
        """Learning rate of each child: of its first parameter, where the config defines several."""
        by_parameter = {
            id(p): float(group["lr"]) for group in self._optimizer.param_groups for p in group["params"]
        }
        firsts = {group["name"]: id(group["params"][0]) for group in self._groups}
        return {name: by_parameter[first] for name, first in firsts.items() if first in by_parameter}
