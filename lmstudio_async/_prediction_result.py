"""Result of a prediction."""

from __future__ import annotations

import json
from typing import Generic

import attrs

from lmstudio_async._config import LlmLoadModelConfig, LlmPredictionConfig
from lmstudio_async._printable import short_members
from lmstudio_async._response_format import ParsedT
from lmstudio_async._schema import jsonable
from lmstudio_async._wire._infos import LlmInstanceInfo
from lmstudio_async._wire._predict import LlmPredictionStats, TokenInfo, ToolCallRequest

__all__ = ["PredictionResult"]


@attrs.frozen(kw_only=True, repr=False)
class PredictionResult(Generic[ParsedT]):
    """Result of a prediction: the text, with its statistics and settings.

    ``str()`` returns the answer: without the model's reasoning, and as indented JSON if the result is `structured`.

    :param content: all text that the model wrote: its reasoning, the tags around the reasoning, and the answer. LM
        Studio's internal marker for the end of reasoning is left out, because the model did not write it.
    :param non_reasoning_content: the answer alone, without the model's reasoning.
    :param reasoning_content: the model's reasoning alone; empty if there was none, or if the tags that the model puts
        around it are unknown.
    :param parsed: the answer in the format that ``response_format`` requested: an instance of its class, or plain JSON.
        The same as ``content`` if no format or a `GbnfGrammar` was requested, and if the prediction was cancelled or
        requests tools: see `structured`.
    :param tool_call_requests: the tool calls that the model requests, if ``raw_tools`` offered tools.
    :param tokens: the answer's tokens with their probabilities, if ``log_probs`` requested them.
    :param stats: statistics of the prediction, for example its stop reason and its speed.
    :param model_info: the instance that ran the prediction.
    :param load_config: the settings that the instance was loaded with.
    :param prediction_config: the settings that the server used.

    ::

        result = await llm.respond("What is the meaning of life?")
        print(result, result.stats.stop_reason)
    """

    content: str
    stats: LlmPredictionStats
    model_info: LlmInstanceInfo
    load_config: LlmLoadModelConfig
    prediction_config: LlmPredictionConfig
    non_reasoning_content: str = attrs.Factory(lambda self: self.content, takes_self=True)
    reasoning_content: str = ""
    parsed: ParsedT = attrs.field(
        default=attrs.Factory(lambda self: self.content, takes_self=True), hash=False
    )
    tool_call_requests: tuple[ToolCallRequest, ...] = ()
    tokens: tuple[TokenInfo, ...] = ()

    @property
    def structured(self) -> bool:
        """Whether `parsed` is something other than the text."""
        return self.parsed is not self.content

    def __repr__(self) -> str:
        return short_members(
            type(self).__name__,
            [
                ("round_index", getattr(self, "round_index", None)),
                # The answer, in the form in which the user wants it.
                ("parsed", self.parsed if self.structured else None),
                (
                    "non_reasoning_content" if self.reasoning_content else "content",
                    None if self.structured else self.non_reasoning_content,
                ),
                ("tool_call_requests", [request.name for request in self.tool_call_requests]),
                ("stop_reason", self.stats.stop_reason),
                ("predicted_tokens_count", self.stats.predicted_tokens_count),
                ("tokens_per_second", self.stats.tokens_per_second),
                ("identifier", self.model_info.identifier),
            ],
        )

    def __str__(self) -> str:
        if not self.structured:
            return self.non_reasoning_content
        try:
            return json.dumps(jsonable(self.parsed), indent=2, ensure_ascii=False)
        except TypeError:
            return self.non_reasoning_content
