"""The form in which a chat template writes a tool call, read from a sample that the template renders."""

from __future__ import annotations

import re
from typing import Any, Final, Literal

__all__ = ["PROBES", "CallForm", "read_call_form"]

#: After a mark, as a bare JSON object, or unknown because the template does not render calls.
CallForm = Literal["marked", "bare", "unknown"]

_TOOL: Final = "probe_of_a_call"
_USER: Final[dict[str, Any]] = {"role": "user", "content": "Go"}
_CALL: Final[dict[str, Any]] = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": "probe0000", "type": "function", "function": {"name": _TOOL, "arguments": '{"key": "value"}'}}
    ],
}
_RESULT: Final[dict[str, Any]] = {
    "role": "tool",
    "name": _TOOL,
    "tool_call_id": "probe0000",
    "content": "Done",
}

#: A chat, and the same chat with a tool call in it.
PROBES: Final = ([_USER], [_USER, _CALL, _RESULT])

_OBJECT: Final = re.compile(
    r'\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?(?:"function"\s*:\s*\{\s*)?"name"\s*:\s*"$'
)


def read_call_form(before: str, with_call: str) -> CallForm:
    """Return the form in which a template writes a call.

    :param before: the prompt that the template makes of the first chat of :data:`PROBES`.
    :param with_call: the prompt that it makes of the second one.
    """
    head, named, _ = with_call.partition(_TOOL)
    if not named:
        return "unknown"
    begin = _OBJECT.search(head)
    # `before` ends where the answer begins. The form is bare if `before` contains the text up to the object, because then
    # no mark precedes the object.
    is_bare = begin is not None and before.startswith(head[: begin.start()].rstrip())
    return "bare" if is_bare else "marked"
