"""Statistics of a trained host's attention, layer by layer: AReAM Figs. 3, 4b, 5, 8 and 9, from one pass.

An image is seen once, a layer at a time: nothing of size layers x heads x n x n is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from aream.backbones.protocol import Backbone, BackboneOutput
from aream.cams.affinity import attention, map_entropy
from aream.cams.attention_statistics import (
    TopColumns,
    column_mass,
    effective_rank,
    gini,
    hellinger_distance,
    logarithmic,
    top_columns,
)
from aream.cams.maps import normalise, refine, spread_maps
from aream.cams.overlays import cam_row, matrix_row
from aream.config import Component, added, config
from aream.data.dataset import Dataset
from aream.engine.batches import SquareImages
from aream.engine.steps import autocast
from aream.entropies import EntropyInput, EntropyMap, EntropyProb, entropy_cam
from aream.errors import ConfigError, DivergedError
from aream.images import MAX_SIDE
from aream.labels.training_labels import present_first
from aream.metrics import BACKGROUND, IGNORE
from workers.analysis import Subject
from workers.components import trained_host, trained_localiser
from workers.files.figures import Curve, Picture, write_figures
from workers.metric import Metric, each_layer
from workers.processes.hardware import Part
from workers.stage import Row, Stage, StageContext

VERSION = 3
COMPUTES_ON: tuple[Part, ...] = ("device", "threads")
BATCH = 8
PICTURED = (0, 4, 8, 11)
"""Layers of the paper's figures, of 12."""
MEASURES = {
    "hellinger": (
        "Hellinger distance",
        "mean Hellinger distance between the attention of two patches, all keys, class tokens included (AReAM Eq. 6, "
        "Fig. 4b); 0: all attend alike",
    ),
    "entropy": ("entropy, bits", "entropy of the CAM refined by one layer, over positions (AReAM Eqs. 7 and 8)"),
    "effective_rank": ("effective rank", "exp of the entropy of the patch affinity's singular values"),
    "gini": ("Gini coefficient", "how unequally patches are attended to; 0: all alike"),
    "foreground": (
        "share on objects",
        "share of the attention to the most attended patches that lies on objects, images with masks; beside it what "
        "patches drawn at random would give",
    ),
}
METRICS = (
    *(Metric(f"layer/{{}}/{name}", caption, y, members=each_layer) for name, (y, caption) in MEASURES.items()),
    Metric("attention/foreground", "share on objects of patches drawn at random, images with masks"),
)


@config
class Options:
    images: int = 200
    """Train images, evenly spaced over the list; all where there are fewer."""
    image_size: int | None = None
    """Side of the square they are resized to, pixels; null: that of the training images."""
    top: int = 10
    """Most attended patches an image, whose attention is held against the masks."""
    layers: tuple[int, ...] | None = None
    """Layers pictured, 0-based; null: 0, 4, 8 and 11 of 12 (the paper's), scaled to the depth."""
    examples: int = 3
    """Images pictured: the first ones that show an object."""
    entropy_map: EntropyMap = "cam"
    """Map inside Eq. 7, how it enters and its distribution, as in AReAM's own configuration."""
    entropy_input: EntropyInput = "raw"
    entropy_prob: EntropyProb = "softmax"

    def __post_init__(self) -> None:
        for name, least in {"images": 1, "top": 1, "examples": 0}.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: need {least} or more, got {getattr(self, name)}")
        if self.image_size is not None and not 1 <= self.image_size <= MAX_SIDE:
            raise ConfigError(f"image_size: need a number in 1..{MAX_SIDE} or null, got {self.image_size}")
        if self.layers is not None and (not self.layers or len(set(self.layers)) != len(self.layers)):
            raise ConfigError(f"layers: need one or more different layers or null, got {list(self.layers)}")


@config
class Config:
    data: Component
    backbone: Component
    train_image_size: int
    """Side of the training images: the grid the positions were learnt for."""
    image_size: int
    images: int
    top: int
    layers: tuple[int, ...]
    examples: int
    entropy_map: EntropyMap
    entropy_input: EntropyInput
    entropy_prob: EntropyProb
    precision: str
    method: Component | None = added(None)
    """Method that finds the maps; null: the host."""


def analysis(subject: Subject, options: Options) -> Stage:
    """Return the stage for a training: its variants share it.

    Raises:
        ConfigError: a layer that the backbone has not, or a size that is not whole patches.
    """
    trial, depth = subject.trial, subject.depth
    layers = options.layers or tuple(sorted({round(layer * (depth - 1) / PICTURED[-1]) for layer in PICTURED}))
    if not all(0 <= layer < depth for layer in layers):
        raise ConfigError(f"attention_statistics.layers: need layers in 0..{depth - 1}, got {list(layers)}")
    side = options.image_size or trial.train.image_size
    if side % subject.patch_size:
        raise ConfigError(
            f"attention_statistics.image_size: need a multiple of the patch size {subject.patch_size}, got {side}"
        )
    config = Config(
        data=trial.data,
        backbone=trial.backbone,
        train_image_size=trial.train.image_size,
        image_size=side,
        images=options.images,
        top=options.top,
        layers=tuple(sorted(layers)),
        examples=options.examples,
        entropy_map=options.entropy_map,
        entropy_input=options.entropy_input,
        entropy_prob=options.entropy_prob,
        precision=trial.train.precision,
        method=subject.cams.config.method,
    )
    return Stage("attention_statistics", config, subject.cams.inputs, dict(subject.fingerprints))


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> Row:
    """Inputs: those of ``infer_cam``."""
    device = context.runtime.device
    dataset, backbone = trained_host(
        config.data, config.backbone, config.train_image_size, inputs["host"], context.runtime
    )
    classes = len(dataset.class_names)
    localise = trained_localiser(config.method, backbone, classes, config.train_image_size, inputs)
    backbone.eval()
    ids = _spaced(list(dataset.ids("train")), config.images)
    examples = [image_id for image_id in ids if dataset.labels(image_id).any()][: config.examples]
    totals = _Totals(backbone.depth)
    pictures: list[tuple[Picture, Image.Image]] = []
    images = SquareImages(dataset, config.image_size, (backbone.mean, backbone.std), context.runtime.loading)
    for loaded in context.watched(images.batches(ids, BATCH)):
        chunk, batch = loaded.ids, loaded.images.to(device, non_blocking=True)
        present = loaded.labels.to(device) > 0
        order, _ = present_first(present)
        with torch.no_grad(), autocast(device, config.precision):
            output, maps = (backbone(batch), None) if localise is None else localise(backbone, batch, order)
        cam = backbone.localise(output) if maps is None else spread_maps(maps, order, classes)
        panels = _Panels([index for index, image_id in enumerate(chunk) if image_id in examples])
        _measure(config, backbone, output, cam, present, dataset, chunk, totals, panels)
        for index in panels.images:
            pictures += panels.pictures(index, dataset, chunk[index], config.layers)
    return _written(config, totals, pictures, out)


class _Totals:
    """Sums over images of each measure, a value a layer; NaN where an image says nothing."""

    def __init__(self, depth: int) -> None:
        self.sums = {name: np.zeros(depth) for name in MEASURES}
        self.counts = {name: np.zeros(depth) for name in MEASURES}
        self.at_random: list[float] = []

    def add(self, name: str, layer: int, values: Float[Tensor, " b"]) -> None:
        array = values.double().cpu().numpy()
        known = ~np.isnan(array)
        self.sums[name][layer] += array[known].sum()
        self.counts[name][layer] += known.sum()

    def means(self, name: str) -> list[float]:
        """None at all where no image says anything."""
        if not self.counts[name].all():
            return []
        return [float(value) for value in self.sums[name] / self.counts[name]]


class _Panels:
    """The maps of example images of one batch, collected layer by layer."""

    def __init__(self, images: list[int]) -> None:
        self.images = images
        self.affinities: dict[int, list[np.ndarray]] = {index: [] for index in images}
        self.cams: dict[int, list[Tensor]] = {index: [] for index in images}

    def add(self, affinity: Float[Tensor, "b n n"], refined: Float[Tensor, "b c h w"], present: Tensor) -> None:
        for index in self.images:
            self.affinities[index].append(logarithmic(affinity[index]).cpu().numpy())
            self.cams[index].append(refined[index][present[index]].float().cpu())

    def pictures(
        self, index: int, dataset: Dataset, image_id: str, layers: tuple[int, ...]
    ) -> Iterator[tuple[Picture, Image.Image]]:
        image = dataset.image(image_id)
        size = (image.height, image.width)
        cams = [
            normalise(F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False))[0].amax(0).numpy()
            for maps in self.cams[index]
        ]
        names = f"layers {', '.join(map(str, layers))}"
        caption = f"{image_id}: patch affinity of {names}, logarithmic, each from its least to its most"
        yield Picture(f"affinity_{image_id}", caption), matrix_row(self.affinities[index])
        caption = f"{image_id}: the image, and its CAM refined by each of {names} alone"
        yield Picture(f"cam_{image_id}", caption), cam_row(image, cams)


def _measure(
    config: Config,
    backbone: Backbone,
    output: BackboneOutput,
    cam: Float[Tensor, "b c h w"],
    present: Bool[Tensor, "b c"],
    dataset: Dataset,
    chunk: Sequence[str],
    totals: _Totals,
    panels: _Panels,
) -> None:
    """All measures of a batch of images."""
    t, weighed = backbone.prefix_tokens, entropy_cam(backbone, output, config.entropy_map, cam)
    if not torch.isfinite(cam).all():
        raise DivergedError("maps of the host are not finite: its weights have diverged, or the precision is too low")
    shares = [_foreground(dataset.mask(image_id), output.grid) for image_id in chunk]
    foreground, labelled = (torch.stack(part).to(cam.device) for part in zip(*shares, strict=True))
    found: TopColumns | None = None
    for layer, projected in enumerate(output.layers):
        weights = attention(projected, rows=slice(t, None), columns=slice(None))
        affinity = weights[:, :, t:]
        mass = column_mass(affinity)
        found = top_columns(mass, foreground, labelled, config.top)
        totals.add("hellinger", layer, hellinger_distance(weights))
        entropy = map_entropy(affinity, weighed, present, config.entropy_input, config.entropy_prob)
        totals.add("entropy", layer, entropy)
        totals.add("effective_rank", layer, effective_rank(affinity))
        totals.add("gini", layer, gini(mass))
        totals.add("foreground", layer, found.foreground)
        if layer in config.layers and panels.images:
            panels.add(affinity, refine(cam, affinity), present)
    if found is not None:
        totals.at_random += [value for value in found.everywhere.tolist() if not np.isnan(value)]


def _foreground(mask: np.ndarray | None, grid: tuple[int, int]) -> tuple[Float64[Tensor, " n"], Bool[Tensor, " n"]]:
    """Share of each patch's labelled pixels that are an object, and whether a patch has any."""
    if mask is None:
        return torch.zeros(grid[0] * grid[1]).double(), torch.zeros(grid[0] * grid[1], dtype=torch.bool)
    labelled = torch.from_numpy(mask != IGNORE).double()
    objects = labelled * torch.from_numpy(mask != BACKGROUND).double()
    both = F.adaptive_avg_pool2d(torch.stack([objects, labelled])[None], grid)[0].flatten(1)
    return both[0] / both[1].clamp(min=torch.finfo(torch.float64).tiny), both[1] > 0


def _spaced(ids: list[str], most: int) -> list[str]:
    """Return at most so many ids, evenly spaced from the first to the last."""
    if len(ids) <= most:
        return ids
    return [ids[index] for index in np.linspace(0, len(ids) - 1, most).round().astype(int)]


def _written(config: Config, totals: _Totals, pictures: list[tuple[Picture, Image.Image]], out: Path) -> Row:
    curves, metrics = [], {}
    for name, (label, caption) in MEASURES.items():
        means = totals.means(name)
        if not means:
            continue
        marks = {}
        if name == "foreground":
            caption = f"{caption} (the {config.top} most attended of {config.images} images at most)"
            marks = {"at random": float(np.mean(totals.at_random))}
            metrics["attention/foreground"] = marks["at random"]
        curves.append(Curve(name, label, caption, tuple(means), marks))
        metrics |= {f"layer/{layer:02d}/{name}": value for layer, value in enumerate(means)}
    write_figures(out, curves, pictures)
    return metrics
