"""Authentication at the embedded server, and how a connection handles frames of any kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.errors import LMStudioConnectionBrokenError, LMStudioValueError
from lmstudio_async.testing import ModelsFolder
from tests.embedded.raw_client import RawClient, Refused, connected, stack

TOKEN = "sk-lm-abcdefgh:ABCDEFGHIJKLMNOPQRST"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf", script="Hello there my friend")
    return folder.folder


async def test_an_internal_error_in_one_connection_does_not_end_another(
    server: EmbeddedServer,
    client: RawClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fault(*_: object) -> object:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(server, "_handlers", fault)
        async with server.connect("llm") as transport:
            other = RawClient(transport)
            await other.send({"authVersion": 1, "clientIdentifier": "a", "clientPasskey": "b"})
            assert await other.is_closed_by_server()
    assert "ZeroDivisionError" in caplog.text
    assert await client.call("listLoaded") == []


class LostTransport:
    """A connection that is lost when its second frame is sent, while the last frames of the client are still unread."""

    def __init__(self) -> None:
        self._frames = [
            ['{"authVersion":1,"clientIdentifier":"guest:a","clientPasskey":"b"}'],
            ['{"type":"channelCreate","endpoint":"streamLogs","channelId":1}', '{"type":"keepAlive"}'],
        ]
        self._last = ['{"type":"channelSend","channelId":1,"message":{"type":"stop"}}']
        self._sent = 0
        self._lost = anyio.Event()

    async def send(self, *frames: str) -> None:
        self._sent += len(frames)
        if self._sent > 1:
            self._lost.set()
            raise LMStudioConnectionBrokenError("lost")

    async def receive(self) -> list[str]:
        if self._frames:
            return self._frames.pop(0)
        with anyio.CancelScope(shield=True):
            await self._lost.wait()
            # The tasks that serve the connection end meanwhile.
            await anyio.wait_all_tasks_blocked()
        if not self._last:
            raise LMStudioConnectionBrokenError("lost")
        last, self._last = self._last, []
        return last

    async def aclose(self) -> None:
        pass


async def test_the_last_frames_of_a_lost_connection_log_no_error(
    server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    with anyio.fail_after(10):
        await server.serve(LostTransport(), "diagnostics")
    assert caplog.text == ""


# -- authentication


async def test_a_guest_is_authenticated_with_exactly_success_true(server: EmbeddedServer) -> None:
    async with server.connect("llm") as transport:
        await transport.send('{"authVersion":1,"clientIdentifier":"guest:a","clientPasskey":"b"}')
        assert list(await transport.receive()) == ['{"success":true}']


@pytest.mark.parametrize(
    "rubbish",
    ["no json", "[]", "null", '{"authVersion":2,"clientIdentifier":"a","clientPasskey":"b"}',
     '{"type":"rpcCall","endpoint":"listLoaded","callId":1}', '{"authVersion":1,"clientIdentifier":"a"}',
     json.dumps({"authVersion": 1, "clientIdentifier": "a" * 257, "clientPasskey": "b"})],
)  # fmt: skip
async def test_frames_before_the_credentials_are_ignored(server: EmbeddedServer, rubbish: str) -> None:
    async with server.connect("llm") as transport:
        raw = RawClient(transport)
        await raw.send(rubbish)
        assert await raw.authenticate() == {"success": True}
        assert await raw.call("listLoaded") == []


async def test_calls_sent_right_after_the_credentials_are_answered(server: EmbeddedServer) -> None:
    async with server.connect("llm") as transport:
        raw = RawClient(transport)
        await raw.send({"authVersion": 1, "clientIdentifier": "a", "clientPasskey": "b"})
        assert await raw.call("listLoaded") == []


async def test_an_identifier_belongs_to_its_first_passkey_until_its_last_connection_ends(
    server: EmbeddedServer,
) -> None:
    async with (
        connected(server, "llm"),
        connected(server, "system"),
        server.connect("embedding") as transport,
    ):
        intruder = RawClient(transport)
        answer = await intruder.authenticate(clientPasskey="wrong")
        assert answer["success"] is False
        assert 'Invalid client passkey for client "guest:test"' in answer["error"]
        assert await intruder.is_closed_by_server()
    with anyio.fail_after(10):
        while server._clients._clients:  # the server notices the closed connections a moment later
            await anyio.lowlevel.checkpoint()
    async with connected(server, "llm", clientPasskey="another"):
        pass


async def test_a_server_with_api_tokens_refuses_other_credentials(models: Path) -> None:
    async with EmbeddedServer(models, api_tokens=[TOKEN]) as server:
        for identity in ({}, {"clientIdentifier": "abcdefgh"}, {"clientPasskey": "ABCDEFGHIJKLMNOPQRST"}):
            async with server.connect("llm") as transport:
                raw = RawClient(transport)
                answer = await raw.authenticate(**identity)
                assert answer["success"] is False
                assert isinstance(answer["error"], str)
                assert await raw.is_closed_by_server()
        async with connected(
            server, clientIdentifier="abcdefgh", clientPasskey="ABCDEFGHIJKLMNOPQRST"
        ) as raw:
            assert await raw.call("listLoaded") == []
        assert TOKEN not in repr(server) + repr(vars(server))


@pytest.mark.parametrize("tokens", [["secret"], [""], TOKEN, [7]])
def test_invalid_api_tokens_raise_value_error(tokens: Any) -> None:
    with pytest.raises(LMStudioValueError):
        EmbeddedServer(api_tokens=tokens)


@pytest.mark.parametrize(
    "parameters",
    [
        {"jit_ttl": 0},
        {"jit_ttl": float("nan")},
        {"threads": 0},
        {"threads": True},
        {"jit_ttl": "1h"},
        {"models": 5},
        {"models": "a\0b"},
    ],
)
def test_invalid_parameters_raise_value_error(parameters: Any) -> None:
    with pytest.raises(LMStudioValueError):
        EmbeddedServer(**parameters)


# -- frames on a connection


async def test_frames_that_are_no_messages_are_dropped_with_at_most_five_warnings(client: RawClient) -> None:
    for _ in range(4):
        await client.send("no json")
        await client.send({"type": "rpcCall", "endpoint": "listLoaded"})
        await client.send("[" * 100_000)
    warnings = await client.silence()
    assert [frame["type"] for frame in warnings] == ["communicationWarning"] * 5
    assert await client.call("listLoaded") == []


@pytest.mark.parametrize("endpoint", ["fooBar", "__init__", "loadModel", "predict"])
async def test_an_unknown_call_is_warned_of_and_ended_with_an_error(client: RawClient, endpoint: str) -> None:
    await client.send({"type": "rpcCall", "endpoint": endpoint, "callId": 0})
    warning, error = await client.next(), await client.next()
    assert (warning["type"], warning["kind"]) == ("communicationWarning", "rpcEndpointUnknown")
    assert (error["type"], error["callId"]) == ("rpcError", 0)
    assert endpoint in error["error"]["title"]


async def test_an_unknown_channel_is_warned_of_and_ended_with_an_error(client: RawClient) -> None:
    await client.send({"type": "channelCreate", "endpoint": "listLoaded", "channelId": 0})
    warning, error = await client.next(), await client.next()
    assert (warning["type"], warning["kind"]) == ("communicationWarning", "channelEndpointUnknown")
    assert (error["type"], error["channelId"]) == ("channelError", 0)


async def test_a_bad_parameter_is_warned_of_and_ended_with_an_error_that_names_it(client: RawClient) -> None:
    await client.send({"type": "rpcCall", "endpoint": "unloadModel", "callId": 3, "parameter": {}})
    assert (await client.next())["kind"] == "rpcParameterTypeError"
    assert "identifier" in (await client.next(callId=3))["error"]["title"]
    await client.send({"type": "channelCreate", "endpoint": "loadModel", "channelId": 3})
    assert (await client.next())["kind"] == "channelCreationParameterTypeError"
    assert (await client.next(channelId=3))["type"] == "channelError"


async def test_calls_still_get_errors_when_the_warnings_are_used_up(client: RawClient) -> None:
    for _ in range(8):
        with pytest.raises(Refused, match="unknown endpoint"):
            await client.call("nothing")


async def test_a_channel_number_used_twice_ends_both_channels_once(server: EmbeddedServer) -> None:
    async with connected(server, "system") as raw:
        for _ in range(2):
            await raw.send({"type": "channelCreate", "endpoint": "alive", "channelId": 7})
        assert (await raw.next(type="communicationWarning"))["kind"] == "channelAlreadyOpen"
        assert (await raw.next(channelId=7))["type"] == "channelError"
        assert await raw.silence() == []
        await raw.send({"type": "channelCreate", "endpoint": "alive", "channelId": 7})
        assert await raw.silence() == []


async def test_a_packet_for_a_channel_that_has_just_ended_is_ignored(client: RawClient) -> None:
    channel = await client.open("loadModel", {"modelKey": "missing", "loadConfigStack": stack()})
    with pytest.raises(Refused):
        await client.packets(channel)
    await client.cancel(channel)
    assert await client.silence() == []


async def test_an_unknown_packet_in_a_channel_is_warned_of_and_changes_nothing(
    server: EmbeddedServer,
) -> None:
    async with connected(server, "diagnostics") as raw:
        channel = await raw.open("streamLogs")
        await raw.tell(channel, type="dance")
        await raw.send({"type": "channelSend", "channelId": channel, "message": 5})
        assert [frame["kind"] for frame in await raw.silence()] == ["channelMessageTypeError"] * 2
        await raw.tell(channel, type="stop")
        assert await raw.packets(channel) == []


async def test_a_call_and_a_channel_may_have_the_same_number(server: EmbeddedServer) -> None:
    async with connected(server, "system") as raw:
        await raw.send({"type": "channelCreate", "endpoint": "alive", "channelId": 0})
        await raw.send({"type": "rpcCall", "endpoint": "getExperimentFlags", "callId": 0})
        assert await raw.next() == {"type": "rpcResult", "callId": 0, "result": []}


async def test_signal_subscriptions_are_answered_with_an_error(client: RawClient) -> None:
    await client.send({"type": "signalSubscribe", "endpoint": "x", "subscribeId": 1})
    assert (await client.next(subscribeId=1))["type"] == "signalError"
    await client.send({"type": "writableSignalSubscribe", "endpoint": "x", "subscribeId": 2})
    assert (await client.next(subscribeId=2))["type"] == "writableSignalError"


async def test_a_warning_is_not_answered_with_a_warning(client: RawClient) -> None:
    await client.send({"type": "communicationWarning", "warning": "cannot read this", "kind": "unknown"})
    assert await client.silence() == []


async def test_a_warning_from_a_client_cannot_forge_a_log_line(
    client: RawClient, caplog: pytest.LogCaptureFixture
) -> None:
    warned = "no\nthe server: all is well\x1b[2J \ud83d, grüße"
    await client.send({"type": "communicationWarning", "warning": warned, "kind": "unknown"})
    await client.silence()
    assert caplog.messages == [
        r"llm: the client warns: no\nthe server: all is well\x1b[2J \ud83d, grüße (unknown)"
    ]


async def test_half_a_surrogate_pair_in_an_endpoint_name_is_answered(client: RawClient) -> None:
    await client.send('{"type":"rpcCall","endpoint":"\\ud83d","callId":1}')
    assert (await client.next(callId=1))["type"] == "rpcError"
