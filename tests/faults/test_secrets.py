"""Secrets appear in no text, and requests to this machine never go through a proxy."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

import lmstudio_sync
from lmstudio_async import AsyncClient, LMStudioError, LMStudioUnreachableError, LMStudioValueError
from tests.faults.socket_server import Peer, SocketServer, serve_well

TOKEN = "sk-lm-Abcdefg1:HIJKLMNOPQRSTUVWXYZ2"
PASSKEY = TOKEN.partition(":")[2]
HOSTS = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1", "127.0.0.2": "127.0.0.2", "[::1]": "::1"}


def refuse(peer: Peer) -> None:
    peer.upgrade()
    peer.next_message()
    peer.say('{"success": false, "error": "Invalid client passkey"}')
    peer.close(1000)
    peer.wait_until_left()


def lose(peer: Peer) -> None:
    peer.accept()
    peer.next_message()
    peer.reset()


def answer_nonsense(peer: Peer) -> None:
    peer.upgrade()
    peer.next_message()
    peer.say("[]")
    peer.wait_until_left()


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log of all libraries at the level DEBUG."""
    with caplog.at_level(logging.DEBUG):
        yield caplog


@pytest.mark.parametrize("fault", [serve_well, refuse, lose, answer_nonsense])
async def test_a_token_appears_in_no_repr_error_or_log(
    fault: Any, everything_logged: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []
    with anyio.fail_after(20), SocketServer(fault) as server:
        async with AsyncClient(server.api_host, TOKEN) as client:
            namespace = client.llm
            seen += [repr(client), str(client), repr(client._access.credentials), repr(namespace._session)]
            try:
                await client.llm.unload("qwen3-4b")
            except LMStudioError as error:
                seen += traceback.format_exception(error)

    assert (fault is serve_well) == (len(seen) == 4)
    assert everything_logged.text
    for text in (*seen, everything_logged.text):
        assert PASSKEY not in text


def test_a_token_appears_in_no_text_of_a_blocking_client() -> None:
    with lmstudio_sync.Client("127.0.0.1:1", TOKEN) as client:
        assert PASSKEY not in repr(client)
        with pytest.raises(LMStudioUnreachableError) as caught:
            client.llm.list_loaded()
    assert PASSKEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("token", ["sk-lm-short:HIJKLMNOPQRSTUVWXYZ2", "HIJKLMNOPQRSTUVWXYZ2", TOKEN + "x"])
def test_error_for_an_invalid_token_does_not_show_it(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_API_TOKEN", token)
    for given in (token, None):
        with pytest.raises(LMStudioValueError) as caught:
            AsyncClient("127.0.0.1", given)
        assert PASSKEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "host", ["http://me:hunter2@127.0.0.1", "me:hunter2@127.0.0.1:1234", "127.0.0.1?key=hunter2"]
)
async def test_error_for_an_address_with_a_secret_does_not_show_it(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTUDIO_HOST", host)
    with pytest.raises(LMStudioValueError) as given:
        AsyncClient(host)
    with pytest.raises(LMStudioValueError) as found:
        async with AsyncClient():
            pytest.fail("entered")
    for caught in (given, found):
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))


# -- proxies


@pytest.fixture
def proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names an unreachable proxy."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("host", HOSTS)
async def test_connections_to_this_machine_use_no_proxy(host: str, proxies: pytest.MonkeyPatch) -> None:
    try:
        server = SocketServer(serve_well, host=HOSTS[host])
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with anyio.fail_after(20), server:
        for scheme in ("", "http://", "ws://"):
            async with AsyncClient(f"{scheme}{host}:{server.port}") as client:
                assert len(await client.llm.list_loaded()) == 1


@pytest.mark.parametrize(
    "proxy", ["foo://me:hunter2@127.0.0.1", "http://me:hunter2@127.0.0.1:port", "http://me:hunter2/x@host"]
)
async def test_error_for_an_invalid_proxy_names_the_variable_without_the_password(
    proxy: str, proxies: pytest.MonkeyPatch
) -> None:
    for name in ("ALL_PROXY", "HTTP_PROXY", "http_proxy", "all_proxy"):
        proxies.setenv(name, proxy)
    async with AsyncClient("server.invalid:1234") as client:
        with pytest.raises(LMStudioUnreachableError, match="HTTP_PROXY") as caught:
            await client.llm.list_loaded()
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert not await AsyncClient.is_valid_api_host("server.invalid:1234")


async def test_an_unreachable_proxy_raises_an_unreachable_error(proxies: pytest.MonkeyPatch) -> None:
    async with AsyncClient("server.invalid:1234") as client:
        with pytest.raises(LMStudioUnreachableError):
            await client.llm.list_loaded()
