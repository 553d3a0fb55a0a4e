"""Compare this project with stock MMAction2 1.2.0, on the same videos and weights.

python benchmarks/against_stock.py --data DIR --out FILE.json
python benchmarks/against_stock.py --data DIR --out FILE.json --rows test_full infer_one --quick

Each side runs in processes of its own, in turn, --repeats times; the figures are medians, and so
are the ratios of neighbouring runs. Stock does what the tutorial's notebook does, with its path
and batch edits and its two loader workers; it gets the import repairs without which it does not
start. DIR is a dataset folder: train.txt, val.txt, label_map.txt.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from measured import ROOT, Measured, environment, measure
from report import Side, as_text, machine, summarize

CONFIG = "mmaction::recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py"


class Bench:
    """The videos, weights and folders that all rows share."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args = args
        self.folder = folder
        self.cache = folder / "cache"
        self.env = {**environment(), "MMACT_TINY_CACHE": str(self.cache)}
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            self.env.pop(name, None)  # both sides take the machine's cores
        if args.device == "cpu":
            self.env["CUDA_VISIBLE_DEVICES"] = ""
        self.data = folder / "data"
        self.num_train, self.num_val = subset(Path(args.data), self.data, args)
        self.videos = [str(path) for path in sorted((self.data / "val").iterdir())]
        made = self.ours("weights")
        self.checkpoint, self.num_classes = made["checkpoint"], made["num_classes"]
        self.precision = args.precision or self.fastest_precision()

    def fastest_precision(self) -> str:
        """Returns int8 for a CPU that has the extra, once it is made from training videos."""
        if self.args.device != "cpu" or find_spec("nncf") is None:
            return "auto"
        self.run(["tools/quantize.py", str(self.data / "train"), "--checkpoint", self.checkpoint])
        return "int8"

    @cache  # noqa: B019  there is one bench
    def onnx_file(self, *flags: str) -> str:
        """Returns what `tools/export.py` makes of the checkpoint, from training videos."""
        out = str(Path(self.checkpoint).with_name(f"weights{''.join(flags)}.onnx"))
        videos = ["--videos", str(self.data / "train"), "--out", out]
        self.run(["tools/export.py", self.checkpoint, "--format", "onnx", *videos, *flags])
        return out

    def run(self, command: list[str]) -> Measured:
        log = self.folder / "last.log"
        return measure([sys.executable, *command], cwd=ROOT, env=self.env, log=log)

    def job(self, script: str, job: str, *flags: str) -> tuple[dict, Measured]:
        out = self.folder / "out.json"
        work_dir = self.folder / "work"
        shutil.rmtree(work_dir, ignore_errors=True)
        work_dir.mkdir()
        where = ["--data", str(self.data), "--work-dir", str(work_dir), "--out", str(out)]
        batch = ["--batch-size", str(self.args.batch_size)]
        took = self.run([f"benchmarks/{script}", job, *where, *batch, *flags])
        return json.loads(out.read_text()), took

    def ours(self, job: str) -> dict:
        result, _ = self.job("our_job.py", job)
        kept = self.folder / "weights.pth"
        shutil.copy(result["checkpoint"], kept)
        return {**result, "checkpoint": str(kept)}

    def stock(self, job: str, *flags: str) -> tuple[dict, Measured]:
        given = ["--num-classes", str(self.num_classes), "--checkpoint", self.checkpoint]
        return self.job("stock_job.py", job, *given, "--device", self.args.device, *flags)

    def tool(self, name: str, *flags: str) -> Measured:
        return self.run([f"tools/{name}.py", *flags, "--device", self.args.device])

    def train_flags(self, epochs: int) -> list[str]:
        work_dir = self.folder / "ours"
        shutil.rmtree(work_dir, ignore_errors=True)
        flags = [CONFIG, "--data", str(self.data), "--work-dir", str(work_dir)]
        flags += ["--epochs", str(epochs), "--batch-size", str(self.args.batch_size)]
        return [*flags, "--pretrained", self.checkpoint, *self.args.our_train_flags.split()]


def subset(source: Path, target: Path, args: argparse.Namespace) -> tuple[int, int]:
    """Links the videos that are used into a dataset folder and returns how many there are."""
    counts = []
    for split, limit in (("train", args.num_train), ("val", args.num_val)):
        (target / split).mkdir(parents=True)
        lines = (source / f"{split}.txt").read_text().splitlines()
        step = max(1, len(lines) // limit)
        lines = lines[::step][:limit]
        for line in lines:
            name = line.split()[0]
            found = next(p for p in (source / split / name, source / name) if p.exists())
            (target / split / name).parent.mkdir(parents=True, exist_ok=True)
            (target / split / name).symlink_to(found.resolve())
        (target / f"{split}.txt").write_text("\n".join(lines) + "\n")
        counts.append(len(lines))
    shutil.copy(source / "label_map.txt", target / "label_map.txt")
    return counts[0], counts[1]


def train_pipeline(bench: Bench) -> tuple[Side, Side]:
    samples = ("--samples", str(bench.args.num_train * 2))
    stock, took = bench.stock("pipeline", *samples)
    cache = ("--cache", str(bench.cache))
    ours, ours_took = bench.job("our_job.py", "pipeline", *samples, *cache)
    figures = [result["samples"] / result["seconds"] for result in (stock, ours)]
    return (figures[0], took, []), (figures[1], ours_took, [])


def train_epoch(bench: Bench) -> tuple[Side, Side]:
    stock, took = bench.stock("train", "--epochs", "2")
    ours_took = bench.tool("train", *bench.train_flags(2))
    records = next((bench.folder / "ours").rglob("timing.jsonl")).read_text().splitlines()
    times = json.loads(records[-1])
    seconds = times["data"] + times["device"]
    figures = bench.num_train / stock["epoch_seconds"][-1], bench.num_train / seconds
    return (figures[0], took, []), (figures[1], ours_took, [])


def train_ceiling(bench: Bench) -> tuple[None, Side]:
    ours, took = bench.job("our_job.py", "ceiling")
    figure = ours["samples"] / ours["seconds"]
    return None, (figure, took, [])


def tiny_job(bench: Bench) -> tuple[Side, Side]:
    _, took = bench.stock("train", "--epochs", str(bench.args.epochs))
    flags = bench.train_flags(bench.args.epochs)
    shutil.rmtree(bench.cache, ignore_errors=True)
    ours_took = bench.tool("train", *flags)
    return (took.seconds, took, []), (ours_took.seconds, ours_took, [])


def test_full(bench: Bench, precision: str | None = None) -> tuple[Side, Side]:
    stock, took = bench.stock("test")
    out = bench.folder / "test.json"
    flags = [CONFIG, bench.checkpoint, "--data", str(bench.data), "--out", str(out)]
    flags += ["--work-dir", str(bench.folder / "ours")]
    flags += ["--precision", precision or bench.precision, "--engine", "auto"]
    ours_took = bench.tool("test", *flags)
    ours = json.loads(out.read_text())
    figures = bench.num_val / stock["seconds"], ours["videos_per_second"]
    scores = [row["scores"] for row in ours["videos"]]
    return (figures[0], took, stock["scores"]), (figures[1], ours_took, scores)


def test_full_fp32(bench: Bench) -> tuple[Side, Side]:
    return test_full(bench, "fp32")


def _infer(bench: Bench, videos: list[str], checkpoint: str = "") -> tuple[Side, Side]:
    precision = "auto" if checkpoint else bench.precision
    stock, took = bench.stock("infer", "--videos", *videos)
    out = bench.folder / "answers.json"
    flags = ["--checkpoint", checkpoint or bench.checkpoint, "--out", str(out)]
    flags += ["--precision", precision]
    ours_took = bench.tool("infer", *videos, *flags, "--top-k", str(bench.num_classes))
    rows = [sorted(r["predictions"], key=lambda p: p["label"]) for r in json.loads(out.read_text())]
    labels = (bench.data / "label_map.txt").read_text().splitlines()
    order = sorted(range(len(labels)), key=labels.__getitem__)
    scores = [[row[order.index(i)]["score"] for i in range(len(labels))] for row in rows]
    return (took.seconds, took, stock["scores"]), (ours_took.seconds, ours_took, scores)


def infer_one(bench: Bench) -> tuple[Side, Side]:
    return _infer(bench, bench.videos[:1])


def infer_one_onnx(bench: Bench) -> tuple[Side, Side]:
    return _infer(bench, bench.videos[:1], bench.onnx_file())


def infer_one_onnx_int8(bench: Bench) -> tuple[Side, Side]:
    return _infer(bench, bench.videos[:1], bench.onnx_file("--int8"))


def infer_many(bench: Bench, checkpoint: str = "") -> tuple[Side, Side]:
    stock, ours = _infer(bench, bench.videos, checkpoint)
    count = len(bench.videos)
    return (count / stock[0], *stock[1:]), (count / ours[0], *ours[1:])


def infer_many_onnx(bench: Bench) -> tuple[Side, Side]:
    return infer_many(bench, bench.onnx_file())


def infer_many_onnx_int8(bench: Bench) -> tuple[Side, Side]:
    return infer_many(bench, bench.onnx_file("--int8"))


ROWS: dict[str, tuple[Callable[[Bench], tuple[Side | None, Side]], str]] = {
    "train_pipeline": (train_pipeline, "samples/s"),
    "train_epoch": (train_epoch, "videos/s"),
    "train_ceiling": (train_ceiling, "videos/s"),
    "tiny_job": (tiny_job, "s"),
    "test_full_fp32": (test_full_fp32, "videos/s"),
    "test_full": (test_full, "videos/s"),
    "infer_one": (infer_one, "s"),
    "infer_many": (infer_many, "videos/s"),
    "infer_one_onnx": (infer_one_onnx, "s"),
    "infer_one_onnx_int8": (infer_one_onnx_int8, "s"),
    "infer_many_onnx": (infer_many_onnx, "videos/s"),
    "infer_many_onnx_int8": (infer_many_onnx_int8, "videos/s"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, metavar="DIR")
    parser.add_argument("--out", required=True, metavar="FILE.json")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=2, help="the notebook's")
    parser.add_argument("--epochs", type=int, default=10, help="of tiny_job")
    parser.add_argument("--num-train", type=int, default=30)
    parser.add_argument("--num-val", type=int, default=10)
    parser.add_argument("--our-train-flags", default="--cache", help="of tools/train.py")
    parser.add_argument(
        "--precision",
        choices=("auto", "bf16", "int8"),
        help="of test_full and infer_*; default: int8 on a CPU with the extra int8, else auto",
    )
    parser.add_argument("--quick", action="store_true", help="4 + 2 videos, 1 epoch, 1 run")
    args = parser.parse_args()
    if args.quick:
        args.num_train, args.num_val, args.epochs, args.repeats = 4, 2, 1, 1
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, Path(folder))
        for name in args.rows:
            run, unit = ROWS[name]
            fresh = summarize(name, unit, [run(bench) for _ in range(args.repeats)])
            rows += fresh
            for row in fresh:
                print(as_text(row), flush=True)
            facts = dict(machine(args.device), precision=bench.precision)
            record = dict(machine=facts, command=sys.argv[1:], rows=rows)
            Path(args.out).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
