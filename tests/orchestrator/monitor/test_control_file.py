"""An orders file that holds anything is read or refused in bounded text: a running driver reads it every second."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aream.errors import DamagedFile
from orchestrator.monitor.control_file import STATES, ControlFile

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(STATES),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=5,
)
ORDERS = st.fixed_dictionaries({}, optional={"sweep": VALUES, "trials": VALUES})


def refusal(path) -> str:
    with pytest.raises(DamagedFile) as caught:
        ControlFile.read(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff{",
        b"[" * 100_000,
        b'{"sweep":' * 100_000,
        b'{"sweep": %s}' % (b"9" * 5000),
        b'{"sweep": 1e999}',
        b'{"sweep": "%s"}' % (b"x" * 100_000),
        b'{"sweep": %s}' % (b"[" * 500 + b"]" * 500),
        b'{"trials": {"a": "\\ud800"}}',
        b'{"trials": null}',
    ],
    ids=lambda content: repr(content[:40]),
)
def test_what_holds_no_orders_is_refused(tmp_path, content):
    (tmp_path / "orders.json").write_bytes(content)
    refusal(tmp_path / "orders.json")


@pytest.mark.slow
@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(content=st.binary() | (VALUES | ORDERS).map(lambda value: json.dumps(value).encode()))
def test_whatever_the_file_holds_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("sweep") / "orders.json"
    path.write_bytes(content)
    try:
        orders = ControlFile.read(path)
    except DamagedFile:
        refusal(path)
        return
    assert {orders.sweep, *orders.trials.values()} <= set(STATES)
    orders.write(path)
    assert ControlFile.read(path) == orders
