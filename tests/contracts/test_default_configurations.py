"""Every component at its defaults: what no sweep that ships has ever run, someone's first sweep does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from refining import refined
from small_networks import CPU

from aream import augmentations, backbones, datasets, discover, methods, refiners, segmenters
from aream.affinity_net.network import AffinityNet, AffinityNetConfig
from aream.affinity_net.train import AffinityRun, AffinityTraining
from aream.config import canonical
from aream.datasets import shapes
from aream.infer import CamInference, infer_cams
from aream.labels.pseudo_labels import LabelsConfig, ThresholdSearch
from aream.metrics import IGNORE
from aream.segmentation.config import SegmentationEvaluation, SegmentationTraining
from aream.segmentation.crops import TrainingCrops
from aream.train import Training, seed_everything
from workers.trial import SegmentationConfig, TrialConfig

PACKAGES = (augmentations, backbones, datasets, methods, refiners, segmenters)
MODULES = [(package, name) for package in PACKAGES for name in discover.names(package)]
CLASSES = 20


def needs_nothing(config: type) -> bool:
    fields = dataclasses.fields(config)
    return all({field.default, field.default_factory} != {dataclasses.MISSING} for field in fields)


@pytest.mark.parametrize(("package", "name"), MODULES, ids=[f"{p.__name__}.{n}" for p, n in MODULES])
def test_a_component_has_a_configuration_without_any_setting(package, name):
    """But for the places of files; it is told apart from others, and is what it was when built again."""
    config = discover.load(package, name).Config
    if not needs_nothing(config):
        assert package is datasets
        config = dataclasses.make_dataclass("Placed", [], bases=(config,), frozen=True)
        made = config(**{f.name: "somewhere" for f in dataclasses.fields(config) if f.default is dataclasses.MISSING})
    else:
        made = config()
    canonical(made)
    assert dataclasses.replace(made) == made


def test_the_sections_of_a_sweep_have_defaults():
    for section in (TrialConfig, SegmentationConfig, SegmentationTraining, SegmentationEvaluation, CamInference):
        canonical(section())


@pytest.mark.slow
@pytest.mark.parametrize("name", discover.names(backbones))
def test_a_default_backbone_takes_default_images(name):
    module, side = discover.load(backbones, name), TrialConfig().train.image_size
    config = module.Config()
    depth, patch = module.shape(config)
    with torch.no_grad():
        output = module.build(config, CLASSES, side).eval()(torch.rand(1, 3, side, side))
    assert torch.isfinite(output.scores).all()
    assert output.cam.shape == (1, CLASSES, side // patch, side // patch)
    assert len(output.layers) == depth
    for method in discover.names(methods):
        chosen = discover.load(methods, method)
        chosen.resolve(chosen.Config(), depth)


@pytest.mark.parametrize("name", discover.names(segmenters))
def test_a_default_segmenter_takes_default_crops(name):
    module, side = discover.load(segmenters, name), SegmentationTraining().crop
    with torch.device("meta"):
        logits = module.build(module.Config(), CLASSES + 1, side)(torch.zeros(2, 3, side, side))
    assert logits.shape == (2, CLASSES + 1, side, side)


SIZES = [(1, 1), (1, 30), (40, 1), (5, 7), (60, 33), (64, 64)]


def picture(generator: np.random.Generator, draw: int) -> Image.Image:
    width, height = SIZES[draw % len(SIZES)]
    flat = draw % 3 == 0
    pixels = generator.integers(0, 256, (1, 1, 3) if flat else (height, width, 3))
    return Image.fromarray(np.broadcast_to(pixels, (height, width, 3)).astype(np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize("hsv_jitter", [0, 10])
def test_default_crops_of_a_segmenter_take_every_draw(hsv_jitter):
    generator = np.random.default_rng(0)
    crops = TrainingCrops(SegmentationTraining(hsv_jitter=hsv_jitter, crop=65), 0, (0.5,) * 3, (0.2,) * 3)
    for draw in range(2000):
        image = picture(generator, draw)
        labels = generator.choice(np.array([0, 3, IGNORE], dtype=np.uint8), (image.height, image.width))
        pixels, target = crops.crop(image, labels, draw, "image", None)
        assert pixels.shape == (3, 65, 65)
        assert torch.isfinite(pixels).all()
        assert set(target.unique().tolist()) <= {0, 3, IGNORE}


@pytest.mark.slow
def test_default_crops_of_an_affinity_net_take_every_draw():
    generator = np.random.default_rng(0)
    dataset = shapes.build(shapes.Config(image_size=32, train_images=4, val_images=1))
    scores = torch.zeros(2, 1, 1, 1).numpy()
    network = AffinityNet(AffinityNetConfig(width=2, depths=(1, 1, 1, 1)))
    run = AffinityRun(network, dataset, lambda _: scores, AffinityTraining(crop=72), 0, device=CPU)
    for draw in range(2000):
        image = picture(generator, draw)
        dataset.image = lambda _, image=image: image
        scores = generator.random((2, 3, image.height, image.width)).astype(np.float32)
        pixels, labels = run.sample("image", draw, 0)
        assert pixels.shape == (3, 72, 72)
        assert labels.shape == (9, 9)
        assert torch.isfinite(pixels).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in discover.names(refiners) if name != "psa"])
def test_a_default_refiner_takes_every_image(name):
    """psa needs a trained network, and has its own tests."""
    module, generator = discover.load(refiners, name), np.random.default_rng(0)
    refiner = module.build(module.Config())
    for draw in range(60):
        image = torch.from_numpy(np.array(picture(generator, draw))).permute(2, 0, 1)[None] / 255
        scores = torch.rand(1, 3, *image.shape[2:]) if draw % 2 else torch.zeros(1, 3, *image.shape[2:])
        found = refined(refiner, image, scores)
        assert found.shape == scores.shape
        assert torch.isfinite(found).all()


@pytest.mark.slow
def test_default_labels_of_thousands_of_maps():
    """The chosen threshold is one of the grid, and its mIoU the best that counting pixel by pixel finds."""
    generator, config = np.random.default_rng(0), LabelsConfig()
    search, seen = ThresholdSearch(config.grid(), 4), []
    for draw in range(3000):
        height, width = int(generator.integers(1, 6)), int(generator.integers(1, 6))
        ids = sorted(generator.choice([1, 2, 3], draw % 4, replace=False).tolist())
        scores = generator.random((len(ids), height, width)).astype(np.float32)
        mask = generator.choice(np.array([0, 1, 2, 3, IGNORE], dtype=np.uint8), (height, width))
        search.add(f"image{draw}", torch.from_numpy(scores), ids, torch.from_numpy(mask))
        best = scores.max(axis=0).ravel() if ids else np.zeros(height * width, dtype=np.float32)
        kind = np.array(ids)[scores.argmax(axis=0)].ravel() if ids else np.zeros(height * width, dtype=int)
        seen.append(np.stack([best.astype(np.float64), kind, mask.ravel()]))
    choice = search.choose(config, range(4))
    best, kind, truth = np.concatenate(seen, axis=1)
    kept, mious = truth != IGNORE, []
    for threshold in choice.thresholds:
        predicted = np.where(best > np.float32(threshold), kind, 0)[kept]
        pairs = [(predicted == c, truth[kept] == c) for c in range(4)]
        mious.append(np.mean([(a & b).sum() / (a | b).sum() for a, b in pairs]))
    assert choice.miou == pytest.approx(max(mious))
    assert choice.threshold == choice.thresholds[int(np.argmax(mious))]


@pytest.mark.slow
def test_a_default_training_takes_a_step_with_the_method_and_makes_cams():
    """Network, method, augmentation and training as they are, but for the number of images."""
    trial = TrialConfig()
    dataset = shapes.build(shapes.Config(train_images=2, val_images=2))
    seed_everything(0)
    backbone = discover.load(backbones, trial.backbone.name).build(
        trial.backbone.config, len(dataset.class_names), trial.train.image_size
    )
    module = discover.load(methods, trial.method.name)
    method = module.build(module.resolve(trial.method.config, backbone.depth))
    training = Training(backbone, method, dataset, trial.train, 0, device=CPU)
    training.rehearse(1)
    cams = next(infer_cams(backbone, dataset, "train", trial.inference.cams(), device=CPU))
    found = cams.combine(range(backbone.depth))
    assert found.shape[0] == len(cams.classes) > 0
    assert np.isfinite(found).all()
