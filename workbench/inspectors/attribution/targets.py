"""Which number of the output does an attribution explain? One per keypoint, at the place the model answered.

Peaks are found once, in the undisturbed output. They stay where they are while the input is changed: a target
that moved with the maximum would compare two places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable
from workbench.core.capabilities import Groups, HasTagMaps, RollsOut
from workbench.core.hooks import recording
from workbench.core.inspector import Choice, absent_output
from workbench.core.run import evaluating
from workbench.figures.panels import cell_pitch, in_input

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from workbench.core import Batch, Outputs, Run

OUTPUTS = ("heatmaps", "simcc", "tokens")
"""Outputs that have targets."""

# A soft peak weighs cells by softmax(SHARPNESS * value / span of the map): a cell half as high as the peak
# counts exp(-10) of it, so that a map of several thousand cells is still read at its peak.
SHARPNESS = 20.0

UNITS: Mapping[str, str] = {
    "peak": "heatmap value at the peak",
    "soft peak": "mean heatmap value around the peak",
    "x and y": "sum of the SimCC logits at both peaks",
    "x": "SimCC logit at the peak along x",
    "y": "SimCC logit at the peak along y",
    "token x": "x of the token, 0 to 1",
    "token y": "y of the token, 0 to 1",
    "token type": "logit of the token's type",
    "tag in person": "distance of the tag from the mean tag of the same person",
    "tag to next person": "distance of the tag from the mean tag of the next person",
}
"""Kind of target -> what its number is."""


def kinds(run: Run) -> list[str]:
    """The kinds of targets that the outputs of a run have; the first is the default."""
    outputs, found = run.outputs, []
    if outputs.heatmaps is not None:
        found += ["peak", "soft peak"]
    if outputs.simcc is not None:
        found += ["x and y", "x", "y"]
    if "coordinates" in outputs.tokens:
        found += ["token x", "token y"]
    if "types" in outputs.tokens:
        found += ["token type"]
    if outputs.tags is not None and isinstance(run.model, Groups):
        found += ["tag in person", "tag to next person"]
    return found


TARGET = Choice(kinds)


@dataclass(frozen=True, eq=False)
class Targets:
    """One number per keypoint, read from outputs.

    Attributes:
        kind: key of UNITS.
        keypoints: their T indices in the skeleton; fewer than K where the model did not find all.
        points: (x, y) of the model's answers in input pixels; nan where there is none.
        read: from outputs of B variants of the sample to the numbers [B, T]; differentiable.
    """

    kind: str
    keypoints: tuple[int, ...]
    points: Float[np.ndarray, "T 2"]
    read: Callable[[Outputs], Tensor]

    def only(self, keypoint: int) -> Targets:
        """The target of one keypoint of the skeleton alone.

        Raises:
            NotAvailable: the model gave no place for it.
        """
        if keypoint not in self.keypoints:
            raise NotAvailable("target: the model did not find this keypoint in this sample; choose another")
        t = self.keypoints.index(keypoint)
        inner = self.read
        return Targets(self.kind, (keypoint,), self.points[[t]], lambda outputs: inner(outputs)[:, [t]])


def targets_of(run: Run, n: int, kind: str = "") -> Targets:
    """The targets of one sample.

    Args:
        run: of any model whose outputs hold heatmaps, SimCC vectors or tokens.
        n: the sample.
        kind: one of `kinds`; the first of them for "".

    Raises:
        NotAvailable: the outputs have no target, or no keypoint of this sample has the one asked for.
        ValueError: no such kind; the message lists near ones.
    """
    offered = kinds(run)
    if not offered:
        raise NotAvailable(absent_output(OUTPUTS, run.outputs.given()))
    kind = offered[TARGET.index(run, kind)]
    plain = _plain(run, n)
    points = in_input(run, n, run.predictions[n].keypoints)
    found = np.flatnonzero(np.isfinite(points).all(1))
    if not found.size:
        raise NotAvailable("target: the model found no keypoint in this sample; choose another sample")
    made = _MAKERS[kind.split()[0] if kind.startswith("t") else kind](run, n, plain, points, found, kind)
    return Targets(kind, tuple(int(k) for k in found), points[found], made)


def score_of(run: Run, n: int, targets: Targets) -> Callable[[Tensor], Tensor]:
    """The function that attribution methods ask: from inputs [B, 3, H, W] to the targets [B, T].

    The inputs stand for the pixels of sample n; everything else of its batch stays.
    """
    batch = one_sample(run, n)

    def score(pixels: Tensor) -> Tensor:
        values = targets.read(run.model.forward(with_pixels(batch, pixels)))
        if pixels.requires_grad and values.requires_grad:
            # Zero, but in the graph: an output that reads no pixel has the gradient 0 and is no error.
            values = values + 0 * pixels.flatten(1).sum(1, keepdim=True).to(values)
        return values

    return score


def one_sample(run: Run, n: int) -> Batch:
    """The batch of sample n alone; of a sequence model with its own free-running answers as given tokens."""
    import torch

    batch = run.batch
    alone = dataclasses.replace(
        batch,
        pixels=batch.pixels[n : n + 1],
        to_image=batch.to_image[n : n + 1],
        samples=batch.samples[n : n + 1],
        extra={name: _row(value, n, len(batch)) for name, value in batch.extra.items()},
    )
    if isinstance(run.model, RollsOut) and isinstance(alone.extra.get("given"), torch.Tensor):
        given = alone.extra["given"]
        answers = run.outputs.tokens["coordinates"][n : n + 1, : given.shape[1]]
        return dataclasses.replace(alone, extra={**alone.extra, "given": answers.to(given)})
    return alone


def with_pixels(batch: Batch, pixels: Tensor) -> Batch:
    """A batch of one sample with B variants of its pixels [B, 3, H, W]."""
    B = len(pixels)
    return dataclasses.replace(
        batch,
        pixels=pixels,
        to_image=np.repeat(batch.to_image, B, axis=0),
        samples=batch.samples * B,
        extra={name: _repeated(value, B) for name, value in batch.extra.items()},
    )


def _row(value: Any, n: int, N: int) -> Any:
    """Row n of what a batch of N holds for each sample; what is not held for each sample stays."""
    if isinstance(value, Mapping):
        return {name: _row(part, n, N) for name, part in value.items()}
    return value[n : n + 1] if _length(value) == N else value


def _repeated(value: Any, B: int) -> Any:
    if isinstance(value, Mapping):
        return {name: _repeated(part, B) for name, part in value.items()}
    if _length(value) != 1:
        return value
    if isinstance(value, np.ndarray):
        return value.repeat(B, 0)
    return value * B if isinstance(value, (list, tuple)) else value.repeat(B, *[1] * (value.ndim - 1))


def _length(value: Any) -> int:
    """Entries along the first axis of a tensor, an array, a list or a tuple; -1 for anything else."""
    import torch

    if isinstance(value, (torch.Tensor, np.ndarray)):
        return len(value) if value.ndim else -1
    return len(value) if isinstance(value, (list, tuple)) else -1


def _plain(run: Run, n: int) -> Outputs:
    """Outputs of one plain pass over sample n: those of the run may be averaged with mirrored ones."""
    import torch

    module = run.model.module
    with torch.no_grad(), recording(module, {}, ()), evaluating(module):
        return run.model.forward(one_sample(run, n)).detach()


# One function per kind: from the plain outputs to the reader.


def _heat(run: Run, n: int, plain: Any, points: Any, found: Any, kind: str) -> Callable:
    import torch

    maps = plain.heatmaps[0]
    h, w = maps.shape[1:]
    k = torch.as_tensor(found)
    if isinstance(run.model, Groups):
        # The highest cell of a map may be another person's: the cell of this person's keypoint is meant.
        x, y = _cells(run, points[found], (h, w))
    else:
        y, x = np.divmod(maps[found].flatten(1).argmax(1).numpy(), w)
    if kind == "peak":
        return lambda outputs: outputs.heatmaps[:, k, y, x]
    weights = _soft_weights(maps[found], x, y, around_cells=isinstance(run.model, Groups))

    def read(outputs: Any) -> Tensor:
        return (outputs.heatmaps[:, k] * weights.to(outputs.heatmaps)).flatten(2).sum(2)

    return read


def _soft_weights(maps: Tensor, x: Any, y: Any, around_cells: bool) -> Tensor:
    """Weights [T, h, w] that sum to 1: softmax of the undisturbed maps, see SHARPNESS."""
    import torch

    T, h, w = maps.shape
    flat = maps.flatten(1)
    span = (flat.amax(1) - flat.amin(1)).clamp_min(torch.finfo(flat.dtype).tiny)
    logits = SHARPNESS * (flat - flat.amax(1, keepdim=True)) / span[:, None]
    if around_cells:  # other people's peaks do not count: a window of 5 cells around this person's
        rows, columns = np.mgrid[:h, :w]
        far = (abs(rows - np.asarray(y)[:, None, None]) > 2) | (
            abs(columns - np.asarray(x)[:, None, None]) > 2
        )
        logits = logits.masked_fill(torch.from_numpy(far).flatten(1), -torch.inf)
    return torch.softmax(logits, 1).view(T, h, w)


def _simcc(run: Run, n: int, plain: Any, points: Any, found: Any, kind: str) -> Callable:
    import torch

    k = torch.as_tensor(found)
    bins = [vector[0, found].argmax(1) for vector in plain.simcc]
    axes = {"x": (0,), "y": (1,), "x and y": (0, 1)}[kind]

    def read(outputs: Any) -> Tensor:
        vectors = outputs.simcc
        return torch.stack([vectors[axis][:, k, bins[axis]] for axis in axes]).sum(0)

    return read


def _token(run: Run, n: int, plain: Any, points: Any, found: Any, kind: str) -> Callable:
    import torch

    k = torch.as_tensor(found)
    if kind == "token type":
        types = plain.tokens["types"][0, found].argmax(1)
        return lambda outputs: outputs.tokens["types"][:, k, types]
    axis = "xy".index(kind[-1])
    return lambda outputs: outputs.tokens["coordinates"][:, k, axis]


def _tag(run: Run, n: int, plain: Any, points: Any, found: Any, kind: str) -> Callable:
    own = _tags_at(run, plain, points, found)
    other: Any = None
    if kind == "tag to next person":
        neighbour = _next_person(run, n, points)
        there = np.flatnonzero(np.isfinite(neighbour).all(1))
        other = _tags_at(run, plain, neighbour, there)
    elif len(found) < 2:
        raise NotAvailable("tag in person: this person has one keypoint; expected at least two")

    def read(outputs: Any) -> Tensor:
        mine = own(outputs)
        mean = (other(outputs) if other else mine).mean(1, keepdim=True)
        # The root of 0 has no gradient.
        return ((mine - mean) ** 2).sum(2).clamp_min(1e-12).sqrt()

    return read


def _tags_at(run: Run, plain: Any, points: Any, found: Any) -> Callable[[Outputs], Tensor]:
    """The reader of the tags [B, T, L] of keypoints that lie on `points` (input pixels)."""
    import torch

    grouping: Any = run.model
    channels = plain.tags.shape[1]
    per_value = run.model.tags if isinstance(run.model, HasTagMaps) else channels
    layout = np.asarray(grouping.grouping.maps(len(run.model.skeleton), per_value))[found]
    channel = torch.as_tensor(layout[:, None] + per_value * np.arange(channels // per_value))
    x, y = (torch.as_tensor(v)[:, None] for v in _cells(run, points[found], tuple(plain.tags.shape[2:])))

    def read(outputs: Any) -> Tensor:
        return outputs.tags[:, channel, y, x]

    return read


def _cells(run: Run, points: Float[np.ndarray, "T 2"], size: tuple[int, int]) -> tuple[Any, Any]:
    """Columns and rows of the cells on which points in input pixels lie."""
    h, w = size
    cells = np.rint(points / np.array(cell_pitch(run, (h, w)))).astype(int)
    return cells[:, 0].clip(0, w - 1), cells[:, 1].clip(0, h - 1)


def _next_person(run: Run, n: int, points: Float[np.ndarray, "K 2"]) -> Float[np.ndarray, "K 2"]:
    """Keypoints, in input pixels, of the person nearest to the one at `points`.

    Raises:
        NotAvailable: the model found nobody else.
    """
    model: Any = run.model
    own = run.predictions[n].keypoints
    people = model.group(run.outputs, run.batch)[n].keypoints
    others = [p for p in people if not np.allclose(p, own, equal_nan=True)]
    if not others:
        raise NotAvailable(
            "tag to next person: the model found nobody else in this image; choose another sample"
        )
    centre = np.nanmean(own, 0)
    away = [float(np.linalg.norm(np.nanmean(p, 0) - centre)) for p in others]
    return in_input(run, n, others[int(np.argmin(away))])


_MAKERS: Mapping[str, Callable[..., Callable[[Any], Any]]] = {
    "peak": _heat, "soft peak": _heat, "x and y": _simcc, "x": _simcc, "y": _simcc, "token": _token,
    "tag": _tag,
}  # fmt: skip
