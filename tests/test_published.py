import re
from pathlib import Path

import pytest
from file_server import FileServer
from test_archive import make_zip

import mmact_tiny.download_published
from mmact_tiny.cli import EXIT_ERROR, EXIT_OK
from mmact_tiny.download_published import find_published, list_published, mirrored
from mmact_tiny.errors import UserError
from tools.download import main

ROOT = Path(__file__).parent.parent
TSN_URL = (
    "https://download.openmmlab.com/mmaction/v1.0/recognition/tsn/"
    "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb/"
    "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb_20220906-cd10898e.pth"
)
TINY = {
    "kinetics400_tiny/kinetics_tiny_train_video.txt": b"a.mp4 0\nb.mp4 1\n",
    "kinetics400_tiny/kinetics_tiny_val_video.txt": b"c.mp4 0\n",
    "kinetics400_tiny/train/a.mp4": b"a",
    "kinetics400_tiny/train/b.mp4": b"b",
    "kinetics400_tiny/val/c.mp4": b"c",
}


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with FileServer() as server:
        monkeypatch.setenv("MMACT_TINY_MIRROR", server.url + "/")
        archive = make_zip(tmp_path / "tiny.zip", TINY)
        server.files["/mmaction/kinetics400_tiny.zip"] = archive.read_bytes()
        yield server


def test_names():
    assert [item.name for item in list_published()] == [
        "kinetics400_tiny",
        "tsn_r50_k400",
        "tsn_r50_1x1x5_k400",
        "tsn_r50_1x1x8_k400",
        "tsn_r50_dense-1x1x5_k400",
        "tsn_r101_1x1x8_k400",
        "tsn_rn101-32x4d_1x1x3_k400",
        "tsn_dense161_1x1x3_k400",
        "tsn_swin-transformer_1x1x3_k400",
        "tsn_swin-transformer_1x1x8_k400",
        "tsn_mobileone-s4_1x1x8_k400",
        "tsn_r50_1x1x8_sthv2",
        "tsn_r50_1x1x16_sthv2",
    ]


def test_tutorial_weights():
    item = find_published("tsn_r50_k400")
    assert item.url == TSN_URL
    assert item.sha256_prefix == "cd10898e"
    assert item.path == Path("checkpoints") / TSN_URL.rpartition("/")[2]
    assert (item.top1, item.top5) == (72.83, 90.65)
    assert item.config == (
        "mmaction::recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py"
    )
    assert find_published("tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb") == item


def test_every_address_is_its_own_models():
    weights = [item for item in list_published() if item.config]
    assert len({item.url for item in weights}) == len({item.name for item in weights}) == 12
    for item in weights:
        assert item.path.name.startswith(item.model)
        assert item.sha256_prefix


def test_address_of_another_model_is_left_out(monkeypatch):
    monkeypatch.setattr(mmact_tiny.download_published, "CORRECTED_URLS", {})
    assert "tsn_swin-transformer_1x1x8_k400" not in [item.name for item in list_published()]


def test_unknown_name():
    with pytest.raises(UserError, match="'tsn_r50_k40': did you mean tsn_r50_k400 or"):
        find_published("tsn_r50_k40")


def test_mirror(monkeypatch):
    monkeypatch.delenv("MMACT_TINY_MIRROR", raising=False)
    assert mirrored(TSN_URL) == TSN_URL
    monkeypatch.setenv("MMACT_TINY_MIRROR", "http://mirror.example/openmmlab/")
    assert mirrored("https://download.openmmlab.com/mmaction/x.zip") == (
        "http://mirror.example/openmmlab/mmaction/x.zip"
    )


def test_kinetics400_tiny(mirror, capsys):
    assert main(["kinetics400_tiny"]) == EXIT_OK
    assert capsys.readouterr().out == "kinetics400_tiny: saved to data/kinetics400_tiny\n"
    folder = Path("data/kinetics400_tiny")
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == [
        "kinetics_tiny_train_video.txt",
        "kinetics_tiny_val_video.txt",
        "train",
        "train/a.mp4",
        "train/b.mp4",
        "val",
        "val/c.mp4",
    ]
    assert [path.name for path in Path("data").glob("[!.]*")] == ["kinetics400_tiny"]

    assert main(["kinetics400_tiny"]) == EXIT_OK
    assert "is there already, whole" in capsys.readouterr().out
    assert len(mirror.ranges) == 1

    (folder / "val/c.mp4").unlink()
    assert main(["kinetics400_tiny"]) == EXIT_ERROR
    assert "1 missing, first val/c.mp4; fetch it again with --force" in capsys.readouterr().err
    assert main(["kinetics400_tiny", "--force"]) == EXIT_OK
    assert (folder / "val/c.mp4").read_bytes() == b"c"


def test_archive_put_there_by_hand(mirror, tmp_path):
    Path("data").mkdir()
    by_hand = (tmp_path / "tiny.zip").rename("data/kinetics400_tiny.zip")
    mirror.files.clear()
    assert main(["kinetics400_tiny"]) == EXIT_OK
    assert Path("data/kinetics400_tiny/val/c.mp4").exists()
    assert by_hand.exists()
    assert mirror.ranges == []


@pytest.mark.parametrize("size", [100, -30])
def test_truncated_archive(mirror, capsys, size):
    data = mirror.files["/mmaction/kinetics400_tiny.zip"]
    mirror.files["/mmaction/kinetics400_tiny.zip"] = data[:size]
    assert main(["kinetics400_tiny"]) == EXIT_ERROR
    assert "data/kinetics400_tiny.zip is not a whole archive" in capsys.readouterr().err
    assert not Path("data/kinetics400_tiny").exists()
    mirror.files["/mmaction/kinetics400_tiny.zip"] = data
    assert main(["kinetics400_tiny", "--force"]) == EXIT_OK


def test_archive_without_the_tutorials_layout(mirror, tmp_path, capsys):
    archive = make_zip(tmp_path / "x.zip", {"kinetics400_tiny/readme.txt": b""})
    mirror.files["/mmaction/kinetics400_tiny.zip"] = archive.read_bytes()
    assert main(["kinetics400_tiny"]) == EXIT_ERROR
    assert "missing, first kinetics_tiny_train_video.txt" in capsys.readouterr().err
    assert not Path("data/kinetics400_tiny").exists()


def test_weights_with_the_wrong_hash(mirror, capsys):
    mirror.files[TSN_URL.removeprefix("https://download.openmmlab.com")] = b"not the weights"
    assert main(["tsn_r50_k400"]) == EXIT_ERROR
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {mirror.url}/mmaction/v1.0/recognition/tsn/")
    assert "its SHA-256 does not start with cd10898e" in error
    assert list(Path("checkpoints").glob("[!.]*")) == []


def test_offline(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("MMACT_TINY_MIRROR", "http://no-such-host.invalid")
    assert main(["kinetics400_tiny"]) == EXIT_ERROR
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith(
            "fetch http://no-such-host.invalid/mmaction/kinetics400_tiny.zip by hand, put it at "
            "data/kinetics400_tiny.zip and run this again"
        )
    )


def test_list(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--list"]) == EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 14
    assert re.match(r"tsn_r50_k400 +72\.83 +90\.65 +- +checkpoints/tsn_imagenet-", lines[2])


def test_neither_name_nor_list(capsys):
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == EXIT_ERROR
    assert "give --list" in capsys.readouterr().err


def test_readme_agrees_with_the_metafile():
    text = (ROOT / "checkpoints/README.md").read_text()
    for item in list_published():
        if item.config:
            row = next(line for line in text.splitlines() if line.startswith(f"| `{item.name}` |"))
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            assert cells[1:5] == [
                f"{item.top1:.2f}",
                f"{item.top5:.2f}",
                f"`{item.sha256_prefix}`",
                f"[{item.path.name}]({item.url})",
            ]
            assert item.config.rpartition("/")[2] in text
