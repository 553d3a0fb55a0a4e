"""Jobs on Ray: a local cluster in a process group of its own, which leaves nothing behind."""

import os
import re
import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT
from jobs import command, wait_for
from small_recognizer import small_recognizer

from benchmarks.ray_cluster import Cluster
from benchmarks.scale import parts_of, write_videos
from mmact_tiny.errors import EXIT_ERROR, EXIT_PARTIAL
from tools import infer

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("ray")
    return write_videos(tmp_path_factory.mktemp("videos"), 40)


def words(videos: Path, out: Path, *flags: str) -> list[str]:
    checkpoint = str(small_recognizer().checkpoint)
    own = ["--checkpoint", checkpoint, "--engine", "torch", "--precision", "fp32"]
    return command("infer", videos, "--out", out, *own, *flags)


@pytest.fixture(scope="module")
def whole(videos, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("job") / "answers"
    assert subprocess.run(words(videos, folder), cwd=ROOT).returncode == EXIT_PARTIAL
    return folder


def start(arguments: list[str]) -> subprocess.Popen[str]:
    environ = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    arguments = [word for word in arguments if not word.startswith("PYTHONPATH=")]
    pipes: dict[str, Any] = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return subprocess.Popen(arguments, cwd=ROOT, env=environ, start_new_session=True, **pipes)


def left_of(family: list[psutil.Process]) -> list[psutil.Process]:
    return psutil.wait_procs(family, timeout=10)[1]


def test_a_lost_worker_changes_nothing_and_all_processes_end(videos, whole, tmp_path):
    """A reader and an actor are killed while they work; the bad video is a row."""
    process = start(words(videos, tmp_path / "a", "--ray"))
    family: dict[int, psutil.Process] = {}
    killed: set[str] = set()
    try:
        while process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                family.setdefault(child.pid, child)
                try:
                    name = re.sub(r"\W*\(.*|^ray::", "", " ".join(child.cmdline()))
                except psutil.Error:
                    continue
                if name in ("read_batch", "Map", "MapWorker") and name not in killed:
                    killed.add(name)
                    child.send_signal(signal.SIGKILL)
            time.sleep(0.05)
    finally:
        process.kill()
    said = process.stdout.read() if process.stdout else ""
    assert process.returncode == EXIT_PARTIAL, said
    assert killed, family
    assert "1 of 40 videos could not be read" in said and "Traceback" not in said
    assert parts_of(tmp_path / "a") == parts_of(whole)
    assert left_of([*family.values()]) == []


@pytest.mark.slow
def test_a_lost_machine_changes_nothing(tmp_path):
    """The raylet of one of two is killed while a worker of it is at a batch."""
    pytest.importorskip("ray")
    videos, out = write_videos(tmp_path, 160), tmp_path / "a"
    with closing(Cluster()) as cluster:
        family = psutil.Process().children(recursive=True)
        process = start(words(videos, out, "--ray", cluster.address))
        try:
            (second,) = cluster.find("node")
            wait_for(lambda: cluster.at_work(second), process)
            family += [psutil.Process(process.pid), *psutil.Process().children(recursive=True)]
            second.kill()
            done = len(parts_of(out))
            said, _ = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == EXIT_PARTIAL and done < 10, said
    assert "1 of 160 videos could not be read" in said and "Traceback" not in said
    assert left_of(family) == []
    assert subprocess.run(words(videos, tmp_path / "b"), cwd=ROOT).returncode == EXIT_PARTIAL
    assert len(parts_of(out)) == 10 and parts_of(out) == parts_of(tmp_path / "b")


WRONG = {
    "127.0.0.1:1": "--ray 127.0.0.1:1: no cluster answers: ",
    "data": "--ray data: expected an address; put --ray behind the videos",
}


@pytest.mark.parametrize("address", WRONG)
def test_an_address_without_a_cluster_is_a_line(address, videos, tmp_path):
    process = start(words(videos, tmp_path / "a", "--ray", address))
    try:
        said, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == EXIT_ERROR, said
    assert WRONG[address] in said.splitlines()[-1] and "Traceback" not in said
    assert not (tmp_path / "a" / "job.json").exists()


def test_without_ray_it_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mmact_tiny.scale.cluster.find_spec", lambda name: None)
    flags = ["--checkpoint", str(small_recognizer().checkpoint), "--ray"]
    assert infer.main(["data/tiny/val", "--out", str(tmp_path / "a"), *flags]) == EXIT_ERROR
    assert "--ray needs Ray: pip install 'mmact-tiny[ray]'" in capsys.readouterr().err
