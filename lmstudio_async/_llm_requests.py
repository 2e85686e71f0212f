"""Requests to a language model: arguments become wire parameters, or the stream of an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstudio_async._arguments import check_text, optional_name
from lmstudio_async._chat import ChatInput, chat_to_wire
from lmstudio_async._prediction import AsyncPredictionStream, PredictionCallbacks
from lmstudio_async._protocol._endpoints.llm import COMPLETE_RAW_TEXT, PREDICT
from lmstudio_async._response_format import ParsedT, ResponseFormat, ResponseReader
from lmstudio_async._session import Session
from lmstudio_async._wire._kv import from_fields, stack, to_fields
from lmstudio_async._wire._models import ModelSpecifier
from lmstudio_async._wire._predict import CompleteRawTextCreation, PredictCreation

if TYPE_CHECKING:
    from lmstudio_async._config import LlmPredictionConfig, LlmPredictionConfigDict
    from lmstudio_async._template_options import ApplyPromptTemplateOptionsDict
    from lmstudio_async._tracing import NamedInstance
    from lmstudio_async._wire._prompts import ApplyPromptTemplateParameter

__all__ = ["completion_stream", "prompt_parameter", "response_stream"]


def response_stream(
    session: Session,
    specifier: ModelSpecifier,
    history: ChatInput,
    response_format: ResponseFormat[ParsedT] | None,
    config: LlmPredictionConfig | LlmPredictionConfigDict | None,
    preset: str | None,
    callbacks: PredictionCallbacks,
    instance: NamedInstance,
) -> AsyncPredictionStream[ParsedT]:
    """Make the stream that answers the last message of a chat."""
    reader, fields = _settings(response_format, config)
    creation = PredictCreation(
        model_specifier=specifier,
        history=chat_to_wire(history),
        prediction_config_stack=stack(fields),
        fuzzy_preset_identifier=optional_name(preset, "preset"),
    )
    return AsyncPredictionStream(session, PREDICT, creation, reader, callbacks, None, instance)


def completion_stream(
    session: Session,
    specifier: ModelSpecifier,
    prompt: str,
    response_format: ResponseFormat[ParsedT] | None,
    config: LlmPredictionConfig | LlmPredictionConfigDict | None,
    preset: str | None,
    callbacks: PredictionCallbacks,
    instance: NamedInstance,
) -> AsyncPredictionStream[ParsedT]:
    """Make the stream that continues a text, without a chat template."""
    from lmstudio_async._template_options import unformatted

    reader, fields = _settings(response_format, config)
    raw_prompt, preset = check_text(prompt, "prompt"), optional_name(preset, "preset")
    creation = CompleteRawTextCreation(
        model_specifier=specifier,
        raw_prompt=raw_prompt,
        prediction_config_stack=stack(fields),
        fuzzy_preset_identifier=preset,
    )
    for_older_servers = PredictCreation(
        model_specifier=specifier,
        history={"messages": [{"role": "user", "content": [{"type": "text", "text": raw_prompt}]}]},
        prediction_config_stack=unformatted(stack(fields)),
        fuzzy_preset_identifier=preset,
    )
    return AsyncPredictionStream(
        session, COMPLETE_RAW_TEXT, creation, reader, callbacks, for_older_servers, instance
    )


def prompt_parameter(
    specifier: ModelSpecifier,
    history: ChatInput,
    opts: ApplyPromptTemplateOptionsDict | None,
    config: LlmPredictionConfig | LlmPredictionConfigDict | None,
) -> ApplyPromptTemplateParameter:
    """Make the parameter of a request that applies the chat template to a chat."""
    from lmstudio_async._config import prediction_config_fields
    from lmstudio_async._template_options import template_options
    from lmstudio_async._wire._prompts import ApplyPromptTemplateParameter

    return ApplyPromptTemplateParameter(
        specifier=specifier,
        history=chat_to_wire(history),
        prediction_config_stack=stack(prediction_config_fields(config)),
        opts=template_options(opts),
    )


def _settings(
    response_format: ResponseFormat | None, config: LlmPredictionConfig | LlmPredictionConfigDict | None
) -> tuple[ResponseReader, dict[str, Any]]:
    """Return the reader of an answer, and the KV config that requests its format."""
    if config is None and response_format is None:
        return ResponseReader(None), to_fields({})
    from lmstudio_async._config import prediction_config_fields

    fields = prediction_config_fields(config)
    reader = ResponseReader(response_format, from_fields(fields).get("llm.prediction.structured"))
    if reader.setting is not None:
        fields = prediction_config_fields(config, {"structured": reader.setting})
    return reader, fields
