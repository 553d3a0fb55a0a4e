"""The commands that the documents show, run as they stand there, on a few of the bundled clips.

The folder that they run in has what they name: a dataset, videos, FOLDER. Training is cut short,
one epoch of a small model, and in the default run testing too, `--protocol val`.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT
from jobs import SMALL

from mmact_tiny.errors import EXIT_OK

# Each with its translation, which shows the same commands.
DOCUMENTS = ("README.md", "README_zh-CN.md", "docs/tutorial.md", "docs/tutorial_zh-CN.md")
STARTS = ("python ", "python3 ", "make", "pip ", "torchrun ", ". ", "curl ", "$ ")
# What another test runs for real, or what needs a network.
LEFT_OUT = {
    "download.py": "fetches; its code is tested against a server on loopback",
    "probe.py": "needs what download.py fetches; tests/features runs it",
    "serve.py": "does not end; tests/serve/test_server.py starts it",
}


def blocks(text: str) -> Iterator[str]:
    """Yields the lines of a document's code blocks, fenced or indented."""
    fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced:
            yield line
        elif line.startswith("    "):
            yield line[4:]


def commands(document: str) -> list[str]:
    """Returns the command lines of a document, without their prompts and comments."""
    found = [line for line in blocks((ROOT / document).read_text()) if line.startswith(STARTS)]
    return [re.sub(r"\s+#.*", "", line).removeprefix("$ ") for line in found]


def of_tools(document: str) -> list[list[str]]:
    """Returns the `python tools/...` commands of a document, without `python tools/`."""
    split = [shlex.split(command) for command in commands(document)]
    return [words[1:] for words in split if words[:1] == ["python"] and "tools/" in words[1]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the project's to the commands, with 8 + 4 clips of data/tiny."""
    folder = tmp_path / "project"
    dataset = folder / "data" / "tiny"
    for split, count in (("train", 2), ("val", 1)):
        lines = (ROOT / f"data/tiny/{split}.txt").read_text().splitlines()
        chosen = [[line for line in lines if line.endswith(f" {label}")] for label in range(4)]
        kept = [line for same in chosen for line in same[:count]]
        (dataset / split).mkdir(parents=True)
        for line in kept:
            name = line.rpartition(" ")[0]
            shutil.copy(ROOT / "data/tiny" / split / name, dataset / split / name)
        (dataset / f"{split}.txt").write_text("\n".join(kept) + "\n")
    shutil.copy(ROOT / "data/tiny/label_map.txt", dataset)
    for name in ("configs", "tools"):
        (folder / name).symlink_to(ROOT / name)
    labels = (dataset / "label_map.txt").read_text().splitlines()
    for line in (ROOT / "data/tiny/train.txt").read_text().splitlines()[:24]:
        name, _, label = line.rpartition(" ")
        of_class = folder / "FOLDER" / labels[int(label)]
        of_class.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "data/tiny/train" / name, of_class)
    rows = [
        f"{path.relative_to(folder / 'FOLDER')},{start},{start + 0.5},{path.parent.name}"
        for path in sorted((folder / "FOLDER").glob("*/*.mp4"))
        for start in (0.0, 0.5)
    ]
    stretches = "\n".join(["path,start,end,label", *rows])
    (folder / "stretches.csv").write_text(stretches)
    clip = next((dataset / "val").iterdir())
    for name in ("video.mp4", "new_video.mp4", "long.mp4"):
        shutil.copy(clip, folder / name)
    shared = tmp_path / "shared" / "data"  # in the place of filmed videos
    shutil.copytree(dataset, shared / "exercise_or_typing")
    shutil.copy(clip, shared / "arm_wrestling.mp4")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MMACT_TINY_CACHE", str(tmp_path / "cache"))
    return folder


def cut_short(words: list[str]) -> list[str]:
    """Returns the arguments of a training command for one epoch of a small model."""
    words = list(words)
    if "--epochs" in words:
        words[words.index("--epochs") + 1] = "1"
    else:
        words += ["--epochs", "1"]
    if "--cfg-options" not in words:
        words.append("--cfg-options")
    place = words.index("--cfg-options") + 1
    return [*words[:place], *SMALL, *words[place:]]


def run_all(document: str, *, quick: bool) -> None:
    """Runs a document's commands in their order."""
    ran = []
    for script, *words in of_tools(document):
        name = Path(script).name
        if name in LEFT_OUT or ("--cam" in words and find_spec("pytorch_grad_cam") is None):
            continue
        if words[:1] and words[0].startswith("mmaction::"):
            continue  # test_zoo_families.py trains those, at a small size
        arguments = cut_short(words) if name == "train.py" else words
        if quick and name in ("test.py", "infer.py") and "--protocol" not in words:
            arguments = [*arguments, "--protocol", "val"]
        tool = import_module(f"tools.{name.removesuffix('.py')}")
        assert tool.main(arguments) in (None, EXIT_OK), f"{document}: {script} {words}"
        ran.append(name)
    assert {"train.py", "test.py", "infer.py"} <= set(ran)


@pytest.mark.parametrize("document", DOCUMENTS[::2])
def test_the_commands_run(document, project):
    run_all(document, quick=True)


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS[::2])
def test_the_commands_run_as_they_stand(document, project):
    run_all(document, quick=False)


ALL = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("[!.]*/*.md")])


@pytest.mark.parametrize("document", ALL)
def test_each_flag_that_is_named_is_one_of_its_tool(document, capsys):
    """In every document, also within a sentence, where a command may have placeholders."""
    text = (ROOT / document).read_text()
    for name, rest in re.findall(r"(?:python tools/|mmact )(\w+)(?:\.py)?([^`\n#]*)", text):
        tool = import_module(f"tools.{name}")
        with pytest.raises(SystemExit):
            tool.main(["--help"])
        known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
        assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", rest)) <= known, f"tools/{name}.py{rest}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_make_targets_are_there(document):
    targets = {command.split()[1] for command in commands(document) if command.startswith("make ")}
    for target in targets:
        assert subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True).returncode == 0


@pytest.mark.parametrize("pair", [DOCUMENTS[:2], DOCUMENTS[2:]])
def test_both_languages_show_the_same_commands(pair):
    assert commands(pair[0]) == commands(pair[1])
    assert len(commands(pair[0])) > 5
