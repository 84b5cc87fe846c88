"""A port of this machine's to listen on, or one line that says why not."""

from __future__ import annotations

import contextlib
import errno
import socket

from aream.errors import ConfigError

BACKLOG, MOST_PORT = 128, 65535


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there; 0: on any port that is free.

    Raises:
        ConfigError: no such address or port, or somebody else listens there.
    """
    if not 0 <= port <= MOST_PORT:  # the system takes others modulo 65536
        raise ConfigError(f"--port: given {port}; need a number in 0..{MOST_PORT}")
    with contextlib.ExitStack() as opened:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listener = opened.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except UnicodeError as error:  # of a name with an empty label
            raise _not_here(host, error) from error
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise _not_here(host, error) from error
            raise ConfigError(f"--port {port}: cannot listen on {host} ({error})") from error
        opened.pop_all()
    return listener


def _not_here(host: str, error: Exception) -> ConfigError:
    return ConfigError(f"--host: given {host!r}; need a name or address of this machine ({error})")
