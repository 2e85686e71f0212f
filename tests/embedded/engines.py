"""Helpers for the tests of the engine: start engines, close them again, read their answers."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from lmstudio_async.embedded._engine._engine import Engine, EngineFailure, EngineSpec
from tests.processes import workers

__all__ = ["CHAT", "UNLOADABLE_ENGINES", "generated", "loaded", "nothing_left_behind", "spec", "why_it_fails"]

#: Engines that cannot be loaded: the program in place of the package, the reason, and a part of the remedy.
UNLOADABLE_ENGINES: list[Any] = [
    (
        "raise ImportError('libgomp.so.1: cannot open shared object file: No such file or directory')",
        "ImportError: libgomp.so.1: cannot open shared object file",
        "apt-get install libgomp1",
    ),
    pytest.param(
        "import os, signal; os.kill(os.getpid(), signal.SIGILL)",
        "it used an instruction that this CPU does not have",
        "--no-binary xllamacpp",
        marks=pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGILL"),
    ),
]

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Check at the end that no worker process is left."""
    yield
    assert workers() == set()


def spec(model: Path, **load: Any) -> EngineSpec:
    return EngineSpec(model_path=model, **{"kind": "llm", "context_length": 512, "threads": 1, **load})


@asynccontextmanager
async def loaded(model: Path, **load: Any) -> AsyncIterator[Engine]:
    with anyio.fail_after(30):
        engine = await Engine.start(spec(model, **load), lambda _: None)
        try:
            yield engine
        finally:
            await engine.aclose()


async def generated(engine: Engine, **body: Any) -> str:
    """Return the text of a whole chat answer."""
    async with engine.chat({**CHAT, **body}) as frames:
        return "".join(
            [choice["delta"].get("content") or "" async for frame in frames for choice in frame["choices"]]
        )


async def why_it_fails(model: Path, **load: Any) -> EngineFailure:
    with anyio.fail_after(30), pytest.raises(EngineFailure) as caught:
        await Engine.start(spec(model, **load), lambda _: None)
    return caught.value
