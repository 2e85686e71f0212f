"""Text <-> plain JSON, by orjson where the user has it."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["dumps", "loads"]

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode

try:
    from orjson import loads as _fast_loads
except ImportError:
    _fast_loads = json.loads


def loads(text: str) -> Any:
    """Decode JSON.

    :raises ValueError: if it is none.
    """
    try:
        return _fast_loads(text)
    except ValueError:
        # orjson is stricter than JSON as the world writes it: NaN, numbers beyond 64 bits, lone surrogates.
        return json.loads(text)


def dumps(value: Any) -> str:
    """Encode JSON, compactly.

    :raises ValueError: if it holds a number that JSON does not have.
    :raises TypeError: if it holds what is no JSON at all.
    """
    text = _encode(value)
    # A lone surrogate cannot be sent as UTF-8; escaped it can.
    return text if text.isascii() or _is_utf8(text) else json.dumps(value, separators=(",", ":"), allow_nan=False)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
