"""Trackers write what MMEngine logs into files that their own readers read back."""

from pathlib import Path

import pytest
from conftest import ROOT
from jobs import train_command
from mmengine.config import Config
from terminals import on_terminal

from benchmarks import small_job
from mmact_tiny import compat
from mmact_tiny.config import load_config
from mmact_tiny.errors import EXIT_ERROR, EXIT_OK, UserError
from mmact_tiny.overrides.registry import diff, flatten
from mmact_tiny.overrides.tracking import describe_trackers, log_epoch_means
from tools import train

BACKENDS = "visualizer.vis_backends"
SIDE_EFFECTS = {"custom_imports.imports", "vis_backends[LocalVisBackend]._scope_"}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_job.write_job(tmp_path_factory.mktemp("job"))


def load(job: Path, track: list[str] | None, config: Path | None = None):
    run = {"work_dir": "w", "track": track}
    return load_config(
        config or job, changes={"run": {k: v for k, v in run.items() if v is not None}}
    )


@pytest.fixture
def all_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "is_installed", lambda package: True)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize(
    ("track", "added"),
    [
        (["tensorboard"], {"[TensorboardVisBackend].type": "TensorboardVisBackend"}),
        (
            ["mlflow"],
            {
                "[MLflowVisBackend].type": "MLflowVisBackend",
                "[MLflowVisBackend].exp_name": "job",
                "[MLflowVisBackend].tracking_uri": "sqlite:///w/mlflow.db",
                "[MLflowVisBackend].artifact_location": "w/mlflow_artifacts",
                "[MLflowVisBackend].artifact_suffix": (),
            },
        ),
        (
            ["wandb"],
            {
                "[WandbConfigBackend].type": "WandbConfigBackend",
                "[WandbConfigBackend].init_kwargs.project": "job",
            },
        ),
        ([], {}),
    ],
)
@pytest.mark.usefixtures("all_installed")
def test_a_tracker_is_a_backend_of_the_visualizer(
    job: Path, tmp_path: Path, track: list[str], added: dict
) -> None:
    plain, tracked = load(job, None), load(job, track)
    changes = {key: new for key, (_, new) in diff(flatten(plain), flatten(tracked)).items()}
    assert {key: new for key, new in changes.items() if key not in SIDE_EFFECTS} == {
        f"{node}{key}": value for node in (BACKENDS, "vis_backends") for key, value in added.items()
    }
    tracked.dump(tmp_path / "job.py")
    again = load(job, track, config=tmp_path / "job.py")
    assert diff(flatten(tracked), flatten(again)) == {}
    assert (
        diff(flatten(plain), flatten(load(job, [], config=tmp_path / "job.py"))).keys()
        <= SIDE_EFFECTS
    ), "a test takes them out again"


@pytest.mark.parametrize(
    ("loop", "by_epoch", "custom", "names"),
    [
        (dict(type="EpochBasedTrainLoop"), True, None, ["epoch_loss", "epoch_top1_acc"]),
        (dict(by_epoch=True), True, ["mine"], ["mine", "epoch_loss", "epoch_top1_acc"]),
        (dict(type="IterBasedTrainLoop"), True, ["mine"], ["mine"]),
        (dict(type="EpochBasedTrainLoop"), False, None, []),
    ],
)
def test_epoch_means_are_logged_where_there_are_epochs(
    loop: dict, by_epoch: bool, custom: list | None, names: list[str]
) -> None:
    nodes = [dict(data_src="loss", log_name=name, method_name="max") for name in custom or []]
    processor = dict(type="LogProcessor", by_epoch=by_epoch, custom_cfg=nodes)
    cfg = Config(dict(train_cfg=loop, log_processor=processor))
    for _ in range(2):  # twice is once
        log_epoch_means(cfg)
        assert [node["log_name"] for node in cfg.log_processor.custom_cfg] == names


@pytest.mark.usefixtures("all_installed")
def test_a_server_of_mlflow_is_used_and_its_password_kept_out(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://tracker.example:5000")
    cfg = load(job, ["mlflow"])
    assert cfg.visualizer.vis_backends[-1].tracking_uri == "https://tracker.example:5000"
    assert describe_trackers(cfg) == ["tracking: MLflow at https://tracker.example:5000"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@tracker.example")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        load(job, ["mlflow"])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("flag", "missing", "message"),
    [
        ("tensorbord", None, "--track tensorbord: no such tracker; did you mean 'tensorboard'?"),
        ("tensorboard", "tensorboard", "pip install 'mmact-tiny[tensorboard]'"),
        ("mlflow,wandb", "mlflow", "pip install 'mmact-tiny[mlflow]'"),
        ("wandb", "wandb", "pip install 'mmact-tiny[wandb]'"),
    ],
)
def test_what_is_missing_is_named_before_training(
    job: Path,
    tmp_path: Path,
    flag: str,
    missing: str | None,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(compat, "is_installed", lambda package: package != missing)
    arguments = [str(job), "--work-dir", str(tmp_path / "w"), "--track", flag, "--device", "cpu"]
    assert train.main(arguments) == EXIT_ERROR
    assert message in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def run_tracked(job: Path, work_dir: Path, name: str, **environ: str) -> str:
    """Trains an epoch of four batches with a tracker, and returns what was printed."""

    before = set(ROOT.iterdir())
    command = train_command(job, work_dir, "--track", name)
    written, status = on_terminal(command, environ=environ, columns=200)
    assert status == EXIT_OK, written
    assert set(ROOT.iterdir()) == before, "written outside the work directory"
    return written


def test_tensorboard_reads_its_file_back(job: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install -e '.[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    written = run_tracked(job, tmp_path, "tensorboard")
    assert f"tracking: tensorboard --logdir {tmp_path}\n" in written
    (events,) = tmp_path.glob("*/vis_data/events.*")
    log = EventAccumulator(str(events))
    log.Reload()
    assert [event.step for event in log.Scalars("loss")] == [1, 2, 3, 4]
    assert all(0.3 < event.value < 1.5 for event in log.Scalars("loss"))
    assert [event.value for event in log.Scalars("lr")] == pytest.approx([0.0078125] * 4)
    assert [event.step for event in log.Scalars("acc/top1")] == [1]
    (config,) = log.Tensors("config/text_summary")
    assert b"TSNHead" in config.tensor_proto.string_val[0]


def test_mlflow_reads_its_store_back(job: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="pip install -e '.[mlflow]'")
    from mlflow.tracking import MlflowClient

    written = run_tracked(job, tmp_path, "mlflow", MLFLOW_DISABLE_TELEMETRY="true")
    assert "INFO mlflow" not in written
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert f"tracking: mlflow ui --backend-store-uri {uri}\n" in written
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("job")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert [m.step for m in client.get_metric_history(run.info.run_id, "loss")] == [1, 2, 3, 4]
    assert run.data.metrics["lr"] == pytest.approx(0.0078125)
    assert 0 <= run.data.metrics["acc/top1"] <= 1
    assert run.data.params["optim_wrapper.optimizer.lr"] == "0.5"
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["config.py"]
    assert Path(run.info.artifact_uri.removeprefix("file://")).is_relative_to(tmp_path)


def test_wandb_offline_keeps_to_the_work_directory(job: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="pip install -e '.[wandb]'")
    written = run_tracked(job, tmp_path, "wandb", WANDB_MODE="offline")
    assert "Run data is saved locally in " in written and "Run summary" not in written
    (record,) = tmp_path.glob("*/vis_data/wandb/offline-run-*/*.wandb")
    data = record.read_bytes()
    assert b"TSNHead" in data and b"acc/top1" in data
    assert b"source-job" not in data, "uploads the code of the current folder"
