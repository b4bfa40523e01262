"""Two implementations of one network, given the same input: the first place at which they part.

Places are compared from the outside in: first the outermost modules that both have, then, inside the first of
them that differs, the modules within. So a network with thousands of modules needs a few forward passes and
never all of its activations at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.checkpoints.config_reader import config_budget
from workbench.checkpoints.config_values import plain_values
from workbench.core import Batch, PoseModel, Sample, nearest
from workbench.core.files import read_at_most, require_file
from workbench.core.hooks import recording
from workbench.core.report import Report, counted
from workbench.core.run import evaluating
from workbench.figures import FINDING_COLOUR, RUN_COLOURS, new_figure
from workbench.models.families import common_names

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
    from torch import Tensor, nn

TOLERANCE = 1e-5
"""Relative difference above which two places differ; float32 with other kernels stays around 1e-6."""
INPUT = "input"
"""Name of the place before the network: the pixels that each model's own preparation makes."""
# Places that one sentence names.
MOST_NAMED = 3
_LARGEST_MAP = 1 << 20  # bytes of a map file
# Drawn on a logarithmic axis: equal places stand at its lower end.
_FLOOR = 1e-9
_ROW = 24  # screen pixels per place
_LINE = "#8a8f98"  # readable on light and on dark


@dataclass(frozen=True)
class TapDifference:
    """One place in both implementations.

    Attributes:
        name: tap or module path in A; ``input`` and ``output heatmaps`` stand for what enters and leaves.
        other: the same place in B.
        max_abs: largest absolute difference; nan where the shapes do not fit.
        relative: length of the difference by length of A's values (L2); inf where the shapes do not fit.
        differs: the relative difference is above the tolerance.
        note: how the values were brought together, or why they cannot be; "" where they stand alike.
    """

    name: str
    other: str
    max_abs: float
    relative: float
    differs: bool
    note: str = ""


@dataclass(frozen=True, eq=False)
class PortReport(Report):
    """Where two implementations part.

    Attributes:
        a: title of A.
        b: title of B.
        first_difference: name in A of the first place that differs, in the order in which A computes; None
            where none does.
        taps: all compared places, in that order.
        agreeing: names of the places before the first difference.
        tolerance: relative difference above which places differ.
        weights: result of the comparison of both weights, one sentence.
        differing_weights: names of the tensors that differ, with the largest difference of each.
        unpaired: modules of A that have no counterpart in B by name.
        same_input: B was given A's pixels; otherwise each its own.
        alone: places that both have and one does not pass through, with the one that does, ``A`` or ``B``.
    """

    a: str
    b: str
    first_difference: str | None
    taps: tuple[TapDifference, ...]
    agreeing: tuple[str, ...]
    tolerance: float
    weights: str
    differing_weights: tuple[tuple[str, float], ...]
    unpaired: int
    same_input: bool
    alone: tuple[tuple[str, str], ...] = ()

    def summary(self) -> str:
        if self.first_difference is None:
            worst = max((tap.relative for tap in self.taps), default=0.0)
            return (
                f"{self.a} and {self.b} agree at all {len(self.taps)} places that were compared (largest "
                f"relative difference {worst:.2g}); {self.weights}"
            )
        tap = next(tap for tap in self.taps if tap.name == self.first_difference)
        by = f"relative difference {tap.relative:.2g}"
        by = by if math.isfinite(tap.relative) else tap.note or "values that are all zero in A"
        count = len(self.agreeing)
        before = f"the {count} places before it agree" if count > 1 else "the place before it agrees"
        before = before if count else "it is the first place"
        return f"{self.a} and {self.b} first differ at {tap.name} ({by}); {before}; {self._advice()}"

    def _advice(self) -> str:
        if self.first_difference == INPUT:
            return (
                "the two prepare the image differently: compare box padding, normalisation, channel order "
                "and the warp"
            )
        if self.differing_weights:
            return f"{self.weights}: if both should have the same weights, convert or load one of them again"
        passed = [
            f"only {which} passes through {', '.join(names[:MOST_NAMED])}"
            + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
            for which in ("A", "B")
            if (names := [name for name, one in self.alone if one == which])
        ]
        return "; ".join(
            [
                *passed,
                f"{self.weights}: look at the code of {self.first_difference} and at what lies between it "
                "and the place before",
            ]
        )

    def table(self) -> list[dict[str, Any]]:
        return [
            {
                "tap": tap.name,
                "in B": tap.other,
                "max abs": tap.max_abs,
                "relative": tap.relative,
                "verdict": "differs" if tap.differs else "agrees",
                "note": tap.note,
            }
            for tap in self.taps
        ]

    def plot(self) -> Figure:
        """Relative difference at each place, from the top in the order in which A computes."""
        names = [tap.name for tap in self.taps]
        shown = [tap.relative if math.isfinite(tap.relative) else 1.0 for tap in self.taps]
        colours = [FINDING_COLOUR if tap.differs else RUN_COLOURS[0] for tap in self.taps]
        figure = new_figure(self.summary(), x="relative difference", height=max(260, 140 + _ROW * len(names)))
        figure.add_scatter(
            x=np.maximum(np.array(shown, np.float32), _FLOOR),
            y=names,
            mode="markers",
            marker={"color": colours, "size": 9},
            hovertemplate="%{y}<br>relative difference %{x:.3g}<extra></extra>",
        )
        figure.add_vline(x=self.tolerance, line={"dash": "dash", "color": _LINE})
        figure.add_annotation(
            x=math.log10(self.tolerance),
            y=1,
            yref="paper",
            yanchor="bottom",
            showarrow=False,
            text="tolerance",
        )
        figure.update_yaxes(autorange="reversed")
        return figure.update_xaxes(type="log", exponentformat="power", dtick=1)


# Which place of A is which of B.


def read_map(path: Path) -> dict[str, str]:
    """A map file: tap in A -> tap in B, as TOML or JSON.

    Tables of TOML are joined with dots, so that ``backbone.norm = "ln"`` needs no quotes.

    Args:
        path: ending in .toml or .json.

    Raises:
        ValueError: another ending, damaged, empty, or values that are no names.
        FileNotFoundError: no such file.
    """
    if path.suffix not in (".toml", ".json"):
        raise ValueError(f"--map {path.name}: expected a .toml or .json file with tap in A -> tap in B")
    require_file(path, f"--map: no file {path}")
    try:
        text = read_at_most(path, _LARGEST_MAP, "a map").decode()
        table = plain_values(text, path.suffix[1:], config_budget(path.name))
    except ValueError as error:
        raise ValueError(f"--map {path.name}: it cannot be read: {error}") from None
    if not isinstance(table, dict):
        raise ValueError(f"--map {path.name}: expected tap in A -> tap in B, got a {type(table).__name__}")
    pairs = dict(_flat(table))
    if wrong := [name for name, other in pairs.items() if not isinstance(other, str)]:
        raise ValueError(
            f"--map {path.name}: {wrong[0]}: expected the name of a tap in B, got {pairs[wrong[0]]!r}"
        )
    if not pairs:
        raise ValueError(f"--map {path.name}: it names no taps")
    return pairs


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def named_places(model: PoseModel) -> dict[str, str]:
    """All places that a map may name: taps and every module by its path; name -> module path."""
    from torch import nn

    holders = (nn.ModuleList, nn.ModuleDict)  # never called, so nothing passes there
    paths = [path for path, part in model.module.named_modules() if path and not isinstance(part, holders)]
    return {path: path for path in paths} | dict(model.taps)


def checked_pairs(pairs: Mapping[str, str], a: PoseModel, b: PoseModel) -> dict[str, str]:
    """The pairs of a map, once it is clear that all names exist.

    Args:
        pairs: place in A -> place in B.
        a: the first model.
        b: the second model.

    Raises:
        KeyError: a name does not exist; the message lists near ones.
    """
    for side, names, model in (("A", pairs, a), ("B", pairs.values(), b)):
        places = named_places(model)
        for name in names:
            if name not in places:
                raise KeyError(f"map: {side} has no tap {name!r}; nearest: {nearest(name, places)}")
    return dict(pairs)


def paired_by_name(a: PoseModel, b: PoseModel) -> tuple[dict[str, str], int]:
    """Module of A -> module of B of the same name under known conventions; how many of A have none.

    Args:
        a: the one model.
        b: the other model.
    """
    ours, theirs = _by_common_name(a), _by_common_name(b)
    pairs = {path: theirs[name] for name, path in ours.items() if name in theirs}
    return pairs, len(ours) - len(pairs)


def _by_common_name(model: PoseModel) -> dict[str, str]:
    paths = [path for path in dict.fromkeys(named_places(model).values()) if path]
    names, common = list(model.module.state_dict()), dict(zip(paths, paths, strict=True))
    for naming in common_names():
        renamed = naming.paths(names, list(common.values()))
        common = {path: renamed[name] for path, name in common.items()}
    return {common[path]: path for path in reversed(paths)}


def _common_state(network: nn.Module) -> Mapping[str, Tensor]:
    """The network's tensors under the names that all code bases share."""
    state: Mapping[str, Tensor] = network.state_dict()
    for naming in common_names():
        state = naming.state(state)
    return state


# The comparison.


def compare_port(
    a: PoseModel,
    b: PoseModel,
    samples: Sequence[Sample],
    pairs: Mapping[str, str] | None = None,
    *,
    titles: tuple[str, str] = ("A", "B"),
    tolerance: float = TOLERANCE,
    own_input: bool = False,
) -> PortReport:
    """Where two implementations part.

    Args:
        a: the reference.
        b: the port.
        samples: at least one; both see the same.
        pairs: place in A -> place in B; by default those with the same name under all known conventions.
        titles: of the two, for people.
        tolerance: relative difference above which two places differ.
        own_input: B is given its own pixels and not A's, for a port that expects other values (0..255).

    Raises:
        ValueError: no samples, no places in common, or inputs of different sizes.
        KeyError: a name of the map does not exist; the message lists near ones.
    """
    if not samples:
        raise ValueError("port: expected at least one sample, got none")
    if not tolerance > 0:
        raise ValueError(f"port: expected a tolerance above 0, got {tolerance}")
    if pairs is not None:
        pairs, unpaired = checked_pairs(pairs, a, b), 0
    else:
        found, unpaired = paired_by_name(a, b)
        if not found and not any(_is_opaque(model) for model in (a, b)):
            raise ValueError(
                "port: no module of A has the name of one of B; pair them in a file, --map, with tap in A -> "
                "tap in B"
            )
    batches = a.prepare(samples), b.prepare(samples)
    before = _input_difference(*batches, tolerance)
    if not own_input:
        batches = batches[0], _with_pixels_of(batches[1], batches[0])
    both = _Both(a, b, batches, tolerance)
    taps = both.compared(pairs) if pairs is not None else _drilled(both, found)
    if not taps:
        both.compared({})  # a program without parts: only what enters and leaves can be compared
    taps = [before, *taps, *both.outputs()]
    first = next((tap.name for tap in taps if tap.differs), None)
    agreeing = [tap.name for tap in taps[: next((n for n, tap in enumerate(taps) if tap.differs), len(taps))]]
    weights, differing = compared_weights(a.module, b.module)
    return PortReport(
        *titles,
        first,
        tuple(taps),
        tuple(agreeing),
        tolerance,
        weights,
        differing,
        unpaired,
        not own_input,
        tuple(both.alone.items()),
    )


def _is_opaque(model: PoseModel) -> bool:
    """Whether nothing inside it can be recorded: a TorchScript or ONNX program."""
    return not named_places(model)


def _with_pixels_of(batch: Batch, source: Batch) -> Batch:
    if batch.pixels.shape != source.pixels.shape:
        (h, w), (H, W) = batch.pixels.shape[-2:], source.pixels.shape[-2:]
        raise ValueError(
            f"port: A takes an input of {W}x{H} px (w x h) and B one of {w}x{h}; they need the same"
        )
    return dataclasses.replace(batch, pixels=source.pixels)


def _input_difference(a: Batch, b: Batch, tolerance: float) -> TapDifference:
    return _difference(INPUT, INPUT, a.pixels, b.pixels, tolerance)


class _Both:
    """Both models on their batches, run again for each set of places that is asked for.

    Args:
        a: the reference.
        b: the port.
        batches: of the two.
        tolerance: relative difference above which two places differ.
    """

    def __init__(self, a: PoseModel, b: PoseModel, batches: tuple[Batch, Batch], tolerance: float) -> None:
        self.models, self.batches, self.tolerance = (a, b), batches, tolerance
        self.places = named_places(a), named_places(b)
        self._outputs: list[Any] = []
        self.alone: dict[str, str] = {}

    def compared(self, pairs: Mapping[str, str]) -> list[TapDifference]:
        """The places of the pairs that both pass through, in the order of A.

        Args:
            pairs: place in A -> place in B.
        """
        ours = self._recorded(0, list(pairs))
        theirs = self._recorded(1, list(dict.fromkeys(pairs.values())))
        self.alone |= {
            name: "A" if name in ours else "B"
            for name, other in pairs.items()
            if (name in ours) != (other in theirs) and self._learns(name)
        }
        return [
            _difference(name, pairs[name], ours[name], theirs[pairs[name]], self.tolerance)
            for name in ours
            if pairs[name] in theirs
        ]

    def _learns(self, name: str) -> bool:
        """Whether a place of A has parameters: dropout, activations and identities may be left out."""
        part = self.models[0].module.get_submodule(self.places[0][name])
        return next(part.parameters(), None) is not None

    def _recorded(self, which: int, names: list[str]) -> dict[str, Tensor]:
        import torch

        model = self.models[which]
        with (
            torch.no_grad(),
            recording(model.module, self.places[which], names) as found,
            evaluating(model.module),
        ):
            given = model.forward(self.batches[which]).detach()
        self._outputs = [*self._outputs[:which], given]
        return found

    def outputs(self) -> list[TapDifference]:
        """What both gave, of the last run."""
        a, b = self._outputs
        found = []
        for field in a.given():
            if field not in b.given():
                continue
            for label, ours, theirs in _tensors(field, getattr(a, field), getattr(b, field)):
                found.append(_difference(label, label, ours, theirs, self.tolerance))
        return found


def _tensors(field: str, a: Any, b: Any) -> Iterator[tuple[str, Tensor, Tensor]]:
    if isinstance(a, tuple):
        yield from ((f"output {field}[{n}]", x, y) for n, (x, y) in enumerate(zip(a, b, strict=False)))
    elif isinstance(a, Mapping):
        yield from ((f"output {field} {name}", a[name], b[name]) for name in a if name in b)
    else:
        yield f"output {field}", a, b


def _drilled(both: _Both, pairs: Mapping[str, str]) -> list[TapDifference]:
    """From the outside in: the outermost places, then those inside the first that differs."""
    found, scope = [], dict(pairs)
    while scope:
        level, seen, passes = _outermost(scope), [], 0
        while level:
            differences = both.compared(level)
            seen, passes = [*seen, *differences], passes + 1
            # A module that is never called itself stands for those inside of it.
            uncalled = [name for name in level if name not in {tap.name for tap in differences}]
            level = {}
            for name in uncalled:
                level |= _outermost(_inside(scope, name))
        seen = _in_order(both, seen, pairs) if passes > 1 else seen
        first = next((n for n, tap in enumerate(seen) if tap.differs), None)
        position = 0 if not found else next(n for n, tap in enumerate(found) if tap.differs)
        found[position:position] = seen
        if first is None:
            break
        scope = _inside(scope, seen[first].name)
    return found


def _in_order(both: _Both, taps: list[TapDifference], pairs: Mapping[str, str]) -> list[TapDifference]:
    """The places of one level in the order in which A computes them."""
    if not taps:
        return taps
    by_name = {tap.name: tap for tap in taps}
    return [by_name[tap.name] for tap in both.compared({name: pairs[name] for name in by_name})]


def _outermost(pairs: Mapping[str, str]) -> dict[str, str]:
    """Pairs that lie inside no other."""
    found: dict[str, str] = {}
    for name in sorted(pairs, key=lambda path: path.count(".")):
        parts = name.split(".")
        if not any(".".join(parts[:n]) in found for n in range(1, len(parts))):
            found[name] = pairs[name]
    return found


def _inside(pairs: Mapping[str, str], path: str) -> dict[str, str]:
    return {name: other for name, other in pairs.items() if name.startswith(f"{path}.")}


def _difference(name: str, other: str, a: Tensor, b: Tensor, tolerance: float) -> TapDifference:
    b_as_a, note = _aligned(a, b)
    if b_as_a is None:
        return TapDifference(name, other, math.nan, math.inf, True, note)
    ours, theirs = a.double(), b_as_a.double()
    gap = ours - theirs
    length = float(ours.norm())
    max_abs = float(gap.abs().max()) if gap.numel() else 0.0
    relative = float(gap.norm()) / length if length else (0.0 if max_abs == 0 else math.inf)
    if math.isnan(relative):
        return TapDifference(name, other, math.nan, math.inf, True, "not a number (nan) in one of the two")
    return TapDifference(name, other, max_abs, relative, relative > tolerance, note)


def _aligned(a: Tensor, b: Tensor) -> tuple[Tensor | None, str]:
    """B's values in the layout of A's, and how; None where no known layout fits."""
    if a.shape == b.shape:
        return b, ""
    if a.ndim == 4 and b.ndim == 3 and (a.shape[0], a.shape[2] * a.shape[3], a.shape[1]) == tuple(b.shape):
        return b.transpose(1, 2).unflatten(2, a.shape[2:]), "tokens of B read as a map"
    if a.ndim == 3 and b.ndim == 4 and (b.shape[0], b.shape[2] * b.shape[3], b.shape[1]) == tuple(a.shape):
        return b.flatten(2).transpose(1, 2), "map of B read as tokens"
    if a.ndim == b.ndim == 4 and (b.shape[0], b.shape[3], b.shape[1], b.shape[2]) == tuple(a.shape):
        return b.permute(0, 3, 1, 2), "channels of B stand last"
    if (
        a.ndim == b.ndim == 3
        and b.shape[1] == a.shape[1] + 1
        and (b.shape[0], b.shape[2]) == (a.shape[0], a.shape[2])
    ):
        return b[:, 1:], "class token of B left out"
    return None, f"shape {tuple(a.shape)} in A, {tuple(b.shape)} in B"


def compared_weights(a: nn.Module, b: nn.Module) -> tuple[str, tuple[tuple[str, float], ...]]:
    """Whether the weights of two networks are equal under a common naming.

    Args:
        a: the first network.
        b: the second.

    Returns:
        a sentence, and the names of the tensors that differ with the largest difference of each.
    """
    ours, theirs = _common_state(a), _common_state(b)
    names = [name for name in ours if name in theirs and not name.endswith("num_batches_tracked")]
    if not names:
        return "no tensor of the one has the name of one of the other, so weights were not compared", ()
    differing = []
    for name in names:
        x, y = ours[name].detach().cpu().double(), theirs[name].detach().cpu().double()
        if x.shape != y.shape:
            differing.append((name, math.inf))
        elif float((x - y).abs().max() if x.numel() else 0.0) > 1e-6 * max(float(x.abs().max()), 1e-30):
            differing.append((name, float((x - y).abs().max())))
    if not differing:
        return f"all {counted(len(names), 'tensor')} that both have are equal", ()
    shown = ", ".join(name for name, _ in differing[:3]) + (" ..." if len(differing) > 3 else "")
    of_all = counted(len(names), "tensor differs", "tensors differ")
    return f"{len(differing)} of {of_all} ({shown})", tuple(differing)
