"""The override of the batch size, and the search for the largest that fits in a GPU's memory."""

import gc
import logging
from collections.abc import Callable
from typing import Any

import torch

from .. import hardware
from ..annotations import count_annotations
from ..compat import DATASETS, MODELS, Config, init_default_scope, pseudo_collate
from ..errors import UserError
from ..hooks.precision import fit_for_autocast
from ..pipeline import split_datasets
from .learning_rate import accumulated_steps
from .registry import OVERRIDES, comes_after

CPU_BATCH_SIZE = 8
# What stays free: fragments, the other processes' contexts, a validation with larger views.
MEMORY_SHARE = 0.85
STEPS = 2  # the first one makes the optimizer's state, which the second has to fit beside
VIDEOS_TRIED = 10  # for a sample to train on, until one can be read
logger = logging.getLogger("mmact_tiny")


@OVERRIDES.register_module()
@comes_after("recipe", "dataset_paths", "input_size")
def batch_size(
    cfg: Config,
    train: int | str | None = None,
    val: int | None = None,
    test: int | None = None,
    accumulate: int | None = None,
    total: int | None = None,
) -> None:
    """Sets the batch sizes, each at least 1 and at most its dataset.

    Args:
        train: Videos a process and step; by default stock's, made for a GPU, or 8 on a CPU;
            `auto` tries what fits in the GPU's memory, which a CPU has none of.
        val: Videos a step in validation, by default as in training; 1 with `max_testing_views`.
        test: Videos a step in testing, by default the config's: a test video has many views; 1 too.
        accumulate: Steps whose gradients are added up before the weights change, by default the
            config's; the learning rate counts them.
        total: Videos a change of the weights, of all processes together, however many they are:
            each has the largest part of `train` that divides its share, and accumulates.

    Raises:
        UserError: a number below 1, or a `total` that the processes cannot divide.
    """
    counts = {split: count_annotations(dataset.ann_file) for split, dataset in split_datasets(cfg)}
    if train == "auto" and hardware.has_cuda():
        train = fit_batch(cfg, counts["train"])
    if train in (None, "auto"):
        train = cfg.train_dataloader.batch_size if hardware.has_cuda() else CPU_BATCH_SIZE
    wanted = {"train": train, "val": train if val is None else val, "test": test}
    for key, value in {**wanted, "accumulate": accumulate, "total": total}.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise UserError(f"batch_size {key}={value!r}: expected a whole number or 'auto'")
        if value is not None and value < 1:
            raise UserError(f"batch_size {key}={value}: expected 1 or more")
    for split, num_videos in counts.items():
        loader = cfg[f"{split}_dataloader"]
        size = wanted[split] or loader.batch_size
        if split != "train" and (cfg.model.get("test_cfg") or {}).get("max_testing_views"):
            size = 1  # stock's models compute the views of one video in parts, not of several
        loader.batch_size = max(1, min(size, num_videos))
    if total is not None:
        if accumulate is not None:
            raise UserError(f"batch_size total={total} sets accumulate={accumulate}: give one")
        if total > counts["train"]:
            logger.warning(
                "*** --global-batch %d: the weights change less than once an epoch of %d videos, "
                "at the rate of that batch; expected %d or less ***",
                *(total, counts["train"], counts["train"]),
            )
        loader = cfg.train_dataloader
        loader.batch_size, accumulate = divide_batch(total, loader.batch_size)
    if accumulate is not None and accumulate != accumulated_steps(cfg):
        cfg.optim_wrapper.accumulative_counts = accumulate


def divide_batch(total: int, most: int) -> tuple[int, int]:
    """Returns the batch size of a process, at most `most`, and the steps that it accumulates.

    Raises:
        UserError: the processes of the job do not divide `total`.
    """
    share, rest = divmod(total, hardware.world_size())
    if rest or not share:
        raise UserError(
            f"--global-batch {total}: {hardware.world_size()} processes cannot divide it; "
            "expected a multiple of every number of processes that the job may have"
        )
    size = max(size for size in range(1, most + 1) if share % size == 0)
    return size, share // size


def largest_batch(fits: Callable[[int], bool], limit: int) -> int:
    """Returns the largest power of two up to `limit` that fits, or `limit` where that fits too.

    Args:
        fits: Whether a batch of so many videos fits; not asked again above one that does not.
        limit: Number of videos of the dataset.

    Raises:
        UserError: not even one video fits.
    """
    if not fits(1):
        raise UserError(
            "batch_size auto: the training step of one video does not fit in the device's memory\n"
            "  use a smaller model, input_size, or fewer clips"
        )
    size = 1
    while size < limit and fits(min(2 * size, limit)):
        size = min(2 * size, limit)
    return size


class TrainingStep:
    """A config's model with one video, to run the training step of any batch size.

    Args:
        cfg: A config whose dataset, classes and model are set.
        device: Where it trains.
        memory_bytes: What a step may take there, by default most of a GPU's memory.
    """

    def __init__(self, cfg: Config, device: str, memory_bytes: int | None = None) -> None:
        init_default_scope("mmaction")
        self.device = torch.device(device)
        self.memory_bytes = memory_bytes
        if memory_bytes is None and self.device.type == "cuda":
            total = torch.cuda.get_device_properties(self.device).total_memory
            self.memory_bytes = int(total * MEMORY_SHARE)
        sample = _first_sample(cfg)
        self.samples = sample if isinstance(sample, list) else [sample]  # of RepeatAugDataset
        precision, _ = hardware.choose_precision("auto", cuda=self.device.type == "cuda")
        self.dtype = getattr(torch, hardware.DTYPES[precision])
        self.model = MODELS.build(cfg.model).to(self.device)
        fit_for_autocast(self.model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.0, momentum=0.9)

    def fits(self, batch_size: int) -> bool:
        """Returns whether a training step of so many videos stays within the memory."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        try:
            for _ in range(STEPS):
                self._run(batch_size)
        except torch.OutOfMemoryError:
            return False
        finally:
            self.optimizer.zero_grad(set_to_none=True)
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        if self.memory_bytes is None or self.device.type != "cuda":
            return True
        return torch.cuda.max_memory_reserved(self.device) <= self.memory_bytes

    def _run(self, batch_size: int) -> None:
        self.model.train()
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype.itemsize < 4):
            data = self.model.data_preprocessor(pseudo_collate(self.samples * batch_size), True)
            losses = self.model(**data, mode="loss")
        loss, _ = self.model.parse_losses(losses)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def _first_sample(cfg: Config) -> Any:
    """Returns a training sample of a video that can be read."""
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    for index in range(min(VIDEOS_TRIED, len(dataset))):
        try:
            return dataset[index]
        except Exception as error:  # whatever a decoder throws at a broken file
            logger.warning("batch_size auto: passed over a video: %s", error)
    raise UserError("batch_size auto: none of the first training videos can be read")


def fit_batch(cfg: Config, limit: int) -> int:
    """Returns the largest batch for this process's GPU, and logs it."""
    device = f"cuda:{hardware.local_rank()}"
    size = largest_batch(TrainingStep(cfg, device).fits, limit)
    logger.info("batch size: %d videos fit in the memory of %s (of %d)", size, device, limit)
    return size
