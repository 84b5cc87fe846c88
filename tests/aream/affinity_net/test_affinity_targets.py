from __future__ import annotations

import numpy as np
import psa_oracles
import pytest
import torch

from aream.affinity_net.network import affinities
from aream.affinity_net.targets import (
    AffinityScores,
    affinity_loss,
    affinity_terms,
    class_scores,
    pair_kinds,
    position_labels,
)
from aream.errors import ConfigError


def test_labels_follow_the_rules_position_by_position():
    rng = np.random.default_rng(0)
    scores = rng.random((2, 3, 24, 40)).astype(np.float32)
    scores[0, 0] += 0.02  # so that each rule decides somewhere
    scores[:, :, :, 32:] = 0
    found = position_labels(torch.tensor(scores), 8).numpy()
    np.testing.assert_array_equal(found, psa_oracles.position_labels(scores.astype(float), 8))
    assert {0, 1, 255} <= set(found.ravel().tolist())
    assert (found[:, 4] == 255).all()


@pytest.mark.parametrize(
    ("low", "high", "label"),
    [
        ((0.1, 0.9), (0.1, 0.9), 1),
        ((0.9, 0.1), (0.9, 0.1), 0),
        ((0.9, 0.1), (0.1, 0.9), 255),
        ((0.0, 0.0), (0.0, 0.0), 255),
    ],
    ids=["surely the class", "surely background", "unsure", "padding"],
)
def test_each_rule(low, high, label):
    scores = torch.tensor([low, high])[:, :, None, None].expand(-1, -1, 8, 8)
    assert position_labels(scores, 8).tolist() == [[label]]


IMAGE = torch.zeros(3, 1, 2, dtype=torch.uint8)


def test_scores_against_powers_and_constants():
    cams = torch.tensor([[[0.5, 0.2]], [[0.1, 0.0]]])
    power = class_scores(IMAGE, cams, AffinityScores(scores="plain", alpha_low=1.0, alpha_high=3.0))
    torch.testing.assert_close(power[:, 0], torch.tensor([[[0.5, 0.8]], [[0.125, 0.512]]]))
    assert torch.equal(power[:, 1:], torch.stack([cams, cams]))
    constant = class_scores(IMAGE, cams, AffinityScores(scores="plain", background="constant"))
    torch.testing.assert_close(constant[:, 0], torch.tensor([[[0.6, 0.6]], [[0.25, 0.25]]]))


@pytest.mark.parametrize("scores", ["crf", "crf_labels"])
def test_the_crf_moves_labels_to_the_edges_of_the_image(scores):
    """The CAM spills over the object by eight columns, 12 % of the image; labels end where the colour does."""
    image = torch.full((3, 24, 32), 200, dtype=torch.uint8)
    image[:, 6:18, 8:24] = 30
    cams = torch.zeros(1, 24, 32)
    cams[0, 6:18, 4:28] = 0.8
    low, high = class_scores(image, cams, AffinityScores(scores=scores, alpha_high=2.0))
    torch.testing.assert_close(low.sum(dim=0), torch.ones(24, 32))
    for found in (low, high):
        assert ((found.argmax(dim=0) == 1) == (image[0] == 30)).float().mean() > 0.98


@pytest.mark.parametrize("scores", ["crf", "crf_labels", "plain"])
def test_an_image_without_classes_is_background(scores):
    found = class_scores(IMAGE, torch.zeros(0, 1, 2), AffinityScores(scores=scores))
    assert found.shape == (2, 1, 1, 2)
    assert position_labels(found.repeat(1, 1, 8, 4), 8).tolist() == [[0]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alpha_low": 13.0}, "alpha_low, alpha_high: need 0 < alpha_low <= alpha_high"),
        ({"constant_high": 0.7}, "constant_low, constant_high"),
    ],
)
def test_alphas_in_the_wrong_order_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        AffinityScores(**values)


def case(seed: int, labels: torch.Tensor) -> tuple[torch.Tensor, list[dict]]:
    features = np.random.default_rng(seed).normal(size=(len(labels), 4, *labels.shape[1:]))
    return torch.tensor(features), [psa_oracles.affinities(image) for image in features]


LABELS = {
    "mixed": torch.from_numpy(np.random.default_rng(1).choice([0, 1, 2, 255], size=(2, 6, 11))),
    "no foreground": torch.zeros(2, 6, 11, dtype=torch.int64),
    "one class": torch.full((2, 6, 11), 1),
    "all ignored": torch.full((2, 6, 11), 255),
    "no pair": torch.ones(2, 4, 8, dtype=torch.int64),
}


@pytest.mark.parametrize("name", LABELS)
def test_loss_against_a_loop_over_pairs(name):
    features, values = case(0, LABELS[name])
    features.requires_grad_()
    loss = affinity_loss(affinity_terms(affinities(features), pair_kinds(LABELS[name])))
    assert loss.item() == pytest.approx(psa_oracles.loss(values, LABELS[name].numpy()), rel=1e-12, abs=1e-15)
    loss.backward()
    assert torch.isfinite(features.grad).all()
    assert (loss.item() == 0) == (name in ("all ignored", "no pair"))


def test_gradient_of_the_loss():
    kinds = pair_kinds(LABELS["mixed"])
    values = torch.rand(2, 34, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: affinity_loss(affinity_terms(a, kinds)), values)


def test_parts_of_a_batch_add_up_to_it():
    features, _ = case(2, LABELS["mixed"])
    kinds, found = pair_kinds(LABELS["mixed"]), affinities(features)
    counts = kinds.sum(dim=(0, 2, 3, 4))
    parts = [affinity_terms(found[i : i + 1], kinds[i : i + 1], counts) for i in range(2)]
    torch.testing.assert_close(parts[0] + parts[1], affinity_terms(found, kinds))


def test_affinities_of_zero_and_one_have_a_finite_loss():
    kinds = pair_kinds(LABELS["mixed"])
    for value in (0.0, 1.0):
        assert torch.isfinite(affinity_terms(torch.full((2, 34, 2, 3), value), kinds)).all()
