"""Tools: functions that a model may call, their descriptions for the model, and their arguments."""

from __future__ import annotations

import functools
import inspect
import json
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NotRequired, Required, Self, TypedDict, cast

import attrs

from lmstudio_async._arguments import check_name, check_text
from lmstudio_async._docstrings import docstring_of, parameter_docs
from lmstudio_async._json_types import REQUIRED, Member, jsonable
from lmstudio_async._printable import ShortRepr
from lmstudio_async._schema import members_schema, structure_members
from lmstudio_async._wire._kv import misfit
from lmstudio_async.errors import LMStudioValueError

__all__ = [
    "PreparedTool",
    "ToolDefinition",
    "ToolFunctionDef",
    "ToolFunctionDefDict",
    "ToolParamDefDict",
    "plain_function",
    "prepare_tools",
    "result_text",
]

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class ToolParamDefDict(TypedDict, total=False):
    """A parameter of a tool: its ``type``, a ``default`` if it is optional, and a ``description`` for the model."""

    type: Required[Any]
    default: NotRequired[Any]
    description: NotRequired[str]


class ToolFunctionDefDict(TypedDict):
    """A tool as a dict, with the members of `ToolFunctionDef`."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    implementation: Callable[..., Any]


@attrs.frozen(repr=False)
class ToolFunctionDef(ShortRepr):
    """A tool: a function that a model may call, and its description for the model.

    A function with annotations and a docstring is a tool by itself; this class is for any other function.

    :param name: name of the tool, for the model.
    :param description: description of the tool, for the model.
    :param parameters: the parameters by name: a type, or a dict with a ``type``, a ``default`` if the parameter is
        optional, and a ``description``. Alternatively, a JSON schema of an object
        (``{"type": "object", "properties": ...}``): it is sent to the model unchanged, and the function is called with
        the model's arguments unchanged.
    :param implementation: plain or async function, called with the arguments by name. Plain ones run in a worker
        thread. The return value is sent to the model as JSON.

    ::

        from pathlib import Path

        def create_file(path, text):
            Path(path).write_text(text)
            return "created"

        tool = ToolFunctionDef("create_file", "Create a text file.", {"path": str, "text": str}, create_file)
        await llm.act("Write a haiku to haiku.txt", [tool])
    """

    name: str
    description: str
    parameters: Mapping[str, Any] = attrs.field(hash=False)
    implementation: Callable[..., Any]

    @classmethod
    def from_callable(
        cls, f: Callable[..., Any], *, name: str | None = None, description: str | None = None
    ) -> Self:
        """Make a tool out of a function with annotations and a docstring.

        The description of a parameter is taken from the docstring (``:param name:``, or the style of Google or numpy),
        or from a text in its `typing.Annotated`. Parameters like ``*args`` and ``**kwargs`` are left out.

        :param f: the function, plain or async.
        :param name: name of the tool; None takes the function's own name.
        :param description: description of the tool; None takes the docstring.
        :return: the tool.
        :raises LMStudioValueError: if the name, the description, or the type of a parameter is missing.

        ::

            def add(a: int, b: int) -> int:
                '''Add two numbers.'''
                return a + b

            tool = ToolFunctionDef.from_callable(add, name="add_numbers")
        """
        plain = plain_function(f)
        owner = plain if inspect.isroutine(unwrapped := _without_partial(f)) else type(unwrapped)
        name = name or owner.__name__
        if name == "<lambda>":
            raise LMStudioValueError("a lambda has no name to call it by: use ToolFunctionDef, or def")
        docstring = docstring_of(plain) or docstring_of(owner)
        description = description or docstring
        if not description:
            raise LMStudioValueError(
                f"the model needs a description of {name}(): give it a docstring, or use "
                "ToolFunctionDef.from_callable(function, description=...)"
            )
        return cls(name, description, _parameters(f, plain, name, docstring), f)


ToolDefinition = ToolFunctionDef | ToolFunctionDefDict | Callable[..., Any]
"""A tool that a model may call: a function with annotations and a docstring, a `ToolFunctionDef`, or its dict form."""


@attrs.frozen
class PreparedTool:
    """A tool, ready to be sent and to be called.

    :param wire: the description that is sent to the server.
    :param members: the parameters; None if they are only known as a JSON schema.
    """

    name: str
    wire: dict[str, Any]
    implementation: Callable[..., Any]
    members: list[Member] | None

    def arguments(self, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """Convert the model's arguments to the types of the parameters.

        :raises ValueError: if they do not fit.
        """
        if self.members is not None:
            return structure_members(self.members, given or {}, "arguments")
        arguments = dict(given or {})
        required = self.wire["function"]["parameters"].get("required", ())
        missing = [name for name in required if name not in arguments]
        if missing:
            raise ValueError(f"arguments: {', '.join(map(repr, missing))} is missing")
        return arguments


def prepare_tools(tools: Iterable[ToolDefinition]) -> dict[str, PreparedTool]:
    """Check the tools, and return them by name, ready to be sent and called.

    :raises LMStudioValueError: if there are none, two have the same name, or one of them is invalid.
    """
    if isinstance(tools, (str, Mapping)) or not isinstance(tools, Iterable):
        raise LMStudioValueError(f"tools must be a list of tools, not {tools!r:.80}")
    prepared: dict[str, PreparedTool] = {}
    for tool in tools:
        made = _prepare(_definition(tool))
        if made.name in prepared:
            raise LMStudioValueError(
                f"two tools are called {made.name!r}; the model could not tell them apart"
            )
        prepared[made.name] = made
    if not prepared:
        raise LMStudioValueError("act() needs at least one tool; without tools, use respond()")
    return prepared


def result_text(value: object) -> str:
    """Return the result of a tool as JSON text for the model.

    :raises TypeError: if it has no JSON form.
    """
    return json.dumps(jsonable(value), ensure_ascii=False)


def _definition(tool: ToolDefinition) -> ToolFunctionDef:
    if isinstance(tool, ToolFunctionDef):
        return tool
    if isinstance(tool, Mapping):
        names = {field.name for field in attrs.fields(ToolFunctionDef)}
        if tool.keys() != names:
            raise LMStudioValueError(
                f"a tool given as a dict has {', '.join(sorted(names))}, not {tool!r:.120}"
            )
        return ToolFunctionDef(**cast("dict[str, Any]", tool))
    if callable(tool) and not isinstance(tool, type):
        return ToolFunctionDef.from_callable(tool)
    raise LMStudioValueError(f"a tool is a function, a ToolFunctionDef or a dict, not {tool!r:.80}")


def _prepare(tool: ToolFunctionDef) -> PreparedTool:
    name = check_name(tool.name, "the name of a tool")
    if not callable(tool.implementation):
        raise LMStudioValueError(
            f"the implementation of the tool {name!r} must be a function, not {tool.implementation!r:.80}"
        )
    if not isinstance(tool.parameters, Mapping):
        raise LMStudioValueError(
            f"the parameters of the tool {name!r} must be a mapping, not {tool.parameters!r:.80}"
        )
    members = None
    # A JSON schema: the value of a parameter called "type" would be a type or a dict, never this text.
    if tool.parameters.get("type") == "object":
        schema = dict(tool.parameters)
        if found := misfit(("json",), schema):
            raise LMStudioValueError(
                f"the parameters of the tool {name!r} are no JSON schema: {' '.join(found)}"
            )
        schema.setdefault("properties", {})
    else:
        members = [_member(parameter, tool) for parameter in tool.parameters.items()]
        try:
            schema = members_schema(members)
        except LMStudioValueError as error:
            raise LMStudioValueError(f"the tool {name!r} cannot be described to a model: {error}") from error
    function = {
        "name": name,
        "description": check_text(tool.description, f"the description of the tool {name!r}"),
        "parameters": schema,
    }
    return PreparedTool(name, {"type": "function", "function": function}, tool.implementation, members)


def _member(parameter: tuple[str, Any], tool: ToolFunctionDef) -> Member:
    name, kind = parameter
    check_text(name, f"the name of a parameter of the tool {tool.name!r}")
    if not isinstance(kind, Mapping):
        return Member(name, kind, REQUIRED)
    if "type" not in kind or not kind.keys() <= {"type", "default", "description"}:
        raise LMStudioValueError(
            f"the parameter {name!r} of the tool {tool.name!r} is a type, or a dict with a 'type' and perhaps a "
            f"'default' and a 'description', not {kind!r:.80}"
        )
    return Member(name, kind["type"], kind.get("default", REQUIRED), kind.get("description"))


# -- reading functions


def plain_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function behind a partial function or a callable object: it has the annotations."""
    function = _without_partial(function)
    return function if inspect.isroutine(function) else type(function).__call__


def _without_partial(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _parameters(
    function: Callable[..., Any], plain: Callable[..., Any], name: str, docstring: str
) -> dict[str, ToolParamDefDict]:
    try:
        signature = inspect.signature(function)
        hints = typing.get_type_hints(plain, include_extras=True)
    except (AttributeError, NameError) as error:
        raise LMStudioValueError(
            f"an annotation of {name}() cannot be found: {error}. Define the name at module level."
        ) from error
    except (TypeError, ValueError) as error:
        raise LMStudioValueError(
            f"{name}() has no readable signature: list its parameters with ToolFunctionDef"
        ) from error
    docs = parameter_docs(docstring)
    bound = function.keywords if isinstance(function, functools.partial) else {}
    parameters: dict[str, ToolParamDefDict] = {}
    for parameter in signature.parameters.values():
        if parameter.kind in _VARIADIC or parameter.name in bound:
            continue
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            raise LMStudioValueError(
                f"{name}() must take {parameter.name!r} by name: tools are called with keyword arguments"
            )
        made: ToolParamDefDict = {"type": _type_of(parameter, hints, name)}
        if parameter.default is not inspect.Parameter.empty:
            made["default"] = parameter.default
        if parameter.name in docs and not _describes_itself(made["type"]):
            made["description"] = docs[parameter.name]
        parameters[parameter.name] = made
    return parameters


def _type_of(parameter: inspect.Parameter, hints: Mapping[str, Any], function: str) -> Any:
    if parameter.name in hints:
        hint = hints[parameter.name]
        return hint if parameter.default is not None else typing.Optional[hint]  # noqa: UP045 - any hint will do
    if parameter.default is inspect.Parameter.empty:
        raise LMStudioValueError(
            f"the parameter {parameter.name!r} of {function}() needs an annotation: the model must know its type"
        )
    kind = type(parameter.default)
    return kind if kind in (str, int, float, bool, list, dict) else Any


def _describes_itself(kind: Any) -> bool:
    return typing.get_origin(kind) is typing.Annotated and any(
        isinstance(note, str) or hasattr(note, "description") for note in kind.__metadata__
    )
