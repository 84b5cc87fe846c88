"""Checks whose answer a GPU still has to compute: asked after some steps, and before anything is kept of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool
from torch import Tensor

MOST = 32
"""Checks that may wait for an answer: as many steps are lost at most where one fails."""


class PendingChecks:
    """On a CPU each is answered at once; a GPU would stand still for every answer."""

    def __init__(self, device: torch.device) -> None:
        self.most = 1 if device.type == "cpu" else MOST
        self.waiting: list[tuple[Bool[Tensor, ""], Callable[[], Exception]]] = []

    def add(self, holds: Bool[Tensor, ""], otherwise: Callable[[], Exception]) -> None:
        """
        Raises:
            Exception: of the first check that does not hold, where it is time to ask.
        """
        self.waiting.append((holds, otherwise))
        if len(self.waiting) >= self.most:
            self.settle()

    def settle(self) -> None:
        """Ask all that wait.

        Raises:
            Exception: of the first that does not hold.
        """
        waiting, self.waiting = self.waiting, []
        if not waiting:
            return
        for answer, (_, otherwise) in zip(torch.stack([holds for holds, _ in waiting]).tolist(), waiting, strict=True):
            if not answer:
                raise otherwise()
