"""Each rule names its planted mistake, and is silent on the same config without it."""

from __future__ import annotations

import copy

import pytest

from workbench.checkpoints.config_reader import read_config
from workbench.core import NotAvailable
from workbench.recipes.audit import audit
from workbench.recipes.recipe import recipe
from workbench.training.trainer import layer_scale

# Values of a healthy ViTPose-B, in words of one's own.
TEXT = """
codec = dict(type='UDPHeatmap', input_size=(192, 256), heatmap_size=(48, 64), sigma=2)
train_cfg = dict(max_epochs=210)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.999), weight_decay=0.1),
    paramwise_cfg=dict(num_layers=12, layer_decay_rate=0.75),
    constructor='LayerDecayOptimWrapperConstructor', clip_grad=dict(max_norm=1., norm_type=2))
param_scheduler = [
    dict(type='LinearLR', begin=0, end=500, start_factor=0.001, by_epoch=False),
    dict(type='MultiStepLR', begin=0, end=210, milestones=[170, 200], gamma=0.1, by_epoch=True)]
auto_scale_lr = dict(base_batch_size=512)
model = dict(
    type='TopdownPoseEstimator',
    data_preprocessor=dict(type='PoseDataPreprocessor', mean=[123.675, 116.28, 103.53],
                           std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(type='mmpretrain.VisionTransformer', arch='base', img_size=(256, 192), patch_size=16,
                  qkv_bias=True, drop_path_rate=0.3, with_cls_token=False, out_type='featmap',
                  patch_cfg=dict(padding=2)),
    head=dict(type='HeatmapHead', in_channels=768, out_channels=17, deconv_out_channels=(256, 256),
              deconv_kernel_sizes=(4, 4), loss=dict(type='KeypointMSELoss', use_target_weight=True),
              decoder=codec),
    test_cfg=dict(flip_test=True, flip_mode='heatmap', shift_heatmap=False))
train_pipeline = [
    dict(type='LoadImage'), dict(type='GetBBoxCenterScale'), dict(type='RandomFlip', direction='horizontal'),
    dict(type='RandomHalfBody'), dict(type='RandomBBoxTransform'),
    dict(type='TopdownAffine', input_size=codec['input_size'], use_udp=True),
    dict(type='GenerateTarget', encoder=codec), dict(type='PackPoseInputs')]
val_pipeline = [
    dict(type='LoadImage'), dict(type='GetBBoxCenterScale'),
    dict(type='TopdownAffine', input_size=codec['input_size'], use_udp=True), dict(type='PackPoseInputs')]
train_dataloader = dict(
    batch_size=64, num_workers=4, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CocoDataset', data_root='coco/',
                 ann_file='annotations/person_keypoints_train2017.json', pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=32, num_workers=4, persistent_workers=True, drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(type='CocoDataset', data_root='coco/', ann_file='annotations/person_keypoints_val2017.json',
                 bbox_file='COCO_val2017_detections_AP_H_56_person.json', test_mode=True,
                 pipeline=val_pipeline))
val_evaluator = dict(type='CocoMetric', ann_file='coco/annotations/person_keypoints_val2017.json')
"""


@pytest.fixture(scope="module")
def healthy():
    return read_config(TEXT)


def test_a_healthy_config_gives_no_finding_and_full_marks(healthy):
    found = audit(healthy)
    assert (found.recipe, found.findings, found.score) == ("vitpose-b-coco", (), 100.0)
    assert found.checked > 50


@pytest.mark.parametrize(
    ("right", "wrong", "size"),
    [
        ("input_size=(192, 256)", "input_size=(256, 192)", "codec.input_size"),
        ("heatmap_size=(48, 64)", "heatmap_size=(64, 48)", "codec.heatmap_size"),
    ],
)
def test_one_exchanged_size_is_asked_back_and_the_other_left_alone(right, wrong, size):
    found = audit(read_config(TEXT.replace(right, wrong, 1))).findings
    expected = {"codec.input_size": [192, 256], "codec.heatmap_size": [48, 64]}[size]
    sizes = [one for one in found if one.field in ("codec.input_size", "codec.heatmap_size")]
    assert sizes
    assert all((one.field, list(one.expected)) == (size, expected) for one in sizes)


def changed(config, path, value):
    """A copy with another value at a dotted path; ... removes it."""
    found = copy.deepcopy(config)
    *above, last = path.split(".")
    here = found
    for part in above:
        here = here[int(part)] if part.isdigit() else here.setdefault(part, {})
    if value is ...:
        del here[last]
    else:
        here[int(last) if last.isdigit() else last] = value
    return found


PLANTED = [
    ("codec.input_size", (256, 192), "codec.input_size", "error"),
    ("model.head.decoder.sigma", 3, "train_pipeline.GenerateTarget.encoder.sigma", "error"),
    ("model.head.heatmap_size", (48, 60), "model.head.heatmap_size", "error"),
    ("codec.sigma", 8, "codec.sigma", "warning"),
    ("codec.heatmap_size", (64, 48), "codec.heatmap_size", "error"),
    ("codec.heatmap_size", (48, 60), "codec.heatmap_size", "error"),
    ("codec.sigm", 2, "codec.sigm", "error"),
    ("model.backbone.img_size", (192, 256), "model.backbone.img_size", "error"),
    ("model.backbone.arch", "large", "model.backbone.arch", "error"),
    ("model.head.in_channels", 1024, "model.head.in_channels", "error"),
    ("model.head.out_channels", 133, "model.head.out_channels", "error"),
    ("model.test_cfg.flip_test", ..., "model.test_cfg.flip_test", "warning"),
    ("model.test_cfg.shift_heatmap", True, "model.test_cfg.shift_heatmap", "error"),
    ("model.test_cfg.flip_tset", True, "model.test_cfg.flip_tset", "warning"),
    ("model.data_preprocessor.mean", [0.485, 0.456, 0.406], "model.data_preprocessor.mean", "error"),
    ("model.data_preprocessor.bgr_to_rgb", ..., "model.data_preprocessor.bgr_to_rgb", "error"),
    ("optim_wrapper.constructor", ..., "optim_wrapper.constructor", "error"),
    ("optim_wrapper.paramwise_cfg.num_layers", 8, "optim_wrapper.paramwise_cfg.num_layers", "error"),
    ("optim_wrapper.paramwise_cfg.layer_decay_rate", 0.65, "optim_wrapper.paramwise_cfg.layer_decay_rate",
     "warning"),
    ("optim_wrapper.paramwise_cfg.layer_decay", 0.75, "optim_wrapper.paramwise_cfg.layer_decay", "warning"),
    ("optim_wrapper.clip_grad", ..., "optim_wrapper.clip_grad.max_norm", "warning"),
    ("optim_wrapper.optimizer.weight_decy", 0.1, "optim_wrapper.optimizer.weight_decy", "error"),
    ("train_dataloader.batch_size", 8, "auto_scale_lr", "warning"),
    ("train_dataloader.sampler.shuffle", False, "train_dataloader.sampler.shuffle", "error"),
    ("train_dataloader.num_workers", 0, "train_dataloader.persistent_workers", "error"),
    ("train_dataloader.batchsize", 8, "train_dataloader.batchsize", "warning"),
    ("val_dataloader.drop_last", True, "val_dataloader.drop_last", "error"),
    ("val_dataloader.dataset.ann_file", "annotations/person_keypoints_train2017.json",
     "val_dataloader.dataset.ann_file", "error"),
    ("val_dataloader.dataset.bbox_file", ..., "val_dataloader.dataset.bbox_file", "warning"),
    ("val_evaluator.type", "PCKAccuracy", "val_evaluator.type", "error"),
    ("val_evaluator.use_area", False, "val_evaluator.use_area", "warning"),
    ("val_evaluator.ann_file", "other.json", "val_evaluator.ann_file", "error"),
    ("train_cfg.max_epochs", 100, "param_scheduler.1.milestones", "error"),
    ("train_cfg.max_epochs", 190, "param_scheduler.1.milestones", "warning"),
    ("train_cfg.max_epoch", 210, "train_cfg.max_epoch", "warning"),
    ("param_scheduler.0.end", 70000, "param_scheduler.0.end", "error"),
    ("param_scheduler.0.end", 40000, "param_scheduler.0.end", "error"),
    ("param_scheduler.1.milestone", [1], "param_scheduler.1.milestone", "error"),
    ("train_dataloader.dataset.pipeline.5.use_udp", False, "train_pipeline.TopdownAffine.use_udp", "error"),
    ("val_dataloader.dataset.pipeline.2.use_udp", False, "val_pipeline.TopdownAffine.use_udp", "error"),
    ("val_dataloader.dataset.pipeline.3", {"type": "RandomHalfBody"}, "val_pipeline.RandomHalfBody", "error"),
    ("val_dataloader.dataset.pipeline.3", {"type": "Albumentation", "transforms": [{"p": 0.1}]},
     "val_pipeline.Albumentation", "error"),
    ("train_dataloader.dataset.metainfo", {"keypoint_info": {0: {"name": "left_eye", "swap": ""}, 1: {
        "name": "right_eye", "swap": ""}}},
     "train_dataloader.dataset.metainfo.keypoint_info.0.swap", "error"),
    ("train_dataloader.dataset.pipeline.1.padding", 1.0, "train_pipeline.GetBBoxCenterScale.padding",
     "warning"),
    ("val_dataloader.dataset.pipeline.1.padding", 1.5, "val_pipeline.GetBBoxCenterScale.padding", "error"),
    ("val_dataloader.dataset.pipeline.2.input_size", (288, 384), "val_pipeline.TopdownAffine.input_size",
     "error"),
    ("test_dataloader",
     {"dataset": {"data_root": "coco/", "ann_file": "annotations/person_keypoints_train2017.json"}},
     "test_dataloader.dataset.ann_file", "error"),
    ("custom_hooks", [{"type": "EMAHook", "momentum": 0.9998}], "custom_hooks.0.momentum", "error"),
    ("custom_hooks", [{"type": "EMAHook", "momentum": 0.0}], "custom_hooks.0.momentum", "error"),
    ("param_scheduler.1.milestones", [17, 20], "param_scheduler.1.milestones", "error"),
    ("model.data_preprocessor.std", [58.395, 57.12, 57375], "model.data_preprocessor.std", "error"),
    ("model.backbone.frozen_stages", 12, "model.backbone.frozen_stages", "warning"),
    ("train_dataloader.dataset", {"type": "CombinedDataset", "datasets": [
        {"data_root": "coco/", "ann_file": "annotations/person_keypoints_val2017.json"}]},
     "train_dataloader.dataset.datasets", "error"),
    ("auto_scale_lr.enabled", True, "auto_scale_lr.enabled", "warning"),
    ("optim_wraper", {}, "optim_wraper", "warning"),
    ("model.head.loss.use_target_weigth", True, "model.head.loss.use_target_weigth", "error"),
    ("model.data_preprocessor.bgr_to_rbg", True, "model.data_preprocessor.bgr_to_rbg", "error"),
    ("model.backbone.drop_path_rates", 0.3, "model.backbone.drop_path_rates", "error"),
    ("train_dataloader.dataset.an_file", "a.json", "train_dataloader.dataset.an_file", "error"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "key", "severity"), PLANTED, ids=[one[0] for one in PLANTED])
def test_a_planted_mistake_is_found(healthy, path, value, key, severity):
    found = audit(changed(healthy, path, value), "vitpose-b-coco")
    by_key = {one.key: one for one in found.findings}
    assert key in by_key, list(by_key)
    assert by_key[key].severity == severity
    assert by_key[key].why
    assert by_key[key].source
    assert by_key[key].fix
    assert found.score < 100


def test_a_misspelt_multiplier_is_told_where_it_is_read_and_only_there(healthy):
    keys = {"bias": {"decay_multi": 0.0}, "norm": {"decay_mult": 0.0}}
    path = "optim_wrapper.paramwise_cfg.custom_keys"
    assert audit(changed(healthy, path, keys)).findings == ()  # layer decay's constructor reads neither
    other = changed(changed(healthy, path, keys), "optim_wrapper.constructor", ...)
    found = {one.key: one for one in audit(other, "vitpose-b-coco").findings}
    assert found[f"{path}.bias.decay_multi"].expected == "decay_mult"
    assert f"{path}.norm.decay_mult" not in found


def test_rate_and_batch_may_be_scaled_together(healthy):
    scaled = changed(
        changed(healthy, "train_dataloader.batch_size", 32), "optim_wrapper.optimizer.lr", 2.5e-4
    )
    assert "auto_scale_lr" not in {one.key for one in audit(scaled).findings}
    enabled = changed(changed(healthy, "train_dataloader.batch_size", 8), "auto_scale_lr.enable", True)
    assert "auto_scale_lr" not in {one.key for one in audit(enabled).findings}
    assert "auto_scale_lr" in {one.key for one in audit(healthy, devices=1).findings}
    more = changed(healthy, "optim_wrapper.accumulative_counts", 8)
    assert "auto_scale_lr" not in {one.key for one in audit(more, devices=1).findings}


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (256, ""),  # RTMPose's own pair on COCO, 2048 samples; also published for Hand5 and Face6
        (32, ""),  # published for LaPa and WholeBody-Face: half the samples is near by the square-root rule
        (8, "0.0005 for 64 by the linear rule, 0.0014 by the square-root rule that is used for Adam too"),
        (4096, "0.256 for 32768 by the linear rule, 0.032 by the square-root rule"),
    ],
)
def test_rates_that_are_published_for_a_network_are_right(batch, said):
    config = {
        "optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 4e-3}},
        "train_dataloader": {"batch_size": batch, "dataset": {"ann_file": "faces/train.json"}},
        "auto_scale_lr": {"base_batch_size": 512},
    }
    found = [one for one in audit(config, "rtmpose-m-ap10k").findings if one.key == "auto_scale_lr"]
    assert len(found) == bool(said)
    own = {**config, "train_dataloader": {"batch_size": 32}}  # on the recipe's data half is too few
    assert "auto_scale_lr" in {one.key for one in audit(own, "rtmpose-m-ap10k").findings}
    for one in found:
        assert said in one.evidence
        assert ("larger steps per sample" in one.why) == (batch == 8)


def test_layer_decay_on_a_backbone_without_such_names_is_told(healthy):
    other = changed(healthy, "model.backbone", {"type": "HRNet"})
    found = {one.cause for one in audit(other, "vitpose-b-coco").findings}
    assert "layer decay that reaches no layer" in found


def test_hand_made_groups_that_miss_a_module_are_told():
    config = {
        "model": {"backbone": {"depth": 12}, "neck": {"type": "x"}, "head": {"num_keypoints": 17}},
        "optimizer": {
            "param_groups": [{"params": "backbone.blocks", "lr": 1e-5}, {"params": "head", "lr": 1e-4}]
        },
    }
    found = [one for one in audit(config, "vitpose-b-coco").findings if "miss" in one.cause]
    assert [one.key for one in found] == ["optimizer.param_groups"]
    assert "neck" in found[0].fix
    config["optimizer"]["param_groups"].append({"params": "neck"})
    assert not [one for one in audit(config, "vitpose-b-coco").findings if "miss" in one.cause]


def test_other_data_make_a_difference_a_remark(healthy):
    own = changed(healthy, "train_dataloader.dataset.ann_file", "horses/train.json")
    own = changed(own, "train_cfg.max_epochs", 300)
    found = {one.key: one.severity for one in audit(own, "vitpose-b-coco").findings}
    assert found["train_cfg.max_epochs"] == "remark"


def test_a_rate_that_auto_scale_lr_changes_is_judged_as_it_is_used(healthy):
    def findings_of(**scale):
        own = changed(healthy, "train_dataloader.batch_size", 8)
        for name, value in scale.items():
            own = changed(own, f"auto_scale_lr.{name}", value)
        return [one for one in audit(own).findings if one.key == "auto_scale_lr"]

    (plain,) = findings_of()
    assert "auto_scale_lr = dict(enable=True, base_batch_size=512)" in plain.fix
    assert findings_of(enable=True) == []
    # 64 samples with a base of 64: the rate of 512 stays as it is.
    (wrong,) = findings_of(enable=True, base_batch_size=32)
    assert "rate 0.0005, which auto_scale_lr makes 0.001" in wrong.evidence
    assert "set the rate to about 3.1e-05, or set auto_scale_lr.base_batch_size to 512" in wrong.fix


@pytest.mark.parametrize(
    ("backbone", "tensor", "of"),
    [
        ("CSPNeXt", "stage2.0.branches.1.0.conv1.weight", "HRNet"),
        ("HRNet", "backbone.stage1.1.short_conv.conv.weight", "CSPNeXt"),
        ("HRNet", "module.backbone.blocks.3.attn.qkv.weight", "VisionTransformer"),
        ("ResNet", "backbone.layers.3.attn.qkv.weight", "VisionTransformer"),
        ("HRNet", "backbone.stage2.0.branches.1.0.conv1.weight", ""),
        ("MyNet", "backbone.stage2.0.branches.1.0.conv1.weight", ""),
        ("HRNet", "something.else.weight", ""),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(tmp_path, backbone, tensor, of):
    import torch

    from workbench.checkpoints import open_checkpoint

    torch.save({tensor: torch.zeros(4, 4, 1, 1)}, tmp_path / "other.pth")
    config = {"model": {"type": "TopdownPoseEstimator", "backbone": {"type": backbone},
                        "head": {"type": "HeatmapHead"}}}  # fmt: skip
    given = open_checkpoint(tmp_path / "other.pth")
    if not of:
        audit(config, checkpoint=given)
        return
    with pytest.raises(ValueError, match=f"another model than the config: .* is {backbone}, .* of {of};"):
        audit(config, checkpoint=given)


def test_what_is_there_of_a_config_is_said_when_it_is_too_little():
    with pytest.raises(NotAvailable, match="got only model, of which nothing can be compared"):
        audit({"model": {"type": "TopdownPoseEstimator"}})
    with pytest.raises(NotAvailable, match="got only x, of which"):
        audit({"x": 1})


def test_a_checkpoint_of_another_model_is_told(healthy, tmp_path):
    import torch

    from workbench.checkpoints import open_checkpoint

    state = {
        "backbone.pos_embed": torch.zeros(1, 192, 1024),
        "backbone.layers.23.ln1.weight": torch.zeros(1024),
        "head.final_layer.weight": torch.zeros(133, 256, 1, 1),
    }
    torch.save(state, tmp_path / "large.pth")
    found = audit(healthy, checkpoint=open_checkpoint(tmp_path / "large.pth"))
    differences = {(one.key, str(one.found), one.expected) for one in found.findings}
    assert differences == {
        ("model.backbone.arch", "768", 1024),
        ("model.backbone.arch", "12", 24),
        ("model.head.out_channels", "17", 133),
    }


@pytest.mark.parametrize(
    ("name", "exponent"),
    [
        ("backbone.patch_embed.projection.weight", 13),
        ("backbone.pos_embed", 13),
        ("backbone.layers.0.ln1.weight", 12),
        ("backbone.blocks.11.mlp.fc1.weight", 1),
        ("backbone.ln1.weight", 0),
        ("head.final_layer.bias", 0),
    ],
)
def test_the_scale_of_a_layer_by_hand(name, exponent):
    assert layer_scale(name, 0.75, 12) == pytest.approx(0.75**exponent)


def test_scales_are_those_of_mmposes_constructor():
    from workbench.models import mmpose_compat

    mmpose_compat.install()
    from mmpose.engine.optim_wrappers.layer_decay_optim_wrapper import get_num_layer_for_vit

    names = [
        "backbone.pos_embed",
        "backbone.patch_embed.x",
        "backbone.layers.7.x",
        "backbone.ln1.x",
        "head.y",
    ]
    for name in names:
        assert layer_scale(name, 0.8, 12) == 0.8 ** (14 - get_num_layer_for_vit(name, 14) - 1)


def test_the_recipe_audited_as_a_whole_differs_from_another_of_its_family(healthy):
    found = {one.field for one in audit(healthy, "vitpose-l-coco").findings}
    assert found >= {"backbone.arch", "backbone.drop_path", "head.in_channels", "optimizer.layer_decay"}
    assert recipe("vitpose-l-coco").get("optimizer.layer_decay") == 0.8


EXTRA = {"stage4": {"num_channels": (48, 96, 192, 384), "block": "BASIC"}}
MIRRORED = {0: {"name": "nose", "swap": ""}, 1: {"name": "left_eye", "swap": "right_eye"},
            2: {"name": "right_eye", "swap": "left_eye"}}  # fmt: skip
BACKBONES = {
    48: {"type": "HRNet", "extra": EXTRA},
    512: {"type": "ResNet", "depth": 34},
    2048: {"type": "ResNet", "depth": 50},
    1024: {"type": "ResNet", "depth": 101, "out_indices": (2,)},
    768: {"type": "CSPNeXt", "arch": "P5", "widen_factor": 0.75, "out_indices": (4,)},
}


@pytest.mark.parametrize("width", BACKBONES)
def test_the_width_of_a_backbone_is_what_its_head_takes(width):
    def said(taken):
        model = {"backbone": BACKBONES[width], "head": {"type": "HeatmapHead", "in_channels": taken}}
        found = audit({"model": model, "val_pipeline": [{"type": "RandomFlip", "prob": 0}]})
        return [one.expected for one in found.findings if one.cause == "backbone and head do not fit"]

    assert (said(width), said(32)) == ([], [width])


def test_steps_that_never_act_and_pairs_that_swap_are_let_pass():
    config = {
        "val_dataloader": {"dataset": {
            "metainfo": {"keypoint_info": MIRRORED}, "pipeline": [
            {"type": "RandomFlip", "prob": 0}, {"type": "RandomChoiceResize", "scales": [(800, 1333)]}]
        }},
        "train_pipeline": [{"type": "RandomFlip"}],
        "model": {"head": {"type": "HeatmapHead"}},
        "codec": {"type": "MSRAHeatmap", "input_size": (192, 256), "heatmap_size": (48, 64), "sigma": 2},
    }  # fmt: skip
    causes = {one.cause for one in audit(config).findings}
    assert not causes & {"random augmentation in the validation", "mirror pairs contradict the names"}
