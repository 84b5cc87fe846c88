"""Everything that is wrong with a dataset, and with labels made for it elsewhere.

There is one set of rules: a check on its own shows what they find, a sweep refuses it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from aream import datasets, discover
from aream.config import Component
from aream.data.dataset import Dataset
from aream.data.evidence import NO_SWEEP, Use, check_evidence
from aream.data.examination import examine, identify
from aream.data.findings import Findings
from aream.errors import DataError
from workers.components import build_dataset
from workers.stages import external_labels
from workers.staging.locations import local_path, localised

log = logging.getLogger(__name__)


def check_dataset(
    component: Component,
    *,
    sample: int | None,
    use: Use = NO_SWEEP,
    label_folders: Iterable[str] = (),
    say: Callable[[str], None] = lambda words: None,
) -> Findings:
    """Collect the findings of the module's ``survey``, if it has one, and of checks common to all datasets.

    Args:
        sample: images of each split that are decoded; None: all.
        use: what a sweep wants of the masks.
        label_folders: pseudo-labels of its train images that were made elsewhere.
        say: is told now and then how far it is.

    Raises:
        ConfigError: an invalid path map.
    """
    found = Findings()
    try:
        dataset = open_dataset(component, found)
        examine(dataset, found, sample=sample, use=use, say=say)
        for folder in label_folders:
            external_labels.check(local_path(folder), dataset, found)
    except DataError as error:
        for line in str(error).splitlines():
            found.add("root", "it cannot be read further", line)
    return found


def data_identity(component: Component) -> str:
    """Identity of a dataset that is read whole; what is only worth knowing is said.

    Raises:
        DataError: something that :func:`check_dataset` finds hard.
    """
    found = Findings(strict=True)
    identity = identify(open_dataset(component, found), found)
    for one in found:
        log.warning("warning: %s: %s: %d, such as %s", component.name, one.where, one.count, one.examples[0])
    return identity


def labels_identity(folder: str, component: Component) -> str:
    """Identity of pseudo-labels that were made elsewhere, read whole.

    Raises:
        DataError: something that :func:`check_dataset` finds hard in them.
    """
    found, dataset, path = Findings(strict=True), build_dataset(component), local_path(folder)
    external_labels.check(path, dataset, found)
    found.settle()
    return external_labels.fingerprint(path, dataset)


def refuse_use(component: Component, use: Use) -> None:
    """
    Raises:
        DataError: the masks do not show what the sweep wants to make of them.
    """
    found = Findings(strict=True)
    check_evidence(build_dataset(component), found, use)
    found.settle()


def open_dataset(component: Component, found: Findings) -> Dataset:
    """The dataset of what is usable, where its module has a ``survey``; what is wrong is ``found``.

    Raises:
        DataError: nothing is usable.
    """
    module = discover.load(datasets, component.name)
    config = localised(component.config)
    survey = getattr(module, "survey", None)
    dataset: Dataset = module.build(config) if survey is None else survey(config, found)
    return dataset
