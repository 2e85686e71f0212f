"""The way that nearly every object goes: straight-line code, made once for each wire class.

A reader takes an object as it should be: what is there is of the right type, what is not has a default. At anything
else it raises, and the object is looked at more carefully elsewhere. That leaves it so little to do that reading a
fragment costs less than decoding its JSON.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

import attrs

__all__ = ["Hook", "compile_reader"]

#: Makes a value of a type out of decoded JSON; like cattrs', it is given the type too.
Hook = Callable[[Any, Any], Any]

_CHECKS = {
    str: "type({0}) is not str",
    bool: "type({0}) is not bool",
    int: "type({0}) is not int",
    float: "type({0}) is not float and type({0}) is not int",
    dict: "type({0}) is not dict",
}


def compile_reader(
    cls: type[Any], members: Sequence[tuple[str, str]], ignored: frozenset[str], find_hook: Callable[[Any], Hook]
) -> Callable[[dict[str, Any]], Any]:
    """Make the reader of a class.

    :param cls: an attrs class with slots, its types resolved, and with a member ``extra``.
    :param members: attribute names and wire names, without ``extra``.
    :param ignored: wire names that do not belong into ``extra``.
    :param find_hook: gives what reads a type that JSON does not have.
    :return: the reader. What it raises means only that it is not up to the object.
    """
    # Setting slots is half the price of a frozen class's constructor.
    names: dict[str, Any] = {
        "cls": cls,
        "new": object.__new__,
        "known": ignored.issuperset,
        "ignored": ignored,
        "set_extra": _setter(cls, "extra"),
    }
    lines = ["def reader(value):", " get = value.get", " made = new(cls)"]
    fields = attrs.fields_dict(cls)
    for number, (name, key) in enumerate(members):
        field = fields[name]
        here = f"v{number}"
        names[f"set{number}"] = _setter(cls, name)
        lines.append(f" {here} = get({key!r})")
        lines.append(f" if {here} is None: {_absent(number, field, names)}")
        lines += [f" {line}" for line in _present(number, _without_none(field.type), names, find_hook)]
        lines.append(f" set{number}(made, {here})")
    lines += [
        " set_extra(made, {} if known(value) else {k: v for k, v in value.items() if k not in ignored})",
        " return made",
    ]
    exec(compile("\n".join(lines), f"<reader of {cls.__name__}>", "exec"), names)  # noqa: S102 - as attrs itself does
    reader: Callable[[dict[str, Any]], Any] = names["reader"]
    return reader


def _absent(number: int, field: attrs.Attribute[Any], names: dict[str, Any]) -> str:
    """What to do where a member is absent or null."""
    default = field.default
    if default is attrs.NOTHING:
        return "raise ValueError"
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        names[f"make{number}"] = default.factory
        return f"v{number} = make{number}()"
    names[f"default{number}"] = default
    return f"v{number} = default{number}"


def _present(number: int, kind: Any, names: dict[str, Any], find_hook: Callable[[Any], Hook]) -> list[str]:
    """What to do where it is there."""
    here = f"v{number}"
    if kind is Any:
        return []
    check = _CHECKS.get(typing.get_origin(kind) or kind)
    if check is not None:
        return [f"elif {check.format(here)}: raise ValueError"]
    names[f"kind{number}"] = kind
    names[f"hook{number}"] = _later(number, kind, names, find_hook)
    return [f"else: {here} = hook{number}({here}, kind{number})"]


def _later(number: int, kind: Any, names: dict[str, Any], find_hook: Callable[[Any], Hook]) -> Hook:
    """Find a member's hook when it is first needed: it may never be, and it may be that of this very class."""

    def hook(value: Any, kind: Any) -> Any:
        names[f"hook{number}"] = found = find_hook(kind)
        return found(value, kind)

    return hook


def _setter(cls: type[Any], name: str) -> Callable[[Any, Any], None]:
    setter: Callable[[Any, Any], None] = getattr(cls, name).__set__
    return setter


def _without_none(kind: Any) -> Any:
    """``T`` for ``T | None``: a null was dealt with before."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        members = [member for member in typing.get_args(kind) if member is not types.NoneType]
        if len(members) == 1:
            return members[0]
    return kind
