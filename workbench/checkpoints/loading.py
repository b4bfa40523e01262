"""Load gate: copies a checkpoint into a module, reports what is missing, unexpected or of another shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from workbench.checkpoints.checkpoint import Checkpoint
from workbench.checkpoints.identity import Identity
from workbench.checkpoints.pieces import Piece, Pieces, Shape, moved, pieces_of, regridded
from workbench.checkpoints.remap import Rule, propose
from workbench.checkpoints.state_dicts import module_of
from workbench.checkpoints.tensors import FLOATING
from workbench.core.report import Report, counted
from workbench.figures import FINDING_COLOUR, RUN_COLOURS, new_figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
    from torch import nn

_ROW = 26  # screen pixels per module in the figure


class NotFilled(ValueError):  # noqa: N818 - reads as what happened
    """A file does not fill the model that was built for it."""


@dataclass(frozen=True)
class Mismatch:
    """A tensor whose shape in the file is not the model's.

    Attributes:
        name: of the tensor.
        file: shape in the file.
        model: shape in the model.
    """

    name: str
    file: Shape
    model: Shape


@dataclass(frozen=True)
class LoadReport(Report):
    """How much of a model was loaded from a checkpoint.

    Attributes:
        file: the checkpoint's file name.
        loaded_fraction: of the model's weights (elements of parameters) that came from the file, 0 to 1.
        loaded: tensors of the model that came from the file.
        tensors: tensors of the model, without `counters`.
        parameters: weights of the model, elements.
        missing: tensors of the model that the file does not have.
        unexpected: tensors of the file that the model does not have.
        mismatched: same name, other shape; not loaded.
        counters: missing ``num_batches_tracked``: they change no output and are not counted as missing.
        remap: renamings that make more tensors fit.
        applied: whether they were applied.
        ema: which weights were loaded, when the file has averaged ones; "" otherwise.
        modules: module -> (weights loaded, weights), elements.
        unread: tensors of the file whose numbers are not read (quantised, sparse ...), name -> kind.
        left: further weights in the file that are not among its tensors, in words.
        why: a known reason for what is missing, one sentence; "" where none is known.
        another: that file and model are two different ones, one sentence; "" where they are not.
    """

    file: str
    loaded_fraction: float
    loaded: int
    tensors: int
    parameters: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[Mismatch, ...] = ()
    counters: tuple[str, ...] = ()
    remap: tuple[Rule, ...] = ()
    applied: bool = False
    ema: str = ""
    modules: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    why: str = ""
    another: str = ""

    @property
    def complete(self) -> bool:
        """Whether every tensor of the model came from the file; further tensors in the file do not matter."""
        return not self.missing and not self.mismatched and self.loaded > 0

    def summary(self) -> str:
        share = (
            f"{self.loaded} of {counted(self.tensors, 'tensor')}, {percent(self.loaded_fraction)} of "
            f"{millions(self.parameters)} parameters loaded"
        )
        parts = []
        if self.missing:
            parts.append(f"{len(self.missing)} missing ({self.missing[0]} ...)")
        if self.unread:
            kinds = Counter(self.unread.values()).most_common()
            unread = ", ".join(f"{count} {kind}" for kind, count in kinds)
            parts.append(f"{counted(unread, 'tensor')} of the file, not read ({next(iter(self.unread))} ...)")
        if self.left:
            parts.append(f"the file holds more weights, which are not read: {', '.join(self.left)}")
        if self.mismatched:
            first = self.mismatched[0]
            parts.append(
                f"{len(self.mismatched)} of another shape ({first.name}: file "
                f"{_shape(first.file)}, model {_shape(first.model)})"
            )
        if self.unexpected:
            parts.append(f"{len(self.unexpected)} unexpected ({self.unexpected[0]} ...)")
        if self.remap:
            fixed = sum(rule.fixes for rule in self.remap)
            names = "; ".join(rule.text for rule in self.remap)
            # A renaming fits counters as well, which are not among the tensors said to be missing.
            more = min(fixed, len(self.missing) + len(self.mismatched))
            counters = f" and {counted(fixed - more, 'counter')} of batches" if fixed > more else ""
            parts.append(
                f"renamed: {names}"
                if self.applied
                else f"a remap would fit {more} more{counters}: {names}; apply with --remap"
            )
        parts += [sentence for sentence in (self.why, self.another) if sentence]
        return "; ".join([share, *parts])

    def is_of(self, found: Identity, wanted: Identity) -> LoadReport:
        """The report, with a sentence in `another` where the file holds another model than the one wanted.

        That is so where their tensors tell two names, and most of the model is not filled, nor would be with
        the renaming that is proposed.

        Args:
            found: what the file's tensors tell.
            wanted: what the model's tensors tell.
        """
        fitting = self.loaded + (0 if self.applied else sum(rule.fixes for rule in self.remap))
        if self.complete or 2 * fitting >= self.tensors or str(found) == str(wanted):
            return self
        return replace(
            self,
            another=f"{self.file} holds another model ({found}) than the one that was asked for "
            f"({wanted}): give the config or adapter of the file's own model, or another file",
        )

    def require_complete(self, allow_partial: bool = False) -> None:
        """Raise if the model is not fully loaded.

        Args:
            allow_partial: accept a model that is not.

        Raises:
            NotFilled: it is not, and `allow_partial` is not set.
        """
        if self.another and not allow_partial:
            raise NotFilled(f"{self.another} ({self.loaded} of {counted(self.tensors, 'tensor')} fit)")
        if not self.complete and not allow_partial:
            raise NotFilled(
                f"{self.file} does not fill the model: {self.summary()} (or go on with --allow-partial)"
            )

    def table(self) -> list[dict[str, Any]]:
        found = [{"tensor": n, "finding": "missing", "file": "", "model": ""} for n in self.missing]
        found += [
            {"tensor": m.name, "finding": "other shape", "file": _shape(m.file), "model": _shape(m.model)}
            for m in self.mismatched
        ]
        return found + [
            {"tensor": n, "finding": "unexpected", "file": "", "model": ""} for n in self.unexpected
        ]

    def plot(self) -> Figure:
        """A bar per module, in the model's order: the fraction of its weights that was loaded."""
        names = list(self.modules)
        loaded, total = np.array([self.modules[n] for n in names], np.float64).reshape(-1, 2).T
        inks = [RUN_COLOURS[0] if a == b else FINDING_COLOUR for a, b in zip(loaded, total, strict=True)]
        figure = new_figure(
            f"{percent(self.loaded_fraction)} of the parameters loaded from {self.file}",
            x="weights loaded (%)",
            height=max(260, 140 + _ROW * len(names)),
        )
        figure.add_bar(
            x=(loaded / np.maximum(total, 1) * 100).astype(np.float32),
            y=names,
            orientation="h",
            text=[f"{int(a):,} of {int(b):,}" for a, b in zip(loaded, total, strict=True)],
            marker={"color": inks},
            hovertemplate="%{y}: %{x:.1f} %<br>%{text}<extra></extra>",
        )
        figure.update_xaxes(range=[0, 105])
        figure.update_yaxes(autorange="reversed")
        return figure


@overload
def load_state(
    module: nn.Module,
    checkpoint: Checkpoint,
    *,
    remap: bool | None = None,
    ema: bool | None = None,
    rename: Callable[[str], str] | None = None,
    expert: int | None = None,
    pieces: Pieces | None = None,
    grids: Mapping[str, tuple[int, int]] | None = None,
) -> LoadReport: ...


@overload
def load_state(
    module: nn.Module,
    checkpoint: None,
    *,
    remap: bool | None = None,
    ema: bool | None = None,
    rename: Callable[[str], str] | None = None,
    expert: int | None = None,
    pieces: Pieces | None = None,
    grids: Mapping[str, tuple[int, int]] | None = None,
) -> None: ...


def load_state(
    module: nn.Module,
    checkpoint: Checkpoint | None,
    *,
    remap: bool | None = None,
    ema: bool | None = None,
    rename: Callable[[str], str] | None = None,
    expert: int | None = None,
    pieces: Pieces | None = None,
    grids: Mapping[str, tuple[int, int]] | None = None,
) -> LoadReport | None:
    """Copy a checkpoint's tensors into a module, as far as names and shapes are equal.

    Types are converted as `Tensor.copy_` does. Tensors are read one by one, so that only one is in memory.

    Args:
        module: its parameters and buffers are overwritten.
        checkpoint: opened; None keeps the initial weights, as `overfit --adapter` without a checkpoint needs.
        remap: apply the proposed renaming; None for `checkpoint.remap`, which the option --remap sets.
        ema: None for the weights that the file's own trainer would load, True for the averaged ones, False
            for the raw ones.
        rename: from a name in the file to a name in the module, for a family that knows other names.
        expert: of a ViTPose+ file, the number of the data set's expert; None for `checkpoint.expert`, else
            the expert with the model's number of keypoints.
        pieces: what the file's tensors become, of a family that converts them itself; None takes them as
            they are.
        grids: name of a position embedding of the module -> (h, w) of its patches; one of another size in
            the file is resampled, bicubic. None resamples none.

    Returns:
        what was loaded and what was not; None without a checkpoint.

    Raises:
        ValueError: after renaming, two tensors of the file would get one name; or a tensor cannot be read.
        LookupError: averaged weights are asked for and there are none.

    Example:
        >>> from workbench.checkpoints import open_checkpoint
        >>> from workbench.checkpoints.demo import demo_checkpoints
        >>> from torch import nn
        >>> report = load_state(nn.Module(), open_checkpoint(demo_checkpoints()[0]))
        >>> report.loaded, report.complete
        (0, False)
    """
    import torch

    if checkpoint is None:
        return None
    remap = checkpoint.remap if remap is None else remap
    targets = {n: t for n, t in module.state_dict().items() if isinstance(t, torch.Tensor)}
    shapes = {name: tuple(tensor.shape) for name, tensor in targets.items()}
    expert = checkpoint.expert if expert is None and pieces is None else expert
    pieces = pieces_of(checkpoint.infos(ema)) if pieces is None else pieces
    if rename is not None:
        pieces = moved(pieces, rename)
    rules, renamed, clash = propose(pieces, shapes, expert)
    if remap and clash and not rules:
        raise ValueError(f"{checkpoint.path.name}: no renaming is possible, because {clash}")
    if remap:
        pieces = renamed
    if grids:
        pieces = regridded(pieces, shapes, grids)
    weights = {name for name, _ in module.named_parameters(remove_duplicate=False)} & shapes.keys()
    coded = _coded(pieces, {name for name in weights if targets[name].is_floating_point()})
    with torch.no_grad():
        for name, shape in shapes.items():
            if name in pieces and name not in coded and pieces[name].shape == shape:
                targets[name].copy_(pieces[name].read())
    applied = remap and bool(rules)
    which = checkpoint.averages.which(ema)
    return report_of(checkpoint, pieces, shapes, weights, rules, applied, which, coded)


def report_of(
    checkpoint: Checkpoint,
    pieces: Mapping[str, Piece],
    shapes: Mapping[str, Shape],
    weights: set[str],
    rules: tuple[Rule, ...] = (),
    applied: bool = False,
    ema: str = "",
    coded: Mapping[str, str] | None = None,
) -> LoadReport:
    """The report of a load, from names and shapes alone.

    Args:
        checkpoint: the file.
        pieces: its tensors by name, renamed or not.
        shapes: name -> shape of the model's tensors.
        weights: names of the model's parameters; the other tensors are buffers.
        rules: proposed renamings.
        applied: whether they were applied.
        ema: which weights were loaded, in words.
        coded: tensors of the file that are not the numbers of weights, and their kinds; they were not loaded.
    """
    names, coded = list(pieces), coded or {}
    pieces = {name: piece for name, piece in pieces.items() if name not in coded}
    fits = {name for name, shape in shapes.items() if name in pieces and pieces[name].shape == shape}
    absent = [name for name in shapes if name not in pieces]
    counters = tuple(name for name in absent if name.endswith("num_batches_tracked"))
    sizes = {name: int(np.prod(shape, dtype=np.int64)) for name, shape in shapes.items() if name in weights}
    total = sum(sizes.values())
    modules: dict[str, tuple[int, int]] = {}
    for name, size in sizes.items():
        part = module_of(name)
        have, want = modules.get(part, (0, 0))
        modules[part] = have + size * (name in fits), want + size
    taken = sum(size for name, size in sizes.items() if name in fits)
    return LoadReport(
        file=checkpoint.path.name,
        loaded_fraction=taken / total if total else float(not absent),
        loaded=len(fits),
        tensors=len(shapes) - len(counters),
        parameters=total,
        missing=tuple(name for name in absent if name not in counters),
        unexpected=tuple(name for name in pieces if name not in shapes),
        mismatched=tuple(
            Mismatch(name, pieces[name].shape, shape)
            for name, shape in shapes.items()
            if name in pieces and pieces[name].shape != shape
        ),
        counters=counters,
        remap=rules,
        applied=applied,
        ema=ema,
        modules=modules,
        unread={**{name: item.kind for name, item in checkpoint.unread.items()}, **coded},
        left=checkpoint.left,
        why="; ".join(
            filter(
                None,
                (_of_codes(coded), _parametrized(absent, names), _low_rank(names), _trained_copies(names)),
            )
        ),
    )


# Beside a tensor X.weight: its scales in the files of bitsandbytes, compressed-tensors, TorchAO, DeepSeek.
_SCALES = ("_scale", "_scale_inv", "_scb", ".scb", ".scale", ".scales", ".weight_scale", ".absmax")


def _coded(pieces: Mapping[str, Piece], floating: Iterable[str]) -> dict[str, str]:
    """Tensors of the file that have the shape of weights and other numbers, with their kinds.

    Whole numbers are codes of a quantiser, of complex numbers the imaginary part would be lost, and small
    floats with a scale beside them are multiplied with it before use.

    Args:
        pieces: of the file, by the model's names.
        floating: names of the model's weights.
    """
    lower = {name.lower() for name in pieces}
    found = {}
    for name in floating:
        kinds = {info.dtype for info in pieces[name].sources} if name in pieces else set()
        stem = name.lower().removesuffix(".weight")
        scaled = any(start + end in lower for start in (stem, name.lower()) for end in _SCALES)
        for kind in sorted(kinds):
            if kind not in FLOATING:
                found[name] = f"{kind} (for float weights)"
            elif kind.startswith("complex"):
                found[name] = f"{kind} (for real weights)"
            elif kind.startswith("float8") and scaled:
                found[name] = f"{kind} (with a scale beside it)"
    return {name: found[name] for name in pieces if name in found}


def _of_codes(coded: Mapping[str, str]) -> str:
    """Why tensors of another kind of number were not loaded; "" where there are none."""
    if not coded:
        return ""
    return (
        "their numbers are not the weights: quantised ones are multiplied with their scales by the code that"
        " wrote them; save the weights as float32, or load them with that code in an --adapter"
    )


def _low_rank(names: Iterable[str]) -> str:
    """That the file has low-rank corrections (LoRA) beside its weights; "" where it has none."""
    if not any(".lora_A." in name or ".lora_down." in name for name in names):
        return ""
    return (
        "the file has low-rank corrections (LoRA) beside its weights, which no plain network applies: merge"
        " them before saving (merge_and_unload of peft), or the model is that of before the fine-tuning"
    )


def _trained_copies(names: Iterable[str]) -> str:
    """That the file keeps modules as they were beside their trained copies; "" where it does not."""
    if not any(".modules_to_save." in name for name in names):
        return ""
    return (
        "the file has trained copies of modules (modules_to_save of peft) beside the modules as they were,"
        " which a plain network takes: merge before saving (merge_and_unload), or the model is in these"
        " modules that of before the fine-tuning"
    )


def _parametrized(absent: Sequence[str], names: Iterable[str]) -> str:
    """That missing tensors stand in the file as what a parametrization makes them of; "" where none does.

    Args:
        absent: tensors of the model that the file does not have.
        names: of the file's tensors.
    """
    # torch.nn.utils.parametrize keeps conv.weight as conv.parametrizations.weight.original, original0 ...
    names = list(names)
    made = {"".join(name.split("parametrizations.")).rpartition(".original")[0] for name in names
            if ".parametrizations." in f".{name}" and ".original" in name}  # fmt: skip
    # The older torch.nn.utils.weight_norm, spectral_norm and prune write conv.weight_g, conv.weight_orig ...
    older = {name.rpartition("_")[0] for name in names if name.endswith(("_g", "_orig"))}
    if not (count := len((made | older) & set(absent))):
        return ""
    where = "parametrizations.*.original" if made & set(absent) else "*_g and *_v, *_orig"
    return (
        f"{count} of the missing tensors are parametrized in the file ({where}): their"
        " values are computed by code that no file holds, so renaming would load others; call"
        " torch.nn.utils.parametrize.remove_parametrizations before saving, or build the model with them"
        " in an --adapter"
    )


def millions(count: int) -> str:
    """13,624,000 as ``13.6 M``."""
    return f"{count / 1e6:.1f} M" if count >= 1e5 else f"{count:,}"


def percent(fraction: float) -> str:
    """A fraction in percent, with two digits just below 100 %."""
    # 99.97 % must not be shown as 100.0 %: the gate would look wrong.
    shown = f"{fraction * 100:.1f}"
    return f"{np.floor(fraction * 1e4) / 100:.2f} %" if shown == "100.0" and fraction < 1 else f"{shown} %"


def _shape(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"
