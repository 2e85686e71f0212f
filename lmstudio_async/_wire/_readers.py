"""Fast readers for nearly every wire object: straight-line code, generated once for each wire class.

A reader accepts a well-formed object: each member is of the right type, or it is absent and has a default. The reader
passes any other value to a careful reader. So reading a fragment costs less than decoding its JSON.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

import attrs

__all__ = ["Hook", "compile_reader"]

#: Makes a value of a type out of decoded JSON. As with cattrs' hooks, the second argument is the type.
Hook = Callable[[Any, Any], Any]

_CHECKS = {
    str: "type({0}) is not str",
    bool: "type({0}) is not bool",
    int: "type({0}) is not int",
    float: "type({0}) is not float and type({0}) is not int",
    dict: "type({0}) is not dict",
}


def compile_reader(
    cls: type[Any],
    members: Sequence[tuple[str, str]],
    ignored: frozenset[str],
    find_hook: Callable[[Any], Hook],
    read_carefully: Callable[[Any], Any],
) -> Hook:
    """Make the reader of a class.

    :param cls: an attrs class with slots, resolved types and a member ``extra``.
    :param members: attribute names and wire names, without ``extra``.
    :param ignored: wire names that do not belong in ``extra``.
    :param find_hook: returns the hook of a type that JSON does not have.
    :param read_carefully: reads a value that the reader cannot read, or raises an error that explains why.
    :return: the reader.
    """
    # Slots are set directly, because that takes half the time of a frozen class's constructor.
    names: dict[str, Any] = {
        "cls": cls,
        "new": object.__new__,
        "known": ignored.issuperset,
        "ignored": ignored,
        "read_carefully": read_carefully,
        "set_extra": _setter(cls, "extra"),
    }
    lines = ["if type(value) is not dict: raise TypeError", "get = value.get", "made = new(cls)"]
    fields = attrs.fields_dict(cls)
    for number, (name, key) in enumerate(members):
        names[f"set{number}"] = _setter(cls, name)
        lines.append(f"v{number} = get({key!r})")
        lines.append(f"if v{number} is None: {_absent(number, fields[name].default, names)}")
        lines += _present(number, _without_none(fields[name].type), names, find_hook)
        lines.append(f"set{number}(made, v{number})")
    lines += [
        "set_extra(made, {} if known(value) else {k: v for k, v in value.items() if k not in ignored})",
        "return made",
    ]
    body = "\n".join(f"  {line}" for line in lines)
    source = f"def reader(value, kind):\n try:\n{body}\n except Exception: return read_carefully(value)"
    exec(compile(source, f"<reader of {cls.__name__}>", "exec"), names)  # noqa: S102 - as attrs itself does
    reader: Hook = names["reader"]
    return reader


def _absent(number: int, default: Any, names: dict[str, Any]) -> str:
    """Return the statement for a member that is absent or null."""
    if default is attrs.NOTHING:
        return "raise ValueError"
    if hasattr(default, "factory"):
        names[f"make{number}"] = default.factory
        return f"v{number} = make{number}()"
    names[f"default{number}"] = default
    return f"v{number} = default{number}"


def _present(number: int, kind: Any, names: dict[str, Any], find_hook: Callable[[Any], Hook]) -> list[str]:
    """Return the lines for a member that is present."""
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
    """Return a hook that finds the member's hook on first use: it may never be needed, or be that of the same class."""

    def hook(value: Any, _: Any) -> Any:
        names[f"hook{number}"] = found = find_hook(kind)
        return found(value, kind)

    return hook


def _setter(cls: type[Any], name: str) -> Callable[[Any, Any], None]:
    setter: Callable[[Any, Any], None] = getattr(cls, name).__set__
    return setter


def _without_none(kind: Any) -> Any:
    """Return ``T`` for ``T | None``, because null was handled before."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        members = [member for member in typing.get_args(kind) if member is not types.NoneType]
        if len(members) == 1:
            return members[0]
    return kind
