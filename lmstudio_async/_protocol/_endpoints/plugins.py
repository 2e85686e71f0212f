"""The endpoints of ``plugins``."""

from __future__ import annotations

from typing import Any

from lmstudio_async._protocol._endpoints._base import ChannelEndpoint, RpcEndpoint
from lmstudio_async._wire._history import ChatHistory
from lmstudio_async._wire._models import Cancel
from lmstudio_async._wire._plugin_hooks import (
    GeneratorAnswer,
    GeneratorHookPacket,
    PredictionLoopAnswer,
    PredictionLoopHookPacket,
    PromptPreprocessorAnswer,
    PromptPreprocessorHookPacket,
    ToolsProviderAnswer,
    ToolsProviderHookPacket,
)
from lmstudio_async._wire._plugins import (
    DevelopmentPluginPacket,
    End,
    GenerateWithGeneratorCreation,
    GeneratorPacket,
    HandleRequestParameter,
    HandleUpdateParameter,
    NameParameter,
    ProcessingParameter,
    PullHistoryParameter,
    RegisterDevelopmentPluginCreation,
    ReportErrorParameter,
    RequestResponse,
    SetConfigSchematicsParameter,
    StartToolUseSessionCreation,
    TokenSource,
    ToolUseSessionPacket,
    ToolUseSessionRequest,
)
from lmstudio_async._wire._struct import Unknown

# -- using plugins

START_TOOL_USE_SESSION: ChannelEndpoint[StartToolUseSessionCreation, Any] = ChannelEndpoint(
    "startToolUseSession",
    StartToolUseSessionCreation,
    ToolUseSessionPacket,
    ToolUseSessionRequest,
    label="Tool use session",
)
GENERATE_WITH_GENERATOR: ChannelEndpoint[GenerateWithGeneratorCreation, Any] = ChannelEndpoint(
    "generateWithGenerator",
    GenerateWithGeneratorCreation,
    GeneratorPacket,
    Cancel | Unknown,
    label="Plugin response",
)

# -- registering them

REGISTER_DEVELOPMENT_PLUGIN: ChannelEndpoint[RegisterDevelopmentPluginCreation, Any] = ChannelEndpoint(
    "registerDevelopmentPlugin",
    RegisterDevelopmentPluginCreation,
    DevelopmentPluginPacket,
    End | Unknown,
    label="Plugin registration",
)
REINDEX_PLUGINS: RpcEndpoint[None, None] = RpcEndpoint("reindexPlugins", label="Plugin index")

# -- being one: where it hooks in

SET_PROMPT_PREPROCESSOR: ChannelEndpoint[None, Any] = ChannelEndpoint(
    "setPromptPreprocessor",
    None,
    PromptPreprocessorHookPacket,
    PromptPreprocessorAnswer,
    label="Prompt preprocessor",
)
SET_PREDICTION_LOOP_HANDLER: ChannelEndpoint[None, Any] = ChannelEndpoint(
    "setPredictionLoopHandler",
    None,
    PredictionLoopHookPacket,
    PredictionLoopAnswer,
    label="Prediction loop handler",
)
SET_TOOLS_PROVIDER: ChannelEndpoint[None, Any] = ChannelEndpoint(
    "setToolsProvider", None, ToolsProviderHookPacket, ToolsProviderAnswer, label="Tools provider"
)
SET_GENERATOR: ChannelEndpoint[None, Any] = ChannelEndpoint(
    "setGenerator", None, GeneratorHookPacket, GeneratorAnswer, label="Generator"
)

# -- being one: while it works on an answer. Done twice, most of this would be seen twice.

PROCESSING_HANDLE_UPDATE: RpcEndpoint[HandleUpdateParameter, None] = RpcEndpoint(
    "processingHandleUpdate", HandleUpdateParameter, repeatable=False, label="Processing update"
)
PROCESSING_HANDLE_REQUEST: RpcEndpoint[HandleRequestParameter, RequestResponse] = RpcEndpoint(
    "processingHandleRequest",
    HandleRequestParameter,
    RequestResponse,
    repeatable=False,
    label="Processing request",
)
PROCESSING_PULL_HISTORY: RpcEndpoint[PullHistoryParameter, ChatHistory] = RpcEndpoint(
    "processingPullHistory", PullHistoryParameter, ChatHistory, label="Chat history"
)
PROCESSING_GET_OR_LOAD_TOKEN_SOURCE: RpcEndpoint[ProcessingParameter, TokenSource] = RpcEndpoint(
    "processingGetOrLoadTokenSource", ProcessingParameter, TokenSource, label="Token source"
)
PROCESSING_HAS_STATUS: RpcEndpoint[ProcessingParameter, bool] = RpcEndpoint(
    "processingHasStatus", ProcessingParameter, bool, label="Processing status"
)
PROCESSING_NEEDS_NAMING: RpcEndpoint[ProcessingParameter, bool] = RpcEndpoint(
    "processingNeedsNaming", ProcessingParameter, bool, label="Chat name"
)
PROCESSING_SUGGEST_NAME: RpcEndpoint[NameParameter, None] = RpcEndpoint(
    "processingSuggestName", NameParameter, label="Chat name"
)
PROCESSING_SET_SENDER_NAME: RpcEndpoint[NameParameter, None] = RpcEndpoint(
    "processingSetSenderName", NameParameter, label="Sender name"
)

# -- being one: once

SET_CONFIG_SCHEMATICS: RpcEndpoint[SetConfigSchematicsParameter, None] = RpcEndpoint(
    "setConfigSchematics", SetConfigSchematicsParameter, label="Config schematics"
)
SET_GLOBAL_CONFIG_SCHEMATICS: RpcEndpoint[SetConfigSchematicsParameter, None] = RpcEndpoint(
    "setGlobalConfigSchematics", SetConfigSchematicsParameter, label="Config schematics"
)
PLUGIN_INIT_COMPLETED: RpcEndpoint[None, None] = RpcEndpoint(
    "pluginInitCompleted", repeatable=False, label="Plugin start"
)
REPORT_ERROR: RpcEndpoint[ReportErrorParameter, None] = RpcEndpoint(
    "reportError", ReportErrorParameter, repeatable=False, label="Plugin error"
)
