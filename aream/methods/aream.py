"""AReAM: attention affinities of deep layers supervised by labels derived from shallow ones.

Source: Cheng et al., arXiv:2305.03112, Eqs. 7-16, read as the authors' code computes them where the printed
equations contradict the text.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from aream import discover, refiners
from aream.backbones.protocol import Backbone, BackboneOutput
from aream.cams.affinity import affinity_logits, layer_weights, patch_affinity
from aream.cams.maps import normalise, refine, spread_maps
from aream.config import Component, component, config
from aream.engine.batches import Batch, check_scales
from aream.engine.losses import PairCounts, affinity_loss, count_pairs
from aream.engine.ranks import ALONE, Ranks
from aream.entropies import EntropyInput, EntropyMap, EntropyProb, layer_entropies
from aream.errors import ConfigError
from aream.labels.training_labels import affinity_labels, present_first, reliable_labels, uncertain_share
from aream.layers import LayerSubset, first_deep_layer, resolve_layers
from aream.methods._label_views import View, label_views, nearest_view
from aream.methods.protocol import FIRST, HostShape, Localise, Losses, Progress, Terms, host_maps
from aream.refiners import par
from aream.refiners.protocol import refuse_network

SUPERVISES_LAYERS = True


@config
class TotalWeight:
    total: float
    """Sum of the weights of the affinity loss over all steps that have it, >= 0: trainings of 2 and of 50 epochs are
    then pulled alike. The authors' script comes to 0.1 * 50 epochs * 165 steps = 825."""

    def __post_init__(self) -> None:
        if not self.total >= 0:
            raise ConfigError(f"total: need a sum of weights >= 0, got {self.total}")


@config
class Config:
    alpha_low: float = 0.35
    """Score of the constant background below which a pixel is surely background, in (0, 1). Deviates from the
    paper's 0.15: the authors' script has 0.35."""
    alpha_high: float = 0.55
    """Score above which a pixel is surely foreground, in (alpha_low, 1). Paper 0.35, authors' script 0.55."""
    affinity_weight: float | TotalWeight = 0.1
    """Lambda of the affinity loss; not in the paper, from the authors' script. Or ``{total: X}``, spread evenly over
    the steps after the warm-up."""
    affinity_logits: Literal["raw", "centred"] = "raw"
    """Argument of the sigmoid of Eq. 15: the attention logits as they are (paper), or less the mean of their row. A
    constant of a row changes no attention, since softmax does not see it, but it takes the sigmoid to where it is flat.
    No gradient flows through the mean."""
    affinity_reach: Literal["all", "deep"] = "all"
    """Layers that the affinity loss teaches: all below its own too (paper), or none below the first supervised one, so
    that it cannot change the shallow layers that make its labels."""
    weights: Literal["uniform", "entropy_offline", "entropy_online"] = "uniform"
    """Layer weights (Eq. 8): 1 everywhere; from the entropies of a plainly trained host (authors' code); or from the
    batch at hand (the paper's figure)."""
    layer_index: int | None = None
    """First deep layer, 0-based; null: the authors' for the backbone (MCTformer 7 of 12, Conformer 9 of 12), scaled to
    the depth."""
    fusion_layers: LayerSubset = "shallow"
    """Layers whose affinities refine the label CAM. Deviates from Eq. 9 as printed (all), like the authors' code."""
    supervised_layers: LayerSubset = "deep"
    """Layers under the affinity loss. Deviates from Eq. 16 as printed (all), like the authors' code."""
    reduce: Literal["mean", "sum"] = "mean"
    """Mean or sum over the supervised layers: the authors' code has the mean, Eq. 16 the sum."""
    entropy_map: EntropyMap = "cam"
    """Map inside Eq. 7: the host's CAM (authors' code), or ``localised``, the one that labels are refined from, on
    MCTformer times the class attention (entropies are then nearly the same in all layers)."""
    entropy_input: EntropyInput = "raw"
    """Input of Eq. 7: that map as it comes (authors' code), or normalised (as printed; then nearly constant)."""
    entropy_prob: EntropyProb = "softmax"
    """Way from the refined map to a distribution over positions: softmax (Eq. 7), or divided by its sum."""
    label_mode: Literal["eval", "train", "online"] = "eval"
    """Network that makes the labels: an extra forward in eval mode (default), in train mode (authors' code: drop path
    active, batch norm updated by the images of every scale), or the training forward itself (no extra cost)."""
    label_scales: tuple[float, ...] = (1.0,)
    """Scales summed into the label CAM (MCTformer: 1.0; Conformer: 0.5, 1.0, 1.5); ``online`` has the training image
    alone."""
    label_flip: bool = True
    """Sum the mirrored image too; ``online`` has the training image alone."""
    refiner: Component = component("aream.refiners", Component(name="par", config=par.Config()))
    """Makes the labels follow the image's edges (PAR, Eqs. 10-12)."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha_low < self.alpha_high < 1:
            raise ConfigError(
                "alpha_low, alpha_high: need 0 < alpha_low < alpha_high < 1, "
                f"got {self.alpha_low} and {self.alpha_high}"
            )
        if not isinstance(self.affinity_weight, TotalWeight) and self.affinity_weight < 0:
            raise ConfigError(f"affinity_weight: need a weight >= 0, got {self.affinity_weight}")
        check_scales("label_scales", self.label_scales)
        refuse_network(self.refiner)


OF_ENTROPY: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(Config) if f.name.startswith("entropy_")}


def resolve(config: Config, depth: int) -> Config:
    """Name the layers one by one, and of settings without effect the one that all with the same effect share.

    Raises:
        ConfigError: a layer or split that a backbone of this depth does not have.
    """
    split = first_deep_layer(depth, config.layer_index)
    if config.label_mode == "online":
        config = dataclasses.replace(config, label_scales=(1.0,), label_flip=False)
    if config.weights == "uniform":
        config = dataclasses.replace(config, **OF_ENTROPY)
    return dataclasses.replace(
        config,
        layer_index=None,
        fusion_layers=resolve_layers(config.fusion_layers, depth, split, "fusion_layers"),
        supervised_layers=resolve_layers(config.supervised_layers, depth, split, "supervised_layers"),
    )


def needs_entropy(config: Config) -> bool:
    return config.weights == "entropy_offline"


def losses(config: Config) -> tuple[str, ...]:
    return ("affinity",)


def measures(config: Config) -> tuple[str, ...]:
    """Shares of the labels' pixels without a class, and of the pairs of patches that are alike and unlike."""
    return ("uncertain", "positive", "negative")


def build(config: Config, entropies: Float[Tensor, " l"] | None = None, host: HostShape | None = None) -> AReAM:
    """The method for a resolved configuration.

    Raises:
        ConfigError: offline weights without the entropies they come from.
    """
    if needs_entropy(config) and entropies is None:
        raise ConfigError("weights: entropy_offline needs the layer entropies of a plainly trained host")
    return AReAM(config, layer_weights(entropies) if needs_entropy(config) and entropies is not None else None)


class AReAM:
    network: torch.nn.Module | None = None

    def __init__(self, config: Config, weights: Float[Tensor, " l"] | None) -> None:
        """``weights`` is w(l) in [0, 1] for every layer of the host, constant in training; None: all
        count alike, or the weights are made online."""
        self.config = config
        self.weights = weights
        self.localise_with: Localise = host_maps  # or what a method beside it brings
        self.fusion: tuple[int, ...] = tuple(int(layer) for layer in config.fusion_layers)
        self.supervised: tuple[int, ...] = tuple(int(layer) for layer in config.supervised_layers)
        self.refiner = discover.load(refiners, config.refiner.name).build(config.refiner.config)

    def supervised_layers(self) -> Sequence[int]:
        return self.supervised

    def losses_of_parts(
        self, backbone: Backbone, parts: Sequence[Batch], ranks: Ranks = ALONE, progress: Progress = FIRST
    ) -> Sequence[Losses]:
        """Lambda times the affinity loss (Eqs. 15-16); gradients reach the host through its affinity logits only.

        Pairs are counted, and layers weighted by entropy, over the whole batch. So where it comes in parts, the labels
        of all of them are made before the first loss; with labels ``online`` that takes a forward pass more. Labels
        made in train mode then draw other random numbers (drop path); all others are the same, but for a pixel at a
        tie and for online entropies that hardly differ, where rounding decides.
        """
        weight = self.config.affinity_weight
        scale = weight.total / progress.steps if isinstance(weight, TotalWeight) else weight
        make = functools.partial(self._made, backbone, parts, ranks, scale)
        if self.config.label_mode == "online" and len(parts) == 1 and self.localise_with is host_maps:
            return [lambda output: make(functools.partial(host_maps, output=output))[0](output)]
        return make(self.localise_with)

    @torch.no_grad()
    def _made(
        self, backbone: Backbone, parts: Sequence[Batch], ranks: Ranks, scale: float, localise: Localise
    ) -> list[Losses]:
        """The losses of every part; labels are made here."""

        def make_views(part: Batch) -> list[View]:
            return label_views(backbone, part, self.config, localise)

        # Views of one part are kept for weights and labels; those of several would be what memory does not hold.
        only = make_views(parts[0]) if len(parts) == 1 else None
        weights = self._weights(backbone, parts, ranks, make_views if only is None else lambda part: only)
        labels = [self._labels(backbone, part, only or make_views(part), weights) for part in parts]
        counts = None
        if len(parts) > 1 or ranks.size > 1:
            grid = parts[0].images.shape[2] // backbone.patch_size, parts[0].images.shape[3] // backbone.patch_size
            positive, negative = zip(*(count_pairs(affinity_labels(each, grid)) for each in labels), strict=True)
            counts = torch.stack(positive).sum(), torch.stack(negative).sum()
            ranks.add(counts)
        return [
            functools.partial(self._terms, backbone, each, uncertain_share(each, part.valid), weights, counts, scale)
            for each, part in zip(labels, parts, strict=True)
        ]

    def _terms(
        self,
        backbone: Backbone,
        labels: Tensor,
        uncertain: Float[Tensor, ""],
        weights: Float[Tensor, " l"] | None,
        counts: PairCounts | None,
        scale: float,
        output: BackboneOutput,
    ) -> Terms:
        logits = [affinity_logits(output.layers[layer], backbone.prefix_tokens).float() for layer in self.supervised]
        if self.config.affinity_logits == "centred":
            logits = [layer - layer.detach().mean(dim=2, keepdim=True) for layer in logits]
        pairs = affinity_labels(labels, output.grid)
        loss = affinity_loss(
            logits,
            pairs,
            None if weights is None else 1 - weights[list(self.supervised)],
            self.config.reduce,
            counts,
        )
        positive, negative = count_pairs(pairs)
        alike, unlike = counts or (positive, negative)
        measures = {
            "uncertain": uncertain,
            "positive": positive.double() / pairs.numel(),
            "negative": negative.double() / pairs.numel(),
        }
        reach = {"affinity": min(self.supervised)} if self.config.affinity_reach == "deep" else {}
        return Terms({"affinity": scale * loss}, measures, reach, applies={"affinity": alike + unlike > 0})

    def _labels(
        self,
        backbone: Backbone,
        batch: Batch,
        views: Sequence[View],
        weights: Float[Tensor, " l"] | None,
    ) -> Tensor:
        """Segmentation labels (b, h, w) at image size."""
        classes, present = present_first(batch.labels > 0)
        size = batch.images.shape[2:]
        total = torch.zeros((*classes.shape, *size), device=batch.images.device)
        for view in views:
            cam = self._refined(backbone, view, weights)
            cam = cam.flip(-1) if view.mirrored else cam
            total += F.interpolate(cam, size=size, mode="bilinear", align_corners=False)
        return reliable_labels(
            normalise(total),
            present,
            batch.rgb(backbone.mean, backbone.std),
            alpha_low=self.config.alpha_low,
            alpha_high=self.config.alpha_high,
            refiner=self.refiner,
            valid=batch.valid,
            ids=classes + 1,
        )

    def _refined(
        self,
        backbone: Backbone,
        view: View,
        weights: Float[Tensor, " l"] | None,
    ) -> Float[Tensor, "b k h w"]:
        """CAMs of an image's own classes, refined by the weighted mean affinity of the fusion layers (Eq. 9).

        Refining is linear in the affinity, so each layer's is used and gone before the next.
        """
        cam, total = view.maps, torch.zeros_like(view.maps)
        for layer in self.fusion:
            affinity = patch_affinity(view.output.layers[layer], backbone.prefix_tokens)
            total += refine(cam, affinity) * (1.0 if weights is None else weights[layer])
        return total / len(self.fusion)

    def _weights(
        self, backbone: Backbone, parts: Sequence[Batch], ranks: Ranks, make_views: Callable[[Batch], list[View]]
    ) -> Float[Tensor, " l"] | None:
        if self.config.weights != "entropy_online":
            return None if self.weights is None else self.weights.to(parts[0].images.device)
        entropy = (self.config.entropy_input, self.config.entropy_prob, self.config.entropy_map)
        means = []
        for part in parts:
            view, present = make_views(part)[nearest_view(self.config)], part.labels > 0
            localised = spread_maps(view.maps, present_first(present)[0], present.shape[1])
            means.append(layer_entropies(backbone, view.output, present, *entropy, localised))
        shares = means[0].new_tensor([len(part.ids) for part in parts]) / len(parts[0].all_ids)
        entropies = shares @ torch.stack(means)
        ranks.add([entropies])
        return layer_weights(entropies)
