"""Rules about values with which nothing is learned, or what is learned is not kept, in every layout.

None needs a recipe: no published one has such a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from workbench.core.report import counted
from workbench.recipes.comparison import AuditFinding, Subject, finding, numbers, shown
from workbench.recipes.pipeline_rules import steps_of
from workbench.recipes.values import class_name, look_up

# Gradient norms to which nobody clips on purpose; published recipes clip at .1 to 35.
TIGHT_CLIP = 0.01
# Rates at which nobody trains on purpose, by optimizer. Published ones: Adam 1e-5 to 5e-3, SGD 1e-3 to 3.
RATES = {"adam": (1e-7, 0.05), "adamw": (1e-7, 0.05), "sgd": (1e-7, 20.0)}
# Share of a weight that decay takes at each step, and a decay below which no recipe is asked.
DECAYED, _LEAST_DECAY = 1e-3, 0.5
# Share of the paths that are dropped; published recipes drop up to .55.
_MOST_DROPPED = 0.75
# A loss scale with which half precision overflows at once: its largest number is 65504.
_SCALE = 2.0**18
# Metrics that rise as a network learns.
_RISES = re.compile(r"(^|/)(m?AP|AR|PCK\w*|AUC|mAP50|acc\w*)$", re.IGNORECASE)
TIGHTLY_CLIPPED = "gradient clipping too small"
_UNTRAINED = "keypoints without labels are learned"


def schedule_values(subject: Subject) -> Iterator[AuditFinding]:
    """A rate that never falls, or falls after the run; a clip and a decay with which nothing is learned."""
    made, own = subject.decisions, subject.decisions.dialect != "mmengine"
    gamma, epochs = made.get("schedule.gamma"), made.get("schedule.epochs")
    steps = made.get("schedule.milestones")
    falls = made.get("schedule.decay") == "MultiStepLR" or isinstance(steps, (list, tuple))
    if falls and isinstance(gamma, (int, float)) and gamma >= 1:
        yield finding(
            "error", made.key("schedule.gamma"), gamma, 0.1,
            cause="the schedule never lowers the learning rate",
            why="the last epochs at a low rate bring most of the AP",
            source="torch.optim.lr_scheduler.MultiStepLR: the rate is multiplied by gamma",
            fix="set the factor to 0.1", field="schedule.gamma",
        )  # fmt: skip
    late = [m for m in steps if isinstance(m, (int, float))] if isinstance(steps, (list, tuple)) else []
    if own and late and isinstance(epochs, (int, float)) and min(late) >= epochs:
        right = [round(epochs * 0.81), round(epochs * 0.95)]
        yield finding(
            "error", made.key("schedule.milestones"), steps, right,
            cause="milestones after the end of the run",
            evidence=(
                f"the run has {counted(epochs, 'epoch', spec='g')}, and the rate is to fall at {shown(late)}"
            ),
            why="the rate never falls, and the last epochs, which bring most of the AP, are missing",
            source="the config itself", fix=f"move the milestones to about {shown(right)}",
            field="schedule.milestones",
        )  # fmt: skip
    clip = made.get("optimizer.clip")
    if isinstance(clip, (int, float)) and 0 < clip < TIGHT_CLIP:
        yield finding(
            "error", made.key("optimizer.clip"), clip, 1.0,
            cause=TIGHTLY_CLIPPED,
            why="gradients of all sizes are made equally small; published recipes clip at 0.1 to 35",
            source="torch.nn.utils.clip_grad_norm_", fix="clip the norm at 1, or not at all",
            field="optimizer.clip",
        )  # fmt: skip
    yield from _rate(subject)
    yield from _decay(subject)


def _rate(subject: Subject) -> Iterator[AuditFinding]:
    made = subject.decisions
    rate, kind = made.get("optimizer.lr"), str(made.get("optimizer.type")).lower()
    low, high = RATES.get(kind, (0.0, float("inf")))
    if isinstance(rate, (int, float)) and rate > 0 and not low <= rate < high:
        yield finding(
            "error", made.key("optimizer.lr"), rate, None,
            cause="learning rate too high or too low",
            evidence=f"{kind} with a rate of {rate:g}; it is used with {low:g} to {high:g}",
            why="with Adam the rate is the size of each step, whatever the gradient",
            source="published recipes: 1e-4 to 4e-3 with Adam and AdamW, 1e-3 to 1 with SGD",
            fix="take the rate of a published recipe for this network", field="optimizer.lr",
        )  # fmt: skip


def _decay(subject: Subject) -> Iterator[AuditFinding]:
    made = subject.decisions
    rate, decay = made.get("optimizer.lr"), made.get("optimizer.weight_decay")
    if not isinstance(rate, (int, float)) or not isinstance(decay, (int, float)) or decay < _LEAST_DECAY:
        return
    # Adam's decay is part of the gradient, which is divided by its own size: nothing else is left of it.
    taken = 1.0 if str(made.get("optimizer.type")).lower() == "adam" else rate * decay
    if taken >= DECAYED:
        yield finding(
            "error", made.key("optimizer.weight_decay"), decay, None,
            cause="weight decay too strong",
            evidence=f"weight_decay={decay:g} at a rate of {rate:g} with {made.get('optimizer.type')}",
            why="decay takes more of the weights at each step than gradients give",
            source="Loshchilov and Hutter, arXiv 1711.05101; published recipes decay by 0 to 0.1",
            fix="decay by 0.01 to 0.1 with AdamW, by 1e-4 with SGD and Adam", field="optimizer.weight_decay",
        )  # fmt: skip


def loss_values(subject: Subject) -> Iterator[AuditFinding]:
    """Unlabelled keypoints in the loss, paths dropped, a loss scale that overflows."""
    made = subject.decisions
    if made.get("loss.target_weight") is False:
        yield finding(
            "error", made.key("loss.target_weight"), False, True,
            cause=_UNTRAINED,
            why="targets of keypoints that nobody labelled are empty, and the network learns to find nothing "
            "there",
            source="mmpose 1.3.2: all 360 published configs with this key set it to True",
            fix="set it to True", field="loss.target_weight",
        )  # fmt: skip
    dropped = made.get("backbone.drop_path")
    if isinstance(dropped, (int, float)) and dropped >= _MOST_DROPPED:
        yield finding(
            "error", made.key("backbone.drop_path"), dropped, 0.3,
            cause="dropout too strong",
            why="most blocks are left out in most steps; published recipes drop 0.1 to 0.55 of the paths",
            source="Huang et al., stochastic depth, arXiv 1603.09382", fix="drop 0.1 to 0.5 of the paths",
            field="backbone.drop_path",
        )  # fmt: skip
    yield from _loss_scale(subject)


def _loss_scale(subject: Subject) -> Iterator[AuditFinding]:
    """A fixed scale of half precision that overflows, or that lets small gradients become 0."""
    scale = look_up(subject.config, "optim_wrapper.loss_scale")
    half = class_name(look_up(subject.config, "optim_wrapper")) == "AmpOptimWrapper"
    bfloat = look_up(subject.config, "optim_wrapper.dtype") == "bfloat16"
    if half and not bfloat and isinstance(scale, (int, float)) and 0 < scale <= 1:
        yield finding(
            "warning", "optim_wrapper.loss_scale", scale, "dynamic",
            cause="gradients vanish in half precision",
            why="gradients below 6e-8 become 0 where the loss is not scaled up; those of heatmaps are small",
            source="Micikevicius et al., mixed precision training, arXiv 1710.03740",
            fix="set loss_scale='dynamic'",
        )  # fmt: skip
    if isinstance(scale, (int, float)) and not isinstance(scale, bool) and scale > _SCALE:
        yield finding(
            "error", "optim_wrapper.loss_scale", scale, "dynamic",
            cause="half precision overflows in training",
            why="the scaled loss is above 65504, the largest number of half precision: steps are left out",
            source="mmengine AmpOptimWrapper", fix="set loss_scale='dynamic'",
        )  # fmt: skip


def kept_checkpoint(subject: Subject) -> Iterator[AuditFinding]:
    """The best checkpoint is the one whose figure is best."""
    hook = look_up(subject.config, "default_hooks.checkpoint")
    hook = hook if isinstance(hook, Mapping) else look_up(subject.config, "evaluation")
    if not isinstance(hook, Mapping):
        return
    named, rule = str(hook.get("save_best") or ""), hook.get("rule")
    if rule == "less" and _RISES.search(named):
        yield finding(
            "error", "default_hooks.checkpoint.rule", rule, "greater",
            cause="the worst checkpoint is kept as the best",
            evidence=f"save_best is {named}, which rises, and rule is 'less'",
            why="the file called best is the first one, or the worst", source="mmengine CheckpointHook",
            fix="set rule='greater'",
        )  # fmt: skip


def colours(subject: Subject) -> Iterator[AuditFinding]:
    """Mean and channel order belong together."""
    made = subject.decisions
    mean, rgb = numbers(made.get("preprocess.mean"), 3), made.get("preprocess.rgb")
    if made.dialect != "mmengine" or mean is None or not isinstance(rgb, bool):
        return
    # ImageNet's: red has the largest mean, blue the smallest.
    ordered = mean[0] > mean[1] > mean[2] and mean[0] - mean[2] > 10
    turned = mean[0] < mean[1] < mean[2] and mean[2] - mean[0] > 10
    if (ordered and not rgb) or (turned and rgb):
        order = "red, green, blue" if ordered else "blue, green, red"
        yield finding(
            "error", made.key("preprocess.rgb"), rgb, not rgb,
            cause="channel order",
            evidence=f"the mean {shown(mean)} is that of {order}, and bgr_to_rgb={rgb} gives "
            f"{'red, green, blue' if rgb else 'blue, green, red'}",
            why="OpenCV reads blue first: red is normalised as blue, and weights see other colours",
            source="mmpose 1.3.2 PoseDataPreprocessor", fix=f"set bgr_to_rgb={not rgb}",
            field="preprocess.rgb",
        )  # fmt: skip


def norms_in_evaluation_mode(subject: Subject) -> Iterator[AuditFinding]:
    """Norms keep statistics that were learned before."""
    config = subject.config
    backbone = look_up(config, "model.backbone")
    if not isinstance(backbone, Mapping) or backbone.get("norm_eval") is not True:
        return
    started = backbone.get("init_cfg") or backbone.get("pretrained") or config.get("load_from")
    started = started or look_up(config, "model.pretrained")
    yield finding(
        "remark" if started else "error", "model.backbone.norm_eval", True, False,
        cause="batch-norm statistics not updated",
        why="norm_eval keeps the statistics of batch norm: at 0 and 1 without pretrained weights",
        source="mmpose 1.3.2 backbones: train() calls eval() on every batch norm",
        fix="set norm_eval to False",
    )  # fmt: skip


def older_pipelines(subject: Subject) -> Iterator[AuditFinding]:
    """Training and validation of mmpose 0.x place and normalise pixels alike."""
    made = subject.decisions
    if made.dialect != "mmpose0":
        return
    steps = {part: {class_name(s): s for s in steps_of(made, part)} for part in ("train", "val")}
    for step, key, cause in (
        ("TopDownAffine", "use_udp", "crop and codec follow two conventions"),
        ("NormalizeTensor", "mean", "trained on other colours than judged on"),
        ("NormalizeTensor", "std", "trained on other colours than judged on"),
    ):
        if step not in steps["train"] or step not in steps["val"]:
            continue
        trained, judged = (steps[part][step].get(key, False) for part in ("train", "val"))
        if _plain(trained) != _plain(judged):
            yield finding(
                "error", f"val_pipeline.{step}.{key}", judged, trained,
                cause=cause, why="the network sees another input in the test than in training",
                source=f"mmpose 0.29 {step}", fix=f"use one {key} in both pipelines",
            )  # fmt: skip
    mean = numbers(look_up(steps["train"].get("NormalizeTensor", {}), "mean"), 3)
    if mean and max(mean) > 1:
        yield finding(
            "error", "train_pipeline.NormalizeTensor.mean", mean, [0.485, 0.456, 0.406],
            cause="normalised on another range",
            why="ToTensor divides by 255 first", source="mmpose 0.29 ToTensor and NormalizeTensor",
            fix="divide mean and std by 255", field="preprocess.mean",
        )  # fmt: skip
    if made.get("test.flip") is True and made.get("test.shift_heatmap") is False:
        udp = look_up(steps["val"].get("TopDownAffine", {}), "use_udp")
        if made.get("codec.type") == "MSRAHeatmap" and not udp:
            yield finding(
                "error", made.key("test.shift_heatmap"), False, True,
                cause="flip test does not shift its maps",
                why="without UDP the mirrored map lies a cell off, and the average half a cell",
                source="Huang et al., UDP, arXiv 1911.07524", fix="set shift_heatmap to True",
                field="test.shift_heatmap",
            )  # fmt: skip


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def yacs_values(subject: Subject) -> Iterator[AuditFinding]:
    """A yaml of HRNet's layout: order of the data, sets, flip shift."""
    made, config = subject.decisions, subject.config
    if made.get("train.shuffle") is False and made.dialect != "mmengine":
        yield finding(
            "error", made.key("train.shuffle"), False, True,
            cause="training data not shuffled",
            why="every epoch has the same batches, the people of one image together",
            source="torch.utils.data.DataLoader", fix="set it to true", field="train.shuffle",
        )  # fmt: skip
    if made.dialect != "yacs":
        return
    sets = [look_up(config, f"DATASET.{name}") for name in ("TRAIN_SET", "TEST_SET", "ROOT", "TEST_ROOT")]
    if isinstance(sets[0], str) and sets[0] and sets[0] == sets[1] and sets[3] in (None, sets[2]):
        yield finding(
            "error", "DATASET.TEST_SET", sets[1], "val2017" if sets[0] == "train2017" else None,
            cause="validated on the training data",
            evidence=f"TRAIN_SET and TEST_SET both are {sets[0]}",
            why="figures on the training data say nothing about new images", source="the config itself",
            fix="name the validation set",
        )  # fmt: skip
    flip, shift = look_up(config, "TEST.FLIP_TEST"), look_up(config, "TEST.SHIFT_HEATMAP")
    if flip is True and shift is False and look_up(config, "MODEL.TARGET_TYPE") == "gaussian":
        yield finding(
            "error", "TEST.SHIFT_HEATMAP", False, True,
            cause="flip test does not shift its maps",
            why="the mirrored map lies a cell off: unless it is shifted, the average is half a cell off",
            source="HRNet lib/core/function.py, validate", fix="set SHIFT_HEATMAP to true",
            field="test.shift_heatmap",
        )  # fmt: skip


VALUE_RULES = (
    schedule_values,
    loss_values,
    kept_checkpoint,
    colours,
    norms_in_evaluation_mode,
    older_pipelines,
    yacs_values,
)
"""In the order of a report."""
