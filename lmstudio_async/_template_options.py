"""Options for the prompt that a chat template makes out of a chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import attrs

from lmstudio_async._wire._prompts import ApplyPromptTemplateOptions
from lmstudio_async._wire._struct import camel
from lmstudio_async.errors import LMStudioValueError

__all__ = ["ApplyPromptTemplateOptionsDict", "template_options", "unformatted"]

_ONLY_THE_TEXT = {
    "template": "{% for message in messages %}{{ message['content'] }}{% endfor %}",
    # The other members are for servers that do not accept a template without them.
    "bosToken": "",
    "eosToken": "",
    "inputConfig": {"messagesConfig": {"contentConfig": {"type": "string"}}, "useTools": False},
}


class ApplyPromptTemplateOptionsDict(TypedDict, total=False):
    """Options for making a prompt out of a chat.

    ``omit_bos_token`` and ``omit_eos_token`` leave out the tokens that begin and end a text; ``tool_definitions`` are
    the tools that the prompt describes. Each key has two spellings.
    """

    omit_bos_token: bool
    omitBosToken: bool
    omit_eos_token: bool
    omitEosToken: bool
    tool_definitions: Sequence[Any]
    toolDefinitions: Sequence[Any]


def template_options(opts: Mapping[str, Any] | None) -> ApplyPromptTemplateOptions:
    """Make the wire's options out of a dict in either spelling.

    :raises LMStudioValueError: if it is not a dict, or has an unknown key or an invalid value.
    """
    if opts is not None and not isinstance(opts, Mapping):
        raise LMStudioValueError(f"opts must be a dict, not {opts!r:.80}")
    names = [each.name for each in attrs.fields(ApplyPromptTemplateOptions) if each.name != "extra"]
    spellings = {spelling: name for name in names for spelling in (name, camel(name))}
    members: dict[str, Any] = {}
    for key, value in (opts or {}).items():
        if key not in spellings:
            raise LMStudioValueError(f"opts has no {key!r}; it has {', '.join(names)}")
        if key.lower().startswith("omit") and not isinstance(value, bool):
            raise LMStudioValueError(f"{key!r} in opts must be True or False, not {value!r:.80}")
        members[spellings[key]] = list(value) if spellings[key] == "tool_definitions" else value
    return ApplyPromptTemplateOptions(**members)


def unformatted(stack: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config stack with one more layer, whose template renders only the text of the chat."""
    template = {
        "type": "jinja",
        "jinjaPromptTemplate": _ONLY_THE_TEXT,
        "stopStrings": [],
    }
    field = {"key": "llm.prediction.promptTemplate", "value": template}
    layer = {"layerName": "completeModeFormatting", "config": {"fields": [field]}}
    return {"layers": [*stack["layers"], layer]}
