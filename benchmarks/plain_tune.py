"""A sweep as a plain Ray Tune function script writes it: every grid point trains, at every seed.

    python -m benchmarks.plain_tune SWEEP.yaml FOLDER [--set KEY=VALUE] [--mlflow URI]

Uses the same library calls, so that each point's mIoU must come out the same. Prints the points as JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"

import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback


def train_point(config: dict[str, Any], spec: Any) -> None:
    import torch

    from aream.infer import infer_cams
    from aream.labels.pseudo_labels import ThresholdSearch
    from aream.layers import first_deep_layer, resolve_layers
    from aream.methods import aream
    from aream.train import Training, seed_everything
    from workers.components import build_backbone, build_dataset

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    seed = config["seed"]
    trial = spec.trial({key: value for key, value in config.items() if key != "seed"}, seed)
    dataset = build_dataset(trial.data)
    seed_everything(seed)
    backbone = build_backbone(trial.backbone, len(dataset.class_names), trial.train.image_size)
    method = aream.build(aream.resolve(trial.method.config, backbone.depth))
    device = torch.device("cpu")
    training = Training(backbone, method, dataset, trial.train, seed, device=device)
    started = time.monotonic()
    training.run(trial.train.epochs, report=lambda row: tune.report(dict(row)))
    seconds = time.monotonic() - started
    backbone.load_state_dict(training.selected()[0]["model"])
    layers = resolve_layers(trial.inference.layers, backbone.depth, first_deep_layer(backbone.depth, None))
    search = ThresholdSearch(trial.labels.grid(), len(dataset.class_names) + 1)
    for cams in infer_cams(backbone, dataset, "train", trial.inference.cams(), device=device):
        mask, ids = torch.from_numpy(dataset.mask(cams.image_id)), [c + 1 for c in cams.classes]
        search.add(cams.image_id, cams.combined(layers, device), ids, mask)
    found = search.choose(trial.labels, dataset.scored_classes)
    tune.report({"miou": found.miou, "training_seconds": seconds})


def main(sweep: str, storage: str, overrides: list[str], mlflow_uri: str | None) -> None:
    from orchestrator.spec.reader import load_spec

    spec = load_spec(Path(sweep), overrides)
    space = {axis.key: tune.grid_search(list(axis.values)) for axis in spec.axes}
    callbacks = []
    if mlflow_uri:
        callbacks = [MLflowLoggerCallback(tracking_uri=mlflow_uri, experiment_name="plain")]
    ray.init("local", include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    results = tune.Tuner(
        tune.with_resources(tune.with_parameters(train_point, spec=spec), {"cpu": 1}),
        param_space={**space, "seed": tune.grid_search(list(spec.seeds))},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(name="plain", storage_path=storage, verbose=0, callbacks=callbacks),
    ).fit()
    points = [
        {"config": result.config, "miou": result.metrics["miou"], "seconds": result.metrics["training_seconds"]}
        for result in results
        if result.metrics
    ]
    print(json.dumps(points))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("sweep")
    parser.add_argument("storage")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--mlflow")
    given = parser.parse_args(sys.argv[1:])
    main(given.sweep, given.storage, given.set, given.mlflow)
