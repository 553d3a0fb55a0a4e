"""Weights are matched with the model, counted, and a mismatch is explained."""

import pytest
import torch
from toy import Toy

from mmact_tiny.checkpoints.load import load_weights, match_weights
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


def test_a_layer_that_the_model_lacks_outside_the_backbone_is_told():
    """Another head's extra tensors are no reason to refuse; of a backbone they are."""
    model = Toy(2)
    more = {
        **model.state_dict(),
        "cls_head.extra.weight": torch.zeros(1),
        "ema.decay": torch.ones(1),
        "note": "no tensor",
    }
    assert load_weights(model, more, path="x.pth") == (
        "9 of 9 tensors loaded from x.pth; 2 tensors of it are not used, e.g. cls_head.extra.weight"
    )


def test_a_head_of_another_width_is_told_from_one_of_other_classes():
    model = Toy(2)
    other = {**model.state_dict(), "cls_head.fc_cls.weight": torch.zeros(2, 9)}
    state_dict, message = match_weights(model, {"state_dict": other}, path="x.pth", new_head=True)
    assert message == (
        "8 of 9 tensors loaded from x.pth; checkpoint has another head (cls_head.fc_cls.weight "
        "does not fit): the head is re-initialised"
    )
    assert torch.equal(state_dict["cls_head.fc_cls.bias"], other["cls_head.fc_cls.bias"])
    assert torch.equal(
        state_dict["cls_head.fc_cls.weight"], model.state_dict()["cls_head.fc_cls.weight"]
    )
    assert list(state_dict) == list(model.state_dict())


def test_the_first_three_tensors_that_differ_are_named():
    wide = Toy(2, width=5).state_dict()
    with pytest.raises(UserError) as error:
        load_weights(Toy(2), wide, path="x.pth")
    assert str(error.value).count("the model's (") == 3 and ", ...)" in str(error.value)
    with pytest.raises(UserError, match=r"\(backbone.1.bias is missing\)"):
        load_weights(
            Toy(2),
            {k: v for k, v in Toy(2).state_dict().items() if k != "backbone.1.bias"},
            path="x",
        )
