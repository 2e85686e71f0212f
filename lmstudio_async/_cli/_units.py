"""Sizes and durations as text, and durations as the user types them."""

from __future__ import annotations

import math
import re

__all__ = ["duration_text", "parse_ttl", "size_text"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def size_text(count: float) -> str:
    """Return a number of bytes as text: 24 kB, 105 MB, 2.50 GB."""
    if count < 1e5:
        return f"{count / 1e3:.0f} kB"
    if count >= 1e9:
        return f"{count / 1e9:,.2f} GB"
    return f"{count / 1e6:,.0f} MB" if count >= 1e7 else f"{count / 1e6:,.1f} MB"


def duration_text(seconds: float) -> str:
    """Return a duration as text, in its two largest units: 45 s, 5 min 3 s, 1 h, 2 d 4 h."""
    rest = max(0, math.ceil(seconds))
    parts: list[str] = []
    for name, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or (parts and len(parts) < 2):
            parts.append(f"{count} {name}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(filter(None, parts)) or "0 s"


def parse_ttl(text: str) -> float | None:
    """Return the seconds that a TTL means: ``90``, ``45s``, ``60m``, ``1h30m``, ``2d``; None for ``never``.

    :raises ValueError: for another text.
    """
    short = text.strip().lower().replace(" ", "")
    if short == "never":
        return None
    if _DURATION.fullmatch(short):
        return sum(float(count) * _UNITS[unit] for count, unit in _PART.findall(short))
    try:
        seconds = float(short)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{text!r} is not a duration: write 90 (seconds), 45s, 60m, 1h30m, 2d or never")
    return seconds
