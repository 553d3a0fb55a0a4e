"""Goes through the environment from the machine up: what is there, what is wrong, the fix."""

import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from .. import hardware
from . import environment

DISTRIBUTION = "mmact-tiny"
MMCV_FIX = "pip uninstall -y mmcv mmcv-lite; pip install 'mmcv-lite>=2.1.0,<2.2'"
TORCH_FIX = "reinstall both from one place: the command is on https://pytorch.org/get-started"
FRESH_FIX = "make a fresh environment: make clean setup"
HEADLESS_FIX = "pip install opencv-contrib-python-headless"
MIN_DISK_GIB = 1.0
MIN_SHARED_GIB = 0.25  # a container's default is 0.0625; 250 views of one video take 0.035
# The lines of `pip check`.
MISSING = re.compile(r"\S+ (\S+) requires (.+), which is not installed\.")
CONFLICT = re.compile(r"\S+ (\S+) has requirement (.+), but you have (\S+ \S+)\.")


@dataclass
class Diagnosis:
    """`found`: what is there, in words, by its name; `problems`: what is wrong, with the fix."""

    found: dict[str, str] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    versions: dict[str, str | None] = field(
        default_factory=lambda: {name: hardware.version(name) for name in hardware.PACKAGES}
    )

    def attempt(self, name: str, examine: Callable[[], str]) -> str | None:
        """Notes what `examine` returns; where it raises, notes that and returns it in words."""
        failure = None
        try:
            text = examine()
        except Exception as error:  # a broken package can raise anything when it is imported
            failure = f"{type(error).__name__}: {error}".strip()
            failure = failure if len(failure) <= 400 else f"{failure[:400]}..."
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
    gpus = environment.list_gpus()
    _diagnose_machine(diagnosis, gpus)
    _diagnose_requirements(diagnosis)
    torch = _diagnose_torch(diagnosis, gpus)
    opencv = _diagnose_opencv(diagnosis)
    _diagnose_mmaction2(diagnosis, stands=torch and opencv)
    _diagnose_decoders(diagnosis, opencv=opencv)
    rest = {name: text for name, text in diagnosis.versions.items() if text}
    diagnosis.found = {**diagnosis.found, **environment.collect(), **(rest | diagnosis.found)}
    return diagnosis


def _diagnose_machine(diagnosis: Diagnosis, gpus: list[str]) -> None:
    diagnosis.found["GPU"] = "; ".join(gpus) or "none"
    try:
        machine = hardware.describe_machine()
    except ImportError as error:  # told by _diagnose_requirements
        diagnosis.found["machine"] = f"FAILS: {error}"
        return
    folder, free = machine["folder"], machine["disk_free_gib"]
    shared = machine["shared_memory_gib"]
    diagnosis.found |= {
        "system": machine["platform"],
        "CPU": f"{machine['cpu']}, {machine['usable_cores']} of {machine['cores']} cores",
        "CPU flags": ", ".join(machine["cpu_flags"]) or "none that matter",
        "memory": f"{machine['memory_gib']} GiB; {shared} GiB shared",
        "disk": f"{free} GiB free in {folder}",
    }
    if not machine["folder_writable"]:
        what = f"cannot write into {folder}, where work_dirs/ would be made"
        fix = "run from a folder of your own, or pass --work-dir DIR"
        diagnosis.tell(what, fix)
    if free < MIN_DISK_GIB:
        what = f"{free} GiB free in {folder}: a TSN checkpoint takes 0.2 GiB, and two are kept"
        fix = f"make room for {MIN_DISK_GIB:g} GiB, or pass --work-dir DIR on another disk"
        diagnosis.tell(what, fix)
    if shared is not None and shared < MIN_SHARED_GIB:
        what = (
            f"{shared} GiB of shared memory (/dev/shm): loader workers hand batches over in it, "
            "and a run ends with a bus error when it is full"
        )
        fix = "docker run --shm-size=8g, or --cfg-options test_dataloader.num_workers=0"
        diagnosis.tell(what, fix)


def _diagnose_python(diagnosis: Diagnosis) -> None:
    from importlib import metadata

    version = platform.python_version()
    diagnosis.found["Python"] = f"{version} ({sys.executable})"
    try:
        from packaging.specifiers import SpecifierSet

        wanted = metadata.metadata(DISTRIBUTION)["Requires-Python"]
    except ImportError:  # also where this project is not installed
        what = f"{DISTRIBUTION} or packaging is not installed, so versions were not checked"
        diagnosis.tell(what, "pip install -e . in this project's folder")
        return
    if not SpecifierSet(wanted).contains(version, prereleases=True):
        fix = "make PYTHON=python3.12 (or another interpreter in that range)"
        diagnosis.tell(f"Python {version}: expected {wanted}", fix)


def _diagnose_requirements(diagnosis: Diagnosis) -> None:
    """Tells of this project's requirements, and of those of the packages that it stands on."""
    lines = environment.check_requirements()
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
            ours = owner == DISTRIBUTION
            fix = "pip install -e . in this project's folder" if ours else f"pip install {name}"
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
    if failure := diagnosis.attempt("torch", environment.examine_torch):
        diagnosis.tell(f"PyTorch cannot be imported: {failure}", TORCH_FIX)
        return False
    torch = diagnosis.found["torch"]
    if failure := diagnosis.attempt("torchvision", environment.suppress_boxes):
        builds = f"torch {torch}; torchvision {diagnosis.versions['torchvision']}"
        diagnosis.tell(f"torchvision does not fit PyTorch ({builds}): {failure}", TORCH_FIX)
    count, warning = environment.find_cuda()
    if gpus and not count and os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1"):
        driver = gpus[0].rpartition(", ")[2]
        what = f"{len(gpus)} GPU(s), but PyTorch cannot use them: driver {driver}, PyTorch {torch}"
        fix = (
            "update the driver (nvidia-smi shows the newest CUDA that it runs), or install "
            "the PyTorch build of that CUDA: https://pytorch.org/get-started"
        )
        if torch.endswith(" None"):
            what, fix = (
                f"{len(gpus)} GPU(s), but PyTorch {torch} is a build without CUDA",
                TORCH_FIX,
            )
        diagnosis.tell(what + (f": {warning}" if warning else ""), fix)
    for name in (f"cuda:{index}" for index in range(count)):
        if failure := diagnosis.attempt(name, partial(environment.convolve, name)):
            fix = "install a PyTorch build for this GPU and driver, or train with --device cpu"
            diagnosis.tell(f"{name} fails at a convolution: {failure}", fix)
    return True


def _diagnose_opencv(diagnosis: Diagnosis) -> bool:
    """Returns whether OpenCV can be imported."""
    failure = diagnosis.attempt("opencv", partial(environment.import_module, "cv2"))
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
    for name, examine in (
        ("mmengine", partial(environment.import_module, "mmengine.runner")),
        ("mmcv", partial(environment.import_module, "mmcv")),
        ("mmcv.ops", partial(environment.import_module, "mmcv.ops")),
        ("mmaction2", environment.find_recognizers),
    ):
        if name == "mmcv.ops" and lite and not full:
            diagnosis.found[name] = "no compiled operators in mmcv-lite; recognizers need none"
            continue
        failure = diagnosis.attempt(name, examine)
        there = full or lite if name.startswith("mmcv") else diagnosis.versions[name]
        if failure and stands and there:
            what = f"{name} cannot be imported: {failure}"
            if name == "mmcv.ops":
                what = f"mmcv's compiled operators do not fit this PyTorch: {failure}"
            mmcv = name == "mmcv.ops" or "MMCV==" in failure  # MMAction2's own words
            diagnosis.tell(what, MMCV_FIX if mmcv else FRESH_FIX)
        stands = stands and failure is None


def _diagnose_decoders(diagnosis: Diagnosis, *, opencv: bool) -> None:
    for name in environment.DECODERS:
        if not (opencv if name == "opencv" else diagnosis.versions[name]):
            continue  # told already; torchcodec is optional
        failure = diagnosis.attempt(name, partial(environment.decode, name))
        if failure and name != "torchcodec":
            package = "opencv-contrib-python" if name == "opencv" else name
            fix = f"pip install --force-reinstall --no-deps {package}"
            diagnosis.tell(f"{name} cannot decode a small H.264 clip: {failure}", fix)
