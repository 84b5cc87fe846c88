"""A label browser on the labels of a real sweep, and its page."""

from __future__ import annotations

import subprocess
import sys
import urllib.parse

import pytest
from browser import ARGUMENTS, CHROMIUM
from label_page import APART, BETWEEN, IMAGES
from small_sweep import write_sweep

from orchestrator import api


@pytest.fixture(scope="package")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    path = write_sweep(
        folder,
        name="many",
        data={"image_size": 48, "train_images": IMAGES, "val_images": 8},
        backbone={"depth": 4},
        train={"batch_size": 20, "image_size": 48},
        inference={"image_size": 48},
        labels={"thresholds": BETWEEN},
        axes={"inference.layers": ["none", "all", APART]},
    )
    spec = api.load(path)
    api.run_trial(spec, {})
    api.run(spec)
    return folder / "runs"


@pytest.fixture(scope="package")
def address(runs):
    command = [sys.executable, "-m", "orchestrator.labels", "many", "--runs", str(runs), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@pytest.fixture
def page(address):
    if CHROMIUM is None:
        pytest.skip("needs chromium, chromium-browser or google-chrome on the PATH")
    from playwright.sync_api import sync_playwright

    asked, problems = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(120_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        page.wait_for_selector(".tile img[src]")
        page.get_by_text(f"{IMAGES} of {IMAGES} images").wait_for()
        yield page
        browser.close()
    assert not problems
    hosts = {urllib.parse.urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {urllib.parse.urlsplit(address).netloc}
