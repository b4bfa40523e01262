"""The Conditioning page over HTTP and in a real Chromium: verdict, another epoch, other numbers."""

from __future__ import annotations

import dataclasses
import html
import json

import pytest
import torch

from tests.apps.client import connected, saved
from tests.apps.conftest import started
from tests.apps.layout import faults
from tests.models.text_fusion_net import config, written
from tests.waiting import when
from workbench.text.vectors import builtin_text, write_text

pytestmark = pytest.mark.long

PATIENCE = 90_000


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server over a run of two epochs with text, a log beside it, and a run without text."""
    from apps.server.settings import Settings

    root = tmp_path_factory.mktemp("conditioned")
    run = root / "text-run"
    (run / "vis_data").mkdir(parents=True)
    for epoch, gate in ((1, 0.1), (2, 0.3)):
        file = written(config(), run, name=f"epoch_{epoch}.pth")
        content = torch.load(file, weights_only=False)
        content["state_dict"]["neck.film_gate"].fill_(gate)
        content["state_dict"]["neck.global_mlp.0.bias"][:32] = 1 + gate
        torch.save(content, file)
    rows = [{"coco/AP": ap, "coco/AR": ar, "step": e} for e, ap, ar in ((1, 0.3, 0.4), (2, 0.2, 0.5))]
    (run / "vis_data" / "scalars.json").write_text("\n".join(map(json.dumps, rows)))
    plain = config()
    plain["model"].update(type="TopdownPoseEstimator")
    plain["model"].pop("neck")
    plain["model"].pop("text")
    plain["model"]["head"].pop("refiner")
    plain["model"]["head"]["type"] = "RTMCCHead"
    (root / "plain").mkdir()
    written(plain, root / "plain")
    broken = {"z-wrong-text": (config(text="text.npz"), ()), "z-no-neck": (config(), ("neck",)),
              "z-no-text": (config(text="", fuse_in_predict=True), ())}  # fmt: skip
    for name, (settings, drop) in broken.items():
        (root / name).mkdir()
        written(settings, root / name, drop=drop)
    text = builtin_text()
    short = dataclasses.replace(text, subject_vectors=text.subject_vectors[:, :8])
    write_text(short, root / "z-wrong-text" / "text.npz")
    with started(Settings(root=root, port=0, cache=tmp_path_factory.mktemp("cache"))) as address_and_app:
        yield address_and_app


@pytest.fixture(scope="module")
def api(served):
    return connected(served[0])


def watched(api, state, seconds=60):
    """What the page shows once the job is done."""
    return when(
        lambda: api.predict(state, "", api_name="/conditioning_watch"),
        lambda seen: "is being measured" not in seen[1] and "clinic-verdict" in seen[1],
        seconds,
    )


def test_the_run_with_text_is_shown_first_and_its_defects_are_named(api, served):
    query = json.dumps([None, None, None, "4", None, None])
    *_, state, address, _, why, _ = api.predict(query, api_name="/conditioning_restored")
    assert why == ""
    assert json.loads(address)["run"] == "text-run"
    verdict = watched(api, state)[1]
    for name in (
        "untrained refiner",
        "neck skipped in predict",
        "one vector for all",
        "γ clipped and dropped",
    ):
        assert name in verdict
    message = saved(served[0], "conditioning", "paths", "json", state)
    assert json.loads(message)["first_difference"] == "text.subject"
    message = json.loads(saved(served[0], "conditioning", "parts", "json", state))
    assert {row["name"] for row in message["variants"]} >= {"without refiner", "training path"}
    assert "opposite" in saved(served[0], "conditioning", "trends", "csv", state)


def test_an_experiment_runs_as_a_job_and_is_compared(api, served):
    query = json.dumps([None, None, None, "4", None, None])
    state = api.predict(query, api_name="/conditioning_restored")[-5]
    asked = (state, "both-ways", 1, 4)
    api.predict(*asked, api_name="/experiment_run")

    def seen_of(asked, place, words):
        """Wait for words in a part of what the page shows of a series of experiments."""

        def ask():
            seen = api.predict(*asked, api_name="/experiment_watch")
            assert "wb-error" not in seen[0], seen[0]
            return seen

        when(ask, lambda seen: words in seen[place])

    seen_of(asked, 1, "wb-sentence")
    text = saved(served[0], "conditioning/experiments", "experiments", "json", json.dumps(asked))
    arms = json.loads(text)["arms"]
    assert {"name", "AP", "low", "high"} <= set(arms[0])
    long = (state, "residual", 5000, 4)
    api.predict(*long, api_name="/experiment_run")
    seen_of(long, 0, " of 5000")
    api.predict(*long, api_name="/experiment_cancel")
    seen_of(long, 0, "Cancelled")
    with pytest.raises(Exception, match="expected 1 to 5000 steps"):
        api.predict(state, "both-ways", 6000, 4, api_name="/experiment_run")


@pytest.mark.parametrize(
    ("bar", "message"),
    [
        (("plain", None, None, None, None), "Not available for this run"),
        (("z-wrong-text", None, None, None, None), "vectors of 8 numbers"),
        (("z-no-neck", None, None, None, None), "the checkpoint no neck.global_mlp"),
        (("absent", None, None, None, None), "no run 'absent'"),
        (("text-run", 7, None, 4, None), "epochs 0 to 1"),
        (("text-run", 0, "absent", None, None), "no data set 'absent'"),
        (("text-run", 0, "scenes-val", -3, None), "expected 1 or more"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(api, bar, message):
    why = html.unescape(api.predict(*bar, api_name="/conditioning")[-2])
    assert message in why
    if bar[0] == "plain":
        assert "Runs it works for: text-run" in why


def test_a_model_whose_text_is_not_here_says_where_to_put_it(api):
    """The page's job fails with the sentence; other runs are untouched."""
    *_, state, _, _, why, _ = api.predict("z-no-text", None, None, 4, None, api_name="/conditioning")
    if "text.npz" not in why:
        why = when(
            lambda: api.predict(state, "", api_name="/conditioning_watch")[0], lambda why: "text.npz" in why
        )
    assert "put the vectors beside the checkpoint as text.npz" in why


@pytest.mark.long
@pytest.mark.browser
def test_read_the_verdict_change_the_epoch_and_read_changed_numbers(tab, served):
    where, _ = served
    page = tab()
    page.goto(f"{where}conditioning?limit=4")

    def text(name):
        return page.locator(f"[data-testid=clinic-{name}]").first.text_content(timeout=PATIENCE)

    def until(name, wanted):
        page.wait_for_function(
            "([n, w]) => document.querySelector(`[data-testid=clinic-${n}]`)?.textContent === w",
            arg=[name, wanted], timeout=PATIENCE,
        )  # fmt: skip

    until("gate", "0.300")
    page.locator("[data-testid=clinic-AP]").wait_for(timeout=PATIENCE)
    assert "neck skipped in predict" in text("verdict")
    assert text("gamma").startswith("1.300")
    for name in ("trends", "ranking", "paths", "film", "features", "refiner", "parts", "text"):
        page.locator(f"#cnd-{name} .js-plotly-plot").wait_for(timeout=PATIENCE)
    assert "opposite directions at epoch 2" in page.locator("#cnd-trends-line").text_content()
    page.get_by_label("instances (0: all)").fill("4")
    page.locator("#cnd-run-no-refiner").click()
    page.locator("#cnd-experiments .js-plotly-plot").wait_for(timeout=PATIENCE)
    assert "What does the refiner do" in page.locator("#cnd-experiments-line").text_content()
    page.get_by_label("epoch", exact=True).click()
    page.get_by_role("option", name="epoch 1", exact=True).click()
    until("gate", "0.100")
    assert text("gamma").startswith("1.100")
    page.wait_for_url("**epoch=1*")
    page.locator("[data-testid=clinic-AP]").wait_for(timeout=PATIENCE)
    page.reload()
    until("gate", "0.100")
    assert faults(page) == []
