"""Runs that go on: after more videos, an interruption, a crash; what is left alone; errors."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from messy_folder import examine_or_fail, lists, write_classes
from video_files import write_video

from mmact_tiny.errors import UserError
from mmact_tiny.prepare import examine_all
from mmact_tiny.prepare.examine_all import RecordLog
from mmact_tiny.prepare.prepare import prepare_data
from mmact_tiny.prepare.types import Record, Settings
from tools.prepare_data import main


def test_a_second_run_reads_only_what_is_new(tmp_path: Path) -> None:
    source, out = write_classes(tmp_path / "src", range(10)), tmp_path / "out"
    assert prepare_data(source, out)["read_now"] == 10
    first = lists(out)
    summary = prepare_data(source, out)
    assert (summary["read_now"], lists(out)) == (0, first)
    write_classes(source, range(10, 16))
    assert prepare_data(source, out)["read_now"] == 6
    second = lists(out)
    assert set(first["train"]) < set(second["train"]) and set(first["val"]) < set(second["val"])
    assert {split: len(lines) for split, lines in second.items()} == {"train": 12, "val": 4}
    (source / "c0" / "0.mp4").unlink()
    prepare_data(source, out)
    assert not os.path.lexists(out / "videos" / "c0" / "0.mp4")


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = write_classes(tmp_path / "src", range(6)), tmp_path / "out"
    add = RecordLog.add

    def stop_after_four(self: RecordLog, *args: Any) -> Record:
        if len(self.by_file) == 4:
            raise KeyboardInterrupt
        return add(self, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RecordLog, "add", stop_after_four)
        prepare_data(source, out)
    with (out / ".examined.jsonl").open("a") as file:
        file.write('{"path": "torn')
    assert prepare_data(source, out)["read_now"] == 2
    assert prepare_data(source, out)["read_now"] == 0


def test_a_crash_or_a_hang_costs_one_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = write_classes(tmp_path / "src", range(8)), tmp_path / "out"
    shutil.copy(source / "c0" / "0.mp4", source / "c0" / "crash.mp4")
    shutil.copy(source / "c0" / "0.mp4", source / "c0" / "hang.mp4")
    monkeypatch.setattr(examine_all, "examine", examine_or_fail)
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
        ("nowhere --out out", "does not exist"),
        ("empty --out out", "no videos in"),
        ("empty --out empty", "is the source itself"),
        ("empty --out out --val 20", "between 0 and 1"),
        ("empty --out out --workers 0", "--workers 0: expected 1 or more"),
        ("empty --out out --time-limit 0", "--time-limit 0: expected more than 0"),
    ],
)
def test_the_tool_says_what_is_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(arguments.split()) == 2
    assert message in capsys.readouterr().err


def test_a_full_disk_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    write_classes(tmp_path / "src", range(4))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".examined.jsonl").symlink_to(full)
    monkeypatch.setattr(RecordLog, "_load", lambda self: None)
    with pytest.raises(UserError, match="no space left for"):
        prepare_data(tmp_path / "src", tmp_path / "out")


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_video(tmp_path / "src" / "c0" / "0.mp4")
    code = f"from mmact_tiny.files import held\nwith held({str(out)!r}): print(), input()"
    command = [sys.executable, "-uc", code]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as other:
        other.stdout.readline()
        with pytest.raises(UserError, match=r"out is in use by .* wait for it, or choose .*--out"):
            prepare_data(tmp_path / "src", out)
        other.communicate("\n")


def test_what_0_1_0_remembered_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write_classes(tmp_path / "src", range(4)), tmp_path / "out"
    assert prepare_data(source, out, Settings(val=0.5))["read_now"] == 4
    (out / ".examined.jsonl").rename(out / ".probe.jsonl")
    assert prepare_data(source, out, Settings(val=0.5))["read_now"] == 0
    assert not (out / ".probe.jsonl").exists()
    lines = (out / ".examined.jsonl").read_text().splitlines(keepends=True)
    (out / ".examined.jsonl").write_text('{"version": 0}\n' + "".join(lines[1:]))
    capsys.readouterr()
    assert prepare_data(source, out, Settings(val=0.5))["read_now"] == 4
    assert "another version: every video is decoded again" in capsys.readouterr().out
