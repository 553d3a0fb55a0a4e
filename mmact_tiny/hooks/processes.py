"""Lets the processes of a job decide together, and gathers what each of them has of its own.

None may wait for one that has stopped. A checkpoint is written by rank 0 alone, which lacks the
gradients that the others accumulated since the last step of the optimizer, and their buffers: the
statistics of BatchNorm, which stock averages over the processes only when an epoch ends.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch

from .. import hardware
from ..compat import Runner, all_gather_object, all_reduce, get_device, get_rank, get_world_size
from ..errors import EXIT_ERROR, UserError
from ._mmengine import is_between_steps, model_of

FIND_UNUSED = "find_unused_parameters"
State = Mapping[str, Mapping[str, torch.Tensor]]


def start_processes(launcher: str) -> None:
    """Joins the processes of a job on CPUs with gloo; does nothing on GPUs or without a launcher.

    MMEngine 0.10.7 calls `torch.cuda.set_device` whatever the backend (`_init_dist_pytorch`), and
    leaves a process group alone that is there already. Can go when it asks for CUDA first.

    Args:
        launcher: pytorch, slurm or mpi, whose variables give rank and number of processes. The
            last two also need MASTER_ADDR; MASTER_PORT is 29500 by default.
    """
    if launcher == "none" or torch.cuda.is_available() or torch.distributed.is_initialized():
        return
    os.environ.setdefault("MASTER_PORT", "29500")
    os.environ.setdefault("LOCAL_RANK", "0")  # MMEngine reads it, to name a GPU
    if "MASTER_ADDR" not in os.environ:
        raise UserError(
            f"--launcher {launcher}: MASTER_ADDR is not set\n"
            "  start with: torchrun --nproc_per_node=2 tools/train.py ... --launcher pytorch"
        )
    torch.distributed.init_process_group(
        "gloo", rank=hardware.rank(), world_size=hardware.world_size()
    )


def agree(value: int, how: str = "max") -> int:
    """Returns the `max` or `sum` of a number over the processes, all of which have to ask."""
    if get_world_size() == 1:
        return value
    shared = torch.tensor(value, device=get_device())
    all_reduce(shared, how)
    return int(shared)


def stop_all(message: str) -> NoReturn:
    """Ends every process of the job, all of which have to call; rank 0 says why.

    Raises:
        UserError: on rank 0.
        SystemExit: on the others, with the same status.
    """
    if get_rank() == 0:
        raise UserError(message)
    raise SystemExit(EXIT_ERROR)


def gather_states(runner: Runner) -> list[State]:
    """Returns the state of each process by rank; all of them have to call.

    Where steps take several iterations, every process holds the gradients of all for a moment.
    """
    return all_gather_object(own_state(runner))


def own_state(runner: Runner) -> State:
    """Returns `gradients` that wait for a step, and `buffers` in a job of several processes."""
    model = model_of(runner)
    state: dict[str, dict[str, torch.Tensor]] = {}
    if is_between_steps(runner.optim_wrapper):
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        state["gradients"] = {name: g.cpu() for name, g in gradients.items() if g is not None}
    if get_world_size() > 1:
        state["buffers"] = {name: buffer.cpu() for name, buffer in model.named_buffers()}
    return state


def restore_state(runner: Runner, states: Sequence[State]) -> None:
    """Gives this process its own state back; does nothing where the job had another size."""
    if len(states) != get_world_size():
        return
    model, state = model_of(runner), states[get_rank()]
    for name, parameter in model.named_parameters():
        if name in state.get("gradients", {}):
            parameter.grad = state["gradients"][name].to(parameter)
    for name, buffer in model.named_buffers():
        if name in state.get("buffers", {}):
            buffer.copy_(state["buffers"][name])
    if state.get("gradients"):
        runner.logger.info("gradients of the step under way restored: none are lost")


def wrap_again(runner: Runner, data_batch: Any) -> None:
    """Wraps the model in a new DistributedDataParallel; all processes have to call.

    It looks for unused parameters where the config says so, or where it says nothing and a
    training step of this batch leaves one without a gradient in any process: else the next step
    would wait for it.
    """
    model, settings = model_of(runner), runner.cfg.get("model_wrapper_cfg")
    if FIND_UNUSED not in {**runner.cfg, **(settings or {})}:
        unused = unused_parameters(runner, data_batch)
        if agree(len(unused)) > 0:
            runner.cfg[FIND_UNUSED] = True
            named = f"{unused[0]} and {len(unused) - 1} more have" if unused else "some have"
            runner.logger.info("find_unused_parameters: parameters without a gradient: %s", named)
    if settings is not None:
        settings = {FIND_UNUSED: runner.cfg.get(FIND_UNUSED, False), **settings}
    runner.model = runner.wrap_model(settings, model)


def unused_parameters(runner: Runner, data_batch: Any) -> list[str]:
    """Returns the trainable parameters that the loss of a batch gives no gradient.

    Weights, buffers, gradients and generators stay as they were.
    """
    model = model_of(runner)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = {name: parameter.grad for name, parameter in trainable.items()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    state, devices = np.random.get_state(), list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices), runner.optim_wrapper.optim_context(model):
        losses = model(**model.data_preprocessor(data_batch, False), mode="loss")
        loss, _ = model.parse_losses(losses)
    for parameter in trainable.values():
        parameter.grad = None
    loss.backward()
    unused = [name for name, parameter in trainable.items() if parameter.grad is None]
    np.random.set_state(state)
    for name, parameter in trainable.items():
        parameter.grad = gradients[name]
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    return unused
