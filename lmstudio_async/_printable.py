"""Texts from the peer, and values with such texts, made safe for messages, logs and terminals: printable and short."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from operator import attrgetter
from typing import Any, ClassVar

__all__ = ["ShortRepr", "printable", "printable_lines", "short_members", "short_repr"]

LONGEST = 2000
"""Default limit for the number of characters that are shown of a text."""

LONGEST_REPR = 200
"""Limit for the number of characters of the repr of a result, an info or an event."""

#: Limit for the number of characters of a value in a message, and of one member, so that it does not hide the rest.
_LONGEST_VALUE = 80

#: A member that would be cut below this number of characters is left out.
_SHORTEST_MEMBER = 20


# -- texts


def printable(text: str, longest: int = LONGEST) -> str:
    """Escape characters that forge a line, control a terminal or cannot be encoded; cut a text that is too long."""
    return _escaped_and_cut(text, longest, "")


def printable_lines(text: str, longest: int = LONGEST) -> str:
    """Escape and cut like `printable`, but keep the line breaks and tabs of a message of several lines."""
    return _escaped_and_cut(text.replace("\r\n", "\n"), longest, "\n\t")


def _escaped_and_cut(text: str, longest: int, kept: str) -> str:
    shown = text[:longest]
    if not shown.isprintable():
        shown = "".join(
            letter if letter in kept or _is_harmless(letter) else letter.encode("unicode_escape").decode()
            for letter in shown
        )
    if len(text) <= longest and len(shown) <= longest:
        return shown
    return f"{shown[:longest]}… ({len(text)} characters)"


def _is_harmless(letter: str) -> bool:
    # `str.isprintable` rejects blanks such as the no-break space, which are harmless.
    return letter.isprintable() or (letter.isspace() and letter > "\x9f" and letter not in "\u2028\u2029")


# -- values


class ShortRepr:
    """Base of the values that people look at: their repr is one line of at most `LONGEST_REPR` characters.

    A subclass made by attrs has ``repr=False``, and names the members in ``_shown``. A member without a value, and a
    flag that is not set, is left out. A name may be a path with a label before it: ``model:info.model_key``.
    """

    __slots__ = ()

    #: The members of the repr, separated by blanks, the most important one first. Empty for all fields.
    _shown: ClassVar[str] = ""

    def __repr__(self) -> str:
        return _short_object(self, LONGEST_REPR)


def short_members(
    name: str, members: Iterable[tuple[str, Any]], longest: int = LONGEST_REPR, *, exact: bool = False
) -> str:
    """Return the repr of an object by its class and its members, on one line of at most ``longest`` characters.

    :param members: labels and values, the most important one first. Members without a value are left out.
    :param exact: leave out only those that are None, and do not round numbers.
    """
    given = [
        (label, value) for label, value in members if value is not None and (exact or not _is_empty(value))
    ]
    shown = f"{name}("
    for number, (label, value) in enumerate(given):
        is_last = number + 1 == len(given)
        start = f"{', ' if number else ''}{label}="
        # If members follow, leave room for the mark that some are left out.
        room = longest - len(shown) - len(start) - len(")" if is_last else ", …)")
        text = (
            _rounded(value)
            if isinstance(value, float) and not exact
            else short_repr(value, room if is_last else min(room, _LONGEST_VALUE))
        )
        if len(text) > room or (room < _SHORTEST_MEMBER and "…" in text):
            return f"{shown}{', …' if number else '…'})"
        shown += start + text
    return f"{shown})"


def short_repr(value: Any, longest: int = _LONGEST_VALUE) -> str:
    """Return the repr of a value on one line, shortened to about ``longest`` characters.

    Never raises, and does not walk through a long text or container to its end, because a peer's may be megabytes long.
    """
    try:
        return _short(value, longest)
    except Exception:  # noqa: BLE001 - a class of the user, or a number with more digits than Python converts
        return "a huge number" if isinstance(value, int) else f"<{type(value).__name__}>"


def _short(value: Any, longest: int) -> str:
    match value:
        case str():
            return _short_text(value, longest)
        case datetime():
            return value.isoformat(timespec="seconds")
        case ShortRepr() if type(value).__repr__ is ShortRepr.__repr__:
            return _short_object(value, longest)
        case BaseException():
            name = type(value).__name__
            return f"{name}({_short_text(str(value), longest - len(name) - 2)})"
        case Mapping():
            return _short_items("{", value.items(), "}", len(value), longest, _short_pair)
        case list():
            return _short_items("[", value, "]", len(value), longest)
        case tuple():
            return _short_items("(", value, ",)" if len(value) == 1 else ")", len(value), longest)
        case set() | frozenset() if value:
            return _short_items("{", value, "}", len(value), longest)
        case bytes() | bytearray():
            value = value[: longest + 1]
    text = repr(value)
    shown = _escaped_and_cut(text[: longest + 1], longest, "")
    return shown if len(text) <= longest and len(shown) <= longest else f"{shown[: longest - 1]}…"


def _short_object(value: ShortRepr, longest: int) -> str:
    fields = {field.name: field for field in getattr(value, "__attrs_attrs__", ())}
    members = []
    for name in value._shown.split() or [name for name, field in fields.items() if field.repr]:
        label, _, path = name.rpartition(":")
        member = _member(value, path)
        # A flag that is usually set is shown when it is not.
        if member is not False or (path in fields and fields[path].default is True):
            members.append((label or path, member))
    return short_members(type(value).__name__, members, longest)


def _member(value: Any, path: str) -> Any:
    try:
        return attrgetter(path)(value)
    except Exception:  # noqa: BLE001 - a part of the path is None, or a number is too large for a property
        return None


def _is_empty(value: Any) -> bool:
    return isinstance(value, (str, list, tuple, dict)) and not value


def _short_text(text: str, longest: int) -> str:
    shown = repr(text) if len(text) <= longest else ""
    if shown and len(shown) <= longest:
        return shown
    end = f"… ({len(text)} characters)"
    head = text[: max(longest - len(end) - 2, 1)]
    # An escape takes up to ten characters.
    while len(head) > 1 and len(repr(head)) + len(end) > longest:
        head = head[:-1]
    return repr(head) + end


def _rounded(value: float) -> str:
    shown = repr(value)
    if len(shown) <= 6:
        return shown
    return f"{value:.0f}" if 10_000 <= abs(value) < 1e15 else f"{value:.4g}"


def _short_items(
    start: str,
    items: Iterable[Any],
    end: str,
    count: int,
    longest: int,
    shorten: Callable[[Any, int], str] = short_repr,
) -> str:
    end_of_cut = f"…{end[-1]} ({count} item{'s'[: count != 1]})"
    shown = start
    for number, item in enumerate(itertools.islice(items, max(longest, 0))):
        separator = ", " if number else ""
        room = longest - len(shown) - len(separator)
        room -= len(end if number + 1 == count else f", {end_of_cut}")
        # Each level takes some of the room, so that a value within itself has an end.
        text = shorten(item, room) if room > 0 else ""
        if not text or len(text) > room:
            return f"{shown}{separator}{end_of_cut}"
        shown += separator + text
    return shown + end if shown != start or not count else start + end_of_cut


def _short_pair(pair: tuple[Any, Any], longest: int) -> str:
    key = short_repr(pair[0], longest // 2)
    return f"{key}: {short_repr(pair[1], longest - len(key) - 2)}"
