"""Makes a dataset that trains from a folder of videos: reads, checks, divides and writes."""

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import FULL, held, read_json, write_json
from . import checks
from .convert import convert_videos
from .examine_all import RecordLog, examine_all
from .labels import assign_labels, check_several
from .sources import find_source
from .splits import check_groups, merge_groups, name_groups, split_videos
from .stretches import place_stretches
from .summary import show_summary, summarize
from .types import Findings, Settings
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
    if settings.videos is not None and out.resolve() == Path(settings.videos).resolve():
        raise UserError(f"--out {out} is the folder of the videos: give another folder")
    findings = find_source(src, out=out, settings=settings)
    with held(out, advice="choose another --out"):
        try:
            summary = _fill(findings, out, settings)
        except OSError as error:
            if error.errno not in FULL:
                raise
            message = f"no space left for {out}: free some and run again, it goes on"
            raise UserError(message) from None
    show_summary(findings, summary, out)
    if findings.fatal:
        kinds = ", ".join(dict.fromkeys(problem.kind for problem in findings.fatal))
        hint = "; --keep-leaks goes on with leaks" if "leak" in kinds else ""
        raise UserError(
            f"no dataset written: {kinds}; all of it is in {out / 'summary.json'}{hint}"
        )
    return summary


def _fill(findings: Findings, out: Path, settings: Settings) -> dict[str, Any]:
    """Finds everything that there is to say about a source, and writes it; then the dataset."""
    name_groups(findings, settings.group)
    assign_labels(findings, settings.background)
    _examine(findings, out, settings)
    copies = checks.group_contents(findings.videos)
    place_stretches(findings, settings)
    check_several(findings)
    groups = merge_groups(findings.videos, copies)
    drawn = {"val": settings.val, "seed": settings.seed}
    earlier = read_json(out / "dataset.json") or {}
    _divide(findings, groups, settings, out if earlier.get("drawn") == drawn else None)
    checks.check_copies(findings, copies, keep_leaks=settings.keep_leaks)
    check_groups(findings, keep_leaks=settings.keep_leaks)
    checks.check_classes(findings, settings)
    if not findings.fatal:
        convert_videos(findings, out, settings)
    summary = summarize(findings, settings)
    columns = ("path", "reason", "detail")
    rows = ((video.path, *fault) for video, fault in findings.quarantine)
    write_table(out / "quarantine.csv", columns, rows)
    write_json(out / "summary.json", summary)
    if not findings.fatal:
        checked = {"quarantined": summary["quarantined"], "problems": summary["problem_counts"]}
        about = {"classes": len(findings.classes), "videos": summary["videos"]}
        about |= {"drawn": drawn if findings.is_drawn else None, "checks": checked}
        write_dataset(out, findings, about, copy=settings.copy)
    return summary


def _examine(findings: Findings, out: Path, settings: Settings) -> None:
    """Reads every video once, and sorts them into usable ones and the quarantine."""
    videos = checks.drop_repeats(findings)
    paths = list(dict.fromkeys(video.path for video in videos))
    with closing(RecordLog(out)) as log:
        records, findings.num_read = examine_all(paths, log, settings)
    told: set[str] = set()  # of which a stretch came before
    for video in videos:
        video.record = records[video.path]
        faults = checks.find_faults(video.record, min_frames=settings.min_frames)
        video.fault = next(faults, None)
        if video.fault is None:
            video.place = f"videos/{encode_name(video.name)}"
            if not Path(video.place).suffix:
                video.place += ".video"  # stock's DecordInit adds .mp4 to a name without a suffix
            findings.videos.append(video)
            for kind, detail in () if video.path in told else checks.find_warnings(video.record):
                findings.report(kind, video.path, detail)
            told.add(video.path)


def _divide(
    findings: Findings, groups: dict[str, str], settings: Settings, earlier: Path | None
) -> None:
    """Sets the splits that the source leaves open, as an earlier dataset of the same draw did."""
    given = {video.split for video in findings.listed}
    findings.is_drawn = "val" not in given
    if given > {None}:
        for video in findings.videos:
            if video.split is None:
                message = f"no split for {video.path!r}: taken for training"
                findings.report("no split", video.where, message)
                video.split = "train"
    if not findings.is_drawn or given == {"test"}:
        return
    if given > {None} or "train" in given:
        message = f"the source has no validation videos: {settings.val:g} of each class are drawn"
        findings.report("no validation list", "", f"{message} from those for training")
    kept = {
        groups[row["content"]]: row["split"]
        for row in (read_videos_table(earlier) if earlier else ())
        if row["content"] in groups and row["split"] in ("train", "val")
    }
    todo = [video for video in findings.videos if video.split in (None, "train")]
    contents = [groups[video.record["hash"]] for video in todo]
    counts = Counter(label for video in todo for label in video.labels)
    labels = [min(video.labels, key=lambda label: (counts[label], label)) for video in todo]
    splits = split_videos(contents, labels, val=settings.val, seed=settings.seed, kept=kept)
    for video, split in zip(todo, splits, strict=True):
        video.split = split
