"""Matches a checkpoint's weights with a model and says in a line what fits and what does not."""

from collections import OrderedDict
from typing import Any

from ..errors import UserError

HEAD = "cls_head."
BACKBONE = "backbone."


def load_weights(model: Any, checkpoint: dict, *, path: Any, new_head: bool = False) -> str:
    """Loads a checkpoint's weights into a model that is not trained by a Runner.

    Args:
        model: a recognizer.
        checkpoint: what `load_checkpoint` returned.
        path: its file, for the messages.
        new_head: keep the model's own head where the checkpoint's does not fit.

    Returns:
        What was loaded, e.g. `318 of 320 tensors loaded from x.pth; ...`.

    Raises:
        UserError: the backbone does not fit, or the head does not and `new_head` is not set.
    """
    state_dict, message = match_weights(model, checkpoint, path=path, new_head=new_head)
    model.load_state_dict(state_dict)
    return message


def match_weights(
    model: Any, checkpoint: dict, *, path: Any, new_head: bool
) -> tuple[OrderedDict, str]:
    """Returns a state dict with exactly the model's keys and shapes, and the message about it.

    Where the checkpoint has nothing that fits, the model's own tensor is in its place. Arguments
    and errors are those of `load_weights`.
    """
    own = model.state_dict()
    theirs = weights_of(checkpoint)
    fits = {key for key in own if key in theirs and theirs[key].shape == own[key].shape}
    # Counters of batches came with PyTorch 0.4.1; files without them are complete.
    wrong = [key for key in own if key not in fits and not key.endswith(".num_batches_tracked")]
    unused = [key for key in theirs if key not in own]
    body = [key for key in wrong if not key.startswith(HEAD)]
    body += [key for key in unused if key.startswith(BACKBONE)]
    if body:
        raise UserError(_explain_body(body, own, theirs, path))
    message = f"{len(fits)} of {len(own)} tensors loaded from {path}"
    if wrong:
        difference = _describe_head(wrong, own, theirs)
        if not new_head:
            raise UserError(f"checkpoint {path} does not fit the model: {difference}")
        message += f"; {difference}: the head is re-initialised"
    elif unused:
        message += f"; {len(unused)} tensors of it are not used, e.g. {unused[0]}"
    state_dict = OrderedDict((key, theirs[key] if key in fits else own[key]) for key in own)
    return state_dict, message


def weights_of(checkpoint: dict) -> dict[str, Any]:
    """Returns the tensors by name, without the prefix of a model saved from data parallel."""
    import torch

    state_dict = checkpoint.get("state_dict", checkpoint)
    return {
        str(key).removeprefix("module."): value
        for key, value in state_dict.items()
        if isinstance(value, torch.Tensor)
    }


def _explain_body(body: list[str], own: dict, theirs: dict, path: Any) -> str:
    """Names the first few keys that differ and how."""
    described = []
    for key in body[:3]:
        if key not in theirs:
            described.append(f"{key} is missing")
        elif key not in own:
            described.append(f"{key} is not in the model")
        else:
            shapes = tuple(theirs[key].shape), tuple(own[key].shape)
            described.append(f"{key} is {shapes[0]}, the model's {shapes[1]}")
    more = ", ..." if len(body) > 3 else ""
    return (
        f"checkpoint {path} is of another architecture: {len(body)} tensors outside the head do "
        f"not fit the model's {len(own)} ({', '.join(described)}{more}). Use a checkpoint that "
        "was trained with this config, or change the config"
    )


def _describe_head(wrong: list[str], own: dict, theirs: dict) -> str:
    for key in wrong:
        if key in theirs and theirs[key].shape[1:] == own[key].shape[1:]:
            return f"checkpoint has {len(theirs[key])} classes, the config {len(own[key])}"
    return f"checkpoint has another head ({wrong[0]} does not fit)"
