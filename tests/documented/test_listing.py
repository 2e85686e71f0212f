"""The pages on listing downloaded and loaded models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from tests.documented.conftest import Models


def test_downloaded_models_are_listed(models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    import lmstudio_sync as lms

    downloaded = lms.list_downloaded_models()
    llm_only = lms.list_downloaded_models("llm")
    embedding_only = lms.list_downloaded_models("embedding")

    for model in downloaded:
        print(model)

    shown = {line.partition(", display_name=")[0]: line for line in capsys.readouterr().out.splitlines()}
    chat = shown[f"DownloadedLlm(model_key='{models.chat}'"]
    assert chat.endswith("', architecture='llama', vision=False)")
    embedding = shown[f"DownloadedEmbeddingModel(model_key='{models.embedding}'"]
    assert re.search(r", display_name='[^']+', architecture='[\w-]*bert'\)$", embedding)
    check_downloaded(models, downloaded, llm_only, embedding_only)


def test_downloaded_models_are_listed_in_a_scope(models: Models) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        downloaded = client.list_downloaded_models()
        llm_only = client.llm.list_downloaded()
        embedding_only = client.embedding.list_downloaded()

    check_downloaded(models, downloaded, llm_only, embedding_only)


async def test_downloaded_models_are_listed_in_async_form(models: Models) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        downloaded = await client.list_downloaded_models()
        llm_only = await client.llm.list_downloaded()
        embedding_only = await client.embedding.list_downloaded()

    check_downloaded(models, downloaded, llm_only, embedding_only)


def check_downloaded(
    models: Models, everything: Sequence[Any], llms: Sequence[Any], embeddings: Sequence[Any]
) -> None:
    assert {model.model_key for model in everything} == {each.model_key for each in [*llms, *embeddings]}
    assert {models.chat, models.seeing} <= {model.model_key for model in llms}
    assert [model.model_key for model in embeddings] == [models.embedding]
    (chat,) = (model for model in llms if model.model_key == models.chat)
    assert (chat.type, chat.info.architecture, chat.info.vision) == ("llm", "llama", False)
    assert (models.folder / chat.path).is_file()


@pytest.mark.usefixtures("nothing_loaded")
def test_a_downloaded_model_is_loaded_by_its_handle(models: Models) -> None:
    import lmstudio_sync as lms

    (downloaded,) = (each for each in lms.list_downloaded_models("llm") if each.model_key == models.chat)
    model = downloaded.model()
    second = downloaded.load_new_instance(instance_identifier="another")

    assert [each.identifier for each in lms.list_loaded_models()] == [models.chat, "another"]
    assert lms.list_loaded_models() == [model, second]


def test_loaded_models_are_listed(models: Models, loaded: str) -> None:
    import lmstudio_sync as lms

    lms.embedding_model(models.embedding)

    all_loaded_models = lms.list_loaded_models()
    llm_only = lms.list_loaded_models("llm")
    embedding_only = lms.list_loaded_models("embedding")

    print(all_loaded_models)
    check_loaded(models, all_loaded_models, llm_only, embedding_only)


def test_loaded_models_are_listed_in_a_scope(models: Models, loaded: str) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        client.embedding.model(models.embedding)

        all_loaded_models = client.list_loaded_models()
        llm_only = client.llm.list_loaded()
        embedding_only = client.embedding.list_loaded()

        check_loaded(models, all_loaded_models, llm_only, embedding_only)


async def test_loaded_models_are_listed_in_async_form(models: Models, loaded: str) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        await client.embedding.model(models.embedding)

        all_loaded_models = await client.list_loaded_models()
        llm_only = await client.llm.list_loaded()
        embedding_only = await client.embedding.list_loaded()

        check_loaded(models, all_loaded_models, llm_only, embedding_only)


def check_loaded(
    models: Models, everything: Sequence[Any], llms: Sequence[Any], embeddings: Sequence[Any]
) -> None:
    assert [model.identifier for model in everything] == [models.chat, models.embedding]
    assert [model.identifier for model in llms] == [models.chat]
    assert [model.identifier for model in embeddings] == [models.embedding]
