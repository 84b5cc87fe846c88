"""An address that cannot be listened on names the option that gave it."""

from __future__ import annotations

import pytest

from aream.errors import ConfigError
from orchestrator.console.listening import listening


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "a..b"])
def test_a_host_that_is_not_this_machine(host):
    with pytest.raises(ConfigError, match=r"^--host: given '.*'; need a name or address of this machine"):
        listening(host, 0)


def test_a_port_that_is_taken():
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"^--port {port}: cannot listen on 127.0.0.1"):
            listening("127.0.0.1", port)
