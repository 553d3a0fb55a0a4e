"""Every override that has MMEngine import a module, in one config."""

_base_ = ["small.py"]

overrides = [
    dict(type="dataset_paths", data_root="data/tiny"),
    dict(type="classes"),
    dict(type="pretrained", weights="none"),
    dict(type="schedule", max_epochs=2),
    dict(type="input_size", crop=32),
    dict(type="batch_size", train=8),
    dict(type="learning_rate", lr=6.4),
    dict(type="clip_cache", splits=["train"]),
    dict(type="protocol", name="full"),
    dict(type="inference", precision="int8", engine="openvino"),
    dict(type="decoder", name="packets"),
    dict(type="checkpoints"),
    dict(type="data_guard"),
    dict(type="hardware"),
    dict(type="run"),
    dict(type="class_balance", method="sample"),
]
custom_hooks = [dict(type="EarlyStoppingHook", monitor="acc/top1", patience=3)]
