"""The file of `workbench report` in a real Chromium: drawn without a network, not wider than the page."""

from __future__ import annotations

import json

import pytest

from tests.apps.console import Console
from tests.evaluation.conftest import drawn, written  # noqa: F401 - fixtures
from tests.evaluation.test_comparison_details import people_set, sees, true_points


@pytest.mark.long
def test_the_file_is_drawn_without_a_network(chromium, workbench, tmp_path, written):  # noqa: F811
    pose_set = people_set(written, count=4)
    truth = true_points(pose_set)
    for name, offset in (("a", 20.0), ("b", 1.0)):
        (tmp_path / f"{name}.json").write_text(json.dumps(sees(pose_set, truth + offset, 1.0).to_coco()))
    rows = [{"epoch": e, "AP": 0.1 * e, "loss": 1 / e} for e in range(1, 9)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "report.html"
    code, _, err = workbench(
        "report", tmp_path / "a.json", tmp_path / "b.json", "--data", pose_set.source, "--out", out
    )
    assert code == 0, err
    opened = chromium.new_context(viewport={"width": 1024, "height": 800}, offline=True)
    page = opened.new_page()
    console, asked = Console(page), []
    page.on("request", lambda r: asked.append(r.url))
    page.goto(out.as_uri())
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 3")
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    console.closing()
    opened.close()
    assert not console.errors
