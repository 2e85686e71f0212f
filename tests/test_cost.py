"""Costs of the client that can be measured without a clock: counts, and one ratio within this process.

`benchmarks/` has the real figures. These tests catch only blunders, but on any machine, however busy it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx_ws
import pytest

from lmstudio_async import AsyncClient, AsyncLLM
from lmstudio_async._operations import AsyncOperation
from lmstudio_async._protocol._endpoints.llm import PREDICT
from lmstudio_async._protocol._endpoints.system import LIST_DOWNLOADED_MODELS
from lmstudio_async._transport._asyncio_stream import AsyncioStream
from lmstudio_async._transport._stream import WrappedStream
from lmstudio_async._transport._websocket import WebSocketTransport
from lmstudio_async._wire import _struct
from tests.scripted_server import MODEL, ScriptedServer, loaded_llm, until

ROOT = Path(__file__).parent.parent
FRAGMENTS = 2000
KIB = 1024


@pytest.fixture(scope="module")
def fast_server() -> Iterator[str]:
    """The benchmarks' server, in a process of its own."""
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.fast_server"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdin and server.stdout
    yield f"127.0.0.1:{int(server.stdout.readline())}"
    server.stdin.close()
    server.wait(10)
    server.stdout.close()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts of the client's reads from its sockets, writes to them, and waits for changes of an operation."""
    counts: Counter[str] = Counter()

    def count(cls: type[Any], name: str, what: str) -> None:
        method = getattr(cls, name)

        def counting(self: Any, *args: Any) -> Any:
            counts[what] += 1
            return method(self, *args)

        monkeypatch.setattr(cls, name, counting)

    count(WebSocketTransport, "_read_some", "reads")
    count(WrappedStream, "write", "writes")
    count(AsyncioStream, "_write_gathered", "writes")
    count(AsyncOperation, "_wait_for_change", "waits")
    return counts


async def fragments_of(llm: AsyncLLM, order: str) -> int:
    count = 0
    async for _ in llm.respond_stream(order):
        count += 1
    return count


@pytest.mark.parametrize("package", ["lmstudio_async", "lmstudio_sync"])
def test_importing_a_package_imports_few_modules(package: str) -> None:
    code = f"""
import json, sys
before = set(sys.modules)
import {package}
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    imported = json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT))
    heavy = {"anyio", "asyncio", "attr", "cattrs", "httpcore", "httpx", "httpx_ws", "ssl", "trio", "wsproto"}
    assert heavy.isdisjoint(imported)
    assert len(imported) < 60


LISTS = {
    "lmstudio_async": """
async def main():
    async with lmstudio_async.AsyncClient(host) as client:
        return await client.llm.list_loaded()
found = asyncio.run(main())
""",
    "lmstudio_sync": """
with lmstudio_sync.Client(host) as client:
    found = client.llm.list_loaded()
""",
}
ANSWERS = {
    "lmstudio_async": """
async def main():
    async with lmstudio_async.AsyncClient(host) as client:
        llm = await client.llm.model("tiny")
        return [fragment async for fragment in llm.respond_stream("n=10 mode=burst")]
found = asyncio.run(main())
""",
    "lmstudio_sync": """
with lmstudio_sync.Client(host) as client:
    found = list(client.llm.model("tiny").respond_stream("n=10 mode=burst"))
""",
}


def after(package: str, script: str, host: str) -> tuple[set[str], int]:
    """Run a script; return the modules that it has loaded, and the number of attrs classes of ours that it has made."""
    code = f"""
import asyncio, gc, json, sys, {package}
host = sys.argv[1]
{script}
assert found
gc.collect()
classes = [each for each in gc.get_objects() if isinstance(each, type) and "__attrs_attrs__" in vars(each)]
made = [each for each in classes if each.__module__.startswith("lmstudio_")]
print(json.dumps([list(sys.modules), len(made)]))
"""
    answer = subprocess.check_output([sys.executable, "-c", code, host], cwd=ROOT, timeout=60)
    modules, made = json.loads(answer)
    return set(modules), made


@pytest.mark.parametrize(("package", "modules"), [("lmstudio_async", 42), ("lmstudio_sync", 56)])
def test_listing_loaded_models_makes_no_attrs_classes(package: str, modules: int, fast_server: str) -> None:
    loaded, made = after(package, LISTS[package], fast_server)
    assert made == 0
    assert "cattrs" not in loaded
    ours = {each for each in loaded if each.startswith("lmstudio_")}
    assert "lmstudio_async._client" in ours
    assert len(ours) <= modules


@pytest.mark.parametrize(("package", "modules"), [("lmstudio_async", 63), ("lmstudio_sync", 78)])
def test_a_plain_prediction_imports_neither_configs_nor_tools(
    package: str, modules: int, fast_server: str
) -> None:
    loaded, made = after(package, ANSWERS[package], fast_server)
    assert made <= 60
    rare = {
        "_act",
        "_tools",
        "_schema",
        "_config",
        "_files_namespace",
        "_embedding",
        "_repository_namespace",
        "_system_namespace",
        "_wire._files",
    }
    assert loaded.isdisjoint({"cattrs", *(f"lmstudio_async.{each}" for each in rare)})
    assert len({each for each in loaded if each.startswith("lmstudio_")}) <= modules


async def test_packets_of_one_chunk_wake_a_consumer_once(fast_server: str, counted: Counter[str]) -> None:
    with anyio.fail_after(30):
        async with AsyncClient(fast_server) as client:
            llm = await client.llm.model("tiny")
            counted.clear()
            assert await fragments_of(llm, f"n={FRAGMENTS} mode=burst") == FRAGMENTS
    # A burst is a few hundred kilobytes, and the network may split it into any number of chunks.
    assert counted["reads"] < FRAGMENTS / 20
    assert counted["waits"] <= counted["reads"] + 2


async def test_a_hundred_calls_at_once_share_their_writes(fast_server: str, counted: Counter[str]) -> None:
    with anyio.fail_after(30):
        async with AsyncClient(fast_server) as client:
            llm = await client.llm.model("tiny")
            counted.clear()
            async with anyio.create_task_group() as tasks:
                for _ in range(100):
                    tasks.start_soon(llm.count_tokens, "How many?")
            assert 0 < counted["writes"] <= 10
            assert counted["reads"] <= 20


async def test_an_open_channel_takes_a_few_kilobytes(both: tuple[AsyncClient, ScriptedServer]) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    streams: list[Any] = []

    async def open_some(count: int) -> None:
        for _ in range(count):
            streams.append(await llm.respond_stream("Hello"))
            await server.next_message()

    with anyio.fail_after(60):
        # The first channels fill caches that all channels share.
        await open_some(5)
        tracemalloc.start()
        try:
            await open_some(50)
            size, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        async with anyio.create_task_group() as tasks:
            for stream in streams:
                tasks.start_soon(stream.aclose)
            for _ in streams:
                await server.close(await server.next_message())
        await until(lambda: all(stream._feed.done for stream in streams))
    # The official client takes ten KiB a channel.
    assert size / 50 < 5 * KIB


async def test_a_fragment_costs_a_fraction_of_one_with_plain_httpx_ws(fast_server: str) -> None:
    """Allow twice the target of 0.12; the median of ours is 0.1."""

    async def plain() -> None:
        socket: httpx_ws.AsyncWebSocketSession
        async with httpx_ws.aconnect_ws(f"http://{fast_server}/llm") as socket:
            await socket.send_json({"authVersion": 1, "clientIdentifier": "guest:x", "clientPasskey": "x"})
            await socket.receive_json()
            text = [{"type": "text", "text": f"n={FRAGMENTS} mode=burst"}]
            creation = {"history": {"messages": [{"role": "user", "content": text}]}}
            message = {"type": "channelCreate", "endpoint": "predict", "channelId": 1}
            await socket.send_json(message | {"creationParameter": creation})
            while (await socket.receive_json())["type"] != "channelClose":
                pass

    async with AsyncClient(fast_server) as client:
        llm = await client.llm.model("tiny")

        async def ours() -> None:
            assert await fragments_of(llm, f"n={FRAGMENTS} mode=burst") == FRAGMENTS

        with anyio.fail_after(60):
            await ours()
            ratios = [await processor_time(ours) / await processor_time(plain) for _ in range(3)]
    assert min(ratios) < 0.24


async def processor_time(work: Callable[[], Awaitable[None]]) -> float:
    """Return the processor time of this process alone, because other processes on this machine must not count."""
    began = time.process_time()
    await work()
    return time.process_time() - began


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (PREDICT.to_client, {"type": "fragment", "fragment": {"content": "Hi", "reasoningType": "none"}}),
        (PREDICT.to_client, {"type": "promptProcessingProgress", "progress": 1}),
        (LIST_DOWNLOADED_MODELS.result, [MODEL, MODEL | {"deviceIdentifier": "d", "brandNew": [None]}]),
    ],
)
def test_packets_of_servers_are_read_the_short_way(
    kind: Any, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ways: list[Any] = []
    monkeypatch.setattr(_struct, "_read_leniently", lambda *args: long_ways.append(args))
    assert _struct.read(kind, value)
    assert not long_ways
    # This packet needs the long way, which shows that the check works.
    _struct.read(PREDICT.to_client, {"type": "promptProcessingProgress", "progress": "half"})
    assert len(long_ways) == 1
