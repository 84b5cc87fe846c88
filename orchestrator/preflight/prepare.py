"""Checks before any worker is requested: readable data, weights that fit, a store that can be written."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aream import discover
from aream.config import Component, plain
from aream.data.dataset import Dataset
from aream.errors import DataError, DataUnavailable
from aream.refiners.protocol import network_of
from orchestrator.cluster.auto_gpus import expected
from orchestrator.plan.planner import Planner
from orchestrator.preflight.state_files import refuse_damaged
from orchestrator.spec.data_use import label_folders, label_points, trains_hosts, use_of
from orchestrator.spec.spec import SweepSpec
from orchestrator.tracking import backends
from orchestrator.tracking.backends.protocol import Backend
from orchestrator.tracking.webhook import webhook_url
from orchestrator.workspace import Workspace
from workers.checks.dataset import refuse_use
from workers.checks.training_step import check_affinity_net, check_host, check_segmenter
from workers.components import build_dataset, check_refiner
from workers.contents import Content
from workers.staging import cache
from workers.staging.cache import artifact_key
from workers.staging.locations import locations
from workers.trial import TrialConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A sweep that was looked at from here."""

    workspace: Workspace
    planner: Planner
    contents: Sequence[tuple[Content, str]]
    """The data and weights that it reads from outside its store, each with its content digest found on this machine."""
    reread: bool = False
    """True if nodes read these again too, although nothing about the files changed."""

    @property
    def spec(self) -> SweepSpec:
        return self.planner.spec

    @property
    def artifacts(self) -> set[str]:
        """Keys of artifacts in the place of data or weights."""
        keys = {artifact_key(place) for content, _ in self.contents for place in content.locations}
        return {key for key in keys if key is not None}

    @property
    def tracking(self) -> Backend | None:
        return tracking_backend(self.spec, self.workspace)


def tracking_backend(spec: SweepSpec, workspace: Workspace) -> Backend | None:
    """Open the backend that records the sweep's runs; None: they are not recorded.

    Raises:
        ConfigError: no record could lie there.
    """
    backend: Backend | None = discover.load(backends, spec.tracking.name).open_backend(
        spec.tracking.config, workspace, spec.folder
    )
    return backend


def prepare(spec: SweepSpec, *, reread: bool = False, fresh: bool = False) -> Prepared:
    """Read what changed since this machine last read it, or everything again, and check what can be checked from here.

    Raises:
        AreamError: data, weights, a store, a file of earlier runs or a configuration that cannot be used.
    """
    workspace = Workspace(
        store_uri=spec.store_uri,
        runs=spec.runs_dir,
        name=spec.name,
        store_endpoint=spec.store_endpoint,
        store_waits=spec.store_waits,
    )
    webhook_url(spec.notify)
    workspace.check()
    workspace.store().storage.check()
    refuse_damaged(workspace, fresh=fresh)
    tracking = tracking_backend(spec, workspace)
    if tracking is not None and (why := tracking.check()):
        log.warning("tracking: %s", why)
    allow_staging(spec)
    trials = trial_configs(spec)
    _check_networks(spec, trials)
    for refiner in _label_refiners(spec):
        check_refiner(refiner)
    contents = [(content, _identity(content, reread)) for content in _contents(spec, trials)]
    for dataset in datasets(spec, trials):
        with _saying_how_to_check(dataset):
            refuse_use(dataset, use_of(spec))
    prints = {repr(content.component): found for content, found in contents if content.key == "data"}
    planner = Planner(spec, prints, expected(workspace, spec))
    outside = [(content, found) for content, found in contents if content.locations]
    return Prepared(workspace, planner, outside, reread)


def allow_staging(spec: SweepSpec) -> None:
    """Tell this process and its children where content that lies in a store comes from."""
    cache.hand_on(
        spec.staging.max_bytes,
        spec.staging.endpoint or spec.store_endpoint,
        (spec.store_uri, str(spec.runs_dir / "artifacts"), spec.store_endpoint),
    )


def datasets(spec: SweepSpec, trials: Sequence[TrialConfig]) -> list[Component]:
    """Every dataset that a sweep reads, once."""
    return _distinct([spec.base.data, *(trial.data for trial in trials)])


def trial_configs(spec: SweepSpec) -> list[TrialConfig]:
    """Every training point of a grid, or every dataset, backbone and method that a search may propose; none where the
    sweep trains segmenters alone."""
    if not trains_hosts(spec):
        return []
    if spec.search is None:
        return [spec.trial(values, spec.seeds[0]) for values in spec.training_points()]
    axes = [axis.key for axis in spec.training_axes()]
    varied = [key for key in axes if key.split(".")[0] in ("data", "backbone") or key in ("method", "method.name")]
    return [
        spec.trial(values, spec.seeds[0])
        for values in spec.points_of([*varied, "train.image_size", "train.batch_size", "train.epochs"])
    ]


def fingerprints(spec: SweepSpec) -> dict[str, str]:
    """Read every dataset the sweep names once; returns its content's identity by its component.

    Raises:
        DataError: naming the files that cannot be used.
    """
    contents = _contents(spec, trial_configs(spec))
    return {repr(content.component): content.identity() for content in contents if content.key == "data"}


def _check_networks(spec: SweepSpec, trials: Sequence[TrialConfig]) -> None:
    """Build every distinct network once with its weights, and try a step of its training.

    Raises:
        AreamError: a weight file that is missing or does not fit, or a step that cannot be taken.
    """
    processes = spec.resources.trial.process_count
    alike: dict[tuple[object, ...], list[TrialConfig]] = {}
    for trial in trials:
        train = trial.train
        sizes = (train.image_size, train.batch_size, train.out_of_memory, train.epochs > 0)
        what = (_key(trial.data), _key(trial.backbone), *sizes)
        alike.setdefault(what, []).append(trial)
    for trial, *others in alike.values():
        with _saying_how_to_check(trial.data):
            dataset = build_dataset(trial.data)
        trained_by = _distinct([trial.method, *(other.method for other in others)])
        images = len(dataset.ids("train"))
        check_host(trial.backbone, trained_by, len(dataset.class_names), trial.train, images, processes)
    with _saying_how_to_check(spec.base.data):
        dataset = build_dataset(spec.base.data)
    for refiner in _distinct([trial.labels.refiner for trial in label_points(spec)]):
        check_affinity_net(refiner, len(dataset.ids("train")))
    for point in _segmentation_points(spec):
        classes, images = len(dataset.class_names) + 1, len(dataset.ids("train"))
        check_segmenter(spec.segmentation_config(point), classes, images, _size_of_first(dataset))


def _size_of_first(dataset: Dataset) -> tuple[int, int] | None:
    """Width and height of a val image; None: there is none that can be read, which is told elsewhere."""
    try:
        return next((dataset.image(image_id).size for image_id in dataset.ids("val")), None)
    except DataError:
        return None


def _identity(content: Content, reread: bool) -> str:
    if content.key != "data":
        return content.remembered_identity(reread=reread)
    with _saying_how_to_check(content.component):
        return content.remembered_identity(reread=reread)


@contextlib.contextmanager
def _saying_how_to_check(component: Component) -> Iterator[None]:
    """An error of a dataset says which command lists all that is wrong with it."""
    try:
        yield
    except DataError as error:
        if isinstance(error, DataUnavailable) or not list(locations(component)):
            raise
        raise DataError(f"{error}\nall errors of the data are listed by: {check_command(component)}") from error


def _contents(spec: SweepSpec, trials: Sequence[TrialConfig]) -> Iterator[Content]:
    """Everything that the sweep reads from outside of its store; what is drawn or random too, which lies nowhere."""
    for component in datasets(spec, trials):
        yield Content("data", component)
    for component in _distinct([trial.backbone for trial in trials]):
        yield Content("backbone.weights", component)
    for component in _label_refiners(spec):
        yield Content("labels.refiner", component)
    segmentations = [spec.segmentation_config(point) for point in _segmentation_points(spec)]
    for component in _distinct([segmentation.model for segmentation in segmentations]):
        yield Content("segmentation.model.weights", component)
    for folder in label_folders(spec):
        yield Content("segmentation.labels", spec.base.data, folder)


def _label_refiners(spec: SweepSpec) -> list[Component]:
    """Label refiners that have a network and read files: one for each set of files, whatever else varies."""
    refiners = [trial.labels.refiner for trial in label_points(spec)]
    found = {(refiner.name, *locations(refiner.config)): refiner for refiner in refiners if network_of(refiner)}
    return [refiner for (_, *files), refiner in found.items() if files]


def _segmentation_points(spec: SweepSpec) -> list[dict[str, object]]:
    return spec.segmentation_points() if spec.segmentation_data is not None else []


def _distinct(components: Sequence[Component]) -> list[Component]:
    return list({_key(component): component for component in components}.values())


def _key(component: Component) -> str:
    return repr(component)


def check_command(component: Component) -> str:
    """The command line that checks a dataset."""
    import dataclasses

    words = ["python -m orchestrator.check_data", component.name]
    for field in dataclasses.fields(component.config):
        value = getattr(component.config, field.name)
        if field.name == "root":
            words += ["--root", shlex.quote(str(value))]
        elif value != field.default:
            words += ["--set", shlex.quote(f"{field.name}={json.dumps(plain(value))}")]
    return " ".join(words)
