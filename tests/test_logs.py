"""The log of a client: one line for each load, eviction, unload and reconnection, and for each request at DEBUG."""

from __future__ import annotations

import gc
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import lmstudio_sync
from lmstudio_async import AsyncClient, Chat, EmbeddedServer, LMStudioError, LMStudioTimeoutError
from lmstudio_async.testing import HERMES, ModelsFolder, tool_call
from tests.clock import let_pass
from tests.processes import hold_loads
from tests.scripted_server import INSTANCE, ScriptedServer, list_nothing, loaded_llm, until

QWEN = "qwen3-4b"
NOMIC = "text-embedding-nomic"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm(QWEN, script="The answer is SECRET-ANSWER.")
    folder.add_llm("endless", script="SECRET-ANSWER ", endless=True, context_length=65536)
    folder.add_llm(
        "tools",
        script=tool_call("look_up", word="SECRET-ARGUMENT"),
        then=["SECRET-CONCLUSION."],
        chat_template=HERMES,
    )
    folder.add_embedding(NOMIC)
    return folder.folder


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log at the level INFO."""
    with caplog.at_level(logging.INFO, "lmstudio_async"):
        yield caplog


def events(log: pytest.LogCaptureFixture, *names: str) -> list[dict[str, Any]]:
    """Return the client's records of these events, each as a dict of all of its fields."""
    found = [vars(record) for record in log.records if record.name == "lmstudio_async"]
    return [each for each in found if each.get("event") in names]


def fields(record: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(record[name] for name in names)


# -- INFO


async def test_a_load_an_eviction_and_an_unload_leave_one_line_each(
    models: Path, log: pytest.LogCaptureFixture
) -> None:
    async with EmbeddedServer(models, threads=1) as server, AsyncClient(server) as client:
        await client.llm.model(QWEN)
        # This finds the instance loaded, so it leaves no line.
        await (await client.llm.model(QWEN)).respond("Hello", config={"max_tokens": 1})
        nomic = await client.embedding.model(NOMIC)
        await nomic.unload()
        await client.llm.load_new_instance(QWEN, "mine")
        await client.llm.unload("mine")

    first, eviction, second, unload, third, fourth = events(log, "loaded", "evicting", "unloaded")
    names = ("event", "kind", "identifier")
    assert [fields(each, *names, "model_key") for each in (first, second, third)] == [
        ("loaded", "llm", QWEN, QWEN),
        ("loaded", "embedding", NOMIC, NOMIC),
        ("loaded", "llm", "mine", QWEN),
    ]
    assert all(0 < each["seconds"] < 60 and each["levelname"] == "INFO" for each in (first, second, third))
    assert third["message"] == f"{QWEN} was loaded as mine in {third['seconds']:.1f} s"
    assert fields(eviction, *names, "evicted_for") == ("evicting", "llm", QWEN, NOMIC)
    assert "load_new_instance()" in eviction["message"] and "--no-auto-evict" in eviction["message"]
    assert [fields(each, *names) for each in (unload, fourth)] == [
        ("unloaded", "embedding", NOMIC),
        ("unloaded", "llm", "mine"),
    ]


async def test_requests_that_share_a_load_leave_its_lines_once(
    models: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    async with EmbeddedServer(models, threads=1) as server, AsyncClient(server) as client:
        await client.embedding.model(NOMIC)
        held_loads = hold_loads(monkeypatch)
        # Different arguments, so that the server shares the load and not the client.
        streams = [client.llm.model_stream(QWEN, ttl=ttl) for ttl in (60, 90)]
        for stream in streams:
            await stream.start()
            await anext(stream)
        held_loads.let_go()
        first, second = [await stream.wait_for_result() for stream in streams]
    assert first == second
    assert [fields(each, "event", "identifier") for each in events(log, "loaded", "evicting")] == [
        ("loaded", NOMIC),
        ("evicting", NOMIC),
        ("loaded", QWEN),
    ]


@pytest.mark.parametrize("reference", ["r2", ""])
async def test_each_evicted_instance_leaves_one_line(
    both: tuple[AsyncClient, ScriptedServer], log: pytest.LogCaptureFixture, reference: str
) -> None:
    client, server = both
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.llm.model, QWEN)
        channel = await server.next_message()
        for name in ("one", "two", "one"):
            # Older servers send no references.
            victim = INSTANCE | {"identifier": name, "instanceReference": reference and f"{reference}-{name}"}
            await server.packet(channel, type="unloadingOtherJITModel", info=victim)
        await server.packet(channel, type="loadSuccess", info=INSTANCE)
        await server.close(channel)
    assert [each["identifier"] for each in events(log, "evicting")] == ["one", "two"]


async def test_an_ambiguous_key_leaves_a_warning_with_the_candidates(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    folder = ModelsFolder(tmp_path)
    for quantization in ("Q4_K_M", "Q8_0"):
        folder.add_llm(f"acme/Twins-GGUF/Twins-{quantization}.gguf")
    async with EmbeddedServer(tmp_path, threads=1) as server, AsyncClient(server) as client:
        llm = await client.llm.load_new_instance("twins")
    (warning,) = events(log, "ambiguous_key")
    assert warning["levelname"] == "WARNING"
    assert warning["model_key"] == llm.info.model_key
    assert warning["candidates"] == ("twins@q4_k_m", "twins@q8_0")


async def test_seconds_of_a_load_begin_with_its_request(models: Path, log: pytest.LogCaptureFixture) -> None:
    async with EmbeddedServer(models, threads=1) as server, AsyncClient(server) as client:
        stream = client.llm.load_new_instance_stream(QWEN)
        await client.llm.load_new_instance(QWEN, "other")
        before = anyio.current_time()
        async with stream:
            await stream.wait_for_result()
        took = anyio.current_time() - before
    assert events(log, "loaded")[1]["seconds"] <= took + 0.001


async def test_a_load_that_is_given_up_leaves_a_line_for_its_unload(
    both: tuple[AsyncClient, ScriptedServer], log: pytest.LogCaptureFixture
) -> None:
    client, server = both
    async with anyio.create_task_group() as tasks:
        stream = client.llm.load_new_instance_stream(QWEN)
        await stream.start()
        channel = await server.next_message()
        tasks.start_soon(stream.cancel)
        await server.next_message()
        # The load has succeeded while its cancel was on the way.
        await server.packet(channel, type="success", info=INSTANCE)
        call = await server.next_message()
        assert call["endpoint"] == "unloadModel"
        await server.answer(call)
        await server.close(channel)
    loaded, unloaded = events(log, "loaded", "unloaded")
    assert fields(loaded, "event", "identifier") == ("loaded", QWEN)
    assert fields(unloaded, "event", "kind", "identifier") == ("unloaded", "llm", QWEN)
    assert "given up" in unloaded["message"]


async def test_an_unload_that_the_server_refuses_leaves_no_line(
    both: tuple[AsyncClient, ScriptedServer], log: pytest.LogCaptureFixture
) -> None:
    client, server = both
    stream = await client.llm.load_new_instance_stream(QWEN)
    channel = await server.next_message()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.cancel)
        await server.next_message()
        await server.packet(channel, type="success", info=INSTANCE)
        await server.close(channel)
        call = await server.next_message()
        assert call["endpoint"] == "unloadModel"
        await server.say(type="rpcError", callId=call["callId"], error={"title": "No"})
    assert [each["event"] for each in events(log, "loaded", "unloaded")] == ["loaded"]


async def test_a_reconnection_after_a_loss_leaves_one_line(
    both: tuple[AsyncClient, ScriptedServer], log: pytest.LogCaptureFixture
) -> None:
    client, server = both
    await list_nothing(client, server)
    assert not events(log, "reconnected")
    await server.drop()
    await list_nothing(client, server)
    await list_nothing(client, server)
    (record,) = events(log, "reconnected")
    assert fields(record, "levelname", "server", "namespace") == ("INFO", "scripted", "llm")
    assert record["message"] == "reconnected to scripted (llm) after a loss"


# -- DEBUG


@pytest.fixture
def requests(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log at the level DEBUG."""
    with caplog.at_level(logging.DEBUG, "lmstudio_async"):
        yield caplog


def outcomes(log: pytest.LogCaptureFixture) -> list[tuple[Any, ...]]:
    found = events(log, "request")
    assert all(each["levelname"] == "DEBUG" and each["milliseconds"] >= 0 for each in found)
    assert all(each["namespace"] == "llm" for each in found)
    return [fields(each, "endpoint", "number", "outcome", "error") for each in found]


async def test_each_call_leaves_a_line_with_its_outcome(
    both: tuple[AsyncClient, ScriptedServer], requests: pytest.LogCaptureFixture
) -> None:
    client, server = both
    await list_nothing(client, server)

    async def refused() -> None:
        with pytest.raises(LMStudioError):
            await client.llm.unload("gone")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(refused)
        call = await server.next_message()
        await server.say(type="rpcError", callId=call["callId"], error={"title": "No"})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.llm.list_loaded)
        await server.next_message()
        tasks.cancel_scope.cancel()
    assert outcomes(requests) == [
        ("listLoaded", 1, "ok", None),
        ("unloadModel", 2, "failed", "LMStudioServerError"),
        ("listLoaded", 3, "cancelled", None),
    ]
    assert re.fullmatch(r"llm\.listLoaded #1: ok after \d+\.\d ms", events(requests, "request")[0]["message"])


async def test_a_call_without_a_response_leaves_a_line(requests: pytest.LogCaptureFixture) -> None:
    async with ScriptedServer().client(timeout=60) as (client, server):
        await list_nothing(client, server)
        async with anyio.create_task_group() as tasks:

            async def silence() -> None:
                with pytest.raises(LMStudioTimeoutError):
                    await client.llm.list_loaded()

            tasks.start_soon(silence)
            await server.next_message()
            await let_pass(60)
    assert outcomes(requests)[1:] == [("listLoaded", 2, "failed", "LMStudioTimeoutError")]


async def test_both_tries_of_a_repeated_call_leave_a_line(
    both: tuple[AsyncClient, ScriptedServer], requests: pytest.LogCaptureFixture
) -> None:
    client, server = both
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.llm.list_loaded)
        await server.next_message()
        await server.drop()
        await server.answer(await server.next_message(), [])
    assert outcomes(requests) == [
        ("listLoaded", 1, "failed", "LMStudioConnectionBrokenError"),
        ("listLoaded", 1, "ok", None),
    ]


async def test_each_operation_leaves_a_line_with_its_outcome(
    both: tuple[AsyncClient, ScriptedServer], requests: pytest.LogCaptureFixture
) -> None:
    client, server = both
    llm = await loaded_llm(client, server)

    async def answered() -> None:
        await llm.respond("Hello")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answered)
        channel = await server.next_message()
        await server.packet(channel, type="success", stats={"stopReason": "eosFound"})
        await server.close(channel)

    stream = await llm.respond_stream("Hello")
    await server.fail(await server.next_message(), "No")
    with pytest.raises(LMStudioError):
        await stream.wait_for_result()

    stream = await llm.respond_stream("Hello")
    await server.next_message()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.cancel)
        await server.close(await server.next_message())

    stream = await llm.respond_stream("Hello")
    await server.next_message()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del stream
        gc.collect()
    await until(lambda: len(events(requests, "request")) == 5)

    assert outcomes(requests)[1:] == [
        ("predict", 1, "ok", None),
        ("predict", 2, "failed", "LMStudioServerError"),
        ("predict", 3, "cancelled", None),
        ("predict", 4, "cancelled", None),
    ]


async def test_requests_are_not_timed_without_debug(
    both: tuple[AsyncClient, ScriptedServer], log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        pytest.fail("a request was logged")

    monkeypatch.setattr("lmstudio_async._request_log.RequestLog.__init__", fail)
    client, server = both
    llm = await loaded_llm(client, server)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(llm.respond, "Hello")
        channel = await server.next_message()
        await server.packet(channel, type="success", stats={"stopReason": "eosFound"})
        await server.close(channel)


# -- secrets

TOKEN = "sk-lm-Abcdefg1:HIJKLMNOPQRSTUVWXYZ2"
SECRETS = ("HIJKLMNOPQRSTUVWXYZ2", "SECRET", "U0VDUkVU")


def texts(record: logging.LogRecord) -> Iterator[str]:
    """Yield all texts in a record: its line, its arguments and its fields."""
    yield record.getMessage()
    yield logging.Formatter().format(record)
    yield from (repr(value) for value in vars(record).values())


def look_up(word: str) -> str:
    """Look a word up."""
    return f"SECRET-RESULT of {word}"


async def busy(client: AsyncClient, tmp_path: Path) -> None:
    """Use all that has to do with contents, with failures too."""
    file = tmp_path / "file.txt"
    file.write_text("SECRET-CONTENT")
    llm = await client.llm.model(QWEN)
    chat = Chat("SECRET-SYSTEM")
    chat.add_user_message("SECRET-QUESTION")
    await llm.respond(chat, on_message=chat.append)
    await llm.complete("SECRET-PROMPT", config={"stop_strings": ["SECRET-STOP"]})
    endless = await client.llm.load_new_instance("endless")
    async with endless.respond_stream("SECRET-QUESTION") as stream:
        async for _ in stream:
            break
    with pytest.raises(LMStudioError):
        await llm.respond("SECRET-QUESTION", response_format={"type": "SECRET-SCHEMA"})
    with pytest.raises(LMStudioError):
        await llm.respond("SECRET-QUESTION", preset="SECRET-PRESET")
    await llm.count_tokens("SECRET-TEXT")
    await llm.tokenize(["SECRET-TEXT"])
    await llm.apply_prompt_template("SECRET-QUESTION")
    await client.prepare_file(file)
    nomic = await client.embedding.load_new_instance(NOMIC)
    await nomic.embed(["SECRET-TEXT"])
    tools = await client.llm.model("tools")
    await tools.act("SECRET-QUESTION", [look_up])
    with pytest.raises(LMStudioError):
        await llm.respond("SECRET-QUESTION")
    with pytest.raises(LMStudioError):
        await client.llm.load_new_instance("nope")


async def test_no_record_of_a_busy_run_has_a_secret(
    models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        server = EmbeddedServer(models, threads=1, api_tokens=[TOKEN])
        async with server, AsyncClient(server, TOKEN) as client:
            await busy(client, tmp_path)
    assert {each["outcome"] for each in events(caplog, "request")} == {"ok", "failed", "cancelled"}
    ours = [record for record in caplog.records if record.name.startswith("lmstudio_async")]
    leaks = [text for record in ours for text in texts(record) if any(each in text for each in SECRETS)]
    assert not leaks, leaks


async def test_a_packet_that_cannot_be_read_is_not_quoted(
    both: tuple[AsyncClient, ScriptedServer], log: pytest.LogCaptureFixture
) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    async with llm.respond_stream("Hello") as stream:
        channel = await server.next_message()
        await server.packet(channel, type="fragment", fragment="SECRET-ANSWER")
        await server.close(channel)
        with pytest.raises(LMStudioError, match="SECRET-ANSWER"):
            await stream.wait_for_result()
    assert "cannot be read (MalformedError)" in log.text
    assert "SECRET" not in log.text


def test_a_blocking_client_leaves_the_same_lines(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = lmstudio_sync.EmbeddedServer(models, threads=1)
    with caplog.at_level(logging.DEBUG, "lmstudio_async"), lmstudio_sync.Client(server) as client:
        llm = client.llm.load_new_instance(QWEN, "mine")
        llm.respond("Hello")
        llm.unload()
    assert [each["identifier"] for each in events(caplog, "loaded", "unloaded")] == ["mine", "mine"]
    assert [each["endpoint"] for each in events(caplog, "request")] == [
        "loadModel",
        "predict",
        "getModelInfo",
        "unloadModel",
    ]
