"""Wire types of predictions by a language model."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from lmstudio_async._wire._infos import LlmInstanceInfo
from lmstudio_async._wire._models import ModelSpecifier
from lmstudio_async._wire._struct import Unknown, WireObject

__all__ = [
    "CompleteRawTextCreation",
    "FragmentPacket",
    "KvConfig",
    "KvField",
    "LlmPredictionFragment",
    "LlmPredictionStats",
    "PredictCreation",
    "PredictPacket",
    "PredictSuccess",
    "PreloadDraftModelParameter",
    "PromptProcessingDetails",
    "PromptProcessingProgressPacket",
    "TokenCandidate",
    "TokenInfo",
    "ToolCallGenerationArgumentFragmentGenerated",
    "ToolCallGenerationEnd",
    "ToolCallGenerationFailed",
    "ToolCallGenerationNameReceived",
    "ToolCallGenerationStart",
    "ToolCallRequest",
]


@attrs.frozen(kw_only=True)
class KvField(WireObject):
    key: str
    value: Any = None


@attrs.frozen(kw_only=True)
class KvConfig(WireObject):
    fields: list[KvField] = attrs.field(factory=list)


@attrs.frozen(kw_only=True)
class PredictCreation(WireObject):
    model_specifier: ModelSpecifier
    history: dict[str, Any]
    prediction_config_stack: dict[str, Any]
    fuzzy_preset_identifier: str | None = None
    ignore_server_session_config: bool | None = None


@attrs.frozen(kw_only=True)
class CompleteRawTextCreation(WireObject):
    model_specifier: ModelSpecifier
    raw_prompt: str
    prediction_config_stack: dict[str, Any]
    fuzzy_preset_identifier: str | None = None
    ignore_server_session_config: bool | None = None


@attrs.frozen(kw_only=True, repr=False)
class TokenCandidate(WireObject):
    """A token that the model considered.

    :param text: its text.
    :param id: its number in the model's vocabulary.
    :param log_prob: natural logarithm of its probability.
    :param extra: members that the server sent and this SDK does not know.
    """

    text: str = ""
    id: int = 0
    log_prob: float = 0.0


@attrs.frozen(kw_only=True, repr=False)
class TokenInfo(WireObject):
    """A token of an answer, with the tokens that the model considered at its place.

    :param text: its text.
    :param id: its number in the model's vocabulary.
    :param log_prob: natural logarithm of its probability.
    :param candidates: the likeliest tokens at this place, as many as ``log_probs`` requested.
    :param extra: members that the server sent and this SDK does not know.
    """

    text: str = ""
    id: int = 0
    log_prob: float | None = None
    candidates: list[TokenCandidate] | None = attrs.field(default=None, hash=False)


@attrs.frozen(kw_only=True, repr=False)
class LlmPredictionFragment(WireObject):
    """A piece of an answer.

    :param content: the text; empty if it is LM Studio's internal marker for the end of reasoning.
    :param tokens_count: number of its tokens.
    :param contains_drafted: a draft model proposed some of its tokens.
    :param reasoning_type: ``none`` for the answer itself, ``reasoning`` for thoughts, ``reasoningStartTag`` and
        ``reasoningEndTag`` for the tags around them.
    :param is_structural: it is markup, such as a tag, and not part of the answer itself.
    :param tokens: its tokens with their probabilities, if ``log_probs`` requested them.
    :param extra: members that the server sent and this SDK does not know.
    """

    _shown = "content reasoning_type tokens_count contains_drafted is_structural tokens"

    content: str = ""
    tokens_count: int = 0
    contains_drafted: bool = False
    reasoning_type: str = "none"
    is_structural: bool = False
    tokens: list[TokenInfo] | None = attrs.field(default=None, hash=False)


@attrs.frozen(kw_only=True, repr=False)
class LlmPredictionStats(WireObject):
    """Statistics of a prediction.

    :param stop_reason: ``eosFound``, ``stopStringFound``, ``maxPredictedTokensReached``, ``contextLengthReached``,
        ``toolCalls``, ``userStopped``, ``modelUnloaded``, ``failed``, or one that this SDK does not know.
    :param stop_string: the stop string that was found.
    :param tokens_per_second: speed of generation.
    :param num_gpu_layers: layers that ran on a GPU; -1 for all.
    :param time_to_first_token_sec: seconds from the request to the first token.
    :param total_time_sec: seconds of the whole prediction.
    :param prompt_tokens_count: tokens of the prompt.
    :param predicted_tokens_count: tokens of the answer.
    :param total_tokens_count: tokens of prompt and answer.
    :param used_draft_model_key: key of the draft model, if one was used.
    :param total_draft_tokens_count: tokens that the draft model proposed.
    :param accepted_draft_tokens_count: proposed tokens that were accepted.
    :param rejected_draft_tokens_count: proposed tokens that were rejected.
    :param ignored_draft_tokens_count: proposed tokens that were not checked.
    :param extra: members that the server sent and this SDK does not know.
    """

    _shown = (
        "stop_reason stop_string predicted_tokens_count tokens_per_second time_to_first_token_sec total_time_sec "
        "prompt_tokens_count used_draft_model_key accepted_draft_tokens_count"
    )

    stop_reason: str = "failed"
    stop_string: str | None = None
    tokens_per_second: float | None = None
    num_gpu_layers: float | None = None
    time_to_first_token_sec: float | None = None
    total_time_sec: float | None = None
    prompt_tokens_count: int | None = None
    predicted_tokens_count: int | None = None
    total_tokens_count: int | None = None
    used_draft_model_key: str | None = None
    total_draft_tokens_count: int | None = None
    accepted_draft_tokens_count: int | None = None
    rejected_draft_tokens_count: int | None = None
    ignored_draft_tokens_count: int | None = None


@attrs.frozen(kw_only=True)
class PromptProcessingDetails(WireObject):
    cached_token_count: int = 0
    total_prompt_token_count: int = 0
    processed_prompt_token_count: int = 0
    unprocessed_prompt_token_count: int = 0


@attrs.frozen(kw_only=True)
class FragmentPacket(WireObject):
    TAG: ClassVar[str] = "fragment"
    fragment: LlmPredictionFragment


@attrs.frozen(kw_only=True)
class PromptProcessingProgressPacket(WireObject):
    TAG: ClassVar[str] = "promptProcessingProgress"
    progress: float
    details: PromptProcessingDetails | None = None


@attrs.frozen(kw_only=True, repr=False)
class ToolCallRequest(WireObject):
    """A tool call that the model requests.

    :param name: name of the tool.
    :param arguments: arguments by parameter name.
    :param id: identifier by which the result refers to this request.
    :param type: always ``function``.
    :param extra: members that the server sent and this SDK does not know.
    """

    _shown = "name arguments id"

    id: str | None = None
    type: str = "function"
    name: str = ""
    arguments: dict[str, Any] | None = attrs.field(default=None, hash=False)


@attrs.frozen(kw_only=True)
class ToolCallGenerationStart(WireObject):
    TAG: ClassVar[str] = "toolCallGenerationStart"
    tool_call_id: str | None = None


@attrs.frozen(kw_only=True)
class ToolCallGenerationNameReceived(WireObject):
    TAG: ClassVar[str] = "toolCallGenerationNameReceived"
    name: str


@attrs.frozen(kw_only=True)
class ToolCallGenerationArgumentFragmentGenerated(WireObject):
    TAG: ClassVar[str] = "toolCallGenerationArgumentFragmentGenerated"
    content: str


@attrs.frozen(kw_only=True)
class ToolCallGenerationEnd(WireObject):
    TAG: ClassVar[str] = "toolCallGenerationEnd"
    tool_call_request: ToolCallRequest
    raw_content: str | None = None


@attrs.frozen(kw_only=True)
class ToolCallGenerationFailed(WireObject):
    TAG: ClassVar[str] = "toolCallGenerationFailed"
    error: Any = None
    raw_content: str | None = None


@attrs.frozen(kw_only=True)
class PredictSuccess(WireObject):
    TAG: ClassVar[str] = "success"
    stats: LlmPredictionStats
    model_info: LlmInstanceInfo | None = None
    load_model_config: KvConfig | None = None
    prediction_config: KvConfig | None = None


PredictPacket = (
    FragmentPacket
    | PromptProcessingProgressPacket
    | ToolCallGenerationStart
    | ToolCallGenerationNameReceived
    | ToolCallGenerationArgumentFragmentGenerated
    | ToolCallGenerationEnd
    | ToolCallGenerationFailed
    | PredictSuccess
    | Unknown
)


@attrs.frozen(kw_only=True)
class PreloadDraftModelParameter(WireObject):
    specifier: ModelSpecifier
    draft_model_key: str
