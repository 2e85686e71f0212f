"""An answer, once it is whole."""

from __future__ import annotations

import json
from typing import Generic

import attrs

from lmstudio_async._config import LlmLoadModelConfig, LlmPredictionConfig
from lmstudio_async._schema import jsonable
from lmstudio_async._structured import ParsedT
from lmstudio_async._wire._infos import LlmInstanceInfo
from lmstudio_async._wire._predict import LlmPredictionStats, TokenInfo, ToolCallRequest

__all__ = ["PredictionResult"]


@attrs.frozen(kw_only=True)
class PredictionResult(Generic[ParsedT]):
    """An answer, and how it came about.

    ``str()`` of it is the answer: without the model's reasoning, and as indented JSON if it is `structured`.

    :param content: all of the text that the model wrote: its reasoning, the tags around that, and the answer. LM
        Studio's internal marker for the end of reasoning, which no model wrote, is left out.
    :param non_reasoning_content: the answer alone, without the model's reasoning.
    :param reasoning_content: the model's reasoning alone; empty if there was none, or the model's way to mark it is
        unknown.
    :param parsed: what ``response_format`` asked for: an instance of its class, or plain JSON. The same as ``content``
        if it did not ask for anything, and if the answer was cancelled: see `structured`.
    :param tool_call_requests: the tools that the model wants to be called, if ``raw_tools`` offered some.
    :param tokens: the answer's tokens with their probabilities, if ``log_probs`` asked for them.
    :param stats: how it came about, such as why it stopped and how fast it was.
    :param model_info: the instance that gave it.
    :param load_config: how that instance was loaded.
    :param prediction_config: the settings that the server used.

    ::

        result = await llm.respond("What is the meaning of life?")
        print(result, result.stats.stop_reason)
    """

    content: str
    stats: LlmPredictionStats
    model_info: LlmInstanceInfo
    load_config: LlmLoadModelConfig = attrs.field(repr=False)
    prediction_config: LlmPredictionConfig = attrs.field(repr=False)
    non_reasoning_content: str = attrs.field(
        default=attrs.Factory(lambda self: self.content, takes_self=True), repr=False
    )
    reasoning_content: str = attrs.field(default="", repr=False)
    parsed: ParsedT = attrs.field(
        default=attrs.Factory(lambda self: self.content, takes_self=True), hash=False
    )
    tool_call_requests: tuple[ToolCallRequest, ...] = ()
    tokens: tuple[TokenInfo, ...] = attrs.field(default=(), repr=False)

    @property
    def structured(self) -> bool:
        """Whether `parsed` is more than the text."""
        return self.parsed is not self.content

    def __str__(self) -> str:
        if not self.structured:
            return self.non_reasoning_content
        try:
            return json.dumps(jsonable(self.parsed), indent=2, ensure_ascii=False)
        except TypeError:
            return self.non_reasoning_content
