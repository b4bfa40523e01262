"""How fast is a network whose batch norm has gone into its convolutions, and does it still say the same?

In evaluation mode a batch norm is a factor and an offset per channel, and the convolution before it can have
both. Which convolution that is, is not guessed from names: one forward pass is asked whose output each batch
norm reads. The folded model is returned only after it gave the same outputs as the one it was made of.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core import Batch, Outputs, PoseModel

if TYPE_CHECKING:
    from torch import Tensor, nn

# Float32 rounds elsewhere when factors are multiplied in another order; over fifty layers that is some 1e-6.
TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Folding:
    """A model without the batch norms that could be folded.

    Attributes:
        model: like the one given, in evaluation mode, and not to be trained.
        folded: (convolution, batch norm) by their paths, in the order in which the network lists them.
        kept: batch norms that stay, with the reason.
        difference: of the outputs, the largest over all tensors; each over that tensor's largest value.
    """

    model: PoseModel
    folded: tuple[tuple[str, str], ...]
    kept: dict[str, str]
    difference: float

    def summary(self) -> str:
        """What was folded and how equal the outputs are, in one sentence."""
        total = len(self.folded) + len(self.kept)
        kept = "" if not self.kept else "; " + "; ".join(f"{n} stays: {why}" for n, why in self.kept.items())
        return (
            f"{len(self.folded)} of {total} batch norms folded into their convolutions, outputs equal to "
            f"{self.difference:.1g} of their largest value{kept}"
        )


def folded(model: PoseModel, batch: Batch, tolerance: float = TOLERANCE) -> Folding:
    """The model with its batch norms in its convolutions, checked on a batch.

    Args:
        model: stays as it is.
        batch: any that it prepared; the wider its values, the better the check.
        tolerance: largest difference of any output, relative to that output's largest value.

    Raises:
        ValueError: there is nothing to fold, the model does not run its own `module`, or the outputs differ.
    """
    import torch

    was_training = model.module.training
    model.module.eval()
    try:
        with torch.no_grad():
            before = list(_tensors(model.forward(batch)))
    finally:
        model.module.train(was_training)
    found = copy.deepcopy(model)
    found.module.eval()
    pairs, kept = _pairs(found, batch)
    for convolution, norm in pairs:
        _fold(found.module, convolution, norm)
    with torch.no_grad():
        after = list(_tensors(found.forward(batch)))
    difference = max(
        ((a - b).abs().max() / b.abs().max().clamp(min=1e-12)).item()
        for a, b in zip(after, before, strict=True)
    )
    if math.isnan(difference) or difference > tolerance:
        raise ValueError(
            f"folding: outputs differ by {difference:.2g} of their largest value, more than {tolerance:g}; a "
            "batch norm is used in more ways than one forward pass shows, so this network stays as it is"
        )
    return Folding(found, tuple(pairs), kept, difference)


def _pairs(model: PoseModel, batch: Batch) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Each batch norm with the convolution whose output it alone reads, as the graph of one pass has them."""
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    for parameter in model.module.parameters():
        parameter.requires_grad_(True)
    paths = {id(part.weight): (path, part) for path, part in model.module.named_modules() if _weighted(part)}
    norms = {id(part.weight) for part in model.module.modules() if isinstance(part, _BatchNorm)}
    if not norms & paths.keys():
        raise ValueError("folding: this network has no batch norm with weights")
    with torch.enable_grad():
        ends = [t.grad_fn for t in _tensors(model.forward(batch)) if t.grad_fn is not None]
    steps = _steps(ends)
    made_by = {step: _parameter(step, paths) for step in steps}
    seen = {key for key in made_by.values() if key is not None}
    if not seen:
        raise ValueError(
            "folding: the model's forward pass does not use its `module`, so that would change nothing"
        )
    readers: dict[Any, int] = {}
    for step in steps:
        for source, _ in step.next_functions:
            readers[source] = readers.get(source, 0) + 1
    uses: dict[int, int] = {}
    for key in made_by.values():
        if key is not None:
            uses[key] = uses.get(key, 0) + 1
    pairs, kept = [], {}
    for step, key in made_by.items():
        if key not in norms:
            continue
        source = step.next_functions[0][0]
        before = made_by.get(source)
        name = paths[key][0]
        if before is None or not isinstance(paths[before][1], _convolutions()):
            kept[name] = "no convolution stands right before it"
        elif readers[source] > 1 or uses[before] > 1 or uses[key] > 1:
            kept[name] = f"{paths[before][0]} is read elsewhere too"
        else:
            pairs.append((paths[before][0], name))
    for key in (norms & paths.keys()) - seen:
        kept[paths[key][0]] = "the forward pass does not use it"
    order = {path: number for number, (path, _) in enumerate(paths.values())}
    return sorted(pairs, key=lambda pair: order[pair[1]]), kept


def _steps(ends: list[Any]) -> list[Any]:
    """All steps of a graph, each once, from the outputs backwards."""
    found: dict[Any, None] = {}
    waiting = list(ends)
    while waiting:
        step = waiting.pop()
        if step is None or step in found:
            continue
        found[step] = None
        waiting += [source for source, _ in step.next_functions]
    return list(found)


def _parameter(step: Any, paths: dict[int, Any]) -> int | None:
    """The weight of the layer that made this step, as its identity; None for steps without one."""
    for source, _ in step.next_functions[1:]:
        weight = getattr(source, "variable", None)
        if weight is not None and id(weight) in paths:
            return id(weight)
    return None


def _convolutions() -> tuple[type[nn.Module], ...]:
    from torch import nn

    return nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d


def _weighted(part: nn.Module) -> bool:
    from torch.nn.modules.batchnorm import _BatchNorm

    frozen = isinstance(part, _BatchNorm) and part.running_mean is not None and part.weight is not None
    return frozen or isinstance(part, _convolutions())


def _fold(module: nn.Module, convolution: str, norm: str) -> None:
    """Put one batch norm into one convolution, in place: `module` is a copy already."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    before: Any = module.get_submodule(convolution)
    after: Any = module.get_submodule(norm)
    fused = fuse_conv_bn_eval(before, after, transpose="Transpose" in type(before).__name__)
    _replace(module, convolution, fused)
    _replace(module, norm, nn.Identity())


def _replace(module: nn.Module, path: str, part: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, part)


def _tensors(outputs: Outputs) -> Iterator[Tensor]:
    """Every tensor of some outputs, in the order of the fields."""
    for field in dataclasses.fields(outputs):
        value = getattr(outputs, field.name)
        if isinstance(value, dict):
            yield from (v for v in value.values() if hasattr(v, "abs"))
        elif isinstance(value, tuple):
            yield from value
        elif value is not None and hasattr(value, "abs"):
            yield value
