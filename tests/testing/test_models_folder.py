"""Tiny models for the tests of users: the real server lists them, loads them, and generates their answers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lmstudio_async import (
    AsyncClient,
    EmbeddedServer,
    LMStudioRuntimeError,
    LMStudioServerError,
    LMStudioValueError,
)
from lmstudio_async.testing import THINKING, ModelsFolder, served
from lmstudio_async.testing._tiny_models import BrokenKind


@pytest.fixture
def models(tmp_path: Path) -> ModelsFolder:
    return ModelsFolder(tmp_path / "models")


@pytest.fixture
async def client(models: ModelsFolder) -> AsyncIterator[AsyncClient]:
    async with EmbeddedServer(models.folder, threads=1) as server, AsyncClient(server) as client:
        yield client


async def test_a_model_has_the_key_that_it_was_given(models: ModelsFolder, client: AsyncClient) -> None:
    models.add_llm("llama-3.2-1b-instruct")
    models.add_embedding("nomic-embed-text-v1.5")
    models.add_llm("Qwen/Qwen3-4B-GGUF/Qwen3-4B-Q8_0.gguf")

    downloaded = await client.list_downloaded_models()

    assert sorted(model.model_key for model in downloaded) == [
        "llama-3.2-1b-instruct",
        "qwen3-4b",
        "text-embedding-nomic-embed-text-v1.5",
    ]


async def test_a_model_generates_its_script_and_then_the_next_one(
    models: ModelsFolder, client: AsyncClient
) -> None:
    models.add_llm("qwen3-4b", script="Hello there", then=["Good-bye"])
    llm = await client.llm.model("qwen3-4b")
    chat = [{"role": "user", "content": "Hi"}]

    assert str(await llm.respond(chat)) == "Hello there"
    chat += [{"role": "assistant", "content": "Hello there"}, {"role": "user", "content": "I must go"}]
    assert str(await llm.respond(chat)) == "Good-bye"


async def test_a_thinking_model_generates_reasoning_content(
    models: ModelsFolder, client: AsyncClient
) -> None:
    models.add_llm("thinker", script="<think>Hm</think>Yes", chat_template=THINKING)

    result = await (await client.llm.model("thinker")).respond("Is it so?")

    assert (result.reasoning_content, result.non_reasoning_content) == ("Hm", "Yes")


async def test_the_pieces_of_a_script_are_the_fragments_of_the_answer(
    models: ModelsFolder, client: AsyncClient
) -> None:
    models.add_llm("qwen3-4b", script=["Hel", "lo ", "there"])
    llm = await client.llm.model("qwen3-4b")

    fragments = [fragment.content async for fragment in llm.respond_stream("Hi")]

    assert [fragment for fragment in fragments if fragment] == ["Hel", "lo ", "there"]


async def test_random_words_under_a_schema_end_as_soon_as_the_schema_allows(
    models: ModelsFolder, client: AsyncClient
) -> None:
    models.add_llm("dice", script=None, endless=True)
    llm = await client.llm.model("dice")
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 5},
            "size": {"type": "integer"},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1},
            "more": {"type": "string"},
        },
        "required": ["name", "size", "tags"],
    }
    contents = [
        (await llm.respond("Hi", response_format=schema, config={"temperature": 1.5})).content
        for _ in range(20)
    ]
    for content in contents:
        assert re.fullmatch(r'{"name":" \w{4}","size":-?\d,"tags":\["[ab]"\]}', content)
    assert len(set(contents)) > 1


async def test_a_vector_has_the_configured_number_of_dimensions(
    models: ModelsFolder, client: AsyncClient
) -> None:
    models.add_embedding("embed", dimensions=32)

    vector = await (await client.embedding.model("embed")).embed("Hello")

    assert len(vector) == 32


async def test_a_model_that_lacks_a_tensor_is_listed_and_its_load_fails(
    models: ModelsFolder, client: AsyncClient
) -> None:
    models.add_broken("broken", "missing tensor")

    assert [model.model_key for model in await client.list_downloaded_models()] == ["broken"]
    with pytest.raises(LMStudioServerError, match="'blk.0.attn_k_norm.weight' not found"):
        await client.llm.model("broken")
    assert await client.list_loaded_models() == []


@pytest.mark.parametrize(
    "kind", ["truncated", "bad magic", "absurd counts", "empty", "no tensors", "cut in header"]
)
async def test_a_file_that_is_no_model_is_skipped(
    models: ModelsFolder, client: AsyncClient, kind: BrokenKind
) -> None:
    models.add_broken("broken", kind)

    assert await client.list_downloaded_models() == []


@pytest.mark.parametrize("model", ["qwen/qwen3-4b", "../a/b.gguf", "/a/b/c.gguf"])
def test_a_name_that_is_neither_a_key_nor_a_path_is_refused(models: ModelsFolder, model: str) -> None:
    with pytest.raises(LMStudioValueError, match="neither a model key"):
        models.add_llm(model)


def test_equal_pieces_of_a_script_are_refused(models: ModelsFolder) -> None:
    with pytest.raises(LMStudioValueError, match="must all be different"):
        models.add_llm("qwen3-4b", script=["ha", "ha"])


def test_served_raises_an_error_if_the_server_cannot_start(tmp_path: Path) -> None:
    in_use = EmbeddedServer(tmp_path)
    with served(in_use), pytest.raises(LMStudioRuntimeError, match="runs already"), served(in_use):
        pass


def test_served_names_the_extra_to_install_if_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmstudio_async._install_command.find_spec", lambda name: None)
    what_to_install = r"pip install .*\[embedded\]"
    with pytest.raises(LMStudioRuntimeError, match=what_to_install), served(EmbeddedServer(tmp_path)):
        pass
