"""Embedding models with odd contexts and unusual poolings, and files that only look like embedding models."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest

from lmstudio_async import AsyncClient
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._catalog._catalog import Catalog
from lmstudio_async.embedded._catalog._embedding_names import EmbeddingNames
from lmstudio_async.embedded._engine._engine import EngineFailure
from lmstudio_async.errors import LMStudioModelNotFoundError, LMStudioServerError, LMStudioValueError
from lmstudio_async.testing import ModelsFolder
from tests.embedded.engines import loaded


async def test_embedding_model_loads_with_a_context_that_is_no_multiple_of_its_sessions(
    models: ModelsFolder,
) -> None:
    models.add_embedding("long", context_length=514)
    async with EmbeddedServer(models.folder, threads=1) as server, AsyncClient(server) as client:
        for context in (514, 510):
            model = await client.embedding.load_new_instance("long", config={"context_length": context})
            # [CLS] and [SEP] stand around each text.
            assert len(await model.embed("a " * (context - 2))) == 16


@pytest.mark.parametrize("key", ["rr", "text-embedding-rr", "test/rr-GGUF/rr-Q4_K_M.gguf"])
async def test_reranker_is_neither_listed_nor_loaded(models: ModelsFolder, key: str) -> None:
    models.add_embedding("rr", metadata={"bert.pooling_type": 4})
    async with EmbeddedServer(models.folder, threads=1) as server, AsyncClient(server) as client:
        assert await client.list_downloaded_models() == []
        for namespace in (client.llm, client.embedding):
            with pytest.raises(LMStudioModelNotFoundError, match="it is a reranker"):
                await namespace.model(key)


def test_classifier_without_pooling_is_recognized_by_its_tensors(models: ModelsFolder) -> None:
    file = models.add_embedding("old-reranker")
    data = file.read_bytes().replace(b"bert.pooling_type", b"bert.pooling_kind")
    file.write_bytes(data.replace(b"token_embd_norm.bias", b"cls.output.weight.--"))
    catalog = Catalog(models.folder)
    assert catalog.scan() == []
    assert "it is a reranker" in catalog.broken["test/old-reranker-GGUF/old-reranker-Q4_K_M.gguf"]


async def test_embedding_model_without_a_pooling_returns_the_mean(models: ModelsFolder) -> None:
    file = models.add_embedding("plain")
    silent = models.add_embedding("silent")
    silent.write_bytes(file.read_bytes().replace(b"bert.pooling_type", b"bert.pooling_kind"))
    models.add_embedding("none", metadata={"bert.pooling_type": 0})
    async with EmbeddedServer(models.folder, threads=1) as server, AsyncClient(server) as client:
        plain, other = [await client.embedding.load_new_instance(key) for key in ("plain", "silent")]
        assert await other.embed("a b") == await plain.embed("a b")
        with pytest.raises(LMStudioModelNotFoundError, match="pooling type is none"):
            await client.embedding.load_new_instance("none")


async def test_vector_with_undefined_numbers_is_an_error(models: ModelsFolder) -> None:
    file = models.add_embedding("damaged")
    ones, undefined = (struct.pack("<16f", *[value] * 16) for value in (1.0, math.nan))
    file.write_bytes(file.read_bytes().replace(ones, undefined))
    async with EmbeddedServer(models.folder, threads=1) as server, AsyncClient(server) as client:
        model = await client.embedding.model("damaged")
        with pytest.raises(LMStudioServerError, match="infinite or undefined numbers"):
            await model.embed("a")


async def test_vector_of_another_length_is_an_error(models: ModelsFolder) -> None:
    file = models.add_embedding("short", dimensions=16)
    async with loaded(file, kind="embedding", vector_length=32) as engine:
        with pytest.raises(EngineFailure, match="a vector of 16 numbers, and those of this model have 32"):
            await engine.embed("a")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Qwen3-Embedding-0.6B", "text-embedding-qwen3-embedding-0.6b"),
        ("e5-mistral-7b-instruct", "text-embedding-e5-mistral-7b-instruct"),
        ("gte-Qwen2-1.5B-instruct", "text-embedding-gte-qwen2-1.5b-instruct"),
        ("NV-Embed-v2", "text-embedding-nv-embed-v2"),
    ],
)
def test_llm_by_architecture_is_an_embedding_model_by_its_name(
    models: ModelsFolder, name: str, key: str
) -> None:
    models.add_llm(f"acme/{name}-GGUF/{name}-Q8_0.gguf", architecture="qwen2")
    models.add_llm("acme/embedded-chat-GGUF/embedded-chat-Q8_0.gguf")
    kinds = {entry.model_key: entry.type for entry in Catalog(models.folder).scan()}
    assert kinds == {key: "embedding", "embedded-chat": "llm"}


async def test_embedding_model_by_its_name_embeds_with_its_last_token(models: ModelsFolder) -> None:
    # Each letter has a vector of its own here, so the mean differs from the vector of the last letter.
    models.add_llm("tiny-embedding", script=None)
    models.add_llm("other", script=None, metadata={"llama.pooling_type": 3})
    async with EmbeddedServer(models.folder, threads=1) as server, AsyncClient(server) as client:
        by_name, by_key = [
            await client.embedding.load_new_instance(key) for key in ("tiny-embedding", "other")
        ]
        vector = await by_name.embed("first last")
        assert len(vector) == 64
        assert vector == await by_key.embed("first last")


async def test_llm_is_an_embedding_model_if_a_pattern_of_embedding_models_matches_it(
    models: ModelsFolder,
) -> None:
    # Each letter has a vector of its own here.
    models.add_llm("acme/Encoder-GGUF/Encoder-Q8_0.gguf", script=None)
    models.add_llm("acme/chatty-GGUF/chatty-Q8_0.gguf", script=None)
    models.add_llm("last", script=None, metadata={"llama.pooling_type": 3})
    models.add_llm("mean", script=None, metadata={"llama.pooling_type": 1})
    async with (
        EmbeddedServer(models.folder, threads=1, embedding_models=["enco*"]) as server,
        AsyncClient(server) as client,
    ):
        assert [llm.model_key for llm in await client.list_downloaded_models("llm")] == ["chatty"]
        encoder, last, mean = [
            await client.embedding.load_new_instance(key)
            for key in ("text-embedding-encoder", "last", "mean")
        ]
        vector = await encoder.embed("first and last")
        assert len(vector) == 64
        assert vector == await last.embed("first and last")
        assert vector != await mean.embed("first and last")


@pytest.mark.parametrize(
    ("pattern", "is_met"),
    [
        ("enc-v2", True),
        ("ENC-V2", True),
        ("*-v?", True),
        ("acme/*", True),
        ("acme/Enc-GGUF/enc-v2-Q8_0.gguf", True),
        ("enc", False),
        ("text-embedding-*", False),
    ],
)
def test_pattern_of_embedding_models_matches_a_whole_key_or_path(
    models: ModelsFolder, pattern: str, is_met: bool
) -> None:
    models.add_llm("acme/Enc-GGUF/Enc-v2-Q8_0.gguf")
    (entry,) = Catalog(models.folder, EmbeddingNames([pattern])).scan()
    assert (entry.type == "embedding") == is_met


def test_reranker_is_not_listed_even_if_a_pattern_matches_it(models: ModelsFolder) -> None:
    models.add_llm("rr", metadata={"llama.pooling_type": 4})
    assert Catalog(models.folder, EmbeddingNames(["*"])).scan() == []


@pytest.mark.parametrize("patterns", ["bge", [""], [" "], [None], [b"bge"]])
def test_invalid_patterns_of_embedding_models_raise_value_error(patterns: Any) -> None:
    with pytest.raises(LMStudioValueError, match="embedding_models"):
        EmbeddedServer(embedding_models=patterns)
