from __future__ import annotations

import ast

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aream.errors import ConfigError
from orchestrator.spec.constraints import Where

VALUES = {"a.x": 0.25, "a.y": 0.5, "layers": "all", "n": 3, "flip": True, "nothing": None}

numbers = st.sampled_from(["a.x", "a.y", "n", "1", "2.5", "0"])
terms = st.recursive(
    numbers, lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner), max_leaves=4
)
comparisons = st.builds("{} {} {}".format, terms, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), terms)
expressions = st.recursive(
    comparisons,
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner),
    max_leaves=4,
)


class Section:
    x, y = 0.25, 0.5


@given(expressions)
def test_means_what_python_means(text):
    assume(len(text) <= 500 and sum(1 for _ in ast.walk(ast.parse(text))) <= 100)
    expected = eval(text, {"a": Section, "n": 3})  # the oracle, on expressions made here
    assert Where(text).holds(VALUES.__getitem__) is bool(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layers in ['all', 'deep']", True),
        ("layers not in ['deep']", True),
        ("not a.x < a.y", False),
        ("0 < a.x < a.y < 1", True),
        ("a.y - a.x >= 0.25", True),
        ("flip == true and flip == True", True),
        ("false == flip", False),
        ("nothing == null and not nothing in [false]", True),
    ],
)
def test_constructs(text, expected):
    assert Where(text).holds(VALUES.__getitem__) is expected


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "a.__class__ == 1",
        "(lambda: 1)() == 1",
        "[x for x in 'ab'] == 1",
        "2 ** 9 ** 9 ** 9 > 1",
        "'a' % 1",
        "a[0] == 1",
        "f'{a}' == ''",
        "a := 1",
        "1 if a else 2",
        "a ==",
        "",
        "a\x00",
        "(" * 300 + "1" + ")" * 300,
        "+".join(["1"] * 200) + " > 0",
        "x" * 600,
    ],
)
def test_everything_else_is_refused(text):
    with pytest.raises(ConfigError):
        Where(text)


@pytest.mark.parametrize("text", ["n / 0 > 1", "layers < 1", "layers + 'x' == 'allx'", "n in 3"])
def test_undecidable_values_are_named(text):
    with pytest.raises(ConfigError, match="cannot be decided for"):
        Where(text).holds(VALUES.__getitem__)


@given(expressions)
def test_a_violation_is_zero_exactly_where_the_constraint_holds(text):
    assume(len(text) <= 500 and sum(1 for _ in ast.walk(ast.parse(text))) <= 100)
    where = Where(text)
    assert (where.violation(VALUES.__getitem__) == 0) is where.holds(VALUES.__getitem__)


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("x < y", {"x": 0.31, "y": 0.3}, {"x": 0.9, "y": 0.3}),
        ("x == 4", {"x": 5}, {"x": 50}),
        ("x < y and y < z", {"x": 2, "y": 1, "z": 3}, {"x": 2, "y": 1, "z": 0.5}),
        ("x < 1 or y < 1", {"x": 1.1, "y": 9}, {"x": 5, "y": 9}),
    ],
)
def test_a_nearer_point_is_a_smaller_violation(text, near, far):
    where = Where(text)
    assert 0 < where.violation(near.__getitem__) < where.violation(far.__getitem__)


def test_a_part_that_cannot_be_decided_after_one_that_fails_counts_whole():
    assert Where("n > 5 and 1 / z > 2").violation({"n": 4, "z": 0}.__getitem__) > 1
