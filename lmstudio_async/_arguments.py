"""Checks of arguments before a request is sent: the server would not respond to a request with an invalid one."""

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
"""Default TTL of models that this SDK loads: idle seconds after which the server unloads them."""

_LONGEST_NAME = 1024
# The largest number of milliseconds that JavaScript, which LM Studio is written in, counts exactly.
_LONGEST_TTL = (2**53 - 1) // 1000


def check_text(value: object, what: str) -> str:
    """Check that ``value`` is a text, and return it."""
    if not isinstance(value, str):
        raise LMStudioValueError(f"{what} must be a text, not {type(value).__name__}: {value!r:.80}")
    return value


def check_name(value: object, what: str) -> str:
    """Check that ``value`` can be a model key, an instance identifier or a device identifier, and return it."""
    name = check_text(value, what)
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise LMStudioValueError(f"{what} must have 1 to {_LONGEST_NAME} characters, not {len(name)}")
    if not name.isprintable() or name == "__proto__":
        raise LMStudioValueError(f"{what} must not have control characters, nor be '__proto__': {name!r:.80}")
    return name


def optional_name(value: object, what: str) -> str | None:
    """Do the same as `check_name`, and accept None."""
    return None if value is None else check_name(value, what)


def ttl_to_ms(ttl: float | None) -> int | None:
    """Convert a TTL in seconds to the wire's milliseconds. None, for no TTL, stays None."""
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
    """Check that ``timeout`` is a number of seconds, or None for no limit, and return it."""
    if timeout is None:
        return None
    seconds = real_number(timeout)
    if seconds is None or not 0 < seconds < math.inf:
        raise LMStudioValueError(
            f"timeout must be a positive number of seconds, or None for no limit, not {timeout!r:.80}"
        )
    return seconds


def check_interval(interval: object) -> float:
    """Check that ``interval`` is a number of seconds, and return it."""
    seconds = real_number(interval)
    if seconds is None or not 0 < seconds < math.inf:
        raise LMStudioValueError(f"interval must be a positive number of seconds, not {interval!r:.80}")
    return seconds


def check_whole_number(
    value: object, what: str, least: int, most: int | None = None, none: str = ""
) -> int | None:
    """Check that ``value`` is a whole number of this range, or None, and return it.

    :param none: meaning of None, for the error message.
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
    """Check that ``verify`` names trusted certificates, and return it: a path as a text, or an SSL context."""
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
    """Check that ``namespace`` is a kind of models, or None for all."""
    if namespace not in (None, "llm", "embedding"):
        raise LMStudioValueError(f"namespace must be 'llm', 'embedding' or None, not {namespace!r:.80}")
