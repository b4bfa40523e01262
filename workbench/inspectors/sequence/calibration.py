"""Does the model predict the right type of the next token, and end the sequence at the right step?

The expected calibration error is the mean difference between the confidence of the type head and its
accuracy. A sequence that ends early lacks keypoints; one that does not end has too many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core import NotAvailable, Outputs, Run
from workbench.core.capabilities import NamesTokens, RollsOut
from workbench.core.inspector import Inspector, Needs, Range
from workbench.core.report import Report, counted, rows
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, new_figure
from workbench.inspectors.sequence import rollout

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from plotly.graph_objects import Figure

DEFAULT_TYPES = ("coordinate", "separator", "end", "class")


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        bins: number of confidence bins of the calibration error.
    """

    bins: Annotated[int, Range(2, 50, 1)] = 10


@dataclass(frozen=True, eq=False)
class TokenTypes(Report):
    """The type head in both modes; the first axis is (teacher-forced, free-running).

    Attributes:
        end: probability of the end token by step, mean over samples.
        right: share of steps whose most likely type is correct.
        calibration: expected calibration error.
        ends_at: step of the first end token by sample; the number of steps where there is none.
        K: step at which the end token should come.
    """

    end: Float[np.ndarray, "2 L"]
    right: Float[np.ndarray, " 2"]
    calibration: Float[np.ndarray, " 2"]
    ends_at: Int[np.ndarray, "2 N"]
    K: int

    def summary(self) -> str:
        early, late = (self.ends_at[1] < self.K).sum(), (self.ends_at[1] > self.K).sum()
        N = self.ends_at.shape[1]
        if N == 1 and early:
            stop = f"the sequence ends early, at step {self.ends_at[1, 0]} of {self.K}"
        elif N == 1:
            stop = (
                f"the sequence {'does not end' if late else 'ends'} after its {counted(self.K, 'keypoint')}"
            )
        elif early:
            stop = (
                f"{early} of {counted(N, 'sequence')} end early, the first at step {self.ends_at[1].min()} "
                f"of {self.K}"
            )
        elif late:
            stop = f"{late} of {counted(N, 'sequence')} do not end after {counted(self.K, 'keypoint')}"
        else:
            stop = f"every sequence ends after its {counted(self.K, 'keypoint')}"
        return (
            f"Free-running {stop}; {self.right[1]:.0%} of the token types are correct, calibration error "
            f"{self.calibration[1]:.3f} ({self.calibration[0]:.3f} teacher-forced)"
        )

    def plot(self) -> Figure:
        figure = new_figure(self.summary(), x="step", y="probability of the end token")
        step = np.arange(self.end.shape[1], dtype=np.float32)
        for mode, name, ink in ((0, "teacher-forced", QUIET_COLOUR), (1, "free-running", FINDING_COLOUR)):
            figure.add_scatter(x=step, y=self.end[mode].astype(np.float32), name=name, mode="lines+markers",
                               line={"color": ink}, hovertemplate="step %{x}<br>%{y:.3f}")  # fmt: skip
        figure.add_vline(x=self.K, line={"dash": "dot", "color": QUIET_COLOUR, "width": 1})
        return figure.update_yaxes(range=[-0.02, 1.02])

    def table(self) -> list[dict[str, Any]]:
        return rows(step=range(self.end.shape[1]), end_forced=self.end[0], end_free=self.end[1])


def compute(run: Run, params: Params) -> TokenTypes:
    """Token types of one teacher-forced pass and one rollout.

    Raises:
        NotAvailable: the outputs contain no token types.
    """
    rollout.sequence_model(run)
    names = run.model.token_types if isinstance(run.model, NamesTokens) else DEFAULT_TYPES
    if "end" not in names or "coordinate" not in names:
        raise NotAvailable(f"token types: expected 'coordinate' and 'end' among them, got {', '.join(names)}")
    K = len(run.model.skeleton)
    chances = [_chances(outputs) for outputs in (rollout.teacher_forced(run), rollout.free_running(run))]
    L = chances[0].shape[1]
    wanted = np.array([names.index("coordinate")] * K + [names.index("end")] * max(L - K, 0))[:L]
    end = np.stack([c[..., names.index("end")].mean(0) for c in chances])
    chosen = [c.argmax(-1) for c in chances]
    ends = np.stack([_first(c == names.index("end")) for c in chosen])
    right = np.array([(c == wanted).mean() for c in chosen])
    errors = np.array([
        calibration_error(c.max(-1).ravel(), (k == wanted).ravel(), params.bins)
        for c, k in zip(chances, chosen, strict=True)
    ])  # fmt: skip
    return TokenTypes(end, right, errors, ends, K)


def calibration_error(sure: Float[np.ndarray, " n"], right: Float[np.ndarray, " n"], bins: int) -> float:
    """Expected calibration error: |confidence - accuracy| per bin, weighted by the share of values in it.

    Args:
        sure: confidences, 0 to 1.
        right: whether each prediction is correct.
        bins: of equal width.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """
    at = np.minimum((sure * bins).astype(int), bins - 1)
    parts = [(at == b) for b in range(bins)]
    return float(sum(p.mean() * abs(sure[p].mean() - right[p].mean()) for p in parts if p.any()))


def _chances(outputs: Outputs) -> Float[np.ndarray, "N L Y"]:
    if "types" not in outputs.tokens:
        raise NotAvailable("token types: the outputs of this model contain none (tokens['types'])")
    return outputs.tokens["types"].softmax(-1).numpy()


def _first(hits: np.ndarray) -> Int[np.ndarray, " N"]:
    """Index of the first hit in each row; the row's length where there is none."""
    return np.where(hits.any(1), hits.argmax(1), hits.shape[1])


INSPECTOR = Inspector("Token types", Params, compute, needs=Needs(capability=RollsOut, truth=True), order=50)
