"""Back and forward undo and redo the reader's choices, several of them, and lose no entry of the history."""

from __future__ import annotations

import pytest

from tests.apps.conftest import HERE, started

pytestmark = pytest.mark.browser

BAR = """() => ['run', 'epoch', 'data'].map((name) => document.querySelector(`[aria-label="${name}"]`)?.value)
  .concat(document.querySelector('.wb-bar input[type=number]')?.value)"""


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory, painted):
    """Two runs of two epochs each, and a set of four samples."""
    from apps.server.settings import Settings

    folder = tmp_path_factory.mktemp("runs")
    for run in ("first", "second"):
        for epoch in (1, 2):
            painted.write_checkpoint(folder / "root" / run / f"epoch_{epoch}.pth", epoch, 2 - epoch)
    data = painted.write_data(folder / "data", 4)
    chosen = Settings(
        root=folder / "root", data=(data,), port=0, cache=folder / "cache", adapter=HERE / "painted.py"
    )
    with started(chosen) as (where, _):
        yield where


@pytest.fixture(scope="module")
def two_crowds(tmp_path_factory):
    """Two runs of two epochs of the bottom-up model, and a set of three images with two people each."""
    from apps.server.settings import Settings
    from tests.apps import crowded

    folder = tmp_path_factory.mktemp("crowds")
    for run in ("first", "second"):
        crowded.write_run(folder / "root" / run)
        one = folder / "root" / run / "epoch_1.pth"
        (one.with_name("epoch_2.pth")).write_bytes(one.read_bytes())
    (folder / "data").mkdir()
    data = crowded.write_data(folder / "data", 3)
    chosen = Settings(
        root=folder / "root", data=(data,), port=0, cache=folder / "cache", adapter=HERE / "crowded.py"
    )
    with started(chosen) as (where, _):
        yield where


def option(label, name):
    def choose(page):
        page.get_by_label(label, exact=True).click()
        page.get_by_role("option", name=name, exact=True).click()

    return choose


def forth(page):
    page.click("#wb-forth")


CHOICES = (option("epoch", "epoch 1"), forth, option("run", "second"))


def shown(page):
    """Address and bar, once the page has answered."""
    page.wait_for_function("location.search.includes('sample=')")
    page.wait_for_function(
        "['#wb-answer .wb-sentence', '#wb-figure .js-plotly-plot'].every((e) => document.querySelector(e))"
    )
    return page.url, page.evaluate(BAR)


def seen_after(page, act, before):
    """Address and bar after a choice or a step through the history."""
    act(page)
    page.wait_for_function("(before) => location.href !== before", arg=before)
    return shown(page)


def comes(page, state):
    page.wait_for_url(state[0])
    page.wait_for_function(f"(bar) => JSON.stringify(({BAR})()) === JSON.stringify(bar)", arg=state[1])


# A word among the page's own controls is a choice as the run is; a slider's number is none.
WAYS = [
    ("two_runs", "look-overlay", option("view", "crop")),
    ("two_crowds", "grouping", option("order", "reversed")),
]


@pytest.mark.parametrize(("served", "path", "word"), WAYS)
def test_back_and_forward_undo_and_redo_several_choices(tab, request, served, path, word):
    page = tab()
    page.goto(f"{request.getfixturevalue(served)}{path}")
    states = [shown(page)]
    for choice in (*CHOICES, word):
        states.append(seen_after(page, choice, states[-1][0]))
    assert len({url for url, _ in states}) == len(states)
    # The bar is filled before the answer comes: the next step is taken in between.
    for state in states[-2::-1]:
        page.go_back(wait_until="commit")
        comes(page, state)
    for state in states[1:]:
        page.go_forward(wait_until="commit")
        comes(page, state)
    page.go_back(wait_until="commit")
    comes(page, states[-2])
    shown(page)
    page.get_by_role("button", name="Copy link").first.click()
    page.get_by_text("Copied: for this machine only").wait_for()
