"""Tags of reasoning: detection in a chat template, and the separation of reasoning from earlier answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import attrs

from lmstudio_async.embedded._templates._template_message import TemplateMessage

__all__ = ["SAMPLE", "USUAL_TAGS", "ThoughtForm", "read_thought_form", "thought_tags", "with_thoughts_apart"]

USUAL_TAGS: Final = ("<think>", "</think>")
_OTHER_TAGS: Final = (
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
)
_THOUGHT, _ANSWER = "Thought-7", "Answer-7"
#: A sample chat. The form is read from two prompts: one of the question alone, and one of the question and the answer.
SAMPLE: Final[tuple[TemplateMessage, TemplateMessage]] = (
    {"role": "user", "content": "Go"},
    {"role": "assistant", "content": _ANSWER, "reasoning_content": _THOUGHT},
)
# For example <think>, [THINK], <|START_THINKING|> and ◁think▷.
_TAG: Final = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]|◁[^◁▷\s]+▷")
_TAG_AT_END: Final = re.compile(rf"(?:{_TAG.pattern})$")


@attrs.frozen
class ThoughtForm:
    """The text around the reasoning of a model, and around its answers.

    :ivar tags: the tags before and after reasoning, if there is only one tag at each side; None if the prompt of the
        sample chat has no such tags.
    :ivar needs_parser: whether there is more text, such as channels or a mark before the answer, which only the
        engine's parser for the template can read.
    """

    tags: tuple[str, str] | None = None
    needs_parser: bool = False


def read_thought_form(prompt: str, answered: str) -> ThoughtForm:
    """Read the form of reasoning from the prompts that a chat template makes of the sample chat.

    :param prompt: the prompt of the question.
    :param answered: the prompt of the question and of the answer with its reasoning.
    """
    continues = answered.startswith(prompt)
    head, _, answer_head = (answered.removeprefix(prompt) if continues else answered).partition(_THOUGHT)
    if not answer_head:
        # The template omits reasoning. Any text between the prompt and the answer is a mark.
        marks = head.partition(_ANSWER)[0].strip() if continues else ""
        return ThoughtForm(needs_parser=bool(marks))
    end = answer_head.partition(_ANSWER)[0].strip()
    head = head.strip()
    start = _TAG_AT_END.search(answered.partition(_THOUGHT)[0].rstrip())
    if start is None or not _TAG.fullmatch(end) or (continues and head not in ("", start[0])):
        return ThoughtForm(needs_parser=True)
    return ThoughtForm((start[0], end))


def thought_tags(template: str) -> tuple[str, str]:
    """Return the reasoning tags in the text of a chat template, by default ``<think>`` and ``</think>``.

    They apply unless the prompt of the sample chat shows other tags.

    :param template: the chat template in Jinja.
    """
    return next((tags for tags in _OTHER_TAGS if tags[0] in template), USUAL_TAGS)


def with_thoughts_apart(
    messages: Sequence[TemplateMessage], tags: tuple[str, str] | None
) -> list[TemplateMessage]:
    """Separate reasoning from the earlier answers in a chat, so that the chat template can place it.

    :param messages: the chat, in the form of OpenAI's chat completions. If the last message is an answer, the model
        continues it, so that it stays as it is.
    :param tags: the tags with which reasoning was separated from the answers when they were generated; None if it was
        not, so that the chat stays as it is.
    """
    return [*(_apart(message, tags) for message in messages[:-1]), *messages[-1:]] if tags else [*messages]


def _apart(message: TemplateMessage, tags: tuple[str, str]) -> TemplateMessage:
    start, end = tags
    text = message["content"]
    if message["role"] != "assistant" or not isinstance(text, str) or not text.lstrip().startswith(start):
        return message
    thought, _, answer = text.lstrip().removeprefix(start).partition(end)
    return {**message, "content": answer.strip(), "reasoning_content": thought.strip()}
