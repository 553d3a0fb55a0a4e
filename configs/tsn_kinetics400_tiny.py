"""The tutorial's job: two classes of Kinetics-400, fine-tuned from the K400 TSN weights.

Launch:   python tools/download.py kinetics400_tiny tsn_r50_k400
          python tools/train.py configs/tsn_kinetics400_tiny.py
Hardware: one GPU, or 2 CPU cores.
Expected: 100% val top-1, as published for this job.
"""

_base_ = ["tsn_tiny.py"]

overrides = [
    dict(type="dataset_paths", data_root="data/kinetics400_tiny"),
    dict(type="classes"),
    dict(
        type="pretrained",
        weights="checkpoints/"
        "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb_20220906-cd10898e.pth",
    ),
    dict(type="schedule", max_epochs=10),
    dict(type="batch_size", train=2),  # lr = 0.01 * 2 / 256
    dict(type="learning_rate", lr=0.01),
    dict(type="hardware", num_workers=2),
]
