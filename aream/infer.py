"""CAMs of a trained host, refined by every layer alone, from one pass an image, scale and flip.

Refining by the mean affinity of a set of layers is linear in the affinity: mean_l (A_l M) over the set. So one
map a layer, on the patch grid, holds every layer subset, and is small enough to keep.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from aream.backbones.protocol import DEFAULT_PADDING, Backbone, Padding
from aream.cams.affinity import patch_affinity
from aream.cams.maps import normalise, pick_maps, refine
from aream.config import config
from aream.data.dataset import Dataset
from aream.engine.batches import check_scales, resized
from aream.engine.loading import HERE, Loader, Loading
from aream.engine.steps import autocast
from aream.errors import ConfigError, DivergedError
from aream.images import MAX_SIDE, to_tensor
from aream.methods.protocol import Localise

UNREFINED: tuple[int, ...] = ()
"""The layer subset that leaves the CAM as the host makes it."""


@config
class CamInference:
    image_size: int | None = None
    """Side of the square that images are resized to, pixels; null: native size, padded to whole patches.

    Deviates from AReAM's code, which enlarges the maps of every scale twice, to the image at that scale and then to the
    image: those of a square are enlarged to the image at once, as in TransCAM's. At native size they are as in AReAM's.
    """
    scales: tuple[float, ...] = (1.0,)
    """Scales summed into the CAM (MCTformer: 1.0; Conformer: 0.5, 1.0, 1.5); fractions of a pixel are cut off."""
    flip: bool = True
    """Whether the mirrored image is summed too."""
    padding: Padding | None = None
    """Whether an image at native size is padded on the right and below before it is mirrored, so that the mirrored one
    has its padding on the left (AReAM on Conformer), or after (on MCTformer); null: as published for the backbone."""

    def __post_init__(self) -> None:
        if self.image_size is not None and not 1 <= self.image_size <= MAX_SIDE:
            raise ConfigError(f"image_size: need a number in 1..{MAX_SIDE} or null, got {self.image_size}")
        check_scales("scales", self.scales)
        if len(set(self.scales)) != len(self.scales):
            raise ConfigError(f"scales: need different scales, got {list(self.scales)}")

    def resolved(self, published: Padding) -> CamInference:
        """The same with its padding named: one that has no effect is that of all others without."""
        if self.image_size is not None or not self.flip:
            return dataclasses.replace(self, padding=DEFAULT_PADDING)
        return dataclasses.replace(self, padding=self.padding or published)


@dataclass(frozen=True)
class ScaleMaps:
    """One image at one scale, plain and mirrored summed where their grids coincide, else one of the two."""

    maps: Float32[Tensor, "maps present h w"]
    """The host's CAM of each present class, then the same refined by each layer alone; not normalised."""
    covered: tuple[float, float]
    """Share of the grid's height and width that the image covers; the rest is padding on the right and below."""
    size: tuple[int, int] | None = None
    """Height and width that the image had for the network; maps are cut to the image there and enlarged a second time,
    as in AReAM's code. None: of a square, which is enlarged to the image at once, as in TransCAM's."""
    mirrored: bool = False
    """Whether the maps are of the mirrored image, and still mirrored."""


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
        combined: Float32[np.ndarray, "present height width"] = self.combined(layers, torch.device("cpu")).numpy()
        return combined

    def combined(self, layers: Sequence[int], device: torch.device) -> Float32[Tensor, "present height width"]:
        """The same, computed on a device."""
        rows = [layer + 1 for layer in layers] or [0]
        total = torch.zeros(1, len(self.classes), *self.size, device=device)
        if not self.classes:
            return total[0]
        for scale in self.scales:
            maps = scale.maps[rows].to(device).mean(dim=0)[None]
            total += _to_image(maps, scale, self.size)
        return normalise(total)[0]


def _to_image(
    maps: Float[Tensor, "1 c h w"], scale: ScaleMaps, size: tuple[int, int]
) -> Float[Tensor, "1 c height width"]:
    """Upsample so that the covered part of the grid fills the image; padding falls off the right and bottom."""
    seen = scale.size or size
    canvas = [max(side, round(side / share)) for side, share in zip(seen, scale.covered, strict=True)]
    full = F.interpolate(maps, size=canvas, mode="bilinear", align_corners=False)[:, :, : seen[0], : seen[1]]
    if scale.mirrored:
        full = full.flip(-1)
    return full if seen == size else F.interpolate(full, size=size, mode="bilinear", align_corners=False)


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
    localise: Localise | None = None,
    loading: Loading = HERE,
) -> Iterator[ImageCams]:
    """CAMs of a split in list order; each image is seen once a scale and flip.

    Args:
        localise: what makes the maps that are refined; None: the host.

    Padding is zero after normalising, the mean colour.

    Images of one size (``image_size`` set) share a batch; at native size each goes alone.
    """
    backbone.eval()
    config = config.resolved(getattr(backbone, "published_padding", DEFAULT_PADDING))
    ids = list(dataset.ids(split))
    step = batch_size if config.image_size is not None else 1
    chunks = [ids[start : start + step] for start in range(0, len(ids), step)]
    loader = Loader[str, _Chunk](lambda one: _seen(backbone, dataset, one, config), _stacked, dataset, loading)
    for chunk, (sizes, present, views) in zip(chunks, loader.batches(chunks), strict=True):
        per_scale = [_infer_scale(backbone, view, present, config.flip, device, precision, localise) for view in views]
        for index, image_id in enumerate(chunk):
            yield ImageCams(image_id, sizes[index], present[index], tuple(v for maps in per_scale for v in maps[index]))


@dataclass(frozen=True)
class _Seen:
    """An image as the network is to see it."""

    size: tuple[int, int]
    classes: tuple[int, ...]
    canvases: tuple[tuple[_Canvas, ...], ...]
    """Of each scale one, or the plain one and the mirrored one: mirrored before it is padded, an image is shifted
    against the grid of the plain one."""


def _seen(backbone: Backbone, dataset: Dataset, image_id: str, config: CamInference) -> _Seen:
    image = dataset.image(image_id)
    canvases = []
    for scale in config.scales:
        plain = _canvas(backbone, image, scale, config, mirrored=False)
        apart = config.flip and config.padding == "after_flip" and plain.covered[1] < 1
        canvases.append((plain, _canvas(backbone, image, scale, config, mirrored=True)) if apart else (plain,))
    present = tuple(int(c) for c in np.flatnonzero(dataset.labels(image_id)))
    return _Seen((image.height, image.width), present, tuple(canvases))


@dataclass(frozen=True)
class _View:
    """Images of one size at one scale."""

    pixels: Float[Tensor, "b 3 h w"]
    mirrored: Float[Tensor, "b 3 h w"] | None
    """None: mirror the pixels."""
    places: list[tuple[tuple[float, float], tuple[int, int] | None]]
    """Of each image ``covered`` and ``size``, as in :class:`ScaleMaps`."""


_Chunk = tuple[list[tuple[int, int]], list[tuple[int, ...]], list[_View]]
"""Sizes and classes of images, and a view a scale."""


def _stacked(seen: list[_Seen]) -> _Chunk:
    views = []
    for canvases in zip(*(image.canvases for image in seen), strict=True):
        plain, *mirrored = (torch.stack([canvas.pixels for canvas in some]) for some in zip(*canvases, strict=True))
        places = [(canvas.covered, canvas.size) for canvas, *_ in canvases]
        views.append(_View(plain, mirrored[0] if mirrored else None, places))
    return [image.size for image in seen], [image.classes for image in seen], views


def _infer_scale(
    backbone: Backbone,
    view: _View,
    present: Sequence[tuple[int, ...]],
    flip: bool,
    device: torch.device,
    precision: str,
    localise: Localise | None,
) -> list[tuple[ScaleMaps, ...]]:
    """Of each image one or two."""
    batch, apart = view.pixels.to(device, non_blocking=True), view.mirrored is not None
    if flip:
        mirrored = batch.flip(-1) if view.mirrored is None else view.mirrored.to(device, non_blocking=True)
        batch = torch.cat([batch, mirrored])
    # Their own classes first, filled up to the fullest image's number: what no label names is not refined.
    most = max(len(classes) for classes in present)
    order = torch.tensor([[*classes, *[0] * (most - len(classes))] for classes in present], dtype=torch.int64)
    order = order.to(device).repeat(2 if flip else 1, 1)
    maps = _layer_maps(backbone, batch, order, device, precision, localise)
    passes = maps.chunk(2, dim=1) if flip else (maps,)
    if flip and not apart:
        passes = (passes[0] + passes[1].flip(-1),)
    own = [part.cpu() for part in passes]
    return [
        tuple(
            ScaleMaps(part[:, index, : len(classes)].contiguous(), covered, size, mirrored)
            for part, mirrored in zip(own, (False, True), strict=False)
        )
        for index, (classes, (covered, size)) in enumerate(zip(present, view.places, strict=True))
    ]


@dataclass(frozen=True)
class _Canvas:
    """A normalised image on whole patches, zero-padded right and below."""

    pixels: Float[Tensor, "3 h w"]
    covered: tuple[float, float]
    size: tuple[int, int] | None
    """As in :class:`ScaleMaps`."""


def _canvas(backbone: Backbone, image: Image.Image, scale: float, config: CamInference, *, mirrored: bool) -> _Canvas:
    patch = backbone.patch_size
    if config.image_size is not None:
        side = max(patch, round(config.image_size * scale / patch) * patch)
        return _Canvas(to_tensor(resized(image, side), backbone.mean, backbone.std), (1.0, 1.0), None)
    width, height = (max(1, int(side * scale)) for side in image.size)
    if scale != 1:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    pixels = to_tensor(image, backbone.mean, backbone.std)
    padded = F.pad(pixels.flip(-1) if mirrored else pixels, (0, -width % patch, 0, -height % patch))
    return _Canvas(padded, (height / padded.shape[1], width / padded.shape[2]), (height, width))


def _layer_maps(
    backbone: Backbone,
    images: Float[Tensor, "b 3 height width"],
    classes: Int64[Tensor, "b k"],
    device: torch.device,
    precision: str,
    localise: Localise | None,
) -> Float32[Tensor, "maps b k h w"]:
    """Of the ``classes`` of each image."""
    with autocast(device, precision):
        output, cam = (backbone(images), None) if localise is None else localise(backbone, images, classes)
    cam, t = pick_maps(backbone.localise(output), classes) if cam is None else cam, backbone.prefix_tokens
    maps = [cam, *(refine(cam, patch_affinity(layer, t)) for layer in output.layers)]
    stacked = torch.stack(maps).float()
    if not torch.isfinite(stacked).all():
        raise DivergedError("maps of the host are not finite: its weights have diverged, or the precision is too low")
    return stacked
