"""Limits of the embedded server for a client, and the errors above them."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest

from lmstudio_async._protocol._server_side import read_authentication
from lmstudio_async._transport import memory_pair
from lmstudio_async._wire._diagnostics import LogEvent, LogPacket
from lmstudio_async._wire._struct import read
from lmstudio_async._wire._system import NotifyParameter
from lmstudio_async.embedded import EmbeddedServer, ServerLimits
from lmstudio_async.embedded._connections._clients import Clients
from lmstudio_async.embedded._connections._connection import Channel, Connection
from lmstudio_async.errors import LMStudioValueError, LMStudioWebsocketError
from lmstudio_async.testing import ModelsFolder
from tests.clock import let_pass
from tests.embedded.raw_client import RawClient, Refused, connected, stack
from tests.embedded.raw_predictions import begin, first_fragment

KEEP_ALIVE = '{"type":"keepAlive"}'


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/endless-GGUF/endless-F32.gguf", script="on ", endless=True, context_length=600_000)
    return folder.folder


@asynccontextmanager
async def served_by(
    handlers: object, namespace: str = "system", *, max_unread: int = 4096, seconds: float = 20, **limits: Any
) -> AsyncIterator[RawClient]:
    """Yield a client whose requests these handlers answer. ``seconds`` are of the event loop's clock."""
    theirs, ours = memory_pair(max_unread=max_unread)
    clients = Clients((), ServerLimits(**limits))

    async def handlers_of(*_: object) -> object:
        return handlers

    connection = Connection(ours, namespace, clients, handlers_of, ServerLimits(**limits))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(connection.run)
        raw = RawClient(theirs)
        assert await raw.authenticate() == {"success": True}
        with anyio.fail_after(seconds):
            yield raw
        await theirs.aclose()


async def wait_disconnected(server: EmbeddedServer) -> None:
    """Wait until the server has no clients, without reading any of its frames."""
    with anyio.fail_after(20):
        while server._clients._clients:
            await anyio.lowlevel.checkpoint()


# -- connections


async def test_a_connection_above_the_limit_is_refused_with_a_reason(models: Path) -> None:
    async with EmbeddedServer(models, limits=ServerLimits(connections=2)) as server:
        async with connected(server), connected(server, "system"), server.connect("llm") as transport:
            third = RawClient(transport)
            answer = await third.authenticate()
            assert answer["success"] is False
            assert "2 connections" in answer["error"]
            assert await third.is_closed_by_server()
        await wait_disconnected(server)
        async with connected(server):
            pass


async def test_a_client_that_never_authenticates_is_disconnected_with_an_error(models: Path) -> None:
    async with (
        EmbeddedServer(models, limits=ServerLimits(authentication_seconds=0.01)) as server,
        server.connect("llm") as transport,
    ):
        raw = RawClient(transport)
        assert await raw.next() == {"success": False, "error": "Authentication timed out"}
        assert await raw.is_closed_by_server()


async def test_a_long_frame_before_authentication_is_ignored(models: Path) -> None:
    long = '{"authVersion":1,"clientIdentifier":"a","clientPasskey":"b"' + " " * 100_000 + "}"
    assert read_authentication(long) is not None
    async with EmbeddedServer(models) as server, server.connect("llm") as transport:
        raw = RawClient(transport)
        await raw.send(long)
        assert await raw.authenticate() == {"success": True}
        # The second frame authenticated the client. Otherwise the server would warn that it is no message.
        assert await raw.silence() == []


# -- channels and calls of one connection


async def test_a_channel_above_the_limit_ends_with_an_error_and_the_others_continue(models: Path) -> None:
    async with (
        EmbeddedServer(models, limits=ServerLimits(channels=2)) as server,
        connected(server, "diagnostics") as raw,
    ):
        first = await raw.open("streamLogs")
        await raw.open("streamLogs")
        third = await raw.open("streamLogs")
        with pytest.raises(Refused, match="2 channels"):
            await raw.packet(third)
        assert await raw.silence() == []
        await raw.tell(first, type="stop")
        assert await raw.packets(first) == []
        again = await raw.open("streamLogs")
        await raw.tell(again, type="stop")
        assert await raw.packets(again) == []


class Busy:
    """Handlers that answer a call when the test sets its event."""

    def __init__(self) -> None:
        self.running: dict[str, anyio.Event] = {}

    async def notify(self, parameter: NotifyParameter) -> None:
        self.running[parameter.title] = anyio.Event()
        await self.running[parameter.title].wait()

    async def get_experiment_flags(self, _: None) -> list[str]:
        return list(self.running)


async def test_calls_above_the_limit_wait_for_a_free_slot() -> None:
    busy = Busy()
    async with served_by(busy, calls=2) as raw:
        for number, title in enumerate("abcd"):
            await raw.send(
                {"type": "rpcCall", "endpoint": "notify", "callId": number, "parameter": {"title": title}}
            )
        await raw.send({"type": "rpcCall", "endpoint": "getExperimentFlags", "callId": 9})
        await anyio.wait_all_tasks_blocked()
        assert set(busy.running) == {"a", "b"}
        busy.running["b"].set()
        assert (await raw.next())["callId"] == 1
        await anyio.wait_all_tasks_blocked()
        assert set(busy.running) == {"a", "b", "c"}
        for title, number in (("a", 0), ("c", 2)):
            busy.running[title].set()
            await raw.next(callId=number)
        assert set((await raw.next(callId=9))["result"]) == {"a", "b", "c", "d"}


async def test_calls_above_waiting_bytes_are_refused() -> None:
    busy = Busy()
    async with served_by(busy, calls=1, waiting_bytes=1000) as raw:
        for number in range(20):
            await raw.send(
                {"type": "rpcCall", "endpoint": "notify", "callId": number, "parameter": {"title": "x"}}
            )
        refused = await raw.next(type="rpcError")
        assert f"{refused['callId'] - 1} calls wait" in refused["error"]["title"]
        for number in range(refused["callId"]):
            await anyio.wait_all_tasks_blocked()
            busy.running["x"].set()
            assert (await raw.next(callId=number))["type"] == "rpcResult"


async def test_waiting_calls_end_with_their_connection() -> None:
    busy = Busy()
    async with served_by(busy, calls=1) as raw:
        for title in "ab":
            await raw.send(
                {"type": "rpcCall", "endpoint": "notify", "callId": 1, "parameter": {"title": title}}
            )
        await anyio.wait_all_tasks_blocked()
        # Leaving the block waits for all tasks of the connection. The events are never set, so the calls have to end.
    assert list(busy.running) == ["a"]


async def test_predictions_above_the_queue_limit_of_an_instance_are_refused(models: Path) -> None:
    async with (
        EmbeddedServer(models, threads=1, limits=ServerLimits(queued_predictions=1)) as server,
        connected(server) as raw,
    ):
        one_session = stack({"llm.load.contextLength": 500_000, "llm.load.numParallelSessions": 1})
        await raw.load("endless", loadConfigStack=one_session)
        working = await begin(raw, "endless")
        await first_fragment(raw, working)
        waiting = await begin(raw, "endless")
        with pytest.raises(Refused, match='2 predictions use or wait for "endless"'):
            await raw.packets(await begin(raw, "endless"))
        await raw.cancel(working)
        assert (await raw.packets(working))[-1]["type"] == "success"
        await first_fragment(raw, waiting)
        await raw.cancel(waiting)
        assert (await raw.packets(waiting))[-1]["type"] == "success"


# -- uploads


async def upload(raw: RawClient, size: int, name: str = "noise.bin") -> Any:
    content = base64.b64encode(bytes(size)).decode()
    return await raw.call("uploadFileBase64", {"name": name, "contentBase64": content})


async def test_uploads_above_a_limit_are_refused(models: Path) -> None:
    limits = ServerLimits(file_bytes=6000, client_bytes=9000, client_files=3, total_bytes=12_000)
    async with EmbeddedServer(models, limits=limits) as server:
        async with connected(server, "files") as raw:
            with pytest.raises(Refused, match="the limit for a file is"):
                await upload(raw, 6003)
            await upload(raw, 6000)
            with pytest.raises(Refused, match="altogether"):
                await upload(raw, 3003)
            with pytest.raises(Refused, match="not valid base64"):
                await raw.call("uploadFileBase64", {"name": "a", "contentBase64": "?" * 4000})
            await upload(raw, 3000)
            async with connected(server, "files", clientIdentifier="guest:other") as other:
                with pytest.raises(Refused, match="clients of this server"):
                    await upload(other, 3003)
                for _ in range(3):
                    await upload(other, 0)
                with pytest.raises(Refused, match="3 files"):
                    await upload(other, 0)
        await wait_disconnected(server)
        async with connected(server, "files") as raw:
            await upload(raw, 6000)


async def test_simultaneous_uploads_are_counted_together(models: Path) -> None:
    async with (
        EmbeddedServer(models, limits=ServerLimits(client_bytes=6000)) as server,
        connected(server, "files") as raw,
    ):
        parameter = {"name": "a", "contentBase64": base64.b64encode(bytes(3000)).decode()}
        for number in range(5):
            await raw.send(
                {"type": "rpcCall", "endpoint": "uploadFileBase64", "callId": number, "parameter": parameter}
            )
        kinds = [(await raw.next(callId=number))["type"] for number in range(5)]
        assert sorted(kinds) == ["rpcError"] * 3 + ["rpcResult"] * 2


@pytest.mark.parametrize(
    ("name", "ending"),
    [("cat.png", ".png"), ("../../etc/passwd", ""), ("C:\\con.txt", ".txt"), ("a.\0b", ""), ("a.b/c", "")],
)
async def test_the_identifier_of_an_uploaded_file_keeps_only_its_suffix(
    models: Path, name: str, ending: str
) -> None:
    async with EmbeddedServer(models) as server, connected(server, "files") as raw:
        identifier = (await upload(raw, 1, name))["identifier"]
        assert identifier.endswith(ending)
        assert set(identifier.removesuffix(ending)) <= set("0123456789abcdef -")
        with pytest.raises(Refused, match="1024 characters"):
            await upload(raw, 1, "x" * 1025)


# -- clients that do not read


async def test_a_client_that_reads_nothing_is_disconnected(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        EmbeddedServer(models, limits=ServerLimits(unread_seconds=0.05)) as server,
        connected(server, "system") as raw,
    ):
        # Send until the server stops reading as well.
        with pytest.raises(LMStudioWebsocketError), anyio.fail_after(20):
            while True:
                await raw.transport.send(*[KEEP_ALIVE] * 1000)
        await wait_disconnected(server)
    assert "read nothing for 0.05 seconds" in caplog.text


class Chatty:
    """Handlers that send many packets without waiting for the client."""

    async def stream_logs(self, _: None, channel: Channel) -> None:
        event = {"timestamp": 1, "data": {"type": "llm.prediction.input", "input": "x" * 1000}}
        for _each in range(100):
            channel.post(LogPacket(log=read(LogEvent, event)))
        await anyio.sleep_forever()


async def test_a_client_that_reads_slowly_stays_connected() -> None:
    async with served_by(Chatty(), "diagnostics", max_unread=1, unread_bytes=200_000, seconds=3600) as raw:
        channel = await raw.open("streamLogs")
        for _ in range(100):
            # Up to two packets arrive together, and the time limit is 60 seconds.
            await let_pass(20)
            assert await raw.packet(channel) is not None


async def test_a_server_that_stood_still_keeps_its_clients() -> None:
    async with served_by(Chatty(), "diagnostics", max_unread=1, unread_bytes=200_000, seconds=7200) as raw:
        channel = await raw.open("streamLogs")
        # The first check finds unsent packets, and the second one finds the same packets.
        await let_pass(60)
        await let_pass(3600)
        for _ in range(100):
            assert await raw.packet(channel) is not None


async def test_unread_bytes_of_a_client_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    async with served_by(Chatty(), "diagnostics", max_unread=1, unread_bytes=20_000) as raw:
        await raw.open("streamLogs")
        assert await raw.is_closed_by_server()
    assert "bytes unread" in caplog.text
    async with served_by(Chatty(), "diagnostics", max_unread=1, unread_bytes=200_000) as raw:
        channel = await raw.open("streamLogs")
        for _ in range(100):
            assert await raw.packet(channel) is not None


# -- the limits themselves


def test_every_limit_can_be_set_and_refuses_invalid_values() -> None:
    for field in attrs.fields(ServerLimits):
        assert getattr(ServerLimits(**{field.name: 5}), field.name) == 5
        wrongs: tuple[Any, ...] = (0, -1, True, "5", None, float("inf"), float("nan"))
        for wrong in wrongs:
            with pytest.raises(LMStudioValueError, match=field.name):
                ServerLimits(**{field.name: wrong})
    with pytest.raises(LMStudioValueError, match="whole number"):
        ServerLimits(connections=1.5)  # type: ignore[arg-type]
    with pytest.raises(LMStudioValueError, match="limits"):
        EmbeddedServer(limits=5)  # type: ignore[arg-type]
    assert EmbeddedServer(limits=ServerLimits(channels=7)).limits.channels == 7
