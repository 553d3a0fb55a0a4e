from pathlib import Path
from typing import Any

from mmact_tiny.report.dataset_counts import count_dataset


def config(root: Path, **splits: str) -> dict[str, Any]:
    """Returns a config whose splits read these lists; train's dataset is wrapped."""
    nodes = {
        split: dict(
            type="VideoDataset",
            ann_file=str(root / f"{name}.txt"),
            data_prefix=dict(video=str(root / name)),
            metainfo=dict(classes=["walk", "run", "jump high"]),
        )
        for split, name in splits.items()
    }
    nodes["train"] = dict(type="RepeatDataset", times=2, dataset=nodes["train"])
    return {f"{split}_dataloader": dict(dataset=node) for split, node in nodes.items()}


def test_videos_and_classes_are_counted(toy_dataset: Path) -> None:
    (toy_dataset / "val" / "3.mp4").unlink()
    found = count_dataset(config(toy_dataset, train="train", val="val", test="val"))
    train, val = found["splits"]["train"], found["splits"]["val"]
    assert (train["videos"], train["missing"], train["counts"]) == (6, 0, {0: 2, 1: 2, 2: 2})
    assert (val["videos"], val["missing"], val["counts"]) == (4, 1, {0: 2, 1: 1, 2: 1})
    assert found["by_class"][0] == dict(name="walk", train=2, val=2, test=2)


def test_a_list_that_is_gone_is_said(toy_dataset: Path) -> None:
    (toy_dataset / "val.txt").unlink()
    found = count_dataset(config(toy_dataset, train="train", val="val"))
    assert "cannot read annotation file" in found["splits"]["val"]["error"]
    assert found["by_class"][2] == dict(name="jump high", train=2)


def test_a_config_without_lists_has_no_splits() -> None:
    assert count_dataset({})["splits"] == {}
    assert count_dataset(dict(train_dataloader=dict(dataset=dict(type="X"))))["splits"] == {}
