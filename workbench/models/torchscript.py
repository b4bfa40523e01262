"""Family torchscript: TorchScript and torch.export files. Loading one runs the program it holds.

That is why nothing opens them by itself: the family has to be asked for, by somebody who trusts the file.
`workbench open` lists their tensors without running anything.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import re
import threading
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.checkpoints.zip_archive import open_archive
from workbench.core import NotAvailable, reason
from workbench.core.hooks import checking_operations
from workbench.core.job import current_checkpoint
from workbench.models.exported import FACTS_LEFT_OPEN, GREY, top_down
from workbench.models.families import Family
from workbench.models.opening import Opening
from workbench.models.top_down import TopDown

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# What torch raises for files and inputs that do not fit; its guards and verifiers raise various kinds.
_REFUSALS = (
    RuntimeError, ValueError, TypeError, AssertionError, LookupError, AttributeError, OSError, EOFError,
    pickle.UnpicklingError, zipfile.BadZipFile,
)  # fmt: skip
# Operators and brackets around one part of one statement of a program's code. torch writes a few; its parser
# calls itself for each, and from some 3,000 on the stack of a thread overflows, which ends the process.
_DEEPEST = 500
_LARGEST_CODE = 64 << 20
_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|\#.*)|(?P<open>[(\[{])|(?P<close>[)\]}])"""
    r"""|(?P<comma>,)|(?P<line>\n)|(?P<operator>[-+*/%@<>=!&|^~.]|\b(?:if|else|not|and|or|in|is)\b)"""
)


@dataclass(frozen=True)
class Takes:
    """What a program takes, as far as it says.

    Attributes:
        size: (height, width); (0, 0) where it leaves them open.
        batch: samples at a time; 0 for any number.
        channels: 3, or 1 for grey values.
        dtype: of its pixels; None for float32.
    """

    size: tuple[int, int] = (0, 0)
    batch: int = 0
    channels: int = 3
    dtype: torch.dtype | None = None


def load(opening: Opening) -> tuple[TopDown, None]:
    """The program as a model; the file is the model, so there is no load report.

    Raises:
        NotAvailable: the input size is unknown, or it gives neither maps nor SimCC.
        ValueError: the file is damaged, or torch refuses it.
    """
    checkpoint = opening.required()
    # torch compares no checksum when it loads a program: damaged weights would be run as they are.
    archive = open_archive(checkpoint.path)
    archive.require_checksums()
    for name in archive.ending(".py"):
        _check_nesting(archive.bytes_of(name, _LARGEST_CODE), name, checkpoint.path)
    config = opening.read_config() if opening.config else None
    exported = checkpoint.container.lower().startswith("torch.export")
    path, device = checkpoint.path, opening.device
    program, takes = _exported(path) if exported else _scripted(path, device)
    no_taps = (
        f"a {checkpoint.container} file has no modules that can be hooked; open the checkpoint it came from"
    )
    assumed = ["one channel: grey values of the normalised crop assumed"] if takes.channels == 1 else []
    if config is None and (config := _as_published(opening, takes)) is not None:
        assumed.append(f"crop, normalisation and UDP heatmaps assumed as {checkpoint.identity} was published")
    module = as_module(program.to(device), takes, path)
    return top_down(module, no_taps, config, takes.size, device, opening.stated, assumed), None


def _as_published(opening: Opening, takes: Takes) -> dict[str, Any] | None:
    """How a Sapiens or ViTPose is fed and read, whose tensors tell what it is; None for other programs."""
    from workbench.models.vitpose.model import published_config

    identity = opening.required().identity
    if opening.stated.input not in (None, identity.input_size) or takes.size not in (
        (0, 0),
        identity.input_size,
    ):
        return None
    return published_config(identity)


def as_module(program: Any, takes: Takes, path: Path) -> nn.Module:
    """A loaded program called as a torch module; its parts are none of torch's and are kept out of sight.

    Args:
        program: what torch loaded.
        takes: what it takes.
        path: its file, for messages.

    Returns:
        a module from pixels [N, 3, H, W] to what the program gives for them, as float32.
    """
    import torch
    from torch import nn

    class Program(nn.Module):
        def forward(self, pixels: Tensor) -> Any:
            if takes.channels == 1:
                pixels = (pixels * pixels.new_tensor(GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)
            pixels, count, batch = pixels.to(takes.dtype or torch.float32), len(pixels), takes.batch
            if batch and count % batch:
                # The last call is filled up with its last sample, and what that gives is cut off.
                pixels = torch.cat([pixels, pixels[-1:].repeat(-count % batch, 1, 1, 1)])
            # The hooks of modules by which a cancelled job ends its pass are not called within a program, and
            # Python sees no Ctrl-C there.
            with _one_sentence(path), checking_operations(current_checkpoint):
                # Not a child of this module: an exported program would refuse to be put in evaluation mode.
                given = [program(part) for part in pixels.split(batch or len(pixels))]
                return _joined(given, count)

    return Program()


def _joined(given: list[Any], count: int) -> Any:
    """The outputs of several calls as those of one, in the structure that the program has."""
    import torch

    first = given[0]
    if isinstance(first, dict):
        return {key: _joined([one[key] for one in given], count) for key in first}
    if isinstance(first, (tuple, list)):
        return [_joined([one[n] for one in given], count) for n in range(len(first))]
    if not isinstance(first, torch.Tensor):
        return first
    return torch.cat(given)[:count].float() if first.ndim else first


def _scripted(path: Path, device: str) -> tuple[Any, Takes]:
    import torch

    with _one_sentence(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        program = torch.jit.load(str(path), map_location=device)
    weights = [p for p in program.parameters() if p.is_floating_point()]
    # A scripted program does not say what it takes; its first convolution does.
    first = next((p for p in weights if p.ndim == 4), None)
    grey = first is not None and first.shape[1] == 1 and first.shape[0] > 1
    return program, Takes(channels=1 if grey else 3, dtype=weights[0].dtype if weights else None)


def _exported(path: Path) -> tuple[Any, Takes]:
    import torch

    with _one_sentence(path):
        program = _deserialized(path)
        values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
        inputs = [values.get(str(name)) for name in program.graph_signature.user_inputs]
        module = program.module()
    image = inputs[0] if len(inputs) == 1 else None
    if not isinstance(image, torch.Tensor) or image.ndim != 4 or not image.dtype.is_floating_point:
        listed = ", ".join(
            f"{v.dtype} {list(v.shape)}" if isinstance(v, torch.Tensor) else repr(v) for v in inputs
        )
        raise NotAvailable(
            f"{path.name}: expected one image [N, 3, H, W] of floats as input, it takes {listed}"
        )
    # An open side is a symbol and no int.
    batch, channels, *sides = (n if isinstance(n, int) else 0 for n in image.shape)
    if channels not in (0, 1, 3):
        raise NotAvailable(f"{path.name}: expected an image of 3 channels or 1, it takes {channels}")
    size = (sides[0], sides[1]) if all(sides) else (0, 0)
    return module, Takes(size, batch, channels or 3, image.dtype)


def _deserialized(path: Path) -> Any:
    """The program of a torch.export file.

    torch logs why it cannot read one and then raises an error that only points to that log. Here the logged
    error is raised, and nothing is written to the terminal.
    """
    import torch

    logged: list[BaseException] = []
    thread = threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        if record.thread != thread:
            return True
        if record.exc_info and record.exc_info[1] is not None:
            logged.append(record.exc_info[1])
        return False

    log = logging.getLogger(torch.export.__name__)
    log.addFilter(keep)
    try:
        return torch.export.load(str(path))
    except _REFUSALS:
        if logged:
            raise _first_cause(logged[-1]) from None
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if not any(name.endswith(".json") and "models/" in name for name in names) and "version" not in names:
            raise ValueError(
                "the archive holds no program (no models/*.json); save it again with torch.export.save"
            ) from None
        raise
    finally:
        log.removeFilter(keep)


def _first_cause(error: BaseException) -> BaseException:
    """The error at the beginning of a chain: torch wraps it in one that repeats the node of the graph."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


@contextlib.contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    """Tell what torch raises for a program that it cannot load or run as a user's mistake."""
    from torch import jit
    from torch._export.verifier import SpecViolationError

    try:
        yield
    except (*_REFUSALS, jit.Error, SpecViolationError) as error:
        current_checkpoint()
        raise ValueError(f"{path.name}: torch refuses it: {reason(error)}") from None


def _check_nesting(code: bytes, name: str, path: Path) -> None:
    """Check that torch's parser can read some code.

    Args:
        code: TorchScript.
        name: of its member, for the error.
        path: of the file, for the error.

    Raises:
        ValueError: a statement is nested deeper than any that torch writes.
    """
    # Operators since the last comma, for each open bracket; their sum and the brackets bound the depth.
    counts, depth = [0], 0
    for token in _TOKEN.finditer(code.decode("utf-8", errors="replace")):
        kind = token.lastgroup
        if kind == "operator":
            counts[-1] += 1
            depth += 1
        elif kind == "open":
            counts.append(1)
            depth += 1
        elif kind == "close" and len(counts) > 1:
            depth -= counts.pop()
        elif kind == "comma" or (kind == "line" and len(counts) == 1):
            bracket = int(len(counts) > 1)
            depth -= counts[-1] - bracket
            counts[-1] = bracket
        if depth > _DEEPEST:
            raise ValueError(
                f"{path.name}: its code ({name[:80]}) nests more than {_DEEPEST} operators and brackets in "
                "one statement, which torch never writes and its parser cannot read"
            )


def _opens(opening: Opening) -> bool:
    """Never unasked.

    Raises:
        NotAvailable: the file is such a program.
    """
    checkpoint = opening.required()
    if checkpoint.container.lower().startswith(("torchscript", "torch.export")):
        raise NotAvailable(
            f"{checkpoint.path.name}: a {checkpoint.container} file is a program, and loading it runs it; "
            "pass --family torchscript if you trust where it came from"
        )
    return False


FAMILY = Family(
    name="torchscript",
    summary="a TorchScript or torch.export file; loading one runs its code, so it must be asked for",
    load=load,
    opens=_opens,
    leaves_open=FACTS_LEFT_OPEN,
    file_is_model=True,
)
