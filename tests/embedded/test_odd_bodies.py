"""Bodies of REST requests that no sensible client sends: each is refused, and none causes an internal error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.testing import served
from tests.soak import bounded


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with (
        served(EmbeddedServer(tmp_path_factory.mktemp("models"), threads=1)) as address,
        httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=20) as client,
    ):
        yield client


odd_texts = st.sampled_from(
    ["\ud83d", "\0", "a\x1b[31m\n", "tiny@\udfff", "/", "..", "x" * 5000, ""]
) | st.text(max_size=9)
odd_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | odd_texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_texts, inner, max_size=3),
    max_leaves=6,
)
odd_keys = st.sampled_from(["model", "instance_id", "context_length", "echo_load_config"]) | odd_texts


@given(body=st.dictionaries(odd_keys, odd_values, max_size=4) | odd_values)
@bounded(30)
def test_any_json_is_refused_without_an_internal_error(http: httpx.Client, body: Any) -> None:
    for path in ("load", "unload"):
        answer = http.post(f"/api/v1/models/{path}", content=json.dumps(body))
        assert 400 <= answer.status_code < 500
        assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body", [{"model": "\ud83d"}, {"\ud83d": 1}, {"instance_id": "\ud83d"}], ids=["model", "key", "instance"]
)
@pytest.mark.parametrize("path", ["load", "unload"])
def test_half_a_surrogate_pair_in_a_body_causes_no_internal_error(
    http: httpx.Client, caplog: pytest.LogCaptureFixture, path: str, body: Any
) -> None:
    answer = http.post(f"/api/v1/models/{path}", content=json.dumps(body))

    assert 400 <= answer.status_code < 500
    assert "Traceback" not in caplog.text
