"""Texts for people."""

from __future__ import annotations

import pytest

from orchestrator.text import first_sentence, many, short_titles


@pytest.mark.parametrize(
    ("text", "first", "rest"),
    [
        ("", "", ""),
        ("Which alphas?", "Which alphas?", ""),
        ("Which alphas? Cost: an hour.", "Which alphas?", "Cost: an hour."),
        ("On a ViT. Which alphas? Cost.", "On a ViT. Which alphas?", "Cost."),
        ("Alphas of 0.35 on v1.2. Cost: an hour.", "Alphas of 0.35 on v1.2.", "Cost: an hour."),
        ("no end", "no end", ""),
        ("http://host/?a=1 is no question. Is it? It is.", "http://host/?a=1 is no question. Is it?", "It is."),
    ],
)
def test_the_first_sentence_or_question_is_told_from_the_rest(text, first, rest):
    assert first_sentence(text) == (first, rest)


@pytest.mark.parametrize(
    ("titles", "short"),
    [
        (["method=aream, method.alpha_low=0.05, seed=0"], ["method=aream, alpha_low=0.05, seed=0"]),
        (["#1 inference.layers=[0,3], seed=1"], ["#1 layers=[0,3], seed=1"]),
        (["train.lr=1, segmentation.train.lr=2", "train.lr=3"], ["train.lr=1, segmentation.train.lr=2", "train.lr=3"]),
        (["method=plus(parts=[aream(a.b=1)]), seed=0"], ["method=plus(parts=[aream(a.b=1)]), seed=0"]),
        (["warmup-d792735015dd855b", "base", ""], ["warmup-d792735015dd855b", "base", ""]),
    ],
)
def test_titles_have_the_short_names_of_their_axes(titles, short):
    assert short_titles(titles) == short


def test_one_is_told_from_many():
    assert [many(count, noun) for count in (0, 1, 2) for noun in ("training", "class")] == [
        "0 trainings", "0 classes", "1 training", "1 class", "2 trainings", "2 classes"
    ]  # fmt: skip
