"""How outputs vary: from image to image, with the image mirrored, and from pass to pass of one input."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from workbench.core import DecodeOptions, Groups, NotAvailable, Outputs, PoseModel
from workbench.core.capabilities import RollsOut
from workbench.core.finding import Finding, Measurement
from workbench.core.hooks import recording
from workbench.core.report import counted
from workbench.core.run import evaluating
from workbench.diagnosis.cause import Answer, Cause, NotTestable, RuledOut
from workbench.diagnosis.evidence import Change

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from workbench.core import Batch
    from workbench.diagnosis.case import Case

# Difference of two outputs, as a share of that between images, up to which one is a copy of the other.
COPIED = 0.01
# What the conditioning clinic calls features of which little is left.
LOST_FEATURES = ("features destroyed", "random initialisation")
# Spread over images, relative to all of it, below which outputs are constant; and images that say so.
CONSTANT, LEAST_IMAGES = 0.02, 5


class Collapsed(Cause):
    """All keypoints of a sample at one place, or none at all."""

    name, group, level, needs = "outputs are constant", "output", "forward", ("model", "data")
    refuted_by = "another image on which the outputs differ"
    symptom_of = ("layers with all weights zero", "weights only partly loaded", "layers that never learned")

    def test(self, case: Case) -> Answer:
        varies, images = variation(case)
        if varies < CONSTANT and images >= LEAST_IMAGES:
            return self.found(
                f"outputs hardly depend on the image: they vary by {varies:.1%} of their spread over "
                f"{counted(images, 'image')}",
                fix="check that the input reaches the network and that its weights are those of the file",
            )
        return RuledOut(f"outputs vary by {varies:.0%} of their spread over {counted(images, 'image')}")

    def waits_for(self, finding: Finding, others: Sequence[Finding]) -> str:
        """Features that the condition destroys leave nothing that could vary."""
        del finding
        first = next((one.cause for one in others if one.cause in LOST_FEATURES), "")
        return f"undo '{first}' first: what is left of the features says little of the image" if first else ""


def variation(case: Case, changes: Sequence[Change] = ()) -> tuple[float, int]:
    """How much outputs differ from image to image, a share of their spread; and over how many images.

    Args:
        case: of a model.
        changes: with which the network runs.

    Raises:
        NotAvailable: there is no model, or it gives neither heatmaps nor SimCC vectors.
    """

    def measured() -> tuple[float, int]:
        parts = case.of_model().forwards(changes)
        flat = np.concatenate([_maps(one.outputs) for one in parts])
        flat = flat.reshape(len(flat), flat.shape[1], -1)
        return float(flat.std(0).mean() / max(float(flat.std()), 1e-12)), len(flat)

    return measured() if changes else case.once("variation of outputs", measured)


def check_varying(case: Case, changes: Sequence[Change] = ()) -> None:
    """Raise NotAvailable where outputs are constant: another reading gives something by chance alone."""
    try:
        varies, images = variation(case, changes)
    except NotAvailable:
        return
    if varies < CONSTANT and images >= LEAST_IMAGES:
        raise NotAvailable("outputs hardly depend on the image, so nothing can be read off them")


def _maps(outputs: Outputs) -> Float[np.ndarray, "N K ..."]:
    if outputs.heatmaps is None and outputs.simcc is None:
        raise NotAvailable("this model gives neither heatmaps nor SimCC vectors")
    tensor = outputs.heatmaps if outputs.heatmaps is not None else cast(Any, outputs.simcc)[0]
    return tensor.float().numpy()


# Mean difference of inputs and their mirror images, in their spread, below which they are alike.
SYMMETRIC = 0.1


class MirroredAlike(Cause):
    """Maps averaged with those of the mirrored image, which were not mirrored, or not exchanged, back."""

    name, group, level = "mirrored maps that are not mirrored back", "output", "forward"
    needs = ("model", "data")
    refuted_by = "an image and its mirror image whose outputs are no copies of each other"
    SIDES = "mirrored maps whose left and right are not exchanged back"

    def test(self, case: Case) -> Answer:
        check_varying(case)
        evidence = case.of_model()
        import torch

        model, parts = evidence.model, evidence.forwards(rows=evidence.first)
        assert model is not None
        pixels = torch.cat([one.batch.pixels.float() for one in parts])
        if (pixels - pixels.flip(-1)).abs().mean() < SYMMETRIC * pixels.std():
            return NotTestable("the inputs are their own mirror images, as of a single pixel enlarged")
        case.step()
        own = np.concatenate([_maps(one.outputs) for one in parts])
        with torch.no_grad(), evaluating(model.module):
            mirrored = np.concatenate(
                [
                    _maps(model.forward(dataclasses.replace(one.batch, pixels=one.batch.pixels.flip(-1))))
                    for one in parts
                ]
            )
        if len(own) < 2:
            return NotTestable("one sample: how far the outputs of two images lie apart takes two")
        usual = float(np.abs(own[1:] - own[:-1]).mean())
        order = list(model.skeleton.mirror) or list(range(own.shape[1]))
        paired = float(np.abs(own - own[:, order]).mean())

        def apart(other: Float[np.ndarray, "N K ..."]) -> float:
            return float(np.abs(own - other).mean()) / max(usual, 1e-12)

        same, back = apart(mirrored), apart(mirrored[..., ::-1])
        share_of = f"of what the outputs of {counted(len(own), 'image')} differ by"
        if same < COPIED:
            return self.found(
                f"an image and its mirror image give the same output: {same:.2%} {share_of}",
                fix="mirror the maps of the mirrored image back, and exchange left and right, before they "
                "are averaged with those of the image",
                numbers=(Measurement("difference of the two outputs", same, expected=1.0),),
            )
        if back < COPIED and paired > COPIED * usual:
            found = self.found(
                "the outputs of an image and of its mirror image mirror each other, keypoint by keypoint, to "
                f"{back:.2%} {share_of}: left stays left",
                fix="exchange the maps of left and right once the mirrored ones are mirrored back",
                numbers=(Measurement("difference of the two outputs", back, expected=1.0),),
            )
            return dataclasses.replace(found, cause=self.SIDES)
        return RuledOut(
            f"the outputs of an image and of its mirror image differ by {same:.0%}, mirrored back by "
            f"{back:.0%} {share_of}"
        )


# Difference of two passes, in the spread of the outputs. Measured on the CPU of a CNN, a U-Net, a ViT, a
# SimCC network and the demo's RTMPose: two passes are equal to the last bit, in bfloat16 too; another number
# of threads, another batch size or channels-last memory moves float32 by at most 6e-7. Not measured: GPUs
# and ONNX files.
REPEATED = 1e-3
# Samples that are given twice: each counts among the inputs that a diagnosis may take.
TWICE = 1


class PassesDiffer(Cause):
    """Two passes over the same input differ: dropout or noise that is on in evaluation mode."""

    name, group, level, needs = "outputs change from pass to pass", "output", "forward", ("model", "data")
    refuted_by = "two passes over the same input with equal outputs"

    def test(self, case: Case) -> Answer:
        return case.once("passes that differ", lambda: self._compared(case))

    def _compared(self, case: Case) -> Answer:
        # Not case.model(), which returns what a bottom-up network gave for the same image before.
        model, pose_set = case.loaded().model, case.pose_set()
        apart, moved, batch = [], [], None
        for i in case.chosen()[:TWICE]:
            case.step()
            batch = model.prepare([pose_set.sample(i)])
            first, second = (_passed(model, batch) for _ in range(2))
            apart.append(_apart(first, second))
            moved.append(_moved(model, batch, first, second))
        if batch is None or not np.isfinite(apart).all():
            return NotTestable("the outputs are not finite, so two passes cannot be compared")
        share, samples = max(apart), counted(len(apart), "sample")
        if share < REPEATED:
            return RuledOut(f"two passes over {samples} differ by at most {share:.1g} of the outputs' spread")
        start = _first_different(model, batch)
        away = float(np.mean(moved))
        poses = (
            f", which moves labelled keypoints by {away:.1%} of the box (mean)" if np.isfinite(away) else ""
        )
        where = f"; the first part whose output differs is {start}" if start else ""
        return self.found(
            f"two passes over {samples} differ by up to {share:.1%} of the outputs' spread in "
            f"evaluation mode{poses}{where}",
            fix="switch off what is random at inference: dropout called with training=True, parts left in "
            "training mode, noise or sampling without a seed of its own",
            numbers=(Measurement("difference of two passes", share, expected=0.0),),
        )


def passes_differ(case: Case) -> bool:
    """Whether two passes over the same input differ, so that nothing can be told by comparing two of them."""
    return isinstance(PassesDiffer().test(case), Finding)


def _passed(model: PoseModel, batch: Batch) -> Outputs:
    """The outputs as the model is used: a sequence model free-running."""
    import torch

    with torch.no_grad(), evaluating(model.module):
        return (model.rollout if isinstance(model, RollsOut) else model.forward)(batch).detach()


def _apart(first: Outputs, second: Outputs) -> float:
    """Mean difference of two passes in the spread of the first; of the field that differs most."""
    shares = [0.0]
    for own, other in zip(_tensors(first), _tensors(second), strict=False):
        if own.shape != other.shape:
            return 1.0  # a sequence of another length
        if own.numel() > 1:
            shares.append(float((own - other).abs().mean() / own.std().clamp(min=1e-12)))
    return max(shares)


def _tensors(outputs: Outputs) -> list[Tensor]:
    values = [getattr(outputs, name) for name in outputs.given()]
    parts = [
        list(v.values()) if isinstance(v, dict) else list(v) if isinstance(v, tuple) else [v] for v in values
    ]
    return [tensor for some in parts for tensor in some]


def _moved(model: PoseModel, batch: Batch, first: Outputs, second: Outputs) -> float:
    """How far labelled keypoints lie apart, a share of the box's longer side; nan of a bottom-up model."""
    if isinstance(model, Groups):
        return float("nan")
    (own,), (other,) = (model.decode(one, batch, DecodeOptions()) for one in (first, second))
    x0, y0, x1, y1 = own.box
    away = np.linalg.norm(own.keypoints - other.keypoints, axis=-1)
    (sample,) = batch.samples
    if sample.truth is not None:
        away = away[sample.truth[:, 2] > 0]
    away = away[np.isfinite(away)]
    return float(away.mean() / max(x1 - x0, y1 - y0, 1e-9)) if len(away) else float("nan")


def _first_different(model: PoseModel, batch: Batch) -> str:
    """The first part, in the order of the pass, whose outputs differ: its path and class; "" for none."""
    leaves = {
        name: type(part).__name__
        for name, part in model.module.named_modules()
        if name and next(part.children(), None) is None
    }
    passes = []
    for _ in range(2):
        with recording(model.module, {name: name for name in leaves}, leaves) as record:
            _passed(model, batch)
        passes.append(record)
    first, second = passes
    for name, own in first.items():
        other = second.get(name)
        if other is None or own.shape != other.shape or not own.equal(other):
            return f"{name} ({leaves[name]})"
    return ""


CAUSES: Sequence[Cause] = (Collapsed(), MirroredAlike(), PassesDiffer())
