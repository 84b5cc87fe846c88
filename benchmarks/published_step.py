"""AReAM's training step as published, on the MCTformer host: every layer's maps of every head are made and kept.

Written from the paper and the description of the authors' procedure; a baseline for cost, and for what is computed.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from timm.models.vision_transformer import Block
from torch import Tensor
from torch.nn import functional as F

from aream.backbones.mctformer_v2 import MCTformerV2
from aream.backbones.protocol import Backbone, BackboneOutput
from aream.cams.maps import normalise, refine
from aream.engine.batches import Batch
from aream.engine.ranks import ALONE, Ranks
from aream.methods import aream
from aream.methods.protocol import FIRST, Losses, Progress, Terms
from benchmarks.published import affinity_loss_per_head, par_convolutions


@dataclass(frozen=True, kw_only=True)
class Maps(BackboneOutput):
    """What the published network returns; in the place of queries and keys, what they come to."""

    attention_logits: list[Tensor]
    """(b, heads, tokens, tokens) a layer, before the softmax."""
    attention: list[Tensor]


class PublishedHost(MCTformerV2):
    """MCTformer-V2 without fused attention."""

    def forward(self, images: Tensor) -> Maps:
        h, w = images.shape[2] // self.patch_size, images.shape[3] // self.patch_size
        patches = self.patch_embed.proj(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1) + self.positions(h, w)
        logits: list[Tensor] = []
        attention: list[Tensor] = []
        for block in self.blocks:
            tokens = _run(block, tokens, logits, attention)
        t = self.prefix_tokens
        scores = self.head(tokens[:, t:].transpose(1, 2).reshape(len(images), self.dim, h, w))
        return Maps(
            logits=(tokens[:, :t].mean(dim=-1), scores.mean(dim=(2, 3))),
            cams=(F.relu(scores),) * 2,
            layers=(),
            attention_logits=logits,
            attention=attention,
        )


def _run(block: Block, tokens: Tensor, kept_logits: list[Tensor], kept_attention: list[Tensor]) -> Tensor:
    attention, (b, n, dim) = block.attn, tokens.shape
    qkv = attention.qkv(block.norm1(tokens)).reshape(b, n, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    logits = (qkv[0] @ qkv[1].transpose(-2, -1)) * attention.scale
    weights = logits.softmax(dim=-1)
    kept_logits.append(logits)
    kept_attention.append(weights)
    mixed = attention.proj((weights @ qkv[2]).transpose(1, 2).reshape(b, n, dim))
    tokens = tokens + block.drop_path1(mixed)
    return tokens + block.drop_path2(block.mlp(block.norm2(tokens)))


def published(host: MCTformerV2) -> PublishedHost:
    """A copy of ``host`` that computes as published."""
    copied = copy.deepcopy(host)
    copied.__class__ = PublishedHost
    assert isinstance(copied, PublishedHost)
    return copied


class PublishedAReAM:
    """The method on that host: uniform weights, labels from two forwards in the mode that the network is in."""

    network: torch.nn.Module | None = None

    def __init__(self, config: aream.Config) -> None:
        """``config`` is resolved, its weight a number; its label settings other than layers, alphas and PAR are not
        read."""
        assert not isinstance(config.affinity_weight, aream.TotalWeight)
        self.config, self.weight = config, config.affinity_weight
        self.fusion = [int(layer) for layer in config.fusion_layers]
        self.supervised = [int(layer) for layer in config.supervised_layers]

    def supervised_layers(self) -> Sequence[int]:
        return ()  # nothing of the published step but the step itself is timed

    def losses_of_parts(
        self, backbone: Backbone, parts: Sequence[Batch], ranks: Ranks = ALONE, progress: Progress = FIRST
    ) -> Sequence[Losses]:
        assert isinstance(backbone, PublishedHost)
        (batch,) = parts
        labels = self._labels(backbone, batch)

        def losses(output: BackboneOutput) -> Terms:
            assert isinstance(output, Maps)
            supervised = [output.attention_logits[layer] for layer in self.supervised]
            pairs = _pairs(labels, output.cam.shape[2:])
            loss = affinity_loss_per_head(supervised, backbone.prefix_tokens, pairs)
            return Terms({"affinity": self.weight * loss})

        return [losses]

    @torch.no_grad()
    def _labels(self, host: PublishedHost, batch: Batch) -> Tensor:
        size = batch.images.shape[2:]
        total = batch.images.new_zeros(())
        for flipped in (False, True):
            output: Maps = host(batch.images.flip(-1) if flipped else batch.images)
            t, maps = host.prefix_tokens, torch.stack([layer.mean(dim=1) for layer in output.attention])
            cam = output.cam * maps.mean(dim=0)[:, :t, t:].reshape(output.cam.shape)
            cam = refine(cam, maps[self.fusion].mean(dim=0)[:, t:, t:])
            full = F.interpolate(cam, size=size, mode="bilinear", align_corners=False)
            total = total + (full.flip(-1) if flipped else full)
        cams = normalise(total) * batch.labels[:, :, None, None]
        rgb = batch.rgb(host.mean, host.std)
        return torch.stack([self._label(*each) for each in zip(cams, batch.labels, rgb, strict=True)])

    def _label(self, cam: Tensor, labels: Tensor, image: Tensor) -> Tensor:
        """One image, one alpha at a time."""
        size = image.shape[1:]
        half = [side // 2 for side in size]
        ids = F.pad(labels.nonzero()[:, 0] + 1, (1, 0))
        small = F.interpolate(image[None], size=half, mode="bilinear", align_corners=False)
        found = []
        for alpha in (self.config.alpha_low, self.config.alpha_high):
            stack = torch.cat([cam.new_full((1, *size), alpha), cam[labels > 0]])[None]
            stack = F.interpolate(stack, size=half, mode="bilinear", align_corners=False).softmax(dim=1)
            refined = par_convolutions(small, stack, self.config.refiner.config)
            full = F.interpolate(refined, size=size, mode="bilinear", align_corners=False)[0]
            found.append(ids[full.argmax(dim=0)])
        low, high = found
        return torch.where(high != 0, high, torch.where(low != 0, 255, 0))


def _pairs(labels: Tensor, grid: Sequence[int]) -> Tensor:
    small = F.interpolate(labels[:, None].float(), size=tuple(grid), mode="nearest").long().flatten(1)
    same = (small[:, :, None] == small[:, None, :]).long()
    same[(small == 255)[:, :, None].expand_as(same)] = 255
    same[(small == 255)[:, None, :].expand_as(same)] = 255
    return same
