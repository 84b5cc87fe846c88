"""Everything that is wrong with a dataset on this machine, instead of the first thing that stops it."""

from __future__ import annotations

from collections.abc import Callable

from aream import data, discover
from aream.config import Component
from aream.data._examination import examine
from aream.data._findings import Findings
from aream.data._protocol import Dataset
from aream.errors import DataError
from workers.locations import localised


def check_dataset(
    component: Component,
    *,
    sample: int | None,
    say: Callable[[str], None] = lambda words: None,
) -> Findings:
    """What its module's ``survey`` finds, where it has one, and what can be wrong with any dataset.

    Args:
        sample: images of each split that are decoded; None: all.
        say: is told now and then how far it is.

    Raises:
        ConfigError: an impossible path map.
    """
    found = Findings()
    try:
        dataset = _open(component, found)
        examine(dataset, found, sample=sample, say=say)
    except DataError as error:
        for line in str(error).splitlines():
            found.add("root", "it cannot be read further", line)
    return found


def _open(component: Component, found: Findings) -> Dataset:
    module = discover.load(data, component.name)
    config = localised(component.config)
    survey = getattr(module, "survey", None)
    dataset: Dataset = module.build(config) if survey is None else survey(config, found)
    return dataset
