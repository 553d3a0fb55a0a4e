"""A probe is an ordinary run: tested, asked, trained on, and resumed from like any other."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jobs import output

from benchmarks import small_job as job
from mmact_tiny.build import build_model
from mmact_tiny.checkpoints.load import load_checkpoint, read_meta
from mmact_tiny.compat import Config
from mmact_tiny.config import load_config
from mmact_tiny.errors import EXIT_ERROR, EXIT_OK, EXIT_PARTIAL, UserError
from mmact_tiny.evaluate import test as run_test
from mmact_tiny.features import extract, run
from mmact_tiny.recognizer import Recognizer
from mmact_tiny.train import train
from tools import extract as extract_tool
from tools import probe as probe_tool

FC = "cls_head.fc_cls.weight"


@pytest.fixture(scope="module")
def weights(config: Path) -> Path:
    """Random weights of the small job's backbone, as torchvision would save them."""
    torch.manual_seed(0)
    state = build_model(load_config(config)).backbone.state_dict()
    names = {key: key.replace(".conv.", ".").replace("conv1.bn", "bn1") for key in state}
    path = config.with_name("backbone.pth")
    torch.save({"model": {names[key]: value for key, value in state.items()}}, path)
    return path


@pytest.fixture(autouse=True)
def _own_features(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMACT_TINY_FEATURES", str(config.with_name("features")))


def probe(config: Path, weights: Path, work_dir: Path, *flags: str, data: Any = None) -> int:
    words = ["--data", str(data or config.with_name("data")), "--work-dir", str(work_dir)]
    words += ["--config", str(config), "--checkpoint", str(weights), "--device", "cpu"]
    return probe_tool.main([*words, *flags])


def results(work_dir: Path) -> dict[str, list[float]]:
    rows = json.loads((work_dir / "test/results.json").read_text())["videos"]
    return {row["video"]: row["scores"] for row in rows if "scores" in row}


@pytest.mark.parametrize("pooling", ["mean", "thirds"])
def test_test_and_inference_give_the_scores_of_the_probe(
    pooling: str, config: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pooling == "thirds":  # which these videos give no reason for
        monkeypatch.setattr("mmact_tiny.features.probe.POOLINGS", ("thirds",))
    work_dir = tmp_path / "probe"
    assert probe(config, weights, work_dir) == EXIT_OK
    own = results(work_dir)
    assert len(own) == 4 and np.std([*own.values()]) > 0.01
    tested = run_test(work_dir=work_dir)
    assert {row["video"] for row in tested.rows} == {*own}
    for row in tested.rows:
        np.testing.assert_allclose(row["scores"], own[row["video"]], atol=1e-4)
    best = work_dir / "best_probe.pth"
    recognizer = Recognizer(best, engine="torch")
    assert recognizer.labels == ["red", "white"]
    for video, scores in own.items():
        np.testing.assert_allclose(recognizer.scores(video), scores, atol=1e-4)
    record = json.loads((work_dir / "report.json").read_text())
    assert record["runs"][0]["name"] == "probe"


@pytest.mark.parametrize(
    ("backbone", "head", "clips"),
    [
        ("MobileNetV2TSM", dict(type="TSMHead", in_channels=1280, num_segments=4), (1, 4)),
        ("ResNet3dSlowOnly", dict(type="I3DHead", in_channels=512), (4, 2)),
    ],
)
def test_other_recognizers(
    backbone: str, head: dict, clips: tuple[int, int], config: Path, tmp_path: Path
) -> None:
    """One that shifts features between frames, and one of 3-D convolutions and two clips."""
    cfg = load_config(config)
    cfg.model.cls_head = dict(head, num_classes=2, average_clips="prob")
    cfg.model.backbone = dict(type=backbone, pretrained=None)
    if backbone == "MobileNetV2TSM":
        cfg.model.backbone |= dict(num_segments=4, pretrained2d=False)
    else:
        cfg.model.type, cfg.model.data_preprocessor.format_shape = "Recognizer3D", "NCTHW"
        cfg.model.backbone |= dict(
            depth=18, lateral=False, conv1_kernel=(1, 7, 7), inflate=(0,) * 4
        )
    for split in ("train", "val", "test"):
        for step in cfg[f"{split}_dataloader"].dataset.pipeline:
            if "num_clips" in step:
                step |= dict(clip_len=clips[0], num_clips=clips[1])
            if step.type == "FormatShape":
                step.input_format = cfg.model.data_preprocessor.format_shape
    cfg.dump(tmp_path / "other.py")
    model = build_model(Config.fromfile(tmp_path / "other.py"))
    model.init_weights()
    torch.save(model.state_dict(), tmp_path / "other.pth")
    data = config.with_name("data")
    work_dir = tmp_path / "probe"
    assert probe(tmp_path / "other.py", tmp_path / "other.pth", work_dir, data=data) == EXIT_OK
    own = results(work_dir)
    for row in run_test(work_dir=work_dir).rows:
        np.testing.assert_allclose(row["scores"], own[row["video"]], atol=1e-4)
    assert len(own) == 4 and np.std([*own.values()]) > 1e-4


def test_training_goes_on_from_a_probe(config: Path, weights: Path, tmp_path: Path) -> None:
    probe(config, weights, tmp_path / "probe")
    best = tmp_path / "probe/best_probe.pth"
    changes = dict(
        pretrained=dict(weights=str(best)),
        schedule=dict(max_epochs=1),
        run=dict(work_dir=str(tmp_path / "tuned")),
    )
    dump = tmp_path / "probe/job.py"
    train(load_config(dump, changes=changes, options={"optim_wrapper.optimizer.lr": 0.0}))
    tuned = load_checkpoint(tmp_path / "tuned/epoch_1.pth")["state_dict"]
    assert torch.equal(tuned[FC], load_checkpoint(best)["state_dict"][FC])
    assert read_meta(tmp_path / "tuned/epoch_1.pth")["dataset_meta"]["classes"] == ["red", "white"]


def test_the_validation_videos_do_not_reach_the_probe(
    config: Path, weights: Path, tmp_path: Path
) -> None:
    """Other labels of the validation videos, and other validation videos: the same probe."""
    data = config.with_name("data")
    states, chosen = [], []
    for name, lines in (("true", None), ("swapped", "0.mp4 1\n1.mp4 0\n"), ("one", "3.mp4 0\n")):
        folder = tmp_path / name
        folder.mkdir()
        for item in data.iterdir():
            (folder / item.name).symlink_to(item)
        if lines:
            (folder / "val.txt").unlink()
            (folder / "val.txt").write_text(lines)
        assert probe(config, weights, tmp_path / f"run_{name}", data=folder) == EXIT_OK
        record = json.loads((tmp_path / f"run_{name}/test/results.json").read_text())
        chosen.append(record["cross_validated"])
        states.append(load_checkpoint(tmp_path / f"run_{name}/best_probe.pth")["state_dict"])
    for state in states[1:]:
        assert all(torch.equal(value, states[0][key]) for key, value in state.items())
    assert chosen[0] == chosen[1] == chosen[2]
    assert chosen[0]["counts"].endswith("of 16 training videos, 5 folds")


def test_folds_and_what_to_label_next(
    config: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each video is tested by the probe of a fold that has neither it nor one of its group."""
    data = tmp_path / "data"
    shutil.copytree(config.with_name("data"), data)
    lines = [f"{split}/{n}.mp4,{n // 2}\n" for split in ("train", "val") for n in range(4)]
    (data / "groups.csv").write_text("path,group\n" + "".join(lines))
    folder = tmp_path / "probe"
    assert probe(config, weights, folder, "--folds", "3", data=data) == EXIT_OK
    record = json.loads((folder / "test/results.json").read_text())
    assert len({row["video"] for row in record["videos"]}) == 20
    assert (record["groups"], len(record["folds"])) == ("groups.csv", 3)
    assert len(record["nearest"]) == 20 and {*map(len, record["nearest"].values())} == {7}
    for number in range(1, 4):
        listed = (folder / f"fold_{number}/val.txt").read_text().splitlines()
        there = {f"{split}/{n}.mp4 {n % 2}" in listed for split in ("train", "val") for n in (0, 1)}
        assert len(there) == 1, "group 0 is whole"
        tested = results(folder / f"fold_{number}")
        assert len(tested) == len(listed) and tested.items() <= results(folder).items()
    assert (
        "each tested on videos that it was not trained on" in (folder / "report.html").read_text()
    )

    (data / "new").mkdir()
    for name in ("val/0.mp4", "val/1.mp4", "train/5.mp4"):
        content = (data / name).read_bytes() + b"\0\0\0\x08free"  # another file, the same frames
        (data / "new" / Path(name).name).write_bytes(content)
    (data / "new/broken.mp4").write_text("no video")
    for number in range(2):  # these have labels
        shutil.copy(data / f"train/{number}.mp4", data / f"new/copy{number}.mp4")
    (data / "new/listed.mp4").symlink_to(data / "val/2.mp4")
    words = ["--rank", str(data / "new")]
    assert probe(config, weights, tmp_path / "one", *words, data=data) == EXIT_PARTIAL
    with (tmp_path / "one/rank.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert {Path(row["video"]).name for row in rows[:3]} == {"0.mp4", "1.mp4", "5.mp4"}
    margins = [float(row["score"]) - float(row["second score"]) for row in rows[:3]]
    assert margins[0] == min(margins) and {row["label"] for row in rows[:3]} <= {"red", "white"}
    assert Path(rows[3]["video"]).name == "broken.mp4" and rows[3]["error"] and len(rows) == 4
    assert len(json.loads((tmp_path / "one/test/results.json").read_text())["videos"]) == 4
    assert probe(config, weights, folder, *words, "--folds", "3", data=data) == EXIT_ERROR
    assert "--rank asks one probe, --folds makes several" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--folds", "2"]])
def test_two_processes_give_the_scores_of_one(
    flags: list[str], config: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert probe(config, weights, tmp_path / "one", *flags) == EXIT_OK
    monkeypatch.setenv("MMACT_TINY_FEATURES", str(tmp_path / "features"))
    shared = tmp_path / "shared"
    arguments = (config, weights, shared, *flags, "--launcher", "pytorch")
    processes = job.fork_ranks(probe, arguments, shared, 2)
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0], output(shared)
    assert "error" not in output(shared) and (shared / "report.html").is_file()
    one, both = results(tmp_path / "one"), results(shared)
    assert one.keys() == both.keys()
    np.testing.assert_allclose([*one.values()], [*both.values()], atol=1e-4)


def test_a_folder_of_classes_becomes_a_dataset(
    config: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Odd names, a broken video; run again it finds a new one; another folder of its name is not
    taken for it."""
    monkeypatch.chdir(tmp_path)
    clips = config.with_name("data") / "train"
    names = ("a b {}.MP4", "ü中{}.mp4", "it's #{}, 100%.mp4")
    for folder, count in (("my videos", 12), ("other/my videos", 4)):
        for n in range(count):
            path = tmp_path / folder / ("red", "white hot")[n % 2] / names[n % 3].format(n)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(clips / f"{n}.mp4", path)
    (tmp_path / "my videos/red/broken.mp4").write_text("no video")
    assert probe(config, weights, tmp_path / "run", data="my videos") == EXIT_OK
    printed = capsys.readouterr().out
    assert "my videos has no lists of videos: data/my videos_probe becomes a dataset of" in printed
    assert "broken.mp4" in printed
    recognizer = Recognizer(tmp_path / "run/best_probe.pth")
    assert recognizer.labels == ["red", "white hot"] and len(results(tmp_path / "run")) == 2
    shutil.copy(clips / "13.mp4", tmp_path / "my videos/white hot/new.mp4")
    assert probe(config, weights, tmp_path / "run", data="my videos") == EXIT_OK
    assert "new.mp4" in (tmp_path / "data/my videos_probe/videos.csv").read_text()
    assert probe(config, weights, tmp_path / "run", data="other/my videos") == EXIT_ERROR
    assert "data/my videos_probe is a dataset of other videos" in capsys.readouterr().err


def test_a_second_run_computes_nothing_and_a_broken_video_costs_itself(
    config: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    shutil.copytree(config.with_name("data"), data)
    (data / "train/16.mp4").write_text("no video")
    with (data / "train.txt").open("a") as file:
        file.write("16.mp4 1\n")
    monkeypatch.setenv("MMACT_TINY_FEATURES", str(tmp_path / "features"))
    assert probe(config, weights, tmp_path / "first", data=data) == EXIT_PARTIAL
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("features/**/*.npz")}
    assert len(kept) == 16 * 2 + 4
    rows = json.loads((tmp_path / "first/test/results.json").read_text())["videos"]
    assert [Path(row["video"]).name for row in rows if "error" in row] == ["16.mp4"]
    (data / "train/0.mp4").rename(data / "train/0.mkv")  # the content counts, not the name
    text = (data / "train.txt").read_text()
    (data / "train.txt").write_text(
        text.replace("0.mp4 0\n", "0.mkv 0\n", 1).replace("16.mp4 1\n", "")
    )
    monkeypatch.setattr(extract.Extractor, "engine", None)  # fails if it is asked for anything
    assert probe(config, weights, tmp_path / "second", data=data) == EXIT_OK
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("features/**/*.npz")} == kept
    assert results(tmp_path / "first") == results(tmp_path / "second")


def test_lists_that_contradict_themselves(
    config: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two labels of a video; all of a folder labelled; and a copy in training and validation."""
    data = tmp_path / "data"
    shutil.copytree(config.with_name("data"), data)
    words = ["--rank", str(data / "val")]
    assert probe(config, weights, tmp_path / "run", *words, data=data) == EXIT_ERROR
    assert "--rank: all of the 4 videos have labels, as " in capsys.readouterr().err
    shutil.copy(data / "train/2.mp4", data / "val/0.mp4")
    assert probe(config, weights, tmp_path / "run", data=data) == EXIT_OK
    said = "*** 1 validation video(s) are of training videos too, as "
    assert f"{said}{data / 'val/0.mp4'}: the validation accuracy is" in capsys.readouterr().out
    with (data / "train.txt").open("a") as file:
        file.write("2.mp4 0\n3.mp4 0\n")
    assert probe(config, weights, tmp_path / "run", data=data) == EXIT_ERROR
    assert "train.txt:18: '3.mp4' has label 1 above, here 0" in capsys.readouterr().err


def test_looks(config: Path, weights: Path) -> None:
    """The second is the first mirrored; the third is of other frames; where nothing else is."""
    cfg = load_config(config, changes={"pretrained": {"weights": str(weights)}})
    looked = extract.Extractor(cfg, weights)
    assert looked.looks(4) == [(0, False), (0, True), (1, False), (1, True)]
    video = config.with_name("data") / "val/0.mp4"
    assert looked.compute({video: 3}) == {}
    units = [looked.load(video, look)[0] for look in looked.looks(3)]
    assert [each.shape for each in units] == [(2, 128)] * 3
    assert not np.allclose(units[0], units[1]) and not np.allclose(units[0], units[2])
    seconds = looked.load(video)[1]
    np.testing.assert_allclose(seconds, [[0.3, 0.4], [0.9, 1.0]], err_msg="12 frames, 10 a second")
    cfg.train_dataloader.dataset.pipeline[4].flip_ratio = 0.0
    assert extract.Extractor(cfg, weights).looks(2) == [(0, False), (1, False)]


def test_extract(config: Path, weights: Path, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    videos = config.with_name("data") / "val"
    words = [str(videos), "--config", str(config), "--checkpoint", str(weights)]
    for per, name in (("video", "a.npz"), ("clip", "b.npz"), ("clip", "c.safetensors")):
        assert extract_tool.main([*words, "--per", per, "--out", str(tmp_path / name)]) == EXIT_OK
    with np.load(tmp_path / "a.npz") as one, np.load(tmp_path / "b.npz") as clips:
        assert one["features"].shape == (4, 128) and clips["features"].shape == (8, 128)
        means = clips["features"].reshape(4, 2, 128).mean(axis=1)
        np.testing.assert_allclose(one["features"], means, rtol=1e-5)
        assert [Path(name).name for name in clips["videos"][::2]] == [f"{i}.mp4" for i in range(4)]
        assert one["seconds"][0].tolist() == pytest.approx([0.3, 1.0])
        assert str(one["protocol"]).startswith("val: 2 clips x 1 crops")
        loaded = safetensors.load_file(tmp_path / "c.safetensors")
        np.testing.assert_array_equal(loaded["features"], clips["features"])
    assert extract_tool.main([*words, "--out", str(tmp_path / "d.txt")]) == EXIT_ERROR


def test_extract_of_lists(config: Path, weights: Path, tmp_path: Path) -> None:
    """A dataset's list is its videos; one of stretches has a row for each, in the video's time."""
    data = config.with_name("data")
    stretches = data / "val.csv"
    stretches.write_text("path,start,end,label\n0.mp4,0,0.5,0\n0.mp4,0.5,1,1\n0.mp4,0,1.2,0\n")
    found = {}
    for name, source in (("list", data / "val.txt"), ("csv", stretches), ("dir", data / "val")):
        words = [str(source), "--config", str(config), "--checkpoint", str(weights)]
        assert extract_tool.main([*words, "--out", str(tmp_path / f"{name}.npz")]) == EXIT_OK
        with np.load(tmp_path / f"{name}.npz") as file:
            found[name] = dict(file)
    stretches.unlink()
    np.testing.assert_equal(found["list"], found["dir"])
    assert found["csv"]["videos"].tolist() == [
        f"{data}/val/0.mp4 [{times}]"
        for times in ("0.0 s to 0.5 s", "0.5 s to 1.0 s", "0.0 s to 1.2 s")
    ]
    np.testing.assert_allclose(found["csv"]["seconds"], [[0.1, 0.4], [0.6, 0.9], [0.3, 1.0]])
    np.testing.assert_array_equal(found["csv"]["features"][2], found["dir"]["features"][0])
    assert not np.allclose(*found["csv"]["features"][:2])


def test_extract_a_table(config: Path, weights: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    video, out = config.with_name("data") / "val/0.mp4", tmp_path / "a.parquet"
    words = [str(video), "--config", str(config), "--checkpoint", str(weights), "--out", str(out)]
    assert extract_tool.main([*words, "--per", "clip"]) == EXIT_OK
    table = parquet.read_table(out)
    first = table.to_pylist()[0]
    assert table.column_names == ["video", "start", "end", "features"] and table.num_rows == 2
    assert (first["video"], len(first["features"])) == (str(video), 128)
    assert (first["start"], first["end"]) == pytest.approx((0.3, 0.4))
    assert table.schema.metadata[b"protocol"].startswith(b"val: 2 clips x 1 crops")


def test_a_damaged_feature_is_named(config: Path, weights: Path, tmp_path: Path) -> None:
    cfg = load_config(config, changes={"pretrained": {"weights": str(weights)}})
    looked, video = extract.Extractor(cfg, weights), config.with_name("data") / "val/0.mp4"
    assert looked.compute({video: 1}) == {}
    for damage in (b"", b"PK\x03\x04 cut", b"rubbish"):
        (path,) = looked.folder.glob(f"*/{looked.content(video)}-0.npz")
        path.write_bytes(damage)
        with pytest.raises(UserError, match=r"no features of .*0\.mp4: .*\n  if .*npz is damaged"):
            looked.load(video)
    path.unlink()


def test_which_recognizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The K400 recognizer of the highest accuracy, then the backbone of the highest."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"download\.py mobilenetv2_imagenet"):
        run.choose_recognizer(None, None)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name, config in (
        ("mobilenetv2_imagenet.pth", "tsn_mobilenetv2.py"),
        ("resnet50_torchvision.pth", "1x1x8-100e_kinetics400-rgb.py"),
        (
            "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb_20220906-cd10898e.pth",
            "1x1x3-100e_kinetics400-rgb.py",
        ),
    ):
        (folder / name).touch()
        found, path = run.choose_recognizer(None, None)
        assert str(found).endswith(config) and path == f"checkpoints/{name}"
    (folder / "mine.pth").touch()
    with pytest.raises(UserError, match=r"mine\.pth is refused: it is empty"):
        run.choose_recognizer(None, folder / "mine.pth")
    (folder / "notes.py").write_text("raise SystemExit(7)  # beside weights, and named by nobody")
    torch.save({"state_dict": {}}, folder / "mine.pth")
    with pytest.raises(UserError, match=r"carries no config: name one with --config"):
        run.choose_recognizer(None, folder / "mine.pth")
