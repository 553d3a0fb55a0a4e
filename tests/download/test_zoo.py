"""What can be had by name, and the tool that fetches it."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT
from file_server import FileServer, make_zip
from mmengine.config import Config

from mmact_tiny.checkpoints.config_text import published_config, stock_configs
from mmact_tiny.download import find_published, published_hash, transfer, zoo
from mmact_tiny.download.zoo import LABEL_MAPS, fetch_zoo, list_published, mirrored
from mmact_tiny.errors import EXIT_ERROR, EXIT_OK, UserError
from tools.download import main

TSN_URL = (
    "https://download.openmmlab.com/mmaction/v1.0/recognition/tsn/"
    "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb/"
    "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb_20220906-cd10898e.pth"
)
MAP_PATH = "/open-mmlab/mmaction2/v1.2.0/tools/data/sthv2/label_map.txt"
LABEL_MAP_URL = f"https://raw.githubusercontent.com{MAP_PATH}"
NAMES = "".join(f"class {i} of sthv2\n" for i in range(174)).encode()
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
        monkeypatch.setenv("MMACT_TINY_LABEL_MAP_MIRROR", f"{server.url}/github/")
        archive = make_zip(tmp_path / "tiny.zip", TINY)
        server.files["/mmaction/kinetics400_tiny.zip"] = archive.read_bytes()
        yield server


def test_names():
    assert [item.name for item in list_published()[:13]] == [
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
    assert published_hash(item.url) == "cd10898e"
    assert item.path == Path("checkpoints") / TSN_URL.rpartition("/")[2]
    assert (item.top1, item.top5) == (72.83, 90.65)
    assert item.config == (
        "mmaction::recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py"
    )
    stem = "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb"
    for name in (stem, f"{stem}.py", f"mmaction::{stem}", item.config):
        assert find_published(name) == item


# What is wrong in the metafile; model, config, and the figures as they should be, `-` for none.
ZOO = """\
# As the metafile has it.
slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb
slowfast/slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb.py
Kinetics-400  75.55  92.35  34.5M  36.3G  224x224  20220901-701b0f6f
# The metafile has figures in plain numbers.
tin_imagenet-pretrained-r50_8xb6-1x1x8-40e_sthv1-rgb
tin/tin_imagenet-pretrained-r50_8xb6-1x1x8-40e_sthv1-rgb.py
SthV1  38.68  68.55  23.9M  33.0G  height 100  20220913-9b7804d6
# The metafile has the name twice, first with a MobileNet's figures.
tsm_imagenet-pretrained-r101_8xb16-1x1x8-50e_sthv2-rgb
tsm/tsm_imagenet-pretrained-r101_8xb16-1x1x8-50e_sthv2-rgb.py
SthV2  63.7  88.28  42.86M  62.66G  224x224  20230320-efcc0d1b
# The metafile has another model's address.
vit-small-p16_videomaev2-vit-g-dist-k710-pre_16x4x1_kinetics-400
videomaev2/vit-small-p16_videomaev2-vit-g-dist-k710-pre_16x4x1_kinetics-400.py
Kinetics-400  83.6  96.3  -  -  short-side 320  20230510-25c748fd
# The metafile has `.py.py`.
swin-base-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb
swin/swin-base-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb.py
Kinetics-400  80.57  94.49  88.0M  282G  224x224  20220930-182ec6cc
# The metafile has another model's config.
mvit-small-p244_k400-pre_16xb16-u16-100e_sthv2-rgb
mvit/mvit-small-p244_k400-pre_16xb16-u16-100e_sthv2-rgb.py
SthV2  68.2  91.3  34.4M  64G  224x224  20230201-4065c1b9
# The metafile has a config that is not there.
uniformerv2-base-p16-res224_clip-pre_8xb32-u8_kinetics700-rgb
uniformerv2/uniformerv2-base-p16-res224_clip_8xb32-u8_kinetics700-rgb.py
Kinetics-700  75.9  92.9  -  -  -  20230313-f02e48ad
# The metafile has no result.
uniformerv2-base-p16-res224_clip-pre_u8_kinetics710-rgb
uniformerv2/uniformerv2-base-p16-res224_clip-pre_u8_kinetics710-rgb.py
Kinetics-710  -  -  -  -  -  20230612-63cdbad9
"""


@pytest.mark.parametrize("entry", ZOO.split("# ")[1:])
def test_zoo(entry):
    _, model, config, figures = entry.splitlines()
    item = find_published(model)
    assert item.config == f"mmaction::recognition/{config}"
    assert item.url.endswith(f"_{figures.split()[-1]}.pth")
    found = (item.top1, item.top5, item.parameters, item.flops, item.resolution)
    shown = "  ".join(str(figure or "-") for figure in (item.dataset, *found))
    assert figures.startswith(f"{shown}  ")


def test_the_whole_zoo_has_addresses_of_its_own():
    weights = list_published()[1:]
    for field in ("name", "model", "url", "path"):
        assert len({getattr(item, field) for item in weights}) == len(weights) == 186
    assert all(item.config and item.dataset and published_hash(item.url) for item in weights)
    for item in weights:
        assert find_published(item.model) == find_published(item.name) == item
        assert find_published(item.config).config == item.config


# Dataset of the recognizers of videos, but for OmniSource, whose class count is in no config: its
# classes, the number of weights, and whether its label map is fetched.
CLASSES = {
    "Kinetics-400": (400, 81, False),
    "Kinetics-600": (600, 5, True),
    "Kinetics-700": (700, 9, True),
    "Kinetics-710": (710, 5, True),
    "Moments in Time V1": (339, 3, True),
    "SthV1": (174, 5, True),
    "SthV2": (174, 11, True),
    "UCF101": (101, 1, True),
}


def test_each_file_has_the_config_and_the_classes_of_its_dataset():
    found = []
    for item in list_published()[1:]:
        path = published_config(item.path)
        assert item.config == f"mmaction::{path.relative_to(stock_configs())}"
        if path.is_relative_to(stock_configs() / "recognition") and "omnisource" not in path.parts:
            classes = Config.fromfile(path).model.cls_head.num_classes
            found.append((item.dataset, classes, item.label_map is not None))
        else:
            assert item.label_map is None
    expected = [(name, n, has) for name, (n, count, has) in CLASSES.items() for _ in range(count)]
    assert sorted(found) == sorted(expected)
    assert LABEL_MAPS.keys() == {name for name, (_, _, has) in CLASSES.items() if has}


def test_address_of_another_model_is_left_out(monkeypatch):
    monkeypatch.setattr(zoo, "CORRECTED_ENDS", {})
    names = [item.name for item in list_published.__wrapped__()]
    assert "tsn_swin-transformer_1x1x3_k400" in names
    assert "tsn_swin-transformer_1x1x8_k400" not in names


def test_unknown_name():
    with pytest.raises(UserError, match="'tsn_r50_k40'; did you mean 'tsn_r50_k400'"):
        find_published("tsn_r50_k40")


def test_mirror(monkeypatch):
    monkeypatch.delenv("MMACT_TINY_MIRROR", raising=False)
    assert mirrored(TSN_URL) == TSN_URL
    monkeypatch.setenv("MMACT_TINY_MIRROR", "http://mirror.example/openmmlab/")
    assert mirrored("https://download.openmmlab.com/mmaction/x.zip") == (
        "http://mirror.example/openmmlab/mmaction/x.zip"
    )
    assert mirrored(LABEL_MAP_URL) == LABEL_MAP_URL
    monkeypatch.setenv("MMACT_TINY_LABEL_MAP_MIRROR", "http://mirror.example")
    assert mirrored(LABEL_MAP_URL) == "http://mirror.example" + MAP_PATH
    assert mirrored("https://raw.githubusercontent.com.evil/x") == (
        "https://raw.githubusercontent.com.evil/x"
    )


@pytest.fixture
def tsm(mirror, monkeypatch):
    """Weights of Something-Something v2 whose content has the hashes of this test."""
    item = find_published("tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv2-rgb")
    digests = [hashlib.sha256(data).hexdigest()[:8] for data in (b"weights", NAMES)]
    name = f"{item.model}_20230317-{digests[0]}.pth"
    item = replace(item, url=f"{zoo.HOST}/tsm/{name}", path=Path("checkpoints", name))
    monkeypatch.setattr(zoo, "list_published", lambda: (item,))
    monkeypatch.setitem(LABEL_MAPS, "SthV2", (LABEL_MAPS["SthV2"][0], digests[1]))
    mirror.files[f"/tsm/{name}"] = b"weights"
    return item


def test_the_names_of_the_classes_come_with_the_weights(mirror, tsm, capsys):
    """Without them the weights are there, and the same command fetches what is missing."""
    assert main([tsm.config]) == EXIT_OK
    shown = capsys.readouterr()
    assert shown.out == f"{tsm.name}: saved to {tsm.path}\n"
    said = [line for line in shown.err.splitlines() if "class names" in line]
    assert len(said) == 1 and said[0].startswith("no class names, so infer.py shows numbers: ")
    assert "HTTP 404" in said[0] and str(tsm.label_map) in said[0]
    assert not zoo.is_there(tsm)

    for content, is_there in ((NAMES[1:], False), (NAMES, True)):
        mirror.files[f"/github{MAP_PATH}"] = content
        assert main([tsm.model]) == EXIT_OK
        assert zoo.is_there(tsm) is is_there
    assert tsm.label_map.read_bytes() == NAMES
    assert tsm.label_map.name == f"{tsm.path.stem}.label_map.txt"
    num_requests = len(mirror.ranges)
    assert main([tsm.name]) == EXIT_OK
    assert "is there already, whole" in capsys.readouterr().out
    assert len(mirror.ranges) == num_requests


def test_the_weights_of_a_run_s_stock_config(mirror, tsm, monkeypatch):
    """Those of the first that has some; the transfer goes on where it was cut."""
    monkeypatch.setattr(transfer, "BACKOFF_SECONDS", (0.01,))
    mirror.cuts = [3]
    assert fetch_zoo(["mmaction::_base_/default_runtime.py", tsm.config]) == tsm.path
    assert tsm.path.read_bytes() == b"weights"
    assert mirror.ranges == [None, "bytes=3-"]
    assert not tsm.label_map.exists(), "training has no need of it"
    with pytest.raises(UserError, match=r"no weights of mine.py\n.*FILE.*\n.*imagenet\|none"):
        fetch_zoo(["mine.py"])


def test_kinetics400_tiny(mirror, capsys):
    assert main(["kinetics400_tiny"]) == EXIT_OK
    assert capsys.readouterr().out == "kinetics400_tiny: saved to data/kinetics400_tiny\n"
    folder = Path("data/kinetics400_tiny")
    assert {str(path.relative_to("data")) for path in folder.rglob("*.*")} == set(TINY)
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
    assert capsys.readouterr().err.endswith(
        "fetch http://no-such-host.invalid/mmaction/kinetics400_tiny.zip by hand, put it at "
        "data/kinetics400_tiny.zip and run this again\n"
    )


def test_list(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--list"]) == EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 191
    assert re.match(r"kinetics400_tiny +-$", lines[1])
    tutorial = r"tsn_r50_k400 +Kinetics-400 +72\.83 +90\.65 +24\.33M +102\.7G +224x224 +-"
    assert len([line for line in lines if re.fullmatch(tutorial, line)]) == 1

    assert main(["--list", "SLOWFAST_r101"]) == EXIT_OK
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "NAME",
        "slowfast_r101_8xb8-8x8x1-256e_kinetics400-rgb",
        "slowfast_r101-r50_32xb8-4x16x1-256e_kinetics400-rgb",
    ]
    assert main(["--list", "no such word"]) == EXIT_ERROR
    assert "nothing to download has 'no such word' in its" in capsys.readouterr().err


def test_neither_name_nor_list(capsys):
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == EXIT_ERROR
    assert "give --list" in capsys.readouterr().err


def test_readme_agrees_with_the_metafile():
    lines = (ROOT / "checkpoints/README.md").read_text().splitlines()
    rows = [line for line in lines if re.match(r"\| `tsn_.*https:", line)]
    assert len(rows) == 12
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        item = find_published(cells[0].strip("`"))
        assert cells[1:5] == [
            f"{item.top1:.2f}",
            f"{item.top5:.2f}",
            f"`{published_hash(item.url)}`",
            f"[{item.path.name}]({item.url})",
        ]
        assert any(f"`{item.config}`" in line for line in lines)
