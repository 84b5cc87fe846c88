"""CAMs of a trained host, refined by every layer alone, from one pass an image, scale and flip.

Refining by the mean affinity of a set of layers is linear in the affinity: mean_l (A_l M) over the set. So one
map a layer, on the patch grid, holds every layer subset, and is small enough to keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from aream.affinity import mean_attention
from aream.backbones._protocol import Backbone
from aream.batches import MAX_SIDE, check_scales, resized, to_tensor
from aream.cam import normalise, pick_maps, refine
from aream.config import config
from aream.data._protocol import Dataset
from aream.errors import ConfigError, DivergedError
from aream.steps import autocast

UNREFINED: tuple[int, ...] = ()
"""The layer subset that leaves the CAM as the host makes it."""


@config
class CamInference:
    image_size: int | None = None
    """Side of the square that images are resized to, pixels; null: native size, padded to whole patches."""
    scales: tuple[float, ...] = (1.0,)
    """Scales summed into the CAM (MCTformer: 1.0)."""
    flip: bool = True
    """Whether the mirrored image is summed too."""

    def __post_init__(self) -> None:
        if self.image_size is not None and not 1 <= self.image_size <= MAX_SIDE:
            raise ConfigError(f"image_size: need a number in 1..{MAX_SIDE} or null, got {self.image_size}")
        check_scales("scales", self.scales)
        if len(set(self.scales)) != len(self.scales):
            raise ConfigError(f"scales: need different scales, got {list(self.scales)}")


@dataclass(frozen=True)
class ScaleMaps:
    """One image at one scale; flips are summed."""

    maps: Float32[Tensor, "maps present h w"]
    """The host's CAM of each present class, then the same refined by each layer alone; not normalised."""
    covered: tuple[float, float]
    """Share of the grid's height and width that the image covers; the rest is padding."""


@dataclass(frozen=True)
class ImageCams:
    image_id: str
    size: tuple[int, int]
    """Height and width of the image."""
    classes: tuple[int, ...]
    """Present classes, 0-based; their mask ids are one more."""
    scales: tuple[ScaleMaps, ...]

    def combine(self, layers: Sequence[int]) -> Float32[np.ndarray, "present height width"]:
        """CAMs at image size in [0, 1], refined by the mean affinity of ``layers`` (none: as the host makes them)."""
        height, width = self.size
        if not self.classes:
            return np.zeros((0, height, width), dtype=np.float32)
        rows = [layer + 1 for layer in layers] or [0]
        total = torch.zeros(1, len(self.classes), height, width)
        for scale in self.scales:
            maps = scale.maps[rows].mean(dim=0)[None]
            total += _to_image(maps, scale.covered, self.size)
        combined: Float32[np.ndarray, "present height width"] = normalise(total)[0].numpy()
        return combined


def _to_image(
    maps: Float[Tensor, "1 c h w"], covered: tuple[float, float], size: tuple[int, int]
) -> Float[Tensor, "1 c height width"]:
    """Upsample so that the covered part of the grid fills the image; padding falls off the right and bottom."""
    if covered == (1.0, 1.0):
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    canvas = [max(side, round(side / share)) for side, share in zip(size, covered, strict=True)]
    full = F.interpolate(maps, size=canvas, mode="bilinear", align_corners=False)
    return full[:, :, : size[0], : size[1]]


@torch.no_grad()
def infer_cams(
    backbone: Backbone,
    dataset: Dataset,
    split: str,
    config: CamInference,
    *,
    device: torch.device,
    precision: str = "auto",
    batch_size: int = 16,
) -> Iterator[ImageCams]:
    """CAMs of a split in list order; each image is seen once a scale and flip.

    Images of one size (``image_size`` set) share a batch; at native size each goes alone.
    """
    backbone.eval()
    ids = list(dataset.ids(split))
    step = batch_size if config.image_size is not None else 1
    for start in range(0, len(ids), step):
        chunk = ids[start : start + step]
        images = [dataset.image(image_id) for image_id in chunk]
        present = [tuple(int(c) for c in np.flatnonzero(dataset.labels(image_id))) for image_id in chunk]
        per_scale = [
            _infer_scale(backbone, images, present, scale, config, device, precision) for scale in config.scales
        ]
        for index, image_id in enumerate(chunk):
            width, height = images[index].size
            yield ImageCams(image_id, (height, width), present[index], tuple(maps[index] for maps in per_scale))


def _infer_scale(
    backbone: Backbone,
    images: Sequence[Image.Image],
    present: Sequence[tuple[int, ...]],
    scale: float,
    config: CamInference,
    device: torch.device,
    precision: str,
) -> list[ScaleMaps]:
    tensors, covered = zip(*(_canvas(backbone, image, scale, config) for image in images), strict=True)
    batch = torch.stack(tensors).to(device)
    # Their own classes first, filled up to the fullest image's number: what no label names is not refined.
    most = max(len(classes) for classes in present)
    order = torch.tensor([[*classes, *[0] * (most - len(classes))] for classes in present], dtype=torch.int64)
    order = order.to(device)
    if config.flip:
        batch, order = torch.cat([batch, batch.flip(-1)]), torch.cat([order, order])
    maps = _layer_maps(backbone, batch, order, device, precision)
    if config.flip:
        # The canvas is mirrored with its padding, so the grids coincide when mirrored back.
        plain, mirrored = maps.chunk(2, dim=1)
        maps = plain + mirrored.flip(-1)
    maps = maps.cpu()
    return [
        ScaleMaps(maps[:, index, : len(classes)].contiguous(), covered[index]) for index, classes in enumerate(present)
    ]


def _canvas(
    backbone: Backbone, image: Image.Image, scale: float, config: CamInference
) -> tuple[Float[Tensor, "3 h w"], tuple[float, float]]:
    """The normalised image on a canvas of whole patches, zero-padded right and below, and its share of it."""
    patch = backbone.patch_size
    if config.image_size is not None:
        side = max(patch, round(config.image_size * scale / patch) * patch)
        return to_tensor(resized(image, side), backbone.mean, backbone.std), (1.0, 1.0)
    width, height = (max(1, round(side * scale)) for side in image.size)
    if scale != 1:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    pixels = to_tensor(image, backbone.mean, backbone.std)
    padded = F.pad(pixels, (0, -width % patch, 0, -height % patch))
    return padded, (height / padded.shape[1], width / padded.shape[2])


def _layer_maps(
    backbone: Backbone,
    images: Float[Tensor, "b 3 height width"],
    classes: Int64[Tensor, "b k"],
    device: torch.device,
    precision: str,
) -> Float32[Tensor, "maps b k h w"]:
    """Of the ``classes`` of each image."""
    with autocast(device, precision):
        output = backbone(images)
    cam, t = pick_maps(backbone.localise(output), classes), backbone.class_tokens
    maps = [cam]
    for layer in output.layers:
        maps.append(refine(cam, mean_attention(layer.queries[:, :, t:], layer.keys, t)))
    stacked = torch.stack(maps).float()
    if not torch.isfinite(stacked).all():
        raise DivergedError("maps of the host are not finite: its weights have diverged, or the precision is too low")
    return stacked
