"""Which parameters of a host learn how fast, and which of them decay."""

from __future__ import annotations

from typing import Any

import torch

from aream.backbones._protocol import Backbone


def parameter_groups(
    backbone: Backbone, *, lr: float, head_lr_scale: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Decay and no decay, host and head. Biases, norms and what the backbone names do not decay."""
    undecayed = backbone.no_weight_decay()
    heads = {id(parameter) for parameter in backbone.head_parameters()}
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in backbone.named_parameters():
        decayed = parameter.ndim > 1 and name not in undecayed
        groups.setdefault((decayed, id(parameter) in heads), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": weight_decay if decayed else 0.0,
            "lr": lr * (head_lr_scale if head else 1.0),
        }
        for (decayed, head), parameters in groups.items()
    ]
