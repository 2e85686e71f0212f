"""Every frame that a server may send after the handshake."""

from __future__ import annotations

from lmstudio_async._wire._messages import (
    ChannelAck,
    ChannelClose,
    ChannelError,
    ChannelSend,
    CommunicationWarning,
    KeepAliveAck,
    RpcError,
    RpcResult,
    SignalError,
    SignalUpdate,
    WritableSignalError,
    WritableSignalUpdate,
)
from lmstudio_async._wire._struct import Unknown

__all__ = ["ServerMessage"]

ServerMessage = (
    RpcResult
    | RpcError
    | ChannelSend
    | ChannelAck
    | ChannelClose
    | ChannelError
    | CommunicationWarning
    | KeepAliveAck
    | SignalUpdate
    | SignalError
    | WritableSignalUpdate
    | WritableSignalError
    | Unknown
)
