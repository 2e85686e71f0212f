"""The page on structured answers, with a class and with a JSON schema."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

import lmstudio_async
from tests.documented.conftest import Models

pytestmark = pytest.mark.usefixtures("loaded")


class BookSchema(pydantic.BaseModel):
    """A class based schema for a book."""

    title: str
    author: str
    year: int


class OurBookSchema(lmstudio_async.BaseModel):
    """The same schema, with the base class of this package."""

    title: str
    author: str
    year: int


# A JSON schema for a book
schema = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "author": {"type": "string"},
        "year": {"type": "integer"},
    },
    "required": ["title", "author", "year"],
}

each_format = pytest.mark.parametrize("response_format", [BookSchema, OurBookSchema, schema])


@each_format
def test_an_answer_is_a_book(models: Models, response_format: Any) -> None:
    import lmstudio_sync as lms

    model = lms.llm(models.books)
    result = model.respond("Tell me about The Hobbit", response_format=response_format)
    book = result.parsed

    print(book)
    check(models, response_format, book)


@each_format
def test_a_stream_ends_in_a_book(
    models: Models, response_format: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.model(models.books)
        prediction_stream = model.respond_stream("Tell me about The Hobbit", response_format=response_format)

        # Optionally stream the response
        for fragment in prediction_stream:
            print(fragment.content, end="", flush=True)

        # Get the final structured result
        result = prediction_stream.result()
        book = result.parsed

        assert capsys.readouterr().out == result.content
        check(models, response_format, book)


@each_format
def test_an_answer_is_a_book_in_a_scope(models: Models, response_format: Any) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.model(models.books)
        result = model.respond("Tell me about The Hobbit", response_format=response_format)

        check(models, response_format, result.parsed)


@each_format
def test_a_stream_ends_in_a_book_without_a_scope(
    models: Models, response_format: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    import lmstudio_sync as lms

    model = lms.llm(models.books)
    prediction_stream = model.respond_stream("Tell me about The Hobbit", response_format=response_format)
    for fragment in prediction_stream:
        print(fragment.content, end="", flush=True)
    result = prediction_stream.result()

    assert capsys.readouterr().out == result.content
    check(models, response_format, result.parsed)


@each_format
async def test_an_answer_is_a_book_in_async_form(models: Models, response_format: Any) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.model(models.books)
        result = await model.respond("Tell me about The Hobbit", response_format=response_format)
        check(models, response_format, result.parsed)

        prediction_stream = await model.respond_stream(
            "Tell me about The Hobbit", response_format=response_format
        )
        async for fragment in prediction_stream:
            print(fragment.content, end="", flush=True)
        check(models, response_format, prediction_stream.result().parsed)


def check(models: Models, response_format: Any, book: Any) -> None:
    names = ("title", "author", "year")
    if isinstance(response_format, type):
        assert type(book) is response_format
        members = [getattr(book, name) for name in names]
    else:
        members = [book[name] for name in names]
    assert list(map(type, members)) == [str, str, int]
    assert models.is_real or members == ["The Hobbit", "J. R. R. Tolkien", 1937]


def test_the_schema_may_be_in_the_config(models: Models) -> None:
    import lmstudio_sync as lms

    model = lms.llm(models.books)
    result = model.respond(
        "Tell me about The Hobbit", config={"structured": {"type": "json", "jsonSchema": schema}}
    )

    check(models, schema, result.parsed)
