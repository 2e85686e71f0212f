"""The parts that are left out of a prompt longer than the context, as the client's overflow policy says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from lmstudio_async.embedded._engine import Engine
from lmstudio_async.embedded._instance import Instance
from lmstudio_async.embedded._sampling import Sampling

__all__ = ["Formatted", "cut_prompt", "fit_messages", "shorten_messages", "shorten_prompt", "unshortenable"]

Message = dict[str, Any]
#: Makes the prompt of a chat.
Formatted: TypeAlias = Callable[[list[Message]], Awaitable[str]]


def _room(instance: Instance, sampling: Sampling) -> int:
    """How many tokens the prompt may have, so that the answer has some too."""
    wanted = sampling.limit if sampling.limit is not None else 256
    return max(instance.context_length - min(wanted, instance.context_length // 4) - 1, 1)


async def shorten_prompt(instance: Instance, prompt: str, sampling: Sampling) -> str | list[int]:
    """A text that fits: the prompt, or its tokens without those in the middle or at the beginning."""
    if sampling.overflow == "stopAtLimit":
        return prompt
    tokens = await instance.engine.tokenize(prompt, add_special=True)
    room = _room(instance, sampling)
    if len(tokens) <= room:
        return prompt
    return await cut_prompt(instance.engine, tokens, room, sampling.overflow)


async def cut_prompt(
    engine: Engine, tokens: list[int], room: int, policy: str, *, behind: int = 0
) -> list[int]:
    """The tokens of a text without those in the middle or at the beginning.

    :param room: the tokens that text and answer may have.
    :param behind: the tokens of its answer, which are younger than all of it.
    """
    if policy == "rollingWindow":
        # Models that know a token which begins each text are lost without it.
        marks = await engine.tokenize("", add_special=True)
        begin = tokens[:1] if marks[:1] == tokens[:1] else []
    else:
        begin = tokens[: room // 2]
    rest = tokens[len(begin) :]
    left = max(room - len(begin) - behind, 0)
    return begin + rest[max(len(rest) - left, 0) :]


async def shorten_messages(
    instance: Instance, messages: list[Message], sampling: Sampling, formatted: Formatted
) -> tuple[list[Message], str]:
    """A chat that fits, by leaving out messages, and the prompt that it makes.

    What is said to the system and the last message always stay, and for ``truncateMiddle`` the first message too. If
    that is still too long, the longest messages lose their middles, or for ``rollingWindow`` their beginnings. What is
    said to the system stays whole: if it is too long, the engine refuses it.
    """
    if sampling.overflow == "stopAtLimit":
        return messages, await formatted(messages)
    return await fit_messages(
        instance.engine, messages, sampling.overflow, formatted, _room(instance, sampling)
    )


async def fit_messages(
    engine: Engine,
    messages: list[Message],
    policy: str,
    formatted: Formatted,
    room: int,
    *,
    room_when_cut: int = 0,
) -> tuple[list[Message], str]:
    """A chat of no more than so many tokens, and the prompt that it makes; see :func:`shorten_messages`.

    :param room: the tokens that the prompt may have.
    :param room_when_cut: the tokens that it may have, if those are more, before a message is cut.
    """
    prompt = await formatted(messages)
    if await _length(engine, prompt) <= room:
        return messages, prompt
    shorter = _with_fewer_messages(messages, policy)
    longest = max((len(each["content"]) for each in messages if each["role"] != "system"), default=0)

    def version(number: int) -> list[Message]:
        if number < len(shorter):
            return shorter[number]
        return _with_shorter_messages(shorter[-1], longest - (number - len(shorter)) - 1, policy)

    # Each version is shorter than the one before: the first that fits is looked for as in a telephone book.
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


async def unshortenable(engine: Engine, messages: list[Message], policy: str, formatted: Formatted) -> int:
    """The tokens of a chat that no policy leaves out: what is said to the system, and the template's own."""
    fewest = _with_fewer_messages(messages, policy)[-1]
    return await _length(engine, await formatted(_with_shorter_messages(fewest, 0, policy)))


async def _length(engine: Engine, prompt: str) -> int:
    return len(await engine.tokenize(prompt, add_special=True))


def _with_fewer_messages(messages: list[Message], policy: str) -> list[list[Message]]:
    """The chat, and without its oldest message or messages, and without more of them, as far as it goes."""
    first = next((index for index, each in enumerate(messages) if each["role"] != "system"), len(messages))
    if policy == "truncateMiddle":
        first += 1
    # Templates want user and assistant to take turns, and the results of a call after it: what is left out ends where
    # the next message is one of the same kind as the first that is left out.
    ends = [
        end for end in range(first + 1, len(messages)) if messages[end]["role"] == messages[first]["role"]
    ]
    return [messages, *(messages[:first] + messages[end:] for end in ends)]


def _with_shorter_messages(messages: list[Message], length: int, policy: str) -> list[Message]:
    """The chat with no more than so many characters in each message, but for those to the system."""

    def shorter(text: str) -> str:
        beginning = length // 2 if policy == "truncateMiddle" else 0
        return text[:beginning] + text[len(text) - (length - beginning) :]

    return [
        {**each, "content": shorter(each["content"])}
        if each["role"] != "system" and len(each["content"]) > length
        else each
        for each in messages
    ]
