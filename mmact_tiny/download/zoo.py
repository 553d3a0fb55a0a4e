"""Says what can be downloaded by name, and fetches it: the tutorial's dataset, MMAction2's weights.

Names, addresses and figures of the weights come from the metafiles of the installed MMAction2.
"""

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..dataset import read_annotations
from ..errors import UserError, suggest
from ..files import locked
from .transfer import download, has_hash, published_hash, unpack

HOST = "https://download.openmmlab.com"
MIRROR_VARIABLE = "MMACT_TINY_MIRROR"  # takes the place of HOST, the paths stay
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


def list_published() -> list[Published]:
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
    return [dataset, *(item for item in weights if owners.get(item.url, item) is item)]


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
    """Returns what has this name; MMAction2's own model names are taken too.

    Raises:
        UserError: nothing has; the nearest name is suggested.
    """
    named = {key: item for item in list_published() for key in (item.model, item.name)}
    if name not in named:
        hint = suggest(name, named)
        raise UserError(f"nothing to download is named {name!r}{hint}; --list shows all")
    return named[name]


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
    return item.path.is_dir() and not _missing(item.path)


def fetch(item: Published, *, force: bool = False) -> Path:
    """Downloads it to `item.path`, unpacked if it is an archive; does nothing if it is there.

    Raises:
        UserError: as `download` and `unpack` do; a dataset folder that is there in part.
    """
    if item.model:
        hash_prefix = published_hash(item.url)
        return download(mirrored(item.url), item.path, sha256_prefix=hash_prefix, force=force)
    item.path.parent.mkdir(parents=True, exist_ok=True)
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
    """Returns the address on the mirror that MMACT_TINY_MIRROR names, if it names one."""
    mirror = os.environ.get(MIRROR_VARIABLE, "").rstrip("/")
    return mirror + url.removeprefix(HOST) if mirror and url.startswith(HOST) else url


def _missing(folder: Path) -> list[str]:
    """Returns what kinetics400_tiny lacks: an annotation file, or videos listed in one."""
    missing = []
    for split in ("train", "val"):
        ann_file = f"kinetics_tiny_{split}_video.txt"
        rows = read_annotations(folder / ann_file) if (folder / ann_file).is_file() else []
        paths = (ann_file, *(f"{split}/{row.path}" for row in rows))
        missing += [path for path in paths if not (folder / path).is_file()]
    return missing


def _check(folder: Path) -> None:
    """Raises a UserError if the folder is not a whole kinetics400_tiny."""
    if missing := _missing(folder):
        raise UserError(
            f"{folder} is not a whole kinetics400_tiny: {len(missing)} missing, first "
            f"{missing[0]}; fetch it again with --force"
        )
