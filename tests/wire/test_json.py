"""JSON texts: writing is compact and strict, reading is lenient."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async._wire import _json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.fixture(params=["orjson", "standard library"])
def loads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "standard library":
        monkeypatch.setattr(_json, "_fast_loads", _json._plain_loads)
    else:
        pytest.importorskip("orjson")
    return _json.loads


@given(values)
def test_a_value_becomes_the_same_text_as_with_json(value: Any) -> None:
    expected = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    assert _json.dumps(value) == expected
    assert _json._plain_loads(expected) == value


def test_encoding_works_without_the_inner_encoder_of_the_standard_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json.encoder, "c_make_encoder", None)
    encode = _json._make_encode()
    assert encode({"a": [1, None, "é"]}) == '{"a":[1,null,"é"]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode([math.nan])


def test_a_lone_surrogate_is_written_escaped() -> None:
    assert _json.dumps(["é", "\ud800"]) == r'["\u00e9","\ud800"]'


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": -math.inf}])
def test_a_number_that_json_does_not_have_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON"):
        _json.dumps(value)


@pytest.mark.parametrize("value", [object(), {"a": b"bytes"}, [{1}]])
def test_dumps_refuses_a_value_without_a_json_form(value: Any) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        _json.dumps(value)


@pytest.mark.parametrize("text", ["", "{", "[1,]", "nul", '{"a":1}x', '{"a":1} {}', "\ufeff{}"])
def test_loads_refuses_a_text_that_is_no_json(loads: Any, text: str) -> None:
    with pytest.raises(ValueError):
        loads(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (' {"a": 1}\n', {"a": 1}),
        (str(2**70), 2**70),
        ('"\\ud800"', "\ud800"),
        ("[Infinity]", [math.inf]),
    ],
)
def test_loads_reads_unusual_json(loads: Any, text: str, value: Any) -> None:
    assert loads(text) == value
