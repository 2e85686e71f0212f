"""Structured output: the setting that requests a format from the server, and the reader of the answer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, dataclass_transform, runtime_checkable

import attrs

from lmstudio_async._arguments import check_text
from lmstudio_async._printable import ShortRepr, printable, printable_lines
from lmstudio_async._wire._json import loads
from lmstudio_async.errors import LMStudioStructuredOutputError, LMStudioValueError

if TYPE_CHECKING:
    # With this default, `parsed` of a `PredictionResult` without brackets is `Any`.
    from typing_extensions import TypeVar

    ParsedT = TypeVar("ParsedT", default=Any)
else:
    from typing import TypeVar

    ParsedT = TypeVar("ParsedT")

__all__ = [
    "BaseModel",
    "DictSchema",
    "GbnfGrammar",
    "ModelSchema",
    "ParsedT",
    "ResponseFormat",
    "ResponseReader",
]

DictSchema: TypeAlias = Mapping[str, Any]
"""A JSON schema."""

# Type of a setting -> the spellings of its member, the wire's first.
_FORMATS = {"json": ("jsonSchema", "json_schema"), "gbnf": ("gbnfGrammar", "gbnf_grammar"), "none": ()}
# Stop reason -> the words for it. The server enforces the format, so an answer that is not JSON was usually cut off.
_CUT_OFF = {
    "maxPredictedTokensReached": "was cut off by max_tokens (give it a larger value)",
    "contextLengthReached": "was cut off because the context is full (load the model with a larger context_length)",
    "modelUnloaded": "was cut off when the model was unloaded",
}


@attrs.frozen(repr=False)
class GbnfGrammar(ShortRepr):
    """A grammar in GBNF, llama.cpp's notation, for an answer. ``result.parsed`` is the plain text.

    :param grammar: the grammar; its start rule is called ``root``.

    ::

        result = await llm.respond("Is water wet?", response_format=GbnfGrammar('root ::= "yes" | "no"'))
    """

    grammar: str


@runtime_checkable
class ModelSchema(Protocol):
    """A class that describes itself by a JSON schema, as pydantic's models do.

    Answers become its instances if it also has ``model_validate``, and plain JSON if not.
    """

    @classmethod
    def model_json_schema(cls) -> DictSchema:
        """Return the JSON schema.

        :return: the schema.
        """
        ...


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(attrs.field,))
class BaseModel:
    """Base for classes of structured answers: each subclass is a frozen attrs class with keyword-only parameters.

    attrs classes, dataclasses and pydantic models work as well, without this base.

    ::

        class Book(BaseModel):
            title: str
            author: str
            year: int | None = None


        book = (await llm.respond("Tell me about The Hobbit", response_format=Book)).parsed
    """

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        # No slots, because with them attrs would create a second class instead of changing this one.
        attrs.frozen(cls, kw_only=True, slots=False)

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]:
        """Return the JSON schema of the class.

        :return: a new dict.
        """
        from lmstudio_async._schema import json_schema_of

        return json_schema_of(cls)


ResponseFormat: TypeAlias = type[ParsedT] | DictSchema | GbnfGrammar
"""Format of an answer.

An attrs class, a dataclass, a `TypedDict`, a pydantic model, or any other type that JSON can hold: ``result.parsed``
is an instance of it. A JSON schema as a dict: ``result.parsed`` is plain JSON. A `GbnfGrammar`: ``result.parsed`` is
the text. ``{"type": "json", "jsonSchema": {...}}`` and ``{"type": "gbnf", "gbnfGrammar": "..."}`` are accepted as well,
and so are the forms of OpenAI, such as ``{"type": "json_schema", "json_schema": {"schema": {...}}}``.
"""


class ResponseReader:
    """Setting that requests a format from the server, and reader of the answer.

    :param response_format: see `ResponseFormat`; None for free text.
    :param setting: ``structured`` of the prediction config, in wire form.
    :raises LMStudioValueError: if both are given, or the format is invalid.
    """

    def __init__(self, response_format: Any, setting: Any = None) -> None:
        self.setting: Mapping[str, Any] | None = None
        self._read: Callable[[Any], Any] | None = None
        if response_format is None:
            if isinstance(setting, Mapping) and setting.get("type") == "json":
                self._read = _as_it_is
            return
        if setting is not None:
            raise LMStudioValueError("give either response_format or config['structured'], not both")
        if isinstance(response_format, GbnfGrammar):
            grammar = check_text(response_format.grammar, "the grammar")
            self.setting = {"type": "gbnf", "gbnfGrammar": grammar}
        elif isinstance(response_format, Mapping):
            self.setting = _setting_of_dict(response_format)
            self._read = _as_it_is if self.setting["type"] == "json" else None
        elif isinstance(response_format, str):
            raise LMStudioValueError(
                "response_format is a class, a JSON schema as a dict, or a grammar: GbnfGrammar('root ::= ...'), "
                f"not the text {response_format!r:.80}"
            )
        else:
            self.setting = {"type": "json", "jsonSchema": _schema_of(response_format)}
            self._read = _TypeReader(response_format)

    def read(self, content: str, answer: str, stop_reason: str) -> Any:
        """Convert an answer to the requested format.

        :param content: the whole text, which is returned if there is no format.
        :param answer: the text to read, without reasoning.
        :param stop_reason: why the prediction ended.
        :raises LMStudioStructuredOutputError: if the answer does not fit the format.
        """
        if self._read is None:
            return content
        from lmstudio_async._schema import MisfitError

        try:
            value = loads(answer)
        except (ValueError, RecursionError) as error:
            cut_off = _CUT_OFF.get(stop_reason)
            raise LMStudioStructuredOutputError(
                f"The answer {cut_off or f'is not JSON ({printable(str(error))})'}: {_excerpt(answer)}",
                content=content,
            ) from (None if cut_off else error)
        try:
            return self._read(value)
        except MisfitError as error:
            raise LMStudioStructuredOutputError(
                f"The answer does not fit {self._read}: {printable_lines(str(error))}: {_excerpt(answer)}",
                content=content,
            ) from error


class _TypeReader:
    """Converts JSON to a type. Its ``str()`` is the name of the type, for error messages."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def __call__(self, value: Any) -> Any:
        from lmstudio_async._schema import structure

        return structure(self._kind, value)

    def __str__(self) -> str:
        return getattr(self._kind, "__name__", None) or str(self._kind)


def _as_it_is(value: Any) -> Any:
    return value


def _schema_of(kind: Any) -> dict[str, Any]:
    from lmstudio_async._json_types import has_own_schema, own_schema
    from lmstudio_async._schema import json_schema_of

    if has_own_schema(kind):
        return own_schema(kind)
    try:
        return json_schema_of(kind)
    except TypeError as error:
        raise LMStudioValueError(f"response_format cannot be {kind!r:.80}: {error}") from error


def _setting_of_dict(given: Mapping[str, Any]) -> dict[str, Any]:
    """Make a setting out of a setting of LM Studio or OpenAI, or of any other dict, which is a JSON schema."""
    kind = given.get("type")
    if kind == "text":
        return {"type": "none"}
    if kind == "json_object":
        return {"type": "json"}
    if kind == "json_schema":
        return {"type": "json", "jsonSchema": copy.deepcopy(dict(_schema_of_openai(given)))}
    if not isinstance(kind, str) or kind not in _FORMATS:
        return {"type": "json", "jsonSchema": copy.deepcopy(dict(given))}
    spellings = _FORMATS[kind]
    if unknown := given.keys() - {"type", *spellings}:
        names = ", ".join(map(repr, sorted(map(str, unknown))))
        raise LMStudioValueError(f"response_format of type {kind!r} has {names}; it can have {spellings!r}")
    from lmstudio_async._json_types import has_own_schema

    setting: dict[str, Any] = {"type": kind}
    for spelling in spellings:
        value = given.get(spelling)
        if isinstance(value, type) and has_own_schema(value):
            value = _schema_of(value)
        if value is not None:
            setting[spellings[0]] = copy.deepcopy(value)
    if kind == "gbnf":
        check_text(setting.get("gbnfGrammar"), "the grammar")
    return setting


def _schema_of_openai(given: Mapping[str, Any]) -> Mapping[str, Any]:
    # OpenAI's older API has the schema and its name in an object of their own, the newer one beside the type.
    described = given.get("json_schema", given)
    schema = described.get("schema") if isinstance(described, Mapping) else None
    if not isinstance(schema, Mapping):
        raise LMStudioValueError(
            "response_format of type 'json_schema' needs the schema as {'type': 'json_schema', 'json_schema': "
            f"{{'schema': {{...}}}}}}, not {given!r:.80}"
        )
    return schema


def _excerpt(text: str, width: int = 200) -> str:
    return repr(text if len(text) <= width else text[: width - 1] + "…")
