"""Inference over files and folders: the printed answer, and its JSON, CSV and JSON Lines."""

import csv
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .cli import EXIT_ERROR, EXIT_OK, EXIT_PARTIAL
from .errors import UserError
from .recognizer import Recognizer, find_videos

logger = logging.getLogger("mmact_tiny")
OUT_SUFFIXES = (".json", ".csv", ".jsonl")
DEFAULT_TOP_K = 5


def infer(
    paths: Sequence[str | Path],
    *,
    checkpoint: str | Path | None = None,
    config: str | Path | None = None,
    label_map: str | Path | None = None,
    top_k: int | None = None,
    protocol: str = "full",
    precision: str = "auto",
    engine: str = "auto",
    out: str | Path | None = None,
) -> int:
    """Prints the best labels of each video, and writes them to `out`.

    Returns:
        An exit status: 0, 3 where some videos could not be read, 2 where none could.

    Raises:
        UserError: a path, checkpoint, label map, `top_k` or `out` that cannot be used.
    """
    videos = find_videos(paths)
    if out is not None and Path(out).suffix not in OUT_SUFFIXES:
        raise UserError(f"--out {out}: expected a name that ends in {', '.join(OUT_SUFFIXES)}")
    recognizer = Recognizer(
        checkpoint,
        config=config,
        label_map=label_map,
        protocol=protocol,
        precision=precision,
        engine=engine,
    )
    num_classes = len(recognizer.labels)
    if top_k is not None and not 1 <= top_k <= num_classes:
        raise UserError(f"--top-k {top_k}: the checkpoint has {num_classes} classes")
    top_k = top_k or min(DEFAULT_TOP_K, num_classes)
    logger.info("checkpoint: %s", recognizer.checkpoint)
    logger.info("protocol: %s", recognizer.protocol)
    logger.info("engine: %s", recognizer.engine)
    rows = []
    for row in predict_rows(recognizer, videos, top_k):
        _print_row(row, top_k, name_video=len(videos) > 1)
        rows.append(row)
    if out is not None:
        write_rows(Path(out), rows)
        logger.info("written: %s", out)
    failed = sum("error" in row for row in rows)
    if failed:
        logger.error("%d of %d videos could not be read", failed, len(rows))
    return EXIT_OK if not failed else EXIT_ERROR if failed == len(rows) else EXIT_PARTIAL


def predict_rows(
    recognizer: Recognizer, videos: Sequence[Path], top_k: int
) -> Iterator[dict[str, Any]]:
    """Yields `dict(video, predictions=[dict(label, score)])`, or `dict(video, error)`."""
    for video, scores in zip(videos, recognizer.score_videos(videos), strict=True):
        if isinstance(scores, UserError):
            yield dict(video=str(video), error=str(scores))
        else:
            best = recognizer.top_k(scores, top_k)
            predictions = [dict(label=label, score=score) for label, score in best]
            yield dict(video=str(video), predictions=predictions)


def _print_row(row: dict[str, Any], top_k: int, name_video: bool) -> None:
    if name_video:
        print(f"\n{row['video']}")
    if "error" in row:
        print(f"error: {row['error']}")
        return
    print(f"The top-{top_k} labels with corresponding scores are:")
    for prediction in row["predictions"]:
        print(f"{prediction['label']}: {prediction['score']}")


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes answers as a JSON list, JSON Lines, or a CSV row for each label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.writer(file)
            writer.writerow(["video", "rank", "label", "score", "error"])
            for row in rows:
                for rank, best in enumerate(row.get("predictions", []), start=1):
                    writer.writerow([row["video"], rank, best["label"], best["score"], ""])
                if "error" in row:
                    writer.writerow([row["video"], "", "", "", row["error"]])
        elif path.suffix == ".jsonl":
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            json.dump(list(rows), file, indent=1, ensure_ascii=False)
            file.write("\n")
