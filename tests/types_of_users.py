"""Types that checkers infer in users' programs. Checked by ``tox run -e typing``, and never run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict, assert_type

import attrs
from pydantic import BaseModel

import lmstudio_async as lms
import lmstudio_sync as lm


@attrs.frozen
class Book:
    title: str


@dataclass
class Author:
    name: str


class Shelf(TypedDict):
    books: int


class Library(BaseModel):
    shelves: int


async def parsed_has_the_type_of_the_response_format(llm: lms.AsyncLLM) -> None:
    assert_type((await llm.respond("Hi", response_format=Book)).parsed, Book)
    assert_type((await llm.respond("Hi", response_format=Author)).parsed, Author)
    assert_type((await llm.respond("Hi", response_format=Library)).parsed, Library)
    assert_type((await llm.complete("Hi", response_format=Shelf)).parsed, Shelf)
    assert_type((await llm.complete("Hi", response_format=list[Book])).parsed, list[Book])
    stream = llm.respond_stream("Hi", response_format=Book)
    async for fragment in stream:
        assert_type(fragment, lms.LlmPredictionFragment)
    assert_type(stream.result().parsed, Book)
    async with llm.complete_stream("Hi", response_format=Book) as entered:
        assert_type((await entered.wait_for_result()).parsed, Book)
    assert_type((await (await llm.respond_stream("Hi", response_format=Book)).wait_for_result()).parsed, Book)


def parsed_has_the_type_of_the_response_format_without_await(llm: lm.LLM) -> None:
    assert_type(llm.respond("Hi", response_format=Book).parsed, Book)
    assert_type(llm.complete("Hi", response_format=Library).parsed, Library)
    with llm.respond_stream("Hi", response_format=Book) as stream:
        for fragment in stream:
            assert_type(fragment, lms.LlmPredictionFragment)
        assert_type(stream.wait_for_result().parsed, Book)
    assert_type(llm.complete_stream("Hi", response_format=Book).wait_for_result().parsed, Book)


def parsed_is_any_without_a_class(llm: lm.LLM, result: lm.PredictionResult) -> None:
    assert_type(result.parsed, Any)
    assert_type(llm.respond("Hi"), lm.PredictionResult)
    assert_type(llm.respond("Hi", response_format={"type": "object"}).parsed, Any)
    assert_type(llm.respond("Hi", response_format=lm.GbnfGrammar('root ::= "yes"')).parsed, Any)


async def handles_have_the_type_of_their_namespace(client: lms.AsyncClient) -> None:
    assert_type(await client.llm.model(), lms.AsyncLLM)
    assert_type(await client.embedding.load_new_instance("key", "mine", ttl=None), lms.AsyncEmbeddingModel)
    assert_type(await client.list_loaded_models(), list[lms.AsyncLLM | lms.AsyncEmbeddingModel])
    assert_type(await client.list_loaded_models("llm"), list[lms.AsyncLLM])
    for downloaded in await client.list_downloaded_models("embedding"):
        assert_type(downloaded, lms.AsyncDownloadedEmbeddingModel)
    async with client.llm.load_new_instance_stream("key", config={"context_length": 512}) as loading:
        async for progress in loading:
            assert_type(progress, lms.LoadProgress)
        assert_type(await loading.wait_for_result(), lms.AsyncLLM)
    async with await client.llm.load_new_instance("key") as llm, await client.embedding.model("key") as model:
        assert_type(llm, lms.AsyncLLM)
        assert_type(model, lms.AsyncEmbeddingModel)


def handles_have_the_type_of_their_namespace_without_await(client: lm.Client) -> None:
    assert_type(lm.llm("key"), lm.LLM)
    assert_type(lm.embedding_model("key"), lm.EmbeddingModel)
    assert_type(client.embedding.model(), lm.EmbeddingModel)
    assert_type(client.list_loaded_models(), list[lm.LLM | lm.EmbeddingModel])
    assert_type(client.list_loaded_models("embedding"), list[lm.EmbeddingModel])
    assert_type(lm.list_downloaded_models("llm"), list[lm.DownloadedLlm])
    assert_type(lm.list_downloaded_models(), list[lm.DownloadedLlm | lm.DownloadedEmbeddingModel])
    for progress in client.llm.model_stream("key"):
        assert_type(progress, lm.LoadProgress)
    with (
        client.llm.load_new_instance("key") as llm,
        lm.embedding_model("key") as model,
        lm.llm("key") as same,
    ):
        assert_type(llm, lm.LLM)
        assert_type(model, lm.EmbeddingModel)
        assert_type(same, lm.LLM)


async def events_tell_their_members(client: lms.AsyncClient) -> None:
    for instance in await client.list_instances():
        assert_type(instance, lms.InstanceStatus[lms.AsyncLLM | lms.AsyncEmbeddingModel])
        assert_type(instance.handle(), lms.AsyncLLM | lms.AsyncEmbeddingModel)
    async with client.watch_instances() as events:
        async for event in events:
            assert_type(event, lms.InstanceEvent)
            if isinstance(event, lms.InstanceUnloaded):
                assert_type(event.reason, lms.UnloadReason)


def events_tell_their_members_without_await(client: lm.Client) -> None:
    for instance in client.list_instances():
        assert_type(instance.handle(), lm.LLM | lm.EmbeddingModel)
    with client.watch_instances() as events:
        for event in events:
            assert_type(event, lm.InstanceEvent)


async def one_text_and_a_list_of_texts_have_different_types(
    llm: lms.AsyncLLM, embedding: lm.EmbeddingModel
) -> None:
    assert_type((await llm.tokenize("Hi"))[0], int)
    assert_type((await llm.tokenize(["Hi"]))[0][0], int)
    assert_type(embedding.embed("Hi")[0], float)
    assert_type(embedding.embed(["Hi"])[0][0], float)
