"""What the first backward pass shows: weights that it does not reach, and gradients that move nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.core import Batch, DecodeOptions, PoseModel
from workbench.training.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

# Share of trained weights below which a network counts as mostly frozen; a frozen stem stays above.
LEARNING = 0.5
# Clipping that leaves SGD less than this share of the gradient stops it at any usual rate.
LEFT_BY_CLIP = 1e-3
# Adam undoes a factor on its gradient until single values fall below its eps (torch's default is 1e-8); at a
# tenth of eps its steps are a tenth of the rate.
ADAM_EPS, LOST_IN_EPS = 1e-8, 0.1
# Channels whose weights and gradients differ by less than this share of the largest start and stay equal.
EQUAL = 1e-5
# Share of the weights in layers of equal channels above which they are named: a few such layers may be meant.
ALIKE = 0.5

Groups = Mapping[str, tuple[float, float]]


def part_of(parameter: str) -> str:
    """The part of a network, its first name, that a parameter belongs to."""
    return parameter.partition(".")[0]


def running(module: nn.Module, ran: Sequence[str]) -> dict[str, nn.Parameter]:
    """The parameters that a pass made use of, by name.

    A layer that never ran is no part of what is trained; one that has a gradient was used all the same, by
    a function that was given its weights.

    Args:
        module: after a backward pass.
        ran: paths of the layers that ran.
    """
    layers, leaves = set(ran), {name for name, part in module.named_modules() if not any(part.children())}
    return {
        name: parameter
        for name, parameter in module.named_parameters()
        if (of := name.rpartition(".")[0]) in layers or of not in leaves or parameter.grad is not None
    }


def frozen_text(module: nn.Module, ran: Sequence[str], groups: Groups | None = None) -> str:
    """Which weights are not trained; "" where most are.

    Args:
        module: after a backward pass.
        ran: paths of the layers that ran in it.
        groups: factor on the learning rate and weight decay of single parameters, by name.
    """
    counts = _trained(module, ran, groups)
    learning, all_ = (sum(part[i] for part in counts.values()) for i in (0, 1))
    still = [name for name, (some, _) in counts.items() if not some]
    where = f": nothing of {', '.join(still)} is trained" if still else ""
    if all_ and learning < LEARNING * all_:
        share = "none" if not learning else f"only {max(0.01, learning / all_):.0%}"
        return (
            f"{share} of the weights get a gradient and a learning rate{where}; look at requires_grad, "
            "detach(), torch.no_grad(), frozen stages and lr_mult"
        )
    # A layer called head computes the output: without it nothing can be learned.
    if heads := [name for name in still if "head" in name]:
        return (
            f"nothing of {', '.join(heads)} gets a gradient and a learning rate, and it computes the output"
        )
    return ""


def last_text(module: nn.Module, ran: Sequence[str], groups: Groups | None = None) -> str:
    """Remark on a frozen part that runs last; "" where it is trained, and where more is wrong.

    Args:
        module: after a backward pass.
        ran: paths of the layers that ran in it, in the order of their last calls.
        groups: see `frozen_text`.
    """
    if frozen_text(module, ran, groups):
        return ""
    counts = _trained(module, ran, groups)
    with_weights = [part for name in ran if (part := part_of(name)) in counts]
    if len(counts) < 2 or not with_weights or counts[with_weights[-1]][0]:
        return ""
    return (
        f"nothing of {with_weights[-1]}, which runs last, is trained; right for a layer whose weights are "
        "fixed on purpose, else look at requires_grad and lr_mult"
    )


def _trained(module: nn.Module, ran: Sequence[str], groups: Groups | None) -> dict[str, list[int]]:
    """Of each part of a network that runs: the number of its weights that learn, and of all of them."""
    found: dict[str, list[int]] = {}
    for name, parameter in running(module, ran).items():
        learns = parameter.requires_grad and (groups or {}).get(name, (1.0, 0.0))[0] > 0
        # A gradient of exactly 0 at the first step is not freezing: last layers of a block may start at 0.
        learns = learns and parameter.grad is not None
        count = found.setdefault(part_of(name), [0, 0])
        count[0] += parameter.numel() * learns
        count[1] += parameter.numel()
    return found


def unreached_text(model: PoseModel, batch: Batch, ran: Sequence[str]) -> str:
    """Parts that want a gradient, get none, and change the output all the same; "" without any.

    That they change the output is tried: they are given other weights, which stay.

    Args:
        model: after a backward pass.
        batch: on its device.
        ran: paths of the layers that ran in it.
    """
    parts: dict[str, list[nn.Parameter]] = {}
    for name, parameter in running(model.module, ran).items():
        parts.setdefault(part_of(name), []).append(parameter)
    wanting = {
        name: own
        for name, own in parts.items()
        if any(p.requires_grad for p in own) and all(p.grad is None for p in own)
    }
    if not wanting or len(wanting) == len(parts):
        return ""
    found, now = [], _answer(model, batch)
    for name, own in wanting.items():
        _disturb(own)
        before, now = now, _answer(model, batch)
        if any(not a.equal(b) for a, b in zip(before, now, strict=True)):
            found.append(name)
    if not found:
        return ""
    return (
        f"{', '.join(found)} {'ask' if len(found) > 1 else 'asks'} for a gradient and "
        f"{'get' if len(found) > 1 else 'gets'} none, while the output depends on "
        f"{'them' if len(found) > 1 else 'it'} (other weights were tried): look for detach() or "
        "torch.no_grad(), or set requires_grad to False where it is meant"
    )


def _answer(model: PoseModel, batch: Batch) -> list[Tensor]:
    """Heatmaps or SimCC vectors of a model in evaluation mode, or else the keypoints."""
    import torch

    model.module.eval()
    with torch.no_grad():
        outputs = model.forward(batch)
    tensors = [t for t in (outputs.heatmaps, *(outputs.simcc or ())) if t is not None]
    if tensors:
        return [t.detach().clone() for t in tensors]
    predictions = model.decode(outputs.detach(), batch, DecodeOptions())
    return [torch.tensor(p.keypoints).nan_to_num() for p in predictions]


def _disturb(parameters: Sequence[nn.Parameter]) -> None:
    import torch

    with torch.no_grad():
        for parameter in parameters:
            if parameter.is_floating_point():
                parameter.add_(torch.randn_like(parameter) * (parameter.abs().mean() + 0.01))


def size_of(module: nn.Module) -> tuple[float, int, float]:
    """Norm of the gradient of all weights, the number of its values, and the largest absolute value."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    squares = sum(float(g.double().square().sum()) for g in gradients)
    largest = max((float(g.abs().max()) for g in gradients if g.numel()), default=0.0)
    return squares**0.5, sum(g.numel() for g in gradients), largest


def _eps(settings: Settings) -> float:
    return float(settings.optimizer_options.get("eps", ADAM_EPS))


def clip_text(norm: float, count: int, settings: Settings) -> str:
    """How clipping stops the training; "" where it does not.

    Args:
        norm: of the gradient of the whole network at the first step.
        count: number of its values.
        settings: with the clipping and the optimizer.
    """
    clip = settings.clip
    if not 0 < clip < norm:  # also where the norm is nan
        return ""
    seen = f"the gradient's norm is {norm:.3g} and is clipped to {clip:.3g}, {clip / norm:.1g} of it"
    if settings.optimizer == "sgd":
        return f"{seen}: the weights hardly move" if clip < LEFT_BY_CLIP * norm else ""
    eps = _eps(settings)
    single = clip / count**0.5
    if single >= LOST_IN_EPS * eps:
        return ""
    below = f"a single value is then about {single:.1g}, far below eps of {settings.optimizer} ({eps:g})"
    return f"{seen}: {below}, and the weights hardly move"


def small_text(largest: float, settings: Settings) -> str:
    """Whether the gradient of the first step is too small to move a weight; "" where it is not.

    Args:
        largest: absolute value of the gradient.
        settings: with the optimizer.
    """
    look = "look for a factor on the loss, for a saturated output and for units that are zero"
    if largest == 0:
        return f"the gradient of the first step is 0 for every weight: {look}"
    if settings.optimizer == "sgd" or not largest < LOST_IN_EPS * _eps(settings):
        return ""
    return (
        f"the largest gradient of the first step is {largest:.1g}, far below eps of {settings.optimizer} "
        f"({_eps(settings):g}), so that its steps are {largest / _eps(settings):.1g} of the learning rate or "
        f"less: {look}"
    )


def alike_text(module: nn.Module) -> str:
    """Whether most layers have channels that start equal and get equal gradients, so that they stay equal.

    Args:
        module: after a backward pass.
    """
    alike, names, total = 0, [], 0
    for name, parameter in module.named_parameters():
        gradient = parameter.grad
        if parameter.ndim < 2 or len(parameter) < 2 or gradient is None:
            continue
        total += parameter.numel()
        if gradient.any() and _equal_rows(parameter) and _equal_rows(gradient):
            alike += parameter.numel()
            names.append(name)
    if not names or alike < ALIKE * total:
        return ""
    more = " ..." if names[2:] else ""
    return (
        f"in {len(names)} layers ({', '.join(names[:2])}{more}) all output channels start with equal weights "
        "and get equal gradients, so that each stays a single channel: initialise the weights at random"
    )


def _equal_rows(tensor: Any) -> bool:
    rows = tensor.detach().flatten(1)
    return float((rows - rows[:1]).abs().max()) <= EQUAL * float(rows.abs().max())
