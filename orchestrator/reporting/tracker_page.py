"""Text of a tracker's page of a sweep: the ranking with links to its runs, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.reporting.markdown import as_markdown
from orchestrator.reporting.ranking_table import main_columns, ranking_rows
from orchestrator.search.stopped_trials import stopped_sentence
from orchestrator.spec.metrics import known
from orchestrator.text import first_sentence
from orchestrator.tracking.run_names import segmentation_run, trial_run

MOST_ROWS = 20


def tracker_page(content: Mapping[str, Any]) -> str:
    """The page for a summary's content; links are ``{{run:NAME}}``, which a tracker's backend fills in."""
    return "\n".join(_lines(content))


def _lines(content: Mapping[str, Any]) -> Iterator[str]:
    if content["question"]:
        yield from (as_markdown(first_sentence(content["question"])[0]), "")
    yield from (f"- {as_markdown(sentence)}" for sentence in content["answer"]["sentences"])
    yield ""
    metrics = main_columns(content)
    yield "| | " + " | ".join(map(as_markdown, [*content["axes"], *metrics, "trials"])) + " |"
    yield "|---" * (len(content["axes"]) + len(metrics) + 2) + "|"
    rows = zip(content["ranking"], ranking_rows(content, metrics), strict=True)
    for entry, cells in list(rows)[:MOST_ROWS]:
        runs = zip(entry["seeds"], entry["trial_keys"], strict=True)
        links = " ".join(f"[seed {seed}]({{{{run:{trial_run(key)}}}}})" for seed, key in runs)
        yield "| " + " | ".join([*map(as_markdown, cells), links]) + " |"
    for job in content["segmentation"]:
        yield from ("", f"[segmentation: {as_markdown(job['title'])}]({{{{run:{segmentation_run(job['key'])}}}}})")
    yield from ("", *(f"{name}: {metric.caption}.  " for name in metrics if (metric := known(name)) is not None))
    if content["stopped"]:
        yield from ("", f"{stopped_sentence(content['stopped'])}.")
    yield from (f"\nNote: {as_markdown(sentence)}." for sentence in content["remarks"])
    yield from ("", f"Background threshold: {content['protocol']['threshold']}.")
