"""Makes a dataset that trains from a folder of videos: reads, checks, divides and writes."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import FULL, held, read_json, write_json
from .checks import check_classes, check_copies, drop_repeats, group_contents
from .convert import convert_videos
from .examine_all import RecordLog, examine_all
from .faults import find_fault, find_warnings
from .labels import assign_labels
from .sources import find_source
from .splits import split_videos
from .summary import show_summary, summarize
from .types import Findings, Listed, Settings, Source, Video
from .write import encode_name, read_videos_table, write_dataset, write_table


def prepare_data(
    src: str | Path, out: str | Path, settings: Settings | None = None
) -> dict[str, Any]:
    """Writes the dataset `out` from the videos of `src`, prints the report, returns the summary.

    Run again, it reads new and changed videos only; interrupted, it goes on where it stopped.

    Raises:
        UserError: nothing usable, labels that cannot be told, or the same video in training and
            validation (`quarantine.csv` and `summary.json` are written also then); a full disk.
    """
    settings = settings or Settings()
    out = Path(out)
    source = find_source(src, out=out)
    with held(out, advice="choose another --out"), _explained(out):
        findings = check_source(source, out, settings)
        if not findings.fatal:
            convert_videos(findings, out, settings)
        summary = summarize(findings, settings)
        rows = (
            {"path": video.path, "reason": verdict.kind, "detail": verdict.detail}
            for video, _, verdict in findings.quarantine
        )
        write_table(out / "quarantine.csv", ("path", "reason", "detail"), rows)
        write_json(out / "summary.json", summary)
        if not findings.fatal:
            _write(findings, out, settings, summary)
    show_summary(findings, summary, out)
    if findings.fatal:
        kinds = ", ".join(dict.fromkeys(problem.kind for problem in findings.fatal))
        hint = "; --keep-leaks goes on with leaks" if "leak" in kinds else ""
        raise UserError(
            f"no dataset written: {kinds}; all of it is in {out / 'summary.json'}{hint}"
        )
    return summary


def check_source(source: Source, out: Path, settings: Settings) -> Findings:
    """Finds everything that there is to say about a source, so that it can be said at once."""
    classes, labels = assign_labels(source)
    findings = Findings(source, classes, problems=source.problems)
    usable = zip(source.videos, labels, strict=True)
    labelled = [(video, label) for video, label in usable if label is not None]
    labelled = drop_repeats(labelled, findings.problems)
    _examine(labelled, findings, out, settings)
    groups = group_contents(findings.videos)
    _divide(findings, groups, out, settings)
    check_copies(findings, groups, keep_leaks=settings.keep_leaks)
    check_classes(findings, settings)
    return findings


def _examine(
    labelled: list[tuple[Listed, int]], findings: Findings, out: Path, settings: Settings
) -> None:
    """Reads every video once, and sorts them into usable ones and the quarantine."""
    paths = list(dict.fromkeys(video.path for video, _ in labelled))
    with closing(RecordLog(out)) as log:
        records, findings.num_read = examine_all(paths, log, settings)
    for listed, label in labelled:
        record = records[listed.path]
        verdict = find_fault(record, min_frames=settings.min_frames)
        if verdict:
            findings.quarantine.append((listed, label, verdict))
            continue
        name = f"videos/{encode_name(listed.name)}"
        findings.videos.append(Video(listed, label, record, listed.split, name))
        for warning in find_warnings(record):
            findings.report(warning.kind, listed.path, warning.detail)


def _divide(findings: Findings, groups: dict[str, str], out: Path, settings: Settings) -> None:
    """Sets the splits that the source leaves open."""
    given = {video.split for video in findings.source.videos}
    if given > {None}:
        for video in findings.videos:
            if video.split is None:
                message = f"no split for {video.listed.path!r}: taken for training"
                findings.report("no split", video.listed.where, message)
                video.split = "train"
    if "val" in given or given == {"test"}:
        return
    todo = [video for video in findings.videos if video.split in (None, "train")]
    splits = split_videos(
        [groups[video.record["hash"]] for video in todo],
        [video.label for video in todo],
        val=settings.val,
        seed=settings.seed,
        kept=_earlier_splits(groups, out, settings),
    )
    for video, split in zip(todo, splits, strict=True):
        video.split = split


def _earlier_splits(groups: dict[str, str], out: Path, settings: Settings) -> dict[str, str]:
    """Returns the splits of an earlier run with the same draw, by content."""
    earlier = read_json(out / "dataset.json") or {}
    if earlier.get("drawn") != {"val": settings.val, "seed": settings.seed}:
        return {}
    return {
        groups[row["content"]]: row["split"]
        for row in read_videos_table(out)
        if row["content"] in groups and row["split"] in ("train", "val")
    }


def _write(findings: Findings, out: Path, settings: Settings, summary: dict[str, Any]) -> None:
    is_drawn = "val" not in {video.split for video in findings.source.videos}
    dataset = {
        "classes": len(findings.classes),
        "videos": summary["videos"],
        "drawn": {"val": settings.val, "seed": settings.seed} if is_drawn else None,
        "checks": {"quarantined": summary["quarantined"], "problems": summary["problem_counts"]},
    }
    write_dataset(out, findings.videos, findings.classes, dataset, copy=settings.copy)


@contextmanager
def _explained(out: Path) -> Iterator[None]:
    """Says in a line that the disk is full; what was found so far is kept for the next run."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(f"no space left for {out}: free some and run again, it goes on") from None
