"""Base of the MCTformer hosts: a plain ViT with one class token a class, and where its class attention looks.

Sources: MCTformer-V1 and -V2, Xu et al., "Multi-class Token Transformer for Weakly Supervised Semantic Segmentation",
CVPR 2022; MCTformer+, Xu et al., arXiv:2308.03005; the authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from aream.backbones._class_tokens import towards_copies
from aream.backbones._mctformer_config import MCTformerConfig
from aream.backbones._mimetic import initialise_attention, sinusoidal_positions
from aream.backbones._sizes import attention_layers
from aream.backbones._timm_vit import create_vit, run_block
from aream.cams.affinity import LayerQK, mean_attention


@dataclass(frozen=True)
class Encoded:
    """Output of the blocks for a batch of images."""

    tokens: Sequence[Float[Tensor, "b tokens dim"]]
    """All tokens after every layer, from shallow to deep; no final norm."""
    class_tokens: Sequence[Float[Tensor, "b c dim"]]
    """Class tokens among these, after every layer."""
    features: Float[Tensor, "b dim h w"]
    """Patch tokens after the last layer; no final norm."""
    layers: Sequence[LayerQK]


class MCTformer(nn.Module):
    """Parameter names are those of the published checkpoints."""

    trained_head = False

    def __init__(
        self,
        config: MCTformerConfig,
        classes: int,
        image_size: int | None,
        *,
        pretrained: bool = False,
        weights_size: int | None = None,
    ) -> None:
        """
        Args:
            image_size: training image side in pixels, which random positions are made for; None: the size of the
                named timm model.
            weights_size: image side in pixels that the positions of a weight file were learnt at; None: the named
                model's.

        Raises:
            ConfigError: not a plain ViT, or a layer count that it does not have.
        """
        super().__init__()
        side = weights_size if config.weights else image_size
        vit = create_vit(
            config.vit,
            pretrained=pretrained,
            drop_path_rate=config.drop_path,
            **({} if side is None else {"img_size": side}),
            **config.changed_sizes(),
        )
        self.patch_embed = vit.patch_embed
        self.blocks = vit.blocks
        self.norm = vit.norm  # part of every published state dict
        self.split_mass = config.class_token_mass == "split"
        self.prefix_tokens = classes
        self.class_rows = slice(0, classes)
        self.depth = len(vit.blocks)
        self.patch_size = int(vit.patch_embed.patch_size[0])
        self.dim = int(vit.embed_dim)
        self.mean, self.std = config.mean_std(vit.pretrained_cfg)
        self.attention_layers = attention_layers(config, self.depth)
        self.attention_reduce = config.class_attention_reduce
        self.cls_token = nn.Parameter(vit.cls_token.detach().repeat(1, classes, 1))
        self.vit_grid: tuple[int, int] = vit.patch_embed.grid_size
        positions = vit.pos_embed.detach()
        self.make_positions(positions[:, :1].repeat(1, classes, 1), positions[:, 1:], image_size)

    def make_positions(
        self, of_classes: Float[Tensor, "1 c dim"], of_patches: Float[Tensor, "1 n dim"], image_size: int | None
    ) -> None:
        """Declare the position parameters; the patches' are for ``vit_grid``."""
        self.pos_embed = nn.Parameter(torch.cat([of_classes, of_patches], dim=1))
        self.position_grid = self.vit_grid

    @property
    def patch_positions(self) -> Float[Tensor, "1 n dim"]:
        """Positions of the patches of ``position_grid``; a view of the parameter."""
        return self.pos_embed[:, self.prefix_tokens :]

    def positions(self, h: int, w: int) -> Float[Tensor, "1 tokens dim"]:
        """Positions for an h x w grid: bicubic, with the published 0.1 shift of the scale factor."""
        if (h, w) == self.position_grid:
            return self.pos_embed
        rows, columns = self.position_grid
        grid = as_grid(self.patch_positions, self.position_grid)
        scale = ((h + 0.1) / rows, (w + 0.1) / columns)
        grid = F.interpolate(grid.float(), scale_factor=scale, mode="bicubic", align_corners=False)
        return torch.cat([self.pos_embed[:, : self.prefix_tokens], as_tokens(grid)], dim=1)

    @torch.no_grad()
    def initialise_mimetic(self) -> None:
        """Replace the random attention and patch positions."""
        for block in self.blocks:
            initialise_attention(block.attn)
        self.patch_positions.copy_(sinusoidal_positions(self.position_grid, self.dim))

    def adapt(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Fit a ViT's weights to the class tokens, as MCTformer initialises from DeiT; others are left as they are.

        The linear ImageNet classifier and the distillation token go; a single class token and its position are
        repeated once a class.
        """
        state = dict(state)
        if (linear := state.get("head.weight")) is not None and linear.ndim == 2:
            del state["head.weight"]
            state.pop("head.bias", None)
        for name in ("dist_token", "head_dist.weight", "head_dist.bias"):
            state.pop(name, None)
        token, positions = state.get("cls_token"), state.get("pos_embed")
        if token is None or positions is None or token.ndim != 3 or positions.ndim != 3 or token.shape[1] != 1:
            return state
        prefix = positions.shape[1] - self.vit_grid[0] * self.vit_grid[1]
        if prefix in (1, 2):  # two where it is distilled; any other number is of another grid
            of_classes = positions[:, :1].repeat(1, self.prefix_tokens, 1)
            state["pos_embed"] = torch.cat([of_classes, positions[:, prefix:]], dim=1)
        state["cls_token"] = token.repeat(1, self.prefix_tokens, 1)
        return state

    def encode(self, images: Float[Tensor, "b 3 height width"]) -> Encoded:
        """Class tokens, patch features and the queries and keys of every layer.

        Args:
            images: normalised with ``mean`` and ``std``; sides are multiples of the patch size.

        Deviates from MCTformer's code where an image at native size is no whole number of patches: it drops what is
        left over at the right and bottom (up to 15 pixels) and stretches the CAM of the rest over the image; here
        callers pad with zeros and cut the CAM, as AReAM's authors do.
        """
        h, w = images.shape[2] // self.patch_size, images.shape[3] // self.patch_size
        t, positions = self.prefix_tokens, self.positions(h, w)
        # Class tokens and patches meet after their positions are added: a parameter whose gradient is a view of
        # another's would be added to twice, where images come one at a time and their gradients are summed.
        classes = (self.cls_token + positions[:, :t]).expand(len(images), -1, -1)
        patches = self.patch_embed.proj(images).flatten(2).transpose(1, 2) + positions[:, t:]
        tokens = torch.cat([classes, patches], dim=1)
        after, class_tokens, layers = [], [], []
        bias = towards_copies(t if self.split_mass else 1, tokens, tokens.shape[1])
        for block in self.blocks:
            tokens, layer = run_block(block, tokens, bias)
            layers.append(layer)
            after.append(tokens)
            class_tokens.append(tokens[:, :t])
        features = tokens[:, t:].transpose(1, 2).reshape(len(images), self.dim, h, w)
        return Encoded(after, class_tokens, features, layers)

    def decide(self, config: MCTformerConfig, *, of_a_vit: bool, trained_with: Tensor | None) -> None:
        """Set what the settings that are ``auto`` come to for the weights that the host has.

        Args:
            of_a_vit: whether they were trained as a ViT's; else they are random, or of a host like this one.
            trained_with: what a file of this project says of the form that they were trained in.
        """
        if config.class_token_mass != "auto":
            self.split_mass = config.class_token_mass == "split"
        else:
            self.split_mass = of_a_vit if trained_with is None else bool(trained_with[0])

    def decisions(self) -> dict[str, float]:
        """Return what the settings that may be ``auto`` came to: 1, or 0 for the published form."""
        return {"split_class_tokens": float(self.split_mass)}

    def get_extra_state(self) -> Tensor:
        """Return what the weights of a state dict were trained with: split class tokens, a final norm."""
        return torch.tensor([self.split_mass, False])

    def set_extra_state(self, state: Tensor) -> None:
        self.split_mass = bool(state[0])

    @torch.no_grad()
    def class_attention(self, layers: Sequence[LayerQK]) -> Float[Tensor, "b c n"]:
        """Attention that every class token pays to the patches, over the configured last layers.

        Softmax over all keys, mean over heads; the part that goes to class tokens is dropped.
        """
        rows, t = self.class_rows, self.prefix_tokens
        maps = torch.stack([mean_attention(layer, rows, t) for layer in layers[-self.attention_layers :]])
        return maps.mean(dim=0) if self.attention_reduce == "mean" else maps.sum(dim=0)

    def head_parameters(self) -> list[nn.Parameter]:
        """The class tokens: pretrained weights know one of them only."""
        return [self.cls_token]

    def layer_parameters(self, layer: int) -> list[nn.Parameter]:
        return list(self.blocks[layer].parameters())

    def no_weight_decay(self) -> set[str]:
        """The positions. Deviates from DeiT, as the authors do: class tokens decay."""
        return {name for name, _ in self.named_parameters() if name == "pos_embed"}


def as_grid(tokens: Float[Tensor, "1 n dim"], grid: tuple[int, int]) -> Float[Tensor, "1 dim h w"]:
    return tokens.reshape(1, *grid, tokens.shape[2]).permute(0, 3, 1, 2)


def as_tokens(grid: Float[Tensor, "1 dim h w"]) -> Float[Tensor, "1 n dim"]:
    return grid.permute(0, 2, 3, 1).flatten(1, 2)
