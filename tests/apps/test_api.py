"""The HTTP interface against a model known by hand: epoch 1 is 6 px off, epoch 2 by 2 px, epoch 10 exact."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from urllib.parse import urlencode

import httpx
import numpy as np
import pytest
from PIL import Image

from apps.server.comparison import Asked
from apps.server.context import Context
from apps.server.encoding import packed, unpacked
from tests.apps.client import finished
from tests.waiting import when

SHIFTS = (6, 2, 0)
RUN = {"run": "painted-run", "data": "painted.json"}


@pytest.fixture(scope="module")
def api(server):
    with httpx.Client(base_url=f"{server}workbench/api/", timeout=60) as found:
        yield found


@pytest.fixture(scope="module")
def compared(api):
    return finished(api, RUN)


def test_runs_are_listed_with_their_epochs_and_fitting_data(api):
    runs = {run["id"]: run for run in api.get("runs").json()}
    assert list(runs)[:2] == ["painted-run", "zz-broken"]
    assert [e["epoch"] for e in runs["painted-run"]["epochs"]] == [1, 2, 10]
    assert runs["painted-run"]["data"][0] == "painted.json"
    assert "scenes-people-val" in runs["painted-run"]["data"]
    assert "scenes-val" not in runs["painted-run"]["data"]


def test_data_tells_the_skeleton_and_its_colours(api):
    found = next(d for d in api.get("data").json() if d["id"] == "painted.json")
    assert found["count"] == 6
    assert found["skeleton"]["keypoints"][0] == "nose"
    assert len(found["skeleton"]["colours"]) == 17


def test_figures_rise_with_the_epochs_and_carry_their_protocol(compared):
    ap = [epoch["figures"]["AP"] for epoch in compared["epochs"]]
    assert ap[0] < ap[1] < ap[2] == pytest.approx(1)
    assert compared["protocol"]["loaded_fraction"] == 1
    assert len({epoch["sha256"] for epoch in compared["epochs"]}) == 3
    assert "GT boxes, pad 1, no flip, argmax" in compared["protocol_text"]
    assert (compared["count"], compared["total"], compared["job"]) == (6, 6, None)
    assert compared["decoders"] == ["argmax", "quarter", "dark", "udp", "soft-argmax", "megvii"]


def test_arrays_hold_predictions_truth_and_oks_in_image_pixels(api, server, compared, painted):
    head, blocks = unpacked(api.get(f"{server}{compared['arrays']}").content)
    assert head["epochs"] == [0, 1, 2]
    assert blocks["predictions"].shape == (3, 6, 17, 3)
    for n in range(6):
        np.testing.assert_allclose(blocks["truth"][n, :, :2], painted.truth(n + 1))
        for e, shift in enumerate(SHIFTS):
            np.testing.assert_allclose(
                blocks["predictions"][e, n, :, :2] - painted.truth(n + 1), [[shift, 0]] * 17
            )
    np.testing.assert_allclose(blocks["oks"][2], 1)
    sigmas = np.array(painted.COCO.sigmas)
    by_hand = np.exp(-(6.0**2) / (2 * (64 * 48) * (2 * sigmas) ** 2)).mean()
    np.testing.assert_allclose(blocks["oks"][0], by_hand, rtol=1e-5)


def test_arrays_of_some_epochs_and_for_ever_with_a_version(api, compared):
    answer = api.get("compare/arrays", params={**RUN, "epochs": "2,0", "v": compared["version"]})
    head, blocks = unpacked(answer.content)
    assert head["epochs"] == [0, 2]
    assert "immutable" in answer.headers["cache-control"]
    assert len(blocks["scores"]) == 2


def test_an_answer_that_the_browser_has_is_not_sent_again(api, compared):
    first = api.get("thumb", params={"data": "painted.json", "sample": 0})
    again = api.get(
        "thumb",
        params={"data": "painted.json", "sample": 0},
        headers={"If-None-Match": first.headers["etag"]},
    )
    assert (again.status_code, again.content) == (304, b"")


def test_another_decoder_reads_the_same_outputs_without_a_forward_pass(
    api, server, compared, painted, monkeypatch
):
    def refuse(*_):
        raise AssertionError("a forward pass")

    monkeypatch.setattr("workbench.models.top_down.TopDown.forward", refuse)
    other = finished(api, {**RUN, "decoder": "quarter"})
    _, blocks = unpacked(api.get(f"{server}{other['arrays']}").content)
    _, own = unpacked(api.get(f"{server}{compared['arrays']}").content)
    moved = blocks["predictions"][..., :2] - own["predictions"][..., :2]
    assert other["protocol"]["decoder"] == "quarter"
    x, y = own["predictions"][..., 0] - 10, own["predictions"][..., 1] - 6
    inside = (x > 1) & (x < 46) & (y > 1) & (y < 62)
    np.testing.assert_allclose(moved[inside], [[0.25, 0]] * inside.sum())


def test_the_change_of_six_images_has_no_interval(api, compared):
    found = api.get("interval", params={**RUN, "a": 0, "b": 2}).json()
    ap = [epoch["figures"]["AP"] for epoch in compared["epochs"]]
    assert found["delta"] == pytest.approx(ap[2] - ap[0])
    assert (found["low"], found["high"]) == (None, None)


def test_the_report_is_the_document_of_the_pages_report_button(api, compared):
    answer = api.get("compare/report", params={**RUN, "epochs": "0,2"})
    assert answer.status_code == 200
    text = answer.text
    words = {**RUN, "epochs": "1,10"}  # names, as the page's address has them
    item = {"page": "compare", "section": "compare", "state": json.dumps(words)}
    body = {"page": "", "address": f"/?{urlencode(words)}", "items": [item]}
    assert api.post("report", json=body).text == text
    # The sample that the page shows is drawn too, and first.
    chosen = compared["samples"][-1]["key"]
    item["state"] = json.dumps({**words, "sample": chosen})
    shown = re.findall(r"<figcaption>([^<]*)", api.post("report", json=body).text)
    assert (shown[0], len(shown)) == (f"{chosen}, shown on the page", 6)
    figures = [compared["epochs"][i]["figures"]["AP"] for i in (0, 2)]
    for said in (*(f"{ap:.3f}" for ap in figures), "epoch 1 to epoch 10", "GT boxes", "open_model(file, "):
        assert said in text
    for heading in ("Samples that changed", "Gained", "Lost", "Most changed", "Per keypoint", "Protocol"):
        assert f"<h3>{heading}" in text
    assert "SHA-256" in text
    assert len(answer.content) < 2_500_000  # plotly.js is 1.8 MB of it, a cut-out about 10 KB
    sources = re.findall(r'(?:src|href)="([^"]{0,22})', text)
    assert set(sources) == {"data:image/jpeg;base64"}
    assert len(sources) == 3 * 6, "the annotation and both epochs of each of the six samples"


def test_the_report_of_one_epoch_is_its_evaluation(api, compared):
    answer = api.get("compare/report", params={**RUN, "epochs": "0"})
    assert answer.status_code == 200
    assert f"{compared['epochs'][0]['figures']['AP']:.3f}" in answer.text


def test_an_epoch_that_an_address_names_a_thousand_times_is_taken_once(api, compared):
    """Each was computed, or written, as often as it was named: minutes for an address of 40 kB."""
    code, often = api.get("compare/code", params={**RUN, "epochs": "0,2"}), "0," * 10_000 + "2"
    assert api.get("compare/code", params={**RUN, "epochs": often}).json() == code.json()
    reports = [api.get("compare/report", params={**RUN, "epochs": epochs}) for epochs in ("0", "0,0,00")]
    assert [one.status_code for one in reports] == [200, 200]
    assert len(reports[0].text) == len(reports[1].text)


def test_the_report_of_an_unknown_epoch_is_refused_in_a_sentence(api, compared):
    answer = api.get("compare/report", params={**RUN, "epochs": "0,99"})
    assert answer.status_code == 409
    assert "no epoch 'i99'" in answer.json()["error"]


def test_the_code_of_a_comparison_prints_its_figures_in_any_folder(
    api, compared, tmp_path, monkeypatch, capsys
):
    code = api.get("compare/code", params={**RUN, "epochs": "0,2"}).json()["code"]
    monkeypatch.chdir(tmp_path)
    made: dict = {}
    exec(code, made)
    printed = capsys.readouterr().out
    for index, evaluation in zip((0, 2), made["report"].evaluations, strict=True):
        epoch = compared["epochs"][index]
        assert evaluation.figures["AP"] == epoch["figures"]["AP"]
        assert evaluation.table() == epoch["per_keypoint"]
        assert f"{epoch['figures']['AP']:.3f}" in printed
    assert compared["protocol_text"] == made["report"].evaluations[0].protocol.text()


def test_every_epochs_version_is_its_own(compared):
    versions = [epoch["version"] for epoch in compared["epochs"]]
    assert all(versions)
    assert len(set(versions)) == len(versions)


def test_maps_travel_as_one_grey_sprite_that_decodes_to_the_heatmaps(api, compared, painted):
    answer = api.get("maps", params={**RUN, "epoch": 0, "sample": 3})
    head = json.loads(answer.headers["x-sprite"])
    sheet = np.asarray(Image.open(io.BytesIO(answer.content)))
    h, w = head["h"], head["w"]
    for k, (x, y) in enumerate(painted.truth(4)):
        row, column = divmod(k, head["columns"])
        tile = sheet[row * h : (row + 1) * h, column * w : (column + 1) * w]
        peak = np.unravel_index(tile.argmax(), tile.shape)
        values = head["low"] + tile / 255 * (head["high"] - head["low"])
        assert values.max() == pytest.approx(1, abs=0.03)
        at = np.array(head["to_image"]) @ [peak[1], peak[0], 1]
        np.testing.assert_allclose(at, [x + 6, y])
    assert len(answer.content) < 400_000


def test_images_come_whole_with_their_scale_and_small(api):
    answer = api.get("image", params={"data": "painted.json", "sample": 0})
    assert answer.headers["x-scale"] == "1"
    assert Image.open(io.BytesIO(answer.content)).size == (72, 80)
    thumb = api.get("thumb", params={"data": "painted.json", "sample": 0})
    assert Image.open(io.BytesIO(thumb.content)).size == (96, 96)


def test_a_broken_epoch_is_told_and_hides_no_other(api):
    facts = finished(api, {"run": "zz-broken", "data": "painted.json"})
    good, bad = facts["epochs"]
    assert good["ready"]
    assert (bad["ready"], bad["figures"]) == (False, None)
    assert "epoch_2.pth" in bad["error"]


def test_keypoints_that_are_not_the_models_fail_with_a_sentence(api):
    asked = {"run": "painted-run", "data": "scenes-val"}
    api.post("compare", params=asked)
    answer = when(lambda: api.get("compare", params=asked), lambda a: a.status_code != 202, 20)
    assert answer.status_code == 409
    assert "keypoints" in answer.json()["error"]


def test_a_decoder_that_does_not_fit_leaves_the_other_questions_as_they_were(settings, tmp_path):
    """What reads an output is known once it is computed: before, the question fails in its job."""
    context = Context.of(replace(settings, cache=tmp_path))
    asked = Asked("zz-broken", "painted.json")
    try:
        for decoder, why in (("simcc", "read by argmax"), ("simcc-soft", "read by argmax")):
            wrong = replace(asked, decoder=decoder)
            context.computing.begin(wrong)
            job = context.computing.job(wrong)
            assert job is not None
            job.wait()
            assert job.state == "failed"
            assert why in str(job.error)
            assert not context.computing.reasons(asked)
        context.computing.begin(asked)
        job = context.computing.job(asked)
        assert job is not None, "the question itself was not asked yet"
        job.wait()
        assert list(context.computing.ready(asked)) == [0]
        assert list(context.computing.reasons(asked)) == [1]
    finally:
        context.jobs.close()


def test_naming_the_models_own_decoder_is_the_same_question(api, compared):
    named = api.get("compare", params={**RUN, "decoder": "argmax", "score": "min"}).json()
    assert named["version"] == compared["version"]
    assert api.get("interval", params={**RUN, "decoder": "argmax", "a": 0, "b": 1}).status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("compare?run=absent&data=painted.json", 404, "no run 'absent'"),
        ("compare?run=painted-run&data=absent", 404, "no data set"),
        ("compare?data=painted.json", 400, "run"),
        ("compare?run=painted-run&data=painted.json&decoder=bogus", 400, "no decoder"),
        ("compare?run=painted-run&data=painted.json&decoder=simcc", 409, "these do: argmax"),
        ("compare?run=painted-run&data=painted.json&score=best", 400, "min, mean, max"),
        ("compare?run=painted-run&data=painted.json&first=x", 400, "epoch indices"),
        ("interval?run=painted-run&data=painted.json&a=0&b=9", 404, "epochs 0 to 2"),
        ("image?data=painted.json&sample=99", 404, "samples 0 to 5"),
        ("image?data=painted.json&sample=one", 400, "sample"),
        ("maps?run=painted-run&epoch=0&data=painted.json&sample=77", 404, "sample 77"),
        ("jobs/job-999", 404, "no job"),
    ],
)
def test_every_failure_is_one_sentence(api, compared, path, status, said):
    answer = api.get(path)
    assert answer.status_code == status
    assert said in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_only_a_post_starts_a_job(api, compared):
    """A link or a picture on another site's page can cause a GET."""
    asked = {"run": "painted-run", "data": "painted.json", "decoder": "dark"}
    before = len(api.get("jobs").json())
    for _ in range(2):
        answer = api.get("compare", params=asked)
        assert answer.status_code in (200, 404)
    assert len(api.get("jobs").json()) == before
    unseen = {"run": "zz-broken", "data": "scenes-people-val"}
    assert api.get("compare", params=unseen).status_code == 404
    assert len(api.get("jobs").json()) == before


def test_what_is_packed_comes_back():
    head, blocks = unpacked(packed({"a": [1]}, {"x": np.arange(6).reshape(2, 3), "none": np.zeros((0, 3))}))
    assert head["a"] == [1]
    np.testing.assert_array_equal(blocks["x"], [[0, 1, 2], [3, 4, 5]])
    assert blocks["none"].shape == (0, 3)
