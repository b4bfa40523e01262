"""Family torchscript: TorchScript and torch.export files. Loading one runs the program it holds.

That is why nothing opens them by itself: the family has to be asked for, by somebody who trusts the file.
`workbench open` lists their tensors without running anything.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench.models.exported import top_down
from workbench.models.opening import Opening
from workbench.models.top_down import TopDown


def load(opening: Opening) -> tuple[TopDown, None]:
    """The program as a model; the file is the model, so there is no load report.

    Raises:
        NotAvailable: the input size is unknown, or it gives neither maps nor SimCC.
        ValueError: torch refuses the file.
    """
    checkpoint = opening.required()
    config = opening.read_config() if opening.config else None
    exported = checkpoint.container.lower().startswith("torch.export")
    path, device = checkpoint.path, opening.device
    program, size = _exported(path) if exported else (_scripted(path, device), (0, 0))
    reason = (
        f"a {checkpoint.container} file has no modules that can be hooked; open the checkpoint it came from"
    )
    return top_down(Program(program.to(device)), reason, config, size, device), None


class Program(nn.Module):
    """A loaded program called as a torch module; its parts are none of torch's and are kept out of sight."""

    def __init__(self, program: Any) -> None:
        super().__init__()
        # In a tuple: as a child, an exported program would refuse to be put in evaluation mode.
        self.program = (program,)

    def forward(self, pixels: Tensor) -> Any:
        """What the program gives."""
        return self.program[0](pixels)


def _scripted(path: Path, device: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(str(path), map_location=device)
    except RuntimeError as error:
        raise ValueError(f"{path.name}: torch refuses it: {' '.join(str(error).split())[:200]}") from None


def _exported(path: Path) -> tuple[Any, tuple[int, int]]:
    try:
        program = torch.export.load(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path.name}: torch refuses it: {' '.join(str(error).split())[:200]}") from None
    arguments = (program.example_inputs or ((), {}))[0]
    shape = tuple(arguments[0].shape) if arguments and hasattr(arguments[0], "shape") else ()
    return program.module(), (int(shape[2]), int(shape[3])) if len(shape) == 4 else (0, 0)
