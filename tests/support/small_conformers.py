"""A Conformer that runs in a moment."""

from __future__ import annotations

import torch
from torch import nn

from aream.backbones import conformer

TINY = conformer.Config(patch_size=8, dim=12, depth=3, heads=3, base_channels=4, channel_ratio=1, drop_path=0.0)


def random_host(config=TINY, classes=4) -> conformer.Conformer:
    """Weights, running statistics included, that leave no branch without a say."""
    torch.manual_seed(0)
    host = conformer.build(config, classes, 32)
    with torch.no_grad():
        for module in host.modules():
            if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 1.5)
        for name, parameter in host.named_parameters():
            if ".attn." in name or ".mlp." in name:
                parameter.mul_(5)
    return host
