"""The label browser's page, as tests look at it."""

from __future__ import annotations

IMAGES = 300
APART, BETWEEN = [0, 2], [0.0141, 0.7841, 0.01]
"""Layers that are no range, and thresholds between the steps of their slider."""


def shown(page):
    return int(page.inner_text("#count").split()[0])


def measured(page):
    page.wait_for_selector("#progress:empty", state="attached")
    page.locator(".tile:visible .measures", has_text="IoU 0.").first.wait_for()
