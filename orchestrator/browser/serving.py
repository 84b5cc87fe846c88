"""The browser as a server of this process."""

from __future__ import annotations

import ipaddress
import socket

import anyio.to_thread
import torch
import uvicorn

from orchestrator.browser.server import application
from orchestrator.browser.sweep import BrowsedSweep
from orchestrator.console.listening import listening
from orchestrator.workspace import Workspace


def serve(workspace: Workspace, host: str, port: int, token: str | None, threads: int) -> None:
    """Serve a sweep's labels until the process is interrupted, once its address was printed.

    Raises:
        AreamError: the sweep cannot be shown, or the address cannot be listened on.
        KeyboardInterrupt: Ctrl-C.
    """
    sweep = BrowsedSweep(workspace)
    torch.set_num_threads(1)
    with listening(host, port) as listener:
        address = address_of(host, *listener.getsockname()[:2])
        print(f"{address}{f'?token={token}' if token else ''}\nCtrl-C ends it", flush=True)
        config = uvicorn.Config(application(sweep, token), log_level="warning", lifespan="off", access_log=False)
        server = uvicorn.Server(config)

        async def limited() -> None:
            anyio.to_thread.current_default_thread_limiter().total_tokens = threads
            await server.serve(sockets=[listener])

        anyio.run(limited)


def address_of(host: str, bound: str, port: int) -> str:
    """What a web browser is to open, also one on another machine where the server is for others.

    Args:
        host: as the user gave it.
        bound: the number that it stands for.
    """
    if ipaddress.ip_address(bound.partition("%")[0]).is_unspecified:
        name = socket.gethostname()
    else:
        name = "localhost" if host == "127.0.0.1" else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/"
