"""The life cycle of the embedded server, and its smaller endpoints."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import anyio.from_thread
import pytest

from lmstudio_async._transport import FrameTransport
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.errors import (
    LMStudioRuntimeError,
    LMStudioUnreachableError,
)
from lmstudio_async.testing import ModelsFolder
from tests.embedded.raw_client import INFO_MEMBERS, RawClient, Refused, connected, query
from tests.processes import is_running, worker_pids


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf", script="Hello there my friend")
    folder.add_llm("acme/twins-GGUF/twins-Q4_K_M.gguf", script="four bits")
    folder.add_llm("acme/twins-GGUF/twins-Q8_0.gguf", script="eight bits")
    folder.add_embedding("acme/embed-GGUF/embed-F32.gguf")
    return folder.folder


async def test_repr_contains_the_models_folder_and_is_running(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    assert repr(server) == f"EmbeddedServer({str(tmp_path)!r}, is_running=False)"
    async with server:
        assert "is_running=True" in repr(server)


# -- tokens and embeddings


async def test_an_llm_counts_tokens_without_special_ones(client: RawClient) -> None:
    await client.load("tiny")
    parameter = {"specifier": query("tiny"), "inputString": "abc"}
    assert await client.call("tokenize", parameter) == {"tokens": [97, 98, 99]}
    assert await client.call("countTokens", parameter) == {"tokenCount": 3}


async def test_an_embedding_model_tokenizes_with_its_two_special_tokens(server: EmbeddedServer) -> None:
    async with connected(server, "embedding") as raw:
        await raw.load("text-embedding-embed", "emb")
        parameter = {"specifier": query("emb"), "inputString": "abc"}
        count = (await raw.call("countTokens", parameter))["tokenCount"]
        assert len((await raw.call("tokenize", parameter))["tokens"]) == count + 2


async def test_embed_string_returns_a_vector_of_length_one(server: EmbeddedServer) -> None:
    async with connected(server, "embedding") as raw:
        await raw.load("text-embedding-embed", "emb")
        vectors = [
            (await raw.call("embedString", {"modelSpecifier": query("emb"), "inputString": text}))[
                "embedding"
            ]
            for text in ("a cat", "a dog", "a cat")
        ]
        assert len(vectors[0]) == 16
        assert sum(x * x for x in vectors[0]) == pytest.approx(1, abs=1e-3)
        assert vectors[0] == vectors[2] != vectors[1]
        (info,) = await raw.call("listLoaded")
        assert info["lastUsedTime"] is not None
        assert "vision" not in info


async def test_a_text_that_is_too_long_to_embed_is_refused_with_a_suggestion(server: EmbeddedServer) -> None:
    async with connected(server, "embedding") as raw:
        await raw.load("text-embedding-embed", "emb")
        long = {"modelSpecifier": query("emb"), "inputString": "a cat " * 200}
        with pytest.raises(Refused, match=r"The text has 802 tokens, and at most 512 fit") as refused:
            await raw.call("embedString", long)
        assert "Shorten the text" in refused.value.error["suggestion"]
        assert "batch" not in str(refused.value.error)


async def test_each_namespace_lists_its_own_instances(server: EmbeddedServer) -> None:
    async with connected(server, "llm") as llm, connected(server, "embedding") as embedding:
        await llm.load("tiny")
        await embedding.load("text-embedding-embed")
        assert [info["type"] for info in await llm.call("listLoaded")] == ["llm"]
        assert [info["type"] for info in await embedding.call("listLoaded")] == ["embedding"]


# -- the other namespaces


async def test_downloaded_models_of_all_types_are_listed(server: EmbeddedServer) -> None:
    async with connected(server, "system") as raw:
        models = await raw.call("listDownloadedModels")
        assert {model["type"] for model in models} == {"llm", "embedding"}
        assert all(set(model) == INFO_MEMBERS for model in models if model["type"] == "llm")
        variants = await raw.call("listDownloadedModelVariants", {"modelKey": "twins"})
        assert [variant["modelKey"] for variant in variants] == ["twins@q4_k_m", "twins@q8_0"]
        with pytest.raises(Refused, match="no variants"):
            await raw.call("listDownloadedModelVariants", {"modelKey": "tiny"})


async def test_info_and_version_describe_the_server(server: EmbeddedServer) -> None:
    async with connected(server, "system") as raw:
        info = await raw.call("info")
        assert info["pid"] == os.getpid()
        assert (await raw.call("version"))["version"] == info["version"]


async def test_a_notification_is_logged(server: EmbeddedServer) -> None:
    async with connected(server, "system") as raw, connected(server, "diagnostics") as watcher:
        log = await watcher.open("streamLogs")
        await watcher.silence()
        assert await raw.call("notify", {"title": "Done", "description": "all of it"}) is None
        packet = await watcher.packet(log)
    assert packet is not None
    assert packet["log"]["data"] == {
        "type": "server.log",
        "level": "info",
        "content": "notification: Done: all of it",
    }


async def test_the_type_of_an_uploaded_file_is_recognised(server: EmbeddedServer) -> None:
    async with connected(server, "files") as raw:
        file = await raw.call("uploadFileBase64", {"name": "cat.png", "contentBase64": "iVBORw0KGgo="})
        assert (file["fileType"], file["sizeBytes"]) == ("image", 8)
        assert file["identifier"].endswith(".png")
        text = await raw.call("uploadFileBase64", {"name": "a.txt", "contentBase64": "aGVsbG8="})
        assert text["fileType"] == "text/plain"
        with pytest.raises(Refused, match="not valid base64"):
            await raw.call("uploadFileBase64", {"name": "a.txt", "contentBase64": "?"})


# -- the life cycle of the server


async def test_leaving_the_block_ends_connections_and_workers(models: Path) -> None:
    async with EmbeddedServer(models, threads=1) as server:
        connection = server.connect("llm")
        transport: FrameTransport = await connection.__aenter__()
        raw = RawClient(transport)
        await raw.authenticate()
        await raw.load("tiny")
        pids = worker_pids(server)
    assert not any(map(is_running, pids))
    assert await raw.is_closed_by_server()
    await connection.__aexit__(None, None, None)


async def test_a_server_can_be_used_again_after_it_ended(models: Path) -> None:
    server = EmbeddedServer(models)
    for _ in range(2):
        async with server, connected(server) as raw:
            assert await raw.call("listLoaded") == []


async def test_a_running_server_cannot_run_twice(server: EmbeddedServer) -> None:
    with pytest.raises(LMStudioRuntimeError):
        await server.run()


async def test_an_exception_in_the_block_propagates_unchanged(models: Path) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with EmbeddedServer(models):
            raise KeyError("mine")


async def test_run_works_in_the_task_group_of_the_caller(models: Path) -> None:
    server = EmbeddedServer(models, threads=1)
    async with anyio.create_task_group() as tasks:
        await tasks.start(server.run)
        async with connected(server) as raw:
            await raw.load("tiny")
            pids = worker_pids(server)
        tasks.cancel_scope.cancel()
    assert pids
    assert not any(map(is_running, pids))


async def test_cancelling_the_block_ends_the_server_and_its_workers(models: Path) -> None:
    pids: list[int] = []
    with anyio.CancelScope() as scope:
        async with EmbeddedServer(models, threads=1) as server, connected(server) as raw:
            await raw.load("tiny")
            pids += worker_pids(server)
            scope.cancel()
            await anyio.sleep_forever()
        pytest.fail("the cancellation was swallowed")
    assert pids
    assert not any(map(is_running, pids))


async def test_connecting_to_a_server_that_does_not_run_raises_unreachable(models: Path) -> None:
    with pytest.raises(LMStudioUnreachableError, match="async with"):
        async with EmbeddedServer(models).connect("llm"):
            pass


async def test_a_namespace_that_does_not_exist_is_not_reachable(server: EmbeddedServer) -> None:
    with pytest.raises(LMStudioUnreachableError, match="nothing"):
        async with server.connect("nothing"):
            pass


def test_a_server_of_another_event_loop_is_not_reachable(models: Path) -> None:
    async def connect(server: EmbeddedServer) -> None:
        async with server.connect("llm"):
            pass

    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(EmbeddedServer(models)) as server,
        pytest.raises(LMStudioUnreachableError, match="another event loop"),
    ):
        anyio.run(connect, server)
