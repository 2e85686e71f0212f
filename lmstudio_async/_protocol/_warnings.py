"""The requests that a ``communicationWarning`` is about: a server may send it in place of a response.

The warning describes in words the message that the server could not understand; a newer server also sends a kind.
Only the right request may fail because of it: if in doubt, none fails, and the client's ``timeout`` is the limit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import attrs

__all__ = ["Suspect", "concerned", "is_unknown_endpoint"]

_NUMBER = re.compile(r"\b(call|channel)Id\W{1,3}(\d{1,18})\b")
_ENDPOINT = re.compile(r"\bendpoint\s*[=:]\W*(\w+)")
#: Kinds that are not about a request: a late or malformed packet, or a message that this client never sends.
_NO_REQUEST = re.compile(
    r"(channelUnknown|channelMessageTypeError|rpcUnknown|rpcResultTypeError)\Z|signal|writableSignal"
)
_UNKNOWN_ENDPOINT = re.compile(r"Endpoint(Unknown|Unhandled)\Z")


@attrs.frozen
class Suspect:
    """A request that has got no response yet.

    :param number: number of its call or channel.
    :param endpoint: name of its endpoint.
    """

    primitive: Literal["call", "channel"]
    number: int
    endpoint: str


def concerned(text: str, kind: str, suspects: Sequence[Suspect]) -> Sequence[Suspect]:
    """Return the requests that the warning is certainly about; none if in doubt."""
    numbers = [(primitive, int(number)) for primitive, number in _NUMBER.findall(text)]
    if numbers:
        return [each for each in suspects if (each.primitive, each.number) in numbers]
    if _NO_REQUEST.match(kind) or "channelSend" in text:
        return []
    if kind.startswith("rpc") or "rpcCall" in text:
        suspects = [each for each in suspects if each.primitive == "call"]
    elif kind.startswith("channel") or "channelCreate" in text:
        suspects = [each for each in suspects if each.primitive == "channel"]
    named = [each for each in suspects if _names(text, each.endpoint)]
    if named or _ENDPOINT.search(text):
        suspects = named
        kinds = {(each.primitive, each.endpoint) for each in named}
        if len(kinds) == 1 and is_unknown_endpoint(named[0].endpoint, text, kind):
            # The server will respond to none of them.
            return named
    return suspects if len(suspects) == 1 else []


def is_unknown_endpoint(endpoint: str, text: str, kind: str) -> bool:
    """Return whether the warning means that the server does not know this endpoint at all."""
    is_unknown = "unknown endpoint" in text or _UNKNOWN_ENDPOINT.search(kind) is not None
    return is_unknown and _names(text, endpoint)


def _names(text: str, endpoint: str) -> bool:
    # Whole words: "unloadModel" does not name "loadModel".
    return re.search(rf"\b{re.escape(endpoint)}\b", text) is not None
