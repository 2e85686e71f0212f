"""The part of prompt and answer that the model still sees when both together reach the end of the context."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from lmstudio_async.embedded._instances._instance import Instance
from lmstudio_async.embedded._prediction._mark_scanners import ReasoningParser
from lmstudio_async.embedded._prediction._overflow import Formatted, cut_prompt, fit_messages, fixed_length
from lmstudio_async.embedded._prediction._sampling import Sampling
from lmstudio_async.embedded._templates._template_message import TemplateMessage

__all__ = ["ChatWindow", "TextWindow", "Window"]

# With fewer free tokens, the model would process the same text again after every few generated tokens.
_LEAST_FREE_TOKENS: Final = 32


class Window(ABC):
    """The text from which an answer continues, under ``rollingWindow`` and ``truncateMiddle``.

    Each time up to half of the context is freed. The prompt is shortened first, according to its policy, and then the
    beginning of the answer, because the answer is the newest text.

    :param instance: the instance that generates the answer.
    :param sampling: the settings of the request, with the overflow policy.
    :param thinking: whether the prompt ends with the tag that begins reasoning.
    """

    def __init__(self, instance: Instance, sampling: Sampling, *, thinking: bool = False) -> None:
        self._instance = instance
        self._policy = sampling.overflow
        # This parser reads the part of the answer that the model does not see any more.
        self._left_out = ReasoningParser(sampling.reasoning, thinking=thinking)

    async def roll(self, answer: list[int]) -> tuple[list[int], list[int]] | None:
        """Leave out the oldest tokens; return None if that would free too few tokens.

        :param answer: the tokens of the answer that the model sees.
        :return: the tokens of the prompt, and the tokens of the answer that follow them.
        """
        shortened = await self.shorten(len(answer))
        if shortened is None:
            return None
        prompt, room = shortened
        first = max(len(answer) - room, 0)
        engine = self._instance.engine
        self._left_out.feed(await engine.detokenize(answer[:first]))
        # If a reasoning tag is left out, add it again: else the model does not know that it reasons, or has reasoned.
        if lead_in := self._left_out.lead_in:
            prompt = prompt + await engine.tokenize(lead_in, add_special=False)
        return prompt, answer[first:]

    @abstractmethod
    async def shorten(self, answer_length: int) -> tuple[list[int], int] | None:
        """Return the tokens of a shorter prompt, and the number of tokens that the answer may keep.

        :param answer_length: the number of tokens of the answer that the model sees.
        """


class TextWindow(Window):
    """The window of a raw text.

    :param prompt: the text or its tokens. It fits into the context.
    """

    def __init__(self, instance: Instance, sampling: Sampling, prompt: str | list[int]) -> None:
        super().__init__(instance, sampling)
        self._prompt = prompt

    async def shorten(self, answer_length: int) -> tuple[list[int], int] | None:
        engine, room = self._instance.engine, self._instance.context_length // 2
        if room < _LEAST_FREE_TOKENS:
            return None
        if isinstance(self._prompt, str):
            self._prompt = await engine.tokenize(self._prompt, add_special=True)
        self._prompt = await cut_prompt(engine, self._prompt, room, self._policy, behind=answer_length)
        return self._prompt, room - len(self._prompt)


class ChatWindow(Window):
    """The window of a chat.

    :param messages: the chat. It fits into the context.
    :param formatted: the function that makes the prompt of a chat.
    :ivar messages: the messages that are left.
    """

    def __init__(
        self,
        instance: Instance,
        sampling: Sampling,
        messages: list[TemplateMessage],
        formatted: Formatted,
        *,
        thinking: bool,
    ) -> None:
        super().__init__(instance, sampling, thinking=thinking)
        self.messages = messages
        self._formatted = formatted

    async def shorten(self, answer_length: int) -> tuple[list[int], int] | None:
        engine = self._instance.engine
        fixed = await fixed_length(engine, self.messages, self._policy, self._formatted)
        free = self._instance.context_length - fixed
        if free // 2 < _LEAST_FREE_TOKENS:
            return None
        room = fixed + free // 2
        self.messages, prompt = await fit_messages(
            engine,
            self.messages,
            self._policy,
            self._formatted,
            room - answer_length,
            room_when_cut=fixed + free // 4,
        )
        tokens = await engine.tokenize(prompt, add_special=True)
        return (tokens, room - len(tokens)) if len(tokens) < room else None
