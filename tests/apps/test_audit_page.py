"""The Audit page over HTTP and in a real Chromium: the example, pasted and uploaded texts, a run's config."""

from __future__ import annotations

import csv
import io
import json
from types import SimpleNamespace

import pytest
from gradio_client import handle_file

from apps.pages.audit import Audit
from apps.pages.report_section import printing
from tests.apps.client import code_in, connected, saved
from tests.apps.conftest import started

pytestmark = pytest.mark.long

YAML = "training:\n  batch_size: 8\n  learning_rate: 2.0e-4\nmodel:\n  input_size: [256, 192]\n"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The built-in runs, whose checkpoints hold a config."""
    from apps.server.settings import Settings
    from workbench.checkpoints.demo import root

    settings = Settings(root=root(), port=0, cache=tmp_path_factory.mktemp("cache"))
    with started(settings) as (where, _):
        yield where


@pytest.fixture(scope="module")
def api(demo):
    return connected(demo)


def shown(api, **asked):
    """Sentence, figure, details, findings."""
    given = {"config": "example", "against": "", "devices": None, "file": None, "text": "", **asked}
    return api.predict(*given.values(), "", api_name="/audit")[1:5]


def test_the_example_shows_its_findings_and_they_are_saved_and_copied(api, demo):
    line, figure, details, findings = shown(api)
    assert "against sapiens-1b-coco: 2 errors, 9 warnings" in line
    assert "codec.input_size" in findings
    assert "(768, 1024)" in findings
    assert "facebookresearch/sapiens@3e829ac" in findings
    assert figure is not None
    compile(code_in(details), "audit", "exec")
    key = details.split('data-state="')[1].split('"')[0]
    facts = json.loads(saved(demo, "audit", "audit", "json", key))
    assert facts["recipe"] == "sapiens-1b-coco"
    assert set(facts["findings"][0]) >= {"severity", "key", "found", "expected", "why", "source", "fix"}
    rows = list(csv.DictReader(io.StringIO(saved(demo, "audit", "audit", "csv", key))))
    assert len(rows) == len(facts["findings"])


def test_a_pasted_config_is_audited_against_the_chosen_recipe(api):
    line, *_, findings = shown(api, text=YAML, against="sapiens-1b-coco")
    assert "against sapiens-1b-coco" in line
    assert "training.batch_size" in findings
    assert "width" in findings


def test_the_code_of_the_example_prints_its_findings(capsys):
    section = Audit(SimpleNamespace(jobs=None), [])
    exec(printing(section.code(section.asked())), {})
    out = capsys.readouterr().out
    assert "against sapiens-1b-coco" in out.splitlines()[0]
    assert "codec.input_size" in out


def test_an_uploaded_markdown_file_is_judged(api, tmp_path):
    path = tmp_path / "audit.md"
    path.write_text("Of sapiens_1b-210e_coco-1024x768.py:\n\n- Hungarian matching\n- batch size of 64\n")
    line, *_, findings = shown(api, file=handle_file(str(path)))
    assert "1 right, 1 wrong" in line
    assert "greedy, by score" in findings


def test_the_config_inside_a_run_is_audited(api):
    line, *_, findings = shown(api, config="rtmpose-demo", against="rtmpose-m-ap10k")
    assert "(config inside) against rtmpose-m-ap10k" in line
    assert "model.backbone.widen_factor" in findings


def test_what_cannot_be_audited_is_one_sentence_and_nothing_runs(api, tmp_path):
    for asked, words in (
        ({"text": "import os\nos.system('touch pwned')"}, "not allowed"),
        ({"text": YAML, "against": "sapien-1b"}, "nearest: sapiens-1b-coco"),
        ({"text": "colour: blue"}, "expected a training config"),
        ({"config": "absent"}, "no run"),
    ):
        line, *_ = shown(api, **asked)
        assert words in line, line
        assert "wb-" in line
    assert not (tmp_path / "pwned").exists()


def test_the_page_opens_with_the_example_and_its_choices_are_in_the_link(demo, tab):
    page = tab()
    page.goto(f"{demo}audit", wait_until="domcontentloaded")
    page.wait_for_selector("#wb-audit-findings tr.aud-error", timeout=60_000)
    assert "codec.input_size" in page.text_content("#wb-audit-findings")
    page.get_by_label("reference recipe", exact=True).click()
    page.get_by_role("option", name="Sapiens 2B, COCO, 1024x768", exact=True).click()
    page.wait_for_function(
        "document.querySelector('#wb-audit-line').textContent.includes('sapiens-2b-coco')", timeout=90_000
    )
    page.wait_for_function("location.search.includes('against=sapiens-2b-coco')")
    page.reload()
    page.wait_for_function(
        "document.querySelector('#wb-audit-line')?.textContent.includes('sapiens-2b-coco')", timeout=60_000
    )
    page.get_by_label("devices (empty: the recipe's)", exact=True).fill("4")
    page.keyboard.press("Tab")
    page.wait_for_function("location.search.includes('devices=4')", timeout=60_000)
    page.get_by_text("A config of your own: upload a file").click()
    own = {"name": "own.py", "mimeType": "text/plain", "buffer": b"train_cfg = dict(max_epochs=5)"}
    page.locator("#wb-audit-file input[type=file]").set_input_files(own)
    page.wait_for_function("location.search.includes('config=your-own')", timeout=60_000)
    page.reload()
    page.get_by_text("a link holds no file: upload it again").wait_for(timeout=60_000)
