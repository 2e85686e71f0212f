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
        return tokens[-room:]
    return tokens[: room // 2] + tokens[-(room - room // 2) :]


async def shorten_messages(
    instance: Instance,
    messages: list[Message],
    sampling: Sampling,
    formatted: Callable[[list[Message]], Awaitable[str]],
) -> tuple[list[Message], str]:
    """A chat that fits, by leaving out messages, and the prompt that it makes.

    What is said to the system and the last message always stay, and for ``truncateMiddle`` the first message too. If
    that is still too long, the engine refuses it.
    """
    while True:
        prompt = await formatted(messages)
        if sampling.overflow == "stopAtLimit":
            return messages, prompt
        if len(await instance.engine.tokenize(prompt, add_special=True)) <= _room(instance, sampling):
            return messages, prompt
        first = next(
            (index for index, each in enumerate(messages) if each["role"] != "system"), len(messages)
        )
        if sampling.overflow == "truncateMiddle":
            first += 1
        last = first + 1
        # The results of a call are nothing without it.
        while last < len(messages) and messages[last]["role"] == "tool":
            last += 1
        if last >= len(messages):
            return messages, prompt
        messages = messages[:first] + messages[last:]
