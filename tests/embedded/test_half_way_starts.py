"""A start that fails half-way, for lack of threads or descriptors, leaks nothing and names the missing resource."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from lmstudio_async import AsyncClient
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._engine._engine_errors import explain
from lmstudio_async.errors import LMStudioServerError
from lmstudio_async.testing import ModelsFolder
from tests.processes import needs_proc, workers

pytestmark = needs_proc


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf", script="Hello")
    return folder.folder


def descriptors() -> set[str]:
    """Return the open descriptors, without the one that reads this folder."""
    return {name for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}")}


async def wait_closed(before: set[str]) -> None:
    """Wait until no more descriptors are open than before; the thread that reads a log closes its pipe a little later."""
    with anyio.fail_after(20):
        while descriptors() - before:
            await anyio.lowlevel.checkpoint()


@contextmanager
def no_new_thread(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """Prevent threads of this name from starting, as at the limit of a container."""
    start = threading.Thread.start

    def start_or_fail(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_or_fail)
        yield


@contextmanager
def no_thread_for(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """Let the function with this name find no thread to run in."""
    run_sync: Any = anyio.to_thread.run_sync

    async def run_or_fail(function: Any, *args: Any, **options: Any) -> Any:
        if getattr(function, "__name__", "") == name:
            raise RuntimeError("can't start new thread")
        return await run_sync(function, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(anyio.to_thread, "run_sync", run_or_fail)
        yield


@contextmanager
def free_descriptors(count: int) -> Iterator[None]:
    """Leave only this many descriptors to this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as held:
        # Take all the lowest numbers first, because the limit bounds the number of a descriptor.
        last = os.open(os.devnull, os.O_RDONLY)
        held.callback(os.close, last)
        highest = max(map(int, descriptors()))
        while last < highest:
            last = os.open(os.devnull, os.O_RDONLY)
            held.callback(os.close, last)
        resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1 + count, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_load_without_a_thread_for_the_log_leaks_nothing_and_names_the_reason(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EmbeddedServer(models, threads=1) as server, AsyncClient(server) as client:
        # The first load opens a descriptor that stays open, so it must not count as a leak.
        await (await client.llm.load_new_instance("tiny")).unload()
        before = descriptors()
        for _ in range(3):
            with no_new_thread(monkeypatch, "engine log"), pytest.raises(LMStudioServerError) as caught:
                await client.llm.load_new_instance("tiny")
            assert "no worker process can be started" in str(caught.value)
            assert "can't start new thread" in str(caught.value)
        await wait_closed(before)
        assert workers() == set()
        await client.llm.load_new_instance("tiny")


@pytest.mark.parametrize("count", range(1, 9))
async def test_a_load_with_few_descriptors_leaks_nothing_and_names_the_reason(
    models: Path, count: int
) -> None:
    async with EmbeddedServer(models, threads=1) as server, AsyncClient(server) as client:
        await (await client.llm.load_new_instance("tiny")).unload()
        before = descriptors()
        with free_descriptors(count):
            try:
                llm = await client.llm.load_new_instance("tiny")
            except LMStudioServerError as error:
                reason = str(error)
            else:
                reason = ""
                await llm.unload()
        assert not reason or "Too many open files" in reason
        await wait_closed(before)
        assert workers() == set()
        await client.llm.load_new_instance("tiny")


async def test_a_call_without_a_free_descriptor_raises_and_the_next_call_succeeds(models: Path) -> None:
    async with EmbeddedServer(models, threads=1) as server, AsyncClient(server) as client:
        llm = await client.llm.load_new_instance("tiny")
        with free_descriptors(0), pytest.raises(LMStudioServerError, match="open no more files"):
            await llm.count_tokens("abc")
        assert await llm.count_tokens("abc") == 3


SHOUTING: Any = {"type": "jinja", "jinjaPromptTemplate": {"template": "{{ messages[0].content | upper }}"}}


async def test_a_restart_without_a_thread_to_check_the_files_fails_only_its_request(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EmbeddedServer(models, threads=1) as server, AsyncClient(server) as client:
        llm = await client.llm.load_new_instance("tiny")
        with (
            no_thread_for(monkeypatch, "_unreadable"),
            pytest.raises(LMStudioServerError, match="with this prompt template: can't start new thread"),
        ):
            await llm.respond("hi", config={"prompt_template": SHOUTING})
        assert (await llm.respond("hi")).content == "Hello"


async def test_a_restart_without_a_thread_for_the_start_unloads_only_the_model(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EmbeddedServer(models, threads=1) as server, AsyncClient(server) as client:
        llm = await client.llm.load_new_instance("tiny")
        with (
            no_thread_for(monkeypatch, "worker_instructions"),
            pytest.raises(LMStudioServerError, match="not be started again: can't start new thread"),
        ):
            await llm.respond("hi", config={"prompt_template": SHOUTING})
        llm = await client.llm.load_new_instance("tiny")
        assert (await llm.respond("hi")).content == "Hello"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(24, "Too many open files"), "open no more files"),
        (OSError(23, "Too many open files in system"), "open no more files"),
        (RuntimeError("can't start new thread"), "start no more threads"),
        (MemoryError(), "no memory"),
    ],
)
def test_a_lack_of_resources_is_explained(error: Exception, words: str) -> None:
    explained = explain(error)
    assert isinstance(explained, LMStudioServerError)
    assert words in str(explained)
