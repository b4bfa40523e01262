"""Is the support used at all, and what does a wrong support cost?

The support is swapped, shuffled or zeroed. If no answer moves with zeros in its place, it is not read: its
features are masked, discarded or dominated. If answers move but PCK does not fall, it is read but not
needed, as in single-image training with a fixed keypoint order, which the decoder can memorise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core import Batch, NotAvailable, Run, Sample
from workbench.core.capabilities import RollsOut, TakesSupport
from workbench.core.inspector import Inspector, Needs, Range
from workbench.core.report import Report, rows
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR
from workbench.figures.bars import PAIRED, Bars, bars_figure
from workbench.inspectors.sequence import rollout
from workbench.inspectors.sequence.rollout import NOT_LEARNED, NOTHING_COUNTS, PckParams, granularity

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

KINDS = ("real", "other", "shuffled", "zero", "mean")
# Float32 rounding moves answers by some 1e-6 of the box.
NOTHING = 1e-5


@dataclass(frozen=True)
class Params(PckParams):
    """Parameters.

    Attributes:
        threshold: PCK threshold, a share of the normaliser; .2 in MP-100.
        normaliser: what distances are divided by.
        seed: random seed of the shuffle.
    """

    seed: Annotated[int, Range(0, 99, 1)] = 0


@dataclass(frozen=True, eq=False)
class SupportUse(Report):
    """Effect of each kind of support.

    Attributes:
        kinds: real, other (of another image), shuffled (points exchanged), zero, mean (all points at their
            mean).
        pck: free-running, with each; nan where not measured.
        forced: the same, teacher-forced.
        moved: mean movement of the answers against the real support, shares of the normaliser.
        rule: in words.
        steps_of_pck: the possible values of PCK.
    """

    kinds: tuple[str, ...]
    pck: Float[np.ndarray, " S"]
    forced: Float[np.ndarray, " S"]
    moved: Float[np.ndarray, " S"]
    rule: str
    steps_of_pck: str

    @property
    def by_kind(self) -> dict[str, float]:
        """PCK by kind of support."""
        return dict(zip(self.kinds, self.pck.tolist(), strict=True))

    @property
    def most_moved(self) -> float:
        """Largest mean movement of the answers, share of the normaliser."""
        return float(np.nanmax(self.moved))

    @property
    def verdict(self) -> str:
        """``not read``, ``read, but not needed``, or ``used``; ``read`` where no PCK can say more."""
        if not self.most_moved > NOTHING:
            return "not read"
        replaced = [self.by_kind[kind] for kind in ("shuffled", "zero", "mean")]
        if self.by_kind["real"] - min(replaced) >= 0.1:
            return "used"
        # A network that finds nothing has nothing to lose without its support.
        return "read, but not needed" if self.forced[0] >= NOT_LEARNED else "read"

    def summary(self) -> str:
        if self.verdict == "not read":
            return (
                "The output does not depend on the support: no answer moves when it is replaced; check that "
                "its features are not masked, discarded or dominated"
            )
        if self.verdict == "read":
            forced = self.forced[0]
            why = f"PCK is {forced:.2f}, too little to tell whether it is needed"
            why = NOTHING_COUNTS if np.isnan(forced) else why
            return f"The support is read: answers move by up to {self.most_moved:.1%}; {why}"
        real, zero, mixed = (self.by_kind[kind] for kind in ("real", "zero", "shuffled"))
        return (
            f"The support is {self.verdict}: PCK {real:.2f} with the real one, {zero:.2f} with zeros, "
            f"{mixed:.2f} with its points shuffled; answers move by up to {self.most_moved:.1%} "
            f"({self.rule})"
        )

    def plot(self) -> Figure:
        inks = [QUIET_COLOUR if kind == "real" else FINDING_COLOUR for kind in self.kinds]
        columns = [
            Bars("PCK, free-running", self.pck, inks, span=(0, 1.05)),
            Bars("PCK, teacher-forced", self.forced, inks, span=(0, 1.05)),
            Bars("moved by (share of the side)", self.moved, inks),
        ]
        # The supports of other images are those of the run's other samples.
        names = [
            kind if np.isfinite(by) else f"{kind} (needs 2 samples)"
            for kind, by in zip(self.kinds, self.moved, strict=True)
        ]
        return bars_figure(self.summary(), names, columns, narrowest=PAIRED)

    def table(self) -> list[dict[str, Any]]:
        return rows(support=self.kinds, pck=self.pck, pck_forced=self.forced, moved=self.moved)


def compute(run: Run, params: Params, others: Sequence[Sample] = ()) -> SupportUse:
    """One rollout for each kind of support.

    Args:
        run: of a model with a support.
        params: parameters.
        others: examples of other images; by default the samples of the run exchange their supports, and a
            single sample has no other support.

    Raises:
        NotAvailable: the model reads no support.
    """
    rollout.sequence_model(run)
    if "support" not in run.batch.extra:
        raise NotAvailable("support: the batch of this model contains none (batch.extra['support'])")
    rule = params.rule
    batches = _batches(run, params.seed, others)
    real = rollout.points_of(run, rollout.free_running(run))
    found: dict[str, tuple[float, ...]] = dict.fromkeys(KINDS, (np.nan, np.nan, np.nan))
    for kind, batch in batches.items():
        points = rollout.points_of(run, rollout.free_running(run, batch))
        forced_points = rollout.points_of(run, rollout.teacher_forced(run, batch))
        moved = np.linalg.norm(points - real, axis=-1) / rule.sizes(run)[:, None]
        scores = (rule.pck(rule.errors(run, p)) for p in (points, forced_points))
        found[kind] = (*scores, float(moved.mean()))
    pck, forced, moved = np.array([found[kind] for kind in KINDS]).T
    return SupportUse(KINDS, pck, forced, moved, rule.text(), granularity(run))


def _batches(run: Run, seed: int, others: Sequence[Sample]) -> dict[str, Batch]:
    support = run.batch.extra["support"]
    K = support.shape[-2]
    order = np.random.default_rng(seed).permutation(K)
    where = support.nan_to_num(0).cpu().numpy()
    # Shuffled with their visibility, else the nan of a hidden point would replace a visible one.
    shuffled = {"support": support[..., order, :]}
    if (visible := run.batch.extra.get("support_visible")) is not None:
        shuffled["support_visible"] = visible[..., order]
    mean = np.broadcast_to(np.nanmean(support.cpu().numpy(), axis=-2, keepdims=True), where.shape)
    batches = {
        "real": run.batch,
        "shuffled": rollout.with_extra(run.batch, **shuffled),
        "zero": rollout.with_extra(run.batch, support=np.zeros_like(where)),
        "mean": rollout.with_extra(run.batch, support=mean.copy()),
    }
    if (other := _other(run, others)) is not None:
        batches["other"] = other
    return batches


def _other(run: Run, others: Sequence[Sample]) -> Batch | None:
    """The batch with all entries `support...` taken from other images; None where there is no other."""
    samples = list(run.samples)
    if others:
        swapped = [others[n % len(others)] for n in range(len(samples))]
    elif len(samples) > 1:
        swapped = samples[1:] + samples[:1]
    else:
        return None
    prepared = run.model.prepare(swapped).extra
    if isinstance(run.model, TakesSupport):
        # A support that is fixed for all queries does not change with the sample.
        prepared = run.model.supported_by(swapped[:1]).prepare(samples).extra
    mine = {name: value for name, value in prepared.items() if name.startswith("support")}
    return rollout.with_extra(run.batch, **mine)


INSPECTOR = Inspector("Support", Params, compute, needs=Needs(capability=RollsOut, truth=True), order=40)
