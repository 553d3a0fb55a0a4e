"""TSN on MobileNetV2, 8 frames a video: the small recognizer for few videos.

Launch:   python tools/download.py mobilenetv2_imagenet
          python tools/probe.py --data DIR, or
          python tools/train.py configs/tsn_mobilenetv2.py --data DIR
Hardware: 2 CPU cores.
Expected: see docs/few_videos.md.
"""

_base_ = [
    "mmaction::recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e_kinetics400-rgb.py"
]

overrides = [
    dict(type="dataset_paths", data_root="data/tiny"),
    dict(type="classes"),
    dict(type="pretrained", search="checkpoints/mobilenetv2_imagenet.pth"),
    dict(type="schedule", max_epochs=10),
    dict(type="batch_size", train=8),
    dict(type="learning_rate", lr=0.01),  # 0.01 * batch / 256
]

model = dict(backbone=dict(_delete_=True, type="MobileNetV2"), cls_head=dict(in_channels=1280))
randomness = dict(seed=0)
