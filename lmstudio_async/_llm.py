"""Language models."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

from lmstudio_async._arguments import check_text
from lmstudio_async._chat import ChatInput, chat_to_wire
from lmstudio_async._config import (
    LlmLoadModelConfig,
    LlmLoadModelConfigDict,
    LlmPredictionConfig,
    LlmPredictionConfigDict,
    load_config_from_fields,
    prediction_config_fields,
)
from lmstudio_async._handles import AsyncModelHandle
from lmstudio_async._models import AsyncDownloadedModel, AsyncModelNamespace
from lmstudio_async._predicting import AsyncPredictionStream, PredictionResult
from lmstudio_async._protocol._endpoints.llm import COMPLETE_RAW_TEXT, PREDICT
from lmstudio_async._wire._infos import LlmInfo, LlmInstanceInfo, ModelInfo, ModelInstanceInfo
from lmstudio_async._wire._kv import stack
from lmstudio_async._wire._predict import CompleteRawTextCreation, PredictCreation

__all__ = ["AsyncDownloadedLlm", "AsyncLLM", "AsyncLlmNamespace"]


class AsyncLLM(AsyncModelHandle[LlmInstanceInfo]):
    """A loaded instance of a language model."""

    async def get_load_config(self) -> LlmLoadModelConfig:
        """Ask with which settings the instance was loaded: those that the server really applied.

        :return: the settings.
        :raises LMStudioInstanceUnloadedError: if the instance is gone.
        """
        return load_config_from_fields(await self._load_config_fields(), "llm")

    async def respond(
        self, history: ChatInput, *, config: LlmPredictionConfig | LlmPredictionConfigDict | None = None
    ) -> PredictionResult:
        """Answer the last message of a chat.

        :param history: a text, a list of messages such as ``{"role": "user", "content": "Hello"}``, or a dict with
            a list of ``messages``.
        :param config: prediction config, a config object or a dict.
        :return: the answer.
        :raises LMStudioInstanceUnloadedError: if the instance is gone.
        :raises LMStudioPredictionError: if the answer failed half-way.

        ::

            print(await llm.respond("What is the meaning of life?", config={"max_tokens": 50}))
        """
        async with self.respond_stream(history, config=config) as stream:
            return await stream.wait_for_result()

    def respond_stream(
        self, history: ChatInput, *, config: LlmPredictionConfig | LlmPredictionConfigDict | None = None
    ) -> AsyncPredictionStream:
        """The same as `respond`, to be watched.

        :param history: a text, a list of messages such as ``{"role": "user", "content": "Hello"}``, or a dict with
            a list of ``messages``.
        :param config: prediction config, a config object or a dict.
        :return: the answer in the making; nothing is sent before it is entered, iterated over or awaited.

        ::

            async for fragment in llm.respond_stream("What is the meaning of life?"):
                print(fragment.content, end="")
        """
        creation = PredictCreation(
            model_specifier=self._specifier,
            history=chat_to_wire(history),
            prediction_config_stack=stack(prediction_config_fields(config)),
        )
        return AsyncPredictionStream(self._session, PREDICT, creation)

    async def complete(
        self, prompt: str, *, config: LlmPredictionConfig | LlmPredictionConfigDict | None = None
    ) -> PredictionResult:
        """Go on with a text, without chat template.

        :param prompt: the text to go on with.
        :param config: prediction config, a config object or a dict.
        :return: what comes next.
        :raises LMStudioInstanceUnloadedError: if the instance is gone.
        :raises LMStudioPredictionError: if the answer failed half-way.

        ::

            print(await llm.complete("Once upon a time", config={"max_tokens": 50}))
        """
        async with self.complete_stream(prompt, config=config) as stream:
            return await stream.wait_for_result()

    def complete_stream(
        self, prompt: str, *, config: LlmPredictionConfig | LlmPredictionConfigDict | None = None
    ) -> AsyncPredictionStream:
        """The same as `complete`, to be watched.

        :param prompt: the text to go on with.
        :param config: prediction config, a config object or a dict.
        :return: the text in the making; nothing is sent before it is entered, iterated over or awaited.

        ::

            async for fragment in llm.complete_stream("Once upon a time"):
                print(fragment.content, end="")
        """
        creation = CompleteRawTextCreation(
            model_specifier=self._specifier,
            raw_prompt=check_text(prompt, "prompt"),
            prediction_config_stack=stack(prediction_config_fields(config)),
        )
        return AsyncPredictionStream(self._session, COMPLETE_RAW_TEXT, creation)


class AsyncDownloadedLlm(
    AsyncDownloadedModel[AsyncLLM, LlmInfo, LlmLoadModelConfig | LlmLoadModelConfigDict]
):
    """A language model that is there to be loaded."""


class AsyncLlmNamespace(
    AsyncModelNamespace[
        AsyncLLM, LlmInstanceInfo, AsyncDownloadedLlm, LlmLoadModelConfig | LlmLoadModelConfigDict
    ]
):
    """The language models of a server: `AsyncClient.llm`."""

    _domain: ClassVar[Literal["llm", "embedding"]] = "llm"

    def _make_handle(self, info: ModelInstanceInfo) -> AsyncLLM:
        return AsyncLLM(self._session, cast("LlmInstanceInfo", info))

    def _make_downloaded(self, info: ModelInfo) -> AsyncDownloadedLlm:
        return AsyncDownloadedLlm(self, cast("LlmInfo", info))
