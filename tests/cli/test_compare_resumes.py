"""workbench compare --out: a call that was stopped goes on with the first epoch that is missing."""

from __future__ import annotations

import json

import pytest

import workbench.evaluation
from workbench.checkpoints.demo import demo_checkpoints
from workbench.data import builtin


@pytest.fixture
def small(tmp_path):
    """Three images of a built-in set as a json of their own."""
    scenes = builtin("scenes-val")
    few = scenes.raw["images"][:3]
    ids = {entry["id"] for entry in few}
    raw = {
        **scenes.raw,
        "images": [{**e, "file_name": str(scenes.images[e["id"]].path.name)} for e in few],
        "annotations": [a for a in scenes.raw["annotations"] if a["image_id"] in ids],
    }
    (tmp_path / "small.json").write_text(json.dumps(raw))
    return tmp_path / "small.json", scenes.images[few[0]["id"]].path.parent


@pytest.fixture
def predicted(monkeypatch):
    """How often a model predicted a whole set; `stop_at` interrupts one of the calls."""
    calls = {"count": 0, "stop_at": None}
    real = workbench.evaluation.predict

    def counted(*args, **options):
        calls["count"] += 1
        if calls["count"] == calls["stop_at"]:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(workbench.evaluation, "predict", counted)
    return calls


def test_a_stopped_comparison_goes_on_and_gives_the_same_figures(workbench, small, predicted, tmp_path):
    data, images = small
    files = [demo_checkpoints()[0], demo_checkpoints()[-1]]
    words = ["compare", *files, "--data", data, "--images", images, "--resamples", 20, "--json"]
    whole = json.loads(workbench(*words)[1])
    predicted.update(count=0, stop_at=2)
    out = ["--out", tmp_path / "kept"]
    workbench(*words, *out)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [f"{files[0].stem}.parquet"]
    predicted.update(count=0, stop_at=None)
    resumed = json.loads(workbench(*words, *out)[1])
    assert (predicted["count"], resumed.pop("resumed"), whole.pop("resumed")) == (1, [files[0].stem], [])
    assert resumed == whole
    # Other boxes are other predictions, and a damaged file is none.
    raw = json.loads(data.read_text())
    raw["annotations"][0]["bbox"][2] += 1
    data.write_text(json.dumps(raw))
    predicted["count"] = 0
    assert json.loads(workbench(*words, *out)[1])["resumed"] == []
    (tmp_path / "kept" / f"{files[1].stem}.parquet").write_bytes(b"PAR1 cut off")
    assert json.loads(workbench(*words, *out)[1])["resumed"] == [files[0].stem]
    assert predicted["count"] == 3
