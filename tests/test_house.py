"""The house keeps its layout: layers, sizes, the public names and flags, what inference imports."""

import ast
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from conftest import OPTIONAL_ROOMS, ROOT
from jobs import run_python

import mmact_tiny
from mmact_tiny.errors import as_typed

PACKAGE = ROOT / "mmact_tiny"
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
MOST_LINES_OF_A_FUNCTION = 50
MOST_LINES = 26_351
# Of pip, torchrun, docker, nvidia-smi, tensorboard and mlflow; names of colours in a style sheet.
OTHER_FLAGS = {
    *("--backend-store-uri", "--c", "--force-reinstall", "--line", "--logdir"),
    *("--no-deps", "--no-python", "--only-binary", "--query-gpu", "--shm-size"),
}
FLAGS = {
    "__main__": "--help --version",
    "browse": "--cfg-options --data --debug --help --num --out --pretrained --seed --split",
    "check_env": "--debug --help --json",
    "describe": "--cfg-options --data --debug --help --num-frames --video",
    "download": "--debug --force --help --list",
    "export": "--checkpoint --debug --format --help --int8 --out --videos",
    "extract": "--checkpoint --collect --config --debug --device --help --launcher --out --parquet "
    "--part --per --time-limit --verbose",
    "infer": "--background --cam --checkpoint --collect --config --debug --device --engine --for "
    "--help --label-map --launcher --out --parquet --part --precision --protocol --ray --render "
    "--smooth --stride --threshold --time-limit --top-k --verbose --window",
    "prepare_data": "--background --batch-size --cache --cache-size --clear-cache --copy --debug "
    "--frame-rate --group --help --keep-leaks "
    "--min-frames --multi-label --no-convert --out --ray --seed --split --tier --time-limit "
    "--val --videos --workers",
    "probe": "--cfg-options --checkpoint --config --data --debug --device --folds --help "
    "--launcher --looks --nproc_per_node --rank --time-limit --verbose --work-dir",
    "quantize": "--checkpoint --debug --help --precision --verbose",
    "render_tiny": "--debug --help --out --seed",
    "report": "--debug --help --out",
    "serve": "--checkpoint --config --debug --device --engine --examples --help --host --label-map "
    "--live --max-mb --max-seconds --port --precision --protocol --stride --window",
    "test": "--cfg-options --data --debug --device --engine --help --launcher --out --precision "
    "--protocol --time-limit --verbose --work-dir",
    "train": "--backbone-lr --batch-size --blend --cache --cache-size --cfg-options "
    "--checkpoint-every --data --debug --deterministic --device --dry-run --early-stop --ema "
    "--epochs --folds --freeze --global-batch --help --label-smoothing --launcher --layer-decay "
    "--lora --multi-label --nproc_per_node --precision --pretrained --recipe --resume --seed "
    "--track --verbose --work-dir",
}


def num_lines(*files: Path) -> int:
    return sum(len(file.read_text().splitlines()) for file in files)


def lint_imports(folder: Path) -> tuple[int, str]:
    """Returns the exit status of import-linter on the package in a folder, and what it printed."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    environ = {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    return done.returncode, done.stdout


def test_imports_go_down_the_layers():
    status, said = lint_imports(ROOT)
    assert status == 0 and "Contracts: 2 kept, 0 broken." in said, said


def test_an_import_that_goes_up_is_found(tmp_path):
    """The contract is not empty: one wrong line breaks it."""
    shutil.copytree(PACKAGE, tmp_path / "mmact_tiny")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "mmact_tiny" / "infer.py").open("a") as file:
        file.write("\nfrom .view import windows\n")
    status, said = lint_imports(tmp_path)
    assert status == 1 and "mmact_tiny.infer -> mmact_tiny.view.windows" in said


def test_the_root_is_small():
    files = list(PACKAGE.glob("*.py"))
    assert len(files) <= 18
    assert num_lines(*files) <= 2700


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_small_and_says_what_it_is(room):
    files = list((PACKAGE / room).glob("*.py"))
    assert len(files) <= 15
    assert max(num_lines(file) for file in files) <= 500
    for file in files:
        assert ast.get_docstring(ast.parse(file.read_text())), file


def test_the_package_does_not_grow():
    """The whole package; a new feature is a room, and takes out what it makes dead."""
    assert num_lines(*PACKAGE.rglob("*.py")) <= MOST_LINES


def test_functions_are_short():
    """Counted without the docstring; a longer one says there why."""
    long = []
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                first = node.body[1] if ast.get_docstring(node) and node.body[1:] else node.body[0]
                if node.end_lineno - first.lineno >= MOST_LINES_OF_A_FUNCTION:
                    long.append(f"{file.name}:{node.name}")
    assert long == []


def test_ours_are_imported_at_the_top():
    """An import inside a function may wait for a heavy package, not go round the layers."""
    late = set()
    for file in PACKAGE.rglob("*.py"):
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef):
                late |= {
                    (str(file.relative_to(PACKAGE)), node.module)
                    for node in ast.walk(function)
                    if isinstance(node, ast.ImportFrom) and node.level
                }
    assert late == {
        ("engine/engine.py", "compat"),  # MMAction2's layers, which not every model has
        ("log.py", "compat"),  # MMEngine, which `--help` does without
        ("recognizer.py", "engine.engine"),  # PyTorch's compiler, while the first video is read
    }


def test_the_public_names():
    assert mmact_tiny.__all__ == [
        "OVERRIDES",
        "Recognizer",
        "UserError",
        "load_config",
        "test",
        "train",
    ]
    import_module("mmact_tiny.train")
    assert callable(mmact_tiny.train) and callable(mmact_tiny.test), "not the module of the name"


@pytest.mark.parametrize("tool", sorted(FLAGS))
def test_the_flags_of_a_tool(tool, capsys):
    with pytest.raises(SystemExit):
        import_module(f"tools.{tool}").main(["--help"])
    usage = capsys.readouterr().out
    assert sorted(set(re.findall(r"(?<![\w-])--[a-z][\w-]*", usage))) == FLAGS[tool].split()


def test_messages_name_flags_that_exist():
    named = {
        flag
        for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tools").glob("*.py")]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", node.value)
    }
    known = {flag for flags in FLAGS.values() for flag in flags.split()}
    assert named - known == OTHER_FLAGS


def test_every_tool_is_listed():
    found = {path.stem for path in (ROOT / "tools").glob("*.py")}
    assert found - {"__init__"} == set(FLAGS)


def test_messages_name_a_tool_so_that_it_can_be_typed(monkeypatch):
    """As `mmact` each message of `python tools/train.py` says `mmact train`."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/mmact"])
    told = 0
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tools").glob("[!_]*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        own = {
            PACKAGE in path.parents and ast.get_docstring(node, clean=False)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        }
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and text not in own:
                told += "tools/" in text
                assert not re.search(r"tools/\w+\.py", as_typed(text)), f"{path.name}: {text}"
    assert told > 30


def test_inference_imports_little_and_no_optional_room(tiny_checkpoint):
    video = next((ROOT / "data/tiny/val").glob("*.mp4"))
    words = [str(video), "--checkpoint", str(tiny_checkpoint), "--protocol", "val"]
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['infer.py', *{words!r}]\n"
        "try:\n"
        "    runpy.run_path('tools/infer.py', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        "print('ours:', *sorted(n for n in sys.modules if n.split('.')[0] == 'mmact_tiny'))\n"
    )
    environ = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    ours = run_python("-c", code, env=environ).stdout.splitlines()[-1].split()[1:]
    assert len(ours) <= 25, ours
    assert not [name for name in ours if name.startswith("mmact_tiny.download")]
    assert not [name for name in ours if name.split(".")[1:2] in [[r] for r in OPTIONAL_ROOMS]]
