"""Conversion of bytes to messages and back, compared with wsproto alone."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Message, Ping, TextMessage

from lmstudio_async._transport._frames import FrameReader, masked_text_frame
from lmstudio_async.errors import LMStudioValueError


def a_reader(max_message_bytes: int = 1 << 20) -> FrameReader:
    return FrameReader(Connection(ConnectionType.CLIENT), max_message_bytes)


def frame(payload: bytes, first: int = 0x81, mask: int = 0) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((first, mask | size)) + payload
    if size < 65_536:
        return bytes((first, mask | 126)) + size.to_bytes(2) + payload
    return bytes((first, mask | 127)) + size.to_bytes(8) + payload


def wsproto_alone(data: bytes) -> tuple[list[str], list[bytes], tuple[int, str] | None]:
    connection = Connection(ConnectionType.CLIENT)
    connection.receive_data(data)
    texts, pings, text = [], [], ""
    for event in connection.events():
        if isinstance(event, TextMessage):
            text += event.data
            if event.message_finished:
                texts.append(text)
                text = ""
        elif isinstance(event, Ping):
            pings.append(bytes(event.payload))
        elif isinstance(event, CloseConnection):
            return texts, pings, (int(event.code), event.reason or "")
    return texts, pings, None


TEXTS = st.text(max_size=300) | st.sampled_from(["x" * 125, "x" * 126, "é" * 40_000])
FRAMES = st.one_of(
    TEXTS.map(lambda text: frame(text.encode())),
    TEXTS.map(lambda text: frame(text.encode())),
    st.lists(st.binary(max_size=20) | TEXTS.map(str.encode), min_size=2, max_size=4).map(
        lambda parts: b"".join(
            frame(part, (1 if at == 0 else 0) | (0x80 if at == len(parts) - 1 else 0))
            for at, part in enumerate(parts)
        )
    ),
    st.binary(max_size=125).map(lambda payload: frame(payload, 0x89)),
    st.binary(max_size=125).map(lambda payload: frame(payload, 0x8A)),
)
ENDINGS = st.one_of(
    st.just(b""),
    st.sampled_from([1000, 1001, 1011, 3000]).map(lambda code: frame(code.to_bytes(2) + b"why", 0x88)),
    st.just(frame(b"", 0x88)),
    st.binary(min_size=1, max_size=30),
)


@given(st.lists(FRAMES, max_size=8), ENDINGS, st.data())
def test_frames_cut_anywhere_are_read_as_by_wsproto_alone(
    frames: list[bytes], ending: bytes, data: st.DataObject
) -> None:
    stream = b"".join(frames) + ending
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    reader, texts = a_reader(), []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        texts += reader.feed(stream[start:stop])
    expected_texts, expected_pings, expected_end = wsproto_alone(stream)
    if reader.end is not None and expected_end is None:
        # `FrameReader` ends at a binary message, and wsproto alone does not.
        assert reader.end.code == 1003
        return
    assert texts == expected_texts
    assert reader.pings == expected_pings
    if expected_end is None:
        assert reader.end is None
    elif reader.end is not None and reader.end.code not in (1003, 1009):
        assert reader.end.code == expected_end[0]


def test_frames_may_come_byte_by_byte() -> None:
    stream = frame(b"one") + frame(b"", 0x89) + frame(b"x" * 70_000) + frame(b"tw", 0x01) + frame(b"o", 0x80)
    reader, texts = a_reader(), []
    for at in range(len(stream)):
        texts += reader.feed(stream[at : at + 1])
    assert texts == ["one", "x" * 70_000, "two"]
    assert reader.pings == [b""]
    assert reader.end is None


def test_feed_returns_all_frames_of_a_chunk() -> None:
    assert a_reader().feed(b"".join(frame(b"%d" % n) for n in range(1000))) == [str(n) for n in range(1000)]


def test_a_close_frame_ends_the_reader_after_the_messages_before_it() -> None:
    reader = a_reader()
    assert reader.feed(
        frame(b"last") + frame((1011).to_bytes(2) + b"out of memory", 0x88) + frame(b"no")
    ) == ["last"]
    assert reader.end is not None
    assert (reader.end.code, reader.end.reason, reader.end.by_peer) == (1011, "out of memory", True)
    assert reader.feed(frame(b"no")) == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b"\xff"), 1007),
        (frame(b"half a letter: \xc3"), 1007),
        (frame(b"\xff", 0x01), 1007),
        (frame(b"abcd", mask=0x80), 1002),
        (frame(b"x", 0xC1), 1002),
        (frame(b"x", 0x83), 1002),
        (frame(b"x", 0x80), 1002),
        (frame(b"x", 0x01) + frame(b"x", 0x81), 1002),
        (frame(b"x", 0x09), 1002),
        (b"\x81\x7e\x00\x05hello", 1002),
        (b"\x81\x7f" + (5).to_bytes(8) + b"hello", 1002),
        (frame(b"x", 0x82), 1003),
    ],
)
@pytest.mark.parametrize("bytewise", [False, True])
def test_a_protocol_violation_ends_the_connection_with_its_code(
    data: bytes, code: int, bytewise: bool
) -> None:
    reader = a_reader()
    texts = reader.feed(frame(b"good"))
    for chunk in [data[at : at + 1] for at in range(len(data))] if bytewise else [data]:
        texts += reader.feed(chunk)
    assert texts == ["good"]
    assert reader.end is not None
    assert (reader.end.code, reader.end.by_peer) == (code, False)


@pytest.mark.parametrize(
    "data",
    [
        frame(b"x" * 1001)[:4],
        b"\x81\x7f" + (1 << 62).to_bytes(8),
        b"\x01\x7f" + (1 << 62).to_bytes(8),
        frame(b"x" * 600, 0x01) + frame(b"x" * 401, 0x80),
    ],
)
def test_a_message_above_the_limit_is_refused_by_its_header(data: bytes) -> None:
    reader = a_reader(max_message_bytes=1000)
    assert reader.feed(data) == []
    assert reader.end is not None
    assert reader.end.code == 1009
    assert "1000 bytes" in reader.end.reason


def test_any_number_of_messages_up_to_the_limit_passes() -> None:
    reader = a_reader(max_message_bytes=1000)
    fragmented = frame(b"x" * 600, 0x01) + frame(b"x" * 400, 0x80)
    assert [len(text) for text in reader.feed((frame(b"x" * 1000) + fragmented) * 3)] == [1000] * 6
    assert reader.end is None


@given(
    st.text()
    | st.sampled_from(["x" * n for n in (125, 126, 1024, 1025, 8192, 8193, 65_535, 65_536, 100_003)])
)
def test_a_server_reads_a_masked_frame(text: str) -> None:
    server = Connection(ConnectionType.SERVER)
    server.receive_data(masked_text_frame(text))
    events = [event for event in server.events() if isinstance(event, Message)]
    assert "".join(str(event.data) for event in events) == text
    assert events[-1].message_finished


def test_each_frame_has_its_own_mask() -> None:
    assert len({masked_text_frame("same") for _ in range(8)}) > 1


def test_half_a_surrogate_pair_cannot_be_framed() -> None:
    with pytest.raises(LMStudioValueError, match="surrogate"):
        masked_text_frame("\udfff")


def test_a_large_message_is_not_copied_for_each_chunk() -> None:
    reader, payload = a_reader(64 << 20), os.urandom(1 << 20).hex().encode() * 16
    stream = frame(payload)
    texts: list[str] = []
    # A reader that grew one bytes object would copy 4 TiB here.
    for at in range(0, len(stream), 128):
        texts += reader.feed(stream[at : at + 128])
    assert texts == [payload.decode()]
