"""The History page over HTTP and in a real Chromium: from the curve to the single instance in Compare."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.apps.client import code_in, connected, saved
from tests.apps.conftest import started
from tests.waiting import when

OFF = {1: (60, 60, 0, 0), 5: (0, 60, 0, 0), 20: (60, 0, 0, 2)}
"""Epoch -> how far each of the four people is off, pixels."""


def write_predictions(folder, data, epochs, named=True):
    """An epoch whose person n lies so many pixels off; with its OKS, as the workbench writes it."""
    from workbench.data.coco import read_coco
    from workbench.evaluation import Predictions, evaluate
    from workbench.evaluation.evaluate import pose_oks

    pose_set = read_coco(data)
    own = [pose_set.instances[i] for i in pose_set.labelled]
    for epoch, offsets in epochs.items():
        points = np.array([one.truth[:, :2] for one in own]) + np.array(offsets, float)[:, None, None]
        found = Predictions(
            np.array([one.image_id for one in own]), np.array([one.category_id for one in own]),
            np.array([one.box for one in own], float), points, np.ones(points.shape[:2]), np.ones(len(own)),
            np.array([one.annotation_id for one in own]) if named else None,
        )  # fmt: skip
        oks, terms = pose_oks(found, evaluate(pose_set, found).ap)
        found.to_parquet(folder / f"epoch_{epoch}.parquet", epoch=epoch, oks=oks, terms=terms)


@pytest.fixture(scope="module")
def own(tmp_path_factory, painted):
    """A folder of three epochs, one with a damaged file, and a run beside them."""
    from apps.server.settings import Settings
    from workbench.data.coco import read_coco
    from workbench.evaluation import truth_of
    from workbench.evaluation.epoch_scores import truth_digest
    from workbench.evaluation.manifest import write_manifest

    top = tmp_path_factory.mktemp("history")
    root = top / "root"
    painted.write_checkpoint(root / "run" / "epoch_1.pth", 1, 0)
    data = painted.write_data(top / "data", 4)
    write_predictions(root / "run" / "predictions", data, OFF)
    write_predictions(root / "zz damaged", data, {1: OFF[1], 2: OFF[5]})
    (root / "zz damaged" / "epoch_2.parquet").write_bytes(b"PAR1 half")
    truth = truth_digest(truth_of(read_coco(data)))
    for name, digest in (("zz imported", truth), ("zz other data", "0" * 64)):
        write_predictions(root / name, data, {1: OFF[1], 2: OFF[5]}, named=False)
        write_manifest(root / name, "their.json", truth=digest)
    settings = Settings(root=root, data=(data,), port=0, cache=top / "cache", adapter=Path(painted.__file__))
    with started(settings, "history") as (where, _):
        yield where


@pytest.fixture(scope="module")
def api(own):
    return connected(own)


def shown(api, run=None, a=None, b=None, data=None, image=""):
    """Sentence, figure, details, A, B, lists, once they are computed."""
    answer = when(lambda: api.predict(run, a, b, data, image, "", api_name="/history"), lambda seen: seen[1])
    return [*answer[1:4], *answer[5:7], answer[8]]


def test_the_curve_and_what_two_epochs_gained_and_lost(api, own):
    line, *_, lists = shown(api)
    assert re.search(r"3 epochs: AP is highest at epoch 5, 0\.\d+; the last, epoch 20", line)
    assert "Instances from epoch 1 to 20: 1 gained, 0 lost." in line
    assert "Gained: found in epoch 20, not in 1 (1)" in lists
    assert "/?run=predictions:run/predictions&amp;data=" in lists
    assert "sample=000002/" in lists.partition("Gained")[2].partition("Worst")[0]
    line, _, details, *_, lists = shown(api, a="5", b="20")
    assert "Instances from epoch 5 to 20: 1 gained, 1 lost." in line
    lost = lists.partition("Gained")[0]
    assert "sample=000001/" in lost
    assert "epochs=5,20" in lost
    compile(code_in(details), "history", "exec")
    key = details.split('data-state="')[1].split('"')[0]
    facts = json.loads(saved(own, "history", "history", "json", key))
    assert [row["epoch"] for row in facts["epochs"]] == [1, 5, 20]
    assert facts["epochs"][1]["AP"] == max(row["AP"] for row in facts["epochs"])


def test_a_folder_called_predictions_is_named_after_its_run(api):
    folders = api.predict(None, None, None, None, "", "", api_name="/history")[4]
    titles = {identity: title for title, identity in folders["choices"]}
    assert titles["predictions:run/predictions"] == "run (predictions)"


def test_an_image_is_followed_over_the_epochs(api):
    figure = shown(api, image="2")[1]
    traces = json.loads(figure["plot"])["data"] if "plot" in figure else figure["value"]["plot"]
    assert "OKS of the instances of image 2" in json.dumps(traces)
    assert "expected a whole number" in shown(api, image="one")[0]
    assert "expected a whole number" in shown(api, image="²")[0]


def test_what_cannot_be_shown_is_one_sentence(api):
    assert "epoch_2.parquet: expected a Parquet file" in shown(api, run="predictions:zz damaged")[0]
    assert "no predictions" in shown(api, run="predictions:../../etc")[0]
    assert "no predictions" in shown(api, run="/etc")[0]


def test_imported_poses_are_judged_on_no_other_annotations_than_their_own(api):
    assert "2 epochs: AP is highest at epoch 2" in shown(api, run="predictions:zz imported")[0]
    assert (
        "zz other data: its predictions are of their.json" in shown(api, run="predictions:zz other data")[0]
    )


@pytest.mark.long
def test_a_link_that_takes_the_place_of_listed_predictions_is_not_followed(tmp_path, painted, monkeypatch):
    """Folders are listed every two seconds, and poses are read when they are asked for."""
    from apps.server.comparison import Asked
    from apps.server.folders import Refused
    from apps.server.prediction_folders import PredictionFolders
    from apps.server.registry import Registry
    from apps.server.settings import Settings
    from workbench.core.job import JobManager

    data, folder = painted.write_data(tmp_path / "data", 4), tmp_path / "root" / "own"
    foreign = tmp_path / "foreign"
    for place in (folder, foreign):
        write_predictions(place, data, OFF)
    monkeypatch.setattr("apps.server.prediction_folders.RESCAN_SECONDS", 1e9)
    settings = Settings(root=tmp_path / "root", data=(data,), cache=tmp_path / "cache")
    folders = PredictionFolders(settings, Registry(settings), JobManager())
    asked = Asked("predictions:own", "painted.json")
    opened = folders.opened(asked)
    assert folders.track(asked, opened.indices[0]).shape[0] == len(OFF)
    places = (folder / "epoch_20.parquet", folder / "manifest.json", folder / "index", folder)
    for link in places:
        earlier = link.rename(tmp_path / "aside") if link.exists() else None
        link.symlink_to(foreign if link == folder else foreign / link.name)
        (foreign / "index").mkdir(exist_ok=True)
        (foreign / "manifest.json").write_text("{}")
        for read in (folders.opened, lambda one: folders.track(one, opened.indices[1])):
            with pytest.raises((Refused, ValueError), match="lies outside the served folders"):
                read(asked)
        link.unlink()
        if earlier:
            earlier.rename(link)
    assert np.array_equal(folders.opened(asked).oks, opened.oks)
    (folder / "epoch_30.parquet").symlink_to(foreign / "epoch_20.parquet")
    with pytest.raises(Refused, match=r"epoch_30\.parquet lies outside the served folders"):
        folders.opened(asked)
    (listed,) = PredictionFolders(settings, Registry(settings), JobManager()).all()
    assert listed.reason == "epoch_30.parquet lies outside the served folders"


@pytest.mark.long
def test_without_predictions_the_page_offers_the_demos(tmp_path, painted):
    from apps.server.settings import Settings

    painted.write_checkpoint(tmp_path / "root" / "run" / "epoch_1.pth", 1, 0)
    with started(
        Settings(root=tmp_path / "root", port=0, cache=tmp_path / "cache", adapter=Path(painted.__file__)),
        "history",
    ) as (where, _):
        api = connected(where)
        assert "Show a demo computes one for a built-in run" in shown(api)[0]
        api.predict(api_name="/history_demo")
        line, *_, lists = shown(api)
        assert "6 epochs: AP is highest at epoch 40, 0.451" in line
        assert "Protocol of epoch 40: GT boxes" in lists


@pytest.mark.long
def test_from_the_page_to_a_single_instance_in_two_clicks(own, tab):
    page = tab(height=900)
    page.goto(f"{own}history?a=5&b=20")
    page.wait_for_selector(".his-lists a", timeout=60_000)
    page.wait_for_selector("#wb-history-figure .js-plotly-plot", timeout=60_000)
    assert "AP is highest at epoch 5" in page.inner_text(".wb-sentence >> nth=0")
    page.click(".his-lists section:first-child a")
    page.wait_for_url(re.compile(r"/\?run="), timeout=60_000, wait_until="commit")
    assert "sample=000001/" in page.url


def test_a_link_to_predictions_that_are_gone_says_what_is_shown(own, tab):
    page = tab(height=900)
    page.goto(f"{own}history?run=predictions:../../etc&a=1&b=20")
    message = "The run predictions:../../etc of this link is not here; run (predictions) is shown."
    page.get_by_text(message).wait_for(state="visible")
    page.get_by_text("3 epochs: AP is highest at epoch 5").first.wait_for(state="visible")


def test_a_link_says_which_epoch_and_set_of_it_are_not_there(own, monkeypatch):
    warned = []
    monkeypatch.setattr("gradio.Warning", lambda text, duration: warned.append((text, duration)))
    connected(own).predict('[null, "77", "20", "absent.json", null]', api_name="/history_chosen")
    assert [text.partition("; ")[0] for text, _ in warned] == [
        "a: '77' of this link is not here", "data: 'absent.json' of this link is not here"
    ]  # fmt: skip
    assert {duration for _, duration in warned} == {None}


def test_a_sweep_is_filled_from_the_address_and_written_into_it(own, tab):
    page = tab(height=900)
    page.goto(f"{own}history?sweep-ablations=decoders,weather&sweep-images=3&sweep-run=gone")
    page.get_by_text("sweep-ablations: expected one of").wait_for(state="visible")
    page.get_by_text("sweep-run: expected one of").wait_for(state="visible")
    shown = "(n) => document.querySelector('#wb-sweep-limit :is(textarea, input)')?.value === n"
    page.wait_for_function(shown, arg="3")
    limit = page.get_by_label("images", exact=True)
    limit.fill("2")
    limit.press("Enter")
    page.wait_for_function("location.search.includes('sweep-images=2')")
    page.reload()
    page.wait_for_function(shown, arg="2")
    assert "sweep-run" not in page.url
    assert not page.get_by_text("does not know").count()


def test_a_wrong_word_of_a_sweeps_address_is_said_and_the_others_are_kept(monkeypatch):
    from apps.pages.sweep_section import Sweeping
    from workbench.evaluation.sweeps.readings import ABLATIONS

    said = []
    monkeypatch.setattr("apps.pages.links.say_of_link", said.append)
    sets = SimpleNamespace(ids=lambda: ["one.json", "two.json"])
    registry = SimpleNamespace(runs=lambda: [SimpleNamespace(id="a"), SimpleNamespace(id="b")], sets=sets)
    section = Sweeping(SimpleNamespace(registry=registry, jobs=None))
    known = list(ABLATIONS)[:2]
    right = ["b", "two.json", ",".join(known), "7"]
    assert section.of_link(json.dumps(right)) == ["b", "two.json", known, "7"]
    assert section.of_link(json.dumps([None] * 4)) == ["a", "one.json", [], ""]
    assert said == []
    assert section.of_link(json.dumps(["c", "three.json", f"{known[0]},weather", "0"])) == [
        "a", "one.json", known[:1], ""
    ]  # fmt: skip
    assert [text.partition(":")[0] for text in said] == [
        "sweep-ablations", "sweep-images", "sweep-run", "sweep-data"
    ]  # fmt: skip


def test_a_cut_list_says_how_many_there_are():
    from apps.pages.history import _shown

    assert _shown([{}] * 3, 3) == "3"
    assert _shown([{}] * 20, 103) == "the first 20 of 103"
