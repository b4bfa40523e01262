"""workbench sweep: its answer, its refusals, and that no kill changes its table."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.apps import painted
from tests.evaluation.sweeps.conftest import write_run
from tests.waiting import until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def words(tmp_path):
    """Four batches an epoch."""
    run, data = write_run(tmp_path / "run"), painted.write_data(tmp_path / "data", 8)
    return ("sweep", run, "--data", data, "--adapter", painted.__file__, "--batch-size", "2")


def started(words, out):
    command = [sys.executable, "-m", "workbench", *map(str, words), "--out", str(out), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def slow_run(tmp_path):
    """A quarter of a second for each epoch's 8 pictures, in a network that waits."""
    run = write_run(tmp_path / "slow", delay=0.03, epochs=[(n, 7 - n) for n in range(1, 7)])
    data = painted.write_data(tmp_path / "data", 8)
    return ("sweep", run, "--data", data, "--adapter", painted.__file__, "--batch-size", "2")


def test_the_answer_names_done_failed_seconds_and_the_table(workbench, words, tmp_path):
    (words[1] / "epoch_20.pth").write_bytes(b"no checkpoint")
    code, out, err = workbench(*words, "--ablations", "flip", "--out", tmp_path / "out", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert (facts["done"], facts["resumed"]) == (3, 0)
    assert [one["checkpoint"] for one in facts["failed"]] == ["epoch_20.pth"]
    assert facts["seconds"] > 0
    assert len(facts["table"]) == 3 * len(facts["variants"])
    code, out, err = workbench(*words, "--ablations", "flip", "--out", tmp_path / "out")
    assert code == 0, err
    assert "finished by an earlier call: 3 of 3" in out
    assert "failed: epoch_20.pth: " in out


def test_the_folder_opens_in_history_compare_and_curves(workbench, words, tmp_path):
    out = tmp_path / "out"
    code, text, err = workbench(*words, "--out", out, "--json")
    assert code == 0, err
    table = json.loads(text)["table"]
    code, text, err = workbench("history", out, "--between", "1,10", "--json")
    assert code == 0, err
    assert [row["epoch"] for row in json.loads(text)["epochs"]] == [1, 2, 10]
    code, text, err = workbench("compare", out, "--data", words[3], "--resamples", "10", "--json")
    assert code == 0, err
    assert [str(row["AP"]) in text for row in table] == [True] * 3
    code, text, err = workbench("curves", out / "table.csv", "--json")
    assert code == 0, err
    assert str(table[-1]["AP"])[:6] in text


def test_without_out_the_folder_lies_in_the_run(workbench, words):
    code, _, err = workbench(*words)
    assert code == 0, err
    assert (words[1] / "sweep" / "table.csv").read_text().startswith("epoch,AP,AR\n1,")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--ablations", "flips"), "no ablation 'flips'; nearest: flip"),
        (("--engine", "slurm"), "no engine 'slurm'; nearest: "),
        (("--address", "auto"), "--address: is for --engine ray"),
        (("--limit", "0"), "--limit: expected at least 1"),
        (("--sigmas", "1,2"), "expected one number or 17, got 2"),
        (("--pose-score", "meen"), "no score rule 'meen'; nearest: mean"),
        (("--decoder", "drak"), "no decoder 'drak'"),
        (("--batch-size", "0"), "--batch-size: expected at least 1"),
        (("--data", "absent.json"), "absent.json"),
    ],
)
def test_what_cannot_be_swept_is_one_sentence_and_exit_code_2(workbench, words, more, said):
    code, out, err = workbench(*words, *more)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


def test_without_a_run_or_data_it_says_what_it_expects(workbench, tmp_path):
    for given, said in (((), "expected the folder of a run"), ((tmp_path,), "expected --data")):
        code, out, err = workbench("sweep", *given)
        assert (code, out) == (2, "")
        assert said in err
    code, _, err = workbench("sweep", tmp_path, "--data", "scenes-val")
    assert code == 2
    assert "no checkpoint in this folder" in err
    assert not (tmp_path / "sweep").exists()


def test_without_ray_the_extra_is_named(workbench, words, monkeypatch):
    from workbench.evaluation.sweeps import ray_engine

    monkeypatch.setattr(ray_engine, "find_spec", lambda name: None)
    code, out, err = workbench(*words, "--engine", "ray")
    assert (code, out) == (2, "")
    assert "pip install 'pose-workbench[ray]'" in err
    assert len(err.strip().splitlines()) == 1


# A Ray that waits for its cluster without end.
SILENT_RAY = """
import time
def is_initialized():
    return False
def init(**how):
    time.sleep(600)
"""


@pytest.mark.parametrize("address", ["ray://10.255.255.1:10001", "10.255.255.1:6379"])
def test_an_address_that_does_not_answer_is_told_before_any_model_is_opened(
    workbench, tmp_path, words, monkeypatch, address
):
    (tmp_path / "ray.py").write_text(SILENT_RAY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    out = tmp_path / "out"
    code, text, err = workbench(
        *words, "--out", out, "--engine", "ray", "--address", address, "--patience", "1"
    )
    sys.modules.pop("ray", None)
    assert (code, text) == (2, "")
    (said,) = [line for line in err.splitlines() if line.startswith("workbench: ")]
    assert f"--address {address}: no Ray cluster answers there within 1 s" in said
    assert "ray start --head" in said
    assert not list(out.glob("*"))


def finished_epochs(out):
    return len(list(out.glob("*.parquet")))


@pytest.mark.long
def test_a_killed_sweep_keeps_finished_epochs_and_ends_with_the_same_table(workbench, tmp_path):
    words, out = slow_run(tmp_path), tmp_path / "killed"
    process = started(words, out)
    until(lambda: finished_epochs(out) >= 3, seen=lambda: process.poll())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    # The newest may have been killed between its predictions and its figures: it is done again then.
    written = sorted((path.stat().st_mtime_ns, path) for path in out.glob("*.parquet"))
    assert 3 <= len(written) < 6
    code, text, err = workbench(*words, "--out", out, "--json")
    assert code == 0, err
    facts = json.loads(text)
    assert facts["resumed"] >= len(written) - 1
    assert all(path.stat().st_mtime_ns == then for then, path in written[:-1])
    _, whole, _ = workbench(*words, "--out", tmp_path / "undisturbed", "--json")
    assert facts["table"] == json.loads(whole)["table"]
    assert (out / "table.csv").read_bytes() == (tmp_path / "undisturbed" / "table.csv").read_bytes()


@pytest.mark.long
def test_a_stopped_sweep_says_so_and_keeps_the_rows_of_its_epoch(tmp_path):
    words, out = slow_run(tmp_path), tmp_path / "stopped"
    process = started(words, out)
    until(lambda: finished_epochs(out) >= 1, seen=lambda: process.poll())
    process.send_signal(signal.SIGTERM)
    text, err = process.communicate(timeout=60)
    assert (process.returncode, text) == (143, "")
    assert "the same command goes on with it" in err.strip().splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.long
def test_of_two_processes_one_is_refused_in_a_sentence_and_the_other_ends_well(workbench, tmp_path):
    words, out = slow_run(tmp_path), tmp_path / "both"
    first = started(words, out)
    until(lambda: (out / "sweep.json").is_file(), seen=lambda: first.poll())
    code, text, err = workbench(*words, "--out", out)
    assert (code, text) == (2, "")
    assert "another sweep writes into this folder" in err
    text, err = first.communicate(timeout=120)
    assert first.returncode == 0, err
    assert json.loads(text)["done"] == 6


@pytest.mark.slow
def test_a_sweep_killed_five_times_at_random_moments_ends_with_the_same_table(tmp_path):
    words, out = slow_run(tmp_path), tmp_path / "killed"
    words = (*words, "--ablations", "decoders,flip")
    begun = time.monotonic()
    whole, err = started(words, tmp_path / "undisturbed").communicate()
    lasts = time.monotonic() - begun
    moments, kills = random.Random(5), 0
    while kills < 5:
        process = started(words, out)
        try:
            process.wait(timeout=moments.uniform(0.3, 0.8) * lasts)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
        else:  # it was finished before: the next one begins anew
            for path in out.glob("epoch_[1-4].parquet"):
                path.unlink()
        process.communicate()
    process = started(words, out)
    text, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads(text)["table"] == json.loads(whole)["table"]
    assert (out / "table.csv").read_bytes() == (tmp_path / "undisturbed" / "table.csv").read_bytes()
