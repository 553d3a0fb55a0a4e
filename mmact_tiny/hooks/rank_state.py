"""What each process of a job has of its own, which a checkpoint of rank 0 alone would lack.

Gradients accumulated since the last step of the optimizer, and buffers such as the statistics of
BatchNorm, which stock averages over the processes only when an epoch ends.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..compat.mm import all_gather_object, get_rank, get_world_size, is_model_wrapper

State = Mapping[str, Mapping[str, torch.Tensor]]


def gather_states(runner: Any) -> list[State]:
    """Returns the state of each process by rank; all of them have to call.

    Where steps take several iterations, every process holds the gradients of all for a moment.
    """
    return all_gather_object(own_state(runner))


def own_state(runner: Any) -> State:
    """Returns `gradients` that wait for a step, and `buffers` in a job of several processes."""
    model = _unwrapped(runner)
    wrapper = runner.optim_wrapper
    state: dict[str, dict[str, torch.Tensor]] = {}
    if wrapper._inner_count % wrapper._accumulative_counts:
        state["gradients"] = {
            name: parameter.grad.cpu()
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }
    if get_world_size() > 1:
        state["buffers"] = {name: buffer.cpu() for name, buffer in model.named_buffers()}
    return state


def restore_state(runner: Any, states: Sequence[State]) -> None:
    """Gives this process its own state back; does nothing where the job had another size."""
    if len(states) != get_world_size():
        return
    model, state = _unwrapped(runner), states[get_rank()]
    for name, parameter in model.named_parameters():
        if name in state.get("gradients", {}):
            parameter.grad = state["gradients"][name].to(parameter)
    for name, buffer in model.named_buffers():
        if name in state.get("buffers", {}):
            buffer.copy_(state["buffers"][name])
    if state.get("gradients"):
        runner.logger.info("gradients of the step under way restored: none are lost")


def _unwrapped(runner: Any) -> torch.nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
