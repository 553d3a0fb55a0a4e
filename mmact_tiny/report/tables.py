"""The tables of a report: its data as rows of text, ready for the page."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..hooks.timing import PARTS

# Stock's names of accuracies, in words; of other metrics the name is kept.
METRICS = {"acc/top1": "top-1", "acc/top5": "top-5", "acc/mean1": "mean class accuracy"}


@dataclass(frozen=True)
class Table:
    """Rows of text; the columns in `numbers` hold numbers."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[int] = ()


def tables_of(run: Mapping[str, Any]) -> dict[str, Table]:
    """Returns the tables of a run by name; none for what there is nothing of."""
    tables = {
        "train": _train(run["log"]),
        "val": _val(run["log"]),
        "time": _time(run["timing"]),
        "splits": _splits(run["data"]),
        "classes": _classes(run["data"]),
        "bad_videos": _bad_videos(run["bad_videos"]),
        "weights": _weights(run),
        "environment": _environment(run),
    }
    test = run["test"]
    if test:
        tables |= {
            "accuracies": _accuracies(test),
            "unreadable": _unreadable(test["unreadable"]),
            "pairs": _pairs(test.get("confusion")),
            "bins": _bins(test.get("reliability")),
        }
    return {name: table for name, table in tables.items() if table.rows}


def _train(log: Mapping[str, Any]) -> Table:
    kinds: dict[str, tuple[str, Callable[[Any], str]]] = {
        "x": (log["unit"], number),
        "loss": ("loss", number),
        "top1_acc": ("top-1", percent),
        "lr": ("learning rate", number),
        "grad_norm": ("gradient norm", number),
    }
    if any(row.get("epoch_loss", row.get("loss")) != row.get("loss") for row in log["train"]):
        kinds["epoch_loss"] = ("loss of the epoch so far", number)
    shown = {key: kind for key, kind in kinds.items() if any(key in row for row in log["train"])}
    rows = [[say(row.get(key)) for key, (_, say) in shown.items()] for row in log["train"]]
    heads = [head for head, _ in shown.values()]
    return Table(f"Training, by {log['unit']}", heads, rows, range(len(heads)))


def _val(log: Mapping[str, Any]) -> Table:
    keys = list(dict.fromkeys(key for row in log["val"] for key in row if key != "x"))
    rows = [[number(row["x"]), *(metric(key, row.get(key)) for key in keys)] for row in log["val"]]
    heads = [log["unit"], *(METRICS.get(key, key) for key in keys)]
    return Table(f"Validation, by {log['unit']}", heads, rows, range(len(heads)))


def _time(timing: Mapping[str, Any]) -> Table:
    total = timing["total"] if timing["seconds"] else {}
    rows = [
        [part, say_seconds(total[part]), percent(total[part] / timing["seconds"])]
        for part in PARTS
        if part in total
    ]
    return Table("All epochs together", ("part", "time", "share"), rows, (1, 2))


def _splits(data: Mapping[str, Any]) -> Table:
    rows = [
        [split, *_three(found), found.get("error") or found["file"]]
        for split, found in data["splits"].items()
    ]
    heads = ("split", "videos", "classes", "not on this disk", "list")
    return Table("What the lists of the config hold today", heads, rows, (1, 2, 3))


def _three(found: Mapping[str, Any]) -> list[str]:
    if "error" in found:
        return [number(None)] * 3
    return [str(found["videos"]), str(len(found["counts"])), str(found["missing"])]


def _classes(data: Mapping[str, Any]) -> Table:
    splits = [split for split, found in data["splits"].items() if "counts" in found]
    rows = [
        [str(index), short(row["name"]), *(str(row[split]) for split in splits)]
        for index, row in enumerate(data["by_class"])
    ]
    numbers = (0, *range(2, len(splits) + 2))
    return Table("Videos by class", ("", "class", *splits), rows, numbers)


def _bad_videos(bad_videos: Iterable[Mapping[str, Any]]) -> Table:
    keys = ("video", "split", "reason", "times")
    rows = [[number(row.get(key)) for key in keys] for row in bad_videos]
    return Table("Videos that could not be read in training or validation", keys, rows, (3,))


def _weights(run: Mapping[str, Any]) -> Table:
    weights, checkpoint, test = run["weights"], run["checkpoint"], run["test"] or {}
    rows = [
        ["seed", number(run["seed"])],
        ["started from", weights["from"] or "the weights that the config names"],
    ]
    if weights["sha256"]:
        rows.append(["their SHA-256", weights["sha256"]])
    if checkpoint:
        rows.append(["checkpoint", f"{checkpoint['name']}, {checkpoint['bytes'] / 1e6:.1f} MB"])
        rows.append(["its SHA-256", checkpoint["sha256"]])
    tested = test.get("checkpoint_sha256")
    if tested:
        same = checkpoint is not None and checkpoint["sha256"] == tested
        rows.append(["tested", "this checkpoint" if same else f"another, SHA-256 {tested}"])
    return Table("Seed and weights", ("what", "value"), rows)


def _environment(run: Mapping[str, Any]) -> Table:
    """Returns what training and test noted when they ran, side by side."""
    noted = [("training", start) for start in run["starts"][-1:]] + [("test", run["test"] or {})]
    facts = [(name, fact) for name, fact in noted if "packages" in fact]
    flat = [
        {
            "Python": fact.get("python"),
            "device": fact.get("device"),
            "processes": fact.get("num_processes"),
            **{key.replace("_", " "): value for key, value in (fact.get("machine") or {}).items()},
            **fact["packages"],
        }
        for _, fact in facts
    ]
    keys = dict.fromkeys(key for fact in flat for key in fact)
    rows = [[key, *(number(fact.get(key)) for fact in flat)] for key in keys]
    return Table("Environment, as it was then", ("what", *(name for name, _ in facts)), rows)


def _accuracies(test: Mapping[str, Any]) -> Table:
    rows = [
        [row["name"], percent(row["value"], 2), interval(row), row["counts"]]
        for row in test["accuracies"]
    ]
    heads = ("accuracy", "value", "95% interval", "counts")
    return Table("Accuracies with their 95% intervals (Wilson)", heads, rows, (1, 2))


def _unreadable(unreadable: Sequence[Mapping[str, Any]]) -> Table:
    rows = [[row["video"], row["error"]] for row in unreadable]
    return Table(f"{len(rows)} without scores", ("video", "reason"), rows)


def _pairs(confusion: Mapping[str, Any] | None) -> Table:
    pairs = confusion["pairs"] if confusion else []
    rows = [[short(pair["true"]), short(pair["answer"]), str(pair["videos"])] for pair in pairs]
    return Table("The classes mixed up most", ("true class", "taken for", "videos"), rows, (2,))


def _bins(reliability: Mapping[str, Any] | None) -> Table:
    rows = [
        [
            f"{percent(row['from'], 0)} to {percent(row['to'], 0)}",
            str(row["videos"]),
            percent(row["score"]),
            percent(row["accuracy"]),
            interval(row),
        ]
        for row in (reliability["bins"] if reliability else [])
    ]
    heads = ("score", "videos", "mean score", "right", "95% interval")
    return Table("Videos by the score of their first label", heads, rows, range(len(heads)))


def short(text: str, length: int = 100) -> str:
    """Returns a text that a cell can hold; the JSON has the whole."""
    return text if len(text) <= length else f"{text[:length].rstrip()}..."


def percent(value: float | None, digits: int = 1) -> str:
    """Returns `93.8%`, or a dash for None."""
    return "-" if value is None else f"{value:.{digits}%}"


def metric(name: str, value: Any) -> str:
    """Returns an accuracy as a percentage, and the value of another metric as a number."""
    return percent(value) if name in METRICS else number(value)


def interval(row: Mapping[str, Any]) -> str:
    """Returns `24% to 76%`, or a dash where there is no interval."""
    if row.get("low") is None or row.get("high") is None:
        return "-"
    return f"{row['low']:.0%} to {row['high']:.0%}"


def number(value: Any) -> str:
    """Returns a number with four digits that count, a dash for None, and text as it is."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def say_seconds(seconds: float) -> str:
    """Returns `8.1 s`, `4 min 20 s` or `3 h 05 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left:02d} min" if hours else f"{minutes} min {rest:02d} s"
