"""Overrides of the data: where it is, what its classes are, how much of it makes a step."""

from pathlib import Path

from .. import dataset as datasets
from .. import hardware
from ..compat.mm import Config
from ..errors import UserError
from .registry import OVERRIDES, SPLITS, from_scratch, split_datasets

STOCK_SHORT_SIDE, STOCK_CROP = 256, 224  # pixels


@OVERRIDES.register_module()
def dataset_paths(cfg: Config, data_root: str) -> None:
    """Points the three data loaders at a dataset folder; testing uses val where test is missing.

    A child config's `data_root = ...` does not reach the loaders (mmengine issue 560).
    """
    dataset = datasets.find_dataset(data_root)
    for name, node in split_datasets(cfg):
        if node.type != "VideoDataset":
            raise UserError(f"dataset_paths sets VideoDataset; {name}_dataloader has {node.type}")
        split = dataset.splits.get(name) or dataset.splits["val"]
        node.ann_file = str(split.ann_file)
        node.data_prefix = dict(video=str(split.video_dir))
    train, val = dataset.splits["train"], dataset.splits["val"]
    test = dataset.splits.get("test", val)
    # Stock's own variables of the same content, so that the dump does not say two things.
    for key, value in {
        "data_root": train.video_dir,
        "data_root_val": val.video_dir,
        "ann_file_train": train.ann_file,
        "ann_file_val": val.ann_file,
        "ann_file_test": test.ann_file,
    }.items():
        if key in cfg:
            cfg[key] = str(value)


@OVERRIDES.register_module()
def classes(cfg: Config, label_map: str | None = None, names: list[str] | None = None) -> None:
    """Sets the number of classes and their names, which every checkpoint then carries.

    Args:
        label_map: Line i names class i. By default the `label_map.txt` beside the training
            annotations, else names made from the largest label there.
        names: The names themselves, instead of a file.
    """
    if names is None:
        if label_map is not None:
            names = datasets.read_label_map(label_map)
        else:
            ann_file = Path(next(split_datasets(cfg))[1].ann_file)
            names = datasets.class_names(datasets.find_dataset(ann_file.parent))
    head = cfg.model.get("cls_head")
    if head is None or "num_classes" not in head:
        raise UserError(f"classes sets model.cls_head.num_classes; {cfg.model.type} has none")
    head.num_classes = len(names)
    for _, dataset in split_datasets(cfg):
        dataset.metainfo = dict(classes=list(names))
        if dataset.get("multi_class"):
            dataset.num_classes = len(names)


@OVERRIDES.register_module()
def batch_size(
    cfg: Config,
    train: int | str | None = None,
    val: int | None = None,
    test: int | None = None,
    accumulate: int = 1,
) -> None:
    """Sets the batch sizes, each at least 1 and at most its dataset.

    Args:
        train: Videos a process and step; by default stock's, made for a GPU, or 8 on a CPU;
            `auto` tries what fits in the GPU's memory, which a CPU has none of.
        val: Videos a step in validation, by default as in training.
        test: Videos a step in testing, by default the config's: a test video has many views.
        accumulate: Steps whose gradients are added up before the weights change; the learning
            rate counts them.
    """
    if train == "auto" and hardware.has_cuda():
        from .largest_batch import fit_batch

        ann_file = next(split_datasets(cfg))[1].ann_file
        train = fit_batch(cfg, len(datasets.read_annotations(ann_file)))
    if train in (None, "auto"):
        train = cfg.train_dataloader.batch_size if hardware.has_cuda() else 8
    wanted = {"train": train, "val": val or train, "test": test}
    for key, value in {**wanted, "accumulate": accumulate}.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise UserError(f"batch_size {key}={value!r}: expected a whole number or 'auto'")
        if value is not None and value < 1:
            raise UserError(f"batch_size {key}={value}: expected 1 or more")
    for split, dataset in split_datasets(cfg):
        loader = cfg[f"{split}_dataloader"]
        size = wanted[split] or loader.batch_size
        num_videos = len(datasets.read_annotations(dataset.ann_file))
        loader.batch_size = max(1, min(size, num_videos))
    if accumulate > 1:
        cfg.optim_wrapper.accumulative_counts = accumulate


@OVERRIDES.register_module()
def input_size(cfg: Config, crop: int | None = None, scratch_crop: int | None = None) -> None:
    """Sets the size of the network's input, and the short side that it is cut from.

    The short side keeps stock's proportion, 256 to 224. Small inputs make short work of a run from
    random weights on a CPU: at 96 pixels a step costs a fifth of that at 224.

    Args:
        crop: Side of the square input, in pixels, by default the config's.
        scratch_crop: The same for a run from random weights, by default `crop`.
    """
    if scratch_crop is not None and from_scratch(cfg):
        crop = scratch_crop
    if crop is None:
        return
    if crop < 32:
        raise UserError(f"input_size crop={crop}: expected 32 or more, a ResNet's total stride")
    short_side = round(crop * STOCK_SHORT_SIDE / STOCK_CROP)
    pipelines = [dataset.pipeline for _, dataset in split_datasets(cfg)]
    pipelines += [cfg[f"{split}_pipeline"] for split in SPLITS if f"{split}_pipeline" in cfg]
    for step in (step for pipeline in pipelines for step in pipeline):
        if step["type"] == "Resize":
            step["scale"] = (-1, short_side) if -1 in step["scale"] else (crop, crop)
        for key in ("crop_size", "input_size"):
            if key in step:
                step[key] = crop
