"""The engine of sweeps that runs on Ray: one machine or a cluster, one worker for each GPU or so many CPUs.

Each worker is a Ray actor that opens the data set once, predicts one checkpoint after the other, and sends
blocks of predictions as bytes; only the machine of the command writes files. A worker that dies loses nothing
that arrived: its checkpoint goes on at the next row in another worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from workbench import __version__
from workbench.core import NotAvailable
from workbench.core.errors import reason, sentence
from workbench.core.files import files_in
from workbench.core.job import Cancelled
from workbench.core.processes import own_imports
from workbench.evaluation.protocol import Protocol
from workbench.evaluation.sweeps.blocks import (
    Block,
    Event,
    Failed,
    Opened,
    Unit,
    Worker,
    from_bytes,
    to_bytes,
)
from workbench.evaluation.sweeps.plan import UNIT_ERRORS
from workbench.evaluation.sweeps.rules import annotations_digest, boxes_digest, checkpoint_sha256

if TYPE_CHECKING:
    from workbench.evaluation.sweeps.rules import SweepRules, SweepSource
    from workbench.evaluation.sweeps.state import SweepState

# Workers that one checkpoint may cost before it is passed over: the first deaths may be the machine's fault.
ATTEMPTS = 3
# Seconds between two looks at whether the sweep was cancelled.
POLL_SECONDS = 0.2
# Configs beside a checkpoint that travel with it; larger files are no configs.
_CONFIG_BYTES = 1 << 20
_PROBE = (
    "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='CRITICAL'); "
    "ray.cluster_resources(); ray.shutdown()"
)
# Without the network: no usage statistics are sent.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@dataclass(frozen=True)
class Cluster:
    """Where Ray runs, and what each worker gets.

    Attributes:
        address: of a running cluster, ``host:port`` or ``auto``; None starts Ray on this machine alone.
        workers: at most so many; None for as many as the cluster has GPUs, or CPUs for `cpus` each.
        cpus: CPUs of each worker without a GPU, and its threads.
        patience: seconds within which the cluster must answer, and a first worker must be there.
    """

    address: str | None = None
    workers: int | None = None
    cpus: int = 1
    patience: float = 60.0

    def __post_init__(self) -> None:
        for name in ("workers", "cpus"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")


def require_cluster(cluster: Cluster | None) -> None:
    """Check that Ray is installed, and that a cluster answers where an address names one.

    Raises:
        NotAvailable: Ray is not installed; the message names the extra.
        ValueError: no cluster answers in time.
    """
    if find_spec("ray") is None:
        raise NotAvailable("engine ray: Ray is not installed; run: pip install 'pose-workbench[ray]'")
    if cluster is None or cluster.address is None:
        return
    import ray  # pyright: ignore[reportMissingImports] - an extra

    if not ray.is_initialized():
        os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET.items()})
        _check_address(cluster.address, cluster.patience)


# What runs in the workers.


class RemoteWorker:
    """A Worker as a Ray actor: takes and gives nothing but plain data and bytes.

    It opens checkpoints exactly as the local engine does: nothing in a file is run, and a named adapter or
    config is the user's own code on every machine as on one.

    Args:
        source: where everything is.
        rules: of the sweep.
        threads: of torch; 0 for torch's own choice.
    """

    def __init__(self, source: SweepSource, rules: SweepRules, threads: int) -> None:
        # Ray shows each actor its own GPU alone, as the first one.
        self._worker = Worker(source, rules, "cuda" if rules.device.startswith("cuda") else None)
        self._run = Path(source.run).name
        self._threads, self._boxes = threads, boxes_digest(rules)

    def prepare(self, keypoints: int) -> dict[str, str]:
        """Open the data set; this machine's version of the workbench and digest of the annotations."""
        if self._threads:
            import torch

            torch.set_num_threads(self._threads)
        try:
            annotations = annotations_digest(self._worker.data(keypoints))
            return {"version": __version__, "annotations": annotations, "detections": self._boxes}
        except UNIT_ERRORS as problem:
            return {"version": __version__, "error": sentence(problem)}

    def events(
        self,
        path: str,
        sha256: str,
        start: int,
        variants: list[str],
        files: Mapping[str, bytes] | None = None,
    ) -> Iterator[tuple[str, bytes]]:
        """Predict one checkpoint; see Worker.events.

        Args:
            path: of the checkpoint.
            sha256: of its bytes; a file of another hash is not taken.
            start: rows that are there already.
            variants: names of the variants that the sweep expects.
            files: the checkpoint and the configs beside it by name, where this machine does not have them.

        Yields:
            kind and content: ``opened`` with the protocols as JSON, ``block``, ``failed`` with the reason, or
            ``absent`` where this machine has no such file.
        """
        try:
            with TemporaryDirectory() as folder:
                place = Path(path)
                if files is not None:
                    place = _unpacked(files, Path(folder) / self._run, place.name)
                elif not place.is_file() or checkpoint_sha256(place) != sha256:
                    yield "absent", b""
                    return
                for event in self._worker.events(place, sha256, start, variants):
                    if isinstance(event, Block):
                        yield "block", to_bytes(event)
                    else:
                        protocols = [protocol.to_json() for protocol in event.protocols]
                        yield "opened", json.dumps([event.rows, protocols]).encode()
        except UNIT_ERRORS as problem:
            yield "failed", sentence(problem).encode()


def _unpacked(files: Mapping[str, bytes], folder: Path, name: str) -> Path:
    folder.mkdir()
    for own, data in files.items():
        (folder / Path(own).name).write_bytes(data)
    return folder / name


def _packed(path: Path) -> dict[str, bytes]:
    """A checkpoint, its parts, and the small configs beside it, by name."""
    from workbench.checkpoints.budget import LIMITS
    from workbench.checkpoints.checkpoint_files import files_of

    beside = [other for other in files_in(path.parent, "*.py") if other.stat().st_size <= _CONFIG_BYTES]
    return {one.name: one.read_bytes() for one in dict.fromkeys([path, *files_of(path, LIMITS), *beside])}


def _event(kind: str, content: bytes) -> Event:
    if kind == "block":
        return from_bytes(content)
    if kind == "failed":
        return Failed(content.decode(errors="replace"))
    rows, protocols = json.loads(content)
    return Opened(tuple(Protocol.from_json(one) for one in protocols), int(rows))


# What runs on the machine of the command.


def ray_events(
    source: SweepSource,
    rules: SweepRules,
    state: SweepState,
    cluster: Cluster,
    cancelled: Callable[[], bool] | None,
) -> Generator[tuple[Unit, Event], None, None]:
    """Predict all waiting checkpoints on a cluster.

    Args:
        source: where everything is.
        rules: of the sweep.
        state: of the sweep; the checkpoints that wait.
        cluster: where Ray runs; a Ray that this process has started already is used as it is.
        cancelled: asked several times a second.

    Raises:
        ValueError: the cluster does not answer, has too little, or its machines have another data set.
        Cancelled: as asked for.
    """
    with _connected(cluster) as ray:
        yield from _Pool(ray, source, rules, state, cluster).events(cancelled)


@contextlib.contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    """Ray, started or joined; what was started ends with the block.

    Raises:
        ValueError: it does not start.
    """
    import ray  # pyright: ignore[reportMissingImports] - an extra

    if ray.is_initialized():
        yield ray
        return
    os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET.items()})
    main = threading.current_thread() is threading.main_thread()
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)} if main else {}
    try:
        _start(ray, cluster)
        for number, handler in handlers.items():  # Ray sets its own for SIGTERM
            signal.signal(number, handler)
        yield ray
    finally:
        ray.shutdown()


def _start(ray: Any, cluster: Cluster) -> None:
    """Start Ray on this machine, or join the cluster.

    Raises:
        ValueError: it does not start.
    """
    try:
        ray.init(
            address=cluster.address or "local", include_dashboard=None if cluster.address else False,
            log_to_driver=False, logging_level="CRITICAL",
        )  # fmt: skip
    except Exception as problem:  # Ray raises bare Exceptions: a node that is late, a daemon that ended
        raise ValueError(f"Ray does not start: {_last_line(problem)}") from problem


def _check_address(address: str, patience: float) -> None:
    """Raise ValueError where no cluster answers in time.

    Asked by a process of its own, because a connection that hangs cannot be given up from within.
    """
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _PROBE, address], capture_output=True, text=True, timeout=patience,
            check=False, **own_imports(),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"--address {address}: no Ray cluster answers there within {patience:g} s; start one with "
            "`ray start --head`, or leave --address out to use this machine"
        ) from None
    if asked.returncode:
        lines = [line.strip() for line in asked.stderr.splitlines() if line.strip()]
        why = lines[-1][:200] if lines else f"exit code {asked.returncode}"
        raise ValueError(
            f"--address {address}: no Ray cluster answers there ({why}); start one with `ray start --head`, "
            "or leave --address out to use this machine"
        )


class _Pool:
    """Workers of one sweep, and which checkpoint each of them predicts.

    Args:
        ray: the module, connected.
        source: where everything is.
        rules: of the sweep.
        state: of the sweep.
        cluster: what each worker gets.
    """

    def __init__(
        self, ray: Any, source: SweepSource, rules: SweepRules, state: SweepState, cluster: Cluster
    ) -> None:
        self._ray, self._state, self._cluster = ray, state, cluster
        gpu = rules.device.startswith("cuda")
        self._size = self._count(gpu)
        options = {"num_gpus": 1} if gpu else {"num_cpus": cluster.cpus}
        actor = ray.remote(RemoteWorker).options(**options, max_restarts=0)
        self._new = lambda: actor.remote(source, rules, 0 if gpu else cluster.cpus)
        self._queue = deque(state.waiting)
        self._lost: Counter[str] = Counter()
        self._starting: dict[Any, Any] = {}  # reference to what `prepare` gives -> worker
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Unit, Any]] = {}  # generator of events -> checkpoint, worker

    def _count(self, gpu: bool) -> int:
        """How many workers the cluster has room for.

        Raises:
            ValueError: for none.
        """
        has = self._ray.cluster_resources()
        kind, each = ("GPU", 1) if gpu else ("CPU", self._cluster.cpus)
        count = int(has.get(kind, 0) // each)
        if not count:
            raise ValueError(
                f"the Ray cluster has {has.get(kind, 0):g} {kind}s, and a worker needs {each}; "
                + ("leave --device cuda out" if gpu else "give --cpus a smaller number")
            )
        return min(count, self._cluster.workers or count, len(self._state.waiting))

    def events(self, cancelled: Callable[[], bool] | None) -> Iterator[tuple[Unit, Event]]:
        """All that the workers say, until no checkpoint is left."""
        deadline = time.monotonic() + self._cluster.patience
        try:
            while self._queue or self._busy:
                if cancelled is not None and cancelled():
                    raise Cancelled("stopped; finished epochs are kept")
                self._employ()
                asked = [*self._starting, *self._busy]
                ready, _ = self._ray.wait(asked, num_returns=1, timeout=POLL_SECONDS)
                if self._busy:
                    deadline = time.monotonic() + self._cluster.patience
                elif not ready and time.monotonic() > deadline:
                    raise ValueError(
                        f"no worker could be started within {self._cluster.patience:g} s; the cluster's "
                        "machines are in use, slow (--patience gives them longer), or cannot import the "
                        "workbench"
                    )
                for one in ready:
                    if one in self._starting:
                        self._joined(one)
                    else:
                        yield from self._heard(one)
        finally:
            for worker in [*self._idle, *self._starting.values(), *(w for _, w in self._busy.values())]:
                self._ray.kill(worker)

    def _employ(self) -> None:
        """Give waiting checkpoints to idle workers, and start workers that are missing."""
        while self._queue and self._idle:
            self._begin(self._queue.popleft(), self._idle.pop())
        wanted = min(self._size - len(self._busy), len(self._queue)) - len(self._starting)
        for _ in range(wanted):
            worker = self._new()
            keypoints = len(self._state.plan.truth.skeleton)
            self._starting[worker.prepare.remote(keypoints)] = worker

    def _begin(self, unit: Unit, worker: Any, files: Mapping[str, bytes] | None = None) -> None:
        start, sha256 = self._state.begin(unit), self._state.hashes[unit.title]
        task = worker.events.options(num_returns="streaming")
        words = unit.path, sha256, start, self._state.names
        self._busy[task.remote(*words, files)] = (unit, worker)

    def _joined(self, answer: Any) -> None:
        """Take a worker that is ready.

        Raises:
            ValueError: it has another version or other data, or ends as soon as it starts.
        """
        worker = self._starting.pop(answer)
        try:
            reply = self._ray.get(answer)
        except self._ray.exceptions.RayError as problem:
            self._lost[""] += 1
            if self._lost[""] >= ATTEMPTS:
                raise ValueError(f"workers end as soon as they start ({_last_line(problem)})") from None
            return
        if reply["version"] != __version__:
            raise ValueError(
                f"a worker has version {reply['version']} of the workbench, expected {__version__}"
            )
        if "error" in reply:
            raise ValueError(f"a worker cannot open the data set: {reply['error']}")
        for name in ("annotations", "detections"):
            if reply[name] != self._state.plan.identity[name]:
                raise ValueError(f"a worker reads other {name} under the same path; copy the data set to it")
        self._idle.append(worker)

    def _heard(self, generator: Any) -> Iterator[tuple[Unit, Event]]:
        """One more word of a worker."""
        unit, worker = self._busy[generator]
        errors = self._ray.exceptions
        try:
            kind, content = self._ray.get(next(generator))
        except StopIteration:
            self._free(generator)
        except errors.RayTaskError as problem:
            self._free(generator)
            yield unit, Failed(_last_line(problem))
        except errors.RayError as problem:  # the worker or its machine is gone
            del self._busy[generator]
            self._lost[unit.title] += 1
            if self._lost[unit.title] < ATTEMPTS:
                self._queue.appendleft(unit)
            else:
                yield unit, Failed(f"its workers ended {ATTEMPTS} times ({_last_line(problem)})")
        else:
            if kind == "absent":
                del self._busy[generator]
                self._begin(unit, worker, _packed(Path(unit.path)))
                return
            event = _event(kind, content)
            # The worker goes on with the next checkpoint while this one's figures are computed here.
            if isinstance(event, Failed) or (
                isinstance(event, Block) and event.last == self._state.plan.rows
            ):
                self._free(generator)
                self._employ()
            yield unit, event

    def _free(self, generator: Any) -> None:
        self._idle.append(self._busy.pop(generator)[1])


def _last_line(problem: BaseException) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return lines[-1][:300] if lines else reason(problem)
