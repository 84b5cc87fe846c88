"""The report as a person sees it: one file in a real browser, with keyboard, mouse and printer."""

from __future__ import annotations

import contextlib
import csv
import io
import random

import pytest
import sweep_results
from browser import ARGUMENTS, CHROMIUM, screenshots

from orchestrator.reporting.write import write_report

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::Warning"),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">\"'"
SIZES = [(1280, 900), (1600, 1000)]


def score(trial, variant):
    """Layers matter; alphas do not, and seeds differ a little."""
    key = (trial.values["method.alpha_low"], variant.values["inference.layers"], trial.seed)
    noise = random.Random(repr(key)).gauss(0, 0.002)
    return 0.6 - 0.05 * sweep_results.LAYERS.index(variant.values["inference.layers"]) + 0.02 * trial.seed + noise


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """(summary, report.html) of twelve configurations at three seeds."""
    folder = tmp_path_factory.mktemp("page")
    plan = sweep_results.planner(folder, "seeds=[0, 1, 2]", more="segmentation: {select: {top: 2}}")
    store = sweep_results.workspace(plan).store()
    sweep_results.compute(store, plan.grid(), score)
    content, place = sweep_results.summarised(plan, {HOSTILE: HOSTILE})
    content |= {"question": "Which alpha, and refined by which layers?", "created": "2026-01-02T03:04:05+00:00"}
    for entry in content["ranking"]:
        entry["command"] = entry["command"].replace(str(folder), "sweeps")
        entry["pages"] = {f"seed {seed}": f"http://127.0.0.1:5000/#/experiments/1/runs/{seed}a" for seed in range(3)}
    content["record"] = {"command": "aream ui grid"}
    write_report(content, store, place)
    return content, place / "report.html"


@contextlib.contextmanager
def shown(path, width=1280, height=900, scheme="light"):
    """The page, and everything that it asked for or complained of."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.set_default_timeout(60_000)
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path.as_uri())
        yield page
        assert [url for url in asked if not url.startswith(("data:", "blob:")) and url != path.as_uri()] == []
        assert said == []
        browser.close()


def too_wide(page):
    return page.evaluate(
        """() => [document.documentElement, ...document.querySelectorAll(".scroll")]
        .filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.getAttribute("aria-label") ?? "page")"""
    )


def ranks(page):
    return [int(text) for text in page.locator("#ranking tbody tr:not(.details):visible .open").all_inner_texts()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_page_and_nothing_is_fetched(report, tmp_path, scheme):
    content, path = report
    for width, height in SIZES:
        with shown(path, width, height, scheme) as page:
            assert too_wide(page) == []
            assert page.title() == content["name"]
            first = page.locator("#answer")
            for told in (content["question"], *content["answer"]["sentences"], content["ranking"][0]["command"]):
                assert told in first.inner_text()
            bottom = first.bounding_box()
            assert bottom["y"] + bottom["height"] <= height  # the first screen holds it all
            page.screenshot(path=screenshots(tmp_path) / f"report_{scheme}_{width}.png")
            page.locator("#ranking .open").first.click()
            assert too_wide(page) == []


def test_the_ranking_sorts_filters_and_opens(report):
    content, path = report
    count = len(content["ranking"])
    with shown(path) as page:
        assert ranks(page) == list(range(1, count + 1))
        assert page.locator("#ranking tr.best").count() == len(content["answer"]["ties"]["positions"])
        head = page.locator("#ranking thead th", has_text="pseudo-label mIoU")
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        assert ranks(page) == list(range(1, count + 1))
        head.locator("button").click()
        assert ranks(page) == list(range(count, 0, -1))
        page.locator("#ranking select").first.select_option("0.3")
        page.locator("#filter").fill("shallow")
        assert len(ranks(page)) == 1
        assert page.locator("#count").inner_text() == f"1 of {count} configurations"
        page.locator("#filter").fill("no such word")
        assert ranks(page) == []
        assert page.get_by_text("No configuration has these words.").is_visible()
        page.locator("#filter").fill("")
        page.locator("#ranking select").first.select_option("")
        rank = ranks(page)[2]
        entry = content["ranking"][rank - 1]
        page.locator("#ranking tbody tr:not(.details) .open").nth(2).click()
        details = page.locator("tr.details")
        for told in (
            entry["command"],
            entry["label_artifacts"]["1"],
            f"method.alpha_low: {entry['config']['method.alpha_low']}",
        ):
            assert told in details.inner_text()
        links = details.locator(".pages a")
        assert links.all_inner_texts() == list(entry["pages"])
        assert [link.get_attribute("href") for link in links.all()] == list(entry["pages"].values())
        assert "aream ui grid" in details.inner_text()
        head.locator("button").click()
        assert details.count() == 0


def test_the_keyboard_does_all_of_it(report):
    content, path = report
    with shown(path) as page:
        page.keyboard.press("/")
        page.keyboard.type("shallow")
        assert len(ranks(page)) == 3
        page.keyboard.press("Escape")
        assert len(ranks(page)) == len(content["ranking"])
        page.locator("#ranking .open").first.focus()
        page.keyboard.press("Enter")
        assert page.locator("tr.details").is_visible()
        page.keyboard.press("Enter")
        assert page.locator("tr.details").count() == 0
        page.locator("button.zoom").first.focus()
        page.keyboard.press("Enter")
        dialog = page.locator("dialog")
        assert dialog.is_visible()
        assert dialog.locator("img").evaluate("image => image.naturalWidth") > 200
        page.keyboard.press("Escape")
        assert not dialog.is_visible()
        page.locator("#theme").focus()
        background = "getComputedStyle(document.body).backgroundColor"
        before = page.evaluate(background)
        page.keyboard.press("Enter")
        assert page.evaluate(background) != before


def test_tables_leave_as_csv_and_latex(report):
    content, path = report
    with shown(path) as page:
        with page.expect_download() as waiting:
            page.locator("#ranking").get_by_role("button", name="CSV").click()
        rows = list(csv.reader(io.StringIO(waiting.value.path().read_text())))
        assert len(rows) == 1 + 3 * len(content["ranking"])
        page.locator("#effects").get_by_role("button", name="Copy LaTeX").click()
        page.locator("#effects").get_by_role("button", name="Copied").wait_for()
        page.locator("#filter").focus()
        page.keyboard.press("Control+V")
        assert "\\toprule" in page.locator("#filter").input_value()
        page.locator(".repeat button").click()
        page.locator("#filter").fill("")
        page.keyboard.press("Control+V")
        assert page.locator("#filter").input_value() == content["ranking"][0]["command"]


def test_a_print_has_no_controls_and_is_light(report):
    _, path = report
    with shown(path, scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        for name in ("nav", "#filter", "#theme"):
            assert not page.locator(name).is_visible()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.locator("#ranking th", has_text="pseudo-label mIoU").is_visible()


def test_a_hostile_sweep_stays_text(report, tmp_path):
    content, _ = report
    content = {**content, "name": HOSTILE, "question": HOSTILE, "failures": {HOSTILE: HOSTILE}}
    content["answer"] = {**content["answer"], "sentences": [HOSTILE]}
    content["ranking"] = [
        {
            **entry,
            "config": {**entry["config"], "inference.layers": f"{HOSTILE}{number}"},
            "settings": {HOSTILE: HOSTILE},
            "command": HOSTILE,
            "pages": {HOSTILE: f"http://lab/#{HOSTILE}", "script": "javascript:document.title='taken'"},
        }
        for number, entry in enumerate(content["ranking"])
    ]
    plan = sweep_results.planner(tmp_path)
    write_report(content, sweep_results.workspace(plan).store(), tmp_path / "out")
    with shown(tmp_path / "out" / "report.html") as page:
        assert page.title() == " ".join(HOSTILE.split())
        page.locator("#ranking .open").first.click()
        assert HOSTILE in page.locator("tr.details").inner_text()
        assert page.locator("tr.details .pages a").all_inner_texts() == [" ".join(HOSTILE.split())]
        assert page.title() == " ".join(HOSTILE.split())
        assert too_wide(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_of_accessibility_is_broken(report, scheme):
    from axe_playwright_python.sync_playwright import Axe

    _, path = report
    with shown(path, *SIZES[0], scheme) as page:
        for opened in (False, True):
            if opened:
                page.locator("#ranking .open").first.click()
            found = Axe().run(page).response["violations"]
            assert not found, [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found]
