"""Files that are replaced while the app serves them: no answer for the old one is shown as the new one's."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from apps.server.comparison import Asked
from apps.server.context import Context
from apps.server.settings import Settings
from tests.waiting import until
from workbench.checkpoints.model_code import base_files
from workbench.core.job import Job, version_of


@pytest.fixture
def served(tmp_path, painted):
    """A context over one run of one epoch and a set of four images."""
    settings = painted.one_run(tmp_path)
    found = Context.of(settings)
    yield found
    found.jobs.close()


def replaced(path: Path, write) -> None:
    """Put a file in the place of another whose time of change is the same, as `cp -p` and `tar` do."""
    status = path.stat()
    new = path.parent.parent.parent / "new" / path.name  # torch writes the name into the file
    new.parent.mkdir(exist_ok=True)
    write(new)
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(path)
    assert path.stat().st_size == status.st_size
    assert path.stat().st_mtime_ns == status.st_mtime_ns


def test_a_file_of_equal_size_and_time_has_another_version(tmp_path):
    path = tmp_path / "root" / "run" / "a.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"old")
    old = version_of(path)
    assert version_of(path) == old
    replaced(path, lambda new: new.write_bytes(b"new"))
    assert version_of(path) != old


def shifts(context):
    """How far right of the truth each epoch's predictions of the set lie, in pixels, as Compare has them."""
    asked = Asked("run", "painted.json")
    context.computing.begin(asked)
    job = context.jobs.latest(asked.key)
    until(lambda: job is None or not job.alive, 30)
    assert job is None or job.state == "done", job.error
    _, blocks = context.comparisons.arrays(asked, [0])
    moved = blocks["predictions"][0, :, :, 0] - blocks["truth"][:, :, 0]
    return round(float(np.nanmedian(moved)))


def test_compare_shows_the_checkpoint_that_is_there(served, painted):
    assert shifts(served) == 0
    path = served.registry.epoch("run", 0).path
    replaced(path, lambda new: painted.write_checkpoint(new, 1, 5))
    assert shifts(served) == 5


def test_a_checkpoint_that_is_replaced_during_its_evaluation_is_evaluated_anew(served, painted, monkeypatch):
    """What was computed stays the old file's: it was stored under the new file's key."""
    from apps.server import output_cache

    forward, path, rounds = output_cache._forward, served.registry.epoch("run", 0).path, []

    def slow(*given):
        if not rounds:
            replaced(path, lambda new: painted.write_checkpoint(new, 1, 5))
        rounds.append(served.store.key("run", 0, "painted.json"))
        return forward(*given)

    monkeypatch.setattr(output_cache, "_forward", slow)
    assert shifts(served) == 5
    assert len(rounds) == 2


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_read_again(served, painted, monkeypatch):
    registry = served.registry
    read, path, rounds = registry.opened, registry.epoch("run", 0).path, []

    def slow(*given, **named):
        found = read(*given, **named)
        if not rounds:
            replaced(path, lambda new: painted.write_checkpoint(new, 1, 5))
        rounds.append(0)
        return found

    monkeypatch.setattr(registry, "opened", slow)
    assert shifts(served) == 5


def test_a_damaged_checkpoint_that_is_replaced_is_tried(served, painted):
    path = served.registry.epoch("run", 0).path
    path.write_bytes(b"damaged")
    asked = Asked("run", "painted.json")
    served.computing.begin(asked)
    until(lambda: not served.jobs.latest(asked.key).alive, 30)
    assert 0 in served.computing.reasons(asked)
    painted.write_checkpoint(path, 1, 5)
    served.computing.begin(asked, anew=True)
    assert shifts(served) == 5


def test_what_a_model_is_made_of_changes_its_version_and_a_log_does_not(served):
    registry, folder = served.registry, served.registry.run("run").folder
    versions = [registry.version("run", 0)]

    def differs() -> bool:
        versions.append(registry.version("run", 0))
        return versions[-1] != versions[-2]

    (folder / "log.jsonl").write_text("{}\n")
    (folder / "results.json").write_text("[]")
    assert not differs()
    for name in ("config.py", "text.npz", "config.json", "pipeline.json"):
        (folder / name).write_text("1")
        assert differs(), name
        (folder / name).write_text("2")
        assert differs(), name
    keys = [served.store.key("run", 0, "painted.json")]
    (folder / "config.py").unlink()
    assert differs()
    assert served.store.key("run", 0, "painted.json") not in keys


def test_a_changed_box_or_image_is_looked_at_anew(served):
    """The pass over a sample was found by the set's name and the sample's number alone."""
    from PIL import Image

    from apps.pages.subject import Subject, run_of
    from workbench.inspectors import get

    def looked():
        subject = Subject("run", 0, "painted.json", 0)
        return run_of(served, subject, get("overlay"))

    first = looked()
    assert looked().outputs is first.outputs
    annotations = served.registry.sets.file("painted.json")
    content = json.loads(annotations.read_text())
    content["annotations"][0]["bbox"][0] += 4
    annotations.write_text(json.dumps(content))
    second = looked()
    assert second.samples[0].box[0] == first.samples[0].box[0] + 4
    path = Path(second.samples[0].path)
    with Image.open(path) as image:
        size = image.size
    Image.new("RGB", size, "white").save(path)
    assert (looked().samples[0].image == 255).all()


def test_a_diagnosis_of_a_served_run_is_another_one_after_its_files_changed(served):
    from apps.pages.diagnose import Asked as Diagnosed

    folder = served.registry.run("run").folder

    def key(**more):
        return Diagnosed((folder,), ("run",), **more).key()

    keys = [key(), key(version="1"), key(version="2")]
    (folder / "log.jsonl").write_text("{}\n")
    keys.append(key())
    (folder / "epoch_1.pth").write_bytes(b"damaged")
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key() == keys[-1]


def test_an_annotation_file_that_becomes_a_link_out_of_its_folder_is_not_read(tmp_path, painted):
    from apps.server.data_sets import DataSets
    from apps.server.folders import Refused

    path = painted.write_data(tmp_path / "data", 2)
    elsewhere = painted.write_data(tmp_path / "elsewhere", 3)
    named, found = DataSets((path,)), DataSets((tmp_path / "data",))
    (identity,) = (one for one in found.ids() if one.endswith("painted.json"))
    assert len(found.get(identity)) == 2
    path.unlink()
    path.symlink_to(elsewhere)
    for ask in (found.get, found.version, found.skeleton, found.notes):
        with pytest.raises(Refused, match="leads out"):
            ask(identity)
    assert len(named.get("painted.json", whole=True)) == 3  # its user chose this very name


def test_an_adapter_that_is_edited_while_it_is_served_is_opened_again(tmp_path, painted):
    painted.write_checkpoint(tmp_path / "root" / "run" / "epoch_1.pth", 1, 0)
    adapter = tmp_path / "mine.py"
    adapter.write_text("def load(checkpoint, device):\n    raise ValueError('not yet')\n")
    context = Context.of(Settings(root=tmp_path / "root", cache=tmp_path / "cache", adapter=adapter))
    registry = context.registry
    try:
        assert "not yet" in registry.described(registry.run("run")).result().reason
        mended = Path(painted.__file__).read_text()
        adapter.write_text(mended)
        assert registry.described(registry.run("run")).result().skeleton is not None
        first = registry.model("run", 0)
        assert registry.model("run", 0) is first
        adapter.write_text(mended + "\n")
        assert registry.model("run", 0) is not first
    finally:
        context.jobs.close()


def test_images_that_are_rewritten_are_evaluated_anew(served, monkeypatch):
    """The annotation file and the names are the same: the pixels alone are 5 to the right."""
    monkeypatch.setattr("apps.server.data_sets.PIXELS_SECONDS", 0)
    monkeypatch.setattr("apps.server.data_sets.PIXELS_REST", 0)
    assert shifts(served) == 0
    for record in served.registry.sets.get("painted.json").images.values():
        picture = cv2.imread(str(record.path), cv2.IMREAD_UNCHANGED)
        assert cv2.imwrite(str(record.path), np.roll(picture, 5, axis=1))
    assert shifts(served) == 5


def test_a_base_of_a_config_and_a_module_beside_the_adapter_change_the_version(served, tmp_path):
    registry, folder = served.registry, served.registry.run("run").folder
    (folder / "_base_").mkdir()
    for name, text in (
        ("config.py", "_base_ = ['_base_/model.py']\n"),
        ("_base_/model.py", "_base_ = './head.py'\n"),
        ("_base_/head.py", "channels = 16\n"),
        ("new_style.py", "with read_base():\n    from ._base_.decoder import *\n"),
        ("_base_/decoder.py", "beta = 1\n"),
    ):
        (folder / name).write_text(text)
    own = tmp_path / "own"
    (own / "parts").mkdir(parents=True)
    for name, text in (
        ("adapter.py", "import near\nimport parts.heads\n"),
        ("near.py", ""),
        ("parts/heads.py", ""),
    ):
        (own / name).write_text(text)
    registry.settings = dataclasses.replace(registry.settings, adapter=own / "adapter.py")
    for path in (
        *(folder / "_base_" / name for name in ("model.py", "head.py", "decoder.py")),
        own / "near.py",
        own / "parts" / "heads.py",
    ):
        before = registry.version("run", 0)
        path.write_text(f"{path.read_text()}\nedited = 1\n")
        assert registry.version("run", 0) != before, path
    # A base that was added to a base counts from then on.
    (folder / "_base_" / "more.py").write_text("width = 1\n")
    (folder / "_base_" / "head.py").write_text("_base_ = 'more.py'\n")
    before = registry.version("run", 0)
    (folder / "_base_" / "more.py").write_text("width = 2000\n")
    assert registry.version("run", 0) != before
    # One outside the served folder is neither read nor asked for its times, by whatever way it is named.
    foreign = tmp_path / "foreign.py"
    foreign.write_text("_base_ = 'own/near.py'\n")
    (folder / "_base_" / "link.py").symlink_to(foreign)
    named = [str(foreign), "_base_/link.py", "../../foreign.py"]
    (folder / "config.py").write_text(f"_base_ = {named}\n")
    assert base_files(folder / "config.py", folder) == ()
    assert base_files(folder / "_base_" / "link.py", None) == (own / "near.py",)
    assert base_files(folder / "_base_" / "link.py", folder) == ()
    before = registry.version("run", 0)
    foreign.write_text("edited = 1\n")
    assert registry.version("run", 0) == before


def test_a_log_or_config_that_becomes_a_link_while_it_is_read_is_not_shown(served, monkeypatch, tmp_path):
    """Every page that reads a text of a run: the file is looked at before it is read and afterwards."""
    import workbench.curves
    from apps.pages.curves import Logs, TrainingCurves
    from apps.pages.data import Views
    from apps.pages.overfit.choices import Choices, checked_choices, setup_of
    from apps.server.folders import Refused
    from workbench.models import fresh

    root = tmp_path / "root" / "run"
    log, config = root / "run.log.json", root / "config.py"
    row = '{"mode": "train", "epoch": 1, "iter": %d, "loss": 0.5}\n'
    texts = {log: row % 1 + row % 2, config: "model = dict(type='TopdownPoseEstimator')\n"}
    views = Views.__new__(Views)
    views.context = served
    choices = Choices(config="run/config.py", data="painted.json", config_training=True)
    logs = Logs(("run",), (), (), "")
    ways = [
        (workbench.curves, "read_logs", log, lambda: TrainingCurves(served).work(logs, Job("", "", ""))),
        (fresh, "config_in", config, lambda: views._of_run("run")),
        (fresh, "config_skeleton", config, lambda: checked_choices(served, choices)),
        (fresh, "read_model", config, lambda: setup_of(served, choices)),
    ]
    for place, name, file, ask in ways:
        for path, text in texts.items():
            path.unlink(missing_ok=True)
            path.write_text(text)
        (tmp_path / file.name).write_text(texts[file])

        def swapping(*given, file=file, **named):
            file.unlink()
            file.symlink_to(tmp_path / file.name)
            return [None, None]  # stands for what was read through the link

        monkeypatch.setattr(place, name, swapping)
        with pytest.raises(Refused, match="outside"):
            ask()
        monkeypatch.undo()
