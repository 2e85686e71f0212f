"""Text of a model for a terminal: everything but the characters that could control it."""

from __future__ import annotations

__all__ = ["plain"]

_CONTROLS = {*range(0x20), *range(0x7F, 0xA0)} - {ord("\n"), ord("\t")}
#: They change the direction of the text around them, so that it reads as another one.
_DIRECTIONS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_REMOVED = dict.fromkeys(_CONTROLS | _DIRECTIONS)


def plain(text: str) -> str:
    """Remove control characters other than line breaks and tabs, so that a model cannot control the terminal.

    It works on each piece of an answer by itself.
    """
    return text if text.isprintable() else text.translate(_REMOVED)
