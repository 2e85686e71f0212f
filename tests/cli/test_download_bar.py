"""The bar of a download whose server falls silent."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any, Self

import anyio
import pytest

from lmstudio_async import DownloadProgressUpdate
from lmstudio_async._cli._console import Console
from lmstudio_async._cli._download_bar import follow_download


class Terminal(io.StringIO):
    """A terminal that tells when something is drawn without a speed."""

    def __init__(self) -> None:
        super().__init__()
        self.has_no_speed = anyio.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if "of" in text and "MB/s" not in text:
            self.has_no_speed.set()
        return super().write(text)


class SilentDownload:
    """A download with one report of progress, and the end when the terminal shows no speed any more."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def __aiter__(self) -> AsyncIterator[DownloadProgressUpdate]:
        for done in (20_000_000, 30_000_000):
            yield DownloadProgressUpdate(done, 100_000_000, 10_000_000.0)
            await self._terminal.has_no_speed.wait()
            self._terminal.has_no_speed = anyio.Event()

    async def wait_for_result(self) -> str:
        return "tiny"


async def test_bar_drops_the_speed_when_no_progress_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("lmstudio_async._cli._download_bar.STALL_SECONDS", 0.01)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    download: Any = SilentDownload(terminal)
    with anyio.fail_after(20):
        assert await follow_download(download, Console(), "acme/tiny-GGUF") == "tiny"
    drawn = [part.rpartition("%  ")[2].strip() for part in terminal.getvalue().split("\r\x1b[K")[1:]]
    assert drawn == [
        "20 of 100 MB, 10 MB/s, 8 s left",
        "20 of 100 MB",
        "30 of 100 MB, 10 MB/s, 7 s left",
        "30 of 100 MB",
        "100 MB",
    ]
