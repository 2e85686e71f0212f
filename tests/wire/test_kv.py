"""The KV config: its table of keys, and reading and writing it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async._wire import _kv

# A small alphabet, because only types and shapes matter here, and all of Unicode takes a second to set up.
TEXT = st.text("aé.0", max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
KEY = st.sampled_from(sorted(_kv.KEYS)) | TEXT
FIELDS = st.lists(st.fixed_dictionaries({"key": KEY}, optional={"value": JSON}), max_size=5)


def fields(*pairs: tuple[str, Any]) -> dict[str, Any]:
    return {"fields": [{"key": key, "value": value} for key, value in pairs]}


def on(value: object) -> dict[str, object]:
    return {"checked": True, "value": value}


def test_the_table_has_every_key_of_every_domain() -> None:
    prefixes = ("llm.load.", "embedding.load.", "llm.prediction.", "retrieval.", "load.")
    counts = {prefix: sum(key.startswith(prefix) for key in _kv.KEYS) for prefix in prefixes}
    assert counts == {
        "llm.load.": 42,
        "embedding.load.": 8,
        "llm.prediction.": 38,
        "retrieval.": 4,
        "load.": 2,
    }
    assert "envVars" in _kv.KEYS


@pytest.mark.parametrize("key", sorted(_kv.KEYS))
def test_the_default_of_a_key_fits_it_and_is_json(key: str) -> None:
    default = _kv.default(key)
    assert _kv.check(key, default) is None
    assert json.loads(json.dumps(default)) == default


def test_changing_a_default_does_not_change_the_next_one() -> None:
    _kv.default("load.gpuSplitConfig")["priority"].append(1)
    assert _kv.default("load.gpuSplitConfig")["priority"] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llm.load.contextLength", 1),
        ("llm.load.contextLength", 8192.0),
        ("llm.load.numParallelSessions", 1023),
        ("llm.load.llama.acceleration.offloadRatio", 0),
        ("llm.load.llama.acceleration.offloadRatio", 0.5),
        ("llm.load.llama.acceleration.offloadRatio", "off"),
        ("llm.load.llama.ropeFrequencyBase", on(1e6)),
        ("llm.load.llama.ropeFrequencyBase", {"checked": False}),
        ("llm.load.llama.kCacheQuantizationType", on("q8_0")),
        (
            "llm.load.mlx.kvCacheQuantization",
            {"enabled": True, "bits": 4, "groupSize": 32, "quantizedStart": 0},
        ),
        (
            "load.gpuSplitConfig",
            {"strategy": "tensor", "disabledGpus": [1], "priority": [0], "customRatio": [0.5]},
        ),
        ("load.gpuSplitConfig", {**_kv.default("load.gpuSplitConfig"), "newer": "member"}),
        ("llm.prediction.topKSampling", -1),
        ("llm.prediction.llama.presencePenalty", on(-2)),
        ("llm.prediction.llama.logitBias", [[5, "-inf"], [6, 0.5]]),
        ("llm.prediction.structured", {"type": "json", "jsonSchema": {"type": "object"}}),
        (
            "llm.prediction.tools",
            {"type": "toolArray", "tools": [{"type": "function", "function": {"name": "f"}}]},
        ),
        ("envVars", {"HSA_OVERRIDE_GFX_VERSION": "10.3.0"}),
        ("ext.virtualModel.customField.any.thing", {"may": "be anything"}),
    ],
)
def test_a_value_that_fits_its_key_passes(key: str, value: object) -> None:
    assert _kv.check(key, value) is None


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("llm.load.contextLength", 0, "must be a whole number of at least 1, not 0"),
        ("llm.load.contextLength", True, "must be a whole number of at least 1, not True"),
        ("llm.load.contextLength", 1.5, "must be a whole number of at least 1, not 1.5"),
        ("llm.load.contextLength", math.inf, "must be a whole number of at least 1, not inf"),
        ("llm.load.contextLength", None, "must be a whole number of at least 1, not None"),
        # In a list, because pytest names each case after its numbers.
        ("llm.load.contextLength", [10**5000], "must be a whole number of at least 1, not [a huge number]"),
        ("llm.load.numParallelSessions", 1024, "must be a whole number from 1 to 1023, not 1024"),
        ("llm.load.llama.flashAttention", 1, "must be True or False, not 1"),
        (
            "llm.load.llama.acceleration.offloadRatio",
            "half",
            "must be a number from 0 to 1 or 'max' or 'off'",
        ),
        ("llm.load.llama.acceleration.offloadRatio", math.nan, "not nan"),
        ("llm.load.seed", 3, 'must be {"checked": true or false'),
        ("llm.load.seed", {"checked": 1, "value": 3}, 'must be {"checked": true or false'),
        ("llm.load.seed", on(-2), ".value must be a whole number of at least -1, not -2"),
        ("llm.load.seed", {"checked": True}, ".value must be"),
        ("llm.load.llama.kCacheQuantizationType", on("q9"), ".value must be 'f32', 'f16'"),
        ("llm.load.mlx.kvCacheQuantization", {"enabled": True}, "must have the member 'bits'"),
        ("llm.load.mlx.kvCacheQuantization", 8, "must be an object with 'enabled', 'bits'"),
        (
            "load.gpuSplitConfig",
            {**_kv.default("load.gpuSplitConfig"), "priority": [0, -1]},
            ".priority[1] must be",
        ),
        ("llm.prediction.stopStrings", "stop", "must be a list, each item a string, not 'stop'"),
        ("llm.prediction.temperature", 10**400 * -1, "must be a number of at least 0"),
        (
            "llm.prediction.llama.logitBias",
            [[5]],
            "[0] must be a pair of a whole number and a number or '-inf'",
        ),
        (
            "llm.prediction.llama.mirostatSampling",
            {"version": True, "learningRate": 0, "targetEntropy": 0},
            ".version",
        ),
        (
            "llm.prediction.structured",
            {"type": "json", "jsonSchema": {"a": [math.nan]}},
            ".jsonSchema.a[0] must be a",
        ),
        (
            "llm.prediction.structured",
            {"type": "json", "jsonSchema": {1: 2}},
            ".jsonSchema must have strings as keys",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_a_reason(key: str, value: object, reason: str) -> None:
    found = _kv.check(key, value)
    assert found is not None
    assert found.startswith(key)
    assert reason in found


def test_a_structure_that_contains_itself_is_refused() -> None:
    schema: dict[str, Any] = {}
    schema["self"] = schema
    found = _kv.check("llm.prediction.structured", {"type": "json", "jsonSchema": schema})
    assert found == "llm.prediction.structured is nested too deeply, or contains itself"


def test_values_become_fields_and_none_is_not_set() -> None:
    assert _kv.to_fields({"a": 1, "b": None, "c": False}) == fields(("a", 1), ("c", False))


def test_the_last_of_several_fields_of_one_key_wins() -> None:
    assert _kv.from_fields(fields(("a", 1), ("a", 2))) == {"a": 2}
    assert _kv.from_fields({"fields": [{"key": "a", "value": 1}, {"key": "a"}]}) == {}


def test_a_field_without_a_value_is_absent_and_unknown_keys_are_kept() -> None:
    assert _kv.from_fields({"fields": [{"key": "a"}, {"key": "newer", "value": {"x": 1}}]}) == {
        "newer": {"x": 1}
    }


def test_whole_floats_of_integer_keys_become_integers() -> None:
    read = _kv.from_fields(
        fields(
            ("llm.prediction.topKSampling", 40.0),
            ("llm.prediction.maxPredictedTokens", on(5.0)),
            ("llm.prediction.temperature", 1.0),
        )
    )
    assert repr(read["llm.prediction.topKSampling"]) == "40"
    assert repr(read["llm.prediction.maxPredictedTokens"]["value"]) == "5"
    assert repr(read["llm.prediction.temperature"]) == "1.0"


@pytest.mark.parametrize(
    "odd",
    [
        None,
        1,
        "x",
        [],
        {},
        {"fields": None},
        {"fields": 3},
        {"fields": [None, 3, {}, {"key": 4, "value": 1}]},
    ],
)
def test_a_value_that_is_no_config_reads_as_an_empty_one(odd: object) -> None:
    assert _kv.from_fields(odd) == {}
    assert _kv.collapse(odd) == {}
    assert _kv.collapse({"layers": [odd, {"layerName": "x", "config": odd}]}) == {}


def test_later_layers_win() -> None:
    stack = {
        "layers": [
            {"layerName": "preset", "config": fields(("a", 1), ("b", 1))},
            {"layerName": "apiOverride", "config": fields(("b", 2))},
        ]
    }
    assert _kv.collapse(stack) == {"a": 1, "b": 2}
    assert _kv.layer(stack, "preset") == {"a": 1, "b": 1}
    assert _kv.layer(stack, "completeModeFormatting") is None


def test_a_stack_has_one_layer_of_the_given_name() -> None:
    config = fields(("a", 1))
    assert _kv.stack(config) == {"layers": [{"layerName": "apiOverride", "config": config}]}
    assert _kv.stack(config, layer="instance")["layers"][0]["layerName"] == "instance"
    assert _kv.collapse(_kv.stack(config)) == {"a": 1}


def test_checked_returns_the_value_of_a_ticked_checkbox_only() -> None:
    assert _kv.checked(on(3)) == 3
    assert _kv.checked({"checked": False, "value": 3}) is None
    assert _kv.checked(3) is None


@pytest.mark.parametrize("key", [key for key, (kind, *_) in _kv.KEYS.items() if kind[0] == "checkbox"])
def test_a_ticked_checkbox_that_holds_false_is_read_as_unticked(key: str) -> None:
    values = _kv.from_fields(fields((key, on(False))))
    assert _kv.checked(values[key]) is None
    assert values[key]["checked"] is False
    # Readers in JavaScript refuse a filler of another type, even in a checkbox that is not ticked.
    assert _kv.check(key, on(values[key]["value"])) is None


@given(FIELDS)
def test_reading_and_checking_random_fields_never_raises(pairs: list[dict[str, Any]]) -> None:
    values = _kv.collapse(_kv.stack({"fields": pairs}))
    for key, value in values.items():
        reason = _kv.check(key, value)
        assert reason is None or reason.startswith(key)


@given(st.dictionaries(KEY, JSON.filter(lambda value: value is not None), max_size=5))
def test_values_survive_a_round_trip_through_fields(values: dict[str, Any]) -> None:
    read = _kv.from_fields(_kv.to_fields(values))
    assert read.keys() == values.keys()
    assert repr(_kv.from_fields(_kv.to_fields(read))) == repr(read)


@given(KEY, JSON)
def test_plain_values_of_a_key_can_be_sent_and_still_fit(key: str, value: object) -> None:
    if key in _kv.KEYS and _kv.check(key, value) is None:
        sent = _kv.plain(_kv.KEYS[key][0], value)
        assert _kv.check(key, json.loads(json.dumps(sent, allow_nan=False))) is None
