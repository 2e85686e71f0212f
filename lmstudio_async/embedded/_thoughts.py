"""How models mark their thoughts, as far as their chat templates tell."""

from __future__ import annotations

from typing import Final

__all__ = ["USUAL_TAGS", "speaks_in_channels", "thought_tags"]

USUAL_TAGS: Final = ("<think>", "</think>")
_OTHER_TAGS: Final = (
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
)
# Of gpt-oss and of Gemma.
_CHANNELS: Final = ("<|channel|>", "<|channel>")


def thought_tags(template: str) -> tuple[str, str]:
    """What stands before and after the thoughts of a model."""
    return next((tags for tags in _OTHER_TAGS if tags[0] in template), USUAL_TAGS)


def speaks_in_channels(template: str) -> bool:
    """Whether a model has a channel for its thoughts and one for its answer, which only the engine can tell apart."""
    return any(mark in template for mark in _CHANNELS)
