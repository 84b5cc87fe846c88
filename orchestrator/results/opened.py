"""A sweep's results for reading in Python: tables as pandas frames, pseudo-labels and CAMs as arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from aream.data.dataset import Dataset
from aream.errors import AreamError, ConfigError, DataError
from orchestrator.results.dataset import open_dataset
from orchestrator.text import shown_beside
from orchestrator.workspace import Workspace
from workers.artifacts.record import ArtifactRecord
from workers.files.cams import StoredCams
from workers.files.figures import FIGURES_FILE, parse_figures
from workers.files.labels import read_labels
from workers.stages.pseudo_label import LABELS_FOLDER, TOGETHER_BY

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class LabelledImage:
    """One train image with what a configuration made of it."""

    image: Image.Image
    cam: Mapping[str, Float32[np.ndarray, "height width"]]
    """Class name -> its CAM in [0, 1], refined by the configuration's layers."""
    labels: UInt8[np.ndarray, "height width"]
    """Background 0, classes from 1, ignore 255."""
    truth: UInt8[np.ndarray, "height width"] | None
    """None where the dataset has no mask of it."""


class Results:
    """A ranked sweep. Ranks count from 1, the best; of several seeds, the best one is meant where none is named."""

    def __init__(self, workspace: Workspace) -> None:
        """Read the sweep's summary.

        Raises:
            AreamError: there is none yet, or it cannot be read.
        """
        self.workspace, self.store = workspace, workspace.store()
        try:
            self.content: dict[str, Any] = json.loads(workspace.summary_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise AreamError(f"{workspace.summary_file}: the sweep has no results yet") from None
        except ValueError as error:
            raise AreamError(f"{workspace.summary_file}: cannot be read ({error}); run the sweep again") from error

    def __repr__(self) -> str:
        return f"<Results of {self.content['name']}: {len(self.content['ranking'])} configurations>"

    @property
    def failures(self) -> dict[str, str]:
        """Stage or trial key -> why it failed."""
        return dict(self.content["failures"])

    def table(self, *, per_seed: bool = False) -> pandas.DataFrame:
        """A row a configuration, best first: its axes, the mean of every metric and, as ``METRIC std``, its sample
        standard deviation over seeds; or a row a configuration and seed."""
        import pandas

        entries = self.content["ranking"]
        texts = shown_beside([entry["config"] for entry in entries])
        rows = []
        for rank, (entry, shown) in enumerate(zip(entries, texts, strict=True), start=1):
            if per_seed:
                rows += [{"rank": rank, **shown, "seed": int(s), **found} for s, found in entry["per_seed"].items()]
            else:
                spread = {f"{name} std": value for name, value in entry["spread"].items()}
                rows.append({"rank": rank, **shown, "seeds": len(entry["seeds"]), **entry["metrics"], **spread})
        return pandas.DataFrame(rows, columns=None if rows else ["rank"]).set_index("rank")

    def labels(self, rank: int = 1, seed: int | None = None) -> Iterator[tuple[str, UInt8[np.ndarray, "height width"]]]:
        """Image ids with their pseudo-labels: background 0, classes from 1, ignore 255.

        Raises:
            ConfigError: no such rank or seed.
            ArtifactNotFound: the labels were deleted from the store.
        """
        folder = self.store.get(self._label_record(rank, seed).key) / LABELS_FOLDER
        return ((path.stem, read_labels(path)) for path in sorted(folder.glob("*.png")))

    def image(self, image_id: str, rank: int = 1, seed: int | None = None) -> LabelledImage:
        """A train image with its CAM, pseudo-label and mask.

        Raises:
            ConfigError: no such rank or seed.
            DataError: no train image of that id has a CAM.
            ArtifactNotFound: labels or CAMs were deleted from the store.
        """
        record = self._label_record(rank, seed)
        stored = StoredCams(self.store.get(record.inputs[TOGETHER_BY]))
        if image_id not in stored.entries:
            first = ", ".join(list(stored)[:3])
            raise DataError(f"{image_id[:80]!r}: no train image of that id has a CAM; the first are {first}")
        cams, names = stored[image_id], self._dataset.class_names
        maps = zip(cams.classes, cams.combine(record.config["layers"]), strict=True)
        return LabelledImage(
            self._dataset.image(image_id),
            {names[index]: cam for index, cam in maps},
            read_labels(self.store.get(record.key) / LABELS_FOLDER / f"{image_id}.png"),
            self._dataset.mask(image_id),
        )

    def curve(self, rank: int = 1, seed: int | None = None, analysis: str = "layer_gain") -> pandas.DataFrame:
        """An analysis's measures over the layers of one training: a row per layer, a column per measure.

        Raises:
            ConfigError: no such rank or seed, or the sweep did not make the analysis.
        """
        import pandas

        entry, seed = self._entry(rank, seed)
        made = entry["analyses"]
        if analysis not in made:
            raise ConfigError(f"analysis: the sweep has no {analysis!r}; it has: {', '.join(made) or 'none'}")
        content = (self.store.get(made[analysis][str(seed)]) / FIGURES_FILE).read_bytes()
        columns = {curve.name: pandas.Series(dict(enumerate(curve.values))) for curve in parse_figures(content).curves}
        return pandas.DataFrame(columns).rename_axis("layer")

    def history(self, rank: int = 1, seed: int | None = None) -> pandas.DataFrame:
        """Metrics that a configuration's training reported, one row per epoch."""
        import pandas

        entry, seed = self._entry(rank, seed)
        key = dict(zip(entry["seeds"], entry["trial_keys"], strict=True))[seed]
        return pandas.DataFrame(self.store.record(key).history).set_index("epoch")

    def _label_record(self, rank: int, seed: int | None) -> ArtifactRecord:
        entry, _ = self._entry(rank, seed)
        return self.store.record(entry["label_artifact"] if seed is None else entry["label_artifacts"][str(seed)])

    def _entry(self, rank: int, seed: int | None) -> tuple[dict[str, Any], int]:
        ranking = self.content["ranking"]
        if not ranking:
            raise ConfigError("rank: the sweep has ranked nothing yet")
        if not 1 <= rank <= len(ranking):
            raise ConfigError(f"rank: need 1..{len(ranking)}, got {rank}")
        entry = ranking[rank - 1]
        if seed is not None and seed not in entry["seeds"]:
            raise ConfigError(f"seed: need one of {', '.join(map(str, entry['seeds']))}, got {seed}")
        best = next(s for s, key in entry["label_artifacts"].items() if key == entry["label_artifact"])
        return entry, int(best) if seed is None else seed

    @cached_property
    def _dataset(self) -> Dataset:
        return open_dataset(self.workspace.folder)
