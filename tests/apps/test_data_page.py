"""The Data page over HTTP and in a real Chromium: findings, their annotations, what training sees."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from gradio_client import handle_file

from tests.apps.client import code_in, connected, saved
from tests.apps.conftest import started
from tests.waiting import when
from workbench.data import builtin

IMAGES = 12


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """Drawn people: one box is far too small, one annotation is there twice."""
    people = builtin("scenes-people-val")
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "images").mkdir()
    raw = json.loads(json.dumps(people.raw))
    raw["images"] = raw["images"][:IMAGES]
    ids = {image["id"] for image in raw["images"]}
    raw["annotations"] = [a for a in raw["annotations"] if a["image_id"] in ids]
    for number in ids:
        path = people.images[number].path
        shutil.copyfile(path, folder / "images" / path.name)
    raw["annotations"][5]["bbox"][2:] = [6, 6]
    raw["annotations"].append({**raw["annotations"][2], "id": 99999})
    path = folder / "people.json"
    path.write_text(json.dumps(raw))
    return path


@pytest.fixture(scope="module")
def demo(tmp_path_factory, faulty):
    from apps.server.settings import Settings
    from workbench.checkpoints.demo import root

    settings = Settings(root=root(), port=0, cache=tmp_path_factory.mktemp("cache"), data=(faulty,))
    with started(settings, "data", "curves", "errors") as (where, _):
        yield where


@pytest.fixture(scope="module")
def api(demo):
    return connected(demo)


def viewed(api, *asked):
    """Sentence, picture, details."""
    return when(
        lambda: api.predict(*asked, "", api_name="/data_views"), lambda seen: seen[1], seen="no answer"
    )[1:4]


def linted(api, data="people.json", upload=None):
    """Sentence, figure, details, findings, choice, annotations, told, picture."""
    return when(
        lambda: api.predict(data, upload, "", api_name="/data_lint"), lambda seen: seen[1], seen="no answer"
    )[1:9]


def test_findings_come_with_their_annotations_and_are_saved_and_copied(api, demo, faulty):
    line, figure, details, findings, choice, rows, message, picture = linted(api)
    assert "first:" in line
    assert "repeated poses" in findings
    assert "annotated boxes" in findings
    assert figure is not None
    assert picture is not None
    numbers = [value for _, value in choice["choices"]]
    assert rows["visible"]
    assert rows["value"]["data"][0][0] == "99999"
    assert "annotation 99999 in" in message
    compile(code_in(details), "lint", "exec")
    key = details.split('data-state="')[1].split('"')[0]
    facts = json.loads(saved(demo, "data", "lint", "json", key))
    assert facts["findings"][0]["instances"] == [99999]
    other = api.predict("people.json", None, numbers[-1], api_name="/data_instances")
    assert other[0]["data"]
    seen = api.predict("people.json", None, other[0]["data"][0][0], api_name="/data_picture")
    assert "keypoints labelled, box" in seen[0]


def test_a_healthy_set_says_what_holds(api):
    line, figure, _, findings, _, rows, message, _ = linted(api, "astronaut")
    assert "found nothing wrong" in line
    assert figure["visible"] is False  # no empty axes
    assert "What holds" in findings
    assert "--" not in findings  # what a user of the page can do, not an option of the command line
    assert "page Diagnose" in findings
    assert rows["visible"] is False  # no empty table
    assert "No finding names single annotations" in message


def test_an_uploaded_json_is_checked_without_its_images(api, faulty):
    _, _, details, findings, _, _, message, picture = linted(api, "people.json", handle_file(faulty))
    assert "repeated poses" in findings
    assert "images were not to be looked at" in findings
    assert "stands on grey" in message
    assert picture is not None
    assert "images=False" in code_in(details)


def test_what_cannot_be_shown_is_one_sentence(api, tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_text("no json")
    for asked, message in (
        (("../secret.json", None), "is not served"),
        (("nothing", None), "no data set"),
        (("people.json", handle_file(bad)), "expected JSON"),
    ):
        line = linted(api, *asked)[0]
        assert message in line
        assert "wb-" in line
    runs = tmp_path / "runs.py"
    runs.write_text(
        f"import os\nos.mkdir({str(tmp_path / 'pwned')!r})\ntrain_pipeline = [dict(type='Resize')]"
    )
    line = viewed(api, "people.json", None, "example", handle_file(runs), 1, 2, 0)[0]
    assert "wb-" in line
    assert not (tmp_path / "pwned").exists()
    line = viewed(api, "people.json", None, "example", None, 12, 32, 0)[0]
    assert "at most" in line


def test_the_training_pipeline_of_a_recipe_and_of_a_run_is_drawn(api):
    line, picture, details = viewed(api, "people.json", None, "example", None, 2, 4, 0)
    assert "8 draws" in line
    assert "half body" in line
    assert picture is not None
    assert "mirrored" in details
    line, *_ = viewed(api, "scenes-val", None, "rtmpose-demo", None, 1, 2, 0)
    assert "rtmpose-demo" in line
    assert "left out: 1 step" in line


def test_training_opens_with_the_own_config_or_says_whose_recipe_is_drawn(api):
    """The first run whose config has the set's keypoints; else an example that is called one."""
    for data, chosen in (("scenes-val", "rtmpose-demo"), ("people.json", "example")):
        offered = api.predict(json.dumps([data, *[None] * 5]), api_name="/data_chosen")[1]
        assert offered["value"] == chosen
    assert "not your own training" in viewed(api, "people.json", None, "example", None, 1, 2, 0)[0]


def test_a_link_names_the_drawing_and_numbers_out_of_range_are_the_usual_ones(api):
    """Draws of a link are those of its page: what is left out or cannot be drawn is as without a link."""

    def drawn(*words):
        link = json.dumps(["people.json", None, *words, None])
        return [one["value"] for one in api.predict(link, api_name="/data_chosen")[2:]]

    assert drawn("2", "5", "7") == [2, 5, 7]
    assert drawn(None, "5", None) == [3, 5, 0]
    assert drawn("0", "33", "-1") == [3, 8, 0]
    assert drawn("12", "32", "x") == [12, 32, 0]


def test_a_published_recipe_is_drawn_for_keypoints_of_ones_own():
    from workbench.core import Skeleton
    from workbench.recipes.demo import example_recipe
    from workbench.training.augmentation_view import trains_on

    own = Skeleton("pony", ("snout", "left hoof", "right hoof"))
    assert trains_on(example_recipe(own), own)
    assert example_recipe(own)["train_dataloader"]["dataset"]["metainfo"]["flip_indices"] == [0, 2, 1]


@pytest.mark.long
def test_the_page_opens_on_a_link_and_an_annotation_is_clicked(demo, tab):
    page = tab()
    page.goto(f"{demo}data?data=people.json", wait_until="domcontentloaded")
    page.wait_for_selector("#wb-data-findings tr.data-error", timeout=60_000)
    page.wait_for_selector("#wb-data-picture .js-plotly-plot", timeout=60_000)
    page.get_by_label("finding", exact=True).click()
    page.get_by_role("option").last.click()
    page.wait_for_function(
        "!document.querySelector('#wb-data-told').textContent.includes('99999')", timeout=90_000
    )
    cell = page.locator("#wb-data-instances [role=gridcell]").first
    number = cell.inner_text().strip()
    cell.click()
    page.wait_for_function(
        f"document.querySelector('#wb-data-told').textContent.includes('annotation {number} in')",
        timeout=90_000,
    )
    page.wait_for_selector("#wb-data-views .js-plotly-plot", timeout=90_000)
    assert "draws" in page.text_content("#wb-data-views-line")
    page.get_by_label("instances", exact=True).fill("1")
    page.get_by_label("draws of each", exact=True).fill("2")
    page.click("#wb-data-draw")
    page.wait_for_function("location.search.includes('instances=1&draws=2')", timeout=90_000)
    page.reload()
    page.get_by_text(re.compile(r"example: 2 draws|: 2 draws,")).first.wait_for(timeout=90_000)


@pytest.mark.long
@pytest.mark.parametrize(
    ("path", "upload", "own"),
    [
        ("data?data=astronaut", "#wb-data-file", "data=your-own"),
        ("curves?runs=rtmpose-demo", "#wb-curves-files", "runs=rtmpose-demo%2Cyour-own"),
        ("errors", "#wb-errors-file", "run=your-own"),
    ],
)
def test_an_upload_is_named_in_the_address_and_a_link_to_it_says_that_it_holds_none(
    demo, tab, faulty, tmp_path, path, upload, own
):
    files = {
        "#wb-data-file": faulty.read_text(),
        "#wb-curves-files": "epoch,val_AP\n1,0.1\n2,0.2\n",
        "#wb-errors-file": "[]",
    }
    page = tab()
    page.goto(f"{demo}{path}", wait_until="domcontentloaded")
    page.get_by_text(re.compile("^(Annotations|A log|A result file) of your own")).first.click()
    page.wait_for_selector(f"{upload} input[type=file]", state="attached", timeout=60_000)
    name = "metrics.csv" if "curves" in upload else "own.json"
    given = {"name": name, "mimeType": "text/plain", "buffer": files[upload].encode()}
    page.locator(f"{upload} input[type=file]").set_input_files(given)
    page.wait_for_function(f"location.search.includes({own!r})", timeout=90_000)
    page.reload()
    page.get_by_text("a link holds no file: upload it again").wait_for(timeout=60_000)
