"""Loaded models in the real engine: their answers, and their end."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from lmstudio_async.embedded._engine import _worker
from lmstudio_async.embedded._engine._engine import (
    Engine,
    EngineFailure,
    EngineRequestError,
    worker_instructions,
)
from lmstudio_async.embedded._engine._worker import Ready, read_event
from lmstudio_async.testing import HERMES, ModelsFolder, tool_call
from tests.embedded.engines import CHAT, generated, loaded, spec, why_it_fails
from tests.images import png
from tests.processes import needs_proc, workers

pytest.importorskip("xllamacpp")

pytestmark = pytest.mark.usefixtures("no_worker_is_left")


# --- answering ---


async def test_a_completion_is_streamed_token_by_token(models: ModelsFolder) -> None:
    model = models.add_llm("a/b/c.gguf", script=["Hello", " there", "!!"])
    async with loaded(model) as engine, engine.complete({"prompt": "x\n"}) as answer:
        frames = [frame async for frame in answer]
    pieces = [frame["content"] for frame in frames if "prompt_progress" not in frame]
    assert pieces[:3] == ["Hello", " there", "!!"]
    assert frames[-1]["stop"] is True
    assert frames[-1]["stop_type"] == "eos"
    assert frames[0]["prompt_progress"]["total"] == 2


async def test_a_chat_answer_is_streamed(models: ModelsFolder) -> None:
    async with loaded(models.add_llm("a/b/c.gguf", script="Hello there")) as engine:
        assert await generated(engine) == "Hello there"


async def test_a_tool_call_is_recognised(models: ModelsFolder) -> None:
    tool = {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
    model = models.add_llm("a/b/c.gguf", script=tool_call("add", a=1), chat_template=HERMES)
    body = {**CHAT, "tools": [{"type": "function", "function": tool}]}
    async with loaded(model) as engine, engine.chat(body) as answer:
        deltas = [choice["delta"] async for frame in answer for choice in frame["choices"]]
    calls = [call["function"] for delta in deltas for call in delta.get("tool_calls", [])]
    assert calls[0]["name"] == "add"
    assert json.loads("".join(call["arguments"] for call in calls)) == {"a": 1}


async def test_several_answers_at_a_time_do_not_mix(models: ModelsFolder) -> None:
    async with loaded(models.add_llm("a/b/c.gguf", script="Hello there"), parallel_sessions=2) as engine:
        answers: list[str] = []

        async def ask() -> None:
            answers.append(await generated(engine))

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(ask)
    assert answers == ["Hello there"] * 4


async def test_closing_an_answer_early_ends_its_generation(models: ModelsFolder) -> None:
    model = models.add_llm("a/b/c.gguf", script="on and on ", endless=True, context_length=100_000)
    async with loaded(model, parallel_sessions=1, context_length=100_000) as engine:
        async with engine.complete({"prompt": "x"}) as answer:
            await anext(answer)
        # There is one slot, so another answer can only begin when the endless one has ended.
        async with engine.complete({"prompt": "x", "n_predict": 1}) as answer:
            assert [frame async for frame in answer][-1]["stop_type"] == "limit"


async def test_cancelling_the_reader_of_an_answer_ends_its_generation(models: ModelsFolder) -> None:
    model = models.add_llm("a/b/c.gguf", script="on and on ", endless=True, context_length=100_000)
    async with loaded(model, parallel_sessions=1, context_length=100_000) as engine:
        with anyio.CancelScope() as scope:
            async with engine.chat(CHAT) as answer:
                async for _ in answer:
                    scope.cancel()
        assert scope.cancelled_caught
        async with engine.complete({"prompt": "x", "n_predict": 1}) as answer:
            assert [frame async for frame in answer][-1]["stop"] is True


async def test_an_answer_yields_nothing_after_its_last_frame_and_after_aclose(models: ModelsFolder) -> None:
    async with loaded(models.add_llm("a/b/c.gguf")) as engine:
        async with engine.complete({"prompt": "x"}) as answer:
            async for _ in answer:
                pass
            assert [frame async for frame in answer] == []
        await answer.aclose()
        assert [frame async for frame in answer] == []


async def test_tokenize_returns_one_token_per_letter(models: ModelsFolder) -> None:
    # In these models each of these bytes is a token of its own, and the tokens are numbered like the bytes.
    async with loaded(models.add_llm("a/b/c.gguf", script=["Hello", " there"])) as engine:
        tokens = await engine.tokenize("ab", add_special=False)
    assert len(tokens) == 2
    assert tokens[1] == tokens[0] + 1


async def test_apply_template_formats_a_chat_as_a_prompt(models: ModelsFolder) -> None:
    async with loaded(models.add_llm("a/b/c.gguf")) as engine:
        prompt = await engine.apply_template([{"role": "user", "content": "Who?"}])
    assert "<|im_start|>user\nWho?<|im_end|>" in prompt
    assert prompt.endswith("<|im_start|>assistant\n")


async def test_a_template_sees_tools_and_variables(models: ModelsFolder) -> None:
    template = "{{ tools[0].function.name if tools }}/{{ mood }}/{{ messages[0].content }}"
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    async with loaded(models.add_llm("a/b/c.gguf"), chat_template=template) as engine:
        messages = [{"role": "user", "content": "hi"}]
        prompt = await engine.apply_template(messages, tools=tools, template_kwargs={"mood": "good"})
    assert prompt.startswith("add/good/hi")


async def test_a_model_with_a_projector_accepts_images(models: ModelsFolder) -> None:
    eye = models.add_projector("a/b/mmproj.gguf")
    image = "data:image/png;base64," + base64.b64encode(png(255, 0, 0, width=48)).decode()
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": image}}]
    async with loaded(models.add_llm("a/b/c.gguf", script="Hello there"), projector_path=eye) as engine:
        assert (await engine.properties())["modalities"]["vision"] is True
        assert await generated(engine, messages=[{"role": "user", "content": parts}]) == "Hello there"


async def test_different_texts_have_different_vectors(models: ModelsFolder) -> None:
    model = models.add_embedding("a/b/c.gguf", dimensions=16)
    async with loaded(model, kind="embedding") as engine:
        one, other, again = [await engine.embed(text) for text in ("hello", "good night", "hello")]
    assert len(one) == 16
    assert one == again != other
    assert sum(value * value for value in one) == pytest.approx(1.0, abs=1e-4)


async def test_a_text_longer_than_the_context_is_refused_and_the_engine_keeps_working(
    models: ModelsFolder,
) -> None:
    async with loaded(models.add_llm("a/b/c.gguf", script="Hello there"), context_length=256) as engine:
        with pytest.raises(EngineRequestError) as caught:
            async with engine.complete({"prompt": "x" * 400}):
                pass
        assert caught.value.status == 400
        assert caught.value.type == "exceed_context_size_error"
        assert caught.value.details["n_prompt_tokens"] == 400
        assert await generated(engine) == "Hello there"


async def test_a_bad_request_is_refused_with_the_message_of_the_engine(models: ModelsFolder) -> None:
    async with loaded(models.add_llm("a/b/c.gguf")) as engine:
        with pytest.raises(EngineRequestError, match="prompt"):
            async with engine.complete({"prompt": 1.5}):
                pass
        with pytest.raises(EngineRequestError, match="pooling|embedding"):
            await engine.embed("an LLM that was not loaded for that")


async def test_an_engine_that_logs_much_never_waits_for_a_reader(models: ModelsFolder) -> None:
    async with loaded(models.add_llm("a/b/c.gguf", script="Hello there"), verbose=True) as engine:
        # A pipe holds 64 KiB; the log of each answer has more than 1 KiB.
        for _ in range(70):
            await generated(engine)
        assert len(engine.log) == 200


# --- ending ---


@needs_proc
@pytest.mark.parametrize("phase", [0.0, 0.1, 0.8])
async def test_cancelling_a_load_leaves_no_worker(models: ModelsFolder, phase: float) -> None:
    model = models.add_llm("a/b/c.gguf", padding_mb=96)
    seen: list[set[int]] = []
    with anyio.fail_after(30), anyio.CancelScope() as scope:

        def on_progress(fraction: float) -> None:
            if fraction >= phase:
                seen.append(workers())
                scope.cancel()

        await Engine.start(spec(model), on_progress)
    assert scope.cancelled_caught
    assert len(seen[0]) == 1
    assert workers() == set()


@needs_proc
async def test_aclose_ends_the_process_and_may_be_called_again(models: ModelsFolder) -> None:
    async with loaded(models.add_llm("a/b/c.gguf")) as engine:
        assert workers() == {engine.pid}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.aclose)
            tasks.start_soon(engine.aclose)
        assert workers() == set()
        await engine.aclose()
        with pytest.raises(EngineFailure, match="unloaded") as caught:
            await engine.tokenize("x", add_special=False)
        assert caught.value.unloaded


async def test_unloading_ends_a_running_answer(models: ModelsFolder) -> None:
    # The answer is so long that the engine cannot finish it before the test reads it.
    model = models.add_llm("a/b/c.gguf", script="on and on ", endless=True, context_length=100_000)
    async with loaded(model, context_length=100_000) as engine:
        with pytest.raises(EngineFailure) as caught:
            async with engine.chat(CHAT) as answer:
                async for _ in answer:
                    await engine.aclose()
        assert caught.value.unloaded


async def test_a_crash_in_the_middle_of_an_answer_is_an_error(models: ModelsFolder) -> None:
    model = models.add_llm("a/b/c.gguf", script="on and on ", endless=True, context_length=100_000)
    async with loaded(model, context_length=100_000) as engine:
        with pytest.raises(EngineFailure, match="crashed.*SIGKILL") as caught:
            async with engine.complete({"prompt": "x"}) as answer:
                await anext(answer)
                os.kill(engine.pid, signal.SIGKILL)
                async for _ in answer:
                    pass
        assert caught.value.exit_code == -signal.SIGKILL
        assert not caught.value.unloaded
        with pytest.raises(EngineFailure, match="crashed"):
            await engine.tokenize("x", add_special=False)


async def test_watch_returns_the_signal_of_a_crash_to_every_task(models: ModelsFolder) -> None:
    async with loaded(models.add_llm("a/b/c.gguf")) as engine:
        endings: list[str] = []

        async def watch() -> None:
            endings.append(await engine.watch())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            tasks.start_soon(watch)
            os.kill(engine.pid, signal.SIGKILL)
        assert endings == ["crashed (SIGKILL, as when memory runs out)"] * 2


@needs_proc
@pytest.mark.parametrize("moment", ["reading the file", "loaded"])
async def test_a_server_that_is_killed_leaves_no_worker(models: ModelsFolder, moment: str) -> None:
    model = models.add_llm("a/b/c.gguf", padding_mb=96)
    script = f"""
import anyio, pathlib, sys
from lmstudio_async.embedded._engine._engine import Engine, EngineSpec
def on_progress(fraction):
    if fraction >= {0.1 if moment == "reading the file" else 1.0}:
        print("now", flush=True)
        sys.stdin.read()
async def main():
    await Engine.start(EngineSpec(model_path=pathlib.Path({str(model)!r}), kind="llm", threads=1), on_progress)
anyio.run(main)
"""
    server = await anyio.open_process([sys.executable, "-c", script], stderr=None, cwd=Path.cwd())
    async with server:
        assert server.stdout is not None
        with anyio.fail_after(30):
            assert (await server.stdout.receive()).startswith(b"now")
            found = subprocess.run(["pgrep", "-P", str(server.pid)], capture_output=True, check=True)
            worker = os.pidfd_open(int(found.stdout))
            server.kill()
            try:
                await anyio.wait_readable(worker)
            finally:
                os.close(worker)


async def test_a_failure_to_import_the_engine_is_reported_as_missing_engine(
    models: ModelsFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('not for this machine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    failure = await why_it_fails(models.add_llm("a/b/c.gguf"))
    assert failure.missing_engine
    assert "not for this machine" in failure.reason


@needs_proc
async def test_a_worker_outlives_the_thread_that_started_it(models: ModelsFolder) -> None:
    model = models.add_llm("a/b/c.gguf", script="Hello there")
    workers: list[Any] = []

    def start() -> None:
        argv = [sys.executable, "-P", _worker.__file__]
        workers.append(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    with workers[0] as process:
        instructions = worker_instructions(spec(model), "key")
        process.stdin.write(json.dumps(instructions).encode() + b"\n")
        process.stdin.flush()
        lines = iter(process.stdout.readline, b"")
        assert any(isinstance(read_event(line.decode()), Ready) for line in lines)
        process.stdin.close()
        assert process.wait(timeout=20) is not None
