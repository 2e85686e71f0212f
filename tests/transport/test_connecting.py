"""Failures to connect: the error of each has the reason and a cure."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from lmstudio_async._transport import WebSocketConnector, parse_api_host
from lmstudio_async.errors import LMStudioUnreachableError, LMStudioValueError

RawServer = Callable[[Any], AbstractAsyncContextManager[str]]


async def why_unreachable(api_host: str, **options: Any) -> str:
    connector = WebSocketConnector(parse_api_host(api_host), **{"close_timeout": 0.1, **options})
    with pytest.raises(LMStudioUnreachableError) as caught:
        async with connector.connect("llm"):
            pytest.fail("connected to nothing")
    await connector.aclose()
    message = str(caught.value)
    assert "/llm" in message
    return message


def replying(data: bytes) -> Callable[[anyio.abc.SocketStream], Any]:
    async def handler(stream: anyio.abc.SocketStream) -> None:
        await stream.receive()
        await stream.send(data)

    return handler


async def silence(stream: anyio.abc.SocketStream) -> None:
    while True:
        await stream.receive()


def status(code: int, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {code} So", "Content-Length: 0", *headers, "", ""]).encode()


async def test_a_port_without_a_listener_is_refused(closed_port: int) -> None:
    message = await why_unreachable(f"127.0.0.1:{closed_port}")
    assert "the connection was refused" in message
    assert "Start LM Studio" in message
    assert '"embedded"' in message


@pytest.mark.parametrize("name", ["nowhere.invalid", "a" * 64])
async def test_an_unknown_host_name_is_reported(name: str) -> None:
    with anyio.fail_after(30):
        message = await why_unreachable(name, connect_timeout=5)
    assert "the host name is not known" in message
    assert "Start LM Studio" not in message


async def test_a_server_that_accepts_and_never_responds_times_out(raw_server: RawServer) -> None:
    async with raw_server(silence) as api_host:
        message = await why_unreachable(api_host, connect_timeout=0.1)
    assert "did not answer within 0.1 seconds" in message
    assert "firewall" in message
    assert "Start LM Studio" not in message


@pytest.mark.parametrize(
    ("reply", "expected", "cure"),
    [
        (status(401), "HTTP status 401", "Check api_token"),
        (status(403), "HTTP status 403", "Check api_token"),
        (status(404), "HTTP status 404", "Write api_host without a path"),
        (status(301, "Location: https://elsewhere/"), "HTTP status 301", "Write that address as api_host"),
        (status(400), "HTTP status 400", "may be another program"),
        (status(426), "HTTP status 426", "may be another program"),
        (status(429), "HTTP status 429", "limits the number of requests"),
        (status(500), "HTTP status 500", "Its log"),
        (status(502), "HTTP status 502", "proxy or gateway"),
        (status(503), "HTTP status 503", "proxy or gateway"),
        (status(504), "HTTP status 504", "proxy or gateway"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP status 200", "may be another program"),
        (
            b"HTTP/1.1 101 Yes\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "not as a websocket server does",
            "Another program listens there",
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not as LM Studio does", "Another program listens there"),
        (b"\x00\xff" * 40, "not as LM Studio does", "Another program listens there"),
        (b"", "not as LM Studio does", "Another program listens there"),
    ],
)
async def test_the_error_of_a_running_server_does_not_advise_to_start_it(
    raw_server: RawServer, reply: bytes, expected: str, cure: str
) -> None:
    async with raw_server(replying(reply)) as api_host:
        message = await why_unreachable(api_host)
    assert expected in message
    assert cure in message
    assert "Start LM Studio" not in message


async def test_the_reply_of_another_program_is_printable_and_bounded_in_the_error(
    raw_server: RawServer,
) -> None:
    async with raw_server(replying(b"\x1b[2J" + b"x" * 60_000 + b"\r\n")) as api_host:
        message = await why_unreachable(api_host)
    assert message.isprintable()
    assert len(message) < 600


async def test_tls_to_a_server_without_tls_advises_http(raw_server: RawServer) -> None:
    async with raw_server(replying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as api_host:
        message = await why_unreachable(f"wss://{api_host}", verify=ssl.create_default_context())
    assert "could not be reached" in message
    assert "Write http:// instead of https://" in message
    assert "Start LM Studio" not in message


async def test_a_server_that_ends_the_tls_handshake_is_reported(raw_server: RawServer) -> None:
    async with raw_server(replying(b"")) as api_host:
        message = await why_unreachable(f"https://{api_host}", verify=ssl.create_default_context())
    assert "TLS" in message
    assert "http://" in message
    assert "Start LM Studio" not in message


@pytest.mark.parametrize("host", ["lm.example", "https://lm.example"])
async def test_a_proxy_that_is_down_is_named(
    closed_port: int, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"http://localhost:{closed_port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    message = await why_unreachable(host, verify=ssl.create_default_context())
    assert "the proxy localhost does not answer" in message
    assert "ALL_PROXY" in message
    assert "Start LM Studio" not in message


@pytest.mark.parametrize("name", ["missing.pem", "garbage.pem"])
async def test_certificates_that_cannot_be_read_raise_a_value_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "garbage.pem").write_text("no certificate")
    connector = WebSocketConnector(parse_api_host("wss://127.0.0.1"), verify=str(tmp_path / name))
    with pytest.raises(LMStudioValueError, match="PEM"):
        async with connector.connect("llm"):
            pytest.fail("connected")
    await connector.aclose()
