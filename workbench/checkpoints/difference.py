"""Difference of two checkpoints, tensor by tensor; only two tensors are in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.checkpoints.checkpoint import Checkpoint
from workbench.checkpoints.state_dicts import is_statistic, module_of, unwrapped
from workbench.checkpoints.tensors import TensorInfo, read_tensor
from workbench.core.report import Report, counted
from workbench.figures import RUN_COLOURS, SEQUENTIAL, new_figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
    from torch import Tensor


# Elements compared at once: 8 MB in double precision, so that a tensor of a gigabyte takes no ten.
_CHUNK = 1 << 20
# Smaller changes are drawn at this value: a logarithmic axis has no zero. float32 rounding is 6e-8.
_FLOOR = 1e-8
_KINDS = ("weight", "bias", "running_mean", "running_var", "other")
_ROW = 22  # screen pixels per module


@dataclass(frozen=True)
class TensorChange:
    """How one tensor differs.

    Attributes:
        name: its name.
        module: the module it belongs to, two levels deep.
        shape: of both.
        relative: ||b - a|| / ||a||, L2; nan when a is all zero and b is not, or when numbers are not finite.
        cosine: between a and b as vectors; nan when one of them is all zero.
        largest: max |b - a|.
        where: index of the largest change.
        equal: bit for bit the same values (nan equal to nan).
    """

    name: str
    module: str
    shape: tuple[int, ...]
    relative: float
    cosine: float
    largest: float
    where: tuple[int, ...]
    equal: bool


@dataclass(frozen=True)
class CheckpointDifference(Report):
    """Two checkpoints compared.

    Attributes:
        a: name of the first.
        b: name of the second.
        tensors: those of both with the same shape, in the first's order.
        changed: names of those that differ.
        unchanged: names of those that do not.
        only_a: names that only the first has.
        only_b: names that only the second has.
        reshaped: name, shape in a, shape in b.
        modules: module -> relative L2 change of all its weights as one vector.
        unread: file -> its tensors whose numbers are not read (quantised, sparse ...), in words.
        same_identity: whether both are the same family and variant.
    """

    a: str
    b: str
    tensors: tuple[TensorChange, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    reshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    modules: Mapping[str, float]
    unread: Mapping[str, str]
    same_identity: bool

    def summary(self) -> str:
        if not self.tensors:
            return f"{self.a} and {self.b} have no tensor of the same name and shape in common"
        parts = [
            (
                f"{len(self.changed)} of {counted(len(self.tensors), 'tensor')} changed from {self.a} to "
                f"{self.b}"
            )
        ]
        known = {name: change for name, change in self.modules.items() if not math.isnan(change)}
        moved = sorted(known, key=lambda name: -known[name])
        if self.changed and moved:
            parts.append(
                f"most in {moved[0]} ({known[moved[0]] * 100:.3g} %), least in {moved[-1]} "
                f"({known[moved[-1]] * 100:.3g} %)"
            )
        if broken := [t.name for t in self.tensors if not math.isfinite(t.largest)]:
            parts.append(f"{len(broken)} hold nan or infinity ({broken[0]} ...)")
        for names, said in ((self.only_a, f"only in {self.a}"), (self.only_b, f"only in {self.b}")):
            if names:
                parts.append(f"{len(names)} {said} ({names[0]} ...)")
        if self.reshaped:
            parts.append(f"{len(self.reshaped)} of another shape ({self.reshaped[0][0]} ...)")
        parts += [f"in {file}: {text}" for file, text in self.unread.items()]
        return "; ".join(parts)

    def table(self) -> list[dict[str, Any]]:
        # Broken numbers first, then the largest change; counters of steps last, they only count.
        ordered = sorted(
            self.tensors,
            key=lambda t: (t.name.endswith("num_batches_tracked"), not math.isnan(t.relative), -t.relative),
        )
        return [
            {
                "tensor": t.name,
                "shape": "x".join(map(str, t.shape)),
                "relative L2": t.relative,
                "cosine": t.cosine,
                "largest change": t.largest,
                "at": ",".join(map(str, t.where)),
            }
            for t in ordered
        ]

    def plot(self) -> Figure:
        """Relative change of every module (bars) and of every tensor (grid by layer), logarithmic."""
        from plotly import graph_objects as go

        modules = list(self.modules)
        changes = np.nan_to_num(np.array([self.modules[m] for m in modules], np.float32))
        bars = go.Bar(
            x=np.maximum(changes, _FLOOR),
            y=modules,
            orientation="h",
            marker={"color": RUN_COLOURS[0]},
            hovertemplate="%{y}<br>relative L2 %{x:.3g}<extra></extra>",
            showlegend=False,
        )
        layers, grid, names = _grid(self.tensors)
        heat = go.Heatmap(
            z=grid,
            y=list(_KINDS),
            x=np.arange(len(layers), dtype=np.float32),
            customdata=names,
            colorscale=SEQUENTIAL,
            colorbar={"title": "log10 of<br>relative L2", "thickness": 12, "outlinewidth": 0},
            hovertemplate="%{customdata}<br>10^%{z:.2f}<extra></extra>",
            xaxis="x2",
            yaxis="y2",
        )
        figure = new_figure(self.summary(), height=max(400, 160 + _ROW * len(modules)))
        figure.add_traces([bars, heat])
        figure.update_layout(
            xaxis={"type": "log", "title": "relative L2 change by module", "domain": [0, 0.42]},
            yaxis={"autorange": "reversed"},
            xaxis2={"title": "layer, in the file's order", "domain": [0.56, 1], "anchor": "y2"},
            yaxis2={"anchor": "x2", "autorange": "reversed"},
        )
        return figure


def compare_checkpoints(
    a: Checkpoint,
    b: Checkpoint,
    *,
    ema: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckpointDifference:
    """Compare two checkpoints tensor by tensor.

    Names of wrappers (``module.``, ``backbone._orig_mod.`` ...) are no difference.

    Args:
        a: the first, the base of relative changes.
        b: the second.
        ema: None for the weights that each file's own trainer would load, True for the averaged ones, False
            for the raw ones.
        progress: called with (elements compared, elements in all) after each million; an error that it raises
            ends the comparison.

    Raises:
        ValueError: a tensor cannot be read.
        LookupError: averaged weights are asked for and one file has none.

    Example:
        >>> from workbench.checkpoints import open_checkpoint
        >>> from workbench.checkpoints.demo import demo_checkpoints
        >>> first, *_, last = (open_checkpoint(path) for path in demo_checkpoints())
        >>> compare_checkpoints(first, last).same_identity
        True
    """
    left, right = _without_wrappers(a, ema), _without_wrappers(b, ema)
    both = [name for name in left if name in right]
    reshaped = tuple((n, left[n].shape, right[n].shape) for n in both if left[n].shape != right[n].shape)
    common = [
        name for name in both if left[name].shape == right[name].shape and _readable(left[name], right[name])
    ]
    changes: list[TensorChange] = []
    sums: dict[str, tuple[float, float]] = {}
    total, compared = sum(left[name].numel for name in common), 0

    def count(more: int) -> None:
        nonlocal compared
        compared += more
        if progress:
            progress(compared, total)

    for name in common:
        change, moved, size = _change(name, left[name], right[name], count)
        changes.append(change)
        if left[name].is_floating and not is_statistic(name):
            before = sums.get(change.module, (0.0, 0.0))
            sums[change.module] = before[0] + moved, before[1] + size
    second = b.path.name if b.path.name != a.path.name else f"{b.path.absolute().parent.name}/{b.path.name}"
    return CheckpointDifference(
        a=a.path.name,
        b=second,
        tensors=tuple(changes),
        changed=tuple(c.name for c in changes if not c.equal),
        unchanged=tuple(c.name for c in changes if c.equal),
        only_a=tuple(name for name in left if name not in right),
        only_b=tuple(name for name in right if name not in left),
        reshaped=reshaped,
        modules={module: _ratio(moved, size) for module, (moved, size) in sums.items()},
        unread={file: c.unread_text for file, c in ((a.path.name, a), (second, b)) if c.unread},
        same_identity=str(a.identity) == str(b.identity),
    )


def _without_wrappers(checkpoint: Checkpoint, ema: bool | None) -> dict[str, TensorInfo]:
    """The tensors by the names that the network has where nothing wraps it or a part of it."""
    found = {name.removeprefix(checkpoint.prefix): info for name, info in checkpoint.infos(ema).items()}
    bare = {unwrapped(name): info for name, info in found.items()}
    return bare if len(bare) == len(found) else found


def _readable(a: TensorInfo, b: TensorInfo) -> bool:
    return bool(a.itemsize and b.itemsize)


def _change(
    name: str, a: TensorInfo, b: TensorInfo, count: Callable[[int], None]
) -> tuple[TensorChange, float, float]:
    """The change, and the squared L2 norms of b - a and of a; `count` hears of each piece's elements."""
    x, y = read_tensor(a).reshape(-1), read_tensor(b).reshape(-1)
    size = other = product = step = 0.0
    largest, at, equal = 0.0, 0, x.dtype == y.dtype
    for start in range(0, x.numel(), _CHUNK):
        p, q = _wide(x[start : start + _CHUNK]), _wide(y[start : start + _CHUNK])
        alike = (p == q) | ((p != p) & (q != q))
        equal = equal and bool(alike.all())
        moved = (q - p).abs().masked_fill(alike, 0)
        size, other = size + float((p.abs() ** 2).sum()), other + float((q.abs() ** 2).sum())
        step += float((moved**2).sum())
        product += float((p.conj() * q).real.sum())
        # nan counts as the largest change of all: it is what a person looks for.
        here = int(moved.nan_to_num(math.inf).argmax())
        if not largest >= float(moved[here]):
            largest, at = float(moved[here]), start + here
        count(len(p))
    change = TensorChange(
        name=name,
        module=module_of(name),
        shape=a.shape,
        relative=_ratio(step, size),
        cosine=_cosine(product, size, other),
        largest=largest,
        where=tuple(int(i) for i in np.unravel_index(at, a.shape)) if a.shape and x.numel() else (),
        equal=equal,
    )
    return change, step, size


def _wide(flat: Tensor) -> Tensor:
    """Double precision, in which all types but the largest integers are exact."""
    import torch

    if flat.is_complex():
        return flat.to(torch.complex128)
    # float8 converts to float64 only by way of float32, which is exact.
    return (flat.float() if flat.is_floating_point() and flat.element_size() == 1 else flat).to(torch.float64)


def _cosine(product: float, size: float, other: float) -> float:
    if not size or not other or not math.isfinite(size * other):
        return math.nan
    return max(-1.0, min(1.0, product / math.sqrt(size * other)))


def _ratio(moved: float, size: float) -> float:
    if moved == 0:
        return 0.0
    return math.sqrt(moved / size) if size > 0 and math.isfinite(moved) and math.isfinite(size) else math.nan


def _grid(tensors: Sequence[TensorChange]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Layers, log10 of the relative change [kinds, layers] (nan: no such tensor), tensor names alike."""
    layers = list(dict.fromkeys(t.name.rpartition(".")[0] for t in tensors))
    column = {layer: i for i, layer in enumerate(layers)}
    grid = np.full((len(_KINDS), len(layers)), np.nan, np.float32)
    names = np.full(grid.shape, "", object)
    for t in tensors:
        layer, _, kind = t.name.rpartition(".")
        if kind == "num_batches_tracked":
            continue
        place = _KINDS.index(kind) if kind in _KINDS else len(_KINDS) - 1, column[layer]
        if not math.isnan(t.relative):
            grid[place] = math.log10(max(t.relative, _FLOOR))
        names[place] = t.name
    return layers, grid, names
