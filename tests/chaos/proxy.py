"""TCP proxy between clients and the server that cuts, stalls and splits the streams of bytes."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import suppress
from types import TracebackType
from typing import Self

__all__ = ["Proxy"]

PIECE = 65536


class Proxy:
    """Forwards bytes between clients and a server while its block lasts; on asyncio.

    :param port: the server's port, on this machine.
    """

    def __init__(self, port: int, seed: int) -> None:
        self._to = port
        self._dice = random.Random(f"{seed} proxy")
        self._pairs: list[_Pair] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server
        self.refuses = False
        self.splits = False

    @property
    def address(self) -> str:
        """The address that clients connect to."""
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=256)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for pair in self._pairs:
            pair.cut(rudely=True)
        if self._tasks:
            await asyncio.wait(self._tasks)

    # -- faults

    def cut(self, pick: float, *, rudely: bool) -> None:
        """Cut one connection: with a reset, or as if the other side had closed it."""
        if self._pairs:
            self._pairs[int(pick * len(self._pairs))].cut(rudely=rudely)

    def cut_half_way(self, pick: float) -> None:
        """Cut one connection in the middle of the next data that the server sends."""
        if self._pairs:
            self._pairs[int(pick * len(self._pairs))].cut_next = True

    def cut_all(self) -> None:
        """Cut all connections."""
        for pair in list(self._pairs):
            pair.cut(rudely=True)

    async def stall(self, pick: float, seconds: float) -> None:
        """Forward nothing on one connection for a while."""
        if not self._pairs:
            return
        pair = self._pairs[int(pick * len(self._pairs))]
        pair.flows.clear()
        await asyncio.sleep(seconds)
        pair.flows.set()

    # -- a connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pass_on(reader, writer)
        finally:
            _close(writer, rudely=self.refuses)
            self._tasks.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            return
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            return
        pair = _Pair(writer, to_server)
        self._pairs.append(pair)
        try:
            up = asyncio.create_task(self._pump(pair, reader, to_server, says_server=False))
            down = asyncio.create_task(self._pump(pair, from_server, writer, says_server=True))
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            # Close gently, because the last bytes of one side may not have reached the other one yet.
            _close(writer, rudely=False)
            _close(to_server, rudely=False)
            pair.flows.set()
            await asyncio.wait((up, down))
        finally:
            self._pairs.remove(pair)

    async def _pump(
        self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, says_server: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(PIECE):
                await pair.flows.wait()
                if says_server and pair.cut_next:
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                    pair.cut(rudely=self._dice.random() < 0.5)
                    return
                for piece in self._pieces(data):
                    writer.write(piece)
                    await writer.drain()
                    if self.splits:
                        # Without a switch to the event loop, the pieces would be sent together.
                        await asyncio.sleep(0)

    def _pieces(self, data: bytes) -> list[bytes]:
        if not self.splits:
            return [data]
        places = sorted(self._dice.sample(range(len(data)), min(len(data), 8)))
        return [
            data[begin:end]
            for begin, end in zip([0, *places], [*places, len(data)], strict=True)
            if end > begin
        ]


class _Pair:
    """A client's connection to the proxy and the matching connection to the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._writers = (client, server)
        self.flows = asyncio.Event()
        self.flows.set()
        self.cut_next = False

    def cut(self, *, rudely: bool) -> None:
        for writer in self._writers:
            _close(writer, rudely=rudely)
        self.flows.set()


def _close(writer: asyncio.StreamWriter, *, rudely: bool) -> None:
    if rudely and not writer.is_closing():
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()
