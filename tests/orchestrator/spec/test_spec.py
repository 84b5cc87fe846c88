from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aream.methods import aream
from orchestrator.spec.reader import load_spec
from orchestrator.spec.yaml_source import SpecError
from orchestrator.workspace import locate

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "sweep.yaml"
        path.write_text(text)
        return path

    return write


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_spec(path, overrides)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda path: path.name)
def test_every_sweep_that_ships_is_valid(path):
    spec = load_spec(path)
    assert spec.description
    assert spec.training_points()


@pytest.mark.parametrize(
    "opening",
    [
        "# Which alpha?\n# A word.\n\n# no more\n",
        "# yaml-language-server: $schema=sweep.schema.json\n# Which alpha?\n# A word.\n",
        "# yaml-language-server: $schema=sweep.schema.json\n\n# Which alpha?\n# A word.\n",
        "---\n# Which alpha?\n# A word.\n",
        "\n# Which alpha?\n# A word.\n",
    ],
)
def test_the_comment_that_a_file_opens_with_is_its_question(write, opening):
    assert load_spec(write(f"{opening}name: x\n# of the name\n")).description == "Which alpha? A word."


def test_a_comment_further_down_is_no_question(write):
    assert load_spec(write("name: x\n# of the name\n")).description == ""


def test_all_problems_are_found_at_once_with_their_lines(write):
    path = write(
        "name: x\n"
        "method: {name: aream, alpha_lo: 0.2}\n"
        "train:\n"
        "  epochs: many\n"
        "  warmup_epochs: 2\n"
        "axes:\n"
        "  method.alpha_high: {grid: []}\n"
        "seeds: [1, 1]\n"
        "colour: red\n"
    )
    found = problems(path)
    assert len(found) == 5
    expected = {
        2: r"method\.alpha_lo: unknown key \(did you mean alpha_low\?\)",
        4: r"train\.epochs: given 'many'; need a valid integer",
        7: r"axes\.method\.alpha_high: given \[\]; need a list with at least one value",
        8: r"seeds: .*different numbers",
        9: r"colour: unknown key; allowed are name",
    }
    for line, pattern in expected.items():
        assert any(re.match(f"{re.escape(str(path))}:{line}: {pattern}", problem) for problem in found), (
            line,
            found,
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: []", "one or more different numbers"),
        ("name: ../up", "need letters, digits"),
        ("method: {name: areem}", "aream.methods has no 'areem'; it has: acr, aream, mctformer"),
        ("method: {alpha_low: 0.6}", "need 0 < alpha_low < alpha_high < 1, got 0.6 and 0.55"),
        ("train: {epochs: 3, warmup_epochs: 3}", "warmup_epochs: need 0 <= warmup_epochs < epochs"),
        ("train: {lr: .nan}", "numbers must be finite"),
        ("train: {batch_size: true}", "need a valid integer"),
        ("resources: {trial: {gpu: 1.5}}", "a fraction in [0, 1] or a whole number, got 1.5"),
        ("axes: {method.alpha_low: {uniform: [0.1, 0.3]}}", "a range needs `search`"),
        ("axes: {seeds: [1]}", "must belong to one of the sections"),
        ("axes: {method.alpha_low: [0.2, 0.2]}", "duplicate value"),
        ("axes: {train.lr: {loguniform: [0, 1]}}", "starts above 0"),
        ("search: {trials: 3}", "nothing to search"),
        ("where: ['seed < 1']", ":2: where[0]: seed: no such key"),
        ("axes: {train.lr: {grid: [1e-4], when: 'seed == 0'}}", "axes.train.lr.when: seed: no such key"),
        ("segmentation: {select: {of_each: [seed]}}", "of_each: seed: no such key"),
        ("inference: {scales: 1}", "inference.scales: given 1; need a list"),
        ("train: {augmentation: {crop_scale: [1.0]}}", "crop_scale: given [1.0]; need a list of 2"),
        ("labels: {thresholds: [0.1, 0.2, 0.1, 3]}", "thresholds: given [0.1, 0.2, 0.1, 3]; need a list of 3"),
        ("paper: {source: T, rows: [{where: 3, value: 0.2}]}", "paper.rows[0].where: given 3; need a section"),
        (
            "segmentation: {axes: {train.lr: [0.1], train.nope: [1]}}\nwhere: ['train.epochs > 1']",
            ":2: segmentation.axes: invalid combination {'train.lr': 0.1, 'train.nope': 1}: segmentation.train.nope",
        ),
        ("search: {trials: 3, objectives: [{mode: min}]}", "search.objectives[0].metric: missing"),
        ("search: {trials: 3, objectives: [{metric: val/map, mode: up}]}", "search.objectives[0].mode: given 'up'"),
        ("search: {trials: 3, objectives: {metric: a}}", "search.objectives: given {'metric': 'a'}; need a list"),
        ("search: {trials: 3, objectives: [a]}", "search.objectives[0]: given 'a'; need a section with metric, mode"),
        (
            "search: {trials: 3, objectives: [{metric: val/map}, {metric: val/map}]}",
            "need different metrics, got val/map",
        ),
        ("search: {trials: 3, algorithm: cmaes}", "need 'tpe', 'random', 'nsga2' or 'gp'"),
        ("scheduler: {name: median, min_trials: 0}", "min_trials: need a positive number"),
        ("axes: {method.alpha_low: [0.6]}", ": method.alpha_low: alpha_low, alpha_high: need"),
        ("where: ['method.alpha_low < method.alpha_mid']", "method.alpha_mid: no such key"),
        ("axes: {method.alpha_low: [0.2]}\nwhere: ['method.alpha_low > 0.3']", "no point of the grid"),
        ("data: {name: shapes, image_size: 4}", "need 32..512 pixels, got 4"),
        ("labels: {background_threshold: sometimes}", "need 'auto', 'held_out', 'otsu' or 'edges'"),
        ("labels: {refiner: {name: par, iterations: 0}}", "need >= 1"),
        ("backbone: {weights: 3}", "need a valid string"),
        ("segmentation: {model: {name: deeplab, encoder: nothing}}", "timm has no model 'nothing'"),
        ("segmentation: {evaluate: {crf: {iterations: 0}}}", "segmentation.evaluate.crf.iterations: need >= 1"),
        ("segmentation: {evaluate: {merge: max}}", "need 'mean_logits', 'mean_softmax' or 'max_softmax'"),
        ("segmentation: {train: {iterations: 0}}", "segmentation.train.iterations: need null or a number in 1.."),
        ("train: 7", "need a section with epochs"),
        ("store: {waits: {read_seconds: 0}}", "read_seconds: need a number above 0"),
        ("method: &a {name: aream}\nbackbone: *a", "anchors and aliases are not allowed"),
        ("seeds: [0]\nseeds: [1]", "duplicate key"),
        ("train: {epochs: !!python/object/apply:os.system ['true']}", "only plain values are allowed"),
        ("a: " + "[" * 30 + "]" * 30, "nested deeper than 20 levels"),
        ("? [1, 2]\n: x", "keys must be plain text"),
        ("- just\n- a list", "the file must hold a mapping"),
        ("name: 'x", "not YAML"),
    ],
)
def test_each_mistake_says_what_is_allowed(write, text, message):
    head = "" if "name:" in text.split("\n")[0][:5] or text.startswith("-") else "name: x\n"
    assert any(message in problem for problem in problems(write(head + text))), problems(write(head + text))


def test_objectives_of_a_search(write):
    axes = "axes: {train.lr: [1e-4, 1e-3]}\nrank: {metric: cam/miou}\n"
    given = write(
        f"name: x\n{axes}search: {{trials: 3, objectives: [{{metric: val/map}}, {{metric: cost/seconds}}]}}\n"
    )
    wanted = [("val/map", "max"), ("cost/seconds", "min")]
    assert [(one.metric, one.mode) for one in load_spec(given).objectives] == wanted
    default = write(f"name: x\n{axes}search: {{trials: 3}}\n")
    assert [(one.metric, one.mode) for one in load_spec(default).objectives] == [("cam/miou", "max")]


def test_a_part_of_an_axis_is_no_axis(write):
    path = write("name: x\ndata: {name: shapes}\naxes: {train.lr: {grid: [1e-4, 2e-4]}}\n")
    given = "axes.train.lr.grid=[1e-4]"
    assert problems(path, given) == [
        f"--set {given}: axes.train.lr.grid: an axis is given whole, as in axes.train.lr={{grid: [...]}}"
    ]


def test_overrides_are_validated_like_the_file(write):
    path = write("name: x\nlabels: {refiner: par}\n")
    spec = load_spec(
        path,
        [
            "train.epochs=7",
            "train.warmup_epochs=2",
            "labels.refiner.iterations=3",
            "axes.method.alpha_low=[0.1, 0.2]",
        ],
    )
    assert spec.base.train.epochs == 7
    assert spec.base.labels.refiner.config.iterations == 3
    assert [point["method.alpha_low"] for point in spec.training_points()] == [0.1, 0.2]
    assert problems(path, "train.epoch=7")[0].startswith("--set train.epoch=7: train.epoch: unknown key")
    assert "need KEY=VALUE" in problems(path, "epochs")[0]


def test_scientific_notation_is_a_number_and_words_stay_words(write):
    spec = load_spec(write("name: on\ntrain: {lr: 1e-3, lr_floor: 1e-6}\n"))
    assert (spec.name, spec.base.train.lr) == ("on", 1e-3)


def test_axes_over_components_and_layer_lists(write):
    spec = load_spec(
        write(
            "name: x\naxes:\n  method: [{name: mctformer}, {name: aream, weights: entropy_offline}]\n"
            "  inference.layers: [all, [0, 1]]\n"
        )
    )
    methods = [spec.trial(point, 0).method for point in spec.training_points()]
    assert [method.name for method in methods] == ["mctformer", "aream"]
    assert methods[1].config.weights == "entropy_offline"
    assert [spec.trial(p, 0).inference.layers for p in spec.variant_points(spec.training_points()[0])] == [
        "all",
        (0, 1),
    ]


def test_a_number_may_also_be_a_section(write):
    grid = "axes: {method.affinity_weight: {grid: [0.5, {total: 40}]}}\n"
    spec = load_spec(write("name: x\nmethod: {name: aream, affinity_weight: {total: 9}}\n" + grid))
    weights = [spec.trial(point, seed=0).method.config.affinity_weight for point in spec.training_points()]
    assert weights == [0.5, aream.TotalWeight(total=40.0)]
    found = problems(write("name: x\nmethod: {name: aream, affinity_weight: much}\n"))
    assert found[0].endswith("given 'much'; need a valid number or a section with total")
    found = problems(write("name: x\nmethod: {name: aream, affinity_weight: {totl: 3}}\n"))
    assert "method.affinity_weight.totl: unknown key (did you mean total?)" in found[0]


def test_where_removes_points_and_reads_unvaried_keys(write):
    spec = load_spec(
        write(
            "name: x\naxes:\n  method.alpha_low: [0.2, 0.4]\n  method.alpha_high: [0.3, 0.5]\n"
            "where: ['method.alpha_low < method.alpha_high', 'train.epochs > 10']\n"
        )
    )
    assert len(spec.training_points()) == 3


@settings(max_examples=150)
@example(text="a]: 0")
@given(text=st.text(alphabet="abn:{}[]&*!?|>-#'\"\\ \n\t0.1e,~%@`\x00", max_size=60))
def test_junk_is_refused_and_never_crashes(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("junk") / "junk.yaml"
    path.write_text(text)
    with pytest.raises(SpecError):
        load_spec(path)


def test_missing_and_huge_files(tmp_path):
    assert "cannot be read" in problems(tmp_path / "none.yaml")[0]
    huge = tmp_path / "huge.yaml"
    huge.write_text("#" * (2 << 20))
    assert "at most" in problems(huge)[0]


def test_relative_locations_stay_where_the_file_was_read(write, tmp_path, monkeypatch):
    path = write("name: x\ndata: {name: voc2012, root: images}\naxes: {backbone.weights: [a.pth, b.pth]}\n")
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(here)
    spec = load_spec(path)
    monkeypatch.chdir(elsewhere)
    trial = spec.trial({"backbone.weights": "b.pth"}, seed=0)
    assert trial.data.config.root == str(here / "images")
    assert trial.backbone.config.weights == str(here / "b.pth")


def test_the_sweeps_in_the_docs_are_valid(write):
    (front,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    texts = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "sweep_file.md").read_text(), re.DOTALL)
    whole, plugged, further, shown = texts
    assert whole == front
    assert len(load_spec(write(whole)).training_points()) == 6
    spec = load_spec(write(f"name: further\n{further}"))
    assert spec.search is not None
    assert [objective.metric for objective in spec.objectives] == ["pseudo/miou", "cost/seconds"]
    spec = load_spec(write(f"name: shown\n{shown}"))
    assert len(spec.training_points()) == 2
    assert spec.base.labels.refiner.name == "psa"
    # The reader of the page has these files, and nobody else.
    with pytest.raises(SpecError, match=r"plugins\[0\]: .*cannot be read as a plug-in"):
        load_spec(write(f"name: plugged\n{plugged}"))


def test_an_s3_server_is_waited_for_as_the_file_says(write):
    path = write("name: x\nstore: {uri: s3://bucket/x, waits: {read_seconds: 7, retries: 4}}\n")
    for waits in (load_spec(path).store_waits, locate(str(path), "runs").store().storage.server.waits):
        assert (waits.read_seconds, waits.retries, waits.patience_seconds) == (7.0, 4, 300.0)
