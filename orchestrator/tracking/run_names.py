"""Our names of the runs that a sweep is recorded as, by the keys of their stages."""

from __future__ import annotations

SWEEP = "sweep"


def trial_run(training: str) -> str:
    return f"trial/{training}"


def variant_run(training: str, labels: str) -> str:
    return f"variant/{training}/{labels}"


def segmentation_run(evaluation: str) -> str:
    return f"segmentation/{evaluation}"


def analysis_of(training: str, analysis: str) -> str:
    """No run of its own: it is shown with its trial."""
    return f"analysis/{training}/{analysis}"
