"""The address that is printed."""

from __future__ import annotations

import socket
import urllib.parse

import pytest

from orchestrator.browser.serving import address_of


@pytest.mark.parametrize(
    ("host", "bound", "opened"),
    [
        ("127.0.0.1", "127.0.0.1", "localhost"),
        ("localhost", "::1", "localhost"),
        ("::1", "::1", "::1"),
        ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("gpu-1", "192.0.2.7", "gpu-1"),
        ("fe80::1%eth0", "fe80::1%eth0", "fe80::1%eth0"),
        ("0.0.0.0", "0.0.0.0", socket.gethostname().lower()),
        ("::", "::", socket.gethostname().lower()),
        ("0", "0.0.0.0", socket.gethostname().lower()),
    ],
)
def test_the_printed_address_can_be_opened(host, bound, opened):
    address = urllib.parse.urlsplit(address_of(host, bound, 5050))
    assert (address.scheme, address.hostname, address.port, address.path) == ("http", opened, 5050, "/")
