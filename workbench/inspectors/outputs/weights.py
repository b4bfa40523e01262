"""How are the weights of each module distributed: zeros, outliers, values that are not finite?

Each row shows the distribution of one module's weights in units of their own standard deviation, so that
rows of different scale can be compared. Long tails are outliers: they harm quantisation, and often mark a
module that training changed strongly. A bright middle means many zeros. A row unlike its neighbours was
loaded or initialised differently.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from workbench.checkpoints.state_dicts import is_statistic
from workbench.core import NotAvailable
from workbench.core.inspector import Inspector, Range
from workbench.core.report import PICTURE, Report, counted, rows
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS, SEQUENTIAL, new_figure
from workbench.figures.bars import ROW, Bars, add_bars, place_columns, wrap_axis_titles

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.checkpoints import Checkpoint
    from workbench.core import Run

SPAN = 8.0  # standard deviations shown to either side
BINS = 65  # odd: one bin is centred on zero


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        depth: modules nested deeper than this are counted with the one around them.
        kind: which parameters: all, matrices and kernels, scales (one number per channel), or biases.
        outlier: a weight this many standard deviations from its module's mean is an outlier.
    """

    depth: Annotated[int, Range(1, 8, 1)] = 2
    kind: Literal["all", "matrices", "scales", "biases"] = "all"
    outlier: Annotated[float, Range(3, 20, 1)] = 6.0


@dataclass(frozen=True, eq=False)
class Weights(Report):
    """Statistics of the parameters of every module, in the network's order.

    Attributes:
        modules: paths.
        counts: number of parameters.
        norms: root mean square, so that modules of different size compare.
        stds: standard deviation.
        zeros: share of parameters that are exactly zero, 0 to 1.
        unfit: share that is nan or infinite.
        outliers: share beyond the knob's number of standard deviations.
        extremes: largest distance from the mean, standard deviations.
        limit: the knob.
        densities: share of a module's parameters per bin of (weight - mean) / std.
    """

    modules: tuple[str, ...]
    counts: Float[np.ndarray, " M"]
    norms: Float[np.ndarray, " M"]
    stds: Float[np.ndarray, " M"]
    zeros: Float[np.ndarray, " M"]
    unfit: Float[np.ndarray, " M"]
    outliers: Float[np.ndarray, " M"]
    extremes: Float[np.ndarray, " M"]
    limit: float
    densities: Float[np.ndarray, "M bins"] = field(metadata=PICTURE)

    def summary(self) -> str:
        if self.unfit.max() > 0:
            m = int(self.unfit.argmax())
            return (
                f"{100 * self.unfit[m]:.3g} % of the weights in {self.modules[m]} are not finite (nan "
                "or infinity)"
            )
        total = int(self.counts.sum())
        far = int(np.nan_to_num(self.extremes, nan=-1).argmax())
        text = f"{counted(total, 'weight', spec=',')} in {len(self.modules)} module" + "s" * (
            len(self.modules) > 1
        )
        m = int(self.zeros.argmax())
        if self.zeros[m] > 0:
            text += f"; {100 * self.zeros[m]:.3g} % of the weights in {self.modules[m]} are exactly 0"
        if np.isfinite(self.extremes[far]):
            away = f"{self.extremes[far]:.3g} std, is in {self.modules[far]}"
            if self.outliers[far] > 0:
                text += f"; the furthest outlier, {away}"
            else:
                text += f"; none lies beyond {self.limit:g} std: the largest distance from the mean, {away}"
        return text

    def plot(self) -> Figure:
        figure = new_figure(self.summary(), height=ROW * len(self.modules) + 150, showlegend=False)
        place_columns(figure, self.modules, (2.2, 1, 1, 1))
        with np.errstate(divide="ignore"):
            shares = np.log10(self.densities).astype(np.float32)
        shares[~np.isfinite(shares)] = np.nan
        figure.add_heatmap(z=shares, x0=-SPAN, dx=2 * SPAN / (BINS - 1), y0=0, dy=1, colorscale=SEQUENTIAL,
                           zmin=-6, zmax=0, showscale=False, name="distribution",
                           hovertemplate="%{x:.2f} std: 10^%{z:.2f} of the weights<extra></extra>",
        )  # fmt: skip
        figure.update_layout(xaxis_title_text="weight - mean (std); brighter = more weights, log scale")
        notes = [f"{counted(int(c), 'weight', spec=',')}" for c in self.counts]
        zero_ink = [FINDING_COLOUR if z > 0.5 else QUIET_COLOUR for z in self.zeros]
        columns = (
            Bars("root mean square", self.norms, RUN_COLOURS[0], log=True, notes=notes),
            Bars("exact zeros (%)", 100 * self.zeros, zero_ink, notes=notes, span=(0, 100)),
            Bars("largest distance (std)", self.extremes, RUN_COLOURS[1],
                 notes=[f"{100 * o:.2g} % beyond {self.limit:g} std" for o in self.outliers]),
        )  # fmt: skip
        for i, column in enumerate(columns):
            add_bars(figure, i + 1, self.modules, column)
        wrap_axis_titles(figure, self.modules)
        return figure

    def table(self) -> list[dict[str, Any]]:
        return rows(
            module=self.modules,
            weights=self.counts.astype(int),
            rms=self.norms,
            std=self.stds,
            zeros=self.zeros,
            not_finite=self.unfit,
            outliers=self.outliers,
            furthest_std=self.extremes,
        )


def kind_of(name: str, axes: int) -> str:
    """What a parameter is: ``matrices``, ``scales`` or ``biases``."""
    if name.rpartition(".")[2].endswith("bias"):
        return "biases"
    return "matrices" if axes >= 2 else "scales"


def compute(run: Run, params: Params) -> Weights:
    """Measure the parameters of every module."""
    found = run.model.module.named_parameters()
    arrays = ((n, p.ndim, p.detach().float().cpu().numpy().ravel()) for n, p in found)
    return _report(arrays, params, "this model's network holds no {what} that PyTorch knows of")


def compute_of_file(checkpoint: Checkpoint, params: Params) -> Weights:
    """Measure the weights of a file, module by module by their names; no model is built.

    Raises:
        NotAvailable: it holds no weights of that kind.
        ValueError: a tensor is damaged.
    """
    arrays = (
        (name, len(info.shape), checkpoint.read(name).float().contiguous().numpy().ravel())
        for name, info in checkpoint.tensors.items()
        if info.is_floating and info.itemsize and info.numel and not info.dtype.startswith("complex")
        and not is_statistic(name)
    )  # fmt: skip
    return _report(arrays, params, f"{checkpoint.path.name} holds no {{what}} that are read")


def _report(
    arrays: Iterable[tuple[str, int, Float[np.ndarray, " n"]]], params: Params, nothing: str
) -> Weights:
    """The measures of parameters: name, number of axes, values."""
    groups: dict[str, list[np.ndarray]] = {}
    for name, axes, values in arrays:
        if params.kind in ("all", kind_of(name, axes)):
            path = ".".join(name.split(".")[:-1][: params.depth]) or name
            groups.setdefault(path, []).append(values)
    if not groups:
        what = "parameters" if params.kind == "all" else params.kind
        raise NotAvailable(f"weights: {nothing.format(what=what)}")
    values = {path: np.concatenate(parts) for path, parts in groups.items()}
    measured = np.array([_measures(v, params.outlier) for v in values.values()])
    counts, norms, stds, zeros, unfit, outliers, extremes = measured.T
    densities = np.array([_density(v) for v in values.values()], np.float32)
    return Weights(
        tuple(values), counts, norms, stds, zeros, unfit, outliers, extremes, params.outlier, densities
    )


def _measures(values: Float[np.ndarray, " n"], outlier: float) -> tuple[float, ...]:
    finite = values[np.isfinite(values)].astype(float)
    unfit = 1 - len(finite) / len(values)
    if not len(finite):
        nothing = float("nan")
        return len(values), nothing, nothing, 0.0, unfit, 0.0, nothing
    std = float(finite.std())
    distance = np.abs(finite - finite.mean()) / std if std > 0 else np.zeros(1)
    extreme = float(distance.max()) if std > 0 else float("nan")
    rms = float(np.sqrt((finite**2).mean()))
    return (
        len(values),
        rms,
        std,
        float((finite == 0).mean()),
        unfit,
        float((distance > outlier).mean()),
        extreme,
    )


def _density(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " bins"]:
    finite = values[np.isfinite(values)].astype(float)
    std = finite.std() if len(finite) else 0.0
    units = (finite - finite.mean()) / std if std > 0 else np.zeros(len(finite))
    edge = SPAN * BINS / (BINS - 1)
    # Beyond the shown span the outermost bins collect, so that tails are never cut off unseen.
    counts, _ = np.histogram(units.clip(-SPAN, SPAN), bins=BINS, range=(-edge, edge))
    return counts / max(len(values), 1)


INSPECTOR = Inspector("Weights", Params, compute, of_file=compute_of_file, order=90)
