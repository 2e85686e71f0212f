"""`Multiplexer`, the client's side of a connection, without the connection."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async import (
    LMStudioConnectionBrokenError,
    LMStudioError,
    LMStudioIdentifierInUseError,
    LMStudioModelNotFoundError,
    LMStudioProtocolError,
)
from lmstudio_async._protocol._client_side import Multiplexer
from lmstudio_async._protocol._endpoints.models import (
    COUNT_TOKENS,
    GET_MODEL_INFO,
    LIST_LOADED,
    LOAD_MODEL,
    UNLOAD_MODEL,
)
from lmstudio_async._wire._models import (
    Cancel,
    InstanceReferenceSpecifier,
    LoadModelCreation,
    Progress,
    UnloadModelParameter,
)
from lmstudio_async._wire._struct import Unknown
from lmstudio_async._wire._texts import InputStringParameter, TokenCount

COUNT = InputStringParameter(specifier=InstanceReferenceSpecifier(instance_reference="r1"), input_string="Hi")


class Listener:
    """A receiver of a call or of a channel that records its results, packets and errors."""

    def __init__(self) -> None:
        self.received: list[Any] = []

    def succeed(self, result: Any) -> None:
        self.received.append(result)

    def fail(self, error: LMStudioError) -> None:
        self.received.append(error)

    def feed(self, packet: Any) -> None:
        self.received.append(packet)

    def give_up(self, error: LMStudioError) -> None:
        self.received.append(error)

    def end(self, error: LMStudioError | None) -> None:
        self.received.append(error or "closed")


@pytest.fixture
def multiplexer() -> Multiplexer:
    return Multiplexer()


def call(multiplexer: Multiplexer) -> Listener:
    listener = Listener()
    multiplexer.call(COUNT_TOKENS, COUNT, listener)
    return listener


def load(multiplexer: Multiplexer) -> Listener:
    listener = Listener()
    multiplexer.open_channel(LOAD_MODEL, LoadModelCreation(model_key="qwen3-4b"), listener)
    return listener


def say(multiplexer: Multiplexer, **message: Any) -> None:
    multiplexer.receive(json.dumps(message))


def test_a_call_without_a_parameter_has_no_parameter_member(multiplexer: Multiplexer) -> None:
    number, frame = multiplexer.call(LIST_LOADED, None, Listener())

    assert json.loads(frame) == {"type": "rpcCall", "endpoint": "listLoaded", "callId": number}


def test_results_reach_their_calls_in_any_order(multiplexer: Multiplexer) -> None:
    first, second = call(multiplexer), call(multiplexer)

    say(multiplexer, type="rpcResult", callId=2, result={"tokenCount": 22})
    say(multiplexer, type="rpcResult", callId=1, result={"tokenCount": 11})

    assert first.received == [TokenCount(token_count=11)]
    assert second.received == [TokenCount(token_count=22)]


def test_calls_and_channels_are_numbered_separately(multiplexer: Multiplexer) -> None:
    answer, channel = call(multiplexer), load(multiplexer)

    say(multiplexer, type="channelSend", channelId=1, message={"type": "progress", "progress": 0.5})
    say(multiplexer, type="rpcResult", callId=1, result={"tokenCount": 1})

    assert channel.received == [Progress(progress=0.5)]
    assert answer.received == [TokenCount(token_count=1)]


def test_a_model_not_found_error_names_the_operation_and_the_candidates(multiplexer: Multiplexer) -> None:
    channel = load(multiplexer)
    error = {
        "title": "Cannot find a model",
        "displayData": {"code": "generic.pathNotFound", "path": "qwen", "availablePathsSample": ["qwen3-4b"]},
        "stack": "Error: at /home/somebody/server.js",
    }

    say(multiplexer, type="channelError", channelId=1, error=error)

    (received,) = channel.received
    assert isinstance(received, LMStudioModelNotFoundError)
    text = "Model load error: Cannot find a model\nDid you mean 'qwen3-4b'? There are: qwen3-4b"
    assert str(received) == text
    assert received.candidates == ["qwen3-4b"]
    assert "stack" not in received.server_error


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            {"path": "lama-3", "availablePathsSample": ["llama-3", "qwen3-4b"], "totalModels": 12},
            "\nDid you mean 'llama-3'? There are: llama-3, qwen3-4b, and 10 more",
        ),
        (
            {"query": {"identifier": "Lama-3"}, "loadedModelsSample": ["qwen3-4b", "llama-3"]},
            "\nAsked for: identifier 'Lama-3'\nDid you mean 'llama-3'? There are: qwen3-4b, llama-3",
        ),
        (
            {"query": {"identifier": "x"}, "totalLoadedModels": 0},
            "\nAsked for: identifier 'x'\nNone is loaded.",
        ),
        ({"path": 5, "availablePathsSample": ["a"], "totalModels": "many"}, "\nThere are: a"),
    ],
)
def test_a_model_not_found_error_suggests_a_similar_name(
    multiplexer: Multiplexer, data: dict[str, Any], expected: str
) -> None:
    channel = load(multiplexer)
    error = {"title": "Nothing", "displayData": {"code": "generic.pathNotFound", **data}}

    say(multiplexer, type="channelError", channelId=1, error=error)

    assert str(channel.received[0]) == f"Model load error: Nothing{expected}"


def test_an_identifier_in_use_is_recognized_by_the_text_of_the_error(multiplexer: Multiplexer) -> None:
    channel = load(multiplexer)

    say(multiplexer, type="channelError", channelId=1, error={"title": 'Identifier "x" already exists'})

    assert isinstance(channel.received[0], LMStudioIdentifierInUseError)


@pytest.mark.parametrize("error", ["it broke", "", None, 5, [], {}, {"title": 5}])
def test_an_error_of_any_shape_fails_its_call(multiplexer: Multiplexer, error: Any) -> None:
    answer = call(multiplexer)

    say(multiplexer, type="rpcError", callId=1, error=error)

    assert isinstance(answer.received[0], LMStudioError)
    assert str(answer.received[0]).startswith("Token count error: ")


def test_a_malformed_result_fails_its_call_only(multiplexer: Multiplexer) -> None:
    bad, good = call(multiplexer), call(multiplexer)

    say(multiplexer, type="rpcResult", callId=1, result={"tokenCount": "many"})
    say(multiplexer, type="rpcResult", callId=2, result={"tokenCount": 2})

    assert isinstance(bad.received[0], LMStudioProtocolError)
    assert "TokenCount.tokenCount" in str(bad.received[0])
    assert good.received == [TokenCount(token_count=2)]


def test_a_call_without_a_result_ignores_the_value_that_comes(multiplexer: Multiplexer) -> None:
    listener = Listener()
    multiplexer.call(UNLOAD_MODEL, UnloadModelParameter(identifier="x"), listener)

    say(multiplexer, type="rpcResult", callId=1, result={"surprise": 1})

    assert listener.received == [None]


@pytest.mark.parametrize("answer", [{}, {"result": None}])
def test_an_optional_result_may_be_absent_or_null(multiplexer: Multiplexer, answer: dict[str, Any]) -> None:
    listener = Listener()
    multiplexer.call(GET_MODEL_INFO, None, listener)

    say(multiplexer, type="rpcResult", callId=1, **answer)

    assert listener.received == [None]


def test_a_malformed_result_fails_its_channel_when_the_channel_closes(multiplexer: Multiplexer) -> None:
    channel = load(multiplexer)

    say(multiplexer, type="channelSend", channelId=1, message={"type": "success"})
    say(multiplexer, type="channelClose", channelId=1)

    (received,) = channel.received
    assert isinstance(received, LMStudioProtocolError)
    assert "Success has no 'info'" in str(received)


def test_a_closed_channel_receives_no_further_packets(multiplexer: Multiplexer) -> None:
    channel = load(multiplexer)

    say(multiplexer, type="channelClose", channelId=1)
    say(multiplexer, type="channelSend", channelId=1, message={"type": "progress", "progress": 0.5})
    say(multiplexer, type="channelClose", channelId=1)

    assert channel.received == ["closed"]
    assert multiplexer.packet(1, Cancel()) is None


def test_messages_for_forgotten_calls_and_channels_are_dropped(multiplexer: Multiplexer) -> None:
    answer, channel = call(multiplexer), load(multiplexer)
    multiplexer.forget_call(1)
    multiplexer.forget_channel(1)

    say(multiplexer, type="rpcResult", callId=1, result={"tokenCount": 1})
    say(multiplexer, type="channelClose", channelId=1)

    assert answer.received == []
    assert channel.received == []


def test_a_lost_connection_fails_every_call_and_channel(multiplexer: Multiplexer) -> None:
    answer, channel = call(multiplexer), load(multiplexer)
    error = LMStudioConnectionBrokenError("gone")

    multiplexer.fail_all(error)

    # Each receiver has its own error, because an error raised in many tasks collects the tracebacks of them all.
    (theirs,), (others,) = answer.received, channel.received
    assert type(theirs) is type(others) is LMStudioConnectionBrokenError
    assert theirs is not others
    assert str(theirs) == str(others) == "gone"


def test_an_error_with_deeply_nested_data_fails_its_call(multiplexer: Multiplexer) -> None:
    errors = 0
    for depth in range(700, 1000, 3):
        answer = call(multiplexer)
        query = {"path": "NEST"}
        error = {"title": "x", "displayData": {"code": "generic.noModelMatchingQuery", "query": query}}
        number = len(range(700, depth, 3)) + 1
        frame = json.dumps({"type": "rpcError", "callId": number, "error": error})
        multiplexer.receive(frame.replace('"NEST"', "[" * depth + "]" * depth))
        # A frame nested too deeply for Python's decoder is dropped as no JSON.
        assert not answer.received or isinstance(answer.received[0], LMStudioError)
        errors += len(answer.received)
    assert errors > 10


def test_a_warning_ends_the_only_pending_call(multiplexer: Multiplexer) -> None:
    answer = call(multiplexer)

    say(multiplexer, type="communicationWarning", warning="Received rpcCall for unknown endpoint")

    assert isinstance(answer.received[0], LMStudioProtocolError)
    # The warning does not name the endpoint, so the next call does not fail at once.
    assert call(multiplexer).received == []


def test_a_warning_that_names_an_endpoint_ends_the_request_to_it(multiplexer: Multiplexer) -> None:
    answer, channel = call(multiplexer), load(multiplexer)

    say(multiplexer, type="communicationWarning", warning="Invalid creation parameter for loadModel")

    assert answer.received == []
    assert isinstance(channel.received[0], LMStudioProtocolError)


def test_a_warning_that_could_concern_several_calls_ends_none(multiplexer: Multiplexer) -> None:
    answers = call(multiplexer), call(multiplexer)

    say(multiplexer, type="communicationWarning", warning="something was wrong")

    assert [answer.received for answer in answers] == [[], []]


def test_a_warning_does_not_end_a_load_that_has_reported_progress(multiplexer: Multiplexer) -> None:
    channel = load(multiplexer)
    say(multiplexer, type="channelSend", channelId=1, message={"type": "progress", "progress": 0.5})

    say(multiplexer, type="communicationWarning", warning="a late cancel", kind="channelUnknown")

    assert channel.received == [Progress(progress=0.5)]


def test_a_packet_of_an_unknown_type_reaches_its_receiver_as_unknown(multiplexer: Multiplexer) -> None:
    channel = load(multiplexer)

    say(multiplexer, type="channelSend", channelId=1, message={"type": "warmingUp", "degrees": 5})

    assert channel.received == [Unknown(extra={"type": "warmingUp", "degrees": 5})]


def test_requests_to_an_endpoint_known_to_be_missing_fail_without_another_warning(
    multiplexer: Multiplexer,
) -> None:
    for number in (1, 2):
        answer, channel = call(multiplexer), load(multiplexer)
        if number == 1:
            say(multiplexer, type="communicationWarning", warning="unknown endpoint, endpoint = countTokens")
            say(
                multiplexer,
                type="communicationWarning",
                warning="loadModel?",
                kind="channelEndpointUnhandled",
            )

        for listener in (answer, channel):
            (received,) = listener.received
            assert isinstance(received, LMStudioProtocolError)
        assert multiplexer.packet(number, Cancel()) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
messages = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                "rpcResult",
                "rpcError",
                "channelSend",
                "channelClose",
                "channelError",
                "communicationWarning",
                "x",
            ]
        )
        | json_values
    },
    optional={
        "callId": st.integers(0, 2) | json_values,
        "channelId": st.integers(0, 2) | json_values,
        "result": json_values,
        "error": json_values,
        "message": st.fixed_dictionaries({"type": st.sampled_from(["progress", "success", "resolved"])})
        | json_values,
        "warning": json_values,
        "kind": json_values,
    },
)


@given(st.lists(messages.map(json.dumps) | json_values.map(json.dumps) | st.text(), max_size=8))
def test_arbitrary_frames_raise_nothing_and_end_each_receiver_once(frames: list[str]) -> None:
    multiplexer = Multiplexer()
    answer, channel = call(multiplexer), load(multiplexer)

    for frame in frames:
        multiplexer.receive(frame)
    multiplexer.fail_all(LMStudioConnectionBrokenError("gone"))

    assert len(answer.received) == 1
    ends = [each for each in channel.received if each == "closed" or isinstance(each, Exception)]
    assert len(ends) == 1
