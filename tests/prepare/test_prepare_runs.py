"""Runs that go on: after more videos, an interruption, a crash; what is left alone; errors."""

import os
import shutil
from pathlib import Path

import pytest
from video_files import write_video

from mmact_tiny.errors import UserError
from mmact_tiny.prepare.prepare import examine_all as probing
from mmact_tiny.prepare.prepare import prepare_data
from mmact_tiny.prepare.types import Settings


def lists(out: Path) -> dict[str, list[str]]:
    return {s: (out / f"{s}.txt").read_text().splitlines() for s in ("train", "val")}


def test_a_second_run_reads_only_what_is_new(tmp_path: Path) -> None:
    source, out = tmp_path / "growing", tmp_path / "growing_out"
    for index in range(10):
        write_video(source / f"c{index % 2}" / f"{index}.mp4", seed=index)
    assert prepare_data(source, out)["read_now"] == 10
    first = lists(out)
    summary = prepare_data(source, out)
    assert (summary["read_now"], lists(out)) == (0, first)
    for index in range(10, 16):
        write_video(source / f"c{index % 2}" / f"0{index}.mp4", seed=index)
    assert prepare_data(source, out)["read_now"] == 6
    second = lists(out)
    assert set(first["train"]) < set(second["train"]) and set(first["val"]) < set(second["val"])
    assert {split: len(lines) for split, lines in second.items()} == {"train": 12, "val": 4}
    (source / "c0" / "0.mp4").unlink()
    prepare_data(source, out)
    assert not os.path.lexists(out / "videos" / "c0" / "0.mp4")


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = tmp_path / "stopped", tmp_path / "stopped_out"
    for index in range(6):
        write_video(source / f"c{index % 2}" / f"{index}.mp4", seed=index)
    add, count = probing.ProbeLog.add, 0

    def stop_after_four(self: probing.ProbeLog, *args: object) -> object:
        nonlocal count
        count += 1
        if count > 4:
            raise KeyboardInterrupt
        return add(self, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(probing.ProbeLog, "add", stop_after_four)
        prepare_data(source, out)
    with (out / ".probe.jsonl").open("a") as file:
        file.write('{"path": "torn')
    assert prepare_data(source, out)["read_now"] == 2
    assert prepare_data(source, out)["read_now"] == 0


def test_a_crash_or_a_hang_costs_one_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = tmp_path / "fatal", tmp_path / "fatal_out"
    for index in range(8):
        write_video(source / f"c{index % 2}" / f"{index}.mp4", seed=index)
    shutil.copy(source / "c0" / "0.mp4", source / "c0" / "crash.mp4")
    shutil.copy(source / "c0" / "0.mp4", source / "c0" / "hang.mp4")
    monkeypatch.setattr(probing, "TASK", "isolated_tasks:probe_or_fail")
    summary = prepare_data(source, out, Settings(seconds_per_video=3))
    assert summary["quarantined"] == {"decoder crashed": 1, "timed out": 1}
    assert sum(summary["videos"].values()) == 8
    monkeypatch.undo()
    assert prepare_data(source, out)["read_now"] == 2  # tried again


def test_copying_and_conversion_leave_the_originals_alone(tmp_path: Path) -> None:
    source, out = tmp_path / "src", tmp_path / "out"
    for index, codec in enumerate(["libx264", "libsvtav1"] * 2):
        write_video(source / f"c{index // 2}" / f"{index}.mp4", seed=index, codec=codec)
    contents = {path: path.read_bytes() for path in source.rglob("*.mp4")}
    prepare_data(source, out)
    assert (out / "videos/c0/0.mp4").is_symlink()
    assert not (out / "videos/c0/1.mp4.mp4").is_symlink()
    written = (out / "videos/c0/1.mp4.mp4").stat().st_mtime_ns
    prepare_data(source, out, Settings(copy=True))
    assert not (out / "videos/c0/0.mp4").is_symlink()
    assert (out / "videos/c0/1.mp4.mp4").stat().st_mtime_ns == written  # not converted again
    prepare_data(source, out, Settings(convert=False))
    assert (out / "videos/c0/1.mp4").is_symlink()
    assert contents == {path: path.read_bytes() for path in source.rglob("*.mp4")}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere", "--out", "out"], "does not exist"),
        (["empty", "--out", "out"], "no videos in"),
        (["empty", "--out", "empty"], "is the source itself"),
        (["empty", "--out", "out", "--val", "20"], "between 0 and 1"),
    ],
)
def test_the_tool_says_what_is_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    from tools.prepare_data import main

    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_full_disk_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    for index in range(4):
        write_video(tmp_path / "src" / f"c{index % 2}" / f"{index}.mp4", seed=index)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".probe.jsonl").symlink_to(full)
    monkeypatch.setattr(probing.ProbeLog, "_load", lambda self: None)
    with pytest.raises(UserError, match="no space left for"):
        prepare_data(tmp_path / "src", tmp_path / "out")


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    from mmact_tiny.prepare.prepare import _locked

    write_video(tmp_path / "src" / "c0" / "0.mp4")
    with _locked(tmp_path / "out"), pytest.raises(UserError, match="another run is preparing"):
        prepare_data(tmp_path / "src", tmp_path / "out")
