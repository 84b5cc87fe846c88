"""Build a trial's stages from its configuration, each with only the part that it reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aream import augmentations, backbones, discover, methods, refiners
from aream.augmentations.protocol import DeviceAugment
from aream.backbones.protocol import DEFAULT_PADDING, Padding
from aream.config import Component
from aream.errors import ConfigError, within
from aream.infer import UNREFINED
from aream.layers import DEFAULT_SPLIT, first_deep_layer, resolve_layers
from aream.methods import mean_affinity
from aream.methods.protocol import says
from aream.refiners.protocol import network_of
from workers import stages as stage_modules
from workers.analysis import Subject, analysis_stage
from workers.components import (
    backbone_shape,
    build_dataset,
    fingerprint_backbone,
    fingerprint_refiner,
    fingerprint_segmenter,
)
from workers.processes.hardware import CPU, Hardware
from workers.stage import Stage
from workers.stages import (
    eval_seg,
    external_labels,
    infer_cam,
    layer_entropy,
    pseudo_label,
    train_cam,
    train_seg,
    warmup,
)
from workers.staging.locations import local_path
from workers.trial import SegmentationConfig, TrialConfig

Fingerprint = Callable[[Component], str]
"""Content identity of a dataset component."""

BASELINE = Component(name="mean_affinity", config=mean_affinity.Config())
"""The plainly trained host, whichever it is: layer entropies of AReAM's offline weights come from it."""


@dataclass(frozen=True)
class VariantStages:
    """The stages of one variant of a trial after the training."""

    cams: Stage
    labels: Stage
    analyses: tuple[Stage, ...]

    def all(self) -> tuple[Stage, ...]:
        return (self.cams, self.labels, *self.analyses)


def training_stage(trial: TrialConfig, fingerprint: Fingerprint, processes: int = 1, hardware: Hardware = CPU) -> Stage:
    """The ``train_cam`` stage of a trial, with its warm-up and, where the method asks, the entropies before it.

    Args:
        processes: that share every batch of a training. A part of identities where it is more than one.
        hardware: that all stages of the trial compute on.

    Raises:
        ConfigError: parts of the trial do not fit each other.
    """
    trial = dataclasses.replace(trial, train=hardware.of(trial.train))
    depth, _ = _check_fit(trial)
    if trial.train.batch_size < processes:
        raise ConfigError(
            f"train.batch_size: need an image for each of the {processes} processes, got {trial.train.batch_size}"
        )
    acting = trial if trial.train.epochs else dataclasses.replace(trial, method=BASELINE)
    module, resolved = discover.load(methods, acting.method.name), _resolved(acting, depth)
    trained = module.of_training(resolved) if hasattr(module, "of_training") else resolved
    inputs = {}
    if trial.train.warmup:
        inputs["warmup"] = _warmup_stage(trial, fingerprint, processes, hardware)
    if _needs_entropy(trial, depth):
        inputs["entropy"] = _entropy_stage(trial, fingerprint, processes, hardware)
    train = trial.train.resolved()
    if train.select == "last":  # then no epoch is the best by anything
        train = dataclasses.replace(train, select_by="image")
    config = train_cam.Config(
        data=trial.data,
        backbone=trial.backbone,
        method=Component(name=trains_as(acting.method.name), config=trained),
        train=train,
        seed=trial.seed,
        processes=processes,
    )
    return Stage("train_cam", config, inputs, _fingerprints(trial, fingerprint), hardware)


def variant_stages(
    trial: TrialConfig, fingerprint: Fingerprint, analyses: Sequence[Component] = (), host: Stage | None = None
) -> VariantStages:
    """CAMs, pseudo-labels and analyses of one variant; its ``cams.inputs["host"]`` is the training.

    Args:
        analyses: chosen by name, with their ``Options`` as configuration.
        host: the trial's ``training_stage``, where it is at hand: the variants of a trial then hold one.

    Raises:
        ConfigError: parts of the trial do not fit each other.
    """
    depth, patch_size = _check_fit(trial)
    host = host or training_stage(trial, fingerprint)
    hardware = host.hardware
    trial = dataclasses.replace(trial, train=hardware.of(trial.train))
    prints = _fingerprints(trial, fingerprint)
    data = {"data": prints["data"]}
    method = Component(name=trial.method.name, config=_resolved(trial, depth))
    localises = says(discover.load(methods, method.name), "LOCALISES", method.config)
    entropy = {name: stage for name, stage in host.inputs.items() if name == "entropy"}
    cams = Stage(
        "infer_cam",
        infer_cam.Config(
            data=trial.data,
            backbone=trial.backbone,
            train_image_size=trial.train.image_size,
            cams=trial.inference.cams().resolved(_padding(trial)),
            precision=trial.train.precision,
            method=method if localises else None,
        ),
        {"host": host, **(entropy if localises else {})},
        prints,
        hardware,
    )
    split = _split(trial, depth)
    chosen = trial.inference.layers
    with within("inference"):
        layers = UNREFINED if chosen == "none" else resolve_layers(chosen, depth, split)
    networks, weights = _refiner_network(trial, layers, cams, data)
    labels = Stage(
        "pseudo_label",
        pseudo_label.Config(data=trial.data, layers=layers, labels=trial.labels),
        {**networks, "cams": cams},  # a plan shows a stage under its first input
        data | weights,
        hardware,
    )
    subject = Subject(trial, depth, patch_size, host, cams, prints)
    return VariantStages(cams, labels, tuple(analysis_stage(chosen, subject) for chosen in analyses))


def segmentation_stage(
    segmentation: SegmentationConfig,
    trial: TrialConfig,
    labels: Stage,
    fingerprint: Fingerprint,
    hardware: Hardware = CPU,
) -> Stage:
    """The ``eval_seg`` stage of a segmenter trained on ``labels``, at the trial's seed."""
    segmentation = dataclasses.replace(segmentation, train=hardware.of(segmentation.train))
    model = segmentation.model
    prints = {
        "data": fingerprint(trial.data),
        "model": fingerprint_segmenter(model),
    }
    train = Stage(
        "train_seg",
        train_seg.Config(data=trial.data, model=model, train=segmentation.train, seed=trial.seed),
        {"labels": labels},
        prints,
        hardware,
    )
    return Stage(
        "eval_seg",
        eval_seg.Config(
            data=trial.data,
            model=model,
            crop=segmentation.train.crop,
            evaluate=segmentation.evaluate,
            precision=segmentation.train.precision,
        ),
        {"segmenter": train},
        {"data": prints["data"]},
        hardware,
    )


def external_labels_stage(folder: str, data: Component, fingerprint: Fingerprint) -> Stage:
    """Labels made elsewhere, identified by their content.

    Raises:
        DataError: a label is missing.
    """
    prints = {"data": fingerprint(data), "folder": external_labels.fingerprint(local_path(folder), build_dataset(data))}
    return Stage("external_labels", external_labels.Config(data=data, folder=folder), {}, prints)


def _warmup_stage(trial: TrialConfig, fingerprint: Fingerprint, processes: int, hardware: Hardware) -> Stage:
    train = trial.train.of_warmup()
    config = warmup.Config(data=trial.data, backbone=trial.backbone, train=train, seed=trial.seed, processes=processes)
    return Stage("warmup", config, {}, _fingerprints(trial, fingerprint), hardware)


def _needs_entropy(trial: TrialConfig, depth: int) -> bool:
    module, resolved = discover.load(methods, trial.method.name), _resolved(trial, depth)
    acts = bool(trial.train.epochs) or says(module, "LOCALISES", resolved)
    return acts and bool(module.needs_entropy(resolved))


def _entropy_stage(trial: TrialConfig, fingerprint: Fingerprint, processes: int, hardware: Hardware) -> Stage:
    method = trial.method.config
    config = layer_entropy.Config(
        data=trial.data,
        backbone=trial.backbone,
        image_size=trial.train.image_size,
        entropy_map=method.entropy_map,
        entropy_input=method.entropy_input,
        entropy_prob=method.entropy_prob,
        precision=trial.train.precision,
    )
    host = training_stage(dataclasses.replace(trial, method=BASELINE), fingerprint, processes, hardware)
    return Stage("layer_entropy", config, {"host": host}, _fingerprints(trial, fingerprint), hardware)


def _refiner_network(
    trial: TrialConfig, layers: tuple[int, ...], cams: Stage, data: Mapping[str, str]
) -> tuple[dict[str, Stage], dict[str, str]]:
    """The training of the network that the labels' refiner needs, by its name, or the identity of one that is
    trained already; neither for a refiner without a network."""
    refiner = trial.labels.refiner
    name = network_of(refiner)
    if name is None:
        return {}, {}
    weights = {name: fingerprint_refiner(refiner)}
    if not discover.load(refiners, refiner.name).needs_network(refiner.config):
        return {}, weights
    module = discover.load(stage_modules, f"train_{name}")
    config = dataclasses.replace(refiner.config, train=cams.hardware.of(refiner.config.train))
    return {name: module.stage(config, trial.data, layers, trial.seed, cams, {**data, **weights})}, {}


def trains_as(method: str) -> str:
    """The method that stands for all with the same training."""
    return str(getattr(discover.load(methods, method), "TRAINS_AS", method))


def _split(trial: TrialConfig, depth: int) -> int:
    """The first deep layer: the method's own, or the one published for the backbone."""
    published = getattr(discover.load(backbones, trial.backbone.name), "PUBLISHED_SPLIT", DEFAULT_SPLIT)
    with within("method"):
        return first_deep_layer(depth, getattr(trial.method.config, "layer_index", None), published)


def _padding(trial: TrialConfig) -> Padding:
    """The order of padding and mirroring that was published for the backbone."""
    padding: Padding = getattr(discover.load(backbones, trial.backbone.name), "PUBLISHED_PADDING", DEFAULT_PADDING)
    return padding


def _resolved(trial: TrialConfig, depth: int) -> Any:
    """The method's configuration with its first deep layer named, where it has one, and then its layers."""
    config = trial.method.config
    if hasattr(config, "layer_index"):
        config = dataclasses.replace(config, layer_index=_split(trial, depth))
    with within("method"):
        return discover.load(methods, trial.method.name).resolve(config, depth)


def _fingerprints(trial: TrialConfig, fingerprint: Fingerprint) -> dict[str, str]:
    return {"data": fingerprint(trial.data), "backbone": fingerprint_backbone(trial.backbone)}


def _check_fit(trial: TrialConfig) -> tuple[int, int]:
    """(depth, patch size) of the backbone; the method must make sense on it, image sides must be whole patches."""
    for method in (trial.method, *getattr(trial.method.config, "parts", ())):
        check_host = getattr(discover.load(methods, method.name), "check_host", None)
        if check_host is not None:
            check_host(method.config, trial.backbone.name, trial.backbone.config)
    depth, patch = backbone_shape(trial.backbone)
    for key, side in (
        ("train.image_size", trial.train.image_size),
        ("inference.image_size", trial.inference.image_size),
    ):
        if side is not None and side % patch:
            raise ConfigError(f"{key}: need a multiple of the patch size {patch}, got {side}")
    if getattr(trial.data.config, "cache", None) == "device" and not _changes_on_device(trial.train.augmentation):
        raise ConfigError(
            "data.cache: device keeps images where a training changes them, and train.augmentation "
            f"{trial.train.augmentation.name} changes them on the CPU; need deit_on_device there, or memory here"
        )
    return depth, patch


def _changes_on_device(augmentation: Component) -> bool:
    module = discover.load(augmentations, augmentation.name)
    return isinstance(module.build(augmentation.config, 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), DeviceAugment)
