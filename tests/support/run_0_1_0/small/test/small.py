ann_file_train = 'data/tiny/train.txt'
ann_file_val = 'data/tiny/val.txt'
auto_scale_lr = dict(base_batch_size=256, enable=True)
custom_hooks = [
    dict(type='ZeroInitResidualHook'),
    dict(type='WeightsHook'),
    dict(type='ValidatedHook'),
    dict(type='ResumeHook'),
    dict(type='LossHook'),
    dict(every=7, type='StopHook'),
    dict(max_bad_fraction=0.1, type='DataGuardHook', video_seconds=120),
    dict(engine='torch', precision='fp32', type='EngineHook'),
    dict(type='PrecisionHook'),
    dict(type='TimingHook'),
]
custom_imports = dict(
    allow_failed_imports=False,
    imports=[
        'mmact_tiny.initialization',
        'mmact_tiny.checkpoint_hooks',
        'mmact_tiny.resume',
        'mmact_tiny.stopping',
        'mmact_tiny.guarded_loader',
        'mmact_tiny.packets',
        'mmact_tiny.precision',
        'mmact_tiny.timing_hook',
        'mmact_tiny.metrics',
        'mmact_tiny.engine_hook',
    ])
data_root = 'data/tiny/train'
data_root_val = 'data/tiny/val'
dataset_type = 'VideoDataset'
default_hooks = dict(
    checkpoint=dict(
        _scope_='mmaction',
        interval=2,
        max_keep_ckpts=1,
        save_best='auto',
        type='SafeCheckpointHook'),
    logger=dict(
        _scope_='mmaction', ignore_last=False, interval=20, type='LoggerHook'),
    param_scheduler=dict(_scope_='mmaction', type='ParamSchedulerHook'),
    runtime_info=dict(_scope_='mmaction', type='RuntimeInfoHook'),
    sampler_seed=dict(_scope_='mmaction', type='DistSamplerSeedHook'),
    sync_buffers=dict(_scope_='mmaction', type='SyncBuffersHook'),
    timer=dict(_scope_='mmaction', type='IterTimerHook'))
default_scope = 'mmaction'
env_cfg = dict(
    cudnn_benchmark=False,
    dist_cfg=dict(backend='gloo'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
file_client_args = dict(io_backend='disk')
initial_weights = 'random'
launcher = 'none'
load_from = 'work_dirs/small/best_acc_top1_epoch_1.pth'
log_level = 'INFO'
log_processor = dict(
    _scope_='mmaction',
    by_epoch=True,
    custom_cfg=[
        dict(
            data_src='loss',
            log_name='epoch_loss',
            method_name='mean',
            window_size='epoch'),
        dict(
            data_src='top1_acc',
            log_name='epoch_top1_acc',
            method_name='mean',
            window_size='epoch'),
    ],
    type='LogProcessor',
    window_size=20)
model = dict(
    _scope_='mmaction',
    backbone=dict(
        base_channels=4,
        conv1_kernel=3,
        conv1_stride=2,
        depth=50,
        factorize=(0, ),
        in_channels=3,
        num_stages=1,
        strides=(2, ),
        type='ResNetAudio'),
    cls_head=dict(
        average_clips='prob',
        consensus=dict(dim=1, type='AvgConsensus'),
        dropout_ratio=0.4,
        in_channels=16,
        init_std=0.01,
        num_classes=4,
        spatial_type='avg',
        type='TSNHead'),
    data_preprocessor=dict(
        format_shape='NCHW',
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
        type='ActionDataPreprocessor'),
    test_cfg=None,
    train_cfg=None,
    type='Recognizer2D')
optim_wrapper = dict(
    clip_grad=dict(max_norm=40, norm_type=2),
    optimizer=dict(
        _scope_='mmaction',
        lr=6.4,
        momentum=0.9,
        type='SGD',
        weight_decay=0.0001),
    type='OptimWrapper')
param_scheduler = [
    dict(
        _scope_='mmaction',
        begin=0,
        by_epoch=True,
        end=2,
        gamma=0.1,
        milestones=[
            1,
            2,
        ],
        type='MultiStepLR'),
]
randomness = dict(seed=0)
resume = False
stock_base = [
    'mmaction::recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py',
]
test_cfg = dict(_scope_='mmaction', type='TestLoop')
test_dataloader = dict(
    batch_size=1,
    dataset=dict(
        _scope_='mmaction',
        ann_file='data/tiny/val.txt',
        data_prefix=dict(video='data/tiny/val'),
        metainfo=dict(classes=[
            'bouncing ball',
            'falling rain',
            'rising bubbles',
            'waving flag',
        ]),
        pipeline=[
            dict(io_backend='disk', type='PacketInit'),
            dict(
                clip_len=1,
                frame_interval=1,
                num_clips=25,
                test_mode=True,
                type='SampleFrames'),
            dict(type='PacketDecode'),
            dict(scale=(
                -1,
                37,
            ), type='Resize'),
            dict(crop_size=32, type='TenCrop'),
            dict(input_format='NCHW', type='FormatShape'),
            dict(
                meta_keys=(
                    'img_shape',
                    'img_key',
                    'video_id',
                    'timestamp',
                    'filename',
                ),
                type='PackActionInputs'),
        ],
        test_mode=True,
        type='VideoDataset'),
    num_workers=2,
    persistent_workers=True,
    pin_memory=False,
    sampler=dict(_scope_='mmaction', shuffle=False, type='DefaultSampler'))
test_evaluator = [
    dict(type='AccMetric'),
    dict(type='VideoScores'),
]
test_pipeline = [
    dict(io_backend='disk', type='PacketInit'),
    dict(
        clip_len=1,
        frame_interval=1,
        num_clips=25,
        test_mode=True,
        type='SampleFrames'),
    dict(type='PacketDecode'),
    dict(scale=(
        -1,
        37,
    ), type='Resize'),
    dict(crop_size=32, type='TenCrop'),
    dict(input_format='NCHW', type='FormatShape'),
    dict(
        meta_keys=(
            'img_shape',
            'img_key',
            'video_id',
            'timestamp',
            'filename',
        ),
        type='PackActionInputs'),
]
train_cfg = dict(
    _scope_='mmaction',
    max_epochs=2,
    type='EpochBasedTrainLoop',
    val_begin=1,
    val_interval=1)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        _scope_='mmaction',
        ann_file='data/tiny/train.txt',
        data_prefix=dict(video='data/tiny/train'),
        metainfo=dict(classes=[
            'bouncing ball',
            'falling rain',
            'rising bubbles',
            'waving flag',
        ]),
        pipeline=[
            dict(io_backend='disk', type='PacketInit'),
            dict(
                clip_len=1, frame_interval=1, num_clips=3,
                type='SampleFrames'),
            dict(type='PacketDecode'),
            dict(scale=(
                -1,
                37,
            ), type='Resize'),
            dict(
                input_size=32,
                max_wh_scale_gap=1,
                random_crop=False,
                scales=(
                    1,
                    0.875,
                    0.75,
                    0.66,
                ),
                type='MultiScaleCrop'),
            dict(keep_ratio=False, scale=(
                32,
                32,
            ), type='Resize'),
            dict(flip_ratio=0.5, type='Flip'),
            dict(input_format='NCHW', type='FormatShape'),
            dict(type='PackActionInputs'),
        ],
        type='VideoDataset'),
    num_workers=2,
    persistent_workers=True,
    pin_memory=False,
    sampler=dict(_scope_='mmaction', shuffle=True, type='DefaultSampler'))
train_pipeline = [
    dict(_scope_='mmaction', io_backend='disk', type='DecordInit'),
    dict(
        _scope_='mmaction',
        clip_len=1,
        frame_interval=1,
        num_clips=3,
        type='SampleFrames'),
    dict(_scope_='mmaction', type='DecordDecode'),
    dict(_scope_='mmaction', scale=(
        -1,
        37,
    ), type='Resize'),
    dict(
        _scope_='mmaction',
        input_size=32,
        max_wh_scale_gap=1,
        random_crop=False,
        scales=(
            1,
            0.875,
            0.75,
            0.66,
        ),
        type='MultiScaleCrop'),
    dict(
        _scope_='mmaction', keep_ratio=False, scale=(
            32,
            32,
        ), type='Resize'),
    dict(_scope_='mmaction', flip_ratio=0.5, type='Flip'),
    dict(_scope_='mmaction', input_format='NCHW', type='FormatShape'),
    dict(_scope_='mmaction', type='PackActionInputs'),
]
val_cfg = dict(_scope_='mmaction', type='ValLoop')
val_dataloader = dict(
    batch_size=8,
    dataset=dict(
        _scope_='mmaction',
        ann_file='data/tiny/val.txt',
        data_prefix=dict(video='data/tiny/val'),
        metainfo=dict(classes=[
            'bouncing ball',
            'falling rain',
            'rising bubbles',
            'waving flag',
        ]),
        pipeline=[
            dict(io_backend='disk', type='PacketInit'),
            dict(
                clip_len=1,
                frame_interval=1,
                num_clips=3,
                test_mode=True,
                type='SampleFrames'),
            dict(type='PacketDecode'),
            dict(scale=(
                -1,
                37,
            ), type='Resize'),
            dict(crop_size=32, type='CenterCrop'),
            dict(input_format='NCHW', type='FormatShape'),
            dict(type='PackActionInputs'),
        ],
        test_mode=True,
        type='VideoDataset'),
    num_workers=2,
    persistent_workers=True,
    pin_memory=False,
    sampler=dict(_scope_='mmaction', shuffle=False, type='DefaultSampler'))
val_evaluator = dict(_scope_='mmaction', type='AccMetric')
val_pipeline = [
    dict(_scope_='mmaction', io_backend='disk', type='DecordInit'),
    dict(
        _scope_='mmaction',
        clip_len=1,
        frame_interval=1,
        num_clips=3,
        test_mode=True,
        type='SampleFrames'),
    dict(_scope_='mmaction', type='DecordDecode'),
    dict(_scope_='mmaction', scale=(
        -1,
        37,
    ), type='Resize'),
    dict(_scope_='mmaction', crop_size=32, type='CenterCrop'),
    dict(_scope_='mmaction', input_format='NCHW', type='FormatShape'),
    dict(_scope_='mmaction', type='PackActionInputs'),
]
vis_backends = [
    dict(_scope_='mmaction', type='LocalVisBackend'),
]
visualizer = dict(
    _scope_='mmaction',
    type='ActionVisualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
    ])
work_dir = 'work_dirs/small/test'
