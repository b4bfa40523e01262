"""What a config decides, by the names of `fields`, whatever its layout.

Values come out in one form: types without their module, mmpose 0.x names as those of mmpose 1.x, means and
deviations on 0..255, the schedule in words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.core.python_text import literal_of
from workbench.recipes.recipe import Dialect, fields

# Names of mmpose 0.x and of classes in configs of the new style, by the name that mmpose 1.x registers.
ALIASES = {
    "ViT": "VisionTransformer",
    "TopDown": "TopdownPoseEstimator",
    "pose_hrnet": "TopdownPoseEstimator",  # of HRNet's own YAML, as pose_resnet
    "pose_resnet": "TopdownPoseEstimator",
    "TopdownHeatmapSimpleHead": "HeatmapHead",
    "TopDownCocoDataset": "CocoDataset",
    "coco": "CocoDataset",
    "JointsMSELoss": "KeypointMSELoss",
    "LayerDecayOptimizerConstructor": "LayerDecayOptimWrapperConstructor",
    "GaussianHeatmap": "gaussian",
    "CombinedTarget": "combined",
    "SyncBatchNorm": "SyncBN",
    "mAP": "CocoMetric",
    "TopDownRandomFlip": "RandomFlip",
    "TopDownHalfBodyTransform": "RandomHalfBody",
    "TopDownGetRandomScaleRotation": "RandomBBoxTransform",
}
# Width, depth, heads. Sources: mmpretrain vision_transformer.py, arch_zoo; the same file in sapiens/pretrain.
ARCHITECTURES = {
    "base": (768, 12, 12),
    "b": (768, 12, 12),
    "large": (1024, 24, 16),
    "l": (1024, 24, 16),
    "huge": (1280, 32, 16),
    "h": (1280, 32, 16),
    "sapiens_0.3b": (1024, 24, 16),
    "sapiens_0.6b": (1280, 32, 16),
    "sapiens_1b": (1536, 40, 24),
    "sapiens_2b": (1920, 48, 32),
}
# Fields whose value is the name of a class.
_CLASSES = ("type", "norm", "act", "activation", "constructor", "arch", "dataset")
# What configs of their own layout call COCO keypoint AP.
_COCO_WORDS = ("ap", "map", "coco", "coco_ap", "coco/ap", "oks", "oks_ap", "cocometric", "cocoeval")
# Steps deeper than any config.
_DEPTH = 40
_LONGEST_PATH = 1000  # characters; its end tells what it is


@dataclass(frozen=True)
class Value:
    """One decision of a config.

    Attributes:
        value: in the form of `fields`.
        key: where it stands, as the config's owner would look for it.
        written: False where the config leaves it out and the framework's own value counts.
    """

    value: Any
    key: str
    written: bool = True


@dataclass(frozen=True, eq=False)
class Decisions:
    """What a config decides.

    Attributes:
        dialect: its layout.
        config: its content.
        values: name of a field -> value.
    """

    dialect: Dialect
    config: Mapping[str, Any]
    values: Mapping[str, Value]

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a field, written or not."""
        return self.values[name].value if name in self.values else default

    def key(self, name: str) -> str:
        """Where a field stands; where it would stand when the config leaves it out."""
        if name in self.values:
            return self.values[name].key
        known = fields()[name]
        return next(iter(known.paths.get(self.dialect, ())), known.words[0] if known.words else name)


def decisions_of(config: Mapping[str, Any], dialect: Dialect | None = None) -> Decisions:
    """What a config decides.

    Args:
        config: content as it was read; a config of any of the known layouts, whole or in part.
        dialect: its layout; None to tell it from its keys.

    Example:
        >>> decisions_of({"optim_wrapper": {"optimizer": {"type": "torch.optim.AdamW", "lr": 5e-4}}}).get(
        ...     "optimizer.type")
        'AdamW'
    """
    dialect = dialect or dialect_of(config)
    if dialect == "plain":
        return Decisions(dialect, config, _by_words(config))
    view = _view(config, dialect)
    found = _by_paths(view, dialect)
    found |= _schedule(view, dialect)
    found |= _augmentation(view)
    if dialect == "mmengine":
        found |= _hooks(view)
    if dialect == "mmpose0":
        _translate_mmpose0(view, found)
    _architecture(found)
    _codec_defaults(found)
    return Decisions(dialect, config, found)


def dialect_of(config: Mapping[str, Any]) -> Dialect:
    """The layout of a config."""
    if any(isinstance(config.get(name), Mapping) for name in ("MODEL", "DATASET", "TRAIN", "TEST")):
        return "yacs"
    model = config.get("model")
    model = model if isinstance(model, Mapping) else {}
    if "keypoint_head" in model or {"data_cfg", "optimizer_config", "lr_config", "total_epochs"} & set(
        config
    ):
        return "mmpose0"
    own = {"optim_wrapper", "train_dataloader", "val_dataloader", "param_scheduler", "codec",
           "train_pipeline", "val_evaluator", "data_preprocessor", "default_scope"}  # fmt: skip
    typed = [config.get(name) for name in ("head", "backbone")] + [model.get(n) for n in ("head", "backbone")]
    if own & set(config) or any(isinstance(part, Mapping) and "type" in part for part in typed):
        return "mmengine"
    return "plain"


def look_up(config: Any, path: str) -> Any:
    """What stands at a dotted path; None where nothing does.

    Of a list a number takes an item, and a name the first item of that type.
    """
    here = config
    for part in path.split("."):
        if isinstance(here, Mapping):
            here = here.get(part)
        elif isinstance(here, (list, tuple)):
            if part.isdecimal():
                here = here[int(part)] if int(part) < len(here) else None
            else:
                here = next((step for step in here if class_name(step) == part), None)
        else:
            return None
        if here is None:
            return None
    return here


def class_name(entry: Any) -> str:
    """The type of an entry, or a class's name, without its module and as mmpose 1.x calls it."""
    name = entry.get("type") if isinstance(entry, Mapping) else entry
    name = str(name).rpartition(".")[2] if isinstance(name, str) else ""
    return ALIASES.get(name, name)


def _view(config: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    """The config with its effective pipelines at the top level, and a model of parts that stand alone."""
    view = dict(config)
    loader = "train_dataloader.dataset" if dialect == "mmengine" else "data.train"
    for name, place in (("train_pipeline", loader), ("val_pipeline", loader.replace("train", "val"))):
        for path in (f"{place}.pipeline", f"{place}.dataset.pipeline"):
            pipeline = look_up(config, path)
            if isinstance(pipeline, (list, tuple)):
                view[name] = pipeline
                break
        if isinstance(view.get(name), (list, tuple)):
            view[name] = list(_unpacked(view[name]))
    if not isinstance(view.get("model"), Mapping):
        view["model"] = {
            name: view[name]
            for name in ("head", "backbone", "data_preprocessor")
            if isinstance(view.get(name), Mapping)
        }
        if not view["model"]:
            del view["model"]
    return view


def _unpacked(steps: Sequence[Any], depth: int = 5) -> Iterator[Any]:
    """The steps of a pipeline, those inside of Albumentation, Compose and the like among them."""
    for step in steps:
        yield step
        inner = step.get("transforms") if isinstance(step, Mapping) else None
        if isinstance(inner, (list, tuple)) and depth:
            yield from _unpacked(inner, depth - 1)


def _by_paths(view: Mapping[str, Any], dialect: Dialect) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, field in fields().items():
        paths = field.paths.get(dialect, ())
        for path in paths:
            value = look_up(view, path)
            if value is not None and not isinstance(value, Mapping):
                found[name] = Value(_uniform(name, value, dialect), path)
                break
        else:
            if dialect == "mmengine" and field.absent is not None and paths and _has_section(view, paths):
                found[name] = Value(field.absent, paths[0], written=False)
    return found


# Dicts that a config may leave out as a whole: their keys then have the framework's values.
_OPTIONAL = ("clip_grad", "test_cfg", "paramwise_cfg")


def _has_section(view: Mapping[str, Any], paths: Sequence[str]) -> bool:
    """Whether the dict that would hold the key is there, so that its absence says something."""
    for path in paths:
        *above, _ = path.split(".")
        if above and above[-1] in _OPTIONAL:
            above = above[:-1]
        if above and isinstance(look_up(view, ".".join(above)), Mapping):
            return True
    return False


def _uniform(name: str, value: Any, dialect: Dialect) -> Any:
    if dialect == "yacs" and isinstance(value, str) and value[:1] in "([":
        try:
            value = literal_of(value)  # yacs reads "(True, False)" so
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
    if name.rpartition(".")[2] in _CLASSES and isinstance(value, str):
        return value if name == "backbone.arch" else class_name(value)
    if name == "codec.heatmap_type" and isinstance(value, str):
        return class_name(value)
    if isinstance(value, tuple):
        return list(value)
    return value


def _schedule(view: Mapping[str, Any], dialect: Dialect) -> dict[str, Value]:
    if dialect == "mmengine":
        return _param_scheduler(view)
    found: dict[str, Value] = {}
    config = view.get("lr_config")
    if dialect == "mmpose0" and isinstance(config, Mapping):
        steps = config.get("warmup_iters", 0) if config.get("warmup") else 0
        unit = "epochs" if config.get("warmup_by_epoch") else "iterations"
        found["schedule.warmup"] = Value(warmup_words(steps, unit), "lr_config.warmup_iters")
        if steps:
            found["schedule.warmup_start"] = Value(config.get("warmup_ratio", 0.1), "lr_config.warmup_ratio")
        kinds = {"step": "MultiStepLR", "cosineannealing": "CosineAnnealingLR"}
        policy = str(config.get("policy")).lower()
        found["schedule.decay"] = Value(kinds.get(policy, str(config.get("policy"))), "lr_config.policy")
        if isinstance(config.get("step"), (list, tuple)):
            found["schedule.milestones"] = Value(list(config["step"]), "lr_config.step")
            found["schedule.gamma"] = Value(config.get("gamma", 0.1), "lr_config.gamma", "gamma" in config)
    if dialect == "yacs" and look_up(view, "TRAIN.LR_STEP") is not None:
        found["schedule.decay"] = Value("MultiStepLR", "TRAIN.LR_STEP")
    return found


def devices_of(decisions: Decisions) -> int | None:
    """Devices that a YAML config of the HRNet family trains on; None where the config names none."""
    gpus = _uniform("GPUS", look_up(decisions.config, "GPUS"), decisions.dialect)
    return len(gpus) if decisions.dialect == "yacs" and isinstance(gpus, (list, tuple)) and gpus else None


def warmup_words(length: Any, unit: str) -> str:
    """Length of a warm-up in words: ``500 iterations``, ``none``."""
    return f"{length:g} {unit}" if isinstance(length, (int, float)) and length else "none"


def schedulers(config: Mapping[str, Any]) -> list[tuple[int, Mapping[str, Any]]]:
    """The entries of param_scheduler with their index."""
    entries = config.get("param_scheduler") or []
    entries = [entries] if isinstance(entries, Mapping) else entries
    if not isinstance(entries, (list, tuple)):
        return []
    return [(n, entry) for n, entry in enumerate(entries) if isinstance(entry, Mapping)]


def is_warm_up(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of param_scheduler starts small and ends at the full rate."""
    factor = entry.get("start_factor", entry.get("factor", 1 / 3))
    return class_name(entry) in ("LinearLR", "ConstantLR") and isinstance(factor, (int, float)) and factor < 1


def _param_scheduler(view: Mapping[str, Any]) -> dict[str, Value]:
    entries = schedulers(view)
    if not entries:
        return {}
    found = {"schedule.warmup": Value("none", "param_scheduler", written=False)}
    for n, entry in entries:
        place = f"param_scheduler.{n}"
        if is_warm_up(entry):
            ends = [entry.get(name) or 0 for name in ("end", "begin")]
            length = ends[0] - ends[1] if all(isinstance(end, (int, float)) for end in ends) else 0
            unit = "iterations" if entry.get("by_epoch", True) is False else "epochs"
            found["schedule.warmup"] = Value(warmup_words(length, unit), f"{place}.end")
            found["schedule.warmup_start"] = Value(entry.get("start_factor", 1 / 3), f"{place}.start_factor")
            continue
        found["schedule.decay"] = Value(class_name(entry), f"{place}.type")
        if isinstance(entry.get("milestones"), (list, tuple)):
            found["schedule.milestones"] = Value(list(entry["milestones"]), f"{place}.milestones")
            found["schedule.gamma"] = Value(entry.get("gamma", 0.1), f"{place}.gamma", "gamma" in entry)
        if "eta_min" in entry:
            found["schedule.eta_min"] = Value(entry["eta_min"], f"{place}.eta_min")
    return found


def _augmentation(view: Mapping[str, Any]) -> dict[str, Value]:
    """Random steps of the training pipeline; those of `fields` that it does not have are False."""
    steps = view.get("train_pipeline")
    if not isinstance(steps, list):
        return {}
    known = [name.split(".")[1] for name in fields() if name.startswith("augment.") and name.count(".") == 1]
    by_type = {class_name(step): step for step in steps if isinstance(step, Mapping)}
    found = {
        f"augment.{name}": Value(
            name in by_type, f"train_pipeline.{name}" if name in by_type else "train_pipeline"
        )
        for name in known
    }
    for name in ("CoarseDropout", "Blur", "MedianBlur"):
        for option in ("p", "max_height"):
            if option in by_type.get(name, {}) and f"augment.{name}.{option}" in fields():
                place = f"train_pipeline.{name}.{option}"
                found[f"augment.{name}.{option}"] = Value(by_type[name][option], place)
    box = by_type.get("RandomBBoxTransform")
    if box is not None:
        found |= _box_transform(box)
    return found


def _box_transform(step: Mapping[str, Any]) -> dict[str, Value]:
    """Scale and rotation; mmpose 0.x draws from a normal distribution and clips it at twice its factor."""
    place = "train_pipeline.RandomBBoxTransform"
    if "rot_factor" in step:
        spread = step.get("scale_factor", 0.5)
        scale = [1 - spread, 1 + spread] if isinstance(spread, (int, float)) else spread
        rotation = step["rot_factor"] * 2 if isinstance(step["rot_factor"], (int, float)) else None
    else:
        # Defaults of mmpose 1.3.2's class.
        scale, rotation = step.get("scale_factor", [0.5, 1.5]), step.get("rotate_factor", 80.0)
        scale = list(scale) if isinstance(scale, tuple) else scale
    found = {
        "augment.RandomBBoxTransform.scale": Value(scale, f"{place}.scale_factor", "scale_factor" in step)
    }
    if rotation is not None:
        written = "rotate_factor" in step or "rot_factor" in step
        found["augment.RandomBBoxTransform.rotation"] = Value(rotation, f"{place}.rotate_factor", written)
    return found


def _hooks(view: Mapping[str, Any]) -> dict[str, Value]:
    hooks = view.get("custom_hooks")
    whole = "model" in view and "optim_wrapper" in view
    if not isinstance(hooks, (list, tuple)):
        return {"ema.type": Value("none", "custom_hooks", written=False)} if whole else {}
    found = {"ema.type": Value("none", "custom_hooks", written=False)}
    for n, hook in enumerate(hooks):
        if class_name(hook) == "EMAHook":
            place = f"custom_hooks.{n}"
            kind = class_name(hook.get("ema_type", "ExponentialMovingAverage"))
            found["ema.type"] = Value(kind, f"{place}.ema_type", "ema_type" in hook)
            found["ema.momentum"] = Value(hook.get("momentum", 2e-4), f"{place}.momentum", "momentum" in hook)
        elif class_name(hook) == "PipelineSwitchHook" and "switch_epoch" in hook:
            found["stage2.epoch"] = Value(hook["switch_epoch"], f"custom_hooks.{n}.switch_epoch")
    return found


def _translate_mmpose0(view: Mapping[str, Any], found: dict[str, Value]) -> None:
    target = look_up(view, "train_pipeline.TopDownGenerateTarget")
    if isinstance(target, Mapping):
        kinds = {"UDP": "UDPHeatmap", "MSRA": "MSRAHeatmap", "Megvii": "MegviiHeatmap"}
        kind = kinds.get(str(target.get("encoding", "MSRA")), str(target.get("encoding")))
        found["codec.type"] = Value(kind, "train_pipeline.TopDownGenerateTarget.encoding")
    for name in ("preprocess.mean", "preprocess.std"):
        value = found.get(name)
        if value is not None and isinstance(value.value, list):
            scaled = [round(v * 255, 3) if isinstance(v, (int, float)) else v for v in value.value]
            found[name] = Value(scaled, value.key)


def _architecture(found: dict[str, Value]) -> None:
    """Width, depth and heads of an architecture that is given by its name."""
    arch = found.get("backbone.arch")
    if arch is None or str(arch.value) not in ARCHITECTURES:
        return
    if found.get("backbone.type", Value("VisionTransformer", "")).value != "VisionTransformer":
        return
    for name, value in zip(("embed_dim", "layers", "heads"), ARCHITECTURES[str(arch.value)], strict=True):
        found[f"backbone.{name}"] = Value(value, arch.key)


def _codec_defaults(found: dict[str, Value]) -> None:
    """Values that a codec leaves out are those of its class: mmpose 1.3.2 mmpose/codecs."""
    kind = found.get("codec.type")
    if kind is None:
        return
    if kind.value != "UDPHeatmap":
        found.pop("codec.heatmap_type", None)
    sigma = found.get("codec.sigma")
    if kind.value == "SimCCLabel" and sigma is not None and not sigma.written:
        found["codec.sigma"] = Value(6.0, sigma.key, written=False)


def leaves(config: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every dotted path of a config that holds no dict, with its value."""
    if isinstance(config, Mapping) and depth < _DEPTH:
        for key, value in config.items():
            # Made anew for each value below: keys of 500 characters, 40 deep, would be 20 kB each time.
            joined = f"{path}.{key}" if path else str(key)
            yield from leaves(value, joined[-_LONGEST_PATH:], depth + 1)
    elif path:
        yield path, config


def _by_words(config: Mapping[str, Any]) -> dict[str, Value]:
    """Fields by the names of keys, the first in the file; text that is a number counts as one."""
    by_ending: dict[str, list[tuple[str, Any]]] = {}
    for path, value in leaves(config):
        parts = path.lower().split(".")
        for ending in (parts[-1], ".".join(parts[-2:])):
            by_ending.setdefault(ending, []).append((path, value))
    found: dict[str, Value] = {}
    for name, field in fields().items():
        kind = [f"{word}.{part}" for word in field.words for part in ("type", "name")]
        for word in (*field.words, *(kind if name.endswith("type") else ())):
            places = by_ending.get(word.lower(), ())
            if places and not isinstance(places[0][1], Mapping):
                path, value = places[0]
                found[name] = Value(_uniform(name, as_number(value), "plain"), path)
                break
    metric = found.get("metric.type")
    if metric is not None and str(metric.value).lower() in _COCO_WORDS:
        found["metric.type"] = Value("CocoMetric", metric.key)
    warm_up = found.get("schedule.warmup")
    if warm_up is not None and isinstance(warm_up.value, (int, float)):
        named = [unit for unit in ("epochs", "iterations", "steps") if unit[:4] in warm_up.key.lower()]
        words = warmup_words(warm_up.value, (named or ["(unit not given)"])[0].replace("steps", "iterations"))
        found["schedule.warmup"] = Value(words, warm_up.key)
    return found


def as_number(value: Any) -> Any:
    """A number where a text holds one: YAML 1.1 reads 5e-4 as text."""
    if isinstance(value, str) and len(value) < 40:
        try:
            return float(value)
        except ValueError:
            return value
    return value
