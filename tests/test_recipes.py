"""The recipes of `docs/recipes.md`: each program runs as it stands there, on models of the names in it."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from types import SimpleNamespace
from typing import Any
from wsgiref.simple_server import WSGIServer, make_server

import anyio
import httpx
import pytest

import lmstudio_async as lms
import lmstudio_sync
from lmstudio_async import AsyncClient, EmbeddedServer
from lmstudio_async.testing import ModelsFolder, served
from tests.clock import let_pass
from tests.examples import MEANING, make_home, use_home
from tests.processes import SEARCH_PATH, worker_pids
from tests.scripted_server import until
from tests.sync.programs import program

RECIPES = (Path(__file__).parent.parent / "docs" / "recipes.md").read_text(encoding="utf-8")
#: Name of a program -> its source.
PROGRAMS = {
    match[2]: match[1] for match in re.finditer(r"```python\n(# (\w+\.py)\n.*?)```", RECIPES, re.DOTALL)
}
LLAMA, EMBEDDING = "llama-3.2-1b-instruct", "nomic-embed-text-v1.5"
QUESTION = "What is the meaning of life?"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def server(models: Path) -> EmbeddedServer:
    return EmbeddedServer(models, threads=1)


@pytest.fixture
def host(models: Path, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Host and port of a server that all clients find, in other processes too."""
    use_home(models.parent.parent, monkeypatch)
    with served(server) as host:
        monkeypatch.setenv("LMSTUDIO_HOST", host)
        yield host
        lmstudio_sync.close_default_client()


@pytest.fixture
async def client(host: str) -> AsyncIterator[AsyncClient]:
    """A client of another program."""
    async with AsyncClient(host) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the programs."""
    for name, source in PROGRAMS.items():
        (tmp_path / name).write_text(source, encoding="utf-8")
    return tmp_path


def module(name: str, **names: Any) -> Any:
    """Import a program, and return its names."""
    names |= {"__name__": name.removesuffix(".py")}
    exec(compile(PROGRAMS[name], name, "exec", dont_inherit=True), names)
    return SimpleNamespace(**names)


async def identifiers(client: AsyncClient) -> list[str]:
    return sorted(instance.identifier for instance in await client.list_instances())


def test_each_program_has_a_test() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    assert len(PROGRAMS) == RECIPES.count("```python\n")
    assert [name for name in PROGRAMS if f'"{name}"' not in tests] == []


# -- a web service


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[Callable[..., Any]]:
    """Run an ASGI app in this event loop, and return it with the state of its lifespan."""
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        yield with_state


@asynccontextmanager
async def browsing(app: Callable[..., Any]) -> AsyncIterator[Callable[[str], Any]]:
    """Return a function that sends the question to a path of the app."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as browser:
        yield lambda path: browser.post(path, content=QUESTION)


async def test_the_service_answers_also_after_its_instance_was_unloaded(client: AsyncClient) -> None:
    async with running(module("service.py").app) as app, browsing(app) as post:
        assert await identifiers(client) == ["my-service"]
        for path in ("/answer", "/stream"):
            assert (await post(path)).text == MEANING
            await client.llm.unload("my-service")
        assert (await post("/answer")).text == MEANING


async def test_requests_at_once_share_the_load_of_the_service(client: AsyncClient) -> None:
    async with running(module("service.py").app) as app, browsing(app) as post:
        await client.llm.unload("my-service")
        answers: list[str] = []

        async def ask() -> None:
            answers.append((await post("/answer")).text)

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(ask)
        assert answers == [MEANING] * 4
        assert await identifiers(client) == ["my-service"]


async def test_the_service_is_not_available_while_the_server_is_away(models: Path) -> None:
    with ExitStack() as away:
        host = away.enter_context(served(EmbeddedServer(models, threads=1)))
        service = module("service.py")
        async with AsyncClient(host) as client:
            await service.get_llm(client)
            await anyio.to_thread.run_sync(away.close)

            async def app(scope: Any, receive: Any, send: Any) -> None:
                await service.app({**scope, "state": {"client": client}}, receive, send)

            async with browsing(app) as post:
                response = await post("/answer")
    assert (response.status_code, response.text) == (503, "The model is not available. Try again.")


async def test_a_visitor_who_leaves_the_stream_cancels_its_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # With many layers, it would take very long to fill its context.
    ModelsFolder(tmp_path).add_llm(LLAMA, script="on and on ", endless=True, context_length=8192, blocks=64)
    has_begun = anyio.Event()
    requests = [{"type": "http.request", "body": QUESTION.encode()}]

    async def receive() -> Any:
        if requests:
            return requests.pop()
        await has_begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body"):
            has_begun.set()

    caplog.set_level(logging.DEBUG, "lmstudio_async")
    with served(EmbeddedServer(tmp_path, threads=1)) as host:
        monkeypatch.setenv("LMSTUDIO_HOST", host)
        async with running(module("service.py").app) as app:
            scope = {"type": "http", "method": "POST", "path": "/stream", "headers": [], "query_string": b""}
            await app(scope, receive, send)
    records = [vars(record) for record in caplog.records]
    outcomes = {each["endpoint"]: each["outcome"] for each in records if each.get("event") == "request"}
    assert outcomes["predict"] == "cancelled"


class ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


def test_the_blocking_service_answers_in_many_threads(host: str) -> None:
    service = module("blocking_service.py")
    with make_server("127.0.0.1", 0, service.app, ThreadingServer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with ThreadPoolExecutor(4) as pool:
                url = f"http://127.0.0.1:{server.server_port}/"
                responses = list(
                    pool.map(lambda _: httpx.post(url, content=QUESTION, trust_env=False), range(8))
                )
        finally:
            server.shutdown()
            thread.join()
    assert {response.text for response in responses} == {MEANING}
    with lmstudio_sync.Client(host) as client:
        assert [llm.identifier for llm in client.llm.list_loaded()] == ["my-service"]


# -- an embedding model beside an LLM


def test_the_embedding_model_is_evicted_with_the_error_in_the_recipe(host: str, folder: Path) -> None:
    with program(folder / "evicted.py", warnings="error") as evicted:
        code, printed = evicted.finish()
        assert (code, evicted.errors()) == (0, "")
    shown = RECIPES.split("```text\n")[1].split("```")[0]
    assert all(
        line.startswith(start.rstrip("…")) for line, start in zip(printed, shown.splitlines(), strict=True)
    )


def test_both_models_stay(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    module("both.py")
    assert capsys.readouterr().out == f"{MEANING}\n"
    with lmstudio_sync.Client(host) as client:
        # Neither of two just-in-time loads evicts them.
        client.llm.model("qwen3-0.6b").respond(QUESTION)
        client.llm.model("qwen3-4b")
        loaded = {model.identifier for model in client.list_loaded_models()}
    assert loaded == {"my-embedder", "my-llm", "qwen3-4b"}


# -- several workers


@contextmanager
def workers_of_the_service(folder: Path, count: int) -> Iterator[str]:
    """Run the web service in several processes, and return its address."""
    options = ["--port", "0", "--workers", str(count), "--timeout-worker-healthcheck", "60"]
    with subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "service:app", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": SEARCH_PATH},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            lines: list[str] = []
            while sum("startup complete" in line for line in lines) < count:
                lines.append(process.stderr.readline())
                # Uvicorn starts each worker that ends again, and so would never end itself.
                assert lines[-1] and "died" not in lines[-1], "".join(lines)
            address = re.search(r"running on (http://127\.0\.0\.1:\d+)", "".join(lines))
            assert address is not None
            yield address[1]
        finally:
            process.terminate()
            process.communicate(timeout=30)


def test_workers_of_the_service_share_an_instance(host: str, folder: Path) -> None:
    with (
        lmstudio_sync.Client(host) as client,
        client.watch_instances(interval=0.1) as events,
        workers_of_the_service(folder, 2) as url,
    ):
        with httpx.Client(trust_env=False) as browser:
            answers = {browser.post(f"{url}/answer", content=QUESTION).text for _ in range(8)}
        client.llm.unload("my-service")
        seen = []
        for event in events:
            seen.append(type(event))
            if isinstance(event, lms.InstanceUnloaded):
                break
    assert answers == {MEANING}
    assert seen.count(lms.InstanceLoaded) == 1


def test_processes_of_a_batch_share_an_instance(host: str, folder: Path) -> None:
    with lmstudio_sync.Client(host) as client, client.watch_instances(interval=0.1) as events:
        with program(folder / "batch.py", warnings="error") as batch:
            code, printed = batch.finish()
            assert (code, batch.errors()) == (0, "")
        loaded = []
        for event in events:
            if isinstance(event, lms.InstanceLoaded):
                loaded.append(event.identifier)
            elif isinstance(event, lms.InstanceUnloaded):
                break
        assert client.list_loaded_models() == []
    assert printed == [MEANING] * 3
    assert loaded == ["my-batch"]


async def test_a_block_around_an_ensured_instance_does_not_unload_it(client: AsyncClient) -> None:
    async with await module("service.py").get_llm(client) as llm:
        pass
    assert await llm.get_context_length() == 8192


# -- watch and react


def test_alerts_tell_why_an_instance_is_gone(host: str, folder: Path) -> None:
    with lmstudio_sync.Client(host) as client:
        client.embedding.model(EMBEDDING).embed(QUESTION)
        identifier = client.embedding.list_loaded()[0].identifier
        with program(folder / "alerts.py") as alerts:
            alerts.wait_for(f"{identifier} is loaded")
            client.llm.model(LLAMA)
            alerts.wait_for(f"{identifier} is gone: evicted, for {LLAMA}")


async def come(events: lms.AsyncInstanceWatch, *expected: str) -> None:
    """Wait until these instances have been loaded."""
    missing = set(expected)
    while missing:
        event = await anext(events)
        if isinstance(event, lms.InstanceLoaded):
            missing.discard(event.identifier)


async def test_the_keeper_loads_instances_again(
    client: AsyncClient, server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    with anyio.fail_after(50):
        async with client.watch_instances(interval=0.1) as events, anyio.create_task_group() as tasks:
            tasks.start_soon(module("keeper.py").main)
            await come(events, "my-chat", "my-helper")
            await client.llm.unload("my-chat")
            await come(events, "my-chat")
            for pid in worker_pids(server):
                os.kill(pid, signal.SIGTERM)
            await come(events, "my-chat", "my-helper")
            tasks.cancel_scope.cancel()
    gone = [record.getMessage() for record in caplog.records if record.name == "keeper"]
    assert gone[0] == "my-chat is gone: unloaded"
    assert sorted(gone[1:]) == ["my-chat is gone: crashed", "my-helper is gone: crashed"]


async def test_the_keeper_repeats_a_load_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    models = ModelsFolder(tmp_path)
    models.add_llm("another")
    async with EmbeddedServer(tmp_path, threads=1) as server, AsyncClient(server) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(module("keeper.py").load, client, "my-chat", "late")
            with anyio.fail_after(20):
                await until(lambda: "cannot load my-chat, next attempt in 1 s" in caplog.text)
            models.add_llm("late")
            await let_pass(1)
        assert await identifiers(client) == ["my-chat"]
