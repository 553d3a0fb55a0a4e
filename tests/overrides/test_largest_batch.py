"""The largest batch that fits is found by running training steps, and an OOM ends the search."""

from pathlib import Path

import pytest
import torch

from mmact_tiny.config import load_config
from mmact_tiny.errors import UserError
from mmact_tiny.overrides.training import TrainingStep, largest_batch

from mmengine.config import Config  # isort: skip


@pytest.mark.parametrize(
    ("room", "limit", "expected", "tried"),
    [
        (100, 30, 30, [1, 2, 4, 8, 16, 30]),
        (16, 30, 16, [1, 2, 4, 8, 16, 30]),
        (11, 300, 8, [1, 2, 4, 8, 16]),
        (1, 30, 1, [1, 2]),
        (5, 1, 1, [1]),
    ],
)
def test_it_doubles_until_it_does_not_fit(
    room: int, limit: int, expected: int, tried: list[int]
) -> None:
    asked = []

    def fits(size: int) -> bool:
        asked.append(size)
        return size <= room

    assert largest_batch(fits, limit) == expected
    assert asked == tried


def test_not_even_one_video() -> None:
    with pytest.raises(UserError, match="one video does not fit"):
        largest_batch(lambda size: False, 30)


@pytest.fixture
def step() -> TrainingStep:
    """A real step of a small recognizer on the bundled clips, on the CPU."""
    cfg = load_config("configs/tsn_tiny.py", changes={"pretrained": {"weights": "none"}})
    cfg.model.backbone = dict(type="MobileNetV2", pretrained=None)
    cfg.model.cls_head.in_channels = 1280
    return TrainingStep(cfg, "cpu")


def test_a_device_without_room_for_more(step: TrainingStep) -> None:
    sizes = []

    def room_for_six_videos(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 6 * 3:  # 3 frames a video
            raise torch.OutOfMemoryError("out of memory")

    step.model.backbone.register_forward_pre_hook(room_for_six_videos)
    before = step.model.cls_head.fc_cls.weight.clone()
    assert largest_batch(step.fits, 40) == 4
    assert sizes == [3, 3, 6, 6, 12, 12, 24]
    assert torch.equal(step.model.cls_head.fc_cls.weight, before)  # learning rate 0
    assert all(parameter.grad is None for parameter in step.model.parameters())


def test_other_errors_are_not_taken_for_a_full_memory(step: TrainingStep) -> None:
    def broken(module: torch.nn.Module, inputs: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    step.model.backbone.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        step.fits(1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_the_limit_on_its_memory_holds() -> None:
    cfg = load_config("configs/tsn_tiny.py", changes={"pretrained": {"weights": "none"}})
    roomy = largest_batch(TrainingStep(cfg, "cuda:0").fits, 32)
    tight = largest_batch(TrainingStep(cfg, "cuda:0", memory_bytes=2 << 30).fits, 32)
    assert 1 <= tight <= roomy


def test_the_first_video_that_can_be_read(toy_dataset: Path) -> None:
    changes = {"dataset_paths": {"data_root": str(toy_dataset)}, "pretrained": {"weights": "none"}}
    cfg: Config = load_config("configs/tsn_tiny.py", changes=changes)
    with pytest.raises(UserError, match="none of the first training videos can be read"):
        TrainingStep(cfg, "cpu")  # the toy dataset's files are empty
