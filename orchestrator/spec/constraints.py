"""Constraints between keys, such as ``method.alpha_low < method.alpha_high``: parsed, checked, never eval()ed."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from aream.errors import ConfigError

MAX_LENGTH = 500
MAX_NODES = 100

ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
NEAREST_MISS = 1e-6
"""Violation of a constraint that is only just not met; above 0, so that it differs from a met one."""

COMPARISONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda item, group: item in group,
    ast.NotIn: lambda item, group: item not in group,
}


WORDS = {"true": True, "false": False, "null": None}
"""What YAML calls so, beside Python's own."""


class MissingKey(ConfigError):
    """A key that does not exist at a point, such as a setting of another method."""


@dataclass(frozen=True)
class Where:
    """One constraint; picklable, since it keeps its text and parses anew."""

    text: str

    def __post_init__(self) -> None:
        for _ in self.names():
            pass

    def names(self) -> Iterator[str]:
        """The dotted keys it reads."""
        yield from dict.fromkeys(_names(self._tree()))

    def holds(self, read: Callable[[str], Any]) -> bool:
        """True if the constraint is met; ``read`` gives the value of a key.

        Raises:
            ConfigError: values that cannot be compared or divided.
        """
        try:
            return bool(_value(self._tree(), read))
        except (TypeError, ZeroDivisionError, OverflowError) as error:
            given = ", ".join(f"{name} = {read(name)!r}" for name in self.names())
            raise ConfigError(f"{self.text!r} cannot be decided for {given}: {error}") from error

    def violation(self, read: Callable[[str], Any]) -> float:
        """0 where the constraint is met, else how far it is missed: what a sampler can follow into a narrow region.

        Each comparison of numbers counts their distance relative to their size, in (0, 1]; any other counts 1.

        Raises:
            ConfigError: values that cannot be compared or divided.
        """
        return 0.0 if self.holds(read) else max(_miss(self._tree(), read, wanted=True), NEAREST_MISS)

    def _tree(self) -> ast.expr:
        if len(self.text) > MAX_LENGTH:
            raise ConfigError(f"a constraint has at most {MAX_LENGTH} characters")
        try:
            tree = ast.parse(self.text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ConfigError(f"{self.text!r} is not an expression") from error
        if sum(1 for _ in ast.walk(tree)) > MAX_NODES:
            raise ConfigError(f"a constraint has at most {MAX_NODES} parts")
        _check(tree, self.text)
        return tree


def _check(node: ast.expr, text: str) -> None:
    """Refuse all but comparisons, and/or/not, + - * /, numbers, texts, lists and dotted keys."""
    children: list[ast.expr] = []
    if isinstance(node, ast.BoolOp):
        children = node.values
    elif isinstance(node, ast.Compare) and all(type(op) in COMPARISONS for op in node.ops):
        children = [node.left, *node.comparators]
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        children = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.UAdd):
        children = [node.operand]
    elif isinstance(node, ast.List | ast.Tuple):
        children = node.elts
    elif isinstance(node, ast.Attribute | ast.Name):
        _dotted(node, text)
    elif not (isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | None)):
        raise ConfigError(
            f"{text!r}: {ast.unparse(node)[:40]!r} is not allowed; constraints hold comparisons, and, or, not, "
            "+ - * /, numbers, texts, lists and keys"
        )
    for child in children:
        _check(child, text)


def _dotted(node: ast.expr, text: str) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and not node.attr.startswith("_"):
        return f"{_dotted(node.value, text)}.{node.attr}"
    raise ConfigError(f"{text!r}: {ast.unparse(node)[:40]!r} is not a key")


def _is_word(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in WORDS


def _names(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Attribute | ast.Name):
        yield from [] if _is_word(node) else [_dotted(node, "")]
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield from _names(child)


def _value(node: ast.expr, read: Callable[[str], Any]) -> Any:
    if isinstance(node, ast.BoolOp):
        results = (_value(part, read) for part in node.values)
        return all(results) if isinstance(node.op, ast.And) else any(results)
    if isinstance(node, ast.Compare):
        left = _value(node.left, read)
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            right = _value(comparator, read)
            if not COMPARISONS[type(op)](left, right):
                return False
            left = right
        return True
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, read), _value(node.right, read)
        if isinstance(left, str | list | tuple) or isinstance(right, str | list | tuple):
            raise TypeError("arithmetic needs numbers")
        return ARITHMETIC[type(node.op)](left, right)
    if isinstance(node, ast.UnaryOp):
        value = _value(node.operand, read)
        return not value if isinstance(node.op, ast.Not) else -value if isinstance(node.op, ast.USub) else +value
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item, read) for item in node.elts]
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and _is_word(node):
        return WORDS[node.id]
    return read(_dotted(node, ""))


def _miss(node: ast.expr, read: Callable[[str], Any], *, wanted: bool) -> float:
    """The distance of an expression from the wanted truth value; 0 if it has that value."""
    if isinstance(node, ast.BoolOp):
        parts = [_miss(part, read, wanted=wanted) for part in node.values]
        return sum(parts) if isinstance(node.op, ast.And) is wanted else min(parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return _miss(node.operand, read, wanted=not wanted)
    try:
        if bool(_value(node, read)) is wanted:
            return 0.0
        if not isinstance(node, ast.Compare):
            return 1.0
        values = [_value(part, read) for part in (node.left, *node.comparators)]
    except (TypeError, ZeroDivisionError, OverflowError):  # of a part that and/or left out
        return 1.0
    if not wanted:
        return NEAREST_MISS
    pairs = zip(values, node.ops, values[1:], strict=False)
    return sum(_distance(left, right) for left, op, right in pairs if not COMPARISONS[type(op)](left, right))


def _distance(left: Any, right: Any) -> float:
    if not isinstance(left, int | float) or not isinstance(right, int | float):
        return 1.0
    return max(abs(left - right) / max(abs(left) + abs(right), NEAREST_MISS), NEAREST_MISS)
