"""Axes to search over, and playing a search to its end without training anything."""

from __future__ import annotations

import json

import optuna

RANGES = """
  method.alpha_low: {uniform: [0.1, 0.9]}
  method.alpha_high: {uniform: [0.1, 0.9]}
  train.lr: {loguniform: [1.0e-5, 1.0e-2]}
  method.layer_index: {int: [1, 5]}
  method.fusion_layers: {choice: [all, [0, 1]]}
"""
ORDERED = "where: ['method.alpha_low < method.alpha_high']\n"
ONE = "\n  method.alpha_low: {uniform: [0.1, 0.5]}\n"
LISTED = "\n  method.alpha_low: [0.1, 0.2, 0.3]\n  train.epochs: {int: [20, 23]}\n"
METHODS = """
  method: {choice: [{name: aream}, {name: mctformer}]}
  method.alpha_low: {uniform: [0.1, 0.5], when: "method.name == 'aream'"}
"""


def flat(point):
    return 0.0


def play(searcher, score=flat, limit=2000):
    """Suggest and finish one after the other; returns what was suggested."""
    seen = []
    for number in range(limit):
        point = searcher.suggest(f"t{number}")
        if not isinstance(point, dict):
            assert point == "FINISHED"
            return seen
        seen.append(point)
        end(searcher, f"t{number}", score(point))
    raise AssertionError("the search does not end")


def end(searcher, trial_id, score):
    result = score if isinstance(score, dict) else {"pseudo/miou": score}
    searcher.on_trial_complete(trial_id, {**result, "complete": 1.0})


def texts(points):
    return [json.dumps(point["values"], sort_keys=True) for point in points]


def study_of(searcher) -> optuna.Study:
    return searcher.study.record.study
