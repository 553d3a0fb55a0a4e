"""Videos and answers at an address: moto's S3 server on loopback, and files by HTTP."""

import json
import tempfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from h264_videos import write_video
from small_recognizer import small_recognizer

from mmact_tiny.errors import EXIT_ERROR, EXIT_OK, EXIT_PARTIAL
from mmact_tiny.scale import store
from tools import infer

COUNT = 18  # videos: two parts
BROKEN = 3


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    clip = write_video(folder / "00.mp4", num_frames=9)
    for number in range(1, COUNT):
        (folder / f"{number:02}.mp4").hardlink_to(clip)
    (folder / f"{BROKEN:02}.mp4").unlink()
    (folder / f"{BROKEN:02}.mp4").write_text("no video")
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A real S3 server, which s3fs finds as any other: by botocore's own variables."""
    pytest.importorskip("s3fs")
    pytest.importorskip("flask")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    variables = dict(ACCESS_KEY_ID="a", SECRET_ACCESS_KEY="b", DEFAULT_REGION="us-east-1")
    variables["ENDPOINT_URL"] = f"http://{host}:{port}"
    for name, value in variables.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    yield server
    server.stop()
    assert list((tmp_path / "tmp").glob("mmact_tiny-*")) == [], "no copy is left"


@pytest.fixture
def bucket(server: Any, videos: Path) -> Any:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    fs.makedirs("bucket", exist_ok=True)  # moto's buckets live as long as this process
    fs.put(str(videos), "bucket/videos", recursive=True)
    fs.pipe("bucket/videos/notes.txt", b"no video")
    return fs


def run(*arguments: str | Path) -> int:
    flags = ["--engine", "torch", "--precision", "fp32", "--device", "cpu"]
    if "--collect" not in arguments:
        flags += ["--checkpoint", str(small_recognizer().checkpoint)]
    return infer.main([*map(str, arguments), *flags])


def rows_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_videos_and_answers_in_a_bucket(bucket, videos, tmp_path, capsys):
    source, out = "s3://bucket/videos", "s3://bucket/answers"
    assert run(source, "--out", out) == EXIT_PARTIAL
    names = {path.rpartition("/")[2] for path in bucket.ls("bucket/answers")}
    assert names == {"job.json", "videos.txt", "part-00000.jsonl", "part-00001.jsonl"}
    assert run("--collect", out, "--out", tmp_path / "there.jsonl") == EXIT_PARTIAL
    assert run(videos, "--out", tmp_path / "here") == EXIT_PARTIAL
    assert run("--collect", tmp_path / "here", "--out", tmp_path / "here.jsonl") == EXIT_PARTIAL
    there, here = (rows_of((tmp_path / f"{each}.jsonl").read_text()) for each in ("there", "here"))
    assert there[BROKEN]["error"].startswith("cannot read video s3://bucket/videos/03.mp4: ")
    for row in here:
        row["video"] = row["video"].replace(str(videos), source)
        if "error" in row:
            row["error"] = row["error"].replace(str(videos), source)
    assert there == here
    bucket.rm("bucket/answers/part-00000.jsonl")
    capsys.readouterr()
    assert run(source, "--out", out) == EXIT_PARTIAL
    assert "16 of 18 videos to do" in capsys.readouterr().out


def test_a_list_in_a_bucket_and_a_video_that_is_gone(bucket, tmp_path):
    bucket.pipe("bucket/list.txt", b"videos/00.mp4\ns3://bucket/videos/gone.mp4\n")
    assert run("s3://bucket/list.txt", "--out", tmp_path / "a") == EXIT_PARTIAL
    good, gone = rows_of((tmp_path / "a" / "part-00000.jsonl").read_text())
    assert good["video"] == "s3://bucket/videos/00.mp4" and "predictions" in good
    assert gone["error"] == "cannot read video s3://bucket/videos/gone.mp4: no such file"


def test_a_bucket_out_of_reach_ends_the_job_and_loses_nothing(
    server, bucket, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(store, "ATTEMPTS", 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert run("s3://bucket/gone", "--out", tmp_path / "b") == EXIT_ERROR
    assert "no video in s3://bucket/gone" in capsys.readouterr().err
    source = "s3://bucket/videos"
    assert run(source, "--out", tmp_path / "a", "--part", "1/2") == EXIT_OK
    before = (tmp_path / "a" / "part-00000.jsonl").read_bytes()
    server.stop()
    assert run(source, "--out", tmp_path / "a") == EXIT_ERROR
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: s3://bucket/videos/") and "run it again to go on" in error
    assert (tmp_path / "a" / "part-00000.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("address", "message"),
    [("ftpx://a/b.mp4", "ftpx://a/b.mp4: Protocol not known: ftpx"), ("gone", "no video file ")],
)
def test_an_address_that_means_nothing(address, message, tmp_path, capsys):
    assert run(address, "--out", tmp_path / "a") == EXIT_ERROR
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_video_and_a_stretch_by_http(videos, tmp_path):
    pytest.importorskip("aiohttp")
    handler = partial(SimpleHTTPRequestHandler, directory=str(videos))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        Thread(target=site.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{site.server_port}/00.mp4"
        (tmp_path / "list.csv").write_text(f"path,start,end,label\n{address},0,0.15,0\n")
        assert run(address, tmp_path / "list.csv", "--out", tmp_path / "a") == EXIT_OK
        site.shutdown()
    rows = rows_of((tmp_path / "a" / "part-00000.jsonl").read_text())
    assert [row["video"] for row in rows] == [address, f"{address} [0.0 s to 0.15 s]"]
    assert len(rows[0]["predictions"]) == 5 and rows[0]["predictions"] != rows[1]["predictions"]
