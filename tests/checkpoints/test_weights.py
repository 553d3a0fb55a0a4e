"""Weights are matched with the model, counted, and a mismatch is explained."""

import pytest
import torch
from toy import Toy

from mmact_tiny.checkpoints.weights import load_weights, match_weights
from mmact_tiny.errors import UserError


def test_weights_are_matched_and_counted():
    model, path = Toy(2), "x.pth"
    own = {key: value.clone() for key, value in model.state_dict().items()}
    good = {f"module.{key}": value + 1 for key, value in own.items()}
    message = load_weights(model, {"state_dict": good}, path=path)
    assert message == "9 of 9 tensors loaded from x.pth"
    assert torch.equal(model.state_dict()["backbone.0.weight"], own["backbone.0.weight"] + 1)

    other_head = {"state_dict": Toy(400).state_dict()}
    state_dict, message = match_weights(model, other_head, path=path, new_head=True)
    assert message == (
        "7 of 9 tensors loaded from x.pth; checkpoint has 400 classes, the config 2: "
        "the head is re-initialised"
    )
    assert state_dict["cls_head.fc_cls.weight"].shape == (2, 3)
    with pytest.raises(UserError, match="does not fit the model: checkpoint has 400 classes, the"):
        load_weights(model, other_head, path=path)

    no_head = {k: v for k, v in own.items() if k.startswith("backbone")}
    with pytest.raises(UserError, match="another head"):
        load_weights(model, no_head, path=path)

    old = {k: v for k, v in own.items() if not k.endswith("num_batches_tracked")}
    assert load_weights(model, old, path=path) == "8 of 9 tensors loaded from x.pth"

    with pytest.raises(UserError) as error:
        load_weights(model, Toy(2, width=5).state_dict(), path=path)
    assert "6 tensors outside the head do not fit the model's 9" in str(error.value)
    assert "backbone.0.weight is (5, 4), the model's (3, 4)" in str(error.value)
    with pytest.raises(UserError, match=r"backbone.7.weight is not in the model"):
        load_weights(model, {**own, "backbone.7.weight": torch.zeros(1)}, path=path)
