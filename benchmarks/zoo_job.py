"""One config of MMAction2's zoo, in a process of its own: our road, or stock's test of its result.

Used by zoo.py. `ours` resolves the config, trains two steps, tests and recognizes; `stock` tests
the checkpoint that `ours` wrote with stock's own Runner and config, and of this project only the
import repairs. Each writes what it found to a JSON file, again after each step.
"""

import argparse
import inspect
import json
import math
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmact_tiny.hardware import select_device

NUM_CLASSES = 4  # of data/tiny
SIDE, PATCHES = 64, 4  # pixels; of a vision transformer so many patches
FRAMES = 8
LEAST_SPREAD = 1e-4  # of a score, between two videos
CLIPS = 2  # of several frames each, or of TSN; other 2-D models need the number that they have
SIDE_KEYS = ("img_size", "spatial_size", "input_resolution")  # of transformers' backbones
FRAME_KEYS = ("num_frames", "temporal_size", "t_size")
SIZE_KEYS = ("scale", "size", "crop_size", "input_size")  # of a pipeline's steps
# One fully connected layer of C3D and the windows of timm's Swin fit one input alone.
FIXED_SIDE = ("C3D", "timm.swin_base_patch4_window7_224")


class Record:
    """What a job found, written to its file after each step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts: dict[str, Any] = {"seconds": {}}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Times a step, whose name stands in the file while it runs."""
        self.facts["step"] = name
        self.write()
        started = time.perf_counter()
        try:
            yield
        finally:
            self.facts["seconds"][name] = round(time.perf_counter() - started, 2)
        self.write()

    def write(self) -> None:
        self.path.write_text(json.dumps(self.facts))


def stock_config(stem: str) -> Any:
    """Returns a stock config as MMAction2 installs it."""
    from mmact_tiny.checkpoints.config_text import stock_configs
    from mmact_tiny.compat import Config

    return Config.fromfile(next((stock_configs() / "recognition").rglob(f"{stem}.py")))


def smaller_input(cfg: Any, target: Any = None) -> tuple[dict[str, Any], str]:
    """Returns the values that make the input of a config smaller, by dotted key, and words for it.

    Args:
        cfg: The stock config, which says how large its input is.
        target: The config that the keys are of, where it is another one.
    """
    from mmact_tiny.compat import MODELS

    backbone = cfg.model.get("backbone") or {}
    arguments = inspect.signature(MODELS.get(backbone.type).__init__).parameters
    values, words = {}, []
    factors = {"side": 1.0, "frames": 1.0}
    pipelines = [cfg[f"{s}_pipeline"] for s in ("train", "test") if f"{s}_pipeline" in cfg]
    for kind, keys, smallest in (("side", SIDE_KEYS, SIDE), ("frames", FRAME_KEYS, FRAMES)):
        key = next((key for key in keys if key in arguments), None)
        now = backbone.get(key, arguments[key].default) if key else None
        if kind == "side" and key and isinstance(backbone.get("patch_size"), int):
            smallest = PATCHES * backbone.patch_size
        if kind == "side" and now is None:
            now = min(size for steps in pipelines[:1] for size in _sizes(steps))
        if now is None or now <= smallest or (kind == "side" and backbone.type in FIXED_SIDE):
            continue
        factors[kind] = smallest / now
        words.append(f"{smallest} of {now} {'pixels' if kind == 'side' else 'frames'}")
        if key:
            values[f"{'' if key in backbone else '+'}model.backbone.{key}"] = smallest
    target = target or cfg
    values.update(_scaled_steps(target, factors))
    if cfg.model.get("cls_head", {}).get("type") == "TSNHead":  # means over any number of clips
        values.update(_fewer_clips(target))
    return values, ", ".join(words) or "its own"


def _fewer_clips(cfg: Any) -> dict[str, Any]:
    """Returns the keys of the samplers of a config's validation and test, with `CLIPS` each."""
    return {
        f"{split}_dataloader.dataset.pipeline.{number}.num_clips": CLIPS
        for split in ("val", "test")
        for number, step in enumerate(cfg[f"{split}_dataloader"].dataset.pipeline)
        if "num_clips" in step
    }


def _sizes(node: Any) -> Iterator[int]:
    """Yields the sizes in pixels of a pipeline."""
    for step in node:
        for key in SIZE_KEYS:
            value = step.get(key, ())
            values = value if isinstance(value, (list, tuple)) else [value]
            yield from (one for one in values if isinstance(one, int) and one > 0)


def _scaled_steps(node: Any, factors: Mapping[str, float], path: str = "") -> dict[str, Any]:
    """Returns the sizes of all pipelines of a config, and the lengths of their clips, scaled."""
    items = node.items() if hasattr(node, "items") else ()
    if isinstance(node, (list, tuple)):
        items = ((str(index), item) for index, item in enumerate(node))
    found: dict[str, Any] = {}
    for key, value in items:
        where = f"{path}.{key}" if path else key
        if where.endswith("_pipeline"):  # a variable of the file, which the loaders have copies of
            continue
        if key in SIZE_KEYS and "pipeline" in path:
            found[where] = _scaled(value, factors["side"])
        elif key == "clip_len" and value > 1:
            found[where] = round(value * factors["frames"])
            if node.get("num_clips", 1) > CLIPS:
                found[f"{path}.num_clips"] = CLIPS
        else:
            found.update(_scaled_steps(value, factors, where))
    return found


def _scaled(size: Any, factor: float) -> Any:
    if isinstance(size, (list, tuple)):
        return type(size)(_scaled(one, factor) for one in size)
    return round(size * factor) if isinstance(size, int) and size > 0 else size


def ours(record: Record, stem: str, args: argparse.Namespace) -> None:
    """Goes the way of a user: train.py, test.py and infer.py by the config's name."""
    import numpy as np
    import torch
    from torch.nn.modules.module import register_module_forward_pre_hook

    from mmact_tiny.config import load_config
    from mmact_tiny.evaluate import test
    from mmact_tiny.recognizer import Recognizer
    from mmact_tiny.runs import open_run
    from mmact_tiny.train import train

    facts = record.facts
    stock = stock_config(stem)
    facts["stock_rate"] = stock_rate(stock)
    changes = {
        "dataset_paths": {"data_root": args.data},
        "pretrained": {"weights": "none"},
        "schedule": {"max_epochs": 1},
        "batch_size": {"train": 1},
        "hardware": {"precision": "fp32" if args.device == "cpu" else "auto"},
        "run": {"work_dir": str(args.folder / "run"), "seed": 0},
    }
    with record.step("resolve"):
        cfg = load_config(args.name, changes=changes)
        facts["our_rate"] = our_rate(cfg)
        options, facts["input"] = {}, "its own"
        if not args.full_input:
            options, facts["input"] = smaller_input(stock, cfg)
        cfg = load_config(args.name, changes=changes, options=options)
    with record.step("train"):
        register_module_forward_pre_hook(keep_apart)
        gradients = Gradients()
        runner = train(cfg)
        facts["parameters"] = sum(p.numel() for p in runner.model.parameters())
        facts["steps"] = gradients.steps
        facts["without_gradient"] = gradients.missing(runner.model)
        facts["loss"] = float(runner.message_hub.get_scalar("train/loss").current())
        if not math.isfinite(facts["loss"]) or runner.iter != 2 or not gradients.steps:
            raise RuntimeError(f"{runner.iter} iterations, loss {facts['loss']}")
    checkpoint = facts["checkpoint"] = str(open_run(args.folder / "run").checkpoint)
    with record.step("test"):
        rows = test(work_dir=args.folder / "run").rows
        facts["is_scaled"] = alike(rows)
        if facts["is_scaled"]:
            scale_layers(runner, checkpoint)
            rows = test(work_dir=args.folder / "run").rows
        del runner
        facts["scores"] = [list(row["scores"]) for row in rows]
        facts["views"] = views_of(cfg)
    with record.step("infer"):
        scores = Recognizer(checkpoint).scores(rows[0]["video"])
        facts["infer_difference"] = float(np.abs(scores - np.array(rows[0]["scores"])).max())
    if torch.cuda.is_available():
        facts["gpu_mib"] = torch.cuda.max_memory_reserved() / 2**20


class Gradients:
    """Notes which parameters an optimizer of this process has had a gradient for."""

    def __init__(self) -> None:
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        self.steps = 0
        self._seen: set[int] = set()
        register_optimizer_step_pre_hook(self._note)

    def _note(self, optimizer: Any, *_: Any) -> None:
        self.steps += 1
        for group in optimizer.param_groups:
            self._seen.update(id(p) for p in group["params"] if p.grad is not None)

    def missing(self, model: Any) -> list[str]:
        """Returns the names of the trainable parameters that never had one."""
        return [
            name
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and id(parameter) not in self._seen
        ]


def keep_apart(module: Any, *_: Any) -> None:
    """Has BatchNorm take three quarters of its statistics from the two steps.

    By its usual momentum they are nearly those that it starts with: over the layers the signal
    dies away, and the scores of all videos are the same. By the last step's alone, of one video,
    a variance may be 0: rounding is blown up, to no number in the end.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    if isinstance(module, _BatchNorm):
        module.momentum = 0.5


def alike(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Returns whether the scores of two videos are too near each other to compare tests by."""
    some, others = (row["scores"] for row in rows)
    return max(abs(a - b) for a, b in zip(some, others, strict=True)) < LEAST_SPREAD


def scale_layers(runner: Any, checkpoint: str) -> None:
    """Has random weights keep videos apart: scales each layer to outputs of deviation 1.

    As Mishkin and Matas 2016, arXiv 1511.06422, do, on the validation's videos; BatchNorm takes
    its statistics from them. What the checkpoint holds is replaced.
    """
    import torch
    from mmengine.dataset import pseudo_collate
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.modules.conv import _ConvNd

    model, seen = runner.model.eval(), set()

    def take_statistics(module: Any, inputs: Any) -> None:
        axes = [axis for axis in range(inputs[0].ndim) if axis != 1]
        module.running_mean.copy_(inputs[0].mean(axes))
        module.running_var.copy_(inputs[0].var(axes).clamp(min=1e-3))

    def scale(module: Any, inputs: Any, output: Any) -> Any:
        deviation = output.std()
        if id(module) in seen or not 1e-12 < deviation < 1e12:
            return output
        seen.add(id(module))
        for parameter in module.parameters():
            parameter.div_(deviation)
        return output / deviation

    hooks = []
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            hooks.append(module.register_forward_pre_hook(take_statistics))
        elif isinstance(module, _ConvNd | nn.Linear):
            hooks.append(module.register_forward_hook(scale))
    dataset = runner.val_dataloader.dataset
    with torch.no_grad():
        model.test_step(pseudo_collate([dataset[index] for index in range(len(dataset))]))
    for hook in hooks:
        hook.remove()
    saved = torch.load(checkpoint, weights_only=False)
    saved["state_dict"] = model.state_dict()
    torch.save(saved, checkpoint)


def views_of(cfg: Any) -> str:
    from mmact_tiny.pipeline import num_views

    clips, crops = num_views(cfg.test_dataloader.dataset.pipeline)
    return f"{clips} x {crops}"


def stock_rate(cfg: Any) -> dict[str, Any]:
    """Returns the optimizer, learning rate and base batch size of a stock config, if any."""
    optimizer = (cfg.get("optim_wrapper") or {}).get("optimizer") or {}
    base = (cfg.get("auto_scale_lr") or {}).get("base_batch_size")
    return {"optimizer": optimizer.get("type"), "lr": optimizer.get("lr"), "base": base}


def our_rate(cfg: Any) -> dict[str, Any]:
    """Returns what one process with a batch of 8 gets of a resolved config."""
    import copy

    from mmact_tiny.overrides.learning_rate import describe_learning_rate

    cfg = copy.deepcopy(cfg)
    cfg.train_dataloader.batch_size = 8
    optimizer = cfg.optim_wrapper.optimizer.type
    return {"optimizer": optimizer, "rate": describe_learning_rate(cfg)}


def stock(record: Record, stem: str, args: argparse.Namespace) -> None:
    """Tests the checkpoint with stock's Runner, and with the edits that a user has to make."""
    import torch
    from mmengine.fileio import load
    from stock_job import trust_own_checkpoints

    from mmact_tiny.compat import Runner, repair_models
    from mmact_tiny.overrides.recipe import recipe

    repair_models()
    trust_own_checkpoints()
    torch.backends.cudnn.allow_tf32 = False  # the scores are compared in fp32
    cfg = stock_config(stem)
    if cfg.get("test_dataloader") is None:  # only a model: tested as ours is
        recipe(cfg)
    small = {} if args.full_input else smaller_input(stock_config(stem), cfg)[0]
    for key, value in small.items():
        *parents, last = key.removeprefix("+").split(".")
        node = cfg
        for part in parents:
            node = node[int(part) if part.isdigit() else part]
        node[last] = value
    edit(cfg, Path(args.data))
    dump = args.folder / "stock.pkl"
    cfg.test_evaluator = [dict(type="AccMetric"), dict(type="DumpResults", out_file_path=str(dump))]
    cfg.work_dir = str(args.folder / "stock")
    cfg.load_from = args.checkpoint
    with record.step("stock"):
        runner = Runner.from_cfg(cfg)
        if args.shake:
            runner.model.data_preprocessor.register_forward_hook(shake)
        runner.test()
        record.facts["scores"] = [row["pred_score"].tolist() for row in load(dump)]


def shake(module: Any, inputs: Any, output: Any) -> Any:
    """Changes normalized views by one part in 100,000: by as much as scores may differ."""
    import torch

    views = output["inputs"]
    noise = torch.randn(views.shape, generator=torch.Generator().manual_seed(0))
    return {**output, "inputs": views * (1 + 1e-5 * noise.to(views.device))}


def edit(cfg: Any, data: Path) -> None:
    """Points a stock config at a dataset folder of videos, and lets nothing be downloaded."""
    from mmact_tiny.checkpoints.config_text import without_downloads

    loader = cfg.test_dataloader
    for key in {"pipeline", "test_mode"} & set(loader):
        loader.dataset[key] = loader.pop(key)
    for step in loader.dataset.get("pipeline", ()):
        if step["type"] == "DecordDecode":
            step.pop("io_backend", None)
    loader.num_workers, loader.persistent_workers = 0, False
    if loader.dataset.type == "ConcatDataset":
        loader.dataset = loader.dataset.datasets[0]
    if loader.dataset.type == "RawframeDataset":
        loader.dataset = dict(type="VideoDataset", pipeline=loader.dataset.pipeline, test_mode=True)
        steps = [step for step in loader.dataset.pipeline if step["type"] != "RawFrameDecode"]
        place = next(i for i, step in enumerate(steps) if "num_clips" in step) + 1
        decode = dict(type="DecordDecode")
        steps = [dict(type="DecordInit"), *steps[:place], decode, *steps[place:]]
        loader.dataset.pipeline = steps
    loader.dataset.ann_file = str(data / "val.txt")
    loader.dataset.data_prefix = dict(video=str(data / "val"))
    loader.dataset.pop("delimiter", None)
    cfg.model.cls_head.num_classes = NUM_CLASSES
    cfg.model = without_downloads(cfg.model)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("job", choices=("ours", "stock"))
    parser.add_argument("stem")
    parser.add_argument("--name", help="of the config, for our road")
    parser.add_argument("--data", required=True, metavar="DIR")
    parser.add_argument("--folder", required=True, type=Path, metavar="DIR")
    parser.add_argument("--checkpoint", metavar="FILE")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full-input", action="store_true")
    parser.add_argument("--shake", action="store_true", help="stock's input by 1e-5")
    args = parser.parse_args()
    select_device(args.device)
    record = Record(args.folder / f"{args.job}.json")
    try:
        globals()[args.job](record, args.stem, args)
    except Exception as error:  # whatever a config of others raises belongs into the table
        traceback.print_exc()
        from mmact_tiny.errors import UserError

        record.facts["error"] = f"{type(error).__name__}: {error}"
        record.facts["user_error"] = isinstance(error, UserError)
        record.write()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
