"""The metrics of real sweeps, scraped where Ray tells Prometheus to, and the dashboard that is drawn from them."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from ports import free_port
from ray_head import IN_COMMON, Head, ray_head

import sweeps
from orchestrator.tracking.prometheus import METRICS

pytest.importorskip("ray.dashboard.optional_deps", reason="needs ray[default]", exc_type=ImportError)
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.integration

DASHBOARD = json.loads((sweeps.ROOT / "docker" / "grafana" / "sweeps.json").read_text())
NAME = re.compile(r"\bray_[a-z0-9_]+")
SAMPLE = re.compile(r"^(\w+)[{ ]", re.MULTILINE)
FLUSH_S = 180


@dataclass
class Seen:
    """What was scraped while sweeps ran, and at the end of each."""

    names: set[str] = field(default_factory=set)
    most: dict[str, float] = field(default_factory=dict)
    """Status -> most trials that stood there at once."""
    totals: list[dict[str, float]] = field(default_factory=list)
    """``name{labels}`` -> sum over drivers, a sweep each."""
    summaries: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


def ours(text: str) -> list[tuple[str, dict[str, str], float]]:
    """Name without ``ray_aream_``, labels and value of our metrics; parsing all of Ray's takes seconds."""
    lines = "".join(f"{line}\n" for line in text.splitlines() if "ray_aream_" in line)
    return [
        (sample.name.removeprefix("ray_aream_"), sample.labels, sample.value)
        for family in text_string_to_metric_families(lines)
        for sample in family.samples
    ]


def look(head: Head, seen: Seen) -> float:
    """
    Returns:
        Most trials that ran at once so far.
    """
    text = head.scrape()
    seen.names |= set(SAMPLE.findall(text))
    for name, labels, value in ours(text):
        if name == "tasks" and labels["kind"] == "trial":
            seen.most[labels["status"]] = max(value, seen.most.get(labels["status"], 0.0))
    return seen.most.get("running", 0.0)


def totals(head: Head) -> dict[str, float]:
    """Our counters, summed over the processes that sent them."""
    found: dict[str, float] = {}
    for name, labels, value in ours(head.scrape()):
        if name.endswith("_total"):
            assert labels["sweep"] == "small"
            own = ",".join(f"{key}={labels[key]}" for key in ("stage", "by", "kind") if key in labels)
            key = f"{name.removesuffix('_total')}{{{own}}}"
            found[key] = found.get(key, 0.0) + value
    return found


def run(head: Head, sweep: Path, seen: Seen, *, kill: bool) -> None:
    with sweeps.launched(sweep, "--address", head.address) as process:
        try:
            if kill:
                with sweeps.standing_still(sweep.parent, count=2) as (training, _):
                    assert found(lambda: look(head, seen) == 2)  # the gauge is set every few seconds only
                    sweeps.kill(training)
            while process.poll() is None:
                look(head, seen)
                time.sleep(0.5)
        finally:
            process.kill()
        assert process.stdout is not None
        seen.outputs.append(process.stdout.read())
    assert process.returncode == 1, seen.outputs[-1]  # one trial diverges
    seen.summaries.append(sweeps.summary(sweep.parent))
    look(head, seen)
    seen.totals.append(totals(head))


@pytest.fixture(scope="module")
def head():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in IN_COMMON.items():
            patch.setenv(name, value)
        with ray_head(cpus=2) as found:
            yield found


@pytest.fixture(scope="module")
def seen(head, tmp_path_factory):
    """Two trainings from one warm-up, of which one loses its worker, and one that diverges; then one more alpha."""
    folder = tmp_path_factory.mktemp("metered")
    sweep = sweeps.write_small(folder)
    text = sweep.read_text().replace("  epochs: 5\n", "  epochs: 15\n", 1)
    axes = "  train.lr: [1e-3, 1e30]\n  method.alpha_low: [0.25, 0.35]"
    sweep.write_text(text.replace("  method.alpha_low: [0.25, 0.35]", axes))
    sweeps.changed(sweep, where='["train.lr * method.alpha_low < 3e29"]')
    found = Seen()
    run(head, sweep, found, kill=True)
    sweep.write_text(sweep.read_text().replace("[0.25, 0.35]", "[0.25, 0.30, 0.35]"))
    sweeps.changed(sweep, where='["train.lr * method.alpha_low < 2.8e29"]')
    run(head, sweep, found, kill=False)
    return found


def of(found: dict[str, float], name: str) -> float:
    return sum(value for key, value in found.items() if key.startswith(f"{name}{{"))


def test_the_counters_of_a_sweep_are_those_of_its_summary(seen):
    found, summary = seen.totals[0], seen.summaries[0]
    cost, store = summary["cost"], summary["store"]["stages"]
    assert store["stored"] == 0
    assert of(found, "cache_hits") == 0
    assert of(found, "stages_run") == store["all"]
    assert found["stages_run{stage=warmup}"] == 1
    assert found["stages_run{stage=train_cam}"] == 2
    assert found["stages_run{stage=pseudo_label}"] == 4
    spent = cost["seconds"] + cost["segmentation_seconds"]
    assert of(found, "stage_seconds") == pytest.approx(spent, abs=0.2)
    assert found["saved_seconds{by=sharing}"] == pytest.approx(cost["separate_seconds"] - cost["seconds"], abs=0.2)
    assert found["failures{kind=trial}"] == len(summary["failures"]) == 1
    assert found["retries{kind=trial}"] >= 1


def test_what_a_later_run_finds_in_the_store_are_hits(seen):
    first, both = seen.totals
    store = seen.summaries[1]["store"]
    assert of(both, "cache_hits") == store["stages"]["stored"] > 0
    assert of(both, "stages_run") - of(first, "stages_run") == store["stages"]["all"] - store["stages"]["stored"] > 0
    assert both["saved_seconds{by=store}"] == pytest.approx(store["saved_seconds"], abs=0.2)


def test_the_queue_is_seen_while_a_sweep_runs(seen):
    assert seen.most["running"] == 2
    assert seen.most["failed"] >= 1
    assert seen.most["done"] >= 2
    assert seen.most["waiting"] >= 1
    assert re.search(r"metrics: http://127\.0\.0\.1:\d+/metrics", seen.outputs[1])


def test_every_metric_is_exported(seen):
    ours = {name for name in seen.names if name.startswith("ray_aream_")}
    expected = {f"ray_aream_{name}{'' if metric.gauge else '_total'}" for name, metric in METRICS.items()}
    without_gpus = {"ray_aream_gpu_seconds_total", "ray_aream_saved_gpu_seconds_total"}  # the trials ask for none
    assert ours == expected - without_gpus


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def test_the_dashboard_draws_what_is_exported(seen):
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    drawn = {name for expression in expressions() for name in NAME.findall(expression)}
    absent = drawn - seen.names
    if not torch.cuda.is_available():
        absent -= {f"ray_{name}" for name in METRICS_GAUGES if name.startswith(("node_gpus", "node_gram"))}
    assert not absent - {"ray_aream_gpu_seconds_total", "ray_aream_saved_gpu_seconds_total"}
    assert {"ray_node_gpus_utilization", "ray_aream_tasks", "ray_aream_cache_hits_total"} <= drawn


def test_the_dashboard_is_one_that_grafana_reads():
    assert DASHBOARD["schemaVersion"] >= 36
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "sweep"}
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, f"{panel['title']} overlaps"
        taken |= cells
    for panel in panels():
        assert panel["targets"]
        assert panel["datasource"]["uid"] == "${datasource}"


def test_a_real_prometheus_finds_them_and_understands_every_panel(head, seen, tmp_path):
    if shutil.which("prometheus") is None:
        pytest.skip("needs Debian's package prometheus")
    shipped = (sweeps.ROOT / "docker" / "prometheus.yaml").read_text()
    config = tmp_path / "prometheus.yaml"
    config.write_text(shipped.replace("/tmp/ray/", f"{head.folder}/").replace("15s", "1s"))
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address={url.removeprefix('http://')}", "--log.level=error",
    ]  # fmt: skip
    with subprocess.Popen(command) as server:
        try:
            wanted = [of(seen.totals[1], "stages_run")]
            assert found(lambda: asked(url, "sum(ray_aream_stages_run_total)") == wanted)
            for expression in expressions():
                filled = expression.replace("$sweep", ".*").replace("$__rate_interval", "1m")
                asked(url, filled)
                if not re.search("ray_aream|gpus|gram|GPU", filled):
                    assert found(lambda query=filled: asked(url, query)), f"nothing to draw of {expression}"
        finally:
            server.send_signal(signal.SIGTERM)


def found(look: Callable[[], Any]) -> bool:
    """Within the time that Ray takes to tell: its processes do so one after the other."""
    until = time.monotonic() + FLUSH_S
    while not look():
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


def asked(url: str, expression: str) -> list[float]:
    """Values of an instant query; an expression that Prometheus does not understand raises."""
    query = urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=20) as answer:
            return [float(row["value"][1]) for row in json.load(answer)["data"]["result"]]
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{expression}: {error.read().decode()}") from error
    except urllib.error.URLError:  # it is starting
        return []
