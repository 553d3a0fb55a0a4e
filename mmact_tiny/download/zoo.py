"""Says what can be downloaded by name, and fetches it: the tutorial's dataset, MMAction2's weights.

Names, addresses and figures of the weights come from the metafiles of the installed MMAction2.
"""

import contextlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from ..annotations import read_annotations
from ..errors import UserError, suggest
from ..files import NAMES_SUFFIX, locked
from .backbones import BACKBONES, fetch_backbone
from .transfer import download, published_hash, unpack

HOST = "https://download.openmmlab.com"
LABEL_MAP_HOST = "https://raw.githubusercontent.com"
# What each variable names takes the place of a host; the paths stay.
MIRRORS = {HOST: "MMACT_TINY_MIRROR", LABEL_MAP_HOST: "MMACT_TINY_LABEL_MAP_MIRROR"}
# MMAction2's tutorial and its "20-Minute Guide" name it; no metafile does.
KINETICS400_TINY_URL = f"{HOST}/mmaction/kinetics400_tiny.zip"
# Models for which the metafile of mmaction2 1.2.0 repeats another's address, with the ends of their
# own, from the README.md beside that metafile in the MMAction2 repository.
CORRECTED_ENDS = {
    "tsn_imagenet-pretrained-swin-transformer_32xb8-1x1x8-50e_kinetics400-rgb": "20230530-428f0064",
    "vit-small-p16_videomaev2-vit-g-dist-k710-pre_16x4x1_kinetics-400": "20230510-25c748fd",
}
# By the end of a model's name, where metafiles of mmaction2 1.2.0 say another dataset, or none.
DATASETS = {"sthv2": "SthV2", "kinetics700": "Kinetics-700", "kinetics710": "Kinetics-710"}
# Label maps below tools/data of MMAction2's repository at v1.2.0, whose wheel leaves them out, with
# the first digits of their SHA-256. That of Kinetics-400 is in torchvision.
LABEL_MAP_URL = f"{LABEL_MAP_HOST}/open-mmlab/mmaction2/v1.2.0/tools/data"
LABEL_MAPS = {
    "Kinetics-600": ("kinetics/label_map_k600.txt", "8dfca420"),
    "Kinetics-700": ("kinetics/label_map_k700.txt", "2f265d35"),
    "Kinetics-710": ("kinetics710/label_map_k710.txt", "a853307b"),
    "Moments in Time V1": ("mit/label_map.txt", "119e2be7"),
    "SthV1": ("sthv1/label_map.txt", "5465813d"),
    "SthV2": ("sthv2/label_map.txt", "c9c5a86e"),
    "UCF101": ("ucf101/label_map.txt", "fabeefc5"),
}
TSN_NAME = re.compile(
    r"^tsn_imagenet-pretrained-(.+)_\d+xb\d+-((?:dense-)?\d+x\d+x\d+)-\d+e_(k?)(?:inetics)?(.+)-rgb$"
)


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

    @property
    def label_map(self) -> Path | None:
        """Where the names of the classes go, beside the weights of a recognizer of videos."""
        is_recognizer = self.config.startswith("mmaction::recognition/")
        names = is_recognizer and self.dataset in LABEL_MAPS
        return self.path.with_suffix(NAMES_SUFFIX) if names else None


@cache
def list_published() -> tuple[Published, ...]:
    """Returns all that can be downloaded by name: a dataset, TSN, other recognizers, the rest.

    Raises:
        UserError: the installed MMAction2 has no metafiles to read the addresses from.
    """
    import yaml

    spec = importlib.util.find_spec("mmaction")  # finds it without importing it
    root = Path(spec.origin if spec and spec.origin else "mmaction").parent / ".mim/configs"
    metafiles = sorted(
        root.glob("*/*/metafile.yml"),
        key=lambda path: ("tsn" not in path.parts, "recognition" not in path.parts, path),
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
    return (dataset, *(item for item in weights if owners.get(item.url, item) is item))


def list_backbones() -> list[Published]:
    """Returns the weights of backbones alone, which are not MMAction2's."""
    return [
        Published(b.name, b.url, b.path, b.backbone, b.config, "ImageNet", b.top1)
        for b in BACKBONES
    ]


def _read_model(name: str, model: dict[str, Any], configs: dict[str, str]) -> Published:
    """Returns a metafile's entry; its config is the one named like the model or like its file."""
    file_name = PurePosixPath(model["Weights"]).name
    stems = (name, PurePosixPath(model["Config"]).stem, file_name.rpartition("_")[0])
    short = TSN_NAME.sub(r"tsn_\1_\2_\3\4", name)
    results, facts = model.get("Results") or {}, model["Metadata"]
    result = results[0] if isinstance(results, list) else results
    metrics = result.get("Metrics", {})
    dataset = next((d for end, d in DATASETS.items() if name.endswith(f"_{end}-rgb")), None)
    return Published(
        name="tsn_r50_k400" if short == "tsn_r50_1x1x3_k400" else short,  # the tutorial's
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
    """Returns what has this name; weights also by MMAction2's model name or config.

    Raises:
        UserError: nothing has; the nearest name is suggested.
    """
    items = [*list_backbones(), *list_published()]
    named = {Path(item.config).stem: item for item in items if item.config}
    named |= {key: item for item in items for key in (item.model, item.name)}
    stem = PurePosixPath(name.removeprefix("mmaction::")).name.removesuffix(".py")
    if stem not in named:
        hint = suggest(stem, named)
        raise UserError(f"nothing to download is named {name!r}{hint}; --list shows all")
    return named[stem]


def table(word: str = "") -> str:
    """Returns a line for each thing that can be downloaded and has the word in it or its config.

    Raises:
        UserError: nothing has the word.
    """
    rows = [("NAME", "DATASET", "TOP-1", "TOP-5", "PARAMS", "FLOPS", "INPUT", "")]
    for item in (*list_published(), *list_backbones()):
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
    """Returns whether it was fetched before, the names of its classes too."""
    return item.path.exists() and (item.label_map is None or item.label_map.exists())


def fetch(item: Published, *, force: bool = False) -> Path:
    """Downloads it to `item.path`, unpacked if it is an archive; does nothing if it is there whole.

    A label map that is not to be had is said in a line on stderr.

    Raises:
        UserError: as `download` and `unpack` do; a dataset folder that is there in part.
    """
    if not item.model:
        return _fetch_dataset(item, force)
    path = fetch_weights(item, force=force)
    if item.label_map is not None:
        name, hash_prefix = LABEL_MAPS[item.dataset]
        url = mirrored(f"{LABEL_MAP_URL}/{name}")
        try:
            download(url, item.label_map, sha256_prefix=hash_prefix, force=force)
        except UserError as error:
            print(f"no class names, so infer.py shows numbers: {error}", file=sys.stderr)
    return path


def fetch_zoo(configs: Iterable[str]) -> Path:
    """Downloads the weights of the first of these stock configs that has published ones.

    Raises:
        UserError: none has; or as `download` does.
    """
    for config in configs:
        with contextlib.suppress(UserError):
            item = find_published(config)
            break
    else:
        raise UserError(
            f"--pretrained zoo: MMAction2 has published no weights of {', '.join(configs)}\n"
            "  name a file: --pretrained FILE (python tools/download.py --list shows all names)\n"
            "  or start from the config's own weights, or random ones: --pretrained imagenet|none"
        )
    return fetch_weights(item)


def fetch_weights(item: Published, *, force: bool = False) -> Path:
    """Downloads weights to `item.path`; does nothing if they are there whole.

    Raises:
        UserError: as `download` does.
    """
    for backbone in BACKBONES:
        if backbone.name == item.name:
            return fetch_backbone(backbone, force=force)
    hash_prefix = published_hash(item.url)
    return download(mirrored(item.url), item.path, sha256_prefix=hash_prefix, force=force)


def _fetch_dataset(item: Published, force: bool) -> Path:
    with locked(item.path):
        if item.path.exists() and not force:
            _check(item.path)
            return item.path
        archive = item.path.with_name(PurePosixPath(item.url).name)
        put_by_hand = archive.exists()
        download(mirrored(item.url), archive, force=force)
        unpack(archive, item.path, check=_check)
        if not put_by_hand:
            archive.unlink()
    return item.path


def mirrored(url: str) -> str:
    """Returns the address on the mirror that `MMACT_TINY_MIRROR` or its sister names, if any."""
    for host, variable in MIRRORS.items():
        mirror = os.environ.get(variable, "").rstrip("/")
        if mirror and url.startswith(f"{host}/"):
            return mirror + url.removeprefix(host)
    return url


def _check(folder: Path) -> None:
    """Raises a UserError if kinetics400_tiny lacks an annotation file, or a video listed in one."""
    missing = []
    for split in ("train", "val"):
        ann_file = f"kinetics_tiny_{split}_video.txt"
        rows = read_annotations(folder / ann_file) if (folder / ann_file).is_file() else []
        paths = (ann_file, *(f"{split}/{row.path}" for row in rows))
        missing += [path for path in paths if not (folder / path).is_file()]
    if missing:
        raise UserError(
            f"{folder} is not a whole kinetics400_tiny: {len(missing)} missing, first "
            f"{missing[0]}; fetch it again with --force"
        )
