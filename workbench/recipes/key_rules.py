"""Rules about the keys of a config and the parameter groups that they make.

A key that no class reads is refused at the start by classes, and ignored without a word by dictionaries such
as `paramwise_cfg`: the second kind costs weeks.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from workbench.core.finding import Severity
from workbench.core.report import counted
from workbench.recipes.comparison import AuditFinding, Subject, finding, shown
from workbench.recipes.values import Decisions, class_name, leaves, look_up, schedulers


def _keys(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SCHEDULER = _keys(
    "type begin end by_epoch last_step verbose convert_to_iter_based epoch_length start_factor end_factor "
    "factor total_iters milestones gamma T_max eta_min eta_min_ratio power step_size total_steps pct_start "
    "anneal_strategy div_factor final_div_factor three_phase max_lr eta_max restart_weights periods "
    "monitor rule threshold threshold_rule patience cooldown min_value eps T_0"
)
_TORCH = "foreach maximize capturable differentiable fused"
# Place -> keys that are read there. Sources: mmengine 0.10.7 and mmpose 1.3.2, the classes of these names.
KNOWN: Mapping[str, frozenset[str]] = {
    "optim_wrapper": _keys(
        "type optimizer paramwise_cfg constructor clip_grad accumulative_counts loss_scale dtype "
        "use_fp64 _delete_"
    ),
    "optim_wrapper.paramwise_cfg": _keys(
        "custom_keys bias_lr_mult bias_decay_mult norm_decay_mult flat_decay_mult dwconv_decay_mult "
        "dcn_offset_lr_mult bypass_duplicate num_layers layer_decay_rate"
    ),
    "optim_wrapper.clip_grad": _keys("type max_norm norm_type error_if_nonfinite foreach clip_value"),
    "auto_scale_lr": frozenset(("base_batch_size", "enable")),
    "train_cfg": _keys("type by_epoch max_epochs max_iters val_interval val_begin dynamic_intervals"),
}
_OPTIMIZERS = {
    "AdamW": _keys(f"type lr betas eps weight_decay amsgrad {_TORCH}"),
    "Adam": _keys(f"type lr betas eps weight_decay amsgrad decoupled_weight_decay {_TORCH}"),
    "SGD": _keys(f"type lr momentum dampening weight_decay nesterov {_TORCH}"),
}
_CODECS = {
    "UDPHeatmap": _keys("type input_size heatmap_size heatmap_type sigma radius_factor blur_kernel_size"),
    "MSRAHeatmap": _keys("type input_size heatmap_size sigma unbiased blur_kernel_size"),
    "SimCCLabel": _keys(
        "type input_size smoothing_type sigma simcc_split_ratio label_smooth_weight normalize use_dark "
        "decode_visibility decode_beta"
    ),
}
_STEPS = {
    "GetBBoxCenterScale": frozenset(("type", "padding")),
    "TopdownAffine": frozenset(("type", "input_size", "use_udp")),
    "RandomBBoxTransform": _keys(
        "type shift_factor shift_prob scale_factor scale_prob rotate_factor rotate_prob"
    ),
    "RandomFlip": frozenset(("type", "prob", "direction")),
}
# Read in places where many classes read keys of their own: only a near miss is reported.
_LOADER = _keys(
    "batch_size num_workers persistent_workers sampler dataset drop_last pin_memory collate_fn batch_sampler "
    "prefetch_factor timeout num_batch_per_epoch worker_init_fn shuffle"
)
_TEST = _keys(
    "flip_test flip_mode shift_heatmap shift_coords output_heatmaps output_keypoint_indices multiscale_test "
    "align_corners restore_heatmap_size"
)
_EMA = _keys(
    "type ema_type momentum update_buffers priority strict_load begin_iter begin_epoch gamma interval"
)
_DATASET = _keys(
    "type data_root data_mode ann_file data_prefix bbox_file pipeline test_mode metainfo filter_cfg indices "
    "serialize_data lazy_init max_refetch sample_interval datasets dataset times subset"
)
_MODEL = {
    "data_preprocessor": _keys(
        "type mean std pad_size_divisor pad_value bgr_to_rgb rgb_to_bgr non_blocking batch_augments"
    ),
    "backbone": _keys(
        "type arch depth img_size patch_size drop_path_rate with_cls_token qkv_bias final_norm out_type "
        "out_indices patch_cfg init_cfg frozen_stages norm_cfg norm_eval act_cfg deepen_factor "
        "widen_factor depths"
    ),
    "head": _keys(
        "type in_channels out_channels input_size in_featuremap_size simcc_split_ratio deconv_out_channels "
        "deconv_kernel_sizes conv_out_channels conv_kernel_sizes final_layer final_layer_kernel_size gau_cfg "
        "loss decoder encoder init_cfg unit_channels"
    ),
    "head.loss": _keys(
        "type use_target_weight loss_weight skip_empty_channel beta label_softmax label_beta mask"
    ),
}
_TOP = _keys(
    "train_dataloader val_dataloader test_dataloader optim_wrapper param_scheduler train_cfg val_cfg "
    "test_cfg model val_evaluator test_evaluator default_hooks custom_hooks auto_scale_lr randomness "
    "custom_imports load_from default_scope log_processor visualizer vis_backends env_cfg"
)
# How alike a key must be to a known one to be called its misspelling.
_NEAR, _NEAR_IN_A_CLASS, _NEAR_AT_THE_TOP = 0.75, 0.85, 0.9
NEVER_TRAIN = "parameters that never train"


def unknown_keys(subject: Subject) -> Iterator[AuditFinding]:
    """Keys that nothing reads, the misspelt ones with what they were meant to be."""
    config = subject.config
    if subject.decisions.dialect != "mmengine":
        return
    # Constructors of other packages read keys of their own.
    constructor = str(subject.decisions.get("optimizer.constructor", "Default"))
    foreign = not constructor.startswith(("Default", "LayerDecay"))
    for place, known in KNOWN.items():
        refused, loose = place == "optim_wrapper.clip_grad", foreign and place.endswith("paramwise_cfg")
        yield from _unknown(look_up(config, place), place, known, ignored=not refused, only_near=loose)
    wrapper = look_up(config, "optim_wrapper")
    yield from _of_type(look_up(wrapper, "optimizer"), "optim_wrapper.optimizer", _OPTIMIZERS)
    for place in ("codec", "model.head.decoder"):
        yield from _of_type(look_up(config, place), place, _CODECS)
    for n, entry in schedulers(config):
        yield from _unknown(entry, f"param_scheduler.{n}", _SCHEDULER, ignored=False)
    yield from _custom_keys(config)
    yield from _pipelines(config)
    for place, known in (
        ("train_dataloader", _LOADER),
        ("val_dataloader", _LOADER),
        ("model.test_cfg", _TEST),
        ("custom_hooks.EMAHook", _EMA),
    ):
        yield from _unknown(look_up(config, place), place, known, ignored=True, only_near=True)
    for place, known in (
        *((f"model.{part}", known) for part, known in _MODEL.items()),
        ("train_dataloader.dataset", _DATASET),
        ("val_dataloader.dataset", _DATASET),
    ):
        entry = look_up(config, place)
        yield from _unknown(entry, place, known, ignored=False, only_near=True, near=_NEAR_IN_A_CLASS)
    yield from _unknown(config, "", _TOP, ignored=True, only_near=True, near=_NEAR_AT_THE_TOP)


def _of_type(entry: Any, place: str, by_type: Mapping[str, frozenset[str]]) -> Iterator[AuditFinding]:
    known = by_type.get(class_name(entry)) if isinstance(entry, Mapping) else None
    if known is not None:
        yield from _unknown(entry, place, known, ignored=False)


def _pipelines(config: Mapping[str, Any]) -> Iterator[AuditFinding]:
    for name in ("train_pipeline", "val_pipeline"):
        steps = config.get(name)
        for step in steps if isinstance(steps, (list, tuple)) else ():
            yield from _of_type(step, f"{name}.{class_name(step)}", _STEPS)


def _custom_keys(config: Mapping[str, Any]) -> Iterator[AuditFinding]:
    """`custom_keys` of mmengine's own constructor; mmpose's for layer decay does not read them."""
    if "LayerDecay" in class_name(look_up(config, "optim_wrapper.constructor") or ""):
        return
    entries = look_up(config, "optim_wrapper.paramwise_cfg.custom_keys")
    for name, entry in entries.items() if isinstance(entries, Mapping) else ():
        place = f"optim_wrapper.paramwise_cfg.custom_keys.{name}"
        yield from _unknown(entry, place, frozenset(("lr_mult", "decay_mult")), ignored=True)


def _unknown(
    entry: Any,
    place: str,
    known: frozenset[str],
    *,
    ignored: bool,
    only_near: bool = False,
    near: float = _NEAR,
) -> Iterator[AuditFinding]:
    """Findings for the keys of a dict that are not known.

    Args:
        entry: the dict; anything else gives nothing.
        place: of the dict.
        known: keys that are read there.
        ignored: whether the framework passes over unknown keys; else it refuses them.
        only_near: tell misspellings alone.
        near: how alike a misspelling is, 0..1.
    """
    if not isinstance(entry, Mapping):
        return
    for key in entry:
        if not isinstance(key, str) or key in known or key.startswith("_"):
            continue
        alike = difflib.get_close_matches(key, known, n=1, cutoff=near)
        if not alike and only_near:
            continue
        dotted = f"{place}.{key}" if place else key
        effect = "it is passed over, and its value has no effect" if ignored else "the class refuses it"
        yield finding(
            "warning" if ignored else "error",
            dotted,
            key,
            alike[0] if alike else None,
            cause="misspelt key" if alike else "unknown key",
            evidence=f"{place or 'the config'} has the key {key!r}"
            + (f", which is near {alike[0]!r}" if alike else ", which nothing reads"),
            why=f"no {class_name(entry) or place or 'part of mmengine'} reads {key!r}: {effect}",
            source="mmengine 0.10.7, mmpose 1.3.2: the arguments of the class",
            fix=f"write {alike[0]}" if alike else f"remove {key}",
        )


def layer_decay(subject: Subject) -> Iterator[AuditFinding]:
    """Layer decay is read, and reaches every layer."""
    made = subject.decisions
    rate = made.get("optimizer.layer_decay")
    constructor = str(made.get("optimizer.constructor", ""))
    source = "mmpose 1.3.2 mmpose/engine/optim_wrappers/layer_decay_optim_wrapper.py"
    if not isinstance(rate, (int, float)) or made.dialect not in ("mmengine", "mmpose0"):
        return
    if "LayerDecay" not in constructor and "LearningRateDecay" not in constructor:
        yield finding(
            "error",
            made.key("optimizer.constructor"),
            constructor,
            "LayerDecayOptimWrapperConstructor",
            cause="layer decay that nothing reads",
            evidence=f"layer_decay_rate is {rate:g}, and the constructor is {constructor or 'not set'}",
            why="mmengine's own constructor passes over layer_decay_rate: every layer trains at the full "
            "rate",
            source=source,
            fix="set constructor='LayerDecayOptimWrapperConstructor' and import its module in custom_imports",
            field="optimizer.constructor",
        )
        return
    yield from _depth(made, float(rate), source)
    backbone = str(made.get("backbone.type", ""))
    # Upstream's constructor knows the names of these backbones' blocks.
    known = any(word in backbone for word in ("VisionTransformer", "ViT", "BEiT", "DeiT"))
    if backbone and made.dialect == "mmengine" and not known:
        yield finding(
            "error",
            made.key("optimizer.layer_decay"),
            rate,
            None,
            cause="layer decay that reaches no layer",
            evidence=f"the constructor looks for backbone.layers.N, and {backbone} has no such names",
            why="every parameter falls into the last group and trains at the full rate",
            source=f"{source}, get_num_layer_for_vit",
            fix="use a constructor that knows this backbone's names, or remove layer_decay_rate",
            field="optimizer.layer_decay",
        )


def _depth(made: Decisions, rate: float, source: str) -> Iterator[AuditFinding]:
    """Layer decay counts the backbone's own blocks."""
    layers, given = made.get("backbone.layers"), made.get("optimizer.layer_decay_layers")
    if isinstance(layers, int) and isinstance(given, int) and layers != given:
        first, last = rate ** (given + 1), rate ** (given - layers + 1)
        yield finding(
            "error",
            made.key("optimizer.layer_decay_layers"),
            given,
            layers,
            cause="layer decay for another depth",
            evidence=(
                f"the backbone has {counted(layers, 'block')}, layer decay counts {given}: patch embedding "
                f"at {first:.3g}, last block at {last:.3g} of the peak rate; expected "
                f"{rate ** (layers + 1):.3g} and {rate:.3g}"
            ),
            why="with too few, late blocks train above the peak rate; with too many, everything below it",
            source=f"{source}: scale = rate^(num_layers + 1 - layer id)",
            fix=f"set num_layers to {layers}",
            field="optimizer.layer_decay_layers",
        )


def groups(subject: Subject) -> Iterator[AuditFinding]:
    """Parameter groups take every parameter, and name modules that are there."""
    yield from _hand_made(subject)
    yield from _frozen_stages(subject)
    of_engine = "optim_wrapper.paramwise_cfg.custom_keys"
    where = of_engine if look_up(subject.config, of_engine) else "optimizer.paramwise_cfg.custom_keys"
    entries = look_up(subject.config, where)
    for name, entry in entries.items() if isinstance(entries, Mapping) else ():
        place = f"{where}.{name}"
        if isinstance(entry, Mapping) and entry.get("lr_mult") == 0:
            yield finding(
                _of_frozen(str(name), subject.config),
                f"{place}.lr_mult",
                0,
                None,
                cause=NEVER_TRAIN,
                why="a multiplier of 0 freezes these parameters, but their batch statistics still move",
                source="mmengine DefaultOptimWrapperConstructor",
                fix="keep it if that is meant; frozen_stages also stops the statistics",
            )
        decays = subject.decisions.get("optimizer.weight_decay")
        if isinstance(entry, Mapping) and entry.get("decay_mult") == 0 and str(name).strip(".") == "weight":
            yield from _decays_biases(place, decays)
        unread = "LayerDecay" in str(subject.decisions.get("optimizer.constructor"))
        if subject.tensors and not unread and not any(str(name) in tensor for tensor in subject.tensors):
            yield finding(
                "warning",
                place,
                str(name),
                None,
                cause="a parameter group without parameters",
                evidence=f"no tensor of the checkpoint has {str(name)!r} in its name",
                why="the multipliers of this group change nothing",
                source="mmengine DefaultOptimWrapperConstructor: a key acts where it is part of a name",
                fix="use a part of a parameter's name",
            )


def _of_frozen(name: str, config: Mapping[str, Any]) -> Severity:
    """How wrong a rate of 0 is: a head that begins with random weights keeps them."""
    if name in ("head", "keypoint_head") and not config.get("load_from") and not config.get("resume"):
        return "error"
    return "warning" if name == "backbone" else "remark"


def _decays_biases(place: str, decay: Any) -> Iterator[AuditFinding]:
    """A decay from which everything called weight is taken out."""
    if isinstance(decay, (int, float)) and decay > 0:
        yield finding(
            "warning",
            f"{place}.decay_mult",
            0,
            None,
            cause="weight decay on biases alone",
            evidence=f"every parameter called weight has the decay 0, and weight_decay is {decay:g}",
            why="biases, which are better left alone, are all that decays",
            source="mmengine DefaultOptimWrapperConstructor: a key acts where it is part of a name",
            fix="exempt norms and biases instead: norm_decay_mult=0, bias_decay_mult=0",
        )


def _frozen_stages(subject: Subject) -> Iterator[AuditFinding]:
    """A backbone of which every stage, or block, is frozen."""
    if (found := frozen_whole(subject.config, subject.decisions.get("backbone.layers"))) is not None:
        yield finding(
            "warning",
            "model.backbone.frozen_stages",
            found[0],
            -1,
            cause=NEVER_TRAIN,
            evidence=f"frozen_stages is {found[0]}, and the backbone has {found[1]}",
            why="the head alone learns: features stay those of the pretraining",
            source="frozen_stages of the backbones of mmpose and mmpretrain",
            fix="set frozen_stages to -1, or to the first stages alone",
        )


def frozen_whole(config: Mapping[str, Any], blocks: Any = None) -> tuple[int, int] | None:
    """frozen_stages and the number of stages, or blocks, of a backbone frozen whole; None for another."""
    frozen = look_up(config, "model.backbone.frozen_stages")
    whole = blocks if isinstance(blocks, int) else 4
    return (frozen, whole) if isinstance(frozen, int) and frozen >= whole else None


def _hand_made(subject: Subject) -> Iterator[AuditFinding]:
    """Groups that a config of its own layout lists by name: a module that none names is not trained."""
    listed = [
        (path, value)
        for path, value in leaves(subject.config)
        if path.lower().rpartition(".")[2] in ("param_groups", "parameter_groups", "optimizer_groups")
        and isinstance(value, (list, tuple))
    ]
    model = subject.config.get("model")
    modules = [
        name
        for name in ("backbone", "neck", "head", "keypoint_head", "decoder")
        if isinstance(model, Mapping) and name in model
    ]
    for path, entries in listed:
        said = " ".join(_words(entries)).lower()
        left = [name for name in modules if name not in said and name.replace("keypoint_", "") not in said]
        if left and said:
            yield finding(
                "error",
                path,
                said[:100],
                None,
                cause="optimizer groups that miss parameters",
                evidence=f"the model has {shown(modules)}, and no group names {shown(left)}",
                why="what is in no group gets no step: it keeps its first weights",
                source="torch.optim.Optimizer: only parameters of its groups are updated",
                fix=f"add a group for {', '.join(left)}",
            )


def _words(entries: Iterable[Any]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, Mapping):
            yield from (str(value) for _, value in leaves(entry) if isinstance(value, (str, list, tuple)))


KEY_RULES = (unknown_keys, layer_decay, groups)
"""In the order of a report."""
