"""Programs with and without OpenTelemetry. Each test runs a program, because a provider is set once a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lmstudio_async import EmbeddedServer
from lmstudio_async.testing import ModelsFolder, served

ROOT = Path(__file__).parent.parent

WITH_PROVIDER = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter = InMemorySpanExporter()
trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))
"""
ASYNC = """
import lmstudio_async
async def main():
    async with lmstudio_async.AsyncClient(host) as client:
        llm = await client.llm.model("talker")
        await llm.respond("Hello", config={"max_tokens": 3})
anyio.run(main, backend=backend)
"""
BLOCKING = """
import lmstudio_sync
with lmstudio_sync.Client(host, backend=backend) as client:
    client.llm.model("talker").respond("Hello", config={"max_tokens": 3})
"""
MODULES = "print(json.dumps([name for name in sys.modules if 'opentelemetry' in name or '_tracing' in name]))"
NAMES = "print(json.dumps([[span.name, dict(span.attributes)] for span in exporter.get_finished_spans()]))"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("talker", script="on and on ", endless=True, context_length=65536)
    with served(EmbeddedServer(folder.folder, threads=1)) as place:
        yield place


def output(address: str, backend: str, *parts: str, **environment: str) -> Any:
    code = "\n".join(
        ["import anyio, asyncio, json, sys", f"host, backend = {address!r}, {backend!r}", *parts]
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("program", [ASYNC, BLOCKING])
def test_a_program_without_opentelemetry_imports_none_of_it(address: str, program: str) -> None:
    assert output(address, "asyncio", program, MODULES) == []


@pytest.mark.parametrize("program", [ASYNC, BLOCKING])
def test_without_a_provider_no_span_is_made(address: str, program: str) -> None:
    broken = """
from opentelemetry import trace
def fail(*args, **kwargs):
    raise AssertionError
trace.NoOpTracer.start_span = trace.ProxyTracer.start_span = fail
"""
    assert "lmstudio_async._tracing" in output(address, "asyncio", broken, program, MODULES)


@pytest.mark.parametrize("program", [ASYNC, BLOCKING])
def test_the_spans_go_to_the_provider_of_the_program(address: str, anyio_backend: str, program: str) -> None:
    found = dict(output(address, anyio_backend, WITH_PROVIDER, program, NAMES))
    assert list(found) == ["lmstudio.load", "chat talker"]
    assert found["chat talker"]["server.address"] == "127.0.0.1"
    assert found["chat talker"]["server.port"] == int(address.rpartition(":")[2])


def test_a_provider_that_is_set_late_gets_the_spans_from_then_on(address: str) -> None:
    found = output(address, "asyncio", ASYNC, WITH_PROVIDER, ASYNC, NAMES)
    assert [name for name, _ in found] == ["lmstudio.load", "chat talker"]


def test_a_disabled_sdk_makes_no_spans(address: str) -> None:
    assert output(address, "asyncio", WITH_PROVIDER, ASYNC, NAMES, OTEL_SDK_DISABLED="true") == []


FORGOTTEN = """
import lmstudio_async
kept = []
async def main():
    client = await lmstudio_async.AsyncClient.open(host)
    llm = await client.llm.model("talker")
    stream = llm.respond_stream("Hello")
    await stream.__anext__()
    kept.append(stream)
"""
#: Ends of an event loop that leave a running stream behind. The last one cancels no task.
ENDS = {
    "asyncio.run": "asyncio.run(main())",
    "trio": "import trio; trio.run(main)",
    "closed": """
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
import gc
kept.clear()
gc.collect()
""",
}


@pytest.mark.parametrize("end", ENDS)
def test_the_end_of_the_event_loop_ends_the_span(address: str, end: str) -> None:
    code = "import warnings; warnings.simplefilter('ignore')"
    found = dict(output(address, "", WITH_PROVIDER, code, FORGOTTEN, ENDS[end], NAMES))
    assert found["chat talker"]["lmstudio.cancelled"] is True
