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
        """Whether the constraint is met where ``read`` gives the value of a key.

        Raises:
            ConfigError: values that cannot be compared or divided so.
        """
        try:
            return bool(_value(self._tree(), read))
        except (TypeError, ZeroDivisionError, OverflowError) as error:
            given = ", ".join(f"{name} = {read(name)!r}" for name in self.names())
            raise ConfigError(f"{self.text!r} cannot be decided for {given}: {error}") from error

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


def _names(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Attribute | ast.Name):
        yield _dotted(node, "")
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
    return read(_dotted(node, ""))
