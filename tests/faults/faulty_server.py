"""A server with one fault, which occurs once: it answers all other requests correctly.

It runs in the event loop of its client, which may be an async or a blocking one.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from lmstudio_async import LMStudioError
from lmstudio_async._transport import FrameTransport, memory_pair
from tests.clock import let_pass
from tests.scripted_server import INSTANCE, MODEL

__all__ = ["DROP", "ID", "FaultyServer", "Line", "fragment", "good_answers"]

#: Placeholder for the ID of the call or channel of the request.
ID = "<its number>"
#: Placeholder for a frame: the server drops the connection here.
DROP = "<drop>"

#: A frame, which is sent unchanged if it is a text, else as JSON.
Line = Any


class FaultyServer:
    """One server, with any number of connections.

    :param endpoint: the endpoint with the fault; ``authentication`` for the first frame.
    :param lines: the frames that it sends there instead of a correct response.
    :param silence: the number of seconds that it lets pass after that.
    """

    address = "faulty"
    is_running = True

    def __init__(self, endpoint: str, lines: Sequence[Line], *, silence: float | None = None) -> None:
        self.connections = 0
        self.heard: list[dict[str, Any]] = []
        self._endpoint = endpoint
        self._lines: Sequence[Line] | None = lines
        self._silent: tuple[str, ...] = ()
        self._silence = silence

    def silence(self, *endpoints: str) -> None:
        """Send no responses for these endpoints until the fault has occurred."""
        self._silent = endpoints

    @asynccontextmanager
    async def connect(self, namespace: str) -> AsyncIterator[FrameTransport]:
        self.connections += 1
        theirs, ours = memory_pair()
        lost: LMStudioError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._serve, ours)
            try:
                yield theirs
            except LMStudioError as error:
                # Raise it outside the task group, which would wrap it in an exception group.
                lost = error
            finally:
                with anyio.CancelScope(shield=True):
                    await theirs.aclose()
        if lost is not None:
            raise lost

    async def _serve(self, transport: FrameTransport) -> None:
        try:
            while True:
                for frame in await transport.receive():
                    await self._hear(transport, json.loads(frame))
        except LMStudioError:
            await transport.aclose()

    async def _hear(self, transport: FrameTransport, message: dict[str, Any]) -> None:
        self.heard.append(message)
        endpoint = "authentication" if "authVersion" in message else message.get("endpoint", "")
        lines, silence = self._lines, None
        if endpoint == self._endpoint and lines is not None:
            self._lines, self._silent = None, ()
            silence = self._silence
        else:
            lines = [] if endpoint in self._silent else good_answers(message)
        number = message.get("callId", message.get("channelId"))
        for line in lines:
            if line is DROP:
                await transport.aclose()
                return
            await transport.send(line if isinstance(line, str) else json.dumps(_numbered(line, number)))
        if silence is not None:
            await let_pass(silence)


def _numbered(line: Any, number: int | None) -> Any:
    if isinstance(line, dict):
        return {key: number if value is ID else value for key, value in line.items()}
    return line


def fragment(text: str) -> Line:
    """Return a packet with a fragment of an answer."""
    return {
        "type": "channelSend",
        "channelId": ID,
        "message": {"type": "fragment", "fragment": {"content": text}},
    }


def good_answers(message: dict[str, Any]) -> Sequence[Line]:
    """Return the frames with which a correct server responds to a message."""

    def packets(*packets: Any) -> list[Line]:
        sent: list[Line] = [{"type": "channelSend", "channelId": ID, "message": packet} for packet in packets]
        return [*sent, {"type": "channelClose", "channelId": ID}]

    match message:
        case {"authVersion": _}:
            return [{"success": True}]
        case {"endpoint": "listLoaded"}:
            return [{"type": "rpcResult", "callId": ID, "result": [INSTANCE]}]
        case {"endpoint": "listDownloadedModels"}:
            return [{"type": "rpcResult", "callId": ID, "result": [MODEL]}]
        case {"endpoint": "getModelInfo"}:
            return [{"type": "rpcResult", "callId": ID, "result": INSTANCE}]
        case {"endpoint": "countTokens"}:
            return [{"type": "rpcResult", "callId": ID, "result": {"tokenCount": 1}}]
        case {"endpoint": "unloadModel"}:
            return [{"type": "rpcResult", "callId": ID}]
        case {"endpoint": "loadModel"}:
            return packets({"type": "resolved", "info": MODEL}, {"type": "success", "info": INSTANCE})
        case {"endpoint": "getOrLoad"}:
            return packets({"type": "alreadyLoaded", "identifier": "qwen3-4b", "info": INSTANCE})
        case {"endpoint": "predict"}:
            success = {"type": "success", "stats": {"stopReason": "eosFound"}}
            return [fragment("Hi"), *packets(success)]
        case {"message": {"type": "cancel"}}:
            return [{"type": "channelError", "channelId": ID, "error": {"title": "Cancelled"}}]
    return []
