"""Which modules get a gradient from the loss of these samples, and which get none?

One forward and one backward pass against the target of the codec, in evaluation mode (batch statistics do
not change). No gradient is stored on the network. The ratio of gradient norm to weight norm shows which
modules learn slowly (far below their neighbours) and which may diverge (far above). A module without a
gradient is detached, frozen or unused.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core import NotAvailable, Skeleton
from workbench.core.hooks import recording
from workbench.core.inspector import Inspector, Needs, Range, keypoint_choice
from workbench.core.report import Report, rows
from workbench.core.run import evaluating
from workbench.decoding.targets import target
from workbench.figures import FINDING_COLOUR, RUN_COLOURS
from workbench.figures.bars import Bars, bars_figure
from workbench.figures.panels import in_input, visible_truth

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jaxtyping import Float
    from plotly.graph_objects import Figure
    from torch import Tensor

    from workbench.core import Codec, Outputs, Run

ALL_KEYPOINTS = "all keypoints"
KEYPOINT = keypoint_choice(ALL_KEYPOINTS)


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        depth: modules nested deeper than this are counted with the one around them.
        keypoint: the loss of this keypoint alone, or of all.
        beta: factor before the softmax of SimCC logits and labels; 10 in mmpose's loss.
    """

    depth: Annotated[int, Range(1, 8, 1)] = 2
    keypoint: Annotated[str, KEYPOINT] = ALL_KEYPOINTS
    beta: Annotated[float, Range(1, 100, 1)] = 10.0


@dataclass(frozen=True, eq=False)
class Gradients(Report):
    """Norms of the loss's gradient by module, in the network's order.

    Attributes:
        loss: mean squared error of heatmaps, or the divergence of SimCC vectors as mmpose has it.
        keypoint: whose loss; "all keypoints" for all.
        per_keypoint: each keypoint's part of the loss; nan where it is annotated in no sample.
        modules: paths.
        norms: L2 of the gradient; 0 where none arrives.
        weight_norms: L2 of the weights.
        ratios: of the two; nan where the weights are all zero.
        zeros: share of gradient entries that are exactly zero.
    """

    skeleton: Skeleton
    loss: float
    keypoint: str
    per_keypoint: Float[np.ndarray, " K"]
    modules: tuple[str, ...]
    norms: Float[np.ndarray, " M"]
    weight_norms: Float[np.ndarray, " M"]
    ratios: Float[np.ndarray, " M"]
    zeros: Float[np.ndarray, " M"]

    def summary(self) -> str:
        silent = [m for m, norm in zip(self.modules, self.norms, strict=True) if norm == 0]
        text = f"Loss {self.loss:.4g} of {self.keypoint}"
        if len(silent) == len(self.modules):
            return (
                f"{text}: no gradient reaches any module, the prediction is exact or the network is cut off"
            )
        if silent:
            text += f": no gradient reaches {', '.join(silent[:3])}" + (" ..." if len(silent) > 3 else "")
        most = int(self.norms.argmax())
        share = self.norms[most] ** 2 / (self.norms**2).sum()
        text += f"; {self.modules[most]} has {100 * share:.0f} % of the squared gradient norm"
        if np.isfinite(self.per_keypoint).any() and self.keypoint == ALL_KEYPOINTS:
            k = int(np.nan_to_num(self.per_keypoint, nan=-1).argmax())
            text += f", and {self.skeleton.keypoints[k]} adds most to the loss"
        return text

    def plot(self) -> Figure:
        inks = [FINDING_COLOUR if norm == 0 else RUN_COLOURS[0] for norm in self.norms]
        notes = [f"weights {w:.4g}" for w in self.weight_norms]
        # A logarithmic axis has no place for 0: such rows stay empty, and the title names them.
        columns = [
            Bars("gradient norm", _positive(self.norms), inks, log=True, notes=notes),
            Bars("gradient / weight norm", _positive(self.ratios), RUN_COLOURS[2], log=True, notes=notes),
            Bars("zero entries (%)", 100 * self.zeros, span=(0, 100), notes=notes),
        ]
        return bars_figure(self.summary(), self.modules, columns)

    def table(self) -> list[dict[str, Any]]:
        return rows(
            module=self.modules,
            gradient_norm=self.norms,
            weight_norm=self.weight_norms,
            ratio=self.ratios,
            zeros=self.zeros,
        )


def _positive(values: Float[np.ndarray, " M"]) -> Float[np.ndarray, " M"]:
    return np.where(values > 0, values, np.nan)


def losses(outputs: Outputs, wanted: dict[str, Any], codec: Codec, beta: float) -> Tensor:
    """Loss of every keypoint of every sample [N, K], zero where unlabelled; differentiable.

    Heatmaps: mean squared difference over cells. SimCC: KL divergence of softmax(beta * logit) from
    softmax(beta * label), mean over bins, both axes added. Source: mmpose@759b39c:mmpose/models/losses/
    heatmap_loss.py (KeypointMSELoss), classification_loss.py (KLDiscretLoss).

    Raises:
        NotAvailable: the outputs are not what the codec describes.
    """
    import torch

    given = (outputs.heatmaps,) if codec.kind == "heatmap" else outputs.simcc
    labels = (wanted["heatmaps"],) if codec.kind == "heatmap" else wanted["simcc"]
    if given is None or given[0] is None:
        raise NotAvailable(f"gradients: the codec speaks of {codec.kind}, the model gives none")
    total = torch.zeros((), device=given[0].device)
    for output, label in zip(given, labels, strict=True):
        if output is None or tuple(output.shape) != label.shape:
            shape = None if output is None else tuple(output.shape)
            raise NotAvailable(f"gradients: the codec makes {label.shape}, the model gives {shape}")
        goal = torch.from_numpy(label).to(output)
        if codec.kind == "heatmap":
            total = total + ((output - goal) ** 2).flatten(2).mean(2)
        else:
            shares = torch.softmax(goal * beta, -1)
            logs = torch.log_softmax(output * beta, -1)
            total = total + torch.nn.functional.kl_div(logs, shares, reduction="none").mean(-1)
    return total * torch.from_numpy(wanted["weights"]).to(total)


def compute(run: Run, params: Params) -> Gradients:
    """Run forward and backward once more, and measure what arrives."""
    codec, truth, model = run.codec, run.truth, run.model
    weights = dict(model.module.named_parameters())
    if not weights:
        raise NotAvailable("gradients: this model's network holds no parameters that PyTorch knows of")
    k = KEYPOINT.index(run, params.keypoint) - 1
    points = np.stack([in_input(run, n, visible_truth(run, n)) for n in range(len(run.samples))])
    wanted = target(codec, points, (truth[..., 2] > 0).astype(float))
    if not wanted["weights"].any():
        raise NotAvailable("gradients: no annotated keypoint lies inside the network's crop")
    parts, found = _backward(run, wanted, k, params.beta)
    annotated = np.asarray(wanted["weights"]).any(0)
    groups: dict[str, list[tuple[float, float, int, int]]] = {}
    for (name, weight), gradient in zip(weights.items(), found, strict=True):
        path = ".".join(name.split(".")[:-1][: params.depth]) or name
        squared = 0.0 if gradient is None else float((gradient.double() ** 2).sum())
        zeros = weight.numel() if gradient is None else int((gradient == 0).sum())
        own = float((weight.detach().double() ** 2).sum())
        groups.setdefault(path, []).append((squared, own, zeros, weight.numel()))
    squared, own, zeros, counts = np.array([np.sum(group, 0) for group in groups.values()]).T
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(own > 0, np.sqrt(squared / own), np.nan)
    return Gradients(
        skeleton=model.skeleton,
        loss=float(parts.sum() if k < 0 else parts[k]),
        keypoint=model.skeleton.keypoints[k] if k >= 0 else ALL_KEYPOINTS,
        per_keypoint=np.where(annotated, parts, np.nan),
        modules=tuple(groups),
        norms=np.sqrt(squared),
        weight_norms=np.sqrt(own),
        ratios=ratios,
        zeros=zeros / counts,
    )


def _backward(
    run: Run, wanted: dict[str, Any], k: int, beta: float
) -> tuple[Float[np.ndarray, " K"], tuple[Tensor | None, ...]]:
    """Each keypoint's part of the loss, and the gradient of one part (of all for -1) by parameter."""
    import torch

    codec, module = run.codec, run.model.module
    weights = list(module.parameters())
    frozen = [weight for weight in weights if not weight.requires_grad]
    # No tap is recorded: the hooks' lock keeps other threads out of the module meanwhile.
    with recording(module, run.model.taps, ()), evaluating(module), _learning(frozen), torch.enable_grad():
        each = losses(run.model.forward(run.batch), wanted, codec, beta)
        # SimCC as mmpose divides: by the number of keypoints alone; heatmaps: the mean of all.
        parts = each.sum(0) / (each.shape[1] if codec.kind == "simcc" else each.numel())
        # autograd.grad and not backward(): nothing is added to anybody's .grad.
        found = torch.autograd.grad(parts.sum() if k < 0 else parts[k], weights, allow_unused=True)
    return parts.detach().cpu().numpy().astype(float), found


@contextmanager
def _learning(frozen: Sequence[Tensor]) -> Iterator[None]:
    """Frozen weights take part in the gradient while the block runs."""
    try:
        for weight in frozen:
            weight.requires_grad_(True)
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


INSPECTOR = Inspector("Gradients", Params, compute, needs=Needs(codec=True, truth=True), order=100)
