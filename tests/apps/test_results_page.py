"""The Results page: two uploads become a comparison over HTTP; what is missing is one sentence."""

from __future__ import annotations

import json

import gradio_client
import pytest

from tests.apps.client import saved
from tests.waiting import when


@pytest.fixture(scope="module")
def uploads(tmp_path_factory, data_file):
    """The annotations as results, once 3 pixels off and once where they are."""
    folder = tmp_path_factory.mktemp("results")
    people = json.loads(data_file.read_text())["annotations"]
    for name, off in (("off", 3.0), ("exact", 0.0)):
        results = []
        for one in people:
            points = [v + off * (i % 3 < 2) if i % 3 < 2 else 0.9 for i, v in enumerate(one["keypoints"])]
            results.append(
                {
                    "image_id": one["image_id"],
                    "category_id": one["category_id"],
                    "keypoints": points,
                    "score": 0.9,
                }
            )
        if off:
            results[0]["keypoints"][2] = -1  # the score of one keypoint, which changes no AP
        (folder / f"{name}.json").write_text(json.dumps(results))
    (folder / "none.json").write_text('{"annotations": []}')
    return folder


def ended(api, *values, seconds=60):
    """What the page shows once the job has ended: status, sentence, figure, details."""
    api.predict(*values, api_name="/results_start")
    return when(
        lambda: api.predict(*values, api_name="/results_watch"),
        lambda seen: seen[1] or "wb-error" in seen[0],
        seconds,
    )


def test_two_uploads_are_compared(api, server, uploads):
    a, b = (gradio_client.handle_file(uploads / f"{name}.json") for name in ("off", "exact"))
    status, sentence, figure, details = ended(api, "painted.json", a, b)[:4]
    assert status == ""
    assert "A: off to B: exact: AP" in sentence
    assert "-&gt; 1.000, +0.500" in sentence
    assert "images are too few for an interval of the change" in details
    assert "Keypoints and slices" in details
    assert "A: off: -1 of the scores of keypoints: once, counted as a number like any other" in details
    assert details.count('data-testid="res-instance"') == 6
    assert figure


@pytest.mark.long
def test_the_demo_is_the_comparison_of_the_verb(api, server, workbench):
    values = (None, None, None, "demo")
    line = ended(api, *values)[1]
    facts = json.loads(saved(server, "results/compare", "compare", "json", json.dumps(values)))
    out = json.loads(workbench("compare", "--demo", "--json")[1])
    assert facts["delta"] == out["delta"]
    assert [*facts["protocols"].values()] == [*out["protocols"].values()]
    assert f"A: epoch_1 to B: epoch_40: AP {out['epochs'][0]['AP']:.3f}" in line


def test_what_is_missing_or_no_result_file_is_one_sentence(api, uploads):
    good, wrong = (gradio_client.handle_file(uploads / f"{name}.json") for name in ("off", "none"))
    status = ended(api, "painted.json", good, wrong)[0]
    assert "expected a list of detections" in status
    with pytest.raises(gradio_client.exceptions.AppError, match="upload two result files"):
        api.predict("painted.json", good, None, api_name="/results_start")


def test_its_downloads_name_finished_comparisons_only(server):
    asked = [server, "results/compare", "compare", "json"]
    with pytest.raises(Exception, match="there is no result"):
        saved(*asked, json.dumps(["painted.json", None, None, ""]))
    with pytest.raises(Exception, match="Only a file that was uploaded here"):
        saved(*asked, json.dumps(["painted.json", "/etc/a", "/b", ""]))
