"""TSN-R50 1x1x3 on the bundled clips, or on your own with --data.

Launch:   python tools/train.py configs/tsn_tiny.py [--data DIR]
"""

_base_ = [
    "mmaction::recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py"
]

overrides = [
    dict(type="dataset_paths", data_root="data/tiny"),
    dict(type="classes"),
    dict(
        type="pretrained",
        weights="auto",
        search="checkpoints/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb_*.pth",
    ),
    dict(type="schedule", max_epochs=10, scratch_epochs=24),
    dict(type="batch_size", train=10),
    # 0.01 * batch / 256 from trained weights; 0.01 at a batch of 10 from random ones.
    dict(type="learning_rate", lr=0.01, scratch_lr=0.256),
]

default_hooks = dict(checkpoint=dict(interval=3, max_keep_ckpts=1))
randomness = dict(seed=0)
