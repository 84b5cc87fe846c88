"""Lets hosts reach a server that listens on loopback only: forward.py HOST:PORT TARGET:PORT, until it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import sys


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
    writer.close()


async def main(here: str, there: str) -> None:
    target, port = there.split(":")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, questions = await asyncio.open_connection(target, int(port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, questions), copy(answers, writer))

    address, own = here.split(":")
    await (await asyncio.start_server(serve, address, int(own))).serve_forever()


asyncio.run(main(*sys.argv[1:]))
