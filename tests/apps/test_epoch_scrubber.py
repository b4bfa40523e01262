"""300 epochs of predictions in Compare: the slider, a sample over the epochs, forgetting, maps on demand."""

from __future__ import annotations

import json
import re

import httpx
import numpy as np
import pytest

from tests.apps.compare.reader import fetched_ahead, keys_in_order, settled, slide, words
from tests.apps.conftest import HERE, started
from tests.waiting import when

pytestmark = pytest.mark.long

EPOCHS = 300
RUN = "predictions:many"
# Sample n (annotation 101 + n) is right from epoch START[n] on; sample 2 is wrong again in GAP.
START = [1, 50, 100, 150, 299, 400]
GAP = range(200, 210)


def right(n, epoch):
    return epoch >= START[n] and not (n == 2 and epoch in GAP)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, painted, data_file):
    """A run of two checkpoints, and a folder of predictions; epoch 7 follows another protocol."""
    from workbench.core.files import sha256_of
    from workbench.evaluation import Predictions, Protocol

    root = tmp_path_factory.mktemp("epochs") / "root"
    for epoch, shift in ((1, 6), (2, 2)):
        painted.write_checkpoint(root / "painted-run" / f"epoch_{epoch}.pth", epoch, shift)
    people = json.loads(data_file.read_text())["annotations"]
    truth = np.array([np.reshape(one["keypoints"], (-1, 3))[:, :2] for one in people], float)
    box = np.array([one["bbox"] for one in people], float)
    box[:, 2:] += box[:, :2]
    ids = np.array([one["id"] for one in people])
    entries = []
    for epoch in range(1, EPOCHS + 1):
        now = np.array([right(n, epoch) for n in range(len(people))])
        points = truth + np.where(now, 0.0, 40.0)[:, None, None] * [1, 0]
        found = Predictions(
            np.array([one["image_id"] for one in people]), np.ones(len(people), int), box, points,
            np.full(points.shape[:2], 0.5), np.full(len(people), 0.5), ids,
        )  # fmt: skip
        path = root / "many" / f"epoch_{epoch}.parquet"
        protocol = Protocol(flip=epoch == 7)
        found.to_parquet(path, epoch=epoch, protocol=protocol, oks=np.where(now, 1.0, 0.1))
        entries.append({"epoch": epoch, "file": path.name, "sha256": sha256_of(path)})
    for number, name, digest in (
        (1, "epoch_1.pth", sha256_of(root / "painted-run" / "epoch_1.pth")),
        (2, "epoch_2.pth", sha256_of(root / "painted-run" / "epoch_2.pth")),
        (3, "epoch_2.pth", "0" * 64),
    ):
        entries[number - 1] |= {"checkpoint": name, "checkpoint_sha256": digest}
    manifest = {"format": 1, "data": data_file.name, "epochs": entries}
    (root / "many" / "manifest.json").write_text(json.dumps(manifest))
    few = Predictions(ids, np.ones(6, int), box, truth[:, :3], np.ones((6, 3)), np.ones(6), ids)
    few.to_parquet(root / "mixed" / "epoch_2.parquet", epoch=2)
    (root / "mixed" / "epoch_1.parquet").write_bytes((root / "many" / "epoch_1.parquet").read_bytes())
    (root / "cut").mkdir()
    for name in ("epoch_1.parquet", "epoch_2.parquet"):
        (root / "cut" / name).write_bytes((root / "many" / name).read_bytes()[:900])
    return root


@pytest.fixture(scope="module")
def many(folder, data_file, tmp_path_factory):
    from apps.server.settings import Settings

    cache = tmp_path_factory.mktemp("cache")
    with started(
        Settings(root=folder, data=(data_file,), port=0, cache=cache, adapter=HERE / "painted.py")
    ) as (where, _):
        yield where


def asked(address, path, **query):
    return httpx.get(f"{address}workbench/api/{path}", params=query, timeout=60)


def test_a_folder_of_predictions_is_listed_with_its_epochs_and_sets(many):
    runs = {one["id"]: one for one in asked(many, "runs").json()}
    assert len(runs[RUN]["epochs"]) == EPOCHS
    assert runs[RUN]["family"] == "predictions"
    assert runs[RUN]["data"][0] == "painted.json"
    assert runs[RUN]["epochs"][6]["label"] == "epoch 7 ≠"
    assert runs["predictions:cut"]["family"] is None
    assert "expected a Parquet file of predictions" in runs["predictions:cut"]["reason"]
    assert "epochs of different skeletons (epoch 1 has 17" in runs["predictions:mixed"]["reason"]


def test_one_sample_over_all_epochs_has_the_values_of_the_files(many):
    from apps.server.encoding import unpacked

    _, blocks = unpacked(asked(many, "compare/track", run=RUN, data="painted.json", sample=1).content)
    _, arrays = unpacked(asked(many, "compare/arrays", run=RUN, data="painted.json").content)
    off = blocks["track"][:, 0, 0] - arrays["truth"][1, 0, 0]
    assert off.tolist() == [0.0 if right(1, e) else 40.0 for e in range(1, EPOCHS + 1)]
    assert arrays["oks"].shape == (EPOCHS, 6)


@pytest.mark.parametrize(
    ("path", "query", "status", "said"),
    [
        ("compare", {"run": "predictions:none", "data": "painted.json"}, 404, "no predictions"),
        ("compare", {"run": RUN, "data": "people.json"}, 404, "no data set"),
        ("compare", {"run": RUN, "data": "scenes-val"}, 400, "belong to none of the annotations"),
        ("compare/track", {"run": RUN, "data": "painted.json", "sample": 77}, 404, "not among the 6"),
        ("interval", {"run": RUN, "data": "painted.json", "a": 0, "b": 900}, 404, "epochs 0 to 299"),
        ("maps", {"run": RUN, "data": "painted.json", "epoch": 0, "sample": 0}, 404, "not computed"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(many, path, query, status, said):
    answer = asked(many, path, **query)
    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_heatmaps_come_from_the_checkpoints_that_the_manifest_names_and_from_no_other(many):
    def compute(epochs):
        url = f"{many}workbench/api/compare/maps"
        query = {"run": RUN, "data": "painted.json", "sample": 0, "epochs": epochs}
        return httpx.post(url, params=query, timeout=60)

    assert when(lambda: compute("0,1"), lambda a: a.status_code != 202).json() == {
        "kind": "heatmap", "ready": [0, 1],
    }  # fmt: skip
    assert asked(many, "maps", run=RUN, data="painted.json", epoch=1, sample=0).headers["X-Sprite"]
    refused = compute("9")
    assert refused.status_code == 409
    assert "only predictions are here" in refused.json()["error"]
    other = when(lambda: compute("2"), lambda a: a.status_code != 202)
    assert "another SHA-256" in other.json()["error"]


@pytest.fixture
def page(tab, many):
    return tab(height=800)


def shown(page, many, query):
    page.goto(f"{many}?run={RUN}&data=painted.json&{query}")
    page.get_by_test_id("sample").first.wait_for(timeout=60_000)
    page.wait_for_function("!document.querySelector('.cmp-pane.loading')")


@pytest.mark.browser
def test_the_slider_goes_through_300_epochs_without_asking_the_server(page, many):
    query = {"run": RUN, "data": "painted.json", "first": "0,299"}
    when(lambda: asked(many, "compare", **query).json(), lambda body: not body.get("job"), seconds=120)
    requests = []
    page.on("request", lambda r: requests.append(r.url))
    shown(page, many, "epochs=1,300&sample=000002/102&sort=name")
    fetched_ahead(page, requests)
    requests.clear()
    for place in (0, 48, 49, 120, 299):
        slide(page, place, done=False)
        assert words(page, "pane-title-b").split()[1] == str(place + 1)
        assert words(page, "error-B-0") == ("0.0" if right(1, place + 1) else "40.0")
    assert requests == []
    slide(page, 120)
    page.wait_for_function("window.workbenchTimings.filter(t => t.what === 'epoch').length >= 5")
    assert "epochs=1,121" in page.url
    page.reload()
    page.get_by_test_id("sample").first.wait_for()
    page.wait_for_function("!document.querySelector('.cmp-pane.loading')")
    assert page.get_by_test_id("epoch-slider").input_value() == "120"


@pytest.mark.browser
def test_first_right_and_forgetting_are_told_and_follow_the_threshold(page, many):
    shown(page, many, "epochs=1,300&sample=000003/103&sort=forgotten")
    assert keys_in_order(page)[0] == "000003/103"
    page.wait_for_function("document.querySelector('[data-testid=error-B-0]').textContent === '0.0'")
    assert words(page, "course-words") == (
        "this sample: right first in epoch 100 · forgotten in 200 · right at the end"
    )
    assert words(page, "forgotten-total") == "all samples: 1 of 6 forgotten at least once"
    assert page.locator(".cmp-sample[data-key='000003/103'] .cmp-mark").text_content() == "1× lost"
    page.get_by_test_id("first-right").click()
    settled(page)
    assert words(page, "pane-title-b") == "epoch 100"
    page.get_by_test_id("sample-sort").select_option("first")
    settled(page)
    assert keys_in_order(page)[:2] == ["000006/106", "000005/105"]
    assert page.locator(".cmp-sample[data-key='000006/106'] .cmp-mark").text_content() == "never right"
    page.get_by_test_id("right").select_option("0.75")
    settled(page)
    assert "right=0.75" in page.url
    page.keyboard.press("Shift+ArrowDown")
    settled(page)
    assert words(page, "pane-title-b") == "epoch 90"


@pytest.mark.browser
def test_heatmaps_of_two_epochs_are_computed_when_asked_and_their_difference_is_shown(page, many):
    shown(page, many, "epochs=1,2&sample=000001/101")
    page.get_by_test_id("compute-maps").click()
    page.wait_for_function(
        "document.querySelector('[data-testid=maps-difference]').clientHeight > 50", timeout=60_000
    )
    page.wait_for_function("!document.querySelector('.cmp-pane.loading')")
    settled(page)
    assert page.get_by_test_id("compute-maps").is_hidden()
    slide(page, 8)
    assert "epoch 9 is not computed" in page.locator(".cmp-maps .cmp-pane-message").nth(1).text_content()
    assert "Only predictions of epoch 9 are here" in page.locator(".cmp-legend").text_content()


@pytest.mark.browser
def test_an_epoch_of_another_protocol_is_marked(page, many):
    shown(page, many, "epochs=1,7")
    assert "≠" in words(page, "pane-title-b")
    assert re.search("protocols differ, do not compare .*flip", words(page, "protocol"))
    slide(page, 299)
    assert "do not compare" not in words(page, "protocol")


@pytest.mark.browser
def test_keypoints_over_the_set_come_for_the_epochs_that_are_shown(page, many):
    shown(page, many, "epochs=1,300&table=set")
    slide(page, 99)
    page.wait_for_function(
        "document.querySelector('[data-testid=\"score-B-0\"]').textContent === '.50'", timeout=60_000
    )
    assert words(page, "error-B-0") == "20.0", "three right, three 40 pixels off: the median lies between"
