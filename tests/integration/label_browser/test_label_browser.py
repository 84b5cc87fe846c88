"""The label browser in a real web browser: what a person does with mouse and keyboard."""

from __future__ import annotations

import time
import urllib.parse
from pathlib import Path

import pytest
from browser import screenshots
from label_page import APART, IMAGES, measured, shown

PATIENCE_S = 120
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::Warning")]


def test_only_what_is_seen_is_in_the_page(page):
    assert page.locator(".tile").count() < IMAGES / 2
    page.locator("#grid").evaluate("grid => { grid.scrollTop = grid.scrollHeight }")
    page.get_by_text(f"train_{IMAGES - 1:05d}").wait_for()
    assert page.locator(".tile").count() < IMAGES / 2


@pytest.mark.parametrize("width", [400, 1280, 1600])
def test_nothing_is_wider_than_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    page.keyboard.press("Enter")
    page.wait_for_selector("#viewer[open] #ious tbody tr")
    for name in ("documentElement", "body"):
        assert page.locator(":root").evaluate(f"root => document.{name}.scrollWidth") <= width


def test_filters_sort_and_exports(page, tmp_path):
    page.select_option("#class", label="ring")
    assert 0 < shown(page) < IMAGES
    measured(page)
    page.click("button[type=reset]")
    page.select_option("#sort", "worst")
    until(page, lambda: (ious := _ious_in_order(page)) == sorted(ious))
    page.fill("#iou-from", "0.5")
    until(page, lambda: min(_ious_in_order(page)) >= 0.5)
    page.click("#choose-all")
    count = shown(page)
    with page.expect_download() as download:
        page.click("#export")
    ids = Path(download.value.path()).read_text().split()
    assert len(ids) == count
    assert ids == sorted(ids)


def _ious_in_order(page):
    """As they lie on the screen."""
    texts = page.locator(".tile:visible").evaluate_all(
        """tiles => tiles.sort((a, b) => a.position - b.position).map(tile => tile.lastChild.textContent)"""
    )
    return [float(text.split()[1]) for text in texts]


def until(page, holds):
    """The page draws a moment after it is told to; where that is too long it never holds."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        page.wait_for_timeout(50)


def test_the_keyboard_is_enough(page):
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    page.keyboard.press("Enter")
    page.wait_for_selector("#viewer[open]")
    first = page.inner_text("#shown-id")
    assert page.is_checked("#chosen")
    page.keyboard.press("ArrowRight")
    page.locator("#shown-id", has_text=f"train_{int(first[-5:]) + 1:05d}").wait_for()
    assert not page.is_checked("#chosen")
    page.keyboard.press("2")
    page.wait_for_selector("#layer-first[src^='/truth/']")
    page.keyboard.press("Escape")
    page.wait_for_selector("#viewer:not([open])", state="attached")
    assert page.locator("#grid").evaluate("grid => document.activeElement === grid")
    assert page.inner_text("#export") == "Export list of 1"


def test_threshold_and_layers_make_the_label_anew(page):
    page.keyboard.press("Enter")
    page.wait_for_selector("#ious tbody tr")
    stored = page.inner_text("#shown-iou")
    page.fill("#threshold", "0.9")
    page.wait_for_selector("#layer-first[src^='data:']")
    page.locator("#shown-iou", has_text="as stored").wait_for()
    assert page.inner_text("#shown-iou").partition(" (")[0] != stored
    page.set_checked("#refined", True)
    page.fill("#layer-from", "1")
    page.fill("#layer-to", "2")
    page.locator("#layers-shown", has_text="1, 2").wait_for()
    page.click("#as-stored")
    page.wait_for_selector("#layer-first[src^='/label/']")
    assert page.inner_text("#shown-iou") == stored


def test_what_is_not_moved_stays_as_stored(page, address):
    sets = page.request.get(f"{address}api/sweep").json()["configurations"]
    (stored,) = (one for one in sets if one["layers"] == APART)
    asked = []
    page.on("request", lambda request: asked.append(urllib.parse.urlsplit(request.url)))
    page.select_option("#first", stored["key"])
    page.wait_for_selector(f".tile img[src*='{stored['key']}']")
    page.focus("#grid")
    page.keyboard.press("Enter")
    page.wait_for_selector("#ious tbody tr")
    page.fill("#threshold", "0.9")
    page.wait_for_selector("#layer-first[src^='data:']")
    assert page.inner_text("#layers-shown") == "0, 2"
    page.click("#as-stored")
    assert page.inner_text("#threshold-shown") == f"{stored['threshold']:.4f}"
    page.fill("#layer-to", "1")
    page.wait_for_selector("#layer-first[src^='data:']")
    first, last = (urllib.parse.parse_qs(one.query) for one in asked if one.path.startswith("/api/relabel/"))
    assert (first["layers"], last["layers"]) == (["0,2"], ["0,1"])
    assert float(last["threshold"][0]) == stored["threshold"]


def test_as_stored_ends_what_is_being_made_anew(page):
    page.keyboard.press("Enter")
    page.wait_for_selector("#ious tbody tr")
    held = []
    page.route("**/api/relabel/**", lambda route: held.append(route))
    page.fill("#threshold", "0.9")
    until(page, lambda: held)
    page.click("#as-stored")
    for route in held:
        route.continue_()
    page.wait_for_timeout(1000)
    assert len(held) == 1
    assert page.locator("#layer-first").get_attribute("src").startswith("/label/")


def test_an_empty_bound_bounds_nothing(page):
    measured(page)
    page.wait_for_selector("#progress:empty", state="attached")
    every = shown(page)
    for name in ("#iou-from", "#iou-to", "#uncertain"):
        page.fill(name, "")
    assert shown(page) == every == IMAGES


def test_two_label_sets_are_compared(page):
    page.select_option("#second", index=2)
    page.select_option("#sort", "differing")
    measured(page)
    page.locator(".tile:visible .measures", has_text="differing").first.wait_for()
    page.focus("#grid")
    page.keyboard.press("Enter")
    page.wait_for_selector("#layer-second[src^='/label/']")
    assert page.inner_text("#left-title") != page.inner_text("#right-title")
    page.fill("#slide", "0")
    assert "100%" in page.locator("#layer-first").evaluate("image => image.style.clipPath")


def test_it_looks_like_its_picture(page, tmp_path):
    """What the documentation shows."""
    measured(page)
    page.screenshot(path=screenshots(tmp_path) / "labels.png")
    page.select_option("#second", index=2)
    page.focus("#grid")
    page.keyboard.press("Enter")
    page.wait_for_selector("#layer-second[src^='/label/']")
    page.screenshot(path=screenshots(tmp_path) / "label.png")


def test_an_address_leads_to_the_image(page, address):
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    page.locator("#shown-id", has_text=f"train_{IMAGES - 1:05d}").wait_for()
    link = page.locator("#link").get_attribute("href")
    page.goto("about:blank")
    page.goto(address + link)
    page.wait_for_selector("#viewer[open]")
    assert page.inner_text("#shown-id") == f"train_{IMAGES - 1:05d}"


def test_an_address_of_a_comparison_offers_to_sort_by_it(page):
    page.select_option("#second", index=2)
    page.wait_for_selector("#link[href*='other=']", state="attached")
    address, chosen = page.url, page.input_value("#second")
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector(".tile img[src]")
    page.select_option("#sort", "differing")
    assert page.input_value("#second") == chosen


def test_where_nothing_is_shown_nothing_is_chosen(page):
    page.fill("#iou-from", "1")
    page.fill("#iou-to", "0")
    page.get_by_text(f"0 of {IMAGES} images").wait_for()
    page.focus("#grid")
    page.keyboard.press("x")
    assert page.inner_text("#export") == "Export list"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_of_accessibility_is_broken(page, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=scheme)
    for key in (None, "Enter"):
        if key:
            page.keyboard.press(key)
            page.wait_for_selector("#viewer[open] #ious tbody tr")
        found = Axe().run(page).response["violations"]
        assert not found, [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found]
