"""Websocket frames as bytes: parsing frames from the server, and masking frames to it. No I/O.

Whole text frames, which are nearly all that LM Studio sends, are parsed here at a twentieth of wsproto's cost.
Every other frame (a control frame, a fragment, a frame that breaks the protocol) is left to wsproto.
"""

from __future__ import annotations

import codecs
import os
from typing import NamedTuple

from wsproto.connection import Connection, ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.frame_protocol import CloseReason

from lmstudio_async.errors import LMStudioValueError

__all__ = ["DEFAULT_MAX_MESSAGE_BYTES", "FrameEnd", "FrameReader", "masked_text_frame"]

DEFAULT_MAX_MESSAGE_BYTES = 256 * 1024 * 1024

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")

_WHOLE_TEXT = 0x81
_FIN = 0x80
_MASKED = 0x80
_CONTROL = 0x08
_LENGTH = 0x7F
_TWO_BYTES = 126
_EIGHT_BYTES = 127
_MAX_TWO_BYTES = 0xFFFF
# Bytes per XOR of two integers: one longer integer is slower to make than several of this size.
_MASK_BLOCK = 8192
_MASK_AT_ONCE = 1024


class FrameEnd(NamedTuple):
    """The end of a connection's frames, and the reason for it.

    :param code: the websocket close code.
    :param reason: a text for people; may be empty.
    :param by_peer: True if the server sent a close frame, False if it sent data that cannot be read.
    """

    code: int
    reason: str
    by_peer: bool


class FrameReader:
    """Makes messages out of the bytes of one connection, which may be split anywhere.

    :param connection: wsproto's state of the connection; it also knows whether a close frame was sent or received.
    :param max_message_bytes: a longer message ends the connection.
    """

    __slots__ = (
        "_connection",
        "_decoder",
        "_foreign",
        "_fragmented",
        "_head",
        "_max",
        "_message_size",
        "_missing",
        "_parts",
        "_text",
        "end",
        "pings",
    )

    def __init__(self, connection: Connection, max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES) -> None:
        self.end: FrameEnd | None = None
        # Payloads of pings that are not answered yet; the transport answers them and empties the list.
        self.pings: list[bytes] = []
        self._connection = connection
        self._max = max_message_bytes
        # The beginning of an incomplete header.
        self._head = b""
        # The beginning of a whole text frame, and the number of its bytes that are missing. A list, because growing
        # one text would be quadratic in the size of a message. Each part is decoded at once, while it is in the
        # processor's cache, which saves reading a large message from memory once more.
        self._parts: list[str] = []
        self._decoder = _Utf8Decoder()
        self._missing = 0
        # The number of bytes of the current frame that are still to be passed to wsproto.
        self._foreign = 0
        # Between the first and the last fragment of a message: its texts so far, and its size.
        self._fragmented = False
        self._text: list[str] = []
        self._message_size = 0

    def feed(self, data: bytes) -> list[str]:
        """Take bytes from the socket, and return the messages that they complete.

        ``end`` is set once no more messages will come; messages before the end are still returned.
        """
        messages: list[str] = []
        if self.end is not None:
            return messages
        pos = 0
        if self._missing:
            pos = min(self._missing, len(data))
            self._missing -= pos
            self._take_part(data[:pos])
            if self._missing or self.end is not None:
                return messages
            messages.append("".join(self._parts))
            self._parts.clear()
        elif self._foreign:
            pos = self._feed_foreign(data, 0, messages)
        elif self._head:
            data, self._head = self._head + data, b""
        self._cut(data, pos, messages)
        return messages

    def _cut(self, data: bytes, pos: int, messages: list[str]) -> None:
        """Parse frames from ``pos`` on, and keep an incomplete one at the end of the data."""
        size = len(data)
        while self.end is None and pos < size:
            if size - pos < 2:
                self._head = data[pos:]
                return
            first, second = data[pos], data[pos + 1]
            length, start, shortest = second & _LENGTH, pos + 2, 0
            if length == _TWO_BYTES:
                start, shortest = pos + 4, _TWO_BYTES
            elif length == _EIGHT_BYTES:
                start, shortest = pos + 10, _MAX_TWO_BYTES + 1
            if start > pos + 2:
                if start > size:
                    self._head = data[pos:]
                    return
                length = int.from_bytes(data[pos + 2 : start])
            if first != _WHOLE_TEXT or second & _MASKED or length < shortest or self._fragmented:
                self._foreign = start - pos + length
                if self._accept_foreign(first, length):
                    pos = self._feed_foreign(data, pos, messages)
                continue
            stop = start + length
            if length > self._max:
                self._refuse_size(length)
            elif stop > size:
                self._missing = stop - size
                self._take_part(data[start:])
                return
            else:
                try:
                    messages.append(data[start:stop].decode())
                except UnicodeDecodeError as exc:
                    self._refuse_text(exc)
                pos = stop

    def _take_part(self, data: bytes) -> None:
        """Decode a part of a whole text frame; it is the last one if no more bytes are missing."""
        try:
            self._parts.append(self._decoder.decode(data, final=not self._missing))
        except UnicodeDecodeError as exc:
            self._refuse_text(exc)

    def _accept_foreign(self, first: int, length: int) -> bool:
        """Track the size of a fragmented message; refuse one that grows too large."""
        if first & _CONTROL:
            return True
        self._message_size += length
        if self._message_size > self._max:
            self._refuse_size(self._message_size)
            return False
        self._fragmented = not first & _FIN
        if not self._fragmented:
            self._message_size = 0
        return True

    def _feed_foreign(self, data: bytes, pos: int, messages: list[str]) -> int:
        """Pass wsproto its part of the data, and return the position of the rest."""
        stop = min(pos + self._foreign, len(data))
        self._foreign -= stop - pos
        self._connection.receive_data(data[pos:stop])
        for event in self._connection.events():
            if isinstance(event, TextMessage):
                self._text.append(event.data)
                if event.message_finished:
                    messages.append("".join(self._text))
                    self._text.clear()
            elif isinstance(event, Ping):
                self.pings.append(bytes(event.payload))
            elif isinstance(event, CloseConnection):
                # wsproto reports a protocol error by the same event; only a real close frame changes its state.
                by_peer = self._connection.state in (ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED)
                self.end = FrameEnd(int(event.code), event.reason or "", by_peer)
                return stop
            elif isinstance(event, BytesMessage):
                self._refuse(CloseReason.UNSUPPORTED_DATA, "a message is binary; LM Studio sends text only")
                return stop
        return stop

    def _refuse_size(self, size: int) -> None:
        self._refuse(
            CloseReason.MESSAGE_TOO_BIG, f"a message of {size} bytes is above the limit of {self._max} bytes"
        )

    def _refuse_text(self, exc: UnicodeDecodeError) -> None:
        self._refuse(CloseReason.INVALID_FRAME_PAYLOAD_DATA, f"a message is not UTF-8 ({exc.reason})")

    def _refuse(self, code: CloseReason, reason: str) -> None:
        self.end = FrameEnd(int(code), reason, by_peer=False)


def masked_text_frame(text: str) -> bytes:
    """Make the single frame of a client's message.

    :param text: the message.
    :return: the bytes for the socket.
    :raises LMStudioValueError: if the text is no valid Unicode.
    """
    try:
        payload = text.encode()
    except UnicodeEncodeError as exc:
        raise LMStudioValueError(
            f"a frame must be valid Unicode, but character {exc.start} is half of a surrogate pair"
        ) from exc
    size = len(payload)
    if size < _TWO_BYTES:
        header = bytes((_WHOLE_TEXT, _MASKED | size))
    elif size <= _MAX_TWO_BYTES:
        header = bytes((_WHOLE_TEXT, _MASKED | _TWO_BYTES)) + size.to_bytes(2)
    else:
        header = bytes((_WHOLE_TEXT, _MASKED | _EIGHT_BYTES)) + size.to_bytes(8)
    key = os.urandom(4)
    return header + key + _mask(payload, key)


def _mask(payload: bytes, key: bytes) -> bytes:
    """XOR the payload with the repeated key."""
    size = len(payload)
    if size <= _MASK_AT_ONCE:
        return _xor(payload, int.from_bytes((key * (size // 4 + 1))[:size]))
    pad = int.from_bytes(key * (_MASK_BLOCK // 4))
    blocks = [
        _xor(payload[at : at + _MASK_BLOCK], pad) for at in range(0, size - _MASK_BLOCK + 1, _MASK_BLOCK)
    ]
    if rest := size % _MASK_BLOCK:
        blocks.append(_xor(payload[size - rest :], int.from_bytes((key * (rest // 4 + 1))[:rest])))
    return b"".join(blocks)


def _xor(block: bytes, pad: int) -> bytes:
    return (int.from_bytes(block) ^ pad).to_bytes(len(block))
