"""Networks that are trained in a moment, and ask the allocator for more than there is when told to."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch

from aream.augmentations import deit
from aream.backbones import mctformer_v2, vit
from aream.config import Component
from aream.methods import aream
from aream.segmentation.config import SegmentationTraining
from aream.segmenters import deeplab
from aream.train import TrainConfig, Training

CPU = torch.device("cpu")
ABSURD = 2**50
"""Bytes that no allocator gives."""
CONFIG = TrainConfig(
    epochs=2, warmup_epochs=1, batch_size=6, lr=1e-3, lr_warmup_epochs=0, image_size=32,
    augmentation=Component(name="deit", config=deit.Config(rand_augment=None, crop_scale=(0.5, 1.0))),
)  # fmt: skip
SEGMENTATION = SegmentationTraining(epochs=1, batch_size=6, crop=32)


class Hungry(mctformer_v2.MCTformerV2):
    """A host that asks the allocator for more than there is once a batch has more than ``most`` images."""

    most = 10**6

    def forward(self, images):
        output = super().forward(images)
        if len(images) > self.most and self.training:
            torch.empty(ABSURD, dtype=torch.uint8)
        return output


def host(most: int = 10**6, drop_path: float = 0.0) -> Hungry:
    torch.manual_seed(0)
    config = mctformer_v2.Config(
        vit="vit_tiny_patch16_224", patch_size=8, dim=12, depth=3, heads=2, drop_path=drop_path
    )
    built = Hungry(config, 6, 32)
    built.most = most
    return built


def timm_host(class_tokens: Literal["one", "per_class"] = "one", side: int = 32) -> vit.TimmTransformer:
    torch.manual_seed(0)
    config = vit.Config(
        vit="vit_tiny_patch16_224", patch_size=8, dim=12, depth=3, heads=2, drop_path=0.0, auxiliary_layer=1,
        localisation="fused", class_tokens=class_tokens,
    )  # fmt: skip
    return vit.build(config, 6, side)


NETWORKS = {"mctformer_v2": host, "vit": timm_host}


@torch.no_grad()
def sharpen(network: torch.nn.Module) -> None:
    """Attention that differs from layer to layer by more than rounding."""
    joint = [parameter for name, parameter in network.named_parameters() if name.endswith("attn.qkv.weight")]
    for index, weight in enumerate(joint):
        weight.mul_(20 * (index + 1))


def train(dataset, backbone, epochs=2, method=None, **changes) -> tuple[Training, list[dict[str, float]]]:
    rows: list[dict[str, float]] = []
    torch.manual_seed(1)
    method = method or aream.build(aream.resolve(aream.Config(label_flip=False), 3))
    training = Training(backbone, method, dataset, dataclasses.replace(CONFIG, **changes), 0, device=CPU)
    training.run(epochs, report=rows.append)
    return training, rows


class HungrySegmenter(deeplab.DeepLab):
    most = 10**6

    def forward(self, images):
        logits = super().forward(images)
        if len(images) > self.most and self.training:
            torch.empty(ABSURD, dtype=torch.uint8)
        return logits


def segmenter(most: int = 10**6) -> HungrySegmenter:
    torch.manual_seed(0)
    config = deeplab.Config(encoder="resnet10t", output_stride=None, level=1, rates=(1,), channels=8, dropout=0.0)
    built = HungrySegmenter(config, 7, 32)
    built.most = most
    return built


def labels_of(dataset):
    def read(image_id):
        mask = dataset.mask(image_id).copy()
        mask[: int(image_id[-1]) * 3] = 255  # other numbers of labelled pixels an image
        return mask

    return read
