"""LM Studio's marker for the end of reasoning that the model ended without a tag of its own.

LM Studio sends it as the text of a fragment of type ``reasoningEndTag``, so that texts which were joined from
fragments have it between the reasoning and the answer. No model wrote it, and no user should see it.
"""

from __future__ import annotations

import re

__all__ = ["after_marker", "has_marker", "without_marker"]

_PREFIX = "__LM_STUDIO_INTERNAL_LSEP_"
_MARKER = re.compile(_PREFIX + r"SYNTHETIC_REASONING_(?:START|END)_[0-9A-Za-z]*__")


def has_marker(text: str) -> bool:
    """Return whether the text may contain the marker. Cheap, because it is called for every fragment."""
    return _PREFIX in text


def without_marker(text: str) -> str:
    """Return the text without the marker; the reasoning stays."""
    return _MARKER.sub("", text)


def after_marker(text: str) -> str:
    """Return the answer in a text that may have reasoning before it.

    If nothing follows the marker, the text before it is the whole output of the model. It may well be the answer: LM
    Studio counts an answer under a grammar as reasoning if the chat template begins the reasoning.
    """
    if not has_marker(text):
        return text
    pieces = _MARKER.split(text)
    return pieces[-1] if pieces[-1].strip() else "".join(pieces)
