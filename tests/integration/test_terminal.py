"""What a person sees who runs the sweep that the project comes with, on a terminal of 130 columns."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from browser import ARGUMENTS, CHROMIUM, screenshots
from terminal import Terminal

import sweeps

pytestmark = pytest.mark.integration
PATIENCE_S, ROWS = 900, 48
SMALLER = ("data.train_images=60", "data.val_images=20", "train.epochs=4", "resources.trial.cpu=1")


def test_a_terminal_shows_phases_bars_and_when_it_ends(tmp_path):
    shutil.copytree(sweeps.ROOT / "sweeps", tmp_path / "sweeps")
    command = sweeps.command(Path("sweeps/thresholds.yaml"))
    for setting in SMALLER:
        command += ["--set", setting]
    environment = {**sweeps.environment(), "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        environment.pop(name, None)
    with Terminal(columns=130, rows=ROWS) as terminal:
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.inside)
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, **streams)
        try:
            early = seen(terminal, process, r"trials .* [4-9] of 12(.*\n)*.*│ trial +│.*│ running +│ [1-4]/4 ")
            late = seen(
                terminal, process, r"segmentation jobs .* [2-4] of 6(.*\n)*.*│ segmentation +│.*│ running +│ [1-5]/5 "
            )
            picture = terminal.svg("aream sweep sweeps/thresholds.yaml")
        finally:
            process.send_signal(signal.SIGINT)
            while process.poll() is None:  # it waits for whoever reads what it says
                terminal.read(wait_s=1.0)
    assert process.returncode == 130, "\n".join(terminal.text)
    assert terminal.too_wide() == []
    assert early.startswith("reading sweeps/thresholds.yaml\n")
    assert re.search(r"^starting Ray on \d+ cores of this machine$", early, re.MULTILINE), early
    assert re.search(r"shared stages +━+ +3 of 3 ", early), early
    assert re.search(r"segmentation jobs .* 0 of 6", early), early
    assert re.search(r"│ segmentation +│ up to 6 more, chosen later +│ planned", early), early
    assert re.search(r"at least .* left\)", early), early
    assert re.search(r"^ends about .*\d\d:\d\d *$", late, re.MULTILINE), late
    assert re.search(r"│ segmentation +│.*│ done .*│ 0\.\d+ +│$", late, re.MULTILINE), late
    for said in (early, late):
        assert len(said.partition("shared stages  ")[2].splitlines()) < ROWS, said
    draw(picture, screenshots(tmp_path) / "terminal.png")


def seen(terminal: Terminal, process: subprocess.Popen[bytes], pattern: str) -> str:
    """What the terminal shows once it shows that."""
    end = time.monotonic() + PATIENCE_S
    while not re.search(pattern, said := "\n".join(terminal.text)):
        assert process.poll() is None, said
        assert time.monotonic() < end, said
        terminal.read(wait_s=1.0)
    return said


def draw(svg: str, path: os.PathLike[str]) -> None:
    if CHROMIUM is None:
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1400, "height": 1200})
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.set_content(f"<style>body {{ margin: 0 }}</style>{svg}")
        page.locator("svg").first.screenshot(path=path)
        assert asked == []
        browser.close()
