"""Logs a run to TensorBoard, MLflow or Weights & Biases too, through MMEngine's backends.

They get what MMEngine logs: loss, learning rate, times and accuracies, and the config.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .. import compat
from ..compat import VISBACKENDS, Config, WandbVisBackend
from ..errors import UserError, suggest
from .registry import use_plugin

BACKENDS = {
    "tensorboard": "TensorboardVisBackend",
    "wandb": "WandbConfigBackend",
    "mlflow": "MLflowVisBackend",
}
MLFLOW_URI = "MLFLOW_TRACKING_URI"  # MLflow's own variable
EPOCH_MEANS = {"loss": "epoch_loss", "top1_acc": "epoch_top1_acc"}  # what is logged: its name


@VISBACKENDS.register_module()
class WandbConfigBackend(WandbVisBackend):
    """MMEngine's backend without its upload of every .py file below the current folder.

    A .venv there is 30,000 files, and none of them is asked for.
    """

    def add_config(self, config: Config, **kwargs: Any) -> None:
        self.experiment.config.update(config.to_dict())


def use_trackers(cfg: Config, names: Sequence[str]) -> None:
    """Has a config whose `work_dir` is set log to these trackers, and to no other of ours.

    TensorBoard and MLflow write into the work directory; MLflow to its server where
    `MLFLOW_TRACKING_URI` names one. Weights & Biases does what its login and `WANDB_MODE` say.

    Raises:
        UserError: an unknown name, a package that is not installed, or a password in the URI,
            which would go into the config and so into every checkpoint.
    """
    for name in names:
        if name not in BACKENDS:
            raise UserError(f"--track {name}: no such tracker{suggest(name, BACKENDS)}")
        _check_installed(name)
    if "wandb" in names:
        use_plugin(cfg, __name__)
    before = list((cfg.get("visualizer") or {}).get("vis_backends") or [])
    others = [backend for backend in before if backend["type"] not in BACKENDS.values()]
    nodes = [dict(type=BACKENDS[name], **_arguments(cfg, name)) for name in dict.fromkeys(names)]
    if before != [*others, *nodes]:
        cfg.visualizer.vis_backends = [*others, *nodes]
        if "vis_backends" in cfg:
            cfg.vis_backends = cfg.visualizer.vis_backends  # stock's variable of the same content


def log_epoch_means(cfg: Config) -> None:
    """Has MMEngine log the mean loss and top-1 of each epoch so far, where a run counts epochs.

    Its own loss is the mean of the last 20 iterations, which in a small dataset are those of
    several epochs, its top-1 that of one batch.
    """
    processor = cfg.get("log_processor")
    loop = cfg.get("train_cfg") or {}
    counts = loop.get("type") == "EpochBasedTrainLoop" or loop.get("by_epoch", False)
    if processor is None or not counts or not processor.get("by_epoch", True):
        return
    ours = [
        dict(data_src=source, log_name=name, method_name="mean", window_size="epoch")
        for source, name in EPOCH_MEANS.items()
    ]
    others = [
        node
        for node in processor.get("custom_cfg") or []
        if node.get("log_name") not in EPOCH_MEANS.values()
    ]
    processor.custom_cfg = [*others, *ours]


def _check_installed(name: str) -> None:
    if not compat.is_installed(name):
        raise UserError(
            f"--track {name}: the package {name} is not installed\n"
            f"  get it with: pip install 'mmact-tiny[{name}]'"
        )


def _arguments(cfg: Config, name: str) -> dict:
    project = Path(cfg.filename).stem
    if name == "wandb":
        return dict(init_kwargs=dict(project=project))
    if name == "tensorboard":
        return {}
    uri = os.environ.get(MLFLOW_URI)
    if uri and urlsplit(uri).password:
        raise UserError(
            f"--track mlflow: {MLFLOW_URI} has a password in it, which checkpoints would carry\n"
            "  use MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
        )
    if uri:
        return dict(exp_name=project, tracking_uri=uri, artifact_suffix=())
    return dict(
        exp_name=project,
        tracking_uri=f"sqlite:///{cfg.work_dir}/mlflow.db",  # MLflow 3.7 refuses folders
        artifact_location=f"{cfg.work_dir}/mlflow_artifacts",
        # MMEngine copies all of the work directory that ends so, the copies of the last run too.
        artifact_suffix=(),
    )


def describe_trackers(cfg: Config) -> list[str]:
    """Returns how to look at each tracker of a config, one line each.

    Raises:
        UserError: the package of one is not installed, as where a dump is run elsewhere.
    """
    names = {backend: name for name, backend in BACKENDS.items()}
    lines = []
    for backend in (cfg.get("visualizer") or {}).get("vis_backends") or []:
        name = names.get(backend["type"])
        if name is None:
            continue
        _check_installed(name)
        uri = str(backend.get("tracking_uri"))
        local = f"mlflow ui --backend-store-uri {uri}"
        lines.append(
            {
                "tensorboard": f"tracking: tensorboard --logdir {cfg.work_dir}",
                "mlflow": f"tracking: {local if uri.startswith('sqlite') else f'MLflow at {uri}'}",
                "wandb": "tracking: wandb, as its login and WANDB_MODE say",
            }[name]
        )
    return lines
