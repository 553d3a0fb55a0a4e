"""Lets the processes of a job decide together, and gathers what each of them has of its own.

None may wait for one that has stopped. A checkpoint is written by rank 0 alone, which lacks the
gradients that the others accumulated since the last step of the optimizer, and their buffers: the
statistics of BatchNorm, which stock averages over the processes only when an epoch ends.
"""

from collections.abc import Mapping, Sequence
from typing import NoReturn

import torch

from ..compat import Runner, all_gather_object, all_reduce, get_device, get_rank, get_world_size
from ..errors import EXIT_ERROR, UserError
from ._mmengine import is_between_steps, model_of

State = Mapping[str, Mapping[str, torch.Tensor]]


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
