"""What can be downloaded by name: the tutorial's dataset and the model zoo's TSN weights.

The weights' addresses are read from the metafile that the installed MMAction2 brings, so they
are those of the release in use.
"""

import difflib
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from .dataset import read_annotations
from .download import download, has_hash, published_hash
from .download_archive import extract
from .errors import UserError
from .files import locked

HOST = "https://download.openmmlab.com"
MIRROR_VARIABLE = "MMACT_TINY_MIRROR"  # takes the place of HOST, the paths stay

# MMAction2's tutorial and its "20-Minute Guide" name it; no metafile does.
KINETICS400_TINY_URL = f"{HOST}/mmaction/kinetics400_tiny.zip"
KINETICS400_TINY_ANN_FILES = {
    "train": "kinetics_tiny_train_video.txt",
    "val": "kinetics_tiny_val_video.txt",
}

# Where the metafile of mmaction2 1.2.0 repeats another model's address; the right one stands in
# configs/recognition/tsn/README.md of the MMAction2 repository.
CORRECTED_URLS = {
    "tsn_imagenet-pretrained-swin-transformer_32xb8-1x1x8-50e_kinetics400-rgb": (
        f"{HOST}/mmaction/v1.0/recognition/tsn/"
        "tsn_imagenet-pretrained-swin-transformer_32xb8-1x1x8-50e_kinetics400-rgb/"
        "tsn_imagenet-pretrained-swin-transformer_32xb8-1x1x8-50e_kinetics400-rgb"
        "_20230530-428f0064.pth"
    ),
}

MODEL_NAME = re.compile(
    r"tsn_imagenet-pretrained-(?P<backbone>.+)_\d+xb\d+-(?P<sampling>(?:dense-)?\d+x\d+x\d+)"
    r"-\d+e_(?P<dataset>kinetics400|sthv2)-rgb"
)
SHORT_NAMES = {"tsn_r50_1x1x3_k400": "tsn_r50_k400"}  # the tutorial's weights


@dataclass(frozen=True)
class Published:
    """Something with a name to download it by.

    `path` is where it goes, a file or, for an archive, the unpacked folder, from the working
    directory. `top1` and `top5` are percentages, as published.
    """

    name: str
    url: str
    path: Path
    config: str | None = None
    top1: float | None = None
    top5: float | None = None

    @property
    def sha256_prefix(self) -> str | None:
        """The hash that the publisher's file name carries, None without one."""
        return published_hash(self.url)

    @property
    def is_archive(self) -> bool:
        """Whether it is unpacked."""
        return self.url.endswith((".zip", ".tar.gz"))

    @property
    def model(self) -> str | None:
        """MMAction2's own name for the model, the stem of its config."""
        return PurePosixPath(self.config).stem if self.config else None


def list_published() -> list[Published]:
    """Returns everything that can be downloaded by name, the tutorial's two things first.

    Raises:
        UserError: the installed MMAction2 has no metafile to read the addresses from.
    """
    dataset = Published("kinetics400_tiny", KINETICS400_TINY_URL, Path("data/kinetics400_tiny"))
    return [dataset, *list_weights()]


def list_weights() -> list[Published]:
    """Returns the TSN weights in the metafile of the installed MMAction2."""
    import yaml

    weights = []
    for model in yaml.safe_load(find_metafile().read_text())["Models"]:
        match = MODEL_NAME.fullmatch(model["Name"])
        url = CORRECTED_URLS.get(model["Name"], model["Weights"])
        if match is None or not PurePosixPath(url).name.startswith(model["Name"]):
            continue  # an address that belongs to another model is worse than none
        dataset = "k400" if match["dataset"] == "kinetics400" else match["dataset"]
        name = f"tsn_{match['backbone']}_{match['sampling']}_{dataset}"
        metrics = model["Results"][0]["Metrics"]
        weights.append(
            Published(
                name=SHORT_NAMES.get(name, name),
                url=url,
                path=Path("checkpoints") / PurePosixPath(url).name,
                config="mmaction::" + model["Config"].removeprefix("configs/"),
                top1=metrics["Top 1 Accuracy"],
                top5=metrics["Top 5 Accuracy"],
            )
        )
    return weights


def find_metafile() -> Path:
    """Returns TSN's metafile in the installed MMAction2, without importing it."""
    spec = importlib.util.find_spec("mmaction")
    if spec is None or spec.origin is None:
        raise UserError("mmaction2 is not installed: pip install -e . installs it")
    path = Path(spec.origin).parent / ".mim/configs/recognition/tsn/metafile.yml"
    if not path.is_file():
        raise UserError(
            f"{path} is missing: the addresses of the official weights are read from it; "
            f"reinstall mmaction2 from its wheel"
        )
    return path


def find_published(name: str) -> Published:
    """Returns what has this name; MMAction2's own model names are taken too.

    Raises:
        UserError: nothing has; the nearest names are suggested.
    """
    everything = list_published()
    for item in everything:
        if name in (item.name, item.model):
            return item
    near = difflib.get_close_matches(name, [item.name for item in everything], n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UserError(
        f"nothing to download has the name {name!r}: {hint}`python tools/download.py --list` "
        f"shows all"
    )


def is_there(item: Published) -> bool:
    """Returns whether it was fetched before and is whole."""
    if item.is_archive:
        return item.path.is_dir() and not missing_videos(item.path)
    return item.path.is_file() and has_hash(item.path, item.sha256_prefix)


def table() -> str:
    """Returns a line for each thing that can be downloaded: name, accuracy, where it is."""
    rows = [("NAME", "TOP-1", "TOP-5", "", "PATH")]
    for item in list_published():
        top1, top5 = (f"{value:.2f}" if value else "" for value in (item.top1, item.top5))
        here = "here" if is_there(item) else "-"
        rows.append((item.name, top1, top5, here, str(item.path)))
    width = max(len(row[0]) for row in rows)
    return "\n".join(
        f"{name:{width}}  {top1:>5}  {top5:>5}  {here:4}  {path}"
        for name, top1, top5, here, path in rows
    )


def fetch(item: Published, *, force: bool = False, progress: bool = True) -> Path:
    """Downloads it to its place, unpacked if it is an archive; does nothing if it is there.

    Returns:
        `item.path`.

    Raises:
        UserError: as `download` and `extract` do; a dataset folder that is there in part.
    """
    url = mirrored(item.url)
    if not item.is_archive:
        return download(
            url, item.path, sha256_prefix=item.sha256_prefix, progress=progress, force=force
        )
    item.path.parent.mkdir(parents=True, exist_ok=True)
    with locked(item.path):
        if item.path.exists() and not force:
            check_videos(item.path)
            return item.path
        archive = item.path.parent / PurePosixPath(urlsplit(item.url).path).name
        put_by_hand = archive.exists()
        download(url, archive, progress=progress, force=force)
        extract(archive, item.path, check=check_videos)
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
        for annotation in read_annotations(folder / name):
            video = f"{split}/{annotation.path}"
            if not (folder / video).is_file():
                missing.append(video)
    return missing


def check_videos(folder: Path) -> None:
    """Raises a UserError if the folder is not a whole kinetics400_tiny."""
    if missing := missing_videos(folder):
        raise UserError(
            f"{folder} is not a whole kinetics400_tiny: {len(missing)} missing, first "
            f"{missing[0]}; fetch it again with --force"
        )
