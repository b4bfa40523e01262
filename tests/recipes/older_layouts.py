"""Configs in the layouts of mmpose 0.x and of HRNet's yaml, whole and with mistakes."""

# ruff: noqa: E501 - configs as people write them
from __future__ import annotations

OLD = """
log_level = 'INFO'
load_from = None
resume_from = None
dist_params = dict(backend='nccl')
workflow = [('train', 1)]
checkpoint_config = dict(interval=10)
evaluation = dict(interval=10, metric='mAP', save_best='AP')
optimizer = dict(type='Adam', lr=5e-4)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy='step', warmup='linear', warmup_iters=500, warmup_ratio=0.001, step=[170, 200])
total_epochs = 210
channel_cfg = dict(num_output_channels=17, dataset_joints=17, dataset_channel=[list(range(17))], inference_channel=list(range(17)))
model = dict(
    type='TopDown', pretrained='https://download.openmmlab.com/mmpose/pretrain_models/hrnet_w32-36af842e.pth',
    backbone=dict(type='HRNet', in_channels=3, extra=dict(
        stage1=dict(num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(4, ), num_channels=(64, )),
        stage2=dict(num_modules=1, num_branches=2, block='BASIC', num_blocks=(4, 4), num_channels=(32, 64)),
        stage3=dict(num_modules=4, num_branches=3, block='BASIC', num_blocks=(4, 4, 4), num_channels=(32, 64, 128)),
        stage4=dict(num_modules=3, num_branches=4, block='BASIC', num_blocks=(4, 4, 4, 4), num_channels=(32, 64, 128, 256)))),
    keypoint_head=dict(type='TopdownHeatmapSimpleHead', in_channels=32, out_channels=17, num_deconv_layers=0,
        extra=dict(final_conv_kernel=1, ), loss_keypoint=dict(type='JointsMSELoss', use_target_weight=True)),
    train_cfg=dict(),
    test_cfg=dict(flip_test=True, post_process='default', shift_heatmap=True, modulate_kernel=11))
data_cfg = dict(image_size=[192, 256], heatmap_size=[48, 64], num_output_channels=17, num_joints=17,
    dataset_channel=[list(range(17))], inference_channel=list(range(17)), soft_nms=False, nms_thr=1.0, oks_thr=0.9, vis_thr=0.2,
    use_gt_bbox=False, det_bbox_thr=0.0, bbox_file='data/coco/person_detection_results/COCO_val2017_detections_AP_H_56_person.json')
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='TopDownRandomFlip', flip_prob=0.5),
    dict(type='TopDownHalfBodyTransform', num_joints_half_body=8, prob_half_body=0.3),
    dict(type='TopDownGetRandomScaleRotation', rot_factor=40, scale_factor=0.5), dict(type='TopDownAffine'), dict(type='ToTensor'),
    dict(type='NormalizeTensor', mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    dict(type='TopDownGenerateTarget', sigma=2),
    dict(type='Collect', keys=['img', 'target', 'target_weight'], meta_keys=['image_file']),
]
val_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='TopDownAffine'), dict(type='ToTensor'),
    dict(type='NormalizeTensor', mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    dict(type='Collect', keys=['img'], meta_keys=['image_file', 'flip_pairs']),
]
test_pipeline = val_pipeline
data_root = 'data/coco'
data = dict(samples_per_gpu=64, workers_per_gpu=2,
    train=dict(type='TopDownCocoDataset', ann_file=f'{data_root}/annotations/person_keypoints_train2017.json', img_prefix=f'{data_root}/train2017/', data_cfg=data_cfg, pipeline=train_pipeline),
    val=dict(type='TopDownCocoDataset', ann_file=f'{data_root}/annotations/person_keypoints_val2017.json', img_prefix=f'{data_root}/val2017/', data_cfg=data_cfg, pipeline=val_pipeline),
    test=dict(type='TopDownCocoDataset', ann_file=f'{data_root}/annotations/person_keypoints_val2017.json', img_prefix=f'{data_root}/val2017/', data_cfg=data_cfg, pipeline=val_pipeline))
"""

YAML = """
DATASET: {COLOR_RGB: true, DATASET: coco, FLIP: true, ROOT: data/coco/, ROT_FACTOR: 45, SCALE_FACTOR: 0.35, TEST_SET: val2017, TRAIN_SET: train2017}
MODEL:
  NAME: pose_hrnet
  NUM_JOINTS: 17
  PRETRAINED: hrnet_w32.pth
  TARGET_TYPE: gaussian
  IMAGE_SIZE: [192, 256]
  HEATMAP_SIZE: [48, 64]
  SIGMA: 2
LOSS: {USE_TARGET_WEIGHT: true}
TRAIN:
  BATCH_SIZE_PER_GPU: 32
  SHUFFLE: true
  END_EPOCH: 210
  OPTIMIZER: adam
  LR: 0.001
  LR_FACTOR: 0.1
  LR_STEP: [170, 200]
  WD: 0.0001
TEST: {BATCH_SIZE_PER_GPU: 32, FLIP_TEST: true, POST_PROCESS: true, SHIFT_HEATMAP: true, USE_GT_BBOX: true}
"""

_NORMAL = "mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),\n    dict(type=%s"
_OF_TRAIN, _OF_VAL = _NORMAL % "'TopDownGen", _NORMAL % "'Collect', keys=['img'], meta"
MILESTONES, UNLABELLED = "milestones after the end of the run", "keypoints without labels are learned"
SHIFT, SETS, DECAY = (
    "flip test does not shift its maps",
    "validated on the training data",
    "weight decay too strong",
)
UDP, COLOURS = "crop and codec follow two conventions", "trained on other colours than judged on"
SKELETONS, GAMMA, RATE = (
    "head and data set of two skeletons",
    "the schedule never lowers the learning rate",
    "learning rate too high or too low",
)

# What is changed, and the error that it is.
FAULTS_OF_OLD = {
    "milestones late": (("step=[170, 200]", "step=[270, 300]"), MILESTONES),
    "warm-up of five million steps": (("warmup_iters=500", "warmup_iters=5000000"), "warm-up longer than the run"),
    "rate of .5": (("lr=5e-4", "lr=0.5"), RATE),
    "no target weight": (("use_target_weight=True", "use_target_weight=False"), UNLABELLED),
    "maps not moved": (("shift_heatmap=True", "shift_heatmap=False"), SHIFT),
    "16 maps": (("out_channels=17, num_deconv", "out_channels=16, num_deconv"), SKELETONS),
    "sigma of 20": (("sigma=2)", "sigma=20)"), "sigma does not belong to the heatmap size"),
    "other mean in the validation": ((_OF_VAL, _OF_VAL.replace("mean=[0.485, 0.456, 0.406]", "mean=[0.5, 0.5, 0.5]")), COLOURS),
    "UDP in the training alone": (("dict(type='TopDownAffine'), dict(type='ToTensor'),\n    dict(type='NormalizeTensor', " + _OF_TRAIN, "dict(type='TopDownAffine', use_udp=True), dict(type='ToTensor'),\n    dict(type='NormalizeTensor', " + _OF_TRAIN), UDP),
    "clipped to .0001": (("grad_clip=None", "grad_clip=dict(max_norm=0.0001)"), "gradient clipping too small"),
    "decay of 10": (("lr=5e-4)", "lr=5e-4, weight_decay=10.0)"), DECAY),
    "factor of 2": (("step=[170, 200]", "step=[170, 200], gamma=2.0"), GAMMA),
}  # fmt: skip
FAULTS_OF_YAML = {
    "milestones late": (("[170, 200]", "[270, 300]"), MILESTONES),
    "not shuffled": (("SHUFFLE: true", "SHUFFLE: false"), "training data not shuffled"),
    "tested on the training set": (("TEST_SET: val2017", "TEST_SET: train2017"), SETS),
    "maps not moved": (("SHIFT_HEATMAP: true", "SHIFT_HEATMAP: false"), SHIFT),
    "no target weight": (("USE_TARGET_WEIGHT: true", "USE_TARGET_WEIGHT: false"), UNLABELLED),
    "rate of .1": (("LR: 0.001", "LR: 0.1"), RATE),
    "decay of 10": (("WD: 0.0001", "WD: 10.0"), DECAY),
    "factor of 1": (("LR_FACTOR: 0.1", "LR_FACTOR: 1.0"), GAMMA),
    "16 joints": (("NUM_JOINTS: 17", "NUM_JOINTS: 16"), SKELETONS),
}  # fmt: skip
FAULTS_OF_HRNET = {
    "mean of blue first": (("mean=[123.675, 116.28, 103.53]", "mean=[103.53, 116.28, 123.675]"), "channel order"),
    "blue first": (("bgr_to_rgb=True", "bgr_to_rgb=False"), "channel order"),
    "no target weight": (("use_target_weight=True", "use_target_weight=False"), UNLABELLED),
    "factor of 1": (("gamma=0.1", "gamma=1.0"), GAMMA),
    "smallest AP kept": (("rule='greater'", "rule='less'"), "the worst checkpoint is kept as the best"),
    "scale of 1e9": (("optim_wrapper = dict(", "optim_wrapper = dict(type='AmpOptimWrapper', loss_scale=1e9, "), "half precision overflows in training"),
    "rate of .5": (("lr=5e-4", "lr=0.5"), RATE),
    "sigma of 20": (("sigma=2)", "sigma=20)"), "sigma does not belong to the heatmap size"),
}  # fmt: skip
