"""Fixtures of progress bars: terminals, libraries to draw with, and a small model."""

from __future__ import annotations

import io
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lmstudio_sync
from lmstudio_async import AsyncClient, EmbeddedServer
from lmstudio_async._progress_display import find_display
from lmstudio_async.testing import ModelsFolder
from tests.progress_bar.terminals import LIBRARIES, Terminal


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An environment without settings of terminals and of CI services."""
    for name in ("LMSTUDIO_PROGRESS", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    find_display.cache_clear()
    yield
    find_display.cache_clear()


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """The standard streams that progress bars see, because pytest replaces those of `sys` in each phase of a test."""
    made = types.SimpleNamespace(stdout=io.StringIO(), stderr=io.StringIO(), modules=sys.modules)
    for module in ("_progress_bar", "_progress_display"):
        monkeypatch.setattr(f"lmstudio_async.{module}.sys", made)
    return made


@pytest.fixture
def terminal(streams: types.SimpleNamespace) -> Terminal:
    """Standard error, as a terminal."""
    streams.stderr = Terminal()
    return streams.stderr  # type: ignore[no-any-return]


def only(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let only one library for progress bars be installed, or none."""
    for name, module in [("rich", "rich.progress"), ("tqdm", "tqdm.std"), ("tqdm", "tqdm.notebook")]:
        if name != library:
            monkeypatch.setitem(sys.modules, module, None)


@pytest.fixture(params=LIBRARIES, ids=["rich", "tqdm", "lines"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The only library that is installed."""
    only(request.param, monkeypatch)
    return str(request.param)


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither rich nor tqdm is installed."""
    only("", monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    ModelsFolder(folder).add_llm("tiny")
    return folder


@pytest.fixture(scope="module")
async def client(folder: Path) -> Any:
    async with EmbeddedServer(folder, threads=1) as server, AsyncClient(server) as client:
        yield client


@pytest.fixture(scope="module")
def blocking_client(folder: Path) -> Iterator[lmstudio_sync.Client]:
    with lmstudio_sync.Client(EmbeddedServer(folder, threads=1)) as client:
        yield client
