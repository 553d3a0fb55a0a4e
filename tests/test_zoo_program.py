"""The program that tries every config of the zoo: its limits, its judgement, its going on."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT

from benchmarks import zoo

CHILD = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time."
SLEEPS = CHILD + "sleep(99)  # zoo child'], start_new_session=True); time.sleep(99)"
FILLS = "held = bytearray(300 << 20); import time; time.sleep(99)"


def living_children() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        ended = process.info["status"] == psutil.STATUS_ZOMBIE
        if "# zoo child" in str(process.info["cmdline"]) and not ended:
            found.append(process)
    return found


@pytest.mark.parametrize(
    ("code", "limits", "message"),
    [
        pytest.param(SLEEPS, dict(seconds=1.5), r"^took more than 2 s, see .*log$", id="time"),
        pytest.param(
            FILLS,
            dict(max_bytes=200 << 20),
            r"^took more than 0\.2 GiB of memory, see .*log$",
            id="memory",
        ),
        pytest.param("raise SystemExit(3)", {}, r"exit status 3, see .*log$", id="failed"),
    ],
)
def test_a_command_past_a_limit_is_ended_with_its_children(
    code: str, limits: dict[str, Any], message: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", code]
    with pytest.raises(RuntimeError, match=message):
        zoo.measure(command, cwd=ROOT, env=dict(os.environ), log=tmp_path / "log", **limits)
    end = time.monotonic() + 60  # a signal takes a moment
    while (left := living_children()) and time.monotonic() < end:
        time.sleep(0.05)
    assert left == []


SCORES = [[0.5, 0.5], [0.25, 0.75]]


# The step, the error, whether it is a UserError, whether the config was to be refused; what it is.
ERRORS = [
    ("resolve", "UserError: it wants\n  flow", True, True, "refused", "it wants; flow"),
    ("resolve", "UserError: it wants more", True, False, "failed", "resolve: it wants more"),
    ("resolve", "KeyError: 'ann_file'", False, True, "failed", "resolve: KeyError: 'ann_file'"),
    ("train", "UserError: 1 of 2 videos", True, True, "failed", "train: 1 of 2 videos"),
    (None, "took more than 600 s", None, False, "failed", "start: took more than 600 s"),
]


@pytest.mark.parametrize(("step", "error", "is_ours", "refused", "result", "why"), ERRORS)
def test_what_an_error_means(step, error, is_ours, refused, result, why) -> None:
    facts = dict(error=error) if step is None else dict(step=step, error=error, user_error=is_ours)
    row = zoo.Row("a", "works", facts=facts)
    zoo.judge_error(row, refused)
    assert (row.result, row.why) == (result, why)


@pytest.mark.parametrize(
    ("stock", "infer", "result", "why", "difference"),
    [
        ({"scores": SCORES}, 0.0, "works", "", 0.0),
        ({"scores": [SCORES[0], [0.250005, 0.75]]}, 1e-6, "works", "", 5e-6),
        ({"scores": SCORES[::-1]}, 0.0, "failed", "stock's test differs by 2.5e-01", 0.25),
        ({"scores": SCORES}, 2e-3, "failed", "infer differs by 2.0e-03", 0.0),
        ({"scores": SCORES}, float("nan"), "failed", "infer differs by nan", 0.0),
        ({"error": "KeyError: 'x'"}, 0.0, "failed", "stock's test: KeyError: 'x'", None),
    ],
)
def test_how_scores_are_judged(
    stock: dict, infer: float, result: str, why: str, difference: float | None
) -> None:
    row = zoo.Row("a", "works", facts={"scores": SCORES, "infer_difference": infer})
    zoo.judge_scores(row, stock)
    assert (row.result, row.why, row.spread) == (result, why, 0.25)
    assert row.difference == pytest.approx(difference)


def test_ours_may_differ_as_stock_does_from_itself() -> None:
    facts = {**FACTS, "scores": [[0.5, 0.5], [0.75, 0.25]], "infer_difference": 0.0}
    stock = {"scores": [[0.5, 0.5], [0.751, 0.249]]}
    for moved, result in ((0.749, "works"), (0.7515, "failed")):
        row = zoo.Row("x", "works", facts=facts)
        zoo.judge_scores(row, stock, {"scores": [[0.5, 0.5], [moved, 1 - moved]]})
        assert row.result == result
    assert row.why == "stock's test differs by 1.0e-03"


def test_a_run_goes_on_and_tries_again_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[str] = []

    def run_config(config: Path, settings: zoo.Settings) -> zoo.Row:
        tried.append(config.stem)
        if len(tried) == 2:
            return zoo.Row(config.stem, "failed", "train: out of luck")
        return zoo.Row(config.stem, "refused" if zoo.is_refused(config) else "works", facts=FACTS)

    monkeypatch.setattr(zoo, "run_config", run_config)
    out, docs = tmp_path / "out" / "zoo.json", tmp_path / "zoo.md"

    def run(*more: str) -> int:
        return zoo.main(["--out", str(out), "--docs", str(docs), *more])

    assert run("--only", "x3d") == 1 and not docs.exists()
    assert tried == [
        "x3d_m_16x5x1_facebook-kinetics400-rgb",
        "x3d_s_13x6x1_facebook-kinetics400-rgb",
    ]
    assert capsys.readouterr().out.endswith("1 of 2 work, 0 of 0 are refused in words, 1 failed\n")
    tried.clear()
    tried += ["", ""]  # from here on nothing fails
    assert run() == 0
    assert len(tried) == 2 + 124, "all but the one that worked"
    assert "\n**122 of 122 work, 3 of 3 are refused in words, 0 failed.**\n" in docs.read_text()
    assert len(json.loads(out.read_text())["rows"]) == 125
    tried.clear()
    assert run() == 0 and tried == []
    assert run("--full-input", "--only", "x3d_s") == 0
    assert len(json.loads(out.read_text())["rows"]) == 1, "of another input: nothing is kept"


RATE = {"optimizer": "SGD", "rate": "0.0003125 = 0.01 * batch 8 * 1 process(es) / 256"}
FACTS: dict[str, Any] = {
    "parameters": 23516228,
    "input": "64 of 224 pixels",
    "views": "25 x 10",
    "stock_rate": {"optimizer": "SGD", "lr": 0.01, "base": 256},
    "our_rate": RATE,
    "without_gradient": ["a.weight", "b.weight", "c.bias", "d.bias"],
}

TEST = "test_dataloader.dataset.pipeline"


def test_the_tables() -> None:
    machine = dict(cpu="AMD", cores=2, device="cpu", python="3.11.7", versions={"torch": "2.14"})
    works = zoo.Row("tsn", "works", "", 61.6, 1506.3, 3e-8, 4.4e-4, FACTS)
    text = zoo.as_markdown({"machine": machine}, [works, zoo.Row("flow", "refused", "why")], 1)
    assert "**1 of 1 work, 1 of 1 are refused in words, 0 failed.**" in text
    assert (
        "| tsn | works | 23.5 | 64 of 224 pixels | 25 x 10 | 62 | 1,506 | 3e-08 | 4e-04 | "
        "no gradient: a.weight, b.weight, c.bias and 1 more |\n"
    ) in text
    assert "| flow | refused |  |  |  | 0 |  |  |  | why |\n" in text
    assert f"| tsn | SGD | 0.01 | 256 | SGD, {RATE['rate']} |\n" in text


@pytest.mark.parametrize(
    ("stem", "words", "expected"),
    [
        (
            "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb",
            "64 of 224 pixels",
            {f"{TEST}.3.scale": (-1, 73), f"{TEST}.4.crop_size": 64},
        ),
        (
            "slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb",
            "64 of 224 pixels",
            {
                f"{TEST}.1.clip_len": 32,
                f"{TEST}.1.num_clips": 2,
                f"{TEST}.3.scale": (-1, 73),
                f"{TEST}.4.crop_size": 73,
            },
        ),
        (
            "uniformerv2-large-p14-res336_clip-kinetics710-pre_u32_kinetics400-rgb",
            "56 of 336 pixels, 8 of 32 frames",
            {
                "model.backbone.input_resolution": 56,
                "model.backbone.t_size": 8,
                f"{TEST}.1.clip_len": 8,
                f"{TEST}.3.scale": (-1, 56),
                f"{TEST}.4.crop_size": 56,
            },
        ),
        (
            "mvit-small-p244_k400-pre_16xb16-u16-100e_sthv2-rgb",
            "64 of 224 pixels, 8 of 16 frames",
            {"+model.backbone.spatial_size": 64, "+model.backbone.temporal_size": 8},
        ),
        ("c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101-rgb", "its own", {}),
    ],
)
def test_the_smaller_input(stem: str, words: str, expected: dict[str, Any]) -> None:
    from benchmarks import zoo_job

    values, found = zoo_job.smaller_input(zoo_job.stock_config(stem))
    assert found == words
    assert {key: values.get(key) for key in expected} == expected
    models = {key for key in values if "model" in key}
    assert models == {key for key in expected if "model" in key}


def test_the_edits_that_stock_needs() -> None:
    from benchmarks import zoo_job

    cfg = zoo_job.stock_config("trn_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv2-rgb")
    cfg.test_dataloader.dataset.type = "RawframeDataset"
    steps = [step for step in cfg.test_dataloader.dataset.pipeline if "Decord" not in step["type"]]
    cfg.test_dataloader.dataset.pipeline = [steps[0], dict(type="RawFrameDecode"), *steps[1:]]
    zoo_job.edit(cfg, Path("data/tiny"))
    dataset = cfg.test_dataloader.dataset
    assert (dataset.type, dataset.ann_file) == ("VideoDataset", "data/tiny/val.txt")
    types = [step["type"] for step in dataset.pipeline]
    assert types[:4] == ["DecordInit", "SampleFrames", "DecordDecode", "Resize"]
    tsm = zoo_job.stock_config(
        "tsm_imagenet-pretrained-mobilenetv2_8xb16-1x1x8-100e_kinetics400-rgb"
    )
    zoo_job.edit(tsm, Path("data/tiny"))
    assert tsm.model.backbone.pretrained is None and tsm.model.backbone.pretrained2d is False


def test_the_wheels_that_a_machine_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import wheels

    assert wheels.names_in("Package  Version\n-------- ------\nPyYAML   6.0.3\n") == {"pyyaml"}
    assert wheels.names_in("typing_extensions==4.1\n# a comment\n") == {"typing-extensions"}
    have = tmp_path / "have.txt"
    have.write_text("opencv-python-headless 5.0\nmatplotlib 3.11\nscipy 1.17\n")
    assert wheels.main([str(tmp_path / "wheels"), "--have", str(have), "--list"]) == 0
    names = {line.partition("==")[0] for line in capsys.readouterr().out.splitlines()}
    assert {"mmaction2", "mmengine", "mmcv-lite", "decord", "av", "pebble", "pytest"} <= names
    assert not {"torch", "torchvision", "numpy", "matplotlib", "opencv-python", "scipy"} & names
    assert not (tmp_path / "wheels").exists()
