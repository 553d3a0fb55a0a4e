"""The wheel in an environment of its own, outside of the project's folder, without decord.

The environment has the packages of the one that tests, but for these two.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest
from conftest import ROOT
from jobs import SMALL
from packaging.requirements import Requirement

SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "mmact_tiny", "tools", "configs")
BUILD = "import sys; from setuptools import build_meta as b; b.build_{}(sys.argv[1])"
PLATFORMS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin")


def run(*words: object, cwd: Path, status: int = 0, **environ: str) -> str:
    """Runs a command without the tests' variables; returns what it printed."""
    known = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        list(map(str, words)),
        cwd=cwd,
        env={**known, "OMP_NUM_THREADS": "1", **environ},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == status, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the sdist that is built from this tree."""
    folder = tmp_path_factory.mktemp("build")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "data/tiny/train", folder / "data/tiny/train")
    run(sys.executable, "-c", BUILD.format("sdist"), folder / "dist", cwd=folder)
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    run(sys.executable, "-c", BUILD.format("wheel"), folder / "dist", cwd=source)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def mmact(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command in a new environment with the wheel."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q")
    run(*pip, "--no-deps", "--no-index", wheel, cwd=folder)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(python, "-c", code, cwd=folder).strip())
    (packages / "of_the_tests.pth").write_text(sysconfig.get_path("purelib"))
    (packages / "no_decord.pth").write_text("import sys; sys.modules['decord'] = None")
    code = "import mmact_tiny; print(mmact_tiny.__file__)"
    assert packages in Path(run(python, "-c", code, cwd=folder).strip()).parents
    return folder / "bin" / "mmact"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two training and two validation clips of two classes."""
    for split in ("train", "val"):
        (tmp_path / "mine" / split).mkdir(parents=True)
        names = ("bouncing_ball1.mp4", "falling_rain1.mp4")
        for name in names:
            shutil.copy(ROOT / "data/tiny" / split / name, tmp_path / "mine" / split)
        lines = "".join(f"{name} {label}\n" for label, name in enumerate(names))
        (tmp_path / "mine" / f"{split}.txt").write_text(lines)
    (tmp_path / "mine" / "label_map.txt").write_text("ball\nrain\n")
    return tmp_path / "mine"


def test_it_trains_tests_and_infers_in_any_folder(mmact, dataset):
    folder = dataset.parent
    words = ["--data", "mine", "--epochs", "1", "--device", "cpu", "--cfg-options", *SMALL]
    said = run(mmact, "train", "tsn_tiny", *words, cwd=folder)
    assert "next: mmact test\n  or: mmact infer VIDEO --checkpoint work_dirs/tsn_tiny/" in said
    said += run(mmact, "test", "--protocol", "val", cwd=folder)
    assert "of 2 videos)" in said
    said += run(mmact, "infer", "mine/val/falling_rain1.mp4", "--protocol", "val", cwd=folder)
    assert "rain: 0." in said
    assert "tools/" not in said and "configs/" not in said.replace("configs/tsn_tiny_scratch", "")
    (facts,) = (folder / "work_dirs" / "tsn_tiny").glob("*/run.json")
    assert json.loads(facts.read_text())["command"].startswith("mmact train tsn_tiny --data mine")
    assert (folder / "work_dirs/tsn_tiny/report.html").is_file()
    assert sorted(path.name for path in folder.iterdir()) == ["mine", "work_dirs"]


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        ([], 0, "    train       Train a recognizer.\n"),
        (["--version"], 0, "0.2.0\n"),
        (
            ["trian"],
            2,
            "error: no command 'trian'; did you mean 'train'? (--help lists the flags)\n",
        ),
        (["train", "--help"], 0, "\nmmact train tsn_tiny --data data/mine\n"),
        (["train", "tsn_tinny"], 2, "error: no config tsn_tinny; did you mean 'tsn_tiny'?\n"),
        (["train", "tsn_tiny"], 2, "or render it: mmact render_tiny --out data/tiny\n"),
        (["infer", "x.mp4"], 2, "error: no video file x.mp4\n"),
    ],
)
def test_what_it_says(mmact, tmp_path, words, status, says):
    assert says in run(mmact, *words, cwd=tmp_path, status=status)


def completions(mmact: Path, folder: Path, line: str) -> list[str]:
    """Returns what the shell is offered for a line, as argcomplete's own script asks."""
    asked = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9", "IFS": "\013"}
    asked |= {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\013", "_ARGCOMPLETE_SHELL": "bash"}
    run("sh", "-c", f'"{mmact}" 8>answer', cwd=folder, **asked)
    return [word.strip() for word in (folder / "answer").read_text().split("\013")]


def test_the_shell_completes(mmact, tmp_path):
    pytest.importorskip("argcomplete", reason="pip install 'mmact-tiny[completion]'")
    assert completions(mmact, tmp_path, "mmact pre") == ["prepare_data"]
    assert completions(mmact, tmp_path, "mmact train --da") == ["--data"]
    assert completions(mmact, tmp_path, "mmact infer --protocol ") == ["full", "val"]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "arm64"])
def test_what_is_required_where(wheel, machine):
    """Elsewhere than on x86-64 what needs decord is a second step."""
    with ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        lines = archive.read(name).decode().splitlines()
    found = [Requirement(line[15:]) for line in lines if line.startswith("Requires-Dist: ")]
    environment = {"platform_machine": machine, "extra": ""}
    names = {one.name for one in found if not one.marker or one.marker.evaluate(environment)}
    others = {"einops", "opencv-contrib-python"}
    theirs = {"decord", "mmaction2"}
    assert names & (theirs | others) == (theirs if machine == "x86_64" else others)
    bounds = {one.name: str(one.specifier) for one in found if "<" in str(one.specifier)}
    assert bounds == {"mmcv-lite": "<2.2,>=2.1.0"}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_requirements_resolve(platform, tmp_path):
    """From wheels alone, by uv and the package index; MMAction2's own wheel is for any platform."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("no uv")
    flags = ["--python-platform", platform, "--only-binary", ":all:", "-q", "--python-version"]
    done = subprocess.run(
        [uv, "pip", "compile", ROOT / "pyproject.toml", *flags, "3.12"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if "error sending request" in done.stderr or "Failed to fetch" in done.stderr:
        pytest.skip(f"no package index: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    names = {line.partition("==")[0] for line in done.stdout.splitlines() if "==" in line}
    assert {"torch", "mmengine", "mmcv-lite", "av"} <= names
    assert ("decord" in names) == ("mmaction2" in names) == platform.startswith("x86_64")
