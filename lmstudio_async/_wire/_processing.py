"""What a plugin tells while it works on an answer: the blocks that a person sees, and how they change.

Block ids are the plugin's own; an update names the block that it changes.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from lmstudio_async._wire._predict import KvConfig, LlmPredictionStats
from lmstudio_async._wire._struct import Unknown, WireObject

__all__ = [
    "AppendText",
    "AppendToolRequest",
    "AppendToolResult",
    "AttachGenInfo",
    "BlockStyle",
    "CallingTool",
    "ConfirmingToolCall",
    "CreateCitationBlock",
    "CreateContentBlock",
    "CreateDebugInfoBlock",
    "CreateStatus",
    "CreateToolStatus",
    "CustomLabelStyle",
    "DefaultStyle",
    "GenInfo",
    "GeneratingToolCall",
    "ProcessingUpdate",
    "RemoveStatus",
    "ReplaceText",
    "ReplaceToolRequest",
    "SetPrefix",
    "SetSenderName",
    "SetStyle",
    "SetSuffix",
    "StatusLocation",
    "StatusState",
    "ThinkingStyle",
    "ToolArgumentFragment",
    "ToolCallDenied",
    "ToolCallFailed",
    "ToolCallGenerationFailedStatus",
    "ToolCallQueued",
    "ToolCallStatus",
    "ToolCallSucceeded",
    "ToolStatusState",
    "UpdateStatus",
    "UpdateToolStatus",
]


# -- a status: one line that says what goes on


@attrs.frozen(kw_only=True)
class StatusState(WireObject):
    """The status is ``waiting``, ``loading``, ``done``, ``error`` or ``canceled``."""

    status: str
    text: str = ""


@attrs.frozen(kw_only=True)
class StatusLocation(WireObject):
    """The type is ``beforeId`` or ``afterId``."""

    type: str
    id: str


@attrs.frozen(kw_only=True)
class CreateStatus(WireObject):
    TAG: ClassVar[str] = "status.create"
    id: str
    state: StatusState
    location: StatusLocation | None = None
    indentation: int | None = None


@attrs.frozen(kw_only=True)
class UpdateStatus(WireObject):
    TAG: ClassVar[str] = "status.update"
    id: str
    state: StatusState


@attrs.frozen(kw_only=True)
class RemoveStatus(WireObject):
    TAG: ClassVar[str] = "status.remove"
    id: str


# -- blocks that do not change


@attrs.frozen(kw_only=True)
class CreateCitationBlock(WireObject):
    """Page and line are a number, or ``[first, last]``."""

    TAG: ClassVar[str] = "citationBlock.create"
    id: str
    cited_text: str = ""
    file_name: str = ""
    file_identifier: str = ""
    page_number: Any = None
    line_number: Any = None


@attrs.frozen(kw_only=True)
class CreateDebugInfoBlock(WireObject):
    TAG: ClassVar[str] = "debugInfoBlock.create"
    id: str
    debug_info: str = ""


# -- a content block: a part of the answer


@attrs.frozen(kw_only=True)
class DefaultStyle(WireObject):
    TAG: ClassVar[str] = "default"
    force_render_as_plain_text: bool | None = None


@attrs.frozen(kw_only=True)
class CustomLabelStyle(WireObject):
    TAG: ClassVar[str] = "customLabel"
    label: str = ""
    color: str | None = None
    force_render_as_plain_text: bool | None = None


@attrs.frozen(kw_only=True)
class ThinkingStyle(WireObject):
    TAG: ClassVar[str] = "thinking"
    ended: bool | None = None
    title: str | None = None
    force_render_as_plain_text: bool | None = None


BlockStyle = DefaultStyle | CustomLabelStyle | ThinkingStyle | Unknown


@attrs.frozen(kw_only=True)
class CreateContentBlock(WireObject):
    TAG: ClassVar[str] = "contentBlock.create"
    id: str
    include_in_context: bool = True
    role_override: str | None = None
    style: BlockStyle | None = None
    prefix: str | None = None
    suffix: str | None = None


@attrs.frozen(kw_only=True)
class AppendText(WireObject):
    TAG: ClassVar[str] = "contentBlock.appendText"
    id: str
    text: str
    tokens_count: int | None = None
    from_draft_model: bool | None = None
    is_structural: bool | None = None


@attrs.frozen(kw_only=True)
class AppendToolRequest(WireObject):
    TAG: ClassVar[str] = "contentBlock.appendToolRequest"
    id: str
    call_id: int
    tool_call_request_id: str | None = None
    name: str
    parameters: dict[str, Any] = attrs.field(factory=dict)
    plugin_identifier: str | None = None


@attrs.frozen(kw_only=True)
class ReplaceToolRequest(AppendToolRequest):
    TAG: ClassVar[str] = "contentBlock.replaceToolRequest"


@attrs.frozen(kw_only=True)
class AppendToolResult(WireObject):
    TAG: ClassVar[str] = "contentBlock.appendToolResult"
    id: str
    call_id: int
    tool_call_request_id: str | None = None
    content: str
    name: str | None = None


@attrs.frozen(kw_only=True)
class ReplaceText(WireObject):
    TAG: ClassVar[str] = "contentBlock.replaceText"
    id: str
    text: str


@attrs.frozen(kw_only=True)
class SetPrefix(WireObject):
    TAG: ClassVar[str] = "contentBlock.setPrefix"
    id: str
    prefix: str


@attrs.frozen(kw_only=True)
class SetSuffix(WireObject):
    TAG: ClassVar[str] = "contentBlock.setSuffix"
    id: str
    suffix: str


@attrs.frozen(kw_only=True)
class GenInfo(WireObject):
    indexed_model_identifier: str = ""
    identifier: str = ""
    load_model_config: KvConfig = attrs.field(factory=KvConfig)
    prediction_config: KvConfig = attrs.field(factory=KvConfig)
    stats: LlmPredictionStats = attrs.field(factory=LlmPredictionStats)


@attrs.frozen(kw_only=True)
class AttachGenInfo(WireObject):
    TAG: ClassVar[str] = "contentBlock.attachGenInfo"
    id: str
    gen_info: GenInfo


@attrs.frozen(kw_only=True)
class SetStyle(WireObject):
    TAG: ClassVar[str] = "contentBlock.setStyle"
    id: str
    style: BlockStyle


# -- a tool status: how far a tool call is


@attrs.frozen(kw_only=True)
class GeneratingToolCall(WireObject):
    TAG: ClassVar[str] = "generatingToolCall"
    name: str | None = None
    plugin_identifier: str | None = None
    arguments_string: str | None = None


@attrs.frozen(kw_only=True)
class ToolCallGenerationFailedStatus(WireObject):
    TAG: ClassVar[str] = "toolCallGenerationFailed"
    error: Any = None
    raw_content: str | None = None


@attrs.frozen(kw_only=True)
class ToolCallQueued(WireObject):
    TAG: ClassVar[str] = "toolCallQueued"


@attrs.frozen(kw_only=True)
class ConfirmingToolCall(WireObject):
    TAG: ClassVar[str] = "confirmingToolCall"


@attrs.frozen(kw_only=True)
class ToolCallDenied(WireObject):
    TAG: ClassVar[str] = "toolCallDenied"
    deny_reason: str | None = None


@attrs.frozen(kw_only=True)
class CallingTool(WireObject):
    TAG: ClassVar[str] = "callingTool"


@attrs.frozen(kw_only=True)
class ToolCallFailed(WireObject):
    TAG: ClassVar[str] = "toolCallFailed"
    error: Any = None


@attrs.frozen(kw_only=True)
class ToolCallSucceeded(WireObject):
    TAG: ClassVar[str] = "toolCallSucceeded"
    time_ms: int = 0


ToolCallStatus = (
    GeneratingToolCall
    | ToolCallGenerationFailedStatus
    | ToolCallQueued
    | ConfirmingToolCall
    | ToolCallDenied
    | CallingTool
    | ToolCallFailed
    | ToolCallSucceeded
    | Unknown
)


@attrs.frozen(kw_only=True)
class ToolStatusState(WireObject):
    status: ToolCallStatus
    custom_status: str = ""
    custom_warnings: list[str] = attrs.field(factory=list)


@attrs.frozen(kw_only=True)
class CreateToolStatus(WireObject):
    TAG: ClassVar[str] = "toolStatus.create"
    id: str
    call_id: int
    state: ToolStatusState


@attrs.frozen(kw_only=True)
class UpdateToolStatus(WireObject):
    TAG: ClassVar[str] = "toolStatus.update"
    id: str
    state: ToolStatusState


@attrs.frozen(kw_only=True)
class ToolArgumentFragment(WireObject):
    TAG: ClassVar[str] = "toolStatus.argumentFragment"
    id: str
    content: str


# -- the whole answer


@attrs.frozen(kw_only=True)
class SetSenderName(WireObject):
    TAG: ClassVar[str] = "setSenderName"
    name: str


ProcessingUpdate = (
    CreateStatus
    | UpdateStatus
    | RemoveStatus
    | CreateCitationBlock
    | CreateDebugInfoBlock
    | CreateContentBlock
    | AppendText
    | AppendToolRequest
    | ReplaceToolRequest
    | AppendToolResult
    | ReplaceText
    | SetPrefix
    | SetSuffix
    | AttachGenInfo
    | SetStyle
    | CreateToolStatus
    | UpdateToolStatus
    | ToolArgumentFragment
    | SetSenderName
    | Unknown
)
