"""What is wrong with an environment, and the fix; and the report that shows both."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from ..hardware import OPENCV
from .environment import DISTRIBUTION

MMCV_FIX = "pip uninstall -y mmcv mmcv-lite; pip install 'mmcv-lite>=2.1.0,<2.2'"
TORCH_FIX = "reinstall both from one place: the command is on https://pytorch.org/get-started"
# The same import name from another distribution: either will do.
ALTERNATIVES = {"mmcv-lite": ("mmcv",), "opencv-python": OPENCV}
MIN_DISK_GIB = 1.0
MIN_SHARED_GIB = 0.25  # a container's default is 0.0625; 250 views of one video take 0.035


class Problem(NamedTuple):
    """What is broken, and what to do about it."""

    what: str
    fix: str


def find_problems(env: dict[str, Any]) -> list[Problem]:
    """Returns everything that is wrong with what `environment()` found, the cause first."""
    checks = (_versions, _torch, _mmcv, _opencv, _imports, _decoders, _machine)
    return [problem for check in checks for problem in check(env)]


def _versions(env: dict[str, Any]) -> Iterator[Problem]:
    try:
        from packaging.requirements import Requirement
        from packaging.specifiers import SpecifierSet
    except ImportError:
        yield Problem("versions were not checked: no package packaging", "pip install packaging")
        return
    python = env["python"]
    if not SpecifierSet(python["requires"]).contains(python["version"], prereleases=True):
        yield Problem(
            f"Python {python['version']}: expected {python['requires']}",
            "make PYTHON=python3.12 (or another interpreter in that range)",
        )
    for owner, text in env["requirements"]:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name, wanted = requirement.name, f"{requirement.name}{requirement.specifier}"
        same = (name, *ALTERNATIVES.get(name, ()))
        found = next((other for other in same if env["packages"].get(other)), None)
        fix = f"pip install '{wanted}'"
        if found is None:
            if owner == DISTRIBUTION:
                yield Problem(f"{name} is not installed", fix)
            continue
        version = env["packages"][found]
        if not requirement.specifier.contains(version, prereleases=True):
            who = "" if owner == DISTRIBUTION else f"{owner} {env['packages'].get(owner)} "
            yield Problem(
                f"{found} {version}: {who}expected {wanted}",
                fix if owner == DISTRIBUTION else TORCH_FIX,
            )


def _torch(env: dict[str, Any]) -> Iterator[Problem]:
    torch, gpus, checks = env["torch"], env["gpus"], env["checks"]
    if "error" in torch:
        yield Problem(f"PyTorch cannot be imported: {torch['error']}", TORCH_FIX)
        return
    if not checks["torchvision"]["ok"] and env["packages"]["torchvision"]:
        builds = f"torch {torch['build']}, torchvision {env['packages']['torchvision']}"
        why = checks["torchvision"]["detail"]
        yield Problem(f"torchvision does not fit PyTorch ({builds}): {why}", TORCH_FIX)
    hidden = torch["visible_devices"] in ("", "-1")
    if gpus and not torch["cuda_available"] and not hidden:
        count, driver = len(gpus), gpus[0]["driver"]
        if torch["cuda_build"] is None:
            yield Problem(
                f"{count} GPU(s), but PyTorch {torch['build']} is a build without CUDA", TORCH_FIX
            )
        else:
            yield Problem(
                f"{count} GPU(s), but PyTorch cannot use them: driver {driver}, "
                f"PyTorch built for CUDA {torch['cuda_build']}"
                + (f": {torch['cuda_warning']}" if torch["cuda_warning"] else ""),
                "update the driver (nvidia-smi shows the newest CUDA that it runs), or install "
                "the PyTorch build of that CUDA: https://pytorch.org/get-started",
            )
    for name, check in torch["gpus"].items():
        if not check["ok"]:
            yield Problem(
                f"{name} fails at a convolution: {check['detail']}",
                "install a PyTorch build for this GPU and driver, or train with --device cpu",
            )


def _mmcv(env: dict[str, Any]) -> Iterator[Problem]:
    packages, checks = env["packages"], env["checks"]
    if packages["mmcv"] and packages["mmcv-lite"]:
        yield Problem(
            f"mmcv {packages['mmcv']} and mmcv-lite {packages['mmcv-lite']} are both installed, "
            "into the same folder",
            MMCV_FIX,
        )
    elif packages["mmcv"] and checks["mmcv"]["ok"] and not checks["mmcv.ops"]["ok"]:
        why = checks["mmcv.ops"]["detail"]
        yield Problem(f"mmcv's compiled operators do not fit this PyTorch: {why}", MMCV_FIX)


def _opencv(env: dict[str, Any]) -> Iterator[Problem]:
    check = env["checks"]["opencv"]
    if check["ok"]:
        return
    installed = [name for name in OPENCV if env["packages"].get(name)]
    headless = "pip install opencv-contrib-python-headless"
    if not installed:
        yield Problem(f"OpenCV cannot be imported: {check['detail']}", headless)
    elif ".so" in check["detail"]:  # libGL.so.1, libgthread-2.0.so.0, libxcb.so.1
        yield Problem(
            f"OpenCV lacks a library of the system: {check['detail']}",
            "apt-get install libgl1 libglib2.0-0, or without a display: "
            f"pip uninstall -y {' '.join(installed)}; {headless}",
        )
    else:
        yield Problem(
            f"OpenCV cannot be imported: {check['detail']}",
            f"pip uninstall -y {' '.join(installed)}; pip install {installed[-1]}",
        )


def _imports(env: dict[str, Any]) -> Iterator[Problem]:
    """Tells of MMAction2 and what it stands on, only the lowest that fails."""
    if "error" in env["torch"] or not env["checks"]["opencv"]["ok"]:
        return
    for name in ("mmengine", "mmcv", "mmaction2"):
        check = env["checks"][name]
        if not env["packages"][name] and not (name == "mmcv" and env["packages"]["mmcv-lite"]):
            return  # told by _versions
        if not check["ok"]:
            yield Problem(
                f"{name} cannot be imported: {check['detail']}",
                "make a fresh environment: make clean setup",
            )
            return


def _decoders(env: dict[str, Any]) -> Iterator[Problem]:
    for name in ("decord", "av", "opencv"):
        check = env["decoders"].get(name)
        broken = name == "opencv" and not env["checks"]["opencv"]["ok"]  # told already
        installed = name == "opencv" or env["packages"][name]  # told by _versions
        if check and not check["ok"] and installed and not broken:
            package = "opencv-contrib-python" if name == "opencv" else name
            yield Problem(
                f"{name} cannot decode a small H.264 clip: {check['detail']}",
                f"pip install --force-reinstall --no-deps {package}",
            )


def _machine(env: dict[str, Any]) -> Iterator[Problem]:
    machine = env["machine"]
    if not machine["folder_writable"]:
        yield Problem(
            f"cannot write into {machine['folder']}, where work_dirs/ would be made",
            "run from a folder of your own, or pass --work-dir DIR",
        )
    if machine["disk_free_gib"] < MIN_DISK_GIB:
        yield Problem(
            f"{machine['disk_free_gib']} GiB free in {machine['folder']}: a TSN checkpoint takes "
            "0.2 GiB, and two are kept",
            f"make room for {MIN_DISK_GIB:g} GiB, or pass --work-dir DIR on another disk",
        )
    shared = machine["shared_memory_gib"]
    if shared is not None and shared < MIN_SHARED_GIB:
        yield Problem(
            f"{shared} GiB of shared memory (/dev/shm): loader workers hand batches over in it, "
            "and a run ends with a bus error when it is full",
            "docker run --shm-size=8g, or --cfg-options test_dataloader.num_workers=0",
        )


def report(env: dict[str, Any], problems: list[Problem]) -> str:
    """Returns the environment as aligned lines, then what is wrong, each with its fix."""
    machine, torch, packages = env["machine"], env["torch"], env["packages"]
    seen = torch.get("gpus") or {}
    gpus = [
        f"{gpu['name']}, {gpu['memory_gib']} GiB, driver {gpu['driver']}" for gpu in env["gpus"]
    ]
    mmcv = [f"{name} {packages[name]}" for name in ("mmcv-lite", "mmcv") if packages[name]]
    opencv = [f"{name} {packages[name]}" for name in OPENCV if packages[name]]
    rows = [
        ("Python", f"{env['python']['version']} ({env['python']['executable']})"),
        ("system", machine["platform"]),
        ("CPU", f"{machine['cpu']}, {machine['usable_cores']} of {machine['cores']} cores"),
        ("CPU flags", ", ".join(machine["cpu_flags"]) or "none that matter"),
        ("memory", f"{machine['memory_gib']} GiB; {machine['shared_memory_gib']} GiB shared"),
        ("disk", f"{machine['disk_free_gib']} GiB free in {machine['folder']}"),
        *(("GPU", gpu) for gpu in gpus or ["none"]),
        *((name, check["detail"]) for name, check in seen.items()),
        *((name, line or "not found") for name, line in env["programs"].items()),
        ("torch", torch.get("error") or f"{torch['build']}, CUDA build {torch['cuda_build']}"),
        ("torchvision", f"{packages['torchvision']}, {_say(env['checks']['torchvision'])}"),
        ("mmengine", f"{packages['mmengine']}, {_say(env['checks']['mmengine'], 'imports')}"),
        ("mmcv", ", ".join(mmcv) or "not installed"),
        ("mmcv.ops", _ops(env)),
        ("mmaction2", f"{packages['mmaction2']}, {_say(env['checks']['mmaction2'])}"),
        ("numpy", packages["numpy"]),
        ("OpenCV", ", ".join(opencv) or "not installed"),
        ("setuptools", f"{packages['setuptools']}; pkg_resources {_resources(env)}"),
        *((f"decode: {n}", _decodes(packages, n, c)) for n, c in env["decoders"].items()),
    ]
    lines = [f"{name:<20}{value}" for name, value in rows]
    if not problems:
        return "\n".join([*lines, "", "all well"])
    lines += ["", f"what is wrong ({len(problems)}):"]
    for problem in problems:
        lines += [f"- {problem.what}", f"  fix: {problem.fix}"]
    return "\n".join(lines)


def _say(check: dict[str, Any], good: str | None = None) -> str:
    return (good or check["detail"]) if check["ok"] else f"FAILS: {check['detail']}"


def _ops(env: dict[str, Any]) -> str:
    if env["checks"]["mmcv.ops"]["ok"] or not env["packages"]["mmcv-lite"]:
        return _say(env["checks"]["mmcv.ops"], "compiled operators work")
    return "no compiled operators in mmcv-lite; recognizers need none"


def _resources(env: dict[str, Any]) -> str:
    return env["checks"]["pkg_resources"]["detail"]


def _decodes(packages: dict[str, Any], name: str, check: dict[str, Any]) -> str:
    if name != "opencv" and not packages[name]:
        return "not installed"
    return f"{packages.get(name) or ''} {_say(check)}".strip()
