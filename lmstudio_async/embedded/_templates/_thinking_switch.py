"""The variable of a chat template that turns reasoning on or off."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

__all__ = ["ThinkingSwitch", "thinking_switch"]


class ThinkingSwitch(NamedTuple):
    """The variable of a chat template that turns reasoning on or off, with its two values."""

    name: str
    on: object
    off: object


_SWITCHES: Final = (
    ThinkingSwitch("enable_thinking", on=True, off=False),
    # Used by Granite 3.3, Kimi K3, DeepSeek V3.1 and V3.2.
    ThinkingSwitch("thinking", on=True, off=False),
    # The next four are used, in this order, by MiniMax M3, Cohere's mixtures of experts, Seed-OSS and Hunyuan 3.
    ThinkingSwitch("thinking_mode", on="enabled", off="disabled"),
    ThinkingSwitch("reasoning", on=True, off=False),
    ThinkingSwitch("thinking_budget", on=-1, off=0),
    ThinkingSwitch("reasoning_effort", on="high", off="no_think"),
)
# The closing mark is optional: an unclosed piece extends to the end of the template, because a search that starts again
# at each opening mark would take quadratic time.
_CODE: Final = re.compile(
    r"\{#.*?(?:#\}|\Z)|\{%(?P<statement>.*?)(?:%\}|\Z)|\{\{(?P<expression>.*?)(?:\}\}|\Z)", re.DOTALL
)
_STRING: Final = re.compile(r"'(?:[^'\\]|\\.)*(?:'|\\?\Z)|\"(?:[^\"\\]|\\.)*(?:\"|\\?\Z)", re.DOTALL)


@lru_cache(maxsize=32)
def thinking_switch(template: str) -> ThinkingSwitch | None:
    """Return the variable for reasoning that a chat template has, or None if it has none."""
    pieces = [found["statement"] or found["expression"] or "" for found in _CODE.finditer(template)]
    words = {found[0][1:-1] for piece in pieces for found in _STRING.finditer(piece)}
    code = "\n".join(_STRING.sub("''", piece) for piece in pieces)
    for switch in _SWITCHES:
        values = {value for value in (switch.on, switch.off) if isinstance(value, str)}
        if _is_parameter(switch.name, code) and values <= words:
            return switch
    return None


def _is_parameter(name: str, code: str) -> bool:
    """Whether a variable is a parameter of a template: the template tests whether it is defined, or never sets it."""
    if re.search(rf"(?<![\w.]){name}\s*(?:\|\s*default|\bis\s+(?:not\s+)?(?:un)?defined)\b", code):
        return True
    is_read = re.search(rf"(?<![\w.]){name}\b(?!\s*=[^=])", code)
    return is_read is not None and not re.search(rf"\b(?:set|for|macro\s+\w+\([^()]*)\s*\b{name}\b", code)
