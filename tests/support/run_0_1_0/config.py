"""TSN on a backbone of a few hundred weights: a run that is small enough to keep.

Launch:   python tools/train.py configs/small.py --pretrained none
Hardware: 2 CPU cores.
Expected: some seconds.
"""

_base_ = [
    "mmaction::recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py"
]

overrides = [
    dict(type="dataset_paths", data_root="data/tiny"),
    dict(type="classes"),
    dict(type="pretrained", weights="none"),
    dict(type="schedule", max_epochs=2),
    dict(type="input_size", crop=32),
    dict(type="batch_size", train=8),
    dict(type="learning_rate", lr=6.4),
]

model = dict(
    backbone=dict(
        _delete_=True,
        type="ResNetAudio",
        depth=50,
        in_channels=3,
        base_channels=4,
        num_stages=1,
        strides=(2,),
        factorize=(0,),
        conv1_kernel=3,
        conv1_stride=2,
    ),
    cls_head=dict(in_channels=16),
)
default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=1))
randomness = dict(seed=0)
