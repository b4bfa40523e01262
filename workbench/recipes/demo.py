"""A built-in config with usual mistakes, statements about it, and a published training pipeline to look at.

The config is Sapiens 1B reproduced from memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.core import Skeleton

TITLE = "reproduction.py"

CONFIG = """
codec = dict(type='UDPHeatmap', input_size=(1024, 768), heatmap_size=(256, 192), sigma=2)
model = dict(
    type='TopdownPoseEstimator',
    data_preprocessor=dict(
        type='PoseDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True),
    backbone=dict(
        type='mmpretrain.VisionTransformer', arch='sapiens_1b', img_size=(1024, 768), patch_size=16,
        qkv_bias=True, final_norm=True, drop_path_rate=0.0, with_cls_token=False, out_type='featmap',
        patch_cfg=dict(padding=2),
        init_cfg=dict(type='Pretrained', checkpoint='sapiens_1b_epoch_173_clean.pth')),
    head=dict(
        type='HeatmapHead', in_channels=1536, out_channels=17, deconv_out_channels=(768, 768),
        deconv_kernel_sizes=(4, 4), conv_out_channels=(768, 768), conv_kernel_sizes=(1, 1),
        loss=dict(type='KeypointMSELoss', use_target_weight=True), decoder=codec),
    test_cfg=dict(shift_heatmap=False))
train_cfg = dict(max_epochs=210, val_interval=10)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(custom_keys={'bias': dict(decay_multi=0.0), 'pos_embed': dict(decay_mult=0.0)}),
    clip_grad=dict(max_norm=1.0, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=210, milestones=[170, 200], gamma=0.1, by_epoch=True)]
train_pipeline = [
    dict(type='LoadImage'), dict(type='GetBBoxCenterScale'), dict(type='RandomFlip', direction='horizontal'),
    dict(type='RandomHalfBody'), dict(type='RandomBBoxTransform'),
    dict(type='TopdownAffine', input_size=codec['input_size'], use_udp=True),
    dict(type='PhotometricDistortion'),
    dict(type='Albumentation', transforms=[
        dict(type='Blur', p=0.1), dict(type='MedianBlur', p=0.1),
        dict(type='CoarseDropout', max_holes=1, max_height=0.4, max_width=0.4, p=0.5)]),
    dict(type='GenerateTarget', encoder=codec), dict(type='PackPoseInputs')]
train_dataloader = dict(
    batch_size=32, num_workers=4, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset', data_root='data/coco', data_mode='topdown',
        ann_file='annotations/person_keypoints_train2017.json', data_prefix=dict(img='train2017/'),
        pipeline=train_pipeline))
val_evaluator = dict(type='CocoMetric', ann_file='data/coco/annotations/person_keypoints_val2017.json')
"""

CLAIMS_TITLE = "statements.txt"

CLAIMS = """
recipe: sapiens-1b-coco
optimizer.lr = 5e-4
optimizer.weight_decay = 0.05
codec.input_size = [1024, 768]
schedule = cosine
Detections are matched to the ground truth with the Hungarian algorithm.
The results look sharp.
"""

# The training pipeline of mmpose's RTMPose-m (rtmpose-m_8xb256-420e_coco-256x192), first stage.
_RTMPOSE_M = """
dataset_type = "{kind}"
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale"),
    dict(type="RandomFlip", direction="horizontal"),
    dict(type="RandomHalfBody"),
    dict(type="RandomBBoxTransform", scale_factor=[0.6, 1.4], rotate_factor=80),
    dict(type="TopdownAffine", input_size=(192, 256)),
    dict(type="YOLOXHSVRandomAug"),
    dict(type="Albumentation", transforms=[
        dict(type="Blur", p=0.1),
        dict(type="MedianBlur", p=0.1),
        dict(type="CoarseDropout", max_holes=1, max_height=0.4, max_width=0.4, min_holes=1,
             min_height=0.2, min_width=0.2, p=1.0),
    ]),
    dict(type="PackPoseInputs"),
]
train_dataloader = dict(dataset=dict(type=dataset_type, pipeline=train_pipeline))
"""


_KINDS = {"coco-17": "CocoDataset", "ap10k-17": "AP10KDataset"}
"""Skeleton -> mmpose's data set whose keypoints these are; it says what a flip exchanges."""

EXAMPLE_TITLE = "mmpose's recipe of RTMPose-m"


def example_recipe(skeleton: Skeleton) -> Mapping[str, Any]:
    """RTMPose-m's training as mmpose publishes it, for a set's keypoints.

    Args:
        skeleton: of the set. Where mmpose has no data set of these keypoints, a flip exchanges the pairs that
            the set states or that the keypoints' names tell, and no half bodies are drawn.
    """
    from workbench.recipes.reading import read_text
    from workbench.skeletons import mirror_by_names

    kind = _KINDS.get(skeleton.name, "")
    values = dict(read_text(_RTMPOSE_M.replace("{kind}", kind), EXAMPLE_TITLE).values)
    if not kind:
        names, mirror = skeleton.keypoints, skeleton.mirror or mirror_by_names(skeleton.keypoints)
        meta = {"dataset_name": skeleton.name, "keypoint_id2name": dict(enumerate(names))}
        meta |= {"flip_indices": list(mirror)}
        values["train_dataloader"] = {"dataset": {"metainfo": meta, "pipeline": values["train_pipeline"]}}
    return values
