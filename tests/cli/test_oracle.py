"""workbench oracle: the waterfall on the command line, and what it refuses."""

from __future__ import annotations

import json

import pytest


def test_tells_every_step_with_its_gain_and_writes_the_picture(workbench, tmp_path):
    out = tmp_path / "waterfall.html"
    code, text, err = workbench("oracle", "--demo", "--limit", "2", "--json", "--out", out)
    assert code == 0, err
    facts = json.loads(text)
    first, *parts = facts["steps"]
    assert first["gain"] is None
    assert sum(step["gain"] for step in parts) == pytest.approx(parts[-1]["AP"] - first["AP"])
    assert facts["images"] == 2
    assert out.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "expected a checkpoint"),
        (("--demo", "--limit", "0"), "at least 1 image"),
        (("--demo", "--out", "a.png"), "ending in .html"),
        (("--demo", "--data", "absent"), "absent"),
    ],
)
def test_a_wrong_wish_is_one_sentence(workbench, words, said):
    code, out, err = workbench("oracle", *words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
