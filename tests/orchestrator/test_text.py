"""Texts for people."""

from __future__ import annotations

import pytest

from orchestrator.text import first_sentence


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
