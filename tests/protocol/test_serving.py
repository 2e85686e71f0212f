"""The server's side of a connection, frame by frame and without I/O."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async._protocol import _server_side
from lmstudio_async._protocol._errors import instance_unloaded
from lmstudio_async._protocol._server_side import Call, ChannelDropped, ChannelOpened, Packet, Serving
from lmstudio_async._wire._infos import LlmInstanceInfo
from lmstudio_async._wire._models import Cancel, Progress
from lmstudio_async._wire._runtime import AllEngines
from lmstudio_async._wire._texts import Embedding, TokenCount

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture
def serving() -> Serving:
    return Serving("llm")


def frame(**members: Any) -> str:
    return json.dumps(members)


def replies(serving: Serving) -> list[dict[str, Any]]:
    return [json.loads(reply) for reply in serving.take_replies()]


def open_load(serving: Serving, number: int = 1) -> ChannelOpened:
    creation = {"modelKey": "tiny", "loadConfigStack": {"layers": []}}
    opened = serving.receive(
        frame(type="channelCreate", endpoint="loadModel", channelId=number, creationParameter=creation)
    )
    assert isinstance(opened, ChannelOpened)
    return opened


def call(serving: Serving, endpoint: str, parameter: Any = None) -> Call:
    members = {} if parameter is None else {"parameter": parameter}
    received = serving.receive(frame(type="rpcCall", endpoint=endpoint, callId=0, **members))
    assert isinstance(received, Call)
    return received


def test_authentication_accepts_well_formed_credentials_only() -> None:
    right = {"authVersion": 1, "clientIdentifier": "a", "clientPasskey": "b"}
    credentials = _server_side.read_authentication(json.dumps(right))
    assert credentials is not None
    assert (credentials.client_identifier, credentials.client_passkey) == ("a", "b")
    for wrong in (
        {**right, "authVersion": 2},
        {**right, "authVersion": "1"},
        {**right, "clientIdentifier": "a" * 257},
        {**right, "clientPasskey": None},
        [right],
        None,
    ):
        assert _server_side.read_authentication(json.dumps(wrong)) is None


def test_a_failed_authentication_has_its_error_as_a_text() -> None:
    assert json.loads(_server_side.authentication_response("no")) == {"success": False, "error": "no"}
    assert _server_side.authentication_response() == '{"success":true}'


def test_a_received_call_has_its_parsed_parameter(serving: Serving) -> None:
    received = call(serving, "unloadModel", {"identifier": "mine"})
    assert received.parameter.identifier == "mine"
    assert serving.result(received, None) == '{"type":"rpcResult","callId":0}'


def test_an_optional_result_of_none_is_left_out(serving: Serving) -> None:
    received = call(
        serving, "getModelInfo", {"specifier": {"type": "query", "query": {}}, "throwIfNotFound": False}
    )
    assert "result" not in json.loads(serving.result(received, None))


def test_a_list_of_infos_keeps_its_nullable_members(serving: Serving) -> None:
    result = json.loads(serving.result(call(serving, "listLoaded"), [LlmInstanceInfo(identifier="mine")]))
    assert result["result"][0]["ttlMs"] is None
    assert "paramsString" not in result["result"][0]


@pytest.mark.parametrize(
    "wrong", [None, {"tokenCount": 3}, Embedding(embedding=[]), [TokenCount(token_count=3)]]
)
def test_a_result_of_another_class_raises_a_type_error(serving: Serving, wrong: Any) -> None:
    received = call(serving, "countTokens", {"specifier": {"type": "query", "query": {}}, "inputString": "a"})
    with pytest.raises(TypeError, match="countTokens"):
        serving.result(received, wrong)
    assert json.loads(serving.result(received, TokenCount(token_count=3)))["result"] == {"tokenCount": 3}


def test_a_failed_call_carries_the_error_object(serving: Serving) -> None:
    answer = json.loads(serving.call_failed(call(serving, "listLoaded"), instance_unloaded()))
    assert answer["type"] == "rpcError"
    assert answer["error"]["displayData"] == {"code": "generic.specificModelUnloaded"}


def test_an_unexpected_exception_does_not_send_its_text(serving: Serving) -> None:
    answer = serving.call_failed(call(serving, "listLoaded"), RuntimeError("/home/secret"))
    assert "secret" not in answer


def test_a_channel_sends_and_receives_packets_until_it_is_closed(serving: Serving) -> None:
    open_load(serving)
    sent = serving.packet(1, Progress(progress=0.5))
    assert json.loads(sent or "") == {
        "type": "channelSend", "channelId": 1, "message": {"type": "progress", "progress": 0.5}
    }  # fmt: skip
    assert serving.receive(frame(type="channelSend", channelId=1, message={"type": "cancel"})) == Packet(
        1, Cancel()
    )
    assert serving.close(1) == '{"type":"channelClose","channelId":1}'
    assert serving.close(1) is None
    assert serving.close(1, instance_unloaded()) is None
    assert serving.packet(1, Progress(progress=1)) is None
    assert serving.receive(frame(type="channelSend", channelId=1, message={"type": "cancel"})) is None
    assert replies(serving) == []


def test_the_number_of_a_closed_channel_can_be_used_again(serving: Serving) -> None:
    open_load(serving)
    serving.close(1, instance_unloaded())
    open_load(serving)
    assert replies(serving) == []


def test_a_packet_of_another_endpoint_raises_a_type_error(serving: Serving) -> None:
    open_load(serving)
    with pytest.raises(TypeError, match="loadModel"):
        serving.packet(1, TokenCount(token_count=1))


def test_opening_a_channel_with_a_number_in_use_ends_that_channel(serving: Serving) -> None:
    open_load(serving)
    again = serving.receive(frame(type="channelCreate", endpoint="loadModel", channelId=1))
    assert again == ChannelDropped(1)
    assert [reply["type"] for reply in replies(serving)] == ["communicationWarning", "channelError"]
    assert serving.close(1) is None


def test_a_missing_parameter_fails_the_call(serving: Serving) -> None:
    assert serving.receive(frame(type="rpcCall", endpoint="unloadModel", callId=4)) is None
    warning, error = replies(serving)
    assert warning["kind"] == "rpcParameterTypeError"
    assert (error["type"], error["callId"]) == ("rpcError", 4)


def test_an_optional_parameter_may_be_missing() -> None:
    serving = Serving("runtime")
    assert call(serving, "surveyHardware").parameter is None
    assert isinstance(call(serving, "surveyHardware", {"type": "all"}).parameter, AllEngines)
    assert serving.take_replies() == []


def test_a_connection_sends_five_warnings_at_most_but_every_error(serving: Serving) -> None:
    for _ in range(7):
        serving.receive(frame(type="rpcCall", endpoint="nothing", callId=1))
    kinds = [reply["type"] for reply in replies(serving)]
    assert kinds.count("communicationWarning") == 5
    assert kinds.count("rpcError") == 7


@pytest.mark.parametrize(
    "quiet",
    [
        frame(type="communicationWarning", warning="hm"),
        frame(type="channelAck", channelId=1, ackId=1),
        frame(type="signalUnsubscribe", subscribeId=1),
        frame(type="writableSignalUpdate", subscribeId=1, patches=[], tags=[]),
    ],
)
def test_a_message_that_needs_no_reply_gets_none(serving: Serving, quiet: str) -> None:
    assert serving.receive(quiet) is None
    assert replies(serving) == []


@given(st.text() | JSON.map(json.dumps))
def test_an_arbitrary_frame_does_not_break_the_connection(text: str) -> None:
    serving = Serving("llm")
    assert serving.receive(text) is None or replies(serving) is not None
    call(serving, "listLoaded")


@given(
    st.sampled_from(
        ["rpcCall", "channelCreate", "channelSend", "channelAck", "signalSubscribe", "keepAlive", "x"]
    ),
    st.sampled_from(["loadModel", "predict", "tokenize", "listLoaded", ""]) | st.text(),
    st.integers() | JSON,
    JSON,
)
def test_every_call_and_channel_is_either_served_or_ended(
    kind: str, endpoint: str, number: Any, value: Any
) -> None:
    serving = Serving("llm")
    message = {
        "type": kind, "endpoint": endpoint, "callId": number, "channelId": number, "subscribeId": number,
        "parameter": value, "creationParameter": value, "message": value,
    }  # fmt: skip
    request = serving.receive(json.dumps(message))
    ended = {reply["type"] for reply in replies(serving)} - {"communicationWarning"}
    if type(number) is int and kind in ("rpcCall", "channelCreate"):
        assert (request is not None) != bool(ended)
