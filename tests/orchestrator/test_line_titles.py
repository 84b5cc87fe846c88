from __future__ import annotations

from orchestrator.line_titles import line_titles


def test_only_what_tells_lines_apart_is_named():
    host = {"name": "conformer", "weights": "a/long/path.pth"}
    training = {"epochs": 12, "lr": 5e-5}
    configs = [
        {"backbone": host, "train": training, "method": {"name": "mean_affinity"}},
        {"backbone": host, "train": training, "method": {"name": "aream", "weights": "uniform", "label_flip": False}},
        {"backbone": host, "train": training, "method": {"name": "aream", "weights": "offline", "label_flip": False}},
    ]
    assert line_titles(configs) == [
        "backbone=conformer, method=mean_affinity",
        "backbone=conformer, method=aream(weights=uniform)",
        "backbone=conformer, method=aream(weights=offline)",
    ]


def test_sections_are_named_where_nothing_else_differs():
    configs = [{"train": {"epochs": 2}}, {"train": {"epochs": 3}}]
    assert line_titles(configs) == ["train=epochs=2", "train=epochs=3"]


def test_numbers_stay_and_nothing_at_all_is_the_base():
    assert line_titles([{"method.alpha_low": 0.2}, {"method.alpha_low": 0.3}]) == ["alpha_low=0.2", "alpha_low=0.3"]
    assert line_titles([{}]) == ["base"]
