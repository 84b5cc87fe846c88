"""Errors, as one tree. Every message says what, where, what was given and what is allowed.

AreamError
├── ConfigError        a value the user wrote is impossible, alone or with its neighbours
├── DataError          an image, mask, list, label file or checkpoint cannot be used; names the file
│   └── DataUnavailable    it cannot be read at the moment: a machine, disk or network is at fault
├── DamagedFile        a file that a sweep goes on from is damaged; says what it holds and how to go on
├── DivergedError      a loss or gradient became NaN or infinite; names the step and the images of its batch
├── OutOfMemory        memory does not hold a training step; names its sizes and what to change
├── ArtifactNotFound   no complete artifact has this key
├── ArtifactCorrupt    an artifact's bytes differ from its record
├── StoreUnavailable   the artifact store does not answer, or has no space left
├── StageHeld          another process computes this stage right now
├── Interrupted        a stage was asked to stop; its checkpoint stays
└── StageFailed        a stage raised; carries the stage's key
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

KEYED = re.compile(r"[a-z_]+(\[\d+\])?(, [a-z_]+)*: ")
"""Begins a message about a key of a section."""


class AreamError(Exception):
    """Root of everything this project raises on purpose."""


class ConfigError(AreamError, ValueError):
    """A configured value is impossible. ``ValueError`` too, so that pydantic reports it with its key."""


class DataError(AreamError):
    """An input file cannot be used; the message names it."""


class DataUnavailable(DataError):
    """An input file cannot be read because of a machine, disk or network; another try may go better."""


class DamagedFile(AreamError):
    """A file that a sweep goes on from cannot be read; the message says what it holds and how to go on."""


class DivergedError(AreamError):
    """A loss, gradient or score became NaN or infinite."""


class OutOfMemory(AreamError):
    """Memory does not hold a training step."""


class ArtifactNotFound(AreamError, KeyError):
    """No complete artifact has this key."""

    def __str__(self) -> str:  # KeyError would print the message quoted
        return str(self.args[0]) if self.args else ""


class ArtifactCorrupt(AreamError):
    """The bytes of an artifact are not those its record lists."""


class StoreUnavailable(AreamError):
    """The artifact store does not answer, or has no space left."""


class StageHeld(AreamError):
    """Raised where another process computes this stage right now; ask again later."""

    def __init__(self, key: str, holder: str) -> None:
        super().__init__(key, holder)
        self.key, self.holder = key, holder

    def __str__(self) -> str:
        return f"{self.key}: being computed by {self.holder}"


class Interrupted(AreamError):
    """A stage was asked to stop; its checkpoint stays, so that it can go on later."""


class StageFailed(AreamError):
    """A stage raised, for a reason of its own."""

    def __init__(self, key: str, cause: str) -> None:
        super().__init__(key, cause)
        self.key, self.cause = key, cause

    def __str__(self) -> str:
        return f"{self.key}: {self.cause}"


@contextlib.contextmanager
def within(section: str) -> Iterator[None]:
    """A configured value that the body refuses by its own key is told by the section's too: ``backbone.vit: ...``."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{section}{'.' if KEYED.match(str(error)) else ': '}{error}") from error
