"""The pages on embedding, and on tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from tests.documented.conftest import Models


def test_a_text_becomes_a_vector(models: Models) -> None:
    import lmstudio_sync as lms

    model = lms.embedding_model(models.embedding)

    embedding = model.embed("Hello, world!")

    check(models, embedding)


def test_a_text_becomes_a_vector_in_a_scope(models: Models) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.embedding.model(models.embedding)

        embedding = model.embed("Hello, world!")

    check(models, embedding)


async def test_a_text_becomes_a_vector_in_async_form(models: Models) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.embedding.model(models.embedding)

        embedding = await model.embed("Hello, world!")

    check(models, embedding)


def check(models: Models, embedding: Sequence[float]) -> None:
    assert len(embedding) == (384 if models.is_real else 16)
    assert math.hypot(*embedding) == pytest.approx(1, abs=1e-3)


@pytest.mark.usefixtures("loaded")
def test_a_text_becomes_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    import lmstudio_sync as lms

    model = lms.llm()

    tokens = model.tokenize("Hello, world!")

    print(tokens)  # Array of token IDs.
    assert capsys.readouterr().out == f"{tokens}\n"
    assert all(isinstance(token, int) for token in tokens)

    token_count = len(model.tokenize("Hello, world!"))
    print("Token count:", token_count)
    assert token_count == model.count_tokens("Hello, world!")


@pytest.mark.usefixtures("loaded")
def test_a_text_becomes_tokens_in_a_scope() -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        model = client.llm.model()

        assert len(model.tokenize("Hello, world!")) == model.count_tokens("Hello, world!")


@pytest.mark.usefixtures("loaded")
async def test_a_text_becomes_tokens_in_async_form() -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        model = await client.llm.model()

        tokens = await model.tokenize("Hello, world!")
        assert len(tokens) == await model.count_tokens("Hello, world!")


def test_an_embedding_model_tokenizes_too(models: Models) -> None:
    import lmstudio_sync as lms

    model = lms.embedding_model(models.embedding)

    assert model.tokenize("Hello, world!")
