"""Uploaded files: parsing them into text, and retrieving the passages that fit a query."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._documents._passages import Passage, cut
from lmstudio_async.testing import ModelsFolder
from tests.embedded.raw_client import Json, RawClient, Refused, connected

STORY = "The cat sleeps.\n\nThe price is 5.\nNobody pays it.\n\nThe dog barks."


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_embedding("acme/embed-GGUF/embed-F32.gguf", dimensions=64)
    return folder.folder


@pytest.fixture
async def files(server: EmbeddedServer) -> AsyncIterator[RawClient]:
    async with connected(server, "files") as raw:
        yield raw


@pytest.fixture
async def model(server: EmbeddedServer) -> AsyncIterator[RawClient]:
    """An embedding model, loaded as "mine"."""
    async with connected(server, "embedding") as raw:
        await raw.load("text-embedding-embed", "mine")
        yield raw


async def upload(raw: RawClient, content: str | bytes, name: str = "story.txt") -> str:
    data = content.encode() if isinstance(content, str) else content
    encoded = base64.b64encode(data).decode()
    file = await raw.call("uploadFileBase64", {"name": name, "contentBase64": encoded})
    return str(file["identifier"])


async def retrieve(raw: RawClient, question: str, *identifiers: str, **settings: Any) -> list[Json]:
    fields = [{"key": f"retrieval.{name}", "value": value} for name, value in settings.items()]
    creation = {"query": question, "fileIdentifiers": list(identifiers), "config": {"fields": fields}}
    return await raw.packets(await raw.open("retrieve", creation))


def chunks(size: int, overlap: int = 0) -> Json:
    return {"type": "recursive-v1", "chunkSize": size, "chunkOverlap": overlap}


# -- parsing


async def test_parsing_a_text_file_returns_its_content(files: RawClient) -> None:
    file = await upload(files, b"\xef\xbb\xbfna\xc3\xafve")
    parser = await files.call("getDocumentParsingLibrary", {"fileIdentifier": file})
    creation = {"fileIdentifier": file, "parseOpts": {"parserId": parser}}
    assert await files.packets(await files.open("parseDocument", creation)) == [
        {"type": "parserLoaded", "parser": parser},
        {"type": "progress", "progress": 1},
        {"type": "result", "content": "naïve", "parser": parser},
    ]


async def test_parsing_a_binary_file_is_refused(files: RawClient) -> None:
    file = await upload(files, b"%PDF-1.7", "a.pdf")
    with pytest.raises(Refused, match='"a.pdf" is not text') as refused:
        await files.call("getDocumentParsingLibrary", {"fileIdentifier": file})
    assert refused.value.code == "generic.engineDoesNotSupportFeature"
    with pytest.raises(Refused, match='"a.pdf" is not text'):
        await files.packets(await files.open("parseDocument", {"fileIdentifier": file, "parseOpts": {}}))


async def test_an_unknown_parser_is_refused(files: RawClient) -> None:
    file = await upload(files, "text")
    opts = {"parserId": {"library": "pdf-lib", "version": "1"}}
    with pytest.raises(Refused, match='no parser "pdf-lib"'):
        await files.packets(await files.open("parseDocument", {"fileIdentifier": file, "parseOpts": opts}))


async def test_the_files_of_another_client_are_not_found(server: EmbeddedServer, files: RawClient) -> None:
    file = await upload(files, "secret")
    async with connected(server, "files", clientIdentifier="guest:other") as other:
        with pytest.raises(Refused, match="has uploaded no file"):
            await other.call("getDocumentParsingLibrary", {"fileIdentifier": file})


# -- retrieval


async def test_retrieve_returns_the_passages_that_fit_a_query_best_first(
    files: RawClient, model: RawClient
) -> None:
    story = await upload(files, STORY)
    other = await upload(files, "Nothing of the kind.")
    packets = await retrieve(
        files,
        "The dog barks.",
        other,
        story,
        chunkingMethod=chunks(20),
        limit=2,
        embeddingModel="mine",
    )
    best, second = packets[-1]["result"]["entries"]
    assert (best["content"], best["sourceIndex"]) == ("The dog barks.", 1)
    assert best["score"] == pytest.approx(1, abs=1e-4)
    assert best["lineNumber"] == [6, 6]
    assert second["score"] < best["score"]


async def test_retrieve_reports_its_steps_and_progress(files: RawClient, model: RawClient) -> None:
    story = await upload(files, STORY)
    packets = await retrieve(files, "cat", story, chunkingMethod=chunks(40))
    kinds = [(packet["type"], packet.get("step")) for packet in packets]
    assert kinds[:2] == [("onFileProcessList", None), ("onFileProcessingStart", None)]
    for step in ("loading", "chunking", "embedding"):
        begin = kinds.index(("onFileProcessingStepStart", step))
        assert begin < kinds.index(("onFileProcessingStepEnd", step))
    assert [kind for kind, _ in kinds[-4:]] == [
        "onFileProcessingEnd",
        "onSearchingStart",
        "onSearchingEnd",
        "result",
    ]
    progress = [packet["progress"] for packet in packets if "progress" in packet]
    assert progress == sorted(progress)
    assert progress[-1] == 1


async def test_retrieve_without_files_returns_no_passages(files: RawClient, model: RawClient) -> None:
    assert (await retrieve(files, "cat"))[-1]["result"] == {"entries": []}


async def test_retrieve_can_be_stopped(files: RawClient, model: RawClient) -> None:
    story = await upload(files, "word " * 20_000)
    creation = {"query": "cat", "fileIdentifiers": [story], "config": {"fields": []}}
    channel = await files.open("retrieve", creation)
    while (packet := await files.packet(channel)) is not None and "progress" not in packet:
        pass
    await files.tell(channel, type="stop")
    with pytest.raises(Refused, match="was stopped"):
        await files.packets(channel)
    # The model is idle again.
    state = await model.call(
        "getInstanceProcessingState",
        {"specifier": {"type": "query", "query": {"identifier": "mine"}}, "throwIfNotFound": True},
    )
    assert state["status"] == "idle"


async def test_retrieve_ends_when_its_model_is_unloaded(files: RawClient, model: RawClient) -> None:
    story = await upload(files, "word " * 20_000)
    creation = {"query": "cat", "fileIdentifiers": [story], "config": {"fields": []}}
    channel = await files.open("retrieve", creation)
    while (packet := await files.packet(channel)) is not None and "progress" not in packet:
        pass
    await model.call("unloadModel", {"identifier": "mine"})
    with pytest.raises(Refused) as refused:
        await files.packets(channel)
    assert refused.value.code == "generic.specificModelUnloaded"


async def test_retrieve_without_an_embedding_model_is_an_error(files: RawClient) -> None:
    story = await upload(files, STORY)
    with pytest.raises(Refused) as refused:
        await retrieve(files, "cat", story)
    assert refused.value.code == "generic.noModelMatchingQuery"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"limit": 0}, "retrieval.limit must be a whole number of at least 1"),
        ({"color": "red"}, "retrieval.color is unknown"),
        ({"databaseFile": "/etc/passages"}, "keeps no database"),
        ({"chunkingMethod": chunks(10, 10)}, "cannot have 10 of them in common"),
        ({"chunkingMethod": chunks(0)}, "A passage of 0 characters"),
    ],
)
async def test_invalid_retrieval_settings_are_refused(files: RawClient, settings: Json, problem: str) -> None:
    with pytest.raises(Refused, match=problem):
        await retrieve(files, "cat", **settings)


# -- splitting into passages


def test_a_text_is_split_between_paragraphs_then_lines_then_words() -> None:
    assert cut("One two.\n\nThree four.", 14, 0) == [Passage("One two.", 1, 1), Passage("Three four.", 3, 3)]
    assert [each.content for each in cut("One two\nthree", 10, 0)] == ["One two", "three"]
    assert [each.content for each in cut("One two three", 10, 0)] == ["One two", "three"]
    assert [each.content for each in cut("abcdefgh", 3, 0)] == ["abc", "def", "gh"]


def test_a_passage_knows_its_lines() -> None:
    text = "a\n\nb b\nc c\n\n\nd"
    lines = text.split("\n")
    for passage in cut(text, 7, 0):
        assert "\n".join(lines[passage.first_line - 1 : passage.last_line]) == passage.content


def test_neighbouring_passages_overlap() -> None:
    first, second, *_ = (each.content for each in cut("aaa bbb ccc ddd eee fff", 12, 6))
    assert first == "aaa bbb ccc"
    assert second.startswith("ccc ddd")


@pytest.mark.parametrize("text", ["", " \n\n "])
def test_an_empty_text_has_no_passages(text: str) -> None:
    assert cut(text, 10, 5) == []


@pytest.mark.parametrize(("size", "overlap"), [(1, 0), (2, 1), (7, 6), (50, 20), (1000, 0)])
def test_passages_cover_the_whole_text_and_keep_to_the_size(size: int, overlap: int) -> None:
    text = "It was. \n\n A dark,stormynightofmanywords and\nlines\n\n\n.  End"
    passages = cut(text, size, overlap)
    assert all(0 < len(each.content) <= size for each in passages)
    # Each passage begins before the previous one ends, or only white space lies between them.
    place = 0
    for each in passages:
        begin = text.find(each.content, max(place - size, 0))
        assert begin >= 0
        assert not text[place:begin].strip()
        place = max(place, begin + len(each.content))
    assert not text[place:].strip()
