"""What the second set of fresh cases plants: systems, and mistakes in files, labels, results and logs."""

from __future__ import annotations

import copy
import json
from functools import partial

import numpy as np

from tests.diagnosis.planted_labels import each, leaked_copies, stored_as
from tests.diagnosis.planted_logs import logged, training_rows
from tests.diagnosis.planted_results import own_results
from tests.diagnosis.planted_weights import state
from tests.diagnosis.systems import HIGHERHRNET, System, drawn, of_demo, of_vitpose

# Pictures and runs that no other case has.


animals = partial(drawn, "animals", 70, 501)
people = partial(drawn, "people", 40, 502)
LAST = of_demo("rtmpose, later animals", animals)
EARLIER = of_demo("rtmpose, epoch 20, later animals", animals, epochs=slice(-1))
BASE = of_demo("rtmpose, text base, later animals", animals, "rtmpose-text-base")
SEED_7 = of_vitpose(7)
CROWD = System("higherhrnet, later people", HIGHERHRNET.checkpoints, people)
CROWD_10 = System("higherhrnet, epoch 10, later people", lambda: HIGHERHRNET.checkpoints()[:-2], people)
GOOD = {"system": LAST, "seed": 51}

# Mistakes in files.


def stale_average(system):
    """The average that was never updated is what is saved; the trained weights lie beside."""

    def change(content):
        import torch

        weights = state(content)
        first = state(torch.load(system.checkpoints()[0], map_location="cpu", weights_only=False))
        content["ema_state_dict"] = {
            "steps": torch.tensor(5880),
            **{f"module.{n}": t.clone() for n, t in weights.items()},
        }
        weights.update({n: first[n].clone() for n in weights})

    return change


def tensors(words, edit):
    """Every tensor whose name holds one of the words, changed as a port does."""

    def change(content):
        weights = state(content)
        for name in [n for n in weights if any(word in n for word in words)]:
            weights[name] = edit(weights[name]).contiguous()

    return change


def shuffled_statistics(part):
    """Running statistics of one part whose channels stand in another order."""

    def change(content):
        import torch

        generator = torch.Generator().manual_seed(51)
        weights = state(content)
        for name in [n for n in weights if n.startswith(part) and n.endswith("running_mean")]:
            order = torch.randperm(len(weights[name]), generator=generator)
            for one in (name, name.replace("running_mean", "running_var")):
                weights[one] = weights[one][order]

    return change


def fresh_head(content):
    """The head is as torch starts it: its names were not found, and nobody looked."""
    import torch

    generator = torch.Generator().manual_seed(51)
    for name, tensor in state(content).items():
        if name.startswith("head.") and tensor.ndim > 1:
            bound = tensor[0].numel() ** -0.5
            tensor.uniform_(-bound, bound, generator=generator)


def saved_as(name, system, epoch):
    """Another epoch of the run under this name."""

    def make(folder):
        (folder / name).write_bytes(system.checkpoints()[epoch].read_bytes())
        return [folder / name], system.options()

    return make


# Mistakes in labels and image files.


def relative(raw):
    """Keypoints from the corner of their box."""
    each(raw, lambda points, entry: points - [*entry["bbox"][:2], 0] * (points[:, 2:] > 0))


def enlarged(factor):
    """Labels of pictures that were enlarged."""

    def change(raw):
        each(raw, lambda points, _: points * [factor, factor, 1])
        for entry in raw["annotations"]:
            entry["bbox"] = [factor * v for v in entry["bbox"]]

    return change


def sorted_as_text(raw):
    """File names sorted as text: 1, 10, 11, 2."""
    names = [image["file_name"] for image in raw["images"]]
    order = sorted(range(len(names)), key=lambda n: str(n + 1))
    for image, n in zip(raw["images"], order, strict=True):
        image["file_name"] = names[n]


def merged_twice(raw):
    """One file merged with itself: every image has two ids."""
    more = copy.deepcopy(raw)
    for image in more["images"]:
        image["id"] += 10_000
    for entry in more["annotations"]:
        entry["id"] += 10_000
        entry["image_id"] += 10_000
    raw["images"] += more["images"]
    raw["annotations"] += more["annotations"]


def area_shares(raw):
    """Areas as shares of the image."""
    sizes = {image["id"]: image["width"] * image["height"] for image in raw["images"]}
    for entry in raw["annotations"]:
        entry["area"] /= sizes[entry["image_id"]]


def crowds(raw):
    """Nothing wrong: regions of a crowd without keypoints, as COCO has them."""
    last = max(entry["id"] for entry in raw["annotations"])
    for n, image in enumerate(raw["images"][::4], 1):
        region = {"id": last + n, "image_id": image["id"], "category_id": 1, "iscrowd": 1, "num_keypoints": 0}
        raw["annotations"].append({**region, "keypoints": [0] * 51, "bbox": [0, 0, 60, 40], "area": 2400})


def one_species(raw):
    """Nothing wrong: the sheep alone."""
    raw["annotations"] = [entry for entry in raw["annotations"] if entry["category_id"] == 8]


def negative(image):
    """Colours of a negative."""
    return 255 - image


def leaked_again(share, system, quality=35):
    """Training pictures that are validation pictures, stored anew as JPEG of low quality."""

    def save(picture, path):
        picture.save(path, quality=quality)

    return leaked_copies(share, system, "web_{}.jpg", save)


def at_twice_the_size(system):
    """Nothing wrong: the pictures and all that is annotated, twice as large."""

    def change(raw):
        enlarged(2)(raw)
        for image in raw["images"]:
            image["width"], image["height"] = 2 * image["width"], 2 * image["height"]
        for entry in raw["annotations"]:
            entry["area"] *= 4

    def save(picture, folder, name):
        from PIL import Image

        large = picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.BICUBIC)
        large.save(folder / f"{name}.jpg", quality=95)
        return f"{name}.jpg"

    return stored_as(system, change, save)


# Mistakes in results.


def gathered(found):
    """Two processes saw every second image; their lists were joined one behind the other."""
    ids = sorted({entry["image_id"] for entry in found})
    joined = dict(zip([*ids[::2], *ids[1::2]], ids, strict=True))
    for entry in found:
        entry["image_id"] = joined[entry["image_id"]]


def next_category(found):
    """Ids of a list in another order: every category is the next one."""
    for entry in found:
        entry["category_id"] = entry["category_id"] % 8 + 1


def by_area(found):
    """Scores multiplied with the size of the pose."""
    for entry in found:
        points = np.reshape(entry["keypoints"], (-1, 3))[:, :2]
        entry["score"] *= float(np.prod(np.ptp(points, axis=0)))


def hundredfold(found):
    """Nothing wrong: scores in percent."""
    for entry in found:
        entry["score"] *= 100


def first_of_image(found):
    """One pose of every image alone."""
    return list({entry["image_id"]: entry for entry in reversed(found)}.values())


def both_epochs(found):
    """A file to which two epochs were appended."""
    return [*found, *own_results(EARLIER)]


def of_epoch(found, system):
    """The last checkpoint of a system beside results that another epoch of it found."""

    def make(folder):
        (folder / "results.json").write_text(json.dumps(own_results(found)))
        return [system.last(), folder / "results.json"], system.options()

    return make


def several(*changes):
    """One change after another."""

    def change(content):
        for one in changes:
            content = one(content) or content
        return content

    return change


def floored(points, entry):
    """Coordinates in whole cells of 10 pixels."""
    return np.floor(points / [10, 10, 1]) * [10, 10, 1]


def mirrored_in(width):
    """Poses of mirrored pictures that were never mirrored back."""
    return lambda points, entry: [width - 1, 0, 0] + points * [-1, 1, 1]


def exchanged(a, b):
    """Two keypoints in each other's place."""
    order = list(range(17))
    order[a], order[b] = b, a
    return order


# Mistakes in trainings.


def begins_again(rows):
    """The weights were lost at the middle: loss and AP begin where they began, the schedule goes on."""
    trained, judged = training_rows(rows), [row for row in rows if "coco/AP" in row]
    for one, names in ((trained, ("loss", "loss_kpt", "acc_pose")), (judged, ("coco/AP", "coco/AR"))):
        old = [dict(row) for row in one]
        for n in range(len(one) // 2, len(one)):
            one[n].update({name: old[n - len(one) // 2][name] for name in names})


def diverges(rows):
    """From two thirds on the loss grows without end and AP goes to 0."""
    trained, judged = training_rows(rows), [row for row in rows if "coco/AP" in row]
    for n, row in enumerate(trained[2 * len(trained) // 3 :]):
        row["loss"] = row["loss_kpt"] = row["loss"] * 1.08**n
        row["grad_norm"] *= 1.1**n
    for n, row in enumerate(judged[2 * len(judged) // 3 :]):
        row["coco/AP"] = row["coco/AR"] = row["coco/AP"] * 0.4**n


def resumed(rows):
    """Nothing wrong: stopped in epoch 33, resumed from epoch 30; three epochs stand twice."""
    place = next(n for n, row in enumerate(rows) if row.get("epoch") == 34)
    again = [
        dict(row)
        for row in rows[:place]
        if 31 <= row.get("epoch", row["step"] if "coco/AP" in row else 0) <= 33
    ]
    for row in again:
        for name in ("loss", "loss_kpt", "coco/AP", "coco/AR"):
            if name in row:
                row[name] *= 1.004
    rows[place:place] = again


def worn_off(rows):
    """Nothing wrong: AP moves by a hundredth in the last epochs, as it does."""
    for n, row in enumerate([row for row in rows if "coco/AP" in row][-6:]):
        row["coco/AP"] -= 0.004 + 0.003 * (n % 3)


def written_as(form, edit=None, *config_edits):
    """The demo's log in the words of another trainer, its rows edited, beside the config.

    Args:
        form: from the rows to a file's name and text.
        edit: of the rows.
        config_edits: of the config.
    """
    made = logged(edit, *config_edits)

    def make(folder):
        (source, config), options = made(folder)
        rows = [json.loads(line) for line in source.read_text().splitlines()]
        source.unlink()
        name, content = form(rows)
        (folder / name).write_text(content)
        return [folder / name, config], options

    return make


def mmcv(rows):
    """The .log.json of mmcv 0.x."""
    lines = [{"env_info": "sys.platform: linux", "seed": 0, "exp_name": "own.py"}]
    for row in rows:
        if "loss" in row:
            kept = {n: row[n] for n in ("lr", "loss", "loss_kpt", "acc_pose", "grad_norm", "time")}
            lines.append(
                {
                    "mode": "train",
                    "epoch": row["epoch"],
                    "iter": row["iter"] - 147 * (row["epoch"] - 1),
                    **kept,
                }
            )
        else:
            lines.append(
                {"mode": "val", "epoch": row["step"], "iter": 147, "AP": row["coco/AP"], "AR": row["coco/AR"]}
            )
    return "20260301_120000.log.json", "\n".join(map(json.dumps, lines)) + "\n"


def printed(rows):
    """The text that mmengine prints."""
    lines = []
    for row in rows:
        if "loss" in row:
            figures = "  ".join(
                f"{n}: {row[n]:.6g}" for n in ("lr", "grad_norm", "loss", "loss_kpt", "acc_pose")
            )
            place = f"Epoch(train)  [{row['epoch']}][{row['iter'] - 147 * (row['epoch'] - 1)}/147]"
        else:
            figures = f"coco/AP: {row['coco/AP']:.6f}  coco/AR: {row['coco/AR']:.6f}"
            place = f"Epoch(val)  [{row['step']}][15/15]"
        lines.append(f"2026/03/01 12:00:00 - mmengine - INFO - {place}    {figures}")
    return "20260301_120000.log", "\n".join(lines) + "\n"


def plain_lines(rows):
    """One object a line, in names of one's own."""
    lines = []
    for row in rows:
        if "loss" in row:
            lines.append(
                {
                    "epoch": row["epoch"],
                    "global_step": row["step"],
                    "train/loss": row["loss"],
                    "lr": row["lr"],
                }
            )
        else:
            one = {
                "epoch": row["step"],
                "global_step": 147 * row["step"],
                "val/AP": row["coco/AP"],
                "val/AR": row["coco/AR"],
            }
            lines.append({**one, **({"val/loss": row["val_loss"]} if "val_loss" in row else {})})
    return "metrics.jsonl", "\n".join(map(json.dumps, lines)) + "\n"
