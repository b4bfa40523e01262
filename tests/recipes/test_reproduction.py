"""Two configs of a reproduction that was written from memory: every mistake is found, and nothing else.

The values are those of an audit that somebody wrote about Sapiens 1B: the config that it calls the official
one, and the config that the project had.
"""

from __future__ import annotations

import pytest

from workbench.recipes.audit import audit
from workbench.recipes.reading import read_text

CALLED_OFFICIAL = """
codec = dict(type='UDPHeatmap', input_size=(1024, 768), heatmap_size=(256, 192), sigma=2)
pretrained_checkpoint = 'pretrain/checkpoints/sapiens_1b/sapiens_1b_epoch_1600_clean.pth'
model = dict(
    type='TopdownPoseEstimator',
    backbone=dict(
        type='mmpretrain.VisionTransformer', arch='base', img_size=(768, 1024), patch_size=16, qkv_bias=True,
        final_norm=True, drop_path_rate=0.0, with_cls_token=False, out_type='featmap',
        patch_cfg=dict(padding=2), init_cfg=dict(type='Pretrained', checkpoint=pretrained_checkpoint)),
    head=dict(
        type='HeatmapHead', in_channels=1024, out_channels=17, deconv_out_channels=(768, 768),
        deconv_kernel_sizes=(4, 4), conv_out_channels=(768, 768), conv_kernel_sizes=(1, 1),
        loss=dict(type='KeypointMSELoss', use_target_weight=True), decoder=codec),
    test_cfg=dict(flip_test=True, flip_mode='heatmap', shift_heatmap=False))
train_cfg = dict(max_epochs=210)
train_pipeline = [
    dict(type='LoadImage'), dict(type='GetBBoxCenterScale'), dict(type='RandomFlip', direction='horizontal'),
    dict(type='RandomHalfBody'), dict(type='RandomBBoxTransform'),
    dict(type='TopdownAffine', input_size=codec['input_size'], use_udp=True),
    dict(type='PhotometricDistortion'),
    dict(type='Albumentation', transforms=[
        dict(type='Blur', p=0.1), dict(type='MedianBlur', p=0.1),
        dict(type='CoarseDropout', max_holes=1, max_height=0.4, max_width=0.4, min_holes=1, min_height=0.2,
             min_width=0.2, p=0.5)]),
    dict(type='GenerateTarget', encoder=codec), dict(type='PackPoseInputs')]
train_dataloader = dict(
    batch_size=32, num_workers=4, persistent_workers=True, drop_last=True, prefetch_factor=2,
    sampler=dict(type='DefaultSampler', shuffle=True))
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05),
    paramwise_cfg=dict(custom_keys={
        'bias': dict(decay_mult=0.0), 'pos_embed': dict(decay_mult=0.0),
        'relative_position_bias_table': dict(decay_mult=0.0), 'norm': dict(decay_mult=0.0)}),
    clip_grad=dict(max_norm=1.0, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=10),
    dict(type='CosineAnnealingLR', eta_min=5e-6, by_epoch=True, begin=10, end=210)]
"""

OWN = """
training:
  phase2:
    batch_size: 8
    learning_rate: 2.0e-4
    optimizer: "adamw"
    weight_decay: 0.0001
model:
  input_size: [256, 192]
  heatmap_size: [64, 48]
"""


@pytest.mark.parametrize("against", [None, "sapiens-1b-coco"])
def test_what_is_called_the_official_config_has_these_mistakes(against):
    found = audit(read_text(CALLED_OFFICIAL).values, against)
    assert found.recipe == "sapiens-1b-coco"
    assert {one.field or one.key: one.expected for one in found.findings} == {
        "codec.input_size": [768, 1024],
        "codec.heatmap_size": [192, 256],
        "codec.sigma": 6,
        "backbone.arch": "sapiens_1b",
        "backbone.img_size": [1024, 768],
        "backbone.pretrained": "../pretrain/checkpoints/sapiens_1b/sapiens_1b_epoch_173_clean.pth",
        "head.in_channels": 1536,
        "optimizer.weight_decay": 0.1,
        "optimizer.constructor": "LayerDecayOptimWrapperConstructor",
        "optimizer.layer_decay": 0.85,
        "schedule.warmup": "500 iterations",
        "schedule.warmup_start": 0.001,
        "schedule.decay": "MultiStepLR",
        "train.batch_size": 64,
        "train.drop_last": False,
        "train.prefetch_factor": "none",
        "augment.CoarseDropout.p": 1.0,
        "auto_scale_lr": {"base_batch_size": 512, "enable": True},
    }
    turned = [one.field for one in found.findings if one.cause == "width and height exchanged"]
    assert sorted(turned) == ["backbone.img_size", "codec.heatmap_size", "codec.input_size"]


def test_what_is_right_in_it_is_not_called_wrong():
    fields = {one.field for one in audit(read_text(CALLED_OFFICIAL).values, "sapiens-1b-coco").findings}
    assert not fields & {
        "optimizer.lr", "optimizer.clip", "schedule.epochs", "head.deconv_channels", "head.conv_channels",
        "test.flip", "test.flip_mode", "test.shift_heatmap", "augment.RandomHalfBody",
        "augment.RandomBBoxTransform", "augment.PhotometricDistortion", "codec.type", "crop.udp",
    }  # fmt: skip


def test_the_projects_own_config_has_these():
    found = audit(read_text(OWN, "stage1_config.yaml").values, "sapiens-1b-coco")
    assert {one.key: one.expected for one in found.findings} == {
        "model.input_size": [768, 1024],
        "model.heatmap_size": [192, 256],
        "training.phase2.batch_size": 64,
        "training.phase2.learning_rate": 0.0005,
        "training.phase2.weight_decay": 0.1,
        "training.phase2.learning_rate with training.phase2.batch_size": 6.3e-05,
    }
    turned = [one.key for one in found.findings if one.cause == "width and height exchanged"]
    assert sorted(turned) == ["model.heatmap_size", "model.input_size"]


def test_without_a_name_the_projects_own_config_is_not_compared():
    found = audit(read_text(OWN, "stage1_config.yaml").values)
    assert found.recipe == ""
    assert found.findings == ()


OFFICIAL_HRNET = """
GPUS: (0,1,2,3)
DATASET: {DATASET: coco, TEST_SET: val2017, TRAIN_SET: train2017}
MODEL:
  NAME: pose_hrnet
  NUM_JOINTS: 17
  IMAGE_SIZE: [192, 256]
  HEATMAP_SIZE: [48, 64]
  SIGMA: 2
  EXTRA: {STAGE4: {NUM_CHANNELS: [32, 64, 128, 256]}}
TRAIN: {BATCH_SIZE_PER_GPU: 32, SHUFFLE: true, END_EPOCH: 210, LR: 0.001, LR_STEP: [170, 200]}
TEST: {FLIP_TEST: true}
"""


def test_hrnets_own_yaml_differs_from_mmposes_recipe_in_rate_and_batch_alone():
    """Both are published: 4 devices of 32 at 1e-3 there, 8 of 64 at 5e-4 in mmpose."""
    found = audit(read_text(OFFICIAL_HRNET, "w32_256x192_adam_lr1e-3.yaml").values)
    assert found.recipe == "hrnet-w32-coco"
    assert {one.key: (one.severity, one.found, one.expected) for one in found.findings} == {
        "TRAIN.LR": ("warning", 0.001, 0.0005),
        "TRAIN.BATCH_SIZE_PER_GPU": ("warning", 32, 64),
        "TRAIN.LR with TRAIN.BATCH_SIZE_PER_GPU": ("warning", 0.001, 0.00013),
    }
    assert "4 devices" in found.findings[-1].evidence
    assert not any("other data" in note for note in found.notes)
