"""Loading real models into the real engine: parameters, progress, failures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from lmstudio_async.embedded._engine._engine import Engine, EngineFailure, default_threads
from lmstudio_async.testing import ModelsFolder
from tests.embedded.engines import generated, loaded, spec, why_it_fails

pytest.importorskip("xllamacpp")

pytestmark = pytest.mark.usefixtures("no_worker_is_left")


# --- load parameters, as the engine shows them ---


async def test_the_engine_has_the_requested_context_length_and_sessions(models: ModelsFolder) -> None:
    async with loaded(models.add_llm("a/b/c.gguf"), context_length=768, parallel_sessions=3) as engine:
        properties = await engine.properties()
    assert properties["default_generation_settings"]["n_ctx"] == 768
    assert properties["total_slots"] == 3


async def test_has_gpu_is_true_if_the_engine_finds_a_gpu(models: ModelsFolder) -> None:
    xllamacpp = pytest.importorskip("xllamacpp")
    async with loaded(models.add_llm("a/b/c.gguf")) as engine:
        assert engine.has_gpu == any("GPU" in device["type"].name for device in xllamacpp.get_device_info())


async def test_a_seed_makes_sampling_repeatable(models: ModelsFolder) -> None:
    model = models.add_llm("a/b/c.gguf", script=None)
    body = {"temperature": 1.0, "max_tokens": 30}
    async with loaded(model, seed=7) as first, loaded(model, seed=7) as same, loaded(model, seed=8) as other:
        assert (
            await generated(first, **body) == await generated(same, **body) != await generated(other, **body)
        )


async def test_a_chat_template_can_be_replaced(models: ModelsFolder) -> None:
    template = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    async with loaded(models.add_llm("a/b/c.gguf"), chat_template=template) as engine:
        assert await engine.apply_template([{"role": "user", "content": "hi"}]) == "[hi]"


async def test_a_draft_model_proposes_tokens(models: ModelsFolder) -> None:
    model = models.add_llm("a/b/c.gguf", script=["one", " two", " three", " four", " five", " six"])
    draft = models.add_llm("a/d/d.gguf", script=["one", " two", " three", " four", " five", " six"])
    async with (
        loaded(model, draft_model_path=draft, draft_max_tokens=4) as engine,
        engine.complete({"prompt": "x\n", "temperature": 0}) as answer,
    ):
        frames = [frame async for frame in answer]
    assert "".join(frame["content"] for frame in frames) == "one two three four five six"
    assert frames[-1]["timings"]["draft_n_accepted"] > 0


@pytest.mark.parametrize(
    ("load", "line"),
    [
        ({"rope_frequency_base": 12345.0}, "freq_base = 12345.0"),
        ({"rope_frequency_scale": 0.5}, "freq_scale = 0.5"),
        ({"eval_batch_size": 96}, "n_batch = 96"),
        ({"eval_batch_size": 96, "physical_batch_size": 48}, "n_ubatch = 48"),
        ({"flash_attention": "on"}, "flash_attn = enabled"),
        ({"flash_attention": "off"}, "flash_attn = disabled"),
        ({"k_cache_type": "q8_0"}, "K (q8_0)"),
        ({"v_cache_type": "q5_1", "flash_attention": "on"}, "V (q5_1)"),
        ({"mlock": True}, "load_mode = mmap+mlock"),
        ({"mmap": False, "mlock": True}, "load_mode = mlock"),
        ({"mmap": False}, "load_mode = none"),
        ({"direct_io": True}, "load_mode = dio"),
        ({"threads": 2}, "n_threads = 2"),
        ({"parallel_sessions": 2, "unified_kv_cache": False}, "n_ctx_slot = 512, kv_unified = 'false'"),
        ({"context_checkpoints": 5}, "context checkpoints enabled, max = 5"),
    ],
)
async def test_the_engine_applies_each_load_parameter(
    models: ModelsFolder, load: dict[str, Any], line: str
) -> None:
    async with loaded(models.add_llm("a/b/c.gguf"), verbose=True, **load) as engine:
        # The engine writes its log from a thread of its own, and nothing announces a line.
        while not any(line in " ".join(logged.split()) for logged in engine.log):  # noqa: ASYNC110
            await anyio.sleep(0.01)


def test_at_least_one_thread_is_used_by_default() -> None:
    assert 1 <= default_threads() <= (os.cpu_count() or 1)


# --- progress and failures of a load ---


async def test_progress_of_a_big_file_has_small_steps_and_never_falls(models: ModelsFolder) -> None:
    progress: list[float] = []
    with anyio.fail_after(30):
        engine = await Engine.start(spec(models.add_llm("a/b/c.gguf", padding_mb=96)), progress.append)
    await engine.aclose()
    assert progress[0] == 0.0
    assert progress[-1] == 1.0
    assert progress == sorted(set(progress))
    assert len(progress) >= 10
    assert all(fraction < 1.0 for fraction in progress[:-1])


async def test_progress_of_a_load_without_mmap_ends_at_one(models: ModelsFolder) -> None:
    progress: list[float] = []
    with anyio.fail_after(30):
        engine = await Engine.start(spec(models.add_llm("a/b/c.gguf"), mmap=False), progress.append)
    await engine.aclose()
    assert progress[0] == 0.0
    assert progress[-1] == 1.0
    assert progress == sorted(set(progress))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("bad magic", "magic"),
        ("truncated", "not within the file bounds"),
        ("absurd counts", "gguf|tensor|key"),
    ],
)
async def test_a_broken_file_fails_with_the_engines_reason(
    models: ModelsFolder, kind: Any, reason: str
) -> None:
    failure = await why_it_fails(models.add_broken("a/b/c.gguf", kind))
    with pytest.raises(EngineFailure, match=reason):
        raise failure
    assert failure.exit_code == 1
    assert failure.log


async def test_a_missing_file_fails_with_its_name(tmp_path: Path) -> None:
    failure = await why_it_fails(tmp_path / "gone.gguf")
    assert "gone.gguf" in failure.reason


async def test_contradictory_load_parameters_fail_with_a_reason(models: ModelsFolder) -> None:
    model = models.add_llm("a/b/c.gguf")
    failure = await why_it_fails(model, v_cache_type="q4_0", flash_attention="off")
    assert "flash_attn" in failure.reason
    failure = await why_it_fails(model, chat_template="{% if %}")
    assert failure.reason.startswith("Unexpected token")


async def test_an_unsupported_load_parameter_fails_before_a_process_is_started(models: ModelsFolder) -> None:
    failure = await why_it_fails(models.add_llm("a/b/c.gguf"), num_experts=2)
    assert "num_experts" in failure.reason
    assert failure.exit_code is None


async def test_an_exception_of_the_progress_callback_ends_the_load(models: ModelsFolder) -> None:
    def stop(_: float) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Engine.start(spec(models.add_llm("a/b/c.gguf")), stop)
