"""The Curves page over HTTP and in a real Chromium: runs, uploads, pasted texts; a point opens its epoch."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from apps.pages.curves import TrainingCurves
from apps.server.context import Context
from apps.server.settings import Settings
from tests.apps.client import code_in, connected, saved
from tests.apps.conftest import started
from workbench.core.job import Job

ROWS = "".join(
    json.dumps(row) + "\n"
    for e in range(1, 11)
    for row in (
        {"lr": 0.001, "loss": 1 / e, "epoch": e, "iter": 20, "step": 20 * e},
        {"coco/AP": 0.1 * e if e <= 6 else 1.2 - 0.1 * e, "coco/AR": 0.5, "step": e},
    )
)
TABLE = "| Epoch | AP |\n|---|---|\n| 1 | 10% |\n| 2 | 40% |\n| 3 | 20% |\n"


@pytest.fixture(scope="module")
def own(tmp_path_factory, painted):
    """A run of three epochs with a log, one without, one whose log is a link that leads out."""
    from apps.server.settings import Settings

    top = tmp_path_factory.mktemp("curves")
    root = top / "root"
    for name in ("logged", "silent", "linked"):
        for epoch in (1, 6, 10):
            painted.write_checkpoint(root / name / f"epoch_{epoch}.pth", epoch, 0)
    (root / "logged" / "vis_data").mkdir()
    (root / "logged" / "vis_data" / "scalars.json").write_text(ROWS)
    (top / "secret.log.json").write_text(ROWS)
    (root / "linked" / "a.log.json").symlink_to(top / "secret.log.json")
    data = painted.write_data(top / "data", 3)
    adapter = Path(painted.__file__)
    settings = Settings(root=root, data=(data,), port=0, cache=top / "cache", adapter=adapter)
    with started(settings, "curves") as (where, _):
        yield where


@pytest.fixture(scope="module")
def api(own):
    return connected(own)


def shown(api, **asked):
    """Sentence, figure, details, flags, series on offer."""
    given = {"runs": [], "series": [], "files": None, "text": "", **asked}
    return api.predict(*given.values(), "", api_name="/curves")[1:6]


def test_a_run_shows_its_curves_its_flags_and_where_they_open(api, own):
    line, figure, details, flags, names = shown(api, runs=["logged"])
    assert "best AP 0.600 at epoch 6, last 0.200 at 10" in line
    assert "coco/AP" in str(names)
    assert '<a href="/?run=logged&amp;epochs=6">epoch 6</a>' in flags
    assert "loss falls while the metric does not" in flags
    traces = json.loads(figure["plot"])["data"] if "plot" in figure else figure["value"]["plot"]
    assert "epochs" in json.dumps(traces)
    compile(code_in(details), "curves", "exec")
    key = details.split('data-state="')[1].split('"')[0]
    facts = json.loads(saved(own, "curves", "curves", "json", key))
    assert {flag["kind"] for flag in facts["flags"]} >= {"best is not last"}
    rows = list(csv.DictReader(io.StringIO(saved(own, "curves", "curves", "csv", key))))
    assert sum(row["name"] == "coco/AP" for row in rows) == 10


def test_a_pasted_table_is_shown_alone_and_beside_a_run(api):
    assert "best AP 0.400 at epoch 2" in shown(api, text=TABLE)[0]
    both = shown(api, runs=["logged"], text=TABLE)
    assert "logged" in both[0]
    assert "pasted" in both[0]


def test_uploads_are_called_by_their_own_names(tmp_path):
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        files.append(tmp_path / name / "metrics.csv")  # of such logs the folder is the run's, but for uploads
        files[-1].write_text("epoch,val_AP\n1,0.1\n2,0.2\n")
    context = Context.of(Settings(root=tmp_path, cache=tmp_path / "cache"))
    section = TrainingCurves(context)
    report = section.work(section.asked(files=list(map(str, files))), Job("1", "key", "title"))
    assert [run.title for run in report.runs] == ["metrics", "metrics (2)"]


def test_what_cannot_be_shown_is_one_sentence(api):
    for asked, words in (
        ({}, "choose a run with a log"),
        ({"runs": ["silent"]}, "no training log lies beside"),
        ({"runs": ["linked"]}, "no training log lies beside"),
        ({"runs": ["absent"]}, "no run"),
        ({"text": "nothing here"}, "no figures by epoch"),
        ({"runs": ["logged"], "series": ["PCK"]}, "no series"),
    ):
        line, *_ = shown(api, **asked)
        assert words in line, line
        assert "wb-" in line


@pytest.mark.long
def test_a_point_opens_its_epoch_in_compare(own, tab):
    page = tab()
    page.goto(f"{own}curves", wait_until="domcontentloaded")
    page.wait_for_selector("#wb-curves-figure .js-plotly-plot .point", timeout=60_000)
    page.wait_for_function("location.search.includes('runs=logged')")
    plot = "document.querySelector('#wb-curves-figure .js-plotly-plot')"
    page.wait_for_function(f"{plot}._ev && {plot}._ev.listenerCount('plotly_click') > 0")
    data = f"{plot}.data.find((t) => t.name.startsWith('coco/AP'))"
    page.evaluate(f"{plot}.emit('plotly_click', {{points: [{{x: 7, data: {data}}}]}})")
    assert "No checkpoint of epoch 7 is served" in page.text_content("#wb-curves-click")
    page.evaluate(f"{plot}.emit('plotly_click', {{points: [{{x: 6, data: {data}}}]}})")
    page.wait_for_url("**/?run=logged&epoch=6**")
    page.wait_for_selector(".cmp-panes")
