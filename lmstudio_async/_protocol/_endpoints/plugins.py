"""The endpoints of ``plugins``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstudio_async._protocol._endpoints._base import ChannelEndpoint, RpcEndpoint

if TYPE_CHECKING:
    from lmstudio_async._wire._history import ChatHistory
    from lmstudio_async._wire._plugins import (
        GenerateWithGeneratorCreation,
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
    )

# -- using plugins

START_TOOL_USE_SESSION: ChannelEndpoint[StartToolUseSessionCreation, Any] = ChannelEndpoint(
    "startToolUseSession",
    "_plugins.StartToolUseSessionCreation",
    "_plugins.ToolUseSessionPacket",
    "_plugins.ToolUseSessionRequest",
    label="Tool use session",
)
GENERATE_WITH_GENERATOR: ChannelEndpoint[GenerateWithGeneratorCreation, Any] = ChannelEndpoint(
    "generateWithGenerator",
    "_plugins.GenerateWithGeneratorCreation",
    "_plugins.GeneratorPacket",
    "_models.Cancel | _struct.Unknown",
    label="Plugin response",
)

# -- registering them

REGISTER_DEVELOPMENT_PLUGIN: ChannelEndpoint[RegisterDevelopmentPluginCreation, Any] = ChannelEndpoint(
    "registerDevelopmentPlugin",
    "_plugins.RegisterDevelopmentPluginCreation",
    "_plugins.DevelopmentPluginPacket",
    "_plugins.End | _struct.Unknown",
    label="Plugin registration",
)
REINDEX_PLUGINS: RpcEndpoint[None, None] = RpcEndpoint("reindexPlugins", label="Plugin index")

# -- being one: where it hooks in

SET_PROMPT_PREPROCESSOR: ChannelEndpoint[None, Any] = ChannelEndpoint(
    "setPromptPreprocessor",
    None,
    "_plugin_hooks.PromptPreprocessorHookPacket",
    "_plugin_hooks.PromptPreprocessorAnswer",
    label="Prompt preprocessor",
)
SET_PREDICTION_LOOP_HANDLER: ChannelEndpoint[None, Any] = ChannelEndpoint(
    "setPredictionLoopHandler",
    None,
    "_plugin_hooks.PredictionLoopHookPacket",
    "_plugin_hooks.PredictionLoopAnswer",
    label="Prediction loop handler",
)
SET_TOOLS_PROVIDER: ChannelEndpoint[None, Any] = ChannelEndpoint(
    "setToolsProvider",
    None,
    "_plugin_hooks.ToolsProviderHookPacket",
    "_plugin_hooks.ToolsProviderAnswer",
    label="Tools provider",
)
SET_GENERATOR: ChannelEndpoint[None, Any] = ChannelEndpoint(
    "setGenerator",
    None,
    "_plugin_hooks.GeneratorHookPacket",
    "_plugin_hooks.GeneratorAnswer",
    label="Generator",
)

# -- being one: while it works on an answer. Done twice, most of this would be seen twice.

PROCESSING_HANDLE_UPDATE: RpcEndpoint[HandleUpdateParameter, None] = RpcEndpoint(
    "processingHandleUpdate", "_plugins.HandleUpdateParameter", repeatable=False, label="Processing update"
)
PROCESSING_HANDLE_REQUEST: RpcEndpoint[HandleRequestParameter, RequestResponse] = RpcEndpoint(
    "processingHandleRequest",
    "_plugins.HandleRequestParameter",
    "_plugins.RequestResponse",
    repeatable=False,
    label="Processing request",
)
PROCESSING_PULL_HISTORY: RpcEndpoint[PullHistoryParameter, ChatHistory] = RpcEndpoint(
    "processingPullHistory", "_plugins.PullHistoryParameter", "_history.ChatHistory", label="Chat history"
)
PROCESSING_GET_OR_LOAD_TOKEN_SOURCE: RpcEndpoint[ProcessingParameter, TokenSource] = RpcEndpoint(
    "processingGetOrLoadTokenSource",
    "_plugins.ProcessingParameter",
    "_plugins.TokenSource",
    label="Token source",
)
PROCESSING_HAS_STATUS: RpcEndpoint[ProcessingParameter, bool] = RpcEndpoint(
    "processingHasStatus", "_plugins.ProcessingParameter", "bool", label="Processing status"
)
PROCESSING_NEEDS_NAMING: RpcEndpoint[ProcessingParameter, bool] = RpcEndpoint(
    "processingNeedsNaming", "_plugins.ProcessingParameter", "bool", label="Chat name"
)
PROCESSING_SUGGEST_NAME: RpcEndpoint[NameParameter, None] = RpcEndpoint(
    "processingSuggestName", "_plugins.NameParameter", label="Chat name"
)
PROCESSING_SET_SENDER_NAME: RpcEndpoint[NameParameter, None] = RpcEndpoint(
    "processingSetSenderName", "_plugins.NameParameter", label="Sender name"
)

# -- being one: once

SET_CONFIG_SCHEMATICS: RpcEndpoint[SetConfigSchematicsParameter, None] = RpcEndpoint(
    "setConfigSchematics", "_plugins.SetConfigSchematicsParameter", label="Config schematics"
)
SET_GLOBAL_CONFIG_SCHEMATICS: RpcEndpoint[SetConfigSchematicsParameter, None] = RpcEndpoint(
    "setGlobalConfigSchematics", "_plugins.SetConfigSchematicsParameter", label="Config schematics"
)
PLUGIN_INIT_COMPLETED: RpcEndpoint[None, None] = RpcEndpoint(
    "pluginInitCompleted", repeatable=False, label="Plugin start"
)
REPORT_ERROR: RpcEndpoint[ReportErrorParameter, None] = RpcEndpoint(
    "reportError", "_plugins.ReportErrorParameter", repeatable=False, label="Plugin error"
)
