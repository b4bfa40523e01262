"""Do the loss, the metric and the picture speak of the same coordinates?

Everything is worked out anew from the keypoints in original pixels and compared with what the model itself
says. A loss logged with its weight, a distance in resized pixels against a box in original ones: each makes a
curve that nobody can read, and each shows here as a number that is off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Run
from workbench.core.capabilities import LogsItself, RollsOut
from workbench.core.inspector import Inspector
from workbench.core.needs import Needs
from workbench.core.report import Report, rows
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, TRUTH_COLOUR
from workbench.figures.bars import Bars, bars_figure
from workbench.inspectors.sequence import rollout
from workbench.inspectors.sequence.rollout import PckRule, explaining_rule

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


# Pixels that rounding moves a point by; and the unit of such claims.
NOTHING_OFF = 0.1
OFF = "px off"


@dataclass(frozen=True)
class Params:
    """No knobs: the rule is MP-100's, or that by which a log's figure is right; logs name neither."""


@dataclass(frozen=True)
class Claim:
    """One comparison.

    Attributes:
        what: is compared.
        unit: of both numbers.
        expected: worked out anew.
        found: what the model says.
        agrees: they are the same but for rounding.
        why: what it means when they are not.
    """

    what: str
    unit: str
    expected: float
    found: float
    agrees: bool
    why: str

    def text(self) -> str:
        """The disagreement in words."""
        return f"{self.what} is {self.found:.3g}, expected {self.expected:.3g} {self.unit}: {self.why}"


@dataclass(frozen=True, eq=False)
class Coordinates(Report):
    """All comparisons of one rollout."""

    claims: tuple[Claim, ...]

    @property
    def agree(self) -> bool:
        """All of them hold."""
        return all(claim.agrees for claim in self.claims)

    def summary(self) -> str:
        wrong = [claim for claim in self.claims if not claim.agrees]
        if not wrong:
            return "Loss, metric and picture use the same coordinates: " + ", ".join(
                c.what for c in self.claims
            )
        first = wrong[0]
        rest = f"; {len(wrong) - 1} more disagree" if len(wrong) > 1 else ""
        return f"{first.text()}{rest}"

    def plot(self) -> Figure:
        # Units differ by row: each is drawn in shares of its larger number, so equal lengths agree.
        pairs = np.array([[c.expected, c.found] for c in self.claims], float).reshape(-1, 2)
        least = [NOTHING_OFF if c.unit == OFF else 0 for c in self.claims]
        top = np.maximum(np.abs(pairs).max(1), least)
        shares = pairs / np.where(top > 0, top, 1)[:, None]
        inks = [TRUTH_COLOUR if c.agrees else FINDING_COLOUR for c in self.claims]
        notes = [f"expected {c.expected:.4g}, found {c.found:.4g} {c.unit}" for c in self.claims]
        columns = [
            Bars("expected", shares[:, 0], QUIET_COLOUR, notes=notes, span=(0, 1.05)),
            Bars("found", shares[:, 1], inks, notes=notes, span=(0, 1.05)),
        ]
        return bars_figure(self.summary(), [c.what for c in self.claims], columns)

    def table(self) -> list[dict[str, Any]]:
        columns = {name: [getattr(c, name) for c in self.claims] for name in Claim.__dataclass_fields__}
        return rows(**columns)


def compute(run: Run, params: Params) -> Coordinates:
    """Compare one rollout with its own truth, and with what the model logs of it."""
    rollout.sequence(run)
    outputs = rollout.free(run)
    points = rollout.points_of(run, outputs)
    truth = rollout.true_tokens(run)
    claims = []
    if "given" in run.batch.extra:
        given = rollout.places_of(run.batch, run.batch.extra["given"].cpu().numpy().astype(float))
        off = _most(given - np.where(np.isnan(truth), np.nan, run.truth[..., :2]))
        claims.append(
            Claim("true tokens in the picture", OFF, 0.0, off, off < NOTHING_OFF,
                  "what the loss compares with does not lie on the annotation")
        )  # fmt: skip
    if "coordinates" in outputs.tokens:
        drawn = rollout.places_of(run.batch, outputs.tokens["coordinates"].numpy().astype(float))
        off = _most(points - drawn)
        claims.append(
            Claim("answers in the picture", OFF, 0.0, off, off < NOTHING_OFF,
                  "what is drawn is not what the loss saw")
        )  # fmt: skip
    if isinstance(run.model, LogsItself):
        claims += _logged(run, run.model.logged(outputs, run.batch), points, truth)
    return Coordinates(tuple(claims))


def _logged(run: Run, logged: Mapping[str, float], points: np.ndarray, truth: np.ndarray) -> list[Claim]:
    claims = []
    answers = rollout.tokens_of(run.batch, points)
    # A loss compares with every true token that there is, whatever the support shows.
    given = run.batch.extra.get("given")
    shown = np.isfinite(truth if given is None else given.cpu().numpy()).all(-1)
    loss = float(np.abs(answers - truth)[shown].mean()) if shown.any() else float("nan")
    rule = PckRule()
    pck = rule.pck(rule.errors(run, points))
    if "loss_coordinates" in logged and np.isfinite(loss):
        found = logged["loss_coordinates"]
        factor = found / loss if loss else 1.0
        claims.append(
            Claim("logged coordinate loss", "mean error per coordinate, share of the input", loss, found,
                  abs(factor - 1) < 0.02, f"it is {factor:.2g} times the error it stands for")
        )  # fmt: skip
    if not np.isfinite(pck):
        return claims  # nothing counts, whatever the log makes of that
    if "pck" in logged:
        found = logged["pck"]
        # Code of this kind measures by other lengths than MP-100 too, and says none of them.
        known = explaining_rule(run, points, found)
        rule = known or rule
        by = "" if rule == PckRule() else f" by the box's {rule.normaliser}"
        claims.append(
            Claim(f"logged PCK{by}", f"({rule.text()})", found if known else pck, found, known is not None,
                  "its distances and its threshold are not in the same pixels, and no known rule explains it")
        )  # fmt: skip
    if {"loss_coordinates", "pck"} <= logged.keys():
        # Markov: a keypoint that misses is off by the threshold at least, and |dx| + |dy| is no less.
        side = np.array([np.abs(a[:, :2]).sum(1).mean() for a in run.batch.to_image])
        reach = 2 * logged["loss_coordinates"] * side * (run.batch.pixels.shape[-1] - 1)
        least = max(0.0, 1 - float((reach / rule.sizes(run)).mean()) / rule.threshold)
        claims.append(
            Claim("logged PCK for the logged loss", "or more", least, logged["pck"],
                  logged["pck"] >= least - 1e-6,
                  "so few keypoints can miss with this loss: the metric is wrong, not the network")
        )  # fmt: skip
    return claims


def _most(off: np.ndarray) -> float:
    known = off[np.isfinite(off)]
    return float(np.abs(known).max()) if known.size else 0.0


INSPECTOR = Inspector(
    "Coordinates",
    "Do the loss, the metric and the picture speak of the same coordinates?",
    Params,
    compute,
    needs=Needs(capability=RollsOut, truth=True),
    order=70,
)
