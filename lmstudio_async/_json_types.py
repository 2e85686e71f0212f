"""Python types as JSON: the kinds of types, the members of classes, and values as plain JSON."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Mapping, MutableMapping, MutableSequence, MutableSet, Sequence
from collections.abc import Collection as AbstractCollection
from collections.abc import Set as AbstractSet
from functools import cache
from typing import Annotated, Any, get_args, get_origin

import attrs

from lmstudio_async._wire._json import real_number
from lmstudio_async.errors import LMStudioValueError

__all__ = [
    "FORMATS",
    "LISTS",
    "MAPPINGS",
    "REQUIRED",
    "SCALARS",
    "JsonSchema",
    "Member",
    "check_key",
    "has_own_schema",
    "is_enum",
    "is_union",
    "jsonable",
    "members_of",
    "no_schema",
    "own_schema",
    "unwrap",
]

JsonSchema = dict[str, Any]


class _Required(enum.Enum):
    REQUIRED = enum.auto()


REQUIRED: Any = _Required.REQUIRED
"""Marker for a member without a default."""

SCALARS: Mapping[Any, tuple[JsonSchema, str]] = {
    str: ({"type": "string"}, "a text"),
    bool: ({"type": "boolean"}, "true or false"),
    int: ({"type": "integer"}, "a whole number"),
    float: ({"type": "number"}, "a number"),
    types.NoneType: ({"type": "null"}, "null"),
}
FORMATS: Mapping[Any, tuple[str, Callable[[str], Any]]] = {
    dt.datetime: ("date-time", dt.datetime.fromisoformat),
    dt.date: ("date", dt.date.fromisoformat),
    dt.time: ("time", dt.time.fromisoformat),
    uuid.UUID: ("uuid", uuid.UUID),
}
LISTS: Mapping[Any, Callable[[list[Any]], Any]] = {
    list: list,
    Sequence: list,
    MutableSequence: list,
    Iterable: list,
    AbstractCollection: list,
    set: set,
    AbstractSet: set,
    MutableSet: set,
    frozenset: frozenset,
}
MAPPINGS = (dict, Mapping, MutableMapping)


@attrs.frozen
class Member:
    """A member of a class that becomes a JSON object, or a parameter of a function.

    :param name: name in JSON, and of the parameter that takes it.
    :param annotation: its type; annotations in text form are resolved.
    :param default: value of an absent member, to be shown in the schema; `REQUIRED` if the member must not be absent,
        and ``...`` if the schema cannot show its default.
    :param description: meaning of the member, for the model.
    """

    name: str
    annotation: Any
    default: Any = REQUIRED
    description: str | None = None


def members_of(kind: Any) -> list[Member] | None:
    """Return the members of an attrs class, a dataclass or a `TypedDict`; None for anything else.

    :raises LMStudioValueError: if a name in an annotation cannot be found.
    """
    return list(_members(kind)) if isinstance(kind, type) and _is_class_of_members(kind) else None


def jsonable(value: Any) -> Any:
    """Convert scalars, containers, enums, dates, attrs objects, dataclasses and pydantic models to plain JSON.

    Numbers of other libraries are converted, too. Keys that are not texts become texts, as in `json.dumps`.

    :raises TypeError: if the value is anything else.
    """
    if value is None or type(value) in (str, bool, int, float):
        return value
    if isinstance(value, enum.Enum):
        return jsonable(value.value)
    if isinstance(value, Mapping):
        return {jsonable_key(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item) for item in value]
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, (str, int, float)):
        return next(base(value) for base in (str, int, float) if isinstance(value, base))
    if has_own_schema(type(value)) and hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    members = members_of(type(value))
    if members is None:
        number = real_number(value)
        if number is None:
            raise TypeError(f"{type(value).__name__} has no JSON form")
        return number
    return {member.name: jsonable(_attribute(value, member.name)) for member in members}


def jsonable_key(key: Any) -> str:
    """Convert a key to the key of a JSON object.

    :raises TypeError: if it is neither a text nor a number, True, False or None.
    """
    plain = jsonable(key)
    if isinstance(plain, (list, dict)):
        raise TypeError(f"the keys of a JSON object are texts, not {key!r:.80}")
    return plain if isinstance(plain, str) else json.dumps(plain)


def _attribute(value: Any, name: str) -> Any:
    # attrs strips leading underscores off the parameter, not off the attribute.
    if attrs.has(type(value)):
        name = next(field.name for field in attrs.fields(type(value)) if field.alias == name)
    return getattr(value, name)


def unwrap(kind: Any) -> tuple[Any, str | None]:
    """Return the type inside wrappers such as `Annotated`, `Required` or a type alias, and its description."""
    description = None
    if kind is None:
        return types.NoneType, None
    while True:
        origin = get_origin(kind)
        if origin is Annotated:
            described = (_description(note) for note in kind.__metadata__)
            description = description or next(filter(None, described), None)
            kind = kind.__origin__
        elif origin in (typing.Required, typing.NotRequired):
            (kind,) = get_args(kind)
        elif hasattr(kind, "__supertype__"):
            kind = kind.__supertype__
        elif type(kind).__name__ == "TypeAliasType":
            kind = kind.__value__
        else:
            return kind, description


def _description(note: Any) -> str | None:
    """Return the description in a note of `Annotated`: a text, or an object of pydantic, msgspec or `typing.Doc`."""
    text = (
        note if isinstance(note, str) else getattr(note, "description", getattr(note, "documentation", None))
    )
    return text if isinstance(text, str) else None


def is_union(origin: Any) -> bool:
    return origin is typing.Union or origin is types.UnionType


def is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)


def _is_class_of_members(kind: type) -> bool:
    return attrs.has(kind) or dataclasses.is_dataclass(kind) or typing.is_typeddict(kind)


def has_own_schema(kind: Any) -> bool:
    return isinstance(kind, type) and callable(getattr(kind, "model_json_schema", None))


def own_schema(kind: Any) -> JsonSchema:
    """Return the schema that a class describes itself with.

    pydantic describes a set as an array with unique items. A grammar cannot enforce that, so an engine would have to
    refuse the schema. A class that reads answers does not need it, because it makes a set of any array.
    """
    schema: JsonSchema = dict(kind.model_json_schema())
    reads_answers = callable(getattr(kind, "model_validate", None))
    return _without_unique_items(schema) if reads_answers else schema


def _without_unique_items(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_unique_items(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    is_array = schema.get("type") == "array"
    return {
        key: _without_unique_items(value)
        for key, value in schema.items()
        if not (is_array and key == "uniqueItems")
    }


@cache
def _members(kind: type) -> tuple[Member, ...]:
    try:
        annotations = typing.get_type_hints(kind, include_extras=True)
    except (AttributeError, NameError) as error:
        raise LMStudioValueError(
            f"an annotation of {kind.__name__} cannot be found: {error}. Define the name at module level."
        ) from error
    if typing.is_typeddict(kind):
        return tuple(
            Member(name, annotation, ... if _may_be_absent(kind, name, annotation) else REQUIRED)
            for name, annotation in annotations.items()
        )
    if attrs.has(kind):
        return tuple(
            Member(
                field.alias or field.name,
                annotations.get(field.name, Any),
                _default_of_attrs(field.default),
                field.metadata.get("description"),
            )
            for field in attrs.fields(kind)
            if field.init
        )
    fields = dataclasses.fields(kind)
    return tuple(
        Member(
            field.name,
            annotations.get(field.name, Any),
            _default_of_dataclass(field),
            field.metadata.get("description"),
        )
        for field in fields
        if field.init
    )


def _may_be_absent(kind: Any, name: str, annotation: Any) -> bool:
    # `__optional_keys__` is wrong where annotations are texts, as after `from __future__ import annotations`.
    origin = get_origin(annotation)
    if origin in (typing.Required, typing.NotRequired):
        return origin is typing.NotRequired
    return name in kind.__optional_keys__


def _default_of_attrs(default: Any) -> Any:
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return _made(default.factory)
    return REQUIRED if default is attrs.NOTHING else default


def _default_of_dataclass(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return _made(field.default_factory)
    return REQUIRED if field.default is dataclasses.MISSING else field.default


def _made(factory: Any) -> Any:
    # Do not call other factories: they may have side effects, or make another value each time.
    return factory() if factory in (list, dict, set, frozenset, tuple) else ...


def check_key(kind: Any) -> None:
    key, _ = unwrap(get_args(kind)[0] if get_args(kind) else str)
    texts = [member.value for member in key] if is_enum(key) else get_args(key)
    if key in (str, Any) or (texts and all(isinstance(text, str) for text in texts)):
        return
    raise LMStudioValueError(f"the keys of a JSON object are texts: {_name_of(kind)} has no JSON schema")


def no_schema(kind: Any) -> str:
    if isinstance(kind, str):
        return f"the annotation {kind!r} is an unresolved text: give the type itself"
    return (
        f"{_name_of(kind)} has no JSON schema. Types with one: str, int, float, bool, None, list, tuple, set, dict, "
        "Literal, enums, unions, dates, attrs classes, dataclasses, TypedDicts and pydantic models."
    )


def _name_of(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)
