"""A finished sweep in the app: the reference and each variant are folders of predictions in Compare."""

from __future__ import annotations

import html
import json
import re
import threading
from urllib.parse import unquote

import httpx
import pytest
from gradio_client.exceptions import AppError

from tests.apps.client import ITEM, connected, saved
from tests.apps.conftest import HERE, started
from tests.waiting import when
from workbench.evaluation import SweepRules, sweep


@pytest.fixture(scope="module")
def swept(tmp_path_factory, painted, data_file):
    """Three epochs, swept with the flip test besides; the address of the app and the report."""
    from apps.server.settings import Settings

    root = tmp_path_factory.mktemp("swept") / "root"
    for epoch, shift in ((1, 6), (2, 2), (10, 0)):
        painted.write_checkpoint(root / "run" / f"epoch_{epoch}.pth", epoch, shift)
    rules = SweepRules(ablations=("flip",), opening={"adapter": str(HERE / "painted.py")})
    report = sweep(root / "run", data_file, root / "run" / "sweep", rules=rules)
    cache = tmp_path_factory.mktemp("cache")
    with started(
        Settings(root=root, data=(data_file,), port=0, cache=cache, adapter=HERE / "painted.py")
    ) as (where, _):
        yield where, report


def asked(address, path, **query):
    return httpx.get(f"{address}workbench/api/{path}", params=query, timeout=60)


def test_the_reference_and_each_variant_are_listed_with_their_epochs_and_data(swept):
    address, report = swept
    runs = {one["id"]: one for one in asked(address, "runs").json()}
    places = {name for name in runs if name.startswith("predictions:run/sweep")}
    assert len(places) == len(report.variants) > 1
    for name in places:
        assert [epoch["epoch"] for epoch in runs[name]["epochs"]] == [1, 2, 10]
        assert [epoch["label"] for epoch in runs[name]["epochs"]] == ["epoch 1", "epoch 2", "epoch 10"]
        assert runs[name]["data"][0] == "painted.json"


def test_compare_gives_the_ap_of_the_table(swept):
    from tests.waiting import when

    address, report = swept
    query = {"run": "predictions:run/sweep", "data": "painted.json"}

    def figures():
        answer = httpx.post(f"{address}workbench/api/compare", params=query, timeout=60).json()
        return [(epoch.get("figures") or {}).get("AP") for epoch in answer["epochs"]]

    found = when(figures, lambda aps: None not in aps)
    assert found == [row["AP"] for row in report.of("reference")]


def test_the_form_of_the_history_page_sweeps_as_the_function_does(swept):
    address, report = swept
    api = connected(address)
    wanted = ("run", "painted.json", ["flip"], "")
    api.predict(*wanted, api_name="/history_sweep")
    status, line, _, details, *_ = when(
        lambda: api.predict(*wanted, api_name="/history_swept"), lambda u: "AP is highest" in u[1], 120
    )
    assert status == ""
    assert report.summary().removesuffix(".") in html.unescape(line)
    assert "--ablations flip" in html.unescape(details)
    (folder,) = re.findall(r'href="/history\?run=([^"]+)"', details)
    name = unquote(folder)
    assert name in {one["id"] for one in asked(address, "runs").json()}
    items = [m.groupdict() for m in re.finditer(ITEM, details)]
    document = httpx.post(
        f"{address}workbench/api/report", json={"page": "history", "items": items}, timeout=60
    )
    for words in ("SHA-256", "epoch_10.pth", "painted.json", "workbench sweep", "AP is highest"):
        assert words in document.text
    for word in ("two", "²", "①", "0"):  # str.isdigit takes the second and third, int does not
        assert "expected a whole number" in error_of(api, ("run", "painted.json", [], word))
    assert "choose a run" in error_of(api, (None, None, [], ""))


def test_a_cancelled_sweep_of_the_page_goes_on_where_it_was(swept, monkeypatch):
    from workbench.evaluation.sweeps import blocks

    monkeypatch.setattr(blocks, "BATCHES", 1)
    address, _ = swept
    api = connected(address)
    asked = ("run", "painted.json", ["decoders"], "3")
    # Each batch is asked for once; the first epoch's end is the moment of the cancel.
    reached, stop = threading.Event(), threading.Event()
    begun = blocks.Worker.events

    def slow(self, path, *more):
        if path.name != "epoch_1.pth":
            reached.set()
            stop.wait(60)
        yield from begun(self, path, *more)

    monkeypatch.setattr(blocks.Worker, "events", slow)
    api.predict(*asked, api_name="/history_sweep")
    assert reached.wait(60)
    api.predict(*asked, api_name="/history_unsweep")
    stop.set()
    when(lambda: api.predict(*asked, api_name="/history_swept"), lambda u: "where it stopped" in u[0])
    api.predict(*asked, api_name="/history_sweep")
    done = when(
        lambda: api.predict(*asked, api_name="/history_swept"), lambda u: "3 checkpoints" in u[1], 120
    )
    state = re.search(ITEM, done[3])["state"]
    assert json.loads(saved(address, "history/sweep", "sweep", "json", state))["resumed"] == 1


def error_of(api, words):
    with pytest.raises(AppError) as caught:
        api.predict(*words, api_name="/history_sweep")
    return str(caught.value)
