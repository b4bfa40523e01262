"""Checks that need no training: functions from what they look at to a sentence, "" where all is well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.training import measures
from workbench.training.verdict import Expectation

if TYPE_CHECKING:
    from torch import Tensor, nn

# Share of the weights below which a network is told to be mostly frozen; a frozen stem stays above.
LEARNING = 0.5
# Share of rectified channels that are zero everywhere; a network with first weights has a few by chance.
DEAD = 0.5
# Share of rectified values above zero: about half behind a normalisation.
FIRING = 0.03
# Height of a target's highest cell, of 1; MSRA's is always 1, an uncut Gaussian of 1 cell .78 at least.
FAINT = 0.3
# Values of an input that somebody normalised lie within 3 of 0; 0..255 has a mean of about 100.
LARGE = 10.0
# Pixels in 0..1 that were divided by 255 once more.
SMALL = 0.01
# Sigmas that a peak is wide: six of them hold all of it.
PEAK = 6
# Shift of perfect targets by the decoder, in cells: the mean of 17 roundings is off by .07.
SHIFTED = 0.3
# Of the box's longer side: what the verdict counts as right.
NEAR = 0.05
# Relative difference of mean or spread between training and use.
SPREAD = 0.1


def input_text(trained: Tensor, used: Tensor) -> str:
    """How what enters the network in training differs from what enters it in use; "" where it does not.

    Args:
        trained: [N, 3, H, W] in training mode.
        used: the same in evaluation mode.
    """
    if trained.shape != used.shape:
        return (
            f"in training the network is given {tuple(trained.shape)}, in use {tuple(used.shape)}: "
            "the two must be prepared alike"
        )
    a, b = trained.float(), used.float()
    if (a - b).abs().max() <= 1e-4 * a.abs().max():
        return ""
    told = (
        f"(mean {a.mean():.3g} and spread {a.std():.3g} in training, {b.mean():.3g} and {b.std():.3g} in use)"
    )
    if a.shape[1] == 3 and (a.flip(1) - b).abs().max() <= 1e-4 * a.abs().max():
        return "the colour channels enter in training in the reverse order of that in use (RGB against BGR)"
    slope = ((a - a.mean()) * (b - b.mean())).mean() / a.var(unbiased=False).clamp(min=1e-12)
    rest = (b - b.mean() - slope * (a - a.mean())).std()
    if rest <= 1e-3 * b.std() and b.std() > 0:
        return f"what enters the network in use is {slope:.3g} times what enters it in training {told}"
    spread = (b.std() / a.std().clamp(min=1e-12)).item()
    moved = ((b.mean() - a.mean()).abs() / a.std().clamp(min=1e-12)).item()
    if moved > SPREAD or abs(spread - 1) > SPREAD:
        return f"what enters the network in training is not what enters it in use {told}"
    return ""


def scale_text(trained: Tensor) -> str:
    """A remark on input whose values lie far from mean 0 and spread 1; "" otherwise.

    Args:
        trained: [N, C, H, W] as the network is given it in training mode.
    """
    values = trained.float()
    mean, spread = values.mean().item(), values.std().item()
    if abs(mean) > LARGE or spread > LARGE:
        where = "fine where the network normalises inside, else look for a missing mean and std"
    elif values.abs().max() < SMALL:
        where = "look for a scaling that is done twice"
    else:
        return ""
    return f"what enters the network has mean {mean:.3g} and spread {spread:.3g}; {where}"


def mode_text(module: nn.Module, flags: Mapping[str, bool]) -> str:
    """A remark on normalisation and dropout that run in evaluation mode while training; "" without any.

    Args:
        module: the network.
        flags: training flag of its parts while it ran in training mode, by path.
    """
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.modules.dropout import _DropoutNd

    told = []
    parts = dict(module.named_modules())
    for kind, words in ((_BatchNorm, "batch norm"), (_DropoutNd, "dropout")):
        ran = {name: flag for name, flag in flags.items() if isinstance(parts[name], kind)}
        ran = {name: flag for name, flag in ran.items() if getattr(parts[name], "p", 1)}
        still = [name for name, flag in ran.items() if not flag]
        if still:
            names = ", ".join(still[:2]) + (" ..." if len(still) > 2 else "")
            told.append(f"{len(still)} of {len(ran)} {words} layers ({names})")
    if not told:
        return ""
    return (
        f"{' and '.join(told)} run in evaluation mode while the network is trained; meant so with "
        "pretrained weights (norm_eval, frozen stages), else look for an eval() before or in the forward pass"
    )


def frozen_text(module: nn.Module, groups: Mapping[str, tuple[float, float]] | None = None) -> str:
    """How few of the weights learn; "" while most of them do.

    Args:
        module: after a backward pass.
        groups: factor on the learning rate and weight decay of single parameters, by name.
    """
    groups = groups or {}
    parts: dict[str, list[int]] = {}
    for name, parameter in module.named_parameters():
        learns = parameter.requires_grad and groups.get(name, (1.0, 0.0))[0] > 0
        # A gradient of exactly 0 at the first step is no freezing: last layers of a block may begin at 0.
        learns = learns and parameter.grad is not None
        count = parts.setdefault(name.partition(".")[0], [0, 0])
        count[0] += parameter.numel() * learns
        count[1] += parameter.numel()
    learning, all_ = (sum(part[i] for part in parts.values()) for i in (0, 1))
    still = [name for name, (some, _) in parts.items() if not some]
    where = f": nothing of {', '.join(still)} learns" if still else ""
    if all_ and learning < LEARNING * all_:
        share = "none" if not learning else f"only {max(0.01, learning / all_):.0%}"
        return (
            f"{share} of the weights get a gradient and a learning rate{where}; look at requires_grad, "
            "frozen stages and lr_mult"
        )
    # What is called a head writes the answer: without it nothing can be learned.
    if heads := [name for name in still if "head" in name]:
        return f"nothing of {', '.join(heads)} gets a gradient and a learning rate, and it writes the answer"
    return ""


def dead_text(activations: Mapping[str, Tensor]) -> str:
    """How little passes the rectifiers; "" while enough does, or where there are none.

    Args:
        activations: what every rectifier gave, by its path.
    """
    dead = measures.dead_share(activations)
    cause = "and pass no gradient: look at first biases and the scale of the input"
    if dead > DEAD:
        return f"{dead:.0%} of the rectified channels are zero everywhere with first weights, {cause}"
    quiet = [name for name, tensor in activations.items() if (tensor > 0).float().mean() < FIRING]
    if len(quiet) > DEAD * len(activations):
        return (
            f"in {len(quiet)} of {len(activations)} rectified layers nearly all values are zero with first "
            f"weights ({', '.join(quiet[:3])}{' ...' if len(quiet) > 3 else ''}), {cause}"
        )
    return ""


def unlearned_text(gradient: Tensor, labelled: np.ndarray, keypoints: Sequence[str]) -> str:
    """Which labelled keypoints the loss leaves out; "" where none.

    Args:
        gradient: of the loss by the outputs, [N, K, ...].
        labelled: [N, K], those with a target inside the crop.
        keypoints: their names.
    """
    left_out = labelled & (gradient.flatten(2).abs().amax(-1).cpu().numpy() == 0)
    if not left_out.any():
        return ""
    names = [keypoints[int(k)] for k in np.flatnonzero(left_out.any(0))]
    told = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return (
        f"{int(left_out.sum())} of {int(labelled.sum())} labelled keypoints are without loss ({told}): "
        "look at what becomes of visibility 1 and of weights"
    )


def peak_text(targets: Tensor, labelled: np.ndarray, sigma: tuple[float, ...], cells: tuple[int, ...]) -> str:
    """Whether targets are too thin to reach a cell, or too wide to show a place; "" where neither.

    Args:
        targets: [N, K, ...], highest value 1.
        labelled: [N, K], those with a target inside the crop.
        sigma: of the peak, cells.
        cells: of the output, per axis.
    """
    highest = targets.flatten(2).amax(-1).cpu().numpy()[labelled]
    if highest.size and highest.min() < FAINT:
        return (
            f"sigma {sigma[0]:g} is thin for cells this large: the target of a keypoint between cells "
            f"reaches {highest.min():.2f} only, so it hardly says where it lies"
        )
    if PEAK * max(sigma) > min(cells):
        return (
            f"sigma {max(sigma):g} is wide for an output of {' x '.join(map(str, cells))} cells: one peak "
            f"({PEAK} sigma) is wider than all of it"
        )
    return ""


def decoder_text(read: np.ndarray, truth: np.ndarray, cell: float, side: np.ndarray) -> str:
    """Whether perfect targets are read where they were written; "" where they are.

    Args:
        read: [n, 2] keypoints that the model reads off its own targets, input pixels; nan where none.
        truth: [n, 2].
        cell: input pixels between two cells of the output.
        side: [n] longer side of the box, input pixels.
    """
    off = read - truth
    known = np.isfinite(off).all(1)
    if not known.any():
        return "no keypoint can be read off perfect targets: codec and decoder do not fit each other"
    off, side = off[known], side[known]
    mean, far = off.mean(0), np.linalg.norm(off, axis=1)
    limit = max(SHIFTED * cell, 0.5)
    if len(off) >= 4 and np.abs(mean).max() > limit and (off.std(0) < 2 * np.abs(mean).max()).all():
        return (
            f"perfect targets are read {mean[0]:+.1f}, {mean[1]:+.1f} input pixels beside where they were "
            f"written (x, y), where a cell is {cell:.2g}: look at stride, offset, the way back to the "
            "image, and a sigma whose threefold is no whole number of cells (it moves peaks near the edges)"
        )
    reached = float((far < NEAR * side).mean()) * known.mean()
    if reached < Expectation().pck:
        return (
            f"perfect targets are read {far.mean():.1f} input pixels off on average, PCK {reached:.2f}: no "
            "training gets above that; look at the decoder, the order of x and y, and the size of the output"
        )
    return ""
