"""The training pass and the predict pass of a conditioned network, run on the same samples.

In the training pass the modules of the user's own code are in training mode, layers of libraries (dropout,
normalisation) in evaluation mode, so that only what the code itself does differs between the two passes.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.core import Answers, Conditioned, DecodeOptions, NotAvailable, Passed, Run
from workbench.core.conditioning import REFERENCE, TRAINED, UNREFINED, Conditioning, Switch, bypassed
from workbench.core.hooks import recording, replacing
from workbench.core.inspector import absent_capability
from workbench.core.run import evaluating
from workbench.core.statistics import effective_number
from workbench.core.wrapping import Wrapper
from workbench.models.conditioning import LIBRARIES

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

    from workbench.core import Batch, Outputs, PoseModel, Sample
    from workbench.data.pose_set import PoseSet

Way = Literal["training", "predict"]
WAYS: tuple[Way, ...] = ("training", "predict")
Edit = Callable[["Tensor"], "Tensor"]
UNCHANGED: Literal["unchanged"] = "unchanged"

FEATURES, OUTPUTS = "(what the head is given)", "(what the network gives)"
"""Rows beside the taps: they are no modules."""

# float32 sums in another order differ by some 1e-7.
NOTHING = 1e-6


def conditioning_of(model: PoseModel, needed: bool = True) -> Conditioning:
    """What the model declares about its condition.

    Args:
        model: of any family.
        needed: raise where the record says that there is no condition to measure.

    Raises:
        NotAvailable: the model declares no condition, or has none to measure.
    """
    if not isinstance(model, Conditioned):
        raise NotAvailable(
            f"{absent_capability(Conditioned)}; the network is a {type(model.module).__name__}"
        )
    record = model.conditioning
    if needed and record.unavailable:
        raise NotAvailable(f"conditioning: {record.unavailable}")
    return record


@dataclass(frozen=True, eq=False)
class OnePass:
    """One pass over the samples of a run.

    Attributes:
        run: its outputs, keypoints and recorded taps.
        parts: what two passes are compared by: taps in the order in which they are reached, then features and
            outputs.
    """

    run: Run
    parts: dict[str, Float[np.ndarray, ...]]


def one_pass(
    run: Run,
    way: Way,
    record: Sequence[str] | None = None,
    replace: Mapping[str, Edit] | None = None,
    edit: Edit | Literal["unchanged"] | None = UNCHANGED,
    seed: int = 0,
) -> OnePass:
    """Run the samples of a run once more, along one of the model's passes.

    Args:
        run: whose model and samples.
        way: which pass.
        record: taps whose outputs to keep; None keeps all.
        replace: interventions at taps.
        edit: of the condition before it enters the network; None takes the condition away.
        seed: of what the user's own code draws.

    Raises:
        NotAvailable: the model cannot do so.
        KeyError: a name is not a tap.
    """
    model: Any = run.model
    record_of = conditioning_of(model, needed=False)
    call = model.training_pass if way == "training" else model.predict_pass
    names = tuple(one_per_path(model.taps)) if record is None else tuple(record)
    made, given = _recorded(run, call, way, names, replace, edit, seed)
    parts = {name: tensor.float().numpy() for name, tensor in made.activations.items()}
    if given.features is not None:
        parts[FEATURES] = given.features.detach().float().cpu().numpy()
    if not record_of.outputs:
        parts[OUTPUTS] = flat_outputs(made.outputs)
    return OnePass(made, parts)


def along(
    run: Run,
    forward: Callable[[Batch], Outputs],
    record: Sequence[str] = (),
    replace: Mapping[str, Edit] | None = None,
) -> Run:
    """The samples of a run once more, along a pass that the model declares (a switch, a refiner's pass).

    Args:
        run: whose model and samples.
        forward: the pass.
        record: taps whose outputs to keep.
        replace: interventions at taps.
    """
    return _recorded(run, lambda batch: Passed(forward(batch)), "predict", record, replace, UNCHANGED, 0)[0]


def _recorded(
    run: Run,
    call: Callable[[Batch], Passed],
    way: Way,
    names: Sequence[str],
    replace: Mapping[str, Edit] | None,
    edit: Any,
    seed: int,
) -> tuple[Run, Passed]:
    import torch

    from workbench.models.randomness import private_randomness

    model: Any = run.model
    with (
        torch.no_grad(),
        replacing(model.module, model.taps, replace or {}),
        recording(model.module, model.taps, tuple(names)) as activations,
        in_mode(model.module, way),
        private_randomness(seed),
    ):
        batch = model.prepare(run.samples)
        if edit != UNCHANGED:
            batch = model.with_condition(batch, edit)
        activations.clear()
        given = call(batch)
    outputs = given.outputs.detach()
    predictions = model.decode(outputs, batch, DecodeOptions())
    return Run(model, run.samples, batch, outputs, predictions, activations, run.title), given


def random_condition(run: Run, way: Way, seed: int, record: Sequence[str] | None = None) -> OnePass:
    """A pass with random vectors in place of the condition, of the same lengths.

    Args:
        run: whose model and samples.
        way: which pass.
        seed: of the random vectors.
        record: taps whose outputs to keep; None keeps all.
    """
    taps = conditioning_of(run.model).condition
    if taps:
        return one_pass(run, way, record, dict.fromkeys(taps, noise(seed)))
    return one_pass(run, way, record, edit=noise(seed))


def without_condition(run: Run, way: Way, record: Sequence[str] | None = None) -> OnePass:
    """A pass without the condition.

    Args:
        run: whose model and samples.
        way: which pass.
        record: taps whose outputs to keep; None keeps all.

    Raises:
        NotAvailable: the user's code cannot run without it; with its error.
    """
    try:
        return one_pass(run, way, record, edit=None)
    except ValueError as error:
        noun = conditioning_of(run.model).noun
        raise NotAvailable(f"{noun}: your {way} pass cannot be run without it: {error}") from error


def noise(seed: int) -> Edit:
    """Random vectors as long as those of the condition."""

    def edit(vectors: Tensor) -> Tensor:
        from workbench.models.randomness import directions_like

        if not vectors.is_floating_point():
            raise NotAvailable(f"random vectors in place of the condition: it is {vectors.dtype}, no floats")
        return directions_like(vectors, seed)

    return edit


@contextmanager
def in_mode(module: nn.Module, way: Way) -> Iterator[None]:
    """The user's own parts in the mode of this pass, layers of libraries in evaluation mode.

    Buffers (running statistics, counters) have their values back when the block ends.
    """
    import torch
    from torch.nn.modules.batchnorm import _NormBase
    from torch.nn.modules.dropout import _DropoutNd

    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with evaluating(module):
        if way == "training":
            for part in module.modules():
                own = type(part).__module__.partition(".")[0] not in LIBRARIES
                part.training = own and not isinstance(part, (_NormBase, _DropoutNd))
        try:
            yield
        finally:
            with torch.no_grad():
                for name, buffer in module.named_buffers():
                    if name in buffers and not torch.equal(buffer, buffers[name]):
                        buffer.copy_(buffers[name])


@dataclass(frozen=True, eq=False)
class AlongTraining(Wrapper):
    """A conditioned model whose forward is its training pass, with gradients."""

    model: Any
    withheld = (Answers,)  # bypasses `forward`

    def forward(self, batch: Batch) -> Outputs:
        """Outputs of the training pass."""
        from workbench.models.randomness import private_randomness

        with in_mode(self.model.module, "training"), private_randomness(0):
            return self.model.training_pass(batch).outputs


# Samples.


def several(pose_set: PoseSet, count: int) -> tuple[Sample, ...]:
    """Labelled samples, one of each category in turn, so that their conditions differ.

    Args:
        pose_set: with annotations.
        count: at most so many samples.

    Raises:
        ValueError: nothing is labelled.
    """
    by_category: dict[int, list[int]] = defaultdict(list)
    for i in pose_set.labelled:
        by_category[pose_set.instances[i].category_id].append(i)
    in_turn = [i for i in chain(*zip_longest(*by_category.values())) if i is not None]
    if not in_turn:
        raise ValueError(f"{pose_set.name}: no labelled instance")
    return tuple(pose_set.samples(in_turn[:count]))


def spread(pose_set: PoseSet, limit: int | None) -> list[int]:
    """Indices of labelled instances, evenly spaced through the set.

    Args:
        pose_set: with annotations.
        limit: about so many instances; None takes all.

    Raises:
        ValueError: a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit: expected at least 1 instance, got {limit}")
    labelled = list(pose_set.labelled)
    if limit is None or limit >= len(labelled):
        return labelled
    return [labelled[int(i)] for i in np.linspace(0, len(labelled) - 1, limit).round()]


# Measures of a difference.


def one_per_path(taps: Mapping[str, str]) -> dict[str, str]:
    """Tap -> module path with one name for each module, the public one where there is one."""
    first: dict[str, str] = {}
    for name, path in taps.items():
        first.setdefault(path, name)
    return {name: path for path, name in first.items()}


def relative_difference(a: Float[np.ndarray, "*s"], b: Float[np.ndarray, "*s"]) -> float:
    """Length of b - a as a share of the length of `a`; infinite for another shape."""
    if a.shape != b.shape:
        return float("inf")
    length = float(np.linalg.norm(np.asarray(a, float)))
    difference = float(np.linalg.norm(np.asarray(a, float) - np.asarray(b, float)))
    return difference / length if length > 0 else (0.0 if difference == 0 else float("inf"))


def centred_cells(maps: Float[np.ndarray, "N C h w"]) -> Float[np.ndarray, "M C"]:
    """Every cell of every map as a row, with each image's mean subtracted.

    Without the subtraction a shift that differs between images (β of each one's own condition) would be the
    strongest direction, and all others would look lost beside it.
    """
    maps = maps.astype(float)
    centred = maps - maps.mean((2, 3), keepdims=True)
    return np.moveaxis(centred, 1, -1).reshape(-1, maps.shape[1])


def effective_rank(matrix: Float[np.ndarray, "M D"]) -> float:
    """Number of directions that a matrix uses: the exponential of the entropy of its squared singular values.

    0 for a matrix of zeros. Source: Roy and Vetterli 2007, "The effective rank", with energies in place of
    singular values.
    """
    energies = np.linalg.svd(np.asarray(matrix, float), compute_uv=False) ** 2
    return effective_number(energies) if energies.any() else 0.0


def moved(a: Run, b: Run) -> Float[np.ndarray, "N K"]:
    """Distance of each keypoint between two runs of the same samples, in shares of the box's longer side."""
    sides = np.array([max(s.box[2] - s.box[0], s.box[3] - s.box[1]) for s in a.samples])
    return np.linalg.norm(a.keypoints - b.keypoints, axis=-1) / sides[:, None]


def median_found(distances: Float[np.ndarray, "N K"]) -> Float[np.ndarray, " K"]:
    """Median of each keypoint over the samples in which it was found; nan where it was found in none."""
    medians = np.ma.median(np.ma.masked_invalid(distances), axis=0)
    return np.asarray(np.ma.filled(medians, np.nan), float)


def median_moved(a: Run, b: Run) -> float:
    """Median of `moved` over the keypoints that both runs found; nan where they found none in common."""
    return float(median_found(moved(a, b).reshape(-1, 1))[0])


def apart_text(share: float, digits: str = ".1f") -> str:
    """How far keypoints lie apart in two runs, as the end of a sentence.

    Args:
        share: of the box, as `median_moved` gives it.
        digits: format of the percentage.
    """
    if np.isnan(share):
        return "the two passes found no keypoint in common"
    return f"keypoints lie {100 * share:{digits}} % of the box apart (median)"


def flat_outputs(outputs: Outputs) -> Float[np.ndarray, " L"]:
    """All numbers that the network gave."""
    parts = [outputs.heatmaps, *(outputs.simcc or ()), outputs.tags, outputs.coarse, outputs.centres,
             *outputs.fields.values(), *outputs.tokens.values()]  # fmt: skip
    return np.concatenate([part.float().numpy().ravel() for part in parts if part is not None])


# Switches: the passes of an ablation.


def switches_of(model: PoseModel, samples: Sequence[Sample]) -> tuple[Switch, ...]:
    """What can be changed or taken away in a conditioned network, the reference first.

    Args:
        model: conditioned.
        samples: on which it is tried whether the network can run without its condition.

    Raises:
        NotAvailable: the model declares no condition.
    """
    record = conditioning_of(model, needed=False)
    if record.switches:
        return record.switches
    found = [
        Switch(REFERENCE, pass_of(model, "predict", UNCHANGED), against=""),
        Switch(TRAINED, pass_of(model, "training", UNCHANGED)),
    ]
    if (unrefined := without_refiner(model)) is not None:
        found.append(unrefined)
    if record.unavailable:
        return tuple(found)
    # Only its model and samples are read: every pass below is a new one.
    run = Run(model, tuple(samples), None, None, ())  # type: ignore[arg-type]
    try:
        removed = {way: without_condition(run, way) for way in WAYS}
    except NotAvailable:
        removed = {way: random_condition(run, way, 0) for way in WAYS}
        edits: dict[str, Edit | None] = {}
    else:
        edits = {f"without {record.noun}": None}
    edits |= {
        f"zero {record.noun}": lambda vectors: vectors * 0,
        f"shuffled {record.noun}": lambda vectors: vectors.roll(1, 0),
        f"noise for {record.noun}": noise(0),
    }
    # The condition is changed where it matters: along the training pass when the predict pass ignores it.
    matters = {way: _differ(one_pass(run, way), removed[way]) for way in WAYS}
    way: Way = "training" if matters["training"] and not matters["predict"] else "predict"
    against = TRAINED if way == "training" else REFERENCE
    kind = "text" if record.noun == "text" else "condition"
    found += [Switch(name, pass_of(model, way, edit), against, kind) for name, edit in edits.items()]
    return tuple(found)


def without_refiner(model: PoseModel) -> Switch | None:
    """The pass in which what enters the refiner leaves it; None without a refiner.

    Raises:
        NotAvailable: the model declares no condition.
    """
    record = conditioning_of(model, needed=False)
    if record.refiner is None:
        return None
    return Switch(UNREFINED, _unrefined(model, record), kind="refiner")


def pass_of(model: Any, way: Way, edit: Any) -> Callable[[Batch], Outputs]:
    """A pass of a conditioned model over a prepared batch.

    Args:
        model: conditioned.
        way: which pass.
        edit: of the condition's vectors; UNCHANGED for none, None for a pass without the condition.
    """

    def forward(batch: Batch) -> Outputs:
        from workbench.models.randomness import private_randomness

        edited = batch if edit == UNCHANGED else model.with_condition(batch, edit)
        with in_mode(model.module, way), private_randomness(0):
            given = model.training_pass(edited) if way == "training" else model.predict_pass(edited)
        return given.outputs

    return forward


def _unrefined(model: Any, record: Conditioning) -> Callable[[Batch], Outputs]:
    refiner = record.refiner
    assert refiner is not None  # the caller has looked

    def forward(batch: Batch) -> Outputs:
        with replacing(model.module, model.taps, bypassed(refiner.raw, refiner.refined)):
            return pass_of(model, "predict", UNCHANGED)(batch)

    return forward


def _differ(a: OnePass, b: OnePass) -> bool:
    return any(
        relative_difference(a.parts[part], b.parts[part]) > NOTHING
        for part in (FEATURES, OUTPUTS)
        if part in a.parts and part in b.parts
    )


@dataclass(frozen=True, eq=False)
class Switched(Wrapper):
    """A model whose forward is the pass of a switch: a PoseModel like any other.

    Attributes:
        model: the conditioned model.
        switch: the pass.
        batches: shared by the switches of one model, so that the last batch is cropped once for all of them.
    """

    model: Any
    switch: Switch
    batches: dict[tuple[Any, ...], Batch] = dataclasses.field(default_factory=dict)
    withheld = (Answers,)  # bypasses `forward`

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """As the model does, once for all switches."""
        key = tuple((s.image_id, s.annotation_id, s.box) for s in samples)
        if key not in self.batches:
            batch = self.model.prepare(samples)
            self.batches.clear()
            self.batches[key] = batch
        return self.batches[key]

    def forward(self, batch: Batch) -> Outputs:
        """What the switch's pass gives."""
        return self.switch.forward(batch)
