from __future__ import annotations

from orchestrator.reporting.drawing import line_titles
from orchestrator.spec.axes import Axis, shown
from orchestrator.text import shown_beside


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


def test_a_title_in_a_table_says_what_tells_it_from_the_others():
    weak = {"name": "aream", "label_flip": False, "affinity_weight": 0.1}
    configs = [
        {"method": {"name": "mean_affinity"}, "inference.layers": "none"},
        {"method": weak, "inference.layers": [0, 1]},
        {"method": {**weak, "affinity_weight": 1.5, "affinity_reach": "deep"}, "train": {"epochs": 2}},
    ]
    assert shown_beside(configs) == [
        {"method": "mean_affinity", "inference.layers": "none"},
        {"method": "aream(affinity_weight=0.1)", "inference.layers": "[0,1]"},
        {"method": "aream(affinity_weight=1.5,affinity_reach=deep)", "train": "epochs=2"},
    ]


def test_the_only_one_of_its_name_on_an_axis_is_called_by_its_name():
    aream = {"name": "aream", "affinity_weight": 1.5}
    axis = Axis("method", "grid", ({"name": "mean_affinity"}, aream))
    assert shown({"method": aream, "method.alpha_low": 0.25}, [axis]) == {"method": "aream", "method.alpha_low": "0.25"}
    assert shown({"method": aream}, []) == {"method": "aream"}


def test_components_in_a_list_are_named_by_what_tells_them_apart_too():
    deep = {"name": "aream", "affinity_reach": "deep", "affinity_weight": 1.5}
    methods = [
        {"name": "plus", "parts": ["more", deep]},
        {"name": "plus", "parts": [{"name": "acr", "view": "mirror"}, deep]},
        {"name": "plus", "parts": ["more", {**deep, "affinity_weight": 5}]},
        {"name": "plus", "parts": 3},
    ]
    assert [each["method"] for each in shown_beside([{"method": method} for method in methods])] == [
        "plus(parts=[more,aream(affinity_weight=1.5)])",
        "plus(parts=[acr,aream(affinity_weight=1.5)])",
        "plus(parts=[more,aream(affinity_weight=5)])",
        "plus(parts=3)",
    ]
