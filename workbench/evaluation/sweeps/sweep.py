"""Sweep: all checkpoints of a run by all variants on one data set; stopped and resumed at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from workbench.core.errors import nearest, sentence
from workbench.core.files import locked_folder
from workbench.core.report import counted
from workbench.evaluation.sweeps.blocks import Event, Failed, Unit, Worker
from workbench.evaluation.sweeps.folder import SweepFolder
from workbench.evaluation.sweeps.plan import UNIT_ERRORS, checkpoints_in, plan_sweep
from workbench.evaluation.sweeps.report import SweepReport
from workbench.evaluation.sweeps.rules import SweepRules, SweepSource
from workbench.evaluation.sweeps.state import SweepState

if TYPE_CHECKING:
    from workbench.evaluation.sweeps.ray_engine import Cluster

Engine = Literal["local", "ray"]
ENGINES: tuple[Engine, ...] = ("local", "ray")
BUSY = "another sweep writes into this folder; wait for it, or name another --out"


def sweep(
    run: Path | str,
    data: Path | str,
    out: Path | str,
    *,
    images: Path | str | None = None,
    within: Sequence[Path] = (),
    rules: SweepRules | None = None,
    engine: Engine = "local",
    cluster: Cluster | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> SweepReport:
    """AP of every checkpoint of a run by every variant; predictions as a history for each variant.

    A call that was stopped or killed is resumed by the same call: finished epochs are not predicted again,
    and of an unfinished one at most the last seconds. The table is then the same to the last bit, as long as
    the same devices and numbers of threads predict.

    Args:
        run: folder of the checkpoints.
        data: a COCO-format json, or the name of a built-in set.
        out: folder for the predictions, made where it does not exist; see workbench.evaluation.sweeps.folder.
        images: folder of the images that the json names.
        within: no image may lie outside of these folders, symbolic links resolved; no limit when empty.
        rules: how checkpoints are opened, read and judged, and which ablations are made.
        engine: ``local`` predicts in this process, ``ray`` on one machine or a cluster.
        cluster: where Ray runs and what each of its workers gets.
        progress: called with (done, total) rows of this call: instances, or images of a bottom-up model.
        cancelled: asked before each batch.

    Raises:
        FileNotFoundError: no such run, no checkpoint in it, or missing images.
        ValueError: data and models do not fit, `out` holds something else or is in use, every checkpoint
            failed, or the cluster does not answer.
        KeyError: no such data set, engine or ablation.
        NotAvailable: ablations for another kind of model, or Ray is not installed.
        Cancelled: as asked for; what was finished is kept.

    Example:
        >>> import tempfile
        >>> from workbench.checkpoints.demo import demo_run
        >>> from workbench.evaluation import SweepRules, sweep
        >>> out = tempfile.mkdtemp()
        >>> report = sweep(demo_run(), "scenes-val", out, rules=SweepRules(limit=2))
        >>> [row["epoch"] for row in report.rows] == sorted(row["epoch"] for row in report.rows)
        True
        >>> sweep(demo_run(), "scenes-val", out, rules=SweepRules(limit=2)).rows == report.rows
        True
    """
    if engine not in ENGINES:
        raise KeyError(f"no engine {engine!r}; nearest: {nearest(engine, ENGINES)}")
    started = time.monotonic()
    source = SweepSource.located(run, data, images, within)
    rules, paths = (rules or SweepRules()).located(), checkpoints_in(Path(source.run))
    if engine == "ray":
        from workbench.evaluation.sweeps.ray_engine import require_cluster

        # Before the models are looked at, which takes longer than a wrong address should.
        require_cluster(cluster)
    plan = plan_sweep(source, rules, paths)  # what it refuses leaves no folder
    with locked_folder(Path(out), BUSY):
        folder = SweepFolder(Path(out), plan.variants)
        folder.check(plan.identity)
        state = SweepState(plan, folder, progress)
        state.look()
        try:
            if state.waiting:
                # Closed at once, whatever ends the loop: the workers of a cluster are let go.
                with closing(_events(engine, source, rules, state, cluster, cancelled)) as events:
                    for unit, event in events:
                        state.take(unit, event, rules)
        finally:
            state.flush()
        if not state.rows:
            reasons = "; ".join(f"{one.checkpoint}: {one.reason}" for one in state.failed[:3])
            raise ValueError(
                f"{run}: not one of {counted(len(paths), 'checkpoint')} could be predicted with ({reasons})"
            )
        return state.report(source, time.monotonic() - started)


def _events(
    engine: Engine,
    source: SweepSource,
    rules: SweepRules,
    state: SweepState,
    cluster: Cluster | None,
    cancelled: Callable[[], bool] | None,
) -> Generator[tuple[Unit, Event], None, None]:
    if engine == "local":
        return _local_events(source, rules, state, cancelled)
    from workbench.evaluation.sweeps.ray_engine import Cluster, ray_events

    return ray_events(source, rules, state, cluster or Cluster(), cancelled)


def _local_events(
    source: SweepSource, rules: SweepRules, state: SweepState, cancelled: Callable[[], bool] | None
) -> Generator[tuple[Unit, Event], None, None]:
    """Predict all waiting checkpoints in this process, one after the other."""
    worker = Worker(source, rules)
    for unit in list(state.waiting):
        start = state.begin(unit)
        try:
            for event in worker.events(
                Path(unit.path), state.hashes[unit.title], start, state.names, cancelled
            ):
                yield unit, event
        except UNIT_ERRORS as reason:
            yield unit, Failed(sentence(reason))
