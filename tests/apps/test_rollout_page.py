"""The Rollout page over HTTP and in a real Chromium, on the demo and on a sequence model of a user's own."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.apps.client import code_in, connected, saved
from tests.apps.conftest import started
from tests.apps.layout import faults
from tests.inspectors.sequence.telling import SKELETON, bent
from tests.waiting import when

PATIENCE = 120_000
TELLING = Path(__file__).parents[1] / "inspectors/sequence/telling.py"
# Values of a watch before the first section: status, sentence, facts.
# Of a section clients are sent two sentences, two figures and the details, and no columns.
BEFORE, EACH = 3, 5


def write_line(folder: Path, samples, names) -> Path:
    """A COCO-format set of these samples, one image each."""
    from workbench.data.images import write_image

    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for n, sample in enumerate(samples, 1):
        write_image(folder / "images" / f"{n}.png", sample.image)
        H, W = sample.image.shape[:2]
        x0, y0, x1, y1 = sample.box
        flat = [float(v) for v in sample.truth.ravel()]
        images.append({"id": n, "file_name": f"{n}.png", "height": H, "width": W})
        annotations.append(
            {
                "id": 10 + n, "image_id": n, "category_id": 1, "keypoints": flat, "iscrowd": 0,
                "num_keypoints": int((sample.truth[:, 2] > 0).sum()),
                "bbox": [x0, y0, x1 - x0, y1 - y0], "area": float((x1 - x0) * (y1 - y0)),
            }
        )  # fmt: skip
    categories = [{"id": 1, "name": "line", "keypoints": list(names), "skeleton": []}]
    path = folder / "line.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A server over two epochs of a model of a user's own; its set's third sample shows nothing."""
    import dataclasses

    import torch

    from apps.server.settings import Settings

    root = tmp_path_factory.mktemp("own")
    for epoch in (1, 2):
        (root / "runs/mine").mkdir(parents=True, exist_ok=True)
        state = {"state_dict": {"w": torch.zeros(1)}, "meta": {"epoch": epoch}}
        torch.save(state, root / f"runs/mine/epoch_{epoch}.pth")
    blind = dataclasses.replace(bent(), truth=np.asarray(bent().truth) * (1, 1, 0))
    data = write_line(root / "data", [bent(), bent(3), blind], SKELETON.keypoints)
    settings = Settings(
        root=root / "runs", data=(data,), port=0, cache=tmp_path_factory.mktemp("cache"), adapter=TELLING
    )
    with started(settings, "rollout") as address_and_app:
        yield address_and_app


@pytest.fixture(scope="module")
def api(own):
    return connected(own[0])


def begin(api, **choices):
    """The wish, the address, and the sentence when it was refused."""
    reply = api.predict(**{"run": "mine", **choices}, api_name="/rollout")
    return reply[9], json.loads(reply[10]) if reply[9] else {}, reply[-2]


def answered(api, state_text, seconds=60):
    """What the page shows once every question is answered."""
    return when(
        lambda: api.predict(state_text, "", api_name="/rollout_watch"),
        lambda seen: not seen[0] and "…" not in seen[2],
        seconds,
    )


@pytest.mark.long
def test_a_model_of_a_users_own_is_asked_everything(api, own):
    state_text, address, _ = begin(api, epoch_a=0, epoch_b=1, data="line.json", sample=0, keypoint="b")
    assert address["epochs"] == "1,2"
    assert (address["sample"], address["keypoint"]) == ("1/11", "b")
    seen = answered(api, state_text)
    assert "PCK 1.00 teacher-forced, 1.00 free-running" in seen[1]
    assert "the support is used" in seen[1]
    from apps.pages.rollout.lab import QUESTIONS

    for n, question in enumerate(QUESTIONS):
        lines = seen[BEFORE + EACH * n : BEFORE + EACH * n + 2]
        assert all("wb-why" not in line for line in lines), question
        compile(code_in(seen[BEFORE + EACH * n + 4]), question, "exec")
    step = QUESTIONS.index("step_attention")
    assert "Step 1, b, attends 30% of the box away" in seen[BEFORE + EACH * step + 1]
    facts = json.loads(saved(own[0], "rollout", "support", "json", state_text))
    moved = dict(zip(facts["epoch 2"]["kinds"], facts["epoch 2"]["moved"], strict=True))
    assert moved["other"] == pytest.approx(3 / 20, abs=1e-5)
    rows = list(csv.DictReader(io.StringIO(saved(own[0], "rollout", "forced_and_free", "csv", state_text))))
    assert [row["epoch"] for row in rows] == ["epoch 1"] * 3 + ["epoch 2"] * 3


@pytest.mark.long
def test_a_support_of_ones_own_choice_is_another_example(api):
    state_text, address, _ = begin(api, data="line.json", sample=0, support=1)
    assert address["support"] == "2/12"
    seen = answered(api, state_text)
    # The answers are the other's: 3 px of 20 to the right, within .2 and not within .1.
    assert "PCK 1.00 teacher-forced, 1.00 free-running" in seen[1]
    state_text, _, _ = begin(api, data="line.json", sample=0, support=1, threshold=0.1)
    assert "0.00 free" in answered(api, state_text)[1]


@pytest.mark.long
def test_schedules_are_trained_on_request(api, own):
    state_text, _, _ = begin(api, data="line.json", sample=0)
    api.predict(state_text, 4, 1e-3, api_name="/rollout_train")
    seen = when(lambda: api.predict(state_text, 4, 1e-3, api_name="/rollout_taught"), lambda seen: seen[1])
    assert "After 4 steps" in seen[1]
    text = saved(own[0], "rollout/schedules", "schedules", "csv", json.dumps([state_text, 4, 1e-3]))
    rows = csv.DictReader(io.StringIO(text))
    assert {row["schedule"] for row in rows} == {"teacher", "linear", "sigmoid", "exponential"}


def test_a_model_that_does_not_say_how_it_was_made_is_not_learned_anew(api):
    state_text, _, _ = begin(api, data="line.json", sample=0)
    with pytest.raises(Exception, match="does not say how its network was made"):
        api.predict(state_text, 8, api_name="/rollout_learn")


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"sample": 2}, "no keypoint is visible"),
        ({"sample": 9}, "samples 0 to 2"),
        ({"support": 77}, "samples 0 to 2"),
        ({"threshold": 0}, "threshold above 0"),
        ({"epoch_b": 9}, "epochs 0 to 1"),
        ({"run": "absent"}, "no run"),
        ({"data": "scenes-val"}, "keypoints"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence_in_the_answers_place(api, choices, said):
    state_text, _, line = begin(api, **{"data": "line.json", "sample": 0, **choices})
    assert state_text == ""
    assert said in line
    assert line.count("\n") == 0


def test_a_model_that_is_no_sequence_model_says_so_and_where_one_is(client):
    reply = client.predict(run="painted-run", api_name="/rollout")
    assert reply[9] == ""
    assert "finds all keypoints at once" in reply[-2]


@pytest.fixture
def demos(tmp_path, root):
    """Address of a server whose folder holds the two demo runs, as the built-in data do."""
    from apps.server.settings import Settings

    for name in ("cape-demo", "cape-demo-cured"):
        shutil.copytree(root / "checkpoints" / name, tmp_path / "runs" / name)
    with started(Settings(root=tmp_path / "runs", port=0, cache=tmp_path / "cache"), "rollout") as (where, _):
        yield where


@pytest.mark.long
@pytest.mark.browser
def test_the_early_epoch_is_changed_and_its_values_change(demos, tab):
    page = tab()

    def cell(name, letter):
        return page.locator(f"[data-testid=rollout-{name}-{letter}]").text_content(timeout=PATIENCE)

    def until(name, letter, text):
        page.wait_for_function(
            "([name, text]) => document.querySelector(`[data-testid=${name}]`)?.textContent === text",
            arg=[f"rollout-{name}-{letter}", text],
            timeout=PATIENCE,
        )

    page.goto(f"{demos}rollout")
    until("PCK-free-running", "A", "0.41")
    until("loss-metric-picture", "B", "agree")
    assert (cell("PCK-free-running", "B"), cell("PCK-teacher-forced", "B"), cell("gap", "B")) == (
        "0.71",
        "1.00",
        "+0.29",
    )
    page.wait_for_url("**epochs=10%2C40**")
    page.locator("#rol-forced_and_free-A .cartesianlayer").first.wait_for(timeout=PATIENCE)
    page.get_by_label("epoch A", exact=True).click()
    page.get_by_role("option", name="epoch 40", exact=True).click()
    page.wait_for_url("**epochs=40&**")
    page.locator("[data-testid=rollout-PCK-free-running-A]").wait_for(state="detached", timeout=PATIENCE)
    assert cell("PCK-free-running", "B") == "0.71"
    page.get_by_label("epoch B", exact=True).click()
    page.get_by_role("option", name="epoch 10", exact=True).click()
    until("PCK-free-running", "B", "0.41")
    until("PCK-free-running", "A", "0.71")
    page.get_by_label("run", exact=True).click()
    # The served folder's own run comes first; the built-in one has the same name.
    page.get_by_role("option", name="cape-demo-cured", exact=True).first.click()
    until("PCK-free-running", "B", "1.00")
    page.wait_for_url("**run=cape-demo-cured**")
    page.get_by_label("steps of each attempt", exact=True).fill("8")
    page.locator("#rol-learn").click()
    card = page.locator("#rol-bisection-line table").text_content(timeout=PATIENCE)
    assert "without teacher forcing" in card
    assert "--bisect 8" in card
    assert faults(page) == []


@pytest.mark.long
def test_steps_and_rate_of_an_attempt_come_back_with_the_link(demos, tab):
    page = tab()
    page.goto(f"{demos}rollout")
    page.wait_for_function("location.search.includes('run=')", timeout=90_000)
    rate, steps = (
        page.get_by_label(label, exact=True) for label in ("learning rate", "steps of each attempt")
    )
    rate.fill("0.002")
    page.keyboard.press("Tab")
    page.wait_for_function("location.search.includes('rate=0.002')", timeout=30_000)
    steps.fill("50")
    page.keyboard.press("Tab")
    page.wait_for_function("location.search.includes('steps-of-attempt=50')", timeout=30_000)
    page.reload()
    shown = "([one, word]) => [...document.querySelectorAll('label')].some((l) => "
    shown += "l.textContent.trim() === one && l.querySelector('input')?.value === word)"
    for label, word in (("learning rate", "0.002"), ("steps of each attempt", "50")):
        page.wait_for_function(shown, arg=[label, word], timeout=60_000)
    assert page.locator(".wb-link-note").count() == 0
