"""Sweeps on Ray: two local nodes give the table of the local engine, also when a worker is killed."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.apps import painted
from tests.evaluation.sweeps.conftest import rules, write_run
from tests.waiting import until
from workbench.evaluation import Cancelled, sweep
from workbench.evaluation.sweeps.ray_engine import Cluster

ROOT = Path(__file__).parents[3]
PATIENCE = 300

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: the extra `ray` brings it"),
    pytest.mark.timeout(600),
]


def started(attempts=4):
    """Two nodes. Ray gives a node's agents 15 s, which it lets nobody change: a busy machine tries again."""
    from ray.cluster_utils import Cluster as LocalCluster

    made = LocalCluster(connect=False)
    try:
        made.add_node(num_cpus=2, include_dashboard=False)
        made.add_node(num_cpus=2)
        made.wait_for_nodes()
    except Exception:  # Ray raises bare ones
        made.shutdown()
        if attempts == 1:
            raise
        return started(attempts - 1)
    return made


@pytest.fixture(scope="module")
def cluster():
    """Two nodes on this machine with two CPUs each; this process is connected to them."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    import ray

    made = started()
    yield made
    if ray.is_initialized():
        ray.shutdown()
    made.shutdown()


@pytest.fixture
def slow_run(tmp_path):
    """Eight epochs of 24 pictures, each of 0.05 s in a network that waits."""
    epochs = [(n, 9 - n) for n in range(1, 9)]
    return write_run(tmp_path / "slow", delay=0.05, epochs=epochs), painted.write_data(tmp_path / "data", 24)


def on(cluster, workers):
    """So many workers, which a busy machine may start slowly."""
    return Cluster(cluster.address, workers, patience=PATIENCE)


def workers():
    """Process ids of the actors that predict."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:  # it has just ended
            continue
        if words.startswith(b"ray::RemoteWorker"):
            found.append(int(path.parent.name))
    return found


def test_two_nodes_give_the_table_of_the_local_engine(cluster, slow_run, tmp_path):
    run, data = slow_run
    wanted = sweep(run, data, tmp_path / "local", rules=rules("decoders", "flip"))
    there = on(cluster, 4)  # as many as both nodes have CPUs
    found = sweep(run, data, tmp_path / "ray", rules=rules("decoders", "flip"), engine="ray", cluster=there)
    assert found.rows == wanted.rows
    assert found.failed == ()
    assert (tmp_path / "ray" / "table.csv").read_bytes() == (tmp_path / "local" / "table.csv").read_bytes()
    again = sweep(run, data, tmp_path / "ray", rules=rules("decoders", "flip"))
    assert (again.rows, again.resumed) == (wanted.rows, 8)  # either engine goes on with the other's work


def test_a_killed_worker_loses_no_epoch_and_its_checkpoint_is_tried_again(cluster, slow_run, tmp_path):
    run, data = slow_run
    out, killed = tmp_path / "out", []

    def kill_one(done, total):
        if 40 < done < total - 40 and not killed and (living := workers()):
            killed.append((living[0], {p: p.stat().st_mtime_ns for p in out.glob("*.parquet")}))
            os.kill(living[0], signal.SIGKILL)

    there = on(cluster, 2)
    report = sweep(run, data, out, rules=rules(), engine="ray", cluster=there, progress=kill_one)
    assert len(killed) == 1, "no worker was seen"
    assert all(path.stat().st_mtime_ns == then for path, then in killed[0][1].items())
    assert report.failed == ()
    assert report.rows == sweep(run, data, tmp_path / "local", rules=rules()).rows


def test_a_lost_machine_loses_no_epoch(cluster, slow_run, tmp_path):
    run, data = slow_run
    third = cluster.add_node(num_cpus=2)
    out, lost = tmp_path / "out", []

    def lose(done, total):
        if done > 40 and not lost:
            lost.append(done)
            cluster.remove_node(third, allow_graceful=False)

    there = on(cluster, 6)  # as many as all three have CPUs
    report = sweep(run, data, out, rules=rules(), engine="ray", cluster=there, progress=lose)
    assert lost
    assert report.failed == ()
    assert report.rows == sweep(run, data, tmp_path / "local", rules=rules()).rows


def test_a_checkpoint_whose_workers_always_end_is_passed_over(cluster, tmp_path):
    adapter = tmp_path / "code" / "own.py"
    adapter.parent.mkdir()
    text = Path(painted.__file__).read_text()
    # Ends its own process at epoch 2, whose shift is 2; but not where the sweep is planned.
    fatal = "        if round(float(self.shift)) == 2:\n            import os\n\n            os._exit(7)\n"
    adapter.write_text(text.replace("        time.sleep", fatal + "        time.sleep"))
    run, data = write_run(tmp_path / "run"), painted.write_data(tmp_path / "data", 4)
    own = rules().__class__(batch_size=4, opening={"adapter": str(adapter)})
    there = on(cluster, 2)
    report = sweep(run, data, tmp_path / "out", rules=own, engine="ray", cluster=there)
    assert [row["epoch"] for row in report.rows] == [1, 10]
    assert [one.checkpoint for one in report.failed] == ["epoch_2.pth"]
    assert "its workers ended 3 times" in report.failed[0].reason


def test_a_cancelled_sweep_is_resumed_by_the_other_engine(cluster, slow_run, tmp_path):
    run, data = slow_run
    out, reached = tmp_path / "out", []
    with pytest.raises(Cancelled):
        sweep(
            run, data, out, rules=rules(), engine="ray", cluster=on(cluster, 2),
            progress=lambda done, total: reached.append(done), cancelled=lambda: reached[-1:] > [60],
        )  # fmt: skip
    report = sweep(run, data, out, rules=rules())
    assert report.resumed >= 1
    assert report.rows == sweep(run, data, tmp_path / "local", rules=rules()).rows


class Payload:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_of_a_checkpoint_runs_in_a_worker(cluster, tmp_path):
    touched = tmp_path / "touched"
    run, data = write_run(tmp_path / "run"), painted.write_data(tmp_path / "data", 4)
    with zipfile.ZipFile(run / "epoch_2.pth") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(run / "epoch_2.pth", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, pickle.dumps(Payload(touched)) if name.endswith("data.pkl") else content)
    report = sweep(run, data, tmp_path / "out", rules=rules(), engine="ray", cluster=on(cluster, 1))
    assert [row["epoch"] for row in report.rows] == [1, 10]
    assert [one.checkpoint for one in report.failed] == ["epoch_2.pth"]
    assert not touched.exists()


def test_the_verb_sweeps_on_a_cluster_at_an_address(cluster, tmp_path):
    run, data = write_run(tmp_path / "run"), painted.write_data(tmp_path / "data", 4)
    words = ["sweep", run, "--data", data, "--adapter", painted.__file__, "--engine", "ray"]
    words += ["--address", cluster.address, "--workers", "2", "--patience", PATIENCE]
    words += ["--out", tmp_path / "out", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "workbench", *map(str, words)], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["done"] == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_verb_leaves_no_process_of_ray_and_is_resumed(slow_run, tmp_path, number):
    run, data = slow_run
    out = tmp_path / "out"
    words = ["sweep", run, "--data", data, "--adapter", painted.__file__, "--batch-size", "4"]
    words += ["--patience", PATIENCE]
    command = [sys.executable, "-m", "workbench", *map(str, words), "--out", str(out)]
    # A Ray of its own: how it ends is what this is about. A mark in its environment tells its processes.
    mark = f"SWEEP_TEST={tmp_path}"
    environment = {**os.environ, "SWEEP_TEST": str(tmp_path)}
    process = subprocess.Popen(
        [*command, "--engine", "ray", "--workers", "1"], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    until(lambda: len(list(out.glob("*.parquet"))) >= 2, PATIENCE, seen=process.poll)
    process.send_signal(number)
    text, err = process.communicate(timeout=120)
    if number == signal.SIGKILL:
        assert process.returncode == -9
    else:
        assert (process.returncode, text) == (128 + number, ""), err
        assert err.strip().splitlines()[-1].endswith("the same command goes on with it")
        assert "Traceback" not in err
    until(lambda: not marked(mark), 90, seen=lambda: marked(mark))
    done = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["resumed"] >= 2
    assert facts["table"] == [dict(row) for row in sweep(run, data, tmp_path / "local", rules=rules()).rows]


def marked(mark):
    """Process ids and names of those whose environment holds the mark, zombies left out."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (place / "environ").read_bytes():
                found.append((place.name, (place / "comm").read_text().strip()))
        except OSError:  # it has just ended, or is somebody else's
            continue
    return found


@pytest.mark.parametrize("kind", ["closed", "silent", "nonsense"])
def test_an_address_that_does_not_answer_is_one_sentence_in_bounded_time(tmp_path, kind):
    run, data = write_run(tmp_path / "run"), painted.write_data(tmp_path / "data", 4)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if kind == "silent":  # accepts, and never says a word
            silent.listen()
        address = "no-address" if kind == "nonsense" else f"127.0.0.1:{silent.getsockname()[1]}"
        words = ["sweep", run, "--data", data, "--adapter", painted.__file__, "--engine", "ray"]
        words += ["--address", address, "--patience", "15", "--out", tmp_path / "out"]
        done = subprocess.run(
            [sys.executable, "-m", "workbench", *map(str, words)], cwd=ROOT, capture_output=True, text=True,
            check=False, timeout=PATIENCE,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"workbench: --address {address}: no Ray cluster answers there")
    assert "Traceback" not in done.stderr
    until(lambda: not list((tmp_path / "out").glob("*.parquet")))
