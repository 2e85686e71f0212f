"""The part of a prompt and its answer that the model still sees where both together reach the end of the context."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final

from lmstudio_async.embedded._instance import Instance
from lmstudio_async.embedded._overflow import Formatted, cut_prompt, fit_messages, unshortenable
from lmstudio_async.embedded._sampling import Sampling
from lmstudio_async.embedded._text import ReasoningParser

__all__ = ["ChatWindow", "TextWindow", "Window"]

# With less room the model would read the same text again for every few tokens that it says.
_LEAST_ROOM: Final = 32


class Window(ABC):
    """The text that an answer goes on from, under ``rollingWindow`` and ``truncateMiddle``.

    Each time half of the context is freed, so far as it can be. The prompt loses what its policy leaves out first,
    and then the answer its beginning, because it is the youngest.

    :param thinking: the prompt ends with the tag that begins thoughts.
    """

    def __init__(self, instance: Instance, sampling: Sampling, *, thinking: bool = False) -> None:
        self._instance = instance
        self._policy = sampling.overflow
        # Reads the part of the answer that the model does not see any more.
        self._left_out = ReasoningParser(sampling.reasoning, thinking=thinking)

    async def roll(self, said: list[int]) -> tuple[list[int], list[int]] | None:
        """Leave out the oldest; None if there is nothing to leave out.

        :param said: the tokens of the answer, as far as the model sees them.
        :return: the tokens of the prompt, and those of the answer that may stand behind them.
        """
        shortened = await self.shorten(len(said))
        if shortened is None:
            return None
        prompt, room = shortened
        first = max(len(said) - room, 0)
        engine = self._instance.engine
        self._left_out.feed(await engine.detokenize(said[:first]))
        # Where the tag of a thought is left out, the model would not know that it thinks, or that it has thought.
        if lead_in := self._left_out.lead_in:
            prompt = prompt + await engine.tokenize(lead_in, add_special=False)
        return prompt, said[first:]

    @abstractmethod
    async def shorten(self, said: int) -> tuple[list[int], int] | None:
        """The tokens of a shorter prompt, and how many an answer of so many tokens may keep behind it."""


class TextWindow(Window):
    """The window of a text that is completed.

    :param prompt: the text, or its tokens, which fit.
    """

    def __init__(self, instance: Instance, sampling: Sampling, prompt: str | list[int]) -> None:
        super().__init__(instance, sampling)
        self._prompt = prompt

    async def shorten(self, said: int) -> tuple[list[int], int] | None:
        engine, room = self._instance.engine, self._instance.context_length // 2
        if room < _LEAST_ROOM:
            return None
        if isinstance(self._prompt, str):
            self._prompt = await engine.tokenize(self._prompt, add_special=True)
        self._prompt = await cut_prompt(engine, self._prompt, room, self._policy, behind=said)
        return self._prompt, room - len(self._prompt)


class ChatWindow(Window):
    """The window of a chat.

    :param messages: the chat, which fits.
    :param formatted: makes a prompt of it.
    :ivar messages: those of them that are left.
    """

    def __init__(
        self,
        instance: Instance,
        sampling: Sampling,
        messages: list[dict[str, Any]],
        formatted: Formatted,
        *,
        thinking: bool,
    ) -> None:
        super().__init__(instance, sampling, thinking=thinking)
        self.messages = messages
        self._formatted = formatted

    async def shorten(self, said: int) -> tuple[list[int], int] | None:
        engine = self._instance.engine
        fixed = await unshortenable(engine, self.messages, self._policy, self._formatted)
        free = self._instance.context_length - fixed
        if free // 2 < _LEAST_ROOM:
            return None
        room = fixed + free // 2
        self.messages, prompt = await fit_messages(
            engine,
            self.messages,
            self._policy,
            self._formatted,
            room - said,
            room_when_cut=fixed + free // 4,
        )
        tokens = await engine.tokenize(prompt, add_special=True)
        return (tokens, room - len(tokens)) if len(tokens) < room else None
