"""Do loss, metric and drawing use the same coordinates?

All quantities are recomputed from the keypoints in original pixels and compared with the values of the
model. A loss logged with its weight, or distances in resized pixels against a box in original pixels,
appear here as a number that disagrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Outputs, Run
from workbench.core.capabilities import LogsItself, RollsOut
from workbench.core.inspector import Inspector, Needs
from workbench.core.report import Report, rows
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, TRUTH_COLOUR
from workbench.figures.bars import PAIRED, Bars, bars_figure
from workbench.inspectors.sequence import rollout
from workbench.inspectors.sequence.rollout import PckRule, explaining_rule

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


# Pixels that rounding can move a point; and the unit of such comparisons.
NOTHING_OFF = 0.1
OFF = "px"
TARGETS_OFF = "distance of the loss targets from the annotations"
DRAWN_OFF = "distance of the drawn keypoints from the output tokens"
LOGGED_LOSS = "logged coordinate loss"


@dataclass(frozen=True)
class Params:
    """No parameters: PCK uses MP-100's rule, or the known rule that reproduces a logged figure."""


@dataclass(frozen=True)
class Claim:
    """One comparison.

    Attributes:
        what: the compared quantity.
        unit: of both numbers.
        expected: recomputed value.
        found: value of the model.
        agrees: they are equal up to rounding.
        why: what a disagreement means.
    """

    what: str
    unit: str
    expected: float
    found: float
    agrees: bool
    why: str

    @property
    def cause(self) -> str:
        """Of a disagreement, as a finding has it."""
        return "loss in the log is scaled" if self.what == LOGGED_LOSS else "coordinates disagree"

    def text(self) -> str:
        """The disagreement in words."""
        return f"{self.what} is {self.found:.3g}, expected {self.expected:.3g} {self.unit}: {self.why}"


@dataclass(frozen=True, eq=False)
class Coordinates(Report):
    """All comparisons of one rollout.

    Attributes:
        claims: the comparisons.
        logs: the model tells its loss or metric, so that these could be compared.
    """

    claims: tuple[Claim, ...]
    logs: bool = True

    @property
    def agree(self) -> bool:
        """Whether all comparisons agree."""
        return all(claim.agrees for claim in self.claims)

    def summary(self) -> str:
        wrong = [claim for claim in self.claims if not claim.agrees]
        if not wrong:
            return self._agreement()
        first = wrong[0]
        rest = f"; {len(wrong) - 1} more disagree" if len(wrong) > 1 else ""
        return f"{first.text()}{rest}"

    def _agreement(self) -> str:
        """What was compared and agrees, and what could not be compared."""
        compared = ", ".join(c.what for c in self.claims)
        if self.logs:
            return f"Loss, metric and drawing use the same coordinates; compared: {compared}"
        if not compared:
            return (
                "Coordinates not compared: the batch has no targets (extra['given']), the outputs have no "
                "tokens['coordinates'], and the model logs no loss or metric (capability LogsItself)"
            )
        return (
            f"No coordinates disagree; compared: {compared}; not compared: loss and metric, because "
            "the model logs none (capability LogsItself)"
        )

    def plot(self) -> Figure:
        # Units differ by row: both numbers are drawn as shares of the larger one, so equal lengths agree.
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
        return bars_figure(self.summary(), [c.what for c in self.claims], columns, narrowest=PAIRED)

    def table(self) -> list[dict[str, Any]]:
        columns = {name: [getattr(c, name) for c in self.claims] for name in Claim.__dataclass_fields__}
        # It explains a disagreement; beside one that agrees it would read as a fault.
        columns["why"] = ["" if c.agrees else c.why for c in self.claims]
        return rows(**columns)


def compute(run: Run, params: Params) -> Coordinates:
    """Compare one rollout with the ground truth, and with what the model logs."""
    rollout.sequence_model(run)
    outputs = rollout.free_running(run)
    points = rollout.points_of(run, outputs)
    truth = rollout.true_tokens(run)
    claims = []
    if "given" in run.batch.extra:
        given = rollout.image_points(run.batch, rollout.true_coordinates(run.batch))
        off = _most(given - np.where(np.isnan(truth), np.nan, run.truth[..., :2]))
        claims.append(
            Claim(TARGETS_OFF, OFF, 0.0, off, off < NOTHING_OFF,
                  "the targets of the loss do not lie on the annotations; check the transform of the targets")
        )  # fmt: skip
    if "coordinates" in outputs.tokens:
        drawn = rollout.image_points(run.batch, outputs.tokens["coordinates"].numpy().astype(float))
        off = _most(points - drawn)
        claims.append(
            Claim(DRAWN_OFF, OFF, 0.0, off, off < NOTHING_OFF,
                  "the drawn keypoints are not those of the loss; check the transform back to the image")
        )  # fmt: skip
    if isinstance(run.model, LogsItself):
        logged = _logged(run, run.model, outputs, points, truth)
        return Coordinates((*claims, *logged), bool(logged))
    return Coordinates(tuple(claims), logs=False)


def _logged(
    run: Run, model: LogsItself, outputs: Outputs, points: np.ndarray, truth: np.ndarray
) -> list[Claim]:
    logged = model.logged(outputs, run.batch)
    claims = []
    # The loss sees tokens; where they are drawn elsewhere, a claim of its own says so.
    tokens = outputs.tokens.get("coordinates")
    answers = rollout.tokens_of(run.batch, points) if tokens is None else tokens.numpy().astype(float)
    # A loss uses every true token, whether the support shows it or not.
    given = run.batch.extra.get("given")
    shown = np.isfinite(truth if given is None else given.cpu().numpy()).all(-1)
    loss = float(np.abs(answers - truth)[shown].mean()) if shown.any() else float("nan")
    rule = PckRule()
    pck = rule.pck(rule.errors(run, points))
    if "loss_coordinates" in logged and np.isfinite(loss):
        found = logged["loss_coordinates"]
        factor = found / loss if loss else 1.0
        claims.append(
            Claim(LOGGED_LOSS, "mean error per coordinate, share of the input", loss, found,
                  abs(factor - 1) < 0.02,
                  f"it is {factor:.2g} times the mean error; log the loss without its weight")
        )  # fmt: skip
    if not np.isfinite(pck):
        return claims  # no keypoint counts
    if "pck" in logged:
        found = logged["pck"]
        # Code of this kind uses other normalisers than MP-100, too, and does not name them.
        known = explaining_rule(run, points, found)
        rule = known or rule
        by = "" if rule == PckRule() else f" by the box's {rule.normaliser}"
        claims.append(
            Claim(f"logged PCK{by}", f"({rule.text()})", found if known else pck, found, known is not None,
                  "no known rule gives it; distances and threshold are probably not in the same pixels")
        )  # fmt: skip
    if {"loss_coordinates", "pck"} <= logged.keys():
        # Markov's inequality: a missed keypoint is off by at least the threshold, and |dx| + |dy| is no less.
        side = np.array([np.abs(a[:, :2]).sum(1).mean() for a in run.batch.to_image])
        reach = 2 * logged["loss_coordinates"] * side * (run.batch.pixels.shape[-1] - 1)
        least = max(0.0, 1 - float((reach / rule.sizes(run)).mean()) / rule.threshold)
        claims.append(
            Claim("logged PCK for the logged loss", "PCK or more", least, logged["pck"],
                  logged["pck"] >= least - 1e-6,
                  "with this loss fewer keypoints can miss: the metric is wrong, not the network")
        )  # fmt: skip
    return claims


def _most(off: np.ndarray) -> float:
    known = off[np.isfinite(off)]
    return float(np.abs(known).max()) if known.size else 0.0


INSPECTOR = Inspector("Coordinates", Params, compute, needs=Needs(capability=RollsOut, truth=True), order=70)
