"""Downloads what has a name, the tutorial's dataset or weights of MMAction2's zoo, or any file.

Names, addresses and figures of the weights come from the metafiles of the installed MMAction2.
"""

import http.client
import importlib.util
import math
import os
import re
import shutil
import stat
import sys
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate, mktime_tz, parsedate_tz
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from .dataset import read_annotations
from .errors import UserError, suggest
from .files import check_free_space, locked, sha256, sync_folder, writing_to
from .progress import Bar

HOST = "https://download.openmmlab.com"
MIRROR_VARIABLE = "MMACT_TINY_MIRROR"  # takes the place of HOST, the paths stay

# MMAction2's tutorial and its "20-Minute Guide" name it; no metafile does.
KINETICS400_TINY_URL = f"{HOST}/mmaction/kinetics400_tiny.zip"
KINETICS400_TINY_ANN_FILES = {
    "train": "kinetics_tiny_train_video.txt",
    "val": "kinetics_tiny_val_video.txt",
}
# Models for which the metafile of mmaction2 1.2.0 repeats another's address, with the ends of their
# own, from the README.md beside that metafile in the MMAction2 repository.
CORRECTED_ENDS = {
    "tsn_imagenet-pretrained-swin-transformer_32xb8-1x1x8-50e_kinetics400-rgb": "20230530-428f0064",
    "vit-small-p16_videomaev2-vit-g-dist-k710-pre_16x4x1_kinetics-400": "20230510-25c748fd",
}
# By the end of a model's name, where metafiles of mmaction2 1.2.0 say another dataset, or none.
DATASETS = {"sthv2": "SthV2", "kinetics700": "Kinetics-700", "kinetics710": "Kinetics-710"}
TSN_NAME = re.compile(
    r"tsn_imagenet-pretrained-(.+)_\d+xb\d+-((?:dense-)?\d+x\d+x\d+)-\d+e_(kinetics400|sthv2)-rgb"
)
TUTORIAL_WEIGHTS = {"tsn_r50_1x1x3_k400": "tsn_r50_k400"}

MAX_UNPACKED_BYTES = 16 << 30  # more than this is not one of ours, whatever it claims
TIMEOUT_SECONDS = 30.0  # of silence on the connection
BACKOFF_SECONDS = (1.0, 2.0, 4.0, 8.0)  # waits before a next try, while tries bring nothing new
CHUNK_BYTES = 1 << 18
RETRIED_STATUSES = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Published:
    """Something with a name to download it by.

    `path` is where it goes, a file or, for the dataset, the unpacked folder, from the working
    directory. Weights have a `model`, MMAction2's own name. The figures are as published, the
    accuracies in percent.
    """

    name: str
    url: str
    path: Path
    model: str = ""
    config: str = ""
    dataset: str = ""
    top1: float | None = None
    top5: float | None = None
    parameters: str = ""
    flops: str = ""
    resolution: str = ""


def list_published() -> list[Published]:
    """Returns all that can be downloaded by name: a dataset, TSN, other recognizers, the rest.

    Raises:
        UserError: the installed MMAction2 has no metafiles to read the addresses from.
    """
    import yaml

    spec = importlib.util.find_spec("mmaction")  # finds it without importing it
    if spec is None or spec.origin is None:
        raise UserError("mmaction2 is not installed: pip install -e . installs it")
    root = Path(spec.origin).parent / ".mim/configs"
    order = ("tsn", "recognition")  # the tutorial's, then other recognizers of videos
    metafiles = sorted(
        root.glob("*/*/metafile.yml"),
        key=lambda path: (*(name not in path.parts for name in order), path),
    )
    if not metafiles:
        raise UserError(f"no metafile.yml in {root}/*/*: reinstall mmaction2 from its wheel")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's: 0.02 s instead of 0.8 s
    # Of a name that is there twice the later entry counts: TSM's first has another model's figures.
    models = {
        model["Name"].removesuffix(".py"): model
        for metafile in metafiles
        for model in yaml.load(metafile.read_text(), Loader=loader)["Models"]
        if isinstance(model["Weights"], str)
    }
    for name, end in CORRECTED_ENDS.items():
        family = models[name]["Weights"].rsplit("/", 2)[0]
        models[name]["Weights"] = f"{family}/{name}/{name}_{end}.pth"
    configs = {path.stem: path.relative_to(root).as_posix() for path in root.rglob("*.py")}
    weights = [_read_model(name, model, configs) for name, model in models.items()]
    # An address that belongs to another model is worse than none.
    owners = {item.url: item for item in weights if item.path.name.startswith(item.model)}
    dataset = Published("kinetics400_tiny", KINETICS400_TINY_URL, Path("data/kinetics400_tiny"))
    return [dataset, *(item for item in weights if owners.get(item.url, item) is item)]


def _read_model(name: str, model: dict[str, Any], configs: dict[str, str]) -> Published:
    """Returns a metafile's entry; its config is the one named like the model or like its file."""
    file_name = PurePosixPath(model["Weights"]).name
    stems = (name, PurePosixPath(model["Config"]).stem, file_name.rpartition("_")[0])
    short = name
    if match := TSN_NAME.fullmatch(name):
        short = f"tsn_{match[1]}_{match[2]}_{match[3].replace('kinetics', 'k')}"
    results, facts = model.get("Results") or {}, model["Metadata"]
    result = results[0] if isinstance(results, list) else results
    metrics = result.get("Metrics", {})
    dataset = next((d for end, d in DATASETS.items() if name.endswith(f"_{end}-rgb")), None)
    return Published(
        name=TUTORIAL_WEIGHTS.get(short, short),
        url=model["Weights"],
        path=Path("checkpoints") / file_name,
        model=name,
        config=next((f"mmaction::{configs[stem]}" for stem in stems if stem in configs), ""),
        dataset=dataset or result["Dataset"],
        top1=metrics.get("Top 1 Accuracy"),
        top5=metrics.get("Top 5 Accuracy"),
        parameters=_shorten(facts.get("Parameters", facts.get("params", "")), 1e6, "M"),
        flops=_shorten(facts.get("FLOPs", ""), 1e9, "G"),
        resolution=str(facts.get("Resolution", "")),
    )


def _shorten(published: str | int, unit: float, letter: str) -> str:
    """Returns `24.3M` for 24_321_000 too: some metafiles say one, some the other."""
    return f"{published / unit:.1f}{letter}" if isinstance(published, int) else published


def find_published(name: str) -> Published:
    """Returns what has this name; MMAction2's own model names are taken too.

    Raises:
        UserError: nothing has; the nearest name is suggested.
    """
    named = {key: item for item in list_published() for key in (item.model, item.name)}
    if name in named:
        return named[name]
    hint = suggest(name, [*named])
    raise UserError(f"nothing to download is named {name!r}{hint}; --list shows all")


def table(word: str = "") -> str:
    """Returns a line for each thing that can be downloaded and has the word in it or its config.

    Raises:
        UserError: nothing has the word.
    """
    rows = [("NAME", "DATASET", "TOP-1", "TOP-5", "PARAMS", "FLOPS", "INPUT", "")]
    for item in list_published():
        top1, top5 = (f"{value:.2f}" if value else "" for value in (item.top1, item.top5))
        row = (item.name, item.dataset, top1, top5, item.parameters, item.flops, item.resolution)
        if word.lower() in f"{row} {item.model} {item.config}".lower():
            rows.append((*row, "here" if is_there(item) else "-"))
    if len(rows) == 1:
        raise UserError(f"nothing to download has {word!r} in its name, dataset or config")
    width = max(len(row[0]) for row in rows)
    layout = f"{{:{width}}}  {{:17}}  {{:>5}}  {{:>5}}  {{:>6}}  {{:>6}}  {{:14}}  {{}}"
    return "\n".join(layout.format(*row).rstrip() for row in rows)


def is_there(item: Published) -> bool:
    """Returns whether it was fetched before and is whole."""
    if item.model:
        return item.path.is_file() and has_hash(item.path, published_hash(item.url))
    return item.path.is_dir() and not missing_videos(item.path)


def fetch(item: Published, *, force: bool = False) -> Path:
    """Downloads it to its place, unpacked if it is an archive; does nothing if it is there.

    Returns:
        `item.path`.

    Raises:
        UserError: as `download` and `unpack` do; a dataset folder that is there in part.
    """
    url = mirrored(item.url)
    if item.model:
        return download(url, item.path, sha256_prefix=published_hash(item.url), force=force)
    item.path.parent.mkdir(parents=True, exist_ok=True)
    with locked(item.path):
        if item.path.exists() and not force:
            check_videos(item.path)
            return item.path
        archive = item.path.with_name(PurePosixPath(item.url).name)
        put_by_hand = archive.exists()
        download(url, archive, force=force)
        unpack(archive, item.path, check=check_videos)
        if not put_by_hand:
            archive.unlink()
    return item.path


def mirrored(url: str) -> str:
    """Returns the address on the mirror that MMACT_TINY_MIRROR names, if it names one."""
    mirror = os.environ.get(MIRROR_VARIABLE, "").rstrip("/")
    return mirror + url.removeprefix(HOST) if mirror and url.startswith(HOST) else url


def missing_videos(folder: Path) -> list[str]:
    """Returns what kinetics400_tiny lacks: an annotation file, or videos listed in one."""
    missing = []
    for split, name in KINETICS400_TINY_ANN_FILES.items():
        if not (folder / name).is_file():
            missing.append(name)
            continue
        videos = [f"{split}/{row.path}" for row in read_annotations(folder / name)]
        missing += [video for video in videos if not (folder / video).is_file()]
    return missing


def check_videos(folder: Path) -> None:
    """Raises a UserError if the folder is not a whole kinetics400_tiny."""
    if missing := missing_videos(folder):
        raise UserError(
            f"{folder} is not a whole kinetics400_tiny: {len(missing)} missing, first "
            f"{missing[0]}; fetch it again with --force"
        )


def unpack(archive: Path, folder: Path, *, check: Callable[[Path], None]) -> None:
    """Unpacks a zip file to `folder`, which appears, or is replaced, only when whole.

    A single folder at the archive's top becomes `folder` itself; macOS's `__MACOSX` is left out.
    zipfile writes no more of a member than the size it states, and no links or permissions.

    Args:
        archive: the zip file.
        folder: where its content goes.
        check: called with the unpacked folder before it gets its name; may raise.

    Raises:
        UserError: not a whole archive, a member that would leave the folder, a link or device, too
            large for us or the disk.
    """
    new = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(new, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as file:
            members = [m for m in file.infolist() if not m.filename.startswith("__MACOSX/")]
            num_bytes = sum(member.file_size for member in members)
            refused = [fault for member in members if (fault := _find_fault(member))]
            if num_bytes > MAX_UNPACKED_BYTES:
                refused.append(f"it unpacks to {num_bytes / 1e6:,.0f} MB")
            if refused:
                raise UserError(f"{archive} refused: {refused[0]}")
            check_free_space(folder, num_bytes)
            with writing_to(folder):
                file.extractall(new, members)
                os.sync()
        inner = list(new.iterdir()) if new.exists() else []
        content = inner[0] if len(inner) == 1 and inner[0].is_dir() else new
        check(content)
        with writing_to(folder):
            if folder.exists():
                shutil.rmtree(folder)
            content.rename(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"{archive} is not a whole archive ({error}): fetch it again, with --force or by hand"
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _find_fault(member: zipfile.ZipInfo) -> str | None:
    name = member.orig_filename
    if not name.isprintable() or name.startswith("/") or ".." in name.split("/"):
        return f"member {name!r} would leave the folder"
    mode = stat.S_IFMT(member.external_attr >> 16)  # of Unix; 0 where another system packed it
    return None if mode in (0, stat.S_IFREG, stat.S_IFDIR) else f"{name!r} is a link or a device"


def download(
    url: str, path: str | Path, *, sha256_prefix: str | None = None, force: bool = False
) -> Path:
    """Fetches `url` to `path`; a file that is there and whole is left alone.

    Bytes go to `path` + `.part`, which a later call continues if the server can prove that the
    file is still the same (`If-Range`) or the hash will. It is renamed to `path` after the length
    and the hash were checked. Calls for the same path, from any process, wait for each other.

    Args:
        url: an http or https address.
        path: the file to write; its folder is made.
        sha256_prefix: first hex digits of the file's SHA-256, as `published_hash` reads them.
        force: fetch it again even if it is there.

    Returns:
        `path`.

    Raises:
        UserError: unreachable, refused by the server, wrong hash, no space, not writable.
    """
    path = Path(path)
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"cannot download {url!r}: expected an http:// or https:// address")
    if path.is_dir():
        raise UserError(f"cannot download to {path}: it is a folder, expected a file's path")
    part = path.with_name(f"{path.name}.part")
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        if path.exists() and not force:
            if has_hash(path, sha256_prefix):
                return path
            damage = f"is damaged (its SHA-256 is not {sha256_prefix}...): fetching it again"
            print(f"{path} {damage}", file=sys.stderr, flush=True)
        if force:
            part.unlink(missing_ok=True)
        _fetch(url, part, path, provable=sha256_prefix is not None)
        if not has_hash(part, sha256_prefix):
            part.unlink()
            raise UserError(
                f"{url} arrived damaged: its SHA-256 does not start with {sha256_prefix}, as the "
                f"publisher's file name says. The download was deleted; run this again"
            )
        with writing_to(path), part.open("rb+") as file:
            os.fsync(file.fileno())
            part.replace(path)
            sync_folder(path.parent)
    return path


def published_hash(url: str) -> str | None:
    """Returns the hash in a published file name: OpenMMLab's `..._20220906-cd10898e.pth` carries
    the first 8 hex digits of the file's SHA-256 (also torch.hub's convention); None without one.
    """
    match = re.search(r"-([0-9a-f]{8,64})\.\w+$", urlsplit(url).path)
    return match[1] if match else None


def has_hash(path: Path, sha256_prefix: str | None) -> bool:
    """Returns whether the file's SHA-256 starts with the prefix; no prefix fits every file."""
    return not sha256_prefix or (sha256(path) or "").startswith(sha256_prefix.lower())


def _fetch(url: str, part: Path, final: Path, *, provable: bool) -> None:
    """Asks until all is in `part`; gives up when `BACKOFF_SECONDS` brought nothing new."""
    first = furthest = _num_bytes(part)
    tries = 0
    while True:
        hopeless = False
        try:
            return _ask(url, part, provable=provable)
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            hopeless = error.code not in RETRIED_STATUSES
        except urllib.error.URLError as error:  # no connection at all
            reason = str(error.reason)
            hopeless = tries == 0 and _num_bytes(part) == first
        except (http.client.HTTPException, OSError) as error:
            reason = str(error) or type(error).__name__
        if _num_bytes(part) > furthest:
            furthest, tries = _num_bytes(part), 0
        if hopeless or tries == len(BACKOFF_SECONDS):
            raise UserError(
                f"cannot download from {urlsplit(url).netloc} ({reason}): fetch {url} by hand, "
                f"put it at {final} and run this again"
            )
        time.sleep(BACKOFF_SECONDS[tries])
        tries += 1


def _num_bytes(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _ask(url: str, part: Path, *, provable: bool) -> None:
    """Makes one request and appends what comes; returns when the file is complete.

    The time of `part` is the server's Last-Modified, by which the server knows the file again
    (If-Range, RFC 9110, section 13.1.5). With a hash (`provable`) that is not asked for.

    Raises:
        OSError: it is not complete, and another request may help.
    """
    start = _num_bytes(part)
    headers = {"User-Agent": "mmact-tiny", "Accept-Encoding": "identity"}
    seconds = part.stat().st_mtime if start else 0  # 0: the server gave no Last-Modified
    date = formatdate(seconds, usegmt=True)
    if start and (seconds or provable):
        headers["Range"] = f"bytes={start}-"
        if not provable:
            headers["If-Range"] = date
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416 or "Range" not in headers:
            raise
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return  # nothing comes after these bytes: all of it is here
        part.unlink()
        raise ConnectionError("what was here is not a part of the published file") from error
    with response:
        continues = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        changed = not provable and response.headers.get("Last-Modified") not in (None, date)
        if response.status == 206 and (changed or not continues):
            part.unlink()
            raise ConnectionError("the published file changed")
        with writing_to(part):
            file = part.open("ab" if response.status == 206 else "wb", buffering=0)
        with file:
            _append(response, part, file)


def _append(response: http.client.HTTPResponse, part: Path, file: IO[bytes]) -> None:
    """Copies what comes, with a bar that counts megabytes."""
    length = response.headers.get("Content-Length", "")
    date = parsedate_tz(response.headers.get("Last-Modified"))
    seconds = mktime_tz(date) if date else 0
    start = done = _num_bytes(part)
    total = start + int(length) if length.isdigit() else 0
    check_free_space(part, total - start)
    megabytes = math.ceil(total / 1e6)
    bar = Bar(f"{part.stem} (MB)", megabytes, keep=True) if total else None
    try:
        while chunk := response.read1(CHUNK_BYTES):
            with writing_to(part):
                file.write(chunk)
                os.utime(file.fileno(), (seconds, seconds))
            done += len(chunk)
            if bar is not None:
                speed = (done - start) / 1e6 / max(time.monotonic() - bar.started, 1e-6)
                bar.update(
                    megabytes if done == total else done // 10**6,
                    facts=[f"{speed:.1f} MB/s"],
                    seconds_left=(total - done) / 1e6 / speed,
                )
    finally:
        if bar is not None:
            bar.close()
    if done < total:
        raise ConnectionError(f"the connection was cut after {done:,} of {total:,} bytes")
