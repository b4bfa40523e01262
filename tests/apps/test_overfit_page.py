"""The Overfit page over HTTP and in a real Chromium: start, pause, step, resume, verdict, culprit."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from apps.pages.overfit.choices import NAMES
from apps.pages.overfit.linked_settings import LINKED, settings_of_link
from apps.pages.overfit.page import OverfitPage
from tests import waiting
from tests.apps.client import connected, late
from tests.apps.conftest import started
from tests.waiting import when

PATIENCE = 90_000

# RTMPose's parts, cut after stride 8 at 64 px: a step takes some 20 ms.
SMALL = """
codec = dict(type="SimCCLabel", input_size=(64, 64), sigma=(2.0, 2.0), simcc_split_ratio=2.0, normalize=False,
             use_dark=False)
model = dict(
    type="TopdownPoseEstimator",
    data_preprocessor=dict(type="PoseDataPreprocessor", mean=[123.675, 116.28, 103.53],
                           std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(type="CSPNeXt", arch="P5",
                  arch_ovewrite=[[64, 128, 3, True, False], [128, 256, 3, False, True]],
                  expand_ratio=0.5, deepen_factor=0.167, widen_factor=0.25, out_indices=(2,),
                  channel_attention=True, norm_cfg=dict(type="BN"), act_cfg=dict(type="SiLU", inplace=True)),
    head=dict(type="RTMCCHead", in_channels=64, out_channels=17,
              input_size=(64, 64), in_featuremap_size=(8, 8),
              simcc_split_ratio=2.0, final_layer_kernel_size=7,
              gau_cfg=dict(hidden_dims=64, s=32, expansion_factor=2, dropout_rate=0.0, drop_path=0.0,
                           act_fn="SiLU", use_rel_bias=False, pos_enc=False),
              loss=dict(type="KLDiscretLoss", use_target_weight=True, beta=10.0, label_softmax=True),
              decoder=codec))
test_dataloader = dict(dataset=dict(type="CocoDataset", pipeline=[
    dict(type="GetBBoxCenterScale"), dict(type="TopdownAffine", input_size=(64, 64))]))
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server over a folder that holds one config, and its attempts' handlers."""
    from apps.server.settings import Settings

    root = tmp_path_factory.mktemp("configs")
    (root / "small.py").write_text(SMALL)
    (root / "runs_code.py").write_text("import os\nmodel = dict(type=os.name)\n")
    settings = Settings(root=root, port=0, cache=tmp_path_factory.mktemp("cache"))
    with started(settings, "overfit") as address_and_app:
        yield address_and_app


@pytest.fixture(scope="module")
def api(served):
    return connected(served[0])


def begin(api, **chosen_values):
    known = {"config": "small.py", "data": "astronaut", "steps": 60, "learning_rate": 2e-3}
    return api.predict(**{**known, **chosen_values}, api_name="/overfit_start")[0]


def look(api, session):
    return api.predict(session, "furthest off", "", api_name="/overfit_watch")


def until(api, session, claim, seconds=90):
    return when(lambda: look(api, session), claim, seconds, 0.2)


def state(seen):
    return seen[0].partition('data-testid="overfit-state">')[2].partition("<")[0]


def step(seen):
    return int(seen[0].partition('data-testid="overfit-step">')[2].partition("<")[0])


def test_before_a_start_the_image_and_its_annotation_are_shown(api):
    message, figure, picture, *_ = api.predict(
        "", "rtmpose", "", "astronaut", None, "cpu", 60, api_name="/overfit_awaited"
    )
    assert "Start trains rtmpose from initial weights" in message
    assert "for 60 steps on cpu" in message
    assert figure["type"] == "plotly"
    annotated = int(message.partition(" annotated keypoints")[0].rpartition(" ")[2])
    assert annotated > 8
    assert picture.count("<circle") == annotated
    message, _, picture, *_ = api.predict("", "", "", "astronaut", 10**6, "", 1, api_name="/overfit_awaited")
    assert "error" in message
    assert picture == ""


def test_a_session_is_paused_stepped_resumed_and_judged_over_http(api, freed):
    session = begin(api, steps=100000, every=5, wait=600)
    seen = until(api, session, lambda seen: state(seen) == "waiting")
    assert step(seen) == 5
    assert "is a multiple of 5" in seen[0]
    api.predict(session, 2, api_name="/overfit_step")
    seen = until(api, session, lambda seen: state(seen) == "paused" and step(seen) == 7)
    assert 'data-testid="overfit-overlay"' in seen[2]
    assert "SimCC vectors" in seen[2]
    api.predict(session, 5e-4, api_name="/overfit_rate")
    api.predict(session, 1, api_name="/overfit_step")
    seen = until(api, session, lambda seen: step(seen) == 8)
    assert "0.0005" in seen[0]
    api.predict(session, api_name="/overfit_snapshot")
    until(api, session, lambda seen: "snapshot" in seen[0])
    with pytest.raises(Exception, match=f"cpu is taken by session {session}"):
        begin(api)
    api.predict(session, api_name="/overfit_stop")
    seen = until(api, session, lambda seen: "overfit-verdict" in str(seen[3]))
    assert "(stopped early)" in seen[3]
    assert "The learning rate was set to 0.0005" in seen[3]
    assert "in the served folder; Copy command gives whole paths" in seen[3]
    assert "data-copy>Copy command</button>" in seen[3]
    rows = list(csv.DictReader(io.StringIO(api.predict(session, api_name="/overfit_csv"))))
    assert [int(row["step"]) for row in rows] == list(range(1, step(seen) + 1))
    assert len(json.loads(api.predict(session, api_name="/overfit_json"))) == len(rows)
    with pytest.raises(Exception, match="is stopped and cannot go on"):
        api.predict(session, api_name="/overfit_resume")


def test_a_served_adapter_is_what_the_page_proposes_with_the_first_set_of_the_folder():
    from apps.pages.overfit.choices import ADAPTER, DEMO, families
    from apps.pages.overfit.page import OverfitPage

    assert families(Path("my_model.py"))[:2] == [("adapter my_model.py", ADAPTER), ("RTMPose (demo)", DEMO)]
    page = OverfitPage.__new__(OverfitPage)
    page.context = SimpleNamespace(
        registry=SimpleNamespace(sets=SimpleNamespace(ids=lambda: ["val.json", "b"]))
    )
    assert (page.default_data(ADAPTER), page.default_data("rtmpose")) == ("val.json", "astronaut")


@pytest.mark.parametrize(
    ("family", "config", "data", "sample", "device", "steps", "message"),
    [
        ("rtmpose", "", "scenes-val", None, "", 5, ""),
        ("demo", "", "astronaut", None, "", 5, "annotated with coco-17"),
        ("bogus", "", "astronaut", None, "", 5, "no network &#x27;bogus&#x27;"),
        ("adapter", "", "astronaut", None, "", 5, "started without --adapter"),
        ("", "../secret.py", "astronaut", None, "", 5, "outside the served folder"),
        ("rtmpose", "", "astronaut", None, "cuda:99", 5, "device: expected one of"),
        ("rtmpose", "", "astronaut", 7, "", 5, "has samples 0 to 0"),
        ("rtmpose", "", "astronaut", None, "", 0, "steps: expected 1 or more, got 0"),
    ],
)
def test_what_start_would_refuse_is_told_before_it(api, family, config, data, sample, device, steps, message):
    values = ("", family, config, data, sample, device, steps)
    said, _, picture, *_ = api.predict(*values, api_name="/overfit_awaited")
    assert message in said
    assert (picture == "") == bool(message)


def test_beside_a_session_only_what_the_next_start_would_refuse_is_told(api):
    values = ("a session", "rtmpose", "", "astronaut", None, "", 5)
    *shown, refused, address = api.predict(*values, learning_rate=-1, api_name="/overfit_awaited")
    assert "Start would refuse this: learning rate: expected a number from 0 on, got -1" in refused
    assert not any("annotated keypoints" in str(one) for one in shown)
    stated = {name: word for name, word in json.loads(address).items() if word is not None}
    assert stated.pop("family", "rtmpose") == "rtmpose"
    assert stated == {"data": "astronaut", "steps": "5", "rate": "-1"}


def test_a_link_names_data_and_sample(api):
    found = api.predict(json.dumps([None, None, "scenes-val", "5"]), api_name="/overfit_restored")
    assert "scenes-val" in str(found)


SET = {
    "family": "cape", "steps": 61, "learning_rate": 0.0003, "schedule": "multistep", "weight_decay": 0.05,
    "ema": 0.9, "plant": "clip", "every": 7, "pck_falls": 0.25, "wait": 9.5, "seed": 3, "warm_up": 11,
    "clip": 0.5, "dropout": False, "config_training": True, "data": "astronaut", "sample": 0,
}  # fmt: skip


def opened(api, words):
    query = json.dumps([words.get(name) for name in OverfitPage.address])
    note, *chosen = api.predict(query, api_name="/overfit_restored")[-len(NAMES) - 1 :]
    values = dict(zip(NAMES, chosen, strict=True))
    return note, {n: v["value"] if isinstance(v, dict) else v for n, v in values.items()}


@pytest.mark.parametrize("name", [name for name in SET if name != "sample"])
def test_every_setting_stands_in_the_address_and_comes_back_from_it(api, name):
    """What was started would else be another attempt for whoever opens the link."""
    chosen = {"data": "astronaut", "sample": 0, "family": "rtmpose", name: SET[name]}
    *_, address = api.predict(**chosen, api_name="/overfit_awaited")
    words = {one: word for one, word in json.loads(address).items() if word is not None}
    note, values = opened(api, words)
    assert {one: values[one] for one in chosen} == chosen, words
    assert "error" not in note


def test_all_settings_stand_in_one_address_and_usual_ones_in_none(api):
    *_, address = api.predict(**SET, api_name="/overfit_awaited")
    _, values = opened(api, json.loads(address))
    assert {one: values[one] for one in SET} == SET
    usual = {"family": "cape", "steps": 400, "learning_rate": 2e-3, "schedule": "cosine"}
    *_, address = api.predict(**usual, data="astronaut", api_name="/overfit_awaited")
    words = {one: word for one, word in json.loads(address).items() if word is not None}
    assert words == {"family": "cape", "data": "astronaut"}
    _, values = opened(api, words)
    assert {one: values[one] for one in usual} == usual
    assert set(LINKED) < set(OverfitPage.address)


WRONG = {
    "steps": "0", "rate": "fast", "weight-decay": "-1", "ema": "nan", "warm-up": "2.5", "clip": "-3",
    "seed": "x", "every": "-1", "pck-falls": "inf", "wait": "long", "dropout": "maybe",
    "config-training": "1",
    "schedule": "linear", "plant": "weather", "family": "absent",
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_word_of_an_address_is_said_and_the_default_shown(name, monkeypatch):
    said = []
    monkeypatch.setattr("apps.pages.links.say_of_link", said.append)
    usual = settings_of_link([None] * len(LINKED), ["demo", "cape"])
    words = [WRONG[name] if one == name else None for one in LINKED]
    found = settings_of_link(words, ["demo", "cape"])
    # Beside no default a number stands for the family's own: it is the one that the sentence names.
    assert {n: v for n, v in found.items() if n not in ("warm_up", "clip")} == {
        n: v for n, v in usual.items() if n not in ("warm_up", "clip")
    }
    assert len(said) == 1
    assert said[0].startswith(f"{name}: expected ")
    assert WRONG[name] in said[0]


@pytest.mark.long
@pytest.mark.browser
def test_a_setting_is_shown_again_when_the_page_is_loaded_again(tab, served, freed):
    where, _ = served
    page = tab()
    page.goto(f"{where}overfit?steps=0&seed=5")
    page.locator("[data-testid=overfit-awaited]").wait_for(timeout=PATIENCE)
    page.get_by_text("steps: expected a whole number from 1").wait_for(timeout=PATIENCE)
    assert page.get_by_label("steps", exact=True).input_value() == "200"
    assert page.get_by_label("seed", exact=True).input_value() == "5"
    page.get_by_label("clip (default)", exact=True).fill("0.5")
    page.wait_for_function("location.search.includes('clip=0.5')", timeout=PATIENCE)
    page.reload()
    page.wait_for_function(
        "document.querySelector('[aria-label=\"clip (default)\"]')?.value === '0.5'", timeout=PATIENCE
    )
    assert "steps=" not in page.url
    assert not page.get_by_text("does not know").count()


def test_a_link_names_the_sample_as_look_and_compare_do_and_as_the_rail_carries_it(api):
    query = json.dumps([None, None, "scenes-val", "000002/2"])
    note, *chosen = api.predict(query, api_name="/overfit_restored")[-len(NAMES) - 1 :]
    offered = dict(zip(NAMES, chosen, strict=True))
    assert (note, offered["data"]["value"], offered["sample"]["value"]) == ("", "scenes-val", 1)


@pytest.mark.parametrize(
    ("run", "data", "sample", "reason", "shown"),
    [
        (None, "scenes-vol", None, "nearest", "scenes-val"),
        ("absent", None, None, "no run", "scenes-val"),
        (None, "scenes-val", "000002/9999", "has no sample", "scenes-val"),
        (None, "scenes-val", "230", "scenes-val has 230, counted from 0; got 230", "scenes-val"),
        (None, "astronaut", "9", "astronaut has 1, counted from 0; got 9", "astronaut"),
    ],
)
def test_a_link_to_what_is_not_there_is_said_on_a_page_that_can_be_used(
    api, run, data, sample, reason, shown
):
    found = api.predict(json.dumps([None, run, data, sample]), api_name="/overfit_restored")
    note, *chosen = found[-len(NAMES) - 1 :]
    assert reason in note
    assert "the default is shown instead" in note
    assert dict(zip(NAMES, chosen, strict=True))["data"]["value"] == shown


def test_chosen_data_stay_when_the_family_changes(api):
    data, sample, *_ = api.predict("demo", "astronaut", api_name="/overfit_family")
    assert "value" not in data
    assert "value" not in sample


@pytest.mark.parametrize(
    ("chosen_values", "message"),
    [
        ({"config": "../secret.py"}, "outside the served folder"),
        ({"config": "absent.py"}, "nothing of that name"),
        ({"config": "runs_code.py"}, "run"),
        ({"config": "", "family": "bogus"}, "no network 'bogus'"),
        ({"data": "bogus"}, "no data set 'bogus'"),
        ({"data": "scenes-val"}, "annotated with ap10k-17"),
        ({"sample": 7}, "has samples 0 to 0"),
        ({"steps": 0}, "steps: expected 1 or more, got 0"),
        ({"plant": "gremlin"}, "fault to plant"),
        ({"plant": "support mask"}, "belongs to sequence models"),
        ({"config": "", "family": "cape", "plant": "codec"}, "declares no codec"),
        ({"device": "cuda:99"}, "device: expected one of"),
        ({"learning_rate": -1}, "learning rate: expected a number from 0 on"),
    ],
)
def test_what_cannot_be_started_is_told_in_one_sentence(api, chosen_values, message):
    with pytest.raises(Exception, match=r"\S") as refused:
        begin(api, **chosen_values)
    assert message in str(refused.value)
    assert "Traceback" not in str(refused.value)


@pytest.mark.long
@pytest.mark.parametrize("fault", ["loss scale", "pck coordinates"])
def test_a_wrong_log_of_cape_is_named_over_http(api, freed, fault):
    session = begin(api, config="", family="cape", steps=2, plant=fault)
    seen = until(api, session, lambda seen: 'data-testid="overfit-culprit"' in str(seen[3]))
    assert f'data-testid="overfit-culprit">{fault}<' in seen[3]
    assert "its own log says" in seen[3]
    assert f"--plant '{fault}'" in seen[3].replace("&#x27;", "'")


def test_a_bottom_up_network_is_shown_on_its_whole_image(api, freed):
    session = begin(api, config="", family="higherhrnet", steps=2, learning_rate=5e-3)
    seen = until(api, session, lambda seen: "overfit-verdict" in str(seen[3]))
    assert 'data-testid="overfit-overlay"' in seen[2]
    assert "workbench overfit higherhrnet" in seen[3]
    api.predict(session, api_name="/overfit_cancel")


def test_another_family_brings_the_settings_it_usually_learns_with(api):
    data, _, steps, rate, schedule = api.predict("cape", "astronaut", api_name="/overfit_family")
    assert (steps, rate, schedule) == (400, 2e-3, "cosine")
    assert "value" not in data  # it stays as it is
    assert api.predict("rtmpose", "astronaut", api_name="/overfit_family")[2:] == (200, 1e-3, "constant")
    assert api.predict("higherhrnet", "astronaut", api_name="/overfit_family")[2:] == (300, 5e-3, "cosine")


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        ("nan", "the loss is nan at step 2"),
        ("memory", "out of memory after step 1: take fewer images"),
        ("disk", "No space left on device"),
    ],
)
def test_what_ends_a_session_early_is_told_in_one_sentence_and_finished_steps_stay(
    api, freed, monkeypatch, raised, message
):
    import errno

    import torch

    from workbench.training.passes import Passes

    forward = Passes._forward

    def failing(self):
        done = forward(self)
        self.passed = getattr(self, "passed", 0) + 1
        if self.passed == 2 and raised == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.passed >= 2 and raised == "nan":
            done.loss.data.fill_(float("nan"))
        return done

    def full(*_arguments, **_more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Passes, "_forward", failing)
    if raised == "disk":
        monkeypatch.setattr("workbench.training.session.write_snapshot", full)
    session = begin(api, steps=4)
    seen = until(api, session, lambda seen: state(seen) == "failed" and message in str(seen[3]))
    assert "Traceback" not in seen[3]
    assert step(seen) >= 1


def test_a_session_that_the_server_does_not_hold_is_told_where_the_status_stands(api):
    assert "no overfit session" in look(api, "deadbeef")[0]


@pytest.fixture
def freed(api):
    """Nothing that a test leaves behind, wherever it ended, holds the device against the next."""
    yield

    def alive():
        shown = str(api.predict("[null]", api_name="/overfit_restored"))
        sessions = re.findall(r"overfit\?session=(\w+)", shown)
        for session in sessions:
            with contextlib.suppress(Exception):  # it may have ended since
                api.predict(session, api_name="/overfit_stop")
            api.predict(session, api_name="/overfit_cancel")
        return sessions

    when(alive, lambda sessions: not sessions, every=0.2)


@pytest.mark.long
@pytest.mark.browser
def test_an_answer_is_not_lost_when_the_words_that_close_the_stream_come_late(tab, served, freed):
    where, _ = served
    page = tab()
    page.add_init_script(late(50))
    page.goto(f"{where}overfit")
    page.wait_for_function("document.querySelector('[aria-label=\"data\"]')?.value", timeout=PATIENCE)
    page.get_by_label("or config, or checkpoint with one (read only)").fill("small.py")
    page.get_by_label("data", exact=True).fill("astronaut")
    page.get_by_label("data", exact=True).press("Enter")
    page.get_by_label("pause every n steps", exact=True).fill("2")
    page.locator("#ovf-start").click()  # while the shown image is on its way, or the words after it
    page.wait_for_function(
        "document.querySelector('[data-testid=overfit-state]')?.textContent === 'waiting'", timeout=PATIENCE
    )


@pytest.mark.long
@pytest.mark.browser
def test_what_was_going_to_be_learned_does_not_stand_over_a_session_that_was_started(
    tab, served, freed, monkeypatch
):
    """Its answer comes after the start, while an update that has nothing new is on its way to the page."""
    from apps.pages.overfit import page as handlers

    where, _ = served
    at_once, status = handlers.preview, handlers.status_html
    asked, release, previewed, blocked, updating, go_on = (threading.Event() for _ in range(6))
    updates = []

    def late_preview(context, choices):
        if choices.sample != 0:
            return at_once(context, choices)
        asked.set()
        assert release.wait(PATIENCE / 1000)
        previewed.set()
        return at_once(context, choices)

    def late_status(attempt):
        updates.append(attempt.state)
        if blocked.is_set() and not go_on.is_set():
            updating.set()
            assert go_on.wait(PATIENCE / 1000)
        return status(attempt)

    monkeypatch.setattr(handlers, "preview", late_preview)
    monkeypatch.setattr(handlers, "status_html", late_status)
    page = tab()
    page.goto(f"{where}overfit")
    page.locator("[data-testid=overfit-awaited]").wait_for(timeout=PATIENCE)
    page.get_by_label("or config, or checkpoint with one (read only)").fill("small.py")
    page.get_by_label("pause every n steps", exact=True).fill("2")
    page.get_by_label("longest pause, s", exact=True).fill("600")
    page.get_by_label("data", exact=True).fill("astronaut")
    page.get_by_label("data", exact=True).press("Enter")
    page.get_by_label("sample (first)", exact=True).fill("0")
    assert asked.wait(PATIENCE / 1000)
    page.locator("#ovf-start").click()
    page.locator("[data-testid=overfit-overlay]").wait_for(timeout=PATIENCE)
    blocked.set()
    assert updating.wait(PATIENCE / 1000)
    release.set()
    assert previewed.wait(PATIENCE / 1000)
    # The preview's answer reaches the page before that of the update under way, which draws no picture.
    page.wait_for_timeout(300)
    go_on.set()
    before = len(updates)
    # One update at a time: the second that begins from now on follows the answer of the first.
    waiting.until(lambda: len(updates) > before + 2)
    assert page.locator("[data-testid=overfit-overlay]").count() == 1
    assert page.locator("[data-testid=overfit-awaited]").count() == 0


@pytest.mark.long
@pytest.mark.browser
def test_start_pause_step_resume_verdict_and_culprit_in_a_browser(tab, served, freed):
    where, _ = served
    page = tab()
    page.goto(f"{where}overfit")
    page.locator("#ovf-start").wait_for(timeout=PATIENCE)
    page.wait_for_function("document.querySelector('[aria-label=\"data\"]')?.value", timeout=PATIENCE)

    def text(name):
        return page.locator(f"[data-testid=overfit-{name}]").text_content(timeout=PATIENCE)

    def until_state(wanted):
        page.wait_for_function(
            "(s) => document.querySelector('[data-testid=overfit-state]')?.textContent === s",
            arg=wanted,
            timeout=PATIENCE,
        )

    page.get_by_label("or config, or checkpoint with one (read only)").fill("small.py")
    page.get_by_label("data", exact=True).fill("astronaut")
    page.get_by_label("data", exact=True).press("Enter")
    page.get_by_label("steps", exact=True).fill("60")
    page.get_by_label("learning rate", exact=True).fill("0.002")
    page.get_by_label("pause every n steps", exact=True).fill("40")
    page.get_by_label("longest pause, s", exact=True).fill("600")
    page.get_by_label("plant a fault").click()
    page.get_by_role("option", name="codec", exact=True).click()
    page.locator("#ovf-start").click()
    until_state("waiting")
    assert text("step") == "40"
    # A second start during a run would only be refused.
    page.wait_for_function("document.querySelector('#ovf-start').disabled", timeout=PATIENCE)
    page.locator("[data-testid=overfit-overlay]").wait_for(timeout=PATIENCE)
    page.locator("#wb-figure .js-plotly-plot .cartesianlayer").first.wait_for(timeout=PATIENCE)
    page.wait_for_url("**session=*")

    page.get_by_role("button", name="Step 1", exact=True).click()
    page.wait_for_function(
        "document.querySelector('[data-testid=overfit-step]').textContent === '41'", timeout=PATIENCE
    )
    until_state("paused")
    page.reload()  # a closed page loses nothing
    until_state("paused")
    assert text("step") == "41"
    page.get_by_role("button", name="Resume").click()
    page.locator("[data-testid=overfit-verdict]").wait_for(timeout=PATIENCE)
    assert text("culprit") == "codec"
    assert "--plant codec" in text("command")
    page.wait_for_function("!document.querySelector('#ovf-start').disabled", timeout=PATIENCE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
