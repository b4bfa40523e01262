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
        trained = training_rows(rows)
        per_epoch = max(row["step"] for row in trained) / max(row["epoch"] for row in trained)
        for row in trained:
            row["lr"] = row["base_lr"] = how(base, parts, row["step"], per_epoch, rate_at)

    return edit


def per_epoch_steps(base, parts, step, per_epoch, rate_at):
    return rate_at(base, parts, step - 1, per_epoch, steps_epochs=True)


def begun_anew(base, parts, step, per_epoch, rate_at):
    half = 20 * per_epoch
    return rate_at(base, parts, step - 1 if step < half else step - 1 - half, per_epoch)


def stepped(times):
    """Schedulers that are stepped so many times for each step of the optimizer."""

    def how(base, parts, step, per_epoch, rate_at):
        return rate_at(base, parts, times * (step - 1), per_epoch)

    return rate_of(how)


def ended_at(step):
    """The rate follows a cosine that ends at this step, as the config beside it says."""

    def how(base, parts, now, per_epoch, rate_at):
        warm = base * min(1.0, 0.01 + 0.99 * (now - 1) / 99)
        share = min(1.0, max(0.0, (now - 101) / (step - 100)))
        return warm if now <= 100 else 6e-5 + (base - 6e-5) * (1 + np.cos(np.pi * share)) / 2

    return rate_of(how)


def warmed_again(rows):
    """A resume in epoch 21 makes the warm-up again; the rest of the schedule stays."""
    for row in training_rows(rows):
        after = row["step"] - 20 * 147
        if 0 <= after < 400:
            row["lr"] = row["base_lr"] = row["lr"] * (0.01 + 0.99 * after / 400)


def standing_still(share):
    """From a part of the run on every evaluation gives the same figures."""

    def edit(rows):
        judged = [row for row in rows if "coco/AP" in row]
        first = judged[round(share * (len(judged) - 1))]
        for row in judged[round(share * (len(judged) - 1)) :]:
            row.update({n: max(value, 0.0312) for n, value in first.items() if n.startswith("coco/")})

    return edit


def without_gradient(rows):
    """The loss reaches nothing: gradients are 0 in every step."""
    for row in training_rows(rows):
        row["grad_norm"] = 0.0


def repeating(rows):
    """The loss repeats itself in every epoch, as with data in the order of a file."""
    for row in training_rows(rows):
        row["loss"] = row["loss_kpt"] = row["loss"] * (1.25 - 0.5 * ((row["step"] - 1) % 147) / 147)


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
    trained = training_rows(rows)
    rows[:] = [*rows, *[dict(row) for row in trained[-3:]]]


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


def as_events(edit=None, *config_edits: tuple[str, str]):
    """The demo's log as TensorBoard events, its rows edited, beside the demo's config, edited too."""
    made_as_json = logged(edit, *config_edits)

    def make(folder):
        from tests.curves.events import events

        (source, config), options = made_as_json(folder)
        rows = [json.loads(line) for line in source.read_text().splitlines()]
        source.unlink()
        names = {"lr": "train/lr", "loss": "train/loss", "grad_norm": "train/grad_norm", "epoch": "epoch"}
        points = [(names[n], row["step"], row[n]) for row in training_rows(rows) for n in names]
        judged = [row for row in rows if "coco/AP" in row]
        points += [("val/AP", 147 * row["step"], row["coco/AP"]) for row in judged]
        path = folder / "events.out.tfevents.1.host"
        path.write_bytes(events(*points))
        return [path, config], options

    return make


MMCV_CONFIG = """
optimizer = dict(type='Adam', lr=5e-4)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy='step', warmup='linear', warmup_iters=500, warmup_ratio=0.001, step=[32, 38])
total_epochs = 40
model = dict(type='TopDown', backbone=dict(type='ResNet', depth=50),
             keypoint_head=dict(type='TopdownHeatmapSimpleHead', in_channels=2048, out_channels=17))
"""


def mmcv_logged(factor=1.0):
    """A log and a config of mmcv 0.x, whose rates are a multiple of those that the config asks for."""

    def make(folder):
        rows = [json.loads(line) for line in demo_log(RTM).read_text().splitlines() if line.strip()]
        lines = [{"env_info": "sys.platform: linux", "seed": 0, "exp_name": "own.py"}]
        for row in rows:
            if "loss" in row:
                warm = 0.001 + 0.999 * min((row["step"] - 1) / 500, 1.0)
                rate = 5e-4 * warm * 0.1 ** ((row["epoch"] > 32) + (row["epoch"] > 38))
                kept = {"loss": row["loss"], "acc_pose": row["acc_pose"], "lr": factor * rate}
                within = row["iter"] - 147 * (row["epoch"] - 1)
                lines.append({"mode": "train", "epoch": row["epoch"], "iter": within, **kept})
            else:
                lines.append({"mode": "val", "epoch": row["step"], "iter": 147, "AP": row["coco/AP"]})
        (folder / "20260301_120000.log.json").write_text("\n".join(map(json.dumps, lines)) + "\n")
        (folder / "config.py").write_text(MMCV_CONFIG)
        return [folder / "20260301_120000.log.json", folder / "config.py"], {}

    return make


YAML = """
model:
  backbone: {name: vit_base, pretrained: mae, freeze: FREEZE}
  head: {name: simple_decoder, keypoints: 17}
training: {epochs: 210, batch_size: 64, learning_rate: 5.0e-4, lr_backbone: RATE, warmup_epochs: 5}
data:
  train: annotations/person_keypoints_train2017.json
  val: annotations/person_keypoints_SPLIT2017.json
"""


def own_yaml(**more: str):
    """A config in a layout of its own."""

    def make(folder):
        text = YAML
        for name, value in {"FREEZE": "false", "RATE": "5.0e-5", "SPLIT": "val", **more}.items():
            text = text.replace(name, value)
        (folder / "config.yaml").write_text(text)
        return [folder / "config.yaml"], {}

    return make


def overfitted(fall, loss_rise):
    """From the middle on AP falls and the validation loss rises, while the training loss goes on falling."""

    def edit(rows):
        trained, judged = training_rows(rows), [row for row in rows if "coco/AP" in row]
        for n, row in enumerate(trained):
            row["loss"] = row["loss_kpt"] = 0.4 * (1 - 0.9 * n / len(trained))
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
        trained = training_rows(rows)
        for row in trained[round(share * len(trained)) : round(until * len(trained))]:
            row["loss"] = row["loss_kpt"] = float("nan")

    return edit


def warm_up_of(share):
    """The rate rises over a share of the run and is constant then."""

    def edit(rows):
        trained = training_rows(rows)
        for row in trained:
            row["lr"] = row["base_lr"] = 0.003 * min(1.0, row["step"] / (share * trained[-1]["step"]))

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
