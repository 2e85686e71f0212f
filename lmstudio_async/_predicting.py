"""Answering: the operation that ends in a text."""

from __future__ import annotations

import logging
from typing import Any

import attrs

from lmstudio_async._config import (
    LlmLoadModelConfig,
    LlmPredictionConfig,
    load_config_from_fields,
    prediction_config_from_fields,
)
from lmstudio_async._operations import AsyncOperation, OperationFeed
from lmstudio_async._protocol._endpoints import ChannelEndpoint
from lmstudio_async._protocol._errors import error_from_wire
from lmstudio_async._session import Session
from lmstudio_async._wire._infos import LlmInstanceInfo
from lmstudio_async._wire._predict import (
    FragmentPacket,
    LlmPredictionFragment,
    LlmPredictionStats,
    PredictSuccess,
    PromptProcessingProgressPacket,
    ToolCallGenerationFailed,
)
from lmstudio_async._wire._struct import WireObject, write
from lmstudio_async.errors import LMStudioCancelledError, LMStudioPredictionError

__all__ = ["AsyncPredictionStream", "PredictionResult"]

logger = logging.getLogger("lmstudio_async")


@attrs.frozen(kw_only=True)
class PredictionResult:
    """An answer, and how it came about. ``str()`` of it is its text.

    :param content: all of the text.
    :param stats: how it came about, such as why it stopped and how fast it was.
    :param model_info: the instance that gave it.
    :param load_config: how that instance was loaded.
    :param prediction_config: the settings that the server used.

    ::

        result = await llm.respond("What is the meaning of life?")
        print(result.content, result.stats.stop_reason)
    """

    content: str
    stats: LlmPredictionStats
    model_info: LlmInstanceInfo
    load_config: LlmLoadModelConfig = attrs.field(repr=False)
    prediction_config: LlmPredictionConfig = attrs.field(repr=False)

    def __str__(self) -> str:
        return self.content


class PredictionFeed(OperationFeed[LlmPredictionFragment]):
    """What has become of an answer: its fragments queue, and its text grows."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.texts: list[str] = []
        self.prompt_progress = 0.0
        self.success: PredictSuccess | None = None

    def take(self, packet: Any) -> None:
        match packet:
            case FragmentPacket():
                self.texts.append(packet.fragment.content)
                self.items.append(packet.fragment)
            case PromptProcessingProgressPacket():
                self.prompt_progress = max(self.prompt_progress, packet.progress)
            case PredictSuccess():
                self.success = packet
                self.succeed()
            case ToolCallGenerationFailed():
                self.fail(error_from_wire(packet.error, "Tool call", LMStudioPredictionError))
            case _:
                logger.debug("%s: ignored a packet of another type", self.label)


class AsyncPredictionStream(AsyncOperation[LlmPredictionFragment, PredictionResult]):
    """An answer in the making: iterate over its fragments, await its result.

    `cancel` stops it gracefully: what was said until then is the result. Leaving the block, a timeout, cancellation
    of the task, closing the client and dropping it stop it for good.

    ::

        async for fragment in llm.respond_stream("Tell me a story"):
            print(fragment.content, end="")
    """

    def __init__(self, session: Session, endpoint: ChannelEndpoint[Any, Any], creation: WireObject) -> None:
        self._prediction = PredictionFeed(endpoint.label)
        super().__init__(session, endpoint, creation, self._prediction)
        self._made: PredictionResult | None = None

    @property
    def content(self) -> str:
        """The text so far."""
        return "".join(self._prediction.texts)

    @property
    def prompt_progress(self) -> float:
        """How much of the prompt has been processed, from 0.0 to 1.0."""
        return self._prediction.prompt_progress

    @property
    def stats(self) -> LlmPredictionStats | None:
        """How the answer came about; None until it is complete."""
        success = self._prediction.success
        return None if success is None else success.stats

    @property
    def model_info(self) -> LlmInstanceInfo | None:
        """The instance that answers; None until the answer is complete."""
        success = self._prediction.success
        return None if success is None else success.model_info

    async def aclose(self) -> None:
        """Let go of the answer; if it is not complete, stop it. Idempotent."""
        if not self._feed.done:
            await self.cancel()
            self._feed.fail(
                LMStudioCancelledError(
                    f"{self._feed.label}: left before its end. To keep what was said until then, use cancel()."
                )
            )

    def _result(self) -> PredictionResult:
        if self._made is None:
            success = self._prediction.success
            assert success is not None  # noqa: S101 - a feed that succeeded has one
            self._made = PredictionResult(
                content=self.content,
                stats=success.stats,
                model_info=success.model_info or LlmInstanceInfo(),
                load_config=load_config_from_fields(write(success.load_model_config), "llm"),
                prediction_config=prediction_config_from_fields(write(success.prediction_config)),
            )
        return self._made

    def _last_news(self) -> str:
        return f", after {len(self.content)} characters"
