"""What the app keeps on disk may be damaged or left half-made: it is named, removed and made anew."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from apps.server.comparison import Asked
from apps.server.context import Context
from apps.server.settings import Settings
from tests.waiting import until


@pytest.fixture
def cached(tmp_path, painted):
    """A context whose only computation is there, and the folder of it."""
    painted.write_checkpoint(tmp_path / "root" / "run" / "epoch_1.pth", 1, 0)
    data = painted.write_data(tmp_path / "data", 4)
    settings = Settings(
        root=tmp_path / "root", data=(data,), cache=tmp_path / "cache",
        adapter=Path(__file__).parent / "painted.py",
    )  # fmt: skip
    found = Context.of(settings)
    computed(found)
    yield settings, next(path for path in found.store.folder.iterdir())
    found.jobs.close()


def computed(context):
    asked = Asked("run", "painted.json")
    context.computing.begin(asked)
    job = context.jobs.latest(asked.key)
    until(lambda: job is None or not job.alive, 20)
    return job


@pytest.mark.parametrize("name", ["facts.json", "predictions.parquet", "to_image.npy"])
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: bytes(len(b))])
def test_a_damaged_file_is_named_and_made_anew(cached, name, damage, caplog):
    settings, folder = cached
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    again = Context.of(settings)
    try:
        with caplog.at_level(logging.WARNING, "workbench"):
            job = computed(again)
        assert f"{name} is damaged" in caplog.text
        assert job is None or job.state != "failed"
        assert path.stat().st_size == len(whole)
    finally:
        again.jobs.close()


def test_half_made_folders_of_killed_processes_go_at_the_next_start(cached):
    from workbench.core.files import of_this_process

    settings, folder = cached
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    name = of_this_process("building-")
    left = folder.parent / name.replace(f"-{os.getpid()}-", f"-{dead.pid}-x")
    used = folder.parent / f"{name}y"
    left.mkdir()
    used.mkdir()
    again = Context.of(settings)
    again.jobs.close()
    assert used.is_dir()
    assert not left.exists()
