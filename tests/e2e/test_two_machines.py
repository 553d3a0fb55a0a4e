"""Two machines, each a network namespace of this one, train over TCP until one is cut off."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import ROOT
from jobs import output, wait_for, with_lines

MACHINES = {"mmact_a": "10.77.0.1", "mmact_b": "10.77.0.2"}
LINK = "mmact_veth"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def machines() -> Iterator[None]:
    """Two namespaces with a cable between them; only an administrator may lay one."""
    if shutil.which("ip") is None:
        pytest.skip("no `ip` here: apt install iproute2")
    try:
        for name in MACHINES:
            ip("netns", "add", name)
        first, second = MACHINES
        ip("link", "add", LINK, "netns", first, "type", "veth", "peer", LINK, "netns", second)
        for name, address in MACHINES.items():
            ip("-n", name, "addr", "add", f"{address}/24", "dev", LINK)
            for device in ("lo", LINK):
                ip("-n", name, "link", "set", device, "up")
        yield
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    finally:
        for name in MACHINES:
            with suppress(subprocess.CalledProcessError, FileNotFoundError):
                ip("netns", "delete", name)


def start(machine: str, config: Path, work_dir: Path, log: Path) -> subprocess.Popen:
    """Starts a machine's torchrun, with one process; all of them meet on the first machine."""
    command = ["ip", "netns", "exec", machine, sys.executable, "-m", "torch.distributed.run"]
    command += ["--nnodes=1:2", "--nproc_per_node=1", "--max-restarts=5", "--rdzv_backend=c10d"]
    command += [f"--rdzv_endpoint={MACHINES['mmact_a']}:29400", "--rdzv_id=job"]
    # Both have the name of this machine, by which torchrun knows where the meeting place is.
    settings = f"is_host={int(machine == 'mmact_a')},last_call_timeout=20,keep_alive_interval=2"
    command += [f"--rdzv_conf={settings},read_timeout=30"]
    command += [f"--local_addr={MACHINES[machine]}", "tools/train.py", str(config), "--verbose"]
    command += ["--launcher", "pytorch", "--device", "cpu", "--resume", "--checkpoint-every", "2"]
    command += ["--work-dir", str(work_dir), "--cfg-options", "+env_cfg.dist_cfg.timeout=15"]
    environ = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT}/tests/support", "OMP_NUM_THREADS": "1"}
    environ |= {"GLOO_SOCKET_IFNAME": LINK, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    with log.open("w") as file:
        return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=file, stderr=file)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("machines")
def test_a_machine_that_is_cut_off_does_not_end_the_job(config, tmp_path):
    """In the middle of the second epoch: the other machine ends the run alone."""
    seen, work_dir = tmp_path / "seen.txt", tmp_path / "run"
    work_dir.mkdir()
    changed = with_lines(
        config,
        tmp_path,
        "custom_imports = dict(imports=['disturbances'])",
        f"custom_hooks = [dict(type='SeenVideos', file={str(seen)!r})]",
    )
    changed.write_text(changed.read_text().replace("train=4", "train=1"))
    first = start("mmact_a", changed, work_dir, work_dir / "output.txt")
    second = start("mmact_b", changed, work_dir, tmp_path / "second.txt")
    try:
        text = work_dir / "output.txt", tmp_path / "second.txt"
        wait_for(lambda: any("[2][3/8]" in path.read_text() for path in text), first)
        ip("-n", "mmact_b", "link", "set", LINK, "down")
        assert first.wait(300) == 0, output(work_dir)[-3000:]
    finally:  # the other one's torchrun looks for the meeting place for minutes
        for agent in (first, second):
            if agent.poll() is None:
                for process in [*psutil.Process(agent.pid).children(recursive=True), agent]:
                    process.kill()
    assert "num_processes was 2, now 1: from here on the rates" in output(work_dir)
    last = Counter(
        name
        for epoch, *names in map(str.split, seen.read_text().splitlines())
        for name in names
        if epoch == "3"
    )
    assert last == dict.fromkeys((f"{number}.mp4" for number in range(16)), 1)
