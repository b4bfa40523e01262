"""Which part of a network lost or gained the AP? B with one part's weights from A, part by part."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import Report, plain, signed_text
from workbench.evaluation.bootstrap import Interval, no_interval_text, paired_bootstrap

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
    from torch import Tensor, nn

    from workbench.core import PoseModel
    from workbench.evaluation.evaluate import Evaluation


@dataclass(frozen=True)
class Graft:
    """B with one part from A.

    Attributes:
        part: first words of its tensors' names: ``backbone``, ``head.mlp``.
        tensors: that were exchanged.
        different: of them, how many differ between A and B.
        moved: norm of the difference of the weights, as a part of the norm of A's; buffers are left out.
        ap: of B with this part from A.
        change: against B, with its interval; None where nothing counts.
        reason: why it was not measured; "" where it was.
    """

    part: str
    tensors: int
    different: int
    moved: float
    ap: float = float("nan")
    change: Interval | None = None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Grafting(Report):
    """All parts of B, each taken from A in turn.

    Attributes:
        title_a: of A.
        title_b: of B.
        a: evaluation of A.
        b: evaluation of B.
        grafts: in the order of the network.
    """

    title_a: str
    title_b: str
    a: Evaluation
    b: Evaluation
    grafts: tuple[Graft, ...]

    @property
    def measured(self) -> list[Graft]:
        """Those with an AP, the largest change first."""
        with_change = [g for g in self.grafts if g.change is not None]
        return sorted(with_change, key=lambda g: -abs(g.change.delta if g.change else 0.0))

    def summary(self) -> str:
        a, b = self.a.figures["AP"], self.b.figures["AP"]
        text = f"{self.title_a} AP {a:.3f}, {self.title_b} AP {b:.3f}"
        sure = [g for g in self.measured if g.change is not None and g.change.certain]
        changes = [g.change for g in self.measured if g.change is not None]
        if changes and not any(change.measured for change in changes):
            why = no_interval_text(changes[0].units)
            return f"{text}. {why}: measure on more to say which part changes AP."
        if not sure:
            return f"{text}. No part alone changes the AP of {self.title_b} beyond chance."
        first = sure[0]
        word = "gives" if first.change is not None and first.change.delta > 0 else "costs"
        return (
            f"{text}. {first.part} from {self.title_a} {word} most: AP {first.ap:.3f} ({first.change}). "
            "Parts were trained together, so a part that costs AP may only not fit the others."
        )

    def plot(self) -> Figure:
        """Change of AP by part."""
        from workbench.figures import RUN_COLOURS, new_figure

        shown = [g for g in self.grafts if g.change is not None]
        delta = np.array([g.change.delta for g in shown if g.change], np.float32)
        high = np.array([g.change.high for g in shown if g.change], np.float32)
        low = np.array([g.change.low for g in shown if g.change], np.float32)
        title = f"change of the AP of {self.title_b}"
        figure = new_figure(self.summary(), x=title, height=140 + 26 * max(len(shown), 3))
        figure.add_bar(
            x=delta, y=[g.part for g in shown], orientation="h", marker={"color": RUN_COLOURS[0]},
            error_x={"type": "data", "array": high - delta, "arrayminus": delta - low},
            hovertext=[signed_text(d) for d in delta.tolist()],
            hovertemplate="%{y}: %{hovertext}<extra></extra>",
        )  # fmt: skip
        return figure.update_yaxes(autorange="reversed")

    def table(self) -> list[dict[str, Any]]:
        return [
            plain(
                {
                    "part": g.part, "tensors": g.tensors, "different": g.different, "moved": g.moved,
                    "AP": g.ap,
                    "change": g.change.delta if g.change else None, "low": g.change.low if g.change else None,
                    "high": g.change.high if g.change else None, "reason": g.reason,
                }
            )
            for g in self.grafts
        ]  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """summary, both models' figures, the grafts and the protocol."""
        return {
            "summary": self.summary(),
            "a": {"title": self.title_a, **plain(self.a.figures)},
            "b": {"title": self.title_b, **plain(self.b.figures)},
            "grafts": self.table(),
            "protocol": self.b.protocol.to_json(),
        }


def parts_of(names: Sequence[str], depth: int = 1) -> dict[str, list[str]]:
    """Names of tensors by their first `depth` words, in the order of the network.

    A part with everything in it is split further, so that there is something to compare.

    Args:
        names: of tensors, with dots between their words.
        depth: words of the name of a part.
    """
    parts: dict[str, list[str]] = {}
    for name in names:
        words = name.split(".")[:-1]
        parts.setdefault(".".join(words[:depth]) or name, []).append(name)
    deepest = max((name.count(".") for name in names), default=0)
    return parts if len(parts) > 1 or depth > deepest else parts_of(names, depth + 1)


def grafting(
    a: tuple[str, Mapping[str, Tensor], Evaluation],
    b: tuple[str, PoseModel, Evaluation],
    judged: Callable[[str, PoseModel], Evaluation],
    *,
    depth: int = 1,
    resamples: int = 1000,
) -> Grafting:
    """B with each part from A in turn; B's weights are as before when this returns.

    Args:
        a: title, state dict (tensors in the shapes of its parameters) and evaluation of A.
        b: title, model and evaluation of B.
        judged: the evaluation of a model on the same instances; called with the name of the part.
        depth: words of a tensor's name that make a part.
        resamples: of the bootstrap.

    Raises:
        ValueError: the two share no tensor of one name and shape.
    """
    title_a, given, of_a = a
    title_b, model, of_b = b
    own = {name: value.detach().clone() for name, value in model.module.state_dict().items()}
    weights = {name for name, _ in model.module.named_parameters()}
    if not any(name in given and given[name].shape == value.shape for name, value in own.items()):
        raise ValueError(
            f"graft: {title_a} and {title_b} share no tensor of one name and shape; are both of one network?"
        )
    found = []
    try:
        for part, names in parts_of(list(own), depth).items():
            graft = _compared(part, names, given, own, weights)
            if not graft.reason:
                _load(model.module, own, {name: given[name] for name in names})
                evaluation = judged(part, model)
                change = (
                    paired_bootstrap(of_b.ap, evaluation.ap, resamples=resamples)
                    if np.isfinite(of_b.figures["AP"])
                    else None
                )
                graft = Graft(
                    part, graft.tensors, graft.different, graft.moved, evaluation.figures["AP"], change
                )
            found.append(graft)
    finally:
        _load(model.module, own, {})
    return Grafting(title_a, title_b, of_a, of_b, tuple(found))


def _load(module: nn.Module, own: Mapping[str, Tensor], changes: Mapping[str, Tensor]) -> None:
    module.load_state_dict({**own, **changes})


def _compared(
    part: str,
    names: Sequence[str],
    given: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    weights: Collection[str],
) -> Graft:
    """How far a part of A and B lie apart; a reason where exchanging it is impossible or changes nothing."""
    absent = [name for name in names if name not in given or given[name].shape != own[name].shape]
    if absent:
        return Graft(part, len(names), 0, float("nan"), reason=f"A has no {absent[0]} of this shape")
    different, squared, norm = 0, 0.0, 0.0
    for name in names:
        x, y = given[name].detach().double().cpu(), own[name].double().cpu()
        apart = float(((x - y) ** 2).sum())
        # A weight that is nan in one of the two differs; a difference of nan is not above 0.
        different += not bool(((x == y) | (x.isnan() & y.isnan())).all())
        if name in weights:  # a counter of batch norm would outweigh all weights
            squared, norm = squared + apart, norm + float((x**2).sum())
    moved = float(np.sqrt(squared / norm)) if norm > 0 else 0.0
    reason = "" if different else "the same in A and B"
    return Graft(part, len(names), different, moved, reason=reason)
