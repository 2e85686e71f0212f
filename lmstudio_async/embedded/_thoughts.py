"""How models mark their thoughts: the tags of a chat template, and old answers split by them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import attrs

__all__ = ["SAMPLE", "USUAL_TAGS", "ThoughtForm", "read_thought_form", "thought_tags", "with_thoughts_apart"]

Message = dict[str, Any]

USUAL_TAGS: Final = ("<think>", "</think>")
_OTHER_TAGS: Final = (
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
)
_THOUGHT, _ANSWER = "Thought-7", "Answer-7"
#: A chat with an answer: its form is read from the prompts of the question alone and of both.
SAMPLE: Final[tuple[Message, Message]] = (
    {"role": "user", "content": "Go"},
    {"role": "assistant", "content": _ANSWER, "reasoning_content": _THOUGHT},
)
# For example <think>, [THINK], <|START_THINKING|> and ◁think▷.
_TAG: Final = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]|◁[^◁▷\s]+▷")
_TAG_AT_END: Final = re.compile(rf"(?:{_TAG.pattern})$")


@attrs.frozen
class ThoughtForm:
    """The text around the thoughts of a model, and around its answers.

    :ivar tags: the text before and after a thought, if one tag each is all that there is; None if the template shows
        no such tags.
    :ivar needs_parser: there is more, such as channels or a mark before the answer, which only the engine's parser for
        the template can read.
    """

    tags: tuple[str, str] | None = None
    needs_parser: bool = False


def read_thought_form(prompt: str, answered: str) -> ThoughtForm:
    """Read the form of thoughts from what a chat template makes of a sample.

    :param prompt: of a question.
    :param answered: of the same question with an answer, and a thought before it.
    """
    continues = answered.startswith(prompt)
    head, _, answer_head = (answered.removeprefix(prompt) if continues else answered).partition(_THOUGHT)
    if not answer_head:
        # The template says no thoughts. A mark before the answer shows only if the rest is as in the prompt.
        marks = head.partition(_ANSWER)[0].strip() if continues else ""
        return ThoughtForm(needs_parser=bool(marks))
    end = answer_head.partition(_ANSWER)[0].strip()
    head = head.strip()
    start = _TAG_AT_END.search(answered.partition(_THOUGHT)[0].rstrip())
    if start is None or not _TAG.fullmatch(end) or (continues and head not in ("", start[0])):
        return ThoughtForm(needs_parser=True)
    return ThoughtForm((start[0], end))


def thought_tags(template: str) -> tuple[str, str]:
    """Return the tags that a chat template names, for templates whose sample shows none.

    :param template: in Jinja.
    """
    return next((tags for tags in _OTHER_TAGS if tags[0] in template), USUAL_TAGS)


def with_thoughts_apart(messages: Sequence[Message], tags: tuple[str, str] | None) -> list[Message]:
    """Split the thoughts from the answers that are to go back to the model, so that its template can place them.

    :param messages: in the form of OpenAI's chat completions. If an answer is the last one, the model goes on with
        it, so that it stays as it is.
    :param tags: those that the thoughts were told apart with when they were generated; None if they were not.
    """
    return [*(_apart(message, tags) for message in messages[:-1]), *messages[-1:]] if tags else [*messages]


def _apart(message: Message, tags: tuple[str, str]) -> Message:
    start, end = tags
    text = message["content"]
    if message["role"] != "assistant" or not isinstance(text, str) or not text.lstrip().startswith(start):
        return message
    thought, _, answer = text.lstrip().removeprefix(start).partition(end)
    return {**message, "content": answer.strip(), "reasoning_content": thought.strip()}
