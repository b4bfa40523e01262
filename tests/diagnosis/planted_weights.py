"""Causes planted in checkpoints: weights, statistics, and what the file says of itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.diagnosis.systems import RTMPOSE


def edited(folder: Path, change: Callable[[dict[str, Any]], None], source: Path) -> Path:
    """A copy of a checkpoint with its file's dictionary changed in place."""
    import torch

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


def missing(part="head."):
    def change(content):
        weights = state(content)
        for name in [n for n in weights if n.startswith(part)]:
            del weights[name]

    return change


def not_finite(count):
    def change(content):
        weights = state(content)
        for name in [n for n in weights if weights[n].ndim > 1][:count]:
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


def zeroed(name="head.final_layer.weight"):
    return lambda content: state(content)[name].zero_()


def zero_units(name, share):
    """The first units of a layer, which a mask left out."""

    def change(content):
        tensor = state(content)[name]
        tensor[: round(share * len(tensor))] = 0

    return change


def scaled(part, factor):
    def change(content):
        for name, tensor in state(content).items():
            if name.startswith(part) and tensor.is_floating_point():
                tensor *= factor

    return change


def noisy(part, strength, seed=0):
    """Noise in the weights of one part, in standard deviations of each tensor."""

    def change(content):
        import torch

        generator = torch.Generator().manual_seed(seed)
        for name, tensor in state(content).items():
            if name.startswith(part) and tensor.is_floating_point() and tensor.ndim > 1:
                tensor += strength * tensor.std() * torch.randn(tensor.shape, generator=generator)

    return change


def statistics_of_first(share, system=RTMPOSE):
    """Running statistics of the first epoch: the network was in evaluation mode from then on."""

    def change(content):
        import torch

        first = state(torch.load(system.checkpoints()[0], map_location="cpu", weights_only=False))
        weights = state(content)
        names = [n for n in weights if n.endswith("running_mean")]
        for name in names[: max(1, round(share * len(names)))]:
            for one in (name, name.replace("running_mean", "running_var")):
                weights[one] = first[one].clone()

    return change


def half_overflow(names, factor):
    """Stored in half precision, which ends at 65504: larger numbers become infinite."""

    def change(content):
        weights = state(content)
        for name in [n for n in weights if weights[n].is_floating_point()]:
            weights[name] = (weights[name] * (factor if name in names else 1)).half()

    return change


def in_half(content):
    weights = state(content)
    for name in [n for n in weights if weights[n].is_floating_point()]:
        weights[name] = weights[name].half()


def with_versions(**versions):
    """The environment in which the run was trained, as trainers record it."""

    def change(content):
        content.setdefault("meta", {}).update({f"{name}_version": value for name, value in versions.items()})

    return change


def frozen(part, system=RTMPOSE):
    """The part's weights are those of the first epoch."""

    def change(content):
        import torch

        first = state(torch.load(system.checkpoints()[0], map_location="cpu", weights_only=False))
        weights = state(content)
        for name in weights:
            if name.startswith(part) and "running" not in name and "num_batches" not in name:
                weights[name] = first[name].clone()

    return change


def exchanged_average(strength=0.25):
    """EMA under the wrong name: state_dict has the noisy raw weights, the average lies beside."""

    def change(content):
        import torch

        generator = torch.Generator().manual_seed(0)
        weights = state(content)
        average = {f"module.{n}": t.clone() for n, t in weights.items()}
        for tensor in weights.values():
            if tensor.is_floating_point() and tensor.ndim > 1:
                tensor += strength * tensor.std() * torch.randn(tensor.shape, generator=generator)
        content["ema_state_dict"] = {"steps": torch.tensor(100), **average}

    return change


def right_average(content):
    """EMA as mmengine writes it: the average in state_dict, the noisy raw weights beside."""
    import torch

    generator = torch.Generator().manual_seed(0)
    raw = {}
    for name, tensor in state(content).items():
        noise = torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else 0
        raw[f"module.{name}"] = tensor + 0.1 * tensor.std() * noise if tensor.ndim > 1 else tensor.clone()
    content["ema_state_dict"] = {"steps": torch.tensor(100), **raw}


def checkpoint(change, system=RTMPOSE, data=True):
    """The changed checkpoint alone, with data or without."""

    def make(folder):
        return [edited(folder, change, system.last())], system.options() if data else {}

    return make


def with_earlier(change, system=RTMPOSE, earlier=0, data=True):
    """The changed checkpoint with an earlier epoch of its run beside it."""

    def make(folder):
        shutil.copy(system.checkpoints()[earlier], folder)
        return [edited(folder, change, system.last())], system.options() if data else {}

    return make


def part_of_epoch(part, source, system=RTMPOSE):
    """One part of another epoch, whose checkpoint has a number."""

    def change(content):
        import torch

        other = state(torch.load(system.checkpoints()[source], map_location="cpu", weights_only=False))
        weights = state(content)
        for name in weights:
            if name.startswith(part):
                weights[name] = other[name].clone()

    return change


def grafted(part, source, system=RTMPOSE, against=-2):
    """One part of another epoch, compared with a run that has it right."""
    return beside_other_run(part_of_epoch(part, source, system), system, against)


def among_epochs(change, system=RTMPOSE, epochs=(0, -3, -2)):
    """The changed checkpoint in a folder with earlier epochs of its run."""

    def make(folder):
        for epoch in epochs:
            shutil.copy(system.checkpoints()[epoch], folder)
        return [edited(folder, change, system.last())], system.options()

    return make


def quantised(levels, part="", by_channel=False):
    """Weights rounded to so many values between the lowest and the highest, of a matrix or a channel."""

    def change(content):
        for name, tensor in state(content).items():
            if name.startswith(part) and tensor.is_floating_point() and tensor.ndim > 1:
                flat = tensor.flatten(1) if by_channel else tensor.flatten()[None]
                low, high = flat.min(1, keepdim=True).values, flat.max(1, keepdim=True).values
                step = ((high - low) / (levels - 1)).clamp(min=1e-12)
                tensor.copy_((((flat - low) / step).round() * step + low).view_as(tensor))

    return change


def beside_other_run(change, system=RTMPOSE, against=-2):
    """The changed checkpoint, and another epoch in a folder of its own to compare it with."""

    def make(folder):
        right = folder / "other-run"
        right.mkdir()
        shutil.copy(system.checkpoints()[against], right)
        (folder / "run").mkdir()
        return [edited(folder / "run", change, system.last())], {**system.options(), "against": right}

    return make


def renamed_blocks(content):
    """Names of a port: the attention of all blocks but the first is called otherwise."""
    weights = state(content)
    for name in [n for n in weights if ".attn." in n and ".layers.0." not in n]:
        weights[name.replace(".attn.", ".self_attention.")] = weights.pop(name)


def raw_called_average(strength):
    """A plain file whose set called averaged is the noisy raw one."""

    def change(content):
        import torch

        generator = torch.Generator().manual_seed(0)
        noisy_set = {}
        for name, tensor in state(content).items():
            noise = torch.randn(tensor.shape, generator=generator) * tensor.std() if tensor.ndim > 1 else 0
            noisy_set[name] = tensor + strength * noise
        content["ema_state_dict"] = noisy_set

    return change


def with_sigmas(values):
    """Other OKS constants in what the file says of its data set."""

    def change(content):
        import numpy as np

        content["meta"]["dataset_meta"]["sigmas"] = np.array(values, np.float32)

    return change


def with_mirror(partners):
    """Other mirror pairs in what the file says of its data set."""

    def change(content):
        pairs = list(content["meta"]["dataset_meta"]["flip_indices"])
        for k, partner in partners.items():
            pairs[k] = partner
        content["meta"]["dataset_meta"]["flip_indices"] = pairs

    return change


# More ways in which files are broken, named wrongly, or say something else.


def renamed_part(part, new="renamed."):
    """Names of one part begin otherwise, as in a port of it."""

    def change(content):
        weights = state(content)
        for name in [n for n in weights if n.startswith(part)]:
            weights[new + name] = weights.pop(name)

    return change


def cut(share, system=RTMPOSE):
    """A download that ended early: the first part of the file."""

    def make(folder):
        content = system.last().read_bytes()
        target = folder / system.last().name
        target.write_bytes(content[: round(share * len(content))])
        return [target], {}

    return make


def called(name, system=RTMPOSE):
    """The right file under the name of another model."""

    def make(folder):
        shutil.copy(system.last(), folder / name)
        return [folder / name], {}

    return make


def with_config_text(pattern, new):
    """Another config inside the file."""

    def change(content):
        import re

        content["meta"]["cfg"], count = re.subn(pattern, new, content["meta"]["cfg"])
        assert count, pattern

    return change


def with_skeleton(**changes):
    """Other facts of the skeleton in a file that the workbench wrote; each from the old value to the new."""

    def change(content):
        (facts,) = (value for value in content["meta"].values() if isinstance(value, dict))
        for name, of in changes.items():
            facts["skeleton"][name] = tuple(of(list(facts["skeleton"][name])))

    return change


def with_names(order):
    """Keypoint names in another order in what an mmengine file says of its data set."""

    def change(content):
        meta = content["meta"]["dataset_meta"]
        names = [meta["keypoint_id2name"][k] for k in order]
        meta["keypoint_id2name"] = dict(enumerate(names))
        meta["keypoint_name2id"] = {name: k for k, name in enumerate(names)}

    return change


def with_defects(*names):
    """Defects of the code that trained a sequence model, as its checkpoint says."""

    def change(content):
        content["meta"]["cape"]["defects"] = list(names)

    return change
