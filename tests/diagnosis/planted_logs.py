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


# The same rows as Lightning's CSVLogger writes them.

CSV_NAMES = {"loss": "train_loss", "lr": "lr-AdamW", "grad_norm": "grad_norm", "loss_scale": "loss_scale"}


def csv_logged(edit=None, *config_edits: tuple[str, str], log_run: str = RTM):
    """The demo's log as metrics.csv, its rows edited, beside the demo's config, edited too."""
    made_as_json = logged(edit, *config_edits, log_run=log_run)

    def make(folder):
        (source, config), options = made_as_json(folder)
        rows = [json.loads(line) for line in source.read_text().splitlines()]
        source.unlink()
        per_epoch = max(row["step"] for row in training_rows(rows)) / max(
            row["epoch"] for row in training_rows(rows)
        )
        written = []
        for row in rows:
            if "loss" in row:
                one = {CSV_NAMES[name]: row[name] for name in CSV_NAMES if name in row}
                one |= {
                    f"train_{n}": v for n, v in row.items() if n.startswith("loss_") and n != "loss_scale"
                }
                written.append({"epoch": row["epoch"] - 1, "step": row["step"], **one})
            elif "coco/AP" in row:
                own = {"val_AP": row["coco/AP"], "val_AR": row["coco/AR"]}
                own |= {"val_loss": row["val_loss"]} if "val_loss" in row else {}
                written.append({"epoch": row["step"] - 1, "step": round(row["step"] * per_epoch), **own})
        names = list(dict.fromkeys(name for row in written for name in row))
        lines = [",".join(names), *(",".join(str(row.get(n, "")) for n in names) for row in written)]
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
        return [folder / "metrics.csv", config], options

    return make


def overfitted(fall, loss_rise):
    """From the middle on AP falls and the validation loss rises, while the training loss goes on falling."""

    def edit(rows):
        held, judged = training_rows(rows), [row for row in rows if "coco/AP" in row]
        for n, row in enumerate(held):
            row["loss"] = row["loss_kpt"] = 0.4 * (1 - 0.9 * n / len(held))
        for n, row in enumerate(judged):
            late = max(0.0, 2 * n / max(len(judged) - 1, 1) - 1)
            train = 0.4 * (1 - 0.9 * n / max(len(judged) - 1, 1))
            row["coco/AP"] = (0.4 * min(1.0, 2 * n / max(len(judged) - 1, 1))) * (1 - fall * late)
            row["coco/AR"] = row["coco/AP"] + 0.03
            row["val_loss"] = train + loss_rise * late

    return edit


def flat_at(value, noise=0.002, judged=0.0):
    """The loss stays where it began."""

    def edit(rows):
        random = np.random.default_rng(1)
        for row in rows:
            if "loss" in row:
                row["loss"] = row["loss_kpt"] = value + float(random.normal(0, noise))
            for name in row:
                if name.startswith("coco/"):
                    row[name] = judged

    return edit


def nan_from(share, until=1.0):
    """The loss is nan from one part of the run to another."""

    def edit(rows):
        held = training_rows(rows)
        for row in held[round(share * len(held)) : round(until * len(held))]:
            row["loss"] = row["loss_kpt"] = float("nan")

    return edit


def warm_up_of(share):
    """The rate rises over a share of the run and is constant then."""

    def edit(rows):
        held = training_rows(rows)
        for row in held:
            row["lr"] = row["base_lr"] = 0.003 * min(1.0, row["step"] / (share * held[-1]["step"]))

    return edit


def begun_anew_at(share):
    """The schedule of the config begins again after a share of the run."""

    def how(base, parts, step, per_epoch, rate_at):
        start = round(share * 40 * per_epoch)
        return rate_at(base, parts, step - 1 if step < start else step - 1 - start, per_epoch)

    return rate_of(how)


def opposed(rows):
    """From one evaluation on AP falls while AR rises: the order of the poses is lost."""
    judged = [row for row in rows if "coco/AP" in row]
    for row in judged[len(judged) // 2 :]:
        row["coco/AP"] *= 0.5
        row["coco/AR"] *= 1.1
