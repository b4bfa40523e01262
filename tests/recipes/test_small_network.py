"""A small network of one's own for three keypoints: unusual but right choices are silent, mistakes are named.

Its codec has 64 input pixels; no recipe is near, so that only what contradicts itself is looked for.
"""

from __future__ import annotations

import pytest

from workbench.checkpoints.config_reader import read_config
from workbench.recipes.audit import audit

CUPS = """
dataset_info = dict(dataset_name='cups', paper_info=dict(), keypoint_info={
    0: dict(name='left_rim', id=0, swap='right_rim'),
    1: dict(name='right_rim', id=1, swap='left_rim'),
    2: dict(name='base', id=2, swap='')},
    joint_weights=[1., 1., 1.], sigmas=[.05, .05, .08])
codec = dict(type='MSRAHeatmap', input_size=(64, 64), heatmap_size=(16, 16), sigma=1.0)
model = dict(type='TopdownPoseEstimator',
    data_preprocessor=dict(type='PoseDataPreprocessor', mean=[123.675, 116.28, 103.53],
                           std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(type='ResNet', depth=18),
    head=dict(type='HeatmapHead', in_channels=512, out_channels=3, deconv_out_channels=(64, 64, 64),
        deconv_kernel_sizes=(4, 4, 4), loss=dict(type='KeypointMSELoss', use_target_weight=True),
        decoder=codec),
    test_cfg=dict(flip_test=True, flip_mode='heatmap', shift_heatmap=True))
flip, turn = dict(type='RandomFlip', direction='horizontal'), dict(type='RandomBBoxTransform')
crop = dict(type='TopdownAffine', input_size=codec['input_size'])
target = dict(type='GenerateTarget', encoder=codec)
train_pipeline = [dict(type='LoadImage'), dict(type='GetBBoxCenterScale'), flip, turn, crop, target,
    dict(type='PackPoseInputs')]
val_pipeline = [dict(type='LoadImage'), dict(type='GetBBoxCenterScale'), crop, dict(type='PackPoseInputs')]
train_dataloader = dict(batch_size=32, num_workers=2, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CocoDataset', data_root='data/cups/', ann_file='annotations/train.json',
                 metainfo=dataset_info, pipeline=train_pipeline))
val_dataloader = dict(batch_size=32, num_workers=2, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CocoDataset', data_root='data/cups/', ann_file='annotations/val.json', test_mode=True,
                 metainfo=dict(dataset_info), pipeline=val_pipeline))
val_evaluator = dict(type='CocoMetric', ann_file='data/cups/annotations/val.json')
optim_wrapper = dict(optimizer=dict(type='Adam', lr=5e-4))
param_scheduler = [dict(type='LinearLR', begin=0, end=500, start_factor=0.001, by_epoch=False),
    dict(type='MultiStepLR', begin=0, end=210, milestones=[170, 200], gamma=0.1, by_epoch=True)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=210, val_interval=10)
custom_hooks = []
auto_scale_lr = dict(base_batch_size=512)
default_scope = 'mmpose'
"""

IMAGENET = "mean=[123.675, 116.28, 103.53],\n                           std=[58.395, 57.12, 57.375]"
FLIPPED = "flip_test=True, flip_mode='heatmap', shift_heatmap=True"
ADAM = "optimizer=dict(type='Adam', lr=5e-4)"
LOOP = "type='EpochBasedTrainLoop', max_epochs=210, val_interval=10"
STEPS = "begin=0, end=210, milestones=[170, 200], gamma=0.1, by_epoch=True"

RIGHT = {
    "as it is": [],
    "no flip test": [(FLIPPED, "flip_test=False")],
    "BGR with BGR's mean": [
        (IMAGENET, "mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395]"),
        ("bgr_to_rgb=True", "bgr_to_rgb=False"),
    ],
    "mean 0": [(IMAGENET, "mean=[0, 0, 0], std=[255, 255, 255]")],
    "no augmentation": [("flip, turn, crop", "crop")],
    "UDP": [
        ("MSRAHeatmap", "UDPHeatmap"),
        ("input_size=codec['input_size'])", "input_size=codec['input_size'], use_udp=True)"),
        ("shift_heatmap=True", "shift_heatmap=False"),
    ],
    "AdamW without decay of norms": [
        (ADAM, "optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05), "
               "paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0)"),
    ],
    "iterations": [
        (LOOP, "type='IterBasedTrainLoop', max_iters=20000, val_interval=1000"),
        (STEPS, "begin=0, end=20000, milestones=[16000, 19000], gamma=0.1, by_epoch=False"),
    ],
    "mixed precision": [("dict(optimizer", "dict(type='AmpOptimWrapper', loss_scale='dynamic', optimizer")],
    "average from epoch 100": [
        ("custom_hooks = []", "custom_hooks = [dict(type='EMAHook', momentum=0.0002, begin_epoch=100)]")],
    "four deconvolutions": [
        ("(64, 64, 64)", "(64, 64, 64, 64)"), ("(4, 4, 4)", "(4, 4, 4, 4)"),
        ("heatmap_size=(16, 16), sigma=1.0", "heatmap_size=(32, 32), sigma=1.5"),
    ],
}  # fmt: skip

WRONG = {
    "flip behind the targets": (
        ("flip, turn, crop, target", "turn, crop, target, flip"),
        "pictures moved after their targets were made",
    ),
    "flip behind the crop": (
        ("flip, turn, crop", "turn, crop, flip"), "pictures moved after their targets were made"),
    "box behind the crop": (("flip, turn, crop", "flip, crop, turn"), "augmentation without effect"),
    "weak boxes left out": (
        ("test_mode=True", "test_mode=True, bbox_file='cups.json', filter_cfg=dict(bbox_score_thr=0.9)"),
        "not the published protocol",
    ),
    "strict NMS": (("type='CocoMetric'", "type='CocoMetric', nms_thr=0.1"), "not the published protocol"),
    "decay of biases alone": (
        (ADAM, "optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05), "
               "paramwise_cfg=dict(custom_keys={'weight': dict(decay_mult=0.)})"),
        "weight decay on biases alone",
    ),
    "average after the run": (
        ("custom_hooks = []", "custom_hooks = [dict(type='EMAHook', momentum=0.0002, begin_epoch=210)]"),
        "averaged weights that do not average",
    ),
    "maps of another size": (("heatmap_size=(16, 16)", "heatmap_size=(32, 32)"),
                             "head and targets of two sizes"),
    "milestones by iteration": (
        (STEPS, STEPS.replace("True", "False")), "the schedule ends before the run"),
    "epochs in a run by iteration": (
        (LOOP, "type='IterBasedTrainLoop', max_iters=20000, val_interval=1000"),
        "a schedule by epoch in a run by iteration",
    ),
    "endless warm-up": (("end=500", "end=1000000"), "warm-up longer than the run"),
    "validation of another skeleton": (
        ("metainfo=dict(dataset_info)", "metainfo=dict(from_file='configs/_base_/datasets/coco.py')"),
        "trained and judged on two skeletons",
    ),
    "half precision without scale": (
        ("dict(optimizer", "dict(type='AmpOptimWrapper', loss_scale=1.0, optimizer"),
        "gradients vanish in half precision",
    ),
    "head without a rate": (
        (ADAM, ADAM + ", paramwise_cfg=dict(custom_keys={'head': dict(lr_mult=0.)})"),
        "parameters that never train",
    ),
    "tiny clip": (("dict(optimizer", "dict(clip_grad=dict(max_norm=1e-9), optimizer"),
                  "gradient clipping too small"),
}  # fmt: skip


def found(*edits):
    text = CUPS
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return audit(read_config(text))


@pytest.mark.parametrize("name", RIGHT)
def test_an_unusual_but_right_choice_is_silent(name):
    report = found(*RIGHT[name])
    assert (report.recipe, report.findings) == ("", ())


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_of_the_same_config_is_named_and_nothing_else(name):
    edit, cause = WRONG[name]
    assert {one.cause for one in found(edit).findings if one.severity != "remark"} == {cause}
