"""Each way to break an environment, with what has to be said of it."""

from typing import Any, NamedTuple

GPU = "NVIDIA A100, 40536 MiB, 470.57"
CUDA = "2.14.1+cu130, CUDA build 13.0"
GOOD_VERSIONS = {
    **{"torch": "2.14.1", "torchvision": "0.29.1", "mmcv": None, "mmcv-lite": "2.1.0"},
    **{"opencv-python": "5.0.0", "opencv-contrib-python": "5.0.0"},
    **dict.fromkeys(("opencv-python-headless", "opencv-contrib-python-headless")),
}
FULL = {"mmcv": "2.1.0", "mmcv-lite": None}
TWO = {"mmcv": "2.1.0", "mmcv-lite": "2.1.0"}


class Broken(NamedTuple):
    """What differs from a good environment, the words of its one problem, and of the fix."""

    what: str
    fix: str
    python: str = "3.12.1"
    machine: str = "x86_64"
    storage: dict[str, Any] = {}
    requirements: list[str] | None = []
    versions: dict[str, str | None] = {}
    torch: str = CUDA
    gpus: list[str] = []
    cuda: tuple[int, str] = (0, "")
    fails: dict[str, str] = {}  # what an examination raises, by its name


BROKEN: dict[str, Broken] = {
    "old Python": Broken("Python 3.10.9: expected <3.14,>=3.11", "PYTHON=", python="3.10.9"),
    "missing package": Broken(
        "mmcv-lite is not installed, which mmact-tiny requires",
        "pip install -e .",
        requirements=["mmact-tiny 0.1.0 requires mmcv-lite, which is not installed."],
        versions={"mmcv-lite": None},
        fails={"mmcv": "No module named 'mmcv'", "mmaction.models": "No module named 'mmcv'"},
    ),
    "the second step left out": Broken(
        "mmaction2 is not installed",
        "pip install --no-deps mmaction2",
        machine="aarch64",
        versions={"mmaction2": None, "decord": None},
        fails={"mmaction.models": "MMAction2 is not installed: pip install --no-deps mmaction2"},
    ),
    "missing package of another": Broken(
        "yapf is not installed, which mmengine requires",
        "pip install yapf",
        requirements=["mmengine 0.10.7 requires yapf, which is not installed."],
    ),
    "version out of range": Broken(
        "mmcv-lite 2.2.0: expected mmcv-lite<2.2,>=2.1.0",
        "pip install 'mmcv-lite<2.2,>=2.1.0'",
        requirements=[
            "mmact-tiny 0.1.0 has requirement mmcv-lite<2.2,>=2.1.0, but you have mmcv-lite 2.2.0."
        ],
    ),
    "compiled mmcv out of range": Broken(
        "mmaction2 cannot be imported: AssertionError: MMCV==2.2.0 is used but incompatible.",
        "pip install 'mmcv-lite>=2.1.0,<2.2'",
        requirements=["mmact-tiny 0.1.0 requires mmcv-lite, which is not installed."],
        versions=FULL | {"mmcv": "2.2.0"},
        fails={"mmaction.models": "MMCV==2.2.0 is used but incompatible."},
    ),
    "another release of torch": Broken(
        "torch 2.13.0: torchvision 0.29.1 expected torch==2.14.1",
        "pytorch.org",
        requirements=[
            "torchvision 0.29.1 has requirement torch==2.14.1, but you have torch 2.13.0."
        ],
    ),
    "no pip": Broken("pip check does not run", "ensurepip", requirements=None),
    "broken PyTorch": Broken(
        "PyTorch cannot be imported: AssertionError: libcudart.so.12",
        "pytorch.org",
        fails={"torch": "libcudart.so.12", "mmengine": "libcudart.so.12"},
    ),
    "two mmcv": Broken(
        "mmcv 2.1.0 and mmcv-lite 2.1.0 are both installed",
        "pip uninstall -y mmcv mmcv-lite",
        versions=TWO,
    ),
    "mmcv of another torch": Broken(
        "compiled operators do not fit this PyTorch: AssertionError: undefined symbol",
        "mmcv-lite",
        versions=FULL,
        fails={"mmcv.ops": "undefined symbol"},
    ),
    "torchvision of another build": Broken(
        f"torchvision does not fit PyTorch (torch {CUDA}; torchvision 0.29.1): AssertionError: op",
        "pytorch.org",
        fails={"torchvision": "operator torchvision::nms does not exist"},
    ),
    "CPU build beside a GPU": Broken(
        "1 GPU(s), but PyTorch 2.14.1+cpu, CUDA build None is a build without CUDA",
        "pytorch.org",
        gpus=[GPU],
        torch="2.14.1+cpu, CUDA build None",
    ),
    "old driver": Broken(
        f"2 GPU(s), but PyTorch cannot use them: driver 470.57, PyTorch {CUDA}: "
        "The NVIDIA driver is too old",
        "update the driver",
        gpus=[GPU, GPU],
        cuda=(0, "The NVIDIA driver is too old"),
    ),
    "a GPU that PyTorch has no code for": Broken(
        "cuda:1 fails at a convolution: AssertionError: no kernel image",
        "--device cpu",
        gpus=[GPU, GPU],
        cuda=(2, ""),
        fails={"cuda:1": "no kernel image"},
    ),
    "no libGL": Broken(
        "OpenCV lacks a library of the system: AssertionError: libGL.so.1",
        "pip uninstall -y opencv-python opencv-contrib-python; pip install "
        "opencv-contrib-python-headless",
        fails={"cv2": "libGL.so.1: cannot open shared object file", "mmcv": "libGL.so.1"},
    ),
    "decord": Broken(
        "decord cannot decode a small H.264 clip: AssertionError: DECORDError",
        "pip install --force-reinstall --no-deps decord",
        fails={"decord": "DECORDError"},
    ),
    "mmengine before mmaction2": Broken(
        "mmengine cannot be imported: AssertionError: no yapf",
        "make clean setup",
        fails={"mmengine.runner": "no yapf", "mmaction.models": "no yapf"},
    ),
    "read-only folder": Broken(
        "cannot write into here", "--work-dir", storage={"is_writable": False}
    ),
    "full disk": Broken("0.4 GiB free", "--work-dir", storage={"free": 0.4}),
    "container": Broken("/dev/shm", "--shm-size", storage={"shared": 0.06}),
}
GOOD: dict[str, Broken] = {
    "as it is": Broken("", ""),
    "one GPU": Broken("", "", gpus=[GPU], cuda=(1, "")),
    "compiled mmcv": Broken(
        "",
        "",
        requirements=["mmact-tiny 0.1.0 requires mmcv-lite, which is not installed."],
        versions=FULL,
    ),
    "no decord where it has no wheels": Broken(
        "",
        "",
        machine="arm64",
        versions={"decord": None},
        requirements=["mmaction2 1.2.0 requires decord, which is not installed."],
    ),
    "another build of OpenCV": Broken(
        "", "", requirements=["mmengine 0.10.7 requires opencv-python, which is not installed."]
    ),
    "other packages than ours": Broken(
        "", "", requirements=["jupyter 1.1.1 requires notebook, which is not installed."]
    ),
    "no /dev/shm": Broken("", "", storage={"shared": None}),
    "no torchcodec": Broken("", "", versions={"torchcodec": None}, fails={"torchcodec": "none"}),
}
