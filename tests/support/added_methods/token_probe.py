"""A method with a network of its own: a classifier of patch tokens that finds the same in a mirrored image."""

from __future__ import annotations

import dataclasses
import functools

import torch
from torch import nn
from torch.nn import functional as F

from aream.cams.maps import pick_maps
from aream.config import config
from aream.engine.ranks import ALONE
from aream.errors import ConfigError
from aream.methods.protocol import FIRST, Terms

LOCALISES = True


@config
class Config:
    weight: float = 0.5


def resolve(config, depth):
    return config


def needs_entropy(config):
    return False


def losses(config):
    return "labels", "mirror"


def build(config, entropies=None, host=None):
    if host.classes > 100:
        raise ConfigError(f"token_probe tells at most 100 classes apart, given {host.classes}")
    return TokenProbe(config, Probe(host.dim, host.classes))


class Probe(nn.Module):
    def __init__(self, dim, classes):
        super().__init__()
        self.linear = nn.Linear(dim, classes)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, patches):
        return self.linear(patches)


class TokenProbe:
    def __init__(self, config, network):
        self.config, self.network = config, network

    def losses_of_parts(self, backbone, parts, ranks=ALONE, progress=FIRST):
        self.network.steps += 1
        return [functools.partial(self._terms, backbone, part) for part in parts]

    def supervised_layers(self):
        return ()

    def maps(self, backbone, output):
        patches = output.tokens[-1][:, backbone.prefix_tokens :]
        return self.network(patches).transpose(1, 2).unflatten(2, output.grid)

    @torch.no_grad()
    def localise(self, backbone, images, classes):
        """The probe's maps times the gradient of its scores with respect to the tokens, so that it needs one."""
        with torch.enable_grad():
            output = backbone(images)
            tokens = output.tokens[-1].detach().requires_grad_()
            maps = self.maps(backbone, dataclasses.replace(output, tokens=[tokens]))
            (pulls,) = torch.autograd.grad(maps.mean(dim=(2, 3)).sum(), tokens)
        strength = pulls[:, backbone.prefix_tokens :].norm(dim=2).unflatten(1, output.grid)
        return output, pick_maps(maps.detach().float() * strength[:, None], classes)

    def _terms(self, backbone, part, output):
        share = self.config.weight * len(part.ids) / len(part.all_ids)
        maps = self.maps(backbone, output)
        mirrored = self.maps(backbone, backbone(part.images.flip(-1)))
        labels = F.binary_cross_entropy_with_logits(maps.mean(dim=(2, 3)), part.labels)
        return Terms({"labels": share * labels, "mirror": share * (maps - mirrored.flip(-1)).square().mean()})
