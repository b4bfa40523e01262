"""Faults planted in the demo runs, as users have them: in a checkpoint, a config, annotations, results, a log.


A `Plant` makes the files of one case in an empty folder and says how `diagnose` is called and which cause is
the true one; a control has none. Systems: rtmpose (SimCC), heatmaps (the same network read as maps of 32 x 32
cells through an adapter), higherhrnet, cape, text.
"""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workbench.checkpoints.demo import demo_checkpoints, demo_config, demo_log, demo_run

RTM = "rtmpose-demo"


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        name: unique.
        system: whose run.
        make: from an empty folder to targets and arguments of diagnose.
        cause: the true one, as a finding has it; several where they mean the same; () for a control.
        strength: ``strong``, ``weak`` or "".
        level: of the diagnosis.
        fast: part of the default suite.
    """

    name: str
    system: str
    make: Callable[[Path], tuple[list[Path], dict[str, Any]]]
    cause: tuple[str, ...] = ()
    strength: str = ""
    level: str = "forward"
    fast: bool = False
    both: tuple[str, ...] = field(default=())


# Checkpoints.


def edited(folder: Path, change: Callable[[dict[str, Any]], None], run: str = RTM, epoch: int = -1) -> Path:
    """A copy of a demo checkpoint with its file's dictionary changed in place."""
    import torch

    source = demo_checkpoints(run)[epoch]
    content = torch.load(source, map_location="cpu", weights_only=False)
    change(content)
    target = folder / source.name
    torch.save(content, target)
    return target


def state(content: dict[str, Any]) -> dict[str, Any]:
    return content.get("state_dict") or content.get("model") or content


def renamed(content):
    weights = state(content)
    for name in list(weights):
        weights[f"module.net.{name.replace('backbone.', 'encoder.')}"] = weights.pop(name)


def half_missing(content):
    weights = state(content)
    for name in [n for n in weights if n.startswith("head.")]:
        del weights[name]


def not_finite(count):
    def change(content):
        weights = state(content)
        for name in [n for n in weights if n.endswith("conv.weight")][:count]:
            weights[name].view(-1)[3] = float("nan")

    return change


def fresh_norms(share):
    def change(content):
        weights = state(content)
        names = [n for n in weights if n.endswith("running_mean")]
        for name in names[: max(1, round(share * len(names)))]:
            weights[name].zero_()
            weights[name.replace("running_mean", "running_var")].fill_(1.0)

    return change


def zeroed(content):
    weights = state(content)
    weights["head.final_layer.weight"].zero_()


def frozen(part):
    """The part's weights are those of the first epoch."""

    def change(content):
        import torch

        first = state(torch.load(demo_checkpoints(RTM)[0], map_location="cpu", weights_only=False))
        weights = state(content)
        for name in weights:
            if name.startswith(part) and "running" not in name and "num_batches" not in name:
                weights[name] = first[name].clone()

    return change


def exchanged_average(content):
    """EMA under the wrong name: state_dict has the noisy raw weights, the average lies beside."""
    import torch

    generator = torch.Generator().manual_seed(0)
    weights = state(content)
    average = {f"module.{n}": t.clone() for n, t in weights.items()}
    for tensor in weights.values():
        if tensor.is_floating_point() and tensor.ndim > 1:
            tensor += 0.25 * tensor.std() * torch.randn(tensor.shape, generator=generator)
    content["ema_state_dict"] = {"steps": torch.tensor(100), **average}


def checkpoint(change, epoch=-1, run=RTM, data="scenes-val"):
    def make(folder):
        return [edited(folder, change, run, epoch)], {"data": data}

    return make


def with_first_epoch(change):
    def make(folder):
        shutil.copy(demo_checkpoints(RTM)[0], folder)
        return [edited(folder, change)], {"data": "scenes-val"}

    return make


# Configs: the user's config differs from what the weights were trained with.


def configured(*edits: tuple[str, str]):
    def make(folder):
        text = demo_config(RTM).read_text()
        for pattern, new in edits:
            text, count = re.subn(pattern, new, text)
            assert count, pattern
        path = folder / "config.py"
        path.write_text(text)
        return [demo_checkpoints(RTM)[-1]], {"data": "scenes-val", "config": path}

    return make


# Adapters: the user's own code around the network.

ADAPTER = """
import dataclasses
import numpy as np
import torch
from workbench.core import Batch, Codec, Outputs
from workbench.core.wrapping import Wrapper
from workbench.models import TopDown, open_model
from workbench.checkpoints.demo import demo_checkpoints

CELLS = 32

def maps(inner):
    def call(pixels):
        x, y = inner.forward(Batch(pixels, np.zeros((len(pixels), 2, 3)))).simcc
        # Bins to cells, whose centres lie at every fourth pixel; then the outer product.
        x, y = (torch.nn.functional.pad(v, (4, 0))[..., :-4].unflatten(-1, (CELLS, -1)).mean(-1).clamp(min=0)
                for v in (x, y))
        return Outputs(heatmaps=torch.sqrt(y[..., :, None] * x[..., None, :]))
    return call

class Own(Wrapper):
    def decode(self, outputs, batch, options):
        found = self.model.decode(outputs, batch, options)
        return tuple(dataclasses.replace(p, {decode}) for p, a in zip(found, batch.to_image))

def load(checkpoint, device):
    inner = open_model(demo_checkpoints()[-1]).model
    codec = Codec("heatmap", (128, 128), (CELLS, CELLS), sigma=(2.0, 2.0), decoder="dark")
    model = TopDown(inner.module, inner.skeleton, codec, mean=inner.mean, std=inner.std, bgr=inner.bgr,
                    padding=inner.padding, call=maps(inner))
    model = dataclasses.replace(model, {change})
    return Own(model) if {own} else model
"""


def adapter(change: str = "", decode: str = ""):
    def make(folder):
        path = folder / "adapter.py"
        text = ADAPTER.replace("{change}", change).replace("{decode}", decode or "keypoints=p.keypoints")
        path.write_text(text.replace("{own}", str(bool(decode))))
        return [], {"data": "scenes-val", "adapter": path}

    return make


# Annotations.


def annotations(
    folder: Path, change: Callable[[dict[str, Any]], None], name: str = "scenes-val"
) -> tuple[Path, Path]:
    """The set's json with its content changed, and the folder of its images."""
    from workbench.data import builtin

    pose_set = builtin(name)
    raw = copy.deepcopy(pose_set.raw)
    change(raw)
    path = folder / "annotations.json"
    path.write_text(json.dumps(raw))
    return path, next(iter(pose_set.images.values())).path.parent


def labelled(change, run=RTM, name="scenes-val"):
    def make(folder):
        path, images = annotations(folder, change, name)
        return [demo_checkpoints(run)[-1]], {"data": path, "images": images}

    return make


def each(raw, edit):
    for entry in raw["annotations"]:
        points = np.array(entry["keypoints"], float).reshape(-1, 3)
        entry["keypoints"] = edit(points, entry).ravel().tolist()


def permuted(order):
    return lambda raw: each(raw, lambda points, _: points[order])


def swapped_share(share):
    from workbench.skeletons import SKELETONS

    mirror = list(SKELETONS["ap10k-17"].mirror)

    def change(raw):
        # Whole images, as one annotator did them.
        ids = [image["id"] for image in raw["images"]]
        chosen = set(np.random.default_rng(0).choice(ids, round(share * len(ids)), replace=False).tolist())
        each(raw, lambda points, entry: points[mirror] if entry["image_id"] in chosen else points)

    return change


def moved_labels(pixels):
    return lambda raw: each(raw, lambda points, _: points + np.array([pixels, pixels, 0]))


def box_corners(raw):
    for entry in raw["annotations"]:
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [x, y, x + w, y + h]


def normalised(raw):
    sizes = {image["id"]: (image["width"], image["height"]) for image in raw["images"]}
    each(raw, lambda points, entry: points / [*sizes[entry["image_id"]], 1])


def one_in(count):
    """A small set: every n-th image alone."""

    def change(raw):
        kept = {image["id"] for image in raw["images"][::count]}
        raw["images"] = [image for image in raw["images"] if image["id"] in kept]
        raw["annotations"] = [entry for entry in raw["annotations"] if entry["image_id"] in kept]

    return change


def fewer_keypoints(raw):
    random = np.random.default_rng(0)

    def edit(points, entry):
        hidden = random.random(len(points)) < 0.4
        points[hidden] = 0
        entry["num_keypoints"] = int((points[:, 2] > 0).sum())
        return points

    each(raw, edit)


# Result files.


_RESULTS: dict[str, list[dict[str, Any]]] = {}


def own_results(run: str = RTM) -> list[dict[str, Any]]:
    """What the demo model finds, as a COCO result list; computed once."""
    if run not in _RESULTS:
        from workbench.data import builtin
        from workbench.evaluation import predict
        from workbench.models import open_model

        _RESULTS[run] = predict(open_model(demo_checkpoints(run)[-1]).model, builtin("scenes-val")).to_coco()
    return copy.deepcopy(_RESULTS[run])


def results(change=lambda found: found, **more):
    def make(folder):
        found = own_results()
        found = change(found) or found
        path = folder / "results.json"
        path.write_text(json.dumps(found))
        return [path], {"data": "scenes-val", **more}

    return make


def good_results(change):
    """Poses near the truth, scored by how near, beside annotations that were changed."""

    def make(folder):
        from workbench.data import builtin

        random, found = np.random.default_rng(0), []
        pose_set = builtin("scenes-val")
        for i in pose_set.labelled:
            one = pose_set.instances[i]
            noise = random.uniform(0.01, 0.05)
            points = np.array(one.truth, float)
            points[:, :2] += random.normal(0, noise * np.sqrt(one.area), (len(points), 2))
            points[:, 2] = 1
            found.append({"image_id": one.image_id, "category_id": one.category_id,
                          "keypoints": points.ravel().tolist(), "score": 1 - noise})  # fmt: skip
        path = folder / "results.json"
        path.write_text(json.dumps(found))
        labels, images = annotations(folder, change)
        return [path], {"data": labels, "images": images}

    return make


def edit_results(edit):
    def change(found):
        for entry in found:
            points = np.array(entry["keypoints"], float).reshape(-1, 3)
            entry["keypoints"] = edit(points, entry).ravel().tolist()

    return change


def sizes():
    from workbench.data import builtin

    return {n: np.array([r.width, r.height], float) for n, r in builtin("scenes-val").images.items()}


def shares(points, entry):
    return points / [*sizes()[entry["image_id"]], 1]


def in_box(points, entry):
    return points - [entry["bbox"][0], entry["bbox"][1], 0]


def all_one_category(found):
    for entry in found:
        entry["category_id"] = 99


def part_of(share):
    def change(found):
        ids = sorted({entry["image_id"] for entry in found})
        kept = set(ids[: round(share * len(ids))])
        return [entry for entry in found if entry["image_id"] in kept]

    return change


def repeated(times):
    def change(found):
        random = np.random.default_rng(0)
        more = []
        for entry in found:
            for _ in range(times):
                other = copy.deepcopy(entry)
                points = np.array(other["keypoints"]).reshape(-1, 3)
                points[:, :2] += random.normal(0, 0.4, (len(points), 2))
                other["keypoints"] = points.ravel().tolist()
                other["score"] = entry["score"] * random.uniform(0.9, 1.1)
                more.append(other)
        return found + more

    return change


def constant_scores(found):
    for entry in found:
        entry["score"] = 1.0


def other_images(found):
    for entry in found:
        entry["image_id"] += 100_000


# Logs and configs.


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


# Whole images.

BOTTOM_UP = """
import dataclasses
from workbench.checkpoints.demo import demo_checkpoints
from workbench.models import open_model
from workbench.models.bottom_up.model import typed

def load(checkpoint, device):
    model = open_model(demo_checkpoints("higherhrnet-demo")[-1]).model
    inner = model.call or model.module

    def call(pixels):
        found = typed(inner(pixels), 17, 17)
        return dataclasses.replace(found, tags=found.tags * {tags})

    return dataclasses.replace(model, call=call, {change})
"""


def whole_images(tags: float = 1.0, change: str = ""):
    def make(folder):
        path = folder / "adapter.py"
        path.write_text(BOTTOM_UP.replace("{tags}", repr(tags)).replace("{change}", change))
        return [], {"data": "scenes-people-val", "adapter": path}

    return make


# The cases.

_TRANSPOSED = "x and y"

FAULTS: tuple[Case, ...] = (
    Case("tensors renamed", "rtmpose", checkpoint(renamed), ("weights only partly loaded",), "strong"),
    Case("head missing", "rtmpose", checkpoint(half_missing), ("weights only partly loaded",), "strong"),
    Case("nan in one tensor", "rtmpose", checkpoint(not_finite(1)), ("weights that are not finite",), "weak", "files", True),
    Case("nan in twenty tensors", "rtmpose", checkpoint(not_finite(20)), ("weights that are not finite",), "strong", "files"),
    Case("norms as new", "rtmpose", checkpoint(fresh_norms(1.0)), ("batch-norm statistics do not fit",), "strong"),
    Case("half of the norms as new", "rtmpose", checkpoint(fresh_norms(0.5)), ("batch-norm statistics do not fit",), "weak"),
    Case("head zero", "rtmpose", checkpoint(zeroed), ("layers with all weights zero",), "strong", both=("outputs are constant",)),
    Case("backbone never learned", "rtmpose", with_first_epoch(frozen("backbone.")), ("layers that never learned",), "strong", "files", True),
    Case("stem never learned", "rtmpose", with_first_epoch(frozen("backbone.stem")), ("layers that never learned",), "weak", "files"),
    Case("average beside", "rtmpose", checkpoint(exchanged_average), ("raw and averaged weights exchanged",), "strong"),
    # Input, by the config.
    Case("red and blue", "rtmpose", configured((r"bgr_to_rgb=True", "bgr_to_rgb=False")), ("channel order",), "strong", fast=True),
    Case("0 to 1", "rtmpose", configured((r"123\.675,\s+116\.28,\s+103\.53", "0, 0, 0"), (r"58\.395,\s+57\.12,\s+57\.375", "255, 255, 255")), ("normalisation",), "strong"),
    Case("raw pixels", "rtmpose", configured((r"123\.675,\s+116\.28,\s+103\.53", "0, 0, 0"), (r"58\.395,\s+57\.12,\s+57\.375", "1, 1, 1")), ("normalisation", "value range"), "strong"),
    Case("padding 1", "rtmpose", configured((r"padding=1\.25", "padding=1.0")), ("crop padding",), "weak"),
    Case("padding 2", "rtmpose", configured((r"padding=1\.25", "padding=2.0")), ("crop padding",), "strong"),
    # Output, by the config and by own code.
    Case("split ratio 1", "rtmpose", configured((r"(normalize=False,\s+sigma=\(\s+4\.0,\s+4\.0,\s+\),\s+simcc_split_ratio=)2\.0", r"\g<1>1.0")), ("SimCC split ratio",), "strong"),
    Case("split ratio 3", "rtmpose", configured((r"(normalize=False,\s+sigma=\(\s+4\.0,\s+4\.0,\s+\),\s+simcc_split_ratio=)2\.0", r"\g<1>3.0")), ("SimCC split ratio",), "strong"),
    Case("own code: no inverse affine", "heatmaps", adapter(decode="keypoints=(p.keypoints - a[:, 2]) / a[[0, 1], [0, 1]]"), ("keypoints placed wrongly", "own decoding contradicts the codec"), "strong"),
    Case("own code: one cell off", "heatmaps", adapter(decode="keypoints=p.keypoints + 4 * a[[0, 1], [0, 1]]"), ("keypoints placed wrongly", "own decoding contradicts the codec"), "strong"),
    Case("own code: half a cell off", "heatmaps", adapter(decode="keypoints=p.keypoints + 2 * a[[0, 1], [0, 1]]"), ("keypoints placed wrongly", "own decoding contradicts the codec", "half-pixel shift"), "weak"),
    Case("own code: x and y", "heatmaps", adapter(decode="keypoints=(((p.keypoints - a[:, 2]) / a[0, 0])[:, ::-1] * a[0, 0]) + a[:, 2]"), ("output axes exchanged", "own decoding contradicts the codec", "width and height exchanged"), "strong"),
    Case("own code: BGR", "heatmaps", adapter("bgr=True"), ("channel order",), "strong"),
    # Labels.
    Case("two keypoints exchanged", "rtmpose", labelled(permuted([0, 1, 3, 2, *range(4, 17)])), ("keypoint order permuted",), "weak"),
    Case("all in another order", "rtmpose", labelled(permuted([16 - k for k in range(17)])), ("keypoint order permuted",), "strong"),
    Case("sides swapped in a third", "results", good_results(swapped_share(0.35)), ("left and right exchanged in part of the labels",), "strong"),
    Case("sides swapped in a sixth", "results", good_results(swapped_share(0.17)), ("left and right exchanged in part of the labels",), "weak"),
    Case("boxes as corners", "rtmpose", labelled(box_corners), ("annotated boxes",), "strong"),
    # Results of other code.
    Case("results: shares of the image", "rtmpose", results(edit_results(shares)), ("keypoints placed wrongly",), "strong", fast=True),
    Case("results: in the box", "rtmpose", results(edit_results(in_box)), ("keypoints placed wrongly",), "strong"),
    Case("results: y before x", "rtmpose", results(edit_results(lambda p, e: p[:, [1, 0, 2]])), ("output axes exchanged",), "strong"),
    Case("results: half as large", "rtmpose", results(edit_results(lambda p, e: p * [0.5, 0.5, 1])), ("keypoints placed wrongly",), "strong"),
    Case("results: 8 % too wide", "rtmpose", results(edit_results(lambda p, e: p * [1.08, 1, 1])), ("keypoints placed wrongly",), "weak"),
    Case("results: category 99", "rtmpose", results(all_one_category), ("wrong category ids",), "strong", fast=True),
    Case("results: half of the images", "rtmpose", results(part_of(0.5)), ("only part of the images has results",), "strong", fast=True),
    Case("results: nine of ten images", "rtmpose", results(part_of(0.9)), ("only part of the images has results",), "weak"),
    Case("results: no NMS", "rtmpose", results(repeated(2)), ("no NMS: poses found twice",), "strong"),
    Case("results: scores all 1", "rtmpose", results(constant_scores), ("score does not rank the poses",), "strong"),
    # Training, from the log and the config.
    Case("log: rate 10 times", "logs", logged(rate_times(10.0)), ("learning rate is not the config's",), "strong", "files", True),
    Case("log: rate twice", "logs", logged(rate_times(2.0)), ("learning rate is not the config's",), "weak", "files"),
    Case("log: schedulers once an epoch", "logs", logged(rate_of(per_epoch_steps)), ("learning rate is not the config's",), "strong", "files"),
    Case("log: schedule begun anew", "logs", logged(rate_of(begun_anew)), ("learning rate is not the config's", "resume restarted the schedule", "training began anew"), "strong", "files"),
    Case("log: warm-up over the whole run", "logs", logged(rate_of(rising), (r"by_epoch=False, end=100, start_factor=0\.01", "by_epoch=False, end=100000, start_factor=0.01")), ("warm-up longer than the run", "warm-up is long for this run"), "strong", "files", both=("learning rate is not the config's",)),
    Case("log: loss nan", "logs", logged(loss_nan), ("not finite",), "strong", "files"),
    Case("log: loss flat", "logs", logged(flat), ("training loss does not fall",), "strong", "files"),
    Case("config: clipping at .001", "logs", logged(None, (r"max_norm=35", "max_norm=0.001")), ("gradient clipping too small",), "strong", "files"),
    Case("config: not shuffled", "logs", logged(None, (r"round_up=True, shuffle=True", "round_up=True, shuffle=False")), ("training data not shuffled",), "strong", "files"),
    # Whole images, sequences, text.
    Case("people: tags 30 times", "higherhrnet", whole_images(30.0), ("tags of the wrong scale",), "strong"),
    Case("people: tags 10 times", "higherhrnet", whole_images(10.0), ("tags of the wrong scale",), "weak"),
    Case("people: BGR", "higherhrnet", whole_images(1.0, "bgr=True"), ("blue and red exchanged (BGR for RGB)",), "weak"),
    Case("case 003: defects", "cape", lambda folder: ([demo_run("cape-demo-defects")], {"data": "scenes-val"}), ("support not read", "exposure bias"), "strong", both=("support not read", "exposure bias", "coordinates disagree", "layers that never learned", "loss falls while the metric does not")),
    Case("case 000: text fusion", "text", lambda folder: ([demo_run("rtmpose-text-fusion")], {"data": "scenes-val", "against": demo_run("rtmpose-text-base")}), ("scores flattened by the refiner", "untrained refiner"), "strong", "evaluate", both=("score does not rank the poses", "layers that never learned", "neck skipped in predict", "random initialisation", "one vector for all", "γ clipped and dropped", "AP changes alone")),
    Case("results: ids of other images", "rtmpose", results(other_images), ("results of other images",), "strong"),
)  # fmt: skip

CONTROLS: tuple[Case, ...] = (
    Case("epoch 40", "rtmpose", lambda folder: ([demo_run(RTM)], {"data": "scenes-val"}), fast=True),
    Case("epoch 10: few epochs", "rtmpose", lambda folder: ([demo_checkpoints(RTM)[3]], {"data": "scenes-val"})),
    Case("epoch 2: very few epochs", "rtmpose", lambda folder: ([demo_checkpoints(RTM)[1]], {"data": "scenes-val"})),
    Case("own results", "rtmpose", results(), fast=True),
    Case("results of a good model", "results", good_results(lambda raw: None)),
    Case("sides that the model does not tell", "rtmpose", labelled(swapped_share(0.17)), both=("left and right exchanged in part of the labels",)),
    Case("as heatmaps", "heatmaps", adapter()),
    Case("base of the text run", "rtmpose", lambda folder: ([demo_run("rtmpose-text-base")], {"data": "scenes-val"})),
    Case("a tenth of the data", "rtmpose", labelled(one_in(10))),
    Case("fewer keypoints labelled", "rtmpose", labelled(fewer_keypoints)),
    Case("cured sequence", "cape", lambda folder: ([demo_run("cape-demo-cured")], {"data": "scenes-val"})),
    Case("people", "higherhrnet", lambda folder: ([demo_run("higherhrnet-demo")], {"data": "scenes-people-val"})),
    Case("log and config", "logs", logged(), level="files"),
    Case("log of a short run", "logs", lambda folder: ([demo_log("rtmpose-text-base"), demo_config("rtmpose-text-base")], {}), level="files"),
    Case("epoch 5", "rtmpose", lambda folder: ([demo_checkpoints(RTM)[2]], {"data": "scenes-val"})),
    Case("against an earlier epoch", "rtmpose", lambda folder: ([demo_checkpoints(RTM)[-1]], {"data": "scenes-val", "against": demo_checkpoints(RTM)[2]})),
    Case("right figure claimed", "rtmpose", results(claim={"AP": 0.4})),
    Case("files alone", "rtmpose", lambda folder: ([demo_run(RTM)], {}), level="files", fast=True),
)  # fmt: skip
