"""Language models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from lmstudio_async._arguments import check_name
from lmstudio_async._downloaded_model import AsyncDownloadedModel
from lmstudio_async._handles import AsyncModelHandle, UnreadInfo
from lmstudio_async._model_namespace import AsyncModelNamespace
from lmstudio_async._preload import preload

if TYPE_CHECKING:
    from lmstudio_async._act import (
        ActMessageCallback,
        ActResult,
        RoundCallback,
        RoundFragmentCallback,
        RoundProgressCallback,
        RoundResultCallback,
    )
    from lmstudio_async._chat import ChatInput
    from lmstudio_async._config import (
        LlmLoadModelConfig,
        LlmLoadModelConfigDict,
        LlmPredictionConfig,
        LlmPredictionConfigDict,
    )
    from lmstudio_async._prediction import (
        AsyncPredictionStream,
        PredictionFirstTokenCallback,
        PredictionFragmentCallback,
        PredictionMessageCallback,
        PromptProcessingCallback,
    )
    from lmstudio_async._prediction_result import PredictionResult
    from lmstudio_async._response_format import ParsedT, ResponseFormat
    from lmstudio_async._template_options import ApplyPromptTemplateOptionsDict
    from lmstudio_async._tool_call_reporter import ToolCallProgressCallback
    from lmstudio_async._tool_calls import GuardToolCallHandler, InvalidToolRequestHandler
    from lmstudio_async._tools import ToolDefinition
    from lmstudio_async._wire._infos import LlmInfo, LlmInstanceInfo, ModelInfo, ModelInstanceInfo

__all__ = ["AsyncDownloadedLlm", "AsyncLLM", "AsyncLlmNamespace"]


class AsyncLLM(AsyncModelHandle["LlmInstanceInfo"]):
    """A loaded instance of a language model."""

    async def get_load_config(self) -> LlmLoadModelConfig:
        """Request the load config of the instance: the settings that the server really applied.

        :return: the load config.
        :raises LMStudioInstanceUnloadedError: if the instance is gone.
        """
        fields = await self._load_config_fields()
        from lmstudio_async._config import load_config_from_fields

        return load_config_from_fields(fields, "llm")

    async def respond(
        self,
        history: ChatInput,
        *,
        response_format: ResponseFormat[ParsedT] | None = None,
        config: LlmPredictionConfig | LlmPredictionConfigDict | None = None,
        preset: str | None = None,
        on_message: PredictionMessageCallback | None = None,
        on_first_token: PredictionFirstTokenCallback | None = None,
        on_prediction_fragment: PredictionFragmentCallback | None = None,
        on_prompt_processing_progress: PromptProcessingCallback | None = None,
    ) -> PredictionResult[ParsedT]:
        """Answer the last message of a chat. Callbacks may be plain or async; an exception in one ends the answer.

        :param history: a text, a `Chat`, a list of messages such as ``{"role": "user", "content": "Hello"}``, or a dict
            with a list of ``messages``.
        :param response_format: format of the answer: a class (attrs, dataclass, pydantic), a JSON schema, or a
            `GbnfGrammar`. ``result.parsed`` is then an instance of the class, or plain JSON.
        :param config: prediction config, a config object or a dict.
        :param preset: name of the preset to take settings from.
        :param on_message: called with the whole answer as a message; ``chat.append`` adds it to a chat.
        :param on_first_token: called when the answer begins.
        :param on_prediction_fragment: called with each fragment of the answer.
        :param on_prompt_processing_progress: called with the processed part of the prompt, from 0.0 to 1.0.
        :return: the answer.
        :raises LMStudioValueError: if an argument is invalid.
        :raises LMStudioPresetNotFoundError: if there is no such preset.
        :raises LMStudioInstanceUnloadedError: if the instance is gone.
        :raises LMStudioServerError: if the prediction failed.
        :raises LMStudioPredictionError: if the server could not parse a tool call of the model.
        :raises LMStudioStructuredOutputError: if the answer does not have the requested format.

        ::

            print(await llm.respond("What is the meaning of life?", config={"max_tokens": 50}))
        """
        await preload("_llm_requests", "_prediction_result")
        async with self.respond_stream(
            history,
            response_format=response_format,
            config=config,
            preset=preset,
            on_message=on_message,
            on_first_token=on_first_token,
            on_prediction_fragment=on_prediction_fragment,
            on_prompt_processing_progress=on_prompt_processing_progress,
        ) as stream:
            return await stream.wait_for_result()

    def respond_stream(
        self,
        history: ChatInput,
        *,
        response_format: ResponseFormat[ParsedT] | None = None,
        config: LlmPredictionConfig | LlmPredictionConfigDict | None = None,
        preset: str | None = None,
        on_message: PredictionMessageCallback | None = None,
        on_first_token: PredictionFirstTokenCallback | None = None,
        on_prediction_fragment: PredictionFragmentCallback | None = None,
        on_prompt_processing_progress: PromptProcessingCallback | None = None,
    ) -> AsyncPredictionStream[ParsedT]:
        """Answer like `respond`, as a stream. Iterating it or waiting for its result calls the callbacks.

        :param history: a text, a `Chat`, a list of messages such as ``{"role": "user", "content": "Hello"}``, or a dict
            with a list of ``messages``.
        :param response_format: format of the answer: a class (attrs, dataclass, pydantic), a JSON schema, or a
            `GbnfGrammar`. ``result.parsed`` is then an instance of the class, or plain JSON.
        :param config: prediction config, a config object or a dict.
        :param preset: name of the preset to take settings from.
        :param on_message: called with the whole answer as a message; ``chat.append`` adds it to a chat.
        :param on_first_token: called when the answer begins.
        :param on_prediction_fragment: called with each fragment of the answer.
        :param on_prompt_processing_progress: called with the processed part of the prompt, from 0.0 to 1.0.
        :return: the stream; nothing is sent before it is entered, iterated over or awaited.

        ::

            async for fragment in llm.respond_stream("What is the meaning of life?"):
                print(fragment.content, end="")
        """
        from lmstudio_async._llm_requests import response_stream
        from lmstudio_async._prediction import PredictionCallbacks

        callbacks = PredictionCallbacks(
            on_message=on_message,
            on_first_token=on_first_token,
            on_prediction_fragment=on_prediction_fragment,
            on_prompt_processing_progress=on_prompt_processing_progress,
        )
        return response_stream(
            self._session, self._specifier, history, response_format, config, preset, callbacks, self._info
        )

    async def complete(
        self,
        prompt: str,
        *,
        response_format: ResponseFormat[ParsedT] | None = None,
        config: LlmPredictionConfig | LlmPredictionConfigDict | None = None,
        preset: str | None = None,
        on_message: PredictionMessageCallback | None = None,
        on_first_token: PredictionFirstTokenCallback | None = None,
        on_prediction_fragment: PredictionFragmentCallback | None = None,
        on_prompt_processing_progress: PromptProcessingCallback | None = None,
    ) -> PredictionResult[ParsedT]:
        """Continue a text, without a chat template. Callbacks are as for `respond`.

        :param prompt: the text to continue.
        :param response_format: format of the answer: a class (attrs, dataclass, pydantic), a JSON schema, or a
            `GbnfGrammar`. ``result.parsed`` is then an instance of the class, or plain JSON.
        :param config: prediction config, a config object or a dict.
        :param preset: name of the preset to take settings from.
        :param on_message: called with the whole answer as a message; ``chat.append`` adds it to a chat.
        :param on_first_token: called when the answer begins.
        :param on_prediction_fragment: called with each fragment of the answer.
        :param on_prompt_processing_progress: called with the processed part of the prompt, from 0.0 to 1.0.
        :return: the continuation of the text.
        :raises LMStudioValueError: if an argument is invalid.
        :raises LMStudioPresetNotFoundError: if there is no such preset.
        :raises LMStudioInstanceUnloadedError: if the instance is gone.
        :raises LMStudioServerError: if the prediction failed.
        :raises LMStudioPredictionError: if the server could not parse a tool call of the model.
        :raises LMStudioStructuredOutputError: if the answer does not have the requested format.

        ::

            print(await llm.complete("Once upon a time", config={"max_tokens": 50}))
        """
        await preload("_llm_requests", "_prediction_result", "_template_options")
        async with self.complete_stream(
            prompt,
            response_format=response_format,
            config=config,
            preset=preset,
            on_message=on_message,
            on_first_token=on_first_token,
            on_prediction_fragment=on_prediction_fragment,
            on_prompt_processing_progress=on_prompt_processing_progress,
        ) as stream:
            return await stream.wait_for_result()

    def complete_stream(
        self,
        prompt: str,
        *,
        response_format: ResponseFormat[ParsedT] | None = None,
        config: LlmPredictionConfig | LlmPredictionConfigDict | None = None,
        preset: str | None = None,
        on_message: PredictionMessageCallback | None = None,
        on_first_token: PredictionFirstTokenCallback | None = None,
        on_prediction_fragment: PredictionFragmentCallback | None = None,
        on_prompt_processing_progress: PromptProcessingCallback | None = None,
    ) -> AsyncPredictionStream[ParsedT]:
        """Continue a text like `complete`, as a stream. Iterating it or waiting for its result calls the callbacks.

        :param prompt: the text to continue.
        :param response_format: format of the answer: a class (attrs, dataclass, pydantic), a JSON schema, or a
            `GbnfGrammar`. ``result.parsed`` is then an instance of the class, or plain JSON.
        :param config: prediction config, a config object or a dict.
        :param preset: name of the preset to take settings from.
        :param on_message: called with the whole answer as a message; ``chat.append`` adds it to a chat.
        :param on_first_token: called when the answer begins.
        :param on_prediction_fragment: called with each fragment of the answer.
        :param on_prompt_processing_progress: called with the processed part of the prompt, from 0.0 to 1.0.
        :return: the stream; nothing is sent before it is entered, iterated over or awaited.

        ::

            async for fragment in llm.complete_stream("Once upon a time"):
                print(fragment.content, end="")
        """
        from lmstudio_async._llm_requests import completion_stream
        from lmstudio_async._prediction import PredictionCallbacks

        callbacks = PredictionCallbacks(
            on_message=on_message,
            on_first_token=on_first_token,
            on_prediction_fragment=on_prediction_fragment,
            on_prompt_processing_progress=on_prompt_processing_progress,
        )
        return completion_stream(
            self._session, self._specifier, prompt, response_format, config, preset, callbacks, self._info
        )

    async def apply_prompt_template(
        self,
        history: ChatInput,
        opts: ApplyPromptTemplateOptionsDict | None = None,
        *,
        config: LlmPredictionConfig | LlmPredictionConfigDict | None = None,
    ) -> str:
        """Apply the chat template to a chat, and return the prompt for the model.

        :param history: a text, a `Chat`, a list of messages such as ``{"role": "user", "content": "Hello"}``, or a dict
            with a list of ``messages``.
        :param opts: ``omit_bos_token`` and ``omit_eos_token`` leave out these tokens; ``tool_definitions`` are the tools
            that the prompt describes. camelCase keys are accepted, too.
        :param config: prediction config whose ``prompt_template`` is used instead of the model's own.
        :return: the prompt.
        :raises LMStudioValueError: if an argument is invalid.
        :raises LMStudioInstanceUnloadedError: if the instance is gone.

        ::

            prompt = await llm.apply_prompt_template("Hello")
            print(prompt, await llm.count_tokens(prompt))
        """
        await preload("_llm_requests", "_config", "_template_options", "_wire._prompts")
        from lmstudio_async._llm_requests import prompt_parameter
        from lmstudio_async._protocol._endpoints.llm import APPLY_PROMPT_TEMPLATE

        parameter = prompt_parameter(self._specifier, history, opts, config)
        return (await self._session.call(APPLY_PROMPT_TEMPLATE, parameter)).formatted

    async def preload_draft_model(self, draft_model_key: str) -> None:
        """Load a draft model before ``draft_model`` in a prediction config names it, so that no answer waits for it.

        :param draft_model_key: model key of the smaller model.
        :raises LMStudioModelNotFoundError: if there is no such model.
        :raises LMStudioInstanceUnloadedError: if the instance is gone.

        ::

            llm = await client.llm.model("qwen3-4b")
            await llm.preload_draft_model("qwen3-0.6b")
            await llm.respond("Tell me a story", config={"draft_model": "qwen3-0.6b"})
        """
        await preload("_wire._models", "_wire._predict")
        from lmstudio_async._protocol._endpoints.llm import PRELOAD_DRAFT_MODEL
        from lmstudio_async._wire._predict import PreloadDraftModelParameter

        key = check_name(draft_model_key, "draft_model_key")
        parameter = PreloadDraftModelParameter(specifier=self._specifier, draft_model_key=key)
        await self._session.call(PRELOAD_DRAFT_MODEL, parameter)

    async def act(
        self,
        chat: ChatInput,
        tools: Iterable[ToolDefinition],
        *,
        max_prediction_rounds: int | None = None,
        max_parallel_tool_calls: int | None = 1,
        config: LlmPredictionConfig | LlmPredictionConfigDict | None = None,
        preset: str | None = None,
        on_message: ActMessageCallback | None = None,
        on_first_token: RoundCallback | None = None,
        on_prediction_fragment: RoundFragmentCallback | None = None,
        on_round_start: RoundCallback | None = None,
        on_round_end: RoundCallback | None = None,
        on_prediction_completed: RoundResultCallback | None = None,
        on_prompt_processing_progress: RoundProgressCallback | None = None,
        on_tool_call: ToolCallProgressCallback | None = None,
        guard_tool_call: GuardToolCallHandler | None = None,
        handle_invalid_tool_request: InvalidToolRequestHandler | None = None,
    ) -> ActResult:
        """Answer the last message of a chat with tools, in rounds, until the model requests no more tools.

        In each round the model answers and may request tools; their results are added to the chat for the next
        round. The round without a request is the last one. ``chat`` itself is not changed: to add the new messages
        to it, pass ``on_message=chat.append``. All callbacks may be plain or async; an exception in one ends the call.

        Tools start while the model is still generating. Plain functions run in worker threads. When the call is
        cancelled, async functions are cancelled; plain ones keep running, and their results are dropped. If a tool
        raises, the model gets the exception as text.

        :param chat: a text, a `Chat`, a list of messages, or a dict with a list of ``messages``.
        :param tools: plain or async functions with annotations and docstrings, `ToolFunctionDef` objects, or dicts.
        :param max_prediction_rounds: maximum number of rounds; in the last one the model gets no tools. None for no
            limit.
        :param max_parallel_tool_calls: maximum number of tools that run at once; None for no limit.
        :param config: prediction config, a config object or a dict.
        :param preset: name of the preset to take settings from.
        :param on_message: called with each new message of the chat: answers of the model, and results of tools.
        :param on_first_token: called with the round's number when its answer begins.
        :param on_prediction_fragment: called with each fragment of an answer, and the round's number.
        :param on_round_start: called with the round's number, counted from 0.
        :param on_round_end: called with the round's number when all of its tools have run.
        :param on_prediction_completed: called with each round's answer.
        :param on_prompt_processing_progress: called with the processed part of the prompt, from 0.0 to 1.0, and the
            round's number.
        :param on_tool_call: called with a `ToolCallProgress` for each step of a tool call, from the beginning of the
            model's request to the result.
        :param guard_tool_call: called before each tool call with valid arguments, with the request and the round's
            number. Return `True` to run the tool, a dict to run it with these arguments, `False` or a text for the
            model to refuse the call. With a guard, ``on_message`` gets the model's message after the round's calls.
        :param handle_invalid_tool_request: called with the error and the request when a tool call is invalid or fails.
            A text that it returns is sent to the model instead of the error. If the request is None, nothing can be
            sent to the model, and the error is raised next.
        :return: the number of rounds, and the duration.
        :raises LMStudioValueError: if an argument is invalid.
        :raises LMStudioInstanceUnloadedError: if the instance is gone.
        :raises LMStudioServerError: if a prediction failed.
        :raises LMStudioPredictionError: if the server could not parse a tool call of the model, or the model requested a
            tool in the last round.

        ::

            def multiply(a: float, b: float) -> float:
                '''Multiply two numbers.'''
                return a * b

            await llm.act("What is 12345 times 54321?", [multiply], on_message=print)

            def ask(request, round_index):
                return input(f"May it call {request.name}({request.arguments})? ") == "yes" or "The user says no."

            await llm.act("What is 12345 times 54321?", [multiply], guard_tool_call=ask)
        """
        await preload("_act")
        from lmstudio_async._act import Act, ActCallbacks

        callbacks = ActCallbacks(
            on_message=on_message,
            on_first_token=on_first_token,
            on_prediction_fragment=on_prediction_fragment,
            on_round_start=on_round_start,
            on_round_end=on_round_end,
            on_prediction_completed=on_prediction_completed,
            on_prompt_processing_progress=on_prompt_processing_progress,
            on_tool_call=on_tool_call,
            guard_tool_call=guard_tool_call,
            handle_invalid_tool_request=handle_invalid_tool_request,
        )
        act = Act(
            self._session,
            self._specifier,
            chat,
            tools,
            instance=self._info,
            config=config,
            preset=preset,
            limit=max_parallel_tool_calls,
            rounds=max_prediction_rounds,
            callbacks=callbacks,
        )
        return await act.run()


class AsyncDownloadedLlm(
    AsyncDownloadedModel[AsyncLLM, "LlmInfo", "LlmLoadModelConfig | LlmLoadModelConfigDict"]
):
    """A downloaded language model, which can be loaded."""


class AsyncLlmNamespace(
    AsyncModelNamespace[
        AsyncLLM, "LlmInstanceInfo", AsyncDownloadedLlm, "LlmLoadModelConfig | LlmLoadModelConfigDict"
    ]
):
    """The language models of a server: `AsyncClient.llm`."""

    _domain: ClassVar[Literal["llm", "embedding"]] = "llm"
    _handle_modules = ("_llm_requests",)

    def _make_handle(self, info: ModelInstanceInfo | UnreadInfo) -> AsyncLLM:
        return AsyncLLM(self._session, cast("LlmInstanceInfo | UnreadInfo", info))

    def _make_downloaded(self, info: ModelInfo) -> AsyncDownloadedLlm:
        return AsyncDownloadedLlm(self, self._session, cast("LlmInfo", info))
