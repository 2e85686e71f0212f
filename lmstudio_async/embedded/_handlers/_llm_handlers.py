"""Endpoints of the namespace ``llm`` for predictions and prompts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import anyio.to_thread
import attrs

from lmstudio_async._protocol._errors import server_error
from lmstudio_async._wire._infos import LlmInstanceInfo
from lmstudio_async._wire._kv import check, collapse, layer, to_fields
from lmstudio_async._wire._models import SpecifierParameter
from lmstudio_async._wire._predict import (
    CompleteRawTextCreation,
    KvConfig,
    PredictCreation,
    PredictSuccess,
    PreloadDraftModelParameter,
)
from lmstudio_async._wire._prompts import ApplyPromptTemplateParameter, FormattedPrompt
from lmstudio_async._wire._struct import read, write
from lmstudio_async.embedded._connections._clients import Client
from lmstudio_async.embedded._connections._connection import Channel
from lmstudio_async.embedded._connections._logs import Logs
from lmstudio_async.embedded._engine._engine import Engine, EngineFailure
from lmstudio_async.embedded._engine._engine_spec import EngineSpec, default_threads
from lmstudio_async.embedded._handlers._model_handlers import ModelHandlers
from lmstudio_async.embedded._instances._draft import find_draft, with_draft
from lmstudio_async.embedded._instances._instance import Domain, Instance
from lmstudio_async.embedded._instances._registry import Instances
from lmstudio_async.embedded._prediction._answer import Answer
from lmstudio_async.embedded._prediction._mark_scanners import ReasoningParser
from lmstudio_async.embedded._prediction._prediction import Prediction
from lmstudio_async.embedded._prediction._prediction_request import (
    NO_TOOLS,
    PredictionRequest,
    chat_request,
    for_template,
    raw_request,
    template_prompt,
)
from lmstudio_async.embedded._prediction._sampling import (
    Sampling,
    base_config,
    check_tools_size,
    read_sampling,
)
from lmstudio_async.embedded._prediction._structured import followed_grammar
from lmstudio_async.embedded._prediction._template_form import with_thought_form
from lmstudio_async.embedded._prediction._template_messages import (
    ToolNames,
    manual_prompt,
    messages_of,
    plain_text,
)
from lmstudio_async.errors import LMStudioPresetNotFoundError

__all__ = ["LlmHandlers"]

_FORMATTED_BY_CLIENT = "completeModeFormatting"
#: The engine needs about a second and 40 MB for each million characters, even for a prompt that is then shortened.
_LONGEST_PROMPT = 16_000_000
#: Longer chats are converted in a thread. The conversion of 500 messages blocks the event loop for some 10 ms.
_MANY_MESSAGES = 500
_TEMPLATE = "llm.prediction.promptTemplate"


class LlmHandlers(ModelHandlers):
    """The endpoints of ``llm``."""

    domain: Domain = "llm"

    def __init__(self, instances: Instances, client: Client, logs: Logs) -> None:
        super().__init__(instances)
        self._client = client
        self._logs = logs

    async def get_base_prediction_config(self, parameter: SpecifierParameter) -> KvConfig:
        instance = self._find(parameter.specifier)
        return read(KvConfig, to_fields(base_config(instance.chat_template)))

    async def predict(self, creation: PredictCreation, channel: Channel) -> None:
        _refuse_preset(creation.fuzzy_preset_identifier)
        instance = self._find(creation.model_specifier)
        stack = creation.prediction_config_stack
        given = _prediction_values(stack)
        sampling = _sampling(given, instance)
        formatted_by_client = layer(stack, _FORMATTED_BY_CLIENT) is not None
        if formatted_by_client or sampling.manual_template is not None:
            attrs.evolve(sampling, system_prompt="").refuse_chat_settings()
        names = ToolNames(sampling.tools, sampling.tool_naming)
        messages = await self._messages(creation.history, instance, sampling, names)

        async def prepare(sampling: Sampling) -> PredictionRequest:
            if formatted_by_client:
                return await raw_request(instance, sampling, plain_text(messages))
            if sampling.manual_template is not None:
                prompt = manual_prompt(messages, sampling.manual_template)
                return await raw_request(instance, sampling, prompt)
            return await chat_request(instance, sampling, messages, names)

        is_chat = not formatted_by_client and sampling.manual_template is None
        await self._run(instance, given, sampling, prepare, channel, is_chat=is_chat)

    async def complete_raw_text(self, creation: CompleteRawTextCreation, channel: Channel) -> None:
        _refuse_preset(creation.fuzzy_preset_identifier)
        _refuse_too_long(len(creation.raw_prompt))
        instance = self._find(creation.model_specifier)
        given = _prediction_values(creation.prediction_config_stack)
        sampling = _sampling(given, instance)
        sampling.refuse_chat_settings()

        async def prepare(sampling: Sampling) -> PredictionRequest:
            return await raw_request(instance, sampling, creation.raw_prompt)

        await self._run(instance, given, sampling, prepare, channel, is_chat=False)

    async def apply_prompt_template(self, parameter: ApplyPromptTemplateParameter) -> FormattedPrompt:
        instance = self._find(parameter.specifier)
        stack, opts = parameter.prediction_config_stack, parameter.opts
        sampling = _sampling(_prediction_values(stack), instance)
        tools = list(opts.tool_definitions or sampling.tools)
        if problem := check("llm.prediction.tools", {"type": "toolArray", "tools": tools}):
            raise server_error(problem)
        check_tools_size(tools)
        names = ToolNames(tools, sampling.tool_naming)
        messages = await self._messages(parameter.history, instance, sampling, names)
        spec = _with_template(instance.spec, sampling, instance)
        with instance.use() as use:
            if layer(stack, _FORMATTED_BY_CLIENT) is not None:
                return FormattedPrompt(formatted=plain_text(messages))
            if sampling.manual_template is not None:
                return FormattedPrompt(formatted=manual_prompt(messages, sampling.manual_template))
            async with instance.lend(use, spec, only_template=True) as engine:
                sampling = await with_thought_form(engine, sampling)
                messages, tools, _, _ = await for_template(
                    engine, messages, names, attrs.evolve(sampling, tools=tools)
                )
                prompt = await template_prompt(engine, messages, tools, sampling)
                return FormattedPrompt(
                    formatted=await _with_marks(
                        engine, prompt, bos=not opts.omit_bos_token, eos=not opts.omit_eos_token
                    )
                )

    async def preload_draft_model(self, parameter: PreloadDraftModelParameter) -> None:
        instance = self._find(parameter.specifier)
        with instance.use() as use:
            draft = await find_draft(self._instances.catalog, instance.entry, parameter.draft_model_key)
            async with instance.lend(use, with_draft(instance.spec, {}, draft)):
                pass

    async def _spec(self, instance: Instance, given: Mapping[str, Any], sampling: Sampling) -> EngineSpec:
        """Return the engine settings that a request needs."""
        spec = _with_template(instance.spec, sampling, instance)
        if sampling.threads is not None and sampling.threads != (spec.threads or default_threads()):
            spec = attrs.evolve(spec, threads=sampling.threads)
        key, draft = sampling.draft_key, None
        if key is not None and key != _loaded_draft_key(instance):
            draft = await find_draft(self._instances.catalog, instance.entry, key)
        return with_draft(spec, given, draft)

    async def _messages(
        self, history: Mapping[str, Any], instance: Instance, sampling: Sampling, names: ToolNames
    ) -> list[dict[str, Any]]:
        convert = partial(
            messages_of,
            history,
            self._client.files,
            names,
            system_prompt=sampling.system_prompt,
            no_vision_reason=None if instance.entry.vision else instance.no_vision_reason,
        )
        entries = history.get("messages")
        is_long = isinstance(entries, list) and len(entries) > _MANY_MESSAGES
        messages = await anyio.to_thread.run_sync(convert) if is_long else convert()
        contents = (message["content"] for message in messages)
        _refuse_too_long(sum(len(content) for content in contents if isinstance(content, str)))
        return messages

    async def _run(
        self,
        instance: Instance,
        given: Mapping[str, Any],
        sampling: Sampling,
        prepare: Callable[[Sampling], Awaitable[PredictionRequest]],
        channel: Channel,
        *,
        is_chat: bool,
    ) -> None:
        """Run a prediction, and send its packets to the client."""
        answer = Answer(limit=None, candidates=None, reasoning=ReasoningParser(None), names=NO_TOOLS)
        drafts = False
        channel.post(answer.begin())
        channel.repeat_when_silent(answer.begin())
        channel.repeat_only_while(lambda: instance.pulse.is_felt)
        with instance.predict() as use:
            try:
                with channel.cancellable(instance.unloaded):
                    spec = await self._spec(instance, given, sampling)
                    drafts = spec.draft_model_path is not None
                    async with instance.lend(use, spec) as engine:
                        sampling = await with_thought_form(engine, sampling)
                        thought = sampling.own_thought if is_chat else None
                        grammar = await followed_grammar(engine, sampling.body, thought)
                        request = await prepare(attrs.evolve(sampling, schema_grammar=grammar))
                        answer = request.answer
                        if request.prompt is not None:
                            self._log_input(instance, request.prompt)
                        prediction = Prediction(
                            engine, request, use=use, budget=instance.budget, channel=channel
                        )
                        await prediction.run()
            except EngineFailure as failure:
                if not failure.unloaded:
                    raise
            if not answer.finished:
                if instance.failure is not None:
                    raise instance.failure
                stopped = channel.cancelled.is_set()
                for packet in answer.stop("userStopped" if stopped else "modelUnloaded"):
                    channel.post(packet)
            info = instance.info()
            assert isinstance(info, LlmInstanceInfo)
            draft_key = (sampling.draft_key or _loaded_draft_key(instance)) if drafts else None
            stats = answer.stats(_gpu_layers(instance), draft_key)
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
    """Return the prediction config by wire key.

    The prompt template is removed if the client has formatted the prompt itself.
    """
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


def _refuse_too_long(length: int) -> None:
    if length > _LONGEST_PROMPT:
        raise server_error(
            f"The prompt has {length} characters, and {_LONGEST_PROMPT} is the most that this server reads.",
            "Leave some of it out.",
        )


def _sampling(given: Mapping[str, Any], instance: Instance) -> Sampling:
    return read_sampling(given, template=instance.chat_template, loaded=instance.config)


def _with_template(spec: EngineSpec, sampling: Sampling, instance: Instance) -> EngineSpec:
    if sampling.chat_template == instance.chat_template:
        return spec
    return attrs.evolve(spec, chat_template=sampling.chat_template)


async def _with_marks(engine: Engine, prompt: str, *, bos: bool, eos: bool) -> str:
    """Return the prompt with or without its BOS and EOS tokens."""
    properties = await engine.properties()
    begin, end = str(properties.get("bos_token", "")), str(properties.get("eos_token", ""))
    if begin and bos and not prompt.startswith(begin) and await engine.tokenize("", add_special=True):
        # The engine's templates omit the BOS token if its tokenizer adds it.
        return begin + prompt
    if begin and not bos:
        prompt = prompt.removeprefix(begin)
    return prompt if eos or not end else prompt.removesuffix(end)


def _gpu_layers(instance: Instance) -> float:
    """Return the number of layers on the GPU, or -1 for all of them, as LM Studio reports it."""
    ratio = instance.config.get("llm.load.llama.acceleration.offloadRatio", "off")
    if isinstance(ratio, str):
        return -1 if ratio == "max" else 0
    return round(float(ratio) * instance.entry.block_count)


def _loaded_draft_key(instance: Instance) -> str | None:
    """Return the key of the draft model in the load config."""
    key: str | None = instance.config.get("llm.load.llama.speculativeDecoding.draftModel")
    return key
