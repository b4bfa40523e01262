"""Rules about the training and the evaluation of a config.

None needs a difference from a recipe, though one uses its total batch and its number of samples.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from workbench.core.report import counted
from workbench.recipes.comparison import AuditFinding, Subject, file_name, finding, other_data, shown
from workbench.recipes.recipe import Recipe, recipe_names
from workbench.recipes.recipe import recipe as recipe_of
from workbench.recipes.values import Decisions, class_name, leaves, look_up

# Share by which total batch and learning rate may part before it is said.
_SCALING = 1.5

_LARGE = "a smaller batch has noisier gradients and, at the same rate, larger steps per sample"
_SMALL = "a larger batch makes fewer steps, which are then too small to come as far"


def rate_and_batch(subject: Subject) -> Iterator[AuditFinding]:
    """A learning rate belongs to a total batch."""
    made, recipe = subject.decisions, subject.recipe
    batch, rate = made.get("train.batch_size"), made.get("optimizer.lr")
    numbers = isinstance(batch, (int, float)) and isinstance(rate, (int, float))
    if recipe is None or not numbers or batch <= 0:
        return
    base = recipe.get("scaling.base_batch") or recipe.devices * recipe.get("train.batch_size", 0)
    expected_rate = recipe.get("optimizer.lr")
    if not base or not expected_rate:
        return
    accumulated = look_up(made.config, "optim_wrapper.accumulative_counts") or 1
    per_step = batch * subject.devices
    total = per_step * (accumulated if isinstance(accumulated, int) else 1)
    own = look_up(made.config, "auto_scale_lr.base_batch_size")
    enabled = look_up(made.config, "auto_scale_lr.enable") is True
    if enabled and not (isinstance(own, int) and own > 0):
        return  # mmengine refuses it
    scales = enabled and isinstance(own, int)
    used = rate * per_step / own if scales else rate  # mmengine does not count accumulated steps
    # Or the config says itself that its rate is for this total.
    if _published(recipe, total, used) or made.get("scaling.base_batch") == total:
        return
    linear = expected_rate * total / base
    # For Adam two rules are in use; on other data than the recipe's, published configs follow either.
    adam = str(made.get("optimizer.type")).lower().startswith("adam")
    root = expected_rate * math.sqrt(max(total, 0) / base) if adam else linear
    right_ones = (linear, root) if other_data(made, recipe) else (linear,)
    if min(right_ones) / _SCALING <= used <= max(right_ones) * _SCALING:
        return
    right = f"{rate * linear / used:.2g}"
    fixes = [f"set the rate to about {right}"]
    if scales:
        fixes.append(f"set auto_scale_lr.base_batch_size to {own * used / linear:.0f}")
    elif math.isclose(rate, expected_rate, rel_tol=1e-6):
        fixes += _fixes_of_the_recipes_rate(base, made.dialect == "mmengine" and total == per_step)
    yield finding(
        "warning",
        *_rate_key(made, base, float(right)),
        cause="learning rate and batch do not belong together",
        evidence=(
            f"rate {rate:g}{f', which auto_scale_lr makes {used:g}' if scales else ''}, with "
            f"{counted(batch, 'sample', spec='g')} on each of {counted(subject.devices, 'device')} "
            f"({total:g} in all); {recipe.name} uses {expected_rate:g} for {base:g}, which makes {linear:g} "
            f"for {total:g} by the linear rule"
        )
        + f", {root:.2g} by the square-root rule that is used for Adam too" * adam,
        why=f"the rate of a recipe belongs to its total batch: {_LARGE if used > linear else _SMALL}",
        source=f"{recipe.source_of('scaling.base_batch')}; Goyal et al., arXiv 1706.02677",
        fix=", or ".join(fixes),
        assumption=f"{counted(subject.devices, 'device')} train together (--devices says otherwise)",
    )


def _published(recipe: Recipe, total: float, used: float) -> bool:
    """Whether a recipe, or another one of its backbone, head and optimizer, has this total batch and rate.

    Upstream's own pair is right, whatever auto_scale_lr's base says: RTMPose has 0.004 for 2048 on COCO.
    """
    same = ("backbone.type", "backbone.arch", "backbone.widen", "head.type", "optimizer.type")
    pairs = []
    for other in map(recipe_of, recipe_names()):
        if other.name == recipe.name or all(other.get(name) == recipe.get(name) for name in same):
            batch, rate = other.get("train.batch_size"), other.get("optimizer.lr")
            base = other.get("scaling.base_batch") or 0
            pairs.append((other.devices * batch if batch else base, rate))
    return any(
        n and rate and math.isclose(total, n) and math.isclose(used, rate, rel_tol=1e-6) for n, rate in pairs
    )


def _rate_key(made: Decisions, base: float, right: float) -> tuple[str, Any, Any]:
    """Key, found and expected: mmengine has a switch for it, other trainers the rate alone."""
    if made.dialect == "mmengine":
        scaled = {"base_batch_size": base, "enable": True}
        return "auto_scale_lr", look_up(made.config, "auto_scale_lr"), scaled
    rate, batch = made.key("optimizer.lr"), made.key("train.batch_size")
    return f"{rate} with {batch}", made.get("optimizer.lr"), right


def _fixes_of_the_recipes_rate(base: float, switch: bool) -> list[str]:
    """What helps beside another rate where the rate is the recipe's, for `base` samples.

    Args:
        base: samples in all.
        switch: the trainer has auto_scale_lr, and it counts the samples right.
    """
    fixes = [f"train with {counted(base, 'sample', spec='g')} in all"]
    if switch:
        fixes.append(
            f"set auto_scale_lr = dict(enable=True, base_batch_size={base:g}), which scales the rate so "
            "(--auto-scale-lr of tools/train.py sets enable)"
        )
    return fixes


def _nested_sets(made: Decisions, val: Any, root: Any) -> Iterator[AuditFinding]:
    """Several sets that are trained on together, one of which is the validation's."""
    nested = look_up(made.config, "train_dataloader.dataset.datasets")
    for entry in nested if isinstance(nested, (list, tuple)) else ():
        if (
            isinstance(val, str)
            and val
            and look_up(entry, "ann_file") == val
            and look_up(entry, "data_root") == root
        ):
            yield finding(
                "error",
                "train_dataloader.dataset.datasets",
                val,
                None,
                cause="validated on the training data",
                evidence=f"one of {len(nested)} training sets reads {shown(val)}, as the validation does",
                why="figures on the training data say nothing about new images",
                source="the config itself",
                fix="leave the validation file out of the training",
            )


def _plain_files(made: Decisions) -> Iterator[AuditFinding]:
    """Annotations that a config of its own layout names for the training and for the validation."""
    files = [(path, value) for path, value in leaves(made.config) if str(value).endswith(".json")]
    named = [(path, str(value), set(re.split(r"[._]", path.lower()))) for path, value in files]
    for path, value, words in named:
        if not words & {"val", "valid", "validation"}:
            continue
        same = next((other for other, held, its in named if "train" in its and held == value), None)
        # `train_annotations` and `val_annotations` are fields of every layout, reported above.
        if same is not None and made.get("val.annotations") != value:
            yield finding(
                "error",
                path,
                value,
                None,
                cause="validated on the training data",
                evidence=f"{same} and {path} both are {shown(value)}",
                why="figures on the training data say nothing about new images",
                source="the config itself",
                fix="name the validation file",
                field="val.annotations",
            )


def same_files(subject: Subject) -> Iterator[AuditFinding]:
    """Training, validation and evaluation name the right annotations."""
    made = subject.decisions
    train, val = made.get("train.annotations"), made.get("val.annotations")
    # Two sets may call their annotations alike, each in its own folder.
    roots = [look_up(made.config, f"{part}_dataloader.dataset.data_root") for part in ("train", "val")]
    if isinstance(train, str) and train and train == val and roots[0] == roots[1]:
        yield finding(
            "error",
            made.key("val.annotations"),
            val,
            None,
            cause="validated on the training data",
            evidence=f"training and validation both read {shown(val)}",
            why="figures on the training data say nothing about new images, and the best epoch is chosen "
            "by them",
            source="the config itself",
            fix="name the validation file",
            field="val.annotations",
        )
    if made.dialect == "plain":
        yield from _plain_files(made)
    if made.dialect != "mmengine":
        return
    yield from _nested_sets(made, val, roots[1])
    test = look_up(made.config, "test_dataloader.dataset.ann_file")
    root = look_up(made.config, "test_dataloader.dataset.data_root")
    if isinstance(test, str) and test and test == train and root == roots[0]:
        yield finding(
            "error",
            "test_dataloader.dataset.ann_file",
            test,
            None,
            cause="tested on the training data",
            evidence=f"training and test both read {shown(test)}",
            why="figures on the training data say nothing about new images",
            source="the config itself",
            fix="name the test file",
        )
    yield from _judged_files(made)


def _judged_files(made: Decisions) -> Iterator[AuditFinding]:
    """Loader and evaluator name one file."""
    for part in ("val", "test"):
        loaded = look_up(made.config, f"{part}_dataloader.dataset.ann_file")
        judged = look_up(made.config, f"{part}_evaluator.ann_file")
        if isinstance(loaded, str) and isinstance(judged, str) and file_name(loaded) != file_name(judged):
            yield finding(
                "error",
                f"{part}_evaluator.ann_file",
                judged,
                loaded,
                cause="predicted on other data than judged on",
                why="predictions for images that the evaluator does not know are dropped, its own images "
                "count as missed",
                source="mmpose 1.3.2 CocoMetric, ann_file",
                fix=f"name {file_name(loaded)} in both places",
            )


# Published sets whose detected boxes lie beside them, and their names in the paths of mmpose 1.3.2's configs.
_OF_DETECTIONS = {"coco", "crowdpose", "posetrack18", "humanart", "ochuman", "mpii", "aic", "jhmdb", "ap10k"}


def detected_boxes(subject: Subject) -> Iterator[AuditFinding]:
    """Detected boxes are of the images that are judged: their file and the annotations share a set's name."""
    made = subject.decisions
    for part in ("val", "test") if made.dialect == "mmengine" else ():
        place = f"{part}_dataloader.dataset"
        boxes = look_up(made.config, f"{place}.bbox_file")
        own = [look_up(made.config, f"{place}.{key}") for key in ("data_root", "ann_file")]
        if not isinstance(boxes, str) or not isinstance(own[1], str):
            continue
        named, judged = _words_of(boxes), _words_of("/".join(str(one or "") for one in own))
        least = look_up(made.config, f"{place}.filter_cfg.bbox_score_thr")
        if isinstance(least, (int, float)) and least > _LEAST_BOX:
            yield finding(
                "warning",
                f"{place}.filter_cfg.bbox_score_thr",
                least,
                0.0,
                cause="not the published protocol",
                why="people whose box has a lower score are not looked at, and AP counts them as missed",
                source="mmpose 1.3.2: its recipes keep all boxes, or those above 0.3 and 0.4",
                fix="remove filter_cfg: AP ranks detections, weak ones cost nothing",
            )
        if named & _OF_DETECTIONS and not named & judged:
            of = ", ".join(sorted(named & _OF_DETECTIONS))
            yield finding(
                "error",
                f"{place}.bbox_file",
                boxes,
                None,
                cause="predicted on other data than judged on",
                evidence=f"the detected boxes are those of {of} ({file_name(boxes)}), and the annotations "
                f"are {'/'.join(str(one) for one in own if one)}",
                why="boxes belong to images by their ids: they are cut out of other pictures, or of none",
                source="mmpose 1.3.2 BaseCocoStyleDataset, bbox_file",
                fix="detect boxes in these images, or remove bbox_file to use the annotated ones",
            )
            return


def _words_of(path: str) -> set[str]:
    """The words of a path in lower case, without those that any set has."""
    return set(re.split(r"[^a-z0-9]+", path.lower())) - {"", "data", "annotations", "val", "test", "json"}


# A score of boxes above which a test set is not whole, and an OKS above which two poses may be one person.
_LEAST_BOX, _LEAST_NMS = 0.5, 0.5


# Option of CocoMetric, its default in all top-down recipes of mmpose, what another value does.
_PROTOCOL = (
    ("use_area", True, "without the area, OKS uses another scale, and AP is not COCO's"),
    ("score_mode", "bbox_keypoint", "detections are ranked by another score, and AP depends on the ranking"),
    ("keypoint_score_thr", 0.2, "another set of keypoints enters the score of a detection"),
)


def metric(subject: Subject) -> Iterator[AuditFinding]:
    """COCO AP is computed as COCO does."""
    made = subject.decisions
    evaluator = look_up(subject.config, "val_evaluator")
    entries = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
    entries = [one for one in entries if isinstance(one, Mapping)]
    coco = [one for one in entries if class_name(one) == "CocoMetric"]
    on_coco = "person_keypoints_val2017" in str(made.get("val.annotations"))
    if entries and not coco and on_coco:
        yield finding(
            "error",
            "val_evaluator.type",
            ", ".join(class_name(one) for one in entries),
            "CocoMetric",
            cause="a metric that is not COCO's",
            why="published figures for this file are COCO keypoint AP: PCK and others cannot be compared "
            "with them",
            source="cocoapi PythonAPI/pycocotools/cocoeval.py; mmpose 1.3.2 CocoMetric",
            fix="add dict(type='CocoMetric', ann_file=...)",
            field="metric.type",
        )
    if made.get("model.type") not in ("TopdownPoseEstimator", None):
        return  # bottom-up models score whole people
    for one in coco:
        yield from _protocol(one, on_coco)


def _protocol(entry: Mapping[str, Any], on_coco: bool) -> Iterator[AuditFinding]:
    if entry.get("iou_type", "keypoints") != "keypoints":
        return
    nms = entry.get("nms_thr")
    if isinstance(nms, (int, float)) and nms < _LEAST_NMS and entry.get("nms_mode") != "none":
        yield finding(
            "warning",
            "val_evaluator.nms_thr",
            nms,
            0.9,
            cause="not the published protocol",
            why="of people who stand close together all but one are removed before AP is computed",
            source="mmpose 1.3.2 mmpose/evaluation/metrics/coco_metric.py: poses of an OKS above it are one",
            fix="remove nms_thr",
            field="metric.type",
        )
    for key, usual, why in _PROTOCOL:
        # Data sets without areas (CrowdPose, AIC) switch use_area off, and regression by residual
        # log-likelihood has a score of its own: both are published protocols.
        own = (key == "use_area" and not on_coco) or entry.get(key) == "bbox_rle"
        if key in entry and entry[key] != usual and not own:
            yield finding(
                "warning",
                f"val_evaluator.{key}",
                entry[key],
                usual,
                cause="not the published protocol",
                why=why,
                source="mmpose 1.3.2 mmpose/evaluation/metrics/coco_metric.py",
                fix=f"remove {key}",
                field="metric.type",
            )


def one_skeleton(subject: Subject) -> Iterator[AuditFinding]:
    """Training and evaluation read the keypoints of one skeleton."""
    made = subject.decisions
    place = "{}_dataloader.dataset.metainfo"
    trained, judged = (look_up(made.config, place.format(part)) for part in ("train", "val"))
    own, other = _skeleton_of(trained), _skeleton_of(judged)
    if own and other and own != other:
        yield finding(
            "error",
            place.format("val"),
            other,
            own,
            cause="trained and judged on two skeletons",
            why="each output is compared with the keypoint of the same number in the other skeleton",
            source="mmpose 1.3.2 BaseCocoStyleDataset: metainfo gives the keypoints, their pairs and sigmas",
            fix="give both data sets one metainfo",
        )


def _skeleton_of(metainfo: Any) -> str:
    """The keypoints of a metainfo in their order, or the name of its file; "" where it states none."""
    if not isinstance(metainfo, Mapping):
        return ""
    stated = metainfo.get("keypoint_info")
    if isinstance(stated, Mapping):
        return ", ".join(str(one.get("name")) for one in stated.values() if isinstance(one, Mapping))
    return str(file_name(metainfo.get("from_file")) or "")


def loaders(subject: Subject) -> Iterator[AuditFinding]:
    """Data loaders give every sample once, and start."""
    made = subject.decisions
    for part in ("train", "val", "test"):
        loader = look_up(made.config, f"{part}_dataloader")
        if not isinstance(loader, Mapping) or made.dialect != "mmengine":
            continue
        if loader.get("persistent_workers") is True and loader.get("num_workers") == 0:
            yield finding(
                "error",
                f"{part}_dataloader.persistent_workers",
                True,
                False,
                cause="the data loader does not start",
                why="PyTorch refuses persistent workers where there are none",
                source="torch.utils.data.DataLoader",
                fix="set num_workers above 0, or persistent_workers to False",
                field="train.persistent_workers",
            )
        if part == "train":
            continue
        for key, wrong, why in (
            (
                "drop_last",
                loader.get("drop_last") is True,
                "the last images are never judged and count as missed",
            ),
            (
                "sampler.shuffle",
                look_up(loader, "sampler.shuffle") is True,
                "the order of a test set must not change",
            ),
        ):
            if wrong:
                yield finding(
                    "error" if key == "drop_last" else "remark",
                    f"{part}_dataloader.{key}",
                    True,
                    False,
                    cause="a test set that is not whole"
                    if key == "drop_last"
                    else "a test set in random order",
                    why=why,
                    source="mmpose 1.3.2 recipes: False",
                    fix="set it to False",
                    field="train.drop_last",
                )


def average_momentum(subject: Subject) -> Iterator[AuditFinding]:
    """The momentum of mmengine is the weight of the new value."""
    value = subject.decisions.get("ema.momentum")
    if isinstance(value, (int, float)) and not 0 < value <= 0.5:
        right = round(1 - value, 6) if 0.5 < value < 1 else 2e-4
        yield finding(
            "error",
            subject.decisions.key("ema.momentum"),
            value,
            right,
            cause="averaged weights that do not average",
            why="mmengine's momentum is the share of the new weights: above a half the average is the last "
            "step, at 0 it stays where it began",
            source="mmengine BaseAveragedModel: averaged = (1 - momentum) averaged + momentum new",
            fix=f"set momentum to {right:g}",
            field="ema.momentum",
        )


def loss_weights(subject: Subject) -> Iterator[AuditFinding]:
    """Some part of the loss has a weight."""
    model = subject.config.get("model")
    weights = [
        (path, value)
        for path, value in leaves(model if isinstance(model, Mapping) else {})
        if path.rpartition(".")[2] == "loss_weight" and isinstance(value, (int, float))
    ]
    losses = [
        path for path, value in leaves(model or {}) if path.endswith(".type") and "loss" in path.lower()
    ]
    if weights and all(value == 0 for _, value in weights) and len(weights) >= len(losses):
        yield finding(
            "error",
            f"model.{weights[0][0]}",
            0,
            1.0,
            cause="a loss without weight",
            evidence=f"every loss ({len(weights)}) has the weight 0",
            why="all gradients are 0: nothing is learned but what weight decay takes",
            source="mmpose 1.3.2 mmpose/models/losses: loss * loss_weight",
            fix="set loss_weight to 1",
        )


TRAINING_RULES = (
    rate_and_batch,
    same_files,
    detected_boxes,
    metric,
    one_skeleton,
    loaders,
    average_momentum,
    loss_weights,
)
"""In the order of a report."""
