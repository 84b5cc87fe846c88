"""A sweep's input from outside its store, and the digests that identify it: data, weights, labels made elsewhere.

A node that has read some content keeps what it found in a file, so that the next sweep there need not read gigabytes
again. That trusts the node's own cache folder, and that a file holds what it held where its path, its size and its
times of modification and of change (which few file systems let a program set back) are as they were. The driver does so
too; ``--reread`` trusts nothing and reads.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aream.config import Component
from workers.checks.dataset import data_identity, labels_identity
from workers.components import fingerprint_backbone, fingerprint_refiner, fingerprint_segmenter
from workers.processes.atomic_write import write_json
from workers.processes.provenance import source_digest
from workers.staging.cache import staging_folder
from workers.staging.locations import local_path, locations

log = logging.getLogger(__name__)

FOLDER = "fingerprints"


@dataclass(frozen=True)
class Content:
    key: Literal["data", "backbone.weights", "segmentation.model.weights", "segmentation.labels", "labels.refiner"]
    """Key of the sweep file."""
    component: Component
    """The dataset, also that of labels; the backbone, segmenter, or refiner with a network."""
    labels: str | None = None
    """Folder of labels made elsewhere."""

    @property
    def column(self) -> Literal["data", "weights"]:
        return "data" if self.key in ("data", "segmentation.labels") else "weights"

    @property
    def locations(self) -> list[str]:
        """Places of its files; empty for what is drawn or random: the same wherever the code is."""
        return [self.labels] if self.labels else list(locations(self.component))

    def local_paths(self) -> list[str]:
        return [local_path(place) for place in self.locations]

    def identity(self) -> str:
        """Read all of it, on this machine.

        Raises:
            AreamError: it cannot be used.
        """
        if self.labels is not None:
            return labels_identity(self.labels, self.component)
        if self.key == "data":
            return data_identity(self.component)
        fingerprint = {
            "backbone.weights": fingerprint_backbone,
            "segmentation.model.weights": fingerprint_segmenter,
            "labels.refiner": fingerprint_refiner,
        }[self.key]
        return fingerprint(self.component)

    def remembered_identity(self, *, reread: bool = False) -> str:
        """The same, read only where something changed since this machine last read it, or where ``reread`` asks so."""
        if not self.locations:
            return self.identity()
        known = {} if reread else self._known()
        try:
            listing = self._listing()  # before it is read: what changes meanwhile is read again next time
        except OSError as error:
            return self._unremembered(self.identity(), error)
        if "identity" in known and known.get("listing") == listing:
            return str(known["identity"])
        identity = self.identity()
        try:
            self.remember(identity, listing)
        except OSError as error:
            return self._unremembered(identity, error)
        return identity

    def _unremembered(self, identity: str, error: OSError) -> str:
        log.warning("what %s is will be read again next time: %s", self.key, error)
        return identity

    def _known(self) -> dict[str, str]:
        """Empty where nothing is remembered, or the file is damaged: then it is read again."""
        try:
            known = json.loads(self._file().read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return known if isinstance(known, dict) else {}

    def remember(self, identity: str, listing: str | None = None) -> None:
        """``listing``: of its files before they were read; None: as they are."""
        write_json(self._file(), {"listing": listing or self._listing(), "identity": identity})

    def _file(self) -> Path:
        """One a content and place, so that a new version takes the place of the old."""
        what = [source_digest(), self.key, repr(self.component), self.local_paths()]
        return staging_folder() / FOLDER / f"{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]}.json"

    def _listing(self) -> str:
        digest = hashlib.sha256()
        for place in map(local_path, [*locations(self.component), *([self.labels] if self.labels else [])]):
            digest.update(f"{place}\n".encode())
            for line in _listed(Path(place), set()):
                digest.update(line)
        return digest.hexdigest()


def _listed(path: Path, above: set[tuple[int, int]]) -> Iterator[bytes]:
    """A line a file, links followed; nothing for what is missing."""
    try:
        found = path.stat()
    except OSError:
        return
    if not path.is_dir():
        yield f"{path} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}\n".encode(errors="surrogateescape")
    elif (found.st_dev, found.st_ino) not in above:  # else a link that leads in a circle
        for name in sorted(os.listdir(path)):
            yield from _listed(path / name, {*above, (found.st_dev, found.st_ino)})
