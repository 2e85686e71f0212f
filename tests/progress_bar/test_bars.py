"""`progress_bar`: the bars of loads, downloads and streams, and that none is left behind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

import lmstudio_async as lms
import lmstudio_sync
from lmstudio_async import AsyncClient
from tests.progress_bar.terminals import Terminal, assert_nothing_is_left, draw_all, full_bars, wait_for
from tests.repository.test_repository import an_option, asking, finish, progress
from tests.scripted_server import MODEL, ScriptedServer

pytestmark = pytest.mark.filterwarnings("error")


# -- loads


async def test_a_load_draws_a_bar_to_its_end(client: AsyncClient, terminal: Terminal, library: str) -> None:
    llm = await client.llm.load_new_instance("tiny", on_progress=lms.progress_bar("my model"))
    await llm.unload()

    assert full_bars(terminal, "my model") >= 1
    assert terminal.getvalue().endswith("\n")


def test_a_load_of_the_facade_draws_a_bar_to_its_end(
    blocking_client: lmstudio_sync.Client, terminal: Terminal, library: str
) -> None:
    bar = lmstudio_sync.progress_bar("my model")
    llm = blocking_client.llm.load_new_instance("tiny", on_progress=bar)
    llm.unload()

    assert full_bars(terminal, "my model") >= 1
    assert terminal.getvalue().endswith("\n")


async def test_one_callback_serves_loads_one_after_the_other(
    client: AsyncClient, terminal: Terminal, no_library: None
) -> None:
    bar = lms.progress_bar("each")
    for _ in range(3):
        await (await client.llm.load_new_instance("tiny", on_progress=bar)).unload()
        await (await client.llm.model("tiny", on_progress=bar)).unload()

    assert full_bars(terminal, "each") == 6


async def test_a_model_that_is_loaded_already_has_a_full_bar_at_once(
    client: AsyncClient, terminal: Terminal, no_library: None
) -> None:
    llm = await client.llm.load_new_instance("tiny")
    await client.llm.model("tiny", on_progress=lms.progress_bar("found"))
    await llm.unload()

    assert terminal.getvalue() == "found: 100 %\n"


async def test_an_ensured_instance_draws_a_bar_to_its_end(
    client: AsyncClient, terminal: Terminal, no_library: None
) -> None:
    for description in ("loaded", "found"):
        llm = await client.llm.ensure_instance("tiny", on_progress=lms.progress_bar(description))
    await llm.unload()

    assert full_bars(terminal, "loaded") == 1
    assert full_bars(terminal, "found") == 1


@pytest.mark.parametrize("name", ["load_new_instance", "model", "ensure_instance"])
async def test_a_failed_load_leaves_its_bar_and_goes_to_the_next_line(
    name: str, terminal: Terminal, library: str
) -> None:
    async with ScriptedServer().client() as (client, server), anyio.create_task_group() as tasks:

        async def load() -> None:
            with pytest.raises(lms.LMStudioServerError):
                await getattr(client.llm, name)("qwen3-4b", on_progress=lms.progress_bar("broken"))

        tasks.start_soon(load)
        channel = await begin(server, name)
        await wait_for(lambda: "40" in terminal.getvalue())
        await server.fail(channel, "The weights are damaged")

    assert "broken" in terminal.getvalue()
    assert full_bars(terminal, "broken") == 0
    assert terminal.getvalue().endswith("\n")
    assert_nothing_is_left(terminal)


@pytest.mark.parametrize("name", ["load_new_instance", "model", "ensure_instance"])
async def test_a_cancelled_load_ends_its_bar(name: str, terminal: Terminal, library: str) -> None:
    async with ScriptedServer().client() as (client, server), anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()

        async def load() -> None:
            with scope:
                await getattr(client.llm, name)("qwen3-4b", on_progress=lms.progress_bar("left"))

        tasks.start_soon(load)
        channel = await begin(server, name)
        await wait_for(lambda: "40" in terminal.getvalue())
        scope.cancel()
        assert (await server.next_message())["message"] == {"type": "cancel"}
        await server.fail(channel, "Load was cancelled")

    assert terminal.getvalue().endswith("\n")
    assert_nothing_is_left(terminal)


async def begin(server: ScriptedServer, name: str) -> dict[str, Any]:
    """Let a load begin, up to 40 %, and return its channel."""
    if name == "ensure_instance":
        await server.answer(await server.next_message(), [])
    channel = await server.next_message()
    if name == "model":
        await server.packet(channel, type="startLoading", identifier="qwen3-4b", info=MODEL)
        await server.packet(channel, type="loadProgress", progress=0.4)
    else:
        await server.packet(channel, type="resolved", info=MODEL)
        await server.packet(channel, type="progress", progress=0.4)
    return channel


def test_a_failed_load_of_the_facade_ends_its_bar_and_keeps_its_traceback(
    blocking_client: lmstudio_sync.Client, terminal: Terminal, library: str
) -> None:
    def load() -> None:
        blocking_client.llm.load_new_instance("tiny", on_progress=fail_after(lms.progress_bar("left")))

    with pytest.raises(ZeroDivisionError) as caught:
        load()
    frames = [frame.name for frame in caught.traceback]
    assert frames[1:3] == ["load", "load_new_instance"]
    assert frames[-1] == "used"
    assert blocking_client.list_loaded_models() == []
    assert terminal.getvalue().endswith("\n")
    assert_nothing_is_left(terminal)


def fail_after(bar: Any) -> Any:
    """Return a bar that draws, and fails at the first progress that is not 0."""
    once = bar.used_once

    @contextlib.contextmanager
    def used_once() -> Iterator[Callable[[float], None]]:
        with once() as draw:

            def used(fraction: float) -> None:
                draw(fraction)
                if fraction:
                    raise ZeroDivisionError

            yield used

    bar.used_once = used_once
    return bar


# -- downloads


async def test_a_download_draws_its_bytes(terminal: Terminal, library: str) -> None:
    async with ScriptedServer().client() as (client, server):
        option = await an_option(client, server)
        async with asking(option.download(lms.progress_bar())) as result:
            channel = await server.next_message()
            await progress(server, channel, 40)
            await wait_for(lambda: "40" in terminal.getvalue())
            await finish(server, channel)

    assert result == ["acme/tiny"]
    assert "Downloading" in terminal.getvalue()
    assert "0.0 of 0.0 MB" in terminal.getvalue()
    # The server may send no last progress.
    assert full_bars(terminal, "Downloading") >= 1
    assert terminal.getvalue().endswith("\n")


def test_the_items_of_a_download_stream_draw_one_bar(terminal: Terminal, no_library: None) -> None:
    bar = lms.progress_bar("file")
    for done in range(0, 101, 5):
        bar(lms.DownloadProgressUpdate(done * 10**7, 10**9, 2.5e6))
    bar(lms.DownloadProgressUpdate(10**9, 10**9, 0.0, "finalizing"))

    lines = terminal.getvalue().splitlines()
    assert len(lines) == 11
    assert lines[5] == "file: 50 % (500.0 of 1000.0 MB, 2.5 MB/s)"
    assert lines[10].startswith("file: 100 % (1000.0 of 1000.0 MB")


def test_a_download_of_unknown_size_shows_its_bytes(terminal: Terminal, no_library: None) -> None:
    lms.progress_bar("file")(lms.DownloadProgressUpdate(5 * 10**6, 0, 0.0))
    assert terminal.getvalue() == "file: 0 % (5.0 MB)\n"


# -- called directly


async def test_the_items_of_a_stream_draw_a_bar(
    client: AsyncClient, terminal: Terminal, library: str
) -> None:
    with lms.progress_bar("stream") as bar:
        async with client.llm.load_new_instance_stream("tiny") as loading:
            async for item in loading:
                bar(item)
            await (await loading.wait_for_result()).unload()

    assert full_bars(terminal, "stream") >= 1
    assert terminal.getvalue().endswith("\n")


@pytest.mark.parametrize("error", [None, RuntimeError], ids=["left early", "failed"])
def test_leaving_the_block_ends_a_bar_half_way(
    error: type[Exception] | None, terminal: Terminal, library: str
) -> None:
    with contextlib.suppress(RuntimeError), lms.progress_bar("left") as bar:
        draw_all(bar, 0.2, 0.4)
        if error is not None:
            raise error
    assert terminal.getvalue().endswith("\n")
    assert full_bars(terminal, "left") == 0
    assert_nothing_is_left(terminal)


def test_a_dropped_bar_ends(terminal: Terminal, library: str) -> None:
    draw_all(lms.progress_bar("left"), 0.4)
    assert terminal.getvalue().endswith("\n")
    assert_nothing_is_left(terminal)


def test_a_lower_fraction_begins_a_new_bar(terminal: Terminal, no_library: None) -> None:
    draw_all(lms.progress_bar("x"), 0.1, 0.5, 1.0, 1.0, 0.3, 0.2, 1.0)
    assert [line.split()[1] for line in terminal.getvalue().splitlines()] == [
        "10",
        "50",
        "100",
        "30",
        "20",
        "100",
    ]


def test_a_thousand_fractions_are_eleven_lines(terminal: Terminal, no_library: None) -> None:
    draw_all(lms.progress_bar("x"), *(number / 1000 for number in range(1001)))
    assert terminal.getvalue().splitlines() == [f"x: {number} %" for number in range(0, 101, 10)]


def test_odd_fractions_are_drawn_as_the_nearest_ones(terminal: Terminal, no_library: None) -> None:
    draw_all(lms.progress_bar("x"), float("nan"), -5, 10**400, float("inf"))
    assert terminal.getvalue().splitlines() == ["x: 0 %", "x: 100 %"]


@pytest.mark.parametrize("value", ["0.5", None, object(), [0.5]])
def test_a_progress_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(lms.LMStudioValueError, match="fraction from 0.0 to 1.0"):
        lms.progress_bar()(value)


def test_a_description_that_is_no_text_is_refused() -> None:
    with pytest.raises(lms.LMStudioValueError, match="description must be a text"):
        lms.progress_bar(5)  # type: ignore[arg-type]


def test_a_hostile_description_stays_on_its_line(terminal: Terminal, library: str) -> None:
    with lms.progress_bar("[red]{0}%s\x1b[2J\n" + "long" * 100) as bar:
        draw_all(bar, 0.5, 1.0)
    assert "[red]{0}%s\\x1b[2J\\nlonglonglonglonglong…" in terminal.getvalue()
    assert "\x1b[2J" not in terminal.getvalue()


@pytest.mark.parametrize(("description", "shown"), [(None, "progress_bar()"), ("a", "progress_bar('a')")])
def test_repr_of_a_progress_bar_is_its_call(description: str | None, shown: str) -> None:
    assert repr(lms.progress_bar(description)) == shown


def test_a_bar_without_description_is_of_a_load(terminal: Terminal, no_library: None) -> None:
    lms.progress_bar()(1.0)
    assert terminal.getvalue() == "Loading: 100 %\n"
