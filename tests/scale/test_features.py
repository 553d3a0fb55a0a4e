"""A job of features in a folder, by tools/extract.py: what one file has; also when killed."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from h264_videos import write_video
from jobs import full_disk, wait_for
from small_recognizer import small_recognizer

from benchmarks.small_job import fork_ranks
from mmact_tiny.errors import EXIT_ERROR, EXIT_OK, EXIT_PARTIAL
from tools import extract, infer

COUNT = 40  # videos: three parts, of 16, 16 and 8
BROKEN = 5


def words_of(*arguments: str | Path) -> list[str]:
    own = ("--checkpoint", small_recognizer().checkpoint) if "--collect" not in arguments else ()
    return [str(argument) for argument in (*arguments, *own, "--device", "cpu")]


def run(*arguments: str | Path) -> int | None:
    return extract.main(words_of(*arguments))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of 40 stretches of 4 clips; the 6th is of no video."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(4):
        write_video(folder / f"{number}.mp4", num_frames=9, seed=number)
    (folder / "bad.mp4").write_text("no video")
    names = [f"{number % 4}.mp4" for number in range(COUNT)]
    names[BROKEN] = "bad.mp4"
    lines = [f"{name},0,{0.1 + n / 1000:.3f},0\n" for n, name in enumerate(names)]
    (folder / "train.csv").write_text("".join(["path,start,end,label\n", *lines]))
    return folder / "train.csv"


@pytest.fixture(autouse=True)
def _own_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMACT_TINY_FEATURES", str(tmp_path / "kept"))


@pytest.fixture(scope="module")
def whole(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a job that ran undisturbed."""
    folder = tmp_path_factory.mktemp("job") / "features"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert run(videos, "--out", folder) == EXIT_PARTIAL
    return folder


def parts_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*"))}


def load(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return {name: file[name].tolist() for name in file}


def test_joined_they_are_what_one_file_has(whole, videos, tmp_path, capsys):
    assert run("--collect", whole, "--out", tmp_path / "all.npz") == EXIT_PARTIAL
    said = capsys.readouterr().out
    name = f"{videos.parent}/bad.mp4 [0.0 s to 0.105 s]"
    assert "40 videos, each once" in said and f"cannot read video {name}: " in said
    assert not (tmp_path / "kept").exists(), "a job keeps features in its parts alone"
    assert run(videos, "--out", tmp_path / "one.npz") == EXIT_PARTIAL
    joined = load(tmp_path / "all.npz")
    assert joined == load(tmp_path / "one.npz")
    assert np.shape(joined["features"]) == (39, 64) and np.shape(joined["seconds"]) == (39, 2)
    assert joined["videos"][0] == f"{videos.parent}/0.mp4 [0.0 s to 0.1 s]"
    assert [*json.loads(joined["failed"])] == [name]
    facts = json.loads((whole / "job.json").read_text())
    assert (facts["per"], facts["checkpoint"]) == (joined["per"], joined["checkpoint"])
    assert [len(load(whole / name)["videos"]) for name in parts_of(whole)] == [15, 16, 8]


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_what_is_missing_or_cut_is_computed_again(damage, whole, videos, tmp_path, capsys):
    shutil.copytree(whole, tmp_path / "a")
    part = tmp_path / "a" / "part-00001.npz"
    part.write_bytes(part.read_bytes()[:-20])
    if damage == "missing":
        part.unlink()
    assert run("--collect", tmp_path / "a", "--out", tmp_path / "all.npz") == EXIT_ERROR
    assert "16 of 40 videos are missing, 1 parts from part-00001.npz" in capsys.readouterr().err
    assert run(videos, "--out", tmp_path / "a", "--part", "1/2") == EXIT_OK, "not its share"
    assert not part.exists() or damage == "cut"
    assert run(videos, "--out", tmp_path / "a", "--part", "2/2") == EXIT_OK
    assert parts_of(tmp_path / "a") == parts_of(whole)


def test_a_part_with_other_videos_is_not_collected(whole, tmp_path, capsys):
    for damage in ("others", "bits"):
        shutil.copytree(whole, tmp_path / damage)
        part = tmp_path / damage / "part-00001.npz"
        content = bytearray((whole / "part-00001.npz").read_bytes())
        if damage == "bits":
            content[200] ^= 1
        else:
            with np.load(part) as file:
                arrays = dict(file)
            np.savez(part, **{**arrays, "videos": arrays["videos"][::-1]})
            content = bytearray(part.read_bytes())
        part.write_bytes(content)
        assert run("--collect", tmp_path / damage, "--out", tmp_path / "a.npz") == EXIT_ERROR
        error = capsys.readouterr().err
        assert "part-00001.npz is broken" in error and error.count("\n") == 1
    assert not (tmp_path / "a.npz").exists()


def test_killed_processes_and_others_in_their_place(whole, videos, tmp_path):
    """Two, both killed in mid-job, then three: the same bytes as from one undisturbed."""
    words = words_of(videos, "--out", tmp_path / "a", "--launcher", "pytorch")
    ranks = fork_ranks(extract.main, (words,), tmp_path, num_processes=2)
    wait_for(lambda: any((tmp_path / "a").glob("part-*")), ranks[0])
    for process in ranks:
        process.kill()
        process.join()
    assert -9 in [process.exitcode for process in ranks]
    ranks = fork_ranks(extract.main, (words,), tmp_path, num_processes=3)
    for process in ranks:
        process.join()
    assert parts_of(tmp_path / "a") == parts_of(whole), (tmp_path / "output.txt").read_text()


def test_a_full_disk_keeps_the_parts_before(whole, videos, tmp_path, capsys):
    shutil.copytree(whole, tmp_path / "a")
    (tmp_path / "a" / "part-00001.npz").unlink()
    with full_disk(5000):
        assert run(videos, "--out", tmp_path / "a") == EXIT_ERROR
    error = capsys.readouterr().err
    assert f"error: no space to write {tmp_path}/a/part-00001.npz: File too large" in error
    assert {path.name for path in (tmp_path / "a").glob("*.*")} == {
        *("videos.txt", "job.json", "part-00000.npz", "part-00002.npz", ".job.lock"),
    }


def test_another_job_in_the_folder_is_refused(whole, videos, tmp_path, capsys):
    before = parts_of(whole)
    other = tmp_path / "other.pth"
    other.write_bytes(small_recognizer(name="MobileNet").checkpoint.read_bytes())
    for tool, words, message in (
        (extract, [videos, "--per", "clip"], "per 'video' there, 'clip' now"),
        (extract, [videos, "--checkpoint", other], "is another job's: checkpoint '"),
        (extract, [videos.parent], "source ["),
        (infer, [videos, "--engine", "torch"], "the job there has features: see `python tools/"),
    ):
        arguments = words_of(words[0], "--out", whole)
        assert tool.main([*arguments, *map(str, words[1:])]) == EXIT_ERROR
        assert message in capsys.readouterr().err
    assert infer.main(["--collect", str(whole), "--out", "a.csv"]) == EXIT_ERROR
    assert "the job there has features" in capsys.readouterr().err
    assert parts_of(whole) == before


def test_flags_of_jobs_need_a_folder(videos, whole, tmp_path, capsys):
    for words, message in (
        ((videos, "--out", "a.npz", "--part", "1/2"), "--part: expected --out FOLDER"),
        (("--collect", whole, "--out", "a.csv"), "a name that ends in .npz, .parquet, .safeten"),
        (("--collect", tmp_path, "--out", "a.npz"), "is not the folder of a job"),
        (("--collect", whole, "--out", "a.npz", "--per", "clip"), "--per: expected without --coll"),
        ((videos, "--out", "s3://a/b.npz"), "expected the address of a folder"),
    ):
        assert run(*words) == EXIT_ERROR
        assert message in capsys.readouterr().err


def test_parquet_parts_are_a_dataset(whole, videos, tmp_path):
    dataset = pytest.importorskip("pyarrow.dataset")
    assert run(videos, "--out", tmp_path / "a", "--parquet") == EXIT_PARTIAL
    for folder in (tmp_path / "a", whole):
        assert run("--collect", folder, "--out", tmp_path / f"{folder.name}.npz") == EXIT_PARTIAL
    joined = load(tmp_path / "a.npz")
    assert joined == load(tmp_path / "features.npz")
    parts = [str(path) for path in sorted((tmp_path / "a").glob("*.parquet"))]
    table = dataset.dataset(parts).to_table()
    assert table.column_names == ["video", "start", "end", "features"]
    assert table["features"].to_pylist() == joined["features"]
    parts[1:] = []
    Path(parts[0]).write_bytes(Path(parts[0]).read_bytes()[:-20])
    assert run("--collect", tmp_path / "a", "--out", tmp_path / "b.npz") == EXIT_ERROR
