"""Errors that a new user meets: their messages, and that each failure raises one `LMStudioError`."""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import anyio
import anyio.to_thread
import pytest

from lmstudio_async import (
    AsyncClient,
    EmbeddedServer,
    LMStudioAuthenticationError,
    LMStudioConnectionClosedError,
    LMStudioError,
    LMStudioMissingRuntimeError,
    LMStudioRuntimeError,
    LMStudioUnreachableError,
    LMStudioValueError,
    ModelQuery,
)
from lmstudio_async import _transport as transport
from lmstudio_async.testing import ModelsFolder, served
from tests.scripted_server import ScriptedServer

LLAMA = "llama-3.2-1b-instruct"
TOKEN = "sk-lm-abcdefgh:ABCDEFGHIJKLMNOPQRST"
OTHER_TOKEN = "sk-lm-ijklmnop:ABCDEFGHIJKLMNOPQRST"


@pytest.fixture(scope="module")
def guarded(models: Path) -> Iterator[str]:
    """The address of a server that requires a token."""
    with served(EmbeddedServer(models, api_tokens=[TOKEN], threads=1)) as place:
        yield place


@contextmanager
def web_server() -> Iterator[str]:
    """Run a web server that is not LM Studio; provide its address."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class says so
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


# -- addresses


async def test_error_for_an_unreachable_address_tells_how_to_start_a_server(closed_port: int) -> None:
    place = f"127.0.0.1:{closed_port}"
    async with AsyncClient(place) as client:
        with pytest.raises(LMStudioUnreachableError, match=rf"(?s){place}.*Start LM Studio.*embedded"):
            await client.llm.model()


@pytest.mark.parametrize("place", ["http", "https"])
async def test_traceback_of_a_failed_connect_shows_no_library_frames(place: str, closed_port: int) -> None:
    with web_server() as address:
        async with AsyncClient(f"{place}://{address}") as client:
            with pytest.raises(LMStudioUnreachableError) as wrong_server:
                await client.llm.list_loaded()
    async with AsyncClient(f"127.0.0.1:{closed_port}") as client:
        with pytest.raises(LMStudioUnreachableError) as no_server:
            await client.llm.list_loaded()

    for caught in (wrong_server, no_server):
        # The cause is kept, but without the traceback inside the HTTP library.
        assert caught.value.__cause__ is not None
        trace = "".join(traceback.format_exception(caught.value))
        assert not [line for line in trace.splitlines() if re.search(r'File ".*http', line)]


async def test_a_server_that_is_not_lm_studio_raises_an_unreachable_error() -> None:
    with web_server() as place:
        async with AsyncClient(place) as client:
            with pytest.raises(LMStudioUnreachableError, match=place):
                await client.llm.list_loaded()
        assert not await AsyncClient.is_valid_api_host(place)


@pytest.mark.parametrize(
    "host", ["", "ftp://somewhere", "host:port", "host:99999", "http://", 1234, ["host"]]
)
def test_an_invalid_host_is_refused_by_the_constructor(host: Any) -> None:
    with pytest.raises(LMStudioValueError):
        AsyncClient(host)


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/api/v1"])
async def test_the_host_is_read_from_the_environment(
    address: str, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("LMSTUDIO_HOST", f"http://{address}{path}")

    async with AsyncClient() as client:
        assert client.api_host == address
        assert await client.llm.list_loaded() == []


async def test_a_host_argument_overrides_the_environment(
    address: str, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("LMSTUDIO_HOST", f"127.0.0.1:{closed_port}")

    async with AsyncClient(address) as client:
        assert await client.llm.list_loaded() == []


async def test_an_invalid_host_in_the_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LMSTUDIO_HOST", "ftp://somewhere")

    with pytest.raises(LMStudioValueError, match="LMSTUDIO_HOST"):
        async with AsyncClient():
            pass


async def test_error_without_any_server_lists_the_tried_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def find_nothing(_: object) -> None:
        return None

    # Hide an LM Studio that may run on this machine.
    monkeypatch.setattr(transport, "find_default_local_api_host", find_nothing)

    with pytest.raises(LMStudioUnreachableError, match=r"(?s)41343.*1234.*LMSTUDIO_HOST.*embedded"):
        async with AsyncClient():
            pass


# -- tokens


@pytest.mark.parametrize("token", ["secret", "sk-lm-short:short", TOKEN + "x", 5])
def test_a_malformed_token_is_refused_by_the_constructor_and_not_shown(token: Any) -> None:
    with pytest.raises(LMStudioValueError, match="api_token") as caught:
        AsyncClient(api_token=token)

    assert not isinstance(token, str) or token not in str(caught.value)


async def test_a_known_token_authenticates_the_client(guarded: str) -> None:
    async with AsyncClient(guarded, TOKEN) as client:
        assert await client.llm.list_loaded() == []


@pytest.mark.parametrize("token", [None, OTHER_TOKEN])
async def test_authentication_error_names_the_sources_of_tokens(guarded: str, token: str | None) -> None:
    async with AsyncClient(guarded, token) as client:
        with pytest.raises(LMStudioAuthenticationError, match="(?s)token.*LM_API_TOKEN"):
            await client.llm.list_loaded()


@pytest.mark.parametrize(
    ("argument", "first", "second"),
    [
        (TOKEN, OTHER_TOKEN, OTHER_TOKEN),
        (None, TOKEN, OTHER_TOKEN),
        (None, "", TOKEN),
        (None, None, TOKEN),
    ],
)
async def test_token_argument_overrides_lm_api_token_and_lmstudio_api_token(
    guarded: str,
    argument: str | None,
    first: str | None,
    second: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, token in (("LM_API_TOKEN", first), ("LMSTUDIO_API_TOKEN", second)):
        if token is not None:
            monkeypatch.setenv(name, token)

    async with AsyncClient(guarded, argument) as client:
        assert await client.llm.list_loaded() == []


async def test_a_token_appears_in_no_repr_error_or_log(
    guarded: str, closed_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shown = []
    for host, token in ((guarded, TOKEN), (guarded, OTHER_TOKEN), (f"127.0.0.1:{closed_port}", TOKEN)):
        async with AsyncClient(host, token) as client:
            try:
                handles = [await client.llm.load_new_instance(LLAMA, "mine")]
                await handles[0].unload()
                shown += [repr(handles[0]), repr(handles[0].info)]
            except LMStudioError as error:
                shown += [str(error), repr(error), repr(error.__cause__)]
            shown += [repr(client), repr(client.llm), repr(client.system), repr(vars(client))]

    everything = "\n".join([*shown, caplog.text])
    for token in (TOKEN, OTHER_TOKEN):
        assert token.partition(":")[2] not in everything
        assert token not in everything


# -- the embedded server


async def test_error_of_embedded_without_the_extra_tells_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)  # simulates a missing package

    with pytest.raises(LMStudioMissingRuntimeError, match=r"pip install .*\[cli,embedded,hub\]"):
        async with AsyncClient("embedded"):
            pass


async def test_load_names_an_engine_that_cannot_be_imported(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('made for another machine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async with AsyncClient(EmbeddedServer(models, threads=1)) as client:
        with pytest.raises(LMStudioMissingRuntimeError, match="xllamacpp.*made for another machine"):
            await client.llm.model(LLAMA)
        assert await client.llm.list_loaded() == []


async def test_load_of_a_broken_file_raises_an_error_that_names_it(tmp_path: Path) -> None:
    ModelsFolder(tmp_path).add_broken("acme/broken-GGUF/broken-Q8_0.gguf", "truncated")
    async with AsyncClient(EmbeddedServer(tmp_path, threads=1)) as client:
        with pytest.raises(LMStudioError, match="broken"):
            await client.llm.load_new_instance("broken")
        assert await client.llm.list_loaded() == []


# -- misuse of a client


async def test_calls_of_a_closed_client_raise(models: Path) -> None:
    async with AsyncClient(EmbeddedServer(models)) as client:
        llms = client.llm
        await llms.list_loaded()

    with pytest.raises(LMStudioConnectionClosedError, match="closed"):
        await llms.list_loaded()
    with pytest.raises(LMStudioRuntimeError, match="entered once"):
        await client.__aenter__()


# -- all errors

FAILURES: list[Callable[[AsyncClient], Awaitable[object]]] = [
    lambda client: client.embedding.model(),
    lambda client: client.llm.model("no such model"),
    lambda client: client.llm.model("text-embedding-nomic-embed-text-v1.5"),
    lambda client: client.llm.model(""),
    lambda client: client.llm.model(5),  # type: ignore[arg-type]
    lambda client: client.llm.model(LLAMA, ttl=0),
    lambda client: client.llm.model(LLAMA, config={"nonsense": 1}),  # type: ignore[arg-type]
    lambda client: client.llm.model(LLAMA, config=[1]),  # type: ignore[arg-type]
    lambda client: client.llm.model(LLAMA, config={"context_length": 10**12}),
    lambda client: client.llm.model(LLAMA, device="elsewhere"),
    lambda client: client.llm.load_new_instance("no such model"),
    lambda client: client.llm.load_new_instance(LLAMA, ""),
    lambda client: client.llm.load_new_instance(LLAMA, "\0"),
    lambda client: client.llm.load_new_instance(LLAMA, "\ud800"),
    lambda client: client.llm.load_new_instance("\ud800"),
    lambda client: client.llm.load_new_instance(LLAMA, "loaded"),
    lambda client: client.llm.unload("no such instance"),
    lambda client: client.embedding.unload("loaded"),
    lambda client: client.llm.get_model_info("no such instance"),
    lambda client: client.llm.get_model_info({"nonsense": 1}),
    lambda client: client.llm.get_model_info({"identifier": 5}),
    lambda client: client.llm.get_model_info({"vision": "yes"}),
    lambda client: client.llm.get_model_info({"type": "query", "query": {"identifier": 5}}),
    lambda client: client.llm.get_model_info(ModelQuery(path=5)),  # type: ignore[arg-type]
    lambda client: client.llm.get_model_info({"type": "instanceReference", "instanceReference": "nobody"}),
]


@pytest.mark.parametrize("place", ["in process", "over a socket"])
async def test_each_failing_call_raises_a_single_lmstudio_error(client: AsyncClient) -> None:
    llm = await client.llm.load_new_instance("qwen3-4b", "loaded")
    calls: list[Callable[[AsyncClient], Awaitable[object]]] = [
        *FAILURES,
        lambda _: llm.respond([]),
        lambda _: llm.respond(5),  # type: ignore[arg-type]
        lambda _: llm.respond("\ud800"),
        lambda _: llm.respond([{"role": "nobody", "content": "Hello"}]),
        lambda _: llm.respond("Hello", config={"nonsense": 1}),  # type: ignore[arg-type]
        lambda _: llm.complete(None),  # type: ignore[arg-type]
        lambda _: llm.tokenize("\ud800"),
        lambda _: llm.tokenize(5),  # type: ignore[call-overload]
        lambda _: llm.count_tokens(5),  # type: ignore[arg-type]
    ]
    for number, call in enumerate(calls):
        with pytest.raises(LMStudioError) as caught:
            pytest.fail(f"call {number} gave {await call(client)!r}")
        assert type(caught.value).__module__ == "lmstudio_async"
        assert str(caught.value)

    assert await client.llm.list_loaded() == [llm]
    assert str(await llm.respond("Still there?")) == "Hello there"


async def test_calls_in_another_event_loop_raise(client: AsyncClient) -> None:
    llm = await client.llm.load_new_instance(LLAMA)
    calls: list[Callable[[], Awaitable[Any]]] = [
        client.llm.list_loaded,
        lambda: client.llm.model(LLAMA),
        lambda: client.llm.load_new_instance(LLAMA),
        lambda: llm.respond("Hello"),
    ]

    async def call_each() -> None:
        for call in calls:
            with pytest.raises(LMStudioRuntimeError, match="another one. Make a client in each"):
                await call()

    for backend in ("asyncio", "trio"):
        await anyio.to_thread.run_sync(partial(anyio.run, call_each, backend=backend))

    assert await client.llm.list_loaded() == [llm]


def test_calls_of_a_client_after_the_end_of_its_event_loop_raise(address: str) -> None:
    async def leave_it_open() -> AsyncClient:
        return await AsyncClient(address).__aenter__()

    left = anyio.run(leave_it_open)

    for backend in ("asyncio", "trio"):
        with pytest.raises(LMStudioRuntimeError, match="another one. Make a client in each"):
            anyio.run(left.llm.list_loaded, backend=backend)
    anyio.run(left.aclose)


async def test_an_exception_in_the_block_of_a_client_is_raised_unchanged(models: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with AsyncClient(EmbeddedServer(models, threads=1)) as client:
            await client.llm.load_new_instance(LLAMA)
            raise ZeroDivisionError


# On asyncio an interrupt in a task ends the whole event loop instead of being raised by the task.
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_an_interrupt_in_a_task_of_a_client_is_raised_unchanged() -> None:
    class Interrupted(ScriptedServer):
        def connect(self, namespace: str) -> NoReturn:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        async with Interrupted().client() as (client, _):
            await client.llm.list_loaded()
