"""Lets the processes of a job decide together, and gathers what each of them has of its own.

None may wait for one that has stopped. A checkpoint is written by rank 0 alone, which lacks the
gradients that the others accumulated since the last step of the optimizer, and their buffers: the
statistics of BatchNorm, which stock averages over the processes only when an epoch ends.
"""

import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn

import numpy as np
import torch

from .. import hardware
from ..compat import Runner, all_gather_object, all_reduce, get_device, get_rank, get_world_size
from ..errors import EXIT_ERROR, UserError
from ._mmengine import is_between_steps, model_of

FIND_UNUSED = "find_unused_parameters"
State = Mapping[str, Mapping[str, torch.Tensor]]


def start_processes(cfg: Mapping[str, Any]) -> None:
    """Joins the processes of a job, before anything is checked; without a launcher does nothing.

    MMEngine 0.10.7 does it later, and calls `torch.cuda.set_device` whatever the backend
    (`_init_dist_pytorch`); it leaves a process group alone that is there already. On GPUs of Slurm
    without MASTER_ADDR it is MMEngine that asks Slurm for it.

    Args:
        cfg: Its `launcher`, pytorch, slurm or mpi, has variables of the rank and the number of
            processes. The last two also need MASTER_ADDR; MASTER_PORT is 29500 by default. A
            process that does not answer for `env_cfg.dist_cfg.timeout` seconds ends the others.
    """
    launcher, cuda = cfg.get("launcher", "none"), torch.cuda.is_available()
    if launcher == "none" or torch.distributed.is_initialized():
        return
    os.environ.setdefault("MASTER_PORT", "29500")
    os.environ.setdefault("LOCAL_RANK", "0")  # MMEngine reads it, to name a GPU
    if "MASTER_ADDR" not in os.environ:
        if cuda:
            return
        fix = "set it to the name of the machine of process 0"
        if launcher == "pytorch":
            fix = "start with: torchrun --nproc_per_node=2 tools/train.py ... --launcher pytorch"
        raise UserError(f"--launcher {launcher}: MASTER_ADDR is not set\n  {fix}")
    if cuda:
        torch.cuda.set_device(hardware.local_rank())
    seconds = ((cfg.get("env_cfg") or {}).get("dist_cfg") or {}).get("timeout")
    rank, num_processes = hardware.rank(), hardware.world_size()
    torch.distributed.init_process_group(
        "nccl" if cuda else "gloo",
        store=meet_processes(rank, num_processes),
        rank=rank,
        world_size=num_processes,
        timeout=timedelta(seconds=seconds) if seconds else None,
    )


def meet_processes(rank: int, num_processes: int) -> torch.distributed.Store | None:
    """Returns a store of these processes alone, where torchrun's has what ended ones left in it.

    It starts all again with the same store (pytorch issue 135712), and one that reads the address
    of its peer before that has written it waits at the old one for half an hour. How often each
    was started does not tell: machines count by themselves. So each of them draws a name: process 0
    answers whoever is there, and goes on when all have answered to its own.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = torch.distributed.TCPStore(address, port, num_processes, is_master=False)
    job = own = uuid.uuid4().hex
    if rank:
        store.set(f"met/process {rank}", own)
        job = store.get(f"met/{own}").decode()  # waits
        store.set(f"met/{job}/{rank}", "here")
    missing = {} if rank else dict.fromkeys(range(1, num_processes))
    while missing:
        for other in list(missing):
            if store.check([f"met/process {other}"]):
                store.set(f"met/{store.get(f'met/process {other}').decode()}", own)
            if store.check([f"met/{own}/{other}"]):
                del missing[other]
        time.sleep(0.02)
    return torch.distributed.PrefixStore(job, store)


@contextmanager
def told_once() -> Iterator[None]:
    """Ends every process of a job where the block fails in one; rank 0 says why, and once."""
    error = ""
    try:
        yield
    except UserError as failure:
        error = str(failure)
    if errors := [one for one in all_gather_object(error) if one]:
        stop_all(errors[0])


def check_same_start(start: str) -> None:
    """Checks that all processes go on from the same place; all of them have to call.

    Raises:
        UserError: where a work directory is not the same one on each machine, say.
    """
    starts = all_gather_object(start)
    other = next((rank for rank, one in enumerate(starts) if one != starts[0]), None)
    if other is not None:
        stop_all(
            f"process 0 starts from {starts[0]}, process {other} from {starts[other]}: expected "
            "one --work-dir on a file system that all machines share"
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
    """Gives this process its own state back, or the mean of all where the job had another size."""
    same = len(states) == get_world_size()
    model, state = model_of(runner), states[get_rank()] if same else _mean(states)
    for name, parameter in model.named_parameters():
        if name in state.get("gradients", {}):
            parameter.grad = state["gradients"][name].to(parameter)
    for name, buffer in model.named_buffers():
        if name in state.get("buffers", {}):
            buffer.copy_(state["buffers"][name])
    if state.get("gradients"):
        runner.logger.info("gradients of the step under way restored: none are lost")


def _mean(states: Sequence[State]) -> State:
    """Returns the mean of what the processes had: stock averages both, at a step and an epoch."""
    return {
        kind: {
            name: torch.stack([state[kind][name].double() for state in states]).mean(0)
            for name in tensors
            if all(name in state.get(kind, {}) for state in states)
        }
        for kind, tensors in states[0].items()
    }


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
