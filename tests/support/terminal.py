"""A terminal that a program draws on, and what is then seen on it."""

from __future__ import annotations

import codecs
import fcntl
import io
import os
import re
import select
import struct
import termios
from types import TracebackType

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

PART = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\r\n]|[^\x1b\r\n]+|\x1b")
FONT = re.compile(r"@font-face\s*\{[^}]*\}")
"""Rich's pictures would fetch theirs."""


class Terminal:
    """A pseudo-terminal of a given size. ``inside`` is the file descriptor for the program's streams."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns = columns
        self.outside, self.inside = os.openpty()
        fcntl.ioctl(self.inside, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.lines, self.row = [""], 0
        """With their colours; a program that draws anew moves up and erases whole lines."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._left = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.inside)
        os.close(self.outside)

    def read(self, wait_s: float) -> None:
        """Take in what was drawn, waiting for it no longer than that."""
        while select.select([self.outside], [], [], wait_s)[0]:
            self._take(self._decoder.decode(os.read(self.outside, 1 << 16)))
            wait_s = 0.05

    @property
    def text(self) -> list[str]:
        return [Text.from_ansi(line).plain for line in self.lines]

    def too_wide(self) -> list[str]:
        return [line for line in self.text if cell_len(line) > self.columns]

    def svg(self, title: str) -> str:
        """A picture that asks for nothing from elsewhere."""
        console = Console(
            record=True, width=self.columns, file=io.StringIO(), force_terminal=True, color_system="truecolor"
        )
        for line in self.lines[: 1 + max(at for at, text in enumerate(self.text) if text.strip())]:
            console.print(Text.from_ansi(line), soft_wrap=True)
        return FONT.sub("", console.export_svg(title=title))

    def _take(self, text: str) -> None:
        text, self._left = self._left + text, ""
        if (begun := re.search(r"\x1b(\[[0-9;?]*|\][^\x07\x1b]*)?$", text)) is not None:
            text, self._left = text[: begun.start()], text[begun.start() :]
        for part in PART.finditer(text):
            sign = part[2]
            if part[0] == "\n":
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif sign == "A":
                self.row = max(0, self.row - int(part[1] or 1))
            elif sign == "K":
                self.lines[self.row] = ""
            elif sign == "m" or not part[0].startswith(("\x1b", "\r")):
                self.lines[self.row] += part[0]
