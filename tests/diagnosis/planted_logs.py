"""Causes planted in training logs and in the configs beside them."""

from __future__ import annotations

import json
import re

import numpy as np

from workbench.checkpoints.demo import demo_config, demo_log

RTM = "rtmpose-demo"


def logged(edit=None, *config_edits: tuple[str, str], log_run: str = RTM):
    """The demo's log, its rows edited, beside the demo's config, edited too."""

    def make(folder):
        text = demo_config(RTM).read_text()
        for pattern, new in config_edits:
            text, count = re.subn(pattern, new, text)
            assert count, pattern
        (folder / "config.py").write_text(text)
        rows = [json.loads(line) for line in demo_log(log_run).read_text().splitlines() if line.strip()]
        if edit is not None:
            edit(rows)
        (folder / "scalars.json").write_text("\n".join(map(json.dumps, rows)) + "\n")
        return [folder / "scalars.json", folder / "config.py"], {}

    return make


def training_rows(rows):
    return [row for row in rows if "loss" in row]


def rate_times(factor):
    def edit(rows):
        for row in training_rows(rows):
            row["lr"] *= factor
            row["base_lr"] *= factor

    return edit


def rate_of(how):
    """The rate as another reading of the config's schedule gives it."""

    def edit(rows):
        from workbench.checkpoints.config_reader import read_config
        from workbench.diagnosis.schedule import parts_of, rate_at

        base, parts = parts_of(read_config(demo_config(RTM)))
        held = training_rows(rows)
        per_epoch = max(row["step"] for row in held) / max(row["epoch"] for row in held)
        for row in held:
            row["lr"] = row["base_lr"] = how(base, parts, row["step"], per_epoch, rate_at)

    return edit


def per_epoch_steps(base, parts, step, per_epoch, rate_at):
    return rate_at(base, parts, step - 1, per_epoch, steps_epochs=True)


def begun_anew(base, parts, step, per_epoch, rate_at):
    half = 20 * per_epoch
    return rate_at(base, parts, step - 1 if step < half else step - 1 - half, per_epoch)


def rising(base, parts, step, per_epoch, rate_at):
    return base * (0.01 + 0.99 * (step - 1) / 99_999)


def loss_nan(rows):
    for row in training_rows(rows)[100:]:
        row["loss"] = row["loss_kpt"] = float("nan")


def flat(rows):
    random = np.random.default_rng(0)
    for row in rows:
        if "loss" in row:
            row["loss"] = row["loss_kpt"] = 0.39 + float(random.normal(0, 0.002))
        for name in row:
            if name.startswith("coco/"):
                row[name] = 0.0


def loss_times(factor):
    """The total of the log is a multiple of its part."""

    def edit(rows):
        for row in training_rows(rows):
            row["loss"] = factor * row["loss_kpt"]

    return edit


def overflows(share, seed=0):
    """Steps of half precision whose gradients are infinite, while the loss scale collapses."""

    def edit(rows):
        random, scale = np.random.default_rng(seed), 65536.0
        for row in training_rows(rows):
            if random.random() < share:
                row["grad_norm"], scale = float("inf"), scale / 2
            row["loss_scale"] = scale

    return edit


def steady_scale(rows):
    """A loss scale that grows, as in healthy mixed precision."""
    for number, row in enumerate(training_rows(rows)):
        row["loss_scale"] = 65536.0 * 2 ** (number // 100)


def restarted_rows(rows):
    """Nothing wrong: the log of a run that was stopped and rightly resumed repeats some rows."""
    held = training_rows(rows)
    rows[:] = [*rows, *[dict(row) for row in held[-3:]]]


def with_data(make, data="scenes-val"):
    """The same files beside a data set."""

    def both(folder):
        targets, options = make(folder)
        return targets, {**options, "data": data}

    return both
