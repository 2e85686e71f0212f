"""Conversion of users' configs, with checks, to the KV config of the wire, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, overload

from lmstudio_async._config._load import EmbeddingLoadModelConfig, LlmLoadModelConfig
from lmstudio_async._config._predict import LlmPredictionConfig
from lmstudio_async._config._rules import (
    EMBEDDING_LOAD,
    GPU,
    GPU_SPLIT,
    LLM_LOAD,
    PREDICTION,
    SPLIT_STRATEGIES,
    Rules,
    spell_value,
)
from lmstudio_async._config._types import GpuSetting, Settings, settings_of, title_of
from lmstudio_async._printable import short_repr
from lmstudio_async._wire._kv import KEYS, check, default, from_fields, misfit, plain, to_fields
from lmstudio_async.errors import LMStudioConfigError

__all__ = [
    "load_config_fields",
    "load_config_from_fields",
    "load_settings",
    "prediction_config_fields",
    "prediction_config_from_fields",
    "setting_from_wire",
]

# Sent with any setting that chooses a drafter: these other drafters are turned off explicitly, because one that is
# enabled in LM Studio's settings would stay on.
_SIDECARS = dict.fromkeys(
    (f"llm.load.llama.speculativeDecoding.draft{name}Sidecar" for name in ("Dflash", "Dspark", "Mtp")), False
)
_DRAFT_CHOICES = {"speculative_draft_mtp", "speculative_draft_simple", "speculative_draft_model"}

# Each of these settings turns auto_fit off, because the server's automatic fit would override it.
_FITTED = {"context_length", "gpu_strict_vram_cap"}
_FITTED_GPU = {"ratio", "num_cpu_expert_layers_ratio", "main_gpu", "split_strategy"}

_CHOICE = "llm.prediction.toolChoice"


def load_config_fields(config: object, domain: Literal["llm", "embedding"]) -> dict[str, Any]:
    """Make the KV config of a load config, which is a config object, a mapping, or ``None``.

    :raises LMStudioConfigError: a key is unknown or given twice, or a value does not fit its key.
    """
    return to_fields(_load_values(config, domain))


def _load_values(config: object, domain: Literal["llm", "embedding"]) -> dict[str, Any]:
    cls, rules = _load_types(domain)
    settings = _given(config, cls)
    title = title_of(cls)
    values = _passed_through(settings.pop("extra", {}), "extra", title)
    gpu = settings.pop("gpu", {})
    gpu = settings_of(gpu) if isinstance(gpu, GpuSetting) else _given(gpu, GpuSetting)
    implied: dict[str, Any] = {}
    if domain == "llm":
        if _FITTED & settings.keys() or _FITTED_GPU & gpu.keys():
            implied = dict.fromkeys(rules["auto_fit"][0], False)
        if _DRAFT_CHOICES & settings.keys():
            implied |= _SIDECARS
    elif "num_cpu_expert_layers_ratio" in gpu:
        raise LMStudioConfigError(
            f"'gpu.num_cpu_expert_layers_ratio' is for LLMs only: the {title} has none."
        )
    return implied | values | _written(settings, rules, title) | _gpu_written(gpu, domain, title)


def load_settings(
    config: object, domain: Literal["llm", "embedding"]
) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Return each setting of a load config: its value, and its values by wire key. Implied settings are left out.

    The settings of ``gpu`` are called ``gpu.ratio`` and so on, and those of ``extra`` by their wire keys.

    :raises LMStudioConfigError: as `load_config_fields`.
    """
    _load_values(config, domain)
    cls, rules = _load_types(domain)
    settings = _given(config, cls)
    title = title_of(cls)
    extra = _passed_through(settings.pop("extra", {}), "extra", title)
    gpu = settings.pop("gpu", {})
    gpu = settings_of(gpu) if isinstance(gpu, GpuSetting) else _given(gpu, GpuSetting)
    found = {key: (value, {key: value}) for key, value in extra.items() if value is not None}
    found |= {name: (value, _written({name: value}, rules, title)) for name, value in settings.items()}
    for name, value in gpu.items():
        by_key = _gpu_written({name: value}, domain, title)
        if GPU_SPLIT in by_key:
            # Only this member was asked for. The others came with it, because the split is sent as a whole.
            by_key[GPU_SPLIT] = {GPU[name]: by_key[GPU_SPLIT][GPU[name]]}
        found[f"gpu.{name}"] = (value, by_key)
    return found


def _load_types(
    domain: Literal["llm", "embedding"],
) -> tuple[type[LlmLoadModelConfig | EmbeddingLoadModelConfig], Rules]:
    return (LlmLoadModelConfig, LLM_LOAD) if domain == "llm" else (EmbeddingLoadModelConfig, EMBEDDING_LOAD)


def prediction_config_fields(config: object, overrides: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Make the KV config of a prediction config, which is a config object, a mapping, or ``None``.

    :param overrides: settings by name from parameters of the call; they take precedence over the config.
    :raises LMStudioConfigError: a key is unknown or given twice, or a value does not fit its key.
    """
    settings = _given(config, LlmPredictionConfig) | _given(overrides, LlmPredictionConfig)
    title = title_of(LlmPredictionConfig)
    values = _passed_through(settings.pop("extra", {}), "extra", title)
    values |= _raw(settings.pop("raw", {}), title)
    return to_fields(values | _written(settings, PREDICTION, title))


def _given(config: object, cls: type[Settings]) -> dict[str, Any]:
    """Return the settings that are set, by snake_case name."""
    if config is None:
        return {}
    if isinstance(config, Mapping):
        config = cls.from_dict(config)
    if not isinstance(config, cls):
        raise LMStudioConfigError(
            f"The {title_of(cls)} is a mapping or an instance of {cls.__name__}, not {short_repr(config)}."
        )
    return settings_of(config)


def _written(settings: Mapping[str, Any], rules: Rules, title: str) -> dict[str, Any]:
    values = {}
    for name, value in settings.items():
        keys, completion = rules[name]
        written = _to_wire(name, keys[0], value, completion, title)
        values.update(dict.fromkeys(keys, written))
    return values


def _to_wire(name: str, key: str, value: Any, completion: Mapping[str, Any], title: str) -> Any:
    """Convert a value to the wire form of its key."""
    kind = KEYS[key][0]
    if kind[0] == "checkbox":
        if value is False:
            return {"checked": False, "value": default(key)["value"]}
        kind = kind[1]
        return {"checked": True, "value": _fitting(kind, value, name, title, " or False")}
    switch = kind[0] == "object" and "enabled" in kind[1]
    if switch and value is False:
        return default(key) | {"enabled": False}
    if key == _CHOICE and isinstance(value, str):
        value = {"type": "generic", "mode": value}
    value = spell_value(kind, value, title, name)
    if isinstance(value, dict):
        value = {**completion, **value}
    return _fitting(kind, value, name, title, " or False" if switch else "")


def _fitting(kind: Any, value: Any, name: str, title: str, besides: str = "") -> Any:
    if found := misfit(kind, value):
        place, reason = found
        # "or False" is an alternative to the whole value, not to a part of it.
        reason = reason if place else reason.replace(", not ", f"{besides}, not ", 1)
        raise LMStudioConfigError(f"'{name}{place}' in the {title} {reason}.")
    return plain(kind, value)


def _gpu_written(gpu: Mapping[str, Any], domain: str, title: str) -> dict[str, Any]:
    values = {}
    for name in ("ratio", "num_cpu_expert_layers_ratio"):
        if name in gpu:
            key = f"{domain}.load.llama.{GPU[name]}" if name == "ratio" else GPU[name]
            values[key] = _to_wire(f"gpu.{name}", key, gpu[name], {}, title)
    if gpu.keys() & {"main_gpu", "split_strategy", "disabled_gpus"}:
        members = KEYS[GPU_SPLIT][0][1]
        split = default(GPU_SPLIT)
        if "split_strategy" in gpu:
            strategy = _fitting(
                ("enum", tuple(SPLIT_STRATEGIES)), gpu["split_strategy"], "gpu.split_strategy", title
            )
            split["strategy"] = SPLIT_STRATEGIES[strategy]
        if "main_gpu" in gpu:
            split["priority"] = [_fitting(members["priority"][1], gpu["main_gpu"], "gpu.main_gpu", title)]
        if "disabled_gpus" in gpu:
            split["disabledGpus"] = _fitting(
                members["disabledGpus"], gpu["disabled_gpus"], "gpu.disabled_gpus", title
            )
        values[GPU_SPLIT] = split
    return values


def _passed_through(values: Any, name: str, title: str) -> dict[str, Any]:
    """Check that values by wire key are JSON. Their meaning is not checked."""
    if not isinstance(values, Mapping):
        raise LMStudioConfigError(
            f"'{name}' in the {title} is a mapping of wire keys to values, not {short_repr(values)}."
        )
    passed: dict[str, Any] = _fitting(("json",), values, name, title)
    return passed


def _raw(raw: Any, title: str) -> dict[str, Any]:
    if isinstance(raw, Mapping) and "fields" in raw:
        fields = raw["fields"]
        if not isinstance(fields, list | tuple) or not all(
            isinstance(field, Mapping) and isinstance(field.get("key"), str) for field in fields
        ):
            form = '{"fields": [{"key": …, "value": …}]}'
            raise LMStudioConfigError(
                f"'raw' in the {title} is {form} or a mapping by wire key, not {short_repr(raw)}."
            )
        raw = from_fields(raw)
    values = _passed_through(raw, "raw", title)
    for key, value in values.items():
        if reason := check(key, value):
            raise LMStudioConfigError(f"In 'raw' of the {title}, {reason}.")
    return values


@overload
def load_config_from_fields(kv: object, domain: Literal["llm"]) -> LlmLoadModelConfig: ...


@overload
def load_config_from_fields(kv: object, domain: Literal["embedding"]) -> EmbeddingLoadModelConfig: ...


def load_config_from_fields(
    kv: object, domain: Literal["llm", "embedding"]
) -> LlmLoadModelConfig | EmbeddingLoadModelConfig:
    """Make the load config of a server's KV config. Never raises: settings without a name here go to ``extra``."""
    cls, rules = _load_types(domain)
    values = from_fields(kv)
    settings, written = _read(values, rules, title_of(cls))
    if gpu := _gpu_read(values, domain):
        settings["gpu"] = GpuSetting(**gpu)
        written |= _gpu_written(gpu, domain, title_of(cls))
    if _DRAFT_CHOICES & settings.keys():
        written |= _SIDECARS
    return cls(**settings, extra=_uncovered(values, written))


def prediction_config_from_fields(kv: object) -> LlmPredictionConfig:
    """Make the prediction config of a server's KV config. Never raises, as for load configs."""
    values = from_fields(kv)
    settings, written = _read(values, PREDICTION, title_of(LlmPredictionConfig))
    return LlmPredictionConfig(**settings, extra=_uncovered(values, written))


def _read(values: Mapping[str, Any], rules: Rules, title: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings by name, and their values by wire key."""
    settings: dict[str, Any] = {}
    for name, (keys, completion) in rules.items():
        for key in keys:
            value = setting_from_wire(key, values.get(key))
            if (
                value is not None
                and name not in settings
                and _is_writable(name, key, value, completion, title)
            ):
                settings[name] = value
    return settings, _written(settings, rules, title)


def setting_from_wire(key: str, value: Any) -> Any:
    """Return the value of a key in the form in which users give it."""
    kind = KEYS[key][0]
    if isinstance(value, Mapping):
        if kind[0] == "checkbox":
            return value.get("value") if value.get("checked") is True else value.get("checked")
        if kind[0] == "object" and value.get("enabled") is False:
            return False
        if key == _CHOICE and value.keys() == {"type", "mode"} and value["type"] == "generic":
            return value["mode"]
    return value


def _is_writable(name: str, key: str, value: Any, completion: Mapping[str, Any], title: str) -> bool:
    # Only a value that could be sent becomes a setting, so that a server's config can be changed and sent again.
    try:
        _to_wire(name, key, value, completion, title)
    except LMStudioConfigError:
        return False
    return True


def _gpu_read(values: Mapping[str, Any], domain: str) -> dict[str, Any]:
    gpu: dict[str, Any] = {}
    for name in ("ratio", "num_cpu_expert_layers_ratio") if domain == "llm" else ("ratio",):
        key = f"{domain}.load.llama.{GPU[name]}" if name == "ratio" else GPU[name]
        if values.get(key) is not None and check(key, values[key]) is None:
            gpu[name] = values[key]
    split = values.get(GPU_SPLIT)
    if not isinstance(split, Mapping) or check(GPU_SPLIT, {**default(GPU_SPLIT), **split}) is not None:
        return gpu
    split = {**default(GPU_SPLIT), **split}
    named = {wire: name for name, wire in SPLIT_STRATEGIES.items()}
    shown = {"split_strategy": named.get(split["strategy"]), "disabled_gpus": list(split["disabledGpus"])}
    if split["priority"]:
        shown["main_gpu"] = split["priority"][0]
    # Custom ratios and an order of several GPUs have no name here, and a part of the split would be another split.
    exact = shown["split_strategy"] and _gpu_written(shown, domain, "")[GPU_SPLIT] == split
    return gpu | shown if exact else gpu


def _uncovered(values: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that the settings do not cover."""
    return {
        key: value for key, value in values.items() if key not in written or not _same(written[key], value)
    }


def _same(written: Any, value: Any) -> bool:
    # Values that are switched off are the same, whatever their other members.
    off = (
        isinstance(written, dict)
        and isinstance(value, Mapping)
        and False in (written.get("checked"), written.get("enabled"))
    )
    return written == value or (off and value.get("checked", value.get("enabled")) is False)
