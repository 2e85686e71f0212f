"""Python types <-> JSON: the JSON schema of a type, and values of the type out of decoded JSON.

Both directions follow the same rules, so that every value that the schema allows can be read. Reading is strict:
a value that the schema does not allow is not converted, and unknown members are errors.
"""

from __future__ import annotations

import enum
import types
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, overload

from lmstudio_async._docstrings import docstring_of
from lmstudio_async._json_types import (
    FORMATS,
    LISTS,
    MAPPINGS,
    REQUIRED,
    SCALARS,
    JsonSchema,
    Member,
    check_key,
    has_own_schema,
    is_enum,
    is_union,
    jsonable,
    members_of,
    no_schema,
    own_schema,
    unwrap,
)
from lmstudio_async._wire._json import real_number
from lmstudio_async.errors import LMStudioValueError

__all__ = [
    "REQUIRED",
    "Member",
    "MisfitError",
    "json_schema_of",
    "jsonable",
    "members_of",
    "members_schema",
    "structure",
    "structure_members",
]

T = TypeVar("T")


class MisfitError(ValueError):
    """Decoded JSON does not fit the type it should become. The message says where and why."""


def json_schema_of(kind: Any) -> JsonSchema:
    """Make the JSON schema of a type. Classes that it refers to are in its ``$defs``.

    :param kind: a scalar, a container, an enum, a `Literal`, a union, an attrs class, a dataclass, a `TypedDict`, a
        pydantic model, and any nesting of these. A text in `Annotated` is a description.
    :return: the schema, a new one each time.
    :raises LMStudioValueError: if the type has no JSON schema.
    """
    definitions = _Definitions()
    return definitions.complete(definitions.schema(kind))


def members_schema(members: Iterable[Member]) -> JsonSchema:
    """Make the JSON schema of an object with these members, such as the arguments of a function.

    :return: the schema, a new one each time.
    :raises LMStudioValueError: if the type of a member has no JSON schema.
    """
    definitions = _Definitions()
    return definitions.complete(definitions.object(members))


class _Definitions:
    """Schemas of the classes that a schema refers to."""

    def __init__(self) -> None:
        self._schemas: dict[str, JsonSchema] = {}
        self._names: dict[Any, str] = {}
        self._uses: Counter[str] = Counter()

    def complete(self, schema: JsonSchema) -> JsonSchema:
        """Return the whole schema. If nothing else refers to its top-level class, the definition is inlined."""
        name = schema.get("$ref", "").removeprefix("#/$defs/")
        if name in self._schemas:
            own = self._schemas[name] if self._uses[name] > 1 else self._schemas.pop(name)
            schema = own | {key: value for key, value in schema.items() if key != "$ref"}
        return schema | {"$defs": self._schemas} if self._schemas else schema

    def object(self, members: Iterable[Member]) -> JsonSchema:
        members = list(members)
        schema: JsonSchema = {
            "type": "object",
            "properties": {member.name: self._member(member) for member in members},
            "required": [member.name for member in members if member.default is REQUIRED],
            "additionalProperties": False,
        }
        return schema

    def _member(self, member: Member) -> JsonSchema:
        schema = self.schema(member.annotation)
        if member.description:
            schema = schema | {"description": member.description}
        if member.default is not REQUIRED:
            try:
                schema = schema | {"default": jsonable(member.default)}
            except TypeError:
                # The default still applies; only the schema cannot show it.
                pass
        return schema

    def schema(self, kind: Any) -> JsonSchema:
        kind, description = unwrap(kind)
        schema = self._bare(kind)
        return schema | {"description": description} if description else schema

    def _bare(self, kind: Any) -> JsonSchema:
        origin, arguments = get_origin(kind) or kind, get_args(kind)
        if kind is Any or kind is object:
            return {}
        if kind in SCALARS:
            return dict(SCALARS[kind][0])
        if kind in FORMATS:
            return {"type": "string", "format": FORMATS[kind][0]}
        if is_union(origin):
            return {"anyOf": [self.schema(member) for member in arguments]}
        if origin is Literal:
            return _enumeration(arguments)
        if is_enum(kind):
            return _enumeration([member.value for member in kind])
        if origin in LISTS:
            items = {"items": self.schema(arguments[0])} if arguments else {}
            return {"type": "array", **items}
        if origin is tuple:
            return self._tuple(arguments)
        if origin in MAPPINGS:
            check_key(kind)
            values = {"additionalProperties": self.schema(arguments[1])} if arguments else {}
            return {"type": "object", **values}
        return self._reference(kind)

    def _tuple(self, arguments: tuple[Any, ...]) -> JsonSchema:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return {"type": "array", "items": self.schema(arguments[0])}
        if not arguments:
            return {"type": "array"}
        items = [self.schema(argument) for argument in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}

    def _reference(self, kind: Any) -> JsonSchema:
        name = self._names.get(kind) if isinstance(kind, type) else None
        if name is None:
            members = members_of(kind)
            if members is None and not has_own_schema(kind):
                raise LMStudioValueError(no_schema(kind))
            name = self._new_name(kind.__name__)
            self._names[kind] = name
            # Register the name before reading the members, because one of them may be of this class.
            schema = self._schemas[name] = {}
            schema.update(self._own(kind) if members is None else self._described(kind, members))
        self._uses[name] += 1
        return {"$ref": f"#/$defs/{name}"}

    def _described(self, kind: type, members: list[Member]) -> JsonSchema:
        # The `__doc__` of a dataclass without a docstring is its signature, which describes nothing.
        text = docstring_of(kind)
        described = text and not text.startswith(f"{kind.__name__}(")
        return ({"description": _paragraph(text)} if described else {}) | self.object(members)

    def _own(self, kind: Any) -> JsonSchema:
        """Return the schema that a class describes itself with, as pydantic's models do."""
        schema = own_schema(kind)
        definitions = schema.pop("$defs", {})
        own_name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
        if own_name in definitions:
            # A recursive class: the schema is a reference by the name that the class gets here, too.
            del schema["$ref"]
            schema = definitions.pop(own_name) | schema
            self._uses[own_name] += 1
        for name, definition in definitions.items():
            if self._schemas.setdefault(name, definition) != definition:
                raise LMStudioValueError(f"two classes called {name!r} cannot be in one JSON schema")
            # Two uses keep `complete` from inlining a definition that the class's own schema refers to.
            self._uses[name] += 2
        return schema

    def _new_name(self, name: str) -> str:
        number, unique = 1, name
        while unique in self._schemas:
            number += 1
            unique = f"{name}_{number}"
        return unique


def _enumeration(values: Iterable[Any]) -> JsonSchema:
    values = [jsonable(value.value if isinstance(value, enum.Enum) else value) for value in values]
    kinds = {type(value) for value in values}
    named = SCALARS[kinds.pop()][0] if len(kinds) == 1 and kinds <= SCALARS.keys() else {}
    return {**named, "enum": values}


def _paragraph(text: str) -> str:
    """Return the first paragraph of a docstring, on one line."""
    lines: list[str] = []
    for line in map(str.strip, text.strip().splitlines()):
        if not line:
            break
        lines.append(line)
    return " ".join(lines)


@overload
def structure(kind: type[T], value: Any, where: str = "$") -> T: ...
@overload
def structure(kind: Any, value: Any, where: str = "$") -> Any: ...
def structure(kind: Any, value: Any, where: str = "$") -> Any:
    """Convert decoded JSON to a value of the type ``kind``.

    :param where: path of the value in the whole, for the error message.
    :raises MisfitError: if it does not fit.
    :raises LMStudioValueError: if the type has no JSON schema.
    """
    kind, _ = unwrap(kind)
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if kind is Any or kind is object:
        return value
    if kind in SCALARS:
        return _scalar(kind, value, where)
    if kind in FORMATS:
        text = _scalar(str, value, where)
        return _checked(FORMATS[kind][1], where, f"expected a {FORMATS[kind][0]}", text)
    if is_union(origin):
        return _member_of_union(arguments, value, where)
    if origin is Literal or is_enum(kind):
        return _choice(arguments if origin is Literal else kind, value, where)
    if origin in LISTS:
        items = _items(arguments[0] if arguments else Any, value, where)
        return _checked(LISTS[origin], where, "expected other items", items)
    if origin is tuple:
        return _tuple_of(arguments, value, where)
    if origin in MAPPINGS:
        key, item = arguments or (str, Any)
        check_key(kind)
        members = _object(value, where)
        return {
            structure(key, name, where): structure(item, member, f"{where}.{name}")
            for name, member in members.items()
        }
    return _instance(kind, value, where)


def structure_members(members: Iterable[Member], value: Any, where: str = "$") -> dict[str, Any]:
    """Read a JSON object with these members. An absent member that has a default is left out.

    :return: the values by name, each of the type of its annotation.
    :raises MisfitError: if the value is not such an object.
    """
    given = _object(value, where)
    by_name = {member.name: member for member in members}
    if unknown := given.keys() - by_name.keys():
        raise MisfitError(f"{where}: there is no {', '.join(map(repr, sorted(unknown)))} in it")
    missing = [name for name, member in by_name.items() if member.default is REQUIRED and name not in given]
    if missing:
        raise MisfitError(f"{where}: {', '.join(map(repr, missing))} is missing")
    return {
        name: structure(by_name[name].annotation, item, f"{where}.{name}") for name, item in given.items()
    }


# -- reading values


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if type(value) is kind:
        return value
    number = real_number(value) if kind in (int, float) else None
    # JSON has one type of number, so 3.0 is accepted as an int, and 3 as a float.
    if kind is int and (type(number) is int or (type(number) is float and number.is_integer())):
        return int(number)
    if kind is float and number is not None:
        return _checked(float, where, "expected a smaller number", number)
    raise _misfit(SCALARS[kind][1], value, where)


def _member_of_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    reasons: list[str] = []
    for kind in kinds:
        try:
            return structure(kind, value, where)
        except MisfitError as error:
            if kind is not types.NoneType:
                reasons.append(str(error))
    raise MisfitError(reasons[0] if len(reasons) == 1 else "; or ".join(reasons))


def _choice(choices: Any, value: Any, where: str) -> Any:
    for choice in choices:
        plain = choice.value if isinstance(choice, enum.Enum) else choice
        # Compare the types as well: 1 == True in Python, but not in JSON.
        if type(jsonable(plain)) is type(value) and jsonable(plain) == value:
            return choice
    words = ", ".join(repr(choice.value if isinstance(choice, enum.Enum) else choice) for choice in choices)
    raise _misfit(f"one of {words}", value, where)


def _items(kind: Any, value: Any, where: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise _misfit("a list", value, where)
    return [structure(kind, item, f"{where}[{index}]") for index, item in enumerate(value)]


def _tuple_of(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not arguments or (len(arguments) == 2 and arguments[1] is Ellipsis):
        return tuple(_items(arguments[0] if arguments else Any, value, where))
    items = _items(Any, value, where)
    if len(items) != len(arguments):
        raise _misfit(f"a list of {len(arguments)}", value, where)
    return tuple(
        structure(kind, item, f"{where}[{index}]")
        for index, (kind, item) in enumerate(zip(arguments, items, strict=True))
    )


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _misfit("an object", value, where)
    return value


def _instance(kind: Any, value: Any, where: str) -> Any:
    members = members_of(kind)
    if members is not None:
        arguments = structure_members(members, value, where)
        return _checked(lambda given: kind(**given), where, "it was refused", arguments)
    if not has_own_schema(kind):
        raise LMStudioValueError(no_schema(kind))
    # A class without model_validate describes itself but reads no values, so the value stays plain JSON.
    validate = getattr(kind, "model_validate", None)
    return value if validate is None else _checked(validate, where, "it was refused", value)


def _checked(make: Callable[[Any], Any], where: str, reason: str, value: Any) -> Any:
    """Call code of the user or of a library, and raise its exceptions as `MisfitError`."""
    try:
        return make(value)
    except Exception as error:
        raise MisfitError(f"{where}: {reason}: {error}") from error


def _misfit(expected: str, value: Any, where: str) -> MisfitError:
    return MisfitError(f"{where}: expected {expected}, got {repr(value)[:80]}")
