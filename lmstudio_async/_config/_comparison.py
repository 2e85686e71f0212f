"""Comparison of the load config that is asked for with the one that an instance has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lmstudio_async._config._convert import setting_from_wire
from lmstudio_async._config._rules import GPU, GPU_SPLIT
from lmstudio_async._wire._json import real_number
from lmstudio_async._wire._kv import KEYS, checked, default, from_fields

__all__ = ["mismatched_settings"]

# Engines round a context length up, to a multiple of 256 at most.
_CONTEXT_STEP = 256

# A key that a server leaves out has its default in the protocol. These are exceptions, because the embedded server leaves
# them to the engine if a load does not set them, and the engine does not tell.
_LEFT_TO_ENGINE = frozenset({"llm.load.llama.flashAttention", "llm.load.llama.contextCheckpoints"})

_UNQUANTIZED = ("f16", "f32")


def mismatched_settings(
    wanted: Mapping[str, tuple[Any, Mapping[str, Any]]], effective: object, context_length: int
) -> dict[str, tuple[Any, Any]]:
    """Return the settings that an instance does not have: the value that was asked for, and the value that is.

    :param wanted: the settings that were asked for, as `load_settings` returns them.
    :param effective: the KV config that the server reports.
    :param context_length: the context length that the server reports beside the config; 0 if it is not known.
    """
    values = from_fields(effective)
    found: dict[str, tuple[Any, Any]] = {}
    for name, (value, by_key) in wanted.items():
        if _is_overridden(name, wanted):
            continue
        # A setting for several engines has a key for each, and a server reports only that of its own.
        keys = [key for key in by_key if key in values] or list(by_key)[:1]
        for key in keys:
            actual = values.get(key)
            if actual is None and key.endswith(".load.contextLength"):
                actual = context_length or None
            if not _is_fulfilled(key, by_key[key], actual):
                found[name] = (value, _shown(name, key, actual))
                break
    return found


def _is_overridden(name: str, wanted: Mapping[str, tuple[Any, Mapping[str, Any]]]) -> bool:
    """Return whether another setting that was asked for takes precedence over this one."""
    if name == "try_mmap":
        return wanted.get("try_direct_io", (False,))[0] is True
    if name == "use_fp16_for_kv_cache":
        return any(
            wanted.get(f"llama_{which}_cache_quantization_type", (False,))[0] is not False for which in "kv"
        )
    return False


def _is_fulfilled(key: str, wanted: Any, actual: Any) -> bool:
    if actual is None:
        if key not in KEYS or key in _LEFT_TO_ENGINE:
            return False
        actual = default(key)
    if key.endswith(".load.contextLength"):
        least, given = real_number(wanted), real_number(actual)
        return least is not None and given is not None and 0 <= given - least < _CONTEXT_STEP
    if key.endswith(("offloadRatio", "numCpuExpertLayersRatio")):
        wanted, actual = _ratio(wanted), _ratio(actual)
    elif key.endswith("CacheQuantizationType") and checked(wanted) is None:
        return checked(actual) is None or checked(actual) in _UNQUANTIZED
    return _is_same(wanted, actual)


def _ratio(value: Any) -> Any:
    return {"off": 0, "max": 1}.get(value, value) if isinstance(value, str) else value


def _is_same(wanted: Any, actual: Any) -> bool:
    """Return whether a value is as asked for. Members of an object that were not asked for do not matter."""
    if isinstance(wanted, Mapping) and isinstance(actual, Mapping):
        for switch in ("checked", "enabled"):
            if wanted.get(switch) is False:
                # Of a value that is switched off, the other members do not matter.
                return actual.get(switch) is False
        return all(name in actual and _is_same(member, actual[name]) for name, member in wanted.items())
    if isinstance(wanted, list | tuple) and isinstance(actual, list | tuple):
        return len(wanted) == len(actual) and all(map(_is_same, wanted, actual))
    if isinstance(wanted, bool) or isinstance(actual, bool):
        return wanted is actual
    numbers = real_number(wanted), real_number(actual)
    if numbers[0] is not None and numbers[1] is not None:
        if all(isinstance(each, int) for each in numbers):
            return numbers[0] == numbers[1]
        # Engines compute with 32 bits.
        return math.isclose(numbers[0], numbers[1], rel_tol=1e-6, abs_tol=1e-9)
    return bool(wanted == actual)


def _shown(name: str, key: str, actual: Any) -> Any:
    """Return the value that is in the form in which users give it."""
    if key == GPU_SPLIT and isinstance(actual, Mapping) and name.startswith("gpu."):
        return actual.get(GPU[name.removeprefix("gpu.")])
    return setting_from_wire(key, actual) if key in KEYS else actual
