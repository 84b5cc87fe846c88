"""MoRe: class tokens enriched by a graph, and patches held to what the CAMs are sure of.

Source: Yang et al., "MoRe: Class Patch Attention Needs Regularization for Weakly Supervised Semantic Segmentation",
AAAI 2025, as the authors' code (zwyang6/MoRe) computes it. The host as published: ``backbone: {name: vit, vit:
vit_base_patch16_224.orig_in21k_ft_in1k, weights: pretrained, normalisation: imagenet, drop_path: 0, class_tokens:
per_class, registers: 4, head_kernel: 1, head_bias: false, rectified: false, pooling: channel_max}``; its training
``train: {warmup_epochs: 0, image_size: 448, batch_size: 4, lr: 6e-5, head_lr_scale: 10, weight_decay: 0.01, select:
last}``.

The defaults are VOC's. COCO: ``high`` 0.65, ``patch_start`` 0.1, ``region_start`` 0.15, ``main_start`` 0.625,
``temperature`` 0.1, ``label_scales`` 1, 0.5, 0.75, 1.25, 1.5; for ``certain_weight`` and ``uncertain_weight`` the
script has 0.1 and 0.01 at 2 images on each GPU, the published log of the 47.4 % run 0.05 and 0 at 4 on each of two.
VOC's script says 4 images on each of several GPUs, its log has one GPU.

With ``segment: true`` the single-stage decoder learns too. Deviates: the dense energy loss, weighed 5e-9, is left out;
stages are shares of the steps after the warm-up, in place of steps; padding of a crop counts as uncertain for pairs and
certain patches, is no candidate to draw and has no pixel label, where it is part of the image there; norms, biases,
tokens and positions do not decay, where all do there; maps of an image and its mirror are summed at inference, the
authors take the larger value; positions are resampled by the host's rule (timm's), once to the training grid where they
are read from a file, not at every step from 14 x 14.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from aream import discover, refiners
from aream.backbones.protocol import Backbone, BackboneOutput
from aream.cams.maps import pick_maps
from aream.cams.precision import without_autocast
from aream.engine.batches import Batch
from aream.engine.losses import PairCounts, count_pairs
from aream.engine.ranks import ALONE, Ranks
from aream.errors import ConfigError
from aream.labels.training_labels import present_first, reliable_labels
from aream.methods._label_views import label_passes
from aream.methods._more_config import Config
from aream.methods._more_decoder import PixelCounts, count_pixels, segmentation_loss
from aream.methods._more_hosts import check_host, check_shape
from aream.methods._more_losses import certain_loss, class_contrast, patch_contrast, patch_pairs, uncertain_loss
from aream.methods._more_masks import combined_maps
from aream.methods._more_network import MoreNetwork, attention_map, full
from aream.methods._more_regions import Regions, count_certain, find_regions
from aream.methods.protocol import FIRST, HostShape, Losses, Progress, Terms
from aream.refiners.protocol import Refiner

__all__ = ["LOCALISES", "Config", "More", "build", "check_host", "losses", "measures", "needs_entropy", "resolve"]

LOCALISES = True
OF_DECODER: dict[str, Any] = {
    field.name: field.default for field in dataclasses.fields(Config) if field.name.startswith("segment_")
}


def SEGMENTS(config: Config) -> bool:  # noqa: N802  # a flag of the protocol
    return config.segment


def resolve(config: Config, depth: int) -> Config:
    """Name the auxiliary layer; of settings without effect, those of scales or a decoder, the default.

    Raises:
        ConfigError: the backbone has no such layer before its last.
    """
    layer = max(0, depth - 3) if config.auxiliary_layer is None else config.auxiliary_layer
    if not 0 <= layer < depth - 1:
        raise ConfigError(f"auxiliary_layer: need a layer before the last of {depth}, got {layer}")
    if config.label_mode == "online":
        config = dataclasses.replace(config, label_scales=(1.0,), label_flip=False)
    if not config.segment:
        config = dataclasses.replace(config, **OF_DECODER)
    return dataclasses.replace(config, auxiliary_layer=layer)


def needs_entropy(config: Config) -> bool:
    return False


def losses(config: Config) -> tuple[str, ...]:
    own = ("auxiliary", "class_contrast", "patch_contrast", "certain", "uncertain")
    return (*own, "segmentation") if config.segment else own


def measures(config: Config) -> tuple[str, ...]:
    """Share of the patches without a label among those that the losses of certain and uncertain ones go by."""
    return ("uncertain",)


def build(config: Config, entropies: Float[Tensor, " l"] | None = None, host: HostShape | None = None) -> More:
    """The method for a resolved configuration.

    Raises:
        ConfigError: what :func:`check_shape` says of the host, or there is none.
    """
    if host is None:
        raise ConfigError("name: more is made for a host, whose shape it was not told")
    check_shape(config, host)
    return More(config, host)


Maps = list[Float[Tensor, "b k _ _"]]
"""Auxiliary CAMs of the classes of each image, and after them the main ones where these make masks."""
Read = Callable[[BackboneOutput], Maps]
Passes = Callable[[Batch, Read], list[list[Maps]]]
"""Function that reads every scale, of the image and of its mirror where that is seen."""


class More:
    def __init__(self, config: Config, host: HostShape) -> None:
        self.config = config
        decoder_channels = config.segment_channels if config.segment else None
        self.network = MoreNetwork(host.dim, host.classes, config.gcr_einsum, decoder_channels)
        refiner = config.segment_refiner
        self.refiner: Refiner = discover.load(refiners, refiner.name).build(refiner.config)
        assert config.auxiliary_layer is not None
        self.layer = config.auxiliary_layer

    def supervised_layers(self) -> Sequence[int]:
        return ()  # tokens are held to something, no attention

    @torch.no_grad()
    def localise(
        self, backbone: Backbone, images: Float[Tensor, "b 3 height width"], classes: Int64[Tensor, "b k"]
    ) -> tuple[BackboneOutput, Float[Tensor, "b k h w"]]:
        """LAMs of each image's ``classes``, less their minimum: normalising, which rectifies, then cuts nothing off."""
        output = backbone(images)
        with without_autocast(images):
            tokens, patches = self._tokens(backbone, output)
            maps = pick_maps(attention_map(tokens, patches, output.grid), classes)
        return output, maps - maps.amin(dim=(2, 3), keepdim=True)

    @torch.no_grad()
    def segment(
        self, backbone: Backbone, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b k height width"]:
        """Logits of the decoder at the size of the images, background first."""
        output = backbone(images)
        with without_autocast(images):
            logits = self._decoded(backbone, output)
            return F.interpolate(logits, size=tuple(images.shape[2:]), mode="bilinear", align_corners=False)

    def losses_of_parts(
        self, backbone: Backbone, parts: Sequence[Batch], ranks: Ranks = ALONE, progress: Progress = FIRST
    ) -> Sequence[Losses]:
        """Weighted terms, those whose time has come.

        Pairs and drawn patches are counted over the whole batch. So where it comes in parts, the masks of all of them
        are made before the first loss; with masks ``online`` that takes a forward pass more.
        """

        make = functools.partial(self._made, backbone, parts, ranks, progress)
        if self.config.label_mode == "online" and len(parts) == 1:
            return [lambda output: make(lambda part, read: [[read(output)]])[0](output)]
        return make(functools.partial(self._passes, backbone))

    def _passes(self, backbone: Backbone, part: Batch, read: Read) -> list[list[Maps]]:
        """Read the passes of a part; nothing else of an output is kept until the next."""
        return label_passes(backbone, part.images, self.config, lambda sides: [read(backbone(side)) for side in sides])

    @torch.no_grad()
    def _made(
        self, backbone: Backbone, parts: Sequence[Batch], ranks: Ranks, progress: Progress, passes: Passes
    ) -> list[Losses]:
        """The losses of every part; masks are made here."""
        regions = [self._regions(backbone, part, passes, progress) for part in parts]
        counts = [
            (*count_pairs(patch_pairs(each.pairs)), (each.picked >= 0).sum(), count_certain(each)) for each in regions
        ]
        alike, unlike, picked, certain = (torch.stack(each).sum() for each in zip(*counts, strict=True))
        labelled = alike.new_zeros(2) + sum(count_pixels(each.pixels) for each in regions if each.pixels is not None)
        ranks.add([alike, unlike, picked, certain, labelled])
        return [
            functools.partial(self._terms, backbone, part, each, (alike, unlike), picked, certain, labelled, progress)
            for part, each in zip(parts, regions, strict=True)
        ]

    def _regions(self, backbone: Backbone, part: Batch, passes: Passes, progress: Progress) -> Regions:
        classes, present = present_first(part.labels > 0)
        by_main = _begun(progress, self.config.main_start)
        segmenting = self.config.segment and _begun(progress, self.config.segment_start)

        def read(output: BackboneOutput) -> Maps:
            with without_autocast(output.cam):
                auxiliary = self.network.auxiliary_map(self._middle(backbone, output), output.grid)
            main = [full(output.cam)] if by_main or segmenting else []
            return [pick_maps(maps, classes) for maps in (auxiliary, *main)]

        scales = passes(part, read)
        size = (part.images.shape[2], part.images.shape[3])
        auxiliary, *main = (
            combined_maps([[view[kind] for view in views] for views in scales], size)
            for kind in range(len(scales[0][0]))
        )
        pixels = self._pixel_labels(backbone, part, classes, present, main[0]) if segmenting else None
        grid = size[0] // backbone.patch_size, size[1] // backbone.patch_size
        by = main[0] if by_main else None
        return find_regions(part, classes, present, auxiliary, by, self.config, grid, progress.step, pixels)

    def _pixel_labels(
        self,
        backbone: Backbone,
        part: Batch,
        classes: Int64[Tensor, "b k"],
        present: Bool[Tensor, "b k"],
        main: Float[Tensor, "b k height width"],
    ) -> Int64[Tensor, "b height width"]:
        config = self.config
        return reliable_labels(
            main,
            present,
            part.rgb(backbone.mean, backbone.std),
            alpha_low=config.low,
            alpha_high=config.high,
            refiner=self.refiner,
            valid=part.valid,
            ids=classes + 1,
        )

    def _terms(
        self,
        backbone: Backbone,
        part: Batch,
        regions: Regions,
        pairs: PairCounts,
        picked: Int64[Tensor, ""],
        certain: Int64[Tensor, ""],
        labelled: PixelCounts,
        progress: Progress,
        output: BackboneOutput,
    ) -> Terms:
        config, labels, share = self.config, part.labels, len(part.ids) / len(part.all_ids)
        present = labels > 0
        with without_autocast(part.images):
            tokens, patches = self._tokens(backbone, output)
            logits = self.network.auxiliary_logits(self._middle(backbone, output))
            losses = {
                "auxiliary": config.auxiliary_weight * share * F.multilabel_soft_margin_loss(logits, labels),
                "class_contrast": config.class_weight * share * class_contrast(tokens).mean(),
            }
            applies = {}
            if _begun(progress, config.patch_start):
                contrast = patch_contrast(patches, patch_pairs(regions.pairs), pairs, share)
                losses["patch_contrast"] = config.patch_weight * contrast
                applies["patch_contrast"] = pairs[0] + pairs[1] > 0
            if _begun(progress, config.region_start):
                looked = certain_loss(tokens, patches, regions.certain.flatten(1), present, config.temperature)
                losses["certain"] = config.certain_weight * share * looked.mean()
                pulled = uncertain_loss(tokens, patches, regions.picked, present)
                losses["uncertain"] = config.uncertain_weight * pulled / picked.clamp(min=1)
                applies["certain"] = certain > 0
                if config.uncertain_weight > 0:  # else none are drawn
                    applies["uncertain"] = picked > 0
            if regions.pixels is not None:
                said = self._decoded(backbone, output)
                losses["segmentation"] = config.segment_weight * segmentation_loss(said, regions.pixels, labelled)
                applies["segmentation"] = labelled.sum() > 0
        measures = {"uncertain": regions.uncertain}
        return Terms(losses, measures, classifying=frozenset({"auxiliary"}), applies=applies)

    def _tokens(
        self, backbone: Backbone, output: BackboneOutput
    ) -> tuple[Float[Tensor, "b c dim"], Float[Tensor, "b n dim"]]:
        """Enriched class tokens, and the patches, both as the last layer leaves them and a head reads them."""
        assert backbone.class_rows is not None
        tokens = full(output.tokens[-1])
        patches = tokens[:, backbone.prefix_tokens :]
        return self.network.graph(tokens[:, backbone.class_rows], patches), patches

    def _decoded(self, backbone: Backbone, output: BackboneOutput) -> Float[Tensor, "b k h w"]:
        assert self.network.decoder is not None
        logits: Tensor = self.network.decoder(full(output.tokens[-1])[:, backbone.prefix_tokens :], output.grid)
        return logits

    def _middle(self, backbone: Backbone, output: BackboneOutput) -> Float[Tensor, "b n dim"]:
        return full(output.tokens[self.layer])[:, backbone.prefix_tokens :]


def _begun(progress: Progress, share: float) -> bool:
    """Return True if what comes after this share of the training has begun; at share 0 it has from the first step
    on."""
    return share == 0 or progress.share > share
