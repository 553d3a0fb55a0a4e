import pytest
from mmengine.config import Config

from mmact_tiny import hardware
from mmact_tiny.train import log_choices


@pytest.mark.parametrize(
    ("wrapper", "num_workers", "expected"),
    [
        (
            dict(dtype="bfloat16"),
            2,
            ["precision: bfloat16 (the CPU has amx_bf16)", "loader workers: 2 (4 cores)"],
        ),
        (
            {},
            0,
            [
                "precision: float32 (as the config or a flag says)",
                "loader workers: 0 (as the config or a flag says)",
            ],
        ),
    ],
)
def test_a_choice_is_logged_with_its_own_reason(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wrapper: dict,
    num_workers: int,
    expected: list[str],
) -> None:
    monkeypatch.setattr(hardware, "has_cuda", lambda: False)
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    monkeypatch.setattr(hardware, "choose_num_workers", lambda: (2, "4 cores"))
    cfg = Config(
        dict(
            optim_wrapper=dict(optimizer=dict(lr=0.01), **wrapper),
            train_dataloader=dict(num_workers=num_workers),
        )
    )
    with caplog.at_level("INFO", logger="mmact_tiny"):
        log_choices(cfg)
    assert caplog.messages[1:3] == expected
