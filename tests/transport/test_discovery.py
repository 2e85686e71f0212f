"""Finding LM Studio by its greeting, and telling it apart from other programs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import anyio
import anyio.abc
import pytest

from lmstudio_async._client_limits import DEFAULT_LIMITS, ClientLimits
from lmstudio_async._transport import _discovery as discovery
from lmstudio_async._transport import find_default_local_api_host, is_valid_api_host
from lmstudio_async.errors import LMStudioValueError
from tests.clock import let_pass
from tests.scripted_server import until

RawServer = Callable[[Any], AbstractAsyncContextManager[str]]

GREETING = b'{"lmstudio": true}'


#: A reply counts even if this process or its machine stands still for a while.
PATIENT = ClientLimits(greeting_seconds=60)


def port_of(api_host: str) -> int:
    return int(api_host.rpartition(":")[2])


def answering(body: bytes, status: bytes = b"200 OK") -> Callable[[anyio.abc.SocketStream], Any]:
    async def handler(stream: anyio.abc.SocketStream) -> None:
        request = await stream.receive()
        assert request.startswith(b"GET /lmstudio-greeting HTTP/1.1\r\n")
        await stream.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await stream.receive()

    return handler


async def silence(stream: anyio.abc.SocketStream) -> None:
    while True:
        await stream.receive()


async def noise(stream: anyio.abc.SocketStream) -> None:
    await stream.send(b"SSH-2.0-OpenSSH_9.6\r\n")
    await stream.receive()


async def a_flood(stream: anyio.abc.SocketStream) -> None:
    await stream.receive()
    await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
    while True:
        await stream.send(b" " * 65_536)


async def a_hang_up(stream: anyio.abc.SocketStream) -> None:
    await stream.receive()


@pytest.mark.parametrize("body", [GREETING, b'{"lmstudio":true,"version":"0.4"}'])
async def test_the_greeting_is_recognised(raw_server: RawServer, body: bytes) -> None:
    async with raw_server(answering(body)) as api_host:
        assert await is_valid_api_host(api_host, PATIENT)


async def test_a_loopback_address_bypasses_every_proxy(
    raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with raw_server(answering(GREETING)) as api_host:
        assert await is_valid_api_host(api_host, PATIENT)


@pytest.mark.parametrize(
    "handler",
    [
        answering(GREETING, b"404 Not Found"), answering(b"<html>"), answering(b'{"lmstudio": 1}'),
        answering(b'{"lmstudio": false}'), answering(b"[]"), answering(b"\xff\xff"), answering(b"[" * 50_000),
        noise, a_flood, a_hang_up,
    ],
    ids=["404", "html", "one", "false", "list", "binary", "deep", "noise", "flood", "hang-up"],
)  # fmt: skip
async def test_any_other_reply_is_not_that_of_lm_studio(raw_server: RawServer, handler: Any) -> None:
    with anyio.fail_after(10):
        async with raw_server(handler) as api_host:
            assert not await is_valid_api_host(api_host, PATIENT)


async def test_a_silent_server_is_given_up_at_the_limit(raw_server: RawServer) -> None:
    with anyio.fail_after(10):
        async with raw_server(silence) as api_host:
            assert not await is_valid_api_host(api_host, ClientLimits(greeting_seconds=0.1))


async def test_a_port_without_a_listener_is_no_error(closed_port: int) -> None:
    assert not await is_valid_api_host(f"127.0.0.1:{closed_port}", PATIENT)


async def test_an_invalid_host_is_an_error() -> None:
    with pytest.raises(LMStudioValueError):
        await is_valid_api_host("ftp://localhost")


async def test_the_first_of_the_ports_that_answers_is_found(
    raw_server: RawServer, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    heard: list[bool] = []
    greets = discovery._greets

    async def greets_and_is_heard(*args: Any) -> bool:
        heard.append(await greets(*args))
        return heard[-1]

    async def wait_for_the_silent_one() -> None:
        await until(lambda: len(heard) == 5)
        await let_pass(10)

    monkeypatch.setattr(discovery, "_greets", greets_and_is_heard)
    with anyio.fail_after(30):
        async with AsyncExitStack() as servers:
            hosts = [
                await servers.enter_async_context(raw_server(handler))
                for handler in (silence, answering(b"{}"), answering(GREETING), answering(GREETING))
            ]
            limits = ClientLimits(api_ports=(closed_port, *map(port_of, hosts)), greeting_seconds=10)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait_for_the_silent_one)
                assert await find_default_local_api_host(limits) == hosts[2]


async def test_discovery_does_not_wait_for_ports_after_the_one_found(raw_server: RawServer) -> None:
    with anyio.fail_after(20):
        async with AsyncExitStack() as servers:
            hosts = [
                await servers.enter_async_context(raw_server(handler))
                for handler in (answering(b"{}"), answering(GREETING), silence)
            ]
            limits = PATIENT._replace(api_ports=tuple(map(port_of, hosts)))
            assert await find_default_local_api_host(limits) == hosts[1]


async def test_the_port_of_the_app_is_tried_last(raw_server: RawServer, closed_port: int) -> None:
    async with raw_server(answering(GREETING)) as api_host:
        limits = PATIENT._replace(api_ports=(closed_port,), app_port=port_of(api_host))
        assert await find_default_local_api_host(limits) == api_host


async def test_nothing_is_found_where_nothing_runs(closed_port: int) -> None:
    limits = PATIENT._replace(api_ports=(closed_port,), app_port=closed_port)
    assert await find_default_local_api_host(limits) is None


def test_the_ports_are_those_that_lm_studio_opens() -> None:
    assert DEFAULT_LIMITS.api_ports == (41343, 52993, 16141, 39414, 22931)
