"""Downloads through the embedded server: they are resumed, verified, shared, and listed only when complete."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    AsyncDownloadStream,
    AsyncModelDownloadOption,
    LMStudioCancelledError,
    LMStudioServerError,
)
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._hub._hub import HubFile, _take_all
from lmstudio_async.embedded._hub._partial_file import PartialFile, PartialFileInUse
from lmstudio_async.embedded._timing import ServerTiming
from lmstudio_async.testing import ModelsFolder
from lmstudio_async.testing._tiny_models import write_llm
from lmstudio_async.testing._tiny_projector import write_projector
from tests.embedded.local_hub import LocalHub
from tests.embedded.raw_client import RawClient, Refused, connected

TINY = "acme/tiny-GGUF"
FILE = "tiny-Q4_K_M.gguf"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The content of a model that generates "Hello there"."""
    return write_llm(tmp_path_factory.mktemp("model") / "model.gguf").read_bytes()


@pytest.fixture
def hub(hub: LocalHub, model: bytes) -> LocalHub:
    hub.add(TINY, {FILE: model})
    return hub


@pytest.fixture
def folder(models: ModelsFolder) -> Path:
    return models.folder


@pytest.fixture
async def client(server: EmbeddedServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server) as client:
        yield client


@pytest.fixture
async def raw(server: EmbeddedServer) -> AsyncIterator[RawClient]:
    async with connected(server, "repository") as raw:
        yield raw


async def option_of(client: AsyncClient, quantization: str = "Q4_K_M") -> AsyncModelDownloadOption:
    (found,) = await client.repository.search_models(TINY)
    options = await found.get_download_options()
    return next(option for option in options if option.info.quantization == quantization)


async def first_bytes(download: AsyncDownloadStream) -> None:
    """Wait until a download has received its first bytes."""
    async for update in download:
        if update.downloaded_bytes:
            return


async def begin(raw: RawClient, hub: LocalHub) -> int:
    """Open a channel that downloads the model, and wait for the first bytes."""
    identifier = f"{TINY}@{hub.repositories[TINY].commit}/{FILE}"
    channel = await raw.open("downloadModel", {"downloadIdentifier": identifier})
    while True:
        packet = await raw.packet(channel)
        assert packet
        if packet["update"]["downloadedBytes"]:
            return channel


async def keys(client: AsyncClient) -> list[str]:
    return [model.model_key for model in await client.list_downloaded_models()]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_file())


async def test_a_model_is_downloaded_and_can_be_loaded_at_once(
    client: AsyncClient, hub: LocalHub, folder: Path, model: bytes
) -> None:
    seen: list[tuple[int, int]] = []
    phases: list[str] = []
    option = await option_of(client)
    key = await option.download(
        lambda update: seen.append((update.downloaded_bytes, update.total_bytes)),
        lambda: phases.append("finalizing"),
    )
    assert key == "tiny"
    assert await keys(client) == ["tiny"]
    assert seen[-1] == (len(model), len(model))
    assert phases == ["finalizing"]
    assert (folder / TINY / FILE).read_bytes() == model
    assert [path.name for path in folder.iterdir()] == ["acme"]

    llm = await client.llm.model(key, config={"context_length": 256})
    assert (await llm.respond("hi")).content == "Hello there"


async def test_raw_packets_are_those_of_lm_studio(raw: RawClient, hub: LocalHub, model: bytes) -> None:
    identifier = f"{TINY}@{hub.repositories[TINY].commit}/{FILE}"
    packets = await raw.packets(await raw.open("downloadModel", {"downloadIdentifier": identifier}))
    *progress, finalizing, success = packets
    assert progress[0] == {
        "type": "downloadProgress",
        "update": {"downloadedBytes": 0, "totalBytes": len(model), "speedBytesPerSecond": 0.0},
    }
    update = progress[-1]["update"]
    assert type(update["downloadedBytes"]) is type(update["totalBytes"]) is int
    assert update["downloadedBytes"] == len(model)
    assert update["speedBytesPerSecond"] > 0
    assert finalizing == {"type": "startFinalizing"}
    assert success == {"type": "success", "defaultIdentifier": "tiny"}


async def test_a_cancelled_download_is_not_listed_and_the_next_one_resumes_it(
    client: AsyncClient, hub: LocalHub, folder: Path, model: bytes
) -> None:
    option = await option_of(client)
    hub.pause_at(100_000)
    async with option.download_stream() as download:
        await first_bytes(download)
        assert await keys(client) == []
        # A client waits five seconds for a server that does not stop.
        with anyio.fail_after(4):
            await download.cancel()
        with pytest.raises(LMStudioCancelledError):
            await download.wait_for_result()
    (partial,) = files(folder)
    assert partial.startswith(f".downloads/{TINY}/{FILE}.")
    came = (folder / partial).read_bytes()
    assert came
    assert model.startswith(came)

    hub.go_on()
    assert await option.download() == "tiny"
    assert hub.downloads == [FILE, f"{FILE} bytes={len(came)}-"]
    assert files(folder) == [f"{TINY}/{FILE}"]
    assert (folder / TINY / FILE).read_bytes() == model


async def test_a_disconnecting_client_stops_its_download(
    server: EmbeddedServer, hub: LocalHub, client: AsyncClient, folder: Path
) -> None:
    hub.pause_at(100_000)
    async with connected(server, "repository") as raw:
        await begin(raw, hub)
    option = await option_of(client)
    # Until the server has noticed: else the first request may get all the rest.
    await anyio.wait_all_tasks_blocked()
    hub.go_on()
    assert await option.download() == "tiny"
    _, second = hub.downloads
    assert second.startswith(f"{FILE} bytes=")


@pytest.mark.parametrize("end", ["cancelled", "failed"])
async def test_an_interrupted_download_closes_all_its_generators(end: str) -> None:
    ended: list[str] = []

    async def socket() -> AsyncIterator[bytes]:
        try:
            while True:
                await anyio.lowlevel.checkpoint()
                yield b"piece"
        finally:
            ended.append("socket")

    async def body() -> AsyncIterator[bytes]:
        try:
            async for piece in socket():
                yield piece
        finally:
            ended.append("body")

    async def take(_: bytes) -> None:
        if end == "failed":
            raise OSError(errno.ENOSPC, "No space left on device")
        scope.cancel()
        await anyio.lowlevel.checkpoint()

    with anyio.CancelScope() as scope, suppress(OSError):
        await _take_all(body(), take)
    assert ended == ["socket", "body"]
    assert scope.cancelled_caught == (end == "cancelled")


async def test_a_full_disk_ends_the_download(
    client: AsyncClient, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: PartialFile, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    option = await option_of(client)
    with monkeypatch.context() as full:
        full.setattr(PartialFile, "write", fail)
        with pytest.raises(LMStudioServerError, match="the disk is full"):
            await option.download()
    assert await option.download() == "tiny"


async def test_two_clients_share_a_download_and_one_may_cancel(
    server: EmbeddedServer, raw: RawClient, hub: LocalHub, model: bytes
) -> None:
    hub.pause_at(100_000)
    stays = await begin(raw, hub)
    async with connected(server, "repository", clientIdentifier="guest:other") as other:
        leaves = await begin(other, hub)
        await other.cancel(leaves)
        with pytest.raises(Refused, match="cancelled"):
            await other.packets(leaves)
    hub.go_on()
    packets = await raw.packets(stays)
    assert packets[-1] == {"type": "success", "defaultIdentifier": "tiny"}
    assert hub.downloads == [FILE]


async def test_a_download_requested_again_during_its_cancellation_succeeds(
    raw: RawClient, hub: LocalHub, folder: Path, model: bytes
) -> None:
    hub.pause_at(100_000)
    first = await begin(raw, hub)
    await raw.cancel(first)
    second = await begin(raw, hub)
    hub.go_on()
    with pytest.raises(Refused, match="cancelled"):
        await raw.packets(first)
    assert (await raw.packets(second))[-1]["type"] == "success"
    assert (folder / TINY / FILE).read_bytes() == model


async def test_a_server_that_stops_keeps_the_partial_file(hub: LocalHub, folder: Path, model: bytes) -> None:
    hub.pause_at(100_000)
    with anyio.fail_after(10):
        async with EmbeddedServer(folder) as server, connected(server, "repository") as raw:
            await begin(raw, hub)
    (partial,) = files(folder)
    came = (folder / partial).read_bytes()
    assert came
    assert model.startswith(came)


async def test_a_download_resumes_at_the_byte_where_the_connection_broke(
    client: AsyncClient, hub: LocalHub, folder: Path, model: bytes
) -> None:
    hub.cut_after = [50_000, 120_000]
    assert await (await option_of(client)).download() == "tiny"
    assert hub.downloads == [FILE, f"{FILE} bytes=50000-", f"{FILE} bytes=120000-"]
    assert (folder / TINY / FILE).read_bytes() == model


async def test_a_download_succeeds_from_a_hub_that_ignores_ranges(
    client: AsyncClient, hub: LocalHub, folder: Path, model: bytes
) -> None:
    hub.cut_after = [50_000]
    hub.ignores_ranges = True
    assert await (await option_of(client)).download() == "tiny"
    assert (folder / TINY / FILE).read_bytes() == model


@pytest.mark.parametrize("large", [True, False])
async def test_a_file_with_a_wrong_hash_never_becomes_a_model(
    client: AsyncClient, hub: LocalHub, folder: Path, large: bool
) -> None:
    repository = hub.repositories[TINY]
    repository.large = large
    repository.lying = {FILE}
    option = await option_of(client)
    with pytest.raises(LMStudioServerError, match="check sum is wrong"):
        await option.download()
    assert files(folder) == []

    repository.lying = set()
    assert await option.download() == "tiny"


async def test_a_damaged_partial_file_is_detected(client: AsyncClient, hub: LocalHub, folder: Path) -> None:
    option = await option_of(client)
    hub.pause_at(1000)
    async with option.download_stream() as download:
        await first_bytes(download)
    hub.go_on()
    (partial,) = files(folder)
    (folder / partial).write_bytes(b"\0" * 1000)
    with pytest.raises(LMStudioServerError, match="check sum is wrong"):
        await option.download()
    assert await option.download() == "tiny"


async def test_a_file_that_is_no_model_is_removed_again(
    client: AsyncClient, hub: LocalHub, folder: Path, tmp_path: Path
) -> None:
    hub.repositories[TINY].files[FILE] = b"GIF89a" * 1000
    with pytest.raises(LMStudioServerError, match="no GGUF model"):
        await (await option_of(client)).download()
    projector = write_projector(tmp_path / "eye.gguf").read_bytes()
    hub.repositories[TINY].files[FILE] = projector
    with pytest.raises(LMStudioServerError, match="cannot be used"):
        await (await option_of(client)).download()
    assert files(folder) == []


async def test_a_file_with_the_right_hash_is_not_downloaded_again(
    client: AsyncClient, hub: LocalHub, folder: Path, model: bytes
) -> None:
    place = folder / TINY / FILE
    place.parent.mkdir(parents=True)
    place.write_bytes(model)
    assert await (await option_of(client)).download() == "tiny"
    assert hub.downloads == []

    place.write_bytes(model[:-1] + b"?")
    assert await (await option_of(client)).download() == "tiny"
    assert place.read_bytes() == model


async def test_a_gated_model_needs_a_token(
    client: AsyncClient, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories[TINY].gated = True
    option = await option_of(client)
    with pytest.raises(LMStudioServerError, match="gated") as caught:
        await option.download()
    assert "HF_TOKEN" in str(caught.value)

    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert await option.download() == "tiny"


async def test_a_download_that_exceeds_the_free_disk_space_is_not_started(
    client: AsyncClient, hub: LocalHub
) -> None:
    hub.repositories[TINY].announced_sizes[FILE] = 10**17
    with pytest.raises(LMStudioServerError, match="too little free space: the download needs 100000000.0 GB"):
        await (await option_of(client)).download()
    assert hub.downloads == []


async def test_a_file_that_was_removed_from_the_hub_is_an_error(
    client: AsyncClient, hub: LocalHub, raw: RawClient
) -> None:
    option = await option_of(client)
    hub.repositories[TINY].files = {"new-Q4_K_M.gguf": b"x"}
    with pytest.raises(LMStudioServerError, match="Ask for the download options again"):
        await option.download()
    identifier = f"{TINY}@{hub.repositories[TINY].commit}/{FILE}"
    with pytest.raises(Refused, match="There is no model"):
        await raw.packets(await raw.open("downloadModel", {"downloadIdentifier": identifier}))


async def test_a_hub_that_fails_for_long_fails_the_download_and_keeps_the_partial_file(
    hub: LocalHub, folder: Path
) -> None:
    timing = ServerTiming(retry_seconds=0.0)
    async with EmbeddedServer(folder, threads=1, _timing=timing) as server, AsyncClient(server) as client:
        option = await option_of(client)
        hub.cut_after = [100_000] * 8
        with pytest.raises(LMStudioServerError, match="cannot be reached"):
            await option.download()
    assert [(folder / partial).stat().st_size for partial in files(folder)] == [100_000]


async def test_a_file_that_another_program_is_downloading_is_refused(
    client: AsyncClient, hub: LocalHub, folder: Path, model: bytes
) -> None:
    option = await option_of(client)
    hub.pause_at(1000)
    async with option.download_stream() as download:
        await first_bytes(download)
    hub.go_on()
    (partial,) = files(folder)
    file = HubFile(FILE, len(model), "a" * 64, None)
    with PartialFile(folder / partial, file):
        with pytest.raises(PartialFileInUse):
            PartialFile(folder / partial, file)
        with pytest.raises(LMStudioServerError, match="Another program"):
            await option.download()
    assert await option.download() == "tiny"


async def test_a_split_model_appears_only_when_all_its_parts_are_there(
    raw: RawClient, hub: LocalHub, client: AsyncClient, folder: Path, model: bytes
) -> None:
    names = ["big-Q8_0-00001-of-00002.gguf", "big-Q8_0-00002-of-00002.gguf"]
    repository = hub.add("acme/big-GGUF", dict(zip(names, (model, model), strict=True)))
    repository.lying = {names[1]}
    identifier = f"acme/big-GGUF@{repository.commit}/{names[0]}"
    creation: dict[str, Any] = {"downloadIdentifier": identifier}
    with pytest.raises(Refused, match="check sum"):
        await raw.packets(await raw.open("downloadModel", creation))
    assert await keys(client) == []
    assert [file for file in files(folder) if not file.startswith(".downloads/")] == []

    repository.lying = set()
    packets = await raw.packets(await raw.open("downloadModel", creation))
    assert packets[-1] == {"type": "success", "defaultIdentifier": "big"}
    assert hub.downloads.count(names[0]) == 1
    assert packets[-3]["update"]["downloadedBytes"] == 2 * len(model)
