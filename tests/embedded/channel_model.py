"""A tiny model that reasons in a channel of its own, as gpt-oss does."""

from __future__ import annotations

from collections.abc import Sequence

from lmstudio_async.testing import ModelsFolder
from lmstudio_async.testing._chat_templates import HARMONY

__all__ = ["add_with_channels"]

_ORDINARY, _STEERING, _OWN = 1, 3, 4


def add_with_channels(
    folder: ModelsFolder, model: str, *, thoughts: Sequence[str], answer: Sequence[str]
) -> None:
    """Add a model that generates these pieces.

    The engine continues from the text of such an answer, so each piece has to be the only token of its text and must
    not contain blanks.
    """
    turn = "<|end|><|start|>assistant<|channel|>final<|message|>"
    script = ["<|channel|>analysis<|message|>", *thoughts, turn, *answer]
    types = [_ORDINARY] * 256 + [_STEERING] * 3 + [_OWN] * len(script) + [_STEERING]
    folder.add_llm(
        model,
        script=[*script, "<|return|>"],
        chat_template=HARMONY,
        metadata={"tokenizer.ggml.token_type": types},
    )
