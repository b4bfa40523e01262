"""What the app keeps on disk may be damaged or left half-made: it is named, removed and made anew."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from apps.server.comparison import Asked
from apps.server.context import Context
from tests.waiting import until
from workbench.core.files import remove_entry
from workbench.evaluation import Predictions


@pytest.fixture
def cached(tmp_path, painted):
    """A context whose only computation is there, and the folder of it."""
    settings = painted.one_run(tmp_path)
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


# What others may put into the cache: facts of every type, arrays and rows of something else, links.
WRONG = [..., None, -1, 1e308, "x", [], [[]], {}]
FACTS = ["judge", "kind", "whole", "decoder", "decoders", "input_size", "udp", "split_ratio", "indices"]
MEANT = {"split_ratio": [0], "indices": [[3, 2, 1, 0], [0], [0, 1, 2, 99]]}


@pytest.fixture(scope="module")
def kept(tmp_path_factory, painted):
    """A context whose only computation is there, the folder of it, and a copy of that."""
    place = tmp_path_factory.mktemp("kept")
    settings = painted.one_run(place)
    found = Context.of(settings)
    computed(found)
    (folder,) = found.store.folder.iterdir()
    shutil.copytree(folder, place / "whole")
    yield found.store, folder, place / "whole"
    found.jobs.close()


@pytest.fixture
def stored(kept):
    """The folder, whole, and what the app finds there, asked anew."""
    store, folder, whole = kept
    remove_entry(folder)
    shutil.copytree(whole, folder)

    def ask():
        store._open.clear()
        return store.stored("run", 0, "painted.json")

    assert ask() is not None
    return folder, ask


@pytest.mark.parametrize("name", FACTS)
def test_facts_that_no_forward_pass_leaves_are_made_anew(stored, name):
    folder, ask = stored
    path = folder / "facts.json"
    whole = json.loads(path.read_text())
    wrong = [w for w in WRONG if not (name in ("kind", "decoder", "decoders") and w in whole_values(name))]
    for value in [*wrong, *MEANT.get(name, ())]:
        facts = {n: v for n, v in {**whole, name: value}.items() if v is not ...}
        shutil.copytree(folder.parent.parent / "whole", folder, dirs_exist_ok=True)
        path.write_text(json.dumps(facts))
        assert ask() is None, value
        assert not folder.exists()


def whole_values(name):
    """Values that other models leave."""
    return {"kind": (None,), "decoder": ("x",), "decoders": ([],)}[name]


def an_array(change):
    def put(path):
        np.save(path, change(np.load(path)))

    return put


def pickled(path):
    np.save(path, np.array([print], object), allow_pickle=True)


def archived(path):
    np.savez(path.with_suffix(".npz"), a=np.load(path))
    path.with_suffix(".npz").rename(path)


def a_link(path):
    path.rename(path.parent.parent.parent / f"foreign-{path.name}")
    path.symlink_to(path.parent.parent.parent / f"foreign-{path.name}")


def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def a_folder(path):
    path.unlink()
    path.mkdir()


def fewer_rows(path):
    rows, protocol = Predictions.from_parquet(path)
    rows.take(np.arange(1)).to_parquet(path, protocol=protocol)


def other_images(path):
    rows, protocol = Predictions.from_parquet(path)
    replace(rows, image_id=rows.image_id[::-1].copy()).to_parquet(path, protocol=protocol)


def fewer_keypoints(path):
    rows, protocol = Predictions.from_parquet(path)
    few = replace(rows, keypoints=rows.keypoints[:, :2], scores=rows.scores[:, :2])
    few.to_parquet(path, protocol=protocol)


ARRAYS = [
    an_array(lambda a: a[:1]), an_array(lambda a: np.float32(1)),
    an_array(lambda a: a.astype("U3")), an_array(lambda a: a.astype(int)),
    an_array(lambda a: a.reshape(len(a), -1)),
    an_array(lambda a: np.zeros(4, [("a", "f4")])),
    pickled, archived, a_link, a_pipe,
]  # fmt: skip
HARMS = [
    *[(name, harm) for name in ("heatmaps.npy", "to_image.npy") for harm in ARRAYS],
    ("to_image.npy", an_array(lambda a: a * np.nan)),
    *[("predictions.parquet", harm) for harm in (fewer_rows, other_images, fewer_keypoints)],
    *[(name, harm) for name in ("predictions.parquet", "facts.json") for harm in (a_link, a_pipe, a_folder)],
    *[(name, Path.unlink) for name in ("predictions.parquet", "facts.json")],
    ("", a_link),
]


@pytest.mark.parametrize(("name", "harm"), HARMS)
def test_a_file_of_something_else_or_a_link_in_the_cache_is_not_read_and_made_anew(stored, name, harm):
    folder, ask = stored
    harm(folder / name)
    assert ask() is None
    assert not os.path.lexists(folder)  # so that it can be written again
    foreign = list(folder.parent.parent.glob("foreign-*"))
    assert harm is not a_link or all(path.exists() for path in foreign)
    for path in foreign:
        remove_entry(path)


def test_a_computation_that_vanishes_while_the_app_runs_is_made_anew(kept, stored):
    folder, _ = stored
    (folder / "predictions.parquet").unlink()
    assert kept[0].stored("run", 0, "painted.json") is None
    assert not folder.exists()
