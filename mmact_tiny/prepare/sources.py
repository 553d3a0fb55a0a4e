"""Finds the videos and labels in whatever layout a person has."""

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path, PurePosixPath

from ..errors import UserError
from ..video.files import Walk, is_video, is_video_file, refuse_archive
from . import formats
from .formats import UNUSED, WRAPPERS, Entry, Listing, NotUnderstood, speaks_of_list
from .labels import LABEL_MAP_PATTERN, find_label_map, one_line
from .types import (
    Findings,
    Settings,
    Video,
    is_split_alone,
    split_of,
    split_word,
    splits_of_folder,
)

LAYOUTS = """  SRC/<class>/*.mp4                        class folders
  SRC/train/<class>/*.mp4, SRC/val/...     split class folders; or SRC/<class>/train/*.mp4
  SRC/train.txt, SRC/val.txt               lists: a path and a label on each line
  SRC/*.csv or *.tsv, or SRC is the file   a table: path,label[,split]
  the official lists of UCF101, HMDB51, Kinetics and others (docs/prepare_data.md)
  SRC is an export of Label Studio, CVAT, ELAN or VIA, with --videos DIR (docs/labels.md)"""

MAX_LABEL = 1000  # characters; more are a mistake, as a quote or a tag that is not closed
NOT_UNDERSTOOD = "lists that are not understood; docs/prepare_data.md has the formats:"


class VideoIndex:
    """The videos below a folder by name, for what lists say of them; found at the first need."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.num_moved, self.moved = 0, ""  # found by the ends of their paths; an example

    @cached_property
    def videos(self) -> list[str]:
        return [str(path) for path in self.walk.videos()]

    @cached_property
    def _by_stem(self) -> dict[str, list[tuple[str, list[str]]]]:
        """Each video, and the parts of its path below the root, by its name without suffix."""
        found = defaultdict(list)
        for path in self.videos:
            parts = _parts(os.path.relpath(path, self.walk.root))
            found[_stem(parts[-1])].append((path, parts))
        return found

    def has(self, folder: Path, cell: str) -> bool:
        """Returns whether a cell of a list in `folder` names a video."""
        path = os.path.abspath(folder / cell)  # noqa: PTH100
        if not cell or (is_video(cell) and os.path.isfile(path)):  # noqa: PTH113
            return bool(cell)
        return bool(self._find_by_end(_parts(cell.replace("\\", "/")), None))

    def find(self, refs: Iterable[str], folder: Path, split: str | None) -> list[str]:
        """Returns the video that a list in `folder` means; several where it may be either.

        As written, else by the longest common end of the paths, with another suffix, or by an id;
        never in the folder of another split than `split`.
        """
        for ref in refs:
            for form in dict.fromkeys((ref, ref.replace("\\", "/"))):
                path = os.path.abspath(folder / form)  # noqa: PTH100
                if os.path.isfile(path):  # noqa: PTH113
                    return [path]
            parts = _parts(ref.replace("\\", "/"))
            if found := self._find_by_end(parts, split):
                path, common = found[0]
                if common < len(parts) - 1 or (is_video(ref) and not path.endswith(ref[-4:])):
                    self.num_moved += 1
                    self.moved = self.moved or f"{ref} from {path}"
                return [path for path, _ in found]
        return []

    def _find_by_end(self, ref: list[str], split: str | None) -> list[tuple[str, int]]:
        """Returns the paths that fit best, each with how many of the listed folders it has."""
        fitting = []
        for path, parts in self._by_stem.get(_stem(ref[-1]), ()) if ref else ():
            common = 0
            while common < min(len(ref), len(parts)) - 1 and ref[-2 - common] == parts[-2 - common]:
                common += 1
            splits = {found for part in parts[:-1] for found in splits_of_folder(part)}
            is_flat = len(parts) == 1 or splits_of_folder(parts[-2]) or parts[-2] in WRAPPERS
            is_elsewhere = common == 0 and len(ref) > 1 and not is_flat  # in another class's folder
            if not is_elsewhere and not (split and splits and split not in splits):
                fitting.append(((common, parts[-1] == ref[-1], split in splits), path))
        best = max((rank for rank, _ in fitting), default=None)
        return [(path, rank[0]) for rank, path in fitting if rank == best]


def _parts(path: str) -> list[str]:
    """Returns the parts of a path in a form for comparison: systems write letters differently."""
    return [unicodedata.normalize("NFC", p).casefold() for p in PurePosixPath(path).parts]


def _stem(name: str) -> str:
    return os.path.splitext(name)[0] if is_video(name) else name  # noqa: PTH122


def find_source(
    src: str | Path, *, out: str | Path | None = None, settings: Settings | None = None
) -> Findings:
    """Returns the videos below a folder, or in a table or list, with labels and splits.

    Args:
        src: a folder in one of the known layouts, or a list or table of a known format.
        out: a folder to pass over, where the dataset is written.
        settings: its `videos`, `split`, `tier` and `group` count.

    Raises:
        UserError: no known layout, or nothing in it; a list that is not understood.
    """
    if not str(src):
        raise UserError("an empty name of a source: give a folder; `.` is this one")
    settings = settings or Settings()
    src = Path(os.path.abspath(src))  # noqa: PTH100  (resolve() would follow symbolic links)
    skip = Path(os.path.abspath(out)) if out is not None else None  # noqa: PTH100
    refuse_archive(src)
    if not src.exists() or (src.is_file() and is_video(src.name)):
        what = "is a video" if src.exists() else "does not exist"
        raise UserError(f"{src} {what}; give a folder in one of these layouts:\n{LAYOUTS}")
    if skip == src:
        raise UserError(f"--out {out} is the source itself: give another folder")
    videos = os.path.abspath(settings.videos) if settings.videos else None  # noqa: PTH100
    if videos is not None and not os.path.isdir(videos):  # noqa: PTH112
        raise UserError(f"--videos {settings.videos}: expected the folder of the videos")
    findings = Findings(Path(videos or (src if src.is_dir() else src.parent)), skip)
    findings.multi_label = settings.multi_label
    index = VideoIndex(Walk(findings.root, skip))
    listings = _find_listings(findings, src, index, settings)
    if videos is not None and not listings:
        raise UserError(f"--videos {settings.videos}: {src} is no list of them")
    walk, is_export = index.walk, bool(listings) and _is_export(listings[0])
    if settings.tier is not None and not is_export:
        raise UserError(f"--tier {settings.tier}: {src} is no export of a labelling tool")
    if listings:
        _read_listings(findings, listings, index, whole=src.is_dir() and not is_export)
        if not is_export:
            _compare_with_folders(findings)
    else:
        walk = Walk(findings.root, skip)
        _read_folders(findings, walk)
        unread = [f"\n  {one}" for one in findings.problems if one.kind == "list not read"]
        if unread and not findings.listed:
            raise UserError(NOT_UNDERSTOOD + "".join(unread[:20]))
    folders = dict.fromkeys((findings.root, *(listing.file.parent for listing in listings)))
    used = [listing.file for listing in listings]
    used += find_label_map(findings, list(folders), used)
    walk.take_back(file for file in used if file.is_relative_to(findings.root))
    findings.left_out += walk.left_out
    findings.left_out_told = walk.told()
    if not findings.listed and not findings.problems:
        told = f" (left out: {walk.told()})" if walk.left_out else ""
        raise UserError(f"no videos in {src}{told}; known layouts:\n{LAYOUTS}")
    return findings


def _candidates(root: Path, skip: Path | None) -> Iterator[Path]:
    """Yields the files that may be lists: of the source, and of folders beside the videos."""
    todo = [(str(root), 0)]
    for folder, depth in todo:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        has_videos = depth and any(is_video_file(entry.path) for entry in found)
        for entry in found:
            suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
            if entry.name.startswith((".", "__MACOSX")) or entry.path == str(skip):
                continue
            others = (*formats.TO_CONVERT, *formats.OTHERS)
            if (
                suffix in formats.LIST_SUFFIXES
                or (suffix in others and formats.is_list_like(entry.name))
                or (not suffix and speaks_of_list(entry.name))
            ):
                if entry.is_file() and (not has_videos or speaks_of_list(entry.name)):
                    yield Path(entry.path)
            elif depth < 4 and not is_video(entry.name) and entry.is_dir(follow_symlinks=False):
                todo.append((entry.path, depth + 1))


def _find_listings(
    findings: Findings, src: Path, index: VideoIndex, settings: Settings
) -> list[Listing]:
    """Returns the lists that are followed; reports the others.

    Raises:
        UserError: a list is not understood, and nothing else says what it should say.
    """
    given = src.is_file()
    listings: list[Listing] = []
    unread: list[tuple[Path, NotUnderstood]] = []
    for file in [src] if given else _candidates(src, findings.skip):
        try:
            if file.suffix.lower() in (*formats.TO_CONVERT, *formats.OTHERS):
                raise NotUnderstood(1, f"{file.suffix} is not read: save it as CSV")
            find = partial(index.has, file.parent)
            listing = formats.read_listing(file, find, settings, given=given)
            listings += [listing] if listing else []
        except NotUnderstood as error:
            named = given or error.names_videos or speaks_of_list(file.name)
            if named or not LABEL_MAP_PATTERN.fullmatch(file.name):
                unread.append((file, error))
    chosen = _choose(findings, listings, settings.split)
    known = {_split_in(entry, listing) for listing in chosen for entry in listing.entries}
    needed = []
    for file, reason in unread:
        split = split_of(file.stem)
        is_extra = split in known or (reason.unlabelled and split == "test")
        is_extra |= not chosen and file.suffix.lower() in formats.OTHERS
        is_all = given or (settings.videos is not None and not chosen)
        if is_all or (speaks_of_list(file.name) and not is_extra):
            needed.append(f"\n  {file}:{reason.line}: {reason}")
    if needed:
        raise UserError(NOT_UNDERSTOOD + "".join(needed[:20]))
    done = f"{_shown(chosen[0].file, findings)} is" if chosen else "the folders are"
    for file, reason in unread:
        where = f"{_shown(file, findings)}:{reason.line}"
        findings.report("list not read", where, f"{reason}: {done} followed")
    numbers = {listing.number for listing in chosen}
    for listing in listings:
        if listing not in chosen and (listing.number is None or listing.number in numbers):
            findings.report("list not read", _shown(listing.file, findings), f"{done} followed")
    return chosen


def _choose(findings: Findings, listings: list[Listing], number: int | None) -> list[Listing]:
    """Returns the lists to follow: official ones, else those with a split's name, else a table.

    Raises:
        UserError: it cannot be told which of several files is meant.
    """
    if exports := [listing for listing in listings if _is_export(listing)]:
        tiers = {one.tier: file.file.name for file in exports for one in file.entries if one.tier}
        if len(tiers) > 1:
            shown = ", ".join(f"{tier} in {name}" for tier, name in sorted(tiers.items())[:10])
            findings.report("several tiers", "", f"labels are of {shown}: --tier takes one alone")
        return exports
    found = [listing for listing in listings if listing.is_official] or listings
    numbers = sorted({one.number for one in found if one.number is not None})
    if number is not None and number not in numbers:
        there = f"the lists there are of {', '.join(map(str, numbers)) or 'no numbered split'}"
        raise UserError(f"--split {number}: {there}; UCF101 and HMDB51 have several")
    if numbers:
        taken = numbers[0] if number is None else number
        found = [one for one in found if one.number == taken]
        if len(numbers) > 1 and number is None:
            message = f"split {taken} of {numbers} is taken; --split takes another"
            findings.report("several official splits", "", message)
    found = [one for one in found if one.split] or found
    chosen: dict[object, Listing] = {}
    for one in sorted(found, key=_order):
        key = one.file.name if one.format == "HMDB51" else one.split  # a file for each class
        first = chosen.setdefault(key, one)
        is_tie = first is not one and _order(first)[:2] == _order(one)[:2]
        if is_tie or (one.is_official and one.format != next(iter(chosen.values())).format):
            names = ", ".join(sorted(listing.file.name for listing in found))
            raise UserError(
                f"cannot tell which of these in {findings.root} to read: {names}; give one as SRC"
            )
    return list(chosen.values())


def _is_export(listing: Listing) -> bool:
    return any(listing.format == one.name for one in formats.EXPORTS)


def _order(listing: Listing) -> tuple[bool, int, str]:
    """Returns what comes first: .txt files, then those nearer to the source, then by name."""
    file = listing.file
    return file.suffix.lower() != ".txt", len(file.parts), file.name


def _shown(file: Path, findings: Findings) -> str:
    near = os.path.relpath(file, findings.root)
    return str(file) if near.startswith("..") else near


def _split_in(entry: Entry, listing: Listing) -> str | None:
    """Returns an entry's split; None where it has none or another word."""
    return split_word(entry.split) if entry.split else listing.split


def _read_listings(
    findings: Findings, listings: list[Listing], index: VideoIndex, *, whole: bool
) -> None:
    """Takes in what the lists say; reports the videos that none of them lists."""
    first, listed = listings[0], set()
    findings.layout = "lists" if first.split or first.file.suffix == ".txt" else "table"
    if first.is_official or _is_export(first):
        findings.layout = first.format + (f", split {first.number}" if first.number else "")
    for listing in listings:
        name = _shown(listing.file, findings)
        named, num_others = listing.split, 0
        for entry in listing.entries:
            where, split = f"{name}:{entry.line}", _split_in(entry, listing)
            where += f" ({entry.text[:100]})" if _is_export(listing) else ""
            num_others += bool(split and named and split != named and not listing.number)
            if entry.fault:
                findings.report("not understood", where, f"{entry.fault}: left out")
            elif not entry.refs[-1] or not entry.label:
                message = f"{entry.text[:300]} is not a path and a label: left out"
                findings.report("no label", where, message)
            elif len(entry.label) > MAX_LABEL:
                message = f"a label of {len(entry.label)} characters: left out"
                findings.report("no label", where, message)
            elif ";" in entry.label and _is_export(listing) and not findings.multi_label:
                message = f"labels {entry.label!r}: --multi-label takes several: left out"
                findings.report("several labels", where, message)
            elif entry.split and split is None and entry.split != UNUSED:
                message = f"split {entry.split!r} is not train, val or test: left out"
                findings.report("unknown split", where, message)
            elif not (found := index.find(entry.refs, listing.file.parent, split)):
                findings.report("missing file", where, f"{entry.refs[-1]!r}: left out")
            else:
                listed.update(found)
                if len(found) > 1:
                    message = f"{entry.refs[-1]!r} may be {found[0]} or {found[1]}: left out"
                    fatal = _is_export(listing)
                    findings.report("several files", where, message, fatal=fatal)
                elif entry.split == UNUSED:
                    findings.left_out["in neither set of the lists"] += 1
                else:
                    _list_video(findings, found[0], entry.label, split, where)
                    findings.listed[-1].times = entry.times
                    findings.listed[-1].group = entry.group
        if num_others:
            message = f"{num_others} lines have another split than the file's name: followed"
            findings.report("split in the line", name, message)
    if index.num_moved:
        message = f"{index.num_moved} paths are found by their ends, as {index.moved}"
        findings.report("not where the list says", "", message)
    folders = [] if whole else sorted({Path(path).parent for path in listed})
    beside = (str(video) for folder in folders for video in Walk(folder).children(folder)[1])
    videos = index.videos if whole else beside
    _report_unlisted(findings, (Path(v) for v in videos if v not in listed), "in no list")


def _compare_with_folders(findings: Findings) -> None:
    """Reports the videos whose list says another class or split than their folder."""
    folders: dict[str, Counter[str]] = defaultdict(Counter)
    for video in findings.listed:
        folders[video.written][Path(video.path).parent.name] += 1
    parents = set().union(*folders.values())
    usual = {label: counts.most_common(1)[0][0] for label, counts in folders.items()}
    usual |= {label: label for label in folders if label in parents}
    classes = set(usual.values()) if len(set(usual.values())) == len(usual) > 1 else set()
    for video in findings.listed:
        parts = video.name.split("/")[:-1]
        splits = {split for part in parts for split in splits_of_folder(part)}
        parent = Path(video.path).parent.name
        says = f"class {video.written!r}" if parent in classes - {usual[video.written]} else ""
        if video.split and splits and video.split not in splits:
            says = f"split {video.split}"
        if says:
            message = f"{says}, but the folder of {video.path} another: the list is followed"
            findings.report("list against folders", video.where, message)


def _has_videos(folder: Path) -> bool:
    return next(Walk(folder).videos(), None) is not None


def _read_folders(findings: Findings, walk: Walk) -> None:
    """Reads class folders, in those of splits or not.

    Raises:
        UserError: a folder is named like a split, or two, but none has class folders.
    """
    root = _unwrapped(findings, walk, findings.root)
    folders, _ = walk.children(root)
    splits = {f: splits_of_folder(f.name) for f in folders if splits_of_folder(f.name)}
    splits = {folder: names for folder, names in splits.items() if _has_videos(folder)}
    if not splits:
        return _read_class_folders(findings, walk, root, None)
    around = {f: any(map(_has_videos, Walk(f).children(f)[0])) for f in splits}
    if len(splits) < len(folders) and len(set(splits.values())) == 1:  # as K400's training_dog
        for one in [f for f in splits if not (around[f] or is_split_alone(f.name))]:
            message = f"named like a split ({splits.pop(one)[0]}), taken for a class"
            findings.report("class like a split", os.path.relpath(one, findings.root), message)
        if not splits:
            return _read_class_folders(findings, walk, root, None)
    has_classes = any(around[folder] for folder in splits)
    for folder, names in splits.items():
        if len(names) > 1 or not has_classes:
            raise UserError(
                f"{folder} is named like a split ({' and '.join(names)}), never a class, and has "
                "no class folders of one split: make some, give a list of paths and labels, or "
                "rename it"
            )
    findings.layout = "split class folders"
    for folder in folders:
        if folder in splits:
            inner = _unwrapped(findings, walk, folder)
            _read_class_folders(findings, walk, inner, splits[folder][0])
        else:
            _report_unlisted(findings, walk.videos(folder), "not in a split's folder")


def _unwrapped(findings: Findings, walk: Walk, folder: Path) -> Path:
    """Returns the folder that has those of splits or classes, where others lie around it."""
    folders, videos = walk.children(folder)
    full = list(filter(_has_videos, folders)) if len(folders) < 9 else folders
    if len(full) != 1 or videos or splits_of_folder(full[0].name):
        return folder
    inner = [one for one in walk.children(full[0])[0] if _has_videos(one)]
    around, ahead = inner, Walk(findings.root)  # which counts for nothing
    while len(around) == 1 and not splits_of_folder(around[0].name):
        around = [one for one in ahead.children(around[0])[0] if _has_videos(one)]
    splits = [f for f in around if splits_of_folder(f.name)]
    is_around = any(map(_has_videos, (f for one in splits for f in ahead.children(one)[0])))
    below = [[splits_of_folder(f.name) for f in ahead.children(one)[0]] for one in around]
    is_around |= len(around) > 1 and all(map(any, below))  # classes with splits in each
    if not is_around and not (inner and full[0].name.lower() in WRAPPERS):
        return folder
    where = os.path.relpath(full[0], findings.root)
    findings.report("folder around all", where, "the classes are looked for below it")
    return _unwrapped(findings, walk, full[0])


def _read_class_folders(findings: Findings, walk: Walk, parent: Path, split: str | None) -> None:
    folders, loose = walk.children(parent)
    for folder in folders:
        where = os.path.relpath(folder, findings.root)
        paths = list(walk.videos(folder))
        if folder.name == "_unlabeled":  # of FiftyOne's VideoClassificationDirectoryTree
            _report_unlisted(findings, paths, "without a label")
            continue
        if paths and is_split_alone(folder.name):
            raise UserError(f"{folder} is named like a split, but lies where classes do: rename it")
        for path in paths:
            below = path.relative_to(folder).parts[:-1]
            inner: tuple[str, ...] = next(filter(None, map(splits_of_folder, below)), ())
            if inner and split is None:
                findings.layout = "split class folders"
            elif inner and inner != (split,):
                message = f"below a folder of {split} and one of {inner[0]}: {split} is followed"
                findings.report("split within a split", str(path), message)
            own = split or (inner[0] if len(inner) == 1 else None)
            _list_video(findings, str(path), folder.name, own, where)
        if not paths:
            findings.report("empty folder", where, "no video in it: not a class")
    _report_unlisted(findings, loose, "not in a class folder")
    ahead = Walk(findings.root)  # which counts for nothing
    inside = Counter(f.name for folder in folders for f in ahead.children(folder)[0])
    same = [name for name, count in inside.items() if count == len(folders) > 1]
    if same and not any(splits_of_folder(name) or name.lower() in WRAPPERS for name in same):
        message = f"every class has a folder {same[0]!r}, which says nothing; is that the class?"
        findings.report("folders in each class", os.path.relpath(parent, findings.root), message)


def _list_video(findings: Findings, path: str, label: str, split: str | None, where: str) -> None:
    """Adds a video; its label becomes one line."""
    label = one_line(label)
    name = os.path.relpath(path, findings.root)
    if name.startswith(".."):  # named by its folder then
        folder, file = os.path.split(path)
        name = f"outside/{sha256(os.fsencode(folder)).hexdigest()[:8]}/{file}"
    findings.listed.append(Video(path, name, label, split, where))


def _report_unlisted(findings: Findings, paths: Iterable[Path], reason: str) -> None:
    """Adds a problem for each video that is left out because nothing gives it a label."""
    for path in paths:
        findings.report("not listed", str(path), f"{reason}: left out")
