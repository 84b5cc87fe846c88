"""The browser as a server of this process."""

from __future__ import annotations

import socket

import anyio.to_thread
import torch
import uvicorn

from aream.errors import ConfigError
from orchestrator.browser.server import application
from orchestrator.browser.sweep import BrowsedSweep
from orchestrator.workspace import Workspace

BACKLOG, MOST_PORT = 128, 65535


def serve(workspace: Workspace, host: str, port: int, token: str | None, threads: int) -> None:
    """Serve a sweep's labels until the process is interrupted, once its address was printed.

    Raises:
        AreamError: the sweep cannot be shown, or the address cannot be listened on.
        KeyboardInterrupt: Ctrl-C.
    """
    sweep = BrowsedSweep(workspace)
    torch.set_num_threads(1)
    with _listening(host, port) as listener:
        shown = "localhost" if host == "127.0.0.1" else host
        address = f"http://{shown}:{listener.getsockname()[1]}/"
        print(f"{address}{f'?token={token}' if token else ''}\nCtrl-C ends it", flush=True)
        config = uvicorn.Config(application(sweep, token), log_level="warning", lifespan="off", access_log=False)
        server = uvicorn.Server(config)

        async def limited() -> None:
            anyio.to_thread.current_default_thread_limiter().total_tokens = threads
            await server.serve(sockets=[listener])

        anyio.run(limited)


def _listening(host: str, port: int) -> socket.socket:
    if not 0 <= port <= MOST_PORT:  # the system takes others modulo 65536
        raise ConfigError(f"--port: given {port}; need a number in 0..{MOST_PORT}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        raise ConfigError(f"--host {host} --port {port}: cannot listen there ({error})") from error
    return listener
