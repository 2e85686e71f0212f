"""The client's side of one connection, without I/O: it passes the content of each frame to the right receiver.

Calls and channels have separate numbers. Receivers are called synchronously, in the order of the frames. A faulty
frame affects at most the call or channel that it names.
"""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any, Protocol

from lmstudio_async._printable import printable, printable_lines
from lmstudio_async._protocol._endpoints import ChannelEndpoint, RpcEndpoint
from lmstudio_async._wire._json import dumps, loads
from lmstudio_async.errors import (
    LMStudioChannelClosedError,
    LMStudioError,
    LMStudioInstanceUnloadedError,
    LMStudioProtocolError,
)

if TYPE_CHECKING:
    from lmstudio_async._protocol._departure import Departure
    from lmstudio_async._wire._struct import WireObject

__all__ = [
    "CallReceiver",
    "ChannelReceiver",
    "InstanceObserver",
    "Multiplexer",
    "closed_without_result",
    "copy_of",
]

logger = logging.getLogger("lmstudio_async")


class CallReceiver(Protocol):
    """Receiver of the response to a call. One of its methods is called, once, unless the call is forgotten before."""

    def succeed(self, result: Any) -> None:
        """Take the result, as the endpoint's result class."""

    def fail(self, error: LMStudioError) -> None:
        """Take the error: there will be no result."""


class ChannelReceiver(Protocol):
    """Receiver of the packets of a channel. `end` is called last, and once, unless the channel is forgotten before."""

    def feed(self, packet: Any) -> None:
        """Take a packet, as one of the endpoint's classes."""

    def give_up(self, error: LMStudioError) -> None:
        """Raise this error for the consumer, because the client closes; also in place of a result not yet taken."""

    def end(self, error: LMStudioError | None) -> None:
        """Take the end of the channel, with an error unless the server closed it in order. An earlier result stands."""


class InstanceObserver(Protocol):
    """Receiver of the uses of instances, which knows why instances are gone."""

    def on_used(self, reference: str) -> None:
        """Handle the end of a request that has used the instance of a reference."""

    def departure(self, reference: str) -> Departure | None:
        """Return why the instance of a reference is gone; None if it is not known."""


class _OpenCall:
    __slots__ = ("endpoint", "receiver", "reference")

    def __init__(self, endpoint: RpcEndpoint[Any, Any], receiver: CallReceiver, reference: str) -> None:
        self.endpoint = endpoint
        self.receiver = receiver
        self.reference = reference


class _OpenChannel:
    __slots__ = ("endpoint", "heard", "misread", "read", "receiver", "reference")

    def __init__(
        self, endpoint: ChannelEndpoint[Any, Any], receiver: ChannelReceiver, reference: str
    ) -> None:
        self.endpoint = endpoint
        self.receiver = receiver
        self.reference = reference
        self.read = endpoint.read_packet
        self.heard = False
        self.misread: LMStudioProtocolError | None = None


class Multiplexer:
    """Numbers calls and channels, and finds the receiver of each frame.

    :param observer: hears of the uses of instances; None for no one.
    """

    def __init__(self, observer: InstanceObserver | None = None) -> None:
        self._observer = observer
        self._calls: dict[int, _OpenCall] = {}
        self._channels: dict[int, _OpenChannel] = {}
        self._last_call = 0
        self._last_channel = 0
        # Warnings of the server about endpoints that it does not know. Later requests to these endpoints fail here,
        # because the server sends only a few warnings.
        self._unknown: dict[tuple[str, str], str] = {}
        self._dispatch = {
            "channelSend": self._channel_send,
            "rpcResult": self._rpc_result,
            "rpcError": self._rpc_error,
            "channelClose": self._channel_close,
            "channelError": self._channel_error,
            "communicationWarning": self._communication_warning,
        }

    @property
    def open_channels(self) -> list[int]:
        """Numbers of the channels that have not ended yet."""
        return list(self._channels)

    @property
    def has_calls(self) -> bool:
        """Whether a call still waits for its response."""
        return bool(self._calls)

    # -- towards the server

    def call(
        self, endpoint: RpcEndpoint[Any, Any], parameter: WireObject | None, receiver: CallReceiver
    ) -> tuple[int, str]:
        """Number a call, and return the number and the frame of the call; the frame is empty if the call has failed."""
        message: dict[str, Any] = {
            "type": "rpcCall",
            "endpoint": endpoint.name,
            "callId": self._last_call + 1,
        }
        if parameter is not None:
            message["parameter"] = _plain(parameter)
        reference = _reference(message.get("parameter"))
        frame = dumps(message)
        self._last_call += 1
        if ("call", endpoint.name) in self._unknown:
            receiver.fail(_not_handled(endpoint.label, self._unknown["call", endpoint.name]))
            return self._last_call, ""
        self._calls[self._last_call] = _OpenCall(endpoint, receiver, reference)
        return self._last_call, frame

    def forget_call(self, number: int) -> None:
        """Drop a call whose response is not needed any more; the protocol has no message to cancel it."""
        call = self._calls.pop(number, None)
        if call is not None and self._departure(call) is None:
            # The server may work on it all the same.
            self._report_use(call)

    def open_channel(
        self, endpoint: ChannelEndpoint[Any, Any], creation: WireObject | None, receiver: ChannelReceiver
    ) -> tuple[int, str]:
        """Number a channel, and return the number and the frame that opens it; the frame is empty if it has ended."""
        message: dict[str, Any] = {
            "type": "channelCreate",
            "endpoint": endpoint.name,
            "channelId": self._last_channel + 1,
        }
        if creation is not None:
            message["creationParameter"] = _plain(creation)
        reference = _reference(message.get("creationParameter"))
        frame = dumps(message)
        self._last_channel += 1
        if ("channel", endpoint.name) in self._unknown:
            receiver.end(_not_handled(endpoint.label, self._unknown["channel", endpoint.name]))
            return self._last_channel, ""
        self._channels[self._last_channel] = _OpenChannel(endpoint, receiver, reference)
        return self._last_channel, frame

    def packet(self, number: int, packet: WireObject) -> str | None:
        """Return the frame that sends a packet on a channel; None if the channel is over."""
        if number not in self._channels:
            return None
        return dumps({"type": "channelSend", "channelId": number, "message": _plain(packet)})

    def forget_channel(self, number: int) -> None:
        """Drop the receiver of a channel; further packets of the channel are ignored."""
        self._channels.pop(number, None)

    # -- from the server

    def receive(self, frame: str) -> None:
        """Take one frame. Never raises: a frame that cannot be understood is logged and dropped."""
        try:
            message = loads(frame)
        except (ValueError, RecursionError):
            logger.warning("dropped a frame that is not JSON (%d characters)", len(frame))
            return
        kind = message.get("type") if type(message) is dict else None
        handler = self._dispatch.get(kind) if type(kind) is str else None
        if handler is None:
            # An unknown message must not end the connection: it may be newer than this SDK, such as a signal.
            logger.debug("dropped a message of an unknown type")
            return
        handler(message)

    def fail_all(self, error: LMStudioError) -> None:
        """Fail all calls and end all channels, because the connection is lost."""
        calls, self._calls = self._calls, {}
        channels, self._channels = self._channels, {}
        for call in calls.values():
            call.receiver.fail(copy_of(error))
        for channel in channels.values():
            channel.receiver.end(copy_of(error))

    def give_up_all(self, error: LMStudioError) -> None:
        """Fail all calls and the consumers of all channels, because the client closes.

        Channels stay open until the server closes them.
        """
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.receiver.fail(copy_of(error))
        for channel in self._channels.values():
            channel.receiver.give_up(copy_of(error))

    def _channel_send(self, message: dict[str, Any]) -> None:
        number = message.get("channelId")
        # Looked up without _find, which is slower, because nearly every frame takes this path.
        channel = self._channels.get(number) if type(number) is int else None
        if channel is None:
            self._find(self._channels, message, "channelId")
            return
        channel.heard = True
        try:
            packet = channel.read(message.get("message"))
        except Exception as error:  # noqa: BLE001 - no error may leave the consumer waiting for ever
            # The packet may not be essential. If it was the result, the server will close the channel without one.
            label = channel.endpoint.label
            # Not the error itself, which quotes the packet, and so the answer of a model.
            logger.warning("%s: dropped a packet that cannot be read (%s)", label, type(error).__name__)
            channel.misread = LMStudioProtocolError(
                f"{label}: a packet of the server cannot be read: {printable(str(error))}"
            )
            channel.misread.__cause__ = error
            return
        channel.receiver.feed(packet)

    def _channel_close(self, message: dict[str, Any]) -> None:
        channel = self._find(self._channels, message, "channelId", remove=True)
        if channel is not None:
            self._report_use(channel)
            channel.receiver.end(channel.misread)

    def _channel_error(self, message: dict[str, Any]) -> None:
        channel = self._find(self._channels, message, "channelId", remove=True)
        if channel is not None:
            channel.receiver.end(self._error(message, channel))

    def _rpc_result(self, message: dict[str, Any]) -> None:
        call = self._find(self._calls, message, "callId", remove=True)
        if call is None:
            return
        self._report_use(call)
        endpoint, result = call.endpoint, message.get("result")
        if not endpoint.has_result or (result is None and endpoint.optional_result):
            call.receiver.succeed(None)
            return
        try:
            call.receiver.succeed(endpoint.read_result(result))
        except Exception as error:  # noqa: BLE001 - likewise
            failure = LMStudioProtocolError(
                f"{endpoint.label}: the server's response cannot be read: {printable(str(error))}"
            )
            failure.__cause__ = error
            call.receiver.fail(failure)

    def _rpc_error(self, message: dict[str, Any]) -> None:
        call = self._find(self._calls, message, "callId", remove=True)
        if call is not None:
            call.receiver.fail(self._error(message, call))

    def _communication_warning(self, message: dict[str, Any]) -> None:
        """Fail the requests that the server could not understand.

        The server may send no other response, and the requests would wait for ever.
        """
        from lmstudio_async._protocol._warnings import Suspect, concerned, is_unknown_endpoint

        text, kind = message.get("warning"), message.get("kind")
        text = text if isinstance(text, str) else "no reason given"
        kind = kind if isinstance(kind, str) else ""
        logger.warning("the server warns: %s", printable(text))
        shown = printable_lines(text)
        suspects = [Suspect("call", number, call.endpoint.name) for number, call in self._calls.items()]
        for number, channel in self._channels.items():
            if not channel.heard:
                suspects.append(Suspect("channel", number, channel.endpoint.name))
        for suspect in concerned(text, kind, suspects):
            if is_unknown_endpoint(suspect.endpoint, text, kind):
                self._unknown[suspect.primitive, suspect.endpoint] = shown
            if suspect.primitive == "call":
                call = self._calls.pop(suspect.number)
                call.receiver.fail(_not_handled(call.endpoint.label, shown))
            else:
                channel = self._channels.pop(suspect.number)
                channel.receiver.end(_not_handled(channel.endpoint.label, shown))

    def _report_use(self, ended: _OpenCall | _OpenChannel) -> None:
        if self._observer is not None and ended.reference and ended.endpoint.is_use:
            self._observer.on_used(ended.reference)

    def _departure(self, request: _OpenCall | _OpenChannel) -> Departure | None:
        """Return why the instance of a request is gone, as far as the client knows."""
        if self._observer is None or not request.reference:
            return None
        return self._observer.departure(request.reference)

    def _error(self, message: dict[str, Any], failed: _OpenCall | _OpenChannel) -> LMStudioError:
        """Make the error of a request, with what the client knows about the end of its instance."""
        from lmstudio_async._protocol._errors import error_from_wire

        label = failed.endpoint.label
        try:
            made = error_from_wire(message.get("error"), label, known=self._departure(failed))
        except Exception as error:  # noqa: BLE001 - also for a RecursionError, the caller must get an error
            failure = LMStudioProtocolError(
                f"{label}: the server's error cannot be read: {type(error).__name__}"
            )
            failure.__cause__ = error
            return failure
        if not isinstance(made, LMStudioInstanceUnloadedError):
            self._report_use(failed)
        return made

    @staticmethod
    def _find(table: dict[int, Any], message: dict[str, Any], key: str, *, remove: bool = False) -> Any:
        number = message.get(key)
        if type(number) is not int:
            logger.warning("dropped a %s without a %s", message["type"], key)
            return None
        # An unknown number is no fault: the request was given up while the response was on its way.
        return table.pop(number, None) if remove else table.get(number)


def _plain(value: WireObject) -> Any:
    from lmstudio_async._wire._struct import write

    return write(value)


def _reference(parameter: Any) -> str:
    """Return the reference of the instance that a request is for; empty if it names none."""
    if not isinstance(parameter, dict):
        return ""
    specifier = parameter.get("specifier") or parameter.get("modelSpecifier")
    reference = specifier.get("instanceReference") if isinstance(specifier, dict) else None
    return reference if isinstance(reference, str) else ""


def _not_handled(label: str, text: str) -> LMStudioProtocolError:
    return LMStudioProtocolError(f"{label}: the server could not handle this: {text}")


def copy_of(error: LMStudioError) -> LMStudioError:
    """Copy an error for one receiver, because an error that is raised in many tasks collects all their tracebacks."""
    own = copy.copy(error)
    own.__cause__ = error.__cause__
    return own


def closed_without_result(label: str) -> LMStudioChannelClosedError:
    """Return the error for a channel that the server closed in order, but without a result."""
    return LMStudioChannelClosedError(f"{label}: the server ended it without a result.")
