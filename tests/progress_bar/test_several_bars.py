"""`progress_bar`: several bars in one terminal at the same time."""

from __future__ import annotations

import threading
import types
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

import lmstudio_async as lms
import lmstudio_sync
from lmstudio_async import AsyncClient
from tests.progress_bar.terminals import Terminal, draw_all, full_bars

pytestmark = pytest.mark.filterwarnings("error")


async def test_one_callback_draws_a_bar_for_each_of_several_loads_at_once(
    client: AsyncClient, terminal: Terminal, no_library: None
) -> None:
    bar = lms.progress_bar("each")

    async def load(name: str) -> None:
        await (await client.llm.load_new_instance("tiny", name, on_progress=bar)).unload()

    async with anyio.create_task_group() as tasks:
        for name in ("a", "b", "c"):
            tasks.start_soon(load, name)

    assert full_bars(terminal, "each") == 3
    assert len(terminal.getvalue().splitlines()) <= 33


def test_one_callback_draws_a_bar_for_each_of_several_threads(
    blocking_client: lmstudio_sync.Client, terminal: Terminal, library: str
) -> None:
    bar = lmstudio_sync.progress_bar("each")

    def load(name: str) -> None:
        blocking_client.llm.load_new_instance("tiny", name, on_progress=bar).unload()

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(load, ["a", "b", "c"]))

    assert full_bars(terminal, "each") >= 3
    assert terminal.getvalue().endswith("\n")


def test_a_bar_that_ends_stays_above_the_running_ones(terminal: Terminal, library: str) -> None:
    with lms.progress_bar("first") as first, lms.progress_bar("second") as second:
        draw_all(first, 0.1, 0.5)
        draw_all(second, 0.2, 1.0)
        before = len(terminal.getvalue())
        draw_all(first, 0.7, 1.0)

    assert full_bars(terminal, "first") >= 1
    assert full_bars(terminal, "second") >= 1
    assert "second" not in terminal.getvalue()[before:]
    assert terminal.getvalue().endswith("\n")


def test_many_bars_one_after_the_other_never_leave_the_screen(
    terminal: Terminal, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINES", "10")
    previous = lms.progress_bar("bar 0")
    previous(0.5)
    for number in range(1, 40):
        before = len(terminal.getvalue())
        following = lms.progress_bar(f"bar {number}")
        following(0.5)
        previous(1.0)
        assert f"bar {number}" in terminal.getvalue()[before:]
        assert f"bar {number - 2}" not in terminal.getvalue()[before:]
        previous = following
    previous(1.0)

    assert terminal.getvalue().endswith("\n")


class InterruptedTerminal(Terminal):
    """A terminal in which an interrupt comes while a bar is drawn.

    :param interrupt: whether the next write is interrupted.
    """

    interrupt = True

    def write(self, text: str) -> int:
        if text and self.interrupt:
            self.interrupt = False
            raise KeyboardInterrupt
        return super().write(text)


def test_an_interrupt_of_a_drawing_does_not_hold_up_the_bars_of_other_threads(
    streams: types.SimpleNamespace, library: str
) -> None:
    streams.stderr = InterruptedTerminal()
    other = threading.Thread(target=draw_all, args=(lms.progress_bar("other"), 0.5, 1.0), daemon=True)
    with lms.progress_bar("mine") as bar:
        with pytest.raises(KeyboardInterrupt):
            bar(0.5)
        other.start()
        other.join(20)

    assert not other.is_alive()
    assert full_bars(streams.stderr, "other") >= 1
