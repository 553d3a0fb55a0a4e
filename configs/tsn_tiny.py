"""TSN-R50 1x1x3 on the bundled clips, or on your own with --data.

Launch:   python tools/train.py configs/tsn_tiny.py [--data DIR]
Hardware: 2 CPU cores.
Expected: 15 of 16 validation clips (93.75% top-1) from random weights, in 2 to 4 minutes: without
          weights in checkpoints/, or with --pretrained none, it takes configs/tsn_tiny_scratch.py.
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
        scratch="configs/tsn_tiny_scratch.py",
    ),
    dict(type="schedule", max_epochs=10),
    dict(type="batch_size", train=8),
    dict(type="learning_rate", lr=0.01),  # 0.01 * batch / 256
]

default_hooks = dict(checkpoint=dict(interval=5, max_keep_ckpts=1))
randomness = dict(seed=0)
