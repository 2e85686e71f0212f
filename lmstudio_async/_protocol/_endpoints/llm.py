"""The endpoints of ``llm``."""

from __future__ import annotations

from typing import Any

from lmstudio_async._protocol._endpoints._base import ChannelEndpoint, RpcEndpoint
from lmstudio_async._protocol._endpoints.models import *  # noqa: F403 - the shared part of the table
from lmstudio_async._wire._models import Cancel
from lmstudio_async._wire._predict import (
    ApplyPromptTemplateParameter,
    CompleteRawTextCreation,
    FormattedPrompt,
    PredictCreation,
    PredictPacket,
    PreloadDraftModelParameter,
)
from lmstudio_async._wire._struct import Unknown

PREDICT: ChannelEndpoint[PredictCreation, Any] = ChannelEndpoint(
    "predict", PredictCreation, PredictPacket, Cancel | Unknown, label="Chat response"
)
COMPLETE_RAW_TEXT: ChannelEndpoint[CompleteRawTextCreation, Any] = ChannelEndpoint(
    "completeRawText", CompleteRawTextCreation, PredictPacket, Cancel | Unknown, label="Completion"
)
APPLY_PROMPT_TEMPLATE: RpcEndpoint[ApplyPromptTemplateParameter, FormattedPrompt] = RpcEndpoint(
    "applyPromptTemplate", ApplyPromptTemplateParameter, FormattedPrompt, label="Prompt template"
)
PRELOAD_DRAFT_MODEL: RpcEndpoint[PreloadDraftModelParameter, None] = RpcEndpoint(
    "preloadDraftModel", PreloadDraftModelParameter, label="Draft model"
)
