"""What to leave out of a prompt that is longer than the context, as the client's overflow policy says.

An answer that reaches the end of the context ends there, whatever the policy: nothing is taken out of the middle of
a prompt that the model has already read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from lmstudio_async.embedded._instance import Instance
from lmstudio_async.embedded._sampling import Sampling

__all__ = ["shorten_messages", "shorten_prompt"]

Message = dict[str, Any]


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
    if sampling.overflow == "rollingWindow":
        # Models that know a token which begins each text are lost without it.
        marks = await instance.engine.tokenize("", add_special=True)
        begin = tokens[:1] if marks[:1] == tokens[:1] else []
        return begin + tokens[len(tokens) - (room - len(begin)) :]
    return tokens[: room // 2] + tokens[-(room - room // 2) :]


async def shorten_messages(
    instance: Instance,
    messages: list[Message],
    sampling: Sampling,
    formatted: Callable[[list[Message]], Awaitable[str]],
) -> tuple[list[Message], str]:
    """A chat that fits, by leaving out messages, and the prompt that it makes.

    What is said to the system and the last message always stay, and for ``truncateMiddle`` the first message too. If
    that is still too long, the longest messages lose their middles, or for ``rollingWindow`` their beginnings. What is
    said to the system stays whole: if it is too long, the engine refuses it.
    """
    prompt = await formatted(messages)
    if sampling.overflow == "stopAtLimit" or await _fits(instance, sampling, prompt):
        return messages, prompt
    shorter = _with_fewer_messages(messages, sampling.overflow)
    longest = max((len(each["content"]) for each in messages if each["role"] != "system"), default=0)

    def version(number: int) -> list[Message]:
        if number < len(shorter):
            return shorter[number]
        return _with_shorter_messages(shorter[-1], longest - (number - len(shorter)) - 1, sampling.overflow)

    # Each version is shorter than the one before: the first that fits is looked for as in a telephone book.
    first, last = 1, len(shorter) + longest - 1
    while first < last:
        middle = (first + last) // 2
        if await _fits(instance, sampling, await formatted(version(middle))):
            last = middle
        else:
            first = middle + 1
    messages = version(first)
    return messages, await formatted(messages)


async def _fits(instance: Instance, sampling: Sampling, prompt: str) -> bool:
    return len(await instance.engine.tokenize(prompt, add_special=True)) <= _room(instance, sampling)


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
