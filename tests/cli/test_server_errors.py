"""Errors of the connection to a server: they name options and variables of the shell, and end with what to do."""

from __future__ import annotations

import os
import re
import socket
import ssl
import sys
from collections.abc import Iterator

import httpx
import httpx_ws
import pytest

from lmstudio_async._cli import main
from lmstudio_async._cli._server_errors import errors_for_shell
from lmstudio_async._protocol._errors import authentication_refused
from lmstudio_async._transport._connect_failure import connect_failure, not_a_websocket_server
from lmstudio_async.errors import LMStudioAuthenticationError, LMStudioUnreachableError

#: The command could use the embedded server for its own time.
EMBEDDABLE = [
    ["ls"],
    ["estimate", "tiny"],
    ["pull", "tiny"],
    ["run", "tiny", "hi"],
    ["embed", "tiny", "hi"],
    ["demo"],
]
#: The command is about instances that stay.
STAYING = [["ps"], ["top"], ["events"], ["load", "tiny"], ["unload", "tiny"]]

#: Words of a program in Python.
PYTHON = re.compile(r"api_host|api_token|\bverify\b|SSLContext|EmbeddedServer")


@pytest.fixture(autouse=True)
def _no_input(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard input without a text, which is no terminal."""
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        yield


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 3
    return capsys.readouterr().err


@pytest.mark.parametrize("command", [*EMBEDDABLE, *STAYING], ids=lambda command: command[0])
def test_unreachable_host_ends_with_what_the_command_can_do(
    capsys: pytest.CaptureFixture[str], closed_port: int, command: list[str]
) -> None:
    shown = failed(capsys, *command, "--host", f"127.0.0.1:{closed_port}")
    first, last = shown.splitlines()
    assert first.startswith(f"lmsa: ws://127.0.0.1:{closed_port}/")
    assert first.endswith("the connection was refused, so no server listens there.")
    assert "correct --host" in last
    assert last.endswith("--host embedded" if command in EMBEDDABLE else "lmsa serve")
    assert not PYTHON.search(shown)


@pytest.mark.parametrize("command", [*EMBEDDABLE[:-1], *STAYING], ids=lambda command: command[0])
def test_unreachable_host_of_the_environment_names_the_variable(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    closed_port: int,
    command: list[str],
) -> None:
    monkeypatch.setenv("LMSTUDIO_HOST", f"127.0.0.1:{closed_port}")
    shown = failed(capsys, *command)
    assert "correct LMSTUDIO_HOST;" in shown
    assert "correct --host" not in shown


@pytest.mark.parametrize("command", STAYING, ids=lambda command: command[0])
def test_no_server_on_this_machine_names_serve(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    async def nothing() -> None:
        return None

    monkeypatch.setattr("lmstudio_async.AsyncClient.find_default_local_api_host", nothing)
    monkeypatch.delenv("LMSTUDIO_HOST", raising=False)
    shown = failed(capsys, *command)
    assert shown.startswith("lmsa: No LM Studio answers on this machine.")
    assert shown.endswith("lmsa serve\n")


def refused_with(status: int) -> Exception:
    return httpx_ws.WebSocketUpgradeError(httpx.Response(status))


def caused_by(cause: Exception) -> Exception:
    error = httpx.ConnectError("")
    error.__cause__ = cause
    return error


def untrusted(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, "it is not trusted"
    return error


def tls_failure(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


FAILURES = [
    *map(refused_with, (301, 401, 404, 407, 418, 429, 500, 502)),
    *map(
        caused_by, (ConnectionRefusedError(), socket.gaierror(), OSError(113, "no route"), OSError(5, "odd"))
    ),
    *map(caused_by, (untrusted(10), untrusted(62), untrusted(18))),
    *map(caused_by, (tls_failure("WRONG_VERSION_NUMBER"), tls_failure("UNSUPPORTED_PROTOCOL"))),
    TimeoutError(),
    httpx.ProxyError("no"),
    httpx.RemoteProtocolError("odd"),
    ValueError("odd"),
]


@pytest.mark.parametrize("origin", ["--host", "LMSTUDIO_HOST", None])
@pytest.mark.parametrize("may_embed", [True, False])
def test_no_message_about_a_connection_has_words_of_python(origin: str | None, may_embed: bool) -> None:
    messages = [connect_failure("wss://host:1/llm", failure, 10, None) for failure in FAILURES]
    messages += [
        connect_failure("wss://host:1/llm", FAILURES[8], 10, "proxy"),
        not_a_websocket_server("ws://host"),
    ]
    assert any(PYTHON.search(message) for message in messages)
    for message in messages:
        with pytest.raises(LMStudioUnreachableError) as caught, errors_for_shell(origin, may_embed=may_embed):
            raise LMStudioUnreachableError(message)
        text = str(caught.value)
        assert not PYTHON.search(text), text
        # The reason stays.
        assert text[:20] == message[:20]
        if not may_embed:
            assert "--host embedded" not in text


def test_a_refused_token_names_the_option_and_the_variable() -> None:
    with pytest.raises(LMStudioAuthenticationError) as caught, errors_for_shell(None, may_embed=False):
        raise authentication_refused("wrong token")
    assert str(caught.value).endswith("in a file with --token-file, or in LM_API_TOKEN.")
    assert caught.value.title == "wrong token"


def test_errors_without_such_words_stay_the_same() -> None:
    error = LMStudioUnreachableError("gone")
    with pytest.raises(LMStudioUnreachableError) as caught, errors_for_shell("--host", may_embed=True):
        raise error
    assert caught.value is error
