"""Findings about the files of a dataset: one account of them, which ``build`` raises and a check goes on with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from aream.errors import DataError, DataUnavailable

MOST_PROBLEMS = 20
"""Problems of a kind that are kept in words, and lines of an error; the rest is counted."""

SPLITS = ("train", "val")
Check = Literal["root", "lists", "images", "masks", "labels", "label maps"]


@dataclass
class Finding:
    check: Check
    split: str
    """Name of the split; empty: no split's own."""
    kind: str
    """Words for what the cases have in common."""
    hard: bool
    """True if training on the data would fail, or be wrong; else it is only worth knowing."""
    count: int = 0
    examples: list[str] = field(default_factory=list)
    """The first few in words, each with its file or id."""

    @property
    def where(self) -> str:
        """Place in words, such as ``labels, train: images have no class``."""
        return f"{self.check}, {self.split}: {self.kind}" if self.split else f"{self.check}: {self.kind}"


@dataclass
class Looked:
    """Part of a split that a check has seen."""

    check: Check
    split: str
    count: int
    total: int


class Findings:
    """Findings in the order their kinds were first met; ``strict`` ones are raised by :meth:`settle`."""

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.looked: list[Looked] = []
        self.notes: list[tuple[Check, str, str]] = []
        """Check, split and what is neither right nor wrong: which list was read, say."""
        self.left_out: dict[str, str] = {}
        """Image file -> why the dataset is without it; all of them, where findings keep the first few."""
        self._kinds: dict[tuple[Check, str, str], Finding] = {}

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._kinds.values())

    @property
    def hard(self) -> bool:
        return any(finding.hard for finding in self)

    def add(self, check: Check, kind: str, words: str | DataError, split: str = "", *, hard: bool = True) -> None:
        """
        Raises:
            DataUnavailable: these are strict, and ``words`` is one: it tells nothing about the data.
        """
        if self.strict and isinstance(words, DataUnavailable):
            raise words
        finding = self._kinds.setdefault((check, split, kind), Finding(check, split, kind, hard))
        finding.count += 1
        if len(finding.examples) < MOST_PROBLEMS:
            finding.examples.append(str(words))

    def leave_out(self, check: Check, kind: str, image: str, words: str = "") -> None:
        """Tell of an image file that the dataset is without, though nothing is wrong with the rest.

        Args:
            words: more about it than its name.
        """
        self.left_out[image] = kind
        self.add(check, kind, words or image, hard=False)

    def settle(self) -> None:
        """Nothing, or where these are strict and hard:

        Raises:
            DataError: of the first problems in words, and how many there are beside them.
        """
        if not (self.strict and self.hard):
            return
        hard = [finding for finding in self if finding.hard]
        each = max(1, MOST_PROBLEMS // len(hard))  # of every kind, before there are many of one
        lines = [f"{finding.where}: {words}" for finding in hard for words in finding.examples[:each]]
        more = sum(finding.count for finding in hard) - len(lines)
        raise DataError("\n".join([*lines, *([f"and {more} more"] if more else [])]))
