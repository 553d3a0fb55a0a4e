"""Preparation on Ray: the same dataset, whatever is lost on the way."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT
from jobs import run_python, wait_for
from messy_folder import write_classes
from test_cluster import left_of, start
from video_files import write_video

from mmact_tiny.errors import EXIT_ERROR, EXIT_INTERRUPTED
from tools.prepare_data import main

pytestmark = pytest.mark.timeout(900)

# The tool, with a decoder that crashes or hangs where a video's name says so.
TOOL = """
import sys
from messy_folder import examine_or_fail
from mmact_tiny.prepare import examine_all
from tools.prepare_data import main
examine_all.examine = examine_or_fail
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 sound videos, one that is converted, and three that cannot be read."""
    pytest.importorskip("ray")
    folder = write_classes(tmp_path_factory.mktemp("source"), range(8))
    write_video(folder / "c1" / "av1.mp4", seed=8, codec="libsvtav1")
    for name in ("crash", "hang"):
        shutil.copy(folder / "c0" / "0.mp4", folder / "c0" / f"{name}.mp4")
    (folder / "c1" / "text.mp4").write_text("no video")
    return folder


@pytest.fixture(autouse=True)
def _workers_find_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    path = [str(ROOT / "tests" / "support"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))


def words(source: Path, out: Path, *flags: str) -> list[str]:
    return [sys.executable, "-c", TOOL, str(source), "--out", str(out), "--time-limit", "4", *flags]


def contents(out: Path) -> dict[str, Any]:
    """Returns the bytes of a dataset's files, the lines of what was found in order."""
    files = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    del files[Path(".lock")]
    files[Path(".examined.jsonl")] = b"".join(sorted((out / ".examined.jsonl").open("rb")))
    return files


def is_reading(process: psutil.Process) -> bool:
    """Returns whether it is a worker of Ray with a video; its decoder has the same name."""
    try:
        return process.cmdline()[:1] == ["ray::_call"] and process.parent().name() == "raylet"
    except (psutil.Error, AttributeError):
        return False


def test_a_lost_worker_and_bad_videos_change_nothing(source, tmp_path):
    assert subprocess.run(words(source, tmp_path / "here"), cwd=ROOT).returncode == 0
    process = start(words(source, tmp_path / "ray", "--ray"))
    family: dict[int, psutil.Process] = {}
    killed = False
    try:
        while process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                family.setdefault(child.pid, child)
                if not killed and is_reading(child):
                    child.send_signal(signal.SIGKILL)
                    killed = True
            time.sleep(0.05)
    finally:
        process.kill()
    said = process.stdout.read() if process.stdout else ""
    assert process.returncode == 0 and "Traceback" not in said, said
    assert killed, family
    assert "3 in quarantine" in said
    assert contents(tmp_path / "ray") == contents(tmp_path / "here")
    assert (tmp_path / "ray" / "videos" / "c1" / "av1.mp4.mp4").is_file()
    assert left_of([*family.values()]) == []


def test_interrupted_it_ends_at_once_and_goes_on(source, tmp_path):
    process = start(words(source, tmp_path / "out", "--ray"))
    found = tmp_path / "out" / ".examined.jsonl"
    try:
        wait_for(lambda: found.exists() and len(found.read_text().splitlines()) > 3, process)
        family = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == EXIT_INTERRUPTED, said
    assert said.splitlines()[-1] == "interrupted" and "Traceback" not in said
    assert left_of(family) == []
    num_found = len(found.read_text().splitlines()) - 1
    again = run_python(*words(source, tmp_path / "out")[1:]).stdout
    assert f"12 videos listed (class folders), {12 - num_found} read now" in again


# Files of this process alone stand for those that another machine does not have.
CALLS = """
import os, sys
from messy_folder import examine_or_fail
from mmact_tiny.errors import UserError
from mmact_tiny.scale.call_each import call_each
from mmact_tiny.scale.cluster import connected

video, folder = sys.argv[1:]
os.dup2(os.open(video, os.O_RDONLY), 900)
os.dup2(os.open(folder, os.O_RDONLY), 901)
with connected("local"):
    above = folder + "/above.mp4"
    [(_, lost)] = call_each(examine_or_fail, [(above, (above,), 60)])
    print(f"said: {lost.kind}: {lost.detail}")
    for path, place in (("/proc/self/fd/900", None), (video, "/proc/self/fd/901")):
        try:
            list(call_each(examine_or_fail, [(path, (path,), 60)], place))
        except UserError as error:
            print(f"said: {error}")
"""


def test_what_a_machine_cannot_read_is_a_line(source, tmp_path):
    shutil.copy(source / "c0" / "0.mp4", tmp_path / "above.mp4")
    out = run_python("-c", CALLS, source / "c0" / "0.mp4", tmp_path).stdout
    said = [line[6:] for line in out.splitlines() if line.startswith("said: ")]
    machine = said[1].removeprefix("--ray: ").split()[0]
    same = "which has to be at the same path on every machine"
    assert said == [
        "decoder crashed: with its worker of Ray, each time",
        f"--ray: {machine} of the cluster cannot read /proc/self/fd/900, {same}",
        f"--ray: {machine} of the cluster cannot read --out /proc/self/fd/901, {same}, or add "
        "--no-convert",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["above.mp4"]


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--ray 127.0.0.1:1", "--ray 127.0.0.1:1: no cluster answers: "),
        ("--ray --workers 2", "--workers: expected without --ray"),
    ],
)
def test_a_wrong_flag_is_a_line(flags, message, source, tmp_path, capsys):
    try:
        status = main([str(source), "--out", str(tmp_path / "out"), *flags.split()])
    except SystemExit as end:
        status = end.code
    assert status == EXIT_ERROR
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "train.txt").exists()
