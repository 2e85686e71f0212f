"""Configs that are read from a server: their settings, and a round trip without losses."""

from __future__ import annotations

import json
import pickle
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async._config import (
    EmbeddingLoadModelConfig,
    GpuSetting,
    LlmLoadModelConfig,
    LlmPredictionConfig,
    load_config_fields,
    load_config_from_fields,
    prediction_config_fields,
    prediction_config_from_fields,
)
from lmstudio_async._config._rules import EMBEDDING_LOAD, LLM_LOAD, PREDICTION, SPLIT_STRATEGIES, Rules
from lmstudio_async._wire import _kv

NO_FIT = {f"llm.load.{engine}.autoFit": False for engine in ("llama", "mlx", "yuzu")}
SPLIT = "load.gpuSplitConfig"


def values_of(kind: _kv.Kind) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a kind."""
    match kind[0]:
        case "bool":
            return st.booleans()
        case "str":
            return st.text("a<|>é", max_size=3)
        case "int":
            return st.integers(kind[1], kind[2])
        case "num":
            return st.integers(kind[1], kind[2]) | st.floats(
                kind[1], kind[2], allow_nan=False, allow_infinity=False
            )
        case "enum":
            return st.sampled_from(kind[1])
        case "either":
            return st.one_of(*map(values_of, kind[1:]))
        case "list":
            return st.lists(values_of(kind[1]), max_size=2)
        case "object":
            members = {name: values_of(member) for name, member in kind[1].items()}
            optional = {name: members.pop(name) for name in kind[1].keys() - kind[2]}
            return st.fixed_dictionaries(members, optional=optional)
    return st.dictionaries(st.sampled_from("abc"), st.integers() | st.just("x"), max_size=2)


def settings_for(rules: Rules) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for settings in the form in which they are read back."""
    choices = {}
    for name, (keys, _) in rules.items():
        kind = _kv.KEYS[keys[0]][0]
        match kind[0]:
            case "checkbox":
                choices[name] = st.just(False) | values_of(kind[1])
            case "object" if "enabled" in kind[1]:
                on = values_of(kind).map(lambda value: {**value, "enabled": True})
                choices[name] = st.just(False) | on
            case _ if name == "tool_choice":
                choices[name] = values_of(kind[1]["mode"])
            case _:
                choices[name] = values_of(kind)
    # Pick the settings before drawing values: thirty values for each example would be slow, and no better a test.
    return st.lists(st.sampled_from(sorted(choices)), unique=True, max_size=5).flatmap(
        lambda names: st.fixed_dictionaries({name: choices[name] for name in names})
    )


RATIOS = st.sampled_from([0, 0.5, 1, "max", "off"])
SPLITS = {
    "main_gpu": st.integers(0, 9),
    "split_strategy": st.sampled_from(sorted(SPLIT_STRATEGIES)),
    "disabled_gpus": st.lists(st.integers(0, 9), max_size=2),
}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "evenly", "generic", "max"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["checked", "value", "enabled", "type", "mode", "strategy", "priority", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
SERVER_KV = st.fixed_dictionaries(
    {
        "fields": st.lists(
            st.fixed_dictionaries(
                {"key": st.sampled_from([*_kv.KEYS, "llm.load.newer"])}, optional={"value": JSON}
            ),
            max_size=8,
        )
    }
)


@given(settings_for(LLM_LOAD), st.fixed_dictionaries({}, optional={"ratio": RATIOS, **SPLITS}))
def test_a_load_config_read_from_its_wire_form_is_equal(
    settings: dict[str, Any], gpu: dict[str, Any]
) -> None:
    config = LlmLoadModelConfig(**settings, gpu=GpuSetting(**gpu) if gpu else None)
    fields = json.loads(json.dumps(load_config_fields(config, "llm"), allow_nan=False))
    read = load_config_from_fields(fields, "llm")
    if NO_FIT.items() <= _kv.from_fields(fields).items():
        config = attrs.evolve(config, auto_fit=False)
    if config.gpu and gpu.keys() & SPLITS.keys():
        # A split is sent with all its members, so it is read back with all of them.
        whole = {"split_strategy": "evenly", "disabled_gpus": []} | gpu
        config = attrs.evolve(config, gpu=GpuSetting(**whole))
    assert read == config
    # The config can be sent again, as an instance or as a dict.
    assert LlmLoadModelConfig.from_dict(read.to_dict()) == read
    assert _kv.from_fields(load_config_fields(read, "llm")).items() >= _kv.from_fields(fields).items()


@given(settings_for(EMBEDDING_LOAD), RATIOS)
def test_an_embedding_load_config_read_from_its_wire_form_is_equal(
    settings: dict[str, Any], ratio: Any
) -> None:
    config = EmbeddingLoadModelConfig(**settings, gpu=GpuSetting(ratio=ratio))
    assert load_config_from_fields(load_config_fields(config, "embedding"), "embedding") == config


@given(settings_for(PREDICTION))
def test_a_prediction_config_read_from_its_wire_form_is_equal(settings: dict[str, Any]) -> None:
    config = LlmPredictionConfig(**settings)
    fields = json.loads(json.dumps(prediction_config_fields(config), allow_nan=False))
    assert prediction_config_from_fields(fields) == config


@given(SERVER_KV)
def test_any_config_of_a_server_is_read_without_loss(kv: dict[str, Any]) -> None:
    for read, fields in (
        (load_config_from_fields(kv, "llm"), lambda config: load_config_fields(config, "llm")),
        (load_config_from_fields(kv, "embedding"), lambda config: load_config_fields(config, "embedding")),
        (prediction_config_from_fields(kv), prediction_config_fields),
    ):
        repr(read)
        # Every value is a setting or an extra. A NaN in an extra is not valid JSON, so sending it would be refused.
        if "nan" not in repr(read.extra) and "inf" not in repr(read.extra):
            missing = {key for key, value in _kv.from_fields(kv).items() if value is not None}
            assert missing <= _kv.from_fields(fields(read)).keys()


@pytest.mark.parametrize("odd", [None, 3, {"fields": 3}, {"layers": []}])
def test_an_invalid_config_is_read_as_an_empty_one(odd: object) -> None:
    assert load_config_from_fields(odd, "llm") == LlmLoadModelConfig()
    assert prediction_config_from_fields(odd) == LlmPredictionConfig()


def test_a_setting_without_a_name_is_in_extra_by_its_wire_key() -> None:
    values = {
        "llm.load.newer": 1,
        "llm.load.contextLength": "much",
        "llm.load.llama.cpuThreadPoolSize": 4,
        "llm.load.seed": {"checked": True, "value": 3},
        "llm.load.llama.ropeFrequencyBase": {"checked": False, "value": 9},
    }
    read = load_config_from_fields(_kv.to_fields(values), "llm")
    assert read.seed == 3
    assert read.rope_frequency_base is False
    assert read.rope_frequency_scale is None
    assert read.context_length is None
    assert dict(read.extra) == {key: values[key] for key in list(values)[:3]}


@pytest.mark.parametrize(
    "split",
    [
        {"strategy": "custom", "disabledGpus": [], "priority": [], "customRatio": [0.5, 0.5]},
        {"strategy": "priorityOrder", "disabledGpus": [], "priority": [1, 0], "customRatio": []},
        {"strategy": "newer"},
        None,
    ],
)
def test_an_unsupported_gpu_split_is_an_extra_and_can_be_sent_again(split: Any) -> None:
    read = load_config_from_fields({"fields": [{"key": SPLIT, "value": split}]}, "llm")
    assert read.gpu is None
    assert read.extra == {SPLIT: split}
    assert _kv.from_fields(load_config_fields(read, "llm")) == ({} if split is None else {SPLIT: split})


def test_a_tensor_split_is_read() -> None:
    read = load_config_from_fields(_kv.to_fields({SPLIT: {"strategy": "tensor", "priority": [0]}}), "llm")
    assert read.gpu is not None
    assert (read.gpu.split_strategy, read.gpu.main_gpu) == ("tensor", 0)


def test_a_config_has_a_short_repr_can_be_pickled_and_is_frozen() -> None:
    config = LlmLoadModelConfig(context_length=8192, gpu=GpuSetting(ratio=0.5))
    assert repr(config) == "LlmLoadModelConfig(gpu=GpuSetting(ratio=0.5), context_length=8192)"
    assert config.to_dict() == {"contextLength": 8192, "gpu": {"ratio": 0.5}}
    assert pickle.loads(pickle.dumps(config)) == config
    assert hash(config) == hash(attrs.evolve(config))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.seed = 3  # type: ignore[misc]  # the test expects this error
