"""Responses of the fast server, encoded to bytes in advance."""

from __future__ import annotations

import json
import random
from typing import Any

__all__ = [
    "AUTHENTICATED",
    "GREETING",
    "PREDICTED",
    "channel_close",
    "fragment_at",
    "fragments",
    "frame",
    "instance",
    "instances",
    "progress_block",
    "results",
]

GREETING = b'{"lmstudio":true}'
AUTHENTICATED = b'{"success":true}'
_WORDS = (
    "The",
    " quick",
    " brown",
    " fox",
    " jumps",
    " over",
    " the lazy",
    " dog",
    ".",
    " \u2013 gr\u00fc\u00df",
    "\n",
    ' "x"',
)
_RANDOM = random.Random(768)


def compact(value: Any) -> bytes:
    """Encode a value as compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def frame(payload: bytes) -> bytes:
    """Make an unmasked text frame with a whole message."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2) + payload
    return b"\x81\x7f" + size.to_bytes(8) + payload


def model(number: int, kind: str = "llm") -> dict[str, Any]:
    """Make the info of a downloaded model."""
    key = f"acme/tiny-{number}"
    info: dict[str, Any] = {
        "type": kind,
        "modelKey": key,
        "format": "gguf",
        "displayName": f"Tiny {number}",
        "publisher": "acme",
        "path": f"{key}-GGUF/tiny-{number}-Q4_K_M.gguf",
        "sizeBytes": 2_500_000_000 + number,
        "indexedModelIdentifier": f"{key}-GGUF/tiny-{number}-Q4_K_M.gguf",
        "deviceIdentifier": None,
        "paramsString": "1B",
        "architecture": "llama",
        "quantization": {"name": "Q4_K_M", "bits": 4},
        "maxContextLength": 32768,
    }
    if kind == "llm":
        info |= {"vision": False, "trainedForToolUse": True}
    return info


def instance(key: str, kind: str = "llm") -> dict[str, Any]:
    """Make the info of a loaded model."""
    return model(1, kind) | {
        "modelKey": key,
        "identifier": key,
        "instanceReference": "r1",
        "ttlMs": 3_600_000,
        "lastUsedTime": 1_790_000_000_000,
        "contextLength": 4096,
    }


def instances(count: int, kind: str) -> bytes:
    """Make the result of a call that lists loaded models."""
    return compact(
        [instance(f"{kind}-{n}", kind) | {"instanceReference": f"{kind}-r{n}"} for n in range(count)]
    )


def results(namespace: str) -> dict[str, bytes]:
    """Make the results of all calls, by endpoint."""
    kind = "embedding" if namespace == "embedding" else "llm"
    return {
        "listLoaded": compact([instance(f"{kind}-1", kind), instance(f"{kind}-2", kind)]),
        "getModelInfo": compact(instance(f"{kind}-1", kind)),
        "listDownloadedModels": compact(
            [model(n, "embedding" if n % 10 == 0 else "llm") for n in range(200)]
        ),
        "countTokens": b'{"tokenCount":7}',
        "tokenize": b'{"tokens":[1,2,3,4,5,6,7]}',
        "embedString": compact({"embedding": [_RANDOM.uniform(-0.1, 0.1) for _ in range(768)]}),
        "getLoadConfig": b'{"fields":[{"key":"llm.load.contextLength","value":4096}]}',
        "applyPromptTemplate": b'{"formatted":"<|user|>hi"}',
        "version": b'{"version":"0.3.30","build":1}',
        "unloadModel": b"",
        "getInstanceProcessingState": b'{"status":"idle","queued":0}',
    }


PREDICTED = compact(
    {
        "type": "success",
        "stats": {
            "stopReason": "eosFound",
            "tokensPerSecond": 51.2,
            "numGpuLayers": 28,
            "timeToFirstTokenSec": 0.11,
            "totalTimeSec": 1.2,
            "promptTokensCount": 12,
            "predictedTokensCount": 40,
            "totalTokensCount": 52,
        },
        "modelInfo": instance("llm-1"),
        "loadModelConfig": {"fields": [{"key": "llm.load.contextLength", "value": 4096}]},
        "predictionConfig": {"fields": [{"key": "llm.prediction.temperature", "value": 0.1}]},
    }
)


def channel_send(channel: int, packet: bytes) -> bytes:
    return frame(b'{"type":"channelSend","channelId":%d,"message":%s}' % (channel, packet))


def channel_close(channel: int, last_packet: bytes) -> bytes:
    """Make the frames that end a channel: its last packet, and its close."""
    return channel_send(channel, last_packet) + frame(b'{"type":"channelClose","channelId":%d}' % channel)


_FRAGMENTS = [
    compact(
        {
            "type": "fragment",
            "fragment": {
                "content": word,
                "tokensCount": 1,
                "containsDrafted": False,
                "reasoningType": "none",
                "isStructural": False,
            },
        }
    )
    for word in _WORDS
]


def fragment_at(channel: int, place: int) -> bytes:
    """Make a frame with one fragment."""
    return channel_send(channel, _FRAGMENTS[place % len(_FRAGMENTS)])


def fragments(channel: int, count: int) -> bytes:
    """Make frames with one fragment each."""
    frames = [fragment_at(channel, place) for place in range(len(_FRAGMENTS))]
    whole, rest = divmod(count, len(frames))
    return b"".join(frames) * whole + b"".join(frames[:rest])


def progress_block(channel: int, kind: str, count: int) -> bytes:
    """Make frames with the progress of a load, from 0 to 1."""
    return b"".join(
        channel_send(channel, b'{"type":"%s","progress":%s}' % (kind.encode(), repr(n / count).encode()))
        for n in range(1, count + 1)
    )
