"""Random input of clients: the server answers or closes, logs no internal error, and serves the next client.

Run more examples with ``pytest --hypothesis-profile=soak tests/embedded/test_random_clients.py``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.from_thread
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async._protocol._endpoints import NAMESPACES, ChannelEndpoint, RpcEndpoint, endpoints
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.testing import ModelsFolder, served
from tests.embedded.local_hub import LocalHub
from tests.embedded.raw_client import RawClient, connected, query, stack
from tests.embedded.sockets import frame, plain_socket, raw_websocket
from tests.soak import bounded


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf", script="Hello there")
    folder.add_embedding("acme/embed-GGUF/embed-F32.gguf")
    return folder.folder


class Faults(logging.Handler):
    """A log handler that collects the unexpected exceptions of the server."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.found.append(self.format(record))


@pytest.fixture(scope="module")
def faults() -> Iterator[Faults]:
    handler = Faults()
    names = ("lmstudio_async", "uvicorn", "asyncio")
    for name in names:
        logging.getLogger(name).addHandler(handler)
    yield handler
    for name in names:
        logging.getLogger(name).removeHandler(handler)


# -- packets


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
models_meant = st.sampled_from(["tiny", "text-embedding-embed", "nothing", "../tiny"]) | anything
specifiers = (
    st.sampled_from(
        [query("tiny"), query(), {"type": "instanceReference", "instanceReference": "x"}, {"type": "new"}]
    )
    | anything
)
settings_keys = st.sampled_from(
    [
        "llm.load.contextLength",
        "llm.load.numParallelSessions",
        "llm.prediction.maxPredictedTokens",
        "llm.prediction.temperature",
        "llm.prediction.stopStrings",
        "llm.prediction.structured",
        "llm.prediction.tools",
        "llm.prediction.promptTemplate",
    ]
)
# Long answers and large contexts take time, and are tested elsewhere.
settings_values = (
    st.integers(-1, 300) | st.floats(-1, 2) | st.text(max_size=4) | st.lists(st.text(max_size=4))
)
stacks = st.dictionaries(settings_keys, settings_values | anything, max_size=3).map(stack) | anything
parts = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "file", "toolCallRequest", "toolCallResult"])},
    optional={"text": st.text(max_size=5) | anything, "identifier": anything, "content": anything},
)
chats = st.fixed_dictionaries(
    {
        "messages": st.lists(
            st.fixed_dictionaries(
                {"role": st.sampled_from(["user", "system", "assistant", "tool"]) | anything},
                optional={"content": st.lists(parts | anything, max_size=3)},
            ),
            max_size=3,
        )
    }
)
parameters = (
    st.fixed_dictionaries(
        {
            "modelKey": models_meant,
            "identifier": models_meant,
            "specifier": specifiers,
            "modelSpecifier": specifiers,
            "loadConfigStack": stacks,
            "predictionConfigStack": stacks,
            "history": chats | anything,
            "inputString": st.text(max_size=20) | anything,
            "rawPrompt": st.text(max_size=20) | anything,
            "name": st.text(max_size=20) | anything,
            "contentBase64": st.sampled_from(["aGVsbG8=", "iVBORw0KGgo="]) | anything,
            "throwIfNotFound": st.booleans() | anything,
            "downloadIdentifier": st.just(f"acme/tiny@{'a' * 40}/tiny.gguf") | anything,
            "modelSearchResultIdentifier": st.just("acme/tiny") | anything,
        },
        optional=dict.fromkeys(
            ("ttlMs", "loadTtlMs", "deviceIdentifier", "title", "opts", "searchTerm", "limit"), anything
        ),
    )
    | anything
)
numbers = st.integers(0, 4)


def messages(namespace: str) -> st.SearchStrategy[Any]:
    table = endpoints(namespace)
    calls = [name for name, entry in table.items() if isinstance(entry, RpcEndpoint)]
    channels = [name for name, entry in table.items() if isinstance(entry, ChannelEndpoint)]
    call = st.fixed_dictionaries(
        {
            "type": st.just("rpcCall"),
            "endpoint": st.sampled_from([*calls, "nothing"]) | anything,
            "callId": numbers | anything,
        },
        optional={"parameter": parameters},
    )
    channel = st.fixed_dictionaries(
        {
            "type": st.just("channelCreate"),
            "endpoint": st.sampled_from([*channels, "nothing"]) | anything,
            "channelId": numbers | anything,
        },
        optional={"creationParameter": parameters},
    )
    packet = st.fixed_dictionaries(
        {
            "type": st.just("channelSend"),
            "channelId": numbers | anything,
            "message": st.sampled_from([{"type": "cancel"}, {"type": "stop"}]) | anything,
        }
    )
    other = st.fixed_dictionaries(
        {
            "type": st.sampled_from(
                ["keepAlive", "communicationWarning", "signalSubscribe", "channelAck", "rpcResult"]
            )
            | anything
        },
        optional=dict.fromkeys(("subscribeId", "warning", "endpoint", "channelId"), numbers | anything),
    )
    return call | channel | packet | other | anything


conversations = st.sampled_from(NAMESPACES).flatmap(
    lambda namespace: st.tuples(
        st.just(namespace),
        st.lists(messages(namespace).map(json.dumps) | st.text(max_size=20), max_size=10),
    )
)


def answers_due(frames: Sequence[str]) -> tuple[set[int], set[int]]:
    """Return the numbers of the calls and of the channels that the server has to answer."""
    calls, channels = set[int](), set[int]()
    for text in frames:
        with contextlib.suppress(ValueError):
            match json.loads(text):
                case {"type": "rpcCall", "endpoint": str(), "callId": int(number)} if type(number) is int:
                    calls.add(number)
                # This channel ends only with its connection.
                case {"type": "channelCreate", "endpoint": "alive"}:
                    pass
                case {"type": "channelCreate", "endpoint": str(), "channelId": int(number)} if (
                    type(number) is int
                ):
                    channels.add(number)
    return calls, channels


async def send_and_wait(raw: RawClient, frames: Sequence[str]) -> None:
    """Send these frames, and wait for every answer that is due."""
    for text in frames:
        # A text with half a surrogate pair cannot be sent.
        with contextlib.suppress(UnicodeEncodeError):
            text.encode()
            await raw.send(text)
    calls, channels = answers_due(frames)
    for number in channels:
        for kind in ("cancel", "stop"):
            await raw.tell(number, type=kind)
    while calls or channels:
        match await raw.next():
            case {"type": "rpcResult" | "rpcError", "callId": number}:
                calls.discard(number)
            case {"type": "channelClose" | "channelError", "channelId": number}:
                channels.discard(number)


async def settle(server: EmbeddedServer) -> None:
    """Check that the server serves a valid client, and restore the state of one loaded model."""
    while server._clients._clients:
        await anyio.lowlevel.checkpoint()
    async with connected(server) as raw:
        loaded = {info["identifier"] for info in await raw.call("listLoaded")}
        for identifier in loaded - {"tiny"}:
            await raw.call("unloadModel", {"identifier": identifier})
        if "tiny" not in loaded:
            await raw.load("tiny")


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def running(
    models: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[anyio.from_thread.BlockingPortal, EmbeddedServer]]:
    """One server in a thread for all examples, so that leftovers of one example disturb the next one."""
    with (
        LocalHub() as hub,
        pytest.MonkeyPatch.context() as environment,
        anyio.from_thread.start_blocking_portal(request.param) as portal,
    ):
        environment.setenv("HF_ENDPOINT", hub.url)
        environment.setenv("NO_PROXY", "127.0.0.1")
        with portal.wrap_async_context_manager(EmbeddedServer(models, threads=1)) as server:
            portal.call(settle, server)
            yield portal, server


@given(conversation=conversations)
@bounded(60)
def test_any_packets_cause_no_internal_error(
    running: tuple[anyio.from_thread.BlockingPortal, EmbeddedServer],
    faults: Faults,
    conversation: tuple[str, list[str]],
) -> None:
    portal, server = running
    namespace, frames = conversation

    async def talk() -> None:
        with anyio.fail_after(60):
            async with connected(server, namespace) as raw:
                await send_and_wait(raw, frames)
            await settle(server)
            while server._state.served:
                await anyio.lowlevel.checkpoint()
        # All tasks of the connection have ended with it, and have released the instances and the logs.
        assert not any(instance.is_busy for instance in server._state.instances.loaded())
        assert not server._logs.watchers

    portal.call(talk)
    assert faults.found == []


# -- bytes


@pytest.fixture(scope="module")
def address(models: Path) -> Iterator[str]:
    with served(EmbeddedServer(models, threads=1)) as place:
        yield place


def send_all(connection: socket.socket, data: bytes) -> None:
    """Send the data, and read until the server closes the connection."""
    # The server may close the connection before it has received all data.
    with contextlib.suppress(ConnectionError):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


frames_of_any_kind = st.builds(
    frame, st.binary(max_size=130) | st.just(b'{"type":"keepAlive"}'), st.integers(0, 15), fin=st.booleans()
)
heads = st.builds(
    lambda first, second, rest: struct.pack("!BB", first, second) + rest,
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(max_size=20),
)
requests = st.lists(
    st.sampled_from(
        [
            b"GET /llm HTTP/1.1\r\n",
            b"POST /api/v1/models/load HTTP/1.1\r\n",
            b"Host: localhost\r\n",
            b"Content-Length: 10\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            b"Origin: http://localhost\r\n",
            b"\r\n",
            b'{"model": "nothing"}',
        ]
    )
    | st.binary(max_size=20),
    max_size=10,
).map(b"".join)


@given(request=requests)
@bounded(100)
def test_any_bytes_as_a_request_cause_no_internal_error(address: str, faults: Faults, request: bytes) -> None:
    with plain_socket(address) as connection:
        send_all(connection, request)
    assert faults.found == []


@given(data=st.lists(frames_of_any_kind | heads, max_size=6).map(b"".join))
@bounded(60)
def test_any_bytes_over_a_websocket_cause_no_internal_error(
    address: str, faults: Faults, data: bytes
) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    with raw_websocket(address) as connection:
        send_all(connection, data)
    assert faults.found == []
    if before:
        # The server may close its end of the last connection a moment later.
        assert len(os.listdir("/proc/self/fd")) <= before + 3
