"""The KV config, the wire form of every setting: ``{"fields": [{"key": …, "value": …}]}``.

Reading a config from the wire is tolerant: it accepts any shape. :func:`check` is the strict half: the client refuses
to send a value that does not fit its key, and the embedded server refuses it when it arrives.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from lmstudio_async._printable import short_repr
from lmstudio_async._wire._json import real_number
from lmstudio_async._wire._kv_keys import KEYS, Kind

__all__ = [
    "KEYS",
    "Kind",
    "check",
    "checked",
    "collapse",
    "default",
    "from_fields",
    "layer",
    "misfit",
    "plain",
    "stack",
    "to_fields",
]

# Deeper JSON is no config but a structure that contains itself, or an attack.
_MAX_DEPTH = 100


def to_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the KV config of a mapping by wire key. ``None`` means not set, and makes no field."""
    return {"fields": [{"key": key, "value": value} for key, value in values.items() if value is not None]}


def from_fields(config: object) -> dict[str, Any]:
    """Return the values of a KV config by wire key, unknown keys included.

    The last of several fields of one key wins; if it has no value, the key is not set. JSON has only one type of
    number, so ``40.0`` under a key of integers becomes ``40``. A ticked checkbox with the value ``False`` counts as
    not ticked. Never raises: anything that is no KV config is read as an empty one.
    """
    values: dict[str, Any] = {}
    fields = config.get("fields") if isinstance(config, Mapping) else None
    for field in fields if isinstance(fields, list | tuple) else ():
        if not isinstance(field, Mapping) or not isinstance(key := field.get("key"), str):
            continue
        if "value" in field:
            value = field["value"]
            values[key] = _tidy(key, value) if key in KEYS else value
        else:
            values.pop(key, None)
    return values


def stack(config: Mapping[str, Any], layer: str = "apiOverride") -> dict[str, Any]:
    """Return a stack with the KV config as its only layer."""
    return {"layers": [{"layerName": layer, "config": config}]}


def _layers(stack: object) -> list[Mapping[str, Any]]:
    layers = stack.get("layers") if isinstance(stack, Mapping) else None
    return [item for item in layers if isinstance(item, Mapping)] if isinstance(layers, list | tuple) else []


def collapse(stack: object) -> dict[str, Any]:
    """Return the values of all layers of a stack by wire key; later layers win. As tolerant as :func:`from_fields`."""
    values: dict[str, Any] = {}
    for item in _layers(stack):
        values.update(from_fields(item.get("config")))
    return values


def layer(stack: object, name: str) -> dict[str, Any] | None:
    """Return the values of the layer of that name; ``None`` if the stack has no such layer."""
    named = [item for item in _layers(stack) if item.get("layerName") == name]
    return collapse({"layers": named}) if named else None


def default(key: str) -> Any:
    """Return a copy of the default of a key.

    :raises KeyError: the key is not in the table.
    """
    return copy.deepcopy(KEYS[key][1])


def checked(value: object) -> Any:
    """Return the value of a ticked checkbox, or ``None`` if it is not ticked (or is no checkbox)."""
    return value.get("value") if isinstance(value, Mapping) and value.get("checked") is True else None


def check(key: str, value: object) -> str | None:
    """Return why the value does not fit its key, as a sentence; ``None`` if it fits or the key is not in the table."""
    if key not in KEYS:
        return None
    found = misfit(KEYS[key][0], value)
    return None if found is None else f"{key}{found[0]} {found[1]}"


def misfit(kind: Kind, value: Any, place: str = "", depth: int = 0) -> tuple[str, str] | None:
    """Return the place in the value that does not fit the kind, and the reason; ``None`` if all of it fits."""
    match kind[0]:
        case "object" if isinstance(value, Mapping):
            for name in sorted(kind[2] - value.keys()):
                return place, f"must have the member {name!r}"
            for name, member in kind[1].items():
                if name in value and (found := misfit(member, value[name], f"{place}.{name}")):
                    return found
        case "list" if isinstance(value, list | tuple):
            for index, item in enumerate(value):
                if found := misfit(kind[1], item, f"{place}[{index}]"):
                    return found
        case "checkbox" if isinstance(value, Mapping) and isinstance(value.get("checked"), bool):
            # The value of a checkbox that is not ticked is a placeholder.
            return misfit(kind[1], value.get("value"), f"{place}.value") if value["checked"] else None
        case "json":
            return _json_misfit(value, place, depth)
        case _ if not _fits(kind, value):
            return place, f"must be {_expected(kind)}, not {short_repr(value)}"
    return None


def _fits(kind: Kind, value: Any) -> bool:
    """Return whether the value fits a scalar kind or a pair; False for any other kind."""
    match kind[0]:
        case "bool":
            return isinstance(value, bool)
        case "str":
            return isinstance(value, str)
        case "int" | "num":
            number = real_number(value)
            if number is None:
                return False
            if isinstance(number, float) and (not math.isfinite(number) or (kind[0] == "int" and number % 1)):
                return False
            return (kind[1] is None or number >= kind[1]) and (kind[2] is None or number <= kind[2])
        case "enum":
            # bool is excluded because True equals 1.
            return (isinstance(value, str) or real_number(value) is not None) and value in kind[1]
        case "either":
            return any(_fits(option, value) for option in kind[1:])
        case "pair":
            return (
                isinstance(value, list | tuple)
                and len(value) == 2
                and _fits(kind[1], value[0])
                and _fits(kind[2], value[1])
            )
    return False


def _expected(kind: Kind) -> str:
    match kind[0]:
        case "bool":
            return "True or False"
        case "str":
            return "a string"
        case "int" | "num":
            noun = "a whole number" if kind[0] == "int" else "a number"
            if kind[1] is None:
                return noun
            return (
                f"{noun} of at least {kind[1]}" if kind[2] is None else f"{noun} from {kind[1]} to {kind[2]}"
            )
        case "enum":
            *most, last = [repr(member) for member in kind[1]]
            return f"{', '.join(most)} or {last}" if most else last
        case "either":
            return " or ".join(_expected(option) for option in kind[1:])
        case "list":
            return f"a list, each item {_expected(kind[1])}"
        case "pair":
            return f"a pair of {_expected(kind[1])} and {_expected(kind[2])}"
        case "checkbox":
            return '{"checked": true or false, "value": …}'
    return "an object with " + ", ".join(repr(name) for name in kind[1])


def _json_misfit(value: Any, place: str, depth: int) -> tuple[str, str] | None:
    if depth > _MAX_DEPTH:
        return "", "is nested too deeply, or contains itself"
    if value is None or isinstance(value, str | bool | int):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else (place, f"must be a finite number, not {short_repr(value)}")
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if found := _json_misfit(item, f"{place}[{index}]", depth + 1):
                return found
        return None
    if isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str):
                return place, f"must have strings as keys, not {short_repr(name)}"
            if found := _json_misfit(item, f"{place}.{name}", depth + 1):
                return found
        return None
    number = real_number(value)
    if number is not None:
        return _json_misfit(number, place, depth)
    return place, f"must be a value that JSON can represent, not {short_repr(value)}"


def plain(kind: Kind, value: Any) -> Any:
    """Convert a value that fits its kind to plain dicts, lists and numbers (ints for integers) for the JSON encoder."""
    if isinstance(value, Mapping):
        members = kind[1] if kind[0] == "object" else {}
        return {name: plain(members.get(name, ("json",)), item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(kind[1] if kind[0] == "list" else ("json",), item) for item in value]
    if kind[0] == "enum":
        # The table's own member: an 8 for an 8.0, a plain string for a member of an Enum.
        return kind[1][kind[1].index(value)]
    number = None if isinstance(value, str | bool) else real_number(value)
    return _whole(kind, value if number is None else number)


def _tidy(key: str, value: Any) -> Any:
    """Return the value that a published client means."""
    kind = KEYS[key][0]
    if kind[0] == "checkbox" and checked(value) is False:
        # The official Python package ticks the checkbox of every setting, even of one that its user turns off.
        return {**value, "checked": False, "value": default(key)["value"]}
    return _whole(kind, value)


def _whole(kind: Kind, value: Any) -> Any:
    if kind[0] == "int":
        return int(value) if isinstance(value, float) and value.is_integer() else value
    if kind[0] == "checkbox" and isinstance(value, dict) and isinstance(value.get("value"), float):
        return {**value, "value": _whole(kind[1], value["value"])}
    return value
