"""The weights that come with the project: a small ViT that has seen drawn scenes of another seed.

    python -m benchmarks.embedded_weights

It learns from images of which a share of the patches is hidden: first what the hidden patches look like (SimMIM, Xie et
al., CVPR 2022), which keeps a token about its own place, then the image's classes beside it, from labels of the image
alone. So its shallow layers attend to what looks alike and its deep ones to what tells the class, as those of a ViT
from ImageNet do. About 25 minutes on one CPU core; prints both losses an epoch and writes the file in half precision,
without the heads.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from aream.backbones import vit
from aream.datasets import shapes
from aream.engine.losses import classification_loss
from aream.images import to_tensor
from aream.networks.checkpoint import EMBEDDED_FILE

HOST = vit.Config(
    vit="vit_tiny_patch16_224", patch_size=8, dim=64, depth=8, heads=4, drop_path=0.0, normalisation="half",
    initialisation="mimetic", head_kernel=1, pooling="gwrp", rank_decay=0.95,
)  # fmt: skip
SCENES = shapes.Config(image_size=96, train_images=6000, val_images=1, seed=1000)
"""Of a seed that no sweep is meant to use."""
PHASES = ((6, 0.0), (5, 0.3))
"""Epochs, and the weight of the classification loss beside the reconstruction's."""
BATCH, RATE, WARM_STEPS = 32, 1e-3, 300
HALF = (0.5, 0.5, 0.5)
"""Mean and standard deviation of pixels, as the host is normalised."""
HIDDEN = 0.4
"""Share of the patches."""


class Reconstruction(nn.Module):
    """Hides patches from a host, and guesses their pixels from its last tokens."""

    def __init__(self, host: vit.TimmTransformer) -> None:
        super().__init__()
        dim = int(host.vit.embed_dim)
        self.patch_size = host.patch_size
        self.unseen = nn.Parameter(torch.zeros(dim))
        self.pixels = nn.Linear(dim, 3 * self.patch_size**2)
        self.hidden: Bool[Tensor, "b n"] | None = None
        self.tokens: Float[Tensor, "b n dim"] | None = None
        host.vit.patch_embed.register_forward_hook(self._hide)
        host.vit.norm.register_forward_hook(self._keep)

    def _hide(self, module: nn.Module, given: object, tokens: Tensor) -> Tensor:
        assert self.hidden is not None
        return torch.where(self.hidden.view(*tokens.shape[:-1], 1), self.unseen, tokens)

    def _keep(self, module: nn.Module, given: object, tokens: Tensor) -> None:
        self.tokens = tokens

    def loss(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
        """Mean absolute difference on hidden patches."""
        assert self.hidden is not None
        assert self.tokens is not None
        target = F.unfold(images, self.patch_size, stride=self.patch_size).transpose(1, 2)
        difference: Tensor = (self.pixels(self.tokens) - target).abs()[self.hidden]
        return difference.mean()


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    numbers = np.random.default_rng(0)
    dataset = shapes.build(SCENES)
    ids = dataset.ids("train")
    images = torch.stack([to_tensor(dataset.image(i), HALF, HALF) for i in ids])
    labels = torch.stack([torch.from_numpy(dataset.labels(i)) for i in ids])
    host = vit.build(HOST, len(dataset.class_names), SCENES.image_size)
    task = Reconstruction(host)
    patches = (SCENES.image_size // host.patch_size) ** 2
    steps = len(ids) // BATCH
    for epochs, class_weight in PHASES:
        parameters = [*host.parameters(), *task.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.05, betas=(0.9, 0.95))
        for epoch in range(epochs):
            sums = np.zeros(2)
            for step, chosen in enumerate(numbers.permutation(len(ids))[: steps * BATCH].reshape(steps, BATCH)):
                done = epoch * steps + step
                rate = RATE * min(1, (done + 1) / WARM_STEPS) * (1 + math.cos(math.pi * done / (epochs * steps))) / 2
                for group in optimizer.param_groups:
                    group["lr"] = rate
                batch = images[chosen]
                batch = batch.flip(-1) if numbers.random() < 0.5 else batch
                batch = batch.transpose(-1, -2) if numbers.random() < 0.5 else batch
                order = numbers.random((BATCH, patches)).argsort(axis=1)
                task.hidden = torch.from_numpy(order < round(patches * HIDDEN))
                classes = classification_loss(host(batch).logits, labels[chosen])
                pixels = task.loss(batch)
                optimizer.zero_grad()
                (pixels + class_weight * classes).backward()
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                sums += [classes.item(), pixels.item()]
            print(
                f"epoch {epoch + 1}/{epochs}: classes {sums[0] / steps:.4f}, pixels {sums[1] / steps:.4f}", flush=True
            )
    path = Path(EMBEDDED_FILE)
    path.parent.mkdir(exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in host.vit.state_dict().items()}, path)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
