"""MLflow cuts what it finds too long: the text that it gets fits, and each line of it is whole."""

from __future__ import annotations

import re

import pytest
from mlflow.store.tracking.dbmodels.models import SqlRun

from orchestrator.tracking.backends._mlflow_limits import LONGEST, fitted
from orchestrator.tracking.backends.mlflow import MlflowDelivery

HEAD, TAIL = ["a question", "", "| | alpha | trials |", "|---|---|---|"], ["", "Background threshold: searched."]


def table(rows: int, seeds: int) -> list[str]:
    links = " ".join(f"[seed {seed}](#/experiments/1/runs/{'a' * 32})" for seed in range(seeds))
    return [f"| {row} | 0.25 | {links} |" for row in range(rows)]


@pytest.mark.parametrize("jobs", [0, 200])
@pytest.mark.parametrize(("rows", "seeds"), [(2, 1), (20, 5), (20, 50), (1, 500)])
def test_what_is_too_long_loses_whole_rows_and_says_so(rows, seeds, jobs):
    job_lines = [f"[segmentation: {job}](#/experiments/1/runs/{'b' * 32})" for job in range(jobs)]
    lines = [*HEAD, *table(rows, seeds), *job_lines, *TAIL]
    text = fitted("\n".join(lines))
    assert len(text) <= LONGEST
    left_out = re.findall(r"and (\d+) more lines: report.html", text)
    kept = [line for line in text.split("\n") if line in lines and line]
    assert kept == [line for line in lines if line in kept]
    assert kept[-1] == TAIL[-1]
    assert [int(count) for count in left_out] == ([] if text == "\n".join(lines) else [len(lines) - len(kept) - 2])
    assert bool(left_out) == (len("\n".join(lines)) > LONGEST)


def test_a_question_of_any_length_fits():
    assert len(fitted("x" * 20_000)) == LONGEST
    assert fitted("x" * LONGEST) == "x" * LONGEST


@pytest.mark.slow
def test_mlflow_keeps_all_of_it(tmp_path):
    delivery = MlflowDelivery(f"sqlite:///{tmp_path}/mlflow.db", "experiment", "id")
    start = {"kind": "start", "run": "sweep", "name": "n", "parent": None, "tags": {}, "params": {}, "time": 1}
    links = " ".join(f"[seed {seed}]({{{{run:sweep}}}})" for seed in range(5))
    text = "\n".join([*HEAD, *(f"| {row} | 0.25 | {links} |" for row in range(40)), *TAIL])
    delivery.write([start])
    delivery.write([{"kind": "describe", "run": "sweep", "text": text, "time": 1}])
    kept = delivery.client.get_run(delivery.runs.id("sweep")).data.tags["mlflow.note.content"]
    assert kept.endswith(TAIL[-1])
    assert "more lines: report.html" in kept
    assert len(re.findall(r"\(#/experiments/\d+/runs/[0-9a-f]{32}\)", kept)) % 5 == 0


@pytest.mark.slow
def test_the_names_of_runs_fit_into_a_database(tmp_path):
    """SQLite does not mind what PostgreSQL refuses, and with the run all that is told of it."""
    delivery = MlflowDelivery(f"sqlite:///{tmp_path}/mlflow.db", "experiment", "id")
    longest = SqlRun.__table__.c.name.type.length
    names = {"short": "short", "long": f"method {'x' * 300}, seed 0", "other": f"method {'x' * 300}, seed 1"}
    start = {"kind": "start", "parent": None, "tags": {}, "params": {}, "time": 1}
    delivery.write([{**start, "run": run, "name": name} for run, name in names.items()])
    kept = {run: delivery.client.get_run(delivery.runs.id(run)).info.run_name for run in names}
    assert kept["short"] == "short"
    assert len(set(kept.values())) == 3
    assert {len(kept[run]) for run in ("long", "other")} == {longest}


@pytest.mark.slow
def test_what_is_written_together_is_all_written(tmp_path):
    """Events of one run in one call, of kinds that the server takes one by one and of kinds that it takes together."""
    delivery = MlflowDelivery(f"sqlite:///{tmp_path}/mlflow.db", "experiment", "id")
    delivery.write(
        [
            {"kind": kind, "run": "sweep", "time": 1, **content}
            for kind, content in (
                ("start", {"name": "n", "parent": None, "tags": {}, "params": {"alpha": "0.25"}}),
                ("describe", {"text": "a question"}),
                ("metrics", {"metrics": {"loss": 2.0}, "step": 1}),
                ("metrics", {"metrics": {"loss": 1.0}, "step": 2}),
                ("tags", {"tags": {"best": "yes"}}),
                ("dataset", {"name": "voc", "digest": "ab", "source": "here", "context": "training"}),
                ("end", {"status": "FINISHED"}),
            )
        ]
    )
    run = delivery.client.get_run(delivery.runs.id("sweep"))
    assert run.data.tags["mlflow.note.content"] == "a question"
    assert run.data.tags["best"] == "yes"
    assert run.data.params == {"alpha": "0.25"}
    assert [point.value for point in delivery.client.get_metric_history(run.info.run_id, "loss")] == [2.0, 1.0]
    assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["voc"]
    assert run.info.status == "FINISHED"
