"""What the namespace ``llm`` answers beside the lifecycle: predictions and prompts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs

from lmstudio_async._protocol._errors import server_error, unsupported_feature
from lmstudio_async._wire._infos import LlmInstanceInfo
from lmstudio_async._wire._kv import check, collapse, layer, to_fields
from lmstudio_async._wire._models import SpecifierParameter
from lmstudio_async._wire._predict import (
    ApplyPromptTemplateParameter,
    CompleteRawTextCreation,
    FormattedPrompt,
    KvConfig,
    PredictCreation,
    PredictSuccess,
    PreloadDraftModelParameter,
)
from lmstudio_async._wire._struct import read, write
from lmstudio_async.embedded._answer import Answer
from lmstudio_async.embedded._chat import ToolNames, has_images, manual_prompt, messages_of, plain_text
from lmstudio_async.embedded._clients import Client
from lmstudio_async.embedded._connection import Channel
from lmstudio_async.embedded._default_tools import RequestScanner, grammar, with_tools
from lmstudio_async.embedded._engine import Engine, EngineFailure
from lmstudio_async.embedded._instance import Domain, Instance
from lmstudio_async.embedded._instances import Instances
from lmstudio_async.embedded._load_config import engine_version
from lmstudio_async.embedded._logs import Logs
from lmstudio_async.embedded._models import ModelHandlers
from lmstudio_async.embedded._overflow import shorten_messages, shorten_prompt
from lmstudio_async.embedded._sampling import Sampling, base_config, chat_template, read_sampling
from lmstudio_async.embedded._text import ReasoningParser
from lmstudio_async.errors import LMStudioPresetNotFoundError

__all__ = ["LlmHandlers"]

_FORMATTED_BY_CLIENT = "completeModeFormatting"
_TEMPLATE = "llm.prediction.promptTemplate"
_USUAL_TAGS = ("<think>", "</think>")
_NO_TOOLS = ToolNames((), "passThrough")


@attrs.frozen
class _Request:
    """What to ask the engine: a prompt to continue (``/completion``) or a chat to answer."""

    body: dict[str, Any]
    answer: Answer
    is_chat: bool


class LlmHandlers(ModelHandlers):
    """The endpoints of ``llm``."""

    domain: Domain = "llm"

    def __init__(self, instances: Instances, client: Client, logs: Logs) -> None:
        super().__init__(instances)
        self._client = client
        self._logs = logs

    async def get_base_prediction_config(self, parameter: SpecifierParameter) -> KvConfig:
        self._find(parameter.specifier)
        return read(KvConfig, to_fields(base_config()))

    async def predict(self, creation: PredictCreation, channel: Channel) -> None:
        _refuse_preset(creation.fuzzy_preset_identifier)
        instance = self._find(creation.model_specifier)
        stack = creation.prediction_config_stack
        sampling = read_sampling(_prediction_values(stack), instance)
        formatted_by_client = layer(stack, _FORMATTED_BY_CLIENT) is not None
        template = _manual_template(sampling, instance)
        if formatted_by_client or template is not None:
            attrs.evolve(sampling, system_prompt="").refuse_what_only_chats_have()
        names = ToolNames(sampling.tools, sampling.tool_naming)
        messages = self._messages(creation.history, instance, sampling, names)

        async def prepare() -> _Request:
            if formatted_by_client:
                return await self._raw_request(instance, sampling, plain_text(messages))
            if template is not None:
                return await self._raw_request(instance, sampling, manual_prompt(messages, template))
            return await self._chat_request(instance, sampling, messages, names)

        await self._run(instance, sampling, prepare, channel)

    async def complete_raw_text(self, creation: CompleteRawTextCreation, channel: Channel) -> None:
        _refuse_preset(creation.fuzzy_preset_identifier)
        instance = self._find(creation.model_specifier)
        sampling = read_sampling(_prediction_values(creation.prediction_config_stack), instance)
        sampling.refuse_what_only_chats_have()

        async def prepare() -> _Request:
            return await self._raw_request(instance, sampling, creation.raw_prompt)

        await self._run(instance, sampling, prepare, channel)

    async def apply_prompt_template(self, parameter: ApplyPromptTemplateParameter) -> FormattedPrompt:
        instance = self._find(parameter.specifier)
        stack, opts = parameter.prediction_config_stack, parameter.opts
        sampling = read_sampling(_prediction_values(stack), instance)
        tools = list(opts.tool_definitions or sampling.tools)
        if problem := check("llm.prediction.tools", {"type": "toolArray", "tools": tools}):
            raise server_error(problem)
        names = ToolNames(tools, sampling.tool_naming)
        messages = self._messages(parameter.history, instance, sampling, names)
        with instance.use():
            if layer(stack, _FORMATTED_BY_CLIENT) is not None:
                return FormattedPrompt(formatted=plain_text(messages))
            if (template := _manual_template(sampling, instance)) is not None:
                return FormattedPrompt(formatted=manual_prompt(messages, template))
            messages, told, _, _ = await _with_tools(
                instance.engine, messages, names, attrs.evolve(sampling, tools=tools)
            )
            prompt = await _template_prompt(instance.engine, messages, told, sampling)
            return FormattedPrompt(
                formatted=await _with_marks(
                    instance.engine, prompt, bos=not opts.omit_bos_token, eos=not opts.omit_eos_token
                )
            )

    async def preload_draft_model(self, parameter: PreloadDraftModelParameter) -> None:
        instance = self._find(parameter.specifier)
        if _draft_key(instance) != parameter.draft_model_key:
            raise unsupported_feature(
                "Preloading a draft model",
                engine_version(),
                "a draft model is loaded together with its model here: load it with "
                "llm.load.llama.speculativeDecoding.draftModel",
            )

    def _messages(
        self, history: Mapping[str, Any], instance: Instance, sampling: Sampling, names: ToolNames
    ) -> list[dict[str, Any]]:
        return messages_of(
            history,
            self._client.files,
            names,
            system_prompt=sampling.system_prompt,
            vision=instance.entry.vision,
        )

    async def _raw_request(
        self,
        instance: Instance,
        sampling: Sampling,
        prompt: str,
        *,
        thinking: bool = False,
        names: ToolNames = _NO_TOOLS,
        requests: RequestScanner | None = None,
    ) -> _Request:
        self._log_input(instance, prompt)
        answer = Answer(
            limit=sampling.limit,
            candidates=sampling.candidates,
            reasoning=ReasoningParser(sampling.reasoning, thinking=thinking),
            names=names,
            requests=requests,
        )
        fitting = await shorten_prompt(instance, prompt, sampling)
        return _Request({**sampling.body, "prompt": fitting, "return_tokens": True}, answer, is_chat=False)

    async def _chat_request(
        self, instance: Instance, sampling: Sampling, messages: list[dict[str, Any]], names: ToolNames
    ) -> _Request:
        messages, tools, sampling, requests = await _with_tools(instance.engine, messages, names, sampling)

        async def formatted(some: list[dict[str, Any]]) -> str:
            return await _template_prompt(instance.engine, some, tools, sampling)

        if not tools and not has_images(messages) and sampling.budget is None:
            messages, prompt = await shorten_messages(instance, messages, sampling, formatted)
            # Templates of models that always think end with the start tag themselves.
            thinking = sampling.reasoning is not None and prompt.rstrip().endswith(sampling.reasoning[0])
            return await self._raw_request(
                instance,
                attrs.evolve(sampling, overflow="stopAtLimit"),
                prompt,
                thinking=thinking,
                names=names,
                requests=requests,
            )
        if not has_images(messages):
            messages, prompt = await shorten_messages(instance, messages, sampling, formatted)
            self._log_input(instance, prompt)
        body = {name: value for name, value in sampling.body.items() if name not in ("stop", "n_probs")}
        body |= {
            "messages": messages,
            "timings_per_token": True,
            "reasoning_format": "deepseek" if sampling.reasoning == _USUAL_TAGS else "none",
        }
        if sampling.template_variables:
            body["chat_template_kwargs"] = sampling.template_variables
        if sampling.candidates is not None:
            body |= {"logprobs": True, "top_logprobs": max(sampling.candidates, 1)}
        if sampling.budget is not None:
            body["thinking_budget_tokens"] = sampling.budget
        if tools:
            body |= {"tools": tools, "tool_choice": sampling.tool_choice, "parallel_tool_calls": True}
        answer = Answer(
            limit=sampling.limit,
            candidates=sampling.candidates,
            reasoning=ReasoningParser(sampling.reasoning),
            names=names,
            stop_strings=sampling.body["stop"],
            requests=requests,
        )
        return _Request(body, answer, is_chat=True)

    async def _run(
        self,
        instance: Instance,
        sampling: Sampling,
        prepare: Callable[[], Awaitable[_Request]],
        channel: Channel,
    ) -> None:
        """Have the engine answer, and tell the client what it says."""
        answer = Answer(limit=None, candidates=None, reasoning=ReasoningParser(None), names=_NO_TOOLS)
        channel.post(answer.begin())
        channel.repeat_when_silent(answer.begin())
        with instance.predict() as use:
            try:
                with channel.cancellable(instance.unloaded):
                    request = await prepare()
                    answer = request.answer
                    engine = instance.engine
                    stream = engine.chat(request.body) if request.is_chat else engine.complete(request.body)
                    async with stream as frames:
                        async for frame in frames:
                            for packet in answer.feed(frame):
                                await channel.send(packet)
                            channel.repeat_when_silent(answer.latest_progress)
                            if answer.generating:
                                use.status = "generating"
                            if answer.finished:
                                break
            except EngineFailure as failure:
                if not failure.unloaded:
                    raise instance.failure or failure from None
            if not answer.finished:
                if instance.failure is not None:
                    raise instance.failure
                stopped = channel.cancelled.is_set()
                for packet in answer.stop("userStopped" if stopped else "modelUnloaded"):
                    channel.post(packet)
            info = instance.info()
            assert isinstance(info, LlmInstanceInfo)
            stats = answer.stats(_gpu_layers(instance), _draft_key(instance))
            channel.repeat_when_silent(None)
            channel.post(
                PredictSuccess(
                    stats=stats,
                    model_info=info,
                    load_model_config=read(KvConfig, to_fields(instance.config)),
                    prediction_config=read(KvConfig, to_fields(sampling.values)),
                )
            )
        self._logs.emit(
            "llm.prediction.output",
            output=answer.text,
            stats=write(stats),
            modelIdentifier=instance.identifier,
        )

    def _log_input(self, instance: Instance, prompt: str) -> None:
        self._logs.emit(
            "llm.prediction.input",
            input=prompt,
            modelPath=instance.entry.path,
            modelIdentifier=instance.identifier,
        )


def _prediction_values(stack: Mapping[str, Any]) -> dict[str, Any]:
    """The prediction config by wire key, without what tells that the client formats the prompt itself."""
    values = collapse(stack)
    if layer(stack, _FORMATTED_BY_CLIENT) is not None:
        values.pop(_TEMPLATE, None)
    return values


def _refuse_preset(preset: str | None) -> None:
    if preset is not None:
        title = f'There is no preset "{preset[:100]}": this server has none.'
        raise LMStudioPresetNotFoundError(
            title,
            {
                "title": title,
                "rootTitle": title,
                "displayData": {
                    "code": "generic.presetNotFound",
                    "specifiedFuzzyPresetIdentifier": preset,
                    "availablePresetsSample": [],
                    "totalAvailablePresets": 0,
                },
            },
        )


def _manual_template(sampling: Sampling, instance: Instance) -> Mapping[str, str] | None:
    """The prompt template of the request, if it has one of its own."""
    template = sampling.template
    if template is None:
        return None
    if template["type"] == "manual":
        manual: Mapping[str, str] | None = template.get("manualPromptTemplate")
        if manual is None:
            raise server_error(f"{_TEMPLATE} of type manual must have a manualPromptTemplate.")
        return manual
    if (template.get("jinjaPromptTemplate") or {}).get("template") != chat_template(instance):
        raise unsupported_feature(
            _TEMPLATE,
            engine_version(),
            "the engine takes a Jinja template when it loads a model: load it with llm.load.promptTemplate",
        )
    return None


def _told(tools: list[dict[str, Any]], names: ToolNames) -> list[dict[str, Any]]:
    """The tools under the names that the model is told."""
    return [
        {**tool, "function": {**tool["function"], "name": names.tell(tool["function"]["name"])}}
        for tool in tools
    ]


async def _with_tools(
    engine: Engine, messages: list[dict[str, Any]], names: ToolNames, sampling: Sampling
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Sampling, RequestScanner | None]:
    """Chat, tools and sampling as the model's template can take them, and what finds the calls if the engine does not."""
    tools = _told(sampling.tools, names)
    if not tools and not any(message["role"] == "tool" or "tool_calls" in message for message in messages):
        return messages, [], sampling, None
    properties = await engine.properties()
    if properties.get("chat_template_caps", {}).get("supports_tools"):
        return messages, tools, sampling, None
    if not tools or sampling.tool_choice == "none":
        return with_tools(messages, []), [], sampling, None
    rules = grammar(
        tools, required=sampling.tool_choice == "required", end=str(properties.get("eos_token", ""))
    )
    sampling = attrs.evolve(sampling, body={**sampling.body, "grammar": rules})
    return with_tools(messages, tools), [], sampling, RequestScanner()


async def _template_prompt(
    engine: Engine, messages: list[dict[str, Any]], tools: list[dict[str, Any]], sampling: Sampling
) -> str:
    return await engine.apply_template(
        messages, tools=tools or None, template_kwargs=sampling.template_variables or None
    )


async def _with_marks(engine: Engine, prompt: str, *, bos: bool, eos: bool) -> str:
    """The prompt with or without the marks of its beginning and its end."""
    properties = await engine.properties()
    begin, end = str(properties.get("bos_token", "")), str(properties.get("eos_token", ""))
    if begin and bos and not prompt.startswith(begin) and await engine.tokenize("", add_special=True):
        # The engine's templates leave it out where its tokenizer adds it.
        return begin + prompt
    if begin and not bos:
        prompt = prompt.removeprefix(begin)
    return prompt if eos or not end else prompt.removesuffix(end)


def _gpu_layers(instance: Instance) -> float:
    """As LM Studio counts: -1 for all."""
    ratio = instance.config.get("llm.load.llama.acceleration.offloadRatio", "off")
    if isinstance(ratio, str):
        return -1 if ratio == "max" else 0
    return round(float(ratio) * instance.entry.block_count)


def _draft_key(instance: Instance) -> str | None:
    key: str | None = instance.config.get("llm.load.llama.speculativeDecoding.draftModel")
    return key
