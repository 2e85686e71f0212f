"""The table of faults: the behaviour of the server and the outcome of the request. The next request must succeed."""

from __future__ import annotations

from typing import Any

import attrs

import lmstudio_async as lms
from tests.faults.faulty_server import DROP, ID, Line, fragment
from tests.scripted_server import INSTANCE, MODEL

__all__ = ["FAULTS", "REQUESTS", "Fault"]

#: The request to each endpoint: a coroutine of the async client, or the result of the blocking one.
REQUESTS: dict[str, Any] = {
    "getModelInfo": lambda client, _: client.llm.get_model_info("qwen3-4b"),
    "listDownloadedModels": lambda client, _: client.list_downloaded_models(),
    "unloadModel": lambda client, _: client.llm.unload("qwen3-4b"),
    "loadModel": lambda client, _: client.llm.load_new_instance("qwen3-4b", "qwen3-4b"),
    "getOrLoad": lambda client, _: client.llm.model("qwen3-4b"),
    "predict": lambda _, llm: llm.respond("Hello"),
    "authentication": lambda client, _: client.llm.list_loaded(),
}


@attrs.frozen
class Fault:
    """One line of the table.

    :param endpoint: the endpoint with the fault.
    :param name: a description of the fault.
    :param lines: the frames that the server sends.
    :param error: the type of error that the request raises; None if it succeeds nevertheless.
    :param match: a pattern that the message of the error matches.
    :param timeout: the timeout of the client, during which the server sends nothing.
    :param content: the part of an answer that the error holds.
    """

    endpoint: str
    name: str
    lines: list[Line]
    error: type[lms.LMStudioError] | None = None
    match: str = ""
    timeout: float | None = None
    content: str = ""

    @property
    def drops(self) -> bool:
        """Whether the connection is lost."""
        return DROP in self.lines or self.endpoint == "authentication"

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.name}"


def result(value: Any, **members: Any) -> Line:
    return {"type": "rpcResult", "callId": ID, "result": value} | members


def packet(value: Any) -> Line:
    return {"type": "channelSend", "channelId": ID, "message": value}


def progress(value: Any) -> Line:
    return packet({"type": "progress", "progress": value})


def rpc_error(error: Any) -> Line:
    return {"type": "rpcError", "callId": ID, "error": error}


def failure(error: Any) -> Line:
    return {"type": "channelError", "channelId": ID, "error": error}


def warning(text: Any, **members: Any) -> Line:
    return {"type": "communicationWarning", "warning": text} | members


DEEP = (
    '{"type": "rpcError", "callId": 2, "error": {"title": "x", "displayData": '
    '{"code": "generic.noModelMatchingQuery", "query": {"path": ' + "[" * 300 + "]" * 300 + "}}}}"
)
INFO = result(INSTANCE)
RESOLVED = packet({"type": "resolved", "info": MODEL})
LOADED = packet({"type": "success", "info": INSTANCE})
ANSWERED = packet({"type": "success", "stats": {"stopReason": "eosFound"}})
CLOSE = {"type": "channelClose", "channelId": ID}
ODD: list[Any] = ["1", None, [], {}, True, -1, 1.5]
UNNAMED = {key: value for key, value in INSTANCE.items() if key != "identifier"}

BROKEN = lms.LMStudioConnectionBrokenError
CHANNEL_CLOSED = lms.LMStudioChannelClosedError
PROTOCOL = lms.LMStudioProtocolError
SERVER = lms.LMStudioServerError
TIMEOUT = lms.LMStudioTimeoutError
UNREACHABLE = lms.LMStudioUnreachableError

#: A timeout that needs no real wait, because the server moves the clock. Responses take far less, on a busy machine too.
SILENCE = 60.0

# fmt: off
FAULTS = [
    # -- invalid messages
    Fault("getModelInfo", "text that is not JSON", ["nonsense", "{", "'{}'", INFO]),
    Fault("getModelInfo", "an empty frame", ["", " ", INFO]),
    Fault("getModelInfo", "null", ["null", INFO]),
    Fault("getModelInfo", "arrays", ["[]", '[{"type": "rpcResult"}]', INFO]),
    Fault("getModelInfo", "bare values", ["5", "true", '"rpcResult"', "1e999", "NaN", INFO]),
    Fault("getModelInfo", "nesting without end", ["[" * 100_000, '{"a":' * 100_000, INFO]),
    Fault("getModelInfo", "a number of 10000 digits", ['{"callId":' + "9" * 10_000 + "}", INFO]),
    Fault("getModelInfo", "half of a surrogate pair", [r'{"type": "\ud800"}', INFO]),
    Fault("getModelInfo", "no type", [{}, {"callId": ID}, INFO]),
    Fault("getModelInfo", "an unknown type", [{"type": "signalUpdate", "callId": ID}, INFO]),
    Fault("getModelInfo", "a type that is no text", [{"type": ["rpcResult"]}, {"type": None}, {"type": {}}, INFO]),
    Fault("getModelInfo", "an unexpected acknowledgement", [{"type": "keepAliveAck"}, INFO]),
    # -- call and channel IDs
    Fault("getModelInfo", "an unknown number", [result([], callId=999), rpc_error({}) | {"callId": -1}, INFO]),
    Fault("getModelInfo", "no number", [{"type": "rpcResult", "result": 5}, {"type": "rpcError"}, INFO]),
    Fault("getModelInfo", "an invalid number", [result(5, callId=odd) for odd in ODD] + [INFO]),
    Fault("getModelInfo", "packets of unknown channels", [packet({}) | {"channelId": 7}, CLOSE, failure({}), INFO]),
    Fault("getModelInfo", "the answer twice", [INFO, INFO, rpc_error({"title": "no"})]),
    Fault("loadModel", "packets after its end", [LOADED, CLOSE, LOADED, CLOSE, failure({"title": "no"})]),
    Fault("predict", "packets after its end", [fragment("Hi"), ANSWERED, CLOSE, fragment("Hi"), ANSWERED, CLOSE]),
    # -- an answer of the wrong form
    Fault("getModelInfo", "a member more", [result(INSTANCE | {"new": {"a": [1]}}, sequence=9)]),
    Fault("getModelInfo", "a member less", [result({"type": "llm", "identifier": "qwen3-4b"})]),
    Fault("getModelInfo", "members that are null", [result(INSTANCE | {"path": None, "contextLength": None})]),
    Fault("getModelInfo", "members of wrong types", [result(INSTANCE | {"sizeBytes": "big", "vision": 1, "ttlMs": []})]),
    Fault("getModelInfo", "an unknown kind of model", [result(INSTANCE | {"type": "diffusion", "format": "new"})]),
    Fault("getModelInfo", "null instead of a not-found error", [result(None)], lms.LMStudioModelNotFoundError),
    Fault("getModelInfo", "a number for an answer", [result(5)], PROTOCOL, "cannot be read"),
    Fault("getModelInfo", "a list for an answer", [result([INSTANCE])], PROTOCOL, "cannot be read"),
    Fault("listDownloadedModels", "one odd model among the others", [result([MODEL | {"type": "?"}, MODEL])]),
    Fault("listDownloadedModels", "no list", [result({"models": []})], PROTOCOL, "cannot be read"),
    Fault("listDownloadedModels", "no result", [{"type": "rpcResult", "callId": ID}], PROTOCOL, "cannot be read"),
    Fault("listDownloadedModels", "null", [result(None)], PROTOCOL, "cannot be read"),
    Fault("listDownloadedModels", "a list with null in it", [result([None])], PROTOCOL, "cannot be read"),
    Fault("unloadModel", "null for a call without a result", [result(None)]),
    Fault("unloadModel", "a result for a call without one", [result({"unloaded": True})]),
    # -- errors of the wrong form
    Fault("getModelInfo", "an error that is a text", [rpc_error("went wrong")], SERVER, "went wrong"),
    Fault("getModelInfo", "an error without a text", [rpc_error("")], SERVER, "Unknown error"),
    Fault("getModelInfo", "an empty error", [rpc_error({})], SERVER, "Unknown error"),
    Fault("getModelInfo", "no error in an error", [{"type": "rpcError", "callId": ID}], SERVER, "Unknown error"),
    Fault("getModelInfo", "an error of wrong types", [rpc_error({"title": 5, "cause": [], "displayData": "?"})], SERVER, "Unknown"),
    Fault("getModelInfo", "an error of an unknown code", [rpc_error({"title": "x", "displayData": {"code": "new"}})], SERVER, "x"),
    Fault("unloadModel", "an error nested deeply", [DEEP], lms.LMStudioModelNotFoundError, "Asked for: path"),
    Fault("loadModel", "an error that is a text", [RESOLVED, failure("went wrong")], SERVER, "went wrong"),
    Fault("predict", "an error that is null", [fragment("Hi"), failure(None)], SERVER, "Unknown error", content="Hi"),
    # -- warnings
    Fault("getModelInfo", "a warning in place of an answer", [warning("bad parameter")], PROTOCOL, "bad parameter"),
    Fault("unloadModel", "a warning without a reason", [warning(None)], PROTOCOL, "no reason given"),
    Fault("loadModel", "a warning in place of a channel", [warning("?", kind="channelUnknownEndpoint")], PROTOCOL, "could not handle"),
    Fault("loadModel", "a warning about something else", [RESOLVED, warning("no idea", kind="rpcX"), LOADED, CLOSE]),
    # -- odd progress, odd packets
    Fault("loadModel", "progress that goes back", [RESOLVED, progress(0.5), progress(0.1), LOADED, CLOSE]),
    Fault("loadModel", "progress beyond its end", [progress(7), progress(-1), progress(1e308), LOADED, CLOSE]),
    Fault("loadModel", "progress that is no number", [progress("half"), progress(None), "NaN", LOADED, CLOSE]),
    Fault("loadModel", "phases twice", [RESOLVED, RESOLVED, progress(0.5), progress(0.5), LOADED, LOADED, CLOSE]),
    Fault("loadModel", "packets that are no objects", [packet(odd) for odd in ODD] + [LOADED, CLOSE]),
    Fault("loadModel", "packets of unknown kinds", [packet({"type": "rest"}), packet({"type": 5}), LOADED, CLOSE]),
    Fault("loadModel", "an end without a result", [RESOLVED, CLOSE], CHANNEL_CLOSED, "without a result"),
    Fault("loadModel", "a result that cannot be read", [packet({"type": "success", "info": 5}), CLOSE], PROTOCOL, "cannot be read"),
    Fault("loadModel", "an instance without a name", [packet({"type": "success", "info": UNNAMED}), CLOSE], PROTOCOL, "did not name"),
    Fault("loadModel", "a result and no end", [RESOLVED, LOADED]),
    Fault("loadModel", "an error after the result", [LOADED, failure({"title": "too late"})]),
    Fault("getOrLoad", "the packets of another endpoint", [RESOLVED, progress(0.3), CLOSE], CHANNEL_CLOSED, "without a result"),
    Fault("predict", "an end without a result", [fragment("Hi"), CLOSE], CHANNEL_CLOSED, content="Hi"),
    Fault("predict", "an unknown stop reason", [packet({"type": "success", "stats": {"stopReason": "bored"}}), CLOSE]),
    Fault("predict", "fragments of wrong types", [packet({"type": "fragment", "fragment": {"content": 5}}), ANSWERED, CLOSE]),
    Fault("predict", "fragments without content", [packet({"type": "fragment"}), packet({"fragment": {}}), ANSWERED, CLOSE]),
    Fault("predict", "a result without statistics", [packet({"type": "success"}), CLOSE], PROTOCOL, "cannot be read"),
    # -- silence
    Fault("getModelInfo", "no answer", [], TIMEOUT, "'getModelInfo' within 60 seconds", SILENCE),
    Fault("unloadModel", "no answer", [], TIMEOUT, "'unloadModel' within 60 seconds", SILENCE),
    Fault("loadModel", "no more progress", [RESOLVED, progress(0.5)], TIMEOUT, "60 seconds, at 50%. The operation was cancelled", SILENCE),
    Fault("getOrLoad", "no progress", [], TIMEOUT, "at 0%", SILENCE),
    Fault("predict", "no more fragments", [fragment("Hello")], TIMEOUT, "after 5 characters", SILENCE, "Hello"),
    # -- a connection that is lost
    Fault("getModelInfo", "a loss before the answer", [DROP]),
    Fault("getModelInfo", "a loss after the answer", [INFO, DROP]),
    Fault("listDownloadedModels", "a loss before the answer", [DROP]),
    Fault("unloadModel", "a loss before the answer", [DROP], BROKEN),
    Fault("loadModel", "a loss before any progress of a load that may succeed", [DROP], BROKEN, "It may be 'qwen3-4b'"),
    Fault("loadModel", "a loss during a load that succeeds", [RESOLVED, progress(0.5), DROP]),
    Fault("loadModel", "a loss after the result", [RESOLVED, LOADED, DROP]),
    Fault("getOrLoad", "a loss before any progress of a load that succeeds", [DROP]),
    Fault("predict", "a loss before the first word", [DROP], BROKEN),
    Fault("predict", "a loss half-way", [fragment("Hi "), fragment("the"), DROP], BROKEN, content="Hi the"),
    Fault("predict", "a loss after the result", [fragment("Hi"), ANSWERED, DROP]),
    # -- failed authentication
    Fault("authentication", "a loss", [DROP], UNREACHABLE, "lost before the handshake was complete"),
    Fault("authentication", "a refusal", [{"success": False, "error": "Invalid passkey"}], lms.LMStudioAuthenticationError, "Invalid passkey"),
    Fault("authentication", "a refusal without a reason", [{"success": False}], lms.LMStudioAuthenticationError, "no reason given"),
    Fault("authentication", "text that is not JSON", ["hello"], PROTOCOL, "did not answer the authentication"),
    Fault("authentication", "null", ["null"], PROTOCOL, "did not answer the authentication"),
    Fault("authentication", "nesting without end", ["[" * 100_000], PROTOCOL),
    Fault("authentication", "another message first", [{"type": "keepAliveAck"}], PROTOCOL, "did not answer"),
    Fault("authentication", "a success that is no truth value", [{"success": "yes"}], PROTOCOL, "did not answer"),
    Fault("authentication", "no answer", [], UNREACHABLE, "did not complete the handshake within 60 seconds", SILENCE),
]
# fmt: on
