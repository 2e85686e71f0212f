"""Contents of the tests of each model: the offered tools, their calls, reasoning, and answers without calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2

from tests.templates.families import FAMILIES, Family, ToolCall
from tests.templates.reference import rendered

__all__ = ["CALLS", "PLAIN", "THOUGHT", "TOOLS", "calls_of", "scripts_of"]


def _tool(name: str, description: str, **parameters: str) -> dict[str, Any]:
    properties = {key: {"type": kind, "description": f"The {key}"} for key, kind in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": schema},
    }


TOOLS = [
    _tool("get_weather", "Forecast the weather", city="string", days="integer"),
    _tool("get_time", "Tell the time", zone="string"),
]
CALLS: list[ToolCall] = [("get_weather", {"city": "Rome", "days": 3}), ("get_time", {"zone": "UTC"})]
THOUGHT = "Hm, let me see."
#: Name of the case -> an answer that is no call, although it may look like one.
PLAIN = {
    "words": "It is sunny.",
    "dict": 'Use a dict: {"a": 1}.',
    "json": '{"temperature": 3, "unit": "C"}',
    "code": "int main() {\n    return 0;\n}",
    "list": 'The names: ["a", "b"] and {c}.',
    "markup": "Write <b>bold</b> and <br/>, if a < b > c.",
}


def calls_of(family: Family) -> Mapping[str, list[ToolCall]]:
    """Return the tool calls in an answer, by the name of the case."""
    several = family.calls is None or family.calls.between is not None
    return {"call": CALLS[:1], "calls": CALLS} if several else {"call": CALLS[:1]}


def scripts_of(name: str, template: str) -> Mapping[str, str]:
    """Return the answers of a model, by the name of the case. They begin with reasoning if the family has it.

    :param name: name of the chat template.
    :param template: chat template, in Jinja.
    """
    family = FAMILIES[name]
    texts = {case: family.write(text, thought=THOUGHT) for case, text in PLAIN.items()}
    texts |= {case: family.write("", *calls, thought=THOUGHT) for case, calls in calls_of(family).items()}
    try:
        prompt = rendered(template, [{"role": "user", "content": "Go"}])
    except (jinja2.TemplateError, TypeError):
        # Two templates fail without tools, and neither begins an answer.
        prompt = ""
    return {case: _rest(text, prompt) for case, text in texts.items()}


def _rest(text: str, prompt: str) -> str:
    """Remove the beginning of an answer that is already the end of the prompt."""
    begun = (length for length in range(len(text), 0, -1) if prompt.endswith(text[:length]))
    return text[next(begun, 0) :]
