"""Goes through the environment from the machine up: what is there, what is wrong, the fix."""

import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from .. import compat, hardware
from ..errors import IS_CHECKOUT

DISTRIBUTION = "mmact-tiny"
INSTALL_FIX = "pip install -e . in this project's folder" if IS_CHECKOUT else "install it again"
MMCV_FIX = "pip uninstall -y mmcv mmcv-lite; pip install 'mmcv-lite>=2.1.0,<2.2'"
TORCH_FIX = "reinstall both from one place: the command is on https://pytorch.org/get-started"
FRESH_FIX = f"make a fresh environment{': make clean setup' if IS_CHECKOUT else ''}"
HEADLESS_FIX = "pip install opencv-contrib-python-headless"
# Of the CPU's flags, those that decide how fast a network runs.
CPU_FLAGS = (
    *("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16", "asimd", "bf16", "i8mm", "sve"),
)
MIN_DISK_GIB = 1.0
MIN_SHARED_GIB = 0.25  # a container's default is 0.0625; 250 views of one video take 0.035
# A small clip: of an installed package, of a checkout.
CLIPS = (Path(__file__).parents[1] / "clips", Path(__file__).parents[2] / "data/tiny/train")
CLIP = "bouncing_ball1.mp4"
# The lines of `pip check`.
MISSING = re.compile(r"\S+ (\S+) requires (.+), which is not installed\.")
CONFLICT = re.compile(r"\S+ (\S+) has requirement (.+), but you have (\S+ \S+)\.")


class Diagnosis:
    """`found`: what is there, in words, by its name; `problems`: what is wrong, with the fix."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self.problems: list[tuple[str, str]] = []
        self.versions = {name: hardware.version(name) for name in hardware.PACKAGES}

    def attempt(self, name: str, examine: Callable[..., str], *arguments: str) -> str | None:
        """Notes what `examine` returns; where it raises, notes that and returns it in words."""
        failure = None
        try:
            text = examine(*arguments)
        except Exception as error:  # a broken package can raise anything when it is imported
            failure = f"{type(error).__name__}: {error}".strip()[:400]
            text = f"FAILS: {failure}"
        version = self.versions.get(name)
        self.found[name] = text if not version or text.startswith(version) else f"{version}, {text}"
        return failure

    def tell(self, what: str, fix: str) -> None:
        """Notes a problem."""
        self.problems.append((what, fix))

    def __str__(self) -> str:
        """The environment as aligned lines, then what is wrong, each with its fix."""
        width = max(map(len, self.found)) + 2
        lines = [f"{name:{width}}{words}" for name, words in self.found.items()]
        title = f"what is wrong ({len(self.problems)}):" if self.problems else "all well"
        faults = [f"- {what}\n  fix: {fix}" for what, fix in self.problems]
        return "\n".join([*lines, "", title, *faults])


def diagnose() -> Diagnosis:
    """Returns what is there and what is wrong, the cause first; imports what it reports on."""
    diagnosis = Diagnosis()
    _diagnose_python(diagnosis)
    gpus = list_gpus()
    diagnosis.found["GPU"] = "; ".join(gpus) or "none"
    _diagnose_machine(diagnosis)
    _diagnose_requirements(diagnosis)
    torch = _diagnose_torch(diagnosis, gpus)
    opencv = _diagnose_opencv(diagnosis)
    _diagnose_mmaction2(diagnosis, stands=torch and opencv)
    for name, package, there in (
        *((name, name, diagnosis.versions[name]) for name in ("decord", "av")),
        ("opencv", "opencv-contrib-python", opencv),
    ):
        if there and (failure := diagnosis.attempt(name, decode, name)):
            fix = f"pip install --force-reinstall --no-deps {package}"
            diagnosis.tell(f"{name} cannot decode a small H.264 clip: {failure}", fix)
    diagnosis.found |= {name: shutil.which(name) or "none" for name in ("gcc", "nvcc", "ffmpeg")}
    for name, version in diagnosis.versions.items():
        if version:
            diagnosis.found.setdefault(name, version)
    return diagnosis


def _diagnose_python(diagnosis: Diagnosis) -> None:
    version = platform.python_version()
    diagnosis.found["Python"] = f"{version} ({sys.executable})"
    try:
        from packaging.specifiers import SpecifierSet

        wanted = metadata.metadata(DISTRIBUTION)["Requires-Python"]
    except ImportError:  # also where this project is not installed
        what = f"{DISTRIBUTION} or packaging is not installed, so versions were not checked"
        diagnosis.tell(what, INSTALL_FIX)
        return
    if not SpecifierSet(wanted).contains(version, prereleases=True):
        fix = "make PYTHON=python3.12 (or another interpreter in that range)"
        diagnosis.tell(f"Python {version}: expected {wanted}", fix)


def describe_storage() -> tuple[str, bool, float, float | None]:
    """Returns where a run would write, whether it can, the free and the shared memory's GiB."""
    free, shared = shutil.disk_usage(".").free / hardware.GIB, None
    if Path("/dev/shm").is_dir():
        shared = round(shutil.disk_usage("/dev/shm").total / hardware.GIB, 2)
    return str(Path.cwd()), os.access(".", os.W_OK), round(free, 2), shared


def _diagnose_machine(diagnosis: Diagnosis) -> None:
    try:
        machine = hardware.describe_machine()
    except ImportError as error:  # told by _diagnose_requirements
        diagnosis.found["machine"] = f"FAILS: {error}"
        return
    folder, is_writable, free, shared = describe_storage()
    flags = [flag for flag in CPU_FLAGS if flag in hardware.cpu_flags()]
    diagnosis.found |= {
        "system": machine["platform"],
        "CPU": f"{machine['cpu']}, {machine['usable_cores']} of {machine['cores']} cores",
        "CPU flags": ", ".join(flags) or "none that matter",
        "memory": f"{machine['memory_gib']} GiB; {shared} GiB shared",
        "disk": f"{free} GiB free in {folder}",
    }
    for is_wrong, what, fix in (
        (
            not is_writable,
            f"cannot write into {folder}, where work_dirs/ would be made",
            "run from a folder of your own, or pass --work-dir DIR",
        ),
        (
            free < MIN_DISK_GIB,
            f"{free} GiB free in {folder}: a TSN checkpoint takes 0.2 GiB, and two are kept",
            f"make room for {MIN_DISK_GIB:g} GiB, or pass --work-dir DIR on another disk",
        ),
        (
            shared is not None and shared < MIN_SHARED_GIB,
            f"{shared} GiB of shared memory (/dev/shm): loader workers hand batches over in it, "
            "and a run ends with a bus error when it is full",
            "docker run --shm-size=8g, or --cfg-options test_dataloader.num_workers=0",
        ),
    ):
        if is_wrong:
            diagnosis.tell(what, fix)


def _diagnose_requirements(diagnosis: Diagnosis) -> None:
    """Tells of this project's requirements, and of those of the packages that it stands on."""
    lines = check_requirements()
    if lines is None:
        diagnosis.tell("versions were not checked: pip check does not run", "python -m ensurepip")
    for line in lines or ():
        owner = line.split()[0]
        if owner not in (DISTRIBUTION, *hardware.PACKAGES):
            continue
        if missing := MISSING.fullmatch(line):
            name = missing[2]
            if name in hardware.OPENCV or (name == "mmcv-lite" and diagnosis.versions["mmcv"]):
                continue  # another distribution brings the same; told where its import fails
            if name == "decord" and platform.machine() != "x86_64":
                continue  # it has no wheels there, and nothing needs it
            fix = INSTALL_FIX if owner == DISTRIBUTION else f"pip install {name}"
            diagnosis.tell(f"{name} is not installed, which {owner} requires", fix)
        elif conflict := CONFLICT.fullmatch(line):
            version, wanted, found = conflict.groups()
            who = "" if owner == DISTRIBUTION else f"{owner} {version} "
            fix = TORCH_FIX if owner == "torchvision" else f"pip install '{wanted}'"
            diagnosis.tell(f"{found}: {who}expected {wanted}", fix)
        else:
            diagnosis.tell(line, FRESH_FIX)


def _diagnose_torch(diagnosis: Diagnosis, gpus: list[str]) -> bool:
    """Returns whether PyTorch can be imported."""
    if failure := diagnosis.attempt("torch", examine_torch):
        diagnosis.tell(f"PyTorch cannot be imported: {failure}", TORCH_FIX)
        return False
    torch = diagnosis.found["torch"]
    if failure := diagnosis.attempt("torchvision", suppress_boxes):
        builds = f"torch {torch}; torchvision {diagnosis.versions['torchvision']}"
        diagnosis.tell(f"torchvision does not fit PyTorch ({builds}): {failure}", TORCH_FIX)
    count, warning = find_cuda()
    if gpus and not count and os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1"):
        driver = gpus[0].rpartition(", ")[2]
        what = f"{len(gpus)} GPU(s), but PyTorch cannot use them: driver {driver}, PyTorch {torch}"
        fix = (
            "update the driver (nvidia-smi shows the newest CUDA that it runs), or install "
            "the PyTorch build of that CUDA: https://pytorch.org/get-started"
        )
        if torch.endswith(" None"):
            what = f"{len(gpus)} GPU(s), but PyTorch {torch} is a build without CUDA"
            fix = TORCH_FIX
        diagnosis.tell(what + (f": {warning}" if warning else ""), fix)
    for name in (f"cuda:{index}" for index in range(count)):
        if failure := diagnosis.attempt(name, convolve, name):
            fix = "install a PyTorch build for this GPU and driver, or train with --device cpu"
            diagnosis.tell(f"{name} fails at a convolution: {failure}", fix)
    return True


def _diagnose_opencv(diagnosis: Diagnosis) -> bool:
    """Returns whether OpenCV can be imported."""
    failure = diagnosis.attempt("opencv", import_module, "cv2")
    if failure is None:
        return True
    installed = [name for name in hardware.OPENCV if diagnosis.versions[name]]
    remove = f"pip uninstall -y {' '.join(installed)}; "
    if ".so" in failure:  # libGL.so.1, libgthread-2.0.so.0, libxcb.so.1
        what = f"OpenCV lacks a library of the system: {failure}"
        fix = f"apt-get install libgl1 libglib2.0-0, or without a display: {remove}{HEADLESS_FIX}"
    else:
        what = f"OpenCV cannot be imported: {failure}"
        fix = f"{remove}pip install {installed[-1]}" if installed else HEADLESS_FIX
    diagnosis.tell(what, fix)
    return False


def _diagnose_mmaction2(diagnosis: Diagnosis, *, stands: bool) -> None:
    """Tells of MMAction2 and what it stands on, if PyTorch and OpenCV do, only the lowest."""
    full, lite = diagnosis.versions["mmcv"], diagnosis.versions["mmcv-lite"]
    if full and lite:
        what = f"mmcv {full} and mmcv-lite {lite} are both installed, into the same folder"
        diagnosis.tell(what, MMCV_FIX)
    if not diagnosis.versions["mmaction2"] and platform.machine() != "x86_64":  # not required there
        diagnosis.tell("mmaction2 is not installed", "pip install --no-deps mmaction2")
    for name, module, what in (
        ("mmengine", "mmengine.runner", "mmengine cannot be imported"),
        ("mmcv", "mmcv", "mmcv cannot be imported"),
        ("mmcv.ops", "mmcv.ops", "mmcv's compiled operators do not fit this PyTorch"),
        ("mmaction2", "mmaction.models", "mmaction2 cannot be imported"),
    ):
        if name == "mmcv.ops" and lite and not full:
            diagnosis.found[name] = "no compiled operators in mmcv-lite; recognizers need none"
            continue
        failure = diagnosis.attempt(name, import_module, module)
        there = full or lite if name.startswith("mmcv") else diagnosis.versions[name]
        if failure and stands and there:
            is_mmcv = name == "mmcv.ops" or "MMCV==" in failure  # MMAction2's own words
            diagnosis.tell(f"{what}: {failure}", MMCV_FIX if is_mmcv else FRESH_FIX)
        stands = stands and failure is None


def list_gpus() -> list[str]:
    """Returns name, memory and driver of the NVIDIA GPUs, also of those that PyTorch cannot use."""
    fields = "--query-gpu=name,memory.total,driver_version"
    lines = _lines_of("nvidia-smi", fields, "--format=csv,noheader")
    return [line for line in lines if line.count(", ") == 2]  # else it says why it has failed


def check_requirements() -> list[str] | None:
    """Returns what `pip check` finds missing or not to fit; None where it does not run."""
    lines = _lines_of(sys.executable, "-P", "-m", "pip", "check")
    return [line for line in lines if not line.startswith("No broken")] if lines else None


def _lines_of(*command: str) -> list[str]:
    """Returns the lines that a program printed; none where it is missing or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines()


def examine_torch() -> str:
    """Imports PyTorch."""
    import torch

    return f"{torch.__version__}, CUDA build {torch.version.cuda}"


def find_cuda() -> tuple[int, str]:
    """Returns how many GPUs PyTorch can use, and what it warns of while it looks for them."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return count, " ".join(str(item.message) for item in caught)


def convolve(device: str) -> str:
    """Runs a convolution on a GPU; returns its name."""
    import torch

    image = torch.ones(1, 3, 8, 8, device=device)
    torch.nn.functional.conv2d(image, image).item()
    return torch.cuda.get_device_name(device)


def suppress_boxes() -> str:
    """Runs torchvision's compiled operator, the first thing to miss in a mixed installation."""
    import torch
    import torchvision

    torchvision.ops.nms(torch.ones(2, 4), torch.ones(2), 0.5)
    return f"{torchvision.__version__}, torchvision::nms works"


def import_module(name: str) -> str:
    """Imports a module; those of MMAction2, which does not import as it is, with the repairs."""
    repaired = name.startswith("mmaction")
    if repaired:
        compat.repair()
    importlib.import_module(name)
    return "imports with the repairs" if repaired else "imports"


def decode(decoder: str, clip: Path | None = None) -> str:
    """Decodes the first frame of a clip, by default of one that comes with this project."""
    path = str(clip or next(folder for folder in CLIPS if folder.is_dir()) / CLIP)
    if decoder == "decord":
        import decord

        reader = decord.VideoReader(path, num_threads=1)
        count, shape = len(reader), reader[0].shape
    elif decoder == "av":
        import av

        with av.open(path) as container:
            shape = next(container.decode(video=0)).to_ndarray(format="rgb24").shape
            count = container.streams.video[0].frames
    else:
        import cv2

        capture = cv2.VideoCapture(path)
        found, image = capture.read()
        if not found:
            raise RuntimeError("decodes no frame")
        count, shape = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), image.shape
    return f"{count} frames, {shape[1]} x {shape[0]}"
