"""A sweep as a person sees it: `mlflow ui` in a real browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request

import pytest
from browser import ARGUMENTS, CHROMIUM, screenshots
from ports import free_port

import sweeps
from orchestrator.tracking.local_ui import local_address

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::Warning")]

TRAINING = "?workflowType=machine_learning"
"""The UI's pages for trainings instead of those for language models."""


def wait_until_healthy(url: str) -> None:
    end = time.monotonic() + 240
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(1)


@pytest.fixture(scope="module")
def server(finished):
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{finished}/runs/mlflow.db",
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=240)


@pytest.fixture(scope="module")
def runs(finished):
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{finished}/runs/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "small"]
    found = client.search_runs([experiment.experiment_id])
    return experiment.experiment_id, {run.data.tags["aream.run"]: run for run in found}


def test_runs_are_nested_and_say_where_they_come_from(runs, finished):
    _, by_name = runs
    kinds = [run.data.tags["aream.kind"] for run in by_name.values()]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"sweep": 1, "trial": 2, "variant": 4, "segmentation": 1}
    sweep = by_name["sweep"]
    description = sweep.data.tags["mlflow.note.content"]
    for name, run in by_name.items():
        assert run.data.tags["aream.sweep"] == sweep.data.tags["aream.sweep"]
        if name.startswith("trial/"):
            assert run.data.tags["mlflow.parentRunId"] == sweep.info.run_id
            assert run.info.run_id in description
            assert run.data.metrics.keys() >= {
                "val/map",
                "selected/val/map",
                "cam/miou",
                "pseudo/miou",
                "train/affinity_loss",
            }
            assert run.inputs.dataset_inputs
    (segmentation,) = [run for name, run in by_name.items() if name.startswith("segmentation/")]
    best = sweeps.summary(finished)["ranking"][0]
    assert segmentation.data.tags["aream.labels"] == best["label_artifact"]
    assert segmentation.data.tags["mlflow.parentRunId"] == by_name[f"trial/{best['trial_keys'][0]}"].info.run_id


def test_the_report_links_to_the_run_of_every_configuration_and_seed(runs, finished):
    experiment, by_name = runs
    content = sweeps.summary(finished)
    page = (finished / "runs" / "small" / "report.html").read_text(encoding="utf-8")
    assert content["record"]["command"] == f"aream ui small --runs {finished}/runs"
    for entry in content["ranking"]:
        for seed, training in zip(entry["seeds"], entry["trial_keys"], strict=True):
            run = by_name[f"variant/{training}/{entry['label_artifacts'][str(seed)]}"]
            assert f"/#/experiments/{experiment}/runs/{run.info.run_id}?" in entry["pages"][f"seed {seed}"]
            assert entry["pages"][f"seed {seed}"] in page
    assert list(content["ranking"][0]["pages"]) == ["seed 0", "segmenter, seed 0"]
    assert "Images of the segmenter" in page


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_person_sees_runs_a_chart_and_an_overlay(server, runs, tmp_path):
    from playwright.sync_api import sync_playwright

    experiment, by_name = runs
    (trial, *_) = [run for name, run in by_name.items() if name.startswith("trial/")]
    shots = screenshots(tmp_path)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(f"{server}/#/experiments/{experiment}/runs{TRAINING}")
        page.get_by_role("row").get_by_role("link", name="small").wait_for()
        close = page.get_by_role("button", name="Close", exact=True)  # the assistant's panel, where there is one
        if close.count():
            close.first.click()
        expand = page.locator("[role=row] button[data-component-id*=runnamecell]")
        expand.first.click()
        page.get_by_role("row").get_by_role("link", name="alpha_low 0.25, seed 0", exact=True).wait_for()
        expand.nth(1).click()
        page.get_by_role("row").get_by_role("link", name="layers shallow, seed 0").first.wait_for()
        page.screenshot(path=shots / "mlflow_runs.png")
        page.goto(f"{server}/#/experiments/{experiment}/runs/{by_name['sweep'].info.run_id}{TRAINING}")
        page.get_by_role("link", name="seed 0").first.wait_for()
        page.screenshot(path=shots / "mlflow_sweep.png")
        page.goto(f"{server}/#/experiments/{experiment}/runs/{trial.info.run_id}/model-metrics{TRAINING}")
        page.locator(".js-plotly-plot .scatterlayer .trace path").first.wait_for(state="attached")
        page.screenshot(path=shots / "mlflow_chart.png")
        page.get_by_placeholder("Search metric charts").fill("overlays")
        page.get_by_text("overlays/train_00000").wait_for()
        page.screenshot(path=shots / "mlflow_images.png")
        page.goto(f"{server}/#/experiments/{experiment}/runs/{trial.info.run_id}/artifacts/images{TRAINING}")
        page.get_by_text(re.compile(r"overlays~train_00000.*[.]png$")).first.click()
        picture = page.locator("img[src^='blob:']").first
        picture.wait_for()
        assert picture.evaluate("image => image.naturalWidth") > 0
        page.screenshot(path=shots / "mlflow_overlay.png")
        browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_it_opens_on_the_configurations_best_first(server, runs, finished, tmp_path):
    """At the address that is printed, and with the charts and the image grid of MLflow's own beside the table."""
    from playwright.sync_api import sync_playwright

    from orchestrator.tracking.backends.mlflow import landing_pages

    pages = landing_pages(server)
    assert list(pages) == ["small"]
    shots = screenshots(tmp_path)
    ranking = sweeps.summary(finished)["ranking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(f"{server}/{pages['small']}")
        rows = page.get_by_role("row").get_by_role("link", name="layers")
        rows.first.wait_for()
        configs = [entry["config"] for entry in ranking]
        titles = [f"alpha_low {c['method.alpha_low']}, layers {c['inference.layers']}, seed 0" for c in configs]
        assert [text.strip() for text in rows.all_inner_texts()] == titles
        for column in ("pseudo/miou", "cam/miou", "val/map", "method.alpha_low", "inference.layers", "seed"):
            page.get_by_role("columnheader", name=column).first.wait_for(state="attached")
        page.screenshot(path=shots / "mlflow_landing.png")
        page.goto(ranking[0]["pages"]["seed 0"].replace(local_address(), server))  # as the report links it
        page.get_by_role("heading", name=titles[0]).first.wait_for()
        browser.close()
