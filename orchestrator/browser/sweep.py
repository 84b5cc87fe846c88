"""A sweep as the browser shows it: its label sets, its images, and what is measured of them."""

from __future__ import annotations

import threading
from typing import Any

from aream.errors import ConfigError
from orchestrator.browser.configurations import Configuration, configurations, running
from orchestrator.browser.labelled import UNCERTAIN, Labelled
from orchestrator.browser.measures import Measurer, Measures, Row
from orchestrator.results.dataset import open_dataset
from orchestrator.workspace import Workspace
from workers.artifacts.record import check_key
from workers.files.labels import PALETTE

FOLDER = "browser"
"""Of a sweep's folder, for what was measured."""


class BrowsedSweep:
    def __init__(self, workspace: Workspace) -> None:
        """Open a sweep that has been started.

        Raises:
            AreamError: it has not, it has no labels yet, or its data are not here.
        """
        self.workspace, self.store = workspace, workspace.store()
        self.dataset = open_dataset(workspace.folder)
        self.measurer = Measurer()
        self.opened: dict[str, Labelled] = {}
        self.measured: dict[tuple[str, ...], Measures] = {}
        self.changing = threading.Lock()
        self.known: dict[str, Configuration] = {}
        self.listed: dict[str, dict[str, Any]] = {}
        for first in self.look()[:1]:  # what the page shows first is at hand when somebody comes
            self.images(first.key)

    def look(self) -> list[Configuration]:
        """The label sets there are by now."""
        found = configurations(self.workspace, self.store)
        self.known = {one.key: one for one in found}
        return found

    def describe(self) -> dict[str, Any]:
        names = ["background", *self.dataset.class_names]
        colors = [
            "#" + "".join(f"{part:02x}" for part in PALETTE[3 * index : 3 * index + 3]) for index in range(len(names))
        ]
        return {
            "name": self.workspace.name,
            "running": running(self.workspace),
            "uncertain": UNCERTAIN,
            "classes": [{"id": index, "name": name, "color": colors[index]} for index, name in enumerate(names)],
            "configurations": [one.to_json() for one in self.look()],
        }

    def labelled(self, key: str) -> Labelled:
        """
        Raises:
            KeyError: the sweep has no such labels.
            ArtifactNotFound: they were deleted from the store.
        """
        with self.changing:
            if key not in self.opened:
                self.opened[key] = Labelled(self.known[check_key(key)], self.store, self.dataset)
            return self.opened[key]

    def images(self, key: str) -> dict[str, Any]:
        """Ids, and of each the mask ids of the classes it is labelled with."""
        if key not in self.listed:
            ids = self.labelled(key).ids
            present = [[int(index) + 1 for index in self.dataset.labels(image_id).nonzero()[0]] for image_id in ids]
            self.listed[key] = {"ids": ids, "classes": present}
        return self.listed[key]

    def measures(self, key: str, other: str | None) -> Measures:
        """Of each image its IoU (None without a mask) and uncertain share; with ``other``, the share of pixels in which
        two label sets differ."""
        labelled = self.labelled(key)
        name = (key,) if other is None else tuple(sorted((key, other)))
        second = None if other is None else self.labelled(other)
        ids = labelled.ids  # which may have to be fetched, while others ask for what is here
        if second is not None and second.ids != ids:
            raise ConfigError(f"other: {other} labels other images than {key}")
        with self.changing:
            if name not in self.measured:
                file = self.workspace.folder / FOLDER / f"{'-'.join(name)}.json"

                def measure(image_id: str) -> Row:
                    labels = labelled.labels(image_id)
                    if second is not None:
                        return [_difference(labels, second.labels(image_id))]
                    agreement = labelled.agreement(image_id, labels)
                    return [None if agreement is None else agreement["iou"], labelled.uncertainty(image_id)]

                self.measured[name] = Measures(ids, measure, file)
            measures = self.measured[name]
        self.measurer.want(measures)
        return measures


def _difference(one: Any, other: Any) -> float:
    return round(float((one != other).mean()), 4)
