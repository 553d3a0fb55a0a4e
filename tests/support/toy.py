"""A model as small as can be, named as recognizers name their parts."""

import torch
from mmengine.model import BaseModel
from torch import nn


class Toy(BaseModel):
    """A backbone with BatchNorm and a head, named as recognizers name them."""

    def __init__(self, num_classes=2, width=3):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width))
        self.cls_head = nn.ModuleDict({"fc_cls": nn.Linear(width, num_classes)})

    def forward(self, inputs, labels, mode="tensor"):
        scores = self.cls_head["fc_cls"](self.backbone(torch.stack(inputs)))
        if mode == "loss":
            return {"loss": nn.functional.cross_entropy(scores, torch.tensor(labels))}
        return scores
