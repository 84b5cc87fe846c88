"""MCTformer+: V2 for larger images, pooled by rank, with class tokens that are kept apart.

Source: Xu et al., "MCTformer+: Multi-Class Token Transformer for Weakly Supervised Semantic Segmentation",
arXiv:2308.03005, and the authors' code. Its images are 448 pixels a side: ``train: {image_size: 448}``.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from aream.backbones._mctformer import as_grid, as_tokens
from aream.backbones._mctformer_weights import build_host, shape_of
from aream.backbones._patch_head import PatchHeadConfig, PatchHeadHost, decisions
from aream.backbones._rank_pooling import rank_pooling
from aream.backbones._timm_config import fingerprint
from aream.backbones.protocol import BackboneOutput
from aream.cams.precision import without_autocast
from aream.config import config
from aream.errors import ConfigError

__all__ = ["Config", "MCTformerPlus", "build", "decisions", "fingerprint", "shape"]


@config
class Config(PatchHeadConfig):
    """The class attention is averaged over all layers (the authors' code)."""

    rank_decay: float = 0.996
    """Weight of a patch's score over that of the next higher one in the pooling (d of GWRP), in (0, 1]; 1 is the
    average."""
    contrast_weight: float = 1.0
    """Weight of the loss that keeps class tokens apart (the authors' code: 1), >= 0; at 0 it is not computed."""

    def __post_init__(self) -> None:
        PatchHeadConfig.__post_init__(self)
        if not 0 < self.rank_decay <= 1:
            raise ConfigError(f"rank_decay: need 0 < rank_decay <= 1, got {self.rank_decay}")
        if not 0 <= self.contrast_weight < float("inf"):
            raise ConfigError(f"contrast_weight: need a weight >= 0, got {self.contrast_weight}")


def losses(config: Config) -> tuple[str, ...]:
    return ("contrast",) if config.contrast_weight else ()


class MCTformerPlus(PatchHeadHost):
    """Positions of class tokens and patches are parameters of their own, ``pos_embed_cls`` and ``pos_embed_pat``.

    They decay like weights, as in the authors' code, which exempts by the name ``pos_embed``. They are learnt for the
    training images' grid: those of a ViT's weights are brought to it, this host's own file fits no other.
    """

    def __init__(self, config: Config, classes: int, image_size: int | None, **of_weights: Any) -> None:
        super().__init__(config, classes, image_size, **of_weights)
        self.rank_decay, self.contrast_weight = config.rank_decay, config.contrast_weight

    def make_positions(
        self, of_classes: Float[Tensor, "1 c dim"], of_patches: Float[Tensor, "1 n dim"], image_size: int | None
    ) -> None:
        side = None if image_size is None else image_size // self.patch_size
        self.position_grid = self.vit_grid if side is None else (side, side)
        self.pos_embed_cls = nn.Parameter(of_classes)
        self.pos_embed_pat = nn.Parameter(self._on_own_grid(of_patches))

    @property
    def patch_positions(self) -> Float[Tensor, "1 n dim"]:
        return self.pos_embed_pat

    def positions(self, h: int, w: int) -> Float[Tensor, "1 tokens dim"]:
        """Positions for an h x w grid: bicubic, without V2's shift.

        Deviates from the authors' code for training images of another size than the positions: it refuses them.
        """
        patches: Tensor = self.pos_embed_pat
        if (h, w) != self.position_grid:
            grid = as_grid(patches, self.position_grid).float()
            patches = as_tokens(F.interpolate(grid, size=(h, w), mode="bicubic", align_corners=False))
        return torch.cat([self.pos_embed_cls, patches], dim=1)

    def adapt(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Positions of a ViT, or of V2, come apart; patch positions are repeated by nearest (2x2 for 448 pixels)."""
        state = super().adapt(state)
        joint, patches = state.get("pos_embed"), self.vit_grid[0] * self.vit_grid[1]
        if joint is None:
            return state
        if "pos_embed_pat" in state:
            del state["pos_embed"]  # of the ViT that the authors' class derives from; it never reads it
        elif joint.ndim == 3 and joint.shape[1] == self.prefix_tokens + patches:
            del state["pos_embed"]
            state["pos_embed_cls"] = joint[:, : self.prefix_tokens]
            state["pos_embed_pat"] = self._on_own_grid(joint[:, self.prefix_tokens :])
        return state

    def _on_own_grid(self, of_patches: Float[Tensor, "1 n dim"]) -> Float[Tensor, "1 m dim"]:
        if self.position_grid == self.vit_grid:
            return of_patches.clone()
        grid = as_grid(of_patches, self.vit_grid)
        return as_tokens(F.interpolate(grid, size=self.position_grid, mode="nearest"))

    def forward(self, images: Float[Tensor, "b 3 height width"]) -> BackboneOutput:
        """Class logits, CAM, the queries and keys of every layer, and the loss of the class tokens.

        Args:
            images: normalised with ``mean`` and ``std``; sides are multiples of the patch size.

        The CAM is the rectified output of the 3x3 head, bias kept; logits are the mean of each class token over its
        channels (no final norm) and the head's map before rectifying, pooled by rank.
        """
        encoded = self.encode(images)
        scores, tokens = self.scores(encoded)
        return BackboneOutput(
            logits=(encoded.class_tokens[-1].mean(dim=-1), rank_pooling(scores, self.rank_decay)),
            cams=(F.relu(scores),) * 2,
            layers=encoded.layers,
            tokens=tokens,
            host_losses=functools.partial(self._host_losses, encoded.class_tokens),
        )

    @torch.no_grad()
    def localise(self, output: BackboneOutput) -> Float[Tensor, "b c h w"]:
        """The configured map, >= 0; where class attention and the head's map are fused, the root of their product."""
        localised = super().localise(output)
        return localised.sqrt() if self.localisation == "fused" else localised

    def _host_losses(
        self, class_tokens: Sequence[Float[Tensor, "b c dim"]], labels: Float[Tensor, "b c"]
    ) -> dict[str, Float[Tensor, ""]]:
        if self.contrast_weight == 0:
            return {}
        return {"contrast": self.contrast_weight * class_token_contrast(torch.stack(list(class_tokens)), labels)}


shape = functools.partial(shape_of, MCTformerPlus)
build = functools.partial(build_host, MCTformerPlus)


def class_token_contrast(class_tokens: Float[Tensor, "l b c dim"], labels: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """Mean over layers and images of how badly a present class's token is told from the other classes' tokens.

    Cross-entropy of a row of the cosine matrix (no temperature) with its own column, over all classes, averaged over
    the classes present in the image; an image without any counts as 0.
    """
    tokens = F.normalize(class_tokens.float(), dim=-1)
    with without_autocast(tokens):
        cosine = tokens @ tokens.transpose(-1, -2)
    surprise = -cosine.log_softmax(dim=-1).diagonal(dim1=-2, dim2=-1)
    per_image = (surprise * labels).sum(dim=-1) / labels.sum(dim=-1).clamp(min=1)
    return per_image.mean()
