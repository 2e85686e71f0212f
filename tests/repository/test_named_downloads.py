"""Downloads by name, through the embedded server and a local hub: what a name means, and what is there already."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    DownloadProgressUpdate,
    EmbeddedServer,
    LMStudioCancelledError,
    LMStudioModelNotFoundError,
    LMStudioServerError,
    LMStudioValueError,
    progress_bar,
)
from lmstudio_async.testing import ModelsFolder
from lmstudio_async.testing._tiny_models import write_llm
from lmstudio_sync import Client
from tests.embedded.local_hub import LocalHub
from tests.scripted_server import ScriptedServer, until

TINY = "acme/tiny-GGUF"
FILES = {"Q4_K_M": "tiny-Q4_K_M.gguf", "Q8_0": "tiny-Q8_0.gguf"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_llm(tmp_path_factory.mktemp("model") / "model.gguf").read_bytes()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, model: bytes) -> Iterator[LocalHub]:
    """A hub with a model in two quantizations."""
    with LocalHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        hub.add(TINY, dict.fromkeys(FILES.values(), model))
        yield hub


@pytest.fixture
def models(tmp_path: Path) -> ModelsFolder:
    return ModelsFolder(tmp_path / "models")


@pytest.fixture
async def client(models: ModelsFolder, hub: LocalHub) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(EmbeddedServer(models.folder, threads=1)) as client:
        yield client


def names(models: ModelsFolder) -> list[str]:
    return sorted(path.name for path in models.folder.rglob("*.gguf"))


# -- names


@pytest.mark.parametrize(
    "name",
    [
        TINY,
        "ACME/Tiny-gguf",
        "acme/tiny",
        "tiny",
        "Tiny-GGUF",
        "tiny:latest",
        f"https://huggingface.co/{TINY}",
        f"hf.co/{TINY}/tree/main",
    ],
)
async def test_a_name_without_a_quantization_gets_the_recommended_one(
    client: AsyncClient, models: ModelsFolder, name: str
) -> None:
    assert await client.repository.download(name) == "tiny"
    assert names(models) == [FILES["Q4_K_M"]]


@pytest.mark.parametrize(
    ("name", "quantization"),
    [
        (TINY, "Q8_0"),
        (TINY, "q8_0"),
        (TINY, "tiny-Q8_0.gguf"),
        (TINY, "tiny-Q8_0"),
        (f"{TINY}:Q8_0", None),
        (f"{TINY}:q8_0", "Q8_0"),
        ("tiny@q8_0", None),
        (f"hf.co/{TINY}:Q8_0", None),
        (f"https://huggingface.co/{TINY}/blob/main/tiny-Q8_0.gguf", None),
        (f"{TINY}/tiny-Q8_0.gguf", None),
    ],
)
async def test_a_named_quantization_is_downloaded(
    client: AsyncClient, models: ModelsFolder, name: str, quantization: str | None
) -> None:
    assert await client.repository.download(name, quantization=quantization) == "tiny"
    assert names(models) == [FILES["Q8_0"]]


async def test_an_unknown_quantization_lists_those_that_there_are(client: AsyncClient) -> None:
    with pytest.raises(LMStudioModelNotFoundError) as caught:
        await client.repository.download(TINY, quantization="Q3_K_S")
    message = str(caught.value)
    assert message.startswith(f'There is no Q3_K_S of "{TINY}".\nThere are: Q4_K_M (')
    assert "recommended), Q8_0 (" in message


async def test_dynamic_quantizations_are_told_apart(
    client: AsyncClient, hub: LocalHub, models: ModelsFolder, model: bytes
) -> None:
    hub.add("acme/big-GGUF", {"big-Q4_K_M.gguf": model, "big-UD-Q4_K_M.gguf": model})
    await client.repository.download("acme/big-GGUF", quantization="UD-Q4_K_M")
    assert names(models) == ["big-UD-Q4_K_M.gguf"]
    await client.repository.download("acme/big-GGUF", quantization="Q4_K_M")
    assert names(models) == ["big-Q4_K_M.gguf", "big-UD-Q4_K_M.gguf"]


async def test_a_quantization_of_several_models_is_refused_until_one_is_named(
    client: AsyncClient, hub: LocalHub, models: ModelsFolder, model: bytes
) -> None:
    hub.add("acme/two-GGUF", {"one-Q8_0.gguf": model, "other-Q8_0.gguf": model, "one-Q4_K_M.gguf": model})
    with pytest.raises(LMStudioModelNotFoundError, match="means several models"):
        await client.repository.download("acme/two-GGUF", quantization="Q8_0")
    assert await client.repository.download("acme/two-GGUF", quantization="other-Q8_0") == "other"


async def test_the_first_of_several_repositories_of_a_name_counts(
    client: AsyncClient, hub: LocalHub, models: ModelsFolder, model: bytes
) -> None:
    hub.add("other/tiny-GGUF", {"tiny-Q4_K_M.gguf": model})
    await client.repository.download("tiny")
    assert (models.folder / TINY / FILES["Q4_K_M"]).exists()


async def test_a_name_that_no_repository_has_lists_the_results_of_a_search(
    client: AsyncClient, hub: LocalHub
) -> None:
    hub.add("acme/tiny-instruct-GGUF", {})
    with pytest.raises(LMStudioModelNotFoundError) as caught:
        await client.repository.download("tin")
    assert str(caught.value) == (
        'There is no model "tin" to download.\n'
        f"Name one of those that a search finds: {TINY}, acme/tiny-instruct-GGUF"
    )
    with pytest.raises(LMStudioModelNotFoundError, match="finds nothing either"):
        await client.repository.download("nothing-like-it")
    assert hub.downloads == []


async def test_the_file_of_a_download_is_found_without_a_download(client: AsyncClient, hub: LocalHub) -> None:
    option = await client.repository.find_download_option("tiny")
    assert (option.info.quantization, option.info.recommended) == ("Q4_K_M", True)
    option = await client.repository.find_download_option(f"{TINY}:Q8_0")
    assert option.info.quantization == "Q8_0"
    model, *_ = await client.repository.search_models(TINY)
    assert (await model.find_download_option(quantization="q8_0")).info == option.info
    for name in ("acme/missing", "nothing-like-it", f"{TINY}:Q3_K_S"):
        with pytest.raises(LMStudioModelNotFoundError):
            await client.repository.find_download_option(name)
    assert hub.downloads == []
    key = await option.download()
    # A model that is downloaded is found again.
    assert (await client.repository.find_download_option(TINY, quantization="Q8_0")).info == option.info
    assert key == "tiny"


async def test_a_repository_that_no_search_finds_is_downloaded_by_its_name(
    client: AsyncClient, hub: LocalHub, model: bytes
) -> None:
    hub.add("acme/untagged", {"plain-Q4_0.gguf": model}, tags=())
    assert await client.repository.download("acme/untagged") == "plain"
    with pytest.raises(LMStudioModelNotFoundError, match="no such repository"):
        await client.repository.download("acme/missing")


async def test_a_model_that_fits_no_memory_is_downloaded_only_by_its_quantization(
    client: AsyncClient, hub: LocalHub
) -> None:
    hub.repositories[TINY].announced_sizes = dict.fromkeys(FILES.values(), 10**16)
    with pytest.raises(LMStudioModelNotFoundError, match=r"no model of it fits(.|\n)*Q8_0 .*too large"):
        await client.repository.download(TINY)
    with pytest.raises(LMStudioServerError, match="too little free space"):
        await client.repository.download(TINY, quantization="Q8_0")


@pytest.mark.parametrize("name", ["", " ", "/", ":Q4_0", "acme/:Q4_0", "a\nb", None, 5])
async def test_a_name_that_is_none_is_refused_before_anything_is_sent(
    client: AsyncClient, hub: LocalHub, name: str
) -> None:
    with pytest.raises(LMStudioValueError):
        await client.repository.download(name)
    assert hub.requests == []


async def test_two_different_quantizations_are_refused(client: AsyncClient) -> None:
    with pytest.raises(LMStudioValueError, match="say different things"):
        await client.repository.download(f"{TINY}:Q8_0", quantization="Q4_K_M")


# -- models that are there


@pytest.mark.parametrize("name", [TINY, "tiny", f"{TINY}:q4_k_m", "tiny@q4_k_m", f"{TINY}/tiny-Q4_K_M.gguf"])
async def test_a_model_that_is_there_needs_no_hub(
    client: AsyncClient, hub: LocalHub, models: ModelsFolder, name: str
) -> None:
    models.add_llm(f"{TINY}/tiny-Q4_K_M.gguf")
    updates: list[DownloadProgressUpdate] = []
    assert await client.repository.download(name, on_progress=updates.append) == "tiny"
    assert (updates, hub.requests) == ([], [])


async def test_another_quantization_of_a_model_that_is_there_is_downloaded(
    client: AsyncClient, hub: LocalHub, models: ModelsFolder
) -> None:
    models.add_llm(f"{TINY}/tiny-Q4_K_M.gguf")
    assert await client.repository.download(TINY, quantization="Q8_0") == "tiny@q8_0"
    assert await client.repository.download(TINY, quantization="Q4_K_M") == "tiny@q4_k_m"
    assert names(models) == sorted(FILES.values())
    assert len(hub.downloads) == 1


async def test_a_search_result_is_downloaded_by_its_quantization(client: AsyncClient, hub: LocalHub) -> None:
    (found,) = await client.repository.search_models("tiny")
    assert await found.download(quantization="Q8_0") == "tiny"
    requests = list(hub.requests)
    async with found.download_stream(quantization="Q8_0") as download:
        assert [update async for update in download] == []
        assert await download.wait_for_result() == "tiny"
    assert hub.requests == requests


# -- streams and ends


async def test_a_stream_yields_the_progress_of_a_named_download(client: AsyncClient, model: bytes) -> None:
    async with client.repository.download_stream("tiny") as download:
        updates = [update async for update in download]
        assert download.result() == "tiny"
    assert (updates[-1].phase, updates[-1].downloaded_bytes) == ("finalizing", len(model))


async def test_cancelling_while_the_model_is_looked_for_ends_the_search() -> None:
    with anyio.fail_after(20):
        async with ScriptedServer().client() as (client, server), anyio.create_task_group() as tasks:
            download = client.repository.download_stream("tiny")

            async def begin() -> None:
                with pytest.raises(LMStudioCancelledError):
                    await download

            tasks.start_soon(begin)
            assert (await server.next_message())["endpoint"] == "listDownloadedModels"
            await download.cancel()
            with pytest.raises(LMStudioCancelledError):
                download.result()


async def test_leaving_a_named_download_keeps_its_bytes_for_the_next_one(
    client: AsyncClient, hub: LocalHub, model: bytes
) -> None:
    hub.pause_at(1000)
    async with client.repository.download_stream("tiny") as download:
        async for update in download:
            if update.downloaded_bytes:
                break
    hub.go_on()
    assert await client.repository.download("tiny") == "tiny"
    assert hub.downloads == ["tiny-Q4_K_M.gguf", "tiny-Q4_K_M.gguf bytes=1000-"]


# -- model(download=True)


async def test_model_downloads_what_is_missing_and_loads_it(client: AsyncClient, hub: LocalHub) -> None:
    updates: list[DownloadProgressUpdate] = []
    fractions: list[float] = []
    llm = await client.llm.model(
        f"{TINY}:Q8_0", download=True, on_progress=fractions.append, on_download_progress=updates.append
    )
    assert (await llm.respond("hi")).content == "Hello there"
    assert llm.info.model_key == "tiny"
    assert updates[-1].fraction == 1.0
    assert fractions[-1] == 1.0
    requests = list(hub.requests)
    again = await client.llm.model("tiny", download=True)
    assert again.identifier == llm.identifier
    assert hub.requests == requests


async def test_the_key_of_an_embedding_model_finds_its_repository(
    client: AsyncClient, hub: LocalHub, tmp_path: Path
) -> None:
    file = ModelsFolder(tmp_path / "other").add_embedding("acme/embed-GGUF/embed-F32.gguf")
    hub.add("acme/embed-GGUF", {"embed-F32.gguf": file.read_bytes()})
    model = await client.embedding.model("text-embedding-embed", download=True)
    assert model.info.model_key == "text-embedding-embed"
    assert len(await model.embed("hi")) > 1


async def test_load_new_instance_downloads_what_is_missing(client: AsyncClient, hub: LocalHub) -> None:
    updates: list[DownloadProgressUpdate] = []
    fractions: list[float] = []
    llm = await client.llm.load_new_instance(
        TINY,
        "mine",
        ttl=60,
        download=True,
        on_progress=fractions.append,
        on_download_progress=updates.append,
    )
    assert (llm.identifier, llm.info.model_key, llm.info.ttl) == ("mine", "tiny", 60)
    assert updates[-1].fraction == fractions[-1] == 1.0
    requests = list(hub.requests)
    again = await client.llm.load_new_instance("tiny", download=True)
    assert again.identifier == "tiny"
    assert hub.requests == requests


async def test_ensure_instance_finds_the_instance_that_it_has_downloaded(
    client: AsyncClient, hub: LocalHub
) -> None:
    first = await client.llm.ensure_instance("acme/tiny", download=True)
    assert (first.identifier, first.info.model_key) == ("acme/tiny", "tiny")
    requests = list(hub.requests)
    for download in (False, True):
        assert (await client.llm.ensure_instance("acme/tiny", download=download)) == first
    named = await client.llm.ensure_instance("tiny@q8_0", "mine", download=True)
    assert named.info.path.endswith(FILES["Q8_0"])
    assert hub.requests != requests


async def test_loads_without_download_ask_no_hub(client: AsyncClient, hub: LocalHub) -> None:
    for load in (client.llm.load_new_instance, client.llm.ensure_instance):
        with pytest.raises(LMStudioModelNotFoundError, match="Cannot find a model"):
            await load("tiny")
    assert hub.requests == []


async def test_a_callback_that_is_no_function_is_refused_before_the_load(client: AsyncClient) -> None:
    for load in (client.llm.model, client.llm.load_new_instance, client.llm.ensure_instance):
        with pytest.raises(LMStudioValueError, match="on_download_progress must be a function"):
            await load("tiny", download=True, on_download_progress=1)  # type: ignore[arg-type]


async def test_model_without_download_asks_no_hub(client: AsyncClient, hub: LocalHub) -> None:
    with pytest.raises(LMStudioModelNotFoundError, match="Cannot find a model"):
        await client.llm.model("tiny")
    assert hub.requests == []


async def test_a_progress_bar_of_a_load_draws_the_download_too(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LMSTUDIO_PROGRESS", "1")
    await client.llm.model("tiny", download=True, on_progress=progress_bar())
    shown = capsys.readouterr().err
    assert shown.index("Downloading") < shown.index("Loading")


async def test_a_key_that_nobody_has_ends_with_the_error_of_the_download(client: AsyncClient) -> None:
    with pytest.raises(LMStudioModelNotFoundError, match='no model "nothing-like-it" to download'):
        await client.llm.model("nothing-like-it", download=True)


def test_a_progress_bar_of_the_blocking_facade_draws_the_download_too(
    models: ModelsFolder, hub: LocalHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LMSTUDIO_PROGRESS", "1")
    with Client(EmbeddedServer(models.folder, threads=1)) as client:
        client.llm.model("tiny", download=True, on_progress=progress_bar())
    shown = capsys.readouterr().err
    assert shown.index("Downloading") < shown.index("Loading")


def test_the_blocking_facade_downloads_and_loads(models: ModelsFolder, hub: LocalHub) -> None:
    with Client(EmbeddedServer(models.folder, threads=1)) as client:
        updates: list[DownloadProgressUpdate] = []
        assert client.repository.download("tiny", on_progress=updates.append) == "tiny"
        assert updates
        with client.repository.download_stream(TINY, quantization="Q8_0") as download:
            assert download.wait_for_result() == "tiny@q8_0"
        assert client.llm.model("tiny@q8_0", download=True).info.path.endswith(FILES["Q8_0"])


def test_the_blocking_facade_downloads_for_each_kind_of_load(models: ModelsFolder, hub: LocalHub) -> None:
    with Client(EmbeddedServer(models.folder, threads=1)) as client:
        updates: list[DownloadProgressUpdate] = []
        llm = client.llm.ensure_instance(TINY, "mine", download=True, on_download_progress=updates.append)
        assert (llm.identifier, updates[-1].fraction) == ("mine", 1.0)
        assert client.llm.load_new_instance(f"{TINY}:Q8_0", "other", download=True).info.path.endswith(
            FILES["Q8_0"]
        )


# -- LM Studio


async def test_variants_of_lm_studio_are_found_among_the_downloaded_models() -> None:
    info = {
        "type": "llm",
        "modelKey": "qwen/qwen3-4b",
        "format": "gguf",
        "displayName": "Qwen3 4B",
        "publisher": "qwen",
        "path": "qwen/qwen3-4b",
        "sizeBytes": 1,
        "indexedModelIdentifier": "qwen/qwen3-4b",
        "deviceIdentifier": None,
        "variants": ["qwen/qwen3-4b@q4_k_m", "qwen/qwen3-4b@q8_0"],
        "selectedVariant": "qwen/qwen3-4b@q4_k_m",
        "maxContextLength": 4096,
        "vision": False,
        "trainedForToolUse": False,
    }
    async with ScriptedServer().client() as (client, server):
        found: list[str] = []

        async def ask(name: str) -> None:
            found.append(await client.repository.download(name))

        for name in ("qwen/qwen3-4b", "qwen/qwen3-4b@q8_0", "qwen3-4b:Q4_K_M"):
            with anyio.fail_after(20):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(ask, name)
                    await server.answer(await server.next_message(), [info])
        assert found == ["qwen/qwen3-4b", "qwen/qwen3-4b@q8_0", "qwen/qwen3-4b@q4_k_m"]
        # A model of another device of LM Link is not here.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "qwen/qwen3-4b@q8_0")
            await server.answer(await server.next_message(), [{**info, "deviceIdentifier": "far"}])
            with anyio.fail_after(20):
                await until(lambda: server.connections == 2)
                call = await server.next_message()
            assert (call["endpoint"], call["parameter"]["opts"]["searchTerm"]) == (
                "searchModels",
                "qwen/qwen3-4b",
            )
            tasks.cancel_scope.cancel()
