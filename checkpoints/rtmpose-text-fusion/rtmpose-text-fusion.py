custom_hooks = []
custom_imports = dict(imports=[
    'workbench.models.text_fusion.register',
])
default_hooks = dict(
    checkpoint=dict(
        interval=1,
        save_optimizer=False,
        save_param_scheduler=False,
        type='CheckpointHook'),
    logger=dict(interval=20, type='LoggerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    timer=dict(type='IterTimerHook'))
default_scope = 'mmpose'
env_cfg = dict(
    cudnn_benchmark=False,
    dist_cfg=dict(backend='gloo'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
experiment_name = 'rtmpose-text-fusion'
load_from = 'weights/rtmpose-demo.pth'
log_level = 'INFO'
model = dict(
    backbone=dict(
        act_cfg=dict(inplace=True, type='SiLU'),
        arch='P5',
        arch_ovewrite=[
            [
                64,
                128,
                3,
                True,
                False,
            ],
            [
                128,
                256,
                6,
                True,
                False,
            ],
            [
                256,
                512,
                6,
                False,
                True,
            ],
        ],
        channel_attention=True,
        deepen_factor=0.167,
        expand_ratio=0.5,
        norm_cfg=dict(type='BN'),
        out_indices=(3, ),
        type='CSPNeXt',
        widen_factor=0.25),
    data_preprocessor=dict(
        bgr_to_rgb=True,
        mean=[
            123.675,
            116.28,
            103.53,
        ],
        std=[
            58.395,
            57.12,
            57.375,
        ],
        type='PoseDataPreprocessor'),
    head=dict(
        decoder=dict(
            input_size=(
                128,
                128,
            ),
            normalize=False,
            sigma=(
                4.0,
                4.0,
            ),
            simcc_split_ratio=2.0,
            type='SimCCLabel',
            use_dark=False),
        final_layer_kernel_size=7,
        gau_cfg=dict(
            act_fn='SiLU',
            drop_path=0.0,
            dropout_rate=0.0,
            expansion_factor=2,
            hidden_dims=128,
            pos_enc=False,
            s=64,
            use_rel_bias=False),
        in_channels=128,
        in_featuremap_size=(
            8,
            8,
        ),
        input_size=(
            128,
            128,
        ),
        loss=dict(
            beta=10.0,
            label_softmax=True,
            type='KLDiscretLoss',
            use_target_weight=True),
        out_channels=17,
        refiner=dict(
            confidence_threshold=0.2,
            coord_dim=256,
            hidden_dim=32,
            num_keypoints=17,
            type='SimCCDiffusionRefiner'),
        simcc_split_ratio=2.0,
        type='RTMCCHeadWithRefinement'),
    neck=dict(
        gate='none',
        in_channels=128,
        init='random',
        num_keypoints=17,
        out_channels=128,
        type='TextFusionNeck'),
    test_cfg=dict(flip_test=False),
    text='drawn-quadrupeds/horse',
    type='TopdownPoseEstimatorWithNeck')
optim_wrapper = dict(
    clip_grad=dict(max_norm=35),
    optimizer=dict(lr=0.001, type='AdamW', weight_decay=0.05),
    paramwise_cfg=dict(
        bias_decay_mult=0, bypass_duplicate=True, norm_decay_mult=0),
    type='OptimWrapper')
param_scheduler = [
    dict(begin=0, by_epoch=False, end=44, start_factor=0.01, type='LinearLR'),
    dict(
        T_max=400,
        begin=44,
        by_epoch=False,
        end=444,
        eta_min=2e-05,
        type='CosineAnnealingLR'),
]
randomness = dict(seed=20261121)
train_cfg = dict(by_epoch=True, max_epochs=6, val_interval=2)
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        ann_file='annotations.json',
        data_mode='topdown',
        data_prefix=dict(img='images/'),
        data_root='data/scenes-train',
        pipeline=[
            dict(type='LoadImage'),
            dict(padding=1.25, type='GetBBoxCenterScale'),
            dict(direction='horizontal', type='RandomFlip'),
            dict(
                rotate_factor=15.0,
                scale_factor=[
                    0.8,
                    1.25,
                ],
                shift_factor=0.08,
                type='RandomBBoxTransform'),
            dict(input_size=(
                128,
                128,
            ), type='TopdownAffine'),
            dict(strength=0.3, type='DrawnAppearance'),
            dict(
                encoder=dict(
                    input_size=(
                        128,
                        128,
                    ),
                    normalize=False,
                    sigma=(
                        4.0,
                        4.0,
                    ),
                    simcc_split_ratio=2.0,
                    type='SimCCLabel',
                    use_dark=False),
                type='GenerateTarget'),
            dict(
                global_path='embeddings/subject.npy',
                local_path='embeddings/keypoints.npy',
                required=True,
                type='LoadTextEmbeddings'),
            dict(
                meta_keys=(
                    'id',
                    'img_id',
                    'img_path',
                    'category_id',
                    'crowd_index',
                    'ori_shape',
                    'img_shape',
                    'input_size',
                    'input_center',
                    'input_scale',
                    'flip',
                    'flip_direction',
                    'flip_indices',
                    'raw_ann_info',
                    'dataset_name',
                    'global_text',
                    'local_text',
                ),
                type='PackPoseInputs'),
        ],
        test_mode=False,
        type='AP10KDataset'),
    drop_last=True,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(round_up=True, shuffle=True, type='DefaultSampler'))
val_cfg = dict()
val_dataloader = dict(
    batch_size=16,
    dataset=dict(
        ann_file='annotations.json',
        data_mode='topdown',
        data_prefix=dict(img='images/'),
        data_root='data/scenes-val',
        pipeline=[
            dict(type='LoadImage'),
            dict(padding=1.25, type='GetBBoxCenterScale'),
            dict(input_size=(
                128,
                128,
            ), type='TopdownAffine'),
            dict(type='PackPoseInputs'),
        ],
        test_mode=True,
        type='AP10KDataset'),
    drop_last=False,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(round_up=False, shuffle=False, type='DefaultSampler'))
val_evaluator = dict(
    ann_file='data/scenes-val/annotations.json', type='CocoMetric')
visualizer = dict(
    name='rtmpose-text-fusion',
    type='PoseLocalVisualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
    ])
work_dir = 'work_dirs/rtmpose-text-fusion'
