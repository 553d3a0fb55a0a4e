"""A job in a folder: its list, its identity, its parts, and what `--collect` makes of them."""

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from h264_videos import write_video
from jobs import full_disk
from small_recognizer import small_recognizer

from mmact_tiny.errors import EXIT_ERROR, EXIT_OK, EXIT_PARTIAL, UserError
from mmact_tiny.scale.job import Job, begin, part_size
from tools import infer

COUNT = 40  # videos: three parts, of 16, 16 and 8


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    return small_recognizer().checkpoint


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 40 videos by links to 4; the 6th is no video."""
    folder = tmp_path_factory.mktemp("videos")
    clips = [write_video(folder.parent / f"clip{i}.mp4", num_frames=9, seed=i) for i in range(4)]
    for number in range(COUNT):
        (folder / f"{number:02}.mp4").symlink_to(clips[number % 4])
    (folder / "05.mp4").unlink()
    (folder / "05.mp4").write_text("no video")
    return folder


def run(*arguments: str | Path) -> int:
    flags = ("--engine", "torch", "--precision", "fp32", "--device", "cpu")
    return infer.main([str(argument) for argument in (*arguments, *flags)])


@pytest.fixture(scope="module")
def whole(checkpoint, videos, tmp_path_factory) -> Path:
    """The folder of a job that ran undisturbed."""
    folder = tmp_path_factory.mktemp("job") / "answers"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert run(videos, "--out", folder, "--checkpoint", checkpoint) == EXIT_PARTIAL
    return folder


def parts_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*"))}


def test_a_job_has_its_list_its_identity_and_its_parts(whole, videos):
    listed = [str(videos / f"{number:02}.mp4") for number in range(COUNT)]
    assert (whole / "videos.txt").read_text().splitlines() == listed
    facts = json.loads((whole / "job.json").read_text())
    assert (facts["num_videos"], facts["part_size"], facts["format"]) == (40, 16, "jsonl")
    assert (facts["engine"], facts["top_k"], facts["source"]) == ("torch, fp32", 5, [str(videos)])
    rows = [json.loads(line) for part in parts_of(whole).values() for line in part.splitlines()]
    assert [len(part.splitlines()) for part in parts_of(whole).values()] == [16, 16, 8]
    assert [row["video"] for row in rows] == listed
    assert [row["video"] for row in rows if "error" in row] == [listed[5]]
    assert len(rows[0]["predictions"]) == 5 and rows[0] != rows[1]


def test_it_says_what_failed_and_not_what_did_not(checkpoint, videos, tmp_path, capsys):
    assert run(videos, "--out", f"{tmp_path}/a/", "--checkpoint", checkpoint) == EXIT_PARTIAL
    said = capsys.readouterr()
    assert f"error: cannot read video {videos}/05.mp4: " in said.out
    assert "1 of 40 videos could not be read" in said.out and "00.mp4" not in said.out
    assert "inference: 40/40" in said.err
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        *(".job.lock", "videos.txt", "job.json"),
        *(f"part-0000{number}.jsonl" for number in range(3)),
    }


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_what_is_missing_or_cut_is_computed_again(
    damage, whole, checkpoint, videos, tmp_path, capsys
):
    shutil.copytree(whole, tmp_path / "a")
    part = tmp_path / "a" / "part-00001.jsonl"
    before = {name: (tmp_path / "a" / name).stat().st_mtime_ns for name in parts_of(whole)}
    if damage == "missing":
        part.unlink()
    else:
        part.write_bytes(part.read_bytes()[:-20])
    (tmp_path / "a" / ".77-gone.jsonl").write_text("{")  # of a process that was killed
    assert run("--collect", tmp_path / "a", "--out", tmp_path / "all.csv") == EXIT_ERROR
    assert (
        "16 of 40 videos are missing, 1 parts from part-00001.jsonl on" in capsys.readouterr().err
    )
    assert run(videos, "--out", tmp_path / "a", "--checkpoint", checkpoint) == EXIT_OK
    said = capsys.readouterr().out
    assert "16 of 40 videos to do" in said and ("is cut off" in said) == (damage == "cut")
    assert parts_of(tmp_path / "a") == parts_of(whole)
    times = {name: (tmp_path / "a" / name).stat().st_mtime_ns for name in before}
    assert [name for name in before if times[name] != before[name]] == [part.name]


def test_shares_of_processes_that_know_nothing_of_each_other(whole, checkpoint, videos, tmp_path):
    """The first of two, then the second of three, then all that is left in one."""
    flags = ("--out", tmp_path / "a", "--checkpoint", checkpoint)
    for part, there in (("1/2", {0, 2}), ("2/3", {0, 1, 2})):
        assert run(videos, *flags, "--part", part) == EXIT_OK, "a share that failed in part"
        names = {f"part-0000{number}.jsonl" for number in there}
        assert parts_of(tmp_path / "a").keys() == names
    assert run(videos, *flags) == EXIT_OK
    assert parts_of(tmp_path / "a") == parts_of(whole)


def test_a_launcher_tells_the_share(whole, checkpoint, videos, tmp_path, monkeypatch):
    flags = ("--out", tmp_path / "a", "--checkpoint", checkpoint, "--launcher", "slurm")
    monkeypatch.setenv("SLURM_NTASKS", "3")
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert run(videos, *flags) == EXIT_OK
    assert [*parts_of(tmp_path / "a")] == ["part-00001.jsonl"]


def test_collected_in_each_format(whole, videos, tmp_path, capsys):
    for name in ("a.jsonl", "a.json", "a.csv"):
        assert run("--collect", whole, "--out", tmp_path / name) == EXIT_PARTIAL
    said = capsys.readouterr().out
    assert "40 videos, each once" in said and f"cannot read video {videos}/05.mp4" in said
    assert (tmp_path / "a.jsonl").read_bytes() == b"".join(parts_of(whole).values())
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert json.loads((tmp_path / "a.json").read_text()) == rows
    with (tmp_path / "a.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 39 * 5 + 1
    assert [row["video"] for row in table[::5]][:2] == [rows[0]["video"], rows[1]["video"]]


NOT_JOINED = {
    "job.json": ([], "that is a file of the job"),
    "part-00001.jsonl": ([], "that is a file of the job"),
    "../a.jsonl": (["--for", "label-studio"], "--for: expected without --collect"),
    "../a.csv": (["--label-map", "x.txt"], "--label-map: expected without --collect"),
    "../a.json": (["--protocol", "val"], "--protocol: expected without --collect"),
}


@pytest.mark.parametrize("name", NOT_JOINED)
def test_what_cannot_be_joined_is_a_line_and_the_job_stays(name, whole, capsys):
    (flags, message), before = NOT_JOINED[name], parts_of(whole)
    assert run("--collect", whole, "--out", f"{whole}/{name}", *flags) == EXIT_ERROR
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert parts_of(whole) == before and (whole / "job.json").exists()


def test_a_part_with_another_row_is_not_collected(whole, tmp_path, capsys):
    shutil.copytree(whole, tmp_path / "a")
    lines = (tmp_path / "a" / "part-00002.jsonl").read_text().splitlines(keepends=True)
    for wrong in ([lines[0], *lines[:-1]], ["{}\n", *lines[1:]], ["[\n", *lines[1:]]):
        (tmp_path / "a" / "part-00002.jsonl").write_text("".join(wrong))
        assert run("--collect", tmp_path / "a", "--out", tmp_path / "a.csv") == EXIT_ERROR
        error = capsys.readouterr().err
        assert "part-00002.jsonl is broken" in error and error.count("\n") == 1
    assert not (tmp_path / "a.csv").exists()


@pytest.mark.parametrize(
    ("num_videos", "size"),
    [(1, 16), (1024, 16), (2000, 32), (4096, 64), (1 << 20, 64), (10**6, 64), (10**8, 6104)],
)
def test_the_size_of_a_part(num_videos, size):
    assert part_size(num_videos) == size


def test_lists_folders_and_names(tmp_path):
    name = os.fsdecode(b"bad\xff.mp4")
    (tmp_path / "f" / "deep").mkdir(parents=True)
    for path in ("f/b.mp4", "f/deep/a.mp4", f"f/{name}", "f/note.pdf", "f/.hidden.mp4"):
        (tmp_path / path).touch()
    (tmp_path / "list.txt").write_bytes(b"f/b.mp4\r\n\n/y/2.mp4\ns3://z/3.mp4\nf/b.mp4\n")
    sources = [str(tmp_path / "list.txt"), str(tmp_path / "f"), f"{tmp_path}/a/../f/deep"]
    job = begin(tmp_path / "a", sources, dict(top_k=1))
    (part,) = job.parts([0])
    root = str(tmp_path)
    assert part.videos == [
        *(f"{root}/f/b.mp4", "/y/2.mp4", "s3://z/3.mp4"),
        *(f"{root}/f/{name}", f"{root}/f/deep/a.mp4"),
    ]
    rows = [dict(video=video, error="gone") for video in part.videos]
    job.write(part, rows)
    assert job.missing() == [] and job.read(part) == rows
    (tmp_path / "f" / "new.mp4").touch()
    assert begin(tmp_path / "a", sources, dict(top_k=1)).num_videos == 5, "the list is frozen"


def test_a_list_of_stretches_has_a_row_for_each(checkpoint, videos, tmp_path):
    """In a job, and in one file, with the same scores."""
    lines = ["path,start,end,label", "00.mp4,0,0.15,0", "00.mp4,0.15,0.3,0"]
    (tmp_path / "val.csv").write_text("\n".join(lines).replace("00", f"{videos}/00"))
    for out in ("a", "a.jsonl"):
        source = (tmp_path / "val.csv", "--out", tmp_path / out, "--checkpoint", checkpoint)
        assert run(*source, "--protocol", "val") == EXIT_OK
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["video"] for row in rows] == [
        f"{videos}/00.mp4 [{times}]" for times in ("0.0 s to 0.15 s", "0.15 s to 0.3 s")
    ]
    assert parts_of(tmp_path / "a") == {"part-00000.jsonl": (tmp_path / "a.jsonl").read_bytes()}
    assert rows[0]["predictions"] != rows[1]["predictions"]


def other_files(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.doc").touch()


def a_file(path: Path) -> None:
    path.touch()


def no_facts(folder: Path) -> None:
    folder.mkdir()
    (folder / "job.json").write_text('{"part')


WRONG: dict[str, tuple[Any, list[str], str]] = {
    "files of others": (other_files, [], "has files, as thesis.doc, but no job.json"),
    "a file": (a_file, [], "is a file; expected a folder"),
    "half a manifest": (no_facts, [], "job.json: "),
    "a part of none": (None, ["--part", "0/2"], "--part 0/2: expected I/N, from 1/N to N/N"),
    "part and launcher": (None, ["--part", "1/2", "--launcher", "slurm"], "without --launcher"),
    "no launcher": (None, ["--launcher", "pytorch"], "no launcher has started this process"),
    "windows with Ray": (None, ["--window", "2", "--ray"], "--ray: expected without --window"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_job_is_a_line(case, checkpoint, videos, tmp_path, capsys, monkeypatch):
    for name in ("RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    make, flags, message = WRONG[case]
    if make:
        make(tmp_path / "a")
    arguments = (videos, "--out", tmp_path / "a", "--checkpoint", checkpoint, *flags)
    assert run(*arguments) == EXIT_ERROR
    error = capsys.readouterr().err
    assert message in error and error.count("\n") <= 2 and error.startswith("error: ")
    assert make is not other_files or [*(tmp_path / "a").iterdir()] == [tmp_path / "a/thesis.doc"]


def test_another_job_in_the_folder_is_refused(whole, videos, checkpoint, tmp_path, capsys):
    before = parts_of(whole)
    for flags, message in (
        (["--top-k", "2"], "top_k 5 there, 2 now"),
        (["--protocol", "val", "--window", "1"], "window None there, 1.0 now"),
        (["--parquet"], "format 'jsonl' there, 'parquet' now"),
    ):
        if "--parquet" in flags:
            pytest.importorskip("pyarrow")
        assert run(videos, "--out", whole, "--checkpoint", checkpoint, *flags) == EXIT_ERROR
        error = capsys.readouterr().err
        assert "is another job's" in error and message in error
    assert run(videos / "05.mp4", "--out", whole, "--checkpoint", checkpoint) == EXIT_ERROR
    assert "source" in capsys.readouterr().err and parts_of(whole) == before


def test_flags_of_jobs_need_a_folder(videos, tmp_path, capsys):
    for flags in (["--part", "1/2"], ["--parquet"], ["--launcher", "slurm"], ["--ray"]):
        assert run(videos, *flags) == EXIT_ERROR
        assert f"{flags[0]}: expected --out FOLDER" in capsys.readouterr().err
    assert run("--collect", tmp_path, "--out", "a.csv") == EXIT_ERROR
    assert "is not the folder of a job: it has no job.json" in capsys.readouterr().err
    assert run("--collect", tmp_path, "--out", "a") == EXIT_ERROR
    assert "--collect needs --out, a name that ends in .json" in capsys.readouterr().err


def test_a_full_disk_keeps_the_parts_before(tmp_path):
    (tmp_path / "list.txt").write_text("".join(f"{number}.mp4\n" for number in range(20)))
    job = begin(tmp_path / "a", [str(tmp_path / "list.txt")], {})
    first, second = job.parts([0, 1])
    job.write(first, [dict(video=video) for video in first.videos])
    message = r"no space to write .*part-00001.jsonl: File too large"
    with full_disk(1 << 16), pytest.raises(UserError, match=message):
        job.write(second, [dict(video=video, error="x" * 40_000) for video in second.videos])
    assert job.missing() == [1]
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        *(".job.lock", "videos.txt", "job.json", "part-00000.jsonl")
    }


def test_parquet_has_the_same_rows(whole, videos, checkpoint, tmp_path):
    pytest.importorskip("pyarrow")
    flags = ("--checkpoint", checkpoint, "--parquet")
    assert run(videos, "--out", tmp_path / "a", *flags) == EXIT_PARTIAL
    assert run("--collect", tmp_path / "a", "--out", tmp_path / "a.jsonl") == EXIT_PARTIAL
    assert (tmp_path / "a.jsonl").read_bytes() == b"".join(parts_of(whole).values())
    part = tmp_path / "a" / "part-00001.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    assert Job(tmp_path / "a").missing() == [1]


def test_windows_are_a_job_too(videos, checkpoint, tmp_path):
    flags = ("--checkpoint", checkpoint, "--window", "0.2")
    for more in ([], ["--parquet"]):
        if more:
            pytest.importorskip("pyarrow")
        folder = tmp_path / f"a{len(more)}"
        assert run(videos / "04.mp4", videos / "05.mp4", "--out", folder, *flags, *more) == 3
        assert run("--collect", folder, "--out", f"{folder}.csv") == EXIT_PARTIAL
        with Path(f"{folder}.csv").open(newline="") as file:
            kinds = [row["kind"] for row in csv.DictReader(file)]
        assert kinds[0] == "window" and "segment" in kinds and kinds[-1] == "video"
    if more:
        assert (tmp_path / "a0.csv").read_bytes() == (tmp_path / "a1.csv").read_bytes()
