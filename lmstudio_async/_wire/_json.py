"""Encoding and decoding of JSON (by orjson if it is installed), and tests for numbers."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

__all__ = ["dumps", "loads", "real_number", "whole_number"]


def whole_number(value: Any) -> int | None:
    """Return the value as an ``int`` if it is a whole number, also of another library; None for anything else.

    A bool does not count as a number.
    """
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def real_number(value: Any) -> int | float | None:
    """Return the value as an ``int`` or a ``float`` if it is a number, also of another library; None for anything else.

    A ``__float__`` is not enough: numpy's bools have one, and its durations count as whole numbers.
    """
    whole = whole_number(value)
    if whole is not None:
        return whole
    return float(value) if isinstance(value, Real) and not isinstance(value, Integral) else None


def _number(value: Any) -> int | float:
    """Return a JSON value in place of one that the encoder does not know."""
    number = real_number(value)
    if number is None:
        raise TypeError(f"an object of type {type(value).__name__} is not JSON serializable")
    return number


_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_number)


def _make_encode() -> Callable[[Any], str]:
    """Return a faster form of `JSONEncoder.encode`.

    `JSONEncoder.encode` makes a new C encoder in each call, which costs more than encoding the message of a call.
    """
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return _encoder.encode
    plain_text: Any = json.encoder.encode_basestring
    encode = make(None, _encoder.default, plain_text, None, ":", ",", False, False, False)
    return lambda value: "".join(encode(value, 0))


_encode = _make_encode()

_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def _plain_loads(text: str) -> Any:
    # json.loads spends a third of its time for a fragment on white space around it, and there is none.
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError from None
    if end != len(text):
        raise ValueError
    return value


try:
    import orjson

    _fast_loads: Callable[[str], Any] = orjson.loads
except ImportError:
    _fast_loads = _plain_loads


def loads(text: str) -> Any:
    """Decode JSON.

    :raises ValueError: if the text is not JSON.
    """
    try:
        return _fast_loads(text)
    except ValueError:
        # orjson rejects NaN, numbers beyond 64 bits and lone surrogates, which other programs do write.
        return json.loads(text)


def dumps(value: Any) -> str:
    """Encode JSON, compactly.

    :raises ValueError: if the value contains a number that JSON does not have.
    :raises TypeError: if the value contains an object that JSON cannot represent.
    """
    text = _encode(value)
    # A lone surrogate cannot be sent as UTF-8, but its escape sequence can.
    return (
        text
        if text.isascii() or _is_utf8(text)
        else json.dumps(value, separators=(",", ":"), allow_nan=False, default=_number)
    )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
