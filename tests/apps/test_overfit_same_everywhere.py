"""Command line, page and notebook panel run the same overfit attempt: same losses, verdict and facts."""

from __future__ import annotations

import json

import pytest

from apps.notebook.overfit_panel import OverfitPanel
from apps.pages.overfit.attempts import Attempts
from apps.pages.overfit.choices import Choices
from apps.server.context import Context
from apps.server.settings import Settings as Serving
from tests.apps.test_overfit_page import SMALL
from tests.waiting import until

STEPS, RATE = 12, 2e-3


@pytest.fixture
def context(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "small.py").write_text(SMALL)
    found = Context.of(Serving(root=root, cache=tmp_path / "cache"))
    yield found
    found.jobs.close()


def facts_of(report):
    """What does not depend on where it ran: no title, no command, no speed."""
    facts = dict(report if isinstance(report, dict) else json.loads(json.dumps(report.to_json())))
    return {
        k: v for k, v in facts.items() if k not in ("summary", "command", "steps_per_second", "snapshots")
    }


@pytest.mark.parametrize("plant", ["", pytest.param("ema", marks=pytest.mark.long)])
def test_command_line_page_and_panel_give_the_same(workbench, context, tmp_path, plant):
    from workbench.data import builtin
    from workbench.models.fresh import new_model
    from workbench.training.faults import planted
    from workbench.training.plan import Plan
    from workbench.training.run_folder import read_rows
    from workbench.training.settings import Settings

    config, out = context.settings.root / "small.py", tmp_path / "out"
    words = ["--steps", STEPS, "--learning-rate", RATE, "--no-config-training", "--out", out, "--json"]
    words += ["--plant", plant] if plant else []
    code, told, err = workbench("overfit", "--config", config, *words)
    assert code == 0, err
    verb, rows = facts_of(json.loads(told)), read_rows(out / "rows")

    chosen = Choices(config="small.py", data="astronaut", steps=STEPS, learning_rate=RATE, plant=plant)
    attempt = Attempts(context).begin(chosen)
    until(lambda: not attempt.alive, 120, seen=lambda: attempt.state)

    model, _ = new_model(config=config)
    plan = planted(plant, Plan(Settings(steps=STEPS, learning_rate=RATE)), model)
    panel = OverfitPanel(model, builtin("astronaut").samples([0]), plan)
    panel.start()
    assert panel.wait(120)

    assert facts_of(attempt.run.report()) == facts_of(panel.report()) == verb
    losses = [[row["loss"] for row in found] for found in (rows, attempt.run.rows, panel.run.rows)]
    assert losses[0] == losses[1] == losses[2]
    assert verb["trials"]
