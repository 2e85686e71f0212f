"""Events that a worker writes to its pipe, and engine parameters that it makes from its instructions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async.embedded._engine._engine_spec import EngineSpec
from lmstudio_async.embedded._engine._worker import (
    Failed,
    Loading,
    ReadAhead,
    Ready,
    _engine_params,
    model_files,
    read_event,
)

ENGINE = "cmd_child_to_router:state:"


def engine_says(state: str, **payload: Any) -> str:
    return ENGINE + json.dumps({"state": state, "payload": payload}) + "\n"


def test_the_workers_own_events_are_read() -> None:
    assert read_event('{"event": "read", "value": 0.25}\n') == ReadAhead(0.25)
    ready = '{"event": "ready", "address": "http://127.0.0.1:1", "gpu": true}'
    assert read_event(ready) == Ready("http://127.0.0.1:1", gpu=True)
    assert read_event('{"event": "missing", "reason": "no"}') == Failed("no", missing_engine=True)
    assert read_event('{"event": "failed", "reason": "no"}') == Failed("no")


def test_progress_of_the_engine_contains_its_stage() -> None:
    line = engine_says("loading", stages=["text_model", "spec_model"], current="spec_model", value=0.5)
    assert read_event(line) == Loading(stage=1, stages=2, fraction=0.5)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hello",
        "[1, 2]",
        '{"event": "read"}',
        '{"event": "read", "value": "much"}',
        '{"event": "something new"}',
        ENGINE,
        ENGINE + "{",
        ENGINE + "[]",
        engine_says("ready", id="x"),
        engine_says("loading"),
        engine_says("loading", stages=[], current="text_model", value=0.5),
        engine_says("loading", stages=["text_model"], current="other", value=0.5),
    ],
)
def test_a_line_that_is_no_event_is_ignored(line: str) -> None:
    assert read_event(line) is None


@pytest.mark.parametrize(("written", "meant"), [("-1", 0.0), ("7", 1.0), ("NaN", 0.0), ("Infinity", 0.0)])
def test_progress_is_always_between_0_and_1(written: str, meant: float) -> None:
    assert read_event('{"event": "read", "value": ' + written + "}") == ReadAhead(meant)


@given(
    st.text()
    | st.text().map(lambda text: ENGINE + text)
    | st.builds(
        json.dumps,
        st.dictionaries(
            st.sampled_from(["event", "value", "address", "reason"]), st.text() | st.floats() | st.none()
        ),
    )
)
def test_any_line_is_an_event_or_ignored(line: str) -> None:
    assert read_event(line) is None or isinstance(read_event(line), ReadAhead | Loading | Ready | Failed)


def test_model_files_lists_all_parts_of_a_split_model() -> None:
    assert model_files("/m/big-00001-of-00003.gguf") == [
        "/m/big-00001-of-00003.gguf",
        "/m/big-00002-of-00003.gguf",
        "/m/big-00003-of-00003.gguf",
    ]
    assert model_files("/m/small.gguf") == ["/m/small.gguf"]


def engine_params(**load: Any) -> Any:
    xllamacpp = pytest.importorskip("xllamacpp")
    spec = EngineSpec(model_path=Path("/m/x.gguf"), **{"kind": "llm", "context_length": 1000, **load})
    instructions = {
        **{
            name: str(value) if isinstance(value, Path) else value
            for name, value in attrs.asdict(spec).items()
        },
        "threads": spec.threads or 1,
        "gpu_layers": spec.gpu_layers,
        "api_key": "secret",
    }
    return _engine_params(xllamacpp, instructions)


def test_a_worker_listens_on_loopback_and_requires_a_key() -> None:
    params = engine_params()
    assert params.hostnames == ["127.0.0.1"]
    assert params.port == 0
    assert params.api_keys == ["secret"]


@pytest.mark.parametrize(
    ("load", "layers"),
    [
        ({"gpu_ratio": "off"}, 0),
        ({"gpu_ratio": "max"}, -2),
        ({"gpu_ratio": 1}, -2),
        ({"gpu_ratio": 0}, 0),
        ({"gpu_ratio": 0.5, "block_count": 30}, 15),
    ],
)
def test_the_gpu_ratio_becomes_a_number_of_layers(load: dict[str, Any], layers: int) -> None:
    assert engine_params(**load).n_gpu_layers == layers


def test_gpu_settings_reach_the_engine() -> None:
    params = engine_params(main_gpu=1, split_mode="row", tensor_split=(0.25, 0.75), offload_kv_cache=False)
    assert params.main_gpu == 1
    assert params.split_mode.name == "LLAMA_SPLIT_MODE_ROW"
    assert list(params.tensor_split)[:3] == [0.25, 0.75, 0.0]
    assert params.no_kv_offload is True


@pytest.mark.parametrize(
    ("load", "mode"),
    [
        ({}, "MMAP"),
        ({"mlock": True}, "MMAP_MLOCK"),
        ({"mmap": False}, "NONE"),
        ({"mmap": False, "mlock": True}, "MLOCK"),
        ({"direct_io": True}, "DIRECT_IO"),
    ],
)
def test_the_memory_settings_become_one_load_mode(load: dict[str, Any], mode: str) -> None:
    assert engine_params(**load).load_mode.name == f"LLAMA_LOAD_MODE_{mode}"


def test_sessions_with_a_cache_of_their_own_have_the_whole_context_each() -> None:
    assert engine_params(parallel_sessions=3, unified_kv_cache=True).n_ctx == 1000
    assert engine_params(parallel_sessions=3, unified_kv_cache=False).n_ctx == 3000


def test_an_embedding_model_takes_its_whole_context_in_one_batch() -> None:
    params = engine_params(kind="embedding")
    assert params.embedding is True
    assert params.n_batch == params.n_ubatch == 1000


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        ({"num_experts": 2}, "num_experts"),
        ({"gpu_ratio": 2.0}, "between 0 and 1"),
        ({"gpu_ratio": 0.5}, "how many layers"),
        ({"context_length": 0}, "context_length"),
        ({"parallel_sessions": 0}, "parallel_sessions"),
        ({"k_cache_type": "q3_k"}, "q3_k"),
        ({"kind": "embedding", "draft_model_path": Path("/m/draft.gguf")}, "draft"),
    ],
)
def test_an_unsupported_spec_is_refused_with_a_reason(load: dict[str, Any], reason: str) -> None:
    found = EngineSpec(model_path=Path("/m/x.gguf"), **{"kind": "llm", **load}).unsupported_reason()
    assert found is not None
    assert reason in found
