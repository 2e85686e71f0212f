"""The server's side of one connection, without I/O: frames -> typed requests, typed responses -> frames.

The real server does not respond to a call with an unknown endpoint or a bad parameter, so that its client waits for
ever. This server sends the warning that the real server sends, and an error that ends the call.
"""

from __future__ import annotations

import logging
import types
import typing
from functools import cache
from typing import Any

import attrs

from lmstudio_async._printable import printable
from lmstudio_async._protocol._endpoints import ChannelEndpoint, RpcEndpoint, endpoints
from lmstudio_async._protocol._errors import error_to_wire, server_error
from lmstudio_async._wire._json import dumps, loads
from lmstudio_async._wire._messages import (
    Authentication,
    AuthenticationResult,
    ChannelClose,
    ChannelCreate,
    ChannelError,
    ChannelSend,
    ClientMessage,
    CommunicationWarning,
    KeepAlive,
    KeepAliveAck,
    RpcCall,
    RpcError,
    RpcResult,
    SignalError,
    SignalSubscribe,
    WritableSignalError,
    WritableSignalSubscribe,
)
from lmstudio_async._wire._struct import MalformedError, Unknown, WireObject, read, write

__all__ = [
    "Call",
    "ChannelDropped",
    "ChannelOpened",
    "Packet",
    "Request",
    "Serving",
    "authentication_response",
    "read_authentication",
]

logger = logging.getLogger("lmstudio_async.embedded")

#: Each side of a connection sends at most this many warnings, so that two peers cannot keep each other busy.
_WARNINGS = 5
_MAX_KEY = 256


@attrs.frozen
class Call:
    """A client called an endpoint; answer it with `Serving.result` or `Serving.call_failed`."""

    call_id: int
    endpoint: RpcEndpoint[Any, Any]
    parameter: Any


@attrs.frozen
class ChannelOpened:
    """A client opened a channel; end it with `Serving.close`."""

    channel_id: int
    endpoint: ChannelEndpoint[Any, Any]
    creation: Any


@attrs.frozen
class Packet:
    """A client sent a packet on an open channel."""

    channel_id: int
    packet: WireObject


@attrs.frozen
class ChannelDropped:
    """A channel ended by its client's mistake; the frame that ends it is in the replies already."""

    channel_id: int


Request = Call | ChannelOpened | Packet | ChannelDropped


def encode(value: WireObject) -> str:
    """Return the frame of a message."""
    return dumps(write(value))


def read_authentication(frame: str) -> Authentication | None:
    """Return the credentials in a client's first frame, or None if the frame is no valid authentication."""
    try:
        packet = read(Authentication, loads(frame))
    except (ValueError, RecursionError):
        return None
    keys = (packet.client_identifier, packet.client_passkey)
    version = packet.auth_version == 1 and "authVersion" not in packet.extra
    return packet if version and all(len(key) <= _MAX_KEY for key in keys) else None


def authentication_response(error: str | None = None) -> str:
    """Return the response to the credentials; an error is a bare text, as published clients expect it."""
    return encode(AuthenticationResult(success=error is None, error=error))


class Serving:
    """State of one authenticated connection to a namespace.

    `receive` takes a frame; `take_replies` returns the frames to send in response.
    """

    __slots__ = ("_channels", "_endpoints", "_namespace", "_replies", "_warnings_left")

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._endpoints = endpoints(namespace)
        self._channels: dict[int, ChannelEndpoint[Any, Any]] = {}
        self._replies: list[str] = []
        self._warnings_left = _WARNINGS

    def take_replies(self) -> list[str]:
        """Return the frames to send now, and empty the list of them."""
        replies, self._replies = self._replies, []
        return replies

    def receive(self, frame: str) -> Request | None:
        """Decode one frame; return its request, or None if it needs no more than the replies."""
        try:
            message: Any = read(typing.cast("Any", ClientMessage), loads(frame))
        except (ValueError, RecursionError) as error:
            self._warn("unknown", f"Received a frame that is not a message: {error}")
            return None
        match message:
            case RpcCall():
                return self._call(message)
            case ChannelCreate():
                return self._open(message)
            case ChannelSend():
                return self._packet(message)
            case KeepAlive():
                self._reply(KeepAliveAck())
            case CommunicationWarning():
                # Logged as an error, because it is the only sign that the client could not read a message.
                shown = printable(f"{message.warning} ({message.kind})")
                logger.error("%s: the client warns: %s", self._namespace, shown)
            case WritableSignalSubscribe():
                self._reply(WritableSignalError(subscribe_id=message.subscribe_id, error=self._no_signals()))
            case SignalSubscribe():
                self._reply(SignalError(subscribe_id=message.subscribe_id, error=self._no_signals()))
            case Unknown():
                self._warn("unknown", f"Received a message of unknown type {message.extra.get('type')!r:.60}")
        return None

    def result(self, call: Call, value: Any) -> str:
        """Return the response to a call.

        :raises TypeError: if the endpoint's result is of another class.
        """
        if value is None and (call.endpoint.result is None or call.endpoint.optional_result):
            return encode(RpcResult(call_id=call.call_id))
        if not _fits(value, call.endpoint.result):
            raise TypeError(
                f"{call.endpoint.name} must not answer with an instance of {type(value).__name__}"
            )
        return encode(RpcResult(call_id=call.call_id, result=write(value)))

    def call_failed(self, call: Call, error: BaseException) -> str:
        """Return the response to a call that failed."""
        return encode(RpcError(call_id=call.call_id, error=error_to_wire(error)))

    def packet(self, channel_id: int, packet: WireObject) -> str | None:
        """Return the frame that sends a packet on a channel; None if the channel has ended.

        :raises TypeError: if the endpoint has no such packet.
        """
        endpoint = self._channels.get(channel_id)
        if endpoint is None:
            return None
        if not _fits(packet, endpoint.to_client):
            raise TypeError(f"{endpoint.name} must not send an instance of {type(packet).__name__}")
        return encode(ChannelSend(channel_id=channel_id, message=write(packet)))

    def close(self, channel_id: int, error: BaseException | None = None) -> str | None:
        """End a channel, and return the frame that ends it; None if it has ended already."""
        if self._channels.pop(channel_id, None) is None:
            return None
        if error is None:
            return encode(ChannelClose(channel_id=channel_id))
        return encode(ChannelError(channel_id=channel_id, error=error_to_wire(error)))

    def _call(self, message: RpcCall) -> Call | None:
        endpoint = self._endpoints.get(message.endpoint)
        if isinstance(endpoint, RpcEndpoint):
            try:
                absent = message.parameter is None and endpoint.optional_parameter
                parameter = None if absent else _parameter(endpoint.parameter, message.parameter)
                return Call(message.call_id, endpoint, parameter)
            except MalformedError as error:
                problem, kind = f"{endpoint.name}: bad parameter: {error}", "rpcParameterTypeError"
        else:
            problem, kind = self._no_endpoint("rpcCall", message.endpoint), "rpcEndpointUnknown"
        self._warn(kind, problem)
        self._reply(RpcError(call_id=message.call_id, error=error_to_wire(server_error(problem))))
        return None

    def _open(self, message: ChannelCreate) -> ChannelOpened | ChannelDropped | None:
        channel_id = message.channel_id
        if channel_id in self._channels:
            problem = f"Received channelCreate for channel {channel_id}, which is already open"
            self._warn("channelAlreadyOpen", problem)
            # Both channels have the same number for the client, so that the end of one ends the other.
            if frame := self.close(channel_id, server_error(problem)):
                self._replies.append(frame)
            return ChannelDropped(channel_id)
        endpoint = self._endpoints.get(message.endpoint)
        if isinstance(endpoint, ChannelEndpoint):
            try:
                creation = _parameter(endpoint.creation, message.creation_parameter)
            except MalformedError as error:
                problem = f"{endpoint.name}: bad creation parameter: {error}"
                kind = "channelCreationParameterTypeError"
            else:
                self._channels[channel_id] = endpoint
                return ChannelOpened(channel_id, endpoint, creation)
        else:
            problem, kind = self._no_endpoint("channelCreate", message.endpoint), "channelEndpointUnknown"
        self._warn(kind, problem)
        self._reply(ChannelError(channel_id=channel_id, error=error_to_wire(server_error(problem))))
        return None

    def _packet(self, message: ChannelSend) -> Packet | None:
        endpoint = self._channels.get(message.channel_id)
        # Ignore packets for a channel that has just closed.
        if endpoint is None:
            return None
        try:
            packet = read(endpoint.to_server or Unknown, message.message)
        except MalformedError as error:
            self._warn("channelMessageTypeError", f"{endpoint.name}: bad packet: {error}")
            return None
        if isinstance(packet, Unknown):
            self._warn(
                "channelMessageTypeError", f"{endpoint.name}: unknown packet {packet.extra.get('type')!r:.60}"
            )
            return None
        return Packet(message.channel_id, packet)

    def _no_endpoint(self, message: str, name: str) -> str:
        return (
            f"Received {message} for unknown endpoint, endpoint = {name[:100]} (namespace {self._namespace})"
        )

    def _no_signals(self) -> dict[str, Any]:
        return error_to_wire(server_error("This server has no signals."))

    def _reply(self, message: WireObject) -> None:
        self._replies.append(encode(message))

    def _warn(self, kind: str, warning: str) -> None:
        logger.warning("%s: %s", self._namespace, printable(warning))
        if self._warnings_left:
            self._warnings_left -= 1
            self._reply(CommunicationWarning(kind=kind, warning=warning))


def _parameter(kind: Any, value: Any) -> Any:
    return None if kind is None else read(kind, value)


def _fits(value: Any, kind: Any) -> bool:
    classes, items = _classes(kind)
    if isinstance(value, list):
        return items is not None and all(_fits(item, items) for item in value)
    return isinstance(value, classes)


@cache
def _classes(kind: Any) -> tuple[tuple[type, ...], Any]:
    """Return the classes a value may be of, and the type of its items if it is a list."""
    if typing.get_origin(kind) is list:
        return (), typing.get_args(kind)[0]
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return tuple(each for each in typing.get_args(kind) if isinstance(each, type)), None
    return ((kind,) if isinstance(kind, type) else (object,)), None
