"""Conversion between JSON objects and attrs classes, and the base of all wire classes.

A wire class names its members in snake_case; on the wire they are camelCase. Reading is lenient, so that a newer
or an odd server never breaks an older client:

- an unknown member is kept in ``extra`` and written out again;
- a member that has a default may be absent, ``null`` or of a wrong type: it is read as its default
  (a value of a wrong type is kept in ``extra``);
- an object of an unknown kind in a union becomes an `Unknown`.

Only a member without a default must be valid. Writing is strict, because the official TypeScript client requires it:
an absent member is left out, and never written as ``null``, unless it is `nullable`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, TypeVar

import attrs

from lmstudio_async._printable import ShortRepr, short_repr
from lmstudio_async._wire._readers import Hook, compile_reader

if typing.TYPE_CHECKING:
    import cattrs

__all__ = ["MalformedError", "Unknown", "WireObject", "camel", "nullable", "read", "reader", "write"]

T = TypeVar("T")


class MalformedError(ValueError):
    """A JSON value does not fit the class it should become."""


@attrs.frozen(kw_only=True, repr=False)
class WireObject(ShortRepr):
    """Base of all wire classes.

    ``TAG`` is the value of the JSON member ``TAG_KEY``, by which the classes of a union are told apart.
    """

    TAG: ClassVar[str] = ""
    TAG_KEY: ClassVar[str] = "type"

    extra: dict[str, Any] = attrs.field(factory=dict, repr=False, hash=False)


@attrs.frozen(kw_only=True)
class Unknown(WireObject):
    """An object of a kind that this SDK does not know. All of it is in ``extra``."""


def nullable() -> Any:
    """Declare a member that is always written, as ``null`` if it has no value."""
    return attrs.field(default=None, metadata={"nullable": True})


def camel(name: str) -> str:
    """Return the wire name of a member: ``model_key`` -> ``modelKey``."""
    head, *tail = name.rstrip("_").split("_")
    return head + "".join(word.capitalize() for word in tail)


@typing.overload
def read(kind: type[T], value: Any) -> T: ...
@typing.overload
def read(kind: Any, value: Any) -> Any: ...
def read(kind: Any, value: Any) -> Any:
    """Make a ``kind`` out of decoded JSON.

    :raises MalformedError: if a member without a default is absent or of a wrong type.
    """
    return _hook(kind)(value, kind)


def reader(kind: Any) -> Callable[[Any], Any]:
    """Return the function that reads a ``kind`` as `read` does, for callers that read many values of one kind."""
    hook = _hook(kind)
    return lambda value: hook(value, kind)


# Checked first, because nearly every value in a message is of these types, and the other checks cost more.
_SCALARS = frozenset((str, int, float, bool, types.NoneType))


def write(value: Any) -> Any:
    """Make plain JSON out of wire classes, and of lists and mappings of them."""
    if type(value) in _SCALARS:
        return value
    if isinstance(value, WireObject):
        return _write_object(value)
    if isinstance(value, (list, tuple)):
        return [write(item) for item in value]
    if isinstance(value, (dict, Mapping)):
        return {key: write(item) for key, item in value.items()}
    return value


def _write_object(value: WireObject) -> dict[str, Any]:
    cls = type(value)
    out: dict[str, Any] = {cls.TAG_KEY: cls.TAG} if cls.TAG else {}
    for name, key, always in _members(cls):
        member = getattr(value, name)
        if member is not None:
            out[key] = member if type(member) in _SCALARS else write(member)
        elif always:
            out[key] = None
    out.update(value.extra)
    return out


def _find_members(cls: type[WireObject]) -> tuple[tuple[str, str, bool], ...]:
    """Return each member's attribute name, its wire name, and whether it is written when it is None."""
    return tuple(
        (
            field.name,
            camel(field.name),
            bool(field.metadata.get("nullable")),
        )
        for field in attrs.fields(cls)
        if field.name != "extra"
    )


_members: Callable[[Any], tuple[tuple[str, str, bool], ...]] = cache(_find_members)


def _is_wire_class(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, WireObject)


def _is_wire_union(kind: Any) -> bool:
    classes = _without_none(kind)
    return len(classes) > 1 and all(map(_is_wire_class, classes))


def _without_none(kind: Any) -> list[Any]:
    """Return the members of a union, without None; an empty list if the kind is no union."""
    union = typing.get_origin(kind) in (types.UnionType, typing.Union)
    return [member for member in typing.get_args(kind) if member is not types.NoneType] if union else []


def _is_generic(kind: Any, of: Any) -> bool:
    origin: Any = typing.get_origin(kind)
    return origin is of


def _object_hook(cls: type[WireObject]) -> Hook:
    attrs.resolve_types(cls)
    members = _members(cls)
    known = frozenset(key for _, key, _ in members)
    ignored = known | {cls.TAG_KEY} if cls.TAG else known

    def read_carefully(value: Any) -> Any:
        if type(value) is not dict:
            raise MalformedError(f"expected an object for {cls.__name__}, got {short_repr(value)}")
        plain = {key: item for key, item in value.items() if key in known and item is not None}
        plain["extra"] = {key: item for key, item in value.items() if key not in ignored}
        return _read_leniently(cls, members, plain)

    return compile_reader(cls, [(name, key) for name, key, _ in members], ignored, _hook, read_carefully)


def _read_leniently(
    cls: type[WireObject], members: tuple[tuple[str, str, bool], ...], value: dict[str, Any]
) -> Any:
    """Read member by member; the error names the required member that is absent or malformed."""
    read_members: dict[str, Any] = {}
    extra: dict[str, Any] = dict(value.get("extra", {}))
    fields = attrs.fields_dict(cls)
    for name, key, _ in members:
        required = fields[name].default is attrs.NOTHING
        if key not in value:
            if required:
                raise MalformedError(f"{cls.__name__} has no {key!r}")
            continue
        try:
            read_members[name] = read(typing.cast("type[Any]", fields[name].type), value[key])
        except Exception as error:
            if required:
                raise MalformedError(f"{cls.__name__}.{key}: {error}") from error
            extra[key] = value[key]
    return cls(extra=extra, **read_members)


def _union_hook(kind: Any) -> Hook:
    classes = _without_none(kind)
    optional = len(classes) < len(typing.get_args(kind))
    by_tag = {cls.TAG: cls for cls in classes if cls.TAG}
    # The class without a tag reads every object whose tag belongs to no other class.
    fallback = next((cls for cls in classes if not cls.TAG), Unknown)
    tag_key = next(cls.TAG_KEY for cls in classes if cls.TAG)

    # Hooks of the tags that were read so far, because most of the others are never needed.
    hooks: dict[Any, Hook] = {}

    def structure(value: Any, _: Any) -> Any:
        tag = value.get(tag_key) if type(value) is dict else None
        if type(tag) is not str or tag not in by_tag:
            return _hook(fallback)(value, fallback)
        hook = hooks.get(tag)
        if hook is None:
            hook = hooks[tag] = _hook(by_tag[tag])
        return hook(value, None)

    def structure_optional(value: Any, _: Any) -> Any:
        return None if value is None else structure(value, kind)

    return structure_optional if optional else structure


def _exactly(kind: type, words: str) -> Hook:
    def structure(value: Any, _: Any) -> Any:
        if type(value) is kind:
            return value
        raise MalformedError(f"expected {words}, got {short_repr(value)}")

    return structure


def _int(value: Any, _: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise MalformedError(f"expected a whole number, got {short_repr(value)}")


def _float(value: Any, _: Any) -> float:
    if type(value) is float or type(value) is int:
        return value
    raise MalformedError(f"expected a number, got {short_repr(value)}")


def _list_hook(kind: Any) -> Hook:
    (item_kind,) = typing.get_args(kind)
    if item_kind is Any:
        return _json_list
    item_hook = _hook(item_kind)

    def structure(value: Any, _: Any) -> Any:
        if type(value) is not list:
            raise MalformedError(f"expected a list, got {short_repr(value)}")
        return [item_hook(item, item_kind) for item in value]

    return structure


def _json_list(value: Any, _: Any) -> list[Any]:
    if type(value) is list:
        return value
    raise MalformedError(f"expected a list, got {short_repr(value)}")


def _json_object(value: Any, _: Any) -> dict[str, Any]:
    if type(value) is dict:
        return value
    raise MalformedError(f"expected an object, got {short_repr(value)}")


_PLAIN: dict[Any, Hook] = {
    str: _exactly(str, "a text"),
    bool: _exactly(bool, "true or false"),
    int: _int,
    float: _float,
    Any: lambda value, _: value,
}

#: Tests for other kinds that have a hook in this module, and the functions that make these hooks.
_MAKERS: tuple[tuple[Callable[[Any], bool], Callable[[Any], Hook]], ...] = (
    (lambda kind: _is_generic(kind, dict), lambda _: _json_object),
    (lambda kind: _is_generic(kind, list), _list_hook),
    (_is_wire_class, _object_hook),
    (_is_wire_union, _union_hook),
)


@cache
def _converter() -> cattrs.Converter:
    """Return the converter of all other kinds, such as ``str | None``.

    It is made on first use, because only odd messages need it, and importing cattrs takes a while.
    """
    import cattrs

    converter = cattrs.Converter(detailed_validation=False)
    for kind, hook in _PLAIN.items():
        converter.register_structure_hook(kind, hook)
    for applies, make in _MAKERS:
        converter.register_structure_hook_factory(applies, make)
    return converter


def _build_hook(kind: Any) -> Hook:
    # Built at a class's first message, not at import: building one costs milliseconds.
    if kind in _PLAIN:
        return _PLAIN[kind]
    make = next((make for applies, make in _MAKERS if applies(kind)), None)
    return make(kind) if make is not None else _converter().get_structure_hook(kind)


_hook: Callable[[Any], Hook] = cache(_build_hook)
