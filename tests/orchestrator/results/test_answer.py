"""What a sweep's results say to its question: differences paired by seed, ties as ties, nothing out of one seed."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import asdict

import numpy as np
import pytest
from scipy import stats

from orchestrator.reporting.answer_section import effects_section
from orchestrator.results.answer import answer
from orchestrator.results.effects import axis_effects, half_width
from orchestrator.results.ties import ties
from orchestrator.spec.settings import Goal

RANK = Goal(metric="pseudo/miou", mode="max")
COST = Goal(metric="cost/seconds", mode="min")
LAYERS = ("none", "shallow", "all")


def entry(config, scores, metric="pseudo/miou", training=None, **more):
    """Made of a training of its own unless one is named."""
    own = {str(seed): {metric: score} for seed, score in enumerate(scores) if score is not None}
    mean = sum(values[metric] for values in own.values()) / len(own)
    seeds, training = [int(seed) for seed in own], training or f"train_cam-{config}"
    keys = [f"{training}-{seed}" for seed in seeds]
    return {
        "config": config, "metrics": {metric: mean}, "spread": {}, "seeds": seeds, "trial_keys": keys, "per_seed": own,
        **more,
    }  # fmt: skip


def grid(score, seeds=3):
    """Of two alphas and three layer subsets; best first."""
    points = itertools.product((0.1, 0.3), LAYERS)
    made = [
        entry({"method.alpha_low": low, "inference.layers": layers}, [score(low, layers, s) for s in range(seeds)])
        for low, layers in points
    ]
    return sorted(made, key=lambda each: -RANK.merit(each["metrics"]))


def noise(*key):
    return random.Random(repr(key)).gauss(0, 0.002)


def refined(low, layers, seed):
    """Seeds differ much, and alike for every configuration; layers matter, alphas do not."""
    return 0.5 + 0.1 * seed + 0.05 * LAYERS.index(layers) + noise(low, layers, seed)


def said(entries, axes=("method.alpha_low", "inference.layers"), rank=RANK):
    return answer(entries, axes, rank)["sentences"]


def test_the_interval_of_two_values_is_the_paired_t_test():
    scores = {"a": [0.50, 0.61, 0.47, 0.55], "b": [0.47, 0.60, 0.43, 0.53]}
    entries = [entry({"labels.rule": rule}, own) for rule, own in scores.items()]
    (effect,) = axis_effects(entries, ["labels.rule"], RANK)
    (pair,) = effect.pairs
    test = stats.ttest_rel(scores["a"], scores["b"]).confidence_interval(0.95)
    assert (pair.value, pair.over, pair.better, pair.seeds) == ("a", "b", 4, 4)
    assert (pair.mean - pair.half, pair.mean + pair.half) == pytest.approx((test.low, test.high))


def test_three_values_pool_their_spread_as_a_block_design_does():
    entries = grid(refined)
    effect = next(e for e in axis_effects(entries, ["inference.layers"], RANK))
    values = [  # seeds by values, mean over the alphas
        [sum(refined(low, layers, seed) for low in (0.1, 0.3)) / 2 for layers in LAYERS] for seed in range(3)
    ]
    rows = [sum(row) / 3 for row in values]
    columns = [sum(row[at] for row in values) / 3 for at in range(3)]
    every = sum(rows) / 3
    residual = sum((values[i][j] - rows[i] - columns[j] + every) ** 2 for i in range(3) for j in range(3)) / 4
    half = stats.t.ppf(1 - 0.05 / 6, 4) * math.sqrt(2 * residual / 3)
    assert [pair.half for pair in effect.pairs] == pytest.approx([half] * 3)
    assert effect.values == ("all", "shallow", "none")
    assert effect.reference == "none"


def test_an_effect_is_told_and_a_tie_is_a_tie():
    sentences = said(grid(refined))
    assert sentences[0].startswith("layers: all gains 0.1")
    assert "over none, in 3 of 3 seeds; shallow is behind too." in sentences[0]
    assert sentences[1].startswith("alpha_low: no difference between 0.3 and 0.1 beyond seed noise")
    assert any(one.startswith("No winner: #2 ties with #1 of 6 ") for one in sentences)


def test_the_best_is_named_where_nothing_ties_with_it():
    sentences = said(grid(lambda low, layers, seed: refined(low, layers, seed) + low))
    assert "#1 of 6 is the best beyond seed noise: pseudo-label mIoU" in sentences[-1]
    assert any(one.startswith("alpha_low: 0.3 gains 0.2") for one in sentences)


def test_seeds_without_a_difference_are_on_nobodys_side():
    """As of a metric of the training over an axis of labels, such as val mAP over layers."""
    entries = grid(lambda low, layers, seed: 0.5 + 0.1 * seed)
    content = {
        "answer": answer(entries, ["inference.layers"], RANK),
        "axes": ["inference.layers"],
        "rank": asdict(RANK),
    }
    rows = effects_section(content).table.rows
    assert {(row[3], row[5], row[6]) for row in rows} == {("+0.0000", "0 of 3", "tie")}
    (effect,) = axis_effects(entries, ["inference.layers"], RANK)
    assert {(pair.better, pair.worse) for pair in effect.pairs} == {(0, 0)}
    assert said(entries, ["inference.layers"])[0] == "layers: pseudo-label mIoU is the same at none, shallow and all."


@pytest.mark.parametrize("rank", [RANK, COST])
def test_it_is_told_at_how_many_seeds_a_value_is_the_higher_one(rank):
    scores = {"none": [0.50, 0.60, 0.40], "all": [0.55, 0.59, 0.40], "deep": [0.40, 0.50, 0.41]}
    entries = [entry({"inference.layers": layers}, own, rank.metric) for layers, own in scores.items()]
    content = {"answer": answer(entries, ["inference.layers"], rank), "axes": ["inference.layers"]}
    rows = effects_section(content | {"rank": asdict(rank)}).table.rows
    assert {row[1]: (row[2], row[5]) for row in rows} == {"all": ("none", "1 of 3"), "deep": ("none", "1 of 3")}


def test_noise_alone_has_no_effect():
    sentences = said(grid(lambda low, layers, seed: 0.5 + noise(low, layers, seed)))
    assert not any("gains" in sentence or "is the best" in sentence for sentence in sentences)
    assert sum("no difference between" in sentence for sentence in sentences) == 2


def test_one_seed_tells_nothing_and_says_so():
    entries = grid(refined, seeds=1)
    sentences = said(entries)
    assert sentences[0].startswith("One seed: no difference can be told from seed noise; with `--set 'seeds=[0, 1, 2]'")
    assert not any("gains" in sentence or "best beyond" in sentence for sentence in sentences)
    assert any(sentence.startswith("layers: all is 0.1") for sentence in sentences)
    assert ties(entries, RANK).least is None
    assert ties(entries, RANK).positions == tuple(range(6))
    assert half_width(0.1, 1, 1, 0) is None


def test_settings_of_one_method_alone_are_averaged_over_and_the_plain_one_is_the_reference():
    entries = [
        entry({"method": {"name": "mean_affinity"}, "inference.layers": layers}, [0.5, 0.6, 0.7], without_loss=True)
        for layers in LAYERS
    ]
    entries += [
        entry({"method": {"name": "aream"}, "method.alpha_low": low, "inference.layers": layers},
              [0.5 + low, 0.6 + low + 0.001, 0.7 + low], without_loss=False)
        for low in (0.1, 0.3) for layers in LAYERS
    ]  # fmt: skip
    effects = {effect.axis: effect for effect in axis_effects(entries, ["method", "method.alpha_low"], RANK)}
    (pair,) = effects["method"].pairs
    assert (pair.value, pair.over) == ("aream", "mean_affinity")
    assert pair.mean == pytest.approx(0.2 + 0.001 / 3)
    assert effects["method"].reference == "mean_affinity"
    assert effects["method.alpha_low"].pairs[0].mean == pytest.approx(0.2)


def test_less_is_better():
    rank = Goal(metric="train/loss", mode="min")
    entries = [
        entry({"train.lr": lr}, [loss, loss + 0.1, loss - 0.2], "train/loss") for lr, loss in ((1, 2.0), (2, 3.0))
    ]
    assert said(entries, ["train.lr"], rank)[0] == "lr: 1 is 1.000 ± 0.000 lower than 2, in 3 of 3 seeds."


def test_axes_that_never_vary_alone_have_no_effect_of_their_own():
    entries = [entry({"train.lr": number, "train.epochs": number}, [0.1 * number, 0.2]) for number in (1, 2, 3)]
    assert axis_effects(entries, ["train.lr", "train.epochs"], RANK) == []
    assert said(entries, ["train.lr", "train.epochs"])[0].startswith("lr and epochs: no effect of its own")


def without_seed(entry, *seeds):
    return {**entry, "per_seed": {seed: own for seed, own in entry["per_seed"].items() if seed not in seeds}}


def test_a_configuration_that_lacks_a_seed_is_told_from_none():
    entries = grid(refined)
    entries[5] = without_seed(entries[5], "2")
    assert 5 in ties(entries, RANK).positions
    assert 4 not in ties(entries, RANK).positions


def test_the_best_is_compared_at_the_seeds_that_it_has():
    entries = grid(refined)
    entries[0] = without_seed(entries[0], "1")
    cut = [without_seed(each, "1") for each in entries]
    assert ties(entries, RANK).least == ties(cut, RANK).least is not None
    assert ties(entries, RANK).positions == ties(cut, RANK).positions != tuple(range(6))
    entries[0] = without_seed(entries[0], "0")
    assert ties(entries, RANK).positions == tuple(range(6))
    assert "whether it is the best is not told" in said(entries)[-1]


def methods(seeds_of_plain):
    entries = [entry({"method": {"name": "aream"}, "inference.layers": layers},
                     [0.58 + 0.1 * seed + noise(layers, seed) for seed in range(3)]) for layers in LAYERS]  # fmt: skip
    return entries + [
        entry({"method": {"name": "mean_affinity"}, "inference.layers": layers},
              [0.5 + 0.1 * seed + noise(seed, layers) for seed in range(seeds_of_plain)]) for layers in LAYERS
    ]  # fmt: skip


def test_a_missing_seed_does_not_take_configurations_out_of_the_answer():
    entries = methods(2)
    sentences = said(entries, ["method", "inference.layers"])
    assert any(one.startswith("method: aream gains 0.0") and one.endswith("in 2 of 2 seeds.") for one in sentences)
    (told,) = [one for one in sentences if "lack" in one]
    assert told.startswith("3 of 6 configurations lack a seed (#4 seed 2, #5 seed 2 and #6 seed 2)")
    cut = [without_seed(each, "2") for each in entries]
    assert axis_effects(entries, ["method"], RANK) == axis_effects(cut, ["method"], RANK)
    assert not any("lack" in sentence for sentence in said(methods(3), ["method", "inference.layers"]))


def test_one_of_many_that_lacks_a_seed_costs_the_others_none():
    entries = methods(3)
    entries[5] = without_seed(entries[5], "0")
    kept = [each for each in entries if each["config"]["inference.layers"] != LAYERS[2]]
    assert axis_effects(entries, ["method"], RANK) == axis_effects(kept, ["method"], RANK)


def test_the_reason_that_an_axis_has_no_effect_is_true():
    sentences = said(methods(1), ["method", "inference.layers"])
    assert any(
        one.startswith("method: no effect of its own is told, since configurations that differ in it alone have fewer")
        for one in sentences
    )
    many = [entry({"train.lr": number}, [0.1, 0.2, 0.3]) for number in range(31)]
    assert said(many, ["train.lr"])[0].endswith("since axes of more than 30 values are not compared.")


def null_told(seeds, trainings, variants, shared=0.0, runs=400):
    """Share of sweeps without any difference in which some row is told from #1."""
    drawn, told = np.random.default_rng(3), 0
    for _ in range(runs):
        own = drawn.normal(size=(trainings, 1, seeds)) * math.sqrt(shared)
        scores = own + drawn.normal(size=(trainings, variants, seeds)) * math.sqrt(1 - shared)
        scores += 5 * drawn.normal(size=seeds)
        entries = [
            entry({"n": [place, variant]}, scores[place, variant].tolist(), training=f"train_cam-{place}")
            for place in range(trainings) for variant in range(variants)
        ]  # fmt: skip
        entries.sort(key=lambda each: -RANK.merit(each["metrics"]))
        told += len(ties(entries, RANK).positions) < len(entries)
    return told / runs


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "trainings"), [(3, 16), (5, 6), (3, 2)])
def test_noise_alone_seldom_tells_a_row_from_the_best(seeds, trainings):
    assert 0.02 <= null_told(seeds, trainings, 1) <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize("shared", [0.0, 0.5, 0.95])
def test_labels_of_one_training_are_no_trainings_of_their_own(shared):
    assert null_told(3, 4, 4, shared) <= 0.05


def test_the_least_difference_is_of_the_studentized_range_over_pairs_of_two_trainings():
    drawn = np.random.default_rng(0)
    scores = drawn.normal(size=(3, 2, 3))
    entries = [entry({"n": [t, v]}, scores[t, v].tolist(), training=f"train_cam-{t}") for t in range(3) for v in (0, 1)]
    entries.sort(key=lambda each: -RANK.merit(each["metrics"]))
    flat, trained = scores.reshape(6, 3), [0, 0, 1, 1, 2, 2]
    pairs = [pair for pair in itertools.combinations(range(6), 2) if trained[pair[0]] != trained[pair[1]]]
    variance = np.mean([np.var(flat[one] - flat[other], ddof=1) for one, other in pairs])
    expected = stats.studentized_range.ppf(0.95, 6, 2 * 2) * math.sqrt(variance / 2 / 3)
    assert ties(entries, RANK).least == pytest.approx(expected)


@pytest.mark.parametrize("count", [0, 1])
def test_none_and_one_configuration(count):
    entries = grid(refined)[:count]
    sentences = said(entries)
    assert sentences == (
        ["No answer: no configuration has a number for pseudo/miou."] if not count else [
            f"One configuration: pseudo-label mIoU {entries[0]['metrics']['pseudo/miou']:.4f}."
        ]
    )  # fmt: skip


def test_segmenters_are_compared_seed_by_seed():
    entries = grid(refined)
    for place, gain in ((0, 0.02), (5, 0.0)):
        for seed, own in entries[place]["per_seed"].items():
            own["seg/miou"] = 0.4 + 0.1 * int(seed) + gain + noise(place, seed) / 10
        entries[place]["metrics"]["seg/miou"] = sum(o["seg/miou"] for o in entries[place]["per_seed"].values()) / 3
    assert "A segmenter on the labels of #1: segmenter mIoU 0.5" in said(entries)[-1]
    assert "+0.02" in said(entries)[-1]
    assert "to those of #6, beyond seed noise." in said(entries)[-1]
