"""List and fetch the wheels that a GPU machine without a package index needs for this project.

python benchmarks/wheels.py DIR
python benchmarks/wheels.py DIR --have pip_list.txt --list

For Linux x86-64 and a machine that has torch (2.11 with torchvision 0.26 and Python 3.12, say) with
all that it needs. --have names what else it has: the output of its `pip list` or `pip freeze`. The
versions are those installed here. `make gpu WHEELS=DIR` installs what was fetched.
"""

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PLATFORMS = [f"manylinux_2_{n}_x86_64" for n in (35, 34, 31, 28, 27, 24, 17, 12, 5)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
ROOT = Path(__file__).resolve().parent.parent
TESTS = ("pytest", "pytest-timeout")
WITH_TORCH = ("torch", "torchvision")  # and what these need
# One import, `cv2`, from four distributions: where the machine has one, no other is fetched.
OPENCV = re.compile(r"opencv-(contrib-)?python(-headless)?$")


def needs(names: Sequence[str], python: str) -> set[str]:
    """Returns the distributions that these need, and themselves, as they are installed here."""
    environment = {**default_environment(), "python_version": python, "extra": ""}
    environment["python_full_version"] = f"{python}.0"
    found: set[str] = set()
    waiting = [str(canonicalize_name(name)) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for line in metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(environment):
                waiting.append(str(canonicalize_name(requirement.name)))
    return found


def names_in(text: str) -> set[str]:
    """Returns the distributions of `pip list` or `pip freeze`, or of a list of names."""
    found = re.findall(r"(?m)^\s*([A-Za-z0-9][\w.-]*)", text)
    return {str(canonicalize_name(name)) for name in found if name != "Package"}


def missing(have: set[str], python: str) -> list[str]:
    """Returns what a machine that has torch lacks, each as `name==version`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = [Requirement(line).name for line in project["dependencies"]]
    wanted = needs([*direct, *TESTS], python) - needs(WITH_TORCH, python) - have
    if any(OPENCV.match(name) for name in have):
        wanted = {name for name in wanted if not OPENCV.match(name)}
    return [f"{name}=={metadata.version(name)}" for name in sorted(wanted)]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--have", type=Path, metavar="FILE", help="its `pip list`")
    parser.add_argument("--list", action="store_true", help="only print what would be fetched")
    parser.add_argument("--python", default="3.12", metavar="VERSION")
    args = parser.parse_args(argv)
    wanted = missing(names_in(args.have.read_text()) if args.have else set(), args.python)
    print("\n".join(wanted))
    if args.list or not wanted:
        return 0
    args.folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", args.python, "--implementation", "cp"]
    command += [flag for name in PLATFORMS for flag in ("--platform", name)]
    done = subprocess.run([*command, "--dest", str(args.folder), *wanted], check=False)
    size = sum(path.stat().st_size for path in args.folder.glob("*.whl"))
    print(f"{len(wanted)} wheels wanted, in {args.folder} are {size / 2**20:.0f} MiB")
    return done.returncode


if __name__ == "__main__":
    raise SystemExit(main())
