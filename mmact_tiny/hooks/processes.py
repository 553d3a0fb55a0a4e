"""What the processes of a job decide together, so that none waits for one that has stopped."""

from typing import NoReturn

import torch

from ..compat.mm import all_reduce, get_device, get_rank, get_world_size
from ..errors import UserError


def agree(value: int, how: str = "max") -> int:
    """Returns the `max` or `sum` of a number over the processes, all of which have to ask.

    One process alone has its own back at once.
    """
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
    from ..errors import EXIT_ERROR

    raise SystemExit(EXIT_ERROR)
