"""What is sent about plugins: using them, registering one, and the calls that a plugin's own process makes."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from lmstudio_async._wire._history import ChatHistory, Tool
from lmstudio_async._wire._predict import (
    FragmentPacket,
    KvConfig,
    PromptProcessingProgressPacket,
    ToolCallGenerationArgumentFragmentGenerated,
    ToolCallGenerationEnd,
    ToolCallGenerationFailed,
    ToolCallGenerationNameReceived,
    ToolCallGenerationStart,
)
from lmstudio_async._wire._processing import ProcessingUpdate
from lmstudio_async._wire._struct import Unknown, WireObject

__all__ = [
    "AbortToolCall",
    "AllowToolCall",
    "CallTool",
    "ConfigSchematics",
    "ConfirmToolCallRequest",
    "ConfirmToolCallResponse",
    "DenyToolCall",
    "DevelopmentPluginPacket",
    "DirectPluginConfig",
    "DiscardSession",
    "End",
    "GenerateWithGeneratorCreation",
    "GeneratorPacket",
    "GeneratorSource",
    "GeneratorSuccess",
    "HandleRequestParameter",
    "HandleUpdateParameter",
    "ModelSource",
    "NameParameter",
    "NetworkUnavailable",
    "PluginConfigSpecifier",
    "PluginManifest",
    "PluginReady",
    "PredictionProcessConfig",
    "ProcessingParameter",
    "ProcessingRequest",
    "ProcessingResponse",
    "PullHistoryParameter",
    "RegisterDevelopmentPluginCreation",
    "ReportErrorParameter",
    "RequestResponse",
    "SchematicsField",
    "SessionReady",
    "SetConfigSchematicsParameter",
    "StartToolUseSessionCreation",
    "TextInputRequest",
    "TextInputResponse",
    "TokenSource",
    "TokenSourceIdentifier",
    "ToolCallComplete",
    "ToolCallError",
    "ToolCallNotice",
    "ToolCallWarn",
    "ToolUseSessionPacket",
    "ToolUseSessionRequest",
    "Unauthorized",
]


@attrs.frozen(kw_only=True)
class DirectPluginConfig(WireObject):
    TAG: ClassVar[str] = "direct"
    config: KvConfig
    working_directory_path: str | None = None


@attrs.frozen(kw_only=True)
class PredictionProcessConfig(WireObject):
    """The config of the answer that is being worked on; ``pci`` and ``token`` name it."""

    TAG: ClassVar[str] = "predictionProcess"
    pci: str
    token: str = attrs.field(repr=False)


PluginConfigSpecifier = DirectPluginConfig | PredictionProcessConfig | Unknown


# -- startToolUseSession: the tools of a plugin. Its call ids are numbers; those of a tools provider are texts.


@attrs.frozen(kw_only=True)
class StartToolUseSessionCreation(WireObject):
    plugin_identifier: str
    plugin_config_specifier: PluginConfigSpecifier


@attrs.frozen(kw_only=True)
class CallTool(WireObject):
    TAG: ClassVar[str] = "callTool"
    call_id: int
    name: str
    arguments: Any = None


@attrs.frozen(kw_only=True)
class AbortToolCall(WireObject):
    TAG: ClassVar[str] = "abortToolCall"
    call_id: int


@attrs.frozen(kw_only=True)
class DiscardSession(WireObject):
    TAG: ClassVar[str] = "discardSession"


ToolUseSessionRequest = CallTool | AbortToolCall | DiscardSession | Unknown


@attrs.frozen(kw_only=True)
class SessionReady(WireObject):
    TAG: ClassVar[str] = "sessionReady"
    tool_definitions: list[Tool]


@attrs.frozen(kw_only=True)
class ToolCallComplete(WireObject):
    TAG: ClassVar[str] = "toolCallComplete"
    call_id: int
    result: Any = None


@attrs.frozen(kw_only=True)
class ToolCallError(WireObject):
    TAG: ClassVar[str] = "toolCallError"
    call_id: int
    error: Any = None


@attrs.frozen(kw_only=True)
class ToolCallNotice(WireObject):
    TAG: ClassVar[str] = "toolCallStatus"
    call_id: int
    status_text: str = ""


@attrs.frozen(kw_only=True)
class ToolCallWarn(WireObject):
    TAG: ClassVar[str] = "toolCallWarn"
    call_id: int
    warn_text: str = ""


ToolUseSessionPacket = (
    SessionReady | ToolCallComplete | ToolCallError | ToolCallNotice | ToolCallWarn | Unknown
)


# -- generateWithGenerator: text from a plugin instead of a model


@attrs.frozen(kw_only=True)
class GenerateWithGeneratorCreation(WireObject):
    plugin_identifier: str
    plugin_config_specifier: PluginConfigSpecifier
    tools: list[Tool] = attrs.field(factory=list)
    history: ChatHistory


@attrs.frozen(kw_only=True)
class GeneratorSuccess(WireObject):
    TAG: ClassVar[str] = "success"


GeneratorPacket = (
    FragmentPacket
    | PromptProcessingProgressPacket
    | ToolCallGenerationStart
    | ToolCallGenerationNameReceived
    | ToolCallGenerationArgumentFragmentGenerated
    | ToolCallGenerationEnd
    | ToolCallGenerationFailed
    | GeneratorSuccess
    | Unknown
)


# -- registerDevelopmentPlugin


@attrs.frozen(kw_only=True)
class PluginManifest(WireObject):
    """What a plugin is. The free-form members are for the one who runs it."""

    type: str = "plugin"
    runner: str
    sandbox: dict[str, Any] | None = None
    owner: str
    name: str
    revision: int | None = None
    dependencies: list[Any] | None = None
    tags: list[str] | None = None


@attrs.frozen(kw_only=True)
class RegisterDevelopmentPluginCreation(WireObject):
    manifest: PluginManifest


@attrs.frozen(kw_only=True)
class PluginReady(WireObject):
    TAG: ClassVar[str] = "ready"
    client_identifier: str
    client_passkey: str = attrs.field(repr=False)
    base_url: str | None = None
    deno_broker_ipc_path: str | None = None


DevelopmentPluginPacket = PluginReady | Unknown


@attrs.frozen(kw_only=True)
class End(WireObject):
    TAG: ClassVar[str] = "end"


# -- what a plugin's process calls while it works on an answer


@attrs.frozen(kw_only=True)
class ProcessingParameter(WireObject):
    pci: str
    token: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class HandleUpdateParameter(ProcessingParameter):
    update: ProcessingUpdate


@attrs.frozen(kw_only=True)
class ConfirmToolCallRequest(WireObject):
    TAG: ClassVar[str] = "confirmToolCall"
    call_id: int
    plugin_identifier: str | None = None
    name: str
    parameters: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class TextInputRequest(WireObject):
    TAG: ClassVar[str] = "textInput"
    prompt: str


ProcessingRequest = ConfirmToolCallRequest | TextInputRequest | Unknown


@attrs.frozen(kw_only=True)
class HandleRequestParameter(ProcessingParameter):
    request: ProcessingRequest


@attrs.frozen(kw_only=True)
class AllowToolCall(WireObject):
    TAG: ClassVar[str] = "allow"
    tool_args_override: dict[str, Any] | None = None


@attrs.frozen(kw_only=True)
class DenyToolCall(WireObject):
    TAG: ClassVar[str] = "deny"
    deny_reason: str | None = None


@attrs.frozen(kw_only=True)
class ConfirmToolCallResponse(WireObject):
    TAG: ClassVar[str] = "confirmToolCall"
    result: AllowToolCall | DenyToolCall | Unknown


@attrs.frozen(kw_only=True)
class TextInputResponse(WireObject):
    TAG: ClassVar[str] = "textInput"
    result: str


ProcessingResponse = ConfirmToolCallResponse | TextInputResponse | Unknown


@attrs.frozen(kw_only=True)
class RequestResponse(WireObject):
    response: ProcessingResponse


@attrs.frozen(kw_only=True)
class PullHistoryParameter(ProcessingParameter):
    include_current: bool


@attrs.frozen(kw_only=True)
class NameParameter(ProcessingParameter):
    name: str


@attrs.frozen(kw_only=True)
class ModelSource(WireObject):
    TAG: ClassVar[str] = "model"
    identifier: str


@attrs.frozen(kw_only=True)
class GeneratorSource(WireObject):
    TAG: ClassVar[str] = "generator"
    plugin_identifier: str


TokenSourceIdentifier = ModelSource | GeneratorSource | Unknown


@attrs.frozen(kw_only=True)
class TokenSource(WireObject):
    token_source_identifier: TokenSourceIdentifier


# -- what it calls once


@attrs.frozen(kw_only=True)
class SchematicsField(WireObject):
    short_key: str
    full_key: str
    type_key: str
    type_params: Any = None
    default_value: Any = None


@attrs.frozen(kw_only=True)
class ConfigSchematics(WireObject):
    fields: list[SchematicsField]
    extension_prefixes: list[str] | None = None


@attrs.frozen(kw_only=True)
class SetConfigSchematicsParameter(WireObject):
    schematics: ConfigSchematics


@attrs.frozen(kw_only=True)
class Unauthorized(WireObject):
    TAG: ClassVar[str] = "unauthorized"
    plugin_run_id: str
    server_url: str
    message: str = ""


@attrs.frozen(kw_only=True)
class NetworkUnavailable(WireObject):
    TAG: ClassVar[str] = "networkUnavailable"
    plugin_run_id: str
    server_url: str
    message: str = ""
    unavailable_host: str | None = None


ReportErrorParameter = Unauthorized | NetworkUnavailable | Unknown
