"""Any timm transformer with global attention under a convolutional CAM head: supervised, DINO, CLIP, MAE and others.

timm's own code runs; :mod:`aream.backbones._attention_record` says what its attention is called with.
The CAM of patch tokens under a convolution is that of MCTformer-V2 (Xu et al., CVPR 2022), the head from a middle layer
that of ToCo (Ru et al., CVPR 2023); class attention times CAM of a single class token follows TS-CAM (Gao et al., ICCV
2021).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from timm.layers.attention import Attention
from torch import Tensor, nn
from torch.nn import functional as F

from aream.backbones._attention_record import AttentionRecord, outputs_of
from aream.backbones._class_tokens import copy_class_token, drop_copies, towards_copies
from aream.backbones._mimetic import initialise_transformer
from aream.backbones._rank_pooling import rank_pooling
from aream.backbones._sizes import attention_layers
from aream.backbones._timm_config import fingerprint
from aream.backbones._timm_transformer import ALLOWED, FAILURES, check_published, create_transformer
from aream.backbones._vit_config import Config
from aream.backbones._vit_layouts import fit_transformer
from aream.backbones.protocol import BackboneOutput
from aream.cams.affinity import LayerQK, mean_attention
from aream.config import PRETRAINED
from aream.errors import ConfigError
from aream.networks.checkpoint import fit_state_dict, read_state_dict

__all__ = ["Config", "TimmTransformer", "build", "fingerprint", "shape"]

TRUNK = "vit."
"""Prefix of the names of timm's parameters in this host's own files."""


@functools.lru_cache(maxsize=256)
def shape(config: Config) -> tuple[int, int]:
    """(depth, patch size) without reading weights; the network has run once, without numbers.

    Raises:
        ConfigError: timm has no such model, its attention is not global or cannot be read, or it lacks the layer or
            class token that the configuration asks for.
    """
    with torch.device("meta"):
        host = TimmTransformer(config, classes=1, image_size=None).eval()
        host.rehearse()
    return host.depth, host.patch_size


def build(config: Config, classes: int, image_size: int) -> TimmTransformer:
    """The host with its initial weights.

    Args:
        image_size: training image side in pixels; positions are learnt for this grid, and those of weights are
            brought to it.

    Raises:
        DataError: the weight file does not fit.
    """
    pretrained = config.weights == PRETRAINED
    host = TimmTransformer(config, classes, image_size, pretrained=pretrained)
    if config.weights is None and config.initialisation == "mimetic":
        initialise_transformer(host.vit)
    if config.weights and not pretrained:
        state = read_state_dict(config.weights, config.weights_key)
        host.read(state, config.weights, resample_patches=config.patch_size is not None)
    return host


class TimmTransformer(nn.Module):
    """``vit`` is timm's model; the heads beside it are new."""

    trained_head = False

    def __init__(self, config: Config, classes: int, image_size: int | None, *, pretrained: bool = False) -> None:
        """
        Args:
            image_size: training image side in pixels, which positions are made for; None: the model's own.

        Raises:
            ConfigError: no transformer with global attention, or a layer or class token that it does not have.
        """
        super().__init__()
        self.name = config.vit
        self.vit: Any = create_transformer(
            config.vit,
            pretrained=pretrained,
            image_size=image_size,
            drop_path_rate=config.drop_path,
            **config.changed_sizes(),
        )
        self.copies = (classes if config.class_tokens == "per_class" else 1, config.registers)
        if config.class_tokens == "per_class" or config.registers:
            copy_class_token(self.vit, config.vit, *self.copies)
        self.split_mass = config.class_token_mass == "split"
        self.depth = len(self.vit.blocks)
        self.patch_size = int(self.vit.patch_embed.feat_ratio())
        self.prefix_tokens = int(self.vit.num_prefix_tokens)
        self.class_rows = None if getattr(self.vit, "cls_token", None) is None else slice(0, self.copies[0])
        self.mean, self.std = config.mean_std(self.vit.pretrained_cfg)
        self.pooling, self.rank_decay = config.pooling, config.rank_decay
        self.final_norm, self.auxiliary_layer = config.final_norm, config.auxiliary_layer
        self.rectified = config.rectified
        self.localisation, self.attention_reduce = config.localisation, config.class_attention_reduce
        self.attention_layers = attention_layers(config, self.depth)
        self._check(config)
        self.dim, kernel = int(self.vit.embed_dim), int(config.head_kernel)
        self.head = nn.Conv2d(self.dim, classes, kernel, padding=kernel // 2, bias=config.head_bias)
        if self.auxiliary_layer is not None:
            self.auxiliary_head = nn.Conv2d(self.dim, classes, kernel, padding=kernel // 2, bias=config.head_bias)

    def _check(self, config: Config) -> None:
        if config.weights == PRETRAINED:
            check_published(config.vit)
        if self.auxiliary_layer is not None and not 0 <= self.auxiliary_layer < self.depth - 1:
            raise ConfigError(
                f"auxiliary_layer: need a layer of {config.vit} before its last, 0..{self.depth - 2}, or null, "
                f"got {self.auxiliary_layer}"
            )
        reads = {"localisation: fused": "cam", "pooling: class_token": "average, max or gwrp"}
        for setting, other in reads.items() if self.class_rows is None else ():
            if setting in (f"localisation: {self.localisation}", f"pooling: {self.pooling}"):
                raise ConfigError(f"{setting} needs a class token, which {config.vit} does not have; need {other}")
        plain = all(type(getattr(block, "attn", None)) is Attention for block in self.vit.blocks)
        if config.initialisation == "mimetic" and not plain:
            raise ConfigError(
                f"initialisation: mimetic is for blocks of plain attention, which {config.vit} lacks; need timm"
            )

    @torch.no_grad()
    def rehearse(self) -> None:
        """Run once on the meta device, on an image that is not square.

        Raises:
            ConfigError: what the network does is not global attention in every block.
        """
        sides = (2 * self.patch_size, 3 * self.patch_size)
        try:
            self(torch.zeros(1, 3, *sides, device="meta"))
        except ConfigError:
            raise
        except FAILURES as error:
            raise ConfigError(f"vit: {self.name} does not run on {sides[0]} x {sides[1]} pixels: {error}") from error

    def read(self, state: dict[str, Tensor], origin: str, *, resample_patches: bool = False) -> None:
        """Take the weights of a file: of a transformer, with which the heads are still to be learnt, or of this host.

        Args:
            resample_patches: whether the file's patches may be of another size.

        Raises:
            DataError: they do not fit.
        """
        own = {name.removeprefix(TRUNK): value for name, value in state.items() if name.startswith(TRUNK)}
        if not own:
            self._read_transformer(state, origin, resample_patches=resample_patches)
            return
        fit_transformer(self.vit, own, origin, resample_patches=resample_patches)
        trunk = {TRUNK + name: value for name, value in self.vit.state_dict().items()}
        fit_state_dict(self, {n: v for n, v in state.items() if not n.startswith(TRUNK)} | trunk, origin)
        self.trained_head = True

    def _read_transformer(self, state: dict[str, Tensor], origin: str, *, resample_patches: bool) -> None:
        if self.copies == (1, 0):
            fit_transformer(self.vit, state, origin, resample_patches=resample_patches)
            return
        drop_copies(self.vit)
        fit_transformer(self.vit, state, origin, resample_patches=resample_patches)
        copy_class_token(self.vit, self.name, *self.copies)

    def forward(self, images: Float[Tensor, "b 3 height width"]) -> BackboneOutput:
        """Class logits, CAM and the queries and keys of every layer.

        Args:
            images: normalised with ``mean`` and ``std``; sides are multiples of the patch size.

        The CAM is the output of the head, bias kept and rectified where that is so configured; logits are its map
        before rectifying, pooled, or its output on the class token, and that of the auxiliary head.
        """
        read, tokens, layers = self._run(images)
        h, w = images.shape[2] // self.patch_size, images.shape[3] // self.patch_size
        if self.final_norm:
            read = [self._norm(each) for each in read]
            tokens[-1] = torch.cat([self._norm(tokens[-1][:, : self.prefix_tokens]), read[-1]], dim=1)
        maps = [each.transpose(1, 2).reshape(len(images), -1, h, w) for each in read]
        heads = [(self.head, maps[-1])]
        if self.auxiliary_layer is not None:
            heads.append((self.auxiliary_head, maps[0]))
        scores = [head(features) for head, features in heads]
        return BackboneOutput(
            logits=self._of_class_tokens(tokens)
            if self.pooling == "class_token"
            else tuple(self._pooled(*each) for each in zip(heads, scores, strict=True)),
            cams=tuple(F.relu(each) if self.rectified else each for each in scores),
            layers=layers,
            tokens=tokens,
        )

    def _run(
        self, images: Float[Tensor, "b 3 height width"]
    ) -> tuple[list[Float[Tensor, "b n dim"]], list[Float[Tensor, "b tokens dim"]], list[LayerQK]]:
        """Patch tokens of the auxiliary and of the last layer, all tokens of every layer, both before the last norm;
        every layer's queries and keys.

        Raises:
            ConfigError: what was recorded is not one attention of all tokens over all tokens a block.
        """
        wanted = [*([] if self.auxiliary_layer is None else [self.auxiliary_layer]), self.depth - 1]
        layers: list[LayerQK] = []
        n = (images.shape[2] // self.patch_size) * (images.shape[3] // self.patch_size)
        copies = self.prefix_tokens if self.split_mass else 1
        bias = towards_copies(copies, images, self.prefix_tokens + n)
        with AttentionRecord(layers, bias), outputs_of(self.vit.blocks) as tokens:
            read = self.vit.forward_intermediates(images, wanted, output_fmt="NLC", intermediates_only=True)
        found = sorted({layer.keys.shape[2] for layer in layers})
        if len(layers) != self.depth or found != [self.prefix_tokens + n] or read[-1].shape[1] != n:
            raise ConfigError(
                f"vit: {self.name} is a {type(self.vit).__name__} without one global attention a block: its "
                f"{self.depth} blocks called {len(layers)} fused attentions over {', '.join(map(str, found)) or 'no'} "
                f"tokens, while {images.shape[2]} x {images.shape[3]} pixels have {n} patches besides "
                f"{self.prefix_tokens} tokens; {ALLOWED}"
            )
        return read, tokens, layers

    def _norm(self, tokens: Float[Tensor, "b n dim"]) -> Float[Tensor, "b n dim"]:
        """The model's last norm: after its blocks, or, of models that average tokens, before its classifier."""
        norm = self.vit.fc_norm if isinstance(self.vit.norm, nn.Identity) else self.vit.norm
        normed: Tensor = norm(tokens)
        return normed

    def _pooled(self, head: tuple[nn.Module, Tensor], scores: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c"]:
        """Logits of a head and of the features (b, dim, h, w) that it makes the ``scores`` of."""
        if self.pooling == "channel_max":
            logits: Tensor = head[0](head[1].amax(dim=(2, 3), keepdim=True))
            return logits.flatten(1)
        if self.pooling == "gwrp":
            return rank_pooling(scores, self.rank_decay)
        return scores.amax(dim=(2, 3)) if self.pooling == "max" else scores.mean(dim=(2, 3))

    def _of_class_tokens(self, tokens: Sequence[Float[Tensor, "b tokens dim"]]) -> tuple[Float[Tensor, "b c"], ...]:
        """The heads' logits of the class token, of the last layer as it is read."""
        read = [(self.head, tokens[-1][:, :1])]
        if self.auxiliary_layer is not None:
            auxiliary = tokens[self.auxiliary_layer][:, :1]
            read.append((self.auxiliary_head, self._norm(auxiliary) if self.final_norm else auxiliary))
        return tuple(head(token.transpose(1, 2)[..., None]).flatten(1) for head, token in read)

    @torch.no_grad()
    def class_attention(self, layers: Sequence[LayerQK], rows: slice) -> Float[Tensor, "b rows n"]:
        """Attention that the class tokens pay to the patches, over the configured last layers.

        Softmax over all keys, mean over heads; the part that goes to prefix tokens is dropped.
        """
        last = layers[-self.attention_layers :]
        maps = torch.stack([mean_attention(layer, rows, self.prefix_tokens) for layer in last])
        return maps.mean(dim=0) if self.attention_reduce == "mean" else maps.sum(dim=0)

    @torch.no_grad()
    def localise(self, output: BackboneOutput) -> Float[Tensor, "b c h w"]:
        """The configured map, >= 0 where it is rectified; one class token for all classes scales their CAMs alike."""
        cam = output.cam.detach().float()
        if self.localisation == "cam" or self.class_rows is None:
            return cam
        return cam * self.class_attention(output.layers, self.class_rows).reshape(len(cam), -1, *cam.shape[2:])

    def head_parameters(self) -> list[nn.Parameter]:
        """The CAM head, and the auxiliary one."""
        heads = [self.head] if self.auxiliary_layer is None else [self.head, self.auxiliary_head]
        return [parameter for head in heads for parameter in head.parameters()]

    def layer_parameters(self, layer: int) -> list[nn.Parameter]:
        return list(self.vit.blocks[layer].parameters())

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that timm does not decay: positions, class token and registers."""
        named = {TRUNK + name for name in self.vit.no_weight_decay()}
        return {name for name, _ in self.named_parameters() if name in named}
