"""The Errors page over HTTP and in a real Chromium: counts, repairs, instances behind a bar, own result
files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from apps.pages.errors import ErrorsOfResult, ErrorsPage, Wanted
from tests.apps.client import code_in, saved
from tests.waiting import when

# Positions in the answer of /errors.
KEY, STATUS, LINE, FIGURE, DETAILS, TABLES, KEYPOINT, PART, FIRST, CARDS = 3, 5, 7, 8, 9, 10, 11, 12, 13, 14


def asked(api, name="/errors", **more):
    """The answer once the epoch is predicted."""
    given = {
        "run": "painted-run", "epoch": "1", "data": "painted.json", "repair": "published", "file": None,
        "kind": "miss", "keypoint": "any keypoint", "part": "all instances", **more,
    }  # fmt: skip
    # gradio_client leaves out what is no component's value, such as timers.
    return when(
        lambda: api.predict(*given.values(), "", api_name=name),
        lambda found: any("AP" in str(part)[:200] for part in found),
        90,
    )


def said(found, words):
    """The part of an answer that holds these words."""
    return next(str(part) for part in found if words in str(part))


def test_an_epoch_shows_what_its_errors_cost(api):
    """Epoch 1 is moved by 6 pixels in a box of 64 x 48: by hand, similarity exp(-36 / (2 sigma)^2 / 3072 /
    2)."""
    from workbench.skeletons import SKELETONS

    found = asked(api)
    line = said(found, "judged keypoints")
    similarity = np.exp(-36 / (2 * np.array(SKELETONS["coco-17"].sigmas)) ** 2 / 3072 / 2)
    good = 6 * int((similarity >= 0.85).sum())
    assert "AP 0." in line
    assert f"of {6 * 17:,} judged keypoints good {good / 102:.1%}" in line or "swap" in line
    assert "costs most" in line
    compile(code_in(said(found, "wb-details")), "errors", "exec")
    assert "labelled keypoints" not in said(found, "visible")  # one group alone is no slice


def test_the_last_epoch_has_no_errors_and_says_so(api):
    found = asked(api, epoch="10")
    assert "no repair would give back" in said(found, "judged keypoints")
    assert "No instance has miss" in said(found, "No instance")


def test_a_result_file_of_ones_own_is_analysed_on_the_chosen_set(api, data_file, tmp_path):
    from gradio_client import handle_file

    people = json.loads(data_file.read_text())["annotations"]
    results = [
        {"image_id": a["image_id"], "category_id": 1, "keypoints": a["keypoints"], "score": 1.0}
        for a in people
    ]
    path = tmp_path / "own.json"
    results[0]["keypoints"] = [*results[0]["keypoints"][:2], -1, *results[0]["keypoints"][3:]]
    path.write_text(json.dumps(results))
    found = asked(api, file=handle_file(str(path)))
    line = said(found, "judged keypoints")
    assert "AP 1.000" in line
    assert "good 100.0%" in line
    assert "own.json: -1 of the scores of keypoints: once, counted as a number" in said(found, "wb-details")
    path.write_text(json.dumps({"annotations": []}))
    given = ("painted-run", "1", "painted.json", "published", handle_file(str(path)), "miss", "any keypoint",
             "all instances", "")  # fmt: skip
    assert "expected a list of detections" in said(api.predict(*given, api_name="/errors"), "results")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["painted-run", "99", "painted.json"], "painted-run has no epoch '99'; epoch 10 is shown."),
        (
            ["painted-run", "1", "absent.json"],
            "'absent.json' is not served for painted-run; painted.json is shown.",
        ),
        (["painted-run", "1", "painted.json"], ""),
        ([None, None, None], ""),
    ],
)
def test_a_link_to_an_epoch_or_a_set_that_is_not_there_says_what_is_shown_instead(
    context, monkeypatch, words, said
):
    warned = []
    monkeypatch.setattr("gradio.Warning", lambda text, duration: warned.append(text))
    page = ErrorsPage(context)
    page._errors = ErrorsOfResult(context, [], [])
    page.chosen([*words, None, None, None, None])
    assert warned == ([said] if said else [])


def test_result_files_on_a_set_without_sigmas_are_judged_with_those_of_a_run(context):
    pose_set, run = context.registry.sets.get("painted.json"), context.registry.run("painted-run")
    bare = replace(pose_set, skeleton=replace(pose_set.skeleton, sigmas=()))
    judged, note = context.registry.judging(bare, [run])
    assert judged.skeleton.sigmas == pose_set.skeleton.sigmas
    assert note == "painted states no OKS sigmas: those of painted-run's model are used"
    assert context.registry.judging(bare, []) == (bare, "")
    assert context.registry.judging(pose_set, [run]) == (pose_set, "")
    section = ErrorsOfResult(context, [], [])
    wanted = Wanted("painted-run", "1", "painted.json", "published", "/uploads/own.json")
    code = section._code(wanted, judged.skeleton.sigmas)
    compile(code, "errors", "exec")
    assert "judged_with(read_coco(" in code
    assert "judged_by(read_coco(" in section._code(
        replace(wanted, file="")
    )  # the model's own, as on the page


@pytest.mark.long
def test_a_click_on_a_bar_lists_the_instances_with_pictures(server, tab):
    page = tab()
    page.goto(f"{server}errors?run=painted-run&epoch=1&data=painted.json", wait_until="domcontentloaded")
    page.wait_for_selector("#wb-errors-figure .js-plotly-plot .point", timeout=90_000, state="attached")
    plot = "document.querySelector('#wb-errors-figure .js-plotly-plot')"
    page.wait_for_function(f"{plot}._ev && {plot}._ev.listenerCount('plotly_click') > 0")
    # Values travel packed; what plotly made of them is unpacked.
    drawn = f"{plot}._fullData.slice(1)"
    kind = page.evaluate(f"{drawn}.find((t) => [...t.x].some((share) => share > 0)).meta.kind")
    trace = f"{drawn}.find((t) => t.meta.kind === '{kind}')"
    at = page.evaluate(f"[...{trace}.x].findIndex((share) => share > 0)")
    name = page.evaluate(f"{trace}.y[{at}]")
    page.evaluate(f"{plot}.emit('plotly_click', {{points: [{{data: {trace}, y: '{name}'}}]}})")
    page.wait_for_function(f"document.querySelector('#wb-errors-cards').textContent.includes('of {name}')")
    page.wait_for_selector("#wb-errors-cards img")
    assert page.locator("#wb-errors-cards .err-card").count() == 6
    assert f"keypoint={name}" in page.url
    assert f"kind={kind}" in page.url or kind == "miss"
    link = page.locator("#wb-errors-cards a").first.get_attribute("href")
    assert link.startswith("/look-overlay?run=painted-run&epoch=1&data=painted.json&sample=")


def test_csv_and_json_are_those_of_the_report(api, server):
    details = said(asked(api), "wb-details")
    key = details.split('data-state="')[1].split('"')[0]
    facts = json.loads(saved(server, "errors", "errors", "json", key))
    assert set(facts) >= {"counts", "per_keypoint", "delta_ap"}
    assert "keypoint,judged,good" in saved(server, "errors", "errors", "csv", key)
