"""The Diagnose page: files are dropped, the answer and its evidence are shown, the report is saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from apps.pages.diagnose import CONTROLS
from tests.apps.client import connected
from tests.apps.conftest import started
from tests.waiting import when
from workbench.checkpoints.demo import demo_checkpoints, demo_run

PATIENCE = 90_000


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server over a folder with one run whose log is another run's."""
    from apps.server.settings import Settings

    run = tmp_path_factory.mktemp("diagnosed") / "my-run"
    (run / "vis_data").mkdir(parents=True)
    (run / "epoch_40.pth").write_bytes(demo_checkpoints()[-1].read_bytes())
    (run / "vis_data" / "scalars.json").write_bytes(other_log().read_bytes())
    settings = Settings(root=run.parent, port=0, cache=tmp_path_factory.mktemp("cache"))
    with started(settings, "diagnose") as (where, _):
        yield where


@pytest.fixture(scope="module")
def api(served):
    return connected(served)


def other_log() -> Path:
    return demo_run("rtmpose-text-base") / "vis_data" / "scalars.json"


def answered(api, key):
    return when(lambda: api.predict(key, api_name="/diagnose_watch"), lambda seen: seen[1], 120)[1]


def test_a_run_of_the_folder_is_diagnosed_and_its_facts_are_saved(api):
    key, _ = api.predict(None, "my-run", "no data set", "", "", "files", "", "", api_name="/diagnose")
    answer = answered(api, key)
    assert "log of another run" in answer
    facts = json.loads(api.predict(key, api_name="/diagnose_json"))
    assert [finding["cause"] for finding in facts["findings"]] == ["log of another run"]
    page = api.predict(key, api_name="/diagnose_html")
    assert page.startswith("<!doctype html>")
    notebook = json.loads(api.predict(key, api_name="/diagnose_notebook"))
    assert notebook["nbformat"] == 4


def test_a_running_diagnosis_shows_what_was_found_and_ruled_out_so_far():
    from apps.pages.diagnose import so_far_html
    from workbench.diagnosis import diagnose

    seen = []
    report = diagnose(
        demo_checkpoints()[-1],
        level="files",
        testing=lambda cause, answers: seen.append((cause.name, so_far_html(answers))),
    )
    assert seen[0][1] == ""
    assert [name for name, _ in seen].index("weights that are not finite") > 0
    last = seen[-1][1]
    assert "Found so far" not in last
    assert f"weights that are not finite: {report.ruled_out['weights that are not finite']}" in last


def test_the_page_says_what_to_do_with_the_run_that_is_chosen(api):
    seen = api.predict("", api_name="/diagnose_watch")
    assert "Press Diagnose to find out why the run chosen above is worse than expected" in seen[0]


def test_a_pasted_error_message_is_explained(api):
    message = "RuntimeError: mat1 and mat2 shapes cannot be multiplied (136x8 and 64x256)"
    files, none = "the files dropped here", "no data set"
    key, _ = api.predict(None, files, none, "", "", "files", "", message, api_name="/diagnose")
    text = answered(api, key)
    assert "flatten is missing before a linear layer" in text
    # What else could be given is named by the page's controls, not by options of the command line.
    assert "(above: data set)" in text
    assert "choose the tests" in text
    assert not any(option in text for option in CONTROLS)


def test_dropped_files_count_whatever_run_is_chosen(api, tmp_path, monkeypatch):
    from gradio_client import handle_file

    files = [handle_file(str(other_log()))]
    key, _ = api.predict(files, "my-run", "no data set", "", "", "files", "", "", api_name="/diagnose")
    assert "no checkpoint was given" in answered(api, key)
    # The notebook names the files as their user does, and runs beside them.
    (tmp_path / other_log().name).write_bytes(other_log().read_bytes())
    monkeypatch.chdir(tmp_path)
    cells = json.loads(api.predict(key, api_name="/diagnose_notebook"))["cells"]
    made: dict[str, Any] = {}
    for cell in cells[1:4]:
        if cell["cell_type"] == "code":
            exec(cell["source"], made)
    assert made["report"].given == f"log {other_log().name}"
    assert "workbench-uploads" not in api.predict(key, api_name="/diagnose_html")
    chosen = api.predict(api_name="/diagnose_dropped")
    assert list(chosen)[:3] == ["the files dropped here", "no data set", ""]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((None, "the files dropped here", "no data set", "", "", "files", "", ""), "drop at least one file"),
        ((None, "my-run", "no data set", "", "AP=much", "files", "", ""), "--claim: expected NAME=VALUE"),
        ((None, "my-run", "no data set", "", "", "files", "soon", ""), "--budget: expected a time"),
        (
            (None, "the files dropped here", "no data set", "", "", "files", "", "hello"),
            "expected the last line",
        ),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(api, values, words):
    with pytest.raises(Exception, match=words):
        api.predict(*values, api_name="/diagnose")


def test_an_adapter_that_is_dropped_is_not_run(api, tmp_path):
    from gradio_client import handle_file

    mark = tmp_path / "ran"
    path = tmp_path / "adapter.py"
    path.write_text(f"open({str(mark)!r}, 'w')\ndef load(checkpoint, device):\n    pass\n")
    files = [handle_file(str(path)), handle_file(str(other_log()))]
    key, _ = api.predict(
        files, "the files dropped here", "no data set", "", "", "files", "", "", api_name="/diagnose"
    )
    assert "name it with --adapter" in answered(api, key)
    assert not mark.exists()


@pytest.mark.browser
def test_files_are_dropped_and_the_report_is_saved(tab, served):
    page = tab()
    page.goto(f"{served}diagnose")
    # The page opens with what the files of the first run tell.
    page.wait_for_function(
        "document.querySelector('#dgn-answer')?.innerText.includes('what the files alone show')",
        timeout=PATIENCE,
    )
    assert "log of another run" in page.inner_text(".dgn-report")
    page.set_input_files("#dgn-files input[type=file]", [str(demo_checkpoints()[-1]), str(other_log())])
    shown = "document.querySelector('#dgn-files').innerText.includes('scalars')"
    page.wait_for_function(shown, timeout=PATIENCE)
    page.wait_for_function("!document.querySelector('.dgn-report')", timeout=PATIENCE)
    page.click("#dgn-start")
    # What was found so far is shown in the same place while causes are still tested.
    shown_cause = "document.querySelector('.dgn-report')?.innerText.includes('log of another run')"
    page.wait_for_function(shown_cause, timeout=PATIENCE)
    with page.expect_download(timeout=PATIENCE) as saved:
        page.click("#dgn-html")
    text = Path(saved.value.path()).read_text()
    assert saved.value.suggested_filename == "diagnosis.html"
    assert "log of another run" in text


def test_a_link_chooses_run_and_data(api):
    chosen = api.predict('["my-run", "scenes-val", null]', api_name="/diagnose_linked")
    assert list(chosen) == ["my-run", "scenes-val", ""]
    alone = api.predict('[null, "scenes-val", null]', api_name="/diagnose_linked")
    assert alone[1] == "scenes-val"
