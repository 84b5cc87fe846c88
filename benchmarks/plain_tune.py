"""The sweep of sharing.yaml as a plain Ray Tune function script writes it: every grid point trains.

Uses the same library calls, so that each point's mIoU must come out the same.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"

import ray
from ray import tune

SWEEP = Path(__file__).parent / "sharing.yaml"


def train_point(config: dict[str, Any], sweep: str) -> None:
    import torch

    from aream.inference import infer_cams
    from aream.layers import first_deep_layer, resolve_layers
    from aream.methods import aream
    from aream.pseudo_labels import ThresholdSearch
    from aream.training import Training, seed_everything
    from orchestrator.spec_reader import load_spec
    from workers.components import build_backbone, build_dataset

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    trial = load_spec(Path(sweep)).trial(config, 0)
    dataset = build_dataset(trial.data)
    seed_everything(0)
    backbone = build_backbone(trial.backbone, len(dataset.class_names), trial.train.image_size)
    method = aream.build(aream.resolve(trial.method.config, backbone.depth))
    device = torch.device("cpu")
    training = Training(backbone, method, dataset, trial.train, 0, device=device)
    training.run(trial.train.epochs, report=lambda row: None)
    backbone.load_state_dict(training.selected()[0])
    layers = resolve_layers(trial.inference.layers, backbone.depth, first_deep_layer(backbone.depth, None))
    search = ThresholdSearch(trial.labels, len(dataset.class_names) + 1, dataset.scored_classes)
    for cams in infer_cams(backbone, dataset, "train", trial.inference.cams(), device=device):
        search.add(cams.image_id, cams.combine(layers), [c + 1 for c in cams.classes], dataset.mask(cams.image_id))
    tune.report({"miou": search.choose().miou})


def main(storage: str) -> None:
    from orchestrator.spec_reader import load_spec

    axes = load_spec(SWEEP).axes
    ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    results = tune.Tuner(
        tune.with_resources(tune.with_parameters(train_point, sweep=str(SWEEP)), {"cpu": 1}),
        param_space={axis.key: tune.grid_search(list(axis.values)) for axis in axes},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(name="plain", storage_path=storage, verbose=0),
    ).fit()
    points = [{"config": result.config, "miou": result.metrics["miou"]} for result in results if result.metrics]
    print(json.dumps(points))


if __name__ == "__main__":
    main(sys.argv[1])
