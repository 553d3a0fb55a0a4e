"""Accuracy by the number of training videos: a probe, and fine-tuning in the same time.

python benchmarks/few_videos.py ../shared/data/exercise_or_typing --png docs/few_videos.png

Draws so many training videos of each class at random, and tests on the dataset's validation videos.
Writes a table to standard output: the mean over the draws, with a 95% bootstrap interval of it.
Fine-tuning is `tools/train.py configs/tsn_mobilenetv2.py`, from the weights that the probe has and
from random ones, for as many epochs as fit into `--seconds`, start-up left out.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from mmact_tiny import dataset as datasets
from mmact_tiny.config import load_config
from mmact_tiny.features import run
from mmact_tiny.features.extract import Extractor
from mmact_tiny.features.probe import choose, fit

ROOT = Path(__file__).resolve().parent.parent
CONFIG, WEIGHTS = "configs/tsn_mobilenetv2.py", "checkpoints/mobilenetv2_imagenet.pth"
LOOKS = 2


def draw(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Returns the indices of `count` videos of each class."""
    generator = np.random.default_rng(seed)
    places = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.concatenate([generator.choice(place, count, replace=False) for place in places])


def interval(values: list[float]) -> tuple[float, float]:
    """Returns a 95% bootstrap interval of a mean."""
    drawn = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def probe_accuracy(data: Path) -> tuple[Callable[[np.ndarray], float], np.ndarray]:
    """Returns what tells the accuracy of a probe of some training videos, and all their labels."""
    changes = dict(dataset_paths=dict(data_root=str(data)), pretrained=dict(weights=WEIGHTS))
    cfg = load_config(CONFIG, changes=changes)
    run.prepare(cfg)
    extractor = Extractor(cfg, Path(WEIGHTS))
    train, val = (run.listed_videos(cfg, split) for split in ("train", "val"))
    errors = extractor.compute(dict.fromkeys(val, 1) | dict.fromkeys(train, LOOKS))
    _, labels, features = run.load_features(extractor, train, LOOKS, errors)
    _, true, of_val = run.load_features(extractor, val, 1, errors)

    def accuracy(some: np.ndarray) -> float:
        choice, _ = choose(features[some], labels[some], some.tolist())
        scores = fit(features[some], labels[some], choice, labels.max() + 1).scores(of_val[:, 0])
        return float((scores.argmax(axis=1) == true).mean())

    return accuracy, labels


def tuned_accuracy(data: Path, some: np.ndarray, weights: str, epochs: int) -> tuple[float, float]:
    """Returns the accuracy of fine-tuning on some training videos, and its seconds an epoch."""
    lines = datasets.find_dataset(data).splits["train"].ann_file.read_text().splitlines()
    with tempfile.TemporaryDirectory() as folder:
        for item in data.iterdir():
            if item.name != "train.txt":
                Path(folder, item.name).symlink_to(item.resolve())
        Path(folder, "train.txt").write_text("\n".join(lines[index] for index in some) + "\n")
        words = [
            sys.executable,
            "tools/train.py",
            CONFIG,
            "--data",
            folder,
            "--epochs",
            str(epochs),
        ]
        words += ["--pretrained", weights, "--work-dir", f"{folder}/run", "--cfg-options"]
        words += [f"train_cfg.val_begin={epochs}", "default_hooks.checkpoint.interval=1000"]
        started = time.perf_counter()
        subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
        seconds = (time.perf_counter() - started) / epochs
        log = next(Path(folder, "run").glob("*/vis_data/scalars.json")).read_text().splitlines()
        tops = [json.loads(line)["acc/top1"] for line in log if "acc/top1" in line]
    return tops[-1], seconds


def curves(options: argparse.Namespace) -> Iterator[tuple[str, int, list[float]]]:
    """Yields the accuracies of each method and number of videos a class."""
    accuracy, labels = probe_accuracy(options.data)
    for count in options.counts:
        yield "probe", count, [accuracy(draw(labels, count, n)) for n in range(options.draws)]
    for name, weights in (("fine-tuning", WEIGHTS), ("random weights", "none")):
        for count in options.counts if options.tuned else ():
            some = [draw(labels, count, n) for n in range(options.tuned)]
            _, once = tuned_accuracy(options.data, some[0], weights, 1)
            _, thrice = tuned_accuracy(options.data, some[0], weights, 3)
            epoch = max(0.1, (3 * thrice - once) / 2)  # start-up and validation are in both
            epochs = max(1, round(options.seconds / epoch))
            results = [tuned_accuracy(options.data, each, weights, epochs)[0] for each in some]
            yield f"{name}, {options.seconds:g} s", count, results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 5, 10, 15])
    parser.add_argument("--draws", type=int, default=30, help="of the probe")
    parser.add_argument("--tuned", type=int, default=3, help="draws of fine-tuning; 0: none")
    parser.add_argument("--seconds", type=float, default=20, help="of fine-tuning")
    parser.add_argument("--png", type=Path)
    options = parser.parse_args()
    rows = []
    print("| method | videos a class | draws | mean accuracy | 95% interval |")
    print("| --- | --- | --- | --- | --- |")
    for name, count, values in curves(options):
        mean, (low, high) = float(np.mean(values)), interval(values)
        rows.append((name, count, mean, low, high))
        cells = f"{name} | {count} | {len(values)} | {mean:.1%} | {low:.1%} to {high:.1%}"
        print(f"| {cells} |", flush=True)
    if options.png:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
        for name in dict.fromkeys(row[0] for row in rows):
            counts, means, lows, highs = zip(*[r[1:] for r in rows if r[0] == name], strict=True)
            axes.plot(counts, means, marker="o", label=name)
            axes.fill_between(counts, lows, highs, alpha=0.2)
        axes.set(xlabel="training videos a class", ylabel="validation accuracy", ylim=(0, 1.02))
        axes.legend(loc="lower right")
        figure.savefig(options.png, dpi=100)


if __name__ == "__main__":
    main()
