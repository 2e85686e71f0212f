"""Messages in the form of OpenAI's chat completions, which chat templates and the engine read."""

from __future__ import annotations

from typing import Any, TypeAlias

__all__ = ["TemplateMessage"]

TemplateMessage: TypeAlias = dict[str, Any]
