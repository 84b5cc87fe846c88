"""What the label browser tells where an answer fails, or labels are gone."""

from __future__ import annotations

import urllib.parse

import pytest
from label_page import measured

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::Warning")]


def test_what_failed_is_asked_for_again_and_told_until_then(page):
    away, running = {"measures"}, True

    def answer(route):
        kind = urllib.parse.urlsplit(route.request.url).path.split("/")[2]
        if kind in away:
            route.fulfill(status=503, json={"error": "the store is away"})
        elif kind == "sweep":
            route.fulfill(json={**route.fetch().json(), "running": running})
        else:
            route.continue_()

    page.route(lambda url: urllib.parse.urlsplit(url).path.startswith(("/api/sweep", "/api/measures/")), answer)
    page.reload()
    page.locator("#problem", has_text="the store is away").wait_for()
    away.clear()
    measured(page)
    page.wait_for_selector("#problem:empty", state="attached")
    away.add("sweep")
    page.locator("#problem", has_text="the store is away").wait_for()
    page.focus("#grid")
    page.keyboard.press("Enter")
    page.wait_for_selector("#ious tbody tr")
    assert page.text_content("#problem") == "the store is away"
    away.clear()
    running = False
    page.wait_for_selector("#problem:empty", state="attached")
    assert "running" not in page.text_content("#title")


def test_what_cannot_be_shown_is_told_where_it_is_seen_and_nothing_else_is_shown_for_it(page):
    page.keyboard.press("Enter")
    page.wait_for_selector("#layer-first[src^='/label/']")
    page.wait_for_selector("#ious tbody tr")
    page.route("**/api/image/**", lambda route: route.fulfill(status=503, json={"error": "the store is away"}))
    page.keyboard.press("ArrowRight")
    told = page.locator(".problem:visible", has_text="the store is away")
    told.last.wait_for()
    on_top = """place => {
        const { x, y } = place.getBoundingClientRect()
        return place === document.elementFromPoint(x + 3, y + 3)
    }"""
    assert told.last.evaluate(on_top)
    assert page.locator("#layer-first").get_attribute("src") is None
    assert page.locator("#ious tbody tr").count() == 0
    assert page.inner_text("#shown-iou") == ""
    page.unroute("**/api/image/**")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#layer-first[src^='/label/']")
    assert page.text_content("#problem") == ""


def test_labels_that_were_deleted_make_room_for_others(page):
    """The page goes on with what is there: it does not ask for one set's images under the name of another."""
    deleted = set()

    def answer(route):
        found = route.fetch().json()
        left = [one for one in found["configurations"] if one["key"] not in deleted]
        route.fulfill(json={**found, "configurations": left, "running": True})

    page.route("**/api/sweep", answer)
    page.reload()
    page.wait_for_selector(".tile img[src]")
    deleted.add(page.input_value("#first"))
    page.wait_for_function("gone => document.getElementById('first').value !== gone", arg=next(iter(deleted)))
    page.wait_for_selector(f".tile img[src*='{page.input_value('#first')}']")
