"""Chat templates as transformers renders them: jinja2 in its sandbox, with the few names that templates rely on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NoReturn

import jinja2
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tests.templates.scripted import BOS, EOS

__all__ = ["rendered"]


class _Generation(Extension):
    """The tag ``{% generation %}``, which marks the text of the model and prints nothing itself."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


_ENVIRONMENT = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
)
_ENVIRONMENT.filters["tojson"] = _tojson
_ENVIRONMENT.globals |= {
    "raise_exception": _raise_exception,
    "strftime_now": lambda form: datetime.now().astimezone().strftime(form),
}


@cache
def _compiled(template: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(template)


def rendered(
    template: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
) -> str:
    """Render a chat, up to where the answer begins.

    :param template: chat template, in Jinja.
    :param messages: messages in the form of transformers: arguments of tool calls are mappings.
    :param tools: offered tools.
    :raises jinja2.TemplateError: the template refuses the chat.
    """
    prompt: str = _compiled(template).render(
        messages=messages,
        tools=tools,
        add_generation_prompt=True,
        # The engine sets these variables as well.
        enable_thinking=True,
        date_string=datetime.now().astimezone().strftime("%d %b %Y"),
        bos_token=BOS,
        eos_token=EOS,
    )
    return prompt
