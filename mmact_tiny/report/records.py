"""What a run left on disk, as plain values: its log joined over resumes, its time, its config."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..checkpoints.config_text import config_from_text
from ..errors import UserError
from ..files import read_json, read_json_lines, sha256
from ..hooks.timing import PARTS, describe
from ..overrides.tracking import EPOCH_MEANS
from ..runs import FACTS, RESULTS, WORK_DIRS, best_checkpoint

SCALARS = Path("vis_data", "scalars.json")
WINDOW = 20  # iterations that stock's loss is the mean of, also where they are of other epochs
TIMES = ("time", "data_time")  # of MMEngine's logs; the timing has where time went


def read_run(folder: str | Path) -> dict[str, Any]:
    """Returns what is known of a run.

    Keys: `folder`, `name`, `config` (None without one), `starts` (one for each process that
    trained, in order), `log` (see `read_log`), `timing` (rows by epoch, `total`, `verdict`),
    `checkpoint` (name, bytes, SHA-256, or None), `bad_videos`, `results` (of the last test, or
    None), `test_config`, and `notes`: what could not be read.

    Raises:
        UserError: no such folder, or nothing of a run is in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"no run in {folder}: no such folder\n  expected {WORK_DIRS}/NAME")
    notes: list[str] = []
    logs = log_folders(folder)
    config = _newest_config(folder, notes) or _read_config(_config_of(logs[-1:]), notes)
    test_config = _newest_config(folder / RESULTS.parent, notes)
    results = _read(folder / RESULTS, notes)
    if results is not None and not _is_result(results):
        notes.append(f"cannot read {folder / RESULTS}: not what test.py writes")
        results = None
    if config is None and test_config is None and results is None and not logs:
        raise UserError(
            f"no run in {folder}: no config, no log and no test\n"
            f"  expected a work directory of tools/train.py, as {WORK_DIRS}/NAME"
        )
    starts = [_start(log) for log in logs]
    fresh = max((n for n, start in enumerate(starts) if not start["resumed"]), default=0)
    return {
        "folder": str(folder),
        "name": folder.resolve().name,
        "config": config or test_config,
        "starts": starts[fresh:],
        "log": read_log([read_json_lines(log / SCALARS) for log in logs[fresh:]]),
        "timing": read_timing([read_json_lines(log / "timing.jsonl") for log in logs[fresh:]]),
        "checkpoint": _checkpoint(folder),
        "bad_videos": [
            row
            for path in sorted(folder.glob("bad_videos*.json"))
            for row in _read(path, notes) or []
            if isinstance(row, dict)
        ],
        "results": results,
        "test_config": test_config,
        "notes": notes,
    }


def log_folders(folder: Path) -> list[Path]:
    """Returns MMEngine's folders of a run's training processes, in the order of their start."""
    return sorted(path.parent for path in folder.glob("*/vis_data"))


def newest_folder(work_dirs: str | Path = WORK_DIRS) -> Path:
    """Returns the run that wrote a config or a checkpoint last, also one without a checkpoint.

    Raises:
        UserError: there is none.
    """
    ages: dict[Path, float] = {}
    for pattern in ("*/*.py", "*/*.pth", f"*/{RESULTS}"):
        for path in Path(work_dirs).glob(pattern):
            folder = path.parents[1] if path.name == RESULTS.name else path.parent
            ages[folder] = max(ages.get(folder, 0.0), path.stat().st_mtime)
    if not ages:
        raise UserError(f"no run in {work_dirs}/\n  train: python tools/train.py CONFIG")
    return max(ages, key=ages.__getitem__)


def read_log(logs: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """Joins the scalars of a run and of what resumed it.

    A later process takes the place of the earlier ones from its first iteration on: what they
    logged beyond it was lost with them, and done again.

    Args:
        logs: The lines of each `scalars.json`, in the order of the processes.

    Returns:
        `train` and `val`: rows with `x`, epochs done (iterations, if the run counts no epochs),
        and the logged values; `unit`: epoch or iteration.
    """
    train: list[dict[str, Any]] = []
    val: list[dict[str, Any]] = []
    for lines in logs:
        steps = [line for line in lines if "iter" in line and "loss" in line]
        tests = [line for line in lines if "iter" not in line and isinstance(line.get("step"), int)]
        if steps:
            first = steps[0]
            train = [line for line in train if line["iter"] < first["iter"]]
            val = [line for line in val if line["step"] < first.get("epoch", first["iter"])]
        if tests:
            val = [line for line in val if line["step"] < tests[0]["step"]]
        train += steps
        val += tests
    by_epoch = bool(train) and all("epoch" in line for line in train)
    per_epoch = max((line["iter"] / line["epoch"] for line in train), default=1) if by_epoch else 1
    unit = "epoch" if by_epoch or not train else "iteration"
    train = [_with_epoch_means(line, per_epoch) for line in train]
    return {
        "train": [{"x": line["iter"] / per_epoch, **_values(line)} for line in train],
        "val": [{"x": line["step"], **_values(line)} for line in val],
        "unit": unit,
    }


def _with_epoch_means(line: dict[str, Any], per_epoch: float) -> dict[str, Any]:
    """Returns a line with the means of its epoch so far, as a terminal shows them, where logged.

    The loss of an epoch that is further on than MMEngine's window stays MMEngine's.
    """
    means = {key: line[name] for key, name in EPOCH_MEANS.items() if name in line}
    if line["iter"] - (line.get("epoch", 1) - 1) * per_epoch > WINDOW:
        means.pop("loss", None)
    return {**line, **means}


def _values(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in (*TIMES, "step")}


def read_timing(logs: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """Adds up the seconds of each epoch: one that a kill cut off was paid for twice.

    Returns:
        `epochs`: rows of the epoch and the seconds of its `PARTS`; `total`; `verdict` in words.
    """
    epochs: dict[int, dict[str, float]] = {}
    hint: Any = None
    for row in (row for log in logs for row in log):
        hint = row.get("hint") or hint
        if isinstance(row.get("epoch"), int) and all(_is_number(row.get(p)) for p in PARTS):
            seconds = epochs.setdefault(row["epoch"], dict.fromkeys(PARTS, 0.0))
            for part in PARTS:
                seconds[part] += row[part]
    total = {part: sum(seconds[part] for seconds in epochs.values()) for part in PARTS}
    return {
        "epochs": [{"epoch": epoch, **seconds} for epoch, seconds in sorted(epochs.items())],
        "total": total,
        "seconds": sum(total.values()),
        "verdict": describe(total, hint) if any(total.values()) else None,
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _start(log: Path) -> dict[str, Any]:
    """Returns what a training process noted of itself, and whether it resumed another."""
    notes: list[str] = []
    facts = _read(log / FACTS, notes)
    config = _read_config(_config_of([log]), notes)
    facts = facts if isinstance(facts, dict) else {}
    return {"log": log.name, "resumed": bool((config or {}).get("resume")), **facts}


def _config_of(logs: Sequence[Path]) -> Path | None:
    return logs[-1] / "vis_data" / "config.py" if logs else None


def _newest_config(folder: Path, notes: list[str]) -> dict[str, Any] | None:
    configs = sorted(folder.glob("*.py"), key=lambda path: path.stat().st_mtime)
    return _read_config(configs[-1] if configs else None, notes)


def _read_config(path: Path | None, notes: list[str]) -> dict[str, Any] | None:
    """Returns a dumped config as data: a folder from elsewhere runs no code here."""
    if path is None or not path.is_file():
        return None
    try:
        return config_from_text(path.read_text(encoding="utf-8"), source=str(path))
    except (UserError, OSError, UnicodeDecodeError) as error:
        notes.append(f"cannot read {path}: {error}")
        return None


def _read(path: Path, notes: list[str]) -> Any:
    try:
        return read_json(path)
    except UserError as error:
        notes.append(str(error))
        return None


def _is_result(results: Any) -> bool:
    """Returns whether what was read has the form that `evaluation.write_result` gives."""
    return (
        isinstance(results, dict)
        and isinstance(results.get("videos"), list)
        and all(isinstance(row, dict) and "video" in row for row in results["videos"])
        and isinstance(results.get("accuracies"), list)
    )


def _checkpoint(folder: Path) -> dict[str, Any] | None:
    path = best_checkpoint(folder)
    if path is None:
        return None
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
