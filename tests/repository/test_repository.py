"""Searching for models and downloading them, with a scripted server."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    AsyncDownloadStream,
    AsyncModelDownloadOption,
    DownloadProgressUpdate,
    LMStudioCancelledError,
    LMStudioChannelClosedError,
    LMStudioServerError,
    LMStudioTimeoutError,
    LMStudioValueError,
)
from tests.clock import let_pass
from tests.scripted_server import ScriptedServer

Both = tuple[AsyncClient, ScriptedServer]

RESULT = {
    "name": "acme/tiny",
    "identifier": {"type": "hf", "identifier": "acme/tiny"},
    "exact": True,
    "staffPick": False,
    "likes": 7,
}
OPTION = {
    "quantization": "Q4_K_M",
    "name": "tiny-Q4_K_M",
    "sizeBytes": 100,
    "fitEstimation": "fitsOnTheMoon",
    "recommended": True,
    "downloadIdentifier": "dl-1",
    "indexedModelIdentifier": "acme/tiny/tiny-Q4_K_M.gguf",
    "compatibilityType": "gguf",
}


@asynccontextmanager
async def asking(call: Any) -> AsyncIterator[list[Any]]:
    """Run a call during the block; its result is in the list after the block."""
    results: list[Any] = []

    async def ask() -> None:
        results.append(await call)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            yield results


async def an_option(client: AsyncClient, server: ScriptedServer) -> AsyncModelDownloadOption:
    async with asking(client.repository.search_models("tiny")) as found:
        await server.answer(await server.next_message(), {"results": [RESULT]})
    (model,) = found[0]
    async with asking(model.get_download_options()) as found:
        await server.answer(await server.next_message(), {"results": [OPTION]})
    (option,) = found[0]
    assert isinstance(option, AsyncModelDownloadOption)
    return option


async def progress(server: ScriptedServer, channel: dict[str, Any], done: int) -> None:
    update = {"downloadedBytes": done, "totalBytes": 100, "speedBytesPerSecond": 2.5}
    await server.packet(channel, type="downloadProgress", update=update)


async def finish(server: ScriptedServer, channel: dict[str, Any]) -> None:
    await server.packet(channel, type="success", defaultIdentifier="acme/tiny")
    await server.close(channel)


# -- searching


async def test_a_search_sends_its_arguments(both: Both) -> None:
    client, server = both
    async with asking(client.repository.search_models("tiny", 2, ["gguf"])) as found:
        call = await server.next_message()
        await server.answer(call, {"results": [RESULT]})

    assert call["endpoint"] == "searchModels"
    assert call["parameter"] == {"opts": {"searchTerm": "tiny", "limit": 2, "compatibilityTypes": ["gguf"]}}
    ((model,),) = found
    assert model.search_result.name == "acme/tiny"
    assert model.search_result.exact
    assert model.search_result.extra == {"likes": 7}


async def test_a_search_without_arguments_sends_empty_options(both: Both) -> None:
    client, server = both
    async with asking(client.repository.search_models()) as found:
        call = await server.next_message()
        await server.answer(call, {"results": []})

    assert call["parameter"] == {"opts": {}}
    assert found == [[]]


@pytest.mark.parametrize("limit", [0, 26, -1, 2.5, True, "5"])
async def test_a_search_limit_out_of_range_is_refused(both: Both, limit: Any) -> None:
    client, _ = both
    with pytest.raises(LMStudioValueError, match="from 1 to 25"):
        await client.repository.search_models("tiny", limit)


@pytest.mark.parametrize("formats", ["gguf", [1], 5])
async def test_formats_that_are_no_list_of_texts_are_refused(both: Both, formats: Any) -> None:
    client, _ = both
    with pytest.raises(LMStudioValueError, match="compatibility"):
        await client.repository.search_models("tiny", None, formats)


async def test_a_download_option_has_the_fields_that_the_server_sent(both: Both) -> None:
    option = await an_option(*both)

    assert option.info.quantization == "Q4_K_M"
    assert option.info.size_bytes == 100
    assert option.info.fit_estimation == "fitsOnTheMoon"
    assert repr(option) == "AsyncModelDownloadOption(name='tiny-Q4_K_M', quantization='Q4_K_M')"


async def test_a_search_result_survives_a_lost_connection(both: Both) -> None:
    client, server = both
    async with asking(client.repository.search_models("tiny")) as found:
        await server.answer(await server.next_message(), {"results": [RESULT]})
    await server.drop()

    async with asking(found[0][0].get_download_options()) as options:
        call = await server.next_message()
        await server.answer(call, {"results": [OPTION]})

    assert call["parameter"] == {"modelSearchResultIdentifier": {"type": "hf", "identifier": "acme/tiny"}}
    assert len(options[0]) == 1


# -- downloading


async def test_a_download_returns_the_key_of_the_model(both: Both) -> None:
    client, server = both
    option = await an_option(client, server)
    updates: list[DownloadProgressUpdate] = []
    finalized: list[bool] = []

    async def on_finalize() -> None:
        finalized.append(True)

    async with asking(option.download(updates.append, on_finalize)) as result:
        channel = await server.next_message()
        assert channel["endpoint"] == "downloadModel"
        assert channel["creationParameter"] == {"downloadIdentifier": "dl-1"}
        await progress(server, channel, 50)
        await server.packet(channel, type="startFinalizing")
        await finish(server, channel)

    assert result == ["acme/tiny"]
    assert updates == [DownloadProgressUpdate(50, 100, 2.5)]
    assert finalized == [True]


async def test_a_download_stream_yields_progress_and_returns_the_key_of_the_model(both: Both) -> None:
    client, server = both
    option = await an_option(client, server)
    with anyio.fail_after(20):
        async with option.download_stream() as download:
            channel = await server.next_message()
            await progress(server, channel, 25)
            first = await anext(download)
            await server.packet(channel, type="startFinalizing")
            second = await anext(download)
            await finish(server, channel)
            assert await download.wait_for_result() == "acme/tiny"
            assert download.result() == "acme/tiny"

    assert (first.phase, first.downloaded_bytes, first.total_bytes, first.fraction) == (
        "downloading",
        25,
        100,
        0.25,
    )
    assert first.speed_bytes_per_second == 2.5
    assert second.phase == "finalizing"
    assert second.downloaded_bytes == 25


async def test_unread_progress_is_conflated_to_the_latest(both: Both) -> None:
    client, server = both
    option = await an_option(client, server)
    with anyio.fail_after(20):
        async with option.download_stream() as download:
            channel = await server.next_message()
            for done in (10, 20, 30):
                await progress(server, channel, done)
            await server.packet(channel, type="startFinalizing")
            await finish(server, channel)
            while download.latest.phase != "finalizing":
                await anyio.lowlevel.checkpoint()
            seen = [(update.phase, update.downloaded_bytes) async for update in download]

    assert seen == [("downloading", 30), ("finalizing", 30)]


async def test_leaving_a_download_cancels_it_on_the_server(both: Both) -> None:
    client, server = both
    option = await an_option(client, server)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:

            async def leave() -> None:
                async with option.download_stream() as download:
                    async for _ in download:
                        break

            tasks.start_soon(leave)
            channel = await server.next_message()
            await progress(server, channel, 10)
            assert (await server.next_message())["message"] == {"type": "cancel"}
            await server.fail(channel, "aborted")


async def test_a_timeout_cancels_a_download_on_the_server(both: Both) -> None:
    client, server = both
    option = await an_option(client, server)
    cancelled: list[Any] = []

    async def confirm() -> None:
        channel = await server.next_message()
        scope.cancel()
        cancelled.append((await server.next_message())["message"])
        await server.close(channel)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                tasks.start_soon(confirm)
                await option.download()

    assert scope.cancelled_caught
    assert cancelled == [{"type": "cancel"}]


async def test_an_exception_of_on_progress_is_raised_and_cancels_the_download(both: Both) -> None:
    client, server = both
    option = await an_option(client, server)

    def refuse(update: DownloadProgressUpdate) -> None:
        raise KeyError(update.downloaded_bytes)

    async def serve() -> None:
        channel = await server.next_message()
        await progress(server, channel, 10)
        assert (await server.next_message())["message"] == {"type": "cancel"}
        await server.close(channel)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            with pytest.raises(KeyError) as caught:
                await option.download(refuse)
    assert caught.value.__notes__ == ["Raised by the callback on_progress."]


@pytest.mark.parametrize("name", ["on_progress", "on_finalize"])
async def test_a_callback_that_cannot_be_called_is_refused_before_anything_is_downloaded(
    both: Both, name: str
) -> None:
    option = await an_option(*both)
    arguments: dict[str, Any] = {name: "print"}

    with pytest.raises(LMStudioValueError, match=f"{name} must be a function"):
        await option.download(**arguments)


async def test_a_cancelled_download_raises_cancelled_error(both: Both) -> None:
    client, server = both
    download = (await an_option(client, server)).download_stream()
    with anyio.fail_after(20):
        await download
        channel = await server.next_message()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(download.cancel)
            await server.next_message()
            await server.fail(channel, "AbortError")
        with pytest.raises(LMStudioCancelledError, match="cancelled by this program"):
            download.result()


async def test_a_download_that_is_complete_when_it_is_cancelled_stays(both: Both) -> None:
    client, server = both
    download = (await an_option(client, server)).download_stream()
    with anyio.fail_after(20):
        await download
        channel = await server.next_message()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(download.cancel)
            await server.next_message()
            await finish(server, channel)
        assert download.result() == "acme/tiny"


async def test_a_dropped_download_is_cancelled_and_warned_of(both: Both) -> None:
    client, server = both
    option = await an_option(client, server)
    with anyio.fail_after(20):
        with pytest.warns(ResourceWarning, match="dropped half-way"):  # noqa: PT031
            await option.download_stream()
            gc.collect()
        await server.next_message()
        assert (await server.next_message())["message"] == {"type": "cancel"}


async def test_a_failed_download_raises_the_reason_of_the_server(both: Both) -> None:
    client, server = both
    option = await an_option(client, server)
    with anyio.fail_after(20):
        async with option.download_stream() as download:
            await server.fail(await server.next_message(), "disk is full")
            with pytest.raises(LMStudioServerError, match="disk is full"):
                await download.wait_for_result()


async def test_the_timeout_of_a_silent_download_names_the_bytes_received() -> None:
    with anyio.fail_after(20):
        async with (
            ScriptedServer().client(timeout=10) as (client, server),
            anyio.create_task_group() as tasks,
        ):
            download = (await an_option(client, server)).download_stream()
            await download
            channel = await server.next_message()
            await progress(server, channel, 70)
            tasks.start_soon(let_pass, 10)
            with pytest.raises(LMStudioTimeoutError, match="after 70 bytes"):
                await download.wait_for_result()
            assert (await server.next_message())["message"] == {"type": "cancel"}


async def test_a_download_that_ends_without_a_result_raises_channel_closed_error(both: Both) -> None:
    client, server = both
    option = await an_option(client, server)
    with anyio.fail_after(20):
        async with option.download_stream() as download:
            await server.close(await server.next_message())
            with pytest.raises(LMStudioChannelClosedError):
                await download.wait_for_result()


async def test_a_download_of_unknown_size_has_no_fraction() -> None:
    assert DownloadProgressUpdate(5, 0, 1.0).fraction == 0.0
    assert DownloadProgressUpdate(12, 10, 1.0).fraction == 1.0


async def test_a_download_stream_has_no_result_before_its_end(both: Both) -> None:
    stream = (await an_option(*both)).download_stream()

    assert isinstance(stream, AsyncDownloadStream)
    with pytest.raises(RuntimeError, match="no result yet"):
        stream.result()
