"""Tool use for models whose chat template has none: a system message lists the tools, a grammar constrains the calls.

The form of a call is that of LM Studio's default tool use::

    [TOOL_REQUEST]{"name": "add", "arguments": {"a": 1, "b": 2}}[END_TOOL_REQUEST]

With the grammar even a small model calls only existing tools, with arguments that match their schemas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lmstudio_async.embedded._prediction._mark_scanners import beginning_at_end
from lmstudio_async.embedded._templates._template_message import TemplateMessage

__all__ = ["RequestScanner", "grammar", "with_tools"]

Delta = dict[str, Any]

_START, _END = "[TOOL_REQUEST]", "[END_TOOL_REQUEST]"
_RESULT_START, _RESULT_END = "[TOOL_RESULT]", "[END_TOOL_RESULT]"
_MOST_CALLS = 8
_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=\S)')

_INSTRUCTIONS = """\
You can call tools. To call one, write its name and its arguments in exactly this form:
{example}
The result comes with the next message. Call a tool only if it helps to answer; otherwise answer as usual.
The tools, one on a line:
{tools}"""


def with_tools(
    messages: Sequence[TemplateMessage], tools: Sequence[Mapping[str, Any]]
) -> list[TemplateMessage]:
    """Return a chat with its tools, tool calls and results written as plain text.

    :param messages: the chat, in the form of OpenAI's chat completions.
    :param tools: the tools that the model may call; empty if it may call none.
    """
    written: list[TemplateMessage] = []
    for message in messages:
        role = message["role"]
        if role == "tool":
            text = f"{_RESULT_START}{message['content']}{_RESULT_END}"
            if written and written[-1].get("is_result"):
                written[-1]["content"] += "\n" + text
            else:
                # Templates without tools have no role "tool". Results are joined because many templates require that
                # user and assistant take turns.
                written.append({"role": "user", "content": text, "is_result": True})
        elif calls := message.get("tool_calls"):
            texts = [_request(call["function"]["name"], call["function"]["arguments"]) for call in calls]
            others = {key: value for key, value in message.items() if key != "tool_calls"}
            written.append({**others, "content": "\n".join(filter(None, [message["content"], *texts]))})
        else:
            written.append(dict(message))
    for message in written:
        message.pop("is_result", None)
    if tools:
        instructions = _INSTRUCTIONS.format(
            example=_request("tool_name", '{"parameter": "value"}'),
            tools="\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools),
        )
        if written and written[0]["role"] == "system" and isinstance(written[0]["content"], str):
            written[0] = {**written[0], "content": f"{written[0]['content']}\n\n{instructions}"}
        else:
            written.insert(0, {"role": "system", "content": instructions})
    return written


def _request(name: str, arguments: str) -> str:
    return f'{_START}{{"name": {json.dumps(name)}, "arguments": {arguments}}}{_END}'


def grammar(tools: Sequence[Mapping[str, Any]], *, required: bool, end: str) -> str:
    """Return the grammar of an answer: text, followed by calls of these tools.

    :param required: whether the answer must consist of calls only.
    :param end: the token that ends an answer.
    """
    # Allow the end token of the model, because the engine may treat another one of several end tokens as the end.
    ending = f" {end}?" if re.fullmatch(r"<[^<>\s]+>", end) else ""
    mark = json.dumps(_START)
    rules = [
        "%llguidance {}",
        f"start: {mark} calls{ending}" if required else f"start: (TEXT? | text_and_mark calls){ending}",
        # Text is everything without the start mark of a call.
        rf"TEXT: /(?s:.+)/ & ~/(?s:.*){re.escape(_START)}(?s:.*)/",
        rf"text_and_mark[lazy]: /(?s:.*){re.escape(_START)}/",
        # The number of calls is limited, because a small model may repeat itself endlessly.
        rf"calls: call (/\s{{0,2}}/ {mark} call){{0,{_MOST_CALLS - 1}}}",
        "call: " + " | ".join(f"call_{number}" for number in range(len(tools))),
    ]
    for number, tool in enumerate(tools):
        function = tool["function"]
        head = json.dumps(f'{{"name": {json.dumps(function["name"])}, "arguments": ')
        rules.append(f"call_{number}: {head} arguments_{number} {json.dumps('}' + _END)}")
        parameters = {
            "type": "object",
            "additionalProperties": False,
            **(function.get("parameters") or {}),
            "x-guidance": {
                "whitespace_flexible": False,
                "item_separator": ", ",
                "key_separator": ": ",
                # Otherwise one unknown keyword in a schema would make the engine ignore the whole grammar.
                "lenient": True,
                "coerce_one_of": True,
            },
        }
        rules.append(f"arguments_{number}: %json {json.dumps(parameters)}")
    return "\n".join(rules) + "\n"


class RequestScanner:
    """Finds the calls in the form of LM Studio's default tool use in the text of an answer, which arrives in pieces."""

    def __init__(self) -> None:
        self._held = ""
        self._index = -1
        self._state: Literal["text", "head", "arguments"] = "text"

    @property
    def found_any(self) -> bool:
        """Whether a call was found."""
        return self._index >= 0

    def feed(self, text: str) -> tuple[str, list[Delta]]:
        """Return certain text, and the calls as the engine would stream them: a name, then arguments in pieces."""
        self._held += text
        plain, deltas = "", list[Delta]()
        while True:
            before = (self._state, len(self._held))
            if self._state == "text":
                plain += self._text()
            elif self._state == "head":
                deltas += self._head()
            else:
                deltas += self._arguments()
            if (self._state, len(self._held)) == before:
                return plain, deltas

    def flush(self) -> str:
        """Return the held text that is no call, at the end of the answer."""
        text, self._held = self._held, ""
        return _START + text if self._state == "head" else text if self._state == "text" else ""

    def _text(self) -> str:
        # White space between calls is only a separator.
        held = self._held.lstrip() if self.found_any else self._held
        text, mark, rest = held.partition(_START)
        if mark:
            self._held, self._state = rest, "head"
            self._index += 1
            return text
        keep = beginning_at_end(text, (_START,))
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def _head(self) -> list[Delta]:
        found = _HEAD.match(self._held)
        if found is None:
            return []
        self._held, self._state = self._held[found.end() :], "arguments"
        name = json.loads(found[1])
        return [{"index": self._index, "id": None, "function": {"name": name, "arguments": ""}}]

    def _arguments(self) -> list[Delta]:
        text, mark, rest = self._held.partition("}" + _END)
        if mark:
            self._held, self._state = rest, "text"
        else:
            keep = beginning_at_end(text, ("}" + _END,))
            self._held, text = text[len(text) - keep :], text[: len(text) - keep]
        return [{"index": self._index, "function": {"arguments": text}}] if text else []
