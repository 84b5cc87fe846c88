"""A table that leaves columns out where a terminal is too narrow for all of them, and says which."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table

WIDE = 10_000
"""Characters of a line where nothing bounds it, as in a file."""


@dataclass(frozen=True)
class FittedTable:
    make: Callable[[Collection[str]], Table]
    """Makes the table without the columns of these names; a column that may be folded has ``overflow="fold"``."""
    spare: Sequence[str]
    """Names of columns, those that are missed least first."""
    least: int
    """Narrower than this no column is folded while others can be left out."""
    elsewhere: str = ""
    """Where what is left out can be read."""
    empty: Collection[str] = ()
    """Names of columns in which nothing stands: nobody misses them."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        left_out: list[str] = []
        table = self.make(left_out)
        for name in self.spare:
            if self._needs(table, console, options) <= options.max_width:
                break
            left_out.append(name)
            table = self.make(left_out)
        if missed := [name for name in left_out if name not in self.empty]:
            table.caption = f"no room for {', '.join(missed)}{self.elsewhere}"
            table.caption_justify = "left"
        yield table

    def _needs(self, table: Table, console: Console, options: ConsoleOptions) -> int:
        folding = [column for column in table.columns if column.overflow == "fold"]
        for column in folding:
            column.max_width = self.least
        found = Measurement.get(console, options.update(width=WIDE), table).maximum
        for column in folding:
            column.max_width = None
        return found
