"""The endpoints of ``llm``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstudio_async._protocol._endpoints._base import ChannelEndpoint, RpcEndpoint
from lmstudio_async._protocol._endpoints.models import *  # noqa: F403 - the shared part of the table

if TYPE_CHECKING:
    from lmstudio_async._wire._predict import (
        CompleteRawTextCreation,
        PredictCreation,
        PreloadDraftModelParameter,
    )
    from lmstudio_async._wire._prompts import ApplyPromptTemplateParameter, FormattedPrompt

PREDICT: ChannelEndpoint[PredictCreation, Any] = ChannelEndpoint(
    "predict",
    "_predict.PredictCreation",
    "_predict.PredictPacket",
    "_models.Cancel | _struct.Unknown",
    label="Chat response",
)
COMPLETE_RAW_TEXT: ChannelEndpoint[CompleteRawTextCreation, Any] = ChannelEndpoint(
    "completeRawText",
    "_predict.CompleteRawTextCreation",
    "_predict.PredictPacket",
    "_models.Cancel | _struct.Unknown",
    label="Completion",
)
APPLY_PROMPT_TEMPLATE: RpcEndpoint[ApplyPromptTemplateParameter, FormattedPrompt] = RpcEndpoint(
    "applyPromptTemplate",
    "_prompts.ApplyPromptTemplateParameter",
    "_prompts.FormattedPrompt",
    label="Prompt template",
)
PRELOAD_DRAFT_MODEL: RpcEndpoint[PreloadDraftModelParameter, None] = RpcEndpoint(
    "preloadDraftModel", "_predict.PreloadDraftModelParameter", label="Draft model"
)
