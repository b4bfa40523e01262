"""Checks before training: what is wrong with a network, its targets and its input, as sentences.

`before_training` runs one step forward and backward with initial weights; the model is unchanged afterwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Batch, DecodeOptions, Outputs, PoseModel, Sample
from workbench.core.capabilities import HasObjective
from workbench.core.geometry import apply, inverse
from workbench.core.hooks import entering, modes, recording
from workbench.core.report import counted, signed_text
from workbench.training import measures
from workbench.training.gradients import (
    alike_text,
    clip_text,
    frozen_text,
    last_text,
    size_of,
    small_text,
    unreached_text,
)
from workbench.training.model_state import ModelState
from workbench.training.objectives import objective_for
from workbench.training.passes import seeded
from workbench.training.plan import Plan, PlannedModel
from workbench.training.settings import rate_text
from workbench.training.switches import CLIP, CLIP_EFFECT
from workbench.training.target_scale import SCALED, target_scale_text
from workbench.training.trainer import batch_target, checked, checked_device
from workbench.training.verdict import Evidence, Expectation

if TYPE_CHECKING:
    from torch import Tensor, nn

# Share of rectified channels that are zero everywhere; a network with initial weights has a few by chance.
DEAD = 0.5
# Share of rectified values above zero: about half after a normalisation layer.
FIRING = 0.03
# Height of a target's highest cell, of 1; MSRA's is always 1, an uncut Gaussian of 1 cell .78 at least.
FAINT = 0.3
# Normalised input values lie within 3 of 0; 0..255 has a mean of about 100.
LARGE = 10.0
# Pixels in 0..1 that were divided by 255 once more.
SMALL = 0.01
# Width of a peak in sigmas: six of them contain all of it.
PEAK = 6
# Mean shift of decoded targets, in cells. The mean of 17 roundings to cells is off by .07, that of 4 by .14;
# at four places within the cells .125 of rounding remains at most.
SHIFTED = 0.3
WITHIN_CELL = (0.25, 0.5, 0.75)
# Rounding to the nearest cell along x and y is off by half its diagonal at most.
ROUNDED = 0.75
# Share of the box's longer side that the verdict counts as right; a keypoint so little outside the crop is
# right when its prediction lies at the crop's edge.
NEAR = 0.05
# Relative difference of mean or spread between training and use.
SPREAD = 0.1


def input_text(trained: Tensor, used: Tensor) -> str:
    """How the input in training mode differs from that in evaluation mode; "" where it does not.

    Args:
        trained: input of the first layer, [N, 3, H, W], in training mode.
        used: the same in evaluation mode, [N, 3, H, W].
    """
    if trained.shape != used.shape:
        return (
            f"in training the network's input is {tuple(trained.shape)}, in use {tuple(used.shape)}: "
            "prepare both in the same way"
        )
    a, b = trained.float(), used.float()
    if (a - b).abs().max() <= 1e-4 * a.abs().max():
        return ""
    figures = (
        f"(mean {a.mean():.3g} and spread {a.std():.3g} in training, {b.mean():.3g} and {b.std():.3g} in use)"
    )
    if a.shape[1] == 3 and (a.flip(1) - b).abs().max() <= 1e-4 * a.abs().max():
        return (
            "the colour channels of the input are in reverse order in training and in use (RGB against BGR)"
        )
    for axis, words in ((3, "left to right"), (2, "upside down")):
        if a.ndim == 4 and (a.flip(axis) - b).abs().max() <= 1e-4 * a.abs().max():
            return f"the input in use is that of training mirrored {words}"
    slope = ((a - a.mean()) * (b - b.mean())).mean() / a.var(unbiased=False).clamp(min=1e-12)
    rest = (b - b.mean() - slope * (a - a.mean())).std()
    if rest <= 1e-3 * b.std() and b.std() > 0:
        return f"the input in use is {slope:.3g} times that in training {figures}"
    spread = (b.std() / a.std().clamp(min=1e-12)).item()
    moved = ((b.mean() - a.mean()).abs() / a.std().clamp(min=1e-12)).item()
    if moved > SPREAD or abs(spread - 1) > SPREAD:
        return f"the input in training differs from that in use {figures}"
    return ""


def scale_text(trained: Tensor) -> str:
    """Remark on input whose values are far from mean 0 and spread 1; "" otherwise.

    Args:
        trained: input of the first layer in training mode, [N, C, H, W].
    """
    values = trained.float()
    mean, spread = values.mean().item(), values.std().item()
    if abs(mean) > LARGE or spread > LARGE:
        advice = "right where the network normalises by itself, else look for a missing mean and std"
    elif values.abs().max() < SMALL:
        advice = "look for a scaling that is done twice"
    else:
        return ""
    return f"the network's input has mean {mean:.3g} and spread {spread:.3g}; {advice}"


def mode_text(module: nn.Module, flags: Mapping[str, bool], plan: Plan) -> str:
    """Remark on normalisation and dropout layers in evaluation mode while training; "" without any.

    Args:
        module: the network.
        flags: training flag of its layers during a pass in training mode, by path.
        plan: of the attempt; what it turns off itself is no finding.
    """
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.modules.dropout import _DropoutNd

    found = []
    parts = dict(module.named_modules())
    kinds = [(_BatchNorm, "batch norm")] * (not plan.norm_eval) + [(_DropoutNd, "dropout")] * plan.dropout
    for kind, words in kinds:
        ran = {name: flag for name, flag in flags.items() if isinstance(parts[name], kind)}
        ran = {name: flag for name, flag in ran.items() if getattr(parts[name], "p", 1)}
        still = [name for name, flag in ran.items() if not flag]
        if still:
            names = ", ".join(still[:2]) + (" ..." if len(still) > 2 else "")
            found.append(f"{len(still)} of {len(ran)} {counted(words, 'layer')} ({names})")
    if not found:
        return ""
    return (
        f"{' and '.join(found)} run in evaluation mode while the network is trained; intended with "
        "pretrained weights (norm_eval, frozen stages), else look for an eval() before or in the forward pass"
    )


def dead_text(activations: Mapping[str, Tensor]) -> str:
    """Which share of the ReLU layers is dead; "" where few are, or where there are none.

    Args:
        activations: output of every ReLU, [N, C, ...], by module path.
    """
    dead = measures.dead_share(activations)
    cause = "and pass no gradient: look at initial biases and the scale of the input"
    if dead > DEAD:
        return f"{dead:.0%} of the rectified channels are zero everywhere with initial weights, {cause}"
    quiet = [name for name, tensor in activations.items() if (tensor > 0).float().mean() < FIRING]
    if len(quiet) > DEAD * len(activations):
        return (
            f"in {len(quiet)} of {len(activations)} rectified layers nearly all values are zero with initial "
            f"weights ({', '.join(quiet[:3])}{' ...' if len(quiet) > 3 else ''}), {cause}"
        )
    return ""


def unlearned_text(gradient: Tensor, labelled: np.ndarray, keypoints: Sequence[str]) -> str:
    """Which labelled keypoints the loss leaves out; "" where none.

    Args:
        gradient: of the loss with respect to the outputs, [N, K, ...].
        labelled: [N, K], keypoints with a target inside the crop.
        keypoints: their names.
    """
    left_out = labelled & (gradient.flatten(2).abs().amax(-1).cpu().numpy() == 0)
    if not left_out.any():
        return ""
    names = [keypoints[int(k)] for k in np.flatnonzero(left_out.any(0))]
    listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    all_of_them = counted(int(labelled.sum()), "labelled keypoint is", "labelled keypoints are")
    return (
        f"{int(left_out.sum())} of {all_of_them} without loss ({listed}): look at how visibility 1 and "
        "target weights are handled"
    )


def peak_text(targets: Tensor, labelled: np.ndarray, sigma: tuple[float, ...], cells: tuple[int, ...]) -> str:
    """Whether target peaks are narrower than a cell, or wider than the output; "" where neither.

    Args:
        targets: [N, K, ...], maximum 1.
        labelled: [N, K], keypoints with a target inside the crop.
        sigma: of the peak, in cells.
        cells: of the output, per axis.
    """
    highest = targets.flatten(2).amax(-1).cpu().numpy()[labelled]
    if highest.size and highest.min() < FAINT:
        return (
            f"sigma {sigma[0]:g} is small for cells of this size: the target of a keypoint between cells "
            f"reaches only {highest.min():.2f}, so it hardly shows the position"
        )
    if PEAK * max(sigma) > min(cells):
        return (
            f"sigma {max(sigma):g} is large for an output of {' x '.join(map(str, cells))} cells: one peak "
            f"({PEAK} sigma) is wider than the whole output"
        )
    return ""


def decoder_text(read: np.ndarray, truth: np.ndarray, cell: float, side: np.ndarray, mean: Any = None) -> str:
    """How decoded targets differ from the keypoints that they encode; "" where they do not.

    Args:
        read: [n, 2] keypoints that the model decodes from its own targets, input pixels; nan where none.
        truth: [n, 2] keypoints, input pixels.
        cell: input pixels between two cells of the output.
        side: [n] longer side of the box, input pixels.
        mean: [2], mean error (x, y) of these keypoints at several places within their cells, input pixels, in
            which rounding cancels; that of `read` by default.
    """
    off = read - truth
    known = np.isfinite(off).all(1)
    if not known.any():
        return "no keypoint can be decoded from perfect targets: codec and decoder do not match"
    off, side = off[known], side[known]
    far, mean = np.linalg.norm(off, axis=1), np.asarray(off.mean(0) if mean is None else mean)
    limit = max(SHIFTED * cell, 0.5)
    if len(off) >= 4 and np.abs(mean).max() > limit and (off.std(0) < 2 * np.abs(mean).max()).all():
        return (
            f"perfect targets are decoded {signed_text(mean[0], '+.1f')}, "
            f"{signed_text(mean[1], '+.1f')} input pixels (x, y) from the keypoints that they encode, where "
            f"a cell is {cell:.2g}: look at stride, offset and the transform back to the image"
        )
    reached = float((far < NEAR * side).mean()) * known.mean()
    if reached >= Expectation().pck:
        return ""
    text = f"perfect targets are decoded {far.mean():.1f} input pixels off on average, PCK {reached:.2f}: no "
    if known.all() and far.max() <= ROUNDED * cell:
        return (
            f"{text}training can exceed that, because a cell of {cell:.2g} pixels is large for a box of "
            f"{np.median(side):.0f}: give the network a finer output or a larger input, or decode within the "
            "cell (dark, udp)"
        )
    return (
        f"{text}training can exceed that; look at the decoder, the order of x and y, the size of the output"
    )


def out_of_reach(model: Any, batch: Batch) -> tuple[int, int]:
    """Number of labelled keypoints that no output can represent, and of all labelled ones.

    Args:
        model: with a codec, or one that reads ground-truth tokens; for any other the first number is 0.
        batch: with samples that have ground truth.
    """
    H, W = batch.pixels.shape[-2:]
    given = batch.extra.get("given")
    far = labelled = 0
    for n, sample in enumerate(batch.samples):
        truth = np.asarray(sample.truth, float)
        visible = truth[:, 2] > 0
        labelled += int(visible.sum())
        if model.codec is not None:
            affine, (x0, y0, x1, y1) = batch.to_image[n], sample.box
            # Pixels reach half a pixel beyond their centres.
            edge = np.clip(apply(inverse(affine), truth[:, :2]), -0.5, (W - 0.5, H - 0.5))
            off = np.linalg.norm(apply(affine, edge) - truth[:, :2], axis=1)
            far += int((visible & (off >= NEAR * max(x1 - x0, y1 - y0))).sum())
        elif given is not None:
            far += int((visible & ~given[n].isfinite().all(-1).cpu().numpy()).sum())
    return far, labelled


def reach_text(model: Any, batch: Batch) -> str:
    """Keypoints outside the crop, as a sentence; "" where enough are inside to count as learned.

    Args:
        model: its view for training.
        batch: of its samples.
    """
    far, labelled = out_of_reach(model, batch)
    if not far or 1 - far / labelled >= Expectation().pck:
        return ""
    return (
        f"{far} of {counted(labelled, 'labelled keypoint lies', 'labelled keypoints lie')} outside the crop, "
        "where there is no target: look at box and padding"
    )


def before_training(
    model: PoseModel, samples: Sequence[Sample], plan: Plan, device: str = "cpu"
) -> tuple[Evidence, ...]:
    """Everything that is wrong before the first step.

    Args:
        model: its view for training, with initial weights; unchanged afterwards.
        samples: with ground truth.
        plan: of the attempt.
        device: cpu, cuda, cuda:N.

    Raises:
        ValueError: samples or device do not fit, see Trainer; or the outputs have another shape than the
            codec states.
    """
    import torch

    checked(model, samples)
    checked_device(model, plan.settings, device, plan.changes() is not None)
    first = ModelState(model)
    planned = PlannedModel(model, plan)
    module = planned.module.to(device)
    try:
        with seeded(plan.settings.seed, device):
            batch = planned.prepare(samples)
            batch = dataclasses.replace(batch, pixels=batch.pixels.to(device), samples=tuple(samples))
            rectifiers = measures.rectifiers(module)
            module.train()
            with (
                entering(module) as trained,
                modes(module) as flags,
                recording(module, rectifiers, rectifiers) as activations,
            ):
                outputs = planned.forward(batch)
            unlearned = _gradients(planned, outputs, batch, plan, device)
            norm, count, largest = size_of(module)
            clipped = clip_text(norm, count, plan.settings)
            module.eval()
            with torch.no_grad(), entering(module) as used:
                planned.forward(batch)
            dead = dead_text(activations)
            found = [
                ("input differs in training and in use",
                 input_text(trained[0], used[0]) if trained and used else "", True),
                *(("loss leaves keypoints out", *one) for one in unlearned),
                ("dead units", dead, True),
                (SCALED, target_scale_text(model, outputs, batch), True),
                *(("targets do not fit the decoder", *one)
                  for one in _targets(planned, batch, plan, device)),
            ]  # fmt: skip
            last = "" if dead else last_text(module, list(flags), plan.settings.groups)
            # Dead units pass no gradient either.
            found += () if dead else _untrained(planned, batch, plan, list(flags), largest)
    finally:
        first.restore()
        module.eval()
    remarks = (
        scale_text(trained[0]) if trained else "", mode_text(module, flags, plan), rate_text(plan.settings),
        last,
    )  # fmt: skip
    return (
        *(Evidence(text, decides=decides, name=name) for name, text, decides in found if text),
        *((Evidence(clipped, CLIP, CLIP_EFFECT, "the weights move"),) if clipped else ()),
        *(Evidence(text, remark=True, name="worth checking") for text in remarks if text),
    )


def _untrained(
    planned: PoseModel, batch: Batch, plan: Plan, ran: Sequence[str], largest: float
) -> list[tuple[str, str, bool]]:
    """Weights that do not learn, each as name, text and whether it decides; weights are changed."""
    module, name = planned.module, "weights that are not trained"
    frozen = frozen_text(module, ran, plan.settings.groups)
    return [
        ("gradients too small", small_text(largest, plan.settings), True),
        ("channels stay equal", alike_text(module), True),
        # Where a config's factors freeze a part, a switch of the bisection measures their effect.
        (name, frozen, not _has_factors(plan)),
        (name, "" if frozen else unreached_text(planned, batch, ran), False),
    ]


def _has_factors(plan: Plan) -> bool:
    return any(rate != 1 for rate, _ in plan.settings.groups.values())


def _gradients(
    planned: PoseModel, outputs: Outputs, batch: Batch, plan: Plan, device: str
) -> list[tuple[str, bool]]:
    """A backward pass, and the keypoints that the loss leaves out."""
    own = planned.objective if isinstance(planned, HasObjective) else None
    target = None if planned.codec is None else batch_target(batch, planned.codec, device)
    written = outputs.tokens.get("coordinates") if target is None else None
    tensors = [t for t in (outputs.heatmaps, *(outputs.simcc or ()), written) if t is not None]
    for tensor in tensors:
        if tensor.requires_grad:
            tensor.retain_grad()
    if own is not None:
        parts = own(outputs, batch)
    elif target is not None and planned.codec is not None:
        _check_shapes(outputs, target)
        parts = objective_for(planned.codec, plan.settings.objective)(outputs, target)
    else:
        return []
    _summed(parts, planned.module).backward()
    gradients = [t.grad for t in tensors if t.grad is not None]
    shape = (len(batch.samples), len(planned.skeleton))
    alone = target is None and not batch.extra.get("people")
    if alone and gradients and gradients[0].shape[:2] == shape:
        labelled = _within(batch, 0) & np.stack([np.asarray(s.truth, float)[:, 2] > 0 for s in batch.samples])
        return [(unlearned_text(gradients[0], labelled, planned.skeleton.keypoints), True)]
    # Hard keypoint mining leaves easy keypoints out on purpose.
    if target is None or plan.settings.objective.endswith("ohkm") or batch.extra.get("people"):
        return []
    # Target weights are 0 outside the crop and where nothing is labelled.
    labelled = target.weights.cpu().numpy() > 0
    if not gradients:
        return []
    text = unlearned_text(gradients[0], labelled, planned.skeleton.keypoints)
    return [(text, True)]


def _summed(parts: Any, module: nn.Module) -> Tensor:
    """The sum of a loss's parts.

    Args:
        parts: scalars by name, of an objective that may be the user's own.
        module: the network.

    Raises:
        ValueError: they are no tensors by name, or nothing could be trained with them.
    """
    import torch

    if not isinstance(parts, Mapping) or not parts or not all(map(torch.is_tensor, parts.values())):
        of = ", ".join(type(v).__name__ for v in parts.values()) if isinstance(parts, Mapping) else ""
        raise ValueError(
            "overfit: the model's objective is expected to return the parts of its loss by name, each a "
            f"tensor, such as {{'loss': loss}}, got {type(parts).__name__}{f' of {of}' if of else ''}"
        )
    loss = torch.stack([part.sum() for part in parts.values()]).sum()
    if loss.requires_grad:
        return loss
    if any(parameter.requires_grad for parameter in module.parameters()):
        raise ValueError(
            "overfit: the loss has no gradient, so nothing can be learned: look for detach(), item(), "
            "numpy() or torch.no_grad() between the network and its loss"
        )
    raise ValueError("overfit: no weight of the network has requires_grad, so nothing can be learned")


def _check_shapes(outputs: Outputs, target: Any) -> None:
    """Refuse targets of another shape than the outputs.

    Raises:
        ValueError: with both shapes.
    """
    for name, given, wanted in (
        ("heatmaps", (outputs.heatmaps,), (target.heatmaps,)),
        ("SimCC vectors", outputs.simcc or (None,), target.simcc or (None,)),
    ):
        for one, other in zip(given, wanted, strict=False):
            if one is not None and other is not None and one.shape[2:] != other.shape[2:]:
                exchanged = " (height and width exchanged?)" if one.shape[2:] == other.shape[2:][::-1] else ""
                raise ValueError(
                    f"overfit: the network's {name} are {tuple(one.shape[2:])}, its codec states "
                    f"{tuple(other.shape[2:])}{exchanged}: give the codec the network's own output_size, "
                    "(height, width)"
                )


def _targets(planned: Any, batch: Batch, plan: Plan, device: str) -> list[tuple[str, bool]]:
    """Sigma relative to the cells, and the error of the decoder on perfect targets."""
    codec = planned.codec
    if codec is None:
        return []
    target = batch_target(batch, codec, device)
    labelled = target.weights.cpu().numpy() > 0
    written = target.heatmaps if target.heatmaps is not None else (target.simcc or (None,))[0]
    cell = codec.input_size[0] / codec.output_size[0]
    # The peak of a keypoint at the very edge lies partly outside.
    within = labelled & _within(batch, cell)
    found = []
    if written is not None and not codec.normalized:
        found.append((peak_text(written, within, codec.sigma, codec.output_size), False))
    read, truth, side = _decoded(planned, batch, within, device)
    if len(read):
        errors = [read - truth]
        for part in WITHIN_CELL if np.isfinite(read).any() else ():
            moved, true, _ = _decoded(planned, _moved(batch, part * cell), within, device)
            errors.append(moved - true)
        mean = np.nanmean(np.concatenate(errors), 0) if np.isfinite(read).any() else None
        # With a codec of the config's pipeline a switch of the bisection measures its effect.
        text = decoder_text(read, truth, cell, side, mean)
        if text and codec.mmpose_cut and any(3 * s != round(3 * s) for s in codec.sigma):
            text += (
                ", and sigma: its threefold is no whole number of cells, and such a Gaussian of mmpose is "
                "one cell off near the left and top edges"
            )
        found.append((text, plan.codec is None))
    return found


def _decoded(
    planned: Any, batch: Batch, shown: np.ndarray, device: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keypoints [n, 2] decoded from their own targets, the true ones, and longer sides of their boxes [n].

    Args:
        planned: model with a codec.
        batch: with samples that have ground truth.
        shown: [N, K], the keypoints to return.
        device: of the targets.

    Returns:
        In input pixels.
    """
    target = batch_target(batch, planned.codec, device)
    predictions = planned.decode(target.as_outputs().detach(), batch, DecodeOptions())
    read, truth, sides = [], [], []
    for n, sample in enumerate(batch.samples):
        back, inside = inverse(batch.to_image[n]), shown[n]
        points, true = (
            apply(back, np.asarray(p, float)[:, :2]) for p in (predictions[n].keypoints, sample.truth)
        )
        read.append(points[inside])
        truth.append(true[inside])
        x0, y0, x1, y1 = sample.box
        longer = max(x1 - x0, y1 - y0) / abs(np.linalg.det(batch.to_image[n][:, :2])) ** 0.5
        sides.append(np.full(int(inside.sum()), longer))
    return np.concatenate(read), np.concatenate(truth), np.concatenate(sides)


def _moved(batch: Batch, by: float) -> Batch:
    """The batch with its ground truth moved along x and y, by input pixels."""
    samples = []
    for affine, sample in zip(batch.to_image, batch.samples, strict=True):
        truth = np.array(sample.truth, float)
        truth[:, :2] += affine[:, :2] @ (by, by)
        samples.append(dataclasses.replace(sample, truth=truth))
    return dataclasses.replace(batch, samples=tuple(samples))


def _within(batch: Batch, margin: float) -> np.ndarray:
    """[N, K]: keypoints that lie at least this far inside the crop, input pixels."""
    H, W = batch.pixels.shape[-2:]
    found = []
    for affine, sample in zip(batch.to_image, batch.samples, strict=True):
        true = apply(inverse(affine), np.asarray(sample.truth, float)[:, :2])
        found.append(((true >= margin) & (true < (W - margin, H - margin))).all(1))
    return np.stack(found)
