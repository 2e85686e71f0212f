"""Configs that are sent to a server: the forms of the settings, their wire form, and the errors."""

from __future__ import annotations

import math
from collections import UserDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

import attrs
import pytest

from lmstudio_async._config import (
    EmbeddingLoadModelConfig,
    EmbeddingLoadModelConfigDict,
    GpuSetting,
    GpuSettingDict,
    LlmLoadModelConfig,
    LlmLoadModelConfigDict,
    LlmPredictionConfig,
    LlmPredictionConfigDict,
    load_config_fields,
    load_config_from_fields,
    prediction_config_fields,
)
from lmstudio_async._config._rules import (
    EMBEDDING_LOAD,
    GPU,
    LLM_LOAD,
    PREDICTION,
    SPLIT_STRATEGIES,
    Rules,
    camel,
)
from lmstudio_async._config._types import CacheQuantization, SplitStrategy
from lmstudio_async._wire import _kv
from lmstudio_async.errors import LMStudioConfigError, LMStudioValueError

Domain = Literal["llm", "embedding"]

NO_FIT = {f"llm.load.{engine}.autoFit": False for engine in ("llama", "mlx", "yuzu")}
RATIO = "llm.load.llama.acceleration.offloadRatio"
SPLIT = "load.gpuSplitConfig"

# For each wire key whose setting differs from its wire form: both.
EXAMPLES: dict[str, tuple[Any, Any]] = {
    "llm.load.promptTemplate": (
        {"type": "jinja", "jinja_prompt_template": {"template": "{{ x }}"}},
        {"type": "jinja", "jinjaPromptTemplate": {"template": "{{ x }}"}},
    ),
    "llm.load.llama.argumentsOverride": (
        {"override_parameters": [{"key": "--ctk", "value": "f16"}]},
        {
            "enabled": True,
            "disabledParameters": [],
            "overrideParameters": [{"key": "--ctk", "value": "f16"}],
            "excludeAllConfig": False,
        },
    ),
    "llm.load.mlx.kvCacheQuantization": (
        {"bits": 4, "group_size": 32},
        {"enabled": True, "bits": 4, "groupSize": 32, "quantizedStart": 5000},
    ),
    "llm.prediction.reasoning.parsing": (
        {"start_string": "[", "endString": "]"},
        {"enabled": True, "startString": "[", "endString": "]"},
    ),
    "llm.prediction.structured": (
        {"type": "gbnf", "gbnf_grammar": "g"},
        {"type": "gbnf", "gbnfGrammar": "g"},
    ),
    "llm.prediction.toolChoice": ("required", {"type": "generic", "mode": "required"}),
}


def sent_load(config: object, domain: Domain = "llm") -> dict[str, Any]:
    return _kv.from_fields(load_config_fields(config, domain))


def sent_prediction(config: object, overrides: Mapping[str, object] | None = None) -> dict[str, Any]:
    return _kv.from_fields(prediction_config_fields(config, overrides))


# ---------------------------------------------------------------------------------------------------- the tables


@pytest.mark.parametrize(
    ("cls", "typed", "names"),
    [
        (LlmLoadModelConfig, LlmLoadModelConfigDict, {*LLM_LOAD, "gpu", "extra"}),
        (EmbeddingLoadModelConfig, EmbeddingLoadModelConfigDict, {*EMBEDDING_LOAD, "gpu", "extra"}),
        (LlmPredictionConfig, LlmPredictionConfigDict, {*PREDICTION, "raw", "extra"}),
        (GpuSetting, GpuSettingDict, {*GPU}),
    ],
)
def test_class_dict_and_table_have_the_same_settings(cls: type, typed: type, names: set[str]) -> None:
    assert {field.name for field in attrs.fields(cls)} == names
    assert set(typed.__annotations__) == names | {camel(name) for name in names}
    for name in names:
        assert f":param {name}:" in (cls.__doc__ or "")


def test_literal_types_have_the_values_of_the_wire() -> None:
    cache = _kv.KEYS["llm.load.llama.kCacheQuantizationType"][0][1][1]
    assert get_args(CacheQuantization) == cache
    assert set(get_args(SplitStrategy)) == set(SPLIT_STRATEGIES)


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("use_fp16_for_kv_cache", "useFp16ForKVCache"),
        ("offload_kv_cache_to_gpu", "offloadKVCacheToGpu"),
        ("try_direct_io", "tryDirectIO"),
        ("use_unified_kv_cache", "useUnifiedKvCache"),
        ("llama_k_cache_quantization_type", "llamaKCacheQuantizationType"),
        ("min_p_sampling", "minPSampling"),
    ],
)
def test_camel_case_is_spelled_as_lm_studio_spells_it(name: str, spelling: str) -> None:
    assert camel(name) == spelling


# ---------------------------------------------------------------------------------------------------- wire form


def test_the_documented_dict_is_sent_as_documented() -> None:
    config: LlmLoadModelConfigDict = {"contextLength": 8192, "gpu": {"ratio": 0.5}}
    assert sent_load(config) == {"llm.load.contextLength": 8192, RATIO: 0.5} | NO_FIT


def test_both_spellings_the_class_and_any_mapping_give_the_same_config() -> None:
    snake: LlmLoadModelConfigDict = {"flash_attention": True, "gpu": {"main_gpu": 0}}
    camel_case: LlmLoadModelConfigDict = {"flashAttention": True, "gpu": {"mainGpu": 0}}
    config = LlmLoadModelConfig(flash_attention=True, gpu={"main_gpu": 0})
    expected = load_config_fields(config, "llm")
    for same in (snake, camel_case, UserDict(snake), MappingProxyType(snake), {**snake, "gpu": config.gpu}):
        assert load_config_fields(same, "llm") == expected
    assert config.gpu == GpuSetting(main_gpu=0)


@pytest.mark.parametrize("empty", [None, {}, LlmLoadModelConfig(), {"seed": None, "gpu": None}, {"gpu": {}}])
def test_unset_settings_are_not_sent(empty: object) -> None:
    assert load_config_fields(empty, "llm") == {"fields": []}


@pytest.mark.parametrize(
    ("rules", "name"),
    [(rules, name) for rules in (LLM_LOAD, EMBEDDING_LOAD, PREDICTION) for name in rules],
)
def test_every_setting_is_sent_under_its_key_in_both_spellings(rules: Rules, name: str) -> None:
    keys = rules[name][0]
    kind, default = _kv.KEYS[keys[0]]
    if keys[0] in EXAMPLES:
        value, wire = EXAMPLES[keys[0]]
    elif kind[0] == "checkbox":
        value, wire = default["value"], {"checked": True, "value": default["value"]}
    else:
        value = wire = default
    for spelling in {name, camel(name)}:
        if rules is PREDICTION:
            sent = sent_prediction({spelling: value})
        else:
            sent = sent_load({spelling: value}, "llm" if rules is LLM_LOAD else "embedding")
        assert {key: sent[key] for key in keys} == dict.fromkeys(keys, wire)
        assert all(_kv.check(key, value) is None for key, value in sent.items())


@pytest.mark.parametrize("name", ["seed", "rope_frequency_base", "llama_k_cache_quantization_type"])
def test_false_unticks_a_checkbox_and_keeps_a_filler(name: str) -> None:
    key = LLM_LOAD[name][0][0]
    assert sent_load({name: False}) == {key: {**_kv.default(key), "checked": False}}
    assert getattr(load_config_from_fields(load_config_fields({name: False}, "llm"), "llm"), name) is False


def test_false_disables_a_setting_with_an_enabled_member() -> None:
    sent = sent_prediction({"reasoning_parsing": False})
    assert sent["llm.prediction.reasoning.parsing"]["enabled"] is False
    assert (
        sent_load({"mlxKvCacheQuantization": False})["llm.load.mlx.kvCacheQuantization"]["enabled"] is False
    )


def test_a_gpu_ratio_alone_sends_no_gpu_split() -> None:
    assert sent_load({"gpu": {"ratio": "max"}}) == {RATIO: "max"} | NO_FIT
    assert sent_load({"gpu": {"ratio": "off"}}, "embedding") == {
        "embedding.load.llama.acceleration.offloadRatio": "off"
    }


@pytest.mark.parametrize(
    ("gpu", "split"),
    [
        ({"main_gpu": 0}, {"strategy": "evenly", "priority": [0]}),
        ({"main_gpu": 1, "split_strategy": "favorMainGpu"}, {"strategy": "priorityOrder", "priority": [1]}),
        ({"split_strategy": "tensor"}, {"strategy": "tensor"}),
        ({"disabled_gpus": (1, 2)}, {"disabledGpus": [1, 2]}),
    ],
)
def test_a_gpu_split_is_sent_with_all_members(gpu: dict[str, Any], split: dict[str, Any]) -> None:
    expected = {"strategy": "evenly", "disabledGpus": [], "priority": [], "customRatio": []} | split
    assert sent_load({"gpu": gpu})[SPLIT] == expected


def test_an_explicit_size_disables_auto_fit_unless_it_is_set() -> None:
    assert NO_FIT.items() <= sent_load({"gpu": {"num_cpu_expert_layers_ratio": 0.5}}).items()
    assert not NO_FIT.keys() & sent_load({"gpu": {"disabled_gpus": [1]}, "flash_attention": True}).keys()
    asked = sent_load({"context_length": 8192, "auto_fit": True})
    assert {key: asked[key] for key in NO_FIT} == dict.fromkeys(NO_FIT, True)
    assert sent_load({"context_length": 512}, "embedding") == {"embedding.load.contextLength": 512}


def test_a_draft_model_disables_the_other_drafters() -> None:
    sent = sent_load({"speculative_draft_model": "tiny"})
    sidecars = {key: value for key, value in sent.items() if key.endswith("Sidecar")}
    assert len(sidecars) == 3
    assert set(sidecars.values()) == {False}
    assert not any(key.endswith("Sidecar") for key in sent_load({"speculative_draft_max_tokens": 2}))


def test_a_whole_float_is_sent_as_an_integer() -> None:
    assert repr(sent_prediction({"topKSampling": 40.0})) == "{'llm.prediction.topKSampling': 40}"


def test_named_settings_override_raw_in_either_form() -> None:
    key = "llm.prediction.seed"
    tick = {"checked": True, "value": 7}
    by_key: LlmPredictionConfigDict = {
        "temperature": 0.5,
        "raw": {key: tick, "llm.prediction.temperature": 1},
    }
    as_kv = {"temperature": 0.5, "raw": _kv.to_fields({key: tick, "llm.prediction.temperature": 1})}
    assert sent_prediction(by_key) == sent_prediction(as_kv) == {key: tick, "llm.prediction.temperature": 0.5}


def test_parameters_of_a_call_override_its_config() -> None:
    schema: dict[str, object] = {
        "structured": {"type": "json", "json_schema": {"keep_me": 1}},
        "raw_tools": None,
    }
    sent = sent_prediction(LlmPredictionConfig(structured={"type": "none"}), schema)
    assert sent == {"llm.prediction.structured": {"type": "json", "jsonSchema": {"keep_me": 1}}}


def test_extra_settings_are_sent_unchanged_and_named_ones_override_them() -> None:
    config = LlmLoadModelConfig(seed=1, extra={"llm.load.newer": [1], "llm.load.seed": "odd"})
    assert sent_load(config) == {"llm.load.newer": [1], "llm.load.seed": {"checked": True, "value": 1}}


# ------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"gpu": {"ratoi": 1}}, ["'gpu.ratoi'", "'gpu.ratio'"]),
        ({"context_lenght": 1}, ["'context_lenght'", "'context_length'"]),
        ({"contextLenght": 1}, ["'contextLenght'", "'contextLength'"]),
        ({"useFp16ForKvCache": True}, ["'useFp16ForKVCache'"]),
        ({"temperature": 1}, ["'temperature'", "config of a prediction"]),
        ({"mainGpu": 1}, ["'mainGpu'", "'gpu'"]),
        ({"n_ctx": 1}, ["'n_ctx'", "It has: ", "context_length"]),
        ({"mlx_kv_cache_quantization": {"grup_size": 32}}, ["'mlx_kv_cache_quantization.group_size'"]),
        ({1: 2}, ["strings, not 1"]),
        (
            {"contextLength": 1, "context_length": 1},
            ["'contextLength' and 'context_length'", "two spellings"],
        ),
        ({"gpu": {"mainGpu": 1, "main_gpu": 1}}, ["'gpu.mainGpu' and 'gpu.main_gpu'"]),
        ({"context_length": "8192"}, ["'context_length'", "whole number of at least 1, not '8192'"]),
        ({"context_length": 0}, ["not 0"]),
        ({"context_length": True}, ["not True"]),
        ({"context_length": False}, ["not False"]),
        ({"flash_attention": 1}, ["True or False, not 1"]),
        ({"max_parallel_predictions": 1024}, ["from 1 to 1023, not 1024"]),
        ({"seed": -2}, ["'seed'", "at least -1 or False, not -2"]),
        ({"seed": True}, ["not True"]),
        ({"llama_k_cache_quantization_type": "q9"}, ["'q8_0'", "or False, not 'q9'"]),
        ({"rope_frequency_base": math.nan}, ["not nan"]),
        ({"gpu": {"ratio": math.inf}}, ["'gpu.ratio'", "not inf"]),
        ({"gpu": {"ratio": 1.1}}, ["from 0 to 1 or 'max' or 'off', not 1.1"]),
        ({"gpu": {"main_gpu": True}}, ["'gpu.main_gpu'", "not True"]),
        ({"gpu": {"split_strategy": "even"}}, ["'evenly'", "not 'even'"]),
        ({"gpu": {"disabled_gpus": [0, -1]}}, ["'gpu.disabled_gpus[1]'", "not -1"]),
        ({"gpu": "max"}, ["GpuSetting, not 'max'"]),
        ({"llama_cpp_arguments_override": {"overrideParameters": [{"key": "a"}]}}, ["[0]'", "'value'"]),
        ({"extra": {"llm.load.newer": {1}}}, ["'extra.llm.load.newer'", "JSON"]),
        ({"extra": 3}, ["'extra'", "not 3"]),
        (3, ["mapping or an instance of LlmLoadModelConfig, not 3"]),
        ([("seed", 1)], ["mapping or an instance of LlmLoadModelConfig"]),
        (EmbeddingLoadModelConfig(), ["of an LLM", "not EmbeddingLoadModelConfig()"]),
        (LlmPredictionConfig(), ["not LlmPredictionConfig()"]),
    ],
)
def test_an_invalid_load_config_is_refused_with_a_reason(config: object, words: list[str]) -> None:
    with pytest.raises(LMStudioConfigError) as caught:
        load_config_fields(config, "llm")
    assert isinstance(caught.value, LMStudioValueError)
    for word in words:
        assert word in str(caught.value)


def test_an_embedding_model_has_fewer_settings() -> None:
    with pytest.raises(LMStudioConfigError, match="no 'flash_attention'.*LLM"):
        load_config_fields({"flash_attention": True}, "embedding")
    with pytest.raises(LMStudioConfigError, match="for LLMs only"):
        load_config_fields({"gpu": {"numCpuExpertLayersRatio": 1}}, "embedding")
    with pytest.raises(LMStudioConfigError, match="EmbeddingLoadModelConfig, not LlmLoadModelConfig"):
        load_config_fields(LlmLoadModelConfig(seed=1), "embedding")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"stop_strings": "x"}, ["'stop_strings'", "a list", "not 'x'"]),
        ({"max_tokens": -1}, ["at least 1 or False, not -1"]),
        ({"tool_choice": "maybe"}, ["'tool_choice.mode'", "'required', not 'maybe'"]),
        ({"structured": {"type": "json", "jsonSchema": {"a": math.nan}}}, ["'structured.jsonSchema.a'"]),
        ({"top_p": 1}, ["'top_p_sampling'"]),
        ({"raw": {"fields": 3}}, ["'raw'", "not {'fields': 3}"]),
        ({"raw": {"llm.prediction.topKSampling": "all"}}, ["llm.prediction.topKSampling", "not 'all'"]),
    ],
)
def test_an_invalid_prediction_config_is_refused_with_a_reason(config: object, words: list[str]) -> None:
    with pytest.raises(LMStudioConfigError) as caught:
        prediction_config_fields(config)
    for word in words:
        assert word in str(caught.value)
