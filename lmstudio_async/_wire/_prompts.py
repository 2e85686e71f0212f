"""Wire types for formatting a chat with the chat template."""

from __future__ import annotations

from typing import Any

import attrs

from lmstudio_async._wire._models import ModelSpecifier
from lmstudio_async._wire._struct import WireObject

__all__ = ["ApplyPromptTemplateOptions", "ApplyPromptTemplateParameter", "FormattedPrompt"]


@attrs.frozen(kw_only=True)
class ApplyPromptTemplateOptions(WireObject):
    omit_bos_token: bool | None = None
    omit_eos_token: bool | None = None
    tool_definitions: list[Any] | None = None


@attrs.frozen(kw_only=True)
class ApplyPromptTemplateParameter(WireObject):
    specifier: ModelSpecifier
    history: dict[str, Any]
    prediction_config_stack: dict[str, Any] = attrs.field(factory=lambda: {"layers": []})
    opts: ApplyPromptTemplateOptions = attrs.field(factory=ApplyPromptTemplateOptions)


@attrs.frozen(kw_only=True)
class FormattedPrompt(WireObject):
    formatted: str
