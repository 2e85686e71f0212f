"""Shortening of prompts that are longer than the context, according to the client's overflow policy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from lmstudio_async.embedded._engine._engine import Engine
from lmstudio_async.embedded._instances._instance import Instance
from lmstudio_async.embedded._prediction._sampling import Sampling
from lmstudio_async.embedded._templates._template_message import TemplateMessage

__all__ = ["Formatted", "cut_prompt", "fit_messages", "fixed_length", "shorten_messages", "shorten_prompt"]

#: A function that makes the prompt of a chat.
Formatted: TypeAlias = Callable[[list[TemplateMessage]], Awaitable[str]]


def _prompt_limit(instance: Instance, sampling: Sampling) -> int:
    """Return the maximum number of tokens of the prompt, which leaves some of the context for the answer."""
    wanted = sampling.limit if sampling.limit is not None else 256
    return max(instance.context_length - min(wanted, instance.context_length // 4) - 1, 1)


async def shorten_prompt(instance: Instance, prompt: str, sampling: Sampling) -> str | list[int]:
    """Return the prompt if it fits, or else its tokens without some in the middle or at the beginning."""
    if sampling.overflow == "stopAtLimit":
        return prompt
    tokens = await instance.engine.tokenize(prompt, add_special=True)
    room = _prompt_limit(instance, sampling)
    if len(tokens) <= room:
        return prompt
    return await cut_prompt(instance.engine, tokens, room, sampling.overflow)


async def cut_prompt(
    engine: Engine, tokens: list[int], room: int, policy: str, *, behind: int = 0
) -> list[int]:
    """Return the tokens of a text without some in the middle or at the beginning.

    :param room: the maximum number of tokens of text and answer together.
    :param behind: the number of tokens of the answer so far, which follows the text and is not cut here.
    """
    if policy == "rollingWindow":
        # Keep the BOS token, because the answers of models that were trained with one degrade without it.
        marks = await engine.tokenize("", add_special=True)
        begin = tokens[:1] if marks[:1] == tokens[:1] else []
    else:
        begin = tokens[: room // 2]
    rest = tokens[len(begin) :]
    left = max(room - len(begin) - behind, 0)
    return begin + rest[max(len(rest) - left, 0) :]


async def shorten_messages(
    instance: Instance, messages: list[TemplateMessage], sampling: Sampling, formatted: Formatted
) -> tuple[list[TemplateMessage], str]:
    """Leave out messages until a chat fits, and return the chat and its prompt.

    System messages and the last message are always kept, and for ``truncateMiddle`` the first message too. If these
    are still too long, the middle of the longest messages is cut out, or for ``rollingWindow`` their beginning. System
    messages are never cut: if they are too long, the engine rejects the request.
    """
    if sampling.overflow == "stopAtLimit":
        return messages, await formatted(messages)
    return await fit_messages(
        instance.engine, messages, sampling.overflow, formatted, _prompt_limit(instance, sampling)
    )


async def fit_messages(
    engine: Engine,
    messages: list[TemplateMessage],
    policy: str,
    formatted: Formatted,
    room: int,
    *,
    room_when_cut: int = 0,
) -> tuple[list[TemplateMessage], str]:
    """Shorten a chat to a number of tokens, and return it and its prompt; see :func:`shorten_messages`.

    :param room: the maximum number of tokens of the prompt.
    :param room_when_cut: the maximum if it is greater than ``room`` and no more messages can be left out whole.
    """
    prompt = await formatted(messages)
    if await _length(engine, prompt) <= room:
        return messages, prompt
    shorter = _with_fewer_messages(messages, policy)
    longest = max((len(each["content"]) for each in messages if each["role"] != "system"), default=0)

    def version(number: int) -> list[TemplateMessage]:
        if number < len(shorter):
            return shorter[number]
        return _with_shorter_messages(shorter[-1], longest - (number - len(shorter)) - 1, policy)

    # Find the first version that fits by binary search: each version is shorter than the one before.
    first, last = 0, len(shorter) + longest - 1
    while first < last:
        middle = (first + last) // 2
        most = room if middle < len(shorter) - 1 else max(room, room_when_cut)
        if await _length(engine, await formatted(version(middle))) <= most:
            last = middle
        else:
            first = middle + 1
    messages = version(first)
    return messages, await formatted(messages)


async def fixed_length(
    engine: Engine, messages: list[TemplateMessage], policy: str, formatted: Formatted
) -> int:
    """Return the number of tokens that no policy leaves out: system messages, and the template's own tokens."""
    fewest = _with_fewer_messages(messages, policy)[-1]
    return await _length(engine, await formatted(_with_shorter_messages(fewest, 0, policy)))


async def _length(engine: Engine, prompt: str) -> int:
    return len(await engine.tokenize(prompt, add_special=True))


def _with_fewer_messages(messages: list[TemplateMessage], policy: str) -> list[list[TemplateMessage]]:
    """Return versions of the chat: the whole, then each with fewer of the oldest messages, as far as possible."""
    first = next((index for index, each in enumerate(messages) if each["role"] != "system"), len(messages))
    if policy == "truncateMiddle":
        first += 1
    # Templates require alternating user and assistant messages, and tool results after their call. So the next message
    # after the removed ones must have the same role as the first removed one.
    ends = [
        end for end in range(first + 1, len(messages)) if messages[end]["role"] == messages[first]["role"]
    ]
    return [messages, *(messages[:first] + messages[end:] for end in ends)]


def _with_shorter_messages(
    messages: list[TemplateMessage], length: int, policy: str
) -> list[TemplateMessage]:
    """Return the chat with at most ``length`` characters in each message, except in system messages."""

    def shorter(text: str) -> str:
        beginning = length // 2 if policy == "truncateMiddle" else 0
        return text[:beginning] + text[len(text) - (length - beginning) :]

    return [
        {**each, "content": shorter(each["content"])}
        if each["role"] != "system" and len(each["content"]) > length
        else each
        for each in messages
    ]
