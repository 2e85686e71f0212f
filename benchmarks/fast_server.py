"""A scripted server of LM Studio's protocol that is too fast to affect the results of a benchmark.

Started by ``python -m benchmarks.fast_server``, it prints its port. It answers the requests that performance depends
on: the greeting, the authentication, the common calls, loads (a model key ``x:1000`` causes 1000 progress packets) and
predictions. The text of the message controls the prediction:

``n=10000 mode=burst``
    10,000 fragments, as fast as they can be written;
``n=100 mode=rate rate=50``
    100 fragments, 50 per second, each in a separate write;
``n=1 mode=hold``
    one fragment, and then nothing until the prediction is cancelled.

The result of a call of ``big:33554432`` is a text of that many bytes. After a call of ``many:64``, that many instances are
loaded for this connection.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import sys
from typing import Any

from benchmarks import answers
from benchmarks.meter import take_a_core

__all__ = ["FastServer"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"(?i)sec-websocket-key:\s*(\S+)")
_ORDER = re.compile(r"n=(\d+) mode=(\w+)(?: rate=(\d+))?")


class FastServer(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._buffer = b""
        self._is_websocket = False
        self._is_known = False
        self._results: dict[str, bytes] = {}
        self._kind = "llm"
        self._running: dict[int, asyncio.TimerHandle | None] = {}
        self._out: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        for timer in self._running.values():
            if timer is not None:
                timer.cancel()
        self._running.clear()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_websocket:
            self._upgrade()
        if self._is_websocket:
            self._cut()
        if self._out:
            # Answer all requests of one read with one write.
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def _upgrade(self) -> None:
        head, end, self._buffer = self._buffer.partition(b"\r\n\r\n")
        if not end:
            self._buffer = head
            return
        key = _KEY.search(head)
        if key is None:
            body = answers.GREETING
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%s" % (len(body), body)
            )
            self._transport.close()
            return
        accept = base64.b64encode(hashlib.sha1(key[1] + _GUID).digest())
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-accept: %s\r\n\r\n" % accept
        )
        namespace = head.split(b" ", 2)[1].decode().rpartition("/")[2]
        self._kind = "embedding" if namespace == "embedding" else "llm"
        self._results = _results[self._kind]
        self._is_websocket = True

    def _cut(self) -> None:
        data, at = self._buffer, 0
        while len(data) - at >= 6:
            opcode, size, start = data[at] & 15, data[at + 1] & 127, at + 2
            if size == 126:
                size, start = int.from_bytes(data[start : start + 2]), start + 2
            elif size == 127:
                size, start = int.from_bytes(data[start : start + 8]), start + 8
            stop = start + 4 + size
            if stop > len(data):
                break
            key, masked = data[start : start + 4], data[start + 4 : stop]
            pad = (key * (size // 4 + 1))[:size]
            self._take(opcode, (int.from_bytes(masked) ^ int.from_bytes(pad)).to_bytes(size))
            at = stop
        self._buffer = data[at:]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == 1:
            self._understand(json.loads(payload))
        elif opcode == 9:
            self._out.append(bytes((0x8A, len(payload))) + payload)
        elif opcode == 8:
            self._transport.write(b"".join(self._out) + bytes((0x88, len(payload))) + payload)
            self._out.clear()
            self._transport.close()

    def _understand(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if not self._is_known:
            self._is_known = True
            self._out.append(answers.frame(answers.AUTHENTICATED))
        elif kind == "rpcCall":
            self._answer(message["callId"], message["endpoint"])
        elif kind == "channelCreate":
            self._open(message["channelId"], message["endpoint"], message["creationParameter"])
        elif kind == "channelSend" and message["message"]["type"] == "cancel":
            self._finish(message["channelId"])

    def _answer(self, call: int, endpoint: str) -> None:
        if endpoint.startswith("big:"):
            result = b'"%s"' % (b"x" * int(endpoint[4:]))
        elif endpoint.startswith("many:"):
            loaded = answers.instances(int(endpoint[5:]), self._kind)
            self._results, result = {**self._results, "listLoaded": loaded}, b""
        else:
            result = self._results[endpoint]
        body = b',"result":' + result if result else b""
        self._out.append(answers.frame(b'{"type":"rpcResult","callId":%d%s}' % (call, body)))

    def _open(self, channel: int, endpoint: str, creation: dict[str, Any]) -> None:
        if endpoint == "predict":
            self._predict(channel, creation)
        elif endpoint == "loadModel":
            self._load(channel, creation["modelKey"], "progress", "success")
        else:
            self._load(channel, creation["identifier"], "loadProgress", "loadSuccess")

    def _load(self, channel: int, key: str, progress: str, success: str) -> None:
        name, _, count = key.partition(":")
        info = answers.instance(name, self._kind)
        start = {"type": "startLoading", "identifier": name, "info": info}
        if progress == "progress":
            start = {"type": "resolved", "info": info}
        if count:
            self._out.append(answers.channel_send(channel, answers.compact(start)))
            self._out.append(answers.progress_block(channel, progress, int(count)))
        elif progress == "loadProgress":
            success = "alreadyLoaded"
        self._out.append(answers.channel_close(channel, answers.compact({"type": success, "info": info})))

    def _predict(self, channel: int, creation: dict[str, Any]) -> None:
        text = creation["history"]["messages"][-1]["content"][0]["text"]
        order = _ORDER.search(text)
        count, mode, rate = (order[1], order[2], order[3]) if order else ("10", "burst", None)
        if mode == "burst":
            self._out.append(answers.fragments(channel, int(count)))
            self._out.append(answers.channel_close(channel, answers.PREDICTED))
        elif mode == "hold":
            self._running[channel] = None
            self._out.append(answers.fragment_at(channel, 0))
        else:
            # Shift the streams that begin together, because fragments sent at the same time would arrive as one chunk.
            pause = 1 / int(rate or 50)
            began = asyncio.get_running_loop().time() + (channel * 0.618 % 1) * pause
            self._pace(channel, 0, int(count), pause, began)

    def _pace(self, channel: int, place: int, count: int, pause: float, began: float) -> None:
        """Schedule the fragment at a place, or the end."""
        due = self._speak if place < count else self._end
        self._running[channel] = asyncio.get_running_loop().call_at(
            began + place * pause, due, channel, place, count, pause, began
        )

    def _speak(self, channel: int, place: int, count: int, pause: float, began: float) -> None:
        self._transport.write(answers.fragment_at(channel, place))
        self._pace(channel, place + 1, count, pause, began)

    def _end(self, channel: int, *_plan: float) -> None:
        self._running.pop(channel, None)
        self._transport.write(answers.channel_close(channel, answers.PREDICTED))

    def _finish(self, channel: int) -> None:
        if channel in self._running:
            timer = self._running.pop(channel)
            if timer is not None:
                timer.cancel()
            self._out.append(answers.channel_close(channel, answers.PREDICTED))


_results = {kind: answers.results(kind) for kind in ("llm", "embedding")}


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(FastServer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The parent process holds the other end of standard input, so that the server ends with it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    if "--pin" in sys.argv:
        take_a_core(1)
    asyncio.run(_serve())
