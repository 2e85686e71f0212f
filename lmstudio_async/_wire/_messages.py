"""Wire types of the envelope: all messages that a frame can carry, in either direction."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from lmstudio_async._wire._struct import Unknown, WireObject

__all__ = [
    "Authentication",
    "AuthenticationResult",
    "ChannelAck",
    "ChannelClose",
    "ChannelCreate",
    "ChannelError",
    "ChannelSend",
    "ClientMessage",
    "CommunicationWarning",
    "KeepAlive",
    "KeepAliveAck",
    "RpcCall",
    "RpcError",
    "RpcResult",
    "SignalError",
    "SignalSubscribe",
    "SignalUnsubscribe",
    "SignalUpdate",
    "WritableSignalError",
    "WritableSignalSubscribe",
    "WritableSignalUnsubscribe",
    "WritableSignalUpdate",
]


@attrs.frozen(kw_only=True)
class Authentication(WireObject):
    """The client's first frame, which has no type. Its repr must never show the passkey."""

    auth_version: int = 1
    client_identifier: str = attrs.field(repr=False)
    client_passkey: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class AuthenticationResult(WireObject):
    """The server's response to `Authentication`, which has no type either."""

    success: bool
    error: str | None = None


@attrs.frozen(kw_only=True)
class RpcCall(WireObject):
    TAG: ClassVar[str] = "rpcCall"
    endpoint: str
    call_id: int
    parameter: Any = None


@attrs.frozen(kw_only=True)
class RpcResult(WireObject):
    """Result of a call. If the endpoint has none, ``result`` is absent: ``null`` would crash a published client."""

    TAG: ClassVar[str] = "rpcResult"
    call_id: int
    result: Any = None


@attrs.frozen(kw_only=True)
class RpcError(WireObject):
    TAG: ClassVar[str] = "rpcError"
    call_id: int
    error: Any = None


@attrs.frozen(kw_only=True)
class ChannelCreate(WireObject):
    TAG: ClassVar[str] = "channelCreate"
    endpoint: str
    channel_id: int
    creation_parameter: Any = None


@attrs.frozen(kw_only=True)
class ChannelSend(WireObject):
    TAG: ClassVar[str] = "channelSend"
    channel_id: int
    message: Any = None
    ack_id: int | None = None


@attrs.frozen(kw_only=True)
class ChannelAck(WireObject):
    TAG: ClassVar[str] = "channelAck"
    channel_id: int
    ack_id: int


@attrs.frozen(kw_only=True)
class ChannelClose(WireObject):
    TAG: ClassVar[str] = "channelClose"
    channel_id: int


@attrs.frozen(kw_only=True)
class ChannelError(WireObject):
    TAG: ClassVar[str] = "channelError"
    channel_id: int
    error: Any = None


@attrs.frozen(kw_only=True)
class CommunicationWarning(WireObject):
    TAG: ClassVar[str] = "communicationWarning"
    warning: str = ""
    kind: str | None = None


@attrs.frozen(kw_only=True)
class KeepAlive(WireObject):
    TAG: ClassVar[str] = "keepAlive"


@attrs.frozen(kw_only=True)
class KeepAliveAck(WireObject):
    TAG: ClassVar[str] = "keepAliveAck"


@attrs.frozen(kw_only=True)
class SignalSubscribe(WireObject):
    TAG: ClassVar[str] = "signalSubscribe"
    endpoint: str
    subscribe_id: int
    creation_parameter: Any = None


@attrs.frozen(kw_only=True)
class SignalUnsubscribe(WireObject):
    TAG: ClassVar[str] = "signalUnsubscribe"
    subscribe_id: int


@attrs.frozen(kw_only=True)
class SignalUpdate(WireObject):
    TAG: ClassVar[str] = "signalUpdate"
    subscribe_id: int
    patches: list[Any]
    tags: list[str]


@attrs.frozen(kw_only=True)
class SignalError(WireObject):
    TAG: ClassVar[str] = "signalError"
    subscribe_id: int
    error: Any = None


@attrs.frozen(kw_only=True)
class WritableSignalSubscribe(SignalSubscribe):
    TAG: ClassVar[str] = "writableSignalSubscribe"


@attrs.frozen(kw_only=True)
class WritableSignalUnsubscribe(SignalUnsubscribe):
    TAG: ClassVar[str] = "writableSignalUnsubscribe"


@attrs.frozen(kw_only=True)
class WritableSignalUpdate(SignalUpdate):
    TAG: ClassVar[str] = "writableSignalUpdate"


@attrs.frozen(kw_only=True)
class WritableSignalError(SignalError):
    TAG: ClassVar[str] = "writableSignalError"


ClientMessage = (
    RpcCall
    | ChannelCreate
    | ChannelSend
    | ChannelAck
    | CommunicationWarning
    | KeepAlive
    | SignalSubscribe
    | SignalUnsubscribe
    | WritableSignalSubscribe
    | WritableSignalUnsubscribe
    | WritableSignalUpdate
    | Unknown
)
