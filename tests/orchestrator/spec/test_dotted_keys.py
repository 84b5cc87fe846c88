from __future__ import annotations

import pytest

from orchestrator.spec.constraints import MissingKey
from orchestrator.spec.dotted_keys import entry, overlaid

SECTIONS = {"method": {"name": "plus", "parts": ["more", {"name": "aream", "alpha_low": 0.35}]}}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("method.parts.aream.alpha_low", 0.35),
        ("method.parts.more.name", "more"),
        ("method.parts.more", "more"),
        ("method.name", "plus"),
    ],
)
def test_a_component_of_a_list_is_found_by_its_name(key, value):
    assert entry(key, SECTIONS) == value


@pytest.mark.parametrize("key", ["method.parts.acr", "method.parts.acr.name", "method.parts.0", "method.parts.more.x"])
def test_one_that_is_not_there_is_missing(key):
    with pytest.raises(MissingKey, match=key):
        entry(key, SECTIONS)


def test_settings_reach_into_a_list_and_leave_the_rest():
    changed = overlaid(SECTIONS, {"method.parts.aream.alpha_low": 0.05, "method.parts.more.temperature": 0.1})
    assert changed == {
        "method": {
            "name": "plus",
            "parts": [{"name": "more", "temperature": 0.1}, {"name": "aream", "alpha_low": 0.05}],
        }
    }
    assert SECTIONS["method"]["parts"][0] == "more"
    replaced = overlaid(SECTIONS, {"method.parts.more": {"name": "acr"}})
    assert replaced["method"]["parts"][0] == {"name": "acr"}
    with pytest.raises(MissingKey, match="no acr among more, aream"):
        overlaid(SECTIONS, {"method.parts.acr.view": "mirror"})


def test_whole_sections_come_before_what_lies_in_them():
    changed = overlaid(SECTIONS, {"method.parts.acr.view": "rotation", "method": {"name": "plus", "parts": ["acr"]}})
    assert changed["method"]["parts"] == [{"name": "acr", "view": "rotation"}]
