"""Sweep: what it costs beside inference, bytes of its files, and two Ray workers beside one.

What a sweep does beside opening and inference (gathering, judging, writing, hashing) is measured as
processor time of the same call that predicts. The two Ray workers run a network that sleeps for each picture:
it stands for a GPU, because two workers that compute would share this machine's cores. Seconds then count
from the first predicted picture, so that the start of Ray and of its workers is left out.
"""

from __future__ import annotations

import contextlib
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.row import Row, ratio

OVERHEAD, SPEED_UP = 0.02, 1.8
# Seconds of a small network for each instance; RTMPose-m took 97 ms on one core.
INFERENCE = 5e-3
# An epoch of this size is judged and written, to see bytes and seconds where they matter.
POSES, KEYPOINTS = 10_000, 17
# Sleeping: pictures of an epoch, epochs, seconds for each picture.
PICTURES, EPOCHS, DELAY = 48, 10, 0.08


@contextlib.contextmanager
def timed_reading() -> Iterator[dict[str, float]]:
    """Processor time that a sweep spends on its plan, on opening checkpoints, and on reading blocks."""
    import importlib

    from workbench.evaluation.sweeps import blocks

    module = importlib.import_module("workbench.evaluation.sweeps.sweep")
    spent, opened, planned = {"plan": 0.0, "open": 0.0, "read": 0.0}, blocks.Worker.opened, module.plan_sweep

    def timed_plan(*words: Any) -> Any:
        begun = time.process_time()
        found = planned(*words)
        spent["plan"] += time.process_time() - begun
        return found

    class Timed:
        """A reader with a clock."""

        def __init__(self, reader: Any) -> None:
            self.reader = reader

        @property
        def variants(self) -> Any:
            return self.reader.variants

        @property
        def rows(self) -> Any:
            return self.reader.rows

        def protocol(self, *words: Any) -> Any:
            return self.reader.protocol(*words)

        def read(self, *words: Any) -> Any:
            begun = time.process_time()
            found = self.reader.read(*words)
            spent["read"] += time.process_time() - begun
            return found

    def timed(worker: Any, path: Path) -> Any:
        begun = time.process_time()
        loaded, reader = opened(worker, path)
        spent["open"] += time.process_time() - begun
        return loaded, Timed(reader)

    blocks.Worker.opened = timed  # type: ignore[method-assign]
    module.plan_sweep = timed_plan
    try:
        yield spent
    finally:
        blocks.Worker.opened = opened  # type: ignore[method-assign]
        module.plan_sweep = planned


def beside_inference() -> Row:
    """A sweep over the demo run: processor time beside opening and inference, as a share of inference."""
    from workbench.checkpoints.demo import demo_data, demo_run
    from workbench.evaluation import SweepRules, sweep

    run, data = demo_run(), demo_data()
    with tempfile.TemporaryDirectory() as out:  # imports, drawn pictures
        sweep(run, data, out, rules=SweepRules(limit=4))
    with tempfile.TemporaryDirectory() as out, timed_reading() as spent:
        begun = time.process_time()
        report = sweep(run, data, out, rules=SweepRules())
        whole = time.process_time() - begun
        files = list(Path(out).glob("*.parquet"))
        each = [pq.read_metadata(file).num_rows for file in files]
        size = sum(file.stat().st_size for file in files) / sum(each)
    instances = sum(each) // KEYPOINTS
    beside = whole - sum(spent.values())
    return {
        "what": f"sweep over {report.done} checkpoints of {run.name}: judging, writing and hashing beside "
        f"inference, processor time over {instances:,} instances; files of {size:.1f} bytes a row (one "
        f"keypoint); opening takes another {spent['open'] / report.done:.2f} s a checkpoint, the plan "
        f"{spent['plan']:.2f} s once",
        "ours": f"{1e3 * beside / instances:.3f} ms an instance, {beside / spent['read']:.1%} of inference",
        "peer": f"inference {1e3 * spent['read'] / instances:.1f} ms an instance",
        "ratio": ratio(spent["read"], beside),
        "target": f"< {OVERHEAD:.0%}",
        "met": beside < OVERHEAD * spent["read"],
    }


def finishing() -> Row:
    """An epoch of 10,000 poses: gathered, judged, written; its bytes for each keypoint."""
    from workbench.data.pose_set import ImageRecord, Instance, PoseSet
    from workbench.evaluation import Predictions, Protocol
    from workbench.evaluation.evaluate import truth_of
    from workbench.evaluation.sweeps.blocks import Block, Opened, Unit
    from workbench.evaluation.sweeps.folder import SweepFolder, UnitWriter
    from workbench.evaluation.sweeps.readings import VariantName
    from workbench.skeletons import SKELETONS

    rng, skeleton, N, K = np.random.default_rng(0), SKELETONS["coco-17"], POSES, KEYPOINTS
    points = rng.uniform(0, 640, (N, K, 2))
    boxes = np.concatenate([points.min(1), points.max(1)], 1)
    images = {n: ImageRecord(n, Path(f"{n}.jpg"), 640, 640) for n in range(N // 2)}
    truth = np.concatenate([points, np.full((N, K, 1), 2.0)], 2)
    instances = tuple(
        Instance(n, n // 2, 1, tuple(boxes[n].tolist()), truth[n], 2e5, False, K) for n in range(N)
    )
    annotations = [
        {
            "id": n, "image_id": n // 2, "category_id": 1, "keypoints": truth[n].ravel().tolist(),
            "num_keypoints": K, "bbox": [*boxes[n, :2], *(boxes[n, 2:] - boxes[n, :2])], "area": 2e5,
            "iscrowd": 0,
        }
        for n in range(N)
    ]  # fmt: skip
    pose_set = PoseSet("drawn", skeleton, instances, images, {1: "person"}, {"annotations": annotations})
    found = Predictions(
        np.arange(N) // 2, np.ones(N, int), boxes, points + rng.normal(0, 9, points.shape),
        rng.uniform(0, 1, (N, K)), rng.uniform(0, 1, N), np.arange(N),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        place, unit = SweepFolder(Path(folder), (VariantName("reference"),)), Unit("epoch_1", "", 1)
        begun = time.process_time()
        writer = UnitWriter(place, unit, "0" * 64, ["0" * 64])
        writer.opened = Opened((Protocol(),), N)
        for first in range(0, N, 64):
            rows = np.arange(first, min(first + 64, N))
            writer.add(Block(first, first + len(rows), (found.take(rows),)))
        writer.finish(pose_set, truth_of(pose_set))
        took = time.process_time() - begun
        size = place.file(0, unit).stat().st_size
    return {
        "what": f"one epoch of {N:,} poses x {K} keypoints with full double precision: gathered, judged "
        "(AP, OKS), written; processor time",
        "ours": f"{took:.2f} s, {1e6 * took / N:.0f} us a pose; file {size / 1e6:.1f} MB, "
        f"{size / N / K:.1f} bytes a row (one keypoint)",
        "peer": "-",
        "ratio": "-",
        "target": f"< {1e6 * OVERHEAD * INFERENCE:.0f} us a pose: {OVERHEAD:.0%} of {1e3 * INFERENCE:.0f} ms",
        "met": took < OVERHEAD * INFERENCE * N,
    }


def sleeping_run(folder: Path) -> tuple[Path, Path, str]:
    """A run whose network sleeps for each picture, its data set and its adapter."""
    from tests.apps import painted

    for epoch in range(1, EPOCHS + 1):
        painted.write_checkpoint(folder / "run" / f"epoch_{epoch}.pth", epoch, epoch % 7, DELAY)
    return folder / "run", painted.write_data(folder / "data", PICTURES), painted.__file__


def ray_workers() -> Row:
    """Pictures a second of two Ray workers beside one; the same table, and memory."""
    what = (
        f"{EPOCHS} checkpoints x {PICTURES} pictures on Ray, two workers beside one; the network sleeps "
        f"{1e3 * DELAY:.0f} ms for each picture and stands for a GPU"
    )
    if find_spec("ray") is None:
        return {
            "what": what, "ours": "Ray is not installed", "peer": "-", "ratio": "-",
            "target": f">= {SPEED_UP:g}x", "met": None,
        }  # fmt: skip
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        source = sleeping_run(place)
        one, first, _ = swept(source, place / "one", 1)
        two, second, memory = swept(source, place / "two", 2)
    ray.shutdown()
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "what": f"{what}; tables {'equal' if first == second else 'NOT equal'}; memory at most {own:.0f} MB "
        f"here and {memory:.0f} MB in a worker",
        "ours": f"{two:.1f} pictures/s with two",
        "peer": f"{one:.1f} pictures/s with one",
        "ratio": f"{two / one:.2f}x",
        "target": f">= {SPEED_UP:g}x",
        "met": two >= SPEED_UP * one and first == second,
    }


def swept(source: tuple[Path, Path, str], out: Path, workers: int) -> tuple[float, Any, float]:
    """Pictures a second from the first picture on, the table, and the most memory of a worker in MB."""
    from workbench.evaluation import SweepRules, sweep
    from workbench.evaluation.sweeps.ray_engine import Cluster

    run, data, adapter = source
    moments: list[tuple[float, int]] = []
    most = [0.0]

    def progress(done: int, _: int) -> None:
        if done:
            moments.append((time.monotonic(), done))
            most[0] = max(most[0], worker_memory())

    rules = SweepRules(batch_size=4, opening={"adapter": adapter})
    report = sweep(
        run, data, out, rules=rules, engine="ray", cluster=Cluster(workers=workers), progress=progress
    )
    (begun, first), (ended, last) = moments[0], moments[-1]
    return (last - first) / (ended - begun), report.rows, most[0]


def worker_memory() -> float:
    """Resident memory of the largest worker on this machine, MB."""
    largest = 0
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, StopIteration, ValueError):
            if (path / "cmdline").read_bytes().startswith(b"ray::RemoteWorker"):
                lines = (path / "status").read_text().splitlines()
                largest = max(largest, int(next(li for li in lines if li.startswith("VmRSS")).split()[1]))
    return largest / 1024


def rows() -> list[Row]:
    """Beside inference, finishing an epoch, two Ray workers."""
    return [beside_inference(), finishing(), ray_workers()]


if __name__ == "__main__":
    from benchmarks.run import as_line

    print("| benchmark | what | ours | peer | ratio | target | met |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for line in rows():
        print(as_line("sweep", line))
