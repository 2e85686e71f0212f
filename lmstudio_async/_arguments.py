"""Arguments, checked before anything is sent: the server would not answer a bad one, but keep silent."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from lmstudio_async._wire._json import real_number, whole_number
from lmstudio_async.errors import LMStudioValueError

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = [
    "DEFAULT_TTL",
    "check_name",
    "check_namespace",
    "check_text",
    "check_timeout",
    "check_verify",
    "check_whole_number",
    "optional_name",
    "ttl_to_ms",
]

DEFAULT_TTL = 3600
"""Idle seconds after which a model that this SDK loaded is unloaded, unless told otherwise."""

_LONGEST_NAME = 1024
# The largest number of milliseconds that JavaScript, which LM Studio is written in, counts exactly.
_LONGEST_TTL = (2**53 - 1) // 1000


def check_text(value: object, what: str) -> str:
    """Make sure that it is a text."""
    if not isinstance(value, str):
        raise LMStudioValueError(f"{what} must be a text, not {type(value).__name__}: {value!r:.80}")
    return value


def check_name(value: object, what: str) -> str:
    """Make sure that it can be a model key, an instance identifier or a device identifier."""
    name = check_text(value, what)
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise LMStudioValueError(f"{what} must have 1 to {_LONGEST_NAME} characters, not {len(name)}")
    if not name.isprintable() or name == "__proto__":
        raise LMStudioValueError(f"{what} must not have control characters, nor be '__proto__': {name!r:.80}")
    return name


def optional_name(value: object, what: str) -> str | None:
    """The same, where None stands for none."""
    return None if value is None else check_name(value, what)


def ttl_to_ms(ttl: float | None) -> int | None:
    """Seconds -> the wire's milliseconds; None stays None: never."""
    if ttl is None:
        return None
    seconds = real_number(ttl)
    if seconds is None:
        raise LMStudioValueError(f"ttl must be a number of seconds, or None for no limit, not {ttl!r:.80}")
    if not 0.001 <= seconds <= _LONGEST_TTL:
        raise LMStudioValueError(
            f"ttl must be from 0.001 to {_LONGEST_TTL} seconds, not {ttl!r:.80}. For a model that is never unloaded when "
            "idle, give None."
        )
    return round(seconds * 1000)


def check_timeout(timeout: object) -> float | None:
    """Make sure that it is a number of seconds, or None for no limit."""
    if timeout is None:
        return None
    seconds = real_number(timeout)
    if seconds is None or not 0 < seconds < math.inf:
        raise LMStudioValueError(
            f"timeout must be a positive number of seconds, or None for no limit, not {timeout!r:.80}"
        )
    return seconds


def check_whole_number(
    value: object, what: str, least: int, most: int | None = None, none: str = ""
) -> int | None:
    """Make sure that it is a whole number of that range, or None.

    :param none: what None stands for, to complete the sentence of the error.
    """
    if value is None:
        return None
    number = whole_number(value)
    if number is None or number < least or (most is not None and number > most):
        span = f"of at least {least}" if most is None else f"from {least} to {most}"
        alternative = f", or None for {none}" if none else ""
        raise LMStudioValueError(f"{what} must be a whole number {span}{alternative}, not {value!r:.80}")
    return number


def check_verify(verify: Any) -> SSLContext | str | None:
    """Make sure that it says whom to trust: a path, as a text, or an SSL context."""
    if verify is None or isinstance(verify, str):
        return verify
    if isinstance(verify, os.PathLike):
        return os.fsdecode(verify)
    import ssl

    if isinstance(verify, ssl.SSLContext):
        return verify
    raise LMStudioValueError(
        "verify must be the path of a PEM file, or of a directory, with the certificates to trust, or an "
        f"ssl.SSLContext, not {verify!r:.80}"
    )


def check_namespace(namespace: object) -> None:
    """Make sure that it is a kind of models, or None for all."""
    if namespace not in (None, "llm", "embedding"):
        raise LMStudioValueError(f"namespace must be 'llm', 'embedding' or None, not {namespace!r:.80}")
