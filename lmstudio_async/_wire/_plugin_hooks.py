"""What is sent between the server and a plugin's process: the four places where a plugin hooks in.

Many tasks of one hook run over one channel; each packet names its task, session or call.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from lmstudio_async._wire._history import ChatHistory, ChatMessage, Tool
from lmstudio_async._wire._predict import KvConfig, TokenInfo, ToolCallRequest
from lmstudio_async._wire._struct import Unknown, WireObject, nullable

__all__ = [
    "Abort",
    "Aborted",
    "FragmentGenerated",
    "FragmentOptions",
    "Generate",
    "GeneratorAnswer",
    "GeneratorHookPacket",
    "HandlePredictionLoop",
    "PluginInfo",
    "PredictionLoopAnswer",
    "PredictionLoopHookPacket",
    "Preprocess",
    "PreprocessComplete",
    "PromptPreprocessorAnswer",
    "PromptPreprocessorHookPacket",
    "ProviderAbortToolCall",
    "ProviderCallTool",
    "ProviderDiscardSession",
    "ProviderInitSession",
    "ProviderSessionInitializationFailed",
    "ProviderSessionInitialized",
    "ProviderToolCallComplete",
    "ProviderToolCallError",
    "ProviderToolCallStatus",
    "ProviderToolCallWarn",
    "TaskArgumentFragment",
    "TaskComplete",
    "TaskError",
    "TaskToolCallEnded",
    "TaskToolCallFailed",
    "TaskToolCallName",
    "TaskToolCallStarted",
    "ToolsProviderAnswer",
    "ToolsProviderHookPacket",
]


@attrs.frozen(kw_only=True)
class PluginInfo(WireObject):
    """A plugin that takes part in a chat, and where it hooks in."""

    identifier: str = ""
    is_dev: bool = False
    is_trusted: bool = False
    has_prompt_preprocessor: bool = False
    has_prediction_loop_handler: bool = False
    has_tools_provider: bool = False
    has_generator: bool = False


# -- what all tasks share


@attrs.frozen(kw_only=True)
class Abort(WireObject):
    TAG: ClassVar[str] = "abort"
    task_id: str


@attrs.frozen(kw_only=True)
class Aborted(WireObject):
    TAG: ClassVar[str] = "aborted"
    task_id: str


@attrs.frozen(kw_only=True)
class TaskComplete(WireObject):
    TAG: ClassVar[str] = "complete"
    task_id: str


@attrs.frozen(kw_only=True)
class TaskError(WireObject):
    TAG: ClassVar[str] = "error"
    task_id: str
    error: Any = None


# -- setPromptPreprocessor


@attrs.frozen(kw_only=True)
class Preprocess(WireObject):
    TAG: ClassVar[str] = "preprocess"
    task_id: str
    input: ChatMessage
    config: KvConfig = attrs.field(factory=KvConfig)
    plugin_config: KvConfig = attrs.field(factory=KvConfig)
    global_plugin_config: KvConfig = attrs.field(factory=KvConfig)
    working_directory_path: str | None = nullable()
    enabled_plugin_infos: list[PluginInfo] = attrs.field(factory=list)
    pci: str
    token: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class PreprocessComplete(WireObject):
    TAG: ClassVar[str] = "complete"
    task_id: str
    processed: ChatMessage


PromptPreprocessorHookPacket = Preprocess | Abort | Unknown
PromptPreprocessorAnswer = PreprocessComplete | Aborted | TaskError | Unknown


# -- setPredictionLoopHandler


@attrs.frozen(kw_only=True)
class HandlePredictionLoop(WireObject):
    TAG: ClassVar[str] = "handlePredictionLoop"
    task_id: str
    config: KvConfig = attrs.field(factory=KvConfig)
    plugin_config: KvConfig = attrs.field(factory=KvConfig)
    global_plugin_config: KvConfig = attrs.field(factory=KvConfig)
    working_directory_path: str | None = nullable()
    enabled_plugin_infos: list[PluginInfo] = attrs.field(factory=list)
    pci: str
    token: str = attrs.field(repr=False)


PredictionLoopHookPacket = HandlePredictionLoop | Abort | Unknown
PredictionLoopAnswer = TaskComplete | Aborted | TaskError | Unknown


# -- setToolsProvider


@attrs.frozen(kw_only=True)
class ProviderInitSession(WireObject):
    TAG: ClassVar[str] = "initSession"
    session_id: str
    plugin_config: KvConfig = attrs.field(factory=KvConfig)
    global_plugin_config: KvConfig = attrs.field(factory=KvConfig)
    working_directory_path: str | None = nullable()


@attrs.frozen(kw_only=True)
class ProviderDiscardSession(WireObject):
    TAG: ClassVar[str] = "discardSession"
    session_id: str


@attrs.frozen(kw_only=True)
class ProviderCallTool(WireObject):
    TAG: ClassVar[str] = "callTool"
    session_id: str
    call_id: str
    tool_name: str
    parameters: Any = None


@attrs.frozen(kw_only=True)
class ProviderAbortToolCall(WireObject):
    TAG: ClassVar[str] = "abortToolCall"
    session_id: str
    call_id: str


ToolsProviderHookPacket = (
    ProviderInitSession | ProviderDiscardSession | ProviderCallTool | ProviderAbortToolCall | Unknown
)


@attrs.frozen(kw_only=True)
class ProviderSessionInitialized(WireObject):
    TAG: ClassVar[str] = "sessionInitialized"
    session_id: str
    tool_definitions: list[Tool]


@attrs.frozen(kw_only=True)
class ProviderSessionInitializationFailed(WireObject):
    TAG: ClassVar[str] = "sessionInitializationFailed"
    session_id: str
    error: Any = None


@attrs.frozen(kw_only=True)
class ProviderToolCallComplete(WireObject):
    TAG: ClassVar[str] = "toolCallComplete"
    session_id: str
    call_id: str
    result: Any = None


@attrs.frozen(kw_only=True)
class ProviderToolCallError(WireObject):
    TAG: ClassVar[str] = "toolCallError"
    session_id: str
    call_id: str
    error: Any = None


@attrs.frozen(kw_only=True)
class ProviderToolCallStatus(WireObject):
    TAG: ClassVar[str] = "toolCallStatus"
    session_id: str
    call_id: str
    status_text: str = ""


@attrs.frozen(kw_only=True)
class ProviderToolCallWarn(WireObject):
    TAG: ClassVar[str] = "toolCallWarn"
    session_id: str
    call_id: str
    warn_text: str = ""


ToolsProviderAnswer = (
    ProviderSessionInitialized
    | ProviderSessionInitializationFailed
    | ProviderToolCallComplete
    | ProviderToolCallError
    | ProviderToolCallStatus
    | ProviderToolCallWarn
    | Unknown
)


# -- setGenerator


@attrs.frozen(kw_only=True)
class Generate(WireObject):
    TAG: ClassVar[str] = "generate"
    task_id: str
    input: ChatHistory
    plugin_config: KvConfig = attrs.field(factory=KvConfig)
    global_plugin_config: KvConfig = attrs.field(factory=KvConfig)
    tool_definitions: list[Tool] = attrs.field(factory=list)
    working_directory_path: str | None = nullable()


GeneratorHookPacket = Generate | Abort | Unknown


@attrs.frozen(kw_only=True)
class FragmentOptions(WireObject):
    """What is known of a fragment; see `LlmPredictionFragment`, where the count has another name."""

    token_count: int | None = None
    contains_drafted: bool | None = None
    reasoning_type: str | None = None
    is_structural: bool | None = None
    tokens: list[TokenInfo] | None = None


@attrs.frozen(kw_only=True)
class FragmentGenerated(WireObject):
    TAG: ClassVar[str] = "fragmentGenerated"
    task_id: str
    content: str
    opts: FragmentOptions = attrs.field(factory=FragmentOptions)


@attrs.frozen(kw_only=True)
class TaskToolCallStarted(WireObject):
    TAG: ClassVar[str] = "toolCallGenerationStarted"
    task_id: str
    tool_call_id: str | None = None


@attrs.frozen(kw_only=True)
class TaskToolCallName(WireObject):
    TAG: ClassVar[str] = "toolCallGenerationNameReceived"
    task_id: str
    tool_name: str


@attrs.frozen(kw_only=True)
class TaskArgumentFragment(WireObject):
    TAG: ClassVar[str] = "toolCallGenerationArgumentFragmentGenerated"
    task_id: str
    content: str


@attrs.frozen(kw_only=True)
class TaskToolCallEnded(WireObject):
    TAG: ClassVar[str] = "toolCallGenerationEnded"
    task_id: str
    tool_call_request: ToolCallRequest


@attrs.frozen(kw_only=True)
class TaskToolCallFailed(WireObject):
    TAG: ClassVar[str] = "toolCallGenerationFailed"
    task_id: str
    error: Any = None


GeneratorAnswer = (
    TaskComplete
    | Aborted
    | TaskError
    | FragmentGenerated
    | TaskToolCallStarted
    | TaskToolCallName
    | TaskArgumentFragment
    | TaskToolCallEnded
    | TaskToolCallFailed
    | Unknown
)
