"""What does the text do in code of the user's own? Its training and its predict pass, run and compared.

Nothing is taken for granted about the code: both passes are the user's, on the same input, with the text and
without. Only the user's own modules are in training mode for the training pass; layers of libraries (dropout,
normalisation) are in evaluation mode in both, so that what differs is what the user's code does otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.core import Batch, Conditioned, DecodeOptions, Outputs, Passed, Run, nearest
from workbench.core.hooks import recording
from workbench.core.run import evaluating
from workbench.inspectors.conditioning.passes import apart, moved, one_per_path
from workbench.inspectors.conditioning.paths import BOTH, INFERENCE, TRAINING, Paths, in_order
from workbench.models.mmpose_user_text import LIBRARIES

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

Way = Literal["training", "predict"]
WAYS: tuple[Way, ...] = ("training", "predict")
# Two passes that are equal but for random numbers differ by at most this factor of what two of one kind do.
NOISE = 1.5
FEATURES, OUTPUTS = "(what the head is given)", "(what the network gives)"
"""Rows beside the taps: they are no modules."""


# float32 sums in another order differ by some 1e-7.
NOTHING = 1e-6


@dataclass(frozen=True, eq=False)
class OnePass:
    """One pass over the samples of a run.

    Attributes:
        run: its outputs and keypoints, and the recorded taps.
        parts: what is compared: taps in the order in which they are passed, features and outputs.
    """

    run: Run
    parts: dict[str, Float[np.ndarray, ...]]


def own_text(model: Any) -> Conditioned | None:
    """The model, where it declares that code of the user's own gives its features text; else None."""
    return model if isinstance(model, Conditioned) else None


def with_film_tap(model: Any, tap: str) -> Any:
    """The same model with the layer that leaves γ and β named.

    Args:
        model: of the user's own.
        tap: a name in its taps.

    Raises:
        ValueError: the workbench's own network, whose layer is known.
        KeyError: no such tap.
    """
    if own_text(model) is None:
        raise ValueError(
            "--film-tap names a layer of your own code; that of the workbench's modules is known"
        )
    if tap not in model.taps:
        raise KeyError(f"--film-tap: no tap {tap!r}; nearest: {nearest(tap, model.taps)}")
    return dataclasses.replace(model, film=tap)


def passed(
    run: Run,
    way: Way,
    edit: Callable[[Tensor], Tensor] | Literal["as it is"] | None = "as it is",
    seed: int = 0,
) -> OnePass:
    """The samples of a run once more, along one of the user's passes.

    Args:
        run: whose model and samples.
        way: which pass.
        edit: of the text tensors; None takes the text away.
        seed: of what the user's own code draws.

    Raises:
        NotAvailable: the model cannot do so.
    """
    import torch

    from workbench.models.randomness import private_randomness

    model: Any = run.model
    names = tuple(one_per_path(model.taps))
    with (
        torch.no_grad(),
        recording(model.module, model.taps, names) as activations,
        in_mode(model.module, way),
        private_randomness(seed),
    ):
        batch = model.prepare(run.samples)
        if edit != "as it is":
            batch = model.with_text(batch, edit)
        activations.clear()
        given = one_pass(model, batch, way)
    outputs = given.outputs.detach()
    made = Run(model, run.samples, batch, outputs, model.decode(outputs, batch, DecodeOptions()), activations,
               run.title)  # fmt: skip
    parts = {name: tensor.float().numpy() for name, tensor in activations.items()}
    if given.features is not None:
        parts[FEATURES] = given.features.detach().float().cpu().numpy()
    parts[OUTPUTS] = _flat(outputs)
    return OnePass(made, parts)


def one_pass(model: Conditioned, batch: Batch, way: Way) -> Passed:
    """One of the user's two passes."""
    return model.training_pass(batch) if way == "training" else model.predict_pass(batch)


@contextmanager
def in_mode(module: nn.Module, way: Way) -> Iterator[None]:
    """The user's own parts in the mode of this pass, layers of libraries in evaluation mode."""
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


def compared(run: Run) -> Paths:
    """The user's training pass against their predict pass, tap by tap on the same input.

    Raises:
        NotAvailable: one of them cannot be run.
    """
    model: Any = run.model
    trained, again = passed(run, "training"), passed(run, "training", seed=1)
    used, twice = passed(run, "predict"), passed(run, "predict", seed=1)
    names = in_order(list(trained.parts), list(used.parts))
    reached, differences, random = [], [], 0
    for name in names:
        a, b = trained.parts.get(name), used.parts.get(name)
        if a is None or b is None:
            reached.append(INFERENCE if a is None else TRAINING)
            differences.append(float("nan"))
            continue
        own = max(difference_of(a, again.parts.get(name, a)), difference_of(b, twice.parts.get(name, b)))
        random += own > NOTHING
        difference = difference_of(a, b)
        reached.append(BOTH)
        differences.append(0.0 if difference <= NOISE * own else difference)
    taps = one_per_path(model.taps)
    public = {name for name, path in taps.items() if name != path}
    shown = {i for i, n in enumerate(names) if n in public or n.count(".") < 2}
    drawn = f" ({random} taps are random in themselves; what they differ by alone is not counted)"
    report = Paths(
        training=f"as your training pass does{drawn if random else ''}",
        inference="as your predict does",
        names=tuple(names),
        reached=tuple(reached),
        differences=np.array(differences, float),
        shown=(),
        moved=float(np.median(moved(trained.run, used.run))),
        scores=(float(np.median(trained.run.scores)), float(np.median(used.run.scores))),
    )
    if report.first is not None:
        shown.add(report.first)
    return Paths(**{**vars(report), "shown": tuple(sorted(shown))})


def difference_of(a: Float[np.ndarray, "*s"], b: Float[np.ndarray, "*s"]) -> float:
    """Length of b - a as a share of a; infinite for other shapes."""
    return apart(a, b) if a.shape == b.shape else float("inf")


def _flat(outputs: Outputs) -> Float[np.ndarray, " L"]:
    """All numbers that the network gave."""
    parts = [outputs.heatmaps, *(outputs.simcc or ()), outputs.tags, outputs.coarse, outputs.centres,
             *outputs.fields.values(), *outputs.tokens.values()]  # fmt: skip
    return np.concatenate([part.float().numpy().ravel() for part in parts if part is not None])
